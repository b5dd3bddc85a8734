//! Hooks over real sockets, to servers that do what servers do.

use std::net::SocketAddr;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Parser;
use prometheus::Registry;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

const SECRET: [u8; 32] = [9; 32];

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    webhook: WebhookConfig,
}

/// What a server was sent.
#[derive(Debug)]
struct Got {
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let start = format!("{name}: ");
        let line = self.head.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_default()
    }

    fn kind(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        let channel = body["data"]["channel"].as_str().unwrap();
        format!("{} {channel}", body["type"].as_str().unwrap())
    }
}

/// What it answers, one request after another; the last for ever.
#[derive(Clone, Copy)]
enum Answer {
    Status(&'static str),
    /// Reads and says nothing.
    Hang,
}

struct Server {
    address: SocketAddr,
    got: mpsc::Receiver<Got>,
}

impl Server {
    async fn start(answers: &'static [Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, got) = mpsc::channel(64);
        tokio::spawn(async move {
            for n in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                let answer = answers.get(n).or(answers.last()).copied().unwrap();
                tokio::spawn(answered(socket, answer, sender.clone()));
            }
        });
        Self { address, got }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?x=1", self.address)
    }

    async fn next(&mut self) -> Got {
        let got = tokio::time::timeout(Duration::from_secs(20), self.got.recv());
        got.await.unwrap().unwrap()
    }
}

