//! Answers with the headers that every viewer's answer carries (T3, T4, T5).

use std::{sync::Arc, time::Duration};

use common::api::Problem;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, AGE, ALLOW, CACHE_CONTROL,
        CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderName,
        HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::{body::Body, http1};

/// What is sent for a request, whichever protocol carries it.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    /// On the heap, since most answers share theirs and all are moved about.
    headers: Option<Box<HeaderMap>>,
    shared: Option<Shared>,
    body: Body,
}

/// Header fields that many answers have in common, and the age of this one.
#[derive(Debug)]
struct Shared {
    head: Arc<SharedHead>,
    age_seconds: Option<u64>,
}

/// The header fields of a 200 that is sent many times, as a map and as HTTP/1.1
/// writes them. Without `Age`, `Date` and `Content-Length`.
#[derive(Debug)]
pub(super) struct SharedHead {
    headers: HeaderMap,
    /// With places for those three, so that a copy need not grow for them.
    spaced: HeaderMap,
    lines: Vec<u8>,
}

impl Answer {
    pub(super) fn new(status: StatusCode, headers: HeaderMap, body: Body) -> Self {
        Self {
            status,
            headers: Some(Box::new(headers)),
            shared: None,
            body,
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    /// Makes what is shared its own.
    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        let shared = self.shared.take();
        self.headers.get_or_insert_with(|| {
            let mut headers = HeaderMap::new();
            if let Some(Shared { head, age_seconds }) = shared {
                headers.clone_from(&head.headers);
                if let Some(age) = age_seconds {
                    headers.insert(AGE, HeaderValue::from(age));
                }
            }
            Box::new(headers)
        })
    }

    /// Appends the header fields as HTTP/1.1 has them (RFC 9112, 5).
    pub(super) fn write_fields(&self, into: &mut Vec<u8>) {
        if let Some(headers) = &self.headers {
            write_lines(headers, into);
        }
        let Some(Shared { head, age_seconds }) = &self.shared else {
            return;
        };
        into.extend_from_slice(&head.lines);
        if let Some(age) = age_seconds {
            into.extend_from_slice(b"age: ");
            http1::write_decimal(*age, into);
            into.extend_from_slice(b"\r\n");
        }
    }

    /// Takes the header fields as HTTP/2 has them: with the date and, where it is
    /// given and not told already, the length of the body.
    pub(super) fn take_fields(&mut self, len: Option<u64>, date: HeaderValue) -> HeaderMap {
        if let (Some(shared), Some(len)) = (&self.shared, len) {
            return shared.head.filled(date, len, shared.age_seconds);
        }
        let mut fields = std::mem::take(self.headers_mut());
        fields.insert(DATE, date);
        if let Some(len) = len {
            let told = fields.entry(CONTENT_LENGTH);
            told.or_insert_with(|| HeaderValue::from(len));
        }
        // RFC 9113, 8.2.2.
        fields.remove(CONNECTION);
        fields
    }

    /// Whether a header field says so; not those that are shared.
    pub(super) fn names(&self, field: &HeaderName) -> bool {
        let own = self.headers.as_ref();
        own.is_some_and(|headers| headers.contains_key(field))
    }

    pub(super) const fn body(&self) -> &Body {
        &self.body
    }

    pub(super) const fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

impl From<Answer> for Response<Body> {
    fn from(mut answer: Answer) -> Self {
        let headers = std::mem::take(answer.headers_mut());
        let mut response = Self::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = headers;
        response
    }
}

impl SharedHead {
    pub(super) fn new(headers: HeaderMap) -> Arc<Self> {
        let mut lines = Vec::new();
        write_lines(&headers, &mut lines);
        let mut spaced = headers.clone();
        for place in [DATE, CONTENT_LENGTH, AGE] {
            spaced.insert(place, HeaderValue::from_static("0"));
        }
        Arc::new(Self {
            headers,
            spaced,
            lines,
        })
    }

    fn filled(&self, date: HeaderValue, len: u64, age_seconds: Option<u64>) -> HeaderMap {
        let mut fields = self.spaced.clone();
        fields.insert(DATE, date);
        fields.insert(CONTENT_LENGTH, HeaderValue::from(len));
        match age_seconds {
            Some(age) => fields.insert(AGE, HeaderValue::from(age)),
            None => fields.remove(AGE),
        };
        fields
    }
}

fn write_lines(headers: &HeaderMap, into: &mut Vec<u8>) {
    for (name, value) in headers {
        for bytes in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            into.extend_from_slice(bytes);
        }
    }
}

pub(super) const IMMUTABLE: HeaderValue =
    HeaderValue::from_static("public, max-age=31536000, immutable");
/// Errors about what this edge does not know: soon it may.
pub(super) const BRIEF: HeaderValue = HeaderValue::from_static("max-age=1");
/// Kept, but asked for again each time: a manifest that a cache holds back for a
/// second is a second of latency.
pub(super) const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");
/// Errors about this edge's load: they say nothing of the resource.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// What was made for one viewer.
pub(super) const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");
pub(super) const PLAYLIST: HeaderValue = HeaderValue::from_static("application/vnd.apple.mpegurl");
pub(super) const MANIFEST: HeaderValue = HeaderValue::from_static("application/dash+xml");
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const VIDEO: HeaderValue = HeaderValue::from_static("video/mp4");
pub(super) const AUDIO: HeaderValue = HeaderValue::from_static("audio/mp4");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Age, Date, Content-Length, Content-Range, ETag, Retry-After");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Few answers have more headers: the map is allocated once.
const HEADERS: usize = 16;

pub(super) fn answer(status: StatusCode, body: Body) -> Answer {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    Answer::new(status, headers, body)
}

/// An error without a body; `cache` says for how long it holds.
pub(super) fn error(status: StatusCode, cache: HeaderValue) -> Answer {
    let mut answer = answer(status, Body::empty());
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, cache);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    if matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    ) {
        headers.insert(RETRY_AFTER, HeaderValue::from(1));
    }
    answer
}

