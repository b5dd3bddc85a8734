//! R1 to R5 and T2 to T5 on playlists, over a socket.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use common::{
    live::{Directory, Stage},
    names::ChannelName,
};
use flate2::read::GzDecoder;

use super::rig::{Reply, Rig};
use crate::{
    fixture::{A, PARTS, Studio, V, plan, video},
    playlist,
};

const MEDIA: &str = "/live/demo/v0.m3u8";

fn gunzip(reply: &Reply) -> String {
    let mut text = String::new();
    GzDecoder::new(&reply.body[..])
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[tokio::test]
async fn a_playlist_and_what_it_names() {
    let rig = Rig::live(&[]).await;
    let top = rig.get("/live/demo/index.m3u8").await;
    assert_eq!(top.status, 200);
    assert!(top.text().contains("\nv0.m3u8\n"), "{}", top.text());
    let list = rig.get(MEDIA).await;
    assert_eq!(list.status, 200);
    let mut named = 0;
    for line in list.text().lines() {
        let quoted = line
            .split_once("URI=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        let uri = match quoted {
            Some((uri, _)) if !line.contains("PRELOAD-HINT") => uri,
            None if !line.starts_with('#') => line,
            _ => continue,
        };
        let reply = rig.get(&format!("/live/demo/{uri}")).await;
        assert_eq!(reply.status, 200, "{uri}");
        named += 1;
    }
    assert!(named > 20);
    let part = rig.get("/live/demo/7/v0/106.1.m4s").await;
    assert_eq!(part.text(), "v0 106.1;");
    let segment = rig.get("/live/demo/7/v0/105.m4s").await;
    let whole: String = (0..PARTS).map(|part| format!("v0 105.{part};")).collect();
    assert_eq!(segment.text(), whole);
}

#[tokio::test]
async fn r1_a_reload_is_held_until_its_part_exists() {
    let mut rig = Rig::live(&[]).await;
    let mut waits = rig.connect().await;
    waits
        .ask("GET", &format!("{MEDIA}?_HLS_msn=106&_HLS_part=2"), &[])
        .await;
    rig.until_held(1).await;
    // A chunk is no part.
    rig.studio.chunk(V, "x");
    rig.studio.part(V, 106, 2);
    let reply = waits.reply(false).await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("106.2.m4s\"\n"), "{}", reply.text());
    rig.until_held(0).await;
}

#[tokio::test]
async fn r1_without_a_part_the_segment_must_be_complete() {
    let mut rig = Rig::live(&[]).await;
    let mut waits = rig.connect().await;
    waits
        .ask("GET", &format!("{MEDIA}?_HLS_msn=106"), &[])
        .await;
    rig.until_held(1).await;
    (2..PARTS).for_each(|part| rig.studio.part(V, 106, part));
    rig.studio.complete(V);
    let reply = waits.reply(false).await.unwrap();
    assert!(reply.text().contains("\n7/v0/106.m4s\n"));
}

#[tokio::test]
async fn r1_an_old_msn_answers_at_once() {
    let rig = Rig::live(&[]).await;
    for query in ["_HLS_msn=0", "_HLS_msn=105", "_HLS_msn=99&_HLS_part=999999"] {
        let reply = rig.get(&format!("{MEDIA}?{query}")).await;
        assert_eq!(reply.status, 200, "{query}");
    }
}

