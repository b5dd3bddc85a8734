//! What is decided once per broadcast and never changes while it lives: a
//! player that sees PART-TARGET or PART-HOLD-BACK move gives up for good.

use crate::{
    media::{Ticks, Timescale},
    names::{Kind, TrackName},
};

/// The numbers that every rendition's playlist shares (H1, H6, H7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// EXT-X-TARGETDURATION, whole seconds.
    pub target_duration_s: u32,
    /// PART-HOLD-BACK; at least 3.2 times the largest PART-TARGET.
    pub part_hold_back_ms: u32,
    /// How much is listed, counted in complete segments.
    pub window_ms: u32,
}

impl Plan {
    /// HOLD-BACK: three target durations (H7).
    #[must_use]
    pub const fn hold_back_ms(&self) -> u32 {
        self.target_duration_ms().saturating_mul(3)
    }

    /// CAN-SKIP-UNTIL: six target durations (H7).
    #[must_use]
    pub const fn can_skip_until_ms(&self) -> u32 {
        self.target_duration_ms().saturating_mul(6)
    }

    /// For how long parts stay listed, a request is held and bytes outlive
    /// their listing: three target durations (H9, R4).
    #[must_use]
    pub const fn parts_listed_ms(&self) -> u32 {
        self.target_duration_ms().saturating_mul(3)
    }

    /// For how long a segment's single parts can be asked for, and its bytes are
    /// kept in the window of who made them: the shortest window there is, of
    /// eight target durations, and three more.
    #[must_use]
    pub const fn recent_ms(&self) -> u32 {
        self.target_duration_ms().saturating_mul(11)
    }

    /// Whether more is listed than a window holds: a DVR.
    #[must_use]
    pub const fn has_past(&self) -> bool {
        self.window_ms > self.recent_ms()
    }

    #[must_use]
    pub const fn target_duration_ms(&self) -> u32 {
        self.target_duration_s.saturating_mul(1_000)
    }
}

/// One track as the plan froze it. Codecs are opaque to everything behind the
/// packager: a string for CODECS and the bytes of an init segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    pub name: TrackName,
    /// RFC 6381, from the real parameter sets.
    pub codec: String,
    pub timescale: Timescale,
    /// Audio: exactly the planned frames; video: the planned count plus one (H8).
    pub part_target: Ticks,
    /// Peak bits a second of any segment, with headroom.
    pub bandwidth_bps: u32,
    pub average_bandwidth_bps: u32,
    /// Width and height in luma samples; video only.
    pub size: Option<(u32, u32)>,
    /// Frames a second as a fraction; video only, and only when known.
    pub frame_rate: Option<(u32, u32)>,
    /// Audio only.
    pub channels: Option<u32>,
    /// Audio only, in Hz.
    pub sample_rate_hz: Option<u32>,
}

impl Track {
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.name.kind
    }
}
