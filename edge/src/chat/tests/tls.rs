//! Chat over TLS: WebSocket behind the viewers' port, IRC on its own.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use common::chat::MessageId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls};

use super::{
    rig::{Rig, post},
    sockets::{Served, ended, until, upgraded},
};
use crate::chat::{Broken, ws::tests::frame};

/// Certificate and key files, and a client that trusts them.
fn certificate(dir: &Path) -> Arc<rustls::ClientConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

struct Secure {
    served: Served,
    trusting: Arc<rustls::ClientConfig>,
    _dir: tempfile::TempDir,
}

impl Secure {
    async fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let trusting = certificate(dir.path());
        let file = |name| dir.path().join(name).display().to_string();
        let flags = [&["--ircs-listen", "127.0.0.1:0"], flags].concat();
        let (cert, key) = (file("cert.pem"), file("key.pem"));
        let http = [
            "--https-listen",
            "127.0.0.1:0",
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
        ];
        Self {
            served: Served::with(Rig::new, &flags, &http).await,
            trusting,
            _dir: dir,
        }
    }

    async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let connector = TlsConnector::from(self.trusting.clone());
        connector.connect(name, tcp).await.unwrap()
    }
}

#[tokio::test]
async fn both_kinds_of_tls_meet_in_one_room() {
    let mut secure = Secure::start(&[]).await;
    let mut irc = secure.connect(secure.served.ircs.unwrap()).await;
    irc.write_all(b"NICK ann\r\nJOIN #demo\r\n").await.unwrap();
    until(&mut irc, &[" 376 ann", " 366 ann #demo"]).await;
    let mut web = secure.connect(secure.served.https.unwrap()).await;
    let head = upgraded(&mut web, "/chat", "Sec-WebSocket-Protocol: irc\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    web.write_all(&frame(0x81, b"NICK bob\r\nJOIN #demo\r\n"))
        .await
        .unwrap();
    until(&mut web, &[" 366 bob #demo"]).await;
    irc.write_all(b"PRIVMSG #demo :hello\r\n").await.unwrap();
    while secure.served.rig.say_all() == 0 {
        tokio::task::yield_now().await;
    }
    until(
        &mut web,
        &[":ann!ann@ann.tmi.twitch.tv PRIVMSG #demo :hello\r\n"],
    )
    .await;
    // A room that pours, in more than one record.
    let text = "x".repeat(480);
    for id in 1..=500 {
        let said = post("eve", &format!("{id} {text}"));
        secure.served.rig.tell("demo", MessageId(id), said);
    }
    let words: Vec<_> = (1..=500).map(|id| format!("#demo :{id} xx")).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    tokio::join!(until(&mut web, &words), until(&mut irc, &words));
    web.write_all(&frame(0x88, &[0x03, 0xe8])).await.unwrap();
    assert!(ended(web).await.ends_with(b"\x03\xe8Client left"));
    irc.write_all(b"QUIT\r\n").await.unwrap();
    let rest = ended(irc).await;
    assert!(rest.ends_with(b"ERROR :Closing link: Client quit\r\n"));
}

/// Plain words and half a handshake on TLS's port.
#[tokio::test(start_paused = true)]
async fn who_speaks_no_tls_is_let_go() {
    let secure = Secure::start(&["--chat-sign-in-deadline", "5"]).await;
    let address = secure.served.ircs.unwrap();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"NICK ann\r\nJOIN #demo\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    // An alert, or the mere end.
    let _ = plain.read_to_end(&mut rest).await;
    assert!(!rest.windows(4).any(|word| word == b" 001"));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
    let metrics = &secure.served.rig.chat.0.metrics;
    assert_eq!(metrics.closings(Broken::Handshake), 2);
}

#[tokio::test]
async fn a_client_over_tls_that_stops_reading_is_dropped() {
    let mut secure = Secure::start(&["--chat-write-deadline", "1"]).await;
    let mut stuck = secure.connect(secure.served.ircs.unwrap()).await;
    let hello = b"CAP REQ draft/chathistory\r\nNICK stuck\r\nJOIN #demo\r\n";
    stuck.write_all(hello).await.unwrap();
    until(&mut stuck, &[" 366 stuck #demo"]).await;
    let room = secure.served.rig.room("demo");
    let text = "x".repeat(480);
    let mut id = 1;
    let fill = async {
        while room.counts().readers > 0 {
            for _ in 0..200 {
                secure
                    .served
                    .rig
                    .tell("demo", MessageId(id), post("eve", &text));
                id += 1;
            }
            // Twenty thousand messages a second are enough to fill any socket.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), fill).await.unwrap();
    drop(stuck);
}
