//! Chat at an edge: the sockets of thousands, IRC with each of them, and what
//! their rooms say, encoded once for all.
//!
//! In: WebSockets that [`crate::http`] upgrades, IRC over TCP and TLS, and one CHAT
//! stream to a parent. Out: the same. Who owns what: `uplink` the stream and the
//! wishes under way, `rooms` the feeds, each `connection` its socket and its
//! `session`. Nothing waits for a client. A room's home decides; an edge only
//! carries, limits floods, and knows who somebody is.

mod caps;
mod coming;
mod config;
mod connection;
mod drain;
mod emotes;
mod form;
mod input;
mod issue;
mod limits;
mod listen;
mod mailbox;
mod metrics;
mod pace;
mod relay;
mod rooms;
mod session;
mod show;
mod upgrade;
mod uplink;
pub mod ws;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::IpAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::rand;
use bytes::Bytes;
use common::{
    chat::{Counts, MessageId, Network, Present, token::TokenKeys},
    key_file::KeyFileError,
    link::ChatPort,
    live::UnixMs,
    names::{ChannelName, NodeId},
    reload::Files,
    shutdown::{Guard, Shutdown},
};
use prometheus::IntGauge;
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};
use tracing::{info, warn};

use crate::{
    http::{
        Rejected,
        admission::{Admission, Place},
    },
    upstream::Upstream,
};

pub use config::ChatConfig;
pub(crate) use emotes::Emotes;
pub use form::{Framing, negotiate};
pub use listen::{IrcBindError, IrcListeners, bind, serve};
pub use metrics::{Broken, ChatMetrics};
pub(crate) use upgrade::Refusal;
pub use upgrade::{Upgrade, asks_for_websocket};

use connection::Connection;
use drain::{Entry, Open};
use issue::{Issuer, NoToken};
use limits::Limits;
use rooms::{NoRoom, Room, Rooms};
use uplink::{Uplink, Wish};

/// A keys file of [`TokenKeys`] is far smaller.
const MAX_KEYS_FILE_BYTES: u64 = 64 * 1024;

/// Why there are no keys to check tokens with.
#[derive(Debug, thiserror::Error)]
pub enum ChatKeysError {
    #[error("--chat-keys {path}: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("--chat-keys {path}: {source}")]
    Parse { path: String, source: KeyFileError },
    #[error("--chat-keys {path}: no key in it")]
    Empty { path: String },
    #[error("--chat-sign-in-key {path}: {source}")]
    ReadSignInKey {
        path: String,
        source: std::io::Error,
    },
    #[error(
        "--chat-sign-in-key {path}: its first HS256 key is none of --chat-keys; the same file serves both"
    )]
    SignInKey { path: String },
}

/// Why there are no emotes.
#[derive(Debug, thiserror::Error)]
pub enum EmotesError {
    #[error("--chat-emotes {path}: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("--chat-emotes {path}: {source}")]
    Parse {
        path: String,
        source: emotes::EmoteFileError,
    },
}

