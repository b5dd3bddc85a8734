//! The listeners: sockets in, connection tasks out.
//!
//! Comes in: RTMP and RTMPS sockets; goes out: one task each, as far as the
//! limits let them in. On the drain the listeners stop and publishers are told;
//! [`RtmpServer::run`] returns when the last connection has ended.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::rtmp::enhanced::Capabilities;
use common::rtmp::limits::HANDSHAKE_DEADLINE;
use common::service::Inherited;
use common::shutdown::Shutdown;
use common::telemetry::metrics::Share;
use common::tls::{TlsError, WebCertificate, web_server_config};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug, error, info, info_span};

use super::admission::{Admission, Slot};
use super::connection::{self, Context};
use super::hand_over::{HandOver, Handed};
use super::{Publish, RtmpConfig, RtmpMetrics};
use crate::keys::KeyRing;

/// FourCCs that the packager reads in Enhanced RTMP's framing.
const VIDEO_FOURCCS: &[&str] = &["avc1"];
const AUDIO_FOURCCS: &[&str] = &["mp4a"];
/// After a failed accept, which is mostly a lack of descriptors: a loop without
/// a pause would take the processor that could free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum RtmpServerError {
    /// A port is taken or an address not ours.
    #[error("can't listen for {protocol} on {address}: {error}")]
    Listen {
        /// rtmp or rtmps.
        protocol: &'static str,
        /// The flag's value.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The certificate for rtmps.
    #[error("--rtmp-tls-cert and --rtmp-tls-key: {0}")]
    Tls(#[from] TlsError),
}

/// Bound listeners, ready to run.
#[derive(Debug)]
pub struct RtmpServer {
    rtmp: TcpListener,
    rtmps: Option<(TcpListener, Arc<rustls::ServerConfig>, Arc<WebCertificate>)>,
    admission: Arc<Admission>,
    context: Context,
    handed: Vec<Handed>,
}

impl RtmpServer {
    /// Binds the listeners that are not `inherited`. `publishes` is where authorised publishes go; its
    /// capacity bounds those that the owner has not looked at yet.
    ///
    /// # Errors
    /// A taken port, or an unusable certificate.
    pub async fn bind(
        config: &RtmpConfig,
        inherited: &mut Inherited,
        keys: Arc<KeyRing>,
        metrics: RtmpMetrics,
        publishes: mpsc::Sender<Publish>,
    ) -> Result<Self, RtmpServerError> {
        let rtmp = listen("rtmp", config.rtmp_listen, inherited).await?;
        let rtmps = match (
            &config.rtmps_listen,
            &config.rtmp_tls_cert,
            &config.rtmp_tls_key,
        ) {
            (Some(address), Some(cert), Some(key)) => {
                let certificate = WebCertificate::load(cert, key)?;
                let mut tls = (*web_server_config(certificate.clone())?).clone();
                // RTMP has no ALPN name.
                tls.alpn_protocols.clear();
                let listener = listen("rtmps", *address, inherited).await?;
                Some((listener, Arc::new(tls), certificate))
            }
            _ => None,
        };
        let admission = Admission::new(config);
        let context = Context {
            keys,
            metrics,
            publishes,
            admission: admission.clone(),
            offered: Capabilities::forwarding(VIDEO_FOURCCS, AUDIO_FOURCCS),
            hand_over: None,
        };
        Ok(Self {
            rtmp,
            rtmps,
            admission,
            context,
            handed: Vec::new(),
        })
    }

    /// Goes on with the publishers of the process before this one, and leaves its
    /// own to the next.
    #[must_use]
    pub fn handing_over(mut self, handed: Vec<Handed>, to: Option<Arc<HandOver>>) -> Self {
        self.handed = handed;
        self.context.hand_over = to;
        self
    }

    /// Where rtmp:// listens.
    ///
    /// # Errors
    /// The system can't tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.rtmp.local_addr()
    }

    /// Where rtmps:// listens, if it does.
    ///
    /// # Errors
    /// The system can't tell.
    pub fn rtmps_local_addr(&self) -> io::Result<Option<SocketAddr>> {
        let listener = self.rtmps.as_ref().map(|(listener, ..)| listener);
        listener.map(TcpListener::local_addr).transpose()
    }

    /// The certificate of rtmps://, to be read again on SIGHUP.
    pub fn certificate(&self) -> Option<Arc<WebCertificate>> {
        self.rtmps
            .as_ref()
            .map(|(.., certificate)| certificate.clone())
    }

    /// Serves until the drain, then until the last connection has ended. Once
    /// publishers are handed over nobody is taken: they wait for the next process.
    pub async fn run(self, shutdown: Shutdown) {
        let _guard = shutdown.guard();
        let context = Arc::new(self.context);
        if let Ok(address) = self.rtmp.local_addr() {
            info!(%address, "listening for rtmp");
        }
        let (rtmps, acceptor) = match self.rtmps {
            Some((listener, tls, _)) => (Some(listener), Some(TlsAcceptor::from(tls))),
            None => (None, None),
        };
        if let Some(Ok(address)) = rtmps.as_ref().map(TcpListener::local_addr) {
            info!(%address, "listening for rtmps");
        }
        // Bounded by the connection limit.
        let mut connections = JoinSet::new();
        for Handed { stream, place } in self.handed {
            let Ok(peer) = stream.peer_addr() else {
                continue;
            };
            let now = tokio::time::Instant::now().into_std();
            let Ok(slot) = self.admission.admit(peer.ip(), now) else {
                continue;
            };
            let (context, shutdown) = (context.clone(), shutdown.clone());
            let going_on = async move {
                let _open = Share::one(&context.metrics.connections);
                connection::go_on(stream, peer, place, context, shutdown).await;
                drop(slot);
            };
            connections.spawn(going_on.instrument(info_span!("rtmp", %peer)));
        }
        loop {
            let (accepted, tls) = tokio::select! {
                () = shutdown.draining() => break,
                () = hands_over(&context) => break,
                accepted = self.rtmp.accept() => (accepted, None),
                accepted = accept(rtmps.as_ref()) => (accepted, acceptor.clone()),
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        error!(%error, "an RTMP connection's task failed");
                    }
                    continue;
                }
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    error!(%error, "can't accept an RTMP connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let now = tokio::time::Instant::now().into_std();
            match self.admission.admit(peer.ip(), now) {
                Ok(slot) => {
                    let context = context.clone();
                    let serving = serve(socket, peer, tls, context, shutdown.clone(), slot);
                    connections.spawn(serving.instrument(info_span!("rtmp", %peer)));
                }
                Err(refusal) => {
                    let reason = refusal.label();
                    context.metrics.rejected.with_label_values(&[reason]).inc();
                    debug!(%peer, reason, "RTMP connection refused");
                }
            }
        }
        while connections.join_next().await.is_some() {}
    }
}

async fn hands_over(context: &Context) {
    match &context.hand_over {
        Some(hand_over) => hand_over.begins().await,
        None => std::future::pending().await,
    }
}

async fn listen(
    protocol: &'static str,
    address: SocketAddr,
    inherited: &mut Inherited,
) -> Result<TcpListener, RtmpServerError> {
    let listener = inherited.listener(protocol, address).await;
    listener.map_err(|error| RtmpServerError::Listen {
        protocol,
        address,
        error,
    })
}

/// Never, without a listener.
async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    context: Arc<Context>,
    shutdown: Shutdown,
    slot: Slot,
) {
    // Its place is free before the gauge says so: `slot` goes first.
    let _open = Share::one(&context.metrics.connections);
    // Answers are small and the publisher waits for each.
    let _ = socket.set_nodelay(true);
    match tls {
        None => connection::run(socket, peer, context, shutdown).await,
        Some(acceptor) => match timeout(HANDSHAKE_DEADLINE, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => connection::run(stream, peer, context, shutdown).await,
            Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
            Err(_) => debug!("TLS handshake not finished in time"),
        },
    }
    drop(slot);
}
