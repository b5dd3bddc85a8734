//! What the broadcasts of an origin tell its operator: sums over all channels.

use common::telemetry::metrics;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

/// One in a gauge for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted(IntGauge);

impl Counted {
    pub(super) fn one(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
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
