//! Frames that never came, tracks that fell silent, clocks that disagree.

use common::names::Kind;
use proptest::prelude::*;

use super::{
    publisher::{A0, EPOCH_MS, Script, V0, Video, audio_samples, publish, stamp, video_config},
    replay::{BroadcastSeen, finished, run, run_open},
};
use crate::{
    packager::{NewBroadcast, Packager, PackagerConfig, Refusal, Start},
    sample::{Declared, Input, Sample},
};

fn usual() -> Script {
    publish(Some(&Video::fps(30, 1, 60)), Some(48_000), 30)
}

/// C3: every part of media stands within a frame of where it was stamped.
fn end_ms(broadcast: &BroadcastSeen, name: common::names::TrackName) -> u64 {
    let track = broadcast.track(name);
    let end = track.segments.last().unwrap().end;
    track.track.timescale.to_ms(common::media::Ticks(end))
}

#[test]
fn c3_one_missing_frame_is_no_hole() {
    let lost = 1_000 + stamp(100, 30, 1);
    let replay = run(&usual().without(|s| s.track == V0 && s.dts_ms == lost));
    assert_eq!(replay.only().track(V0).gap_parts(), 0);
    assert!(end_ms(replay.only(), V0).abs_diff(31_000) <= 34);
}

#[test]
fn c3_a_hole_of_three_frames_is_a_gap_part_and_nothing_drifts() {
    let (from, to) = (1_000 + stamp(100, 30, 1), 1_000 + stamp(103, 30, 1));
    let replay = run(&usual().without(|s| s.track == V0 && (from..to).contains(&s.dts_ms)));
    let broadcast = replay.only();
    let video = broadcast.track(V0);
    assert_eq!(video.gap_parts(), 1);
    let parts = video.segments.iter().flat_map(|s| &s.parts);
    let gap = parts.clone().find(|p| p.end.flags.gap).unwrap();
    assert_eq!(gap.end.duration.0.div_ceil(4_000), 3);
    assert!(video.segments.iter().all(|s| !s.head.flags.gap));
    assert_eq!(broadcast.track(A0).gap_parts(), 0);
    assert!(end_ms(broadcast, V0).abs_diff(31_000) <= 34);
}

#[test]
fn h1_three_seconds_without_anything_leave_whole_segments_behind() {
    let replay = run(&usual().without(|s| (10_500..13_500).contains(&s.dts_ms)));
    let broadcast = replay.only();
    for name in [V0, A0] {
        assert!(broadcast.track(name).gap_parts() > 0);
        assert!(end_ms(broadcast, name).abs_diff(31_000) <= 120, "{name}");
    }
}

#[test]
fn video_silent_for_three_seconds_returns_at_a_sync_sample() {
    let replay = run(&usual().without(|s| s.track == V0 && (10_500..13_500).contains(&s.dts_ms)));
    let broadcast = replay.only();
    let video = broadcast.track(V0);
    assert!(video.gap_parts() > 0);
    assert_eq!(broadcast.track(A0).gap_parts(), 0, "audio goes on");
    assert!(end_ms(broadcast, V0).abs_diff(31_000) <= 34);
}

#[test]
fn audio_cuts_at_two_seconds_while_video_is_silent() {
    let replay = run(&usual().without(|s| s.track == V0 && (10_500..23_500).contains(&s.dts_ms)));
    let broadcast = replay.only();
    let gaps = broadcast
        .track(V0)
        .segments
        .iter()
        .filter(|s| s.head.flags.gap);
    assert!(gaps.count() >= 5);
    let audio = broadcast.track(A0);
    assert_eq!(audio.gap_parts(), 0);
    assert!(audio.segments.iter().all(|s| s.duration() <= 48_000 * 3));
}

#[test]
fn silent_audio_is_gap_segments_and_returns() {
    let replay = run(&usual().without(|s| s.track == A0 && (10_500..20_500).contains(&s.dts_ms)));
    let broadcast = replay.only();
    let audio = broadcast.track(A0);
    assert!(audio.segments.iter().filter(|s| s.head.flags.gap).count() >= 3);
    assert!(!audio.segments.last().unwrap().head.flags.gap);
    assert_eq!(broadcast.track(V0).gap_parts(), 0);
}

