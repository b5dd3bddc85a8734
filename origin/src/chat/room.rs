//! The task of one room: takes wishes one by one, lets [`Clue`] decide, has the
//! changes written, then tells the feed and the asker, in that order. It ends when
//! nobody holds its mailbox any more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::{
    chat::{Asked, Counts, Feed, MessageId, Notice, NoticeId, Request, Verdict, request::Ask},
    names::NodeId,
};
use tokio::{
    sync::mpsc,
    time::{Instant, interval},
};
use tracing::{debug, error};

use super::{
    clue::{Clue, Decision},
    metrics::ChatMetrics,
    rooms::{Clock, Shared},
};

/// A child that did not say so again reads no more.
const COUNTS_FOR: Duration = Duration::from_secs(45);

/// Children that count a room's readers.
const MAX_COUNTED: usize = 1_024;

pub(super) struct Room {
    pub(super) shared: Arc<Shared>,
    pub(super) feed: Arc<Feed>,
    pub(super) clue: Clue,
    pub(super) asks: mpsc::Receiver<Asked>,
    pub(super) counted: Counted,
}

impl Room {
    pub(super) async fn run(mut self) {
        let mut sweep = interval(COUNTS_FOR / 3);
        loop {
            tokio::select! {
                asked = self.asks.recv() => match asked {
                    Some(Asked::Request { from, request, reply }) => {
                        let verdict = self.decide(&from, &request).await;
                        reply.send((request.id, verdict));
                    }
                    Some(Asked::Counts { from, counts }) => self.counted.tell(from, counts),
                    None => return,
                },
                _ = sweep.tick() => self.counted.forget(),
            }
        }
    }

    async fn decide(&mut self, from: &NodeId, request: &Request) -> Verdict {
        let clock: Clock = self.shared.clock;
        let Decision {
            verdict,
            events,
            changes,
        } = self.clue.decide(clock(), request);
        if !changes.is_empty() {
            let (shared, room) = (self.shared.clone(), self.feed.room.clone());
            let written = tokio::task::spawn_blocking(move || shared.store.apply(&room, &changes));
            // What can't be written holds until the restart, which beats a room that
            // nobody can moderate; the log and a metric tell.
            match written.await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => self.not_written(&why.to_string()),
                Err(why) => self.not_written(&why.to_string()),
            }
        }
        for event in events {
            self.feed.append(event);
        }
        self.count(from, request.id, &request.ask, &verdict);
        verdict
    }

    fn not_written(&self, why: &str) {
        self.shared.metrics.store_errors.inc();
        error!(room = %self.feed.room, why, "a decision was not written to the chat store");
    }

    fn count(&self, from: &NodeId, id: MessageId, ask: &Ask, verdict: &Verdict) {
        let metrics = &self.shared.metrics;
        match (verdict, ask) {
            (Verdict::Refused(Notice { id: why, .. }), _) => {
                let reason: NoticeId = *why;
                metrics.refused.with_label_values(&[reason.as_str()]).inc();
                debug!(room = %self.feed.room, node = %from, %id, reason = reason.as_str(), "refused");
            }
            (_, Ask::Say { .. }) => metrics.messages.inc(),
            (_, Ask::Do(_)) => metrics.moderations.inc(),
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

    fn forget(&mut self) {
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
