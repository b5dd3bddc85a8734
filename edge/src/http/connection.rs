//! One viewer's connection: what it has in progress, when it has been silent
//! for too long, and the task that serves and drains it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use common::shutdown::Shutdown;
use hyper::{Request, Response, body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::unconstrained,
    time::{Instant, sleep_until},
};

use super::{
    config::HttpConfig,
    http1::{self, Rewound},
    http2::{self, Served},
    metrics::{HttpMetrics, Rejected},
    service,
    service::Server,
};
use crate::view::Shown;

/// A closing connection may take this long to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long a connection that has nothing in progress when a drain begins is
/// waited for: its next request gets an answer that says it is the last. One that
/// closes at once would meet requests on their way and reset them. A player asks
/// several times in that time.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(2);

/// Answers below it cost a peer that does not read them nothing worth a count.
const LARGE: u64 = 16_384;

/// What the tasks of one connection share. Times are milliseconds since it was
/// accepted.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: IpAddr,
    /// The viewer's token, once verified.
    pub(super) shown: Shown,
    accepted: Instant,
    /// Requests whose answers are not wholly sent.
    active: AtomicU32,
    pub(super) held: AtomicUsize,
    /// Bytes of large answers that are not wholly sent.
    queued: AtomicU64,
    requested: AtomicBool,
    multiplexed: AtomicBool,
    last_end_ms: AtomicU64,
    /// When bytes came that are no request yet, plus one; 0 for none.
    partial_since_ms: AtomicU64,
    /// On HTTP/2, until when each answer must have left: a peer that grants no
    /// window never fills the socket. At most one entry a stream.
    sending: Mutex<BTreeMap<u64, Instant>>,
    next_answer: AtomicU64,
    /// Whom it was counted for as a viewer last, and when.
    counted: Mutex<Option<Counted>>,
    /// It ends with its next answer, if none is in progress.
    draining: AtomicBool,
    /// No further request is waited for.
    hung_up: AtomicBool,
}

#[derive(Debug)]
struct Counted {
    /// Of channel, agent and page: see [`Connection::counts_anew`].
    sum: u64,
    at: Instant,
}

/// Well below the time that a viewer is remembered for.
const COUNTED_FOR: Duration = Duration::from_secs(2);

/// A request in progress, until the last byte of its answer has left.
#[derive(Debug)]
pub(super) struct Active {
    connection: Arc<Connection>,
    /// Whether the answer takes its time to leave.
    large: bool,
    answer: Option<u64>,
    /// Bytes counted as queued, and where for all connections.
    queued: Option<(u64, IntGauge)>,
    write_deadline: Duration,
}

impl Connection {
    pub(super) fn new(peer: IpAddr) -> Arc<Self> {
        Arc::new(Self {
            peer,
            shown: Shown::default(),
            accepted: Instant::now(),
            active: AtomicU32::new(0),
            held: AtomicUsize::new(0),
            queued: AtomicU64::new(0),
            requested: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            last_end_ms: AtomicU64::new(0),
            partial_since_ms: AtomicU64::new(0),
            sending: Mutex::default(),
            next_answer: AtomicU64::new(0),
            counted: Mutex::default(),
            draining: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
        })
    }

