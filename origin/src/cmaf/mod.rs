//! CMAF bytes: an init segment for a codec configuration, a chunk for samples
//! whose times the packager has decided.
//!
//! In: parameter sets that `demux` has parsed, and [`ChunkSample`]s. Out: one
//! `Bytes` each, encoded once and shared from here to every viewer's socket.
//! Pure functions, nobody's state. The invariant: one track a file, no edit
//! list, every value a decoder needs is in the chunk itself and none is
//! inherited from the init segment (brand `cmf2`). This is the only module
//! that knows the MP4 box library. ISO/IEC 14496-12 and 23000-19 (C1, C2, C5).

mod chunk;
mod init;

#[cfg(test)]
pub(crate) mod tests;

pub use chunk::{ChunkHeader, ChunkSample, ReferenceClock, Styp, chunk};
pub use init::{
    AudioEntry, AudioTrack, AvcRecord, AvcRecordExt, Colour, ConfigError, VideoEntry, VideoTrack,
    audio_config, video_config,
};

/// Every file holds one track, so every file calls it 1.
pub const TRACK_ID: u32 = 1;
