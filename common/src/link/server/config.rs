//! What a node that others pull from says of itself.

use clap::Args;

use crate::{
    link::{decode::MAX_ALTERNATIVES, frame::MAX_CHUNK_BYTES, message::Hello},
    names::NodeId,
    tls::Role,
};

/// One hop costs one: with nothing else known the shorter path is the better.
const ONE_HOP: u32 = 1;

/// Texts of HELLO that fit on any line of a log.
const MAX_TEXT_BYTES: usize = 64;

/// Flags of a node towards its children.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Links between nodes")]
pub struct NodeConfig {
    /// What pulling from this node costs, added up along a path: children take the cheapest
    #[arg(
        long,
        env = "MILLRACE_LINK_COST",
        value_name = "N",
        default_value_t = ONE_HOP,
        value_parser = clap::value_parser!(u32).range(0..=1_000_000)
    )]
    pub link_cost: u32,

    /// Region that this node names to its children, for their logs
    #[arg(
        long,
        env = "MILLRACE_LINK_REGION",
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        value_parser = text
    )]
    pub link_region: String,

    /// Location within the region, likewise
    #[arg(
        long,
        env = "MILLRACE_LINK_LOCATION",
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        value_parser = text
    )]
    pub link_location: String,

    /// Node that children turn to when this one drains; may be given several times
    #[arg(
        long = "link-alternative",
        env = "MILLRACE_LINK_ALTERNATIVE",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        value_parser = host_and_port
    )]
    pub link_alternatives: Vec<String>,
}

impl NodeConfig {
    /// HELLO as this node says it.
    #[must_use]
    pub fn hello(&self, node: NodeId, role: Role) -> Hello {
        Hello {
            node,
            role,
            region: self.link_region.clone(),
            location: self.link_location.clone(),
            cost: self.link_cost,
            max_chunk_bytes: u32::try_from(MAX_CHUNK_BYTES).unwrap_or(u32::MAX),
        }
    }

    /// As many alternatives as GOAWAY may name.
    #[must_use]
    pub fn alternatives(&self) -> Vec<String> {
        let all = self.link_alternatives.iter();
        all.take(MAX_ALTERNATIVES).cloned().collect()
    }
}

fn text(text: &str) -> Result<String, String> {
    if text.len() <= MAX_TEXT_BYTES && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("write at most 64 letters, digits and signs, for example eu-west".to_owned())
    }
}

/// Another node's address, as flags name it.
///
/// # Errors
/// A sentence with an example.
pub fn host_and_port(text: &str) -> Result<String, String> {
    let example = "write HOST:PORT, for example 127.0.0.1:4443";
    let (host, port) = text.rsplit_once(':').ok_or(example)?;
    let valid = !host.is_empty()
        && text.len() <= MAX_ADDRESS_BYTES
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    if valid {
        Ok(text.to_owned())
    } else {
        Err(example.to_owned())
    }
}

/// The longest host name, a colon and a port; what the link's texts hold.
const MAX_ADDRESS_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:4443", "origin.example:1", "[::1]:4443"] {
            assert_eq!(host_and_port(good).as_deref(), Ok(good));
        }
        let long = format!("{}:1", "a".repeat(256));
        for bad in [
            "",
            "origin",
            ":4443",
            "origin:",
            "origin:0",
            "origin:65536",
            &long,
        ] {
            assert!(
                host_and_port(bad).unwrap_err().contains("for example"),
                "{bad}"
            );
        }
    }

    #[test]
    fn texts_are_short_and_without_control_characters() {
        assert_eq!(text("eu-west"), Ok("eu-west".to_owned()));
        for bad in ["a b", "a\n", "\u{1b}[31m", &"x".repeat(65)] {
            assert!(text(bad).is_err());
        }
    }
}