/// Why chat can't start.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    #[error(transparent)]
    Keys(#[from] ChatKeysError),
    #[error(transparent)]
    Emotes(#[from] EmotesError),
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    config: ChatConfig,
    /// What the keys were read from.
    key_files: Option<Files>,
    /// `None`: development, anybody is who they say.
    keys: ArcSwapOption<TokenKeys>,
    /// Signs in whoever comes, in development.
    issuer: Option<Issuer>,
    emotes: ArcSwap<Emotes>,
    /// What the emotes were read from.
    emote_files: Option<Files>,
    rooms: Arc<Rooms>,
    limits: Limits,
    wishes: mpsc::Sender<Wish>,
    metrics: ChatMetrics,
    admission: Arc<Admission>,
    open: Open,
    shutdown: Shutdown,
    /// The nodes over which rooms are spread, as parents tell.
    origins: watch::Receiver<Vec<NodeId>>,
    clock: fn() -> UnixMs,
    ids: fn() -> MessageId,
}

/// A handle on an edge's chat.
#[derive(Debug, Clone)]
pub struct Chat(pub(crate) Arc<Shared>);

impl Chat {
    /// Starts chat, which reads rooms through `upstream`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ChatError`].
    pub fn start(
        config: ChatConfig,
        upstream: Arc<Upstream>,
        metrics: ChatMetrics,
        shutdown: Shutdown,
    ) -> Result<Self, ChatError> {
        let directory = upstream.directory().clone();
        let rooms = Rooms::new(directory, config.max_chat_rooms_per_address);
        let rooms = Arc::new(rooms);
        let (origins, told) = watch::channel(Vec::new());
        let (uplink, wishes) = Uplink::new(upstream, rooms.clone(), metrics.clone(), origins);
        let chat = Self::with_wishes(config, rooms, wishes, metrics, shutdown, told)?;
        tokio::spawn(uplink.run());
        tokio::spawn(drain::spread(chat.0.clone()));
        Ok(chat)
    }

    fn with_wishes(
        config: ChatConfig,
        rooms: Arc<Rooms>,
        wishes: mpsc::Sender<Wish>,
        metrics: ChatMetrics,
        shutdown: Shutdown,
        origins: watch::Receiver<Vec<NodeId>>,
    ) -> Result<Self, ChatError> {
        let key_files = config.chat_keys.clone().map(|file| Files::seen([file]));
        let keys = keys(&config)?;
        if keys.is_none() {
            warn!("no --chat-keys: anybody may chat under any name");
        }
        let issuer = issuer(&config, keys.as_deref())?;
        if issuer.is_some() {
            warn!("--chat-sign-in-key: anybody gets a token for any name");
        }
        let emote_files = config.chat_emotes.clone().map(|file| Files::seen([file]));
        let emotes = read_emotes(&config)?;
        let admission = Admission::new(
            config.max_chat_connections,
            config.max_chat_connections_per_address,
        );
        Ok(Self(Arc::new(Shared {
            key_files,
            keys: ArcSwapOption::new(keys),
            issuer,
            emotes: ArcSwap::from_pointee(emotes),
            emote_files,
            rooms,
            limits: Limits::new(
                config.max_chat_messages_per_address,
                config.max_chat_joins_per_address,
                metrics.clone(),
            ),
            wishes,
            metrics,
            admission,
            config,
            open: Open::default(),
            shutdown,
            origins,
            clock: now,
            ids: random_id,
        })))
    }

    /// The rooms of this edge for edges behind it: what its link server carries.
    #[must_use]
    pub fn port(&self) -> ChatPort {
        relay::port(&self.0, self.0.origins.clone())
    }

    /// How many watch which channel here: rooms tell it over all edges, and those of
    /// channels that somebody watches are read for it.
    pub(crate) fn watched(&self, viewers: &HashMap<ChannelName, u64>) {
        for channel in viewers.keys() {
            // Where there is no place, they are counted here alone.
            let _ = self.0.room(channel, None);
        }
        let of = |name: &ChannelName| viewers.get(name).copied().unwrap_or(0);
        self.0
            .rooms
            .set_viewers(|name| u32::try_from(of(name)).unwrap_or(u32::MAX));
    }

    /// Who is in a room over all edges, as far as it is read here.
    #[must_use]
    pub(crate) fn present(&self, room: &ChannelName) -> Option<Present> {
        self.0.rooms.get(room).map(|room| room.present())
    }

    /// How many are in a room over all edges, where its home told of late.
    #[must_use]
    pub(crate) fn told(&self, room: &ChannelName) -> Option<Counts> {
        self.0.rooms.get(room)?.told_counts()
    }

    /// The same for a room that is read from now on: waits until a parent told of it.
    pub(crate) async fn present_soon(&self, room: &ChannelName) -> Option<Present> {
        let room = self.0.open_room(room, None)?;
        let mut totals = room.presence.totals();
        while !room.is_told() {
            totals.changed().await.ok()?;
        }
        Some(room.present())
    }

    /// The file that [`Self::reload_keys`] reads, if there is one.
    #[must_use]
    pub fn key_files(&self) -> Option<Files> {
        self.0.key_files.clone()
    }

    /// Reads the keys file again. One with a mistake changes nothing.
    ///
    /// # Errors
    /// [`ChatKeysError`].
    pub fn reload_keys(&self) -> Result<(), ChatKeysError> {
        if let Some(keys) = keys(&self.0.config)? {
            info!(keys = keys.len(), "chat keys read");
            self.0.keys.store(Some(keys));
        }
        Ok(())
    }

    /// The file that [`Self::reload_emotes`] reads, if there is one.
    #[must_use]
    pub fn emote_files(&self) -> Option<Files> {
        self.0.emote_files.clone()
    }

    /// Reads the emotes file again. One with a mistake changes nothing.
    ///
    /// # Errors
    /// [`EmotesError`].
    pub fn reload_emotes(&self) -> Result<(), EmotesError> {
        let emotes = read_emotes(&self.0.config)?;
        info!(emotes = emotes.len(), "emotes read");
        self.0.emotes.store(Arc::new(emotes));
        Ok(())
    }

    pub(crate) fn emotes(&self) -> Arc<Emotes> {
        self.0.emotes.load_full()
    }

    /// Whether this edge gives tokens to whoever comes.
    pub(crate) fn signs_in(&self) -> bool {
        self.0.issuer.is_some()
    }

    /// What a page has to know before it connects, as JSON.
    pub(crate) fn about(&self) -> Bytes {
        let keys = self.0.keys.load();
        let sign_in = match (&self.0.issuer, &*keys) {
            (Some(_), _) => "page",
            (None, Some(_)) => "token",
            (None, None) => "name",
        };
        let emotes = self.0.emotes.load();
        let about = About {
            sign_in,
            emotes: emotes.pictures(),
        };
        // Strings always have a JSON form.
        serde_json::to_vec(&about).unwrap_or_default().into()
    }

    /// A token as a query asks for it; `None` where this edge gives none.
    pub(crate) fn issue(&self, query: &str) -> Option<Result<String, NoToken>> {
        let issuer = self.0.issuer.as_ref()?;
        let keys = self.0.keys.load_full()?;
        Some(issuer.issue(query, &keys, (self.0.clock)()))
    }

    /// A place for one more connection from `peer`.
    ///
    /// # Errors
    /// Where there is none; it is counted.
    pub(crate) fn admit(&self, peer: IpAddr) -> Result<Admitted, Rejected> {
        let place = self.0.admission.enter(peer).inspect_err(|why| {
            self.0.metrics.closed(match why {
                Rejected::Address => Broken::Address,
                _ => Broken::Connections,
            });
        })?;
        Ok(Admitted {
            network: Network::of(peer),
            _place: place,
            _guard: self.0.shutdown.guard(),
        })
    }

    /// Serves a connection until one side ends it. A future that was not `async`
    /// holds its connection once, not once for every move of it.
    pub(crate) fn serve<S>(
        &self,
        stream: S,
        admitted: Admitted,
        framing: Framing,
        early: Bytes,
    ) -> Serving<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shared = self.0.clone();
        let counted = shared.metrics.connections(framing);
        counted.inc();
        let (open, mailbox) = shared.open.enter();
        let network = admitted.network;
        let mut connection = Connection::new(shared, stream, mailbox, network, framing);
        connection.heard_early(early);
        Serving {
            connection,
            counted,
            _open: open,
            _admitted: admitted,
        }
    }
}

