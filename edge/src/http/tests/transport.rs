//! HTTP/2, TLS, and the drain.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use common::service::Inherited;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, rustls};

use super::{
    super::{HttpMetrics, bind, metrics::Rejected, serve},
    h2::{H2, frame, raw_h2, request_block, with_segment},
    rig::{Rig, config},
};
use crate::fixture::V;

const MEDIA: &str = "/live/demo/v0.m3u8";

#[tokio::test]
async fn t1_http2_by_prior_knowledge() {
    let rig = Rig::live(&[]).await;
    let mut client = H2::to(rig.address).await;
    let (status, body) = client.get(MEDIA).await;
    assert_eq!(status, 200);
    assert_eq!(body, rig.get(MEDIA).await.body);
    assert_eq!(client.get("/live/demo/7/v0/106.0.m4s").await.1, "v0 106.0;");
    assert_eq!(client.get("/nothing").await.0, 404);
    let head = client.ask("HEAD", MEDIA).await.unwrap();
    assert_eq!(head.headers()["content-length"], body.len().to_string());
    assert!(
        head.into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
}

/// A segment in flight lets a playlist pass: what is queued before it is a few
/// frames, not the segment. The viewer's own buffer is kept small, since what
/// lies there has been delivered.
#[tokio::test]
async fn t1_a_playlist_passes_a_segment_in_flight() {
    let rig = with_segment(&[], 64 << 20).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32_768).unwrap();
    let client = H2::over(socket.connect(rig.address).await.unwrap()).await;
    let received = Arc::new(AtomicUsize::new(0));
    let counted = received.clone();
    let mut first = client.clone();
    let segment = tokio::spawn(async move {
        let response = first.ask("GET", "/live/demo/7/v0/100.0.m4s").await.unwrap();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            counted.fetch_add(data.len(), Relaxed);
        }
    });
    let mut client = client;
    let mut passed = Vec::new();
    for _ in 0..21 {
        let before = received.load(Relaxed);
        assert_eq!(client.get(MEDIA).await.0, 200);
        passed.push(received.load(Relaxed) - before);
    }
    assert!(!segment.is_finished());
    passed.sort_unstable();
    // 20 ms of a link of 100 Mbit/s; the worst of them also waited for this
    // very test to be scheduled.
    assert!(passed[10] < 250_000, "{passed:?} bytes before a playlist");
    assert!(passed[20] < 1_000_000, "{passed:?} bytes before a playlist");
    segment.await.unwrap();
    assert!(received.load(Relaxed) > 64 << 20);
}

#[tokio::test]
async fn held_requests_are_bounded_by_connection() {
    let mut rig = Rig::live(&["--max-held-per-connection", "2"]).await;
    let client = H2::to(rig.address).await;
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                client
                    .get("/live/demo/v0.m3u8?_HLS_msn=106&_HLS_part=2")
                    .await
                    .0
            })
        })
        .collect();
    rig.until_held(2).await;
    let mut third = client.clone();
    let reply = third.ask("GET", "/live/demo/7/v0/106.2.m4s").await.unwrap();
    assert_eq!(reply.status(), 429);
    assert_eq!(reply.headers()["retry-after"], "1");
    assert_eq!(rig.metrics.rejections(Rejected::HeldByConnection), 1);
    rig.studio.part(V, 106, 2);
    for waiting in held {
        assert_eq!(waiting.await.unwrap(), 200);
    }
}

/// A cancelled stream ends its wait.
#[tokio::test]
async fn a_reset_stream_is_forgotten() {
    let rig = Rig::live(&[]).await;
    let client = H2::to(rig.address).await;
    let mut one = client.clone();
    let waiting = tokio::spawn(async move { one.get("/live/demo/7/v0/106.2.m4s").await });
    rig.until_held(1).await;
    waiting.abort();
    rig.until_held(0).await;
    let mut client = client;
    assert_eq!(client.get(MEDIA).await.0, 200);
}

