//! HTTP/1.1 as it is served by hand: what stays of a connection between requests,
//! what is handed to hyper, and that nobody can tell the two apart.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use common::shutdown::Shutdown;
use prometheus::Registry;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{
    super::{
        HttpMetrics,
        connection::{self, Connection, Protocol},
        metrics::Rejected,
        service::Server,
    },
    rig::{Rig, config},
};
use crate::{fixture::V, upstream::Upstream};

const MEDIA: &str = "/live/demo/v0.m3u8";
const HELD: &str = "/live/demo/v0.m3u8?_HLS_msn=106&_HLS_part=2";

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    // More than one read brings, and than the scheduler lets one task do at once.
    let parts: Vec<_> = (0..400).map(|n| (100 + n % 6, n % 2)).collect();
    let asks: String = parts
        .iter()
        .map(|(msn, part)| {
            format!("GET /live/demo/7/v0/{msn}.{part}.m4s HTTP/1.1\r\nHost: edge\r\n\r\n")
        })
        .collect();
    client.send(asks).await;
    for (msn, part) in parts {
        let reply = client.reply(false).await.unwrap();
        assert_eq!(reply.text(), format!("v0 {msn}.{part};"));
    }
}

/// Whoever asks for more at once than a task may do in one turn, from the first,
/// has a deadline and a drain as others have.
#[tokio::test]
async fn a_flood_of_requests_is_followed_by_the_deadline() {
    let rig = Rig::live(&["--idle-timeout", "1", "--header-deadline", "1"]).await;
    let flood = "GET /live/demo/7/v0/105.1.m4s HTTP/1.1\r\nHost: edge\r\n\r\n".repeat(400);
    let mut idle = rig.connect().await;
    idle.send(&flood).await;
    for _ in 0..400 {
        assert_eq!(idle.reply(false).await.unwrap().status, 200);
    }
    idle.ended().await;
    assert_eq!(rig.metrics.rejections(Rejected::Idle), 1);
    let mut drained = rig.connect().await;
    drained.send(&flood).await;
    for _ in 0..400 {
        assert_eq!(drained.reply(false).await.unwrap().status, 200);
    }
    rig.shutdown.drain();
    drained.ended().await;
}

#[tokio::test]
async fn what_comes_while_a_request_is_held_waits_its_turn() {
    let mut rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    client.ask("GET", HELD, &[]).await;
    rig.until_held(1).await;
    for _ in 0..100 {
        client.ask("GET", "/live/demo/7/v0/106.1.m4s", &[]).await;
    }
    rig.studio.part(V, 106, 2);
    assert!(
        client
            .reply(false)
            .await
            .unwrap()
            .text()
            .contains("106.2.m4s")
    );
    for _ in 0..100 {
        assert_eq!(client.reply(false).await.unwrap().text(), "v0 106.1;");
    }
    assert_eq!(rig.metrics.held.get(), 0);
}

