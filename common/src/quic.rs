//! QUIC endpoints of the link: the only module that names quinn's configuration.
//!
//! In: [`LinkConfig`] and the node's [`NodeCredentials`]. Out: on a parent a
//! [`Listener`] of handshakes, on a child a [`Dialer`]; both end in a
//! [`Connection`] with the [`Identity`] of the peer, never in one without.
//! Invariant: before a peer has proven its certificate it costs one of
//! [`MAX_HANDSHAKES`] places for at most [`HANDSHAKE_DEADLINE`], and once
//! [`RETRY_ABOVE`] are taken an address must first prove that it is real
//! (RFC 9000, 8.1.2); quinn itself keeps below three times what an unproven
//! address sent (8.1).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use clap::{Args, ValueEnum};
use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::crypto::rustls::NoInitialCipherSuite;
use quinn::{Connecting, Endpoint, EndpointConfig, ServerConfig, TransportConfig};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tracing::debug;

use crate::tls::{Identity, IdentityError, NodeCredentials, Role, TlsError, identity};

mod budget;
mod child;
mod parent;
mod renew;

pub use budget::LinkBudget;
pub use child::{Dialer, client_endpoint};
pub use parent::{Handshake, Listener, server_endpoint};
pub use renew::Renewal;

pub use quinn::{
    ConnectError, Connection, ConnectionError, ReadError, ReadExactError, RecvStream, SendStream,
    VarInt, WriteError,
};

/// A silent link is known dead after [`IDLE`]; four keep-alives fit in it, so
/// that three lost ones don't end a good link.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// How long a link may be silent. Short, because viewers wait for failover.
const IDLE: Duration = Duration::from_secs(4);

/// A child sends a parent requests, never media: all its streams together.
const CONTROL_WINDOW_BYTES: u64 = 1024 * 1024;

/// One control stream of a child.
const CONTROL_STREAM_WINDOW_BYTES: u64 = 64 * 1024;

/// Segment streams that a parent may have open towards a fresh child: quinn sets
/// memory aside for each. [`allow_tracks`] raises it with the subscriptions.
const FIRST_SEGMENT_STREAMS: u32 = 16;

/// Streams opened by the peer beside media: HELLO, and what a later version adds.
const FEW_STREAMS: u32 = 4;

/// WATCH, SUBSCRIBE and FETCH streams that a fresh child may open; quinn sets
/// memory aside for each, so [`RequestLimit`] raises it with their number.
const FIRST_REQUEST_STREAMS: u32 = 256;

/// The same at most: one each for the manifests and four tracks of eight hundred
/// channels and fetches of their past.
pub const MAX_REQUEST_STREAMS: u32 = 4096;

/// Kernel buffer of the UDP socket: 30 ms of 500 Mbit/s, so that
/// a burst survives a scheduling hiccup. The kernel may grant less.
const SOCKET_BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// Handshakes under way at a time; a datacentre's edges reconnecting at once.
pub const MAX_HANDSHAKES: usize = 256;

/// From this many handshakes under way on, unproven addresses get a Retry: far
/// above a healthy cluster, far below what would be felt.
pub const RETRY_ABOVE: usize = 32;

/// Datagrams of handshakes that this process has not looked at yet.
const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;

/// The same for all handshakes together.
const INCOMING_BUFFERS_BYTES: u64 = 4 * 1024 * 1024;

/// A handshake takes two round trips, three with a Retry.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Close code of the link for a peer without the right certificate
/// (the table of errors in the link's specification).
const UNAUTHORISED: u32 = 3;

/// Congestion control of what this node sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Congestion {
    /// Paces to the measured rate: keeps a live stream alive under random loss.
    #[default]
    Bbr,
    /// Backs off at every loss: for paths shared with much other traffic.
    Cubic,
}

/// On or off, spelt out on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Enabled.
    On,
    /// Disabled.
    Off,
}

/// Flags of a node's links.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Links between nodes")]
pub struct LinkConfig {
    /// PEM file of the private CA that every node's certificate comes from
    #[arg(long, env = "MILLRACE_LINK_CA", value_name = "FILE")]
    pub link_ca: PathBuf,

    /// PEM file of this node's certificate
    #[arg(long, env = "MILLRACE_LINK_CERT", value_name = "FILE")]
    pub link_cert: PathBuf,

    /// PEM file of this node's key
    #[arg(long, env = "MILLRACE_LINK_KEY", value_name = "FILE")]
    pub link_key: PathBuf,

