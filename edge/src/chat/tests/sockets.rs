//! Real sockets: handshakes, framings, slow readers, the drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{chat::MessageId, live::Directory, service::Inherited};
use prometheus::Registry;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::rig::{Rig, post};
use crate::{
    chat::{Broken, drain, listen, ws, ws::tests::frame},
    http::{self, HttpConfig, HttpMetrics},
    upstream::Upstream,
};

pub(super) struct Served {
    pub(super) rig: Rig,
    http: SocketAddr,
    pub(super) https: Option<SocketAddr>,
    pub(super) irc: SocketAddr,
    pub(super) ircs: Option<SocketAddr>,
}

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    http: HttpConfig,
}

impl Served {
    pub(super) async fn start(flags: &[&str]) -> Self {
        Self::with(Rig::new, flags, &[]).await
    }

    /// With flags of chat and of HTTP.
    pub(super) async fn with(
        rig: impl FnOnce(&[&str]) -> Rig,
        flags: &[&str],
        http_flags: &[&str],
    ) -> Self {
        let flags = [&["--irc-listen", "127.0.0.1:0"], flags].concat();
        let rig = rig(&flags);
        let http_flags = [&["edge", "--http-listen", "127.0.0.1:0"], http_flags].concat();
        let config = <Cli as clap::Parser>::parse_from(http_flags).http;
        let listeners = http::bind(&config, &mut Inherited::none()).await.unwrap();
        let (http, https) = (listeners.http_address(), listeners.https_address());
        let http = http.unwrap();
        let certificate = listeners.certificate();
        let upstream = Arc::new(Upstream::local(Arc::new(Directory::default())));
        let metrics = HttpMetrics::register(&Registry::new());
        let listeners = listeners.with_chat(rig.chat.clone());
        let shutdown = rig.shutdown.clone();
        tokio::spawn(http::serve(
            config, listeners, upstream, None, metrics, shutdown,
        ));
        let bound = listen::bind(&rig.chat.0.config, &mut Inherited::none(), certificate)
            .await
            .unwrap();
        let (irc, ircs) = (bound.irc_address().unwrap(), bound.ircs_address());
        tokio::spawn(listen::serve(bound, rig.chat.clone()));
        tokio::spawn(drain::spread(rig.chat.0.clone()));
        rig.stands("demo");
        Self {
            rig,
            http,
            https,
            irc,
            ircs,
        }
    }

    async fn websocket(&self, headers: &str) -> (TcpStream, String) {
        self.websocket_at("/chat", headers).await
    }

    async fn websocket_at(&self, path: &str, headers: &str) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        let head = upgraded(&mut stream, path, headers).await;
        (stream, head)
    }
}

/// The head that answers a handshake.
pub(super) async fn upgraded(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    headers: &str,
) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads until all of `words` came, in this order.
pub(super) async fn until(stream: &mut (impl AsyncRead + Unpin), words: &[&str]) -> String {
    let mut seen = Vec::new();
    let found = |seen: &[u8]| {
        let text = String::from_utf8_lossy(seen);
        let mut rest: &str = &text;
        words.iter().all(|word| match rest.split_once(word) {
            Some((_, tail)) => {
                rest = tail;
                true
            }
            None => false,
        })
    };
    while !found(&seen) {
        let mut buffer = [0; 4_096];
        let read = timeout(Duration::from_secs(10), stream.read(&mut buffer)).await;
        let count = read
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&seen)))
            .unwrap();
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

pub(super) async fn ended(stream: impl AsyncRead + Unpin) -> Vec<u8> {
    ended_in(stream, Duration::from_secs(10)).await
}

async fn ended_in(mut stream: impl AsyncRead + Unpin, within: Duration) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    let _ = timeout(within, read).await.unwrap();
    rest
}

