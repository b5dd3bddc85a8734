//! A request's head as the handlers see it, whoever read it: [`super::http1`], h2 or
//! hyper. It borrows from what came and allocates nothing.

use hyper::{HeaderMap, Uri};

/// What is asked for, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) fields: Fields<'a>,
    /// Of the names and values of all header fields.
    pub(super) header_bytes: usize,
}

/// The methods that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Options,
    Other,
}

/// The header fields that an answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    UserAgent,
    AcceptEncoding,
    IfNoneMatch,
    IfRange,
    Range,
}

/// Lines of them that are kept; a server may ignore each of these fields, so
/// what a stranger sends beyond is ignored.
const LINES: usize = 8;

/// Lines of header fields in their order, of those in [`Field`] alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    lines: [(Field, &'a [u8]); LINES],
    count: usize,
}

impl<'a> Head<'a> {
    /// Of a request that others have taken apart.
    pub(super) fn new(method: &hyper::Method, uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        let mut head = Self {
            method: Method::of(method.as_str()),
            path: uri.path(),
            query: uri.query(),
            fields: Fields::none(),
            header_bytes: 0,
        };
        for (name, value) in headers {
            let name = name.as_str();
            head.header_bytes += name.len() + value.len();
            if let Some(field) = Field::of(name) {
                head.fields.add(field, value.as_bytes());
            }
        }
        head
    }

    /// Of path and query.
    pub(super) fn target_bytes(&self) -> usize {
        self.path.len() + self.query.map_or(0, |query| 1 + query.len())
    }
}

impl Method {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

impl Field {
    /// Names are alike in both cases (RFC 9110, 5.1).
    pub(super) fn of(name: &str) -> Option<Self> {
        let (field, known) = match name.len() {
            5 => (Self::Range, "range"),
            8 => (Self::IfRange, "if-range"),
            10 => (Self::UserAgent, "user-agent"),
            13 => (Self::IfNoneMatch, "if-none-match"),
            15 => (Self::AcceptEncoding, "accept-encoding"),
            _ => return None,
        };
        name.eq_ignore_ascii_case(known).then_some(field)
    }
}

impl<'a> Fields<'a> {
    pub(super) const fn none() -> Self {
        Self {
            lines: [(Field::UserAgent, &[]); LINES],
            count: 0,
        }
    }

    pub(super) fn add(&mut self, field: Field, value: &'a [u8]) {
        if let Some(place) = self.lines.get_mut(self.count) {
            *place = (field, value);
            self.count += 1;
        }
    }

    pub(super) fn all(&self, wanted: Field) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.lines.iter().take(self.count);
        lines.filter_map(move |(field, value)| (*field == wanted).then_some(*value))
    }

    pub(super) fn first(&self, wanted: Field) -> Option<&'a [u8]> {
        self.all(wanted).next()
    }
}

/// Whether this may be the one host that a request names: RFC 9112, 3.2. Which
/// host it is matters to nobody here.
pub(super) fn is_host(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|b| HOST[usize::from(*b)])
}

static HOST: [bool; 256] = letters_and(b"-._~:[]%!$&'()*+,;=");

/// A table of letters, digits and these: one look for each byte.
pub(super) const fn letters_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut b = 0_u8;
    while b < 128 {
        table[b as usize] = b.is_ascii_alphanumeric();
        b += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn lines_keep_their_order_and_their_bound() {
        let mut headers = HeaderMap::new();
        for n in 0..20_u8 {
            let value = HeaderValue::from_bytes(&[b'a' + n]).unwrap();
            headers.append(HeaderName::from_static("accept-encoding"), value);
        }
        let uri = Uri::from_static("/a?b");
        let head = Head::new(&hyper::Method::GET, &uri, &headers);
        let fields = head.fields;
        assert_eq!((head.method, head.target_bytes()), (Method::Get, 4));
        assert_eq!(head.header_bytes, 20 * ("accept-encoding".len() + 1));
        let kept: Vec<_> = fields.all(Field::AcceptEncoding).collect();
        assert_eq!(kept.concat(), b"abcdefgh");
        assert_eq!(fields.first(Field::Range), None);
    }

    #[test]
    fn names_are_alike_in_both_cases() {
        for (name, field) in [
            ("Range", Some(Field::Range)),
            ("IF-RANGE", Some(Field::IfRange)),
            ("user-agent", Some(Field::UserAgent)),
            ("If-None-Match", Some(Field::IfNoneMatch)),
            ("Accept-encoding", Some(Field::AcceptEncoding)),
            ("Accept-language", None),
            ("Ranges", None),
            ("", None),
        ] {
            assert_eq!(Field::of(name), field, "{name}");
        }
    }

    #[test]
    fn a_host_is_named_once_and_plainly() {
        for good in ["edge", "127.0.0.1:80", "[::1]:8080", "a_b.example"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in ["", "a b", "a/b", "a@b", "a\tb", "ä"] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