#[tokio::test]
async fn r2_bad_directives_are_400() {
    let rig = Rig::live(&[]).await;
    for query in [
        "_HLS_part=0",
        "_HLS_msn=-1",
        "_HLS_msn=+1",
        "_HLS_msn=abc",
        "_HLS_msn=99999999999999999999999",
        "_HLS_msn=106&_HLS_part=-1",
        "_HLS_msn=1&_HLS_msn=2",
    ] {
        let reply = rig.get(&format!("{MEDIA}?{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
    }
}

#[tokio::test]
async fn r3_the_far_future_is_400_and_never_held() {
    let rig = Rig::live(&[]).await;
    for query in [
        "_HLS_msn=108",
        "_HLS_msn=18446744073709551615",
        "_HLS_msn=106&_HLS_part=11",
        "_HLS_msn=106&_HLS_part=99999999999",
    ] {
        let reply = rig.get(&format!("{MEDIA}?{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
        // The first of them is everybody's next request in a moment.
        assert_eq!(reply.header("cache-control"), "no-store");
    }
    assert_eq!(rig.metrics.held.get(), 0);
}

#[tokio::test]
async fn r4_held_too_long_is_503_and_never_an_older_playlist() {
    let rig = Rig::brief(&[]).await;
    let asked = Instant::now();
    let reply = rig.get(&format!("{MEDIA}?_HLS_msn=106&_HLS_part=2")).await;
    assert_eq!(reply.status, 503);
    assert!(asked.elapsed() >= Duration::from_secs(3));
    assert!(reply.body.is_empty());
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(reply.header("cache-control"), "max-age=4");
    // What needs no waiting is still served.
    assert_eq!(rig.get(MEDIA).await.status, 200);
}

#[tokio::test]
async fn r5_delta_updates() {
    let mut rig = Rig::start(&[], 1).await;
    rig.studio.segments(100, 112);
    rig.studio.announce(&rig.directory);
    for value in ["YES", "v2"] {
        let reply = rig.get(&format!("{MEDIA}?_HLS_skip={value}")).await;
        assert!(reply.text().contains("#EXT-X-SKIP:"), "{}", reply.text());
    }
    let whole = rig.get(MEDIA).await;
    assert!(!whole.text().contains("#EXT-X-SKIP:"));
    rig.studio.track(V).window.end();
    // Nothing follows ENDLIST: directives are ignored.
    let query = "_HLS_skip=YES&_HLS_msn=999999&_HLS_part=3";
    let reply = rig.get(&format!("{MEDIA}?{query}")).await;
    assert_eq!(reply.status, 200);
    assert!(reply.text().ends_with("#EXT-X-ENDLIST\n"));
    assert!(!reply.text().contains("#EXT-X-SKIP:"));
}

#[tokio::test]
async fn an_end_wakes_who_waits() {
    let rig = Rig::live(&[]).await;
    let mut waits = rig.connect().await;
    waits
        .ask("GET", &format!("{MEDIA}?_HLS_msn=107"), &[])
        .await;
    rig.until_held(1).await;
    rig.studio.track(V).window.end();
    let reply = waits.reply(false).await.unwrap();
    assert!(reply.text().ends_with("#EXT-X-ENDLIST\n"));
}

#[tokio::test]
async fn t2_a_version_is_rendered_and_compressed_once() {
    let mut rig = Rig::live(&[]).await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut client = rig.connect().await;
        let path = format!("{MEDIA}?_HLS_msn=106&_HLS_part=2");
        client.ask("GET", &path, &["Accept-Encoding: gzip"]).await;
        waiting.push(client);
    }
    rig.until_held(50).await;
    let before = rig.metrics.playlist_renders.get();
    rig.studio.part(V, 106, 2);
    let mut bodies = Vec::new();
    for mut client in waiting {
        let reply = client.reply(false).await.unwrap();
        assert_eq!(reply.header("content-encoding"), "gzip");
        bodies.push(reply.body);
    }
    assert!(bodies.windows(2).all(|two| two[0] == two[1]));
    assert_eq!(rig.metrics.playlist_renders.get() - before, 1);
}

#[tokio::test]
async fn t2_gzip_age_and_tags() {
    let rig = Rig::live(&[]).await;
    let plain = rig.get(MEDIA).await;
    let mut client = rig.connect().await;
    let zipped = client.get(MEDIA, &["Accept-Encoding: gzip"]).await;
    assert_eq!(gunzip(&zipped), plain.text());
    assert!(zipped.body.len() < plain.body.len() / 2);
    for reply in [&plain, &zipped] {
        assert_eq!(reply.header("vary"), "Accept-Encoding");
        assert_eq!(reply.header("age"), "0");
        assert!(!reply.header("date").is_empty());
    }
    assert_eq!(plain.header("content-encoding"), "");
    assert_ne!(plain.header("etag"), zipped.header("etag"));
    let etag = format!("If-None-Match: {}", plain.header("etag"));
    let again = client.get(MEDIA, &[&etag]).await;
    assert_eq!(again.status, 304);
    assert_eq!(again.header("etag"), plain.header("etag"));
    // The other representation is another one.
    let other = client.get(MEDIA, &[&etag, "Accept-Encoding: gzip"]).await;
    assert_eq!(other.status, 200);
}

/// Two edges with the same records answer with the same bytes, gzip too.
#[tokio::test]
async fn equal_versions_are_equal_bytes() {
    let (one, two) = (Rig::live(&[]).await, Rig::live(&[]).await);
    for path in [MEDIA, "/live/demo/a0.m3u8", "/live/demo/index.m3u8"] {
        for encoding in ["identity", "gzip"] {
            let header = format!("Accept-Encoding: {encoding}");
            let a = one.connect().await.get(path, &[&header]).await;
            let b = two.connect().await.get(path, &[&header]).await;
            assert_eq!(a.body, b.body);
            assert_eq!(a.header("etag"), b.header("etag"));
        }
    }
}

#[tokio::test]
async fn t3_lifetimes_of_playlists() {
    let rig = Rig::live(&[]).await;
    for (path, status, cache) in [
        (MEDIA, 200, "max-age=2"),
        ("/live/demo/v0.m3u8?_HLS_msn=105", 200, "max-age=24"),
        ("/live/demo/v0.m3u8?_HLS_msn=999", 400, "no-store"),
        ("/live/demo/v9.m3u8", 404, "max-age=4"),
        ("/live/nobody/v0.m3u8", 404, "max-age=1"),
        ("/live/nobody/index.m3u8", 404, "max-age=1"),
        ("/live/demo/index.m3u8", 200, "max-age=2"),
    ] {
        let reply = rig.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.header("cache-control"), cache, "{path}");
    }
}

#[tokio::test]
async fn t4_playlists_have_their_type() {
    let rig = Rig::live(&[]).await;
    for path in [MEDIA, "/live/demo/index.m3u8"] {
        let reply = rig.get(path).await;
        assert_eq!(
            reply.header("content-type"),
            "application/vnd.apple.mpegurl"
        );
    }
}

#[tokio::test]
async fn head_answers_at_once() {
    let rig = Rig::live(&[]).await;
    let whole = rig.get(MEDIA).await;
    let mut client = rig.connect().await;
    for (path, cache) in [
        (MEDIA, "max-age=2"),
        ("/live/demo/v0.m3u8?_HLS_msn=105", "max-age=24"),
        // GET would wait and then send another playlist.
        ("/live/demo/v0.m3u8?_HLS_msn=107", "no-store"),
    ] {
        let head = client.head(path).await;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), whole.body.len().to_string());
        assert_eq!(head.header("cache-control"), cache, "{path}");
    }
    // R3 is no matter of waiting.
    assert_eq!(
        client.head(&format!("{MEDIA}?_HLS_msn=108")).await.status,
        400
    );
}

