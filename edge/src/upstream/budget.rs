//! The bytes that all windows of this edge may hold together.
//!
//! [`Shared::keep_within_budget`] looks at all of them a few times a second. Where they
//! hold seven eighths of the limit no further track is followed, and who watches one
//! that is goes on. Tracks grow all the same. Above the limit, what is older than one
//! target duration moves to the cache first, where nobody misses it; where that is
//! not enough, the channel that was followed last yields: its viewers are answered
//! 503 until there is room, and everybody else's media stays as it is. So windows
//! hold the limit and what arrives between two looks.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use common::{
    live::{Broadcast, Log, Stage, TrackWindow},
    names::{BroadcastId, ChannelName},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{
    Shared,
    tracks::{Progress, Use},
};

/// What yielded is not followed again at once, to yield again: its viewers ask
/// every second, and each time its open segment would be sent anew.
const YIELDED_FOR: Duration = Duration::from_secs(5);

/// How often windows are held against the limit: at 1 Gbit/s 31 MB arrive meanwhile.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(250);

/// See the module's text.
#[derive(Debug)]
pub(super) struct WindowBudget {
    limit_bytes: u64,
    /// What windows held when they were last looked at: who follows a track does not
    /// count them all, under a lock that every playlist request takes.
    held_bytes: AtomicU64,
    /// Until when there is no room, whatever they hold: a channel had to yield.
    full_until: Mutex<Option<Instant>>,
}

impl WindowBudget {
    pub(super) const fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            held_bytes: AtomicU64::new(0),
            full_until: Mutex::new(None),
        }
    }

    /// Whether there is no room for a further track.
    pub(super) fn is_spent(&self) -> bool {
        let room = self.limit_bytes / 8;
        let full_until = *self.full_until.lock();
        self.held_bytes.load(Relaxed) >= self.limit_bytes - room
            || full_until.is_some_and(|until| Instant::now() < until)
    }

    fn yielded(&self) {
        *self.full_until.lock() = Some(Instant::now() + YIELDED_FOR);
    }

    /// Looks at what `broadcasts` hold; whether that is too much.
    fn is_exceeded(&self, broadcasts: &[Arc<Broadcast>]) -> bool {
        let held = |track: &Arc<TrackWindow>| track.window.look(Log::held_bytes);
        let tracks = broadcasts.iter().flat_map(|broadcast| &broadcast.tracks);
        let held_bytes = tracks.map(held).sum();
        self.held_bytes.store(held_bytes, Relaxed);
        held_bytes > self.limit_bytes
    }
}

impl Shared {
    /// Looks after the limit for as long as the edge pulls.
    pub(super) async fn keep_budget(self: Arc<Self>) {
        loop {
            sleep(LOOKED_AT_EVERY).await;
            self.keep_within_budget().await;
        }
    }

    /// See the module's text. One channel yields at most: what it held is counted
    /// anew before another has to.
    pub(super) async fn keep_within_budget(&self) {
        let broadcasts = self.with_windows();
        if !self.windows.is_exceeded(&broadcasts) {
            return;
        }
        for broadcast in &broadcasts {
            let recent_ms = broadcast.plan.target_duration_ms();
            for track in &broadcast.tracks {
                self.keep_past(broadcast, track, recent_ms).await;
            }
        }
        if self.windows.is_exceeded(&self.with_windows()) {
            self.windows.yielded();
            for usage in self.youngest() {
                self.metrics.yielded_tracks.inc();
                usage.yields.notify_one();
            }
        }
    }

    /// The broadcasts whose windows count: those that are offered, and those that
    /// were until a moment ago.
    fn with_windows(&self) -> Vec<Arc<Broadcast>> {
        let now = Instant::now();
        let mut retired = self.retired.lock();
        retired.retain(|(until, _)| *until > now);
        let retired: Vec<_> = retired.iter().map(|(_, it)| it.clone()).collect();
        let offered = self.directory.snapshot().into_iter();
        let offered = offered.filter_map(|channel| match channel.stage {
            Stage::Ready(broadcast) => Some(broadcast),
            Stage::Starting => None,
        });
        // One that is being replaced may be among both.
        let offered = offered.filter(|it| retired.iter().all(|old| !Arc::ptr_eq(old, it)));
        offered.chain(retired.iter().cloned()).collect()
    }

    /// The followed tracks of the channel whose first one was followed last.
    fn youngest(&self) -> Vec<Arc<Use>> {
        type Of<'a> = (&'a ChannelName, BroadcastId);
        let tracks = self.tracks.lock();
        let mut since: HashMap<Of<'_>, Instant> = HashMap::new();
        for ((channel, broadcast, _), handle) in tracks.iter() {
            if *handle.usage.progress.borrow() == Progress::Full {
                continue;
            }
            let born = handle.usage.born();
            let first = since.entry((channel, *broadcast)).or_insert(born);
            *first = born.min(*first);
        }
        let youngest = since.into_iter().max_by_key(|(of, born)| (*born, *of));
        let Some((of, _)) = youngest else {
            return Vec::new();
        };
        let its = tracks.iter().filter(|((c, b, _), _)| (c, *b) == of);
        its.map(|(_, handle)| handle.usage.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::fixture::{Studio, V, audio, plan, video};

    #[tokio::test(start_paused = true)]
    async fn room_is_what_the_last_look_left() {
        let mut studio = Studio::new(plan(4), vec![audio(), video()]);
        let broadcasts = [studio.broadcast.clone()];
        let budget = WindowBudget::new(1_000);
        assert!(!budget.is_spent());
        studio.open(V, 100);
        studio.chunk(V, Bytes::from(vec![7; 874]));
        assert!(!budget.is_exceeded(&broadcasts) && !budget.is_spent());
        studio.chunk(V, Bytes::from(vec![7; 126]));
        assert!(!budget.is_spent(), "nobody looked");
        assert!(!budget.is_exceeded(&broadcasts) && budget.is_spent());
        studio.chunk(V, "x");
        assert!(budget.is_exceeded(&broadcasts));
        assert!(!budget.is_exceeded(&[]) && !budget.is_spent());
        budget.yielded();
        tokio::time::advance(YIELDED_FOR - Duration::from_millis(1)).await;
        assert!(budget.is_spent());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!budget.is_spent());
    }
}
