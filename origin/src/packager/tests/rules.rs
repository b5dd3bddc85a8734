//! Publishers that do nothing wrong, and what must hold for them.

use super::{
    publisher::{A0, Script, V0, Video, publish},
    replay::{Replay, run},
};
use crate::sample::Input;

fn assert_clean(replay: &Replay) {
    let broadcast = replay.only();
    assert!(broadcast.ready);
    for track in broadcast.tracks.values() {
        let gaps: Vec<_> = track
            .segments
            .iter()
            .filter(|s| s.parts.iter().any(|p| p.end.flags.gap))
            .collect();
        assert!(gaps.is_empty(), "{gaps:#?}");
        assert!(track.segments[0].head.flags.discontinuity);
        let later = &track.segments[1..];
        assert!(later.iter().all(|s| !s.head.flags.discontinuity));
        assert!(track.segments.iter().all(|s| !s.head.flags.gap));
    }
}

#[test]
fn a_plain_publish_is_packaged_without_a_hole() {
    let replay = run(&publish(Some(&Video::fps(30, 1, 60)), Some(48_000), 20));
    assert_clean(&replay);
    let broadcast = replay.only();
    assert_eq!(broadcast.plan.target_duration_s, 3);
    assert_eq!(broadcast.plan.part_hold_back_ms, 1_174);
    assert_eq!(broadcast.plan.window_ms, 24_000);
    let video = broadcast.track(V0);
    assert_eq!(video.segments.len(), 10);
    assert!(
        video
            .segments
            .iter()
            .all(|s| s.duration() == 240_000 && s.parts.len() == 6)
    );
    assert_eq!(video.track.frame_rate, Some((30, 1)));
    assert_eq!(broadcast.track(A0).segments.len(), 10);
}

const RATES: [(u64, u64); 7] = [
    (15, 1),
    (24, 1),
    (25, 1),
    (30_000, 1_001),
    (30, 1),
    (50, 1),
    (60, 1),
];

#[test]
fn c3_h1_h4_h5_h11_h13_hold_for_every_rate_gop_and_sample_rate() {
    for (num, den) in RATES {
        for gop_ms in [1_000, 2_000, 2_500, 8_300] {
            for hz in [44_100, 48_000] {
                let mut video = Video::fps(num, den, gop_ms * num / den / 1_000);
                video.b_frames = hz == 48_000;
                let replay = run(&publish(Some(&video), Some(hz), 45));
                assert_clean(&replay);
                let broadcast = replay.only();
                let gop_s = u32::try_from(gop_ms.max(2_000).div_ceil(1_000)).unwrap();
                assert_eq!(
                    broadcast.plan.target_duration_s,
                    gop_s + 1,
                    "{num}/{den} {gop_ms}"
                );
                let frame = 120_000 * den / num;
                for segment in &broadcast.track(V0).segments {
                    let frames: u32 = segment.parts.iter().map(|p| p.frames).sum();
                    assert_eq!(
                        segment.duration(),
                        u64::from(frames) * frame,
                        "no duration jitters"
                    );
                }
            }
        }
    }
}

#[test]
fn h12_hints_are_right_once_a_gop_is_known() {
    for (num, den) in RATES {
        for gop_ms in [1_000, 2_000, 2_500] {
            let video = Video::fps(num, den, gop_ms * num / den / 1_000);
            let replay = run(&publish(Some(&video), Some(48_000), 30));
            let broadcast = replay.only();
            assert_eq!(broadcast.track(V0).wrong_hints, [], "{num}/{den} {gop_ms}");
            let audio = broadcast.track(A0);
            let parts: usize = audio.segments.iter().map(|s| s.parts.len()).sum();
            assert!(
                audio.wrong_hints.len() * 20 <= parts,
                "{:?} of {parts}",
                audio.wrong_hints
            );
        }
    }
}

#[test]
fn audio_cuts_at_its_first_frame_at_or_after_the_video_cut() {
    let replay = run(&publish(Some(&Video::fps(30, 1, 60)), Some(48_000), 20));
    let broadcast = replay.only();
    for (video, audio) in broadcast
        .track(V0)
        .segments
        .iter()
        .zip(&broadcast.track(A0).segments)
    {
        let cut = video.head.dts.0 * 48_000 / 120_000;
        assert!(
            audio.head.dts.0.abs_diff(cut) <= 1_024 * 6,
            "{cut} {:?}",
            audio.head.dts
        );
    }
}

