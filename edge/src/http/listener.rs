//! Listening sockets: bound first so that a taken port is one line naming its
//! flag, then accepted from until the drain.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use common::{
    shutdown::Shutdown,
    tls::{TlsError, WebCertificate, web_server_config},
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::{
    admission::{Admission, Place},
    config::{HttpConfig, Listen},
    connection::{self, Connection},
    metrics::{HttpMetrics, Rejected},
    service::Server,
    socket::Socket,
};
use crate::upstream::Upstream;

/// Why the viewers' side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("--http-listen {address}: {source}")]
    Http {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("--https-listen {address}: {source}")]
    Https {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(
        "--http-listen {0} is reachable from other machines without TLS: use --https-listen, or allow it with --plain-http-anywhere"
    )]
    PlainAnywhere(SocketAddr),
    #[error("--https-listen needs --tls-cert FILE and --tls-key FILE")]
    NoCertificate,
    #[error("--tls-cert and --tls-key are of use only with --https-listen ADDRESS")]
    NoHttps,
    #[error("nothing to listen on: give --http-listen or --https-listen an address")]
    Nothing,
    #[error("--tls-cert, --tls-key: {0}")]
    Tls(#[from] TlsError),
}

/// Bound sockets, not yet accepted from.
pub struct Listeners {
    plain: Option<TcpListener>,
    tls: Option<(TcpListener, TlsAcceptor)>,
    certificate: Option<Arc<WebCertificate>>,
}

impl Listeners {
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.plain.as_ref().and_then(|on| on.local_addr().ok())
    }

    #[must_use]
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.tls.as_ref().and_then(|(on, _)| on.local_addr().ok())
    }

    /// The certificate in use, for who reloads it.
    #[must_use]
    pub fn certificate(&self) -> Option<Arc<WebCertificate>> {
        self.certificate.clone()
    }
}

/// Binds what the flags name.
///
/// # Errors
/// [`BindError`], which names the flag.
pub async fn bind(config: &HttpConfig) -> Result<Listeners, BindError> {
    let plain = match config.http_listen {
        Listen::Off => None,
        Listen::At(address) => {
            if !address.ip().to_canonical().is_loopback() && !config.plain_http_anywhere {
                return Err(BindError::PlainAnywhere(address));
            }
            let bound = TcpListener::bind(address).await;
            Some(bound.map_err(|source| BindError::Http { address, source })?)
        }
    };
    let mut listeners = Listeners {
        plain,
        tls: None,
        certificate: None,
    };
    match (config.https_listen, &config.tls_cert, &config.tls_key) {
        (Some(address), Some(cert), Some(key)) => {
            bind_tls(&mut listeners, address, cert, key).await?;
        }
        (Some(_), _, _) => return Err(BindError::NoCertificate),
        (None, None, None) => {}
        (None, _, _) => return Err(BindError::NoHttps),
    }
    if listeners.plain.is_none() && listeners.tls.is_none() {
        return Err(BindError::Nothing);
    }
    Ok(listeners)
}

async fn bind_tls(
    listeners: &mut Listeners,
    address: SocketAddr,
    cert: &Path,
    key: &Path,
) -> Result<(), BindError> {
    let certificate = WebCertificate::load(cert, key)?;
    let acceptor = TlsAcceptor::from(web_server_config(certificate.clone())?);
    let bound = TcpListener::bind(address).await;
    let bound = bound.map_err(|source| BindError::Https { address, source })?;
    listeners.certificate = Some(certificate);
    listeners.tls = Some((bound, acceptor));
    Ok(())
}

/// Accepts viewers until the drain begins. Connections hold a guard of
/// `shutdown` each and end on their own: wait for them with
/// [`Shutdown::drained`].
pub async fn serve(
    config: HttpConfig,
    listeners: Listeners,
    upstream: Arc<Upstream>,
    metrics: HttpMetrics,
    shutdown: Shutdown,
) {
    let accept = Acceptor {
        admission: Admission::new(config.max_connections, config.max_connections_per_address),
        server: Server::new(config, upstream, metrics),
        shutdown,
    };
    let plain = async {
        if let Some(listener) = listeners.plain {
            accept.run(listener, None).await;
        }
    };
    let tls = async {
        if let Some((listener, acceptor)) = listeners.tls {
            accept.run(listener, Some(acceptor)).await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(plain, tls) } => {}
        () = accept.server.count_regularly() => {}
    }
}

struct Acceptor {
    server: Arc<Server>,
    admission: Arc<Admission>,
    shutdown: Shutdown,
}

/// Long enough for descriptors to come back, short enough to go unnoticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Acceptor {
    async fn run(&self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        let scheme = if tls.is_some() { "https" } else { "http" };
        if let Ok(address) = listener.local_addr() {
            info!(%address, scheme, "serving viewers");
        }
        let mut draining = std::pin::pin!(self.shutdown.draining());
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = draining.as_mut() => return,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, tls.clone()),
                Err(error) => {
                    self.server.metrics.accept_errors.inc();
                    warn!(%error, scheme, "cannot accept a viewer");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>) {
        let place = match self.admission.enter(peer.ip()) {
            Ok(place) => place,
            Err(why) => {
                self.server.metrics.rejected(why);
                if tls.is_none() {
                    // As much of an answer as fits without waiting for anybody.
                    let _ = stream.try_write(SHED);
                }
                return;
            }
        };
        let (server, shutdown) = (self.server.clone(), self.shutdown.clone());
        tokio::spawn(serve_viewer(server, stream, peer, tls, place, shutdown));
    }
}

const SHED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\
    Access-Control-Allow-Origin: *\r\nCache-Control: no-store\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

async fn serve_viewer(
    server: Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    place: Place,
    shutdown: Shutdown,
) {
    let _guard = shutdown.guard();
    let _place = place;
    let metrics = server.metrics.clone();
    metrics.connections_accepted.inc();
    metrics.connections.inc();
    let connection = Connection::new(peer.ip());
    let socket = socket(&server.config, stream, &connection, &metrics);
    match tls {
        None => connection::run(server, connection, socket, shutdown).await,
        Some(tls) => {
            let deadline = Duration::from_secs(server.config.header_deadline);
            match timeout(deadline, tls.accept(socket)).await {
                Ok(Ok(stream)) => connection::run(server, connection, stream, shutdown).await,
                Ok(Err(error)) => {
                    metrics.rejected(Rejected::Handshake);
                    debug!(%peer, %error, "no TLS with this viewer");
                }
                Err(_) => metrics.rejected(Rejected::Handshake),
            }
        }
    }
    metrics.connections.dec();
}

fn socket(
    config: &HttpConfig,
    stream: TcpStream,
    connection: &Arc<Connection>,
    metrics: &HttpMetrics,
) -> Socket {
    // Neither matters for correctness: a kernel without them still serves.
    let _ = stream.set_nodelay(true);
    if config.unsent_bytes > 0 {
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(config.unsent_bytes);
    }
    Socket::new(
        stream,
        connection.clone(),
        metrics.clone(),
        Duration::from_secs(config.write_deadline),
        config.min_read_rate.saturating_mul(config.write_deadline),
    )
}
