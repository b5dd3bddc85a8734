//! A link as an operator sees it: who is at the other end, how far away, since when,
//! and what has crossed it.

use std::{net::SocketAddr, time::Duration};

use tokio::time::Instant;

use super::message::Hello;
use crate::{
    names::NodeId,
    quic::Connection,
    tls::{Identity, Role},
};

/// See the module's text. Bytes are UDP payloads, lost ones sent again included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSeen {
    pub node: NodeId,
    pub role: Role,
    pub address: SocketAddr,
    /// As its HELLO has them; empty before it came, or where it says none.
    pub region: String,
    pub location: String,
    pub rtt: Duration,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub lost_packets: u64,
    pub age: Duration,
}

impl LinkSeen {
    /// The link as of now.
    #[must_use]
    pub fn of(connection: &Connection, peer: &Identity, since: Instant) -> Self {
        let stats = connection.stats();
        Self {
            node: peer.node.clone(),
            role: peer.role,
            address: connection.remote_address(),
            region: String::new(),
            location: String::new(),
            rtt: connection.rtt(),
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
            age: since.elapsed(),
        }
    }

    /// With what the peer said of itself.
    #[must_use]
    pub fn introduced(mut self, hello: Option<&Hello>) -> Self {
        if let Some(hello) = hello {
            self.region.clone_from(&hello.region);
            self.location.clone_from(&hello.location);
        }
        self
    }
}
