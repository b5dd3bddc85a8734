//! D3, D7, the manifest as an answer, and endless streams, over a socket.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{
    live::UnixMs,
    names::{Epoch, InitId},
};

use super::rig::{Client, Rig};
use crate::{
    fixture::{A, PARTS, V},
    playlist::Iso8601,
};

const STREAM: &str = "/live/demo/v0/stream.mp4";

/// Reads chunks until what came holds `end`.
async fn until(client: &mut Client, end: &str) -> String {
    let mut seen = String::new();
    while !seen.ends_with(end) {
        let chunk = client.chunk().await.unwrap();
        assert!(!chunk.is_empty(), "ended after {seen}");
        seen += std::str::from_utf8(&chunk).unwrap();
    }
    seen
}

async fn open_stream(rig: &Rig) -> Client {
    let mut client = rig.connect().await;
    client.ask("GET", STREAM, &[]).await;
    let head = client.reply_head().await.unwrap();
    assert_eq!(
        (head.status, head.header("cache-control")),
        (200, "no-store")
    );
    assert_eq!(head.header("content-type"), "video/mp4");
    client
}

#[tokio::test]
async fn d3_the_time_is_utc_to_the_millisecond() {
    let rig = Rig::live(&[]).await;
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let ms = u64::try_from(since.as_millis()).unwrap();
        Iso8601(UnixMs(ms)).to_string()
    };
    let before = now();
    let reply = rig.get("/api/v1/time").await;
    assert_eq!((reply.status, reply.body.len()), (200, 24));
    // Times of one length in one notation are in the order of their texts.
    let (told, after) = (reply.text(), now());
    assert!(
        *before <= *told && *told <= *after,
        "{before} {told} {after}"
    );
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    assert_eq!(
        rig.connect()
            .await
            .head("/api/v1/time")
            .await
            .header("content-length"),
        "24"
    );
}

#[tokio::test]
async fn d7_a_segment_is_404_before_its_first_chunk_and_streams_from_it_on() {
    let mut rig = Rig::live(&[]).await;
    for name in [V, A] {
        (2..PARTS).for_each(|part| rig.studio.part(name, 106, part));
        rig.studio.complete(name);
    }
    let path = "/live/demo/7/v0/107.m4s";
    assert_eq!(rig.get(path).await.status, 404);
    rig.studio.open(V, 107);
    assert_eq!(rig.get(path).await.status, 404);
    rig.studio.chunk(V, "first");
    let mut client = rig.connect().await;
    client.ask("GET", path, &[]).await;
    let head = client.reply_head().await.unwrap();
    assert_eq!(
        (head.status, head.header("transfer-encoding")),
        (200, "chunked")
    );
    assert_eq!(client.chunk().await.unwrap(), b"first");
    rig.studio.chunk(V, "second");
    assert_eq!(client.chunk().await.unwrap(), b"second");
}

#[tokio::test]
async fn the_manifest_is_answered_as_a_playlist_is() {
    let rig = Rig::live(&[]).await;
    let path = "/live/demo/manifest.mpd";
    let mut client = rig.connect().await;
    let whole = client.get(path, &[]).await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.header("content-type"), "application/dash+xml");
    assert_eq!(whole.header("cache-control"), "no-cache");
    assert_eq!(whole.header("access-control-allow-origin"), "*");
    assert_eq!(whole.header("vary"), "Accept-Encoding");
    assert_ne!(whole.header("age"), "");
    assert!(whole.text().contains("startNumber=\"100\""));
    let tag = format!("If-None-Match: {}", whole.header("etag"));
    assert_eq!(client.get(path, &[&tag]).await.status, 304);
    let packed = client.get(path, &["Accept-Encoding: gzip"]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.len() < whole.body.len() / 2);
    assert_ne!(packed.header("etag"), whole.header("etag"));
    let head = client.head(path).await;
    assert_eq!(head.header("content-length"), whole.body.len().to_string());
    assert_eq!(rig.get("/live/nobody/manifest.mpd").await.status, 404);
}

#[tokio::test]
async fn a_manifest_is_rendered_once_a_version() {
    let mut rig = Rig::live(&[]).await;
    let before = rig.metrics.playlist_renders.get();
    for _ in 0..20 {
        rig.get("/live/demo/manifest.mpd").await;
    }
    assert_eq!(rig.metrics.playlist_renders.get(), before + 1);
    // A part is no new version; a segment that one track completed isn't either.
    (2..PARTS).for_each(|part| rig.studio.part(V, 106, part));
    rig.studio.complete(V);
    rig.get("/live/demo/manifest.mpd").await;
    assert_eq!(rig.metrics.playlist_renders.get(), before + 1);
    (2..PARTS).for_each(|part| rig.studio.part(A, 106, part));
    rig.studio.complete(A);
    rig.get("/live/demo/manifest.mpd").await;
    assert_eq!(rig.metrics.playlist_renders.get(), before + 2);
}

#[tokio::test]
async fn a_manifest_waits_for_what_every_track_has() {
    let mut rig = Rig::start(&[], 4).await;
    rig.studio.announce(&rig.directory);
    let mut client = rig.connect().await;
    client.ask("GET", "/live/demo/manifest.mpd", &[]).await;
    rig.until_held(1).await;
    rig.studio.segment(V, 100);
    rig.until_held(1).await;
    rig.studio.segment(A, 100);
    let reply = client.reply(false).await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("startNumber=\"100\""));
}

