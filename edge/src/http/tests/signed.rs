//! Signed viewing, seen from outside.

use std::{fs, path::PathBuf};

use super::rig::{Client, Reply, Rig};
use crate::{
    fixture::{PARTS, V},
    view::{TokenArgs, mint},
};

const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// A server that needs tokens, and where its keys are.
async fn signed() -> (Rig, tempfile::TempDir, PathBuf) {
    signed_with(&[]).await
}

async fn signed_with(flags: &[&str]) -> (Rig, tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    fs::write(&path, format!("a HS256 {SECRET}")).unwrap();
    let keys = ["--view-keys", path.to_str().unwrap()];
    let rig = Rig::live(&[&keys, flags].concat()).await;
    (rig, dir, path)
}

fn token(keys: &std::path::Path, channel: &str, ttl: u64) -> String {
    mint(&TokenArgs {
        view_keys: keys.to_owned(),
        kid: "a".into(),
        channel: common::names::ChannelName::parse(channel).unwrap(),
        ttl,
        address: None,
        audience: "millrace".into(),
    })
    .unwrap()
}

fn is_refused(reply: &Reply) -> bool {
    reply.status == 403
        && reply.header("access-control-allow-origin") == "*"
        && reply.header("cache-control") == "no-store"
        && reply.body.is_empty()
}

#[tokio::test]
async fn playlists_need_a_token_and_share_their_bytes() {
    let (rig, _dir, keys) = signed().await;
    let (one, two) = (token(&keys, "demo", 3_600), token(&keys, "demo", 1_800));
    assert_ne!(one, two);
    for name in ["index.m3u8", "v0.m3u8", "a0.m3u8"] {
        assert!(is_refused(&rig.get(&format!("/live/demo/{name}")).await));
        let first = rig.get(&format!("/s/{one}/live/demo/{name}")).await;
        let second = rig.get(&format!("/s/{two}/live/demo/{name}")).await;
        assert_eq!((first.status, second.status), (200, 200));
        assert!(first.body == second.body && !first.text().contains(&one));
        assert_eq!(first.header("etag"), second.header("etag"));
    }
    // One rendering each, whoever asks.
    assert_eq!(rig.metrics.playlist_renders.get(), 3);
    // What a playlist names is shared, too.
    for path in ["/7/v0/106.0.m4s", "/7/v0/105.m4s"] {
        let first = rig.get(&format!("/s/{one}/live/demo{path}")).await;
        let second = rig.get(&format!("/s/{two}/live/demo{path}")).await;
        assert_eq!((first.status, second.status), (200, 200));
        assert_eq!(first.body, second.body);
        assert_eq!(first.header("etag"), second.header("etag"));
    }
}

/// A broadcast's id is in the list of channels, and its first segment has the number
/// of the same second: whoever counts on from there has every path.
#[tokio::test]
async fn media_need_a_token_like_the_playlists_that_name_them() {
    let (mut rig, _dir, keys) = signed().await;
    let list = rig.get("/api/v1/channels").await;
    assert!(list.text().contains("\"live_since_ms\":7"));
    let (good, other) = (token(&keys, "demo", 3_600), token(&keys, "other", 3_600));
    let mut client = rig.connect().await;
    for path in [
        "v0/init-0.mp4",
        "v0/105.m4s",
        "v0/106.m4s",
        "v0/106.0.m4s",
        "v0/106.2.m4s",
        "a0/105.0.m4s",
        "v0/999.m4s",
        "v3/105.m4s",
    ] {
        let path = format!("/live/demo/7/{path}");
        for bad in [
            &path,
            &format!("/s/{other}{path}"),
            &format!("/s/a.b.c{path}"),
        ] {
            assert!(is_refused(&client.get(bad, &[]).await), "{bad}");
            assert_eq!(client.head(bad).await.status, 403);
        }
        assert!(is_refused(
            &client.get(&path, &["If-None-Match: \"0\""]).await
        ));
        assert!(is_refused(&client.get(&path, &["Range: bytes=0-1"]).await));
        assert!(is_refused(
            &client.get(&format!("{path}?token={good}"), &[]).await
        ));
    }
    for (path, status) in [
        ("v0/init-0.mp4", 200),
        ("v0/105.m4s", 200),
        ("v0/106.0.m4s", 200),
        ("v0/999.m4s", 404),
    ] {
        let path = format!("/s/{good}/live/demo/7/{path}");
        assert_eq!(client.get(&path, &[]).await.status, status, "{path}");
        // Each stands for itself, on one connection too.
        let unsigned = client.get("/live/demo/7/v0/105.m4s", &[]).await;
        assert!(is_refused(&unsigned));
    }
    let hinted = format!("/s/{good}/live/demo/7/v0/106.2.m4s");
    client.ask("GET", &hinted, &[]).await;
    rig.until_held(1).await;
    rig.studio.part(V, 106, 2);
    assert_eq!(client.reply(false).await.unwrap().text(), "v0 106.2;");
}

