mod hand_over;
mod in_memory;

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::rtmp::amf0::Value;
use common::rtmp::enhanced::Capabilities;
use common::rtmp::{ClientConfig, ClientEvent, ClientSession};
use common::service::Inherited;
use common::shutdown::Shutdown;
use prometheus::Registry;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::keys::{KeyRing, KeysConfig};

const KEY: &str = "sK8mVYJ0rT4cW1xQ7nZbEg";
const OTHER_KEY: &str = "pB2hXqv8LrTf5mYw0dKcZA";

pub(super) fn config() -> RtmpConfig {
    RtmpConfig {
        rtmp_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        rtmps_listen: None,
        rtmp_tls_cert: None,
        rtmp_tls_key: None,
        rtmp_max_connections: 100,
        rtmp_max_connections_per_address: 100,
        rtmp_max_wrong_keys: 10,
    }
}

fn keys() -> Arc<KeyRing> {
    keys_in(&tempfile::tempdir().unwrap())
}

fn keys_in(dir: &tempfile::TempDir) -> Arc<KeyRing> {
    let path = dir.path().join("keys");
    std::fs::write(&path, format!("{KEY} news\n{OTHER_KEY} sport\n")).unwrap();
    KeyRing::from_config(&KeysConfig {
        keys: Some(path),
        open: false,
    })
    .unwrap()
}

struct Running {
    address: SocketAddr,
    rtmps_address: Option<SocketAddr>,
    publishes: mpsc::Receiver<Publish>,
    metrics: RtmpMetrics,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(config: RtmpConfig) -> Self {
        Self::with(config, keys()).await
    }

    async fn with(config: RtmpConfig, keys: Arc<KeyRing>) -> Self {
        let metrics = RtmpMetrics::register(&Registry::new());
        let (sender, publishes) = mpsc::channel(4);
        let mut none = Inherited::none();
        let server = RtmpServer::bind(&config, &mut none, keys, metrics.clone(), sender);
        let server = server.await.unwrap();
        let shutdown = Shutdown::new();
        Self {
            address: server.local_addr().unwrap(),
            rtmps_address: server.rtmps_local_addr().unwrap(),
            publishes,
            metrics,
            shutdown: shutdown.clone(),
            task: tokio::spawn(server.run(shutdown)),
        }
    }

    async fn client(&self, key: &str) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap(), key)
    }

    async fn publish(&mut self, key: &str) -> (Client<TcpStream>, Publish) {
        let mut client = self.client(key).await;
        assert_eq!(client.next_status().await, Some(ClientEvent::Publishing));
        (client, self.publishes.recv().await.unwrap())
    }

    async fn stop(self) {
        self.shutdown.drain();
        self.task.await.unwrap();
        assert_eq!(self.metrics.connections.get(), 0);
        assert_eq!(self.metrics.publishing.get(), 0);
        assert_eq!(self.metrics.partial_message_bytes.get(), 0);
        assert_eq!(self.metrics.queued_bytes.get(), 0);
    }
}

/// Our own client on a stream.
struct Client<S> {
    stream: S,
    session: ClientSession,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    fn new(stream: S, key: &str) -> Self {
        let config = ClientConfig {
            app: "live".into(),
            tc_url: "rtmp://localhost/live".into(),
            key: key.into(),
            chunk_size: 4096,
            capabilities: Capabilities::default(),
            seed: 1,
        };
        Self {
            stream,
            session: ClientSession::new(config),
            unread: Vec::new(),
        }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        let output = self.session.take_output();
        self.stream.write_all(&output).await
    }

    /// The next event that is not `Connected`; `None` once the server has closed.
    async fn next_status(&mut self) -> Option<ClientEvent> {
        loop {
            let _ = self.flush().await;
            let mut input = &self.unread[..];
            let event = self.session.next_event(&mut input).unwrap();
            self.unread = input.to_vec();
            match event {
                Some(ClientEvent::Connected(_)) => continue,
                Some(event) => return Some(event),
                None if self.session.has_output() => continue,
                None => {}
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                return None;
            }
            self.unread.extend_from_slice(&buffer[..count]);
        }
    }

    async fn send(&mut self, timestamp_ms: u32, length: usize) {
        let payload = Bytes::from(vec![7; length]);
        self.session
            .send_media(MediaKind::Video, timestamp_ms, payload);
        self.flush().await.unwrap();
    }
}

