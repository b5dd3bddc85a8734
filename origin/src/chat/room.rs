//! The task of one room whose decisions lie in this origin's file. It ends when
//! nobody holds its mailbox any more.

use std::{collections::HashMap, time::Duration};

use common::{
    chat::{Asked, Counts},
    names::NodeId,
};
use tokio::{
    sync::mpsc,
    time::{Instant, interval},
};

use super::{
    desk::{AT_ONCE, Desk, Wish},
    metrics::ChatMetrics,
};

/// A child that did not say so again reads no more.
const COUNTS_FOR: Duration = Duration::from_secs(45);

/// How often that is looked at.
pub(super) const SWEEP: Duration = Duration::from_secs(15);

/// Children that count a room's readers.
const MAX_COUNTED: usize = 1_024;

pub(super) struct Room {
    pub(super) desk: Desk,
    pub(super) asks: mpsc::Receiver<Asked>,
    pub(super) counted: Counted,
}

impl Room {
    pub(super) async fn run(mut self) {
        let mut sweep = interval(SWEEP);
        let mut asked = Vec::with_capacity(AT_ONCE);
        loop {
            tokio::select! {
                count = self.asks.recv_many(&mut asked, AT_ONCE) => if count == 0 {
                    return;
                },
                _ = sweep.tick() => self.counted.forget(),
            }
            let wishes = self.counted.without_counts(&mut asked);
            // A file's room is nobody else's.
            let _ = self.desk.decide(wishes).await;
        }
    }
}

/// Readers by child, each forgotten after [`COUNTS_FOR`].
pub(super) struct Counted {
    metrics: ChatMetrics,
    by_child: HashMap<NodeId, (Counts, Instant)>,
}

impl Counted {
    pub(super) fn new(metrics: ChatMetrics) -> Self {
        metrics.rooms.inc();
        Self {
            metrics,
            by_child: HashMap::new(),
        }
    }

    /// Takes the counts out of what was asked; the wishes.
    pub(super) fn without_counts(&mut self, asked: &mut Vec<Asked>) -> Vec<Wish> {
        let wishes = asked.drain(..).filter_map(|asked| match Wish::asked(asked) {
            Ok(wish) => Some(wish),
            Err(Asked::Counts { from, counts }) => {
                self.tell(from, counts);
                None
            }
            Err(Asked::Request { .. }) => None,
        });
        wishes.collect()
    }

    fn tell(&mut self, from: NodeId, counts: Counts) {
        if self.by_child.len() >= MAX_COUNTED && !self.by_child.contains_key(&from) {
            return;
        }
        let before = self.by_child.insert(from, (counts, Instant::now()));
        let before = before.map_or(0, |(counts, _)| counts.readers);
        self.metrics
            .readers
            .add(i64::from(counts.readers) - i64::from(before));
    }

    pub(super) fn forget(&mut self) {
        let readers = &self.metrics.readers;
        self.by_child.retain(|_, (counts, told)| {
            let fresh = told.elapsed() < COUNTS_FOR;
            if !fresh {
                readers.sub(counts.readers.into());
            }
            fresh
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.rooms.dec();
        let all: i64 = self
            .by_child
            .values()
            .map(|(counts, _)| i64::from(counts.readers))
            .sum();
        self.metrics.readers.sub(all);
    }
}
