//! What webhooks came to: sums over all of them.

use common::telemetry::metrics::{int_counter, int_counter_vec, int_gauge};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    pub(super) waiting: IntGauge,
    pub(super) failed_attempts: IntCounter,
    events: IntCounterVec,
}

impl WebhookMetrics {
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let events = int_counter_vec(
            registry,
            "millrace_webhook_events_total",
            "Events for webhooks, once for each URL, by what became of them: delivered, failed (given up) or dropped (no room).",
            &["outcome"],
        );
        for outcome in ["delivered", "failed", "dropped"] {
            events.with_label_values(&[outcome]);
        }
        Self {
            waiting: int_gauge(
                registry,
                "millrace_webhook_events_waiting",
                "Events that are being told to webhooks or wait for another try.",
            ),
            failed_attempts: int_counter(
                registry,
                "millrace_webhook_attempts_failed_total",
                "Requests to webhooks that were not answered 2xx in time.",
            ),
            events,
        }
    }

    pub(super) fn delivered(&self) {
        self.events.with_label_values(&["delivered"]).inc();
    }

    pub(super) fn gave_up(&self, count: usize) {
        let failed = self.events.with_label_values(&["failed"]);
        failed.inc_by(count as u64);
    }

    pub(super) fn dropped(&self) {
        self.events.with_label_values(&["dropped"]).inc();
    }

    /// Of that outcome, so far.
    #[cfg(test)]
    pub(super) fn count(&self, outcome: &str) -> u64 {
        self.events.with_label_values(&[outcome]).get()
    }
}
