//! The records of a track's log. What the packager appends is what crosses the
//! link and what a playlist is a function of, one vocabulary for all three.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    media::Ticks,
    names::{Epoch, InitId, Msn, TrackName},
};

/// Wall-clock time of a media sample, milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentFlags {
    /// EXT-X-DISCONTINUITY stands before this segment.
    pub discontinuity: bool,
    /// There is no media for this msn: EXT-X-GAP.
    pub gap: bool,
}

/// What is known of a segment when it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    pub epoch: Epoch,
    pub msn: Msn,
    pub init: InitId,
    /// Decode time of the first sample.
    pub dts: Ticks,
    /// EXT-X-PROGRAM-DATE-TIME of the first sample, derived from media time.
    pub program_time: UnixMs,
    /// Discontinuities in the broadcast up to and including this segment.
    pub discontinuity_sequence: u64,
    pub flags: SegmentFlags,
}

/// A CMAF chunk: one moof and its mdat, encoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub duration: Ticks,
    pub data: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartFlags {
    /// Holds a sync sample (H5).
    pub independent: bool,
    /// A hole: duration without bytes, and no chunk.
    pub gap: bool,
}

/// The part that EXT-X-PRELOAD-HINT names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    pub msn: Msn,
    pub part: u32,
}

/// Where another track stood: LAST-MSN and LAST-PART of a rendition report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub track: TrackName,
    pub msn: Msn,
    /// Index of the newest part of `msn`.
    pub part: u32,
}

/// Closes a part: all chunks since the part before it, or a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartEnd {
    pub duration: Ticks,
    pub flags: PartFlags,
    /// What the packager expects to close next.
    pub hint: Hint,
    /// Every other track's position as of this closing (H13).
    pub siblings: Arc<[Position]>,
}

/// Completes a segment. A stream that ends without it was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentEnd {
    pub chunks: u32,
    pub bytes: u64,
    /// Over the bytes of all chunks, from the first.
    pub crc32c: u32,
}

/// One entry of the log, in the order in which it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Open(SegmentHead),
    Chunk(Chunk),
    Part(PartEnd),
    End(SegmentEnd),
}
