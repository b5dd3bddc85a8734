//! The task of one room: takes wishes one by one, lets [`Clue`] decide, has the
//! changes written, then tells the feed and the asker, in that order. It ends when
//! nobody holds its mailbox any more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::{
    chat::{
        Asked, Body, Counts, Event, Feed, MessageId, Notice, NoticeId, Request, Verdict,
        request::Ask,
    },
    names::NodeId,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval},
};
use tracing::{debug, error};

use super::{
    clue::{Change, Clue, Decision, HeldCounts},
    metrics::ChatMetrics,
    policy::Policy,
    record::{RoomRecord, lines},
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
    pub(super) policy: watch::Receiver<Arc<Policy>>,
    pub(super) record: Option<Arc<RoomRecord>>,
    pub(super) waiting: Waiting,
}

impl Room {
    pub(super) async fn run(mut self) {
        let mut sweep = interval(COUNTS_FOR / 3);
        let policy = self.policy.borrow_and_update().clone();
        self.clue.begin_under(policy);
        self.feed.set_roles(false, self.clue.roles());
        loop {
            tokio::select! {
                Ok(()) = self.policy.changed() => self.govern(),
                asked = self.asks.recv() => match asked {
                    Some(Asked::Request { from, request, reply }) => {
                        let verdict = self.decide(&from, &request).await;
                        reply.send((request.id, verdict));
                    }
                    Some(Asked::Counts { from, counts }) => self.counted.tell(from, counts),
                    Some(Asked::Look { bans_after, most_bans, reply }) => {
                        let now = (self.shared.clock)();
                        let insight = self.clue.insight(now, bans_after.as_ref(), most_bans);
                        // Gone where the asker is.
                        let _ = reply.send(Box::new(insight));
                    }
                    None => return,
                },
                _ = sweep.tick() => {
                    self.counted.forget();
                    self.clue.tick((self.shared.clock)());
                    self.waiting.count(self.clue.held());
                }
            }
        }
    }

    /// The operator's word is another.
    fn govern(&mut self) {
        let policy = self.policy.borrow_and_update().clone();
        let clock: Clock = self.shared.clock;
        for event in self.clue.govern(clock(), policy) {
            self.feed.append(event);
        }
        self.feed.set_roles(false, self.clue.roles());
    }

    async fn decide(&mut self, from: &NodeId, request: &Request) -> Verdict {
        let clock: Clock = self.shared.clock;
        self.clue.watched_by(self.counted.readers());
        let Decision {
            verdict,
            events,
            changes,
        } = self.clue.decide(clock(), request);
        self.keep(changes).await;
        self.write_down(&events).await;
        let held = events
            .iter()
            .any(|event| matches!(event.body, Body::Held { .. }));
        for event in events {
            self.feed.append(event);
        }
        self.waiting.decided(held, &verdict);
        self.waiting.count(self.clue.held());
        self.count(from, request.id, &request.ask, &verdict);
        verdict
    }

    async fn keep(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
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

    /// What is said is in the room's file before anybody is told; a full disk stops
    /// nobody from talking.
    async fn write_down(&self, events: &[Event]) {
        let Some(record) = self.record.clone() else {
            return;
        };
        let lines = lines(events);
        if lines.is_empty() {
            return;
        }
        let now = (self.shared.clock)();
        let written = tokio::task::spawn_blocking(move || record.append(now, &lines)).await;
        let why = match written {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why.to_string(),
            Err(why) => why.to_string(),
        };
        self.shared.metrics.log_errors.inc();
        debug!(room = %self.feed.room, why, "a message was not written to the chat log");
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
            (_, Ask::Do(_) | Ask::Arrive { .. }) => metrics.moderations.inc(),
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

    /// As children last told.
    fn readers(&self) -> u32 {
        let readers = self.by_child.values().map(|(counts, _)| counts.readers);
        readers.fold(0, u32::saturating_add)
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

/// Messages of this room that wait for a moderator, as the metrics tell it.
pub(super) struct Waiting {
    metrics: ChatMetrics,
    counted: HeldCounts,
}

impl Waiting {
    pub(super) fn new(metrics: ChatMetrics) -> Self {
        Self {
            metrics,
            counted: HeldCounts::default(),
        }
    }

    fn decided(&self, held: bool, verdict: &Verdict) {
        let outcome = match verdict {
            Verdict::Done(notice) if notice.id == NoticeId::HeldApproved => "approved",
            Verdict::Done(notice) if notice.id == NoticeId::HeldDenied => "denied",
            _ if held => "held",
            _ => return,
        };
        self.outcome(outcome, 1);
    }

    fn count(&mut self, now: HeldCounts) {
        let before = std::mem::replace(&mut self.counted, now);
        let difference = |now: usize, before: usize| {
            i64::try_from(now).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX)
        };
        let waiting = &self.metrics.held;
        waiting.add(difference(now.waiting, before.waiting));
        self.outcome("expired", now.expired.saturating_sub(before.expired));
        self.outcome(
            "turned_away",
            now.turned_away.saturating_sub(before.turned_away),
        );
    }

    fn outcome(&self, outcome: &str, times: u64) {
        let outcomes = &self.metrics.held_total;
        outcomes.with_label_values(&[outcome]).inc_by(times);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.count(HeldCounts {
            waiting: 0,
            ..self.counted
        });
    }
}