#[test]
fn a_track_that_never_returns_keeps_every_msn() {
    for gone in [V0, A0] {
        let replay = run(&usual().without(|s| s.track == gone && s.dts_ms > 8_200));
        let other = if gone == V0 { A0 } else { V0 };
        assert_eq!(replay.only().track(other).gap_parts(), 0);
        assert!(
            replay
                .only()
                .track(gone)
                .segments
                .last()
                .unwrap()
                .head
                .flags
                .gap
        );
    }
}

#[test]
fn audio_that_begins_late_is_preceded_by_a_gap() {
    let replay = run(&usual().without(|s| s.track == A0 && s.dts_ms < 1_700));
    let audio = replay.only().track(A0);
    assert!(audio.segments[0].parts[0].end.flags.gap);
    assert!(!audio.segments[0].head.flags.gap);
}

#[test]
fn tracks_are_fixed_at_two_seconds_and_a_later_one_begins_a_broadcast() {
    let replay = run(&usual().without(|s| s.track == A0 && s.dts_ms < 6_000));
    assert_eq!(replay.ends, [NewBroadcast::NewTrack { track: A0 }]);
    assert_eq!(replay.broadcasts[0].tracks.len(), 1);
    assert_eq!(replay.broadcasts[1].tracks.len(), 2);
    assert!(replay.broadcasts[1].ready);
    let replay = run(&usual().without(|s| s.track == V0 && s.dts_ms < 6_000));
    assert_eq!(replay.ends, [NewBroadcast::NewTrack { track: V0 }]);
    assert!(replay.broadcasts[1].ready);
}

#[test]
fn declared_tracks_are_waited_for_no_longer_than_the_deadline() {
    let mut script = publish(Some(&Video::fps(30, 1, 60)), None, 20);
    let declared = Declared {
        has_video: Some(true),
        has_audio: Some(true),
        ..Declared::default()
    };
    script
        .inputs
        .insert(0, (Input::Declared(declared), script.inputs[0].1));
    assert_eq!(run(&script).only().tracks.len(), 1);
}

#[test]
fn an_outgrown_gop_begins_a_broadcast_with_twice_the_room() {
    let mut video = Video::fps(30, 1, 60);
    video.gops = vec![60, 60, 150, 150, 150, 150, 150];
    let replay = run(&publish(Some(&video), Some(48_000), 30));
    assert_eq!(replay.ends, [NewBroadcast::Outgrown { gop_ms: 6_000 }]);
    assert_eq!(replay.broadcasts[1].plan.target_duration_s, 7);
    let again = &replay.broadcasts[1];
    assert!(again.ready);
    let first = &again.track(V0).segments[0];
    assert_eq!(
        first.parts[0].dts,
        120_000 * 10,
        "the plan is taken at the next sync sample"
    );
}

#[test]
fn a_gop_beyond_the_limit_is_refused_and_names_the_setting() {
    for gop in [30 * 20, 30 * 13] {
        let replay = run(&publish(Some(&Video::fps(30, 1, gop)), Some(48_000), 60));
        let Some(why @ Refusal::GopTooLong { .. }) = replay.refused else {
            panic!("{:?}", replay.refused);
        };
        assert!(why.to_string().contains("Keyframe Interval"));
    }
    let mut video = Video::fps(30, 1, 60);
    video.gops = vec![60, 60, 30 * 60];
    assert!(
        run(&publish(Some(&video), Some(48_000), 90))
            .refused
            .is_some()
    );
}

#[test]
fn the_buffer_before_the_plan_is_bounded() {
    let mut video = Video::fps(30, 1, 240);
    video.bytes = 1 << 20;
    let config = PackagerConfig::default();
    let script = publish(Some(&video), None, 7);
    let mut packager = Packager::new(config, Start::Fresh(super::replay::FIRST));
    let mut out = Vec::new();
    for (input, now) in script.inputs {
        packager.push(input, now, &mut out);
    }
    let budget_bytes = config.buffer_budget_bytes;
    assert_eq!(
        out,
        [crate::packager::Output::Refused(Refusal::BufferFull {
            budget_bytes
        })]
    );
}

