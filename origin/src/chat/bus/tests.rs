//! Origins that share rooms over a real nats-server.

mod away;
mod keeping;

use std::{
    collections::HashSet,
    net::TcpListener,
    path::Path,
    process::{Child, Command as Process, Stdio},
    time::Duration,
};

use common::{
    chat::{
        Asked, Body, Command, Counts, Feed, Login, MessageId, Present, Request, Roles, RoomEpoch,
        RoomHandle, Sender, Text, User, Verdict,
        request::{Ask, Insight},
    },
    link::{ChatPort, OpenRoom},
    live::UnixMs,
    telemetry::metrics::registry,
};
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::*;
use crate::chat::{ChatConfig, ChatMetrics, Rooms, Store, entries::Entry, ledger::Written};

/// What a test waits for at most: longer than any of it takes.
const SOON: Duration = Duration::from_secs(20);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.expect("not in time")
}

/// A server of Debian's `nats-server`, ended with the test.
struct Nats {
    process: Child,
    port: u16,
    dir: TempDir,
}

impl Nats {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = serve(port, dir.path());
        Self { process, port, dir }
    }

    /// As kill -9 and a start again.
    fn restart(&mut self) {
        self.kill();
        self.process = serve(self.port, self.dir.path());
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn url(&self) -> BusUrl {
        format!("nats://127.0.0.1:{}", self.port).parse().unwrap()
    }

    async fn bus(&self, node: &str) -> Arc<Bus> {
        let node = NodeId::parse(node).unwrap();
        let mut ready = connect(self.url(), 1, node);
        let bus = within(ready.wait_for(Option::is_some)).await.unwrap();
        bus.clone().unwrap()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(port: u16, dir: &Path) -> Child {
    Process::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
        .arg(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is needed: apt-get install nats-server")
}

/// An origin's rooms in a runtime of their own, which can be killed.
struct Origin {
    port: ChatPort,
    shutdown: Shutdown,
    runtime: Option<Runtime>,
}

impl Origin {
    fn start(nats: &Nats, node: &str) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let config = ChatConfig {
            chat_bus: Some(nats.url()),
            ..ChatConfig::default()
        };
        let (rooms, port) = Rooms::new(
            &config,
            NodeId::parse(node).unwrap(),
            Store::open(None).unwrap(),
            ChatMetrics::register(&registry("origin")),
        );
        let shutdown = Shutdown::new();
        runtime.spawn(rooms.until(shutdown.clone()).run());
        drop(entered);
        Self {
            port,
            shutdown,
            runtime: Some(runtime),
        }
    }

    async fn open(&self) -> RoomHandle {
        let (reply, opened) = oneshot::channel();
        let open = OpenRoom {
            room: room(),
            reply,
        };
        self.port.opens.send(open).await.unwrap();
        within(opened).await.unwrap().unwrap()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn room() -> ChannelName {
    ChannelName::parse("demo").unwrap()
}

fn request(id: u128, login: &str, text: &str) -> Request {
    let ask = match Command::parse(text) {
        Some(command) => Ask::Do(command.unwrap()),
        None => Ask::Say {
            text: Text::cut(text).unwrap(),
            action: false,
            reply_to: None,
        },
    };
    Request {
        id: MessageId(id),
        sender: Sender {
            user: User::named(Login::parse(login).unwrap()),
            roles: Roles {
                broadcaster: login == "demo",
                ..Roles::default()
            },
            follows_since: None,
            network: None,
        },
        ask,
    }
}

/// Asks; `None` where the origin died with it.
async fn ask(handle: &RoomHandle, request: &Request) -> Option<Verdict> {
    let (sender, mut verdicts) = mpsc::channel(1);
    let asked = Asked::Request {
        from: NodeId::parse("edge-1").unwrap(),
        request: Box::new(request.clone()),
        reply: sender.reserve_owned().await.unwrap(),
    };
    handle.asks.send(asked).await.ok()?;
    let (id, verdict) = within(verdicts.recv()).await?;
    assert_eq!(id, request.id);
    Some(verdict)
}

async fn asked(handle: &RoomHandle, id: u128, login: &str, text: &str) -> Verdict {
    ask(handle, &request(id, login, text)).await.unwrap()
}

/// The room as an operator is shown it.
async fn look(handle: &RoomHandle) -> Box<Insight> {
    let (reply, insight) = oneshot::channel();
    let asked = Asked::Look {
        bans_after: None,
        most_bans: 10,
        reply,
    };
    handle.asks.send(asked).await.unwrap();
    within(insight).await.unwrap()
}

/// Until a later life of the room is read here.
async fn begins_anew(feed: &Feed, after: RoomEpoch) {
    let mut moves = feed.moves();
    let anew = |_: &u64| feed.position().0 > after;
    within(moves.wait_for(anew)).await.unwrap();
}

fn refusal(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Refused(notice) => notice.id.as_str(),
        other => panic!("{other:?}"),
    }
}

/// Ids of what was said, in order.
fn said(feed: &Feed) -> Vec<u128> {
    let mut ids = Vec::new();
    feed.read(&mut feed.start(), usize::MAX, |posted| {
        assert_ne!(posted.event.body, Body::Gap);
        if let Body::Post(_) = posted.event.body {
            ids.push(posted.event.stamp.id.0);
        }
    });
    ids
}

/// Until a feed has as many messages.
async fn holds(feed: &Feed, count: usize) -> Vec<u128> {
    let mut moves = feed.moves();
    within(async {
        while said(feed).len() < count {
            moves.changed().await.unwrap();
        }
    })
    .await;
    said(feed)
}

#[tokio::test]
async fn any_origin_has_the_room_and_one_decides() {
    let nats = Nats::start();
    let (first, second) = (
        Origin::start(&nats, "origin-1"),
        Origin::start(&nats, "origin-2"),
    );
    let one = first.open().await;
    asked(&one, 1, "ann", "hello").await;
    let two = second.open().await;
    // Whoever comes later gets the past, too.
    assert_eq!(holds(&two.feed, 1).await, [1]);
    for id in (2..60u128).step_by(2) {
        // Of many users: nobody may say so much.
        let name = format!("user{}", id % 7);
        let text = format!("m{id}");
        let here = asked(&one, id, &name, &text).await;
        let there = asked(&two, id + 1, &format!("{name}b"), &text).await;
        assert!(matches!(here, Verdict::Said(_)), "{here:?}");
        assert!(matches!(there, Verdict::Said(_)), "{there:?}");
        // Its author is told once it can be read where it was asked.
        assert_eq!(said(&two.feed).last(), Some(&(id + 1)));
    }
    assert_eq!(holds(&one.feed, 59).await, holds(&two.feed, 59).await);
    assert!(matches!(
        asked(&two, 90, "demo", "/ban ann").await,
        Verdict::Done(_)
    ));
    for (id, handle) in [(91, &one), (92, &two)] {
        assert_eq!(
            refusal(&asked(handle, id, "ann", "again").await),
            "msg_banned"
        );
    }
    let slow = asked(&two, 93, "demo", "/slow 9").await;
    assert!(!matches!(slow, Verdict::Refused(_)), "{slow:?}");
    assert_eq!(two.feed.settings().slow_s, 9);
    let third = Origin::start(&nats, "origin-3");
    let late = third.open().await;
    holds(&late.feed, 59).await;
    let mut moves = late.feed.moves();
    within(moves.wait_for(|_| late.feed.settings().slow_s == 9))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_killed_owner_s_room_moves_with_all_that_it_acknowledged() {
    let nats = Nats::start();
    let mut first = Origin::start(&nats, "origin-1");
    let second = Origin::start(&nats, "origin-2");
    let one = first.open().await;
    asked(&one, 1, "demo", "/ban ann").await;
    let two = second.open().await;
    holds(&two.feed, 0).await;
    // Traffic by both ways while the owner dies.
    let mut acknowledged = HashSet::new();
    let mut unanswered = Vec::new();
    for id in 100..140u128 {
        let request = request(id, &format!("user{}", id % 9), &format!("m{id}"));
        if id == 120 {
            first.runtime.take().unwrap().shutdown_background();
        }
        let began = tokio::time::Instant::now();
        let handle = if id % 2 == 0 && id < 120 { &one } else { &two };
        match ask(handle, &request).await {
            Some(Verdict::Said(_)) => drop(acknowledged.insert(id)),
            Some(other) => panic!("{other:?}"),
            None => unanswered.push(request),
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{id}");
    }
    // As an edge does when its link is lost.
    for request in &unanswered {
        let verdict = ask(&two, request).await.unwrap();
        assert!(matches!(verdict, Verdict::Said(_)), "{verdict:?}");
        acknowledged.insert(request.id.0);
    }
    let order = holds(&two.feed, 40).await;
    assert_eq!(order.len(), 40, "nothing twice");
    assert_eq!(order.iter().copied().collect::<HashSet<_>>(), acknowledged);
    // A request of before is recognised by who did not decide it.
    let Verdict::Said(stamp) = asked(&two, 100, "user1", "m100").await else {
        panic!();
    };
    assert!(stamp.epoch < two.feed.position().0);
    assert_eq!(refusal(&asked(&two, 3, "ann", "hello").await), "msg_banned");
    // The other is back, and sees the same.
    let back = Origin::start(&nats, "origin-1");
    let again = back.open().await;
    assert_eq!(holds(&again.feed, 40).await, order);
}

#[tokio::test]
async fn what_waits_for_a_moderator_and_slow_mode_move_with_the_room() {
    let nats = Nats::start();
    let mut first = Origin::start(&nats, "origin-1");
    let one = first.open().await;
    for (id, login, text) in [
        (1, "demo", "/blockedterm hold hm"),
        (2, "demo", "/slow 120"),
        (3, "bob", "hello"),
    ] {
        let verdict = asked(&one, id, login, text).await;
        assert!(!matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
    }
    let second = Origin::start(&nats, "origin-2");
    let two = second.open().await;
    holds(&two.feed, 1).await;
    // By whatever origin it was asked.
    for (id, name, handle) in [(4, "ann", &one), (5, "eve", &two)] {
        assert_eq!(
            refusal(&asked(handle, id, name, "hm").await),
            "msg_rejected"
        );
    }
    first.runtime.take().unwrap().shutdown_background();
    assert_eq!(
        refusal(&asked(&two, 6, "bob", "again").await),
        "msg_slowmode"
    );
    assert_eq!(
        refusal(&asked(&two, 7, "ann", "again").await),
        "msg_slowmode"
    );
    let approve = format!("/approve {}", MessageId(4));
    let approved = asked(&two, 8, "demo", &approve).await;
    assert!(matches!(approved, Verdict::Done(_)), "{approved:?}");
    assert_eq!(said(&two.feed), [3, 4]);
    let denied = asked(&two, 9, "demo", &format!("/deny {}", MessageId(5))).await;
    assert!(matches!(denied, Verdict::Done(_)), "{denied:?}");
    assert_eq!(
        refusal(&asked(&two, 10, "demo", &approve).await),
        "bad_held_message"
    );
    assert!(look(&two).await.held.is_empty());
}

#[tokio::test]
async fn an_operator_is_shown_the_room_by_any_origin() {
    let nats = Nats::start();
    let (first, second) = (
        Origin::start(&nats, "origin-1"),
        Origin::start(&nats, "origin-2"),
    );
    let one = first.open().await;
    asked(&one, 1, "demo", "/blockedterm hold hm").await;
    let two = second.open().await;
    // Commands by the one that does not own it are seen there at once.
    for (id, login, text) in [
        (2, "demo", "/ban bob so"),
        (3, "demo", "/timeout ann 60"),
        (4, "demo", "/vip kim"),
        (5, "demo", "/slow 9"),
        (6, "eve", "hm"),
    ] {
        asked(&two, id, login, text).await;
    }
    let shown = look(&two).await;
    assert_eq!((shown.bans_in_all, shown.settings.slow_s), (2, 9));
    assert_eq!((shown.roles.len(), shown.terms.len()), (1, 1));
    assert_eq!(shown.held[0].login.as_str(), "eve");
    assert_eq!(shown, look(&one).await);
    asked(&two, 7, "demo", "/unban bob").await;
    assert_eq!(look(&two).await.bans_in_all, 1);
}

#[tokio::test]
async fn an_origin_that_drains_hands_its_rooms_over_at_once() {
    let nats = Nats::start();
    let (first, second) = (
        Origin::start(&nats, "origin-1"),
        Origin::start(&nats, "origin-2"),
    );
    let one = first.open().await;
    asked(&one, 1, "ann", "one").await;
    let two = second.open().await;
    holds(&two.feed, 1).await;
    let before = one.feed.position().0;
    // It lives on, and its lease with it, as long as publishers need.
    first.shutdown.drain();
    begins_anew(&two.feed, before).await;
    for (id, handle) in [(2, &two), (3, &one)] {
        let Verdict::Said(stamp) = asked(handle, id, "ann", "more").await else {
            panic!();
        };
        assert!(stamp.epoch > before);
    }
    assert_eq!(holds(&one.feed, 3).await, holds(&two.feed, 3).await);
    // The process need not wait for the room.
    first.shutdown.drained(SOON).await.unwrap();
}

#[tokio::test]
async fn a_room_of_a_draining_origin_that_nobody_else_reads_stays_until_it_is_read() {
    let nats = Nats::start();
    let first = Origin::start(&nats, "origin-1");
    let one = first.open().await;
    asked(&one, 1, "ann", "one").await;
    let before = one.feed.position().0;
    first.shutdown.drain();
    first.shutdown.drained(SOON).await.unwrap();
    let Verdict::Said(stamp) = asked(&one, 2, "ann", "two").await else {
        panic!();
    };
    assert_eq!(stamp.epoch, before);
    let second = Origin::start(&nats, "origin-2");
    let two = second.open().await;
    begins_anew(&two.feed, before).await;
    for (id, handle) in [(3, &one), (4, &two)] {
        let Verdict::Said(stamp) = asked(handle, id, "ann", "more").await else {
            panic!();
        };
        assert!(stamp.epoch > before);
    }
    assert_eq!(holds(&two.feed, 4).await, [1, 2, 3, 4]);
    // Where all leave the room stays with one of them.
    second.shutdown.drain();
    second.shutdown.drained(SOON).await.unwrap();
    for (id, handle) in [(5, &one), (6, &two)] {
        let verdict = asked(handle, id, "ann", "last").await;
        assert!(matches!(verdict, Verdict::Said(_)), "{verdict:?}");
    }
}

#[tokio::test]
async fn who_is_in_a_room_is_known_at_every_origin() {
    let nats = Nats::start();
    let (first, second) = (
        Origin::start(&nats, "origin-1"),
        Origin::start(&nats, "origin-2"),
    );
    let (one, two) = (first.open().await, second.open().await);
    for (handle, edge, name) in [(&one, "edge-1", "ann"), (&two, "edge-2", "bob")] {
        let edge = NodeId::parse(edge).unwrap();
        let counts = Counts {
            readers: 3,
            chatters: 1,
            viewers: 2,
        };
        handle.presence.tell_counts(edge.clone(), counts);
        let name = vec![Login::parse(name).unwrap()];
        handle.presence.tell_names(edge, true, name, &[]);
    }
    for handle in [&one, &two] {
        let mut totals = handle.presence.totals();
        let all = |total: &Arc<Present>| {
            let names = total.names.as_deref().unwrap_or_default();
            let names: Vec<_> = names.iter().map(Login::as_str).collect();
            total.counts.readers == 6 && total.counts.viewers == 4 && names == ["ann", "bob"]
        };
        within(totals.wait_for(all)).await.unwrap();
    }
}

#[tokio::test]
async fn an_owner_of_before_changes_nothing() {
    let nats = Nats::start();
    let (old, new) = (nats.bus("origin-1").await, nats.bus("origin-2").await);
    let now = UnixMs(1);
    let claim = async |bus: &Arc<Bus>| match bus.claim(&room(), now, true).await.unwrap() {
        tenure::Claim::Mine(claimed) => claimed,
        other => panic!("{other:?}"),
    };
    let role = |bits: Option<&str>| Written {
        entries: vec![Entry {
            kind: "role".to_owned(),
            key: "ann".to_owned(),
            value: bits.map(ToOwned::to_owned),
        }],
        ..Written::default()
    };
    let mut before = claim(&old).await.tenure;
    before.write(role(Some("2"))).await.unwrap();
    let claimed = claim(&new).await;
    let mut after = claimed.tenure;
    assert!(before.epoch < after.epoch);
    assert_eq!(claimed.known.roles.len(), 1);
    assert!(!before.stands().await.unwrap() && after.stands().await.unwrap());
    after.write(role(Some("4"))).await.unwrap();
    before.write(role(None)).await.unwrap_err();
    // Facts that it still had to write don't undo what came after.
    before.write_late(role(None).entries).await;
    after.write(role(Some("8"))).await.unwrap();
    let last = claim(&old).await;
    let ann = Login::parse("ann").unwrap();
    assert_eq!(
        last.known.roles.get(&ann).map(|roles| roles.bits()),
        Some(8)
    );
    assert_eq!(last.past.records.len(), 4, "each began or wrote once");
}

#[tokio::test]
async fn a_server_that_was_killed_forgets_nothing() {
    let mut nats = Nats::start();
    let origin = Origin::start(&nats, "origin-1");
    let handle = origin.open().await;
    asked(&handle, 1, "demo", "/ban ann").await;
    asked(&handle, 2, "bob", "before").await;
    nats.restart();
    // The first may fail its patience; an edge would ask again, too.
    assert!(matches!(
        asked(&handle, 3, "bob", "after").await,
        Verdict::Said(_)
    ));
    assert_eq!(
        refusal(&asked(&handle, 4, "ann", "hello").await),
        "msg_banned"
    );
    assert_eq!(said(&handle.feed), [2, 3]);
    let second = Origin::start(&nats, "origin-2");
    let late = second.open().await;
    assert_eq!(holds(&late.feed, 2).await, [2, 3]);
}

#[tokio::test]
async fn a_room_that_its_owner_closed_is_taken_by_who_reads_it() {
    let nats = Nats::start();
    let old = nats.bus("origin-1").await;
    let mut tenure = match old.claim(&room(), UnixMs(1), false).await.unwrap() {
        tenure::Claim::Mine(claimed) => claimed.tenure,
        other => panic!("{other:?}"),
    };
    let second = Origin::start(&nats, "origin-2");
    let handle = second.open().await;
    let mut moves = handle.feed.moves();
    let followed = |_: &u64| handle.feed.position().0 == tenure.epoch;
    within(moves.wait_for(followed)).await.unwrap();
    tenure.release().await;
    assert!(matches!(
        asked(&handle, 1, "ann", "hello").await,
        Verdict::Said(_)
    ));
    // A stranger's room without a past leaves nothing behind.
    let last = old.facts.entry("owner.demo").await.unwrap().unwrap();
    assert_eq!(last.operation, kv::Operation::Put);
}

#[test]
fn an_address_is_checked_and_its_password_is_not_shown() {
    let url: BusUrl = "nats://ann:secret@bus.example.net:4333".parse().unwrap();
    assert_eq!(
        format!("{url} {url:?}"),
        "bus.example.net:4333 bus.example.net:4333"
    );
    for bad in ["", "127.0.0.1:4222", "http://bus", "nats://"] {
        assert!(bad.parse::<BusUrl>().is_err(), "{bad}");
    }
}
