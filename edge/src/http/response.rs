//! Answers with the headers that every viewer's answer carries (T3, T4, T5).

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW,
        CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue,
        RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::body::Body;

pub(super) type Answer = Response<Body>;

pub(super) const IMMUTABLE: HeaderValue =
    HeaderValue::from_static("public, max-age=31536000, immutable");
/// Errors about what this edge does not know: soon it may.
pub(super) const BRIEF: HeaderValue = HeaderValue::from_static("max-age=1");
/// Kept, but asked for again each time: a manifest that a cache holds back for a
/// second is a second of latency.
pub(super) const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");
/// Errors about this edge's load: they say nothing of the resource.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
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
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Few answers have more headers: the map is allocated once.
const HEADERS: usize = 16;

pub(super) fn answer(status: StatusCode, body: Body) -> Answer {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
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
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, cache);
    headers.insert(ETAG, etag);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    answer
}

pub(super) fn ranged(answer: &mut Answer) {
    answer.headers_mut().insert(ACCEPT_RANGES, BYTES);
}

/// 206; `end` is past the last byte.
pub(super) fn partial(answer: &mut Answer, first: u64, end: u64, len: u64) {
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
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
    if let Some(len) = answer.body().len() {
        answer
            .headers_mut()
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(len));
    }
    *answer.body_mut() = Body::empty();
    answer
}

/// 304: what the requester has is what it would get.
pub(super) fn unchanged(mut answer: Answer) -> Answer {
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    *answer.body_mut() = Body::empty();
    answer.headers_mut().remove(CONTENT_LENGTH);
    answer
}

pub(super) fn max_age(seconds: u32) -> HeaderValue {
    HeaderValue::from_str(&format!("max-age={seconds}")).unwrap_or(BRIEF)
}
