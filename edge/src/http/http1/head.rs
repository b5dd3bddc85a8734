//! A request's head from its bytes (RFC 9112, 2 to 6), and whose it is to serve.
//! Pure: what stands in the buffer is all that counts, however it came.
//!
//! Served here is what viewers send: GET, HEAD and OPTIONS for a plain path on
//! HTTP/1.1, with one host and no body. Everything in which one implementation
//! might see other bounds of a message than the next one does is hyper's: bare
//! line feeds, lengths, codings, upgrades, expectations.

use std::mem::MaybeUninit;

use super::super::request::{Field, Fields, Head, Method, is_host, letters_and};

/// Lines of header fields at most, as in hyper: more are answered 431.
const MAX_LINES: usize = 100;

/// What a buffer begins with.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what nearly all are: a box would be made for every request"
)]
pub(super) enum Read<'b> {
    Partial,
    Request {
        head: Head<'b>,
        /// Of the head, with the empty line that ends it.
        len: usize,
        /// The connection ends with the answer.
        close: bool,
    },
    /// Hyper's: to serve, or to refuse for what only it looks at.
    Foreign,
    Malformed,
    TooLarge,
}

pub(super) fn read(bytes: &[u8]) -> Read<'_> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Read::Partial,
        Err(httparse::Error::TooManyHeaders) => return Read::TooLarge,
        Err(_) => return Read::Malformed,
    };
    let (Some(name), Some(target), Some(1)) = (request.method, request.path, request.version)
    else {
        return Read::Foreign;
    };
    let method = Method::of(name);
    let lines = request.headers.iter().map(|line| line.name);
    if method == Method::Other || !is_plain(target) || !has_whole_lines(bytes, len, name, lines) {
        return Read::Foreign;
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut head = Head {
        method,
        path,
        query,
        fields: Fields::none(),
        header_bytes: 0,
    };
    let (mut hosts, mut close) = (0, false);
    for line in &*request.headers {
        head.header_bytes += line.name.len() + line.value.len();
        match Kind::of(line.name) {
            Kind::Ours(field) => head.fields.add(field, line.value),
            Kind::Host if is_host(line.value) => hosts += 1,
            Kind::Host | Kind::Foreign => return Read::Foreign,
            Kind::Connection => close |= says_close(line.value),
            Kind::Indifferent => {}
        }
    }
    if hosts == 1 {
        Read::Request { head, len, close }
    } else {
        Read::Foreign
    }
}

