//! What a stranger can hold, and what happens to one that tries for more.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use super::{super::metrics::Rejected, rig::Rig};
use crate::fixture::V;

const MEDIA: &str = "/live/demo/v0.m3u8";

#[tokio::test]
async fn connections_are_bounded() {
    for (flag, why, status) in [
        ("--max-connections", Rejected::Connections, 503),
        ("--max-connections-per-address", Rejected::Address, 429),
    ] {
        let rig = Rig::live(&[flag, "2"]).await;
        let mut first = rig.connect().await;
        let mut second = rig.connect().await;
        assert_eq!(first.get(MEDIA, &[]).await.status, 200);
        assert_eq!(second.get(MEDIA, &[]).await.status, 200);
        let mut third = rig.connect().await;
        let reply = third.reply(false).await.unwrap();
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("retry-after"), "2");
        assert_eq!(rig.metrics.rejections(why), 1);
        // The others go on, and a place given back is used again.
        drop(first);
        while rig.metrics.connections.get() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(second.get(MEDIA, &[]).await.status, 200);
        assert_eq!(rig.get(MEDIA).await.status, 200);
    }
}

#[tokio::test]
async fn slowloris_a_header_has_a_deadline() {
    let rig = Rig::live(&["--header-deadline", "1"]).await;
    let asked = Instant::now();
    // Silent, with half a request, half HTTP/2 preface, and half a request
    // after a whole one.
    let mut silent = rig.connect().await;
    let mut half = rig.connect().await;
    half.send("GET / HTTP/1.1\r\nHost:").await;
    let mut preface = rig.connect().await;
    preface.send("PRI * HTTP/2").await;
    let mut second = rig.connect().await;
    second.get(MEDIA, &[]).await;
    second.send("GET / HT").await;
    // One that drips is no better than one that is silent.
    let mut drips = rig.connect().await;
    let dripping = async {
        drips.send("GET / HTTP/1.1\r\n").await;
        while drips.stream.write_all(b"X: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ends = async {
        for client in [&mut silent, &mut half, &mut preface, &mut second] {
            client.ended().await;
        }
    };
    tokio::join!(dripping, ends);
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10));
    assert_eq!(rig.metrics.rejections(Rejected::HeaderDeadline), 5);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let rig = Rig::live(&["--idle-timeout", "1"]).await;
    let mut client = rig.connect().await;
    client.get(MEDIA, &[]).await;
    client.ended().await;
    assert_eq!(rig.metrics.rejections(Rejected::Idle), 1);
}

#[tokio::test]
async fn a_held_request_is_not_idle() {
    let mut rig = Rig::live(&["--idle-timeout", "1", "--header-deadline", "1"]).await;
    let mut client = rig.connect().await;
    let path = format!("{MEDIA}?_HLS_msn=106&_HLS_part=2");
    client.ask("GET", &path, &[]).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    rig.studio.part(V, 106, 2);
    assert_eq!(client.reply(false).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_long_uri_is_414_and_a_long_header_431() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    let longest = format!("{MEDIA}?{}", "x".repeat(2_048 - MEDIA.len() - 1));
    assert_eq!(client.get(&longest, &[]).await.status, 200);
    assert_eq!(client.get(&(longest + "x"), &[]).await.status, 414);
    assert_eq!(rig.metrics.rejections(Rejected::UriLength), 1);
    let header = format!("X: {}", "x".repeat(17_000));
    assert_eq!(client.get(MEDIA, &[&header]).await.status, 431);
    assert_eq!(rig.metrics.rejections(Rejected::HeaderLength), 1);
    // Without an end it is cut off where the buffer ends.
    let mut endless = rig.connect().await;
    endless.send("GET / HTTP/1.1\r\nX: ").await;
    while endless.stream.write_all(&[b'x'; 4_096]).await.is_ok() {}
    endless.ended().await;
    let mut many = rig.connect().await;
    many.ask("GET", MEDIA, &["X: y"; 200]).await;
    assert_eq!(many.reply(false).await.unwrap().status, 431);
}

#[tokio::test]
async fn held_requests_are_bounded_in_all() {
    let mut rig = Rig::live(&["--max-held", "3"]).await;
    let path = format!("{MEDIA}?_HLS_msn=106&_HLS_part=2");
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = rig.connect().await;
        client.ask("GET", &path, &[]).await;
        held.push(client);
    }
    rig.until_held(3).await;
    let reply = rig.get(&path).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(rig.metrics.rejections(Rejected::HeldInAll), 1);
    // Who needs no waiting is served, and so are those who wait.
    assert_eq!(rig.get(MEDIA).await.status, 200);
    rig.studio.part(V, 106, 2);
    for mut client in held {
        assert_eq!(client.reply(false).await.unwrap().status, 200);
    }
}

