//! R6 and T3 to T5 on media, over a socket.

use std::time::{Duration, Instant};

use common::{
    live::PartFlags,
    names::{Epoch, InitId},
};

use super::rig::Rig;
use crate::fixture::{A, PART, PARTS, V};

#[tokio::test]
async fn r6_the_hinted_part_comes_whole() {
    let mut rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    client.ask("GET", "/live/demo/7/v0/106.2.m4s", &[]).await;
    rig.until_held(1).await;
    // Not one byte before the part is closed.
    rig.studio.chunk(V, "early;");
    rig.studio.part(V, 106, 2);
    let reply = client.reply(false).await.unwrap();
    assert_eq!((reply.status, reply.text()), (200, "early;v0 106.2;"));
    assert_eq!(reply.header("content-length"), "15");
    assert_eq!(reply.header("transfer-encoding"), "");
}

#[tokio::test]
async fn r6_an_unhinted_future_part_is_404() {
    let rig = Rig::live(&[]).await;
    for path in ["106.3", "107.1", "108.0", "9999.0", "106.4294967295"] {
        let reply = rig.get(&format!("/live/demo/7/v0/{path}.m4s")).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("cache-control"), "max-age=1");
    }
}

#[tokio::test]
async fn r6_a_hint_that_does_not_come_true_is_404_at_once() {
    let mut rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    client.ask("GET", "/live/demo/7/v0/106.2.m4s", &[]).await;
    rig.until_held(1).await;
    rig.studio.complete(V);
    rig.studio.open(V, 107);
    let reply = client.reply(false).await.unwrap();
    assert_eq!(reply.status, 404);
    // T3: hinted media's error lasts one target duration.
    assert_eq!(reply.header("cache-control"), "max-age=4");
}

#[tokio::test]
async fn r6_a_republish_ends_the_wait_for_the_old_hint() {
    let mut rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    (2..PARTS).for_each(|part| rig.studio.part(V, 106, part));
    rig.studio.complete(V);
    client.ask("GET", "/live/demo/7/v0/107.0.m4s", &[]).await;
    rig.until_held(1).await;
    rig.studio.epoch = Epoch(8);
    rig.studio.open(V, 107);
    assert_eq!(client.reply(false).await.unwrap().status, 404);
}

#[tokio::test]
async fn r6_a_hint_is_held_for_three_target_durations() {
    let rig = Rig::brief(&[]).await;
    let asked = Instant::now();
    let reply = rig.get("/live/demo/7/v0/106.2.m4s").await;
    assert_eq!(reply.status, 503);
    assert!(asked.elapsed() >= Duration::from_secs(3));
    assert_eq!(reply.header("cache-control"), "max-age=1");
}

#[tokio::test]
async fn a_hole_is_404() {
    let mut rig = Rig::live(&[]).await;
    let gap = PartFlags {
        independent: false,
        gap: true,
    };
    rig.studio.close(V, PART, gap, (106, 3));
    assert_eq!(rig.get("/live/demo/7/v0/106.2.m4s").await.status, 404);
}