    /// Congestion control of what this node sends
    #[arg(
        long,
        env = "MILLRACE_LINK_CONGESTION",
        value_enum,
        default_value = "bbr",
        value_name = "NAME"
    )]
    pub link_congestion: Congestion,

    /// Hand the kernel several datagrams at once; off for network cards that do it wrong
    #[arg(
        long,
        env = "MILLRACE_LINK_GSO",
        value_enum,
        default_value = "on",
        value_name = "SWITCH"
    )]
    pub link_gso: Switch,

    /// What a link may hold.
    #[command(flatten)]
    pub link_budget: LinkBudget,
}

impl LinkConfig {
    /// Loads the node's certificate, key and CA.
    pub fn credentials(&self) -> Result<NodeCredentials, TlsError> {
        NodeCredentials::load(&self.link_ca, &self.link_cert, &self.link_key)
    }

    /// The same for a process that is an origin or an edge: its certificate must
    /// grant that role.
    pub fn credentials_as(&self, needed: Role) -> Result<NodeCredentials, TlsError> {
        let credentials = self.credentials()?;
        let names = credentials.identity().role;
        if names != needed {
            return Err(TlsError::Role {
                path: self.link_cert.clone(),
                names,
                needed,
            });
        }
        Ok(credentials)
    }
}

/// Flags of a node that others pull from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Links between nodes")]
pub struct LinkListenConfig {
    /// UDP address that edges connect to
    #[arg(
        long,
        env = "MILLRACE_LINK_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:4443"
    )]
    pub link_listen: SocketAddr,
}

/// Why an endpoint did not come up.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// The socket can't be had.
    #[error("UDP {address}: {source}")]
    Socket {
        /// What was to be bound.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The provider lacks the cipher that QUIC begins with.
    #[error("QUIC: {0}")]
    Cipher(#[from] NoInitialCipherSuite),
}

/// Why a handshake did not become a link.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// It was not over in time.
    #[error("{peer}: no handshake within {} s", HANDSHAKE_DEADLINE.as_secs())]
    Deadline {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// QUIC or TLS failed; a certificate of another CA shows up here.
    #[error("{peer}: {source}")]
    Connection {
        /// The peer's address.
        peer: SocketAddr,
        /// The library's reason.
        source: ConnectionError,
    },
    /// The address can't be dialled.
    #[error("{peer}: {source}")]
    Dial {
        /// The peer's address.
        peer: SocketAddr,
        /// The library's reason.
        source: ConnectError,
    },
    /// The certificate is the CA's but not a node's.
    #[error("{peer}: {source}")]
    Identity {
        /// The peer's address.
        peer: SocketAddr,
        /// What is missing.
        source: IdentityError,
    },
}

/// Which end of a link this is: media flows from parent to child.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Parent,
    Child,
}

fn var_int(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

fn transport(config: &LinkConfig, end: End) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IDLE.try_into().ok())
        // Oldest segment first: a fair share for each would finish all of them late.
        .send_fairness(false)
        .enable_segmentation_offload(config.link_gso == Switch::On)
        // The link sends none, so that nobody can queue any here.
        .datagram_receive_buffer_size(None);
    match config.link_congestion {
        Congestion::Bbr => {
            transport.congestion_controller_factory(Arc::new(BbrConfig::default()));
        }
        Congestion::Cubic => {
            transport.congestion_controller_factory(Arc::new(CubicConfig::default()));
        }
    }
    match end {
        End::Parent => transport
            .send_window(config.link_budget.link_window_bytes)
            .receive_window(var_int(CONTROL_WINDOW_BYTES))
            .stream_receive_window(var_int(CONTROL_STREAM_WINDOW_BYTES))
            .max_concurrent_uni_streams(FEW_STREAMS.into())
            .max_concurrent_bidi_streams(FIRST_REQUEST_STREAMS.into()),
        End::Child => transport
            .send_window(CONTROL_WINDOW_BYTES)
            .receive_window(var_int(config.link_budget.link_window_bytes))
            .stream_receive_window(var_int(config.link_budget.stream_window_bytes()))
            .max_concurrent_uni_streams(FIRST_SEGMENT_STREAMS.into())
            .max_concurrent_bidi_streams(FEW_STREAMS.into()),
    };
    transport
}

