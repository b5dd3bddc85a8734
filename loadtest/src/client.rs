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
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Mutex,
};

use crate::url::Url;

mod http1;
mod tls;

use http1::{Connection, Http1Error};
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

    async fn open_http1(&self, url: &Url) -> Result<Connection> {
        Ok(Connection::new(self.dial(url).await?))
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

/// A connection, plain or TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// How to ask.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub gzip: bool,
    /// The value of a Range header.
    pub range: Option<&'static str>,
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
    /// An HTTP/1.1 connection, and where it leads.
    kept: Option<(Place, Connection)>,
}

/// Scheme, host and port.
type Place = (bool, String, u16);

fn place(url: &Url) -> Place {
    (url.tls, url.host.clone(), url.port)
}

fn leads_to(place: &Place, url: &Url) -> bool {
    (place.0, place.1.as_str(), place.2) == (url.tls, url.host.as_str(), url.port)
}

impl Lane {
    #[must_use]
    pub fn new(net: Arc<Net>) -> Self {
        Self { net, kept: None }
    }

    /// Sends a GET and hands each piece of a success's body to `on_data` as it
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
        on_data: impl FnMut(&[u8]),
    ) -> Result<Head, FetchError> {
        if self.net.http2 {
            self.exchange_http2(url, ask, on_data).await
        } else {
            self.exchange_http1(url, ask, on_data).await
        }
    }

    async fn exchange_http1(
        &mut self,
        url: &Url,
        ask: Ask,
        on_data: impl FnMut(&[u8]),
    ) -> Result<Head, FetchError> {
        // The lane's connection is taken out while it is in use: a cancelled request
        // takes it along.
        let kept = match self.kept.take() {
            Some((place, mut connection)) => {
                let usable = leads_to(&place, url) && connection.is_open().await;
                usable.then_some((place, connection))
            }
            None => None,
        };
        let (place, mut connection) = match kept {
            Some(kept) => kept,
            None => (
                place(url),
                self.connected(url, self.net.open_http1(url)).await?,
            ),
        };
        let request = request_bytes(url, ask)?;
        let answer = connection.exchange(&request, ask.max_bytes, on_data).await;
        let (head, keeps) = answer.map_err(|error| match error {
            Http1Error::TooLarge(max_bytes) => FetchError::TooLarge {
                url: url.to_string(),
                max_bytes,
            },
            error => FetchError::Broken {
                authority: url.authority(),
                why: error.to_string(),
            },
        })?;
        self.kept = keeps.then_some((place, connection));
        Ok(head)
    }

    async fn exchange_http2(
        &mut self,
        url: &Url,
        ask: Ask,
        mut on_data: impl FnMut(&[u8]),
    ) -> Result<Head, FetchError> {
        let broken = |error: hyper::Error| FetchError::Broken {
            authority: url.authority(),
            why: error.to_string(),
        };
        let mut sender = self.connected(url, self.net.open_http2(url)).await?;
        let response = sender.send_request(request(url, ask)?).await;
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
            if head.status.is_success() {
                on_data(&data);
            }
        }
        Ok(head)
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

/// A GET as HTTP/1.1 wants it.
fn request_bytes(url: &Url, ask: Ask) -> Result<Vec<u8>, FetchError> {
    // Paths come out of strangers' playlists: a line end would be a request of theirs.
    if !url.path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(FetchError::Broken {
            authority: url.authority(),
            why: format!("`{}` can't be asked for", url.path.escape_debug()),
        });
    }
    let mut out = Vec::with_capacity(256);
    let mut add = |pieces: &[&str]| {
        for piece in pieces {
            out.extend_from_slice(piece.as_bytes());
        }
    };
    let path = url.path.split('#').next().unwrap_or("/");
    let authority = url.authority();
    add(&["GET ", path, " HTTP/1.1\r\nhost: ", &authority]);
    add(&["\r\nuser-agent: ", USER_AGENT]);
    if ask.gzip {
        add(&["\r\naccept-encoding: gzip"]);
    }
    if let Some(range) = ask.range {
        add(&["\r\nrange: ", range]);
    }
    add(&["\r\n\r\n"]);
    Ok(out)
}

/// The same for HTTP/2, which wants scheme and authority in the target.
fn request(url: &Url, ask: Ask) -> Result<Request<Empty<Bytes>>, FetchError> {
    let mut builder = Request::get(url.to_string()).header(header::USER_AGENT, USER_AGENT);
    if ask.gzip {
        builder = builder.header(header::ACCEPT_ENCODING, "gzip");
    }
    if let Some(range) = ask.range {
        builder = builder.header(header::RANGE, range);
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
        return String::from_utf8(body.to_vec()).context("the body isn't UTF-8");
    }
    let mut out = String::new();
    let mut unpacked = flate2::read::GzDecoder::new(body).take(max_bytes as u64);
    unpacked
        .read_to_string(&mut out)
        .context("the body isn't gzipped text")?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: Ask = Ask {
        gzip: true,
        range: Some("bytes=0-9"),
        timeout: Duration::from_secs(1),
        max_bytes: 1,
    };

    #[test]
    fn a_request_is_one_request() {
        let url = |path: &str| Url {
            path: path.to_owned(),
            ..Url::parse("http://127.0.0.1:81/").unwrap()
        };
        let bytes = request_bytes(&url("/a?b=c#d"), ASK).unwrap();
        let expected = format!(
            "GET /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:81\r\nuser-agent: {USER_AGENT}\r\n\
             accept-encoding: gzip\r\nrange: bytes=0-9\r\n\r\n"
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        for path in ["/a b", "/a HTTP/1.1\r\nx: y", "/\u{e4}"] {
            assert!(request_bytes(&url(path), ASK).is_err(), "{path}");
        }
    }
}
