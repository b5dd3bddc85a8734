//! The bytes that all windows of this edge may hold together.
//!
//! From seven eighths of the limit on no further track is followed: who watches one
//! that is goes on. Tracks grow all the same, so [`Shared::keep_within_budget`] looks
//! at all of them a few times a second. Above the limit, what is older than one
//! target duration moves to the cache first, where nobody misses it; where that is
//! not enough, the channel that was followed last yields: its viewers are answered
//! 503 until there is room, and everybody else's media stays as it is. So windows
//! hold the limit and what arrives between two looks.

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::{
    live::{Broadcast, Directory, Stage, TrackWindow},
    names::{BroadcastId, ChannelName},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{
    Shared,
    tracks::{Progress, Use},
};

/// A crowd that asks for more than there is room for has windows counted no more
/// often than this.
const SPENT_FOR: Duration = Duration::from_secs(1);

/// What yielded is not followed again at once, to yield again: its viewers ask
/// every second, and each time its open segment would be sent anew.
const YIELDED_FOR: Duration = Duration::from_secs(5);

/// How often windows are held against the limit: at 1 Gbit/s 31 MB arrive meanwhile.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(250);

/// See the module's text.
#[derive(Debug)]
pub(super) struct WindowBudget {
    limit_bytes: u64,
    /// Until when there is no room, as it was last found.
    spent_until: Mutex<Option<Instant>>,
}

impl WindowBudget {
    pub(super) const fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            spent_until: Mutex::new(None),
        }
    }

    /// Whether there is no room for a further track.
    pub(super) fn is_spent(&self, directory: &Directory) -> bool {
        let now = Instant::now();
        let mut spent_until = self.spent_until.lock();
        if spent_until.is_some_and(|until| now < until) {
            return true;
        }
        let room = self.limit_bytes / 8;
        let is_spent = held_bytes(directory) >= self.limit_bytes - room;
        *spent_until = is_spent.then(|| now + SPENT_FOR);
        is_spent
    }

    fn yielded(&self) {
        *self.spent_until.lock() = Some(Instant::now() + YIELDED_FOR);
    }

    fn is_exceeded(&self, directory: &Directory) -> bool {
        held_bytes(directory) > self.limit_bytes
    }
}

fn held_bytes(directory: &Directory) -> u64 {
    let held = |track: &TrackWindow| track.window.look(|log| log.held_bytes());
    let all = ready(directory);
    let tracks = all.iter().flat_map(|broadcast| &broadcast.tracks);
    tracks.map(|track| held(track)).sum()
}

fn ready(directory: &Directory) -> Vec<Arc<Broadcast>> {
    let channels = directory.snapshot().into_iter();
    let ready = channels.filter_map(|channel| match channel.stage {
        Stage::Ready(broadcast) => Some(broadcast),
        Stage::Starting => None,
    });
    ready.collect()
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
    async fn keep_within_budget(&self) {
        if !self.windows.is_exceeded(&self.directory) {
            return;
        }
        for broadcast in ready(&self.directory) {
            let recent_ms = broadcast.plan.target_duration_ms();
            for track in &broadcast.tracks {
                self.keep_past(&broadcast, track, recent_ms).await;
            }
        }
        if self.windows.is_exceeded(&self.directory) {
            self.windows.yielded();
            for usage in self.youngest() {
                self.metrics.yielded_tracks.inc();
                usage.yields.notify_one();
            }
        }
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
    async fn a_spent_budget_is_looked_at_once_a_second() {
        let directory = Directory::default();
        let mut studio = Studio::new(plan(4), vec![audio(), video()]);
        studio.announce(&directory);
        let budget = WindowBudget::new(1_000);
        assert!(!budget.is_spent(&directory));
        studio.open(V, 100);
        studio.chunk(V, Bytes::from(vec![7; 874]));
        assert!(!budget.is_spent(&directory));
        studio.chunk(V, Bytes::from(vec![7; 126]));
        assert!(budget.is_spent(&directory) && !budget.is_exceeded(&directory));
        studio.chunk(V, "x");
        assert!(budget.is_exceeded(&directory));
        directory.remove(&studio.broadcast.channel, studio.broadcast.id);
        assert!(budget.is_spent(&directory));
        tokio::time::advance(SPENT_FOR).await;
        assert!(!budget.is_spent(&directory));
        budget.yielded();
        tokio::time::advance(YIELDED_FOR - Duration::from_millis(1)).await;
        assert!(budget.is_spent(&directory));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!budget.is_spent(&directory));
    }
}
