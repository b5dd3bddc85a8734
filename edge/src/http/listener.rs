//! Listening sockets: bound first so that a taken port is one line naming its
//! flag, then accepted from until the drain.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use common::{
    service::Inherited,
    shutdown::Shutdown,
    telemetry::max_descriptors,
    tls::{TlsError, WebCertificate, web_server_config},
};
use parking_lot::Mutex;
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
    connection::{self, Connection, LAST_REQUEST, Protocol},
    elsewhere,
    metrics::{HttpMetrics, Rejected},
    service::Server,
    socket::Socket,
};
use crate::{chat::Chat, geo::Geo, upstream::Upstream, view::Viewing};

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
    chat: Option<Chat>,
    geo: Option<Arc<Geo>>,
    /// The plain one came from a service manager, which has it go on elsewhere.
    outlives: bool,
}

impl Listeners {
    /// Chat is to be had here as well, over WebSocket.
    #[must_use]
    pub fn with_chat(mut self, chat: Chat) -> Self {
        self.chat = Some(chat);
        self
    }

    /// Askers of `/ingests` are placed by their addresses.
    #[must_use]
    pub fn with_geo(mut self, geo: Option<Arc<Geo>>) -> Self {
        self.geo = geo;
        self
    }

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

/// Binds what the flags name and is not `inherited`.
///
/// # Errors
/// [`BindError`], which names the flag.
pub async fn bind(config: &HttpConfig, inherited: &mut Inherited) -> Result<Listeners, BindError> {
    let outlives = inherited.has("http");
    let plain = match config.http_listen {
        Listen::Off => None,
        Listen::At(address) => {
            let no_further = |address: SocketAddr| {
                let loopback = address.ip().to_canonical().is_loopback();
                (loopback || config.plain_http_anywhere)
                    .then_some(())
                    .ok_or(BindError::PlainAnywhere(address))
            };
            // Before it is bound, and what was bound elsewhere may be another.
            if !outlives {
                no_further(address)?;
            }
            let failed = |source| BindError::Http { address, source };
            let bound = inherited.listener("http", address).await.map_err(failed)?;
            no_further(bound.local_addr().map_err(failed)?)?;
            Some(bound)
        }
    };
    let mut listeners = Listeners {
        plain,
        tls: None,
        certificate: None,
        chat: None,
        geo: None,
        outlives,
    };
    match (config.https_listen, &config.tls_cert, &config.tls_key) {
        (Some(address), Some(cert), Some(key)) => {
            bind_tls(&mut listeners, inherited, address, cert, key).await?;
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
    inherited: &mut Inherited,
    address: SocketAddr,
    cert: &Path,
    key: &Path,
) -> Result<(), BindError> {
    let certificate = WebCertificate::load(cert, key)?;
    let acceptor = TlsAcceptor::from(web_server_config(certificate.clone())?);
    let bound = inherited.listener("https", address).await;
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
    viewing: Option<Arc<Viewing>>,
    metrics: HttpMetrics,
    shutdown: Shutdown,
) {
    let accept = Acceptor {
        admission: Admission::new(
            within_descriptors(config.max_connections),
            config.max_connections_per_address,
        ),
        reserve: Mutex::new(File::open("/dev/null").ok()),
        server: Server::new(
            config,
            upstream,
            viewing,
            listeners.chat,
            listeners.geo,
            metrics,
        ),
        outlives: listeners.outlives,
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
    /// A descriptor to give up, so that viewers can be told that there are none.
    reserve: Mutex<Option<File>>,
    /// See [`Listeners`].
    outlives: bool,
    shutdown: Shutdown,
}

/// Descriptors that are left to the links, the ops port and the files.
const OTHER_DESCRIPTORS: usize = 128;

/// What a connection may count on: one that is admitted must not fail for want
/// of a descriptor, nor take the last one from a link.
fn within_descriptors(wanted: usize) -> usize {
    let most = max_descriptors().map_or(usize::MAX, |all| {
        all.saturating_sub(OTHER_DESCRIPTORS).max(all / 2)
    });
    if wanted > most {
        warn!(
            wanted,
            most, "--max-connections is more than there are descriptors for; raise `ulimit -n`"
        );
    }
    wanted.min(most)
}

/// Viewers told in one go that there are no descriptors.
const SHED_AT_ONCE: usize = 64;

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
                () = draining.as_mut() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, tls.clone()),
                Err(error) => {
                    self.server.metrics.accept_errors.inc();
                    let shed = self.shed(&listener, tls.is_none());
                    warn!(%error, scheme, shed, "cannot accept a viewer");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Who comes to a socket that outlives this process is the next one's.
        // Without TLS: a handshake would last longer than what it is for.
        let alternatives = &self.server.config.alternatives;
        if tls.is_none() && !self.outlives && !alternatives.is_empty() {
            elsewhere::send_there(listener, alternatives).await;
        }
    }

    /// Without a descriptor nobody can be accepted, not even to be told so: the
    /// reserve makes way for one at a time.
    fn shed(&self, listener: &TcpListener, plain: bool) -> usize {
        let mut reserve = self.reserve.lock();
        let mut shed = 0;
        if reserve.take().is_some() {
            let mut now = Context::from_waker(Waker::noop());
            while shed < SHED_AT_ONCE
                && let Poll::Ready(Ok((stream, _))) = listener.poll_accept(&mut now)
            {
                self.server.metrics.rejected(Rejected::Descriptors);
                if plain {
                    refuse(&stream, BUSY);
                }
                shed += 1;
            }
        }
        *reserve = File::open("/dev/null").ok();
        shed
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>) {
        let place = match self.admission.enter(peer.ip()) {
            Ok(place) => place,
            Err(why) => {
                self.server.metrics.rejected(why);
                if tls.is_none() {
                    refuse(
                        &stream,
                        if why == Rejected::Address {
                            YOURS
                        } else {
                            BUSY
                        },
                    );
                }
                return;
            }
        };
        let (server, shutdown) = (self.server.clone(), self.shutdown.clone());
        tokio::spawn(serve_viewer(server, stream, peer, tls, place, shutdown));
    }
}

/// As much of an answer as fits without waiting for anybody.
fn refuse(stream: &TcpStream, status: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\nRetry-After: 2\r\nAccess-Control-Allow-Origin: *\r\n\
         Cache-Control: no-store\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.try_write(answer.as_bytes());
}

const BUSY: &str = "503 Service Unavailable";
const YOURS: &str = "429 Too Many Requests";

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
    let server = &server;
    let metrics = &server.metrics;
    metrics.connections_accepted.inc();
    metrics.connections.inc();
    let connection = Connection::new(peer.ip());
    let deadline = Duration::from_secs(server.config.header_deadline);
    let protocol = match tls {
        None => first_bytes(&stream, deadline, &shutdown, metrics).await,
        // TLS tells.
        Some(_) => Some(Protocol::Unknown),
    };
    let Some(protocol) = protocol else {
        metrics.connections.dec();
        return;
    };
    let socket = socket(&server.config, stream, &connection, metrics);
    match tls {
        None => connection::run(server.clone(), connection, protocol, socket, shutdown).await,
        // Apart, so that a connection in the clear is not the size of one with TLS.
        Some(tls) => match Box::pin(timeout(deadline, tls.accept(socket))).await {
            Ok(Ok(stream)) => {
                let protocol = Protocol::of_alpn(stream.get_ref().1.alpn_protocol());
                let served =
                    connection::run(server.clone(), connection, protocol, stream, shutdown);
                Box::pin(served).await;
            }
            Ok(Err(error)) => {
                metrics.rejected(Rejected::Handshake);
                debug!(%peer, %error, "no TLS with this viewer");
            }
            Err(_) => metrics.rejected(Rejected::Handshake),
        },
    }
    metrics.connections.dec();
}

/// What the client speaks, without taking a byte of it; `None` where it says
/// nothing in time, goes away, or says nothing to a node that drains.
async fn first_bytes(
    stream: &TcpStream,
    deadline: Duration,
    shutdown: &Shutdown,
    metrics: &HttpMetrics,
) -> Option<Protocol> {
    let mut bytes = [0; 4];
    let peeked = tokio::select! {
        peeked = timeout(deadline, stream.peek(&mut bytes)) => peeked,
        () = async {
            shutdown.draining().await;
            sleep(LAST_REQUEST).await;
        } => return None,
    };
    match peeked {
        Ok(Ok(count @ 1..)) => Some(Protocol::of_first_bytes(bytes.get(..count)?)),
        Ok(_) => None,
        Err(_) => {
            metrics.rejected(Rejected::HeaderDeadline);
            None
        }
    }
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
        metrics,
        Duration::from_secs(config.write_deadline),
        config.min_read_rate.saturating_mul(config.write_deadline),
    )
}