#[tokio::test]
async fn an_aborted_segment_resets_its_stream_only() {
    let rig = Rig::live(&[]).await;
    let mut client = H2::to(rig.address).await;
    let reply = client.ask("GET", "/live/demo/7/v0/106.m4s").await.unwrap();
    let mut body = reply.into_body();
    body.frame().await.unwrap().unwrap();
    rig.studio.track(V).window.abort();
    let broken = loop {
        match body.frame().await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert!(broken.is_some_and(|end| end.is_err()));
    assert_eq!(client.get("/live/demo/7/v0/105.m4s").await.0, 200);
}

/// Whether GOAWAY came before the end of the stream.
async fn goes_away(mut stream: TcpStream) -> bool {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let mut rest = &bytes[..];
    while rest.len() >= 9 {
        let len = usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest[3] == 7 {
            return true;
        }
        rest = rest.get(9 + len..).unwrap_or_default();
    }
    false
}

/// CVE-2023-44487: streams opened and reset at once, without end.
#[tokio::test]
async fn rapid_reset_is_sent_away() {
    let rig = Rig::live(&[]).await;
    let mut stream = raw_h2(&rig).await;
    let mut flood = Vec::new();
    for n in 0..2_000_u32 {
        let id = 2 * n + 1;
        // END_STREAM and END_HEADERS, then RST_STREAM with CANCEL.
        flood.extend(frame(1, 0x5, id, &request_block()));
        flood.extend(frame(3, 0, id, &8_u32.to_be_bytes()));
    }
    let _ = stream.write_all(&flood).await;
    assert!(goes_away(stream).await);
    assert_eq!(rig.metrics.rejections(Rejected::Resets), 1);
    assert_eq!(rig.get(MEDIA).await.status, 200);
}

/// CVE-2025-8671: streams that this side has to reset, for a frame that is wrong
/// on each of them.
#[tokio::test]
async fn made_you_reset_is_sent_away() {
    let rig = Rig::live(&[]).await;
    let path = b"/live/demo/7/v0/106.2.m4s";
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path);
    block.extend([0x01, 4]);
    block.extend(b"edge");
    let mut stream = raw_h2(&rig).await;
    let mut flood = Vec::new();
    for n in 0..2_000_u32 {
        let id = 2 * n + 1;
        // A request that waits, then more window than there may be (RFC 9113, 6.9.1).
        flood.extend(frame(1, 0x5, id, &block));
        flood.extend(frame(8, 0, id, &0x7fff_ffff_u32.to_be_bytes()));
    }
    let _ = stream.write_all(&flood).await;
    assert!(goes_away(stream).await);
    rig.until_held(0).await;
    assert_eq!(rig.metrics.rejections(Rejected::Resets), 1);
    assert_eq!(rig.get(MEDIA).await.status, 200);
}

