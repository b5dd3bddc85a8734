//! One track while it is being packaged: where its media time stands, its open
//! segment and part, and the cuts its leader has made that it has yet to make.

use std::collections::VecDeque;

use common::{
    live::{Position, Track, UnixMs},
    media::{Ticks, Timescale},
    names::{InitId, Kind, Msn, TrackName},
};

use super::plan::PartShape;
use crate::cmaf::ChunkSample;

/// A segment boundary, made by the leading track for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// The segment that begins here.
    pub msn: Msn,
    /// Video clock.
    pub at: u64,
}

/// The segment that is being made.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenSegment {
    pub start: u64,
    pub frames: u32,
    pub chunks: u32,
    pub parts: u32,
    /// Marked EXT-X-GAP when it was opened: media may no longer enter it.
    pub gap: bool,
}

/// The part that is being made: chunks already sent, no PART yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OpenPart {
    pub frames: u32,
    pub duration: u64,
    pub independent: bool,
}

/// How long the last complete segment was: what the next cut is predicted from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length {
    pub frames: u32,
    pub ticks: u64,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub name: TrackName,
    pub timescale: Timescale,
    pub shape: PartShape,
    pub init: InitId,
    /// The first sync sample's composition offset, carried by every tfdt.
    pub composition: i64,
    /// Decode time at the end of everything emitted.
    pub end: u64,
    /// Samples or holes of this run were emitted: its clock is fixed.
    pub started: bool,
    /// The segment open now, or to be opened by what is emitted next.
    pub msn: Msn,
    pub discontinuity: bool,
    pub segment: Option<OpenSegment>,
    pub part: OpenPart,
    /// Audio frames of the chunk that is being made.
    pub pending: Vec<ChunkSample>,
    /// Cuts of the leader still ahead of this track; see `MAX_CUTS`.
    pub cuts: VecDeque<Cut>,
    /// Nothing comes: GAP parts stand in for it.
    pub silent: bool,
    /// Where the newest sample heard of stands, video clock.
    pub received: u64,
    pub heard: UnixMs,
    pub sequence: u32,
    pub position: Option<Position>,
    /// Media in closed parts of this epoch, ticks.
    pub closed: u64,
    pub previous: Option<Length>,
    /// Video: where the newest sync sample stands.
    pub last_sync: Option<u64>,
}

/// A track further behind than this many segments is silent, whatever the
/// clocks say: the bound of [`Lane::cuts`].
pub(super) const MAX_CUTS: usize = 4;

impl Lane {
    pub(super) fn new(track: &Track, shape: PartShape, init: InitId, end: u64, msn: Msn) -> Self {
        Self {
            name: track.name,
            timescale: track.timescale,
            shape,
            init,
            composition: 0,
            end,
            started: false,
            msn,
            discontinuity: false,
            segment: None,
            part: OpenPart::default(),
            pending: Vec::new(),
            cuts: VecDeque::new(),
            silent: false,
            received: 0,
            heard: UnixMs(0),
            sequence: 0,
            position: None,
            closed: 0,
            previous: None,
            last_sync: None,
        }
    }

    pub(super) fn is_video(&self) -> bool {
        self.name.kind == Kind::Video
    }

    /// Where the next sample belongs.
    pub(super) fn at(&self) -> u64 {
        let pending = self.pending.iter().map(|one| u64::from(one.duration));
        self.end + pending.sum::<u64>()
    }

    pub(super) fn on_video_clock(&self, at: u64) -> u64 {
        self.timescale.convert(Ticks(at), Timescale::VIDEO).0
    }

    pub(super) fn on_own_clock(&self, at: u64) -> u64 {
        Timescale::VIDEO.convert(Ticks(at), self.timescale).0
    }

    pub(super) fn ms(&self, ms: u64) -> u64 {
        self.timescale.from_ms(ms).0
    }

    /// How long the open segment would be if it ended at `at`.
    pub(super) fn length(&self, at: u64) -> u64 {
        self.segment
            .map_or(0, |segment| at.saturating_sub(segment.start))
    }

    /// The next cut, if what stands at `at` belongs behind it: half a frame
    /// early is near enough.
    pub(super) fn passes_cut(&self, at: u64) -> bool {
        self.cuts
            .front()
            .is_some_and(|cut| at + self.shape.frame / 2 >= self.on_own_clock(cut.at))
    }
}
