//! The bytes of an answer's head (RFC 9112, 4 to 6).

use std::time::Instant;

use hyper::{
    StatusCode,
    header::{CONNECTION, CONTENT_LENGTH},
};

use super::super::{date, response::Answer};

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
    date::write(terms.now, into);
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
}
