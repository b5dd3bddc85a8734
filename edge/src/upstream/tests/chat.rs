//! Rooms over a real link: the test is the room's actor, the edge is whole.

mod unreadable;

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Parser;
use common::{
    chat::{
        Asked, Author, Body, Event, Feed, Limits, MessageId, Notice, NoticeId, Offset, Post,
        Presence, Present, Request, RoomEpoch, RoomHandle, Stamp, Verdict, home::home,
        request::Ask,
    },
    link::{ChatPort, Code, Hello, LinkServer, LinkServerMetrics, OpenRoom},
    live::{Directory, UnixMs},
    names::ChannelName,
    quic::server_endpoint,
    shutdown::Shutdown,
    tls::Role,
};
use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
};

use super::{any, stage::*};
use crate::{
    chat::{Chat, ChatConfig, ChatMetrics, Framing},
    upstream::Upstream,
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    chat: ChatConfig,
}

/// The room's actor, which outlives its link.
struct Home {
    port: ChatPort,
    feed: Arc<Feed>,
    asked: mpsc::Receiver<Asked>,
    presence: Arc<Presence>,
    next: u64,
}

impl Home {
    fn new(limits: Limits) -> Self {
        Self::of("demo", &["origin"], limits)
    }

    /// The home of one room among those of several origins.
    fn of(room: &str, origins: &[&str], limits: Limits) -> Self {
        let name = ChannelName::parse(room).unwrap();
        let feed = Arc::new(Feed::new(name.clone(), RoomEpoch(7), 1, limits));
        let (asks, asked) = mpsc::channel(64);
        let presence = Arc::new(Presence::default());
        let handle = RoomHandle {
            feed: feed.clone(),
            asks,
            presence: presence.clone(),
        };
        tokio::spawn(count(presence.clone()));
        let (opener, mut opens) = mpsc::channel::<OpenRoom>(8);
        tokio::spawn(async move {
            while let Some(open) = opens.recv().await {
                let here = open.room == name;
                let answer = if here {
                    Ok(handle.clone())
                } else {
                    Err(Code::NotHere)
                };
                let _ = open.reply.send(answer);
            }
        });
        let port = ChatPort {
            origins: watch::channel(origins.iter().map(|name| node(name)).collect()).1,
            opens: opener,
        };
        Self {
            port,
            feed,
            asked,
            presence,
            next: 0,
        }
    }

    /// The next wish, and who may be told.
    async fn asked(&mut self) -> (Box<Request>, mpsc::OwnedPermit<(MessageId, Verdict)>) {
        match within(self.asked.recv()).await.unwrap() {
            Asked::Request { request, reply, .. } => (request, reply),
            other => panic!("{other:?}"),
        }
    }

    fn say(&mut self, request: &Request) -> Stamp {
        let Ask::Say { text, action, .. } = &request.ask else {
            panic!("{request:?}");
        };
        let stamp = Stamp {
            epoch: RoomEpoch(7),
            offset: Offset(self.next),
            id: request.id,
            at: UnixMs(1),
            program: UnixMs(1),
        };
        self.next += 1;
        let body = Body::Post(Post {
            author: Author {
                user: request.sender.user.clone(),
                roles: request.sender.roles,
            },
            text: text.clone(),
            action: *action,
            reply: None,
            emotes: common::chat::EmoteSpans::default(),
        });
        self.feed.append(Event { stamp, body });
        stamp
    }

    async fn say_next(&mut self) {
        let (request, reply) = self.asked().await;
        let stamp = self.say(&request);
        reply.send((request.id, Verdict::Said(stamp)));
    }
}

/// A link server that can be killed and started again at its address.
struct Served {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Served {
    fn start(certs: &Certs, stem: &str, port: ChatPort, listen: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let registry = Registry::new();
        let link = certs.config(stem);
        let credentials = link.credentials().unwrap();
        let listener = server_endpoint(listen, &link, &credentials, &registry).unwrap();
        let address = listener.local_addr().unwrap();
        let hello = Hello {
            node: node(stem),
            role: if stem.starts_with("origin") {
                Role::Origin
            } else {
                Role::Edge
            },
            region: String::new(),
            location: String::new(),
            cost: 1,
            max_chunk_bytes: 1 << 20,
        };
        let metrics = LinkServerMetrics::register(&registry);
        let server = LinkServer::new(hello, Arc::new(Directory::default()), metrics);
        runtime.spawn(server.with_chat(port).run(listener, Shutdown::new()));
        drop(entered);
        Self {
            address,
            runtime: Some(runtime),
        }
    }

