//! What is frozen per broadcast: part targets, TARGETDURATION, hold-back.

use common::{
    live::{Plan, Track},
    media::{Ticks, Timescale},
    names::Kind,
};

use super::{PackagerConfig, rate::Rate};
use crate::sample::CodecConfig;

/// A segment is cut at the first sync sample from here on (less half a frame).
pub(super) const SEGMENT_MS: u64 = 2_000;

/// How a track's samples become chunks and parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartShape {
    /// Ticks of one frame on the track's clock.
    pub frame: u64,
    pub target: u64,
    pub frames: u32,
    /// Audio: frames of one chunk. Video: one.
    pub chunk_frames: u32,
}

const PART_US: u64 = 333_333;

impl PartShape {
    /// k >= 6 frames, about 333 ms; the target one frame more (H8): six of
    /// seven are 85.7 %, so a full part never falls short of H4. Below three
    /// frames a second, fewer: what fits into the shortest segment, and a
    /// target of which it is 85 %.
    pub(super) fn video(rate: Rate) -> Self {
        let second = u64::from(Timescale::VIDEO.hz());
        let most = (SEGMENT_MS * second / 1_000 / rate.frame).max(1);
        let frames = ((second / 3 + rate.frame / 2) / rate.frame)
            .max(6)
            .min(most);
        let target = match frames {
            6.. => (frames + 1) * rate.frame,
            _ => frames * rate.frame * 100 / 85,
        };
        Self {
            frame: rate.frame,
            target,
            frames: narrow(frames),
            chunk_frames: 1,
        }
    }

    /// A whole number of frames close to the video part's length, or to 333 ms
    /// without video; the target is exactly that (H8).
    pub(super) fn audio(frame: u64, timescale: Timescale, video: Option<PartShape>) -> Self {
        let hz = u64::from(timescale.hz());
        let wanted = match video {
            Some(video) => {
                let ticks = Ticks(video.frame * u64::from(video.frames));
                Timescale::VIDEO.convert(ticks, timescale).0
            }
            None => hz * PART_US / 1_000_000,
        };
        let frames = ((wanted + frame / 2) / frame).max(1);
        Self::audio_of(frame, timescale, frames * frame, frames)
    }

    /// The shape that keeps a frozen target with frames of another length: the
    /// most frames that fit, if they fill 85 % of it.
    pub(super) fn fitting(frame: u64, track: &Track) -> Option<Self> {
        let target = track.part_target.0;
        let frames = target.checked_div(frame)?;
        if frames == 0 || !is_full(frames * frame, target) {
            return None;
        }
        Some(match track.kind() {
            Kind::Audio => Self::audio_of(frame, track.timescale, target, frames),
            Kind::Video => {
                // One frame less leaves room for a late one, where 85 % allow it.
                let roomy = is_full((frames - 1) * frame, target);
                Self {
                    frame,
                    target,
                    frames: narrow(if roomy { frames - 1 } else { frames }),
                    chunk_frames: 1,
                }
            }
        })
    }

    /// Chunks of about 100 ms that share a part evenly.
    fn audio_of(frame: u64, timescale: Timescale, target: u64, frames: u64) -> Self {
        let tenth = (u64::from(timescale.hz()) / 10).max(1);
        let chunks = ((target + tenth / 2) / tenth).max(1);
        Self {
            frame,
            target,
            frames: narrow(frames),
            chunk_frames: narrow(frames.div_ceil(chunks)),
        }
    }
}

/// At least 85 % of the target (H4).
pub(super) const fn is_full(duration: u64, target: u64) -> bool {
    duration.saturating_mul(100) >= target.saturating_mul(85)
}

/// ceil(max(2 s, longest GOP)) + 1. `longest` in video ticks.
pub(super) fn target_duration_s(longest: u64) -> u32 {
    let second = u64::from(Timescale::VIDEO.hz());
    narrow(longest.max(2 * second).div_ceil(second) + 1)
}

pub(super) fn plan(target_duration_s: u32, config: &PackagerConfig, tracks: &[Track]) -> Plan {
    let hold_back = |track: &Track| {
        // 3.2 targets, rounded up to the millisecond (H6).
        (track.part_target.0 * 3_200).div_ceil(u64::from(track.timescale.hz())) * 1_000
    };
    let longest = tracks.iter().map(hold_back).max().unwrap_or(0);
    // However slow the frames, a segment has room for a part and for cuts that
    // its siblings make half a frame earlier or later.
    let part_s = |track: &Track| {
        let hz = u64::from(track.timescale.hz());
        narrow(track.part_target.0.div_ceil(hz) + 2)
    };
    let target_duration_s = tracks.iter().map(part_s).fold(target_duration_s, u32::max);
    Plan {
        target_duration_s,
        part_hold_back_ms: narrow(longest / 1_000),
        window_ms: target_duration_s
            .saturating_mul(1_000)
            .saturating_mul(config.window_target_durations)
            .max(config.dvr_window_ms),
    }
}

/// The sample-entry type: what must not change within a broadcast.
pub(super) fn codec_family(codec: &str) -> &str {
    codec.split('.').next().unwrap_or(codec)
}

/// An audio frame's length: its samples on a clock that counts samples.
pub(super) fn audio_frame(config: &CodecConfig) -> u64 {
    u64::from(config.frame_samples.unwrap_or(1_024).max(1))
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio_clock(hz: u32) -> Timescale {
        Timescale::new(hz).unwrap()
    }

    #[test]
    fn h8_video_part_target_is_the_planned_count_plus_one() {
        for (fps, den, frames) in [
            (15, 1, 6),
            (24, 1, 8),
            (25, 1, 8),
            (30_000, 1_001, 10),
            (30, 1, 10),
            (50, 1, 17),
            (60, 1, 20),
            (5, 1, 6),
            (3, 1, 6),
        ] {
            let rate = Rate::of(fps, den).unwrap();
            let shape = PartShape::video(rate);
            assert_eq!(shape.frames, frames, "{fps}/{den}");
            assert_eq!(shape.target, u64::from(frames + 1) * rate.frame);
            assert!(is_full(u64::from(frames) * rate.frame, shape.target));
        }
    }

    #[test]
    fn h1_a_slow_publish_has_no_part_longer_than_its_segments_may_be() {
        for (fps, den, frames) in [(2, 1, 4), (10, 7, 2), (1, 1, 2), (1, 2, 1)] {
            let Some(rate) = Rate::of(fps, den) else {
                continue;
            };
            let shape = PartShape::video(rate);
            assert_eq!(shape.frames, frames, "{fps}/{den}");
            assert!(is_full(u64::from(frames) * rate.frame, shape.target));
            assert!(shape.target <= 3 * 120_000, "{fps}/{den}");
        }
    }

    #[test]
    fn h8_audio_part_target_is_exactly_the_planned_frames() {
        let video = PartShape::video(Rate::FALLBACK);
        for (hz, video, frames, chunk) in [
            (48_000, Some(video), 16, 6),
            (44_100, Some(video), 14, 5),
            (48_000, None, 16, 6),
            (44_100, None, 14, 5),
        ] {
            let shape = PartShape::audio(1_024, audio_clock(hz), video);
            assert_eq!((shape.frames, shape.chunk_frames), (frames, chunk));
            assert_eq!(shape.target, u64::from(frames) * 1_024);
        }
    }

    #[test]
    fn h1_target_duration_has_a_second_of_headroom() {
        for (ms, want) in [(0, 3), (1_000, 3), (2_000, 3), (2_500, 4), (8_334, 10)] {
            assert_eq!(target_duration_s(ms * 120), want, "{ms}");
        }
    }
}