/// Whether a head may have come to its end with the bytes from `from` on: a
/// quick look, so that one that comes in drops is not read anew with each.
pub(super) fn may_be_whole(bytes: &[u8], from: usize) -> bool {
    let fresh = bytes.get(from.saturating_sub(3)..).unwrap_or_default();
    let mut ends = fresh.iter().enumerate().filter(|(_, b)| **b == b'\n');
    ends.any(|(at, _)| matches!(fresh.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}

/// What a header field means to whoever serves the request.
enum Kind {
    Ours(Field),
    Host,
    Connection,
    /// It changes where the message ends, or what comes after it.
    Foreign,
    Indifferent,
}

impl Kind {
    fn of(name: &str) -> Self {
        let (kind, known) = match name.len() {
            4 => (Self::Host, "host"),
            6 => (Self::Foreign, "expect"),
            7 => (Self::Foreign, "upgrade"),
            14 => (Self::Foreign, "content-length"),
            17 => (Self::Foreign, "transfer-encoding"),
            10 if name.eq_ignore_ascii_case("connection") => return Self::Connection,
            _ => return Field::of(name).map_or(Self::Indifferent, Self::Ours),
        };
        if name.eq_ignore_ascii_case(known) {
            kind
        } else {
            Self::Indifferent
        }
    }
}

/// A path and a query in the characters of RFC 3986, 3.3 and 3.4. Other forms of
/// a target, and other characters, are hyper's to judge.
fn is_plain(target: &str) -> bool {
    target.starts_with('/') && target.bytes().all(|b| PLAIN[usize::from(b)])
}

static PLAIN: [bool; 256] = letters_and(b"-._~!$&'()*+,;=:@/%?");

/// Whether the head begins with its method and each of its lines ends in CR LF. A
/// line feed stands nowhere else: neither names nor values have one. `begins` are
/// slices of `bytes`.
fn has_whole_lines<'b>(
    bytes: &[u8],
    len: usize,
    method: &str,
    mut begins: impl Iterator<Item = &'b str>,
) -> bool {
    let start = bytes.as_ptr().addr();
    let ends_before = |at: usize| bytes.get(at.wrapping_sub(2)..at) == Some(b"\r\n");
    method.as_ptr().addr() == start
        && begins.all(|name| ends_before(name.as_ptr().addr().wrapping_sub(start)))
        && ends_before(len)
        && ends_before(len.wrapping_sub(2))
}

fn says_close(value: &[u8]) -> bool {
    let mut options = value.split(|b| *b == b',');
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8]) -> &'static str {
        match read(bytes) {
            Read::Partial => "partial",
            Read::Request { .. } => "ours",
            Read::Foreign => "hyper's",
            Read::Malformed => "malformed",
            Read::TooLarge => "too large",
        }
    }

    #[test]
    fn what_viewers_send_is_ours() {
        let bytes = b"GET /live/demo/v0.m3u8?_HLS_msn=7&_HLS_part=1 HTTP/1.1\r\n\
            Host: edge:8080\r\nuser-agent: x/1\r\nACCEPT-ENCODING: gzip, br\r\n\
            Connection: keep-alive, Close\r\nRange: bytes=0-1\r\nX-Other: \xff\r\n\r\nGET";
        let Read::Request { head, len, close } = read(bytes) else {
            panic!("{:?}", read(bytes));
        };
        assert_eq!(len, bytes.len() - 3);
        assert!(close);
        assert_eq!(
            (head.method, head.path),
            (Method::Get, "/live/demo/v0.m3u8")
        );
        assert_eq!(head.query, Some("_HLS_msn=7&_HLS_part=1"));
        assert_eq!(head.target_bytes(), 41);
        assert_eq!(head.fields.first(Field::UserAgent), Some(&b"x/1"[..]));
        assert_eq!(
            head.fields.first(Field::AcceptEncoding),
            Some(&b"gzip, br"[..])
        );
        assert_eq!(head.fields.first(Field::Range), Some(&b"bytes=0-1"[..]));
        assert_eq!(
            head.header_bytes,
            4 + 9 + 10 + 3 + 15 + 8 + 10 + 17 + 5 + 9 + 7 + 1
        );
        for cut in 0..len {
            assert_eq!(kind(&bytes[..cut]), "partial", "{cut}");
        }
    }

    #[test]
    fn what_is_not_plain_is_hypers() {
        for lines in [
            "POST / HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n",
            "GET /ä HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nContent-Length: 5\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nEXPECT: 100-continue\r\n",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.1\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a\n",
        ] {
            assert_eq!(
                kind(format!("{lines}\r\n").as_bytes()),
                "hyper's",
                "{lines:?}"
            );
        }
        assert_eq!(kind(b"GET / HTTP/1.1\r\nHost: a\r\n\n"), "hyper's");
    }

    #[test]
    fn what_nobody_serves_is_refused() {
        for lines in [
            "GET / HTTP/1.1\r\nX: y\r\n folded: z\r\n",
            "GET / HTTP/1.1\r\n X: y\r\n",
            "GET / HTTP/1.1\r\nX\0: y\r\n",
            "GET / HTTP/1.1\r\nX: \0\r\n",
            "GET / HTTP/1.1\r\nX : y\r\n",
            "GET / HTTP/1.1\r\nX: y\rz\r\n",
            "GET / HTTP/1.1\r\n: y\r\n",
            "GET  / HTTP/1.1\r\n",
            "GET /\x01 HTTP/1.1\r\n",
            "GET / HTTP/9.9\r\n",
            "GET /\r\n",
        ] {
            assert_eq!(
                kind(format!("{lines}\r\n").as_bytes()),
                "malformed",
                "{lines:?}"
            );
        }
        let many = "X: y\r\n".repeat(101);
        assert_eq!(
            kind(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()),
            "too large"
        );
    }

    #[test]
    fn an_end_is_seen_wherever_it_is_cut() {
        for whole in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
        ] {
            let bytes = whole.as_bytes();
            for from in 0..bytes.len() {
                assert!(may_be_whole(bytes, from), "{whole:?} from {from}");
                assert!(
                    !may_be_whole(&bytes[..bytes.len() - 1], from),
                    "{whole:?} from {from}"
                );
            }
        }
    }
}
