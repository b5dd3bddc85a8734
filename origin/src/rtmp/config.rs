//! Flags of the RTMP listeners.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where publishers connect, and how many may.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "RTMP")]
pub struct RtmpConfig {
    /// Address that publishers connect to with rtmp://
    #[arg(
        long,
        env = "MILLRACE_RTMP_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:1935"
    )]
    pub rtmp_listen: SocketAddr,

    /// Address that publishers connect to with rtmps://; needs a certificate and key
    #[arg(
        long,
        env = "MILLRACE_RTMPS_LISTEN",
        value_name = "ADDR:PORT",
        requires_all = ["rtmp_tls_cert", "rtmp_tls_key"]
    )]
    pub rtmps_listen: Option<SocketAddr>,

    /// Certificate chain for rtmps://, PEM
    #[arg(long, env = "MILLRACE_RTMP_TLS_CERT", value_name = "FILE")]
    pub rtmp_tls_cert: Option<PathBuf>,

    /// Private key for rtmps://, PEM
    #[arg(long, env = "MILLRACE_RTMP_TLS_KEY", value_name = "FILE")]
    pub rtmp_tls_key: Option<PathBuf>,

    /// Connections held at once, publishing or not
    #[arg(
        long,
        env = "MILLRACE_RTMP_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = 1000,
        value_parser = positive()
    )]
    pub rtmp_max_connections: u32,

    /// Connections held at once from one address (an IPv6 address counts as its /64)
    #[arg(
        long,
        env = "MILLRACE_RTMP_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        default_value_t = 64,
        value_parser = positive()
    )]
    pub rtmp_max_connections_per_address: u32,

    /// Wrong keys per minute from one address before it is refused for the rest of that minute
    #[arg(
        long,
        env = "MILLRACE_RTMP_MAX_WRONG_KEYS",
        value_name = "N",
        default_value_t = 10,
        value_parser = positive()
    )]
    pub rtmp_max_wrong_keys: u32,
}

fn positive() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=100_000)
}
