//! The RTMP server: publishers' sockets in, publishes out.
//!
//! Comes in: TCP and TLS connections; goes out: one [`Publish`] for each
//! authorised publish, with its media behind a bounded queue. The owner of the
//! `Publish` queue is the broadcast side of the origin: it decides which of two
//! publishes of a channel goes on and closes the other with
//! [`CloseHandle::close`].
//!
//! Each connection is one task round one [`common::rtmp::ServerSession`]. A full
//! queue stops that task from reading its own socket and nothing else. What a
//! stranger can fill is bounded by [`common::rtmp::limits`], by the flags of
//! [`RtmpConfig`] and by the constants of `connection`.
//!
//! Invariants: `NetStream.Publish.Start` is sent only after the key was found
//! and the `Publish` was handed on; keys are never logged.

mod admission;
mod config;
mod connection;
mod hand_over;
mod metrics;
mod queue;
mod right;
mod server;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use bytes::Bytes;
use common::names::ChannelName;
use common::rtmp::MediaKind;
use common::rtmp::amf0::Properties;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use config::RtmpConfig;
pub use hand_over::{HandOver, HandOverConfig, Handed, HandedOver};
pub use metrics::RtmpMetrics;
pub use queue::{Closed, EventSender, Events, PUBLISH_QUEUE, QUEUE_BUDGET_BYTES, queue};
pub use server::{RtmpServer, RtmpServerError};

/// An authorised publish. Dropping `events` disconnects the publisher.
#[derive(Debug)]
pub struct Publish {
    /// The channel that the key owns.
    pub channel: ChannelName,
    /// Where the publisher connects from.
    pub peer: SocketAddr,
    /// All that it sends, in order. [`PublishEvent::Ended`] is the last; a queue
    /// that ends without it belongs to a connection that vanished.
    pub events: Events,
    /// Ends it from our side.
    pub close: CloseHandle,
}

/// What a publisher sends.
#[derive(Debug, Clone, PartialEq)]
pub enum PublishEvent {
    /// `onMetaData`, as often as the publisher sends it.
    Metadata(Properties),
    /// An FLV tag body.
    Media {
        /// Audio, video or other data.
        kind: MediaKind,
        /// As sent: milliseconds that wrap at 2^32 and may go back.
        timestamp_ms: u32,
        /// The tag body.
        payload: Bytes,
        /// When its last byte was read from the socket.
        received: Instant,
    },
    /// Nothing follows.
    Ended(EndReason),
}

/// Why a publish has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The publisher said so: deleteStream, closeStream, FCUnpublish.
    Unpublished,
    /// The connection was closed, reset or timed out.
    Disconnected,
    /// The publisher broke the protocol or fell silent.
    Protocol(String),
    /// [`CloseHandle::close`], with its reason.
    Closed(String),
    /// This process is shutting down.
    Shutdown,
    /// The next process goes on with it.
    HandedOver,
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unpublished => f.write_str("unpublished"),
            Self::Disconnected => f.write_str("disconnected"),
            Self::Protocol(error) => write!(f, "protocol error: {error}"),
            Self::Closed(reason) => write!(f, "closed: {reason}"),
            Self::Shutdown => f.write_str("shutting down"),
            Self::HandedOver => f.write_str("handed over to the next process"),
        }
    }
}

/// Ends a publish with words for the publisher.
#[derive(Debug, Clone)]
pub struct CloseHandle(mpsc::Sender<String>);

impl CloseHandle {
    /// Sends the publisher an error status with `reason` and disconnects it. The
    /// first call counts; a publish that has ended already takes no harm.
    pub fn close(&self, reason: impl Into<String>) {
        let _ = self.0.try_send(reason.into());
    }

    /// A handle and the end that a connection listens to, for tests of owners.
    pub fn channel() -> (Self, mpsc::Receiver<String>) {
        // One: only the first reason is ever used.
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }
}
