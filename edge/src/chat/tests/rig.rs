//! Chat without a link: the test is the rooms' home.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

use clap::Parser;
use common::{
    chat::{
        Author, Body, EmoteSpans, Event, MessageId, Network, Offset, Post, Request, Roles,
        RoomEpoch, Settings, Stamp, Verdict,
        request::Ask,
        token::{Audience, Signer, TokenBody},
    },
    live::UnixMs,
    names::ChannelName,
    shutdown::Shutdown,
};
use prometheus::Registry;
use tokio::sync::{mpsc, watch};

use crate::chat::{
    Chat, ChatConfig, ChatMetrics, Framing,
    mailbox::Mailbox,
    rooms::{Room, Rooms},
    session::Session,
    uplink::{ReplyTo, WISHES, Wish},
};

pub(super) const NOW: UnixMs = UnixMs(1_795_639_813_250);

pub(super) const KEYS: &str = "k HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    chat: ChatConfig,
}

pub(super) struct Rig {
    pub(super) chat: Chat,
    pub(super) shutdown: Shutdown,
    wishes: mpsc::Receiver<Wish>,
    offset: u64,
    _keys: Option<tempfile::TempDir>,
}

impl Rig {
    pub(super) fn new(flags: &[&str]) -> Self {
        Self::with(flags, None)
    }

    /// Only signed tokens are taken.
    pub(super) fn signed() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        std::fs::write(&file, KEYS).unwrap();
        Self::with(&["--chat-keys", file.to_str().unwrap()], Some(dir))
    }

    fn with(flags: &[&str], keys: Option<tempfile::TempDir>) -> Self {
        let config = Cli::parse_from([&["edge"], flags].concat()).chat;
        let (sender, wishes) = mpsc::channel(WISHES);
        let shutdown = Shutdown::new();
        let origins = watch::channel(Vec::new()).1;
        let metrics = ChatMetrics::register(&Registry::new());
        let rooms = Arc::new(Rooms::default());
        let chat =
            Chat::with_wishes(config, rooms, sender, metrics, shutdown.clone(), origins).unwrap();
        Self {
            chat,
            shutdown,
            wishes,
            offset: 0,
            _keys: keys,
        }
    }

    pub(super) fn room(&self, name: &str) -> Arc<Room> {
        self.chat.0.open_room(&channel(name)).unwrap()
    }

    /// The home speaks of a room.
    pub(super) fn stands(&self, name: &str) {
        let room = self.room(name);
        room.stands(RoomEpoch(1), Offset(0), Offset(0), Settings::default());
        room.wake();
    }

    pub(super) fn tell(&mut self, name: &str, id: MessageId, body: Body) -> Stamp {
        let stamp = Stamp {
            epoch: RoomEpoch(1),
            offset: Offset(self.offset),
            id,
            at: NOW,
            program: NOW,
        };
        self.offset += 1;
        let room = self.room(name);
        room.feed.append(Event { stamp, body });
        room.wake();
        stamp
    }

    /// The next thing that was asked of a room.
    pub(super) fn asked(&mut self) -> Option<(ChannelName, Box<Request>, ReplyTo)> {
        loop {
            match self.wishes.try_recv().ok()? {
                Wish::Read(_) => {}
                Wish::Ask {
                    room,
                    request,
                    reply,
                } => return Some((room, request, reply)),
            }
        }
    }

    /// Says whatever was asked, as a home without rules does.
    pub(super) fn say_all(&mut self) -> usize {
        let mut said = 0;
        while let Some((room, request, reply)) = self.asked() {
            let Ask::Say { text, action, .. } = request.ask else {
                panic!("{request:?}");
            };
            let body = Body::Post(Post {
                author: Author {
                    user: request.sender.user,
                    roles: request.sender.roles,
                },
                text,
                action,
                reply: None,
                emotes: EmoteSpans::default(),
            });
            let stamp = self.tell(room.as_str(), request.id, body);
            reply.tell(request.id, Verdict::Said(stamp));
            said += 1;
        }
        said
    }

    pub(super) fn client(&self) -> Client {
        self.client_at(IpAddr::from([127, 0, 0, 1]))
    }

    pub(super) fn client_at(&self, address: IpAddr) -> Client {
        let mailbox = Arc::new(Mailbox::default());
        let network = Network::of(address);
        let shared = self.chat.0.clone();
        Client(Session::new(shared, mailbox, network, Framing::Tcp))
    }

    /// Signed in, in development mode.
    pub(super) fn named(&self, nick: &str, caps: &str) -> Client {
        let mut client = self.client();
        if !caps.is_empty() {
            client.says(&format!("CAP REQ :{caps}"));
        }
        client.says(&format!("NICK {nick}"));
        let lines = client.hears();
        assert!(lines.iter().any(|line| line.contains(" 001 ")), "{lines:?}");
        client
    }

    /// The same, in the room.
    pub(super) fn in_room(&self, nick: &str, caps: &str) -> Client {
        self.stands("demo");
        let mut client = self.named(nick, caps);
        client.says("JOIN #demo");
        let lines = client.hears();
        assert!(
            lines.iter().any(|line| line.contains(" JOIN #demo")),
            "{lines:?}"
        );
        client
    }
}

pub(super) fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

pub(super) fn token(login: &str, change: impl FnOnce(&mut TokenBody)) -> String {
    token_by(KEYS, login, change)
}

/// Signed by the key of another file.
pub(super) fn token_by(keys: &str, login: &str, change: impl FnOnce(&mut TokenBody)) -> String {
    let mut body = TokenBody {
        sub: format!("id-{login}"),
        aud: Audience::One("chat".to_owned()),
        exp: NOW.0 / 1_000 + 60,
        login: login.to_owned(),
        ..TokenBody::default()
    };
    change(&mut body);
    Signer::of_file(keys).unwrap().sign(&body).unwrap()
}

pub(super) fn post(login: &str, text: &str) -> Body {
    Body::Post(Post {
        author: Author {
            user: common::chat::User::named(common::chat::Login::parse(login).unwrap()),
            roles: Roles::default(),
        },
        text: common::chat::Text::cut(text).unwrap(),
        action: false,
        reply: None,
        emotes: EmoteSpans::default(),
    })
}

/// A session and who talks to it.
pub(super) struct Client(pub(super) Session);

impl Client {
    pub(super) fn says(&mut self, line: &str) {
        self.0.line(NOW, line);
    }

    /// All lines since the last time.
    pub(super) fn hears(&mut self) -> Vec<String> {
        self.0.verdicts(NOW);
        let mut queue = VecDeque::new();
        while self.0.pump(NOW, &mut queue) {}
        let bytes: Vec<u8> = queue.iter().flatten().copied().collect();
        let text = String::from_utf8(bytes).unwrap();
        let lines = text.split_terminator("\r\n");
        lines.map(str::to_owned).collect()
    }

    /// All lines, which are exactly these.
    #[track_caller]
    pub(super) fn hears_only(&mut self, expected: &[&str]) {
        assert_eq!(self.hears(), expected);
    }
}
