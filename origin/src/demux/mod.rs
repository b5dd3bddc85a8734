//! FLV bodies to samples.
//!
//! In: the payloads of RTMP audio and video messages with their 32-bit
//! timestamps, and what onMetaData declares. Out: [`Input`]s in the publisher's
//! order, or a [`DemuxError`] that ends the publish. One [`Demuxer`] belongs to
//! one publish and to the task that reads it; it does no I/O and reads no clock.
//!
//! The invariant: whatever the payloads hold, nothing panics, a track's decode
//! times never go back, a track's samples follow its configuration, and what is
//! kept between calls is bounded ([`MAX_TRACKS`], [`MAX_CONFIG_LEN`]). Damage in
//! a sample is skipped and counted; damage in a configuration is an error, and
//! an error ends the publish.
//!
//! FLV 10.1 annex E, Enhanced RTMP v2, ISO/IEC 14496-3, -10 and -15.

mod aac;
mod avc;
mod bits;
mod clock;
mod error;
mod flv;
mod metadata;
mod sps;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use common::names::{Kind, TrackName};

pub use error::{DemuxError, FourCc, Reason};
pub use metadata::declared;

use crate::{
    cmaf,
    sample::{CodecConfig, Declared, Input, Sample},
};
use clock::{Clock, TrackClock};
use flv::{Body, Codec, Unit};

/// Tracks of a publish, audio and video together: a ladder of six with as many
/// languages, and room.
pub const MAX_TRACKS: usize = 16;
/// Bytes of one track's parameter sets: 31 of the largest ever seen, and room.
pub const MAX_CONFIG_LEN: usize = 64 * 1024;
/// The longest RTMP message; the link carries a chunk of that length and its
/// `moof`. Only tiny NAL units whose lengths grow to four bytes pass it.
pub const MAX_VIDEO_SAMPLE_LEN: usize = common::rtmp::limits::MAX_MESSAGE_BYTES;
/// A few of them make one chunk. AAC needs 768 bytes a channel at most
/// (ISO/IEC 14496-3 4.5.3), of which there are 48 at most.
pub const MAX_AUDIO_SAMPLE_LEN: usize = 64 * 1024;
/// A composition offset beyond this, either way, is no reordering delay.
const MAX_COMPOSITION_OFFSET_MS: i32 = 5_000;

/// What was wrong and went on all the same, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Samples whose time went back by less than a jump.
    pub clamped_times: u64,
    /// Composition offsets that no reordering explains.
    pub clamped_offsets: u64,
    /// Samples that present before they decode; kept as they are.
    pub negative_offsets: u64,
    pub discontinuities: u64,
    /// Tracks whose first sample was over 5 s from the others'.
    pub foreign_bases: u64,
    /// Samples without a picture, without bytes, before their configuration or
    /// longer than any frame.
    pub skipped_samples: u64,
    /// NAL units that were empty or longer than their sample.
    pub bad_nal_units: u64,
}

/// Turns one publish into inputs for the packager.
#[derive(Debug, Default)]
pub struct Demuxer {
    declared: Declared,
    clock: Clock,
    tracks: BTreeMap<TrackName, Track>,
    counters: Counters,
}

#[derive(Debug)]
struct Track {
    clock: TrackClock,
    /// Declared when the track appeared, and kept: a configuration that is sent
    /// again must give the same bytes again.
    bitrate_bps: Option<u32>,
    codec: TrackCodec,
    /// The last that was emitted.
    config: Option<Arc<CodecConfig>>,
}

#[derive(Debug)]
enum TrackCodec {
    Avc(avc::Stream),
    Aac,
}

impl Demuxer {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// What onMetaData claims; [`declared`] reads it from names and numbers.
    pub fn metadata(&mut self, declared: Declared) -> Input {
        self.declared = declared;
        Input::Declared(declared)
    }

    /// The payload of an RTMP audio message.
    ///
    /// # Errors
    /// [`DemuxError`] when the publish cannot go on.
    pub fn audio(&mut self, timestamp_ms: u32, payload: Bytes) -> Result<Vec<Input>, DemuxError> {
        self.message(Kind::Audio, timestamp_ms, payload)
    }

    /// The payload of an RTMP video message.
    ///
    /// # Errors
    /// [`DemuxError`] when the publish cannot go on.
    pub fn video(&mut self, timestamp_ms: u32, payload: Bytes) -> Result<Vec<Input>, DemuxError> {
        self.message(Kind::Video, timestamp_ms, payload)
    }

    fn message(
        &mut self,
        kind: Kind,
        timestamp_ms: u32,
        payload: Bytes,
    ) -> Result<Vec<Input>, DemuxError> {
        if payload.is_empty() {
            self.counters.skipped_samples += 1;
            return Ok(Vec::new());
        }
        let units = match kind {
            Kind::Audio => flv::audio(&payload),
            Kind::Video => flv::video(&payload),
        };
        let units = units.map_err(|at| at.of(kind))?;
        let mut out = Vec::new();
        for unit in units {
            let offset = unit.offset;
            self.unit(timestamp_ms, unit, &mut out)
                .map_err(|reason| DemuxError {
                    kind,
                    offset,
                    reason,
                })?;
        }
        Ok(out)
    }

