//! What the viewers' side counts. No label grows with viewers or channels.

use common::telemetry::metrics::{int_counter, int_counter_vec, int_gauge};
use hyper::StatusCode;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteClass {
    Multivariant,
    Media,
    Part,
    Segment,
    Init,
    Manifest,
    Stream,
    Api,
    Page,
    Other,
}

/// Why a stranger was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    Connections,
    Address,
    HeldByConnection,
    HeldInAll,
    HeaderDeadline,
    Idle,
    UriLength,
    RequestBody,
    Method,
    Handshake,
    HeaderLength,
    SlowReader,
    Resets,
    QueuedByConnection,
    QueuedInAll,
    Descriptors,
    Streams,
    Host,
    Malformed,
}

/// Handles on the registered metrics; clones share them.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: [[IntCounter; CLASSES]; ROUTES.len()],
    rejected: [IntCounter; REASONS.len()],
    pub sent_bytes: IntCounter,
    pub connections: IntGauge,
    pub connections_accepted: IntCounter,
    pub held: IntGauge,
    pub queued_bytes: IntGauge,
    pub playlist_renders: IntCounter,
    pub channel_lists: IntCounter,
    pub slow_viewers: IntCounter,
    pub accept_errors: IntCounter,
    pub counted_viewers: IntGauge,
    pub uncounted_viewers: IntCounter,
    pub streams: IntGauge,
    pub stream_skips: IntCounter,
    pub streams_expired: IntCounter,
}

const ROUTES: [&str; 10] = [
    "multivariant",
    "media",
    "part",
    "segment",
    "init",
    "manifest",
    "stream",
    "api",
    "page",
    "other",
];
/// 2xx to 5xx.
const CLASSES: usize = 4;
const STATUS: [&str; CLASSES] = ["2xx", "3xx", "4xx", "5xx"];
const REASONS: [&str; 19] = [
    "connections",
    "connections_of_address",
    "held_by_connection",
    "held_in_all",
    "header_deadline",
    "idle",
    "uri_length",
    "request_body",
    "method",
    "handshake",
    "header_length",
    "slow_reader",
    "resets",
    "queued_by_connection",
    "queued_in_all",
    "descriptors",
    "streams",
    "host",
    "malformed",
];

impl HttpMetrics {
    /// Registers all of it.
    ///
    /// # Panics
    /// When called twice on one registry.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let requests: IntCounterVec = int_counter_vec(
            registry,
            "millrace_http_requests_total",
            "Requests of viewers that were answered.",
            &["route", "status"],
        );
        let rejected: IntCounterVec = int_counter_vec(
            registry,
            "millrace_http_rejected_total",
            "Connections and requests of viewers that met a limit.",
            &["reason"],
        );
        let counter = |name: &str, help: &str| int_counter(registry, name, help);
        let gauge = |name: &str, help: &str| int_gauge(registry, name, help);
        Self {
            requests: ROUTES
                .map(|route| STATUS.map(|status| requests.with_label_values(&[route, status]))),
            rejected: REASONS.map(|reason| rejected.with_label_values(&[reason])),
            sent_bytes: counter(
                "millrace_http_sent_bytes_total",
                "Bytes written to viewers' sockets.",
            ),
            connections: gauge(
                "millrace_http_connections",
                "Connections of viewers open now.",
            ),
            connections_accepted: counter(
                "millrace_http_connections_total",
                "Connections of viewers accepted.",
            ),
            held: gauge(
                "millrace_http_held_requests",
                "Requests that wait for media now.",
            ),
            queued_bytes: gauge(
                "millrace_http_queued_bytes",
                "Bytes of answers from 16 KiB on that viewers have not read yet, each viewer's counted alone.",
            ),
            playlist_renders: counter(
                "millrace_http_playlist_renders_total",
                "Playlists rendered; each serves all viewers of its version.",
            ),
            channel_lists: counter(
                "millrace_http_channel_lists_total",
                "Times that the list of channels was made, once a second at most; each serves all who ask.",
            ),
            slow_viewers: counter(
                "millrace_http_slow_viewers_total",
                "Connections dropped because the viewer stopped reading.",
            ),
            accept_errors: counter(
                "millrace_http_accept_errors_total",
                "Failed accepts, for example for want of descriptors.",
            ),
            counted_viewers: gauge(
                "millrace_http_counted_viewers",
                "Distinct viewers that asked for a playlist within 10 s.",
            ),
            uncounted_viewers: counter(
                "millrace_http_uncounted_viewers_total",
                "Times that a viewer was not counted because its address, or all together, had as many as are counted.",
            ),
            streams: gauge(
                "millrace_http_streams",
                "Endless streams (stream.mp4) open now.",
            ),
            stream_skips: counter(
                "millrace_http_stream_skips_total",
                "Times that an endless stream left media out because its viewer was behind.",
            ),
            streams_expired: counter(
                "millrace_http_streams_expired_total",
                "Endless streams that ended because their viewer's token did.",
            ),
        }
    }

    pub(super) fn answered(&self, route: RouteClass, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        if let Some(counter) = self
            .requests
            .get(route as usize)
            .and_then(|by_status| by_status.get(class))
        {
            counter.inc();
        }
    }

    pub(super) fn rejected(&self, why: Rejected) {
        if let Some(counter) = self.rejected.get(why as usize) {
            counter.inc();
        }
    }

    #[cfg(test)]
    pub(super) fn rejections(&self, why: Rejected) -> u64 {
        self.rejected[why as usize].get()
    }
}