/// A starting channel's playlists wait; the first part of media answers them.
#[tokio::test]
async fn h2_a_starting_channel_is_waited_for() {
    let mut rig = Rig::start(&[], 4).await;
    rig.directory.put(rig.studio.channel(Stage::Starting));
    let (mut top, mut media) = (rig.connect().await, rig.connect().await);
    top.ask("GET", "/live/demo/index.m3u8", &[]).await;
    media.ask("GET", MEDIA, &[]).await;
    rig.until_held(2).await;
    rig.studio.announce(&rig.directory);
    assert_eq!(top.reply(false).await.unwrap().status, 200);
    rig.until_held(1).await;
    rig.studio.segment(V, 100);
    assert_eq!(media.reply(false).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_channel_that_does_not_start_is_503() {
    let rig = Rig::start(&["--start-wait", "0"], 4).await;
    rig.directory.put(rig.studio.channel(Stage::Starting));
    let asked = Instant::now();
    let reply = rig.get("/live/demo/index.m3u8").await;
    assert_eq!(reply.status, 503);
    assert!(asked.elapsed() >= Duration::from_secs(3));
    assert_eq!(reply.header("cache-control"), "max-age=1");
    assert_eq!(reply.header("retry-after"), "1");
}

/// Another broadcast on the same channel has playlists of its own.
#[tokio::test]
async fn a_new_broadcast_is_not_answered_from_the_old_one() {
    let rig = Rig::live(&[]).await;
    let old = rig.get(MEDIA).await;
    let mut next = Studio::new(plan(4), vec![video()]);
    next.segments(500, 506);
    next.announce(&rig.directory);
    let new = rig.get(MEDIA).await;
    assert!(new.text().contains("#EXT-X-MEDIA-SEQUENCE:500\n"));
    assert_ne!(old.header("etag"), new.header("etag"));
    assert_eq!(rig.get("/live/demo/a0.m3u8").await.status, 404);
}

#[tokio::test]
async fn viewers_and_channels_are_listed() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    for agent in ["one", "two", "two"] {
        let header = format!("User-Agent: {agent}");
        client.get(MEDIA, &[&header]).await;
    }
    client.get(&format!("{MEDIA}?viewer=page"), &[]).await;
    let reply = client.get("/api/v1/channels", &[]).await;
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    let list: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let channel = &list["channels"][0];
    assert_eq!(channel["name"], "demo");
    assert_eq!(channel["state"], "live");
    assert_eq!(channel["viewers"], 3);
    assert_eq!(channel["live_since_ms"], 7, "the id of the broadcast");
    let tracks = channel["tracks"].as_array().unwrap();
    assert_eq!(tracks[0]["name"], "v0");
    assert_eq!(tracks[0]["width"], 1280);
    assert_eq!(tracks[1]["kind"], "audio");
}

/// Who looks at the metrics alone sees them too.
#[tokio::test]
async fn viewers_are_counted_without_being_asked_for() {
    let rig = Rig::live(&[]).await;
    rig.get(MEDIA).await;
    let counted = async {
        while rig.metrics.counted_viewers.get() != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted)
        .await
        .unwrap();
}

/// Thousands of queries cost one rendering and share its bytes.
#[tokio::test]
async fn unknown_parameters_are_no_part_of_a_key() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    let first = client.get(MEDIA, &[]).await;
    let before = rig.metrics.playlist_renders.get();
    for n in 0..2_000 {
        let path = format!("{MEDIA}?x{n}={n}&_HLS_x={n}&_HLS_report=y");
        let reply = client.get(&path, &[]).await;
        assert_eq!(reply.body, first.body);
    }
    assert_eq!(rig.metrics.playlist_renders.get(), before);
}

