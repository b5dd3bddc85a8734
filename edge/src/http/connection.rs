//! One viewer's connection: what it has in progress, when it has been silent
//! for too long, and the task that serves and drains it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use common::shutdown::Shutdown;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};

use super::{config::HttpConfig, metrics::Rejected, service, service::Server};

/// A closing connection may take this long to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Reset streams that the peer has not yet been made to see: past it a client
/// that opens and resets is sent GOAWAY (rapid reset).
const MAX_PENDING_RESETS: usize = 20;

/// Answers below it cost a peer that does not read them nothing worth a clock.
const LARGE: u64 = 16_384;

/// What the tasks of one connection share. Times are milliseconds since it was
/// accepted.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: IpAddr,
    accepted: Instant,
    /// Requests whose answers are not wholly sent.
    active: AtomicU32,
    pub(super) held: AtomicUsize,
    requested: AtomicBool,
    multiplexed: AtomicBool,
    last_end_ms: AtomicU64,
    /// When bytes came that are no request yet, plus one; 0 for none.
    partial_since_ms: AtomicU64,
    /// On HTTP/2, until when each answer must have left: a peer that grants no
    /// window never fills the socket. At most one entry a stream.
    sending: Mutex<BTreeMap<u64, Instant>>,
    next_answer: AtomicU64,
    draining: AtomicBool,
}

/// A request in progress, until the last byte of its answer has left.
#[derive(Debug)]
pub(super) struct Active {
    connection: Arc<Connection>,
    /// Whether the answer takes its time to leave.
    large: bool,
    answer: Option<u64>,
    write_deadline: Duration,
}

impl Connection {
    pub(super) fn new(peer: IpAddr) -> Arc<Self> {
        Arc::new(Self {
            peer,
            accepted: Instant::now(),
            active: AtomicU32::new(0),
            held: AtomicUsize::new(0),
            requested: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            last_end_ms: AtomicU64::new(0),
            partial_since_ms: AtomicU64::new(0),
            sending: Mutex::default(),
            next_answer: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        })
    }

    pub(super) fn begin(self: &Arc<Self>, multiplexed: bool, config: &HttpConfig) -> Active {
        self.active.fetch_add(1, Relaxed);
        self.requested.store(true, Relaxed);
        self.multiplexed.store(multiplexed, Relaxed);
        self.partial_since_ms.store(0, Relaxed);
        Active {
            connection: self.clone(),
            large: false,
            answer: None,
            write_deadline: Duration::from_secs(config.write_deadline),
        }
    }

