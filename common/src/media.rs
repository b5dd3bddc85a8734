//! Media time: integer ticks of a track's own timescale, and the few places
//! where they become another unit.

use std::num::NonZeroU32;

/// Ticks a second. 120000 for video: exact for 24, 25, 30, 50 and 60 frames a
/// second, for their /1.001 kin, and for milliseconds. Audio: its sample rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timescale(NonZeroU32);

/// A point or a length of time in the timescale of the track it belongs to.
/// Two tracks' ticks never meet: convert one with [`Timescale::convert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticks(pub u64);

impl Timescale {
    pub const VIDEO: Self = match NonZeroU32::new(120_000) {
        Some(hz) => Self(hz),
        None => unreachable!(),
    };

    /// `None` for a frequency of zero.
    #[must_use]
    pub const fn new(hz: u32) -> Option<Self> {
        match NonZeroU32::new(hz) {
            Some(hz) => Some(Self(hz)),
            None => None,
        }
    }

    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0.get()
    }

    /// Rounded to the nearest tick.
    #[must_use]
    pub fn from_ms(self, ms: u64) -> Ticks {
        Ticks(rescale(ms, 1_000, self.hz()))
    }

    /// Rounded to the nearest millisecond.
    #[must_use]
    pub fn to_ms(self, at: Ticks) -> u64 {
        rescale(at.0, self.hz(), 1_000)
    }

    /// Rounded to the nearest microsecond.
    #[must_use]
    pub fn to_us(self, at: Ticks) -> u64 {
        rescale(at.0, self.hz(), 1_000_000)
    }

    /// The same time on another clock, rounded to its nearest tick.
    #[must_use]
    pub fn convert(self, at: Ticks, to: Timescale) -> Ticks {
        Ticks(rescale(at.0, self.hz(), to.hz()))
    }

    /// Seconds, for the decimal numbers of a playlist and nothing else.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a window is far shorter than 2^53 ticks"
    )]
    pub fn seconds(self, length: Ticks) -> f64 {
        length.0 as f64 / f64::from(self.hz())
    }
}

impl Ticks {
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::ops::Add for Ticks {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::AddAssign for Ticks {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Ticks {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self(0), |sum, one| sum + one)
    }
}

fn rescale(value: u64, from_hz: u32, to_hz: u32) -> u64 {
    let (from, to) = (u128::from(from_hz), u128::from(to_hz));
    let scaled = (u128::from(value) * to + from / 2) / from;
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_exact_on_the_video_clock() {
        for ms in [0, 1, 33, 16_777_215, u64::from(u32::MAX)] {
            assert_eq!(Timescale::VIDEO.to_ms(Timescale::VIDEO.from_ms(ms)), ms);
        }
        assert_eq!(Timescale::VIDEO.from_ms(1), Ticks(120));
    }

    #[test]
    fn conversion_rounds_to_the_nearest_tick_and_never_wraps() {
        let audio = Timescale::new(44_100).unwrap();
        assert_eq!(audio.convert(Ticks(1), Timescale::VIDEO), Ticks(3));
        assert_eq!(
            Timescale::VIDEO.convert(Ticks(120_000), audio),
            Ticks(44_100)
        );
        assert_eq!(Timescale::new(1).unwrap().to_us(Ticks(u64::MAX)), u64::MAX);
    }
}
