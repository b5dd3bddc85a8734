//! Durations on the frame grid: a sample leaves at once with a predicted
//! duration, and its successor's duration absorbs what the prediction missed.
//!
//! The invariant, held together with the holes: the emitted decode time never
//! strays more than one frame from the publisher's (C3).

use super::rate::MS;

/// What rounding to milliseconds may move a stamp, both ends of a delta.
pub(super) const ROUNDING: i64 = 2 * MS.cast_signed();

/// The duration of a video sample that stands `error` ticks before (negative)
/// or after where the publisher has it.
///
/// Errors within rounding leave the grid alone, so 33, 33, 34 ms do not jitter;
/// up to half a frame they are jitter or drift and go in quarters; beyond that
/// a frame is missing or extra and they go at once.
pub(super) fn video_duration(frame: u64, error: i64) -> u64 {
    let grid = frame.cast_signed();
    let corrected = if error.abs() <= ROUNDING.min(grid / 4) {
        grid
    } else if error.abs() <= grid / 2 {
        grid + error / 4
    } else {
        grid + error
    };
    corrected.max(grid / 16).max(1).unsigned_abs()
}

/// Snaps a composition offset to whole frames when rounding explains the rest.
pub(super) fn snap(offset_ms: i32, frame: u64) -> i64 {
    let exact = i64::from(offset_ms) * MS.cast_signed();
    let grid = frame.cast_signed().max(1);
    let snapped = (exact + exact.signum() * grid / 2) / grid * grid;
    if (snapped - exact).abs() <= ROUNDING {
        snapped
    } else {
        exact
    }
}

/// Whether a sample comes so late that it leaves a hole: more than two frames
/// after the one before it, so more than one after where it was expected.
pub(super) fn is_hole(error: i64, frame: u64, rounding: i64) -> bool {
    error > frame.cast_signed() + rounding
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds stamps (ms) and returns (emitted dts, duration) of each sample.
    fn run(frame: u64, stamps: &[u64]) -> Vec<(u64, u64)> {
        let mut at = stamps[0] * MS;
        stamps
            .iter()
            .map(|ms| {
                let error = (ms * MS).cast_signed() - at.cast_signed();
                let duration = video_duration(frame, error);
                let emitted = at;
                at += duration;
                (emitted, duration)
            })
            .collect()
    }

    #[test]
    fn c3_millisecond_rounding_never_jitters_a_duration() {
        for (num, den, frame) in [
            (30, 1, 4_000),
            (30_000, 1_001, 4_004),
            (60, 1, 2_000),
            (15, 1, 8_000),
        ] {
            for half in [0, num / 2] {
                let stamps: Vec<u64> = (0..20_000)
                    .map(|n| (n * 1_000 * den + half) / num)
                    .collect();
                assert!(
                    run(frame, &stamps).iter().all(|(_, d)| *d == frame),
                    "{num}/{den}"
                );
            }
        }
    }

    #[test]
    fn c3_a_missing_frame_is_absorbed_by_the_next_duration() {
        let out = run(4_000, &[0, 33, 100, 133, 167]);
        assert_eq!(out[2], (8_000, 4_000 + 4_000));
        assert_eq!(out[3].0, 16_000);
    }

    #[test]
    fn c5_composition_offsets_snap_to_the_grid() {
        for (ms, want) in [
            (0, 0),
            (33, 4_000),
            (34, 4_000),
            (66, 8_000),
            (67, 8_000),
            (-33, -4_000),
            (50, 6_000),
        ] {
            assert_eq!(snap(ms, 4_000), want, "{ms}");
        }
    }

    proptest! {
        #[test]
        fn c3_emitted_dts_stays_within_a_frame_for_jitter_and_drift(
            jitter in proptest::collection::vec(-12i64..=12, 50..400),
            ppm in -20_000i64..20_000,
        ) {
            let frame = 4_000u64;
            let stamps: Vec<u64> = jitter.iter().enumerate().map(|(n, j)| {
                let exact = n as i64 * 100 * (1_000_000 + ppm) / 3_000_000;
                (1_000 + exact + j).unsigned_abs()
            }).collect();
            for ((emitted, _), ms) in run(frame, &stamps).iter().zip(&stamps) {
                prop_assert!(emitted.abs_diff(ms * MS) <= frame + ROUNDING.unsigned_abs());
            }
        }
    }
}