/// `GET /api/v1/chat`.
#[derive(Serialize)]
struct About<'a> {
    /// How a reader becomes a writer: by a `name` of their choice, at this edge's
    /// sign-in `page`, or with a `token` from elsewhere.
    sign_in: &'static str,
    emotes: &'a BTreeMap<String, String>,
}

/// A connection and its places, given back with it.
pub(crate) struct Serving<S> {
    connection: Connection<S>,
    counted: IntGauge,
    _open: Entry,
    _admitted: Admitted,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Serving<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.poll(cx)
    }
}

impl<S> Drop for Serving<S> {
    fn drop(&mut self) {
        self.counted.dec();
    }
}

impl Shared {
    /// The room, read by this edge from now on, for a client at `by` or for nobody in
    /// particular; `None` where there is no place, which is counted.
    fn open_room(&self, name: &ChannelName, by: Option<Network>) -> Option<Arc<Room>> {
        let room = self.room(name, by);
        room.inspect_err(|why| self.metrics.no_room(*why)).ok()
    }

    fn room(&self, name: &ChannelName, by: Option<Network>) -> Result<Arc<Room>, NoRoom> {
        if let Some(room) = self.rooms.get(name) {
            return Ok(room);
        }
        // First its place in the queue: a room that the uplink never hears of would
        // stay deaf for as long as anybody holds it.
        let wish = self.wishes.try_reserve().map_err(|_| NoRoom::Busy)?;
        let (room, made) = self.rooms.open(name, by)?;
        if made {
            wish.send(Wish::Read(room.clone()));
        }
        Ok(room)
    }
}

