//! `/ingests`: where to publish, the nearest first for who asks: by `lat` and `lon`,
//! else by the database of addresses, else in the order of the parents. The form is
//! [`common::ingest::list`]'s. The address is the socket's: what a request says of
//! other addresses is no more believed here than elsewhere.

use bytes::Bytes;
use common::ingest::list::{self, BadAsker};
use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};

use super::{
    body::Body,
    response::{self, Answer, BRIEF, TEXT},
    service::{Asked, api_answer},
};

/// What was made for one address.
const PRIVATE_BRIEF: HeaderValue = HeaderValue::from_static("private, max-age=1");

pub(super) fn answer(asked: &Asked<'_>) -> Answer {
    let told = match list::asker(asked.query) {
        Ok(told) => told,
        Err(error) => return refused(error),
    };
    let geo = asked.server.geo.as_ref().filter(|_| told.is_none());
    let asker = told.or_else(|| geo?.place(asked.connection.peer));
    let all = asked.server.upstream.ingests().all();
    let mut answer = api_answer(list::json(&all, asker).into());
    if geo.is_some() {
        answer.headers_mut().insert(CACHE_CONTROL, PRIVATE_BRIEF);
    }
    answer
}

fn refused(error: BadAsker) -> Answer {
    let body = Body::whole(Bytes::from(format!("{error}\n")));
    let mut answer = response::answer(StatusCode::BAD_REQUEST, body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    headers.insert(CACHE_CONTROL, BRIEF);
    answer
}
