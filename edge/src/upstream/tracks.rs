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
    live::{Broadcast, TrackWindow},
    names::{BroadcastId, ChannelName, TrackName},
};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use super::{Shared, Unavailable, follow::TrackTask, metrics::Counted};

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
}

/// When a track was last asked for, and how far it is.
#[derive(Debug)]
pub(super) struct Use {
    born: Instant,
    last_ms: AtomicU64,
    /// Viewers that stay without asking again.
    staying: AtomicUsize,
    pub(super) progress: watch::Sender<Progress>,
}

impl Use {
    fn new() -> Self {
        Self {
            born: Instant::now(),
            last_ms: AtomicU64::new(0),
            staying: AtomicUsize::new(0),
            progress: watch::Sender::new(Progress::Waiting),
        }
    }

    pub(super) fn touch(&self) {
        let since = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.fetch_max(since, Ordering::Relaxed);
    }

    fn idle_at(&self, idle: Duration) -> Instant {
        if self.staying.load(Ordering::Relaxed) > 0 {
            self.touch();
        }
        self.born + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + idle
    }
}

/// A viewer that stays: its track has no idle time meanwhile.
#[derive(Debug)]
pub struct Following(Arc<Use>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.touch();
        self.0.staying.fetch_sub(1, Ordering::Relaxed);
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
        let usage = self.usage(broadcast, &track);
        let mut progress = usage.progress.subscribe();
        loop {
            let now = *progress.borrow_and_update();
            match now {
                Progress::Ready | Progress::Finished => return Ok(track),
                Progress::Gone => return Err(Unavailable::Gone),
                Progress::Waiting if !self.is_connected() => return Err(Unavailable::Disconnected),
                Progress::Waiting => {}
            }
            let mut session = self.session.subscribe();
            session.mark_unchanged();
            tokio::select! {
                changed = progress.changed() => if changed.is_err() {
                    return Err(Unavailable::Gone);
                },
                _ = session.changed() => {}
            }
        }
    }

    fn usage(self: &Arc<Self>, broadcast: &Arc<Broadcast>, track: &Arc<TrackWindow>) -> Arc<Use> {
        let key = (broadcast.channel.clone(), broadcast.id, track.track.name);
        let mut tracks = self.tracks.lock();
        if let Some(handle) = tracks.get(&key) {
            handle.usage.touch();
            return handle.usage.clone();
        }
        let usage = Arc::new(Use::new());
        let task = TrackTask {
            shared: self.clone(),
            broadcast: broadcast.clone(),
            track: track.clone(),
            usage: usage.clone(),
        };
        let shared = self.clone();
        let held = usage.clone();
        let held_for_ms = u64::from(broadcast.plan.parts_listed_ms());
        let idle = IDLE.max(Duration::from_millis(held_for_ms) + IDLE / 3);
        let running = key.clone();
        let task = tokio::spawn(async move {
            let _counted = Counted::new(&shared.metrics.subscriptions);
            let ended = shared.ended_when_idle(&running, &held, idle);
            tokio::select! {
                () = task.run() => {}
                () = ended => {}
            }
        });
        let handle = TrackHandle {
            usage: usage.clone(),
            task: task.abort_handle(),
        };
        tracks.insert(key, handle);
        usage
    }

    /// Resolves once nobody asked for long, with the handle taken away: whoever
    /// asks from then on starts anew.
    async fn ended_when_idle(&self, key: &TrackKey, usage: &Use, idle: Duration) {
        loop {
            let at = usage.idle_at(idle);
            sleep_until(at).await;
            let mut tracks = self.tracks.lock();
            if usage.idle_at(idle) <= Instant::now() {
                tracks.remove(key);
                return;
            }
        }
    }

    /// Keeps a followed track from idling for as long as the guard lives.
    pub(super) fn following(&self, broadcast: &Broadcast, name: TrackName) -> Option<Following> {
        let key = (broadcast.channel.clone(), broadcast.id, name);
        let usage = self.tracks.lock().get(&key)?.usage.clone();
        usage.staying.fetch_add(1, Ordering::Relaxed);
        Some(Following(usage))
    }

    /// Keeps a followed track from idling; `false` when nobody follows it.
    pub(super) fn touch(&self, broadcast: &Broadcast, name: TrackName) -> bool {
        let key = (broadcast.channel.clone(), broadcast.id, name);
        let tracks = self.tracks.lock();
        let handle = tracks.get(&key);
        handle.map(|handle| handle.usage.touch()).is_some()
    }
}
