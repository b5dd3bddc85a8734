//! Two encoders with one stream key would take the channel from each other for
//! ever, as each reconnects by itself when it is displaced.
//!
//! In: newcomers while somebody else is on air. Out: whether one may take over.
//! A newcomer from the address on air always may: it is how a publisher comes
//! back past its own half-open connection. One from elsewhere may a few times a
//! minute: a streamer's address does change. After that whoever is on air
//! stays, as long as it sends. Addresses are what tells rivals apart, so two
//! encoders behind one address still alternate; nothing in RTMP tells those
//! from a publisher on a bad line.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::time::Instant;

/// More changes of address within [`WINDOW`] than a moving streamer makes.
const TAKEOVERS: usize = 4;
const WINDOW: Duration = Duration::from_secs(60);
/// Who has sent nothing for this long may be half-open.
const SILENT: Duration = Duration::from_secs(2);

/// The recent takeovers of a channel by other addresses; at most [`TAKEOVERS`].
#[derive(Debug, Default)]
pub(super) struct Rivals(VecDeque<Instant>);

impl Rivals {
    /// `on_air` last sent something at `heard`. A takeover that may be is counted.
    pub(super) fn may_take_over(
        &mut self,
        newcomer: SocketAddr,
        on_air: SocketAddr,
        heard: Instant,
        now: Instant,
    ) -> bool {
        if host(newcomer) == host(on_air) {
            return true;
        }
        while self.0.front().is_some_and(|then| now - *then >= WINDOW) {
            self.0.pop_front();
        }
        if self.0.len() < TAKEOVERS {
            self.0.push_back(now);
            return true;
        }
        now - heard >= SILENT
    }
}

fn host(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], port))
    }

    #[test]
    fn two_addresses_do_not_alternate_for_ever() {
        let start = Instant::now();
        let mut rivals = Rivals::default();
        let mut may = |seconds, newcomer, on_air, silent_s| {
            let now = start + Duration::from_secs(seconds);
            let heard = now - Duration::from_secs(silent_s);
            rivals.may_take_over(newcomer, on_air, heard, now)
        };
        let (one, other) = (at(1, 1), at(2, 1));
        assert!(may(10, other, one, 0));
        assert!(may(11, one, other, 0));
        assert!(may(12, other, one, 0));
        assert!(may(13, one, other, 0));
        assert!(!may(14, other, one, 0));
        assert!(!may(60, other, one, 1));
        // The one on air itself, and whoever follows a dead line, come in.
        assert!(may(61, at(1, 2), one, 0));
        assert!(may(62, other, one, 2));
        // A minute after the first of them there is room for one more.
        assert!(may(70, other, one, 0));
        assert!(!may(70, one, other, 0));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut rivals = Rivals::default();
        let now = Instant::now();
        for second in 0..10_000 {
            let now = now + Duration::from_secs(second);
            rivals.may_take_over(at(1, 1), at(2, 2), now, now);
            assert!(rivals.0.len() <= TAKEOVERS);
        }
    }
}
