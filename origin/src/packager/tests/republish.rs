//! A publisher that comes back within the grace window.

use common::{live::UnixMs, media::Timescale, names::Epoch};

use super::{
    publisher::{A0, EPOCH_MS, Script, V0, Video, publish},
    replay::{Replay, feed, finished, run_open},
};
use crate::packager::{NewBroadcast, Packager, PackagerConfig, Start};

fn again(first: &Script, second: &Script, journal: bool) -> Replay {
    let (mut replay, mut packager) = run_open(first);
    let mut out = Vec::new();
    packager.finish(&mut out);
    replay.take(out, UnixMs(0));
    let mut broadcast = packager.handover().unwrap();
    if journal {
        for track in &mut broadcast.tracks {
            track.init = None;
        }
    }
    let start = Start::Continue {
        epoch: Epoch(8),
        broadcast,
    };
    let packager = Packager::new(PackagerConfig::default(), start);
    let mut late = second.clone();
    for (_, now) in &mut late.inputs {
        now.0 += 60_000;
    }
    let mut packager = feed(packager, &late, &mut replay);
    finished(replay, &mut packager)
}

fn usual(fps: u64) -> Script {
    publish(Some(&Video::fps(fps, 1, 2 * fps)), Some(48_000), 12)
}

#[test]
fn h10_h11_a_republish_continues_with_one_discontinuity() {
    for journal in [false, true] {
        let replay = again(&usual(30), &usual(30), journal);
        let broadcast = replay.only();
        for track in broadcast.tracks.values() {
            let marked: Vec<_> = track.segments[1..]
                .iter()
                .filter(|s| s.head.flags.discontinuity)
                .collect();
            assert_eq!(marked.len(), 1);
            assert_eq!(marked[0].head.epoch, Epoch(8));
            assert_eq!(marked[0].head.discontinuity_sequence, 41);
            assert_eq!(marked[0].head.init.0, u32::from(journal));
            assert!(marked[0].head.program_time.0.abs_diff(EPOCH_MS + 61_000) <= 40);
            assert!(
                track
                    .segments
                    .windows(2)
                    .all(|w| w[0].end <= w[1].head.dts.0)
            );
        }
    }
}

#[test]
fn h11_programme_time_less_media_time_is_one_number_an_epoch() {
    for cut_ms in [5_000, 5_034, 5_067, 5_101] {
        let first = usual(30).without(|s| s.dts_ms > cut_ms);
        let replay = again(&first, &usual(30), false);
        for track in replay.only().tracks.values() {
            let scale = track.track.timescale;
            let mut zeros = std::collections::BTreeMap::new();
            for segment in &track.segments {
                let on_video = scale.convert(segment.head.dts, Timescale::VIDEO);
                let zero_ms = segment.head.program_time.0 - Timescale::VIDEO.to_ms(on_video);
                let known = *zeros.entry(segment.head.epoch).or_insert(zero_ms);
                assert_eq!(zero_ms, known, "cut at {cut_ms}");
            }
            assert_eq!(zeros.len(), 2);
        }
    }
}

#[test]
fn a_publisher_cut_off_anywhere_leaves_complete_segments() {
    for cut_ms in (4_000..6_000).step_by(37) {
        let first = usual(30).without(|s| s.dts_ms > cut_ms);
        let replay = again(&first, &usual(30), false);
        assert_eq!(
            replay.only().track(V0).segments.len(),
            replay.only().track(A0).segments.len()
        );
    }
}

#[test]
fn another_rate_that_fits_the_part_target_continues() {
    // 11 frames of 30 a second are 366.7 ms: 18 to 22 of 60, and 8 or 9 of 25.
    for fps in [60, 25, 50, 24] {
        let replay = again(&usual(30), &usual(fps), false);
        assert_eq!(
            replay.only().track(V0).segments.last().unwrap().head.epoch,
            Epoch(8),
            "{fps}"
        );
    }
}

#[test]
fn other_tracks_or_an_unfit_rate_begin_a_new_broadcast() {
    let silent = publish(Some(&Video::fps(30, 1, 60)), None, 12);
    let replay = again(&usual(30), &silent, false);
    assert_eq!(replay.ends, [NewBroadcast::OtherTracks]);
    assert_eq!(replay.broadcasts[1].tracks.len(), 1);
    assert!(replay.broadcasts[1].ready);
    let replay = again(&silent, &usual(30), false);
    assert_eq!(replay.ends, [NewBroadcast::OtherTracks]);
    assert_eq!(replay.broadcasts[1].tracks.len(), 2);
    let other = publish(Some(&Video::fps(30, 1, 60)), Some(44_100), 12);
    let replay = again(&usual(30), &other, false);
    assert_eq!(replay.ends, [NewBroadcast::Incompatible { track: A0 }]);
    let replay = again(&usual(30), &usual(4), false);
    assert_eq!(replay.ends, [NewBroadcast::Incompatible { track: V0 }]);
}
