//! A publisher in numbers: frames on an exact grid, stamped in milliseconds.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    live::UnixMs,
    media::Timescale,
    names::{Kind, TrackName},
};

use crate::sample::{CodecConfig, Input, Sample};

/// The wall clock when the simulated publishes begin.
pub const EPOCH_MS: u64 = 1_790_000_000_000;

pub const V0: TrackName = TrackName::video(0);
pub const A0: TrackName = TrackName::audio(0);

/// Millisecond stamps of `frame` at `num/den` a second.
pub fn stamp(frame: u64, num: u64, den: u64) -> u64 {
    (frame * 1_000 * den + num / 2) / num
}

pub fn video_config(size: (u32, u32)) -> Input {
    config(V0, "avc1.64001f", 120_000, Some(size))
}

pub fn audio_config(hz: u32) -> Input {
    config(A0, "mp4a.40.2", hz, None)
}

pub fn config(track: TrackName, codec: &str, hz: u32, size: Option<(u32, u32)>) -> Input {
    let audio = track.kind == Kind::Audio;
    Input::Config {
        track,
        config: Arc::new(CodecConfig {
            codec: codec.into(),
            init: Bytes::from(format!("{codec} {hz} {size:?}")),
            timescale: Timescale::new(hz).unwrap(),
            kind: track.kind,
            size,
            frame_rate: None,
            channels: audio.then_some(2),
            sample_rate_hz: audio.then_some(hz),
            frame_samples: audio.then_some(1_024),
        }),
    }
}

/// What a publisher sends, with the wall clock of its arrival.
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub inputs: Vec<(Input, UnixMs)>,
}

#[derive(Debug, Clone)]
pub struct Video {
    pub num: u64,
    pub den: u64,
    /// Lengths of GOPs in frames, repeated.
    pub gops: Vec<u64>,
    /// x264's pattern P b b with its offsets, or none.
    pub b_frames: bool,
    pub bytes: usize,
}

impl Video {
    pub fn fps(num: u64, den: u64, gop_frames: u64) -> Self {
        Self {
            num,
            den,
            gops: vec![gop_frames],
            b_frames: false,
            bytes: 900,
        }
    }

    fn samples(&self, start_ms: u64, seconds: u64) -> Vec<Sample> {
        let count = seconds * self.num / self.den;
        let mut gops = self.gops.iter().cycle();
        let (mut next_sync, mut in_gop) = (0, 0);
        let mut samples = Vec::new();
        for frame in 0..count {
            let sync = frame == next_sync;
            if sync {
                next_sync += gops.next().unwrap();
                in_gop = 0;
            }
            // Decode order I P b b P b b: presentation one frame of delay.
            let shown_after = match (self.b_frames, in_gop % 3) {
                (false, _) => 0,
                _ if sync => 1,
                (true, 1) => 3,
                _ => 0,
            };
            let dts_ms = start_ms + stamp(frame, self.num, self.den);
            let pts_ms = start_ms + stamp(frame + shown_after, self.num, self.den);
            samples.push(Sample {
                track: V0,
                dts_ms,
                composition_offset_ms: i32::try_from(pts_ms - dts_ms).unwrap(),
                sync,
                data: Bytes::from(vec![1; if sync { self.bytes * 4 } else { self.bytes }]),
            });
            in_gop += 1;
        }
        samples
    }
}

pub fn audio_samples(hz: u64, start_ms: u64, seconds: u64) -> Vec<Sample> {
    (0..seconds * hz / 1_024)
        .map(|frame| Sample {
            track: A0,
            dts_ms: start_ms + stamp(frame, hz, 1_024),
            composition_offset_ms: 0,
            sync: true,
            data: Bytes::from_static(&[2; 300]),
        })
        .collect()
}

/// Interleaves by decode time, as muxers do; arrival follows decode time.
pub fn publish(video: Option<&Video>, audio_hz: Option<u32>, seconds: u64) -> Script {
    let mut script = Script::default();
    let mut samples = Vec::new();
    if let Some(video) = video {
        script.add(video_config((1_280, 720)), EPOCH_MS);
        samples.extend(video.samples(1_000, seconds));
    }
    if let Some(hz) = audio_hz {
        script.add(audio_config(hz), EPOCH_MS);
        samples.extend(audio_samples(hz.into(), 1_000, seconds));
    }
    script.samples(samples);
    script
}

impl Script {
    pub fn add(&mut self, input: Input, at_ms: u64) {
        self.inputs.push((input, UnixMs(at_ms)));
    }

    pub fn samples(&mut self, mut samples: Vec<Sample>) {
        samples.sort_by_key(|sample| sample.dts_ms);
        for sample in samples {
            let now = EPOCH_MS + sample.dts_ms;
            self.add(Input::Sample(sample), now);
        }
    }

    /// Drops the samples for which `drop` holds.
    pub fn without(mut self, drop: impl Fn(&Sample) -> bool) -> Self {
        self.inputs
            .retain(|(input, _)| !matches!(input, Input::Sample(one) if drop(one)));
        self
    }

    /// Moves decode times.
    pub fn restamped(mut self, at: impl Fn(&Sample) -> u64) -> Self {
        for (input, _) in &mut self.inputs {
            if let Input::Sample(sample) = input {
                sample.dts_ms = at(sample);
            }
        }
        self
    }
}