#[tokio::test]
async fn a_wrong_token_is_403_on_every_playlist() {
    let (rig, _dir, keys) = signed().await;
    let good = token(&keys, "demo", 3_600);
    for bad in [
        token(&keys, "other", 3_600),
        // Past even the leeway.
        "a.b.c".to_owned(),
        good[1..].to_owned(),
        String::new(),
    ] {
        for name in ["index.m3u8", "v0.m3u8", "v0.m3u8?_HLS_msn=106&_HLS_part=2"] {
            assert!(is_refused(
                &rig.get(&format!("/s/{bad}/live/demo/{name}")).await
            ));
        }
        assert!(is_refused(
            &rig.get(&format!("/live/demo/index.m3u8?token={bad}")).await
        ));
    }
    assert!(is_refused(
        &rig.get(&format!("/live/demo/v0.m3u8?token={good}")).await
    ));
    // On one connection each channel and each token stands for itself.
    let mut client = rig.connect().await;
    let path = |token: &str| format!("/s/{token}/live/demo/v0.m3u8");
    assert_eq!(client.get(&path(&good), &[]).await.status, 200);
    assert!(is_refused(&client.get("/live/demo/v0.m3u8", &[]).await));
    let other = token(&keys, "other", 3_600);
    assert!(is_refused(&client.get(&path(&other), &[]).await));
    assert_eq!(client.get(&path(&good), &[]).await.status, 200);
}

#[tokio::test]
async fn a_query_token_makes_a_multivariant_playlist_of_its_own() {
    let (rig, _dir, keys) = signed().await;
    let token = token(&keys, "demo", 3_600);
    let shared = rig.get(&format!("/s/{token}/live/demo/index.m3u8")).await;
    let own = rig
        .get(&format!("/live/demo/index.m3u8?token={token}"))
        .await;
    assert_eq!(own.status, 200);
    assert_eq!(own.header("cache-control"), "private, no-store");
    assert_eq!(own.header("content-type"), "application/vnd.apple.mpegurl");
    assert_eq!(own.header("etag"), "");
    let prefix = format!("../../s/{token}/live/demo/");
    assert_eq!(own.text().replace(&prefix, ""), shared.text());
    assert_eq!(own.text().matches(&prefix).count(), 2);
    // The shared one is as it was.
    let again = rig.get(&format!("/s/{token}/live/demo/index.m3u8")).await;
    assert_eq!(again.body, shared.body);
    assert_eq!(rig.metrics.playlist_renders.get(), 1);
}

#[tokio::test]
async fn a_signed_blocking_reload_is_answered() {
    let (mut rig, _dir, keys) = signed().await;
    let token = token(&keys, "demo", 3_600);
    let mut client = rig.connect().await;
    let path = format!("/s/{token}/live/demo/v0.m3u8?_HLS_msn=106&_HLS_part=2");
    client.ask("GET", &path, &[]).await;
    rig.until_held(1).await;
    rig.studio.part(V, 106, 2);
    assert_eq!(client.reply(false).await.unwrap().status, 200);
}

/// Off, a token's path names nothing, and a query token is one more unknown
/// parameter.
#[tokio::test]
async fn without_keys_there_are_no_tokens() {
    let rig = Rig::live(&[]).await;
    assert_eq!(rig.get("/s/a.b.c/live/demo/index.m3u8").await.status, 404);
    let shared = rig.get("/live/demo/index.m3u8").await;
    let own = rig.get("/live/demo/index.m3u8?token=a.b.c").await;
    assert_eq!(shared.body, own.body);
    assert_eq!(own.header("etag"), shared.header("etag"));
}

/// A body without a length that ends as one that is complete.
async fn to_its_end(client: &mut Client) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let chunk = client.chunk().await.unwrap();
        if chunk.is_empty() {
            return whole;
        }
        whole.extend(chunk);
    }
}

/// What goes on ends with the token that it began under, cleanly; a segment that is
/// being made is asked for once, and comes whole.
#[tokio::test]
async fn an_endless_stream_ends_with_its_token() {
    let (mut rig, _dir, keys) = signed_with(&["--view-leeway", "0"]).await;
    let path = "/live/demo/v0/stream.mp4";
    assert!(is_refused(&rig.get(path).await));
    assert!(is_refused(&rig.get(&format!("/s/a.b.c{path}")).await));
    let (mut brief, mut segment) = (rig.connect().await, rig.connect().await);
    let token = token(&keys, "demo", 2);
    brief.ask("GET", &format!("/s/{token}{path}"), &[]).await;
    assert_eq!(brief.reply_head().await.unwrap().status, 200);
    let open = format!("/s/{token}/live/demo/7/v0/106.m4s");
    segment.ask("GET", &open, &[]).await;
    assert_eq!(segment.reply_head().await.unwrap().status, 200);
    let seen = to_its_end(&mut brief).await;
    assert_eq!(seen, b"init of v0v0 106.0;v0 106.1;");
    assert_eq!(rig.metrics.streams_expired.get(), 1);
    assert!(is_refused(&rig.get(&format!("/s/{token}{path}")).await));
    (2..PARTS).for_each(|part| rig.studio.part(V, 106, part));
    rig.studio.complete(V);
    let whole = to_its_end(&mut segment).await;
    let all: String = (0..PARTS).map(|part| format!("v0 106.{part};")).collect();
    assert_eq!(whole, all.as_bytes());
}
