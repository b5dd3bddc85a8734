//! The task that keeps one parent connected: dials in turn with growing pauses,
//! WATCHes, and writes what is announced into the directory.
//!
//! Invariant: what the directory says was said by a parent. A lost link changes
//! nothing in it; a channel that the next snapshot lacks is lost and has
//! [`GRACE`] to come back; only GONE{ended} or a STATE ends one.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use common::{
    link::{
        Code, GoneReason, Hello, Live, MAX_CHUNK_BYTES, Message, Reader, StreamError,
        stream::{close, say_hello},
    },
    live::{BroadcastState, Channel, Stage},
    names::{BroadcastId, ChannelName, NodeId},
    quic::Dialer,
    tls::Role,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{Shared, session::Session};

/// Pauses between attempts grow from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How long a channel that the parent does not know any more may stay away.
pub(super) const GRACE: Duration = Duration::from_secs(15);

/// Channels of one parent. Each costs a few hundred bytes here.
const MAX_CHANNELS: usize = 65_536;

/// Addresses of one parent that are tried in one turn.
const MAX_ADDRESSES: usize = 4;

const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// See the module's text.
pub(super) struct Parents {
    shared: Arc<Shared>,
    dialer: Dialer,
    node: NodeId,
    addresses: watch::Receiver<Vec<String>>,
    /// Channels that go unless they come back: when, and which broadcast.
    leaving: HashMap<ChannelName, (Instant, BroadcastId)>,
}

