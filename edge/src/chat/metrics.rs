//! What chat counts at an edge. No label grows with users or rooms.

use common::telemetry::metrics::{int_counter, int_counter_vec, int_gauge, int_gauge_vec};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{form::Framing, rooms::NoRoom};

/// Why a stranger's bytes or connection were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Too many connections in all.
    Connections,
    /// Too many of one address.
    Address,
    /// Not signed in, in time.
    Deadline,
    /// A token that is none of ours or of now.
    Token,
    /// No sign of life.
    Silent,
    /// Stopped reading.
    SlowReader,
    /// Fell off a room's past.
    Behind,
    /// More lines than anybody types.
    Flood,
    /// A frame that breaks WebSocket's rules.
    Frame,
    Utf8,
    TooLong,
    /// A page of another site.
    Origin,
    Handshake,
}

impl Broken {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Deadline => "deadline",
            Self::Token => "token",
            Self::Silent => "silent",
            Self::SlowReader => "slow_reader",
            Self::Behind => "behind",
            Self::Flood => "flood",
            Self::Frame => "frame",
            Self::Utf8 => "utf8",
            Self::TooLong => "too_long",
            Self::Origin => "origin",
            Self::Handshake => "handshake",
        }
    }
}

/// Shared by all of chat.
#[derive(Debug, Clone)]
pub struct ChatMetrics {
    connections: IntGaugeVec,
    pub(super) rooms: IntGauge,
    rooms_refused: IntCounterVec,
    pub(super) memberships: IntGauge,
    pub(super) linked: IntGauge,
    pub(super) pending: IntGauge,
    pub(super) events: IntCounter,
    pub(super) deliveries: IntCounter,
    pub(super) sent_bytes: IntCounter,
    pub(super) lines: IntCounter,
    pub(super) held_lines: IntCounter,
    pub(super) remembered: IntGauge,
    pub(super) forgotten: IntCounter,
    limited: IntCounterVec,
    pub(super) asks: IntCounter,
    pub(super) unanswered: IntCounter,
    pub(super) unreadable: IntCounter,
    closed: IntCounterVec,
}

impl ChatMetrics {
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        Self {
            connections: int_gauge_vec(
                registry,
                "millrace_chat_connections",
                "Chat connections, by framing.",
                &["framing"],
            ),
            rooms: int_gauge(
                registry,
                "millrace_chat_rooms",
                "Rooms that this edge reads.",
            ),
            rooms_refused: int_counter_vec(
                registry,
                "millrace_chat_rooms_refused_total",
                "Rooms that were asked for and not opened, by reason: full, off_air where only channels on air have places left, address where one opened too many, busy.",
                &["reason"],
            ),
            memberships: int_gauge(
                registry,
                "millrace_chat_memberships",
                "Rooms of all connections together, those of edges behind this one included.",
            ),
            linked: int_gauge(
                registry,
                "millrace_chat_linked",
                "1 while a parent carries chat, else 0.",
            ),
            pending: int_gauge(
                registry,
                "millrace_chat_pending_asks",
                "Messages and commands that wait for their room's verdict.",
            ),
            events: int_counter(
                registry,
                "millrace_chat_events_total",
                "Events of rooms that came over the link.",
            ),
            deliveries: int_counter(
                registry,
                "millrace_chat_deliveries_total",
                "Events handed to connections.",
            ),
            sent_bytes: int_counter(
                registry,
                "millrace_chat_sent_bytes_total",
                "Bytes written to chat connections, before TLS.",
            ),
            lines: int_counter(
                registry,
                "millrace_chat_lines_total",
                "Lines that clients sent.",
            ),
            held_lines: int_counter(
                registry,
                "millrace_chat_held_lines_total",
                "Lines of clients that waited until those had read earlier answers.",
            ),
            remembered: int_gauge(
                registry,
                "millrace_chat_limit_entries",
                "Users and addresses whose messages, joins and sign-ins are counted.",
            ),
            forgotten: int_counter(
                registry,
                "millrace_chat_limit_forgotten_total",
                "Users and addresses that were forgotten early, since more came than are counted at once.",
            ),
            limited: int_counter_vec(
                registry,
                "millrace_chat_limited_total",
                "Messages, joins and sign-ins refused by the limits of users and addresses.",
                &["what"],
            ),
            asks: int_counter(
                registry,
                "millrace_chat_asks_total",
                "Messages and commands passed on towards their rooms.",
            ),
            unanswered: int_counter(
                registry,
                "millrace_chat_unanswered_total",
                "Messages and commands that no room answered in time.",
            ),
            unreadable: int_counter(
                registry,
                "millrace_chat_unreadable_total",
                "Messages of parents about chat that made no sense and were passed over.",
            ),
            closed: int_counter_vec(
                registry,
                "millrace_chat_closed_total",
                "Chat connections refused or closed by this edge, by reason.",
                &["reason"],
            ),
        }
    }

    pub(super) fn limited(&self, what: &str) {
        self.limited.with_label_values(&[what]).inc();
    }

    pub(super) fn closed(&self, why: Broken) {
        self.closed.with_label_values(&[why.as_str()]).inc();
    }

    pub(super) fn no_room(&self, why: NoRoom) {
        self.rooms_refused.with_label_values(&[why.as_str()]).inc();
    }

    #[cfg(test)]
    pub(super) fn no_rooms(&self, why: NoRoom) -> u64 {
        self.rooms_refused.with_label_values(&[why.as_str()]).get()
    }

    #[cfg(test)]
    pub(super) fn limits(&self, what: &str) -> u64 {
        self.limited.with_label_values(&[what]).get()
    }

    #[cfg(test)]
    pub(super) fn closings(&self, why: Broken) -> u64 {
        self.closed.with_label_values(&[why.as_str()]).get()
    }

    pub(super) fn connections(&self, framing: Framing) -> IntGauge {
        self.connections.with_label_values(&[framing.as_str()])
    }
}