#[tokio::test]
async fn t3_t4_media_is_immutable_and_typed() {
    let rig = Rig::live(&[]).await;
    for (path, of) in [
        ("v0/106.0.m4s", "video/mp4"),
        ("v0/105.m4s", "video/mp4"),
        ("v0/init-0.mp4", "video/mp4"),
        ("a0/105.0.m4s", "audio/mp4"),
        ("a0/init-0.mp4", "audio/mp4"),
    ] {
        let reply = rig.get(&format!("/live/demo/7/{path}")).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("content-type"), of);
        assert!(reply.header("cache-control").contains("immutable"));
        assert_eq!(reply.header("accept-ranges"), "bytes");
        assert!(reply.header("etag").starts_with('"'));
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let rig = Rig::live(&[]).await;
    for path in [
        "/live/demo/8/v0/105.m4s",
        "/live/demo/7/v0/99.m4s",
        "/live/demo/7/v0/107.m4s",
        "/live/demo/7/v0/init-1.mp4",
        "/live/demo/6/v0/init-0.mp4",
        "/live/demo/8/v0/init-0.mp4",
        "/live/demo/7/v3/105.m4s",
        "/live/nobody/7/v0/105.m4s",
        "/live/demo/7/v0/105.6.m4s",
        "/live/DEMO/7/v0/105.m4s",
        "/live/demo/7/v0/../../../etc/passwd",
        "/live/%00/index.m3u8",
        "/nothing",
    ] {
        let reply = rig.get(path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        assert_eq!(reply.header("cache-control"), "max-age=1", "{path}");
    }
}

/// Numbers of init segments begin anew with each broadcast: an edge that still offers
/// the last one has none of the next one's.
#[tokio::test]
async fn an_init_segment_is_its_epochs() {
    let mut rig = Rig::live(&[]).await;
    let (old, next) = ("/live/demo/7/v0/init-0.mp4", "/live/demo/9/v0/init-0.mp4");
    assert_eq!(rig.get(old).await.text(), "init of v0");
    assert_eq!(rig.get(next).await.status, 404);
    // A republish has an epoch of its own, and perhaps a picture.
    let again = "/live/demo/8/v0/init-1.mp4";
    let bytes = bytes::Bytes::from_static(b"another size");
    rig.studio.track(V).add_init(InitId(1), bytes);
    assert_eq!(rig.get(again).await.status, 404);
    // The origin's word may be here before the segment, which others list already.
    rig.studio.epoch = Epoch(8);
    rig.studio.announce(&rig.directory);
    assert_eq!(rig.get(again).await.text(), "another size");
    rig.studio.init = InitId(1);
    (2..PARTS).for_each(|part| rig.studio.part(V, 106, part));
    rig.studio.complete(V);
    rig.studio.open(V, 107);
    rig.studio.epoch = Epoch(7);
    rig.studio.announce(&rig.directory);
    assert_eq!(rig.get(again).await.text(), "another size");
    assert_eq!(rig.get(old).await.text(), "init of v0");
    assert_eq!(rig.get(next).await.status, 404);
}

#[tokio::test]
async fn t5_ranges() {
    let rig = Rig::live(&[]).await;
    let path = "/live/demo/7/v0/105.m4s";
    let whole = rig.get(path).await;
    let len = whole.body.len();
    let mut client = rig.connect().await;
    let reply = client.get(path, &["Range: bytes=5-20"]).await;
    assert_eq!((reply.status, &reply.body[..]), (206, &whole.body[5..=20]));
    let expected = format!("bytes 5-20/{len}");
    assert_eq!(reply.header("content-range"), expected);
    let reply = client.get(path, &["Range: bytes=-3"]).await;
    assert_eq!(reply.body, whole.body[len - 3..]);
    let reply = client.get(path, &["Range: bytes=99999-"]).await;
    assert_eq!(reply.status, 416);
    assert_eq!(reply.header("content-range"), format!("bytes */{len}"));
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    let reply = client.get(path, &["Range: bytes=0-1,4-5"]).await;
    assert_eq!((reply.status, reply.body), (200, whole.body.clone()));
    let tag = format!("If-Range: {}", whole.header("etag"));
    let reply = client.get(path, &["Range: bytes=0-0", &tag]).await;
    assert_eq!(reply.status, 206);
    let reply = client
        .get(path, &["Range: bytes=0-0", "If-Range: \"other\""])
        .await;
    assert_eq!(reply.status, 200);
    let tag = format!("If-None-Match: {}", whole.header("etag"));
    assert_eq!(client.get(path, &[&tag]).await.status, 304);
}

#[tokio::test]
async fn a_thousand_ranges_cost_one_answer() {
    let rig = Rig::live(&[]).await;
    let ranges: Vec<_> = (0..1_000).map(|at| format!("{at}-{at}")).collect();
    let header = format!("Range: bytes={}", ranges.join(","));
    let mut client = rig.connect().await;
    let reply = client.get("/live/demo/7/v0/105.m4s", &[&header]).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn t5_cors_and_preflight() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    client
        .ask("OPTIONS", "/live/demo/7/v0/105.m4s", &["Origin: https://x"])
        .await;
    let reply = client.reply(false).await.unwrap();
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    let allowed = reply.header("access-control-allow-headers");
    assert!(allowed.contains("Range"));
    let reply = client.get("/live/demo/7/v0/105.m4s", &[]).await;
    let exposed = reply.header("access-control-expose-headers");
    for name in ["Age", "Date", "Content-Length"] {
        assert!(exposed.contains(name), "{name}");
    }
}

#[tokio::test]
async fn t5_cors_on_every_status() {
    let rig = Rig::live(&["--max-held", "1"]).await;
    let media = "/live/demo/v0.m3u8";
    let (segment, hinted) = ("/live/demo/7/v0/105.m4s", "/live/demo/7/v0/106.2.m4s");
    let (far, long) = (format!("{media}?_HLS_msn=999"), "x".repeat(3_000));
    let tagged = "If-None-Match: \"0\"";
    let mut waits = rig.connect().await;
    waits.ask("GET", hinted, &[]).await;
    rig.until_held(1).await;
    for (method, path, headers, status) in [
        ("GET", segment, &[][..], 200),
        ("OPTIONS", segment, &[], 204),
        ("GET", segment, &["Range: bytes=0-1"], 206),
        ("GET", segment, &[tagged], 304),
        ("GET", &far, &[], 400),
        ("GET", "/live/nobody/index.m3u8", &[], 404),
        ("PUT", segment, &[], 405),
        ("GET", &format!("/{long}"), &[], 414),
        ("GET", segment, &["Range: bytes=9999-"], 416),
        ("GET", hinted, &[], 503),
    ] {
        let mut client = rig.connect().await;
        client.ask(method, path, headers).await;
        let reply = client.reply(false).await.unwrap();
        assert_eq!(reply.status, status, "{method} {path:.40}");
        assert_eq!(reply.header("access-control-allow-origin"), "*", "{status}");
        assert!(
            reply
                .header("access-control-expose-headers")
                .contains("Age")
        );
    }
}

#[tokio::test]
async fn a_segment_being_made_is_sent_from_its_first_chunk_to_its_end() {
    let mut rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    client.ask("GET", "/live/demo/7/v0/106.m4s", &[]).await;
    let head = client.reply_head().await.unwrap();
    assert_eq!(
        (head.status, head.header("transfer-encoding")),
        (200, "chunked")
    );
    assert_eq!(client.chunk().await.unwrap(), b"v0 106.0;");
    assert_eq!(client.chunk().await.unwrap(), b"v0 106.1;");
    // Each chunk goes out as it comes, before its part is closed.
    rig.studio.chunk(V, "now");
    assert_eq!(client.chunk().await.unwrap(), b"now");
    rig.studio.part(V, 106, 2);
    rig.studio.complete(V);
    assert_eq!(client.chunk().await.unwrap(), b"v0 106.2;");
    assert_eq!(client.chunk().await.unwrap(), b"");
    let whole = rig.get("/live/demo/7/v0/106.m4s").await;
    assert_eq!(whole.text(), "v0 106.0;v0 106.1;nowv0 106.2;");
}

#[tokio::test]
async fn an_aborted_segment_breaks_the_transfer() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    client.ask("GET", "/live/demo/7/v0/106.m4s", &[]).await;
    client.reply_head().await.unwrap();
    client.chunk().await.unwrap();
    client.chunk().await.unwrap();
    rig.studio.track(V).window.abort();
    // No final chunk: the connection ends instead.
    assert!(client.chunk_or_end().await.is_none());
    assert_eq!(rig.get("/live/demo/7/v0/106.m4s").await.status, 404);
}