/// A place among chat's connections, which the drain waits for.
#[derive(Debug)]
pub(crate) struct Admitted {
    network: Network,
    _place: Place,
    _guard: Guard,
}

fn keys(config: &ChatConfig) -> Result<Option<Arc<TokenKeys>>, ChatKeysError> {
    let Some(file) = &config.chat_keys else {
        return Ok(None);
    };
    let path = || file.display().to_string();
    let text = read(file).map_err(|source| ChatKeysError::Read {
        path: path(),
        source,
    })?;
    let keys =
        TokenKeys::parse(&text, &config.chat_audience).map_err(|source| ChatKeysError::Parse {
            path: path(),
            source,
        })?;
    if keys.is_empty() {
        return Err(ChatKeysError::Empty { path: path() });
    }
    Ok(Some(Arc::new(keys)))
}

fn issuer(config: &ChatConfig, keys: Option<&TokenKeys>) -> Result<Option<Issuer>, ChatKeysError> {
    let Some(file) = &config.chat_sign_in_key else {
        return Ok(None);
    };
    let path = || file.display().to_string();
    let text = read(file).map_err(|source| ChatKeysError::ReadSignInKey {
        path: path(),
        source,
    })?;
    let issuer = Issuer::of_file(&text, &config.chat_audience);
    issuer
        .filter(|issuer| keys.is_some_and(|keys| issuer.is_believed(keys, now())))
        .ok_or_else(|| ChatKeysError::SignInKey { path: path() })
        .map(Some)
}

fn read_emotes(config: &ChatConfig) -> Result<Emotes, EmotesError> {
    let Some(file) = &config.chat_emotes else {
        return Ok(Emotes::default());
    };
    let path = || file.display().to_string();
    let text = common::reload::read(file).map_err(|source| EmotesError::Read {
        path: path(),
        source,
    })?;
    Emotes::parse(&text).map_err(|source| EmotesError::Parse {
        path: path(),
        source,
    })
}

fn read(file: &Path) -> std::io::Result<String> {
    if fs::metadata(file)?.len() > MAX_KEYS_FILE_BYTES {
        return Err(std::io::Error::other("longer than 64 KiB"));
    }
    fs::read_to_string(file)
}

fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    UnixMs(u64::try_from(ms).unwrap_or(u64::MAX))
}

fn random_id() -> MessageId {
    let mut bytes = [0; 16];
    // Fails only where the system has no randomness, and TLS would not have started.
    let _ = rand::fill(&mut bytes);
    MessageId::random(bytes)
}

#[cfg(test)]
mod tests;