/// Frames that cost their sender nothing: PING, SETTINGS, PRIORITY, WINDOW_UPDATE.
#[tokio::test]
async fn floods_of_cheap_frames_leave_others_alone() {
    let rig = Rig::live(&[]).await;
    for one in [
        frame(6, 0, 0, &[0; 8]),
        frame(4, 0, 0, &[]),
        frame(2, 0, 1, &[0; 5]),
        frame(8, 0, 0, &1_u32.to_be_bytes()),
    ] {
        let mut stream = raw_h2(&rig).await;
        // Not read: what is answered has to be bounded as well.
        let _ = tokio::time::timeout(
            Duration::from_millis(500),
            stream.write_all(&one.repeat(1 << 18)),
        )
        .await;
        assert_eq!(rig.get(MEDIA).await.status, 200);
        drop(stream);
    }
    while rig.metrics.connections.get() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Header blocks that never end, in CONTINUATION frames.
#[tokio::test]
async fn endless_continuation_is_sent_away() {
    let rig = Rig::live(&[]).await;
    let mut stream = raw_h2(&rig).await;
    let mut flood = frame(1, 0x1, 1, &request_block());
    // A literal field of 8 KiB that is not indexed, again and again.
    let mut field = vec![0x00, 1, b'x', 0x7f, 0x81, 0x3f];
    field.extend([b'y'; 8_192]);
    for _ in 0..256 {
        flood.extend(frame(9, 0, 1, &field));
    }
    let _ = stream.write_all(&flood).await;
    let mut bytes = Vec::new();
    // Ended by the server, whatever it says.
    let _ = stream.read_to_end(&mut bytes).await;
    assert_eq!(rig.get(MEDIA).await.status, 200);
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused() {
    let rig = Rig::live(&["--max-streams", "3"]).await;
    let mut stream = raw_h2(&rig).await;
    for id in [1, 3, 5, 7] {
        let path = b"/live/demo/7/v0/106.2.m4s";
        let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        block.extend(path);
        block.extend([0x01, 4]);
        block.extend(b"edge");
        stream.write_all(&frame(1, 0x5, id, &block)).await.unwrap();
    }
    let refused = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == 3 {
                return (head[8], payload);
            }
        }
    };
    // RST_STREAM of stream 7 with REFUSED_STREAM.
    assert_eq!(refused.await, (7, vec![0, 0, 0, 7]));
    assert_eq!(rig.metrics.held.get(), 3);
}

#[tokio::test]
async fn draining_finishes_what_waits_and_takes_nothing_new() {
    let mut rig = Rig::live(&[]).await;
    let path = "/live/demo/v0.m3u8?_HLS_msn=106&_HLS_part=2";
    let mut one = rig.connect().await;
    one.ask("GET", path, &[]).await;
    let mut idle = rig.connect().await;
    idle.get(MEDIA, &[]).await;
    let (mut once, mut silent) = (rig.connect().await, rig.connect().await);
    once.get(MEDIA, &[]).await;
    let mut two = H2::to(rig.address).await;
    let waiting = tokio::spawn(async move { two.get(path).await.0 });
    rig.until_held(2).await;
    rig.shutdown.drain();
    // Requests that were on their way are answered; one says that it is the last.
    for late in [&mut once, &mut silent] {
        loop {
            let reply = late.get(MEDIA, &[]).await;
            assert_eq!(reply.status, 200);
            if reply.header("connection") == "close" {
                break;
            }
        }
        late.ended().await;
    }
    idle.ended().await;
    assert!(rig.shutdown.drained(Duration::ZERO).await.is_err());
    rig.studio.part(V, 106, 2);
    let reply = one.reply(false).await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("connection"), "close");
    assert_eq!(waiting.await.unwrap(), 200);
    one.ended().await;
    rig.shutdown.drained(Duration::from_secs(5)).await.unwrap();
    assert!(TcpStream::connect(rig.address).await.is_err());
}

#[tokio::test]
async fn who_comes_to_a_draining_edge_is_told_where_to_go() {
    let other = "http://127.0.0.1:1";
    let rig = Rig::live(&["--alternative", other]).await;
    let list = format!("{{\"alternatives\":[\"{other}\"]}}");
    let mut before = rig.connect().await;
    let reply = before.get("/api/v1/alternatives", &[]).await;
    assert_eq!((reply.status, reply.body), (200, list.clone().into()));
    rig.shutdown.drain();
    before.ended().await;
    rig.shutdown.drained(Duration::from_secs(5)).await.unwrap();
    for path in [MEDIA, "/"] {
        let mut late = rig.connect().await;
        let reply = late.get(path, &[]).await;
        assert_eq!(reply.status, 503);
        assert_eq!(reply.header("retry-after"), "1");
        assert_eq!(reply.header("connection"), "close");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        assert_eq!(reply.body, list.as_bytes());
        late.ended().await;
    }
}

#[tokio::test]
async fn a_playlist_does_not_keep_a_drain_waiting_for_its_connection() {
    let rig = Rig::live(&[]).await;
    let mut client = H2::to(rig.address).await;
    client.get(MEDIA).await;
    rig.shutdown.drain();
    rig.shutdown.drained(Duration::from_secs(5)).await.unwrap();
}