#[tokio::test]
async fn tcp_and_websocket_talk_to_each_other() {
    let mut served = Served::start(&[]).await;
    let mut tcp = TcpStream::connect(served.irc).await.unwrap();
    tcp.write_all(b"NICK ann\r\nJOIN #demo\r\n").await.unwrap();
    until(&mut tcp, &[" 376 ann", " 366 ann #demo"]).await;
    let (mut web, head) = served.websocket("Sec-WebSocket-Protocol: irc\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{head}"
    );
    assert!(head.contains("sec-websocket-protocol: irc\r\n"), "{head}");
    // Both lines in one message, and then in one segment with the next.
    let mut lines = frame(0x81, b"NICK bob\r\nJOIN #demo\r\n");
    lines.extend(frame(0x89, b"still there?"));
    web.write_all(&lines).await.unwrap();
    until(&mut web, &["\u{c}still there?"]).await;
    tcp.write_all(b"PRIVMSG #demo :hello\r\n").await.unwrap();
    while served.rig.say_all() == 0 {
        tokio::task::yield_now().await;
    }
    until(
        &mut web,
        &[":ann!ann@ann.tmi.twitch.tv PRIVMSG #demo :hello\r\n"],
    )
    .await;
    web.write_all(&frame(0x88, &[0x03, 0xe8])).await.unwrap();
    assert!(ended(web).await.ends_with(b"\x03\xe8Client left"));
    tcp.write_all(b"QUIT\r\n").await.unwrap();
    assert!(
        ended(tcp)
            .await
            .ends_with(b"ERROR :Closing link: Client quit\r\n")
    );
}

#[tokio::test]
async fn each_subprotocol_has_its_framing() {
    let served = Served::start(&[]).await;
    for (path, offer, first) in [
        ("/chat", "", &b"\x81\x7e"[..]),
        ("/", "", b"\x81"),
        (
            "/chat",
            "Sec-WebSocket-Protocol: mqtt, binary.ircv3.net, irc\r\n",
            b"\x82",
        ),
        (
            "/chat?a=b",
            "Sec-WebSocket-Protocol: text.ircv3.net\r\n",
            b"\x81",
        ),
    ] {
        let (mut web, head) = served.websocket_at(path, offer).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        web.write_all(&frame(0x81, b"PING :hello")).await.unwrap();
        let seen = until(&mut web, &["PONG tmi.twitch.tv :hello"]).await;
        let crlf = seen.ends_with("\r\n");
        assert_eq!(crlf, !offer.contains("ircv3"), "{offer}");
        let kind = if offer.contains("binary") { 0x82 } else { 0x81 };
        assert_eq!(first[0], kind);
    }
}

#[tokio::test]
async fn handshakes_that_are_none_are_refused() {
    let served = Served::start(&["--chat-allow-origin", "https://friend.example"]).await;
    for (headers, status) in [
        ("Origin: http://localhost\r\n", 101),
        ("Origin: https://friend.example\r\n", 101),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Content-Length: 3\r\n", 400),
    ] {
        let (_, head) = served.websocket(headers).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{headers}: {head}"
        );
    }
    for (request, status) in [
        (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
            400,
        ),
        (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            426,
        ),
        (
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            400,
        ),
        (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n",
            400,
        ),
    ] {
        let mut stream = TcpStream::connect(served.http).await.unwrap();
        let request = format!("GET /chat HTTP/1.1\r\nHost: localhost\r\n{request}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let seen = until(&mut stream, &["HTTP/1.1 "]).await;
        assert!(
            seen.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {seen}"
        );
    }
}

#[tokio::test]
async fn frames_that_break_the_rules_are_closed_with_their_code() {
    let served = Served::start(&[]).await;
    for (bytes, code) in [
        (vec![0x81, 0x01, b'x'], ws::code::PROTOCOL),
        (frame(0x81, &[0xff]), ws::code::NOT_UTF8),
        (frame(0x81, &[b'x'; 9_000]), ws::code::TOO_LONG),
    ] {
        let (mut web, _) = served.websocket("").await;
        web.write_all(&bytes).await.unwrap();
        let rest = ended(web).await;
        let close = rest
            .windows(4)
            .any(|four| four[0] == 0x88 && four[2..] == code.to_be_bytes());
        assert!(close, "{code}: {rest:02x?}");
    }
}

/// Nothing ever inflates here: an offer of compression is passed over, and a frame
/// that says that it is compressed breaks the protocol before its bytes are looked at.
#[tokio::test]
async fn compression_is_never_agreed_to() {
    let served = Served::start(&[]).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (mut web, head) = served.websocket(offer).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(!head.to_lowercase().contains("extensions"), "{head}");
    web.write_all(&frame(0xc1, &[0; 1_000])).await.unwrap();
    let rest = ended(web).await;
    let code = ws::code::PROTOCOL.to_be_bytes();
    assert!(
        rest.windows(4)
            .any(|four| four[0] == 0x88 && four[2..] == code)
    );
}

