//! Answers with the headers that every viewer's answer carries (T3, T4, T5).

use std::time::Instant;

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, AGE, ALLOW, CACHE_CONTROL,
        CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, RETRY_AFTER,
        X_CONTENT_TYPE_OPTIONS,
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

/// The headers of a 200 that is sent many times, to be cloned for each: a
/// clone costs a third of making them. It has a place for `Age`, so that
/// telling it makes no map grow.
pub(super) fn head(content_type: HeaderValue, cache: HeaderValue, etag: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    describe(&mut headers, content_type, cache, etag);
    headers.insert(AGE, SECONDS[0].clone());
    headers
}

/// 200 with a copy of `head`.
pub(super) fn with_head(head: &HeaderMap, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.headers_mut() = head.clone();
    answer
}

/// The ages that most answers have, ready made.
static SECONDS: [HeaderValue; 10] = [
    HeaderValue::from_static("0"),
    HeaderValue::from_static("1"),
    HeaderValue::from_static("2"),
    HeaderValue::from_static("3"),
    HeaderValue::from_static("4"),
    HeaderValue::from_static("5"),
    HeaderValue::from_static("6"),
    HeaderValue::from_static("7"),
    HeaderValue::from_static("8"),
    HeaderValue::from_static("9"),
];

/// T2: how long this edge has had what it sends.
pub(super) fn aged(answer: &mut Answer, since: Instant) {
    let seconds = since.elapsed().as_secs();
    let ready = usize::try_from(seconds).ok().and_then(|at| SECONDS.get(at));
    let age = ready.cloned().unwrap_or_else(|| HeaderValue::from(seconds));
    answer.headers_mut().insert(AGE, age);
}

/// Of what was always here.
pub(super) fn ageless(answer: &mut Answer) {
    answer.headers_mut().remove(AGE);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            let since = Instant::now().checked_sub(Duration::from_millis(ms));
            let mut answer = answer(StatusCode::OK, Body::empty());
            aged(&mut answer, since.unwrap());
            assert_eq!(answer.headers()[AGE], age, "{ms}");
            ageless(&mut answer);
            assert!(!answer.headers().contains_key(AGE));
        }
    }

    #[test]
    fn a_copied_head_says_what_a_made_one_does() {
        let etag = HeaderValue::from_static("\"7\"");
        let made = found(Body::empty(), VIDEO, IMMUTABLE, etag.clone());
        let mut copied = with_head(&head(VIDEO, IMMUTABLE, etag), Body::empty());
        ageless(&mut copied);
        assert_eq!(copied.headers(), made.headers());
        assert_eq!(copied.status(), made.status());
    }
}
