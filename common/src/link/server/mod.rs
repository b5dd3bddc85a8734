//! The parent's side of the link: accepts nodes, tells them what is live, and
//! sends them what they subscribe to.
//!
//! In: a [`Listener`] and the [`Directory`]. Out: streams. One task a
//! connection, one a request stream; each owns its streams and its place in a
//! window. Nothing here is waited for by a packager: a follower reads the
//! window at its own pace and is told what it missed. Requests, subscriptions
//! and fetches of one connection are counted, and refused past their bound. What
//! is not here yet is asked of the node itself ([`Demand`]).

mod chat;
mod children;
pub mod config;
mod demand;
mod hearsay;
mod ingests;
mod metrics;
mod past;
mod request;
mod start;
mod track;
mod watch;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    message::{Code, Hello, Message},
    priority,
    stream::{self, Reader, StreamError, Writer},
};
use crate::{
    ingest::Ingests,
    live::{Abouts, Audience, Directory, Hearsay},
    quic::{Connection, Handshake, Listener, RecvStream, RequestLimit},
    shutdown::Shutdown,
    telemetry::metrics::Share,
    tls::{Identity, Role},
};

pub use chat::{ChatPort, OpenRoom};
pub use children::Children;
pub use config::NodeConfig;
use demand::Node;
pub use demand::{Demand, Fetched, demands};
pub use metrics::LinkServerMetrics;

/// Subscriptions of one connection: manifest and four tracks of eight hundred
/// channels, as many as the transport lets it open request streams at most.
const MAX_SUBSCRIPTIONS: usize = crate::quic::MAX_REQUEST_STREAMS as usize;

/// Fetches of one connection under way. A child has fewer at once and lets others
/// wait for their turn; more are refused.
pub const MAX_FETCHES: usize = 64;

/// A child needs one WATCH, or one for each prefix it serves.
const MAX_WATCHES: usize = 8;

/// A child says what it hears in one place.
const MAX_HEARSAYS: usize = 1;

/// A request's first message follows the stream's opening at once.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// What a drained child gets to subscribe elsewhere.
const DRAIN: Duration = Duration::from_secs(3);

/// What is under way gets to arrive where the next process takes over at once:
/// two round trips of a long path. Viewers have a hold-back of a second to wait.
const RETURN: Duration = Duration::from_millis(250);

/// For the closing frames to leave. Less than a child's shortest pause before it
/// dials again (50 ms).
const FAREWELL: Duration = Duration::from_millis(20);

/// How long a channel may take until it can be played, where nobody says otherwise:
/// the longest GOP by default, and what is made of it.
const PLAYABLE_WITHIN: Duration = Duration::from_secs(15);

/// When a child that met a bound should ask again.
const RETRY_MS: u32 = 1_000;

/// Whether a node that pulls knows what there is.
pub type Synced = tokio::sync::watch::Receiver<bool>;

/// What all connections share.
#[derive(Debug)]
struct Shared {
    hello: Hello,
    directory: Arc<Directory>,
    metrics: LinkServerMetrics,
    node: Node,
    /// Whether this node knows what there is; `None` where it makes it itself.
    synced: Option<Synced>,
    alternatives: Vec<String>,
    ingests: Arc<Ingests>,
    chat: Option<ChatPort>,
    playable_within: Duration,
    abouts: Arc<Abouts>,
    audience: Arc<Audience>,
    hearsay: Arc<Hearsay>,
    children: Children,
}

/// See the module's text.
#[derive(Debug)]
pub struct LinkServer {
    shared: Shared,
}

/// What the tasks of one connection share.
#[derive(Debug, Clone)]
struct Peer {
    shared: Arc<Shared>,
    connection: Connection,
    identity: Identity,
    subscriptions: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    hearsays: Arc<Semaphore>,
}

