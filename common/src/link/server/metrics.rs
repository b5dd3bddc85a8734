//! What a parent counts of its links.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use crate::{
    link::message::Code,
    telemetry::metrics::{int_counter, int_counter_vec, int_gauge},
};

/// Shared by all connections of one server.
#[derive(Debug, Clone)]
pub struct LinkServerMetrics {
    pub(super) connections: IntGauge,
    pub(super) subscriptions: IntGauge,
    pub(super) fetches: IntCounter,
    pub(super) sent_bytes: IntCounter,
    pub(super) dropped_segments: IntCounter,
    pub(super) chat_rooms: IntGauge,
    pub(super) chat_asks: IntCounter,
    pub(super) chat_unreadable: IntCounter,
    refused: IntCounterVec,
}

impl LinkServerMetrics {
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        Self {
            connections: int_gauge(
                registry,
                "millrace_link_children",
                "Nodes connected that pull from this one.",
            ),
            subscriptions: int_gauge(
                registry,
                "millrace_link_subscriptions",
                "Subscriptions that children hold here.",
            ),
            fetches: int_counter(
                registry,
                "millrace_link_fetches_total",
                "Segments of the past that children asked for.",
            ),
            sent_bytes: int_counter(
                registry,
                "millrace_link_sent_bytes_total",
                "Bytes of segments written towards children, headers included.",
            ),
            dropped_segments: int_counter(
                registry,
                "millrace_link_segments_dropped_total",
                "Segments that a child was too slow to be sent.",
            ),
            chat_rooms: int_gauge(
                registry,
                "millrace_link_chat_rooms",
                "Rooms of chat that children read here, once for each child.",
            ),
            chat_asks: int_counter(
                registry,
                "millrace_link_chat_asks_total",
                "Wishes of users that children passed on to rooms here.",
            ),
            chat_unreadable: int_counter(
                registry,
                "millrace_link_chat_unreadable_total",
                "Messages of chat that made no sense, from children: refused or passed over.",
            ),
            refused: int_counter_vec(
                registry,
                "millrace_link_refused_total",
                "Requests of children refused, by reason.",
                &["reason"],
            ),
        }
    }

    pub(super) fn refuse(&self, code: Code) {
        self.refused.with_label_values(&[code.as_str()]).inc();
    }
}
