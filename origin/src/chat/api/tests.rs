//! The interface over real rooms; the ops port is `common`'s to test.

use std::fs;

use bytes::Bytes;
use common::{chat::Text, telemetry::metrics::registry};
use http::Method;

use super::*;
use crate::chat::{ChatConfig, Rooms, Store};

const TOKEN: &str = "sK8mVYJ0rT4cW1xQ7nZbEg";

struct Rig {
    api: Api,
    port: ChatPort,
    _dir: tempfile::TempDir,
}

fn token(text: &str) -> (tempfile::TempDir, Result<Option<Arc<ChatApi>>, TokenError>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, text).unwrap();
    let config = ChatApiConfig {
        chat_api_token: Some(file),
    };
    let api = ChatApi::from_config(&config, None);
    (dir, api)
}

impl Rig {
    fn new(origins: &[&str]) -> Self {
        let (dir, api) = token(&format!("{TOKEN}\n"));
        let node = NodeId::parse("origin").unwrap();
        let config = ChatConfig {
            chat_origins: origins
                .iter()
                .map(|name| NodeId::parse(name).unwrap())
                .collect(),
            ..ChatConfig::default()
        };
        let metrics = ChatMetrics::register(&registry("origin"));
        let store = Store::open(None).unwrap();
        let (rooms, port) = Rooms::new(&config, node.clone(), store, metrics.clone());
        tokio::spawn(rooms.run());
        Self {
            api: api.unwrap().unwrap().serve(port.clone(), node, metrics),
            port,
            _dir: dir,
        }
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        self.call_as(Some(&format!("Bearer {TOKEN}")), method, path, body)
            .await
    }

    async fn call_as(
        &self,
        authorization: Option<&str>,
        method: Method,
        path: &str,
        body: &str,
    ) -> (u16, Value) {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        let request = ApiRequest {
            method,
            path: format!("/api/v1/chat/{path}"),
            query,
            authorization: authorization.map(str::to_owned),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let (status, body) = (self.api)(request).await;
        (status.as_u16(), serde_json::from_slice(&body).unwrap())
    }
}

async fn says(port: &ChatPort, login: &str, text: &str) -> Verdict {
    let handle = open(port, ChannelName::parse("demo").unwrap())
        .await
        .unwrap_or_else(|_| panic!());
    let (sender, mut verdict) = mpsc::channel(1);
    let request = Request {
        id: MessageId(u128::from_be_bytes(*b"0123456789abcdef")),
        sender: Sender {
            user: User::named(Login::parse(login).unwrap()),
            roles: Roles::default(),
            follows_since: None,
            network: None,
        },
        ask: Ask::Say {
            text: Text::cut(text).unwrap(),
            action: false,
            reply_to: None,
        },
    };
    let asked = Asked::Request {
        from: NodeId::parse("edge").unwrap(),
        request: Box::new(request),
        reply: sender.reserve_owned().await.unwrap(),
    };
    handle.asks.send(asked).await.unwrap();
    verdict.recv().await.unwrap().1
}

#[tokio::test]
async fn who_has_no_token_learns_nothing() {
    let rig = Rig::new(&[]);
    let wrong = format!("Bearer {TOKEN}x");
    for authorization in [
        None,
        Some(wrong.as_str()),
        Some("Bearer"),
        Some("Basic abc"),
        Some(TOKEN),
    ] {
        let (status, body) = rig.call_as(authorization, Method::GET, "demo", "").await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (401, &json!("unauthorized"))
        );
    }
    let lower = format!("bearer {TOKEN}");
    assert_eq!(
        rig.call_as(Some(&lower), Method::GET, "demo", "").await.0,
        200
    );
}

#[test]
fn a_token_that_can_be_guessed_is_refused() {
    for bad in [
        "",
        "short",
        "\nsK8mVYJ0rT4cW1xQ7nZbEg",
        "two words of a token that is long",
    ] {
        let error = token(bad).1.unwrap_err().to_string();
        assert!(
            error.contains("--chat-api-token") && error.contains("22"),
            "{error}"
        );
    }
    let none = ChatApi::from_config(&ChatApiConfig::default(), None);
    assert!(none.unwrap().is_none());
}

/// Moderators' tools have a token of their own; the operator's opens rooms as well.
#[tokio::test]
async fn the_operators_token_moderates_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("operator");
    fs::write(&file, "pB2hXqv8LrTf5mYw0dKcZA").unwrap();
    let operators = TokenFile::open("--api-token", file).unwrap();
    let (_kept, both) = token(TOKEN);
    let both = both.unwrap().unwrap();
    let alone = ChatApi::from_config(&ChatApiConfig::default(), Some(operators.clone()));
    let alone = alone.unwrap().unwrap();
    let either = ChatApi {
        moderators: both.moderators.clone(),
        operators: Some(operators),
    };
    let (moderator, operator) = (format!("Bearer {TOKEN}"), "Bearer pB2hXqv8LrTf5mYw0dKcZA");
    assert!(either.lets_in(Some(&moderator)) && either.lets_in(Some(operator)));
    assert!(alone.lets_in(Some(operator)) && !alone.lets_in(Some(&moderator)));
    assert!(!both.lets_in(Some(operator)));
}