impl LinkServer {
    /// `hello` is what this node says of itself.
    #[must_use]
    pub fn new(hello: Hello, directory: Arc<Directory>, metrics: LinkServerMetrics) -> Self {
        Self {
            shared: Shared {
                hello,
                directory,
                metrics,
                node: Node::default(),
                synced: None,
                alternatives: Vec::new(),
                ingests: Arc::default(),
                chat: None,
                playable_within: PLAYABLE_WITHIN,
                abouts: Arc::default(),
                audience: Arc::default(),
                hearsay: Arc::default(),
                children: Children::default(),
            },
        }
    }

    /// Carries the rooms behind `port` to children that ask.
    #[must_use]
    pub fn with_chat(mut self, port: ChatPort) -> Self {
        self.shared.chat = Some(port);
        self
    }

    /// For a node that pulls what its children ask for. They hear SNAPSHOT once
    /// `synced` holds: what it has not heard of before that may yet be there.
    #[must_use]
    pub fn pulling(mut self, demands: mpsc::Sender<Demand>, synced: Synced) -> Self {
        self.shared.node = Node(Some(demands));
        self.shared.synced = Some(synced);
        self
    }

    /// For how long a child's request waits for a channel that starts: as long as
    /// the longest GOP that this node, or its origins, take, and 3 s.
    #[must_use]
    pub const fn playable_within(mut self, longest: Duration) -> Self {
        self.shared.playable_within = longest;
        self
    }

    /// Tells children of these places to publish to, this node's own or those it
    /// was told of.
    #[must_use]
    pub fn telling_of(mut self, ingests: Arc<Ingests>) -> Self {
        self.shared.ingests = ingests;
        self
    }

    /// Tells children what is said of channels, and how many watch them.
    #[must_use]
    pub fn telling(mut self, abouts: Arc<Abouts>, audience: Arc<Audience>) -> Self {
        self.shared.abouts = abouts;
        self.shared.audience = audience;
        self
    }

    /// Hears from children how many watch what is counted at other origins.
    #[must_use]
    pub fn hearing(mut self, hearsay: Arc<Hearsay>) -> Self {
        self.shared.hearsay = hearsay;
        self
    }

    /// Who pulls from here, for as long as the server runs.
    #[must_use]
    pub fn children(&self) -> Children {
        self.shared.children.clone()
    }

    /// Where children are sent when this node drains, as `host:port`.
    #[must_use]
    pub fn leaving_to(mut self, alternatives: Vec<String>) -> Self {
        self.shared.alternatives = alternatives;
        self
    }

    /// Serves until the drain; then children are told, get three seconds, and the
    /// listener closes. Of a node that returns at once they are not told: what is
    /// on its way arrives, and they dial again.
    pub async fn run(self, listener: Listener, shutdown: Shutdown) {
        let _guard = shutdown.guard();
        let shared = Arc::new(self.shared);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                handshake = listener.accept() => match handshake {
                    Some(handshake) => {
                        let admitted = shared.clone().admit(handshake, shutdown.clone());
                        connections.spawn(admitted);
                    }
                    None => break,
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                () = shutdown.draining() => break,
            }
        }
        listener.stop_accepting();
        while connections.join_next().await.is_some() {}
        listener.close(u32::from(Code::Ok.number()).into(), b"drained");
        if shutdown.is_returning() {
            // What children send from now on is the next process's, which finds it
            // in the socket: this one must not read it.
            tokio::time::sleep(FAREWELL).await;
        } else {
            listener.wait_idle().await;
        }
    }
}

impl Shared {
    async fn admit(self: Arc<Self>, handshake: Handshake, shutdown: Shutdown) {
        let (connection, identity) = match handshake.finish().await {
            Ok(peer) => peer,
            Err(error) => {
                self.metrics.refuse(Code::Unauthorised);
                warn!(%error, "child refused");
                return;
            }
        };
        if identity.role != Role::Edge {
            self.metrics.refuse(Code::Unauthorised);
            warn!(node = %identity.node, "child refused: only an edge pulls");
            stream::close(&connection, Code::Unauthorised, "only an edge pulls");
            return;
        }
        let peer = Peer {
            shared: self,
            connection,
            identity,
            subscriptions: Arc::new(Semaphore::new(MAX_SUBSCRIPTIONS)),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
            hearsays: Arc::new(Semaphore::new(MAX_HEARSAYS)),
        };
        peer.serve(shutdown).await;
    }
}

