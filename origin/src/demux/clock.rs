//! RTMP's 32-bit milliseconds made 64-bit and common to all tracks.
//!
//! Each track and the publish as a whole remember a point that relates the
//! publisher's time to ours; a sample is placed from whichever point is nearer.
//! So a track may fall silent, wrap or begin late without a jump, and when all
//! tracks jump together, the first to do so moves the others with it. The
//! invariant: a track's times never go back.

/// Above this, either way, time did not pass: it jumped.
const JUMP_MS: i32 = 5_000;
/// Where the first sample stands. A track whose first sample is a little older
/// than the publish's first then still has a time of its own.
const START_MS: i64 = 1_000;
/// After this many samples in a row that are still a second late, the step
/// back is the publisher's new time and no glitch.
const LATE_SAMPLES: u32 = 8;
const LATE_MS: i64 = 1_000;

/// The publisher's time and ours at one moment.
#[derive(Debug, Clone, Copy)]
struct Point {
    raw_ms: u32,
    at_ms: i64,
}

/// The publish's time.
#[derive(Debug, Default)]
pub(super) struct Clock {
    point: Option<Point>,
    newest_ms: i64,
}

/// One track's time.
#[derive(Debug, Default)]
pub(super) struct TrackClock {
    point: Option<Point>,
    last_ms: i64,
    step_ms: i64,
    late: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub dts_ms: u64,
    /// The clock has a new base from this sample on.
    pub jumped: bool,
    /// The sample was older than the one before it.
    pub clamped: bool,
    /// The track began on a base of its own.
    pub foreign: bool,
}

impl Clock {
    pub(super) fn stamp(&mut self, track: &mut TrackClock, raw_ms: u32) -> Stamp {
        let near = self.nearest(track, raw_ms);
        let (mut jumped, mut foreign) = (false, false);
        let next_ms = self.newest_ms + track.step_ms.clamp(1, 100);
        let mut at_ms = match near {
            Some((point, elapsed)) => point.at_ms + elapsed,
            None if self.point.is_none() => START_MS,
            None => {
                jumped = track.point.is_some();
                foreign = !jumped;
                next_ms
            }
        };
        let mut clamped = track.point.is_some() && at_ms < track.last_ms;
        let late = clamped && track.last_ms - at_ms >= LATE_MS;
        track.late = if late { track.late + 1 } else { 0 };
        if track.late >= LATE_SAMPLES {
            (jumped, clamped, at_ms) = (true, false, next_ms);
            track.late = 0;
        }
        let point = Some(Point { raw_ms, at_ms });
        // A track on a base of its own tells nothing about the others' time.
        let shared = near.is_none_or(|(near, _)| self.point.is_some_and(|own| near.same_base(own)));
        if jumped || (shared && !foreign) {
            self.point = point;
        }
        let dts_ms = at_ms.max(track.last_ms).max(0);
        if track.point.is_some() {
            track.step_ms = dts_ms - track.last_ms;
        }
        track.last_ms = dts_ms;
        track.point = point;
        self.newest_ms = self.newest_ms.max(dts_ms);
        Stamp {
            dts_ms: dts_ms.unsigned_abs(),
            jumped,
            clamped,
            foreign,
        }
    }

    /// The point that is nearer to `raw_ms`, and the time since; the publish's
    /// rather than the track's when the track's would be late and it would not:
    /// another track has found that the publisher stepped back.
    fn nearest(&self, track: &TrackClock, raw_ms: u32) -> Option<(Point, i64)> {
        let place = |point: Option<Point>| {
            let point = point?;
            Some((point, elapsed_ms(point.raw_ms, raw_ms)?.into()))
        };
        let late = |(point, elapsed): &(Point, i64)| {
            track.point.is_some() && point.at_ms + elapsed <= track.last_ms - LATE_MS
        };
        let candidates = [place(track.point), place(self.point)];
        let nearest = |(_, elapsed): &(Point, i64)| elapsed.unsigned_abs();
        let all = candidates.into_iter().flatten();
        all.clone()
            .filter(|one| !late(one))
            .min_by_key(nearest)
            .or_else(|| all.min_by_key(nearest))
    }
}

impl Point {
    fn same_base(self, other: Self) -> bool {
        elapsed_ms(self.raw_ms, other.raw_ms)
            .is_some_and(|elapsed| self.at_ms + i64::from(elapsed) == other.at_ms)
    }
}