#[tokio::test]
async fn bans_and_settings_are_made_seen_and_lifted() {
    let rig = Rig::new(&[]);
    let (status, body) = rig
        .call(
            Method::POST,
            "demo/bans",
            r#"{"login":"ann","reason":"spam","by":"max"}"#,
        )
        .await;
    assert_eq!((status, &body["msg_id"]), (200, &json!("ban_success")));
    let (status, body) = rig
        .call(Method::POST, "demo/bans", r#"{"login":"ann"}"#)
        .await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (409, &json!("already_banned"))
    );
    rig.call(
        Method::POST,
        "demo/timeouts",
        r#"{"login":"bob","seconds":60}"#,
    )
    .await;
    let (_, bans) = rig.call(Method::GET, "demo/bans", "").await;
    assert_eq!(bans["bans"][0]["login"], "ann");
    assert_eq!(
        (&bans["bans"][0]["by"], &bans["bans"][0]["reason"]),
        (&json!("max"), &json!("spam"))
    );
    assert_eq!(bans["bans"].as_array().unwrap().len(), 1);
    let (_, timeouts) = rig.call(Method::GET, "demo/timeouts?after=ann", "").await;
    assert_eq!(timeouts["timeouts"][0]["login"], "bob");
    assert!(timeouts["timeouts"][0]["until_ms"].is_u64());
    assert!(matches!(
        says(&rig.port, "ann", "hello").await,
        Verdict::Refused(_)
    ));
    assert_eq!(rig.call(Method::DELETE, "demo/bans/ann", "").await.0, 200);
    let (status, body) = rig.call(Method::DELETE, "demo/bans/ann", "").await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (404, &json!("bad_unban_no_ban"))
    );
    let settings = r#"{"slow_s":7,"followers_min":0,"no_links":true}"#;
    assert_eq!(
        rig.call(Method::POST, "demo/settings", settings).await.0,
        200
    );
    let (_, all) = rig.call(Method::GET, "demo", "").await;
    assert_eq!(
        all["settings"],
        json!({ "slow_s": 7, "followers_min": 0, "subscribers_only": false, "emote_only": false, "unique": false, "no_links": true })
    );
    rig.call(
        Method::POST,
        "demo/roles",
        r#"{"login":"kim","role":"moderator"}"#,
    )
    .await;
    let (_, roles) = rig.call(Method::GET, "demo/roles", "").await;
    assert_eq!(
        roles,
        json!({ "roles": [{ "login": "kim", "roles": ["moderator"] }] })
    );
}

#[tokio::test]
async fn held_messages_are_seen_and_said() {
    let rig = Rig::new(&[]);
    rig.call(
        Method::POST,
        "demo/terms",
        r#"{"term":"Hm","action":"hold"}"#,
    )
    .await;
    let (_, terms) = rig.call(Method::GET, "demo/terms", "").await;
    assert_eq!(
        terms,
        json!({ "terms": [{ "term": "hm", "action": "hold" }] })
    );
    assert!(matches!(
        says(&rig.port, "ann", "hm").await,
        Verdict::Refused(_)
    ));
    let (_, held) = rig.call(Method::GET, "demo/held", "").await;
    assert_eq!(
        (&held["held"][0]["login"], &held["held"][0]["text"]),
        (&json!("ann"), &json!("hm"))
    );
    let id = held["held"][0]["id"].as_str().unwrap();
    assert_eq!(
        rig.call(Method::POST, &format!("demo/held/{id}"), "")
            .await
            .0,
        200
    );
    let (status, body) = rig
        .call(Method::DELETE, &format!("demo/held/{id}"), "")
        .await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (404, &json!("bad_held_message"))
    );
    assert_eq!(
        rig.call(Method::DELETE, &format!("demo/messages/{id}"), "")
            .await
            .0,
        200
    );
    assert_eq!(rig.call(Method::DELETE, "demo/messages", "").await.0, 200);
    assert_eq!(rig.call(Method::DELETE, "demo/terms/hm", "").await.0, 200);
}

#[tokio::test]
async fn a_room_of_another_origin_is_asked_there() {
    let rig = Rig::new(&["elsewhere"]);
    let (status, body) = rig.call(Method::GET, "demo", "").await;
    assert_eq!((status, &body["error"]["code"]), (421, &json!("not_here")));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("is elsewhere;"), "{message}");
}

#[tokio::test]
async fn an_operator_too_has_a_limit() {
    let rig = Rig::new(&[]);
    let mut told = 0;
    for _ in 0..201 {
        told = rig.call(Method::DELETE, "demo/messages", "").await.0;
    }
    assert_eq!(told, 429);
}
