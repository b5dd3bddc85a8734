//! What ffmpeg publishes, demuxed and packaged one chunk a sample, must decode
//! as it did before, and be what ffprobe says it is.

use std::{collections::BTreeMap, path::Path, process::Command};

use bytes::Bytes;
use common::media::Ticks;

use crate::{
    cmaf::{ChunkHeader, ChunkSample, Styp, TRACK_ID, chunk},
    demux::*,
};

fn run(program: &str, args: &[&str]) -> (String, String) {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed (apt install ffmpeg): {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {err}");
    (out, err)
}

/// Tag type, timestamp and body of each tag (FLV 10.1 E.4.1).
fn tags(file: &[u8]) -> Vec<(u8, u32, Bytes)> {
    let (mut rest, mut found) = (&file[13..], Vec::new());
    while let [kind, a, b, c, t1, t2, t3, t0, _, _, _, body @ ..] = rest {
        let len = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
        let at = u32::from_be_bytes([*t0, *t1, *t2, *t3]);
        found.push((*kind, at, Bytes::copy_from_slice(&body[..len])));
        rest = &body[len + 4..];
    }
    found
}

#[derive(Default)]
struct Recorded {
    configs: Vec<Arc<CodecConfig>>,
    samples: Vec<Sample>,
    keyint: Option<u32>,
}

fn demux(flv: &Path) -> BTreeMap<TrackName, Recorded> {
    let mut demuxer = Demuxer::new();
    let mut tracks: BTreeMap<TrackName, Recorded> = BTreeMap::new();
    for (kind, at, body) in tags(&std::fs::read(flv).unwrap()) {
        let inputs = match kind {
            8 => demuxer.audio(at, body).unwrap(),
            9 => demuxer.video(at, body).unwrap(),
            _ => continue,
        };
        for input in inputs {
            match input {
                Input::Config { track, config } => {
                    tracks.entry(track).or_default().configs.push(config);
                }
                Input::Keyint { track, frames } => {
                    tracks.entry(track).or_default().keyint = Some(frames);
                }
                Input::Sample(sample) => {
                    tracks.entry(sample.track).or_default().samples.push(sample);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(demuxer.counters().bad_nal_units, 0);
    assert_eq!(demuxer.counters().clamped_times, 0);
    tracks
}

/// The packager's work at its simplest: durations from one sample to the next.
fn package(track: &Recorded) -> Vec<u8> {
    let [config] = &track.configs[..] else {
        panic!("one configuration")
    };
    let at = |ms: u64| config.timescale.from_ms(ms).0;
    let per_ms = i32::try_from(config.timescale.hz() / 1_000).unwrap();
    let mut base = at(track.samples[0].dts_ms);
    let mut file = config.init.to_vec();
    for (n, sample) in track.samples.iter().enumerate() {
        let next = track.samples.get(n + 1).map(|next| at(next.dts_ms));
        let duration = match config.frame_samples {
            Some(frame) => frame,
            None => u32::try_from(next.unwrap_or(base + 4_000) - base).unwrap(),
        };
        let header = ChunkHeader {
            sequence: u32::try_from(n).unwrap(),
            track_id: TRACK_ID,
            base_dts: Ticks(base),
            styp: sample.sync.then_some(Styp::Segment),
            prft: None,
        };
        let one = ChunkSample {
            duration,
            sync: sample.sync,
            composition_offset: sample.composition_offset_ms * per_ms,
            data: sample.data.clone(),
        };
        file.extend_from_slice(&chunk(&header, &[one]));
        base += u64::from(duration);
    }
    file
}

/// A field of the only stream of `file` that `select` chooses.
fn probe(file: &str, select: &str, field: &str) -> String {
    let entries = format!("stream={field}");
    let (out, err) = run(
        "ffprobe",
        &[
            "-v",
            "error",
            "-count_frames",
            "-select_streams",
            select,
            "-show_entries",
            &entries,
            "-of",
            "csv=p=0",
            file,
        ],
    );
    assert_eq!(err, "", "{file}");
    out.trim().trim_end_matches(',').to_owned()
}

/// Publishes two seconds with `args`, and returns what was demuxed after its
/// chunks decoded without a word and to the same number of frames.
#[track_caller]
fn publish(video: &str, audio: &str) -> BTreeMap<TrackName, Recorded> {
    let dir = tempfile::tempdir().unwrap();
    let flv = dir.path().join("publish.flv");
    let (source, encode) = video.split_once(' ').unwrap_or((video, ""));
    let mut line = vec!["-v", "error", "-y"];
    if !video.is_empty() {
        line.extend(["-f", "lavfi", "-i", source]);
    }
    if !audio.is_empty() {
        line.extend(["-f", "lavfi", "-i", "sine=frequency=440"]);
    }
    line.extend(["-t", "2"]);
    line.extend(encode.split_whitespace().chain(audio.split_whitespace()));
    line.extend(["-f", "flv", flv.to_str().unwrap()]);
    run("ffmpeg", &line);

    let tracks = demux(&flv);
    for (name, track) in &tracks {
        let select = if name.kind == Kind::Video {
            "v:0"
        } else {
            "a:0"
        };
        let path = dir.path().join(format!("{name}.mp4"));
        std::fs::write(&path, package(track)).unwrap();
        let path = path.to_str().unwrap();
        let (_, err) = run("ffmpeg", &["-v", "error", "-i", path, "-f", "null", "-"]);
        assert_eq!(err, "", "{name} of {video} {audio}");
        let frames = |file| probe(file, select, "nb_read_frames");
        assert_eq!(frames(path), frames(flv.to_str().unwrap()), "{name}");
        match name.kind {
            Kind::Video => video_is_what_ffprobe_says(path, track),
            Kind::Audio => audio_is_what_ffprobe_says(path, track),
        }
    }
    tracks
}

#[track_caller]
fn video_is_what_ffprobe_says(path: &str, track: &Recorded) {
    let config = &track.configs[0];
    let (profile, level) = (probe(path, "v", "profile"), probe(path, "v", "level"));
    let prefix = match profile.as_str() {
        "High" => "avc1.6400",
        "Main" => "avc1.4d40",
        "Constrained Baseline" => "avc1.42c0",
        other => panic!("no prefix for {other}"),
    };
    let level: u8 = level.parse().unwrap();
    assert_eq!(config.codec, format!("{prefix}{level:02x}"));
    let (width, height) = config.size.unwrap();
    assert_eq!(
        probe(path, "v", "width,height"),
        format!("{width},{height}")
    );
    assert!(track.samples[0].sync);
}

#[track_caller]
fn audio_is_what_ffprobe_says(path: &str, track: &Recorded) {
    let config = &track.configs[0];
    assert_eq!(config.codec, "mp4a.40.2");
    let expected = format!(
        "{},{}",
        config.sample_rate_hz.unwrap(),
        config.channels.unwrap()
    );
    assert_eq!(probe(path, "a", "sample_rate,channels"), expected);
}

fn frame_rate(tracks: &BTreeMap<TrackName, Recorded>) -> Option<(u32, u32)> {
    tracks[&TrackName::video(0)].configs[0].frame_rate
}

#[test]
fn x264_defaults_with_b_frames_and_44100_hz() {
    let tracks = publish(
        "testsrc2=size=1280x720:rate=30 -c:v libx264 -pix_fmt yuv420p -preset veryfast",
        "-c:a aac -ar 44100 -ac 2",
    );
    let video = &tracks[&TrackName::video(0)];
    assert_eq!(frame_rate(&tracks), Some((30, 1)));
    assert_eq!(video.keyint, Some(250));
    assert_eq!(video.configs[0].codec, "avc1.64001f");
    assert!(
        video
            .samples
            .iter()
            .any(|one| one.composition_offset_ms > 66)
    );
}

#[test]
fn baseline_at_15_and_48000_hz_mono() {
    let tracks = publish(
        "testsrc2=size=320x180:rate=15 -c:v libx264 -pix_fmt yuv420p -profile:v baseline -g 15",
        "-c:a aac -ar 48000 -ac 1",
    );
    assert_eq!(frame_rate(&tracks), Some((15, 1)));
    let video = &tracks[&TrackName::video(0)];
    assert_eq!(video.samples.iter().filter(|one| one.sync).count(), 2);
    let audio = &tracks[&TrackName::audio(0)];
    assert_eq!(audio.configs[0].channels, Some(1));
}

#[test]
fn main_at_25_cropped_to_an_odd_height() {
    let tracks = publish(
        "testsrc2=size=426x242:rate=25 -c:v libx264 -pix_fmt yuv420p -profile:v main -x264-params repeat-headers=1:aud=1:keyint=20",
        "",
    );
    assert_eq!(frame_rate(&tracks), Some((25, 1)));
    assert_eq!(tracks[&TrackName::video(0)].keyint, Some(20));
}

#[test]
fn ntsc_and_60_frames_a_second() {
    for (rate, expected) in [("30000/1001", (30_000, 1_001)), ("60", (60, 1))] {
        let video = format!(
            "testsrc2=size=320x180:rate={rate} -c:v libx264 -pix_fmt yuv420p -preset ultrafast -bf 3"
        );
        assert_eq!(frame_rate(&publish(&video, "")), Some(expected));
    }
}

#[test]
fn audio_alone() {
    let tracks = publish("", "-c:a aac -ar 48000 -ac 2");
    let names: Vec<_> = tracks.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["a0"]);
}

/// No encoder at hand makes HE-AAC: its header alone, read back by ffprobe.
#[test]
fn c6_he_aac_header() {
    let mut demuxer = Demuxer::new();
    let header = Bytes::from_static(&[0xaf, 0, 0x2b, 0x11, 0x88, 0]);
    let inputs = demuxer.audio(0, header).unwrap();
    let [Input::Config { config, .. }] = &inputs[..] else {
        panic!("{inputs:?}")
    };
    assert_eq!(
        (config.codec.as_str(), config.frame_samples),
        ("mp4a.40.5", Some(2_048))
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("he.mp4");
    std::fs::write(&path, &config.init).unwrap();
    let read_back = probe(
        path.to_str().unwrap(),
        "a",
        "codec_name,sample_rate,channels",
    );
    assert_eq!(read_back, "aac,48000,2");
}