async fn next_media(publish: &mut Publish) -> (u32, usize) {
    match publish.events.recv().await.unwrap() {
        PublishEvent::Media {
            timestamp_ms,
            payload,
            ..
        } => (timestamp_ms, payload.len()),
        other => panic!("{other:?}"),
    }
}

async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

/// Kills the child with the test, should that fail first.
struct Ffmpeg(std::process::Child);

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ffmpeg(address: SocketAddr, key: &str) -> Ffmpeg {
    let arguments = "-nostdin -v error -f lavfi -i testsrc2=size=320x180:rate=30 \
        -f lavfi -i sine=sample_rate=44100 -t 2 -c:v libx264 -preset ultrafast -g 30 \
        -c:a aac -b:a 96k -f flv";
    let mut command = Command::new("ffmpeg");
    command.args(arguments.split_whitespace());
    command.arg(format!("rtmp://{address}/live/{key}"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ffmpeg(
        command
            .spawn()
            .expect("ffmpeg is installed (apt-get install ffmpeg)"),
    )
}

#[tokio::test]
async fn ffmpeg_publishes() {
    let mut server = Running::start(config()).await;
    let mut child = ffmpeg(server.address, &format!("{KEY}?param=1"));
    let mut publish = server.publishes.recv().await.unwrap();
    assert_eq!(publish.channel.as_str(), "news");
    assert_eq!(publish.peer.ip(), IpAddr::from([127, 0, 0, 1]));
    let (mut video, mut audio, mut metadata) = (Vec::new(), Vec::new(), None);
    let end = loop {
        match publish.events.recv().await.unwrap() {
            PublishEvent::Metadata(properties) => metadata = Some(properties),
            PublishEvent::Media {
                kind, timestamp_ms, ..
            } => match kind {
                MediaKind::Video => video.push(timestamp_ms),
                MediaKind::Audio => audio.push(timestamp_ms),
                MediaKind::Data => {}
            },
            PublishEvent::Ended(reason) => break reason,
        }
    };
    assert_eq!(end, EndReason::Unpublished);
    let metadata = Value::Object(metadata.unwrap());
    assert_eq!(metadata.get("width"), Some(&Value::Number(320.0)));
    // A sequence header, the frames, and an end of sequence.
    assert!((60..=63).contains(&video.len()), "{}", video.len());
    // AAC frames last 1024 / 44.1 ms = 23.2 ms; ffmpeg sends most of them behind
    // type 3 headers, and a reader that forgets the delta makes them 0.
    let steps: Vec<u32> = audio[2..]
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    assert!(steps.len() > 80);
    assert!(
        steps.iter().all(|step| (23..=24).contains(step)),
        "{steps:?}"
    );
    assert!(child.0.wait().unwrap().success());
    assert_eq!(server.metrics.publishes.get(), 1);
    server.stop().await;
}

#[tokio::test]
async fn ffmpeg_with_a_wrong_key_fails() {
    let mut server = Running::start(config()).await;
    let mut child = ffmpeg(server.address, "wrong");
    let status = tokio::task::spawn_blocking(move || child.0.wait().unwrap());
    assert!(!status.await.unwrap().success());
    assert!(server.publishes.try_recv().is_err());
    assert_eq!(server.metrics.auth_failures.get(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_key_is_refused_before_publish_start() {
    let mut server = Running::start(config()).await;
    for key in ["wrong", "", "news", &KEY[..21], &format!("{KEY}x")] {
        let mut client = server.client(key).await;
        let status = client.next_status().await;
        assert!(
            matches!(&status, Some(ClientEvent::Rejected { code, .. })
                if code == "NetStream.Publish.BadName"),
            "{status:?}"
        );
        assert_eq!(client.next_status().await, None);
    }
    assert!(server.publishes.try_recv().is_err());
    server.stop().await;
}

#[tokio::test]
async fn wrong_keys_close_the_door_for_a_while() {
    let mut config = config();
    config.rtmp_max_wrong_keys = 2;
    let server = Running::start(config).await;
    // Opened before the limit was reached, and still not listened to.
    let mut early = server.client(KEY).await;
    for _ in 0..2 {
        let mut client = server.client("wrong").await;
        let refused = client.next_status().await;
        assert!(matches!(refused, Some(ClientEvent::Rejected { .. })));
    }
    let refused = early.next_status().await;
    assert!(
        matches!(&refused, Some(ClientEvent::Rejected { description, .. })
            if description.contains("too many")),
        "{refused:?}"
    );
    assert_eq!(server.client(KEY).await.next_status().await, None);
    let rejected = server.metrics.rejected.with_label_values(&["wrong_keys"]);
    assert_eq!(rejected.get(), 1);
    server.stop().await;
}

#[tokio::test]
async fn garbage_closes_only_its_own_connection() {
    let mut server = Running::start(config()).await;
    let (mut client, mut publish) = server.publish(KEY).await;
    let handshake = [vec![3], vec![0; 3072]].concat();
    let table = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "version"),
        ([&handshake[..], &[0xc4]].concat(), "chunk_header"),
        (
            [
                &handshake[..],
                &[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            ]
            .concat(),
            "chunk_size",
        ),
        (
            [
                &handshake[..],
                &[3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0],
            ]
            .concat(),
            "message_too_long",
        ),
    ];
    for (index, (bytes, kind)) in (1u32..).zip(table) {
        let mut stranger = TcpStream::connect(server.address).await.unwrap();
        stranger.write_all(&bytes).await.unwrap();
        read_to_end(&mut stranger).await;
        let errors = server.metrics.protocol_errors.with_label_values(&[kind]);
        assert_eq!(errors.get(), 1, "{kind}");
        client.send(index * 40, 5000).await;
        assert_eq!(next_media(&mut publish).await, (index * 40, 5000));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_newcomer_is_handed_over_and_the_owner_closes_the_other() {
    let mut server = Running::start(config()).await;
    let (mut first, mut old) = server.publish(KEY).await;
    let (mut second, mut new) = server.publish(KEY).await;
    assert_eq!(old.channel, new.channel);
    old.close.close("another publisher took over");
    old.close.close("too late");
    let rejected = first.next_status().await;
    assert!(
        matches!(&rejected, Some(ClientEvent::Rejected { description, .. })
            if description == "another publisher took over"),
        "{rejected:?}"
    );
    assert_eq!(first.next_status().await, None);
    let reason = EndReason::Closed("another publisher took over".into());
    assert_eq!(old.events.recv().await, Some(PublishEvent::Ended(reason)));
    second.send(0, 100).await;
    assert_eq!(next_media(&mut new).await, (0, 100));
    // An owner that lets go ends the publish too.
    drop(new.events);
    assert!(matches!(
        second.next_status().await,
        Some(ClientEvent::Rejected { .. })
    ));
    assert_eq!(second.next_status().await, None);
    server.stop().await;
}

#[tokio::test]
async fn ends_have_their_reasons() {
    let mut server = Running::start(config()).await;
    let (mut client, mut publish) = server.publish(KEY).await;
    client.session.unpublish();
    client.flush().await.unwrap();
    let ended = |reason| Some(PublishEvent::Ended(reason));
    assert_eq!(publish.events.recv().await, ended(EndReason::Unpublished));
    let (client, mut publish) = server.publish(KEY).await;
    drop(client);
    assert_eq!(publish.events.recv().await, ended(EndReason::Disconnected));
    let (mut client, mut publish) = server.publish(KEY).await;
    client.stream.write_all(&[0xff]).await.unwrap();
    let end = publish.events.recv().await;
    assert!(
        matches!(end, Some(PublishEvent::Ended(EndReason::Protocol(_)))),
        "{end:?}"
    );
    let (mut client, mut publish) = server.publish(KEY).await;
    server.shutdown.drain();
    assert_eq!(publish.events.recv().await, ended(EndReason::Shutdown));
    assert!(matches!(
        client.next_status().await,
        Some(ClientEvent::Rejected { .. })
    ));
    drop(client);
    server.stop().await;
}

/// A packager that stops taking events holds up its own publisher only, and
/// loses none of its data.
#[tokio::test]
async fn backpressure_stays_in_its_connection() {
    let mut server = Running::start(config()).await;
    let (mut stuck, mut stuck_publish) = server.publish(KEY).await;
    let (mut client, mut publish) = server.publish(OTHER_KEY).await;
    let sent = u32::try_from(4 * PUBLISH_QUEUE).unwrap();
    let sender = tokio::spawn(async move {
        for index in 0..sent {
            stuck.send(index, 100_000).await;
        }
        stuck
    });
    for index in 0..100 {
        client.send(index, 1000).await;
        assert_eq!(next_media(&mut publish).await, (index, 1000));
    }
    assert!(stuck_publish.events.len() <= PUBLISH_QUEUE);
    for index in 0..sent {
        assert_eq!(next_media(&mut stuck_publish).await, (index, 100_000));
    }
    drop(sender.await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn connections_past_the_limit_are_closed_at_once() {
    let mut config = config();
    config.rtmp_max_connections_per_address = 2;
    let mut server = Running::start(config).await;
    let first = server.publish(KEY).await;
    let _second = server.publish(OTHER_KEY).await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_to_end(&mut third).await, b"");
    let reason = "max_connections_per_address";
    assert_eq!(
        server.metrics.rejected.with_label_values(&[reason]).get(),
        1
    );
    // The place comes back.
    drop(first);
    while server.metrics.connections.get() > 1 {
        tokio::task::yield_now().await;
    }
    let _third = server.publish(KEY).await;
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_key_ends_its_publish_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys_in(&dir);
    let mut server = Running::with(config(), keys.clone()).await;
    let (mut news, mut news_publish) = server.publish(KEY).await;
    let (mut sport, mut sport_publish) = server.publish(OTHER_KEY).await;
    let listed = keys.list();
    let (_, id) = listed.iter().find(|(of, _)| of.as_str() == "news").unwrap();
    keys.revoke(*id).unwrap();
    let told = news.next_status().await;
    assert!(format!("{told:?}").contains("revoked"), "{told:?}");
    let ended = news_publish.events.recv().await.unwrap();
    let reason = EndReason::Closed("this stream key was revoked".to_owned());
    assert_eq!(ended, PublishEvent::Ended(reason));
    sport.send(40, 100).await;
    assert_eq!(next_media(&mut sport_publish).await, (40, 100));
    let refused = server.client(KEY).await.next_status().await;
    assert!(
        format!("{refused:?}").contains("wrong stream key"),
        "{refused:?}"
    );
    drop((news, sport));
    server.stop().await;
}

#[tokio::test]
async fn rtmps_publishes() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut config = config();
    config.rtmps_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    (config.rtmp_tls_cert, config.rtmp_tls_key) = (Some(cert), Some(key));
    let mut server = Running::start(config).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(server.rtmps_address.unwrap())
        .await
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let name = "localhost".try_into().unwrap();
    let mut client = Client::new(connector.connect(name, socket).await.unwrap(), KEY);
    assert_eq!(client.next_status().await, Some(ClientEvent::Publishing));
    let mut publish = server.publishes.recv().await.unwrap();
    client.send(40, 50_000).await;
    assert_eq!(next_media(&mut publish).await, (40, 50_000));
    drop(client);
    server.stop().await;
}

/// What the log of a test has caught.
#[derive(Clone, Default)]
struct Caught(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Caught {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// At any level: neither keys, right or wrong, nor what would forge a line.
#[tokio::test]
async fn keys_stay_out_of_the_log() {
    let caught = Caught::default();
    let writer = caught.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut server = Running::start(config()).await;
    let (client, _publish) = server.publish(KEY).await;
    let peer = client.stream.local_addr().unwrap();
    server
        .client("a-wrong-key\r\nforged")
        .await
        .next_status()
        .await;
    let mut stranger = TcpStream::connect(server.address).await.unwrap();
    stranger.write_all(b"\xffgarbage").await.unwrap();
    let stranger_address = stranger.local_addr().unwrap();
    read_to_end(&mut stranger).await;
    drop(client);
    server.stop().await;
    let log = String::from_utf8(caught.0.lock().unwrap().clone()).unwrap();
    for secret in [KEY, "a-wrong-key", "forged"] {
        assert!(!log.contains(secret), "{log}");
    }
    for line in [
        "publish accepted",
        "publish refused: wrong stream key",
        "publish ended",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
    assert!(log.contains(&peer.to_string()));
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    let [warning] = warnings[..] else {
        panic!("{log}");
    };
    assert!(
        warning.contains(&format!("peer={stranger_address} offset=0")),
        "{warning}"
    );
}
