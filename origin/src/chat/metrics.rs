//! What an origin counts of its rooms. No label grows with rooms or users.

use common::telemetry::metrics::{int_counter, int_counter_vec, int_gauge};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

/// Shared by all rooms.
#[derive(Debug, Clone)]
pub struct ChatMetrics {
    pub(super) rooms: IntGauge,
    pub(super) readers: IntGauge,
    pub(super) chatters: IntGauge,
    pub(super) viewers: IntGauge,
    pub(super) messages: IntCounter,
    pub(super) moderations: IntCounter,
    pub(super) refused: IntCounterVec,
    pub(super) rooms_refused: IntCounterVec,
    pub(super) store_errors: IntCounter,
    pub(super) held: IntGauge,
    pub(super) held_total: IntCounterVec,
    pub(super) log_bytes: IntGauge,
    pub(super) log_dropped: IntCounter,
    pub(super) log_errors: IntCounter,
    pub(super) api: IntCounterVec,
}

impl ChatMetrics {
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        Self {
            rooms: int_gauge(
                registry,
                "millrace_chat_rooms",
                "Rooms whose actor runs here.",
            ),
            readers: int_gauge(
                registry,
                "millrace_chat_readers",
                "Connections that read these rooms, as edges last told.",
            ),
            chatters: int_gauge(
                registry,
                "millrace_chat_chatters",
                "Connections that may write in these rooms, as edges last told.",
            ),
            viewers: int_gauge(
                registry,
                "millrace_chat_viewers",
                "Viewers of these rooms' channels, as edges last told.",
            ),
            messages: int_counter(
                registry,
                "millrace_chat_messages_total",
                "Messages that were said in these rooms.",
            ),
            moderations: int_counter(
                registry,
                "millrace_chat_moderations_total",
                "Commands of moderators that were carried out.",
            ),
            refused: int_counter_vec(
                registry,
                "millrace_chat_refused_total",
                "Messages and commands refused, by the msg-id that their author was told.",
                &["reason"],
            ),
            rooms_refused: int_counter_vec(
                registry,
                "millrace_chat_rooms_refused_total",
                "Rooms that were asked for and not opened, by reason.",
                &["reason"],
            ),
            store_errors: int_counter(
                registry,
                "millrace_chat_store_errors_total",
                "Reads and writes of the chat store that failed.",
            ),
            held: int_gauge(
                registry,
                "millrace_chat_held_messages",
                "Messages that wait for a moderator.",
            ),
            held_total: int_counter_vec(
                registry,
                "millrace_chat_held_messages_total",
                "Messages that were to be looked at first, by outcome: held, approved, denied, expired, turned_away where too many waited.",
                &["outcome"],
            ),
            log_bytes: int_gauge(
                registry,
                "millrace_chat_log_bytes",
                "What the files of --chat-log take.",
            ),
            log_dropped: int_counter(
                registry,
                "millrace_chat_log_dropped_files_total",
                "Files of --chat-log that were deleted because there was too much.",
            ),
            log_errors: int_counter(
                registry,
                "millrace_chat_log_errors_total",
                "Writes to files of --chat-log that failed.",
            ),
            api: int_counter_vec(
                registry,
                "millrace_chat_api_requests_total",
                "Requests to the chat interface of the ops port, by status.",
                &["status"],
            ),
        }
    }
}
