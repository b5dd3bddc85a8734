use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command as Process, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use common::{
    chat::{
        Asked, Body, Command, Cursor, Login, MessageId, Request, Roles, RoomHandle, Sender, Text,
        User, Verdict, request::Ask,
    },
    link::{ChatPort, Code, OpenRoom},
    live::{Announcement, Channel, Directory, Phase, Stage, UnixMs},
    names::{BroadcastId, ChannelName, Epoch, NodeId},
    telemetry::metrics::registry,
};
use tokio::sync::{mpsc, oneshot};

use super::{rooms::MOST_OFF_AIR, *};

fn node_id(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

fn room(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn start(config: &ChatConfig) -> ChatPort {
    let store = Store::open(config.chat_store.as_deref()).unwrap();
    let metrics = ChatMetrics::register(&registry("origin"));
    let clock = || UnixMs(1_800_000_000_000);
    let policies = Policies::from_config(&config.policy).unwrap();
    let recorder = Recorder::open(&config.record, Arc::default(), &metrics).unwrap();
    let (rooms, port) = Rooms::with_clock(config, node_id("origin"), store, metrics, clock);
    let rooms = rooms.under(policies.follow()).recorded_by(recorder);
    tokio::spawn(rooms.run());
    port
}

async fn open(port: &ChatPort, name: &str) -> Result<RoomHandle, Code> {
    let (reply, opened) = oneshot::channel();
    let room = room(name);
    port.opens.send(OpenRoom { room, reply }).await.unwrap();
    opened.await.unwrap()
}

async fn asked(handle: &RoomHandle, id: u128, login: &str, text: &str) -> Verdict {
    let (sender, mut verdicts) = mpsc::channel(1);
    let ask = match Command::parse(text) {
        Some(command) => Ask::Do(command.unwrap()),
        None => Ask::Say {
            text: Text::cut(text).unwrap(),
            action: false,
            reply_to: None,
        },
    };
    let request = Request {
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
    };
    let reply = sender.reserve_owned().await.unwrap();
    let from = node_id("edge-1");
    let asked = Asked::Request {
        from,
        request: Box::new(request),
        reply,
    };
    handle.asks.send(asked).await.unwrap();
    let (of, verdict) = verdicts.recv().await.unwrap();
    assert_eq!(of, MessageId(id));
    verdict
}

fn refusal(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Refused(notice) => notice.id.as_str(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_verdict_follows_its_event() {
    let port = start(&ChatConfig::default());
    let handle = open(&port, "demo").await.unwrap();
    let verdict = asked(&handle, 1, "ann", "hello").await;
    assert!(matches!(verdict, Verdict::Said(stamp) if stamp.offset.0 == 0));
    let mut bodies = Vec::new();
    handle.feed.read(&mut Cursor(0), 10, |posted| {
        bodies.push(posted.event.body.clone())
    });
    assert!(matches!(&bodies[..], [Body::Post(post)] if post.text.as_str() == "hello"));
    // Whoever opens it again gets the same room.
    let again = open(&port, "demo").await.unwrap();
    assert_eq!(again.feed.position(), handle.feed.position());
}

#[tokio::test]
async fn a_room_of_another_origin_is_not_here() {
    let config = ChatConfig {
        chat_origins: vec![node_id("origin"), node_id("origin-2")],
        ..ChatConfig::default()
    };
    let port = start(&config);
    let mut here = 0;
    for number in 0..40 {
        match open(&port, &format!("room_{number}")).await {
            Ok(_) => here += 1,
            Err(code) => assert_eq!(code, Code::NotHere),
        }
    }
    assert!((10..30).contains(&here), "{here}");
    assert_eq!(*port.origins.borrow(), config.chat_origins);
}

/// What the link carries in one message: edges would refuse more, for ever.
#[test]
fn more_origins_than_the_link_can_name_are_refused() {
    let named = |count: usize| ChatConfig {
        chat_origins: (0..count)
            .map(|n| node_id(&format!("origin-{n}")))
            .collect(),
        ..ChatConfig::default()
    };
    assert!(named(0).check().is_ok() && named(64).check().is_ok());
    let why = named(65).check().unwrap_err().to_string();
    assert!(
        why.contains("--chat-origin") && why.contains("64 at most"),
        "{why}"
    );
    assert!(!why.contains('\n'), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_room_that_nobody_holds_is_let_go() {
    let port = start(&ChatConfig::default());
    let handle = open(&port, "demo").await.unwrap();
    asked(&handle, 1, "ann", "hello").await;
    tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
    assert_eq!(open(&port, "demo").await.unwrap().feed.position().1.0, 1);
    drop(handle);
    tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
    assert_eq!(open(&port, "demo").await.unwrap().feed.position().1.0, 0);
}

/// Without a file, too.
#[tokio::test(start_paused = true)]
async fn a_room_that_was_let_go_remembers_whom_it_banned() {
    let port = start(&ChatConfig::default());
    let handle = open(&port, "demo").await.unwrap();
    for (id, command) in (1..).zip(["/ban ann", "/slow 7"]) {
        let verdict = asked(&handle, id, "demo", command).await;
        assert!(matches!(verdict, Verdict::Done(_)), "{verdict:?}");
    }
    let before = handle.feed.position().0;
    drop(handle);
    tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
    let handle = open(&port, "demo").await.unwrap();
    assert_ne!(handle.feed.position().0, before);
    assert_eq!(handle.feed.settings().slow_s, 7);
    assert_eq!(
        refusal(&asked(&handle, 9, "ann", "hello").await),
        "msg_banned"
    );
}

/// Names that strangers make up take no channel's place.
#[tokio::test]
async fn rooms_are_bounded_and_those_on_air_have_places_of_their_own() {
    let directory = Arc::new(Directory::default());
    let metrics = ChatMetrics::register(&registry("origin"));
    let store = Store::open(None).unwrap();
    let config = ChatConfig::default();
    let (rooms, port) = Rooms::new(&config, node_id("origin"), store, metrics);
    tokio::spawn(rooms.preferring(directory.clone()).run());
    for number in 0..MOST_OFF_AIR {
        assert!(open(&port, &format!("room_{number}")).await.is_ok());
    }
    let refused = open(&port, "demo").await.map(drop);
    assert_eq!(refused, Err(Code::Overloaded));
    directory.put(Channel {
        announcement: Announcement {
            channel: room("demo"),
            broadcast: BroadcastId(1),
            epoch: Epoch(1),
            phase: Phase::Starting,
            grace_ms: 10_000,
            hops: Vec::new(),
            cost: 0,
        },
        stage: Stage::Starting,
    });
    assert!(open(&port, "demo").await.is_ok());
    assert!(open(&port, "room_7").await.is_ok());
    let refused = open(&port, "other").await.map(drop);
    assert_eq!(refused, Err(Code::Overloaded));
}

#[tokio::test]
async fn a_room_whose_task_panicked_begins_anew() {
    static PANICS: AtomicBool = AtomicBool::new(false);
    fn clock() -> UnixMs {
        assert!(!PANICS.swap(false, Relaxed), "as the test wants it");
        UnixMs(1_800_000_000_000)
    }
    let metrics = ChatMetrics::register(&registry("origin"));
    let store = Store::open(None).unwrap();
    let config = ChatConfig::default();
    let (rooms, port) = Rooms::with_clock(&config, node_id("origin"), store, metrics, clock);
    tokio::spawn(rooms.run());
    let dead = open(&port, "demo").await.unwrap();
    asked(&dead, 1, "ann", "hello").await;
    PANICS.store(true, Relaxed);
    let (reply, told) = oneshot::channel();
    let look = Asked::Look {
        bans_after: None,
        most_bans: 1,
        reply,
    };
    dead.asks.send(look).await.unwrap();
    assert!(told.await.is_err());
    dead.asks.closed().await;
    let handle = open(&port, "demo").await.unwrap();
    assert!(dead.feed.position().0 < handle.feed.position().0);
    let verdict = asked(&handle, 2, "ann", "hello").await;
    assert!(matches!(verdict, Verdict::Said(_)), "{verdict:?}");
}

/// A stranger can name any room: nothing of it stays in the file once it is let go.
#[tokio::test(start_paused = true)]
async fn what_was_held_in_a_room_that_is_let_go_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = kept(&dir.path().join("chat.redb"));
    config.record = RecordConfig::default();
    let port = start(&config);
    let handle = open(&port, "demo").await.unwrap();
    asked(&handle, 1, "demo", "/blockedterm hold hm").await;
    asked(&handle, 2, "ann", "hm").await;
    assert_eq!(held(&handle).await, [MessageId(2)]);
    drop(handle);
    tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
    // The clock stands still: it is not too late for it.
    let handle = open(&port, "demo").await.unwrap();
    assert!(held(&handle).await.is_empty());
}

async fn held(handle: &RoomHandle) -> Vec<MessageId> {
    let (reply, insight) = oneshot::channel();
    let asked = Asked::Look {
        bans_after: None,
        most_bans: 0,
        reply,
    };
    handle.asks.send(asked).await.unwrap();
    let insight = insight.await.unwrap();
    insight.held.iter().map(|held| held.id).collect()
}

#[tokio::test]
async fn epochs_rise_with_a_clock_that_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chat.redb");
    let mut last = None;
    for _ in 0..3 {
        let store = Store::open(Some(&file)).unwrap();
        let (epoch, _) = store.begin(&room("demo"), UnixMs(5)).unwrap();
        assert!(last < Some(epoch));
        last = Some(epoch);
    }
}

#[test]
fn a_store_that_is_no_store_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chat.redb");
    fs::write(&file, "not a database").unwrap();
    assert!(Store::open(Some(&file)).is_err());
    let good = dir.path().join("good.redb");
    let _held = Store::open(Some(&good)).unwrap();
    assert!(
        Store::open(Some(&good))
            .unwrap_err()
            .to_string()
            .contains("open")
    );
}

const CHILD: &str = "MILLRACE_TEST_CHAT_CHILD";

/// Not a test by itself: the process that the one below kills.
#[tokio::test]
async fn child_that_is_killed() {
    let Ok(file) = std::env::var(CHILD) else {
        return;
    };
    let port = start(&kept(Path::new(&file)));
    let handle = open(&port, "demo").await.unwrap();
    for (id, command) in (1..).zip([
        "/ban ann",
        "/timeout bob 3600",
        "/mod max",
        "/slow 7",
        "/blockedterm add bad*",
        "/blockedterm hold hm",
        "/nolinks",
    ]) {
        let verdict = asked(&handle, id, "demo", command).await;
        assert!(matches!(verdict, Verdict::Done(_)), "{verdict:?}");
    }
    for (id, text) in (100..).zip(["one", "two", "three"]) {
        let verdict = asked(&handle, id, "max", text).await;
        assert!(matches!(verdict, Verdict::Said(_)), "{verdict:?}");
    }
    asked(&handle, 103, "zoe", "hi").await;
    assert_eq!(
        refusal(&asked(&handle, 104, "eve", "hm").await),
        "msg_rejected"
    );
    let mut out = std::io::stdout();
    writeln!(out, "child: done").unwrap();
    out.flush().unwrap();
    std::future::pending::<()>().await;
}

/// All that is kept, beside one file.
fn kept(file: &Path) -> ChatConfig {
    ChatConfig {
        chat_store: Some(file.to_owned()),
        record: RecordConfig {
            chat_log: Some(file.with_extension("log")),
            ..RecordConfig::default()
        },
        ..ChatConfig::default()
    }
}

fn kill_after_moderation(file: &Path) {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "chat::tests::child_that_is_killed",
            "--nocapture",
        ])
        .env(CHILD, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let done = lines.any(|line| line.unwrap().ends_with("child: done"));
    assert!(done, "the child never moderated");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn what_moderators_did_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chat.redb");
    kill_after_moderation(&file);
    let port = start(&kept(&file));
    let handle = open(&port, "demo").await.unwrap();
    let settings = handle.feed.settings();
    assert!(settings.slow_s == 7 && settings.no_links);
    // Asked again for want of a verdict: the old one.
    let again = asked(&handle, 1, "demo", "/ban ann").await;
    assert!(
        matches!(&again, Verdict::Done(notice) if notice.id.as_str() == "ban_success"),
        "{again:?}"
    );
    assert_eq!(
        refusal(&asked(&handle, 1001, "ann", "hello").await),
        "msg_banned"
    );
    assert_eq!(
        refusal(&asked(&handle, 1002, "bob", "hello").await),
        "msg_timedout"
    );
    let unbanned = asked(&handle, 1003, "max", "/unban ann").await;
    assert!(matches!(unbanned, Verdict::Done(_)), "{unbanned:?}");
    assert_eq!(
        refusal(&asked(&handle, 1004, "kim", "so badly").await),
        "msg_rejected_mandatory"
    );
    // Slow mode knows who spoke a moment ago.
    assert_eq!(
        refusal(&asked(&handle, 1005, "zoe", "hi again").await),
        "msg_slowmode"
    );
    // What was held is held once, and can be looked at.
    assert_eq!(
        refusal(&asked(&handle, 104, "eve", "hm").await),
        "msg_rejected"
    );
    let approve = format!("/approve {}", MessageId(104));
    let approved = asked(&handle, 1006, "max", &approve).await;
    assert!(matches!(approved, Verdict::Done(_)), "{approved:?}");
    assert_eq!(texts(&handle).last().unwrap(), "hm");
    assert_eq!(
        refusal(&asked(&handle, 1007, "max", &approve).await),
        "bad_held_message"
    );
}

fn texts(handle: &RoomHandle) -> Vec<String> {
    let held = handle.feed.held();
    let posts = held.iter().filter_map(|posted| match &posted.event.body {
        Body::Post(post) => Some(post.text.to_string()),
        _ => None,
    });
    posts.collect()
}

#[tokio::test]
async fn what_was_said_survives_kill_9_and_is_not_said_twice() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chat.redb");
    kill_after_moderation(&file);
    let port = start(&kept(&file));
    let handle = open(&port, "demo").await.unwrap();
    assert_eq!(texts(&handle), ["one", "two", "three", "hi"]);
    let (epoch, next) = handle.feed.position();
    assert_eq!(next.0, 0);
    // Its edge was never told that it was said, and asks again.
    let again = asked(&handle, 102, "max", "three").await;
    assert!(
        matches!(again, Verdict::Said(stamp) if stamp.epoch < epoch),
        "{again:?}"
    );
    assert!(
        matches!(asked(&handle, 200, "max", "four").await, Verdict::Said(stamp) if stamp.epoch == epoch)
    );
    assert_eq!(texts(&handle), ["one", "two", "three", "hi", "four"]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_was_let_go_remembers_what_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = kept(&dir.path().join("chat.redb"));
    config.chat_store = None;
    let port = start(&config);
    let handle = open(&port, "demo").await.unwrap();
    asked(&handle, 1, "ann", "hello").await;
    let before = handle.feed.position();
    drop(handle);
    tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
    let handle = open(&port, "demo").await.unwrap();
    assert_ne!(handle.feed.position().0, before.0);
    assert_eq!(texts(&handle), ["hello"]);
    // Who had read all of it goes on with nothing missing.
    let resumed = handle.feed.resume(before.0, before.1);
    assert_eq!(resumed.cursor, handle.feed.end());
}

/// The operator's files over a running room, as [`common::reload`] has them read.
#[tokio::test]
async fn a_new_roles_file_is_told_to_the_room() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles");
    fs::write(&file, "demo max moderator\n").unwrap();
    let config = ChatConfig {
        policy: PolicyConfig {
            chat_roles: Some(file.clone()),
            ..PolicyConfig::default()
        },
        ..ChatConfig::default()
    };
    let policies = Policies::from_config(&config.policy).unwrap();
    let metrics = ChatMetrics::register(&registry("origin"));
    let store = Store::open(None).unwrap();
    let (rooms, port) = Rooms::new(&config, node_id("origin"), store, metrics);
    tokio::spawn(rooms.under(policies.follow()).run());
    let handle = open(&port, "demo").await.unwrap();
    let done = asked(&handle, 1, "max", "/timeout ann 5").await;
    assert!(matches!(done, Verdict::Done(_)), "{done:?}");
    let login = |name| Login::parse(name).unwrap();
    assert!(handle.feed.roles_of(&login("max")).0.moderator);
    let mut moves = handle.feed.moves();
    moves.mark_unchanged();
    fs::write(&file, "demo kim vip\n").unwrap();
    policies.reload_roles().unwrap();
    while handle.feed.roles_of(&login("max")).0.moderator
        || !handle.feed.roles_of(&login("kim")).0.vip
    {
        moves.changed().await.unwrap();
    }
    assert_eq!(
        refusal(&asked(&handle, 2, "max", "/timeout ann 5").await),
        "no_permission"
    );
}
