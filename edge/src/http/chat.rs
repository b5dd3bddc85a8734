//! What pages ask about chat beside its socket: who may write and how, the emotes,
//! and, in development, a token.

use bytes::Bytes;
use common::api::{Problem, problem};
use hyper::{
    StatusCode,
    header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE},
};
use serde::Serialize;

use super::{
    body::Body,
    response::{self, Answer, BRIEF, JSON, NO_STORE},
    service::Asked,
};

/// `GET /api/v1/chat`; 404 where there is no chat.
pub(super) fn about(asked: &Asked<'_>) -> Answer {
    match &asked.server.chat {
        Some(chat) => json(chat.about()),
        None => response::problem(&no_chat(), BRIEF),
    }
}

fn no_chat() -> Problem {
    let text = "this edge has no chat, or gives no tokens";
    problem(StatusCode::NOT_FOUND, "not_found", text)
}

#[derive(Serialize)]
struct Token<'a> {
    token: &'a str,
}

/// `GET /api/v1/chat/token`; 404 unless this edge signs in whoever comes.
pub(super) fn token(asked: &Asked<'_>) -> Answer {
    let issued = asked.server.chat.as_ref();
    let issued = issued.and_then(|chat| chat.issue(asked.query.unwrap_or_default()));
    let mut answer = match issued {
        None => response::problem(&no_chat(), BRIEF),
        Some(Err(_)) => {
            let text = "no token can say this: a login is 1 to 25 of a-z, 0-9 and _";
            response::problem(&Problem::bad(text), NO_STORE)
        }
        Some(Ok(token)) => {
            // A string always has a JSON form.
            let body = serde_json::to_vec(&Token { token: &token }).unwrap_or_default();
            response::not_stored(json(body.into()))
        }
    };
    // For this edge's own page, as far as other pages are concerned.
    answer.headers_mut().remove(ACCESS_CONTROL_ALLOW_ORIGIN);
    answer
}

fn json(text: Bytes) -> Answer {
    let mut answer = response::answer(StatusCode::OK, Body::whole(text));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, BRIEF);
    answer
}
