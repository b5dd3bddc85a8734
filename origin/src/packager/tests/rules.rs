//! Publishers that do nothing wrong, and what must hold for them.

use super::{
    publisher::{A0, V0, Video, publish},
    replay::{Replay, run},
};

fn assert_clean(replay: &Replay) {
    let broadcast = replay.only();
    assert!(broadcast.ready);
    for track in broadcast.tracks.values() {
        assert_eq!(track.gap_parts(), 0, "{}", track.track.name);
        assert!(
            track
                .segments
                .iter()
                .all(|s| !s.head.flags.gap && !s.head.flags.discontinuity)
        );
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
