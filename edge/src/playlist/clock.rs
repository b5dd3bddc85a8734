//! Time as playlists print it: decimal seconds and ISO 8601 dates.

use std::fmt;

use common::{
    live::UnixMs,
    media::{Ticks, Timescale},
};

/// Microseconds, printed as seconds with six decimals.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) u64);

/// Milliseconds, printed as seconds with three decimals.
#[derive(Clone, Copy)]
pub(super) struct SecondsMs(pub(super) u32);

/// `2026-11-22T21:16:23.042Z`
#[derive(Clone, Copy)]
pub(crate) struct Iso8601(pub(crate) UnixMs);

/// A running position in a segment. Durations are differences of positions that
/// are each rounded down, so their sum never leaves the media by more than one
/// microsecond, and none is above its exact length rounded up (H1, H4).
pub(super) struct Running {
    timescale: Timescale,
    at: Ticks,
}

impl Running {
    pub(super) const fn from(timescale: Timescale, at: Ticks) -> Self {
        Self { timescale, at }
    }

    pub(super) fn advance(&mut self, by: Ticks) -> Seconds {
        let from = floor_us(self.timescale, self.at);
        self.at += by;
        Seconds(floor_us(self.timescale, self.at).saturating_sub(from))
    }
}

/// The exact length rounded up: what no rounded duration exceeds.
pub(super) fn ceiling(timescale: Timescale, length: Ticks) -> Seconds {
    let hz = u128::from(timescale.hz());
    let us = (u128::from(length.0) * 1_000_000).div_ceil(hz);
    Seconds(u64::try_from(us).unwrap_or(u64::MAX))
}

fn floor_us(timescale: Timescale, at: Ticks) -> u64 {
    let us = u128::from(at.0) * 1_000_000 / u128::from(timescale.hz());
    u64::try_from(us).unwrap_or(u64::MAX)
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl fmt::Display for SecondsMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

impl fmt::Display for Iso8601 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.0;
        let (year, month, day) = civil(ms / 86_400_000);
        let of_day = ms % 86_400_000;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            of_day / 3_600_000,
            of_day / 60_000 % 60,
            of_day / 1_000 % 60,
            of_day % 1_000,
        )
    }
}

/// Year, month and day of a day counted from 1970-01-01, Gregorian. Counting
/// years from March puts the leap day last, where it disturbs no other month.
fn civil(days: u64) -> (u64, u64, u64) {
    let from_march_0000 = days + 719_468;
    let era = from_march_0000 / 146_097;
    let day_of_era = from_march_0000 % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_utc_to_the_millisecond() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_382_183_042, "2026-11-22T21:16:23.042Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Iso8601(UnixMs(ms)).to_string(), text);
        }
    }

    #[test]
    fn rounded_durations_add_up_to_the_media() {
        let audio = Timescale::new(44_100).unwrap();
        let mut running = Running::from(audio, Ticks(12_345));
        let part = Ticks(1024 * 14);
        let target = ceiling(audio, part);
        let mut sum = 0;
        for _ in 0..10_000 {
            let printed = running.advance(part);
            assert!(printed.0 <= target.0);
            sum += printed.0;
        }
        let exact = u128::from(part.0) * 10_000 * 1_000_000 / 44_100;
        assert!(u128::from(sum).abs_diff(exact) <= 1);
    }
}
