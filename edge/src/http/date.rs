//! The date of answers (RFC 9110, 6.6.1), made once a second for all connections of
//! a thread.

use std::{
    cell::RefCell,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hyper::header::HeaderValue;

/// A date in the form of RFC 9110, 5.6.7, and how long it is right.
struct Date {
    text: HeaderValue,
    until: Option<Instant>,
}

thread_local! {
    static DATE: RefCell<Date> = const {
        RefCell::new(Date { text: HeaderValue::from_static(""), until: None })
    };
}

pub(super) fn value(now: Instant) -> HeaderValue {
    with(now, HeaderValue::clone)
}

pub(super) fn write(now: Instant, into: &mut Vec<u8>) {
    with(now, |text| into.extend_from_slice(text.as_bytes()));
}

fn with<T>(now: Instant, then: impl FnOnce(&HeaderValue) -> T) -> T {
    DATE.with_borrow_mut(|date| {
        if date.until.is_none_or(|until| until <= now) {
            *date = Date::at(SystemTime::now(), now);
        }
        then(&date.text)
    })
}

impl Date {
    fn at(time: SystemTime, now: Instant) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(since.as_secs()));
        let left = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        Self {
            // Letters, digits and signs, all of them.
            text: HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("")),
            until: Some(now + left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_right_until_its_second_is_over() {
        let now = Instant::now();
        let time = UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        let date = Date::at(time, now);
        assert_eq!(date.text, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.until, Some(now + Duration::from_millis(750)));
    }

    #[test]
    fn all_answers_tell_the_same_date() {
        let now = Instant::now();
        let mut written = Vec::new();
        write(now, &mut written);
        assert_eq!(value(now).as_bytes(), written);
        assert_eq!(written.len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
    }
}
