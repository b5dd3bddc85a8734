//! HTTP as a player speaks it: kept-alive HTTP/1.1 connections, one per thing
//! that is waited for, or one HTTP/2 connection for all.
//!
//! In: URLs. Out: status, headers and body, chunk by chunk as it arrives.
//! [`Net`] is shared by one viewer's tasks, a [`Lane`] is owned by one of them.
//! Bounds: a body is at most [`Ask::max_bytes`], an answer takes at most
//! [`Ask::timeout`]. A cancelled HTTP/1.1 request closes its connection.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Mutex,
};

use crate::url::Url;

mod tls;

pub use tls::TlsArgs;

/// A server that doesn't take a connection in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("can't connect to {authority}: {why}")]
    Connect { authority: String, why: String },
    #[error("no answer from {0} in time")]
    Timeout(String),
    #[error("the connection to {authority} broke: {why}")]
    Broken { authority: String, why: String },
    #[error("{url} is larger than {max_bytes} bytes")]
    TooLarge { url: String, max_bytes: usize },
}

impl FetchError {
    /// One word for a table of errors.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Timeout(_) => "timeout",
            Self::Broken { .. } => "broken",
            Self::TooLarge { .. } => "too large",
        }
    }
}

/// What one viewer's connections have in common.
#[derive(Debug)]
pub struct Net {
    tls: Option<Arc<rustls::ClientConfig>>,
    http2: bool,
    /// The one HTTP/2 connection, with the authority that it leads to.
    shared: Mutex<Option<(String, http2::SendRequest<Empty<Bytes>>)>>,
}

impl Net {
    #[must_use]
    pub fn new(tls: Option<Arc<rustls::ClientConfig>>, http2: bool) -> Self {
        Self {
            tls,
            http2,
            shared: Mutex::new(None),
        }
    }

    async fn dial(&self, url: &Url) -> Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect((url.connect_host(), url.port)).await?;
        tcp.set_nodelay(true)?;
        if !url.tls {
            return Ok(Box::new(tcp));
        }
        let config = self.tls.clone().context("no TLS configuration")?;
        let name = rustls::pki_types::ServerName::try_from(url.connect_host().to_owned())?;
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(name, tcp)
            .await?;
        Ok(Box::new(stream))
    }

    async fn open_http1(&self, url: &Url) -> Result<http1::SendRequest<Empty<Bytes>>> {
        let io = TokioIo::new(self.dial(url).await?);
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn open_http2(&self, url: &Url) -> Result<http2::SendRequest<Empty<Bytes>>> {
        let mut shared = self.shared.lock().await;
        let authority = url.authority();
        if let Some((at, sender)) = shared.as_ref()
            && *at == authority
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let io = TokioIo::new(self.dial(url).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        *shared = Some((authority, sender.clone()));
        Ok(sender)
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How to ask.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub gzip: bool,
    pub timeout: Duration,
    pub max_bytes: usize,
}

/// Status and headers of an answer whose body was read.
#[derive(Debug, Clone)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

impl Head {
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One place in line: a request at a time.
#[derive(Debug)]
pub struct Lane {
    net: Arc<Net>,
    kept: Option<(String, http1::SendRequest<Empty<Bytes>>)>,
}

impl Lane {
    #[must_use]
    pub fn new(net: Arc<Net>) -> Self {
        Self { net, kept: None }
    }

    /// Sends a GET and hands each piece of a 200's body to `on_data` as it
    /// arrives. Other bodies are read and dropped.
    ///
    /// # Errors
    /// Whatever kept the answer from being complete; never a status.
    pub async fn get(
        &mut self,
        url: &Url,
        ask: Ask,
        on_data: impl FnMut(&[u8]),
    ) -> Result<Head, FetchError> {
        let answer = self.exchange(url, ask, on_data);
        match tokio::time::timeout(ask.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout(url.authority())),
        }
    }

    async fn exchange(
        &mut self,
        url: &Url,
        ask: Ask,
        mut on_data: impl FnMut(&[u8]),
    ) -> Result<Head, FetchError> {
        let broken = |error: hyper::Error| FetchError::Broken {
            authority: url.authority(),
            why: error.to_string(),
        };
        // The lane's own connection is taken out while it is in use: a cancelled
        // request takes it along.
        let mut kept = None;
        let response = if self.net.http2 {
            let mut sender = self.connected(url, self.net.open_http2(url)).await?;
            sender.send_request(request(url, ask, true)?).await
        } else {
            let mut sender = self.ready_http1(url).await?;
            let response = sender.send_request(request(url, ask, false)?).await;
            kept = Some((url.authority(), sender));
            response
        };
        let response = response.map_err(broken)?;
        let head = Head {
            status: response.status(),
            headers: response.headers().clone(),
        };
        let mut body: Incoming = response.into_body();
        let mut len = 0usize;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else {
                continue;
            };
            len = len.saturating_add(data.len());
            if len > ask.max_bytes {
                return Err(FetchError::TooLarge {
                    url: url.to_string(),
                    max_bytes: ask.max_bytes,
                });
            }
            if head.status == StatusCode::OK {
                on_data(&data);
            }
        }
        self.kept = kept;
        Ok(head)
    }

    async fn ready_http1(
        &mut self,
        url: &Url,
    ) -> Result<http1::SendRequest<Empty<Bytes>>, FetchError> {
        if let Some((authority, mut sender)) = self.kept.take()
            && authority == url.authority()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        self.connected(url, self.net.open_http1(url)).await
    }

    async fn connected<T>(
        &self,
        url: &Url,
        opening: impl Future<Output = Result<T>>,
    ) -> Result<T, FetchError> {
        let refused = |why: String| FetchError::Connect {
            authority: url.authority(),
            why,
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => Err(refused(format!("{error:#}"))),
            Err(_) => Err(refused("no answer in time".to_owned())),
        }
    }
}

fn request(url: &Url, ask: Ask, http2: bool) -> Result<Request<Empty<Bytes>>, FetchError> {
    // HTTP/2 wants scheme and authority in the target, HTTP/1.1 the path.
    let target = if http2 {
        url.to_string()
    } else {
        url.path.clone()
    };
    let mut builder = Request::get(target).header(header::USER_AGENT, USER_AGENT);
    if !http2 {
        builder = builder.header(header::HOST, url.authority());
    }
    if ask.gzip {
        builder = builder.header(header::ACCEPT_ENCODING, "gzip");
    }
    builder
        .body(Empty::new())
        .map_err(|error| FetchError::Broken {
            authority: url.authority(),
            why: error.to_string(),
        })
}

const USER_AGENT: &str = concat!("millrace-loadtest/", env!("CARGO_PKG_VERSION"));

/// The body as text, unpacked if it came gzipped.
///
/// # Errors
/// If it isn't gzip or not UTF-8, or grows past `max_bytes`.
pub fn text(head: &Head, body: &[u8], max_bytes: usize) -> Result<String> {
    use std::io::Read;
    if head.text("content-encoding") != Some("gzip") {
        return Ok(String::from_utf8(body.to_vec()).context("the body isn't UTF-8")?);
    }
    let mut out = String::new();
    let mut unpacked = flate2::read::GzDecoder::new(body).take(max_bytes as u64);
    unpacked
        .read_to_string(&mut out)
        .context("the body isn't gzipped text")?;
    Ok(out)
}
