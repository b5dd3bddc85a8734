//! What the RTMP server counts.

use common::rtmp::ErrorKind;
use common::telemetry::metrics;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::admission::Refusal;

/// Metrics of all RTMP connections. Cloning shares them.
#[derive(Clone, Debug)]
pub struct RtmpMetrics {
    /// Connections now open, RTMPS included.
    pub connections: IntGauge,
    /// Connections refused at the door, by reason.
    pub rejected: IntCounterVec,
    /// Bytes read from publishers, without TLS.
    pub received_bytes: IntCounter,
    /// Connections closed for what they sent or failed to send, by kind.
    pub protocol_errors: IntCounterVec,
    /// Publishes accepted.
    pub publishes: IntCounter,
    /// Publishes now running.
    pub publishing: IntGauge,
    /// Publishes refused for their key or application.
    pub auth_failures: IntCounter,
    /// Addresses whose wrong keys are counted, as of the last wrong key.
    pub wrong_key_addresses: IntGauge,
    /// Bytes held in unfinished messages, all connections together.
    pub partial_message_bytes: IntGauge,
    /// Bytes read and not yet packaged, all publishes together.
    pub queued_bytes: IntGauge,
}

impl RtmpMetrics {
    /// Registers all of them, each label's zero included.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let gauge = |name, help| metrics::int_gauge(registry, name, help);
        let counter = |name, help| metrics::int_counter(registry, name, help);
        let counters = |name, help, label, values: &[&str]| {
            let counters = metrics::int_counter_vec(registry, name, help, &[label]);
            for value in values {
                counters.with_label_values(&[*value]);
            }
            counters
        };
        Self {
            connections: gauge("millrace_rtmp_connections", "RTMP connections now open."),
            rejected: counters(
                "millrace_rtmp_connections_rejected_total",
                "RTMP connections refused before a byte was read.",
                "reason",
                &Refusal::ALL.map(Refusal::label),
            ),
            received_bytes: counter(
                "millrace_rtmp_received_bytes_total",
                "Bytes read from RTMP publishers.",
            ),
            protocol_errors: counters(
                "millrace_rtmp_protocol_errors_total",
                "RTMP connections closed for what they sent or failed to send.",
                "kind",
                &ErrorKind::LABELS,
            ),
            publishes: counter("millrace_rtmp_publishes_total", "RTMP publishes accepted."),
            publishing: gauge("millrace_rtmp_publishing", "RTMP publishes now running."),
            auth_failures: counter(
                "millrace_rtmp_auth_failures_total",
                "RTMP publishes refused for their key or application.",
            ),
            wrong_key_addresses: gauge(
                "millrace_rtmp_wrong_key_addresses",
                "Addresses whose wrong keys were counted when the last one came.",
            ),
            partial_message_bytes: gauge(
                "millrace_rtmp_partial_message_bytes",
                "Bytes held in unfinished RTMP messages.",
            ),
            queued_bytes: gauge(
                "millrace_rtmp_queued_bytes",
                "Bytes of publishes that wait for the packager.",
            ),
        }
    }
}
