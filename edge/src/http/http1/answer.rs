//! The bytes of an answer's head (RFC 9112, 4 to 6).

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hyper::{
    StatusCode,
    header::{CONNECTION, CONTENT_LENGTH},
};

use super::super::response::Answer;

/// What an answer's bytes depend on beside the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// To HEAD: its length is told, not sent.
    pub(super) bodiless: bool,
    /// The connection ends with it.
    pub(super) close: bool,
    pub(super) now: Instant,
}

/// Appends the head, and says whether the connection ends with the answer. A body
/// of unknown length is to be sent in chunks.
pub(super) fn write_head(answer: &Answer, terms: Terms, into: &mut Vec<u8>) -> bool {
    let status = answer.status();
    if status == StatusCode::OK {
        into.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        into.extend_from_slice(b"HTTP/1.1 ");
        into.extend_from_slice(status.as_str().as_bytes());
        into.push(b' ');
        into.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        into.extend_from_slice(b"\r\n");
    }
    answer.write_fields(into);
    // RFC 9110, 8.6: neither has a body, and none is promised.
    let never = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !never && !terms.bodiless && !answer.names(&CONTENT_LENGTH) {
        match answer.body().len() {
            Some(len) => {
                into.extend_from_slice(b"content-length: ");
                write_decimal(len, into);
                into.extend_from_slice(b"\r\n");
            }
            None => into.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
    }
    let told = answer.names(&CONNECTION);
    if terms.close && !told {
        into.extend_from_slice(b"connection: close\r\n");
    }
    into.extend_from_slice(b"date: ");
    write_date(terms.now, into);
    into.extend_from_slice(b"\r\n\r\n");
    terms.close || told
}

pub(crate) fn write_decimal(number: u64, into: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let (mut left, mut at) = (number, digits.len());
    for place in digits.iter_mut().rev() {
        *place = b'0' + (left % 10) as u8;
        at -= 1;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    into.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// A date in the form of RFC 9110, 5.6.7, and how long it is right.
#[derive(Clone, Copy)]
struct Date {
    text: [u8; 29],
    until: Option<Instant>,
}

thread_local! {
    static DATE: Cell<Date> = const {
        Cell::new(Date { text: [0; 29], until: None })
    };
}

/// Made once a second for all connections of a thread.
fn write_date(now: Instant, into: &mut Vec<u8>) {
    let mut date = DATE.get();
    if date.until.is_none_or(|until| until <= now) {
        date = Date::at(SystemTime::now(), now);
        DATE.set(date);
    }
    into.extend_from_slice(&date.text);
}

impl Date {
    fn at(time: SystemTime, now: Instant) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut text = [b' '; 29];
        // Of this length in the years that there are until 9999.
        let made = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(since.as_secs()));
        for (place, byte) in text.iter_mut().zip(made.bytes()) {
            *place = byte;
        }
        let left = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        Self {
            text,
            until: Some(now + left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 1, 9, 10, 65_536, u64::MAX] {
            let mut text = Vec::new();
            write_decimal(number, &mut text);
            assert_eq!(text, number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_date_is_right_until_its_second_is_over() {
        let now = Instant::now();
        let time = UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        let date = Date::at(time, now);
        assert_eq!(&date.text, b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.until, Some(now + Duration::from_millis(750)));
    }
}
