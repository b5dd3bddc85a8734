//! EXT-X-PROGRAM-DATE-TIME: ISO 8601 with a zone, into Unix microseconds.

use super::{M3u8Error, fault};

pub fn unix_us(line: usize, text: &str) -> Result<i64, M3u8Error> {
    date_time_us(text).ok_or_else(|| {
        let example = "2026-11-22T21:00:00.123Z";
        fault(
            line,
            format!("`{text}` isn't a date-time such as {example}"),
        )
    })
}

/// As [`unix_us`], of a text that stands on no line.
pub fn date_time_us(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once('T')?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (
        number(date.next()?, 9999)?,
        number(date.next()?, 12)?,
        number(date.next()?, 31)?,
    );
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.splitn(3, ':');
    let hour = number(clock.next()?, 23)?;
    let minute = number(clock.next()?, 59)?;
    let second = number(clock.next()?, 60)?;
    let mut micros = 0i64;
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    for place in 0..6 {
        let digit = fraction.as_bytes().get(place).map_or(0, |b| b - b'0');
        micros = micros * 10 + i64::from(digit);
    }
    let days = days_from_civil(year, month, day);
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - zone_s(zone)?;
    Some(seconds * 1_000_000 + micros)
}

fn zone_s(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone.get(1..)?.replace(':', "");
    let (hours, minutes) = (digits.get(..2)?, digits.get(2..)?);
    Some(sign * (number(hours, 23)? * 3600 + number(minutes, 59)? * 60))
}

fn number(text: &str, max: i64) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value: i64 = text.parse().ok()?;
    (digits && value <= max).then_some(value)
}

/// Days since 1970-01-01 in the Gregorian calendar: years counted from March,
/// so that the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let from_march = (153 * month + 2) / 5;
    year * 365 + leap_days + from_march + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (text, wanted) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00.5Z", 951_825_600_500_000),
            ("2026-11-22T21:16:23.000Z", 1_795_382_183_000_000),
            ("2026-11-22T22:16:23.001+01:00", 1_795_382_183_001_000),
            ("2026-11-22T16:16:23-0500", 1_795_382_183_000_000),
        ] {
            assert_eq!(unix_us(1, text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn without_zone_or_with_nonsense_it_is_refused() {
        for text in [
            "2026-11-22T21:16:23",
            "2026-13-01T00:00:00Z",
            "x",
            "T",
            "2026-11-22T1:2Z",
            "2026-1-1T0:0:0.Z",
        ] {
            assert!(unix_us(3, text).is_err(), "{text}");
        }
    }
}
