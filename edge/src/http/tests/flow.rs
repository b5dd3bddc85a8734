//! HTTP/2 viewers that grant no window: what they may hold and for how long, whether
//! their answer has a length or goes on. An edge's socket never fills for them, so
//! that its own deadline does not tell.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    super::metrics::Rejected,
    h2::{H2, frame, with_segment},
    rig::Rig,
};
use crate::fixture::{PARTS, V};

const MEDIA: &str = "/live/demo/v0.m3u8";
const STREAM: &str = "/live/demo/v0/stream.mp4";
const OPEN: &str = "/live/demo/7/v0/106.m4s";
const SHORT: [&str; 4] = ["--write-deadline", "1", "--header-deadline", "1"];

/// A viewer that grants no window can't make this edge hold more than its budget.
#[tokio::test]
async fn unread_answers_are_bounded_by_connection() {
    let rig = with_segment(&["--max-queued-per-connection", "3000000"], 1 << 20).await;
    let mut client = H2::to(rig.address).await;
    let path = "/live/demo/7/v0/100.0.m4s";
    let mut unread = Vec::new();
    for _ in 0..2 {
        let answer = client.ask("GET", path).await.unwrap();
        assert_eq!(answer.status(), 200);
        unread.push(answer);
    }
    let third = client.ask("GET", path).await.unwrap();
    assert_eq!(third.status(), 429);
    assert_eq!(third.headers()["retry-after"], "1");
    assert_eq!(rig.metrics.rejections(Rejected::QueuedByConnection), 1);
    // A playlist is small enough not to count.
    assert_eq!(client.get(MEDIA).await.0, 200);
    let read = unread.pop().unwrap().into_body().collect().await.unwrap();
    assert!(read.to_bytes().len() > 1 << 20);
    assert_eq!(client.get(path).await.0, 200);
    drop((client, unread));
    while rig.metrics.queued_bytes.get() > 0 {
        tokio::task::yield_now().await;
    }
}

/// A peer that grants no window fills no socket; its answers have a deadline.
#[tokio::test]
async fn an_http2_viewer_that_stops_reading_is_dropped() {
    let flags = ["--write-deadline", "1", "--header-deadline", "1"];
    let rig = with_segment(
        &[&flags[..], &["--min-read-rate", "100000000"]].concat(),
        1 << 20,
    )
    .await;
    let mut client = H2::to(rig.address).await;
    let mut answers = Vec::new();
    for _ in 0..8 {
        // Neither read nor dropped.
        answers.push(
            client
                .ask("GET", "/live/demo/7/v0/100.0.m4s")
                .await
                .unwrap(),
        );
    }
    while rig.metrics.connections.get() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rig.metrics.rejections(Rejected::SlowReader), 1);
    assert_eq!(rig.metrics.slow_viewers.get(), 1);
}

/// A connection whose streams have no window from the beginning (RFC 9113, 6.9.2),
/// with a request for `path` on it.
async fn windowless(rig: &Rig, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE 0
    bytes.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x01, 4]);
    block.extend(b"edge");
    bytes.extend(frame(1, 0x5, 1, &block));
    stream.write_all(&bytes).await.unwrap();
    stream
}

async fn watching(rig: &Rig, path: &str) -> Incoming {
    let mut client = H2::to(rig.address).await;
    let answer = client.ask("GET", path).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

/// Makes a chunk every few milliseconds until one viewer was cut off, and has the
/// other read each of them.
async fn until_cut(rig: &Rig, chunk: &Bytes, other: &mut Incoming) {
    let cut = async {
        while rig.metrics.rejections(Rejected::SlowReader) == 0 {
            rig.studio.chunk(V, chunk.clone());
            let mut left = chunk.len();
            while left > 0 {
                let frame = other.frame().await.unwrap().unwrap();
                left -= frame.into_data().unwrap().len();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let longest = Duration::from_secs(30);
    tokio::time::timeout(longest, cut).await.expect("a cut");
    assert_eq!(rig.metrics.slow_viewers.get(), 1);
}

/// Reads what was there when the viewer came.
async fn caught_up(body: &mut Incoming, end: &str) {
    let mut seen = String::new();
    while !seen.ends_with(end) {
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        seen += std::str::from_utf8(&data).unwrap();
    }
}

#[tokio::test]
async fn a_stream_without_a_window_is_cut_and_others_go_on() {
    for path in [STREAM, OPEN] {
        let rig = Rig::live(&SHORT).await;
        let mut other = watching(&rig, path).await;
        caught_up(&mut other, "v0 106.1;").await;
        let _windowless = windowless(&rig, path).await;
        until_cut(&rig, &Bytes::from("more"), &mut other).await;
        while rig.metrics.connections.get() > 1 {
            tokio::task::yield_now().await;
        }
        let streams = i64::from(path == STREAM);
        assert_eq!(
            rig.metrics.streams.get(),
            streams,
            "its place is free again"
        );
    }
}

/// One that reads for a while and then stops, its window used up.
#[tokio::test]
async fn a_stream_that_is_read_no_more_is_cut_and_others_go_on() {
    let rig = Rig::live(&SHORT).await;
    let (mut other, mut stops) = (watching(&rig, STREAM).await, watching(&rig, STREAM).await);
    for body in [&mut other, &mut stops] {
        caught_up(body, "v0 106.1;").await;
    }
    until_cut(&rig, &Bytes::from(vec![7; 1 << 16]), &mut other).await;
    let broken = loop {
        match stops.frame().await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert!(broken.is_some_and(|end| end.is_err()));
}

/// Whoever has read all that there is waits for the publisher, not the other way
/// round.
#[tokio::test]
async fn a_stream_with_nothing_to_send_is_not_cut() {
    let mut rig = Rig::live(&SHORT).await;
    let mut body = watching(&rig, STREAM).await;
    caught_up(&mut body, "v0 106.1;").await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    (2..PARTS).for_each(|part| rig.studio.part(V, 106, part));
    caught_up(&mut body, "v0 106.5;").await;
    assert_eq!(rig.metrics.rejections(Rejected::SlowReader), 0);
}