#[tokio::test]
async fn the_connection_ends_where_that_is_asked_for() {
    let rig = Rig::live(&[]).await;
    for option in ["close", "Keep-Alive, CLOSE"] {
        let mut client = rig.connect().await;
        let reply = client.get(MEDIA, &["Connection: keep-alive"]).await;
        assert_eq!(reply.header("connection"), "");
        let option = format!("Connection: {option}");
        let reply = client.get(MEDIA, &[&option]).await;
        assert_eq!((reply.status, reply.header("connection")), (200, "close"));
        client.ended().await;
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection_in_step() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    let whole = client.get(MEDIA, &[]).await;
    let date = whole.header("date");
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    let tag = format!("If-None-Match: {}", whole.header("etag"));
    for _ in 0..3 {
        let head = client.head(MEDIA).await;
        assert_eq!(head.header("content-length"), whole.body.len().to_string());
        assert_eq!(head.header("etag"), whole.header("etag"));
        let unchanged = client.get(MEDIA, &[&tag]).await;
        assert_eq!(unchanged.status, 304);
        assert!(!unchanged.headers.contains_key("content-length"));
        client.ask("OPTIONS", MEDIA, &[]).await;
        let preflight = client.reply(false).await.unwrap();
        assert_eq!(preflight.status, 204);
        assert!(!preflight.headers.contains_key("content-length"));
        assert_eq!(preflight.header("access-control-allow-origin"), "*");
        // How long it will be is not known: nothing is said of it.
        let stream = client.head("/live/demo/v0/stream.mp4").await;
        assert_eq!(stream.status, 200);
        assert!(!stream.headers.contains_key("content-length"));
        assert_eq!(client.get("/nobody", &[]).await.status, 404);
        assert_eq!(client.get(MEDIA, &[]).await.body, whole.body);
    }
}

/// Whatever is not plainly a viewer's is hyper's, with what came after it.
#[tokio::test]
async fn the_rest_is_handed_over_with_what_was_read() {
    let rig = Rig::live(&[]).await;
    let after = format!("GET {MEDIA} HTTP/1.1\r\nHost: edge\r\n\r\n");
    for (request, status) in [
        (
            format!("GET http://edge{MEDIA} HTTP/1.1\r\nHost: edge\r\n\r\n"),
            200,
        ),
        (
            format!("GET {MEDIA} HTTP/1.1\r\nHost: edge\r\nContent-Length: 0\r\n\r\n"),
            200,
        ),
        (
            format!("GET {MEDIA} HTTP/1.1\r\nHost: edge\r\nUpgrade: h2c\r\n\r\n"),
            200,
        ),
        (
            format!("GET {MEDIA} HTTP/1.1\r\nHost: edge\r\nExpect: 100-continue\r\n\r\n"),
            200,
        ),
        (format!("GET {MEDIA} HTTP/1.1\nHost: edge\n\n"), 200),
        (format!("POST {MEDIA} HTTP/1.1\r\nHost: edge\r\n\r\n"), 405),
        ("OPTIONS * HTTP/1.1\r\nHost: edge\r\n\r\n".to_owned(), 204),
    ] {
        let mut client = rig.connect().await;
        // Once by hand, then what is not, then one more, all read in one go.
        client.send(after.clone() + &request + &after).await;
        assert_eq!(client.reply(false).await.unwrap().status, 200);
        assert_eq!(
            client.reply(false).await.unwrap().status,
            status,
            "{request:?}"
        );
        assert_eq!(
            client.reply(false).await.unwrap().status,
            200,
            "{request:?}"
        );
        assert_eq!(client.get(MEDIA, &[]).await.status, 200);
    }
    // Version 1.0 ends with its answer.
    let mut old = rig.connect().await;
    old.send(format!("GET {MEDIA} HTTP/1.0\r\n\r\n")).await;
    assert_eq!(old.reply(false).await.unwrap().status, 200);
    old.ended().await;
}

/// RFC 9112, 3.2.
#[tokio::test]
async fn a_request_names_one_host() {
    let rig = Rig::live(&[]).await;
    for hosts in ["", "Host:\r\n", "Host: a b\r\n", "Host: a\r\nHost: a\r\n"] {
        let mut client = rig.connect().await;
        client
            .send(format!("GET {MEDIA} HTTP/1.1\r\n{hosts}\r\n"))
            .await;
        let reply = client.reply(false).await.unwrap();
        assert_eq!(reply.status, 400, "{hosts:?}");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        client.ended().await;
    }
    assert_eq!(rig.metrics.rejections(Rejected::Host), 4);
}

#[tokio::test]
async fn what_is_no_request_is_told_so_and_the_connection_ends() {
    let rig = Rig::live(&[]).await;
    let folded = format!("GET {MEDIA} HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n");
    let many = format!("GET {MEDIA} HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200));
    let endless = format!("GET {MEDIA} HTTP/1.1\r\nX: {}", "x".repeat(40_000));
    for (bytes, status, why) in [
        ("\0\0\0\0\r\n\r\n", 400, Rejected::Malformed),
        ("GET /\x01 HTTP/1.1\r\n\r\n", 400, Rejected::Malformed),
        (&folded, 400, Rejected::Malformed),
        (&many, 431, Rejected::HeaderLength),
        (&endless, 431, Rejected::HeaderLength),
    ] {
        let before = rig.metrics.rejections(why);
        let mut client = rig.connect().await;
        client.send(bytes).await;
        let reply = client.reply(false).await.unwrap();
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("connection"), "close");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        client.ended().await;
        assert_eq!(rig.metrics.rejections(why), before + 1);
    }
}

/// Hyper ends a request when its peer sends no more, and so does this: a peer
/// that has gone looks the same.
#[tokio::test]
async fn who_stops_sending_while_it_waits_is_let_go() {
    let rig = Rig::live(&[]).await;
    let mut client = rig.connect().await;
    client.ask("GET", HELD, &[]).await;
    rig.until_held(1).await;
    client.stream.shutdown().await.unwrap();
    rig.until_held(0).await;
    client.ended().await;
    // Who says so with its request has it answered, if that needs no waiting.
    let mut brief = rig.connect().await;
    brief.ask("GET", MEDIA, &[]).await;
    brief.stream.shutdown().await.unwrap();
    assert_eq!(brief.reply(false).await.unwrap().status, 200);
    brief.ended().await;
}

/// The start of a request behind an answer has a header's deadline, not the one
/// of a connection that idles.
#[tokio::test]
async fn a_request_that_began_behind_another_has_a_deadline() {
    let rig = Rig::live(&["--header-deadline", "1", "--idle-timeout", "600"]).await;
    let mut client = rig.connect().await;
    client
        .send(format!("GET {MEDIA} HTTP/1.1\r\nHost: a\r\n\r\nGET /live"))
        .await;
    assert_eq!(client.reply(false).await.unwrap().status, 200);
    client.ended().await;
    assert_eq!(rig.metrics.rejections(Rejected::HeaderDeadline), 1);
}

#[tokio::test]
async fn a_drain_lets_a_body_in_flight_come_to_its_end() {
    let mut rig = Rig::start(&[], 4).await;
    rig.studio.open(V, 100);
    rig.studio.chunk(V, Bytes::from(vec![7; 16 << 20]));
    rig.studio.part(V, 100, 0);
    rig.studio.announce(&rig.directory);
    let mut client = rig.connect().await;
    client.ask("GET", "/live/demo/7/v0/100.0.m4s", &[]).await;
    let head = client.reply_head().await.unwrap();
    rig.shutdown.drain();
    let len = head.header("content-length").parse().unwrap();
    let (body, whole) = client.exactly(len).await;
    assert!(whole && body.len() > 16 << 20);
    client.ended().await;
    rig.shutdown.drained(Duration::from_secs(5)).await.unwrap();
}

/// What one of the two servers answers to `bytes` that come in these pieces.
async fn statuses(server: &Arc<Server>, protocol: Protocol, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut far, near) = duplex(1 << 20);
    let connection = Connection::new(IpAddr::from([127, 0, 0, 1]));
    let served = connection::run(server.clone(), connection, protocol, near, Shutdown::new());
    let served = tokio::spawn(served);
    for piece in pieces {
        // A server that has refused reads no more.
        let _ = far.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let _ = far.shutdown().await;
    let mut replies = Vec::new();
    far.read_to_end(&mut replies).await.unwrap();
    served.await.unwrap();
    replies
}

/// The status lines in what was answered.
fn status_lines(replies: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(replies);
    let lines = text
        .split("\r\n")
        .flat_map(|line| line.split("HTTP/1.").skip(1));
    lines.map(|line| line[2..5].to_owned()).collect()
}

fn request() -> impl Strategy<Value = String> {
    let pick = |of: &'static [&'static str]| prop::sample::select(of);
    let line = pick(&[
        "GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "get", "G ET", "",
    ]);
    let target = pick(&[
        MEDIA,
        MEDIA,
        "/live/demo/7/v0/106.0.m4s",
        "/live/demo/7/v0/105.m4s",
        "/nobody?x",
        "http://edge/nobody",
        "*",
        "nobody",
        "/a b",
        "/\u{e4}",
        "/<>\"{}|^`\\",
        "/#a",
    ]);
    let version = pick(&[
        "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", "",
    ]);
    let field = pick(&[
        "Host: edge",
        "Host: edge",
        "Host: edge",
        "Host:",
        "X: y",
        "X:y",
        " folded",
        "X : y",
        "X\0: y",
        "X: \u{e4}",
        "Content-Length: 0",
        "Content-Length: 3",
        "Content-Length: 0, 0",
        "Content-Length: -1",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Expect: 100-continue",
        "Upgrade: h2c",
        "Range: bytes=0-1",
        "If-None-Match: \"0\"",
        "Connection: keep-alive",
        "Accept-Encoding: gzip",
    ]);
    let end = pick(&["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", ""]);
    let fields = prop::collection::vec((field, end.clone()), 0..5);
    let lead = pick(&["", "", "", "\r\n", "\n", "\0"]);
    (lead, line, target, version, end.clone(), fields, end).prop_map(
        |(lead, line, target, version, end, fields, last)| {
            let fields: String = fields
                .iter()
                .map(|(field, end)| format!("{field}{end}"))
                .collect();
            format!("{lead}{line} {target} {version}{end}{fields}{last}")
        },
    )
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

proptest! {
    /// Whatever comes, in whatever pieces, is answered with the statuses that hyper
    /// alone gives it.
    #[test]
    fn nobody_can_tell_it_from_hyper(
        requests in prop::collection::vec(request(), 1..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bytes = requests.concat().into_bytes();
        let pieces = pieces(&bytes, &cuts);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (ours, hypers) = runtime.block_on(async {
            let rig = Rig::live(&[]).await;
            let upstream = Arc::new(Upstream::local(rig.directory.clone()));
            let metrics = HttpMetrics::register(&Registry::new());
            let server = Server::new(config(&[]), upstream, None, None, None, metrics);
            let ours = statuses(&server, Protocol::Http1, &pieces).await;
            let hypers = statuses(&server, Protocol::Unknown, &pieces).await;
            (ours, hypers)
        });
        let (mut ours, mut hypers) = (status_lines(&ours), status_lines(&hypers));
        // What is wrong and has no end yet either of them may refuse, or wait for
        // the end of, as it happens to read it.
        let most = ours.len().max(hypers.len());
        for lines in [&mut ours, &mut hypers] {
            if lines.len() == most && lines.last().is_some_and(|last| last == "400") {
                lines.pop();
            }
        }
        prop_assert_eq!(ours, hypers);
    }
}