    fn unit(&mut self, timestamp_ms: u32, unit: Unit, out: &mut Vec<Input>) -> Result<(), Reason> {
        match unit.body {
            Body::Config(bytes) => self.config(unit.track, unit.codec, &bytes, out),
            Body::Frame {
                composition_offset_ms,
                data,
            } => self.frame(unit.track, timestamp_ms, composition_offset_ms, data, out),
            Body::Ignored => Ok(()),
        }
    }

    fn config(
        &mut self,
        name: TrackName,
        codec: Codec,
        bytes: &Bytes,
        out: &mut Vec<Input>,
    ) -> Result<(), Reason> {
        if bytes.is_empty() {
            self.counters.skipped_samples += 1;
            return Ok(());
        }
        if bytes.len() > MAX_CONFIG_LEN {
            return Err(Reason::ConfigTooLong { len: bytes.len() });
        }
        let known = self.tracks.get(&name);
        if known.is_none() && self.tracks.len() >= MAX_TRACKS {
            return Err(Reason::TooManyTracks);
        }
        let bitrate_bps = match (known, name.kind) {
            (Some(track), _) => track.bitrate_bps,
            (None, Kind::Video) => self.declared.video_bps,
            (None, Kind::Audio) => self.declared.audio_bps,
        };
        // The next state is made first and committed only when all of it holds.
        let (codec, config) = match codec {
            Codec::Avc => {
                let stream = avc::Stream::from_record(bytes)?;
                let config = stream.config(bitrate_bps)?;
                (TrackCodec::Avc(stream), config)
            }
            Codec::Aac => {
                let asc = aac::AudioSpecificConfig::parse(bytes)?;
                let config = cmaf::audio_config(&asc.track(bytes.clone(), bitrate_bps))?;
                (TrackCodec::Aac, Some(config))
            }
        };
        let track = self.tracks.entry(name).or_insert_with(|| Track {
            clock: TrackClock::default(),
            bitrate_bps,
            codec: TrackCodec::Aac,
            config: None,
        });
        track.replace_codec(codec);
        if let Some(config) = config {
            track.announce(name, config, out);
        }
        Ok(())
    }

    fn frame(
        &mut self,
        name: TrackName,
        timestamp_ms: u32,
        composition_offset_ms: i32,
        data: Bytes,
        out: &mut Vec<Input>,
    ) -> Result<(), Reason> {
        let counters = &mut self.counters;
        let Some(track) = self.tracks.get_mut(&name) else {
            counters.skipped_samples += 1;
            return Ok(());
        };
        let (sync, data) = match &mut track.codec {
            TrackCodec::Aac => {
                if data.is_empty() {
                    counters.skipped_samples += 1;
                    return Ok(());
                }
                aac::refuse_adts(&data)?;
                (true, data)
            }
            TrackCodec::Avc(stream) => {
                let unit = stream.access_unit(&data);
                counters.bad_nal_units += unit.bad_nal_units;
                if unit.sets_changed
                    && let Ok(Some(config)) = stream.config(track.bitrate_bps)
                {
                    track.announce(name, config, out);
                }
                if let Some(frames) = unit.keyint {
                    out.push(Input::Keyint {
                        track: name,
                        frames,
                    });
                }
                let Some(data) = unit.data else {
                    counters.skipped_samples += 1;
                    return Ok(());
                };
                (unit.sync, data)
            }
        };
        let most_len = match name.kind {
            Kind::Video => MAX_VIDEO_SAMPLE_LEN,
            Kind::Audio => MAX_AUDIO_SAMPLE_LEN,
        };
        if track.config.is_none() || data.len() > most_len {
            counters.skipped_samples += 1;
            return Ok(());
        }
        let stamp = self.clock.stamp(&mut track.clock, timestamp_ms);
        if stamp.jumped {
            counters.discontinuities += 1;
            out.push(Input::Discontinuity);
        }
        counters.clamped_times += u64::from(stamp.clamped);
        counters.foreign_bases += u64::from(stamp.foreign);
        out.push(Input::Sample(Sample {
            track: name,
            dts_ms: stamp.dts_ms,
            composition_offset_ms: counters.composition_offset(composition_offset_ms),
            sync,
            data,
        }));
        Ok(())
    }
}

impl Counters {
    /// A picture that presents before it decodes is odd but in order, and a
    /// `trun` can say it; a clamp would shuffle the pictures. Only what no
    /// reordering explains is taken for zero.
    fn composition_offset(&mut self, offset_ms: i32) -> i32 {
        if offset_ms.abs() > MAX_COMPOSITION_OFFSET_MS {
            self.clamped_offsets += 1;
            return 0;
        }
        self.negative_offsets += u64::from(offset_ms < 0);
        offset_ms
    }
}

impl Track {
    fn replace_codec(&mut self, codec: TrackCodec) {
        let keyint = match &self.codec {
            TrackCodec::Avc(old) => old.keyint(),
            TrackCodec::Aac => None,
        };
        self.codec = codec;
        if let TrackCodec::Avc(new) = &mut self.codec {
            new.recall_keyint(keyint);
        }
    }

    fn announce(&mut self, name: TrackName, config: CodecConfig, out: &mut Vec<Input>) {
        if self.config.as_deref() == Some(&config) {
            return;
        }
        let config = Arc::new(config);
        self.config = Some(Arc::clone(&config));
        out.push(Input::Config {
            track: name,
            config,
        });
    }
}
