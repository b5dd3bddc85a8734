//! The API on the viewers' port: its pages, and the document that describes it.

use std::{collections::BTreeSet, io::Read, time::Instant};

use common::{
    live::{About, Crowd, Health, Phase, Stage},
    names::{ChannelName, NodeId, TrackName},
    tls::Role,
};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::rig::{Reply, Rig};
use crate::{
    http::route::Route,
    openapi::{Document, Operation, filled},
};

const KEYS: &str = "k HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n";

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn unzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

fn demo() -> ChannelName {
    ChannelName::parse("demo").unwrap()
}

/// As origins tell it.
fn told(rig: &Rig) {
    rig.upstream.abouts().update(&demo(), |about| {
        *about = About {
            title: "Sunday".into(),
            tags: vec!["chess".into()],
            health: Some(Health {
                fps_tenths: Some(300),
                gop_ms: Some(2_000),
                dropped_samples: 0,
                jitter_ms: 3,
            }),
        };
    });
    let crowd = Crowd {
        viewers: 41,
        chatters: 7,
    };
    let origin = NodeId::parse("origin").unwrap();
    let audience = rig.upstream.audience();
    audience.tell(&origin, Role::Origin, [(demo(), crowd)]);
}

/// The first who asks waits for the list to be made, which takes a place.
#[tokio::test]
async fn who_finds_no_place_to_wait_for_the_list_is_told_so() {
    let rig = Rig::live(&["--max-held", "1"]).await;
    let mut client = rig.connect().await;
    client.ask("GET", "/live/demo/7/v0/106.2.m4s", &[]).await;
    rig.until_held(1).await;
    let refused = rig.get("/api/v1/channels").await;
    assert_eq!(refused.status, 503);
    assert_eq!(json(&refused)["error"]["code"], "unavailable");
}

#[tokio::test]
async fn a_channel_is_told_as_its_origins_tell_it() {
    let rig = Rig::live(&[]).await;
    told(&rig);
    let channel = json(&rig.get("/api/v1/channels/demo").await);
    assert_eq!(
        (&channel["title"], &channel["tags"][0]),
        (&"Sunday".into(), &"chess".into())
    );
    assert_eq!(
        (&channel["viewers"], &channel["chatters"]),
        (&41.into(), &7.into())
    );
    assert_eq!(channel["health"]["fps"], 30.0);
    assert_eq!(channel["tracks"][0]["frame_rate"], 29.97);
    assert_eq!(channel["tracks"][1]["sample_rate_hz"], 48_000);
    let list = json(&rig.get("/api/v1/channels").await);
    let listed = &list["channels"][0];
    assert_eq!(
        (&list["total"], &listed["viewers"]),
        (&1.into(), &41.into())
    );
    assert_eq!(
        (&listed["title"], &listed["health"]),
        (&"Sunday".into(), &Value::Null)
    );
}

/// Who sees a number is in it, whatever has come round so far.
#[tokio::test]
async fn who_watches_here_is_counted_at_once() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    for n in 0..3 {
        client
            .get(&format!("/live/demo/v0.m3u8?viewer={n}"), &[])
            .await;
    }
    let channel = json(&rig.get("/api/v1/channels/demo").await);
    assert_eq!(channel["viewers"], 3);
}

#[tokio::test]
async fn the_list_comes_in_pages_and_compressed() {
    let rig = Rig::start(&[], 4).await;
    for n in 0..250 {
        let mut channel = rig.studio.channel(Stage::Starting);
        channel.announcement.channel = ChannelName::parse(&format!("c{n:03}")).unwrap();
        channel.announcement.phase = Phase::Live;
        rig.directory.put(channel);
    }
    let (mut path, mut names) = ("/api/v1/channels?limit=99".to_owned(), Vec::new());
    loop {
        let page = json(&rig.get(&path).await);
        let channels = page["channels"].as_array().unwrap();
        names.extend(
            channels
                .iter()
                .map(|of| of["name"].as_str().unwrap().to_owned()),
        );
        assert_eq!(page["total"], 250);
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/api/v1/channels?limit=99&after={next}");
    }
    assert!(names.is_sorted());
    assert_eq!(names.len(), 250);
    let plain = rig.get("/api/v1/channels").await;
    let mut client = rig.connect().await;
    let gzip = client
        .get("/api/v1/channels", &["Accept-Encoding: gzip"])
        .await;
    assert_eq!(
        (
            gzip.header("content-encoding"),
            plain.header("content-encoding")
        ),
        ("gzip", "")
    );
    assert_eq!(
        (gzip.header("vary"), plain.header("vary")),
        ("Accept-Encoding", "Accept-Encoding")
    );
    assert_eq!(unzipped(&gzip.body), plain.text());
    assert!(gzip.body.len() * 5 < plain.body.len());
}