    async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        let killed = move || runtime.shutdown_timeout(Duration::from_secs(30));
        tokio::task::spawn_blocking(killed).await.unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn start_chat(upstream: Arc<Upstream>) -> Chat {
    let config = Cli::parse_from(["edge"]).chat;
    let metrics = ChatMetrics::register(&Registry::new());
    Chat::start(config, upstream, metrics, Shutdown::new()).unwrap()
}

/// A client of IRC, and what it was told that nobody looked at yet.
struct Client {
    stream: DuplexStream,
    seen: String,
}

impl Client {
    async fn join(chat: &Chat, nick: &str) -> Self {
        Self::join_room(chat, nick, "demo").await
    }

    async fn join_room(chat: &Chat, nick: &str, room: &str) -> Self {
        let (near, far) = duplex(1 << 20);
        let admitted = chat.admit([127, 0, 0, 1].into()).unwrap();
        tokio::spawn(chat.serve(far, admitted, Framing::Tcp, Bytes::new()));
        let mut client = Self {
            stream: near,
            seen: String::new(),
        };
        client
            .says("CAP REQ :twitch.tv/commands draft/chathistory")
            .await;
        client.says(&format!("NICK {nick}")).await;
        client.says(&format!("JOIN #{room}")).await;
        // The room was heard.
        client.hears(&format!("ROOMSTATE #{room}")).await;
        client
    }

    async fn says(&mut self, line: &str) {
        self.stream
            .write_all(format!("{line}\r\n").as_bytes())
            .await
            .unwrap();
    }

