//! ISO 8601 durations and dates of a manifest into microseconds.

use crate::m3u8::date_time_us;

/// `PT1H2M3.5S`, `P1DT2S`; years and months, which have no length, are none.
pub(super) fn duration_us(text: &str) -> Option<u64> {
    let rest = text.strip_prefix('P')?;
    let (days, clock) = match rest.split_once('T') {
        Some((days, clock)) => (days, Some(clock)),
        None => (rest, None),
    };
    let mut total = 0u64;
    let mut add = |text: &str, units: &[(char, u64)]| -> Option<()> {
        let mut rest = text;
        let mut units = units.iter();
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
            let (number, tail) = rest.split_at(end);
            let unit = tail.chars().next()?;
            // Each unit once, in its order.
            let (_, seconds) = units.find(|(name, _)| *name == unit)?;
            total = total.checked_add(seconds_us(number)?.checked_mul(*seconds)?)?;
            rest = tail.get(1..)?;
        }
        Some(())
    };
    add(days, &[('D', 86_400)])?;
    if let Some(clock) = clock {
        add(clock, &[('H', 3_600), ('M', 60), ('S', 1)])?;
    }
    Some(total)
}

/// Decimal seconds, not negative.
pub(super) fn seconds_us(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let micros = (0..6).fold(0u64, |sum, at| {
        let digit = fraction.as_bytes().get(at).map_or(0, |b| b - b'0');
        sum * 10 + u64::from(digit)
    });
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(micros)
}

/// A date with a zone, or without one: then it is UTC.
pub(super) fn unix_us(text: &str) -> Option<i64> {
    date_time_us(text).or_else(|| date_time_us(&format!("{text}Z")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, us) in [
            ("PT0S", 0),
            ("PT1.5S", 1_500_000),
            ("PT1795382183.042S", 1_795_382_183_042_000),
            ("PT1H2M3S", 3_723_000_000),
            ("P1DT0.000001S", 86_400_000_001),
            ("P", 0),
        ] {
            assert_eq!(duration_us(text), Some(us), "{text}");
        }
        for text in [
            "", "1S", "PT", "PTS", "PT1", "P1Y", "PT1S1M", "PT-1S", "PTxS",
        ] {
            // An empty clock adds nothing, which no reader minds.
            assert!(duration_us(text).is_none_or(|us| us == 0), "{text}");
        }
    }

    #[test]
    fn dates_without_a_zone_are_utc() {
        assert_eq!(unix_us("1970-01-01T00:00:01"), Some(1_000_000));
        assert_eq!(unix_us("1970-01-01T00:00:01.5Z"), Some(1_500_000));
        assert_eq!(unix_us("yesterday"), None);
    }
}
