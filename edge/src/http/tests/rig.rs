//! A server with a broadcast behind it, and clients that show every byte.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use clap::Parser;
use common::{ingest::Ingests, live::Directory, service::Inherited, shutdown::Shutdown};
use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::super::{HttpConfig, HttpMetrics, bind, serve};
use crate::{
    chat::{Chat, ChatConfig, ChatMetrics},
    fixture::{Studio, audio, plan, video},
    geo::{Geo, GeoConfig},
    upstream::Upstream,
    view::{ViewConfig, ViewMetrics, Viewing},
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    http: HttpConfig,
    #[command(flatten)]
    view: ViewConfig,
    #[command(flatten)]
    chat: ChatConfig,
    #[command(flatten)]
    geo: GeoConfig,
}

pub(in crate::http) fn config(flags: &[&str]) -> HttpConfig {
    let base = ["edge", "--http-listen", "127.0.0.1:0"];
    parse(&[&base, flags].concat())
}

pub(super) fn parse(arguments: &[&str]) -> HttpConfig {
    Cli::parse_from(arguments).http
}

pub(super) struct Rig {
    pub(super) address: SocketAddr,
    pub(super) studio: Studio,
    pub(super) directory: Arc<Directory>,
    pub(super) ingests: Arc<Ingests>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) metrics: HttpMetrics,
    pub(super) shutdown: Shutdown,
}

impl Rig {
    /// Six segments and two parts of both tracks: msn 100 to 105, then 106.1.
    pub(super) async fn live(flags: &[&str]) -> Self {
        let mut rig = Self::start(flags, 4).await;
        rig.fill();
        rig
    }

    /// As [`Rig::live`], holding requests for three seconds at most.
    pub(super) async fn brief(flags: &[&str]) -> Self {
        let mut rig = Self::start(flags, 1).await;
        rig.fill();
        rig
    }

    pub(super) fn fill(&mut self) {
        self.studio.segments(100, 106);
        for name in [crate::fixture::V, crate::fixture::A] {
            self.studio.open(name, 106);
            self.studio.part(name, 106, 0);
            self.studio.part(name, 106, 1);
        }
        self.studio.announce(&self.directory);
    }

    /// Nothing announced yet, and no chat.
    pub(super) async fn start(flags: &[&str], target_duration_s: u32) -> Self {
        Self::with(flags, target_duration_s, false).await
    }

    /// Nothing announced yet, and chat as the flags say.
    pub(super) async fn chatting(flags: &[&str]) -> Self {
        Self::with(flags, 4, true).await
    }

    async fn with(flags: &[&str], target_duration_s: u32, chats: bool) -> Self {
        let base = ["edge", "--http-listen", "127.0.0.1:0"];
        let cli = Cli::parse_from([&base, flags].concat());
        let (config, view) = (cli.http, cli.view);
        let view_metrics = ViewMetrics::register(&Registry::new());
        let viewing = Viewing::from_config(&view, view_metrics).unwrap();
        let mut listeners = bind(&config, &mut Inherited::none()).await.unwrap();
        let address = listeners.http_address().unwrap();
        let directory = Arc::new(Directory::default());
        let upstream = Arc::new(Upstream::local(directory.clone()));
        let ingests = upstream.ingests().clone();
        listeners = listeners.with_geo(Geo::from_config(&cli.geo).unwrap());
        let metrics = HttpMetrics::register(&Registry::new());
        let shutdown = Shutdown::new();
        if chats {
            let metrics = ChatMetrics::register(&Registry::new());
            let chat = Chat::start(cli.chat, upstream.clone(), metrics, shutdown.clone());
            listeners = listeners.with_chat(chat.unwrap());
        }
        let served = serve(
            config,
            listeners,
            upstream.clone(),
            viewing,
            metrics.clone(),
            shutdown.clone(),
        );
        tokio::spawn(served);
        Self {
            address,
            studio: Studio::new(plan(target_duration_s), vec![audio(), video()]),
            directory,
            ingests,
            upstream,
            metrics,
            shutdown,
        }
    }

    pub(super) async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.address).await.unwrap(),
            buffer: Vec::new(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.connect().await.get(path, &[]).await
    }

    /// Returns once `count` requests are held.
    pub(super) async fn until_held(&self, count: i64) {
        while self.metrics.held.get() != count {
            tokio::task::yield_now().await;
        }
    }
}

/// HTTP/1.1 by hand.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub(super) whole: bool,
}

impl Reply {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Client {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(super) async fn ask(&mut self, method: &str, path: &str, headers: &[&str]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: edge\r\n");
        for header in headers {
            head += &format!("{header}\r\n");
        }
        self.send(head + "\r\n").await;
    }

    pub(super) async fn get(&mut self, path: &str, headers: &[&str]) -> Reply {
        self.ask("GET", path, headers).await;
        self.reply(false).await.unwrap()
    }

    pub(super) async fn head(&mut self, path: &str) -> Reply {
        self.ask("HEAD", path, &[]).await;
        self.reply(true).await.unwrap()
    }

    /// `false` at the end of the stream.
    async fn more(&mut self) -> bool {
        let mut chunk = vec![0; 65_536];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                true
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).take(at).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    pub(super) async fn exactly(&mut self, len: usize) -> (Vec<u8>, bool) {
        while self.buffer.len() < len {
            if !self.more().await {
                return (std::mem::take(&mut self.buffer), false);
            }
        }
        (self.buffer.drain(..len).collect(), true)
    }

    /// Status and headers alone, as soon as they are there.
    pub(super) async fn reply_head(&mut self) -> Option<Reply> {
        let status = self.line().await?.split(' ').nth(1)?.parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        Some(Reply {
            status,
            headers,
            body: Vec::new(),
            whole: true,
        })
    }

    /// The next chunk of a body without a length; `None` where it breaks.
    pub(super) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let len = usize::from_str_radix(&self.line().await?, 16).unwrap();
        let (bytes, whole) = self.exactly(len).await;
        self.line().await?;
        whole.then_some(bytes)
    }

    /// As [`Client::chunk`], where the connection may end before any length.
    pub(super) async fn chunk_or_end(&mut self) -> Option<Vec<u8>> {
        while self.buffer.is_empty() {
            if !self.more().await {
                return None;
            }
        }
        self.chunk().await
    }

    /// `None` when the connection ends instead.
    pub(super) async fn reply(&mut self, head: bool) -> Option<Reply> {
        let mut reply = self.reply_head().await?;
        if head || matches!(reply.status, 204 | 304) {
            return Some(reply);
        }
        if reply.header("transfer-encoding") == "chunked" {
            loop {
                match self.chunk().await {
                    None => {
                        reply.whole = false;
                        return Some(reply);
                    }
                    Some(bytes) if bytes.is_empty() => return Some(reply),
                    Some(bytes) => reply.body.extend(bytes),
                }
            }
        }
        let len = reply.header("content-length").parse().unwrap();
        (reply.body, reply.whole) = self.exactly(len).await;
        Some(reply)
    }

    /// Whether the server has ended the connection, waiting for it.
    pub(super) async fn ended(&mut self) -> bool {
        while self.more().await {}
        true
    }
}