    /// Whether the request that is being answered is the last.
    pub(super) fn ends(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether no further request is waited for.
    pub(super) fn hangs_up(&self) -> bool {
        self.hung_up.load(Relaxed)
    }

    /// Whether a viewer with this sum is to be counted, or was a moment ago. The
    /// sum need not withstand an enemy: who finds two of a kind hides the one
    /// behind the other on their own connection alone.
    pub(super) fn counts_anew(&self, sum: u64, at: Instant) -> bool {
        let mut counted = self.counted.lock();
        let known = counted
            .as_ref()
            .is_some_and(|last| last.sum == sum && at - last.at < COUNTED_FOR);
        if !known {
            *counted = Some(Counted { sum, at });
        }
        !known
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
            queued: None,
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
    /// Counts an answer's bytes until they are sent. One that is alone on its
    /// connection always may be.
    ///
    /// # Errors
    /// Which budget has no room for it: it must not be sent.
    pub(super) fn queue(
        &mut self,
        bytes: u64,
        config: &HttpConfig,
        metrics: &HttpMetrics,
    ) -> Result<(), Rejected> {
        if bytes < LARGE {
            return Ok(());
        }
        let all = &metrics.queued_bytes;
        let (count, before_all) = (signed(bytes), u64::try_from(all.get()).unwrap_or(0));
        let before = self.connection.queued.fetch_add(bytes, Relaxed);
        all.add(count);
        self.queued = Some((bytes, all.clone()));
        if before > 0 && before.saturating_add(bytes) > config.max_queued_per_connection {
            return Err(Rejected::QueuedByConnection);
        }
        if before_all.saturating_add(bytes) > config.max_queued {
            return Err(Rejected::QueuedInAll);
        }
        Ok(())
    }

    /// What [`Self::queue`] counted is not sent after all.
    pub(super) fn unqueue(&mut self) {
        if let Some((bytes, all)) = self.queued.take() {
            self.connection.queued.fetch_sub(bytes, Relaxed);
            all.sub(signed(bytes));
        }
    }

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

    /// Whether it is to be counted until the last byte has left: a frame is taken
    /// from its body long before the peer's window or the socket lets it go.
    pub(super) const fn is_large(&self) -> bool {
        self.large
    }

    /// A piece of an answer without a length is on its way: it must have left,
    /// and the next been asked for, by the deadline. As [`Active::must_send`]; a
    /// piece is taken before there is a window for it.
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
}

impl Drop for Active {
    fn drop(&mut self) {
        self.unqueue();
        let connection = &self.connection;
        if let Some(id) = self.answer {
            connection.sending.lock().remove(&id);
        }
        connection.last_end_ms.store(connection.now_ms(), Relaxed);
        connection.active.fetch_sub(1, Relaxed);
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What a connection speaks, where that is known before anything is read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    Unknown,
}

impl Protocol {
    /// From the first bytes that a client sends in the clear (RFC 9113, 3.4).
    pub(super) fn of_first_bytes(bytes: &[u8]) -> Self {
        const PREFACE: &[u8] = b"PRI ";
        if bytes.starts_with(PREFACE) {
            Self::Http2
        } else if PREFACE.starts_with(bytes) {
            Self::Unknown
        } else {
            Self::Http1
        }
    }

    /// From what a TLS handshake agreed on. HTTP/2 over TLS is always negotiated
    /// (RFC 9113, 3.3): players that offer nothing speak HTTP/1.1.
    pub(super) fn of_alpn(alpn: Option<&[u8]>) -> Self {
        match alpn {
            Some(b"h2") => Self::Http2,
            _ => Self::Http1,
        }
    }
}

/// The protocols' limits, set once for all connections.
#[derive(Debug)]
pub(super) struct Limits {
    http1: conn::http1::Builder,
    pub(super) http2: h2::server::Builder,
}

impl Limits {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let mut http1 = conn::http1::Builder::new();
        http1
            // The deadline on a header's bytes is this module's; hyper's own would
            // also run while a connection idles, and be set for every request.
            .header_read_timeout(None)
            .max_buf_size(buffer_bytes(config));
        Self {
            http1,
            http2: http2::limits(config),
        }
    }
}

/// The limit is the service's, whose answer is a viewer's; this is where one
/// that goes on for ever is cut off.
const fn buffer_bytes(config: &HttpConfig) -> usize {
    2 * config.max_header_bytes as usize
}

/// Whether HTTP/2's own limits ended the connection, on resets or on frames that
/// cost much and bring nothing.
fn is_sent_away(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
        }
        cause = error.source();
    }
    false
}

/// Serves a connection until its peer, a deadline or the drain ends it: by [`http1`]
/// and [`http2`], and by hyper what on HTTP/1 is not plainly a viewer's.
pub(super) async fn run<I>(
    server: Arc<Server>,
    connection: Arc<Connection>,
    protocol: Protocol,
    io: I,
    shutdown: Shutdown,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let on = (&*server, &*connection, &shutdown);
    let (protocol, io) = match protocol {
        Protocol::Http1 => {
            let max = buffer_bytes(&server.config);
            let served = pin!(http1::serve(&server, &connection, io, max));
            match drive(served, |_| (), on).await {
                Some(Some(io)) => (protocol, io),
                Some(None) | None => return,
            }
        }
        Protocol::Http2 => (protocol, Rewound::new(io, Bytes::new())),
        Protocol::Unknown => match drive(pin!(told(&connection, io)), |_| (), on).await {
            Some(Some(told)) => told,
            Some(None) | None => return,
        },
    };
    // Apart, so that a connection of the hot path is not the size of one of theirs.
    if protocol == Protocol::Http2 {
        Box::pin(async {
            let served = pin!(Served::new(&server, &connection, io));
            drive(served, Served::finish, on).await
        })
        .await;
    } else {
        Box::pin(run_hyper(&server, &connection, io, &shutdown)).await;
    }
}

