//! One POST over HTTP/1.1, on a connection of its own: webhooks are seldom. The answer
//! is its status; what else it says is not read, and where it points is not gone to.

use std::{fmt, io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Request, StatusCode, Uri,
    header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// More is no address that somebody typed.
const MAX_URL_BYTES: usize = 2_048;

/// What an answer's head may take.
const MAX_ANSWER_BYTES: usize = 16 << 10;

const AGENT: &str = concat!("millrace/", env!("CARGO_PKG_VERSION"));

/// A webhook's URL. Printed without its path and query, which may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    https: bool,
    host: String,
    port: u16,
    /// The Host header.
    authority: String,
    path: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Target {
    /// As `--webhook` takes it.
    ///
    /// # Errors
    /// A sentence with an example.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write http:// or https://, a host and a path without user and password, for example https://example.net/hooks/millrace".to_owned()
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let plain = !authority.as_str().contains('@') && !authority.host().is_empty();
        if !plain || text.len() > MAX_URL_BYTES {
            return Err(wrong());
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|v6| v6.strip_suffix(']'))
            .unwrap_or(host);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            https,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
        })
    }

    pub(super) const fn is_https(&self) -> bool {
        self.https
    }
}

/// Why there is nothing to verify https webhooks with.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("--webhook-ca {path}: {problem}")]
    File { path: String, problem: String },
    #[error(
        "an https webhook can't be verified: this system has no CA certificates; install them (ca-certificates), or give --webhook-ca FILE"
    )]
    None,
}

/// Why an event did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("not connected: {0}")]
    Connect(io::Error),
    #[error("not a host's name")]
    Name,
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the request can't be made: {0}")]
    Request(#[from] http::Error),
    #[error("answered {0}")]
    Status(StatusCode),
}

/// Sends events; shared by all hooks.
pub(super) struct Poster {
    timeout: Duration,
    tls: Option<TlsConnector>,
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster").finish_non_exhaustive()
    }
}

impl Poster {
    /// `ca` takes the place of the system's CAs.
    pub(super) fn new(timeout: Duration, tls: bool, ca: Option<&Path>) -> Result<Self, RootsError> {
        let tls = tls.then(|| connector(ca)).transpose()?;
        Ok(Self { timeout, tls })
    }

    /// # Errors
    /// [`PostError`] for anything but an answer of 2xx in time.
    pub(super) async fn post(
        &self,
        target: &Target,
        headers: [(&'static str, String); 3],
        body: Bytes,
    ) -> Result<(), PostError> {
        let posting = async {
            let address = (target.host.as_str(), target.port);
            let socket = TcpStream::connect(address).await;
            let socket = socket.map_err(PostError::Connect)?;
            match (&self.tls, target.https) {
                (Some(tls), true) => {
                    let name = ServerName::try_from(target.host.clone());
                    let name = name.map_err(|_| PostError::Name)?;
                    let secure = tls.connect(name, socket).await;
                    exchange(target, headers, body, secure.map_err(PostError::Connect)?).await
                }
                _ => exchange(target, headers, body, socket).await,
            }
        };
        match timeout(self.timeout, posting).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(PostError::Status(status)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(PostError::Late(self.timeout)),
        }
    }
}

async fn exchange<S>(
    target: &Target,
    headers: [(&'static str, String); 3],
    body: Bytes,
    stream: S,
) -> Result<StatusCode, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = Request::post(&target.path)
        .header(HOST, &target.authority)
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(body))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_ANSWER_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(sender.send_request(request));
    tokio::select! {
        answer = answer.as_mut() => Ok(answer?.status()),
        ended = connection.as_mut() => {
            ended?;
            // It has ended with the answer, which is here then.
            Ok(answer.await?.status())
        }
    }
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, RootsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let failed = |problem: String| RootsError::File {
                path: path.display().to_string(),
                problem,
            };
            let certificates = CertificateDer::pem_file_iter(path);
            for root in certificates.map_err(|error| failed(error.to_string()))? {
                let root = root.map_err(|error| failed(error.to_string()))?;
                let added = roots.add(root);
                added.map_err(|error| failed(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(failed("holds no certificate".to_owned()));
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err(RootsError::None);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        // The provider has the suites of both versions.
        .map_err(|_| RootsError::None)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_of_http() {
        let target = Target::parse("https://hooks.example.net/a/b?c=secret").unwrap();
        assert_eq!((target.port, &*target.path), (443, "/a/b?c=secret"));
        assert_eq!(
            format!("{target} {target:?}"),
            "https://hooks.example.net https://hooks.example.net"
        );
        let target = Target::parse("http://[::1]:8080").unwrap();
        assert_eq!(
            (&*target.host, target.port, &*target.path),
            ("::1", 8080, "/")
        );
        assert_eq!(target.authority, "[::1]:8080");
        let long = format!("http://a/{}", "b".repeat(MAX_URL_BYTES));
        for bad in [
            "",
            "example.net/hook",
            "ftp://example.net/",
            "http://",
            "http:///x",
            "https://user:word@example.net/",
            "http://a b/",
            &long,
        ] {
            assert!(
                Target::parse(bad).unwrap_err().contains("for example"),
                "{bad}"
            );
        }
    }
}