/// Samples cost more than their bytes, above all when there are many.
#[test]
fn tiny_samples_before_the_plan_are_bounded_too() {
    let config = PackagerConfig::default();
    let mut packager = Packager::new(config, Start::Fresh(super::replay::FIRST));
    let mut out = Vec::new();
    let now = common::live::UnixMs(EPOCH_MS);
    packager.push(video_config((1_280, 720)), now, &mut out);
    let tiny = crate::sample::Sample {
        track: V0,
        dts_ms: 1_000,
        composition_offset_ms: 0,
        sync: false,
        data: bytes::Bytes::from_static(&[0; 5]),
    };
    let mut taken = 0;
    while out.is_empty() && taken < 100_000 {
        packager.push(Input::Sample(tiny.clone()), now, &mut out);
        taken += 1;
    }
    let budget_bytes = config.buffer_budget_bytes;
    assert!(taken <= 20_000, "{taken}");
    assert_eq!(
        out,
        [crate::packager::Output::Refused(Refusal::BufferFull {
            budget_bytes
        })]
    );
}

#[test]
fn an_audio_clock_that_drifts_is_bounded_by_a_frame() {
    for ppm in [-2_000i64, -300, 300, 2_000] {
        let script = usual().restamped(|s| match s.track.kind {
            Kind::Audio => {
                (s.dts_ms.cast_signed() + s.dts_ms.cast_signed() * ppm / 1_000_000).unsigned_abs()
            }
            Kind::Video => s.dts_ms,
        });
        let replay = run(&script);
        let want = (31_000 + 31_000 * ppm / 1_000_000).unsigned_abs();
        assert!(end_ms(replay.only(), A0).abs_diff(want) <= 50, "{ppm}");
    }
}

#[test]
fn a_rebased_clock_is_a_discontinuity_in_every_track() {
    let mut script = usual();
    let at = script
        .inputs
        .iter()
        .position(|(i, _)| matches!(i, Input::Sample(s) if s.dts_ms >= 12_345))
        .unwrap();
    let now = script.inputs[at].1;
    script.inputs.insert(at, (Input::Discontinuity, now));
    let replay = run(&script);
    let broadcast = replay.only();
    for track in broadcast.tracks.values() {
        let marked = track.segments.iter().filter(|s| s.head.flags.discontinuity);
        assert_eq!(marked.count(), 2, "the first one, and this");
        assert_eq!(
            track.segments.last().unwrap().head.discontinuity_sequence,
            41
        );
        let times: Vec<_> = track.segments.iter().map(|s| s.head.program_time).collect();
        assert!(times.is_sorted());
    }
}

#[test]
fn another_picture_size_in_mid_publish_is_a_new_init_and_a_discontinuity() {
    let mut script = usual();
    let sync =
        |i: &Input| matches!(i, Input::Sample(s) if s.track == V0 && s.sync && s.dts_ms >= 12_000);
    let at = script.inputs.iter().position(|(i, _)| sync(i)).unwrap();
    let now = script.inputs[at].1;
    script.inputs.insert(at, (video_config((1_280, 720)), now));
    let same = run(&script);
    assert!(
        same.only().track(V0).segments[1..]
            .iter()
            .all(|s| !s.head.flags.discontinuity)
    );
    script
        .inputs
        .insert(at + 1, (video_config((640, 360)), now));
    let replay = run(&script);
    let video = replay.only().track(V0);
    let changed = video.segments[1..]
        .iter()
        .find(|s| s.head.flags.discontinuity)
        .unwrap();
    assert_eq!(changed.head.init.0, 1);
    assert_eq!(
        replay.only().track(A0).segments.last().unwrap().head.init.0,
        0
    );
}

#[test]
fn another_codec_in_mid_publish_is_a_new_broadcast() {
    let mut script = usual();
    let now = script.inputs[900].1;
    let hevc = super::publisher::config(V0, "hvc1.1.6.L93.B0", 120_000, Some((1_280, 720)));
    script.inputs.insert(900, (hevc, now));
    let replay = run(&script);
    assert_eq!(replay.ends, [NewBroadcast::Incompatible { track: V0 }]);
    assert!(replay.broadcasts[1].ready);
}