async fn answered<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: S,
    answer: Answer,
    got: mpsc::Sender<Got>,
) {
    let mut bytes = Vec::new();
    let at = loop {
        let mut chunk = [0; 4_096];
        let count = socket.read(&mut chunk).await.unwrap();
        assert!(count > 0, "cut off");
        bytes.extend_from_slice(&chunk[..count]);
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
    let mut request = Got {
        head,
        body: bytes[at + 4..].to_vec(),
    };
    let len: usize = request.header("content-length").parse().unwrap();
    while request.body.len() < len {
        let mut chunk = [0; 4_096];
        let count = socket.read(&mut chunk).await.unwrap();
        request.body.extend_from_slice(&chunk[..count]);
    }
    let _ = got.send(request).await;
    match answer {
        Answer::Status(status) => {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            socket.write_all(text.as_bytes()).await.unwrap();
        }
        Answer::Hang => {
            // Until the other side gives up.
            let _ = socket.read(&mut [0; 1]).await;
        }
    }
}

struct Rig {
    hooks: Hooks,
    metrics: WebhookMetrics,
    shutdown: Shutdown,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn start(urls: &[String], flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, format!("whsec_{}", STANDARD.encode(SECRET))).unwrap();
        let mut line = vec!["origin", "--webhook-secret", secret.to_str().unwrap()];
        for url in urls {
            line.extend(["--webhook", url]);
        }
        line.extend(flags);
        let config = Cli::parse_from(line).webhook;
        let registry = Registry::new();
        let metrics = WebhookMetrics::register(&registry);
        let node = NodeId::parse("origin").unwrap();
        let mut reloads = Reloads::new(&registry);
        let webhooks = Webhooks::from_config(&config, node, metrics.clone(), &mut reloads);
        let webhooks = webhooks.unwrap();
        let (hooks, shutdown) = (webhooks.hooks(), Shutdown::new());
        tokio::spawn(webhooks.run(shutdown.clone()));
        Self {
            hooks,
            metrics,
            shutdown,
            _dir: dir,
        }
    }

    fn tell(&self, occasion: Occasion, channel: &str) {
        let about = About {
            title: "A title".into(),
            ..About::default()
        };
        let channel = ChannelName::parse(channel).unwrap();
        let broadcast = BroadcastId(1_795_000_000_000);
        let at = UnixMs(1_795_000_004_000);
        self.hooks.tell(occasion, &channel, broadcast, &about, at);
    }

    /// Returns once so many events came to that.
    async fn until(&self, outcome: &str, count: u64) {
        let counted = async {
            while self.metrics.count(outcome) != count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let limit = Duration::from_secs(20);
        assert!(
            tokio::time::timeout(limit, counted).await.is_ok(),
            "{outcome}"
        );
    }
}

#[tokio::test]
async fn events_arrive_signed_and_in_order() {
    let mut server = Server::start(&[Answer::Status("204 No Content")]).await;
    let rig = Rig::start(&[server.url()], &[]);
    rig.tell(Occasion::Start, "demo");
    rig.tell(Occasion::End, "demo");
    let got = server.next().await;
    assert!(
        got.head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"),
        "{}",
        got.head
    );
    assert_eq!(got.header("host"), server.address.to_string());
    assert_eq!(got.header("content-type"), "application/json");
    let id = got.header("webhook-id");
    assert_eq!(id, "msg_demo_1795000000000_start");
    let at_s = got.header("webhook-timestamp");
    let off_s = at_s.parse::<u64>().unwrap().abs_diff(now().0 / 1_000);
    assert!(off_s <= 60, "{at_s}");
    let signed = [format!("{id}.{at_s}.").as_bytes(), &got.body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    let signature = STANDARD.encode(hmac::sign(&key, &signed));
    assert_eq!(got.header("webhook-signature"), format!("v1,{signature}"));
    let expected = concat!(
        r#"{"type":"broadcast.start","at_ms":1795000004000,"data":{"channel":"demo","#,
        r#""broadcast":"1795000000000","live_since_ms":1795000000000,"origin":"origin","#,
        r#""title":"A title","tags":[]}}"#,
    );
    assert_eq!(String::from_utf8_lossy(&got.body), expected);
    assert_eq!(server.next().await.kind(), "broadcast.end demo");
    rig.until("delivered", 2).await;
    assert_eq!(rig.metrics.waiting.get(), 0);
}

#[tokio::test]
async fn what_is_not_taken_is_told_again() {
    let answers = &[Answer::Status("500 Oh"), Answer::Status("200 OK")];
    let mut server = Server::start(answers).await;
    let rig = Rig::start(&[server.url()], &[]);
    rig.tell(Occasion::Start, "demo");
    let (one, other) = (server.next().await, server.next().await);
    assert_eq!(one.body, other.body);
    assert_eq!(one.header("webhook-id"), other.header("webhook-id"));
    rig.until("delivered", 1).await;
    assert_eq!(rig.metrics.failed_attempts.get(), 1);
}

#[tokio::test]
async fn a_hook_that_hangs_costs_itself_alone() {
    let mut hanging = Server::start(&[Answer::Hang]).await;
    let mut good = Server::start(&[Answer::Status("200 OK")]).await;
    let urls = [hanging.url(), good.url()];
    let rig = Rig::start(&urls, &["--webhook-timeout", "1", "--webhook-retry", "0"]);
    rig.tell(Occasion::Start, "demo");
    rig.tell(Occasion::End, "demo");
    hanging.next().await;
    for expected in ["broadcast.start demo", "broadcast.end demo"] {
        assert_eq!(good.next().await.kind(), expected);
    }
    rig.until("delivered", 2).await;
    rig.until("failed", 2).await;
    assert_eq!(hanging.next().await.kind(), "broadcast.end demo");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_no_way() {
    let redirect = "302 Found\r\nLocation: http://127.0.0.1:9/";
    let mut server = Server::start(Box::leak(Box::new([Answer::Status(redirect)]))).await;
    let rig = Rig::start(&[server.url()], &["--webhook-retry", "0"]);
    rig.tell(Occasion::Start, "demo");
    server.next().await;
    rig.until("failed", 1).await;
    assert_eq!(rig.metrics.failed_attempts.get(), 1, "asked once, there");
}

#[tokio::test]
async fn nobody_at_the_other_end_is_a_failure_like_others() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let rig = Rig::start(&[url], &["--webhook-retry", "0"]);
    rig.tell(Occasion::Start, "demo");
    rig.until("failed", 1).await;
}

#[tokio::test]
async fn a_drain_tells_what_was_never_told() {
    let mut server = Server::start(&[Answer::Status("200 OK")]).await;
    let rig = Rig::start(&[server.url()], &[]);
    rig.tell(Occasion::Start, "demo");
    assert_eq!(server.next().await.kind(), "broadcast.start demo");
    rig.tell(Occasion::End, "demo");
    rig.shutdown.drain();
    assert_eq!(rig.shutdown.drained(Duration::from_secs(20)).await, Ok(()));
    assert_eq!(server.next().await.kind(), "broadcast.end demo");
    assert_eq!(rig.metrics.count("delivered"), 2);
}

#[tokio::test]
async fn https_is_verified() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, mut got) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(socket).await {
                tokio::spawn(answered(stream, Answer::Status("200 OK"), sender.clone()));
            }
        }
    });
    let trusted = ["--webhook-ca", ca.to_str().unwrap(), "--webhook-retry", "0"];
    // The certificate is of another name.
    let rig = Rig::start(&[format!("https://127.0.0.1:{port}/")], &trusted);
    rig.tell(Occasion::Start, "demo");
    rig.until("failed", 1).await;
    let rig = Rig::start(&[format!("https://localhost:{port}/")], &trusted);
    rig.tell(Occasion::Start, "demo");
    rig.until("delivered", 1).await;
    assert_eq!(got.recv().await.unwrap().kind(), "broadcast.start demo");
}

#[tokio::test]
async fn a_queue_that_is_full_drops_and_counts() {
    let server = Server::start(&[Answer::Hang]).await;
    let rig = Rig::start(&[server.url()], &[]);
    // The task has no turn meanwhile.
    for n in 0..TOLD + 3 {
        rig.tell(Occasion::Start, &format!("c{n}"));
    }
    assert_eq!(rig.metrics.count("dropped"), 3);
}

#[test]
fn hooks_without_a_secret_are_refused() {
    let refused = Cli::try_parse_from(["origin", "--webhook", "http://a/"]).err();
    assert!(refused.unwrap().to_string().contains("--webhook-secret"));
    let config = Cli::parse_from(["origin"]).webhook;
    let none = config.open().unwrap();
    assert!(none.is_none());
}
