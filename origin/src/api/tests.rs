//! The interface over real parts; the ops port is `common`'s to test.

use std::{collections::BTreeSet, fs, path::Path};

use clap::Parser;
use common::{
    api::{Links, TokenFile},
    ingest::{Ingest, IngestState, Place, list},
    live::{Announcement, ArchiveMetrics, Channel, Crowd, Phase, Stage},
    names::{BroadcastId, Epoch},
    shutdown::Shutdown,
    telemetry::metrics::registry,
    tls::Role,
};
use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::{
    broadcast::{BroadcastConfig, BroadcastMetrics, Broadcasts},
    chat::{ChatApi, ChatApiConfig, ChatConfig, ChatMetrics, Rooms, Store},
    keys::KeysConfig,
    openapi::{Document, Operation, filled},
};

const TOKEN: &str = "sK8mVYJ0rT4cW1xQ7nZbEg";
const KEY: &str = "pB2hXqv8LrTf5mYw0dKcZA";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    broadcast: BroadcastConfig,
}

struct Rig {
    api: Api,
    directory: Arc<Directory>,
    audience: Arc<Audience>,
    hearsay: Arc<Hearsay>,
    keys: Arc<KeyRing>,
    node: NodeId,
    dir: tempfile::TempDir,
}

impl Rig {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(origins: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token"), TOKEN).unwrap();
        fs::write(dir.path().join("keys"), format!("{KEY} news\n")).unwrap();
        let registry = registry("origin");
        let (node, shutdown) = (NodeId::parse("origin").unwrap(), Shutdown::new());
        let token = TokenFile::open("--api-token", dir.path().join("token")).unwrap();
        let keys = KeyRing::from_config(&KeysConfig {
            keys: Some(dir.path().join("keys")),
            open: false,
        });
        let keys = keys.unwrap();
        let directory = Arc::<Directory>::default();
        let (abouts, audience) = (Arc::<Abouts>::default(), Arc::<Audience>::default());
        let hearsay = Arc::<Hearsay>::default();
        let journal = dir.path().join("journal");
        let config = Cli::parse_from(["origin", "--journal", journal.to_str().unwrap()]).broadcast;
        let archive = config.dvr.open(ArchiveMetrics::register(&registry));
        let titles = Titles::open(config.journal.as_deref(), abouts.clone());
        let broadcasts = Broadcasts::new(
            config,
            node.clone(),
            directory.clone(),
            archive.unwrap(),
            BroadcastMetrics::register(&registry),
            shutdown.clone(),
        );
        let broadcasts = broadcasts.unwrap();
        let control = broadcasts.control();
        let (publishes, arriving) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            broadcasts.run(arriving).await;
            drop(publishes);
        });
        let chat_config = ChatConfig {
            chat_origins: origins
                .iter()
                .map(|of| NodeId::parse(of).unwrap())
                .collect(),
            ..ChatConfig::default()
        };
        let metrics = ChatMetrics::register(&registry);
        let store = Store::open(None).unwrap();
        let (rooms, port) = Rooms::new(&chat_config, node.clone(), store, metrics.clone());
        tokio::spawn(rooms.shown_in(audience.clone()).run());
        let chat = ChatApi::from_config(&ChatApiConfig::default(), Some(token.clone()));
        let chat = chat.unwrap().unwrap();
        let api = WebApi {
            node: node.clone(),
            common: NodeApi::new(
                node.clone(),
                Role::Origin,
                Some(token),
                shutdown,
                Links::default,
            ),
            origins: port.origins.clone(),
            chat: Some(chat.serve(port, node.clone(), metrics)),
            directory: directory.clone(),
            abouts,
            audience: audience.clone(),
            hearsay: hearsay.clone(),
            titles: Arc::new(titles.unwrap()),
            keys: keys.clone(),
            control,
        };
        Self {
            api: api.serve(&registry),
            directory,
            audience,
            hearsay,
            keys,
            node,
            dir,
        }
    }

    fn announce(&self, name: &str, viewers: u32) {
        let channel = ChannelName::parse(name).unwrap();
        self.directory.put(Channel {
            announcement: Announcement {
                channel: channel.clone(),
                broadcast: BroadcastId(7),
                epoch: Epoch(7),
                phase: Phase::Live,
                hops: vec![self.node.clone()],
                cost: 0,
                grace_ms: 0,
            },
            stage: Stage::Starting,
        });
        let crowd = Crowd {
            viewers,
            chatters: 1,
        };
        self.audience
            .tell(&self.node, Role::Origin, [(channel, crowd)]);
    }

    async fn asked(
        &self,
        method: &str,
        target: &str,
        body: &str,
        token: Option<&str>,
    ) -> (u16, Bytes) {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let request = ApiRequest {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            path: path.to_owned(),
            query,
            authorization: token.map(|token| format!("Bearer {token}")),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let (status, body) = (self.api)(request).await;
        (status.as_u16(), body)
    }

    async fn call(&self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let (status, body) = self.asked(method, target, body, Some(TOKEN)).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn keys_file(&self) -> String {
        fs::read_to_string(self.dir.path().join("keys")).unwrap()
    }
}

#[tokio::test]
async fn channels_are_told_to_anybody() {
    let rig = Rig::start();
    for (name, viewers) in [("a", 1), ("b", 5)] {
        rig.announce(name, viewers);
    }
    let (status, body) = rig.asked("GET", "/api/v1/channels", "", None).await;
    let list: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &list["total"]), (200, &json!(2)));
    let names: Vec<_> = list["channels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| &of["name"])
        .collect();
    assert_eq!(names, ["b", "a"]);
    let (status, body) = rig.asked("GET", "/api/v1/channels/b", "", None).await;
    let channel: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &channel["viewers"], &channel["chatters"]),
        (200, &json!(5), &json!(1))
    );
    assert_eq!(
        rig.asked("GET", "/api/v1/channels/c", "", None).await.0,
        404
    );
}

