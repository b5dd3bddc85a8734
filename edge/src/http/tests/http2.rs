//! HTTP/2 as it is served without a task a stream: what waits, what goes on, what is
//! reset, and that its answers are those of HTTP/1.1.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use common::{live::Directory, shutdown::Shutdown};
use http_body_util::BodyExt;
use prometheus::Registry;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::Instant,
};

use super::{
    super::{
        HttpMetrics,
        connection::{self, Connection, Protocol},
        metrics::Rejected,
        service::Server,
    },
    h2::{H2, frame, raw_h2, with_segment},
    rig::{Rig, config},
};
use crate::{fixture::V, upstream::Upstream};

const MEDIA: &str = "/live/demo/v0.m3u8";
const HELD: &str = "/live/demo/7/v0/106.2.m4s";

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

async fn next_frame(from: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await.ok()?;
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    from.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind: head[3],
        flags: head[4],
        payload,
    })
}

/// HEADERS of a GET, with END_STREAM.
fn get(id: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x01, 4]);
    block.extend(b"edge");
    frame(1, 0x5, id, &block)
}

#[tokio::test]
async fn its_answers_are_those_of_http1() {
    let rig = with_segment(&[], 200_000).await;
    let mut client = H2::to(rig.address).await;
    let mut before = rig.connect().await;
    for (method, path) in [
        ("GET", MEDIA),
        ("HEAD", MEDIA),
        ("OPTIONS", MEDIA),
        ("POST", MEDIA),
        ("GET", "/live/demo/v0.m3u8?_HLS_part=x"),
        ("GET", "/live/demo/7/v0/100.0.m4s"),
        ("HEAD", "/live/demo/7/v0/100.0.m4s"),
        ("GET", "/live/demo/7/v0/init-0.mp4"),
        ("GET", "/live/demo/manifest.mpd"),
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", "/api/v1/channels/nobody"),
    ] {
        let told = client.ask(method, path).await.unwrap();
        let (head, body) = told.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        before.ask(method, path, &[]).await;
        let reply = before.reply(method == "HEAD").await.unwrap();
        assert_eq!(head.status, reply.status, "{method} {path}");
        assert_eq!(body, reply.body, "{method} {path}");
        let told = head.headers.iter();
        let mut told: HashMap<_, _> = told
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let mut fields = reply.headers;
        for fields in [&mut told, &mut fields] {
            // Both have one, and a second may have ended between them.
            for name in ["date", "age"] {
                if let Some(value) = fields.get_mut(name) {
                    value.clear();
                }
            }
            // HTTP/1.1 can't tell the end of an empty body otherwise.
            if fields.get("content-length").is_some_and(|len| len == "0") {
                fields.remove("content-length");
            }
        }
        assert!(told.contains_key("date"), "{method} {path}");
        let order = |fields: HashMap<_, _>| fields.into_iter().collect::<BTreeMap<_, _>>();
        assert_eq!(order(told), order(fields), "{method} {path}");
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_refused_and_its_connection_goes_on() {
    let rig = Rig::live(&[]).await;
    let mut stream = raw_h2(&rig).await;
    // HEADERS without END_STREAM, DATA with it.
    let mut request = get(1, MEDIA);
    request[4] = 0x4;
    request.extend(frame(0, 0x1, 1, b"body"));
    request.extend(get(3, MEDIA));
    stream.write_all(&request).await.unwrap();
    let mut statuses = Vec::new();
    while statuses.len() < 2 {
        let frame = next_frame(&mut stream).await.unwrap();
        if frame.kind == 1 {
            statuses.push(frame.payload[0]);
        }
    }
    // RFC 7541, appendix A: 12 is ":status: 400", 8 ":status: 200".
    assert_eq!(statuses, [0x80 | 12, 0x80 | 8]);
    assert_eq!(rig.metrics.rejections(Rejected::RequestBody), 1);
}

/// Far more than is seen to in one go, on as many streams as there may be.
#[tokio::test]
async fn a_crowd_of_requests_is_answered() {
    let rig = Rig::live(&[]).await;
    let mut client = H2::to(rig.address).await;
    // From its answer on the client knows how many that are.
    client.get(MEDIA).await;
    let asked: Vec<_> = (0..400)
        .map(|n| {
            let mut client = client.clone();
            let (msn, part) = (100 + n % 6, n % 2);
            tokio::spawn(async move {
                let path = format!("/live/demo/7/v0/{msn}.{part}.m4s");
                let (status, body) = client.get(&path).await;
                assert_eq!(status, 200);
                assert_eq!(body, format!("v0 {msn}.{part};"));
            })
        })
        .collect();
    for one in asked {
        one.await.unwrap();
    }
}

/// Held requests that are reset as soon as they are held, again and again: each
/// makes way for the next, and none stays.
#[tokio::test]
async fn what_is_reset_makes_way() {
    let mut rig = Rig::live(&["--max-streams", "4"]).await;
    let mut stream = raw_h2(&rig).await;
    let mut ids = (0..).map(|n: u32| 2 * n + 1);
    for _ in 0..50 {
        let ids: Vec<_> = ids.by_ref().take(4).collect();
        let asked: Vec<_> = ids.iter().flat_map(|id| get(*id, HELD)).collect();
        stream.write_all(&asked).await.unwrap();
        rig.until_held(4).await;
        let cancel = |id: &u32| frame(3, 0, *id, &8_u32.to_be_bytes());
        let resets: Vec<_> = ids.iter().flat_map(cancel).collect();
        stream.write_all(&resets).await.unwrap();
        rig.until_held(0).await;
    }
    let last = ids.next().unwrap();
    stream.write_all(&get(last, HELD)).await.unwrap();
    rig.until_held(1).await;
    rig.studio.part(V, 106, 2);
    loop {
        let frame = next_frame(&mut stream).await.unwrap();
        if frame.kind == 0 {
            assert_eq!(frame.payload, b"v0 106.2;");
            break;
        }
    }
    assert_eq!(rig.metrics.rejections(Rejected::Resets), 0);
}

#[tokio::test]
async fn who_speaks_in_drops_is_understood() {
    let rig = Rig::live(&["--header-deadline", "1"]).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut two = rig.connect().await.stream;
    let mut one = rig.connect().await;
    let mut neither = rig.connect().await;
    let (first, rest) = preface.split_at(2);
    two.write_all(first).await.unwrap();
    one.send("P").await;
    neither.send("PR").await;
    // Whoever looked at the first bytes has seen these alone.
    tokio::time::sleep(Duration::from_millis(50)).await;
    two.write_all(&[rest, &frame(SETTINGS, 0, 0, &[]), &get(1, MEDIA)].concat())
        .await
        .unwrap();
    one.send("OST / HTTP/1.1\r\nHost: edge\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(one.reply(false).await.unwrap().status, 405);
    loop {
        let frame = next_frame(&mut two).await.unwrap();
        if frame.kind == 1 {
            assert_eq!(frame.payload[0], 0x80 | 8);
            break;
        }
    }
    neither.ended().await;
    assert_eq!(rig.metrics.rejections(Rejected::HeaderDeadline), 1);
}

/// A connection without a socket, whose idleness has no end.
fn in_memory() -> (DuplexStream, JoinHandle<()>) {
    let flags = ["--idle-timeout", "3600", "--header-deadline", "3600"];
    let upstream = Arc::new(Upstream::local(Arc::new(Directory::default())));
    let metrics = HttpMetrics::register(&Registry::new());
    let server = Server::new(config(&flags), upstream, None, None, None, metrics);
    let (far, near) = duplex(1 << 20);
    let connection = Connection::new(IpAddr::from([127, 0, 0, 1]));
    let served = connection::run(server, connection, Protocol::Http2, near, Shutdown::new());
    (far, tokio::spawn(served))
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_given_up() {
    let began = Instant::now();
    let (mut far, served) = in_memory();
    far.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    far.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let asked = |after| Instant::now() - began >= Duration::from_secs(after);
    // Three are answered.
    for n in 1..=4 {
        let ping = loop {
            let frame = next_frame(&mut far).await.unwrap();
            if frame.kind == PING {
                break frame;
            }
        };
        assert!(asked(20 * n) && !asked(20 * n + 2), "{n}");
        if n < 4 {
            let pong = frame(PING, ACK, 0, &ping.payload);
            far.write_all(&pong).await.unwrap();
        }
    }
    // To the one that is not, there is no answer but GOAWAY.
    while let Some(frame) = next_frame(&mut far).await {
        assert_eq!((frame.kind, frame.flags), (7, 0));
    }
    served.await.unwrap();
    assert!(asked(100) && !asked(102));
}
