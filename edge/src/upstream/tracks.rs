//! Which tracks are followed: one task a track however many ask, ended some
//! time after the last one did.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    link::Start,
    live::{Broadcast, Place, SegmentState, TrackWindow},
    names::{BroadcastId, ChannelName, NodeId, TrackName},
    telemetry::metrics::Share,
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use tracing::info;

use super::{Shared, Unavailable, follow::TrackTask};

/// A page asks again within a held request; a track that nobody asked for
/// that long, and one held request more, has no viewers.
pub(super) const IDLE: Duration = Duration::from_secs(15);

/// Names a followed track.
pub(super) type TrackKey = (ChannelName, BroadcastId, TrackName);

/// How far a track's task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    /// The index was applied: the window lists what the parent's lists.
    Ready,
    /// All was applied, and nothing follows.
    Finished,
    /// The parent does not have it.
    Gone,
    /// It yielded to those who were there before, and is being put away.
    Full,
}

/// When a track was last asked for, and how far it is.
#[derive(Debug)]
pub(super) struct Use {
    born: Instant,
    last_ms: AtomicU64,
    /// Who stays without asking again: children, viewers of endless streams.
    leases: AtomicUsize,
    /// On whose behalf it began, and where they go on.
    began_for: Mutex<(Start, Vec<NodeId>)>,
    pub(super) progress: watch::Sender<Progress>,
    /// There is no room for it any more.
    pub(super) yields: Notify,
}

/// A track is followed while this lives.
#[derive(Debug)]
pub struct Leased(Arc<Use>);

