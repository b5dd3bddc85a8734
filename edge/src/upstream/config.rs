//! The edge's flags for the tree above it.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use common::link::{NodeConfig, config::host_and_port};

/// Where the edge pulls from and how much of the past it keeps.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Parents")]
pub struct UpstreamConfig {
    /// Node to pull from, an origin or another edge; repeat it for more, the preferred one first
    #[arg(
        long = "parent",
        env = "MILLRACE_PARENT",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        required_unless_present = "parents_file",
        value_parser = host_and_port
    )]
    pub parents: Vec<String>,

    /// File of HOST:PORT lines, further parents; read again whenever it changes
    #[arg(long, env = "MILLRACE_PARENTS_FILE", value_name = "FILE")]
    pub parents_file: Option<PathBuf>,

    /// Parents that are kept connected at once, so that one can take over from another in a moment
    #[arg(
        long,
        env = "MILLRACE_WARM_PARENTS",
        value_name = "N",
        default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(1..=8)
    )]
    pub warm_parents: u8,

    /// Bytes that the windows of all channels may hold; near the limit further channels are answered 503, above it the one followed last is
    #[arg(
        long,
        env = "MILLRACE_WINDOW_BYTES",
        value_name = "BYTES",
        default_value_t = 4 << 30
    )]
    pub window_bytes: u64,

    /// Memory for the past, in bytes: segments older than three target durations, own and fetched
    #[arg(
        long,
        env = "MILLRACE_CACHE_BYTES",
        value_name = "BYTES",
        default_value_t = 256 * 1024 * 1024
    )]
    pub cache_bytes: u64,
}

/// Whether other edges may pull from this one.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Links between nodes")]
pub struct ChildrenConfig {
    /// UDP address that other edges connect to, which makes this one a parent
    #[arg(long, env = "MILLRACE_LINK_LISTEN", value_name = "ADDRESS:PORT")]
    pub link_listen: Option<SocketAddr>,

    #[command(flatten)]
    pub node: NodeConfig,
}