#[test]
fn a_second_video_and_audio_track_keep_every_msn() {
    let mut script = Script::default();
    let base = usual();
    let others = [
        common::names::TrackName::video(1),
        common::names::TrackName::audio(1),
    ];
    script.add(
        super::publisher::config(others[0], "avc1.4d401f", 120_000, Some((640, 360))),
        EPOCH_MS,
    );
    script.add(
        super::publisher::config(others[1], "mp4a.40.2", 44_100, None),
        EPOCH_MS,
    );
    let mut samples = audio_samples(44_100, 1_000, 30);
    for sample in &mut samples {
        sample.track = others[1];
    }
    for (input, now) in base.inputs {
        if let Input::Sample(sample) = &input {
            if sample.track == V0 {
                samples.push(Sample {
                    track: others[0],
                    ..sample.clone()
                });
            }
            samples.push(sample.clone());
        } else {
            script.inputs.push((input, now));
        }
    }
    script.samples(samples);
    let replay = run(&script);
    assert_eq!(replay.only().tracks.len(), 4);
    assert!(replay.only().tracks.values().all(|t| t.gap_parts() == 0));
}

#[test]
fn samples_older_than_a_listed_gap_are_dropped_and_counted() {
    let script = usual().without(|s| s.track == V0 && (10_500..14_000).contains(&s.dts_ms));
    let (mut replay, mut packager) = run_open(&script);
    let before = packager.counts().dropped_samples;
    let old = Sample {
        track: A0,
        dts_ms: 12_000,
        composition_offset_ms: 0,
        sync: true,
        data: bytes::Bytes::from_static(b"old"),
    };
    let mut out = Vec::new();
    packager.push(
        Input::Sample(old),
        common::live::UnixMs(EPOCH_MS + 31_000),
        &mut out,
    );
    replay.take(out, common::live::UnixMs(0));
    assert_eq!(packager.counts().dropped_samples, before + 1);
    finished(replay, &mut packager);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever is missing or jittered, the records stay a valid log.
    #[test]
    fn c3_h4_hold_for_any_loss_and_jitter(
        holes in proptest::collection::vec((0u64..30_000, 0u64..4_000, 0u8..3), 0..5),
        jitter in 0u64..25,
        seed in any::<u64>(),
        rate in prop_oneof![Just((15, 1)), Just((25, 1)), Just((30_000, 1_001)), Just((30, 1)), Just((60, 1))],
        gops in proptest::collection::vec(1u64..80, 1..6),
        b_frames in any::<bool>(),
    ) {
        let mut video = Video::fps(rate.0, rate.1, 1);
        video.gops = gops;
        video.b_frames = b_frames;
        let hash = |ms: u64| (ms ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let script = publish(Some(&video), Some(48_000), 30)
            .without(|s| holes.iter().any(|(from, len, which)| {
                (*which == 2 || (*which == 0) == (s.track == V0)) && (*from..from + len).contains(&s.dts_ms)
            }))
            .restamped(|s| s.dts_ms + if jitter == 0 { 0 } else { hash(s.dts_ms) % jitter });
        run(&script);
    }

    /// Nothing that demux may hand on panics or breaks the log: times that stand
    /// still or leap, tracks in any order, rebased clocks, new configurations.
    /// (A track's times never go back: `demux` holds that.)
    #[test]
    fn any_order_of_inputs_gives_a_valid_log(
        inputs in proptest::collection::vec((0u8..8, 0u64..40_000, -200i32..200, any::<bool>()), 0..600),
    ) {
        let mut script = publish(Some(&Video::fps(30, 1, 30)), Some(44_100), 4);
        let mut now = 4_000;
        for (what, step, offset, sync) in inputs {
            let at = now + if step % 7 == 0 { step % 5_000 } else { step % 100 };
            now = at;
            let track = if what % 2 == 0 { V0 } else { A0 };
            let input = match what {
                0..=4 => Input::Sample(Sample { track, dts_ms: at, composition_offset_ms: offset, sync, data: bytes::Bytes::new() }),
                5 => Input::Discontinuity,
                6 => video_config((u32::try_from(at % 3).unwrap(), 2)),
                _ => Input::Keyint { track, frames: u32::try_from(at).unwrap() },
            };
            script.add(input, EPOCH_MS + at);
        }
        run(&script);
    }
}
