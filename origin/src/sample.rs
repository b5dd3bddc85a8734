//! What demux hands to the packager: coded frames and the codec they need.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    media::Timescale,
    names::{Kind, TrackName},
};

/// One coded frame as the publisher timed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub track: TrackName,
    /// The publisher's decode time in milliseconds, made 64-bit and strictly
    /// free of wraps: it starts near zero with each epoch and is common to all
    /// tracks. It may still jitter by the publisher's rounding.
    pub dts_ms: u64,
    /// Presentation time less decode time, milliseconds.
    pub composition_offset_ms: i32,
    pub sync: bool,
    /// Length-prefixed NAL units, a raw AAC frame...: what goes into the mdat.
    pub data: Bytes,
}

/// A track's decoder configuration, opaque to everything behind `cmaf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecConfig {
    /// RFC 6381, from the real parameter sets.
    pub codec: String,
    /// The init segment (ftyp + moov) for this configuration.
    pub init: Bytes,
    pub timescale: Timescale,
    pub kind: Kind,
    pub size: Option<(u32, u32)>,
    /// As the bitstream declares it (VUI), as a fraction; `None` when it does not.
    pub frame_rate: Option<(u32, u32)>,
    pub channels: Option<u32>,
    pub sample_rate_hz: Option<u32>,
    /// Audio: samples of one coded frame (1024 for AAC-LC); video: `None`.
    pub frame_samples: Option<u32>,
}

/// What demux emits, in the publisher's order.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// What onMetaData names, before any media as a rule.
    Declared(Declared),
    /// First, or changed in mid-publish.
    Config {
        track: TrackName,
        config: Arc<CodecConfig>,
    },
    /// The encoder's own word on its longest GOP, in frames (x264's SEI).
    Keyint {
        track: TrackName,
        frames: u32,
    },
    Sample(Sample),
    /// The publisher's clock jumped by more than 5 s. The samples that follow,
    /// of every track, are on a new base that continues from the newest time so
    /// far: the packager cuts, and says DISCONTINUITY.
    Discontinuity,
}

/// onMetaData's claims; each may be absent or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Declared {
    pub has_video: Option<bool>,
    pub has_audio: Option<bool>,
    pub frame_rate: Option<f64>,
    pub video_bps: Option<u32>,
    pub audio_bps: Option<u32>,
}