#[test]
fn audio_only_and_video_only_start_within_two_seconds_and_a_bit() {
    for hz in [44_100, 48_000] {
        let replay = run(&publish(None, Some(hz), 20));
        assert_clean(&replay);
        let broadcast = replay.only();
        assert_eq!(broadcast.plan.target_duration_s, 3);
        let audio = broadcast.track(A0);
        assert_eq!(audio.wrong_hints, []);
        assert!(audio.segments.len() >= 8);
        let target = audio.track.part_target;
        let whole = &audio.segments[..audio.segments.len() - 1];
        assert!(
            whole
                .iter()
                .flat_map(|s| &s.parts)
                .all(|p| p.end.duration == target)
        );
        let waited = replay.first_output_at.unwrap().0 - super::publisher::EPOCH_MS - 1_000;
        assert!(waited <= 2_050, "{waited}");
    }
    let replay = run(&publish(Some(&Video::fps(30, 1, 60)), None, 20));
    assert_clean(&replay);
    assert_eq!(replay.only().tracks.len(), 1);
}

#[test]
fn c5_segments_start_at_their_presentation_time() {
    let mut video = Video::fps(25, 1, 50);
    video.b_frames = true;
    let replay = run(&publish(Some(&video), Some(48_000), 10));
    // The first sample is stamped 1000 ms and shown one frame later.
    assert_eq!(
        replay.only().track(V0).segments[0].head.dts.0,
        120_000 + 4_800
    );
}

#[test]
fn h11_programme_time_is_the_arrival_of_the_first_sample_plus_media_time() {
    let replay = run(&publish(
        Some(&Video::fps(30_000, 1_001, 60)),
        Some(44_100),
        20,
    ));
    for track in replay.only().tracks.values() {
        for segment in &track.segments {
            let ms = track.track.timescale.to_ms(segment.head.dts);
            let want = super::publisher::EPOCH_MS + ms;
            assert!(segment.head.program_time.0.abs_diff(want) <= 1);
        }
    }
}

/// Programme time of what the samples of `script` present, less their arrival.
fn ahead_of_arrival_ms(script: &Script) -> i64 {
    let replay = run(script);
    let track = replay.only().track(V0);
    let head = track.segments[0].head;
    let zero =
        head.program_time.0.cast_signed() - track.track.timescale.to_ms(head.dts).cast_signed();
    let ahead = script.inputs.iter().filter_map(|(input, now)| match input {
        Input::Sample(one) => {
            let shown = one.dts_ms.cast_signed() + i64::from(one.composition_offset_ms);
            Some(zero + shown - now.0.cast_signed())
        }
        _ => None,
    });
    ahead.max().unwrap()
}

#[test]
fn h11_programme_time_never_runs_ahead_of_arrival() {
    let mut video = Video::fps(30, 1, 60);
    video.b_frames = true;
    let script = publish(Some(&video), Some(48_000), 10);
    assert!((-1..=1).contains(&ahead_of_arrival_ms(&script)));

    // A publisher that sends its first 600 ms at once and then in real time,
    // as ffmpeg does that has read ahead: time counts from the end of the burst.
    let mut burst = script.clone();
    let first = burst.inputs[0].1.0;
    for (_, now) in &mut burst.inputs {
        now.0 = first + (now.0 - first).saturating_sub(600);
    }
    assert!((-1..=1).contains(&ahead_of_arrival_ms(&burst)));

    // One frame of a nonsensical offset doesn't move hours.
    let mut odd = script;
    let sample = odd.inputs.iter_mut().find_map(|(input, _)| match input {
        Input::Sample(one) if !one.sync && one.track == V0 => Some(one),
        _ => None,
    });
    sample.unwrap().composition_offset_ms = 8_000_000;
    let replay = run(&odd);
    let head = replay.only().track(V0).segments[0].head;
    assert!(head.program_time.0 + 2_200 > super::publisher::EPOCH_MS);
}

#[test]
fn scene_cuts_never_outgrow_a_plan_that_knows_keyint() {
    use crate::sample::Input;
    let mut video = Video::fps(30, 1, 250);
    video.gops = vec![61, 250, 17, 33, 120, 250, 3, 3, 199, 47, 250, 80];
    video.b_frames = true;
    let mut script = publish(Some(&video), Some(48_000), 120);
    script.inputs.insert(
        2,
        (
            Input::Keyint {
                track: V0,
                frames: 250,
            },
            script.inputs[2].1,
        ),
    );
    let replay = run(&script);
    assert_clean(&replay);
    assert_eq!(replay.only().plan.target_duration_s, 10);
}

#[test]
fn an_hour_does_not_drift() {
    let mut video = Video::fps(30_000, 1_001, 60);
    video.bytes = 1;
    let replay = run(&publish(Some(&video), Some(44_100), 3_600));
    assert_clean(&replay);
    let broadcast = replay.only();
    let seconds = |name| {
        let track = broadcast.track(name);
        track
            .track
            .timescale
            .seconds(common::media::Ticks(track.media()))
    };
    assert!((seconds(V0) - 3_600.0).abs() < 0.1);
    assert!((seconds(A0) - seconds(V0)).abs() < 0.1);
}