impl Leased {
    fn of(usage: Arc<Use>) -> Self {
        usage.leases.fetch_add(1, Ordering::Relaxed);
        Self(usage)
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.0.touch();
        self.0.leases.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Use {
    fn new() -> Self {
        Self {
            born: Instant::now(),
            last_ms: AtomicU64::new(0),
            leases: AtomicUsize::new(0),
            began_for: Mutex::new((Start::Live, Vec::new())),
            progress: watch::Sender::new(Progress::Waiting),
            yields: Notify::new(),
        }
    }

    pub(super) const fn born(&self) -> Instant {
        self.born
    }

    pub(super) fn touch(&self) {
        let since = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.fetch_max(since, Ordering::Relaxed);
    }

    /// Where a first subscription begins: a child that comes from another parent
    /// needs the rest of its segment, everybody else what is live.
    pub(super) fn begin(&self) -> Start {
        match self.began_for.lock().0 {
            Start::At { msn, .. } => Start::At { msn, chunk: 0 },
            Start::Live => Start::Live,
        }
    }

    pub(super) fn via(&self) -> Vec<NodeId> {
        self.began_for.lock().1.clone()
    }

    fn idle_at(&self, idle: Duration) -> Instant {
        if self.leases.load(Ordering::Relaxed) > 0 {
            self.touch();
        }
        self.born + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + idle
    }
}

/// A followed track.
#[derive(Debug)]
pub(super) struct TrackHandle {
    pub(super) usage: Arc<Use>,
    pub(super) task: AbortHandle,
}

impl Shared {
    /// Follows a track if nobody does yet, and waits until its window is current.
    pub(super) async fn followed(
        self: &Arc<Self>,
        broadcast: &Arc<Broadcast>,
        name: TrackName,
    ) -> Result<Arc<TrackWindow>, Unavailable> {
        let track = broadcast.track(name).cloned().ok_or(Unavailable::Unknown)?;
        let usage = self.usage(broadcast, &track)?;
        let mut progress = usage.progress.subscribe();
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let now = *progress.borrow_and_update();
            match now {
                Progress::Ready | Progress::Finished => return Ok(track),
                Progress::Gone => return Err(Unavailable::Gone),
                Progress::Full => {
                    self.metrics.refused_tracks.inc();
                    return Err(Unavailable::Full);
                }
                Progress::Waiting if !self.is_connected() => return Err(Unavailable::Disconnected),
                Progress::Waiting => {}
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() {
                    return Err(Unavailable::Gone);
                },
                _ = changes.changed() => {}
            }
        }
    }

    /// Keeps a track followed on a child's behalf.
    pub(super) fn lease(
        self: &Arc<Self>,
        broadcast: &Arc<Broadcast>,
        name: TrackName,
        start: Start,
        hops: Vec<NodeId>,
    ) -> Result<Leased, Unavailable> {
        let track = broadcast.track(name).cloned().ok_or(Unavailable::Unknown)?;
        let usage = self.usage_from(broadcast, &track, || (start, hops))?;
        Ok(Leased::of(usage))
    }

    fn usage(
        self: &Arc<Self>,
        broadcast: &Arc<Broadcast>,
        track: &Arc<TrackWindow>,
    ) -> Result<Arc<Use>, Unavailable> {
        self.usage_from(broadcast, track, || (Start::Live, Vec::new()))
    }

    fn usage_from(
        self: &Arc<Self>,
        broadcast: &Arc<Broadcast>,
        track: &Arc<TrackWindow>,
        began_for: impl FnOnce() -> (Start, Vec<NodeId>),
    ) -> Result<Arc<Use>, Unavailable> {
        let key = (broadcast.channel.clone(), broadcast.id, track.track.name);
        let mut tracks = self.tracks.lock();
        if let Some(handle) = tracks.get(&key) {
            handle.usage.touch();
            return Ok(handle.usage.clone());
        }
        if self.windows.is_spent() {
            self.metrics.refused_tracks.inc();
            return Err(Unavailable::Full);
        }
        let usage = Arc::new(Use::new());
        *usage.began_for.lock() = began_for();
        let task = TrackTask {
            shared: self.clone(),
            broadcast: broadcast.clone(),
            track: track.clone(),
            usage: usage.clone(),
        };
        let task = tokio::spawn(self.clone().keep(key.clone(), task));
        let handle = TrackHandle {
            usage: usage.clone(),
            task: task.abort_handle(),
        };
        tracks.insert(key, handle);
        Ok(usage)
    }

    /// Runs a track's task until nobody wants it, or until it has to yield; then
    /// what its window holds is put away.
    async fn keep(self: Arc<Self>, key: TrackKey, task: TrackTask) {
        let _counted = Share::one(&self.metrics.subscriptions);
        let (usage, broadcast) = (task.usage.clone(), task.broadcast.clone());
        let track = task.track.clone();
        let held_for_ms = u64::from(broadcast.plan.parts_listed_ms());
        let idle = IDLE.max(Duration::from_millis(held_for_ms) + IDLE / 3);
        let yields = tokio::select! {
            () = task.run() => false,
            () = self.ended_when_idle(&key, &track, &usage, idle) => false,
            () = usage.yields.notified() => true,
        };
        if yields {
            info!(channel = %broadcast.channel, track = %key.2, "no room for this track");
            usage.progress.send_replace(Progress::Full);
            let_go_open(&track);
        }
        self.keep_past(&broadcast, &track, 0).await;
        if yields {
            // Until now nobody could begin to write the window anew.
            self.tracks.lock().remove(&key);
        }
    }

    /// Resolves once nobody asked for long, with the handle taken away: whoever
    /// asks from then on starts anew.
    async fn ended_when_idle(
        &self,
        key: &TrackKey,
        track: &TrackWindow,
        usage: &Use,
        idle: Duration,
    ) {
        loop {
            let at = usage.idle_at(idle);
            sleep_until(at).await;
            let mut tracks = self.tracks.lock();
            if usage.idle_at(idle) <= Instant::now() {
                // As long as nobody else can begin to write the window.
                let_go_open(track);
                tracks.remove(key);
                return;
            }
        }
    }

    /// Whether a track is followed and lists what the parent's does; then it is
    /// kept from idling.
    pub(super) fn is_current(&self, broadcast: &Broadcast, name: TrackName) -> bool {
        let key = (broadcast.channel.clone(), broadcast.id, name);
        let tracks = self.tracks.lock();
        tracks.get(&key).is_some_and(|handle| {
            handle.usage.touch();
            let progress = *handle.usage.progress.borrow();
            matches!(progress, Progress::Ready | Progress::Finished)
        })
    }

    /// Keeps a followed track from idling for as long as the guard lives.
    pub(super) fn following(&self, broadcast: &Broadcast, name: TrackName) -> Option<Leased> {
        let key = (broadcast.channel.clone(), broadcast.id, name);
        let usage = self.tracks.lock().get(&key)?.usage.clone();
        Some(Leased::of(usage))
    }

    /// Keeps a followed track from idling; `false` when nobody follows it.
    pub(super) fn touch(&self, broadcast: &Broadcast, name: TrackName) -> bool {
        let key = (broadcast.channel.clone(), broadcast.id, name);
        let tracks = self.tracks.lock();
        let handle = tracks.get(&key);
        handle.map(|handle| handle.usage.touch()).is_some()
    }
}

/// Gives up the segment that is being made, and its bytes, which no cache takes: who
/// reads it as it grows is told at once that nothing follows.
fn let_go_open(track: &TrackWindow) {
    let open = track.window.look(|log| {
        let newest = log.newest().map(|newest| (newest.head.msn, newest.state));
        newest.filter(|(_, state)| *state == SegmentState::Open)
    });
    if let Some((msn, _)) = open {
        track.window.abort();
        track.window.let_go(msn, Place::Elsewhere);
    }
}