#[tokio::test]
async fn an_endless_stream_runs_on_from_the_newest_segment() {
    let mut rig = Rig::live(&[]).await;
    let mut client = open_stream(&rig).await;
    let seen = until(&mut client, "v0 106.1;").await;
    assert_eq!(seen, "init of v0v0 106.0;v0 106.1;");
    (2..PARTS).for_each(|part| rig.studio.part(V, 106, part));
    rig.studio.complete(V);
    rig.studio.open(V, 107);
    rig.studio.chunk(V, "now");
    let seen = until(&mut client, "now").await;
    assert_eq!(seen, "v0 106.2;v0 106.3;v0 106.4;v0 106.5;now");
    assert_eq!(rig.metrics.streams.get(), 1);
    assert_eq!(rig.metrics.stream_skips.get(), 0);
    drop(client);
    // The broadcast's end is the stream's.
    let mut client = open_stream(&rig).await;
    until(&mut client, "now").await;
    rig.studio.part(V, 107, 0);
    rig.studio.complete(V);
    rig.studio.track(V).window.end();
    assert_eq!(until(&mut client, "v0 107.0;").await, "v0 107.0;");
    assert_eq!(client.chunk().await.unwrap(), b"");
    assert_eq!(rig.get(STREAM).await.status, 404);
    while rig.metrics.streams.get() != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_endless_stream_outlives_its_publisher_and_ends_with_its_init() {
    let mut rig = Rig::live(&[]).await;
    let mut client = open_stream(&rig).await;
    until(&mut client, "v0 106.1;").await;
    rig.studio.complete(V);
    // Another epoch with the same init segment just goes on.
    rig.studio.epoch = Epoch(8);
    rig.studio.init = InitId(1);
    let same = rig.studio.track(V).init(InitId(0)).unwrap();
    rig.studio.track(V).add_init(InitId(1), same);
    rig.studio.segment(V, 107);
    assert!(
        until(&mut client, "v0 107.5;")
            .await
            .starts_with("v0 107.0;")
    );
    // A decoder that reads a file takes one init segment.
    rig.studio.init = InitId(2);
    rig.studio.track(V).add_init(InitId(2), "another".into());
    rig.studio.open(V, 108);
    rig.studio.chunk(V, "x");
    assert_eq!(client.chunk().await.unwrap(), b"");
    let again = open_stream(&rig).await;
    let mut client = again;
    assert_eq!(until(&mut client, "x").await, "anotherx");
}

#[tokio::test]
async fn an_endless_stream_leaves_out_what_its_viewer_is_behind_by() {
    let mut rig = Rig::live(&["--max-behind-bytes", "65536", "--unsent-bytes", "4096"]).await;
    let mut client = open_stream(&rig).await;
    until(&mut client, "v0 106.1;").await;
    // More than any socket's buffers, while nobody reads.
    let frame = bytes::Bytes::from(vec![b'-'; 1 << 20]);
    rig.studio.complete(V);
    for msn in 107..127 {
        rig.studio.open(V, msn);
        for part in 0..PARTS {
            rig.studio.chunk(V, frame.clone());
            rig.studio.part(V, msn, part);
            tokio::task::yield_now().await;
        }
        rig.studio.complete(V);
    }
    rig.studio.open(V, 127);
    rig.studio.chunk(V, "the newest");
    let mut got = 0;
    loop {
        let chunk = client.chunk().await.unwrap();
        got += chunk.len();
        if chunk == b"the newest" {
            break;
        }
    }
    // Twenty segments of six megabytes were made; most were left out.
    assert!(got < 60 << 20, "{got}");
    assert!(rig.metrics.stream_skips.get() > 0);
}

#[tokio::test]
async fn endless_streams_are_bounded() {
    let rig = Rig::live(&["--max-endless", "2"]).await;
    let _first = open_stream(&rig).await;
    let second = open_stream(&rig).await;
    let reply = rig.get(STREAM).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert_eq!(
        rig.metrics
            .rejections(crate::http::metrics::Rejected::Streams),
        1
    );
    drop(second);
    while rig.metrics.streams.get() != 1 {
        tokio::task::yield_now().await;
    }
    open_stream(&rig).await;
}

#[tokio::test]
async fn an_endless_stream_ends_with_the_edge() {
    let rig = Rig::live(&[]).await;
    let mut client = open_stream(&rig).await;
    until(&mut client, "v0 106.1;").await;
    rig.shutdown.drain();
    // At the next chunk, and cleanly: nothing is cut off.
    loop {
        rig.studio.chunk(V, "more");
        tokio::task::yield_now().await;
        if client.chunk().await.unwrap().is_empty() {
            break;
        }
    }
}

#[tokio::test]
async fn head_of_a_stream_answers_at_once() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    assert_eq!(client.head(STREAM).await.status, 200);
    assert_eq!(client.head("/live/demo/v1/stream.mp4").await.status, 404);
    assert_eq!(client.head("/live/nobody/v0/stream.mp4").await.status, 404);
    assert_eq!(rig.metrics.streams.get(), 0);
}

#[tokio::test]
async fn a_silent_segment_breaks_after_three_target_durations() {
    let rig = Rig::brief(&[]).await;
    let mut client = rig.connect().await;
    client.ask("GET", "/live/demo/7/v0/106.m4s", &[]).await;
    client.reply_head().await.unwrap();
    let began = std::time::Instant::now();
    client.chunk().await.unwrap();
    client.chunk().await.unwrap();
    assert!(client.chunk_or_end().await.is_none());
    assert!(began.elapsed() >= Duration::from_secs(3));
}