#[tokio::test]
async fn head_of_media_answers_at_once() {
    let mut rig = Rig::live(&[]).await;
    rig.studio
        .track(A)
        .add_init(InitId(1), bytes::Bytes::from_static(b"x"));
    rig.studio.init = InitId(1);
    let mut client = rig.connect().await;
    for (path, len) in [
        ("v0/105.m4s", "54"),
        ("v0/106.0.m4s", "9"),
        ("v0/106.m4s", ""),
        ("v0/106.2.m4s", ""),
        ("a0/init-1.mp4", "1"),
    ] {
        let reply = client.head(&format!("/live/demo/7/{path}")).await;
        assert_eq!(reply.status, 200, "{path}");
        // None where GET would have none, or one that nobody knows yet.
        assert_eq!(reply.header("content-length"), len, "{path}");
    }
    // A hint may not come true: nobody keeps that answer.
    let hinted = client.head("/live/demo/7/v0/106.2.m4s").await;
    assert_eq!(hinted.header("cache-control"), "no-store");
}

#[tokio::test]
async fn t2_media_tells_how_long_the_edge_has_had_it() {
    let rig = Rig::live(&[]).await;
    for path in ["105.m4s", "105.0.m4s", "106.1.m4s"] {
        let reply = rig.get(&format!("/live/demo/7/v0/{path}")).await;
        assert_eq!(reply.status, 200, "{path}");
        let age: u64 = reply.header("age").parse().unwrap();
        assert!(age < 60, "{path}: {age}");
    }
    let mut client = rig.connect().await;
    let same = client
        .get("/live/demo/7/v0/105.m4s", &["If-None-Match: \"0\""])
        .await;
    assert_eq!(same.status, 304);
    assert_ne!(same.header("age"), "");
    let missing = rig.get("/live/demo/7/v0/106.5.m4s").await;
    assert_eq!((missing.status, missing.header("age")), (404, ""));
}
