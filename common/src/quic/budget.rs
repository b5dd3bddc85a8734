//! What a node's links may hold: bytes of each, and how many there are.

use clap::Args;

/// The longest path that the windows are sized for: round trip between continents
/// is half of it, the rest is queues.
const DESIGN_RTT_MS: u64 = 200;

/// What one link may carry: a hundred 5 Mbit/s renditions.
const DESIGN_LINK_BYTES_PER_S: u64 = 500_000_000 / 8;

/// What one segment stream may carry: a 20 Mbit/s rendition catching up at four
/// times its rate.
const DESIGN_STREAM_BYTES_PER_S: u64 = 80_000_000 / 8;

/// Bytes in flight on one link: twice the bandwidth-delay product, because flow
/// control credit is a round trip old when it arrives.
const LINK_WINDOW_BYTES: u64 = 2 * DESIGN_LINK_BYTES_PER_S * DESIGN_RTT_MS / 1000;

/// The same for one stream.
const STREAM_WINDOW_BYTES: u64 = 2 * DESIGN_STREAM_BYTES_PER_S * DESIGN_RTT_MS / 1000;

/// Flags of what links may hold.
#[derive(Clone, Copy, Debug, Args)]
pub struct LinkBudget {
    /// Bytes that a parent may have under way to a child on one link: what each end can be made to hold
    #[arg(
        long,
        env = "MILLRACE_LINK_WINDOW_BYTES",
        value_name = "BYTES",
        default_value_t = LINK_WINDOW_BYTES,
        value_parser = clap::value_parser!(u64).range(65_536..=1 << 32)
    )]
    pub link_window_bytes: u64,

    /// Links that children may hold to this node; more are refused
    #[arg(
        long,
        env = "MILLRACE_MAX_LINKS",
        value_name = "N",
        default_value_t = 1_024
    )]
    pub max_links: usize,
}

impl Default for LinkBudget {
    fn default() -> Self {
        Self {
            link_window_bytes: LINK_WINDOW_BYTES,
            max_links: 1_024,
        }
    }
}

impl LinkBudget {
    /// What one stream may have under way: no stream needs more than its own
    /// path, and none gets the whole link's.
    pub(super) fn stream_window_bytes(&self) -> u64 {
        STREAM_WINDOW_BYTES.min(self.link_window_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_twice_the_path() {
        let budget = LinkBudget::default();
        assert_eq!(budget.link_window_bytes, 25_000_000);
        assert_eq!(budget.stream_window_bytes(), 4_000_000);
        let small = LinkBudget {
            link_window_bytes: 65_536,
            ..budget
        };
        assert_eq!(small.stream_window_bytes(), 65_536);
    }
}
