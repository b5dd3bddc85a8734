//! Messages of a room that wait for a moderator, as the metrics tell it.

use common::chat::{NoticeId, Verdict};

use super::{clue::HeldCounts, metrics::ChatMetrics};

/// See the module's text.
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

    pub(super) fn decided(&self, held: bool, verdict: &Verdict) {
        let outcome = match verdict {
            Verdict::Done(notice) if notice.id == NoticeId::HeldApproved => "approved",
            Verdict::Done(notice) if notice.id == NoticeId::HeldDenied => "denied",
            _ if held => "held",
            _ => return,
        };
        self.outcome(outcome, 1);
    }

    pub(super) fn count(&mut self, now: HeldCounts) {
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
