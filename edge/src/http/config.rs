//! Flags of the viewers' side and the limits on what a stranger can hold.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::elsewhere;

/// Listeners and limits for viewers.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Viewers (HTTP)")]
pub struct HttpConfig {
    /// Address for plain HTTP/1.1 and HTTP/2; off with `none`
    #[arg(
        long,
        env = "MILLRACE_HTTP_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub http_listen: Listen,

    /// Address for HTTPS; needs --tls-cert and --tls-key
    #[arg(long, env = "MILLRACE_HTTPS_LISTEN", value_name = "ADDRESS")]
    pub https_listen: Option<SocketAddr>,

    /// PEM file with the certificate chain for viewers
    #[arg(long, env = "MILLRACE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of --tls-cert
    #[arg(long, env = "MILLRACE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Allow plain HTTP on addresses that other machines reach
    #[arg(long, env = "MILLRACE_PLAIN_HTTP_ANYWHERE")]
    pub plain_http_anywhere: bool,

    /// Connections of viewers at once, no more than the process has descriptors for; more are answered 503, over TLS closed
    #[arg(
        long,
        env = "MILLRACE_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = 16_384
    )]
    pub max_connections: usize,

    /// Connections of one IPv4 address or IPv6 /64; more are answered 429, over TLS closed. It counts for so many viewers at most, too
    #[arg(
        long,
        env = "MILLRACE_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        default_value_t = 2_048
    )]
    pub max_connections_per_address: usize,

    /// Seconds a viewer has to send a request's header
    #[arg(
        long,
        env = "MILLRACE_HEADER_DEADLINE",
        value_name = "SECONDS",
        default_value_t = 10
    )]
    pub header_deadline: u64,

    /// Seconds after which an idle connection is closed
    #[arg(
        long,
        env = "MILLRACE_IDLE_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 60
    )]
    pub idle_timeout: u64,

    /// Seconds after which a viewer that stops reading is dropped
    #[arg(
        long,
        env = "MILLRACE_WRITE_DEADLINE",
        value_name = "SECONDS",
        default_value_t = 20
    )]
    pub write_deadline: u64,

    /// Bytes a second below which a blocked viewer counts as one that stopped reading
    #[arg(
        long,
        env = "MILLRACE_MIN_READ_RATE",
        value_name = "BYTES",
        default_value_t = 4_096
    )]
    pub min_read_rate: u64,

    /// Bytes of a request's header at most
    #[arg(
        long,
        env = "MILLRACE_MAX_HEADER_BYTES",
        value_name = "BYTES",
        default_value_t = 16_384,
        value_parser = clap::value_parser!(u32).range(8_192..=1_048_576)
    )]
    pub max_header_bytes: u32,

    /// Bytes of a request's path and query at most; longer ones are answered 414
    #[arg(
        long,
        env = "MILLRACE_MAX_URI_BYTES",
        value_name = "BYTES",
        default_value_t = 2_048
    )]
    pub max_uri_bytes: usize,

    /// Requests that one connection may have waiting for media; more are answered 429
    #[arg(
        long,
        env = "MILLRACE_MAX_HELD_PER_CONNECTION",
        value_name = "N",
        default_value_t = 16
    )]
    pub max_held_per_connection: usize,

    /// Requests that all viewers together may have waiting for media; more are answered 503
    #[arg(
        long,
        env = "MILLRACE_MAX_HELD",
        value_name = "N",
        default_value_t = 65_536
    )]
    pub max_held: usize,

    /// HTTP/2 streams open at once on a connection
    #[arg(
        long,
        env = "MILLRACE_MAX_STREAMS",
        value_name = "N",
        default_value_t = 64
    )]
    pub max_streams: u32,

    /// HTTP/2 streams that a connection may have reset, by itself or by its mistakes, before it is sent away
    #[arg(
        long,
        env = "MILLRACE_MAX_RESETS",
        value_name = "N",
        default_value_t = 64
    )]
    pub max_resets: usize,

    /// Bytes of answers that one connection may leave unread; with more, what it asks next is answered 429
    #[arg(
        long,
        env = "MILLRACE_MAX_QUEUED_PER_CONNECTION",
        value_name = "BYTES",
        default_value_t = 64 << 20
    )]
    pub max_queued_per_connection: u64,

    /// The same for all connections together, each counted as if it shared nothing; with more, media is answered 503
    #[arg(
        long,
        env = "MILLRACE_MAX_QUEUED",
        value_name = "BYTES",
        default_value_t = 8 << 30
    )]
    pub max_queued: u64,

    /// Unsent bytes that the kernel may queue for a viewer (TCP_NOTSENT_LOWAT); 0 leaves it to the kernel
    #[arg(
        long,
        env = "MILLRACE_UNSENT_BYTES",
        value_name = "BYTES",
        default_value_t = 65_536
    )]
    pub unsent_bytes: u32,

    /// Seconds that a channel may take to start; requests wait 3 s more. No less than --max-gop of the origins
    #[arg(
        long,
        env = "MILLRACE_START_WAIT",
        value_name = "SECONDS",
        default_value_t = 12
    )]
    pub start_wait: u64,

    /// Take nobody before so many of the channels that are live, at most, can be played at once: for an edge whose sockets another process serves until then; 0 takes viewers at once
    #[arg(
        long,
        env = "MILLRACE_WARM_CHANNELS",
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=4_096)
    )]
    pub warm_channels: u32,

    /// Another edge that viewers may turn to when this one drains or does not answer, as a URL; its pages may chat here. May be given several times
    #[arg(
        long = "alternative",
        env = "MILLRACE_ALTERNATIVE",
        value_name = "URL",
        value_delimiter = ',',
        value_parser = elsewhere::base_url
    )]
    pub alternatives: Vec<String>,

    /// Endless streams (stream.mp4) at once; more are answered 503
    #[arg(
        long,
        env = "MILLRACE_MAX_ENDLESS",
        value_name = "N",
        default_value_t = 8_192
    )]
    pub max_endless: usize,

    /// Bytes that the viewer of an endless stream may be behind before media is left out
    #[arg(
        long,
        env = "MILLRACE_MAX_BEHIND_BYTES",
        value_name = "BYTES",
        default_value_t = 1_048_576
    )]
    pub max_behind_bytes: u64,

    /// Viewers counted at once; beyond it new ones are not counted
    #[arg(
        long,
        env = "MILLRACE_MAX_COUNTED_VIEWERS",
        value_name = "N",
        default_value_t = 262_144
    )]
    pub max_counted_viewers: usize,
}

/// Where plain HTTP listens, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    Off,
    At(SocketAddr),
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| {
            "expected an address and a port, for example 127.0.0.1:8080, or none".to_owned()
        })
    }
}

impl HttpConfig {
    /// How long a request waits for a channel that starts.
    #[must_use]
    pub const fn starting(&self) -> Duration {
        Duration::from_secs(self.start_wait.saturating_add(3))
    }
}
