//! A publish in numbers, the same for every benchmark: 720p at 30 frames a
//! second and 3 Mbit/s with keyframes every two seconds, AAC at 48 kHz.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    live::UnixMs,
    media::Timescale,
    names::{Epoch, Kind, Msn, TrackName},
};
use origin::{
    packager::{Fresh, Output, Packager, PackagerConfig, Start},
    sample::{CodecConfig, Input, Sample},
};

const VIDEO: TrackName = TrackName::video(0);
const AUDIO: TrackName = TrackName::audio(0);
const BEGAN: UnixMs = UnixMs(1_790_000_000_000);
/// 3 Mbit/s over 30 frames a second.
pub const FRAME_BYTES: usize = 12_500;
/// 128 kbit/s in frames of 1,024 samples.
const AUDIO_FRAME_BYTES: usize = 341;

/// `seconds` of the publish, in the order in which a publisher sends it.
#[must_use]
pub fn publish(seconds: u64) -> Vec<(Input, UnixMs)> {
    let mut inputs = vec![(config(VIDEO), BEGAN), (config(AUDIO), BEGAN)];
    let frame = Bytes::from(vec![7; FRAME_BYTES]);
    let sound = Bytes::from(vec![7; AUDIO_FRAME_BYTES]);
    let video = (0..seconds * 30).map(|n| sample(VIDEO, n * 1_000 / 30, n % 60 == 0, &frame));
    let audio = (0..seconds * 48_000 / 1_024).map(|n| sample(AUDIO, n * 64 / 3, true, &sound));
    let mut samples: Vec<_> = video.chain(audio).collect();
    samples.sort_by_key(|sample| sample.dts_ms);
    inputs.extend(samples.into_iter().map(|sample| {
        let at = UnixMs(BEGAN.0 + sample.dts_ms);
        (Input::Sample(sample), at)
    }));
    inputs
}

/// A packager with nothing in it yet.
#[must_use]
pub fn packager() -> Packager {
    let fresh = Fresh {
        epoch: Epoch(1),
        first_msn: Msn(1),
        discontinuity_sequence: 0,
    };
    Packager::new(PackagerConfig::default(), Start::Fresh(fresh))
}

/// All that the packager makes of the publish.
#[must_use]
pub fn package(inputs: Vec<(Input, UnixMs)>) -> Vec<Output> {
    let (mut packager, mut outputs) = (packager(), Vec::new());
    for (input, now) in inputs {
        packager.push(input, now, &mut outputs);
    }
    outputs
}

fn sample(track: TrackName, dts_ms: u64, sync: bool, data: &Bytes) -> Sample {
    Sample {
        track,
        dts_ms,
        composition_offset_ms: 0,
        sync,
        data: data.clone(),
    }
}

fn config(track: TrackName) -> Input {
    let audio = track.kind == Kind::Audio;
    let timescale = if audio {
        Timescale::new(48_000)
    } else {
        Some(Timescale::VIDEO)
    };
    let config = CodecConfig {
        codec: if audio { "mp4a.40.2" } else { "avc1.64001f" }.to_owned(),
        init: Bytes::from_static(b"init"),
        timescale: timescale.unwrap_or(Timescale::VIDEO),
        kind: track.kind,
        size: (!audio).then_some((1_280, 720)),
        frame_rate: (!audio).then_some((30, 1)),
        channels: audio.then_some(2),
        sample_rate_hz: audio.then_some(48_000),
        frame_samples: audio.then_some(1_024),
    };
    Input::Config {
        track,
        config: Arc::new(config),
    }
}