/// Reads until it is clear what the client speaks: a few bytes, by who sends them one
/// by one. `None` where it says nothing more, or too late.
async fn told<I>(connection: &Connection, mut io: I) -> io::Result<Option<(Protocol, Rewound<I>)>>
where
    I: AsyncRead + Unpin,
{
    let (mut bytes, mut count) = ([0; 4], 0);
    loop {
        let so_far = bytes.get(..count).unwrap_or_default();
        match Protocol::of_first_bytes(so_far) {
            Protocol::Unknown => {}
            known => {
                let so_far = Bytes::copy_from_slice(so_far);
                return Ok(Some((known, Rewound::new(io, so_far))));
            }
        }
        let mut space = ReadBuf::new(bytes.get_mut(count..).unwrap_or_default());
        poll_fn(|cx| match Pin::new(&mut io).poll_read(cx, &mut space) {
            Poll::Pending if connection.hangs_up() => Poll::Ready(Ok(())),
            read => read,
        })
        .await?;
        match space.filled().len() {
            0 => return Ok(None),
            more => count += more,
        }
    }
}

async fn run_hyper<I>(
    server: &Arc<Server>,
    connection: &Arc<Connection>,
    io: Rewound<I>,
    shutdown: &Shutdown,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (server, connection) = (server.clone(), connection.clone());
        async move {
            let answer = service::serve(server, connection, request).await;
            Ok::<_, Infallible>(Response::from(answer))
        }
    });
    let served = server
        .limits
        .http1
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let finish = conn::http1::UpgradeableConnection::graceful_shutdown;
    drive(pin!(served), finish, (server, connection, shutdown)).await;
}

/// Until the connection ends by itself or is made to; `finish` asks it to end
/// with what it has in progress. `None` where a deadline or an error ended it.
async fn drive<C, T, E>(
    mut served: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
    (server, connection, shutdown): (&Server, &Connection, &Shutdown),
) -> Option<T>
where
    C: Future<Output = Result<T, E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut draining = pin!(shutdown.draining());
    let mut timer = pin!(sleep_until(connection.expiry(&server.config).0));
    let (mut drains, mut closing) = (false, false);
    let mut hang_up: Option<Instant> = None;
    let sooner = |at: Instant, or: Option<Instant>| or.map_or(at, |or| at.min(or));
    // A task has one waker for as long as it lives: what was polled once wakes it,
    // and need not be polled again before it has something to say. Polled outside
    // the task's budget, since what has used it up says nothing and wakes nobody.
    let mut armed = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = served.as_mut().poll(cx) {
                let failed = |error: E| {
                    if is_sent_away(&*error.into()) {
                        server.metrics.rejected(Rejected::Resets);
                    }
                };
                return Poll::Ready(ended.map_err(failed).ok());
            }
            let begun = !armed || shutdown.is_draining();
            if !drains && begun && pin!(unconstrained(draining.as_mut())).poll(cx).is_ready() {
                drains = true;
                connection.draining.store(true, Relaxed);
                finish(served.as_mut());
                hang_up = Some(Instant::now() + LAST_REQUEST);
                let at = sooner(timer.deadline(), hang_up);
                timer.as_mut().reset(at);
                armed = false;
                continue;
            }
            let due = !armed || timer.is_elapsed();
            armed = true;
            if !due || pin!(unconstrained(timer.as_mut())).poll(cx).is_pending() {
                return Poll::Pending;
            }
            armed = false;
            if closing {
                return Poll::Ready(None);
            }
            let (expiry, why) = connection.expiry(&server.config);
            let now = Instant::now();
            if hang_up.is_some_and(|at| at <= now) {
                hang_up = None;
                connection.hung_up.store(true, Relaxed);
                timer.as_mut().reset(expiry.max(now));
                continue;
            }
            if expiry > now {
                timer.as_mut().reset(sooner(expiry, hang_up));
                continue;
            }
            server.metrics.rejected(why);
            if why == Rejected::SlowReader {
                server.metrics.slow_viewers.inc();
            }
            if why != Rejected::Idle {
                return Poll::Ready(None);
            }
            closing = true;
            connection.draining.store(true, Relaxed);
            connection.hung_up.store(true, Relaxed);
            finish(served.as_mut());
            timer.as_mut().reset(Instant::now() + GOODBYE);
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not hyper's by way of "unknown", which costs such a player twice as much.
    #[test]
    fn tls_without_alpn_is_http1() {
        assert_eq!(Protocol::of_alpn(None), Protocol::Http1);
        assert_eq!(Protocol::of_alpn(Some(b"http/1.1")), Protocol::Http1);
        assert_eq!(Protocol::of_alpn(Some(b"h2")), Protocol::Http2);
    }
}