    /// Bytes came. They are the start of a request when none is in progress;
    /// HTTP/2 has frames that are none, and its decoder bounds header blocks.
    pub(super) fn reads(&self) {
        if self.active.load(Relaxed) == 0 && !self.multiplexed.load(Relaxed) {
            let now_ms = self.now_ms() + 1;
            let _ = self
                .partial_since_ms
                .compare_exchange(0, now_ms, Relaxed, Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When this connection has been silent for too long, as things stand.
    fn expiry(&self, config: &HttpConfig) -> (Instant, Rejected) {
        let header = Duration::from_secs(config.header_deadline);
        let idle = Duration::from_secs(config.idle_timeout);
        if self.active.load(Relaxed) > 0 {
            let sent_by = self.sending.lock().values().min().copied();
            let look_again = Instant::now() + header.min(idle);
            return match sent_by {
                Some(by) if by < look_again => (by, Rejected::SlowReader),
                _ => (look_again, Rejected::Idle),
            };
        }
        if !self.requested.load(Relaxed) {
            return (self.accepted + header, Rejected::HeaderDeadline);
        }
        let partial = self.partial_since_ms.load(Relaxed);
        if partial > 0 {
            let since = self.accepted + Duration::from_millis(partial - 1);
            return (since + header, Rejected::HeaderDeadline);
        }
        let last_end = Duration::from_millis(self.last_end_ms.load(Relaxed));
        (self.accepted + last_end + idle, Rejected::Idle)
    }
}

impl Active {
    /// Sets the deadline for an answer that shares its connection with others;
    /// one that has it to itself fills the socket, which has its own.
    pub(super) fn must_send(&mut self, bytes: u64, config: &HttpConfig) {
        let connection = &self.connection;
        self.large = bytes >= LARGE;
        if !self.large || !connection.multiplexed.load(Relaxed) {
            return;
        }
        let seconds = config.write_deadline + bytes / config.min_read_rate.max(1);
        let id = connection.next_answer.fetch_add(1, Relaxed);
        let by = Instant::now() + Duration::from_secs(seconds);
        connection.sending.lock().insert(id, by);
        self.answer = Some(id);
    }

    /// A piece of an answer without a length is on its way: it must have left,
    /// and the next been asked for, by the deadline. As [`Active::must_send`].
    pub(super) fn sends(&mut self) {
        let connection = &self.connection;
        if !connection.multiplexed.load(Relaxed) {
            return;
        }
        let id = *self
            .answer
            .get_or_insert_with(|| connection.next_answer.fetch_add(1, Relaxed));
        let by = Instant::now() + self.write_deadline;
        connection.sending.lock().insert(id, by);
    }

    /// All that there was has left.
    pub(super) fn rests(&mut self) {
        if let Some(id) = self.answer {
            self.connection.sending.lock().remove(&id);
        }
    }

    /// The connection ends with the answers that it has in progress.
    pub(super) fn drains(&self) -> bool {
        self.connection.draining.load(Relaxed)
    }

    /// The bytes, and with them this: a frame is taken from its body long before
    /// the peer's window or the socket lets it go.
    pub(super) fn until_sent(self, bytes: Bytes) -> Bytes {
        struct Sending {
            bytes: Bytes,
            _active: Active,
        }
        impl AsRef<[u8]> for Sending {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        if !self.large {
            return bytes;
        }
        Bytes::from_owner(Sending {
            bytes,
            _active: self,
        })
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let connection = &self.connection;
        if let Some(id) = self.answer {
            connection.sending.lock().remove(&id);
        }
        connection.last_end_ms.store(connection.now_ms(), Relaxed);
        connection.active.fetch_sub(1, Relaxed);
    }
}

/// The protocol's limits, set once for all connections.
pub(super) fn builder(config: &HttpConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let header_bytes = config.max_header_bytes;
    builder
        .http1()
        .timer(TokioTimer::new())
        // The deadline on a header's bytes is this module's; hyper's timer also
        // runs while a connection idles.
        .header_read_timeout(Duration::from_secs(
            config.idle_timeout.saturating_add(config.header_deadline),
        ))
        .max_buf_size(header_bytes as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(config.max_streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(header_bytes)
        // Requests have no bodies: the smallest windows that HTTP/2 knows.
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535);
    builder
}

/// Serves a connection until its peer, a deadline or the drain ends it.
pub(super) async fn run<I>(
    server: Arc<Server>,
    connection: Arc<Connection>,
    io: I,
    shutdown: Shutdown,
) where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (server, connection) = (server.clone(), connection.clone());
        async move { Ok::<_, Infallible>(service::serve(server, connection, request).await) }
    });
    let mut served = std::pin::pin!(server.builder.serve_connection(TokioIo::new(io), service));
    let mut draining = std::pin::pin!(shutdown.draining());
    let mut timer = std::pin::pin!(sleep_until(connection.expiry(&server.config).0));
    let (mut drains, mut closing) = (false, false);
    loop {
        tokio::select! {
            _ = served.as_mut() => return,
            () = draining.as_mut(), if !drains => {
                drains = true;
                connection.draining.store(true, Relaxed);
                served.as_mut().graceful_shutdown();
            }
            () = timer.as_mut() => {
                let (expiry, why) = connection.expiry(&server.config);
                if closing {
                    return;
                }
                if expiry > Instant::now() {
                    timer.as_mut().reset(expiry);
                    continue;
                }
                server.metrics.rejected(why);
                if why == Rejected::SlowReader {
                    server.metrics.slow_viewers.inc();
                }
                if why != Rejected::Idle {
                    return;
                }
                closing = true;
                served.as_mut().graceful_shutdown();
                timer.as_mut().reset(Instant::now() + GOODBYE);
            }
        }
    }
}
