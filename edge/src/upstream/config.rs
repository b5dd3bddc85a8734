//! The edge's flags for the tree above it.

use std::path::PathBuf;

use clap::Args;

/// Where the edge pulls from and how much of the past it keeps.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Parents")]
pub struct UpstreamConfig {
    /// Node to pull from, an origin or another edge; repeat it for more: the first that answers is used
    #[arg(
        long = "parent",
        env = "MILLRACE_PARENT",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        required_unless_present = "parents_file",
        value_parser = parent
    )]
    pub parents: Vec<String>,

    /// File of HOST:PORT lines, further parents; read again whenever it changes
    #[arg(long, env = "MILLRACE_PARENTS_FILE", value_name = "FILE")]
    pub parents_file: Option<PathBuf>,

    /// Bytes that the windows of all channels may hold; at the limit further tracks are answered 503
    #[arg(
        long,
        env = "MILLRACE_WINDOW_BYTES",
        value_name = "BYTES",
        default_value_t = 4 << 30
    )]
    pub window_bytes: u64,

    /// Memory for segments that are no longer in a window, in bytes
    #[arg(
        long,
        env = "MILLRACE_CACHE_BYTES",
        value_name = "BYTES",
        default_value_t = 256 * 1024 * 1024
    )]
    pub cache_bytes: u64,
}

pub(super) fn parent(text: &str) -> Result<String, String> {
    let example = "write HOST:PORT, for example 127.0.0.1:4443";
    let (host, port) = text.rsplit_once(':').ok_or(example)?;
    let valid = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
    if valid {
        Ok(text.to_owned())
    } else {
        Err(example.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_a_host_and_a_port() {
        for good in ["127.0.0.1:4443", "origin.example:1", "[::1]:4443"] {
            assert_eq!(parent(good).as_deref(), Ok(good));
        }
        for bad in ["", "origin", ":4443", "origin:", "origin:0", "origin:65536"] {
            assert!(parent(bad).unwrap_err().contains("for example"), "{bad}");
        }
    }
}