impl Parents {
    pub(super) fn new(
        shared: Arc<Shared>,
        dialer: Dialer,
        node: NodeId,
        addresses: watch::Receiver<Vec<String>>,
    ) -> Self {
        Self {
            shared,
            dialer,
            node,
            addresses,
            leaving: HashMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut turn = 0usize;
        loop {
            let (address, among) = {
                let addresses = self.addresses.borrow_and_update();
                let among = addresses.len().max(1);
                (addresses.get(turn % among).cloned(), among)
            };
            // Never: a list of parents is not empty.
            let Some(address) = address else { return };
            turn = turn.wrapping_add(1);
            if let Some(session) = self.connect(&address).await {
                let session = Arc::new(session);
                let synced = self.stay(&address, session).await;
                if synced {
                    pause = FIRST_PAUSE;
                }
            }
            // Others are tried at once; only a full round without luck waits.
            if turn.is_multiple_of(among) || pause == FIRST_PAUSE {
                let until = Instant::now() + jittered(pause);
                self.leave_until(until).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }

    async fn leave_until(&mut self, until: Instant) {
        loop {
            let next = self.next_leave();
            if next.is_none_or(|next| next > until) {
                sleep_until(until).await;
                return;
            }
            wait_until(next).await;
            self.leave();
        }
    }

    async fn connect(&self, address: &str) -> Option<Session> {
        let counted = |outcome: &str| {
            self.shared
                .metrics
                .connects
                .with_label_values(&[outcome])
                .inc();
        };
        let resolved = match resolve(address).await {
            Ok(resolved) => resolved,
            Err(error) => {
                counted("unresolved");
                warn!(parent = address, error, "parent not resolved");
                return None;
            }
        };
        for resolved in resolved {
            match self.dialer.connect(resolved).await {
                Ok((connection, identity)) => {
                    counted("connected");
                    info!(parent = address, node = %identity.node, "parent connected");
                    return Some(Session::new(connection, identity));
                }
                Err(error) => {
                    counted("failed");
                    warn!(parent = address, %error, "parent not connected");
                }
            }
        }
        None
    }

    /// Stays with one parent until its link ends; whether its snapshot came.
    async fn stay(&mut self, address: &str, session: Arc<Session>) -> bool {
        self.shared.connected(&session);
        let mut watch = Watch::default();
        let mut addresses = self.addresses.clone();
        let removed = async {
            let named = |all: &Vec<String>| all.iter().any(|one| one == address);
            if addresses.wait_for(|all| !named(all)).await.is_err() {
                // Nobody changes the list any more.
                std::future::pending::<()>().await;
            }
        };
        let hello = say_hello(&session.connection, Message::Hello(self.hello()));
        let why = tokio::select! {
            error = session.dispatch() => error.to_string(),
            why = self.watch(&session, &mut watch) => why,
            () = removed => "it is no parent of this edge any more".to_owned(),
            why = async {
                // Its failure is the link's, which the others tell.
                let _ = hello.await;
                told_to_leave(&session).await
            } => why,
        };
        close(&session.connection, Code::Cancelled, "leaving");
        self.shared.disconnected();
        warn!(parent = address, node = %session.parent.node, why, "parent lost");
        watch.synced
    }

    fn hello(&self) -> Hello {
        Hello {
            node: self.node.clone(),
            role: Role::Edge,
            region: String::new(),
            location: String::new(),
            cost: 0,
            max_chunk_bytes: u32::try_from(MAX_CHUNK_BYTES).unwrap_or(u32::MAX),
        }
    }

    async fn watch(&mut self, session: &Session, watch: &mut Watch) -> String {
        let message = Message::Watch {
            prefix: String::new(),
        };
        // The writer stays: dropping it would end the request.
        let (_writer, mut reader) = match session.request(&message).await {
            Ok(streams) => streams,
            Err(error) => return error.to_string(),
        };
        loop {
            let next = self.next_leave();
            tokio::select! {
                message = reader.next() => match message {
                    Ok(Some(message)) => self.heard(message, watch),
                    Ok(None) => return "the parent stopped announcing".to_owned(),
                    Err(error) => return error.to_string(),
                },
                () = wait_until(next) => self.leave(),
            }
        }
    }

    fn heard(&mut self, message: Message, watch: &mut Watch) {
        match message {
            Message::Live(live) => self.live(live, watch),
            Message::Snapshot { .. } => self.snapshot(watch),
            Message::Gone {
                channel,
                broadcast,
                reason,
            } => self.gone(&channel, broadcast, reason),
            Message::Error(refusal) => {
                warn!(code = %refusal.code, reason = refusal.reason, "parent refused WATCH");
            }
            _ => {}
        }
    }

    pub(super) fn live(&mut self, live: Live, watch: &mut Watch) {
        let directory = &self.shared.directory;
        let announcement = live.announcement.clone();
        let channel = announcement.channel.clone();
        let known = directory.get(&channel);
        let full = known.is_none() && directory.len() >= MAX_CHANNELS;
        if announcement.hops.contains(&self.node) || full {
            self.shared.metrics.refused_channels.inc();
            return;
        }
        if !watch.synced {
            watch.seen.insert(channel.clone());
        }
        self.leaving.remove(&channel);
        match known.map(|known| known.stage) {
            None => directory.put(Channel {
                announcement,
                stage: Stage::Starting,
            }),
            // The old broadcast stays until the new one can be played.
            Some(Stage::Ready(held)) if held.id != announcement.broadcast => {}
            Some(stage) => {
                if let (Stage::Ready(held), true) = (&stage, live.ended) {
                    held.set_state(BroadcastState::Ended);
                }
                directory.update(&channel, |known| known.announcement = announcement);
            }
        }
        self.shared.announced(&channel, &live.announcement);
    }

    pub(super) fn snapshot(&mut self, watch: &mut Watch) {
        watch.synced = true;
        for channel in self.shared.directory.snapshot() {
            let announcement = channel.announcement;
            if !watch.seen.contains(&announcement.channel) {
                self.leaving
                    .entry(announcement.channel)
                    .or_insert((Instant::now() + GRACE, announcement.broadcast));
            }
        }
        watch.seen.clear();
        self.shared.synced.send_replace(true);
    }

    pub(super) fn gone(
        &mut self,
        channel: &ChannelName,
        broadcast: BroadcastId,
        reason: GoneReason,
    ) {
        let Some(known) = self.shared.directory.get(channel) else {
            return;
        };
        let stays = match known.stage {
            Stage::Ready(held) => {
                let current = held.id == broadcast || known.announcement.broadcast == broadcast;
                let ended = current && reason == GoneReason::Ended;
                if ended && held.state() == BroadcastState::Ended {
                    // Its last playlist was on show here for as long as there.
                    Duration::ZERO
                } else if ended {
                    held.set_state(BroadcastState::Ended);
                    Duration::from_millis(held.plan.window_ms.into())
                } else {
                    GRACE
                }
            }
            Stage::Starting if reason == GoneReason::Ended => Duration::ZERO,
            Stage::Starting => GRACE,
        };
        let broadcast = known.announcement.broadcast;
        self.leaving
            .insert(channel.clone(), (Instant::now() + stays, broadcast));
    }

    fn next_leave(&self) -> Option<Instant> {
        self.leaving.values().map(|(at, _)| *at).min()
    }

    pub(super) fn leave(&mut self) {
        let now = Instant::now();
        let shared = &self.shared;
        self.leaving.retain(|channel, (at, broadcast)| {
            let stays = *at > now;
            if !stays {
                shared.forget(channel, *broadcast);
            }
            stays
        });
    }
}

/// What one WATCH has told so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: HashSet<ChannelName>,
    synced: bool,
}

/// A parent's GOAWAY ends the stay; this node dials again, the next one first.
async fn told_to_leave(session: &Session) -> String {
    loop {
        let Ok((_, receive)) = session.connection.accept_bi().await else {
            // The link's end is told by who reads segments.
            return std::future::pending().await;
        };
        match Reader::new(receive).next().await {
            Ok(Some(Message::GoAway { drain_ms, .. })) => {
                // It serves on until it closes; whoever has one parent only
                // takes what there is.
                sleep(Duration::from_millis(drain_ms.into())).await;
                return "the parent drains".to_owned();
            }
            Ok(_) | Err(StreamError::Wire(_) | StreamError::Ended(_)) => {}
            Err(_) => return std::future::pending().await,
        }
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

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Between half of `pause` and all of it, so that a parent's children don't
/// all come back in one moment.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8) % 1024;
    let half = pause / 2;
    half + half.mul_f64(f64::from(u16::try_from(random).unwrap_or(0)) / 1024.0)
}