/// Whatever pages a crowd asks for, the list is made once a second.
#[tokio::test]
async fn a_crowd_is_told_one_list() {
    let rig = Rig::live(&[]).await;
    let began = Instant::now();
    let mut client = rig.connect().await;
    for n in 0..200 {
        let path = format!("/api/v1/channels?limit={}&after=9.{n}", n + 1);
        let list = client.get(&path, &["Accept-Encoding: gzip"]).await;
        assert_eq!((list.status, list.header("content-encoding")), (200, ""));
        assert_eq!(json(&list)["channels"][0]["name"], "demo");
    }
    let made = rig.metrics.channel_lists.get();
    assert!(
        (1..=1 + began.elapsed().as_secs()).contains(&made),
        "{made}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_form() {
    let rig = Rig::live(&[]).await;
    for (path, status, code) in [
        ("/api/v1/channels?limit=0", 400, "bad_request"),
        ("/api/v1/channels?after=x", 400, "bad_request"),
        ("/api/v1/channels/De%20mo", 400, "bad_request"),
        ("/api/v1/channels/nobody", 404, "not_found"),
        ("/api/v1/channels/demo/chatters?limit=x", 400, "bad_request"),
        ("/api/v1/channels/De/chatters", 400, "bad_request"),
        ("/api/v1/chat", 404, "not_found"),
    ] {
        let reply = rig.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(json(&reply)["error"]["code"], code, "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        assert_eq!(reply.header("content-type"), "application/json");
    }
    let head = rig.connect().await.head("/api/v1/channels/nobody").await;
    assert_eq!(head.status, 404);
    assert!(head.header("content-length").parse::<usize>().unwrap() > 0);
}

/// Exhaustive, so that a new path has to be thought of here.
fn documented(route: &Route<'_>) -> Option<&'static str> {
    match route {
        Route::Channels => Some("/api/v1/channels"),
        Route::Channel { .. } => Some("/api/v1/channels/{channel}"),
        Route::Chatters { .. } => Some("/api/v1/channels/{channel}/chatters"),
        Route::Alternatives => Some("/api/v1/alternatives"),
        Route::Chat => Some("/api/v1/chat"),
        Route::ChatToken => Some("/api/v1/chat/token"),
        Route::Time => Some("/api/v1/time"),
        Route::OpenApi => Some("/api/v1/openapi.json"),
        Route::Ingests => Some("/ingests"),
        Route::Multivariant { .. }
        | Route::Manifest { .. }
        | Route::Stream { .. }
        | Route::Media { .. }
        | Route::Resource { .. }
        | Route::Other { .. } => None,
    }
}

#[test]
fn the_document_has_every_path_and_no_other() {
    let (channel, track) = ("demo", TrackName::video(0));
    let routes = [
        Route::Multivariant { channel },
        Route::Media { channel, track },
        Route::Channels,
        Route::Channel { channel },
        Route::Chatters { channel },
        Route::Alternatives,
        Route::Chat,
        Route::ChatToken,
        Route::Time,
        Route::OpenApi,
        Route::Ingests,
    ];
    let served: BTreeSet<_> = routes.iter().filter_map(documented).collect();
    let operations = Document::load().served_by("edge");
    let told: BTreeSet<_> = operations.iter().map(|of| of.path.as_str()).collect();
    assert_eq!(served, told);
    for Operation { path, method, .. } in &operations {
        let path = path.replace("{channel}", "demo");
        let of = documented(&Route::parse(&path)).map(|of| of.replace("{channel}", "demo"));
        assert_eq!((of.as_deref(), method.as_str()), (Some(&*path), "GET"));
    }
}

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    std::fs::write(&keys, KEYS).unwrap();
    let keys = keys.to_str().unwrap();
    let mut chatting = Rig::chatting(&["--chat-keys", keys, "--chat-sign-in-key", keys]).await;
    chatting.fill();
    told(&chatting);
    super::ingests::fill(&chatting);
    let bare = Rig::live(&[]).await;
    let document = Document::load();
    for operation in document.served_by("edge") {
        for rig in [&chatting, &bare] {
            for channel in ["demo", "nobody", "No"] {
                for query in ["", "?limit=3&login=ann", "?limit=x&after=&login=&lat="] {
                    let path = filled(&operation.path, &[("channel", channel)]);
                    let reply = rig.get(&format!("{path}{query}")).await;
                    document.check(&operation, reply.status, &reply.body);
                }
            }
        }
    }
}
