//! The bytes that all windows of this edge may hold together. At the limit no
//! further track is followed: who watches one that is goes on.

use std::time::Duration;

use common::live::{Directory, Stage};
use parking_lot::Mutex;
use tokio::time::Instant;

/// A crowd that asks for more than there is room for has windows counted no more
/// often than this.
const SPENT_FOR: Duration = Duration::from_secs(1);

/// See the module's text.
#[derive(Debug)]
pub(super) struct WindowBudget {
    limit_bytes: u64,
    /// When it was last found spent.
    spent: Mutex<Option<Instant>>,
}

impl WindowBudget {
    pub(super) const fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            spent: Mutex::new(None),
        }
    }

    pub(super) fn is_spent(&self, directory: &Directory) -> bool {
        let mut spent = self.spent.lock();
        if spent.is_some_and(|at| at.elapsed() < SPENT_FOR) {
            return true;
        }
        let is_spent = held_bytes(directory) >= self.limit_bytes;
        *spent = is_spent.then(Instant::now);
        is_spent
    }
}

fn held_bytes(directory: &Directory) -> u64 {
    let channels = directory.snapshot();
    let ready = channels.iter().filter_map(|channel| match &channel.stage {
        Stage::Ready(broadcast) => Some(broadcast),
        Stage::Starting => None,
    });
    ready
        .flat_map(|broadcast| &broadcast.tracks)
        .map(|track| track.window.look(|log| log.held_bytes()))
        .sum()
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
        studio.chunk(V, Bytes::from(vec![7; 1_000]));
        assert!(budget.is_spent(&directory));
        directory.remove(&studio.broadcast.channel, studio.broadcast.id);
        assert!(budget.is_spent(&directory));
        tokio::time::advance(SPENT_FOR).await;
        assert!(!budget.is_spent(&directory));
    }
}
