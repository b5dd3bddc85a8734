//! Frame rates: which grid a publisher's millisecond stamps lie on.
//!
//! In: decode times in milliseconds and what bitstream and metadata claim.
//! Out: the length of a frame in ticks and the fraction that names the rate.
//! Claims are believed only where the stamps agree with them.

use common::media::Timescale;

/// A frame's length on the video clock and the rate in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub frame: u64,
    pub fraction: (u32, u32),
}

const COMMON: [(u32, u32); 22] = [
    (30, 1),
    (60, 1),
    (25, 1),
    (50, 1),
    (24, 1),
    (15, 1),
    (30_000, 1_001),
    (60_000, 1_001),
    (24_000, 1_001),
    (15_000, 1_001),
    (12_000, 1_001),
    (5, 1),
    (6, 1),
    (8, 1),
    (10, 1),
    (12, 1),
    (20, 1),
    (48, 1),
    (48_000, 1_001),
    (100, 1),
    (120, 1),
    (120_000, 1_001),
];

/// 1 to 240 frames a second: outside it nothing is live video.
const FRAME_RANGE: std::ops::RangeInclusive<u64> = 500..=120_000;

/// One millisecond on the video clock.
pub(super) const MS: u64 = 120;

impl Rate {
    pub(super) const FALLBACK: Self = Self {
        frame: 4_000,
        fraction: (30, 1),
    };

    /// `None` when the fraction is no rate of live video.
    pub(super) fn of(num: u32, den: u32) -> Option<Self> {
        if num == 0 || den == 0 {
            return None;
        }
        let (num64, den64) = (u64::from(num), u64::from(den));
        let frame = (u64::from(Timescale::VIDEO.hz()) * den64 + num64 / 2) / num64;
        FRAME_RANGE.contains(&frame).then(|| {
            let by = gcd(num, den);
            Self {
                frame,
                fraction: (num / by, den / by),
            }
        })
    }

    /// onMetaData's decimal number: 29.97 means 30000/1001.
    pub(super) fn declared(fps: f64) -> Option<Self> {
        if !(0.9..=241.0).contains(&fps) {
            return None;
        }
        let near = |(num, den): &(u32, u32)| (f64::from(*num) / f64::from(*den) - fps).abs();
        let best = COMMON.iter().min_by(|a, b| near(a).total_cmp(&near(b)))?;
        if near(best) < 0.011 {
            return Self::of(best.0, best.1);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was checked"
        )]
        let thousandths = (fps * 1_000.0).round() as u32;
        Self::of(thousandths, 1_000)
    }

    /// Learns the rate from decode times. `claims` go before the common rates
    /// and those before the bare average, each only within the error that
    /// rounding to milliseconds leaves.
    pub(super) fn learn(dts_ms: &[u64], claims: &[Rate]) -> Option<Self> {
        let mut deltas: Vec<u64> = dts_ms
            .windows(2)
            .map(|w| w[1].saturating_sub(w[0]))
            .collect();
        deltas.retain(|delta| (1..=1_100).contains(delta));
        deltas.sort_unstable();
        let median = *deltas.get(deltas.len() / 2)?;
        // What a dropped frame leaves is no frame's length.
        deltas.retain(|delta| delta * 2 > median && delta * 2 < median * 3);
        let count = deltas.len() as u64;
        let mean = (deltas.iter().sum::<u64>() * MS + count / 2) / count.max(1);
        let rounding = MS / count.max(1);
        let near = |rate: &Rate, tolerance: u64| rate.frame.abs_diff(mean) <= tolerance;
        if let Some(claim) = claims.iter().find(|c| near(c, mean / 64 + rounding)) {
            return Some(*claim);
        }
        COMMON
            .iter()
            .filter_map(|&(num, den)| Self::of(num, den))
            .filter(|rate| near(rate, mean / 200 + rounding))
            .min_by_key(|rate| rate.frame.abs_diff(mean))
            .or_else(|| {
                let frame = mean.clamp(*FRAME_RANGE.start(), *FRAME_RANGE.end());
                Self::of(Timescale::VIDEO.hz(), u32::try_from(frame).ok()?)
            })
    }
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(num: u64, den: u64, count: u64) -> Vec<u64> {
        (0..count).map(|n| n * 1_000 * den / num).collect()
    }

    #[test]
    fn common_rates_are_learnt_from_two_seconds_of_millisecond_stamps() {
        for (num, den) in COMMON {
            let want = Rate::of(num, den).unwrap();
            let count = u64::from(num) * 4 / u64::from(den) + 2;
            let got = Rate::learn(&stamps(num.into(), den.into(), count), &[]).unwrap();
            assert_eq!(got.fraction, want.fraction);
        }
    }

    #[test]
    fn a_claim_is_believed_only_when_the_stamps_agree() {
        let ntsc = Rate::of(30_000, 1_001).unwrap();
        let film = Rate::of(24, 1).unwrap();
        let seven = stamps(30_000, 1_001, 7);
        assert_eq!(Rate::learn(&seven, &[ntsc]), Some(ntsc));
        assert_eq!(
            Rate::learn(&stamps(30, 1, 61), &[film]).unwrap().frame,
            4_000
        );
    }

    #[test]
    fn metadata_decimals_name_their_fraction() {
        assert_eq!(Rate::declared(29.97).unwrap().fraction, (30_000, 1_001));
        assert_eq!(Rate::declared(23.976).unwrap().frame, 5_005);
        assert_eq!(Rate::declared(30.0).unwrap().frame, 4_000);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 100_000.0] {
            assert_eq!(Rate::declared(bad), None);
        }
    }

    #[test]
    fn frames_missing_from_the_stamps_do_not_lower_the_rate() {
        let mut times = stamps(25, 1, 60);
        times.remove(20);
        times.remove(40);
        assert_eq!(Rate::learn(&times, &[]).unwrap().fraction, (25, 1));
        assert_eq!(Rate::learn(&[5, 5, 5], &[]), None);
        assert_eq!(Rate::learn(&[], &[]), None);
    }
}
