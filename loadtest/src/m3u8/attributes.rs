//! Attribute lists, decimal numbers, yes and no (RFC 8216bis 4.2).

use super::{Attributes, M3u8Error, fault};

/// `NAME=value,NAME="quoted, value"`.
pub fn parse(line: usize, text: &str) -> Result<Attributes, M3u8Error> {
    let mut out = Attributes::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest
            .split_once('=')
            .ok_or_else(|| fault(line, format!("attribute `{rest}` has no value")))?;
        let proper = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || !name.bytes().all(proper) {
            return Err(fault(line, format!("`{name}` isn't an attribute name")));
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted
                .split_once('"')
                .ok_or_else(|| fault(line, format!("the value of {name} has no closing quote")))?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if out.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(fault(line, format!("{name} stands twice")));
        }
        rest = match after.strip_prefix(',') {
            Some("") => return Err(fault(line, "the attribute list ends with a comma")),
            Some(rest) => rest,
            None if after.is_empty() => "",
            None => return Err(fault(line, format!("no comma behind {name}"))),
        };
    }
    Ok(out)
}

pub fn integer(line: usize, text: &str) -> Result<u64, M3u8Error> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(value) if digits => Ok(value),
        _ => Err(fault(line, format!("`{text}` isn't a decimal integer"))),
    }
}

/// Seconds with a fraction into microseconds; digits past the sixth round.
pub fn micros(line: usize, text: &str) -> Result<u64, M3u8Error> {
    let wrong = || fault(line, format!("`{text}` isn't a number of seconds"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let mut micros = 0u64;
    for place in 0..6 {
        let digit = fraction.as_bytes().get(place).map_or(0, |b| b - b'0');
        micros = micros * 10 + u64::from(digit);
    }
    if fraction.as_bytes().get(6).is_some_and(|b| *b >= b'5') {
        micros += 1;
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    whole
        .checked_mul(1_000_000)
        .and_then(|whole| whole.checked_add(micros))
        .ok_or_else(wrong)
}

pub fn yes(line: usize, text: Option<&String>) -> Result<bool, M3u8Error> {
    match text.map(String::as_str) {
        Some("YES") => Ok(true),
        Some("NO") | None => Ok(false),
        Some(other) => Err(fault(line, format!("`{other}` is neither YES nor NO"))),
    }
}
