//! IRC's own ports, over TCP and TLS: bound first, so that a taken port is one line
//! that names its flag, then accepted from until the drain.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    service::Inherited,
    tls::{TlsError, WebCertificate, web_server_config},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::{Broken, Chat, ChatConfig, form::Framing};

/// Why IRC's ports can't be had.
#[derive(Debug, thiserror::Error)]
pub enum IrcBindError {
    #[error("--irc-listen {address}: {source}")]
    Plain {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("--ircs-listen {address}: {source}")]
    Tls {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(
        "--irc-listen {0} is reachable from other machines without TLS: use --ircs-listen, or allow it with --plain-irc-anywhere"
    )]
    PlainAnywhere(SocketAddr),
    #[error("--ircs-listen needs the certificate of --tls-cert and --tls-key, and --https-listen")]
    NoCertificate,
    #[error("--ircs-listen: {0}")]
    Certificate(#[from] TlsError),
}

/// Bound sockets, not yet accepted from.
#[derive(Debug)]
pub struct IrcListeners {
    plain: Option<TcpListener>,
    tls: Option<TcpListener>,
    acceptor: Option<Acceptor>,
}

impl IrcListeners {
    #[must_use]
    pub fn irc_address(&self) -> Option<SocketAddr> {
        self.plain.as_ref().and_then(|on| on.local_addr().ok())
    }

    #[must_use]
    pub fn ircs_address(&self) -> Option<SocketAddr> {
        self.tls.as_ref().and_then(|on| on.local_addr().ok())
    }
}

#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// Binds what the flags name and is not `inherited`; `certificate` is the viewers'.
///
/// # Errors
/// [`IrcBindError`], which names the flag.
pub async fn bind(
    config: &ChatConfig,
    inherited: &mut Inherited,
    certificate: Option<Arc<WebCertificate>>,
) -> Result<IrcListeners, IrcBindError> {
    let mut listeners = IrcListeners {
        plain: None,
        tls: None,
        acceptor: None,
    };
    if let Some(address) = config.irc_listen {
        let no_further = |address: SocketAddr| {
            let loopback = address.ip().to_canonical().is_loopback();
            (loopback || config.plain_irc_anywhere)
                .then_some(())
                .ok_or(IrcBindError::PlainAnywhere(address))
        };
        if !inherited.has("irc") {
            no_further(address)?;
        }
        let failed = |source| IrcBindError::Plain { address, source };
        let bound = inherited.listener("irc", address).await.map_err(failed)?;
        no_further(bound.local_addr().map_err(failed)?)?;
        listeners.plain = Some(bound);
    }
    if let Some(address) = config.ircs_listen {
        let certificate = certificate.ok_or(IrcBindError::NoCertificate)?;
        let mut server = (*web_server_config(certificate)?).clone();
        // No HTTP here.
        server.alpn_protocols.clear();
        listeners.acceptor = Some(Acceptor(TlsAcceptor::from(Arc::new(server))));
        let bound = inherited.listener("ircs", address).await;
        listeners.tls = Some(bound.map_err(|source| IrcBindError::Tls { address, source })?);
    }
    Ok(listeners)
}

/// Long enough for descriptors to come back, short enough to go unnoticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const SHED: &[u8] = b"ERROR :Closing link: too many connections\r\n";

/// Accepts IRC clients until the drain begins; their connections end on their own.
pub async fn serve(listeners: IrcListeners, chat: Chat) {
    let plain = async {
        if let Some(listener) = listeners.plain {
            accept(&chat, listener, None).await;
        }
    };
    let tls = async {
        if let Some(listener) = listeners.tls {
            accept(&chat, listener, listeners.acceptor).await;
        }
    };
    tokio::join!(plain, tls);
}

async fn accept(chat: &Chat, listener: TcpListener, tls: Option<Acceptor>) {
    let scheme = if tls.is_some() { "ircs" } else { "irc" };
    if let Ok(address) = listener.local_addr() {
        info!(%address, scheme, "serving chat");
    }
    let mut draining = std::pin::pin!(chat.0.shutdown.draining());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.as_mut() => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(chat, stream, peer, tls.clone()),
            Err(error) => {
                warn!(%error, scheme, "cannot accept a chat client");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(chat: &Chat, stream: TcpStream, peer: SocketAddr, tls: Option<Acceptor>) {
    let Ok(admitted) = chat.admit(peer.ip()) else {
        if tls.is_none() {
            // As much of an answer as fits without waiting for anybody.
            let _ = stream.try_write(SHED);
        }
        return;
    };
    // A kernel without it still serves.
    let _ = stream.set_nodelay(true);
    let chat = chat.clone();
    match tls {
        None => {
            tokio::spawn(chat.serve(stream, admitted, Framing::Tcp, Bytes::new()));
        }
        Some(Acceptor(tls)) => {
            let deadline = Duration::from_secs(chat.0.config.chat_sign_in_deadline);
            tokio::spawn(async move {
                match timeout(deadline, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        tokio::spawn(chat.serve(stream, admitted, Framing::Tcp, Bytes::new()));
                    }
                    outcome => {
                        chat.0.metrics.closed(Broken::Handshake);
                        debug!(%peer, late = outcome.is_err(), "no TLS with this chat client");
                    }
                }
            });
        }
    }
}