/// From one raw time to another, if no jump lies between. The counter wraps at
/// 2^32, and at 2^31 for a sender that keeps it in a signed integer.
fn elapsed_ms(from: u32, to: u32) -> Option<i32> {
    let difference = to.wrapping_sub(from);
    let full = difference.cast_signed();
    let signed = (difference << 1).cast_signed() >> 1;
    [full, signed]
        .into_iter()
        .find(|elapsed| elapsed.unsigned_abs() <= JUMP_MS.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(raws: &[u32]) -> (Vec<u64>, Vec<bool>) {
        let (mut clock, mut track) = (Clock::default(), TrackClock::default());
        let stamps: Vec<_> = raws
            .iter()
            .map(|raw| clock.stamp(&mut track, *raw))
            .collect();
        (
            stamps.iter().map(|stamp| stamp.dts_ms).collect(),
            stamps.iter().map(|stamp| stamp.jumped).collect(),
        )
    }

    #[test]
    fn wraps_and_far_starts_change_nothing() {
        for start in [
            0u32,
            7_200_000,
            u32::MAX - 40,
            (1 << 31) - 40,
            (-40i32).cast_unsigned(),
        ] {
            let raws: Vec<u32> = (0..4).map(|n| start.wrapping_add(33 * n)).collect();
            let (times, jumps) = times(&raws);
            assert_eq!(times, [1_000, 1_033, 1_066, 1_099], "from {start}");
            assert_eq!(jumps, [false; 4]);
        }
        // A signed sender starts again at 0.
        let (wrapped, jumps) = times(&[(1 << 31) - 40, (1 << 31) - 7, 26]);
        assert_eq!(wrapped, [1_000, 1_033, 1_066]);
        assert_eq!(jumps, [false; 3]);
    }

    #[test]
    fn a_small_step_back_is_clamped_and_forgotten() {
        let (times, jumps) = times(&[0, 33, 20, 66, 100]);
        assert_eq!(times, [1_000, 1_033, 1_033, 1_066, 1_100]);
        assert_eq!(jumps, [false; 5]);
    }

    #[test]
    fn a_jump_over_5_s_goes_on_from_the_newest_time() {
        for to in [0, 100_000u32, 10_000_000] {
            let (times, jumps) = times(&[50_000, 50_033, to, to + 33]);
            assert_eq!(times, [1_000, 1_033, 1_066, 1_099], "to {to}");
            assert_eq!(jumps, [false, false, true, false]);
        }
    }

    #[test]
    fn a_lasting_step_back_becomes_a_jump() {
        let raws: Vec<u32> = [10_000, 10_033]
            .into_iter()
            .chain((0..12).map(|n| 7_000 + 33 * n))
            .collect();
        let (times, jumps) = times(&raws);
        assert_eq!(jumps.iter().filter(|jumped| **jumped).count(), 1);
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(times.last().map(|last| last - times[9]), Some(33 * 4));
    }

    #[test]
    fn all_tracks_share_a_base_and_jump_once() {
        let mut clock = Clock::default();
        let (mut video, mut audio) = (TrackClock::default(), TrackClock::default());
        let mut at = |track: &mut TrackClock, raw| {
            let stamp = clock.stamp(track, raw);
            (stamp.dts_ms, stamp.jumped)
        };
        assert_eq!(at(&mut video, 500_000), (1_000, false));
        assert_eq!(at(&mut audio, 499_980), (980, false));
        // Audio jumps first, by little more than the bound; one old picture is
        // still on its way, and then video follows without a second jump.
        assert_eq!(at(&mut video, 500_033), (1_033, false));
        assert_eq!(at(&mut audio, 505_990), (1_034, true));
        assert_eq!(at(&mut video, 500_066), (1_066, false));
        assert_eq!(at(&mut video, 506_003), (1_066, false));
        assert_eq!(at(&mut video, 506_036), (1_080, false));
        assert_eq!(at(&mut audio, 506_013), (1_057, false));
    }

    #[test]
    fn a_silent_track_returns_without_a_jump() {
        let mut clock = Clock::default();
        let (mut video, mut audio) = (TrackClock::default(), TrackClock::default());
        clock.stamp(&mut video, 0);
        clock.stamp(&mut audio, 0);
        for second in 1..60 {
            clock.stamp(&mut audio, second * 1_000);
        }
        let back = clock.stamp(&mut video, 59_010);
        assert_eq!((back.dts_ms, back.jumped), (60_010, false));
    }

    #[test]
    fn tracks_on_bases_of_their_own_play_together() {
        let mut clock = Clock::default();
        let (mut video, mut audio) = (TrackClock::default(), TrackClock::default());
        assert_eq!(clock.stamp(&mut video, 9_000_000).dts_ms, 1_000);
        let first = clock.stamp(&mut audio, 0);
        assert_eq!((first.dts_ms, first.foreign), (1_001, true));
        for n in 1..1_000 {
            let picture = clock.stamp(&mut video, 9_000_000 + 20 * n);
            let sound = clock.stamp(&mut audio, 20 * n);
            assert_eq!(u64::from(20 * n + 1_000), picture.dts_ms);
            assert_eq!(picture.dts_ms + 1, sound.dts_ms);
            assert!(!picture.jumped && !sound.jumped);
        }
    }
}
