//! The bounds on everything a stranger's connection can make us hold.

use std::time::Duration;

/// Largest chunk size a peer may set; Set Chunk Size outside `1..=` this ends
/// the connection.
pub const MAX_CHUNK_SIZE: u32 = 65_536;
/// Chunk size both sides start with (RTMP 1.0, 5.4.1).
pub const DEFAULT_CHUNK_SIZE: u32 = 128;
/// Longest message of an authorised publisher. A 4K keyframe is under 2 MiB.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// Longest message before authorisation: connect with every E-RTMP property
/// is under 2 KiB.
pub const MAX_MESSAGE_BEFORE_PUBLISH_BYTES: usize = 32 << 10;
/// Longest command or data message at any time; metadata is a few KiB.
pub const MAX_COMMAND_BYTES: usize = 256 << 10;
/// Chunk stream ids one connection may use; senders use about six.
pub const MAX_CHUNK_STREAMS: usize = 64;
/// Bytes of unfinished messages of an authorised publisher, all chunk streams
/// together: one longest message and as much again in interleaved ones.
pub const PARTIAL_BUDGET_BYTES: usize = 2 * MAX_MESSAGE_BYTES;
/// The same before authorisation.
pub const PARTIAL_BUDGET_BEFORE_PUBLISH_BYTES: usize = 2 * MAX_MESSAGE_BEFORE_PUBLISH_BYTES;
/// Replies waiting to be written. A peer that asks without reading is cut off.
pub const MAX_OUTPUT_BYTES: usize = 256 << 10;
/// Message streams one connection may create.
pub const MAX_MESSAGE_STREAMS: u32 = 16;
/// Longest string of a peer that we keep (app, tcUrl, key).
pub const MAX_NAME_BYTES: usize = 1024;

/// From the connection's first moment to the end of the handshake.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// From the handshake (or an unpublish) to the next `publish`.
pub const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);
/// Between two complete messages. Dripped bytes do not count.
pub const IDLE_DEADLINE: Duration = Duration::from_secs(10);

/// Acknowledgement window that we ask for and the bandwidth that we name.
pub const WINDOW_BYTES: u32 = 2_500_000;
/// The peer's window until it names one, and the least that we honour: a
/// window of a few bytes would have us answer every read.
pub const MIN_ACK_EVERY_BYTES: u32 = 4096;
