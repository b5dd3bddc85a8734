//! One connection to a parent: its request streams, and the way of each
//! segment stream to the task that follows its track.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use common::{
    link::{
        Message, Reader, SegmentStart, StreamError, Writer, priority,
        stream::{self},
    },
    quic::{Connection, ConnectionError, allow_tracks},
    tls::Identity,
};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{routes::Rank, wanted::FETCHES_AT_ONCE};

/// Segment streams that wait for their task to look: it takes them at once,
/// and sets aside those whose turn is not yet.
const ARRIVALS: usize = 16;

/// A stream's first message follows its opening at once.
const FIRST_MESSAGE: Duration = Duration::from_secs(5);

/// A segment stream whose head was read.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) start: SegmentStart,
    pub(super) reader: Reader,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) parent: Identity,
    pub(super) rank: Rank,
    pub(super) since: Instant,
    /// Turns at fetching from it.
    pub(super) fetches: Semaphore,
    routes: Mutex<HashMap<u64, mpsc::Sender<Arrival>>>,
    next_subscription: AtomicU64,
}

/// A subscription's place among the routes, given back when dropped.
#[derive(Debug)]
pub(super) struct Route<'a> {
    session: &'a Session,
    pub(super) subscription: u64,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
}

impl Drop for Route<'_> {
    fn drop(&mut self) {
        self.session.routes.lock().remove(&self.subscription);
    }
}

impl Session {
    pub(super) fn new(connection: Connection, parent: Identity, rank: Rank) -> Self {
        Self {
            connection,
            parent,
            rank,
            since: Instant::now(),
            fetches: Semaphore::new(FETCHES_AT_ONCE),
            routes: Mutex::default(),
            next_subscription: AtomicU64::new(1),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// A number for a subscription that expects no segments.
    pub(super) fn number(&self) -> u64 {
        self.next_subscription.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn route(&self) -> Route<'_> {
        let subscription = self.number();
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let mut routes = self.routes.lock();
        routes.insert(subscription, sender);
        allow_tracks(&self.connection, routes.len());
        Route {
            session: self,
            subscription,
            arrivals,
        }
    }

    pub(super) async fn request(&self, message: &Message) -> Result<(Writer, Reader), StreamError> {
        stream::request(&self.connection, message, priority::CONTROL).await
    }

    /// Hands each segment stream to its subscription until the link ends.
    pub(super) async fn dispatch(&self) -> ConnectionError {
        let mut heads = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept_uni() => match stream {
                    // As many as the transport allows the parent to open.
                    Ok(stream) => {
                        heads.spawn(first(Reader::new(stream)));
                    }
                    Err(error) => return error,
                },
                Some(head) = heads.join_next(), if !heads.is_empty() => {
                    if let Ok(Some(arrival)) = head {
                        self.deliver(arrival).await;
                    }
                }
            }
        }
    }

    async fn deliver(&self, arrival: Arrival) {
        let route = self.routes.lock().get(&arrival.start.subscription).cloned();
        // A stream of a subscription that ended meanwhile is stopped by its drop.
        if let Some(route) = route {
            let _ = route.send(arrival).await;
        }
    }
}

async fn first(mut reader: Reader) -> Option<Arrival> {
    match timeout(FIRST_MESSAGE, reader.next()).await {
        Ok(Ok(Some(Message::Segment(start)))) => Some(Arrival { start, reader }),
        // HELLO says what the certificate said; the rest is of a later version.
        _ => None,
    }
}