/// Another origin counts them: known as long as an edge hears both.
#[tokio::test]
async fn who_is_counted_elsewhere_is_known_by_hearsay() {
    let rig = Rig::with(&["elsewhere"]);
    rig.announce("demo", 3);
    let teller = rig.hearsay.teller();
    let crowd = Crowd {
        viewers: 9,
        chatters: 2,
    };
    let demo = ChannelName::parse("demo").unwrap();
    let elsewhere = NodeId::parse("elsewhere").unwrap();
    teller.tell(elsewhere, [(demo, crowd)]);
    for path in ["/api/v1/channels/demo", "/api/v1/channels"] {
        let (_, body) = rig.call("GET", path, "").await;
        let channel = body.get("channels").map_or(&body, |all| &all[0]);
        assert_eq!(
            (&channel["viewers"], &channel["chatters"]),
            (&json!(9), &json!(2)),
            "{path}"
        );
    }
    drop(teller);
    let (_, channel) = rig.call("GET", "/api/v1/channels/demo", "").await;
    assert_eq!(
        (&channel["viewers"], &channel["chatters"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn titles_are_kept_and_shown() {
    let rig = Rig::start();
    rig.announce("demo", 0);
    let body = r#"{"title":"Sunday","tags":["chess"]}"#;
    let (status, titled) = rig.call("PATCH", "/api/v1/channels/demo", body).await;
    let both = json!({ "name": "demo", "title": "Sunday", "tags": ["chess"] });
    assert_eq!((status, titled), (200, both));
    let (_, titled) = rig
        .call("PATCH", "/api/v1/channels/demo", r#"{"tags":[]}"#)
        .await;
    assert_eq!(
        (&titled["title"], &titled["tags"]),
        (&json!("Sunday"), &json!([]))
    );
    let (_, channel) = rig.call("GET", "/api/v1/channels/demo", "").await;
    assert_eq!(channel["title"], "Sunday");
    let file = rig.dir.path().join("journal/about/demo.json");
    assert!(fs::read_to_string(file).unwrap().contains("Sunday"));
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked() {
    let rig = Rig::start();
    let (status, added) = rig
        .call("POST", "/api/v1/keys", r#"{"channel":"demo"}"#)
        .await;
    assert_eq!((status, &added["channel"]), (201, &json!("demo")));
    let key = added["key"].as_str().unwrap();
    assert_eq!(rig.keys_file(), format!("{KEY} news\n{key} demo\n"));
    assert!(rig.keys.authorise(key).is_some());
    let (_, list) = rig.call("GET", "/api/v1/keys?limit=1", "").await;
    assert_eq!(
        list["keys"],
        json!([{ "id": added["id"], "channel": "demo" }])
    );
    let next = list["next"].as_str().unwrap();
    let (_, rest) = rig
        .call("GET", &format!("/api/v1/keys?after={next}"), "")
        .await;
    assert_eq!(
        (&rest["keys"][0]["channel"], &rest["next"]),
        (&json!("news"), &Value::Null)
    );
    assert!(!rest.to_string().contains(KEY));
    let again = format!(r#"{{"channel":"other","key":"{key}"}}"#);
    let (status, error) = rig.call("POST", "/api/v1/keys", &again).await;
    assert_eq!((status, &error["error"]["code"]), (409, &json!("known")));
    let at = format!("/api/v1/keys/{}", added["id"].as_str().unwrap());
    assert_eq!(rig.call("DELETE", &at, "").await.0, 200);
    assert_eq!(rig.call("DELETE", &at, "").await.0, 404);
    assert_eq!(rig.keys_file(), format!("{KEY} news\n"));
    assert!(rig.keys.authorise(key).is_none());
}

#[tokio::test]
async fn there_is_nothing_to_end_where_nothing_is_on() {
    let rig = Rig::start();
    let (status, error) = rig
        .call("DELETE", "/api/v1/channels/demo/broadcast", "")
        .await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("not_live")));
}

#[tokio::test]
async fn who_has_no_token_changes_nothing() {
    let rig = Rig::start();
    for operation in operations(&Document::load()) {
        if ["document", "channels", "channel"].contains(&operation.id.as_str()) {
            continue;
        }
        let path = example_path(&operation);
        for token in [None, Some("wrong"), Some(&TOKEN[1..])] {
            let body = example_body(&operation.id);
            let (status, body) = rig.asked(&operation.method, &path, body, token).await;
            assert_eq!(status, 401, "{} {path}", operation.method);
            assert!(!String::from_utf8_lossy(&body).contains(TOKEN));
        }
    }
    assert_eq!(rig.keys_file(), format!("{KEY} news\n"));
    assert!(!Path::new(&rig.dir.path().join("journal/about/demo.json")).exists());
}

/// What this interface answers: `/ingests` is the ops port's own.
fn operations(document: &Document) -> BTreeSet<Operation> {
    let mut all = document.served_by("origin-ops");
    all.retain(|of| of.path.starts_with("/api/"));
    all
}

#[test]
fn an_origins_own_entry_is_as_the_document_says() {
    let document = Document::load();
    let operations = document.served_by("origin-ops");
    let own = operations.iter().find(|of| of.path == "/ingests").unwrap();
    let ingest = Ingest {
        hops: vec![NodeId::parse("ams").unwrap()],
        region: "eu-ams".into(),
        city: "Amsterdam".into(),
        place: Place::new(52.37, 4.9),
        rtmp: "rtmp://ams.example.net/live".into(),
        rtmps: Some("rtmps://ams.example.net/live".into()),
        publishers: 1,
        capacity: 10,
        state: IngestState::Available,
    };
    for asker in [None, Place::new(41.88, -87.63)] {
        let list = list::json(std::slice::from_ref(&ingest), asker);
        document.check(own, 200, list.as_bytes());
    }
}

fn example_path(operation: &Operation) -> String {
    let id = match operation.id.as_str() {
        "revokeKey" => "0123456789abcdef",
        _ => "00000000-0000-4000-8000-000000000000",
    };
    let values = [
        ("channel", "demo"),
        ("room", "demo"),
        ("login", "ann"),
        ("term", "bad"),
        ("role", "vip"),
        ("id", id),
    ];
    filled(&operation.path, &values)
}

fn example_body(id: &str) -> &'static str {
    match id {
        "title" => r#"{"title":"A title","tags":["one"]}"#,
        "addKey" => r#"{"channel":"demo"}"#,
        "setSettings" => r#"{"slow_s":3,"followers_min":null}"#,
        "ban" => r#"{"login":"ann","reason":"so"}"#,
        "timeOut" => r#"{"login":"bob","seconds":60}"#,
        "addTerm" => r#"{"term":"bad","action":"hold"}"#,
        "addRole" => r#"{"login":"kim","role":"vip"}"#,
        _ => "",
    }
}

/// Makes first, then looks, then takes away.
#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let rig = Rig::start();
    rig.announce("demo", 3);
    let (document, mut good) = (Document::load(), BTreeSet::new());
    let operations = operations(&document);
    let order = |of: &&Operation| match of.method.as_str() {
        "POST" | "PATCH" => 0,
        "GET" => 1,
        _ => 2,
    };
    let mut ordered: Vec<_> = operations.iter().collect();
    ordered.sort_by_key(order);
    for operation in ordered {
        let (path, body) = (example_path(operation), example_body(&operation.id));
        for (query, body) in [("", body), ("?limit=x&after=A", "{}"), ("", "nonsense")] {
            let target = format!("{path}{query}");
            let (status, answer) = rig
                .asked(&operation.method, &target, body, Some(TOKEN))
                .await;
            document.check(operation, status, &answer);
            if status < 300 {
                good.insert(operation.id.as_str());
            }
        }
    }
    // Nobody holds a message, publishes, or has the key of the example.
    let refused = [
        "approve",
        "deny",
        "endBroadcast",
        "removeRole",
        "revokeKey",
        "untimeOut",
        "deleteMessage",
    ];
    let silent: Vec<_> = operations
        .iter()
        .map(|of| of.id.as_str())
        .filter(|id| !good.contains(id))
        .collect();
    assert!(silent.iter().all(|id| refused.contains(id)), "{silent:?}");
}

/// Whatever a path answers to is written down.
#[tokio::test]
async fn the_document_has_every_path_and_method() {
    let rig = Rig::start();
    let operations = operations(&Document::load());
    let mut paths: BTreeSet<String> = operations.iter().map(example_path).collect();
    for part in [
        "settings", "bans", "timeouts", "terms", "held", "roles", "messages", "log",
    ] {
        paths.insert(format!("/api/v1/chat/demo/{part}"));
    }
    for more in [
        "",
        "channels/demo/viewers",
        "chat",
        "links/a",
        "hooks",
        "drain/now",
        "time",
    ] {
        paths.insert(format!("/api/v1/{more}"));
    }
    let known = operations.iter();
    let known: BTreeSet<_> = known
        .map(|of| (of.method.clone(), example_path(of)))
        .collect();
    for path in &paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let (status, answer) = rig.asked(method, path, "{}", Some(TOKEN)).await;
            let answer = String::from_utf8(answer.to_vec()).unwrap();
            let nothing = answer.contains("there is nothing at this path") || status == 405;
            let is_known = known.contains(&(method.to_owned(), path.clone()));
            assert_eq!(!nothing, is_known, "{method} {path}: {answer}");
        }
    }
}