    /// Reads until a line holds `word`; all up to it.
    async fn hears(&mut self, word: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(word)
                && let Some(end) = self.seen[at..].find("\r\n")
            {
                let rest = self.seen.split_off(at + end + 2);
                return std::mem::replace(&mut self.seen, rest);
            }
            let mut buffer = [0; 4_096];
            let count = within(self.stream.read(&mut buffer)).await.unwrap();
            assert!(count > 0, "closed after {}", self.seen);
            self.seen
                .push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }
}

#[tokio::test]
async fn two_edges_share_a_room() {
    let certs = Certs::new();
    let mut home = Home::new(Limits::default());
    let origin = Served::start(&certs, "origin", home.port.clone(), any());
    let one = Edge::start(&certs, "edge-1", origin.address);
    let two = Edge::start(&certs, "edge-2", origin.address);
    let mut ann = Client::join(&start_chat(one.upstream.clone()), "ann").await;
    let mut bob = Client::join(&start_chat(two.upstream.clone()), "bob").await;
    ann.says("PRIVMSG #demo :hello").await;
    home.say_next().await;
    bob.hears("PRIVMSG #demo :hello").await;
    // Told that it is said, and not told it.
    let told = ann.hears("USERSTATE #demo").await;
    assert!(!told.contains("PRIVMSG"), "{told}");
    bob.says("PRIVMSG #demo :hello yourself").await;
    let (request, reply) = home.asked().await;
    let notice = Notice::new(NoticeId::MsgBanned, "no");
    reply.send((request.id, Verdict::Refused(notice)));
    bob.hears("NOTICE #demo :no").await;
}

#[tokio::test]
async fn what_was_asked_before_the_link_broke_is_asked_again_and_said_once() {
    let certs = Certs::new();
    let mut home = Home::new(Limits::default());
    let origin = Served::start(&certs, "origin", home.port.clone(), any());
    let address = origin.address;
    let edge = Edge::start(&certs, "edge-1", address);
    let chat = start_chat(edge.upstream.clone());
    let mut ann = Client::join(&chat, "ann").await;
    let mut bob = Client::join(&chat, "bob").await;
    // One is said and its verdict lost; one is asked and not decided.
    ann.says("PRIVMSG #demo :one").await;
    let (first, _lost) = home.asked().await;
    ann.says("PRIVMSG #demo :two").await;
    let (second, _lost_too) = home.asked().await;
    origin.kill().await;
    let stamp = home.say(&first);
    // Asked while there is no link at all.
    edge.disconnected().await;
    ann.says("PRIVMSG #demo :three").await;
    let _origin = Served::start(&certs, "origin", home.port.clone(), address);
    let mut asked = Vec::new();
    for _ in 0..3 {
        let (request, reply) = home.asked().await;
        asked.push(request.id);
        let stamp = if request.id == first.id {
            stamp
        } else {
            home.say(&request)
        };
        reply.send((request.id, Verdict::Said(stamp)));
    }
    assert_eq!(asked[..2], [first.id, second.id]);
    let heard = bob.hears("PRIVMSG #demo :three").await;
    let said: Vec<_> = heard.matches("PRIVMSG #demo :").collect();
    assert_eq!(said.len(), 3, "{heard}");
    assert!(heard.find(":one") < heard.find(":two"), "{heard}");
    for _ in 0..3 {
        ann.hears("USERSTATE #demo").await;
    }
}

#[tokio::test]
async fn events_of_the_meantime_come_when_the_link_is_back() {
    let certs = Certs::new();
    let limits = Limits {
        events: 8,
        ..Limits::default()
    };
    let mut home = Home::new(limits);
    let origin = Served::start(&certs, "origin", home.port.clone(), any());
    let address = origin.address;
    let edge = Edge::start(&certs, "edge-1", address);
    let mut ann = Client::join(&start_chat(edge.upstream.clone()), "ann").await;
    ann.says("PRIVMSG #demo :sample").await;
    let (sample, reply) = home.asked().await;
    let stamp = home.say(&sample);
    reply.send((sample.id, Verdict::Said(stamp)));
    ann.hears("USERSTATE #demo").await;
    let say = |home: &mut Home, numbers: std::ops::Range<u128>| {
        for number in numbers {
            let mut request = (*sample).clone();
            request.id = MessageId(number);
            request.ask = Ask::Say {
                text: common::chat::Text::cut(&format!("m{number}.")).unwrap(),
                action: false,
                reply_to: None,
            };
            home.say(&request);
        }
    };
    origin.kill().await;
    say(&mut home, 1..6);
    let origin = Served::start(&certs, "origin", home.port.clone(), address);
    let heard = ann.hears("m5.").await;
    let found: HashSet<_> = (1..6)
        .filter(|n| heard.contains(&format!(":m{n}.")))
        .collect();
    assert_eq!(found.len(), 5, "{heard}");
    assert!(!heard.contains("lost on the way"), "{heard}");
    // More than the home remembers: who can ask for it is told that some is missing.
    origin.kill().await;
    say(&mut home, 6..30);
    let _origin = Served::start(&certs, "origin", home.port.clone(), address);
    let heard = ann.hears("m29.").await;
    assert!(
        heard.contains("Some messages were lost on the way here."),
        "{heard}"
    );
    assert!(
        heard.contains(":m22.") && !heard.contains(":m21."),
        "{heard}"
    );
}

#[tokio::test]
async fn an_edge_is_a_home_to_edges_behind_it() {
    let certs = Certs::new();
    let mut home = Home::new(Limits::default());
    let origin = Served::start(&certs, "origin", home.port.clone(), any());
    let middle = Edge::start(&certs, "edge-1", origin.address);
    let relay = start_chat(middle.upstream.clone());
    let relayed = Served::start(&certs, "edge-1", relay.port(), any());
    let leaf = Edge::start(&certs, "edge-2", relayed.address);
    let mut ann = Client::join(&relay, "ann").await;
    let mut bob = Client::join(&start_chat(leaf.upstream.clone()), "bob").await;
    bob.says("PRIVMSG #demo :from afar").await;
    home.say_next().await;
    bob.hears("USERSTATE #demo").await;
    ann.hears("PRIVMSG #demo :from afar").await;
    ann.says("PRIVMSG #demo :from nearer").await;
    home.say_next().await;
    bob.hears("PRIVMSG #demo :from nearer").await;
    // The middle counts those behind it.
    let mut totals = home.presence.totals();
    let both = |total: &Arc<Present>| total.counts.readers == 2 && total.counts.chatters == 2;
    within(totals.wait_for(both)).await.unwrap();
}

/// What a room's actor does with what its children tell.
async fn count(presence: Arc<Presence>) {
    loop {
        presence.changed().await;
        let own = Present {
            names: Some(Arc::default()),
            ..Present::default()
        };
        presence.set_total(presence.sum(own));
    }
}

#[tokio::test]
async fn who_comes_and_goes_is_told_at_all_edges_to_who_asked() {
    let certs = Certs::new();
    let home = Home::new(Limits::default());
    let origin = Served::start(&certs, "origin", home.port.clone(), any());
    let one = start_chat(Edge::start(&certs, "edge-1", origin.address).upstream);
    let relayed = Served::start(&certs, "edge-1", one.port(), any());
    let two = start_chat(Edge::start(&certs, "edge-2", relayed.address).upstream);
    let mut ann = Client::join(&one, "ann").await;
    ann.says("CAP REQ twitch.tv/membership").await;
    let bob = Client::join(&two, "bob").await;
    ann.hears(":bob!bob@bob.tmi.twitch.tv JOIN #demo").await;
    // Who comes later sees all of them, wherever they are.
    let mut cat = Client::join(&two, "cat").await;
    ann.hears(":cat!cat@cat.tmi.twitch.tv JOIN #demo").await;
    cat.says("CAP REQ twitch.tv/membership").await;
    cat.says("NAMES #demo").await;
    let names = cat.hears("366 cat #demo").await;
    assert!(names.contains("353 cat = #demo :cat ann bob"), "{names}");
    let present = one.present(&channel()).unwrap();
    assert_eq!((present.counts.readers, present.counts.chatters), (3, 3));
    drop(bob);
    let left = ann.hears(":bob!bob@bob.tmi.twitch.tv PART #demo").await;
    assert!(!left.contains("ann!ann"), "{left}");
    cat.hears(":bob!bob@bob.tmi.twitch.tv PART #demo").await;
    assert_eq!(two.present(&channel()).unwrap().counts.chatters, 2);
}

/// Two rooms, and the origin that is the home of each.
fn spread() -> [(String, &'static str); 2] {
    let origins = ["origin", "origin-2"].map(node);
    ["origin", "origin-2"].map(|origin| {
        let room = (0..100)
            .map(|number| format!("room_{number}"))
            .find(|room| home(&ChannelName::parse(room).unwrap(), &origins) == Some(&node(origin)));
        (room.unwrap(), origin)
    })
}

/// Both origins, each with its room.
fn origins(certs: &Certs) -> [(String, Home, Served); 2] {
    spread().map(|(room, stem)| {
        let home = Home::of(&room, &["origin", "origin-2"], Limits::default());
        let served = Served::start(certs, stem, home.port.clone(), any());
        (room, home, served)
    })
}

/// Says something at one edge and reads it at another.
async fn is_heard(home: &mut Home, room: &str, author: &mut Client, reader: &mut Client) {
    author.says(&format!("PRIVMSG #{room} :to {room}")).await;
    home.say_next().await;
    author.hears(&format!("USERSTATE #{room}")).await;
    reader.hears(&format!("PRIVMSG #{room} :to {room}")).await;
}

#[tokio::test]
async fn rooms_of_several_origins_are_had_from_any_edge() {
    let certs = Certs::new();
    let mut origins = origins(&certs);
    let addresses = origins.each_ref().map(|(_, _, served)| served.address);
    let [one, two] = addresses;
    // Each has another origin first, and one link is all that it would keep warm.
    let near = start_chat(Edge::warm(&certs, "edge-1", &[one, two], 1).upstream);
    let far = start_chat(Edge::warm(&certs, "edge-2", &[two, one], 1).upstream);
    for (room, home, _) in &mut origins {
        let mut ann = Client::join_room(&near, "ann", room).await;
        let mut bob = Client::join_room(&far, "bob", room).await;
        is_heard(home, room, &mut ann, &mut bob).await;
        is_heard(home, room, &mut bob, &mut ann).await;
    }
}

#[tokio::test]
async fn a_mid_edge_relays_to_the_home_of_each_room() {
    let certs = Certs::new();
    let mut origins = origins(&certs);
    let addresses = origins.each_ref().map(|(_, _, served)| served.address);
    let relay = start_chat(Edge::under(&certs, "edge-1", &addresses).upstream);
    let relayed = Served::start(&certs, "edge-1", relay.port(), any());
    // One origin is near: its own rooms come from it, the others through the relay.
    let parents = [addresses[0], relayed.address];
    let leaf = start_chat(Edge::under(&certs, "edge-2", &parents).upstream);
    for (room, home, _) in &mut origins {
        let mut ann = Client::join_room(&relay, "ann", room).await;
        let mut bob = Client::join_room(&leaf, "bob", room).await;
        is_heard(home, room, &mut ann, &mut bob).await;
        is_heard(home, room, &mut bob, &mut ann).await;
    }
}

/// A cut of one origin's link: its room loses nothing, the other's goes on.
#[tokio::test]
async fn a_lost_origin_takes_only_its_own_rooms_and_brings_them_back_whole() {
    let certs = Certs::new();
    let [first, mut second] = origins(&certs);
    let (room, mut home, served) = first;
    let address = served.address;
    let edge = Edge::under(&certs, "edge-1", &[address, second.2.address]);
    let chat = start_chat(edge.upstream.clone());
    let mut ann = Client::join_room(&chat, "ann", &room).await;
    let mut bob = Client::join_room(&chat, "bob", &room).await;
    let mut cat = Client::join_room(&chat, "cat", &second.0).await;
    let mut dog = Client::join_room(&chat, "dog", &second.0).await;
    is_heard(&mut home, &room, &mut ann, &mut bob).await;
    served.kill().await;
    ann.says(&format!("PRIVMSG #{room} :meanwhile")).await;
    is_heard(&mut second.1, &second.0, &mut cat, &mut dog).await;
    let _served = Served::start(&certs, "origin", home.port.clone(), address);
    home.say_next().await;
    ann.hears(&format!("USERSTATE #{room}")).await;
    bob.hears(":meanwhile").await;
    is_heard(&mut home, &room, &mut bob, &mut ann).await;
}

#[tokio::test]
async fn a_relay_that_lost_its_way_sends_its_children_to_another() {
    let certs = Certs::new();
    let mut home = Home::new(Limits::default());
    let origin = Served::start(&certs, "origin", home.port.clone(), any());
    let (parents, list) = watch::channel(vec![origin.address.to_string()]);
    let lost = start_chat(Edge::of(&certs, "edge-1", list, 1 << 30).upstream);
    let lost_at = Served::start(&certs, "edge-1", lost.port(), any());
    let steady = start_chat(Edge::start(&certs, "edge-3", origin.address).upstream);
    let steady_at = Served::start(&certs, "edge-3", steady.port(), any());
    let leaf = Edge::under(&certs, "edge-2", &[lost_at.address, steady_at.address]);
    let leaf = start_chat(leaf.upstream);
    let mut ann = Client::join(&leaf, "ann").await;
    let mut bob = Client::join(&steady, "bob").await;
    is_heard(&mut home, "demo", &mut ann, &mut bob).await;
    parents.send_replace(Vec::new());
    // What was asked of the relay meanwhile is asked of the other.
    is_heard(&mut home, "demo", &mut ann, &mut bob).await;
    is_heard(&mut home, "demo", &mut bob, &mut ann).await;
}

/// Without a parent: the user is told after ten seconds, once.
#[tokio::test(start_paused = true)]
async fn a_wish_that_nobody_answers_is_refused() {
    let upstream = Arc::new(Upstream::local(Arc::new(Directory::default())));
    let chat = start_chat(upstream);
    let (mut near, far) = duplex(1 << 16);
    let admitted = chat.admit([127, 0, 0, 1].into()).unwrap();
    tokio::spawn(chat.serve(far, admitted, Framing::Tcp, Bytes::new()));
    near.write_all(b"NICK ann\r\nPRIVMSG #demo :hello\r\n")
        .await
        .unwrap();
    let mut seen = String::new();
    while !seen.contains("NOTICE #demo") {
        let mut buffer = [0; 1_024];
        let count = near.read(&mut buffer).await.unwrap();
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(
        seen.ends_with("because the room can't be reached.\r\n"),
        "{seen}"
    );
}
