//! Who reads a room, as its children and, on a bus, other origins tell: summed at
//! most once a second, and at least as often as what was told grows old. The sum is
//! what the channel list shows, everywhere.

use std::sync::Arc;

use common::{
    chat::{
        Counts, Presence, Present,
        presence::{PACE, TELL_AGAIN},
    },
    live::{Audience, Crowd},
    names::{ChannelName, NodeId},
    tls::Role,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::metrics::ChatMetrics;

/// Where a room's sum is shown: this node's word on one channel.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) audience: Arc<Audience>,
    pub(super) node: NodeId,
    pub(super) room: ChannelName,
}

impl Tally {
    fn show(&self, counts: Counts) {
        let crowd = Crowd {
            viewers: counts.viewers,
            chatters: counts.chatters,
        };
        let said = [(self.room.clone(), crowd)];
        self.audience.tell(&self.node, Role::Origin, said);
    }
}

/// See the module's text. Held by the room's task.
pub(super) struct Counted {
    metrics: ChatMetrics,
    tally: Tally,
    /// What children tell; what they are told.
    presence: Arc<Presence>,
    /// What other origins tell of theirs.
    others: Presence,
    names: bool,
    summed: Instant,
    /// Something changed; when it is summed.
    due: Option<Instant>,
    /// Of this origin's children, as the metrics have it.
    own: Counts,
    /// What other origins were told of them, and when.
    told: Option<(Present, Instant)>,
}

impl Counted {
    /// `names`: whether the room tells who is there.
    pub(super) fn new(metrics: ChatMetrics, tally: Tally, names: bool) -> Self {
        metrics.rooms.inc();
        Self {
            metrics,
            tally,
            presence: Arc::default(),
            others: Presence::default(),
            names,
            summed: Instant::now(),
            due: None,
            own: Counts::default(),
            told: None,
        }
    }

    pub(super) const fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    pub(super) const fn others(&self) -> &Presence {
        &self.others
    }

    /// Resolves when it is time to sum. Cancel-safe.
    pub(super) async fn due(&mut self) {
        if self.due.is_none() {
            let old = self.summed + TELL_AGAIN;
            let changed = async {
                tokio::select! {
                    () = self.presence.changed() => {}
                    () = self.others.changed() => {}
                }
            };
            // What nobody tells any more is forgotten without a word.
            let _ = timeout_at(old, changed).await;
            self.due = Some(Instant::now().max(self.summed + PACE));
        }
        if let Some(due) = self.due {
            sleep_until(due).await;
        }
    }

    /// Sums, and tells the children. What other origins are to be told of them, when
    /// that is another or long ago.
    pub(super) fn recount(&mut self) -> Option<Present> {
        let now = Instant::now();
        self.due = None;
        self.summed = now;
        let own = self.presence.sum(Present {
            counts: Counts::default(),
            names: self.names.then(Arc::default),
        });
        self.measure(own.counts);
        let all = self.others.sum(own.clone());
        self.tally.show(all.counts);
        self.presence.set_total(all);
        let fresh = |told: &(Present, Instant)| told.0 == own && now < told.1 + TELL_AGAIN;
        if self.told.as_ref().is_some_and(fresh) {
            return None;
        }
        self.told = Some((own.clone(), now));
        Some(own)
    }

    fn measure(&mut self, now: Counts) {
        let before = std::mem::replace(&mut self.own, now);
        let metrics = &self.metrics;
        for (gauge, now, before) in [
            (&metrics.readers, now.readers, before.readers),
            (&metrics.chatters, now.chatters, before.chatters),
            (&metrics.viewers, now.viewers, before.viewers),
        ] {
            gauge.add(i64::from(now) - i64::from(before));
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.rooms.dec();
        self.tally.show(Counts::default());
        self.measure(Counts::default());
    }
}
