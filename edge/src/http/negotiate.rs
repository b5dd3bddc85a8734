//! What a request's headers say about the form of its answer: gzip, ranges and
//! entity tags (RFC 9110, sections 12 to 14).

use super::request::{Field, Fields};

/// Which bytes of a representation are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    /// First byte and the one past the last.
    Range(u64, u64),
    /// 416
    Unsatisfiable,
}

/// Whether gzip is acceptable: named, or meant by `*`, and not with `q=0`.
pub(super) fn gzip(fields: &Fields<'_>) -> bool {
    let mut by_star = false;
    for value in fields.all(Field::AcceptEncoding) {
        // What browsers and players send.
        if let Some([] | [b',', ..]) = value.strip_prefix(b"gzip") {
            return true;
        }
        let Ok(value) = std::str::from_utf8(value) else {
            continue;
        };
        for coding in value.split(',') {
            let mut parameters = coding.split(';').map(str::trim);
            let name = parameters.next().unwrap_or_default();
            let refused = parameters.any(is_zero_weight);
            if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
                return !refused;
            }
            by_star |= name == "*" && !refused;
        }
    }
    by_star
}

fn is_zero_weight(parameter: &str) -> bool {
    let weight = parameter
        .strip_prefix("q=")
        .or_else(|| parameter.strip_prefix("Q="));
    weight.is_some_and(|weight| {
        weight.starts_with('0') && weight.bytes().all(|b| matches!(b, b'0' | b'.'))
    })
}

/// Whether the requester has this representation already: 304.
pub(super) fn not_modified(fields: &Fields<'_>, etag: &[u8]) -> bool {
    fields.all(Field::IfNoneMatch).any(|value| {
        value.split(|b| *b == b',').any(|tag| {
            let tag = tag.trim_ascii();
            // If-None-Match compares weakly.
            tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag
        })
    })
}

/// One range is honoured; several, another unit or another representation than
/// If-Range names get all of it, which RFC 9110 allows.
pub(super) fn range(fields: &Fields<'_>, len: u64, etag: &[u8]) -> Wanted {
    let mut all = fields.all(Field::Range);
    let (Some(value), None) = (all.next(), all.next()) else {
        return Wanted::Whole;
    };
    let guard = fields.first(Field::IfRange);
    if guard.is_some_and(|tag| tag != etag) {
        return Wanted::Whole;
    }
    let spec = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.strip_prefix("bytes="));
    spec.and_then(|spec| one_range(spec.trim(), len))
        .unwrap_or(Wanted::Whole)
}

/// `None` for what is not one well-formed range.
fn one_range(spec: &str, len: u64) -> Option<Wanted> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let suffix = digits(last)?;
        return Some(if suffix == 0 || len == 0 {
            Wanted::Unsatisfiable
        } else {
            Wanted::Range(len.saturating_sub(suffix), len)
        });
    }
    let first = digits(first)?;
    let end = if last.is_empty() {
        len
    } else {
        let last = digits(last)?;
        if last < first {
            return None;
        }
        last.saturating_add(1).min(len)
    };
    Some(if first >= len {
        Wanted::Unsatisfiable
    } else {
        Wanted::Range(first, end)
    })
}

/// Digits; a number beyond 64 bits lies past every end.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{
        Field::{AcceptEncoding, IfNoneMatch, IfRange, Range},
        *,
    };

    fn fields<'a>(lines: &[(Field, &'a str)]) -> Fields<'a> {
        let mut fields = Fields::none();
        for (field, value) in lines {
            fields.add(*field, value.as_bytes());
        }
        fields
    }

    #[test]
    fn t2_gzip_is_negotiated() {
        for (value, yes) in [
            ("gzip", true),
            ("GZip", true),
            ("deflate, gzip;q=0.5, br", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("*;q=0", false),
            ("gzip, deflate, br, zstd", true),
            ("gzip;q=0, *", false),
            ("*, gzip;q=0", false),
            ("br", false),
            ("gzipped", false),
            ("", false),
        ] {
            assert_eq!(gzip(&fields(&[(AcceptEncoding, value)])), yes, "{value}");
        }
        assert!(!gzip(&Fields::none()));
    }

    #[test]
    fn t5_one_range_is_honoured() {
        let outcome = |value| range(&fields(&[(Range, value)]), 100, b"\"0\"");
        for (value, wanted) in [
            ("bytes=0-", Wanted::Range(0, 100)),
            ("bytes=0-0", Wanted::Range(0, 1)),
            ("bytes=10-19", Wanted::Range(10, 20)),
            ("bytes=90-999", Wanted::Range(90, 100)),
            ("bytes=-10", Wanted::Range(90, 100)),
            ("bytes=-1000", Wanted::Range(0, 100)),
            ("bytes=0-99999999999999999999999", Wanted::Range(0, 100)),
            ("bytes=100-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=x-4", Wanted::Whole),
            ("bytes=+1-4", Wanted::Whole),
            ("bytes=--4", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
        ] {
            assert_eq!(outcome(value), wanted, "{value}");
        }
    }

    #[test]
    fn t5_if_range_guards_the_range() {
        let outcome = |tag| {
            let fields = fields(&[(Range, "bytes=0-1"), (IfRange, tag)]);
            range(&fields, 100, b"\"0\"")
        };
        assert_eq!(outcome("\"0\""), Wanted::Range(0, 2));
        assert_eq!(outcome("\"1\""), Wanted::Whole);
        assert_eq!(outcome("W/\"0\""), Wanted::Whole);
        assert_eq!(outcome("Sun, 22 Nov 2026 21:16:23 GMT"), Wanted::Whole);
    }

    #[test]
    fn a_thousand_ranges_get_the_whole() {
        let value: String = (0..1_000).map(|at| format!("{at}-{at},")).collect();
        let value = format!("bytes={value}");
        let fields = fields(&[(Range, &value)]);
        assert_eq!(range(&fields, 100, b"\"0\""), Wanted::Whole);
    }

    #[test]
    fn entity_tags_match_weakly() {
        let has = |value| not_modified(&fields(&[(IfNoneMatch, value)]), b"\"7\"");
        for value in ["\"7\"", "W/\"7\"", "\"a\", \"7\"", "*"] {
            assert!(has(value), "{value}");
        }
        for value in ["\"8\"", "7", ""] {
            assert!(!has(value), "{value}");
        }
    }
}