/// Lets a parent open streams for `tracks` subscriptions: two segments of each,
/// the closing and the opening one, and HELLO.
pub fn allow_tracks(connection: &Connection, tracks: usize) {
    let wanted = u32::try_from(tracks)
        .unwrap_or(u32::MAX)
        .saturating_mul(2)
        .saturating_add(FEW_STREAMS)
        .max(FIRST_SEGMENT_STREAMS);
    connection.set_max_concurrent_uni_streams(wanted.into());
}

/// How many requests a child may have open: always twice what it has, in steps.
#[derive(Debug)]
pub struct RequestLimit(u32);

impl Default for RequestLimit {
    fn default() -> Self {
        Self(FIRST_REQUEST_STREAMS)
    }
}

impl RequestLimit {
    /// Raises the limit, up to [`MAX_REQUEST_STREAMS`], once half of it is used.
    pub fn keep_ahead(&mut self, connection: &Connection, open: usize) {
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        while self.0 < MAX_REQUEST_STREAMS && open >= self.0 / 2 {
            self.0 *= 2;
            connection.set_max_concurrent_bi_streams(self.0.into());
        }
    }
}

/// A parent's port: one to be bound, or one that a service manager holds.
#[derive(Debug)]
pub enum Port {
    /// To be bound.
    At(SocketAddr),
    /// Bound, perhaps with datagrams that wait.
    Held(UdpSocket),
}

impl From<SocketAddr> for Port {
    fn from(address: SocketAddr) -> Self {
        Self::At(address)
    }
}

impl Port {
    fn open(self) -> Result<(UdpSocket, SocketAddr), EndpointError> {
        match self {
            Self::At(address) => Ok((bind(address)?, address)),
            Self::Held(socket) => {
                buffered(&socket2::SockRef::from(&socket));
                let address = socket.local_addr();
                let address = address.unwrap_or(SocketAddr::from(([0; 4], 0)));
                Ok((socket, address))
            }
        }
    }
}

fn bind(address: SocketAddr) -> Result<UdpSocket, EndpointError> {
    bound(address).map_err(|source| EndpointError::Socket { address, source })
}

fn bound(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    buffered(&socket);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The kernel caps what it grants at its own limit; a smaller buffer costs losses
/// under bursts, not the link.
fn buffered(socket: &Socket) {
    for set in [Socket::set_recv_buffer_size, Socket::set_send_buffer_size] {
        if let Err(error) = set(socket, SOCKET_BUFFER_BYTES) {
            debug!(%error, "UDP buffer size refused");
        }
    }
    debug!(
        receive_bytes = socket.recv_buffer_size().unwrap_or(0),
        send_bytes = socket.send_buffer_size().unwrap_or(0),
        "UDP buffers granted"
    );
}

fn endpoint(
    socket: UdpSocket,
    address: SocketAddr,
    config: EndpointConfig,
    server: Option<ServerConfig>,
) -> Result<Endpoint, EndpointError> {
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new(config, server, socket, runtime)
        .map_err(|source| EndpointError::Socket { address, source })
}

/// A parent that was killed and started again knows the connection ids of before
/// as its own and answers them with a reset that their owners believe (RFC 9000,
/// 10.3): children come back at their next packet in place of after [`IDLE`].
fn resetting(credentials: &NodeCredentials) -> EndpointConfig {
    let secret = credentials.lasting_secret();
    let reset_key = secret.for_purpose("quic stateless reset");
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset_key)));
    // Only tells our ids from noise; it guards nothing.
    let id_key = secret
        .for_purpose("quic connection ids")
        .iter()
        .fold(0u64, |key, byte| key.rotate_left(8) ^ u64::from(*byte));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    config
}

async fn finish(
    connecting: Connecting,
    peer: SocketAddr,
) -> Result<(Connection, Identity), HandshakeError> {
    let connection = tokio::time::timeout(HANDSHAKE_DEADLINE, connecting)
        .await
        .map_err(|_| HandshakeError::Deadline { peer })?
        .map_err(|source| HandshakeError::Connection { peer, source })?;
    match peer_identity(&connection) {
        Ok(identity) => Ok((connection, identity)),
        Err(source) => {
            connection.close(UNAUTHORISED.into(), source.to_string().as_bytes());
            Err(HandshakeError::Identity { peer, source })
        }
    }
}

fn peer_identity(connection: &Connection) -> Result<Identity, IdentityError> {
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(IdentityError::NoCertificate)?;
    identity(&chain)
}

#[cfg(test)]
mod tests;
