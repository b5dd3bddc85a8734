//! The parent's port: who may shake hands, how many at once, and when an address
//! has to prove itself first.

use std::{io, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use prometheus::{IntCounterVec, Registry};
use quinn::{Connecting, Endpoint, ServerConfig, crypto::rustls::QuicServerConfig};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use super::{
    Connection, End, EndpointError, HandshakeError, INCOMING_BUFFER_BYTES, INCOMING_BUFFERS_BYTES,
    LinkConfig, MAX_HANDSHAKES, Port, RETRY_ABOVE, VarInt, endpoint, finish, resetting, transport,
};
use crate::{
    telemetry::metrics,
    tls::{Identity, NodeCredentials, node_server_config},
};

/// Opens the port that children connect to. Needs a tokio runtime.
pub fn server_endpoint(
    listen: impl Into<Port>,
    config: &LinkConfig,
    credentials: &NodeCredentials,
    registry: &Registry,
) -> Result<Listener, EndpointError> {
    let server = server_config(config, credentials)?;
    let (socket, address) = listen.into().open()?;
    Ok(Listener {
        endpoint: endpoint(socket, address, resetting(credentials), Some(server))?,
        accepts: Arc::new(Mutex::new(true)),
        places: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
        max_links: config.link_budget.max_links,
        retry_above: RETRY_ABOVE,
        handshakes: metrics::int_counter_vec(
            registry,
            "millrace_link_handshakes_total",
            "Handshakes of children, by how they went: begun, retried (asked to prove the address) or refused (too many).",
            &["outcome"],
        ),
    })
}

pub(super) fn server_config(
    config: &LinkConfig,
    credentials: &NodeCredentials,
) -> Result<ServerConfig, EndpointError> {
    let crypto = QuicServerConfig::try_from(node_server_config(credentials)?)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(transport(config, End::Parent)))
        .max_incoming(MAX_HANDSHAKES)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFERS_BYTES);
    Ok(server)
}

/// A parent's port.
#[derive(Debug)]
pub struct Listener {
    pub(super) endpoint: Endpoint,
    /// Until the drain; the lock orders that against a renewal.
    pub(super) accepts: Arc<Mutex<bool>>,
    pub(super) places: Arc<Semaphore>,
    pub(super) max_links: usize,
    pub(super) retry_above: usize,
    pub(super) handshakes: IntCounterVec,
}

impl Listener {
    /// Where it listens; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next handshake, to be finished in a task of its own; `None` once the
    /// listener is closed. Cancel-safe.
    pub async fn accept(&self) -> Option<Handshake> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let peer = incoming.remote_address();
            let under_way = MAX_HANDSHAKES.saturating_sub(self.places.available_permits());
            if under_way >= self.retry_above && incoming.may_retry() {
                self.count("retried");
                // Fails only after a Retry, which may_retry() has ruled out.
                let _ = incoming.retry();
                continue;
            }
            let place = self.places.clone().try_acquire_owned();
            let full = self.endpoint.open_connections() >= self.max_links;
            let (Ok(place), false) = (place, full) else {
                self.count("refused");
                incoming.refuse();
                continue;
            };
            match incoming.accept() {
                Ok(connecting) => {
                    self.count("begun");
                    return Some(Handshake {
                        connecting,
                        peer,
                        _place: place,
                    });
                }
                Err(error) => debug!(%peer, %error, "first packet refused"),
            }
        }
    }

    fn count(&self, outcome: &str) {
        self.handshakes.with_label_values(&[outcome]).inc();
    }

    /// Closes all connections and the port.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        self.endpoint.close(code, reason);
    }

    /// Takes no new connections; those that are there go on. For a drain.
    pub fn stop_accepting(&self) {
        *self.accepts.lock() = false;
        self.endpoint.set_server_config(None);
    }

    /// Resolves when the peers know that their connections are closed.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// A handshake under way on a parent.
#[derive(Debug)]
pub struct Handshake {
    connecting: Connecting,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
}

impl Handshake {
    /// The address at the other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Resolves to the link and who is at the other end of it.
    pub async fn finish(self) -> Result<(Connection, Identity), HandshakeError> {
        finish(self.connecting, self.peer).await
    }
}