/// Two thousand that wait and go away leave nothing behind.
#[tokio::test]
async fn waiters_that_leave_are_forgotten() {
    let rig = Rig::live(&[]).await;
    let path = format!("{MEDIA}?_HLS_msn=106&_HLS_part=2");
    for _ in 0..20 {
        let mut clients = Vec::new();
        for _ in 0..100 {
            let mut client = rig.connect().await;
            client.ask("GET", &path, &[]).await;
            clients.push(client);
        }
        rig.until_held(100).await;
        drop(clients);
        rig.until_held(0).await;
    }
    while rig.metrics.connections.get() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_viewer_that_stops_reading_is_dropped() {
    let mut rig = Rig::start(&["--write-deadline", "1"], 4).await;
    rig.studio.open(V, 100);
    rig.studio.chunk(V, Bytes::from(vec![7; 64 << 20]));
    rig.studio.part(V, 100, 0);
    rig.studio.announce(&rig.directory);
    let mut client = rig.connect().await;
    client.ask("GET", "/live/demo/7/v0/100.0.m4s", &[]).await;
    while rig.metrics.slow_viewers.get() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What the kernel had is all that it cost.
    let reply = client.reply(false).await.unwrap();
    assert!(!reply.whole && reply.body.len() < 32 << 20);
}

#[tokio::test]
async fn a_viewer_that_reads_slowly_but_well_is_not() {
    let flags = [
        "--write-deadline",
        "1",
        "--idle-timeout",
        "1",
        "--header-deadline",
        "1",
    ];
    let mut rig = Rig::start(&flags, 4).await;
    rig.studio.open(V, 100);
    rig.studio.chunk(V, Bytes::from(vec![7; 16 << 20]));
    rig.studio.part(V, 100, 0);
    rig.studio.announce(&rig.directory);
    let mut client = rig.connect().await;
    client.ask("GET", "/live/demo/7/v0/100.0.m4s", &[]).await;
    let head = client.reply_head().await.unwrap();
    let mut left: usize = head.header("content-length").parse().unwrap();
    assert!(left > 16 << 20);
    while left > 0 {
        let (bytes, whole) = client.exactly(usize::min(left, 2 << 20)).await;
        assert!(whole);
        left -= bytes.len();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(rig.metrics.slow_viewers.get(), 0);
    // Nor is it idle while its answer is on the way.
    assert_eq!(rig.metrics.rejections(Rejected::Idle), 0);
}

/// Whoever asks for media and reads none of it holds a bounded number of bytes,
/// alone and together with others, and gives them back.
#[tokio::test]
async fn unread_answers_are_bounded_in_all() {
    let mut rig = Rig::start(&["--max-queued", "100000000"], 4).await;
    rig.studio.open(V, 100);
    rig.studio.chunk(V, Bytes::from(vec![7; 40 << 20]));
    rig.studio.part(V, 100, 0);
    rig.studio.announce(&rig.directory);
    let path = "/live/demo/7/v0/100.0.m4s";
    let mut unread = Vec::new();
    for _ in 0..2 {
        let mut client = rig.connect().await;
        client.ask("GET", path, &[]).await;
        assert_eq!(client.reply_head().await.unwrap().status, 200);
        unread.push(client);
    }
    assert!(rig.metrics.queued_bytes.get() > 80 << 20);
    let refused = rig.get(path).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.header("cache-control"), "no-store");
    assert_eq!(rig.metrics.rejections(Rejected::QueuedInAll), 1);
    drop(unread);
    while rig.metrics.queued_bytes.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.get(path).await.status, 200);
}

/// A page may load nothing from elsewhere, run nothing inline and be in nobody's
/// frame.
#[tokio::test]
async fn pages_have_a_strict_policy() {
    let rig = Rig::live(&[]).await;
    for path in ["/", "/watch/demo", "/watch/demo?token=a.b.c"] {
        let reply = rig.get(path).await;
        let policy = reply.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        // The address of a page may hold a token.
        assert_eq!(reply.header("referrer-policy"), "no-referrer");
    }
}

#[tokio::test]
async fn other_methods_are_405() {
    let rig = Rig::live(&[]).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        let mut client = rig.connect().await;
        client.ask(method, MEDIA, &["Content-Length: 0"]).await;
        let reply = client.reply(false).await.unwrap();
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.header("allow"), "GET, HEAD, OPTIONS");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
    }
}

#[tokio::test]
async fn a_body_is_refused_and_ends_the_connection() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    let smuggled = "GET /live/demo/index.m3u8 HTTP/1.1\r\nHost: a\r\n\r\n";
    let len = smuggled.len();
    let head = format!("GET {MEDIA} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
    client.send(head + smuggled).await;
    let reply = client.reply(false).await.unwrap();
    assert_eq!(reply.status, 400);
    assert_eq!(reply.header("connection"), "close");
    assert!(client.reply(false).await.is_none());
    assert_eq!(rig.metrics.rejections(Rejected::RequestBody), 1);
}

/// Two proxies that disagree on where a request ends must not be fooled here:
/// one answer at most, none of it 200, then the end.
#[tokio::test]
async fn smuggling_is_rejected() {
    let rig = Rig::live(&[]).await;
    let hidden = "GET /live/demo/index.m3u8 HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: 5, 6\r\n\r\nhello",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: -5\r\n\r\nhello",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "X: y\r\n folded: z\r\n\r\n",
        "X\0: y\r\n\r\n",
    ];
    for case in cases {
        let mut client = rig.connect().await;
        let bytes = format!("GET {MEDIA} HTTP/1.1\r\nHost: a\r\n{case}{hidden}");
        client.send(bytes).await;
        if let Some(reply) = client.reply(false).await {
            assert!((400..500).contains(&reply.status), "{case:?}: {reply:?}");
            assert!(client.reply(false).await.is_none(), "{case:?}");
        }
    }
}

#[tokio::test]
async fn garbage_is_400_and_the_end() {
    let rig = Rig::live(&[]).await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS on a plain port\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\n\r\n",
    ] {
        let mut client = rig.connect().await;
        client.send(bytes).await;
        if let Some(reply) = client.reply(false).await {
            assert_eq!(reply.status, 400);
        }
        client.ended().await;
    }
    assert_eq!(rig.get(MEDIA).await.status, 200);
}
