//! The child's socket, from which all its parents are dialled.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use quinn::{ClientConfig, Endpoint, EndpointConfig, crypto::rustls::QuicClientConfig};

use super::{
    Connection, End, EndpointError, HandshakeError, LinkConfig, VarInt, bind, endpoint, finish,
    transport,
};
use crate::tls::{Identity, NODE_NAME, NodeCredentials, node_client_config};

/// Opens a socket to dial parents from. Needs a tokio runtime.
pub fn client_endpoint(
    config: &LinkConfig,
    credentials: &NodeCredentials,
) -> Result<Dialer, EndpointError> {
    let client = client_config(config, credentials)?;
    // One socket for parents of both families; a machine may have IPv6 off.
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let (socket, address) = match bind(both) {
        Ok(socket) => (socket, both),
        Err(_) => {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            (bind(v4)?, v4)
        }
    };
    Ok(Dialer {
        endpoint: endpoint(socket, address, EndpointConfig::default(), None)?,
        client: Arc::new(ArcSwap::from_pointee(client)),
    })
}

pub(super) fn client_config(
    config: &LinkConfig,
    credentials: &NodeCredentials,
) -> Result<ClientConfig, EndpointError> {
    let crypto = QuicClientConfig::try_from(node_client_config(credentials)?)?;
    let mut client = ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport(config, End::Child)));
    Ok(client)
}

/// A child's socket. Clones share it.
#[derive(Clone, Debug)]
pub struct Dialer {
    pub(super) endpoint: Endpoint,
    pub(super) client: Arc<ArcSwap<ClientConfig>>,
}

impl Dialer {
    /// Connects to a parent and tells who it is. A parent that refuses this
    /// node's certificate closes the connection right after (TLS 1.3: the
    /// client is done first).
    pub async fn connect(
        &self,
        parent: SocketAddr,
    ) -> Result<(Connection, Identity), HandshakeError> {
        let connecting = self
            .endpoint
            .connect_with(ClientConfig::clone(&self.client.load()), parent, NODE_NAME)
            .map_err(|source| HandshakeError::Dial {
                peer: parent,
                source,
            })?;
        finish(connecting, parent).await
    }

    /// Closes all connections.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        self.endpoint.close(code, reason);
    }

    /// Resolves when the peers know that their connections are closed.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}
