//! Why a publish cannot go on.

use std::fmt;

use common::names::Kind;

use crate::cmaf::ConfigError;

/// What was wrong, in which message and how far into its payload.
#[derive(Debug, thiserror::Error)]
#[error("{} message, byte {offset}: {reason}", kind_word(*.kind))]
pub struct DemuxError {
    pub kind: Kind,
    /// From the first byte of the payload.
    pub offset: usize,
    #[source]
    pub reason: Reason,
}

#[derive(Debug, thiserror::Error)]
pub enum Reason {
    #[error("the payload ends within its header")]
    Truncated,
    #[error("codec {fourcc} is not packaged; publish H.264 video and AAC audio")]
    Unsupported { fourcc: FourCc },
    #[error("FLV video codec {0} is not packaged; publish H.264")]
    UnsupportedVideo(u8),
    #[error("FLV sound format {0} is not packaged; publish AAC")]
    UnsupportedAudio(u8),
    #[error("packet type {0} is unknown")]
    PacketType(u8),
    #[error("multitrack type {0} is unknown")]
    MultitrackType(u8),
    #[error("more than {} tracks", super::MAX_TRACKS)]
    TooManyTracks,
    #[error("a configuration of {len} bytes, over {}", super::MAX_CONFIG_LEN)]
    ConfigTooLong { len: usize },
    #[error("avcC: {0}")]
    AvcRecord(&'static str),
    #[error("sequence parameter set: {0}")]
    Sps(&'static str),
    #[error("AudioSpecificConfig: {0}")]
    AudioConfig(&'static str),
    #[error("AAC with ADTS headers; FLV carries raw frames behind an AudioSpecificConfig")]
    Adts,
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Four characters that name a codec, as the publisher sent them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FourCc(pub [u8; 4]);

/// A reason at a place in the payload.
#[derive(Debug)]
pub(super) struct At(pub usize, pub Reason);

impl At {
    pub(super) fn of(self, kind: Kind) -> DemuxError {
        DemuxError {
            kind,
            offset: self.0,
            reason: self.1,
        }
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A stranger's bytes: escaped before they reach a log line.
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Video => "video",
        Kind::Audio => "audio",
    }
}