#[tokio::test]
async fn names_and_forwarding_of_strangers_change_nothing() {
    let rig = Rig::live(&[]).await;
    let expected = rig.get(MEDIA).await;
    let headers = [
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-For: 10.0.0.1",
        "X-Original-URL: /api/v1/channels",
        "Forwarded: host=evil.example",
    ];
    let mut client = rig.connect().await;
    let reply = client.get(MEDIA, &headers).await;
    assert_eq!(reply.body, expected.body);
    client
        .send("GET http://evil.example/live/demo/v0.m3u8 HTTP/1.1\r\nHost: other\r\n\r\n")
        .await;
    let reply = client.reply(false).await.unwrap();
    assert_eq!(reply.body, expected.body);
    assert!(reply.headers.values().all(|value| !value.contains("evil")));
}

/// Ends, restarts and forgotten channels leave nothing behind in the cache.
#[test]
fn the_cache_lets_ended_broadcasts_go() {
    let cache = super::super::cache::Cache::default();
    let directory = Directory::default();
    let mut studio = Studio::new(plan(4), vec![video()]);
    studio.segments(100, 101);
    studio.announce(&directory);
    let playlists = cache.of(&studio.broadcast);
    assert!(playlists.track(V).is_some() && playlists.track(A).is_none());
    let weak = std::sync::Arc::downgrade(&studio.broadcast);
    directory.remove(&ChannelName::parse("demo").unwrap(), studio.broadcast.id);
    drop(studio);
    assert!(weak.upgrade().is_none());
    assert_eq!(playlist::part_limit(&video()), 9);
}