/// An error of the API, in the one form that it has for them.
pub(super) fn problem(problem: &Problem, cache: HeaderValue) -> Answer {
    let mut answer = error(problem.status, cache);
    *answer.body_mut() = Body::whole(problem.json().into());
    let headers = answer.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, JSON);
    answer
}

pub(super) fn method_not_allowed() -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, NO_STORE);
    answer.headers_mut().insert(ALLOW, METHODS);
    answer
}

/// The answer to a browser that asks before a request with, say, a Range.
pub(super) fn preflight() -> Answer {
    let mut answer = answer(StatusCode::NO_CONTENT, Body::empty());
    let headers = answer.headers_mut();
    headers.insert(ALLOW, METHODS);
    headers.insert("access-control-allow-methods", METHODS);
    headers.insert(
        "access-control-allow-headers",
        HeaderValue::from_static("Range, If-Range, If-None-Match, Cache-Control, Pragma"),
    );
    headers.insert("access-control-max-age", HeaderValue::from_static("86400"));
    answer
}

/// What holds now and may not hold for whoever asks next.
pub(super) fn not_stored(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    answer
}

/// The connection ends with this answer: what follows on it can't be trusted.
pub(super) fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, CLOSE);
    answer
}

/// Media or page: typed, tagged and cacheable.
pub(super) fn found(
    body: Body,
    content_type: HeaderValue,
    cache: HeaderValue,
    etag: HeaderValue,
) -> Answer {
    let mut answer = answer(StatusCode::OK, body);
    describe(answer.headers_mut(), content_type, cache, etag);
    answer
}

fn describe(
    headers: &mut HeaderMap,
    content_type: HeaderValue,
    cache: HeaderValue,
    etag: HeaderValue,
) {
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, cache);
    headers.insert(ETAG, etag);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
}

/// The headers of a 200 that is sent many times.
pub(super) fn head(content_type: HeaderValue, cache: HeaderValue, etag: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    describe(&mut headers, content_type, cache, etag);
    headers
}

/// 200 with `head`, and by T2 with its age: how long this edge has had what it
/// sends. What came while it was waited for has none.
pub(super) fn with_head(head: Arc<SharedHead>, age: Option<Duration>, body: Body) -> Answer {
    let age_seconds = age.map(|age| age.as_secs());
    Answer {
        status: StatusCode::OK,
        headers: None,
        shared: Some(Shared { head, age_seconds }),
        body,
    }
}

