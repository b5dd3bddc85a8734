//! R1, R3 and R5: what a reload is told, and what of it may be left out.

use super::*;
use crate::playlist::{Verdict, Want, part_limit, verdict};

/// Skipped segments put back in front of a delta update give the whole playlist.
#[test]
fn r5_a_delta_update_is_the_whole_from_the_skip_boundary() {
    let mut studio = studio();
    studio.segments(100, 106);
    studio.epoch = Epoch(8);
    studio.discontinuities = 1;
    let flags = DISCONTINUITY;
    for name in [V, A] {
        studio.open_with(name, 106, flags);
        (0..PARTS).for_each(|part| studio.part(name, 106, part));
        studio.complete(name);
    }
    let mut seen = 0;
    for msn in 107..130 {
        studio.segments(msn, msn + 1);
        let (whole, delta) = (text(&studio, V, Skip::No), text(&studio, V, Skip::Yes));
        let (whole, mut delta) = (Read::of(&whole), Read::of(&delta));
        let total: f64 = whole.segments.iter().filter_map(|s| s.duration).sum();
        let skipped = delta.skipped.map_or(0, |n| usize::try_from(n).unwrap());
        // Exactly those that lie wholly before the boundary.
        let boundary = 6.0 * whole.target_duration as f64;
        let mut left = total;
        let expected = whole.segments.iter().take_while(|segment| {
            left -= segment.duration.unwrap();
            left >= boundary - 1e-6
        });
        assert_eq!(skipped, expected.count());
        assert_eq!(
            (delta.msn, delta.discontinuities),
            (whole.msn, whole.discontinuities)
        );
        if let Some(first) = delta.segments.first_mut()
            && skipped > 0
        {
            // Said again so that a delta update is readable by itself.
            assert!(first.map.is_some());
            first.map.clone_from(&whole.segments[skipped].map);
            seen += 1;
        }
        assert_eq!(delta.segments, whole.segments[skipped..]);
        assert_eq!((delta.hints, delta.reports), (whole.hints, whole.reports));
    }
    assert!(seen > 0);
}

#[test]
fn r5_nothing_to_skip_is_the_whole_playlist() {
    let mut studio = studio();
    studio.segments(100, 103);
    assert_eq!(text(&studio, V, Skip::Yes), text(&studio, V, Skip::No));
}

fn judged(studio: &Studio, msn: u64, part: Option<u32>) -> Verdict {
    let limit = part_limit(&studio.track(V).track);
    let msn = Msn(msn);
    verdict(&listing(studio, V), limit, Want { msn, part })
}

/// 105 is complete, 106 has parts 0 and 1.
#[test]
fn r1_what_exists_is_answered_and_what_comes_is_held() {
    let mut studio = live();
    use Verdict::{Answer, Hold};
    for (msn, part, expected) in [
        (0, None, Answer),
        (105, None, Answer),
        (106, None, Hold),
        (107, None, Hold),
        (3, Some(9_999), Answer),
        (105, Some(5), Answer),
        (105, Some(6), Answer),
        (106, Some(0), Answer),
        (106, Some(1), Answer),
        (106, Some(2), Hold),
        (107, Some(0), Hold),
    ] {
        assert_eq!(judged(&studio, msn, part), expected, "{msn} {part:?}");
    }
    (2..PARTS).for_each(|part| studio.part(V, 106, part));
    studio.complete(V);
    // Past the last part of a complete segment: part 0 of the next.
    assert_eq!(judged(&studio, 106, Some(6)), Hold);
    studio.open(V, 107);
    assert_eq!(judged(&studio, 106, Some(6)), Hold);
    assert_eq!(judged(&studio, 106, None), Answer);
    studio.part(V, 107, 0);
    assert_eq!(judged(&studio, 106, Some(6)), Answer);
}

#[test]
fn r3_what_is_too_far_away_is_refused() {
    let studio = live();
    use Verdict::{Answer, Hold, TooFar};
    // ceil(3 / 0.3667) = 9 parts past the last one.
    assert_eq!(part_limit(&studio.track(V).track), 9);
    for (msn, part, expected) in [
        (107, None, Hold),
        (108, None, TooFar),
        (u64::MAX, None, TooFar),
        (u64::MAX, Some(0), TooFar),
        (106, Some(10), Hold),
        (106, Some(11), TooFar),
        (106, Some(u32::MAX), TooFar),
        (107, Some(8), Hold),
        (107, Some(9), TooFar),
        (105, Some(u32::MAX), TooFar),
    ] {
        assert_eq!(judged(&studio, msn, part), expected, "{msn} {part:?}");
    }
    studio.track(V).window.end();
    assert_eq!(judged(&studio, u64::MAX, Some(0)), Answer);
    let mut long = video();
    long.part_target = Ticks(120_000);
    assert_eq!(part_limit(&long), 3);
    long.part_target = Ticks(0);
    assert_eq!(part_limit(&long), 3);
}
