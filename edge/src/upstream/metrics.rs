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
    pub(super) ingests: IntGauge,
    pub(super) refused_ingests: IntCounter,
    pub(super) rivals: IntCounterVec,
    pub(super) moved: IntCounter,
    pub(super) duplicate_bytes: IntCounter,
    cache_bytes: IntGauge,
    pub(super) refused_tracks: IntCounter,
    pub(super) yielded_tracks: IntCounter,
}

impl UpstreamMetrics {
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        Self {
            connected: int_gauge(
                registry,
                "millrace_upstream_connected",
                "Parents that are connected now.",
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
            yielded_tracks: int_counter(
                registry,
                "millrace_upstream_tracks_yielded_total",
                "Tracks that were let go, the last channel's first, because windows held more than --window-bytes.",
            ),
            refused_channels: int_counter(
                registry,
                "millrace_upstream_channels_refused_total",
                "Announcements passed over because they loop back here or are too many.",
            ),
            ingests: int_gauge(
                registry,
                "millrace_upstream_ingests",
                "Places to publish to that parents tell of, those out of reach included.",
            ),
            refused_ingests: int_counter(
                registry,
                "millrace_upstream_ingests_refused_total",
                "Places to publish to passed over because they loop back here, are too many or make no sense.",
            ),
            rivals: int_counter_vec(
                registry,
                "millrace_upstream_rivals_total",
                "Times that a second parent was asked for a track, because the first was silent or another is better.",
                &["why"],
            ),
            moved: int_counter(
                registry,
                "millrace_upstream_moved_total",
                "Times that a track went on with another parent.",
            ),
            duplicate_bytes: int_counter(
                registry,
                "millrace_upstream_duplicate_bytes_total",
                "Bytes of chunks that two parents brought, and one was passed over.",
            ),
            cache_bytes: int_gauge(
                registry,
                "millrace_cache_bytes",
                "Bytes of segments that are in no window any more, kept within --cache-bytes.",
            ),
        }
    }

    pub(super) fn tell_cache(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.cache_bytes.set(bytes);
    }
}
