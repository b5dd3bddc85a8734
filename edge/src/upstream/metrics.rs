//! What an edge counts of its pulling.

use common::telemetry::metrics::{int_counter, int_counter_vec, int_gauge};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

/// One for the process.
#[derive(Debug, Clone)]
pub struct UpstreamMetrics {
    pub(super) connected: IntGauge,
    pub(super) connects: IntCounterVec,
    pub(super) subscriptions: IntGauge,
    pub(super) subscribed: IntCounter,
    pub(super) received_bytes: IntCounter,
    pub(super) dropped_segments: IntCounter,
    pub(super) resumed: IntCounter,
    pub(super) fetches: IntCounterVec,
    pub(super) refused_channels: IntCounter,
    pub(super) refused_tracks: IntCounter,
}

impl UpstreamMetrics {
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        Self {
            connected: int_gauge(
                registry,
                "millrace_upstream_connected",
                "1 while a parent is connected, 0 otherwise.",
            ),
            connects: int_counter_vec(
                registry,
                "millrace_upstream_connects_total",
                "Attempts to connect to a parent, by how they went.",
                &["outcome"],
            ),
            subscriptions: int_gauge(
                registry,
                "millrace_upstream_subscriptions",
                "Tracks that this edge follows now.",
            ),
            subscribed: int_counter(
                registry,
                "millrace_upstream_subscribed_total",
                "Subscriptions to tracks sent to parents, resumptions included.",
            ),
            received_bytes: int_counter(
                registry,
                "millrace_upstream_received_bytes_total",
                "Bytes of chunks taken from parents by subscription.",
            ),
            dropped_segments: int_counter(
                registry,
                "millrace_upstream_segments_dropped_total",
                "Segments that a parent did not send because this edge was too slow.",
            ),
            resumed: int_counter(
                registry,
                "millrace_upstream_resumed_total",
                "Subscriptions that were cut off and taken up again.",
            ),
            fetches: int_counter_vec(
                registry,
                "millrace_upstream_fetches_total",
                "Segments of the past asked of parents, by how it went.",
                &["outcome"],
            ),
            refused_tracks: int_counter(
                registry,
                "millrace_upstream_tracks_refused_total",
                "Times that a track was not followed because windows hold --window-bytes.",
            ),
            refused_channels: int_counter(
                registry,
                "millrace_upstream_channels_refused_total",
                "Announcements passed over because they loop back here or are too many.",
            ),
        }
    }
}

/// One more for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted(IntGauge);

impl Counted {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