/// Certificate and key files, and a client that trusts them.
fn certificate(dir: &std::path::Path) -> rustls::ClientConfig {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[tokio::test]
async fn t1_tls_offers_http2_and_http1() {
    let dir = tempfile::tempdir().unwrap();
    let trusting = certificate(dir.path());
    let file = |name| dir.path().join(name).display().to_string();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let flags = [
        "--https-listen",
        "127.0.0.1:0",
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--header-deadline",
        "1",
    ];
    let config = config(&flags);
    let listeners = bind(&config, &mut Inherited::none()).await.unwrap();
    let address = listeners.https_address().unwrap();
    assert!(listeners.certificate().is_some());
    let rig = Rig::live(&[]).await;
    let upstream = Arc::new(crate::upstream::Upstream::local(rig.directory.clone()));
    let metrics = HttpMetrics::register(&prometheus::Registry::new());
    let served = serve(
        config,
        listeners,
        upstream,
        None,
        metrics.clone(),
        rig.shutdown.clone(),
    );
    tokio::spawn(served);
    for protocol in ["h2", "http/1.1", ""] {
        let mut client = trusting.clone();
        let offered = (!protocol.is_empty()).then_some(protocol.as_bytes());
        client.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut tls = TlsConnector::from(Arc::new(client))
            .connect(name, tcp)
            .await
            .unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), offered);
        if protocol == "h2" {
            assert_eq!(H2::over(tls).await.get(MEDIA).await.0, 200);
        } else {
            let ask = |more| format!("GET {MEDIA} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
            let asks = ask("").repeat(40) + &ask("Connection: close\r\n");
            tls.write_all(asks.as_bytes()).await.unwrap();
            let mut replies = String::new();
            tls.read_to_string(&mut replies).await.unwrap();
            assert!(replies.starts_with("HTTP/1.1 200 OK\r\n"));
            assert_eq!(replies.matches("HTTP/1.1 200 OK\r\n").count(), 41);
            assert_eq!(replies.matches("connection: close\r\n").count(), 1);
        }
    }
    // Plain bytes on a TLS port end in one refusal.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes).await;
    assert_eq!(metrics.rejections(Rejected::Handshake), 1);
    // A handshake that does not go on has the deadline of a header.
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
    let _ = half.read_to_end(&mut bytes).await;
    assert_eq!(metrics.rejections(Rejected::Handshake), 2);
}

#[tokio::test]
async fn a_listener_that_cannot_be_names_its_flag() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flags, said) in [
        (&["--http-listen", &address][..], "--http-listen 127.0.0.1:"),
        (&["--http-listen", "0.0.0.0:0"], "--plain-http-anywhere"),
        (&["--http-listen", "none"], "nothing to listen on"),
        (
            &["--http-listen", "none", "--https-listen", "127.0.0.1:0"],
            "--tls-cert FILE",
        ),
        (
            &["--http-listen", "none", "--tls-cert", "x"],
            "--https-listen ADDRESS",
        ),
        (
            &[
                "--http-listen",
                "none",
                "--https-listen",
                "127.0.0.1:0",
                "--tls-cert",
                "/no",
                "--tls-key",
                "/no",
            ],
            "--tls-cert, --tls-key: ",
        ),
    ] {
        let mut all = vec!["edge"];
        all.extend(flags);
        let error = match bind(&super::rig::parse(&all), &mut Inherited::none()).await {
            Ok(_) => panic!("{flags:?}"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(said) && !error.contains('\n'), "{error}");
    }
    let anywhere = [
        "edge",
        "--http-listen",
        "0.0.0.0:0",
        "--plain-http-anywhere",
    ];
    assert!(
        bind(&super::rig::parse(&anywhere), &mut Inherited::none())
            .await
            .is_ok()
    );
}
