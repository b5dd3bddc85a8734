//! Lines of IRC (RFC 1459, the IRCv3 message-tags specification and Twitch's
//! dialect): a parser that borrows and a writer that can't be made to write a
//! second line.
//!
//! Bounds: 8,191 bytes of tags and 4,096 of the rest ([`MAX_LINE_BYTES`]), which
//! leaves room for a token in PASS; 15 parameters.

mod parse;
mod write;

pub use parse::{Line, LineError, Params, Tags, unescape};
pub use write::LineWriter;

/// Tags with their `@` and space (IRCv3: 8,191).
pub const MAX_TAGS_BYTES: usize = 8_191;

/// What follows the tags; IRC says 512, but a token is longer.
pub const MAX_REST_BYTES: usize = 4_096;

/// A whole line without its CRLF. Over WebSocket a message is at most 8 KiB, so
/// that the bound there is the frame's.
pub const MAX_LINE_BYTES: usize = MAX_TAGS_BYTES + MAX_REST_BYTES;

/// RFC 1459, 2.3.
pub const MAX_PARAMS: usize = 15;

#[cfg(test)]
mod tests;
