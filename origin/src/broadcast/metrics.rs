//! What the broadcasts of an origin tell its operator: sums over all channels.

use common::telemetry::metrics;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

/// A share of a gauge for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted {
    gauge: IntGauge,
    count: u64,
}

impl Counted {
    pub(super) fn none(gauge: &IntGauge) -> Self {
        Self {
            gauge: gauge.clone(),
            count: 0,
        }
    }

    pub(super) fn one(gauge: &IntGauge) -> Self {
        let mut counted = Self::none(gauge);
        counted.set(1);
        counted
    }

    pub(super) const fn get(&self) -> u64 {
        self.count
    }

    pub(super) fn set(&mut self, count: u64) {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.gauge.add(signed(count) - signed(self.count));
        self.count = count;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Counted by the channels' tasks.
#[derive(Debug, Clone)]
pub struct BroadcastMetrics {
    pub channels: IntGauge,
    pub live: IntGauge,
    pub lost: IntGauge,
    pub started: IntCounter,
    pub continued: IntCounter,
    pub ended: IntCounter,
    pub segments: IntCounter,
    pub parts: IntCounter,
    pub media_bytes: IntCounter,
    pub window_bytes: IntGauge,
    pub plan_waiting_bytes: IntGauge,
    pub journal_channels: IntGauge,
    pub dropped_samples: IntCounter,
    pub refused: IntCounterVec,
    pub journal_errors: IntCounter,
}

impl BroadcastMetrics {
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| metrics::int_counter(registry, name, help);
        let gauge = |name: &str, help: &str| metrics::int_gauge(registry, name, help);
        Self {
            channels: gauge(
                "millrace_channels",
                "Channels with a publisher, or with something left to show.",
            ),
            live: gauge("millrace_broadcasts_live", "Broadcasts with a publisher."),
            lost: gauge(
                "millrace_broadcasts_lost",
                "Broadcasts whose publisher may still come back.",
            ),
            started: counter(
                "millrace_broadcasts_started_total",
                "Broadcasts that began.",
            ),
            continued: counter(
                "millrace_broadcasts_continued_total",
                "Publishes that went on with the broadcast before them.",
            ),
            ended: counter("millrace_broadcasts_ended_total", "Broadcasts that ended."),
            segments: counter(
                "millrace_segments_total",
                "Segments completed, over all tracks.",
            ),
            parts: counter("millrace_parts_total", "Parts closed, over all tracks."),
            media_bytes: counter(
                "millrace_media_bytes_total",
                "Bytes of chunks made, over all tracks.",
            ),
            window_bytes: gauge(
                "millrace_window_bytes",
                "Bytes of media held for edges, over all broadcasts.",
            ),
            plan_waiting_bytes: gauge(
                "millrace_plan_waiting_bytes",
                "Bytes of samples that wait for their broadcast's plan.",
            ),
            journal_channels: gauge(
                "millrace_journal_channels",
                "Channels whose place is remembered.",
            ),
            dropped_samples: counter(
                "millrace_samples_dropped_total",
                "Samples that no segment could take: before a sync sample, or too late for their time.",
            ),
            refused: metrics::int_counter_vec(
                registry,
                "millrace_publishes_refused_total",
                "Publishes that were ended from this side, by reason.",
                &["reason"],
            ),
            journal_errors: counter(
                "millrace_journal_errors_total",
                "Journal pages that could not be written.",
            ),
        }
    }
}
