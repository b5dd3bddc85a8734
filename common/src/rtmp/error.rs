//! What can be wrong with a peer's bytes, and where.
//!
//! Comes in: nothing; goes out: one error enum for the whole RTMP core, always
//! paired with the byte offset at which the connection stopped making sense.

use super::amf0::AmfError;

/// A protocol violation, located in the peer's byte stream.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{kind} (byte {offset})")]
pub struct RtmpError {
    /// Bytes of the connection read before the violation was found, handshake
    /// included.
    pub offset: u64,
    /// What was wrong.
    pub kind: ErrorKind,
}

impl RtmpError {
    pub(crate) fn new(offset: u64, kind: ErrorKind) -> Self {
        Self { offset, kind }
    }
}

/// The kinds of violation; `label` names them for metrics.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// C0 or S0 is not version 3.
    #[error("handshake version {0} is not 3")]
    Version(u8),
    /// Set Chunk Size outside the accepted range.
    #[error("chunk size {0} is outside 1..=65536")]
    ChunkSize(u32),
    /// A header declares more than a message may hold at this point.
    #[error("message of {declared_bytes} bytes is over the limit of {limit_bytes}")]
    MessageTooLong {
        /// The length in the chunk header.
        declared_bytes: usize,
        /// The limit in force.
        limit_bytes: usize,
    },
    /// One more chunk stream id than a connection may use.
    #[error("more than {0} chunk streams")]
    TooManyChunkStreams(usize),
    /// Unfinished messages together hold more than the connection's budget.
    #[error("unfinished messages hold more than {0} bytes")]
    PartialBudget(usize),
    /// A compressed header on a chunk stream that has nothing to inherit from.
    #[error("chunk stream {0} begins with a header that inherits its length")]
    NothingToInherit(u32),
    /// A new message header before the chunk stream's message was finished.
    #[error("chunk stream {0} begins a message inside another")]
    HeaderInsideMessage(u32),
    /// A protocol control or user control message of the wrong size.
    #[error("control message type {0} has the wrong length")]
    ControlLength(u8),
    /// An aggregate message whose parts do not add up.
    #[error("aggregate message is malformed")]
    Aggregate,
    /// AMF0 that does not decode.
    #[error("AMF0: {0}")]
    Amf(#[from] AmfError),
    /// A command that lacks what it must name.
    #[error("command {0:?} is malformed or out of order")]
    Command(String),
    /// Our replies are not read and have reached their bound.
    #[error("replies of {0} bytes are not being read")]
    OutputOverflow(usize),
    /// The handshake did not end in time.
    #[error("handshake not finished in time")]
    HandshakeDeadline,
    /// No publish within the deadline after the handshake.
    #[error("nothing published in time")]
    PublishDeadline,
    /// No complete message within the idle deadline.
    #[error("no message in time")]
    IdleDeadline,
}

impl ErrorKind {
    /// A short constant name, fit for a metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::ChunkSize(_) => "chunk_size",
            Self::MessageTooLong { .. } => "message_too_long",
            Self::TooManyChunkStreams(_) => "chunk_streams",
            Self::PartialBudget(_) => "partial_budget",
            Self::NothingToInherit(_) | Self::HeaderInsideMessage(_) => "chunk_header",
            Self::ControlLength(_) => "control",
            Self::Aggregate => "aggregate",
            Self::Amf(_) => "amf",
            Self::Command(_) => "command",
            Self::OutputOverflow(_) => "output",
            Self::HandshakeDeadline => "handshake_deadline",
            Self::PublishDeadline => "publish_deadline",
            Self::IdleDeadline => "idle_deadline",
        }
    }

    /// Every label, so that a metric can show zeros from the start.
    pub const LABELS: [&'static str; 14] = [
        "version",
        "chunk_size",
        "message_too_long",
        "chunk_streams",
        "partial_budget",
        "chunk_header",
        "control",
        "aggregate",
        "amf",
        "command",
        "output",
        "handshake_deadline",
        "publish_deadline",
        "idle_deadline",
    ];
}