impl Peer {
    async fn serve(self, shutdown: Shutdown) {
        let _counted = Share::one(&self.shared.metrics.connections);
        let _entered = self.shared.children.enter(&self.connection, &self.identity);
        let address = self.connection.remote_address();
        info!(node = %self.identity.node, peer = %address, "child connected");
        let mut tasks = JoinSet::new();
        let hello = self.clone();
        tasks.spawn(async move { hello.hello().await });
        let mut limit = RequestLimit::default();
        let mut drained_at = None;
        let why = loop {
            tokio::select! {
                incoming = self.connection.accept_bi() => match incoming {
                    Ok((send, receive)) => {
                        let peer = self.clone();
                        let writer = Writer::new(send, priority::CONTROL);
                        limit.keep_ahead(&self.connection, tasks.len());
                        tasks.spawn(async move { peer.request(writer, Reader::new(receive)).await });
                    }
                    Err(error) => break error.to_string(),
                },
                incoming = self.connection.accept_uni() => match incoming {
                    Ok(stream) => {
                        let peer = self.clone();
                        tasks.spawn(async move { peer.introduced(stream).await });
                    }
                    Err(error) => break error.to_string(),
                },
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                () = shutdown.draining(), if drained_at.is_none() => {
                    if shutdown.is_returning() {
                        drained_at = Some(Instant::now() + RETURN);
                        continue;
                    }
                    drained_at = Some(Instant::now() + DRAIN);
                    let peer = self.clone();
                    tasks.spawn(async move { peer.go_away().await });
                }
                () = until(drained_at) => {
                    stream::close(&self.connection, Code::Ok, "drained");
                    break "drained".to_owned();
                }
            }
        };
        info!(node = %self.identity.node, peer = %address, why, "child gone");
    }

    async fn hello(self) {
        let hello = Message::Hello(self.shared.hello.clone());
        if let Err(error) = stream::say_hello(&self.connection, hello).await {
            debug!(%error, "HELLO not sent");
        }
    }

    /// Children open no unidirectional stream but HELLO, which tells nothing
    /// that the certificate does not, except where it contradicts it.
    async fn introduced(self, stream: RecvStream) {
        let mut reader = Reader::new(stream);
        match timeout(REQUEST_DEADLINE, reader.next()).await {
            Ok(Ok(Some(Message::Hello(hello)))) if hello.node == self.identity.node => {
                self.shared.children.introduced(&self.connection, &hello);
            }
            Ok(Ok(Some(Message::Hello(hello)))) => {
                self.shared.metrics.refuse(Code::Unauthorised);
                warn!(node = %self.identity.node, says = %hello.node, "child refused: not its name");
                stream::close(&self.connection, Code::Unauthorised, "not your name");
            }
            Ok(Err(StreamError::Wire(error))) => self.protocol_error(&error.to_string()),
            Ok(Ok(Some(_))) => self.protocol_error("only HELLO comes on a stream of its own"),
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
    }

    async fn go_away(self) {
        let message = Message::GoAway {
            drain_ms: u32::try_from(DRAIN.as_millis()).unwrap_or(u32::MAX),
            alternatives: self.shared.alternatives.clone(),
        };
        match stream::request(&self.connection, &message, priority::CONTROL).await {
            Ok((writer, _)) => writer.finish(),
            Err(error) => debug!(%error, "GOAWAY not sent"),
        }
    }

    fn protocol_error(&self, error: &str) {
        self.shared.metrics.refuse(Code::Protocol);
        warn!(
            node = %self.identity.node,
            peer = %self.connection.remote_address(),
            error,
            "child broke the protocol"
        );
        stream::close(&self.connection, Code::Protocol, error);
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