/// A peer that vanished without a word looks like one that says none: it is asked,
/// and given up; its place and its name in the room are free again.
#[tokio::test(start_paused = true)]
async fn a_half_open_socket_gives_its_place_back() {
    let served = Served::start(&[]).await;
    let (mut web, _) = served.websocket("").await;
    web.write_all(&frame(0x81, b"NICK ann\r\nJOIN #demo\r\n"))
        .await
        .unwrap();
    until(&mut web, &[" 366 ann #demo"]).await;
    let room = served.rig.room("demo");
    assert_eq!(room.counts().readers, 1);
    let rest = ended_in(web, Duration::from_secs(300)).await;
    let text = String::from_utf8_lossy(&rest);
    assert!(text.contains("PING :tmi.twitch.tv\r\n"), "{text}");
    assert!(text.contains("No sign of life"), "{text}");
    assert_eq!(room.counts().readers, 0);
    assert_eq!(served.rig.chat.0.metrics.closings(Broken::Silent), 1);
}

#[tokio::test]
async fn connections_are_bounded_by_address() {
    let served = Served::start(&["--max-chat-connections-per-address", "2"]).await;
    let one = TcpStream::connect(served.irc).await.unwrap();
    let (two, _) = served.websocket("").await;
    let three = TcpStream::connect(served.irc).await.unwrap();
    assert_eq!(
        ended(three).await,
        b"ERROR :Closing link: too many connections\r\n"
    );
    let (_, head) = served.websocket("").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    drop((one, two));
}

/// Real sockets under paused time: the deadlines run as fast as nothing happens.
#[tokio::test(start_paused = true)]
async fn who_does_not_sign_in_or_goes_silent_is_let_go() {
    let served = Served::start(&["--chat-sign-in-deadline", "5"]).await;
    let stranger = TcpStream::connect(served.irc).await.unwrap();
    let mut rest = Vec::new();
    let mut stranger = stranger;
    stranger.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"ERROR :Closing link: Not signed in, in time\r\n");
    let mut silent = TcpStream::connect(served.irc).await.unwrap();
    silent.write_all(b"NICK ann\r\n").await.unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    let text = String::from_utf8(rest).unwrap();
    assert!(
        text.ends_with("PING :tmi.twitch.tv\r\nERROR :Closing link: No sign of life\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_client_that_stops_reading_is_dropped_and_delays_nobody() {
    let mut served = Served::start(&["--chat-write-deadline", "1"]).await;
    let mut stuck = TcpStream::connect(served.irc).await.unwrap();
    stuck
        .write_all(b"CAP REQ draft/chathistory\r\nNICK stuck\r\nJOIN #demo\r\n")
        .await
        .unwrap();
    until(&mut stuck, &[" 366 stuck #demo"]).await;
    let mut reader = TcpStream::connect(served.irc).await.unwrap();
    reader
        .write_all(b"NICK ann\r\nJOIN #demo\r\n")
        .await
        .unwrap();
    until(&mut reader, &[" 366 ann #demo"]).await;
    let text = "x".repeat(480);
    let room = served.rig.room("demo");
    let mut id = 1;
    // As long as both are there, one of them reading.
    while room.counts().readers == 2 {
        for _ in 0..200 {
            served
                .rig
                .tell("demo", MessageId(id), post("eve", &format!("{id} {text}")));
            id += 1;
        }
        until(&mut reader, &[&format!("#demo :{} x", id - 1)]).await;
    }
    assert_eq!(room.counts().readers, 1);
    drop(stuck);
}

#[tokio::test]
async fn a_drain_says_reconnect_and_closes() {
    let served = Served::start(&["--chat-drain-window", "1"]).await;
    let mut tcp = TcpStream::connect(served.irc).await.unwrap();
    tcp.write_all(b"NICK ann\r\n").await.unwrap();
    until(&mut tcp, &[" 376 ann"]).await;
    let (web, _) = served.websocket("").await;
    served.rig.shutdown.drain();
    let seen = until(&mut tcp, &[":tmi.twitch.tv RECONNECT\r\n"]).await;
    assert!(!seen.contains("ERROR"));
    let close = ended(web).await;
    assert!(
        close
            .windows(2)
            .any(|two| two == ws::code::RESTART.to_be_bytes())
    );
    assert!(ended(tcp).await.ends_with(b"This server restarts\r\n"));
    assert_eq!(
        served.rig.shutdown.drained(Duration::from_secs(10)).await,
        Ok(())
    );
}