/// 206; `end` is past the last byte.
pub(super) fn partial(answer: &mut Answer, first: u64, end: u64, len: u64) {
    answer.status = StatusCode::PARTIAL_CONTENT;
    content_range(
        answer,
        &format!("bytes {first}-{}/{len}", end.saturating_sub(1)),
    );
}

/// 416
pub(super) fn unsatisfiable(len: u64) -> Answer {
    let mut answer = error(StatusCode::RANGE_NOT_SATISFIABLE, NO_STORE);
    content_range(&mut answer, &format!("bytes */{len}"));
    answer
}

fn content_range(answer: &mut Answer, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        answer.headers_mut().insert(CONTENT_RANGE, value);
    }
}

/// The same headers, no body: for HEAD and 304.
pub(super) fn without_body(mut answer: Answer) -> Answer {
    if let Some(len) = answer.body.len() {
        answer
            .headers_mut()
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(len));
    }
    answer.body = Body::empty();
    answer
}

/// 304: what the requester has is what it would get.
pub(super) fn unchanged(mut answer: Answer) -> Answer {
    answer.status = StatusCode::NOT_MODIFIED;
    answer.body = Body::empty();
    answer.headers_mut().remove(CONTENT_LENGTH);
    answer
}

pub(super) fn max_age(seconds: u32) -> HeaderValue {
    HeaderValue::from_str(&format!("max-age={seconds}")).unwrap_or(BRIEF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t2_age_is_in_whole_seconds() {
        for (ms, age) in [
            (0, "0"),
            (999, "0"),
            (9_999, "9"),
            (10_000, "10"),
            (61_500, "61"),
        ] {
            let shared = SharedHead::new(HeaderMap::new());
            let passed = Duration::from_millis(ms);
            let mut answer = with_head(shared, Some(passed), Body::empty());
            let mut written = Vec::new();
            answer.write_fields(&mut written);
            assert_eq!(written, format!("age: {age}\r\n").as_bytes(), "{ms}");
            assert_eq!(answer.headers_mut()[AGE], age, "{ms}");
        }
    }

    #[test]
    fn a_shared_head_says_what_a_made_one_does() {
        let etag = HeaderValue::from_static("\"7\"");
        let shared = SharedHead::new(head(VIDEO, IMMUTABLE, etag.clone()));
        for age in [None, Some(7_u64)] {
            let from_shared = || {
                let age = age.map(Duration::from_secs);
                with_head(shared.clone(), age, Body::empty())
            };
            let made = || {
                let mut answer = found(Body::empty(), VIDEO, IMMUTABLE, etag.clone());
                if let Some(age) = age {
                    answer.headers_mut().insert(AGE, age.into());
                }
                answer
            };
            assert_eq!(from_shared().status(), made().status());
            assert_eq!(from_shared().headers_mut(), made().headers_mut());
            let (mut shared_lines, mut made_lines) = (Vec::new(), Vec::new());
            from_shared().write_fields(&mut shared_lines);
            made().write_fields(&mut made_lines);
            assert_eq!(shared_lines, made_lines);
            assert!(
                made_lines.starts_with(b"access-control-allow-origin: *\r\n")
                    && made_lines.ends_with(b"\r\n")
            );
            let date = HeaderValue::from_static("now");
            let fields = made().take_fields(Some(5), date.clone());
            assert_eq!(fields.len(), made().headers_mut().len() + 2);
            assert_eq!(
                (&fields[CONTENT_LENGTH], &fields[DATE]),
                (&"5".parse().unwrap(), &date)
            );
            assert_eq!(from_shared().take_fields(Some(5), date), fields);
        }
    }

    #[test]
    fn http2_has_no_connection_field_and_tells_a_length_once() {
        let date = HeaderValue::from_static("now");
        let refused = error(StatusCode::BAD_REQUEST, NO_STORE);
        let fields = closing(refused).take_fields(Some(5), date.clone());
        assert!(!fields.contains_key(CONNECTION));
        assert_eq!(fields[CONTENT_LENGTH], "0");
        let empty = found(Body::empty(), VIDEO, IMMUTABLE, NO_STORE).take_fields(None, date);
        assert!(!empty.contains_key(CONTENT_LENGTH));
    }
}
