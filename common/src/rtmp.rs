//! RTMP without I/O: what a publisher and a server say to each other.
//!
//! Comes in: bytes, cut anywhere, and the time; goes out: events for the owner
//! and bytes for the peer. [`ServerSession`] is one publisher's connection as
//! the origin sees it, [`ClientSession`] the publishing side that the load
//! generator drives. Each is owned by the task that owns the socket.
//!
//! Invariants: no bytes of a peer can panic this code; what one connection
//! holds stays within [`limits`]; the same bytes give the same events however
//! they are cut; `NetStream.Publish.Start` is never sent before the owner has
//! called [`ServerSession::accept_publish`].
//!
//! RTMP's own "chunk" (a slice of a message) stays inside this module.
//! Spec: Adobe RTMP 1.0 (2012), AMF 0, Enhanced RTMP v2 for `connect`.

pub mod amf0;
mod chunk;
mod client;
pub mod enhanced;
mod error;
#[cfg(test)]
mod fixture_tests;
mod handshake;
pub mod limits;
mod message;
mod server;
mod suspended;
mod wire;

pub use client::{ClientConfig, ClientEvent, ClientSession};
pub use error::{ErrorKind, RtmpError};
pub use server::{ConnectRequest, MediaMessage, PublishRequest, ServerEvent, ServerSession};
pub use suspended::Suspended;

/// What a media message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// An FLV audio tag body (message type 8).
    Audio,
    /// An FLV video tag body (message type 9).
    Video,
    /// AMF0 that is not `onMetaData` (message types 15 and 18).
    Data,
}
