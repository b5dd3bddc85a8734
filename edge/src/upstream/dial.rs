//! One link to a parent, from the look-up of its name to its end: a task that
//! owns the WATCH stream and tells [`super::parent`] what comes, in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{
    link::{
        Code, Hello, Message, Reader, StreamError,
        stream::{close, say_hello},
    },
    quic::Dialer,
};
use tokio::{sync::mpsc, time::timeout};
use tracing::{info, warn};

use super::{UpstreamMetrics, routes::Rank, session::Session};

/// Addresses of one parent that are tried in one turn.
const MAX_ADDRESSES: usize = 4;

const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// What a link tells.
#[derive(Debug)]
pub(super) enum Event {
    Connected(Rank, Arc<Session>),
    Told(Rank, Message),
    /// Its last word, also where no link came about.
    Lost {
        rank: Rank,
        synced: bool,
    },
}

/// See the module's text.
pub(super) struct Link {
    pub(super) rank: Rank,
    pub(super) address: String,
    pub(super) dialer: Dialer,
    pub(super) hello: Hello,
    pub(super) metrics: UpstreamMetrics,
    pub(super) events: mpsc::Sender<Event>,
}

impl Link {
    pub(super) async fn run(self) {
        let mut synced = false;
        if let Some(session) = self.connect().await {
            self.stay(Arc::new(session), &mut synced).await;
        }
        let rank = self.rank;
        // Fails only where nobody is left to care.
        let _ = self.events.send(Event::Lost { rank, synced }).await;
    }

    async fn connect(&self) -> Option<Session> {
        let parent = &self.address;
        let counted = |outcome: &str| self.metrics.connects.with_label_values(&[outcome]).inc();
        let resolved = match resolve(parent).await {
            Ok(resolved) => resolved,
            Err(error) => {
                counted("unresolved");
                warn!(parent, error, "parent not resolved");
                return None;
            }
        };
        for resolved in resolved {
            match self.dialer.connect(resolved).await {
                Ok((connection, identity)) => {
                    counted("connected");
                    info!(parent, node = %identity.node, "parent connected");
                    return Some(Session::new(connection, identity, self.rank));
                }
                Err(error) => {
                    counted("failed");
                    warn!(parent, %error, "parent not connected");
                }
            }
        }
        None
    }

    /// Stays until the link ends.
    async fn stay(&self, session: Arc<Session>, synced: &mut bool) {
        let connected = Event::Connected(self.rank, session.clone());
        if self.events.send(connected).await.is_err() {
            return;
        }
        let hello = say_hello(&session.connection, Message::Hello(self.hello.clone()));
        let why = tokio::select! {
            error = session.dispatch() => error.to_string(),
            why = self.watch(&session, synced) => why,
            () = async {
                // Its failure is the link's, which the others tell.
                let _ = hello.await;
                self.told_to_leave(&session).await
            } => "nobody listens".to_owned(),
        };
        close(&session.connection, Code::Cancelled, "leaving");
        warn!(parent = self.address, node = %session.parent.node, why, "parent lost");
    }

    async fn watch(&self, session: &Session, synced: &mut bool) -> String {
        let message = Message::Watch {
            prefix: String::new(),
        };
        // The writer stays: dropping it would end the request.
        let (_writer, mut reader) = match session.request(&message).await {
            Ok(streams) => streams,
            Err(error) => return error.to_string(),
        };
        loop {
            match reader.next().await {
                Ok(Some(message)) => {
                    *synced |= matches!(message, Message::Snapshot { .. });
                    self.tell(message).await;
                }
                Ok(None) => return "the parent stopped announcing".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    /// GOAWAY comes on a stream of its own.
    async fn told_to_leave(&self, session: &Session) {
        loop {
            let Ok((_, receive)) = session.connection.accept_bi().await else {
                // The link's end is told by who reads segments.
                return std::future::pending().await;
            };
            match Reader::new(receive).next().await {
                Ok(Some(message @ Message::GoAway { .. })) => self.tell(message).await,
                Ok(_) | Err(StreamError::Wire(_) | StreamError::Ended(_)) => {}
                Err(_) => return std::future::pending().await,
            }
        }
    }

    async fn tell(&self, message: Message) {
        // Fails only where nobody is left to care.
        let _ = self.events.send(Event::Told(self.rank, message)).await;
    }
}

/// A name may stand for both families, of which the parent may listen on one.
async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    match timeout(RESOLVE_DEADLINE, tokio::net::lookup_host(address)).await {
        Ok(Ok(found)) => Ok(found.take(MAX_ADDRESSES).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the resolver does not answer".to_owned()),
    }
}
