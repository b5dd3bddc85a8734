//! Requests to the origin's web API, read without I/O. Unknown fields are mistakes: a
//! misspelt `titel` is better refused than left out.

use common::{
    api::{Page, Problem, only, parsed},
    live::About,
    names::ChannelName,
    telemetry::ApiRequest,
};
use http::Method;
use serde::Deserialize;

use crate::keys::KeyId;

/// Keys of a page that asked for no number, and at most.
const USUAL_KEYS: usize = 100;
const MOST_KEYS: usize = 1_000;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Channels(Page),
    Channel(ChannelName),
    Title {
        name: ChannelName,
        title: Option<String>,
        tags: Option<Vec<String>>,
    },
    End(ChannelName),
    Keys(KeyPage),
    AddKey {
        channel: ChannelName,
        /// `None`: one is made.
        key: Option<String>,
    },
    RevokeKey(KeyId),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyPage {
    pub(super) after: Option<(ChannelName, KeyId)>,
    pub(super) limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TitleBody {
    title: Option<String>,
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyBody {
    channel: String,
    key: Option<String>,
}

/// Where channels are.
const CHANNELS: &str = "/api/v1/channels";
const KEYS: &str = "/api/v1/keys";

/// `admit` refuses who has no token; it is asked before anything else is looked at
/// where a path is not for everybody.
pub(super) fn wanted(
    request: &ApiRequest,
    admit: impl FnOnce() -> Result<(), Problem>,
) -> Result<Wanted, Problem> {
    let (method, query) = (&request.method, request.query.as_deref());
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if request.path == CHANNELS {
        only(method, &[Method::GET])?;
        return Page::parse(query).map(Wanted::Channels);
    }
    if let Some(rest) = below(&request.path, CHANNELS) {
        return match rest.split_once('/') {
            None if reads => channel(rest).map(Wanted::Channel),
            None => {
                admit()?;
                only(method, &[Method::GET, Method::PATCH])?;
                title(channel(rest)?, &request.body)
            }
            Some((name, "broadcast")) => {
                admit()?;
                only(method, &[Method::DELETE])?;
                channel(name).map(Wanted::End)
            }
            Some(_) => Err(Problem::nothing()),
        };
    }
    if request.path == KEYS {
        admit()?;
        only(method, &[Method::GET, Method::POST])?;
        return if reads {
            key_page(query).map(Wanted::Keys)
        } else {
            key(&request.body)
        };
    }
    if let Some(id) = below(&request.path, KEYS) {
        admit()?;
        only(method, &[Method::DELETE])?;
        let text = "a key's id is 16 digits and letters from a to f, as the list has it";
        let id = KeyId::parse(id).ok_or_else(|| Problem::bad(text))?;
        return Ok(Wanted::RevokeKey(id));
    }
    Err(Problem::nothing())
}

fn below<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    path.strip_prefix(root)?.strip_prefix('/')
}

fn channel(name: &str) -> Result<ChannelName, Problem> {
    ChannelName::parse(name).map_err(|error| Problem::bad(error.to_string()))
}

fn title(name: ChannelName, body: &[u8]) -> Result<Wanted, Problem> {
    let TitleBody { title, tags } = parsed(body)?;
    if title.is_none() && tags.is_none() {
        return Err(Problem::bad("name what is to change: title, tags or both"));
    }
    let bad = |error: common::live::AboutError| Problem::bad(error.to_string());
    let title = title.map(|title| About::title(&title));
    Ok(Wanted::Title {
        name,
        title: title.transpose().map_err(bad)?,
        tags: tags.map(About::tags).transpose().map_err(bad)?,
    })
}

fn key(body: &[u8]) -> Result<Wanted, Problem> {
    let KeyBody { channel: of, key } = parsed(body)?;
    let channel = channel(&of)?;
    Ok(Wanted::AddKey { channel, key })
}

fn key_page(query: Option<&str>) -> Result<KeyPage, Problem> {
    let mut page = KeyPage {
        after: None,
        limit: USUAL_KEYS,
    };
    for pair in query.unwrap_or_default().split('&') {
        match pair.split_once('=') {
            Some(("after", cursor)) => {
                let place = cursor.split_once('.').and_then(|(channel, id)| {
                    Some((ChannelName::parse(channel).ok()?, KeyId::parse(id)?))
                });
                let text = "after is what the page before said as next";
                page.after = Some(place.ok_or_else(|| Problem::bad(text))?);
            }
            Some(("limit", count)) => {
                let count = count.parse().ok();
                let count = count.filter(|count| (1..=MOST_KEYS).contains(count));
                let text = format!("limit is 1 to {MOST_KEYS}");
                page.limit = count.ok_or_else(|| Problem::bad(text))?;
            }
            _ => {}
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;

    fn request(method: &str, target: &str, body: &str) -> ApiRequest {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        ApiRequest {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            path: path.to_owned(),
            query,
            authorization: None,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn asks(method: &str, target: &str, body: &str) -> Result<Wanted, Problem> {
        wanted(&request(method, target, body), || Ok(()))
    }

    #[test]
    fn each_request_is_a_wish() {
        let demo = || ChannelName::parse("demo").unwrap();
        let id = KeyId::parse("0123456789abcdef").unwrap();
        for (method, target, body, expected) in [
            (
                "GET",
                "/api/v1/channels?limit=100",
                "",
                Wanted::Channels(Page::parse(None).unwrap()),
            ),
            ("HEAD", "/api/v1/channels/demo", "", Wanted::Channel(demo())),
            (
                "PATCH",
                "/api/v1/channels/demo",
                r#"{"title":" A ","tags":["b"]}"#,
                Wanted::Title {
                    name: demo(),
                    title: Some("A".into()),
                    tags: Some(vec!["b".into()]),
                },
            ),
            (
                "PATCH",
                "/api/v1/channels/demo",
                r#"{"tags":[]}"#,
                Wanted::Title {
                    name: demo(),
                    title: None,
                    tags: Some(Vec::new()),
                },
            ),
            (
                "DELETE",
                "/api/v1/channels/demo/broadcast",
                "",
                Wanted::End(demo()),
            ),
            (
                "GET",
                "/api/v1/keys?limit=3&after=demo.0123456789abcdef",
                "",
                Wanted::Keys(KeyPage {
                    after: Some((demo(), id)),
                    limit: 3,
                }),
            ),
            (
                "POST",
                "/api/v1/keys",
                r#"{"channel":"demo"}"#,
                Wanted::AddKey {
                    channel: demo(),
                    key: None,
                },
            ),
            (
                "DELETE",
                "/api/v1/keys/0123456789abcdef",
                "",
                Wanted::RevokeKey(id),
            ),
        ] {
            assert_eq!(
                asks(method, target, body).unwrap(),
                expected,
                "{method} {target}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_says_why() {
        let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(141));
        for (method, target, body, status, word) in [
            ("GET", "/api/v1/other", "", 404, "path"),
            ("GET", "/api/v1/channels/", "", 400, "channel name"),
            ("GET", "/api/v1/channels/De%20mo", "", 400, "channel name"),
            ("GET", "/api/v1/channels?limit=x", "", 400, "limit"),
            ("POST", "/api/v1/channels", "", 405, "GET"),
            ("PUT", "/api/v1/channels/demo", "", 405, "PATCH"),
            ("GET", "/api/v1/channels/demo/broadcast", "", 405, "DELETE"),
            ("DELETE", "/api/v1/channels/demo/chatters", "", 404, "path"),
            ("PATCH", "/api/v1/channels/demo", "", 400, "JSON"),
            ("PATCH", "/api/v1/channels/demo", "{}", 400, "title, tags"),
            (
                "PATCH",
                "/api/v1/channels/demo",
                r#"{"titel":"x"}"#,
                400,
                "titel",
            ),
            ("PATCH", "/api/v1/channels/demo", &long, 400, "140"),
            (
                "PATCH",
                "/api/v1/channels/demo",
                r#"{"tags":["a b"]}"#,
                400,
                "tags",
            ),
            (
                "POST",
                "/api/v1/keys",
                r#"{"channel":"D"}"#,
                400,
                "channel name",
            ),
            (
                "POST",
                "/api/v1/keys",
                r#"{"channel":"demo","id":"x"}"#,
                400,
                "id",
            ),
            ("GET", "/api/v1/keys?after=demo", "", 400, "after"),
            ("GET", "/api/v1/keys?limit=0", "", 400, "limit"),
            ("DELETE", "/api/v1/keys/x", "", 400, "id"),
            ("GET", "/api/v1/keys/0123456789abcdef", "", 405, "DELETE"),
        ] {
            let problem = asks(method, target, body).unwrap_err();
            assert_eq!(problem.status.as_u16(), status, "{method} {target} {body}");
            assert!(problem.message.contains(word), "{}", problem.message);
        }
    }

    #[test]
    fn only_reading_channels_is_for_everybody() {
        let denied = || {
            let status = StatusCode::UNAUTHORIZED;
            Err(common::api::problem(status, "unauthorized", "no"))
        };
        let asks =
            |method: &str, target: &str| wanted(&request(method, target, "nonsense"), denied);
        for (method, target) in [
            ("PATCH", "/api/v1/channels/demo"),
            ("PUT", "/api/v1/channels/De mo"),
            ("DELETE", "/api/v1/channels/demo/broadcast"),
            ("GET", "/api/v1/keys"),
            ("POST", "/api/v1/keys"),
            ("DELETE", "/api/v1/keys/x"),
        ] {
            let problem = asks(method, target).unwrap_err();
            assert_eq!(
                problem.status,
                StatusCode::UNAUTHORIZED,
                "{method} {target}"
            );
        }
        assert!(asks("GET", "/api/v1/channels").is_ok());
        assert!(asks("GET", "/api/v1/channels/demo").is_ok());
    }

    proptest! {
        #[test]
        fn nothing_anybody_sends_panics(
            method in "GET|POST|PATCH|DELETE",
            rest in ".{0,40}",
            body in ".{0,60}",
        ) {
            for root in ["/api/v1/channels/", "/api/v1/keys/", "/api/v1/keys?", "/api/v1/channels?"] {
                let _ = asks(&method, &format!("{root}{rest}"), &body);
            }
        }
    }
}
