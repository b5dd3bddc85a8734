//! Viewers counted: a viewer is a distinct address, User-Agent and page id that
//! asked for a playlist of a channel within the last ten seconds.
//!
//! In: who asked. Out: how many watch each channel, at any time, without counting
//! them. Agents and page ids are whatever a stranger likes: so a network counts for no
//! more viewers than it may have connections. Who was not seen for long is swept out by
//! [`Viewers::count`], which somebody has to call every few seconds, and by nobody
//! else: what a request costs does not grow with the table.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    net::IpAddr,
    time::Duration,
};

use common::names::ChannelName;
use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::time::Instant;

use super::admission::network;

const WITHIN: Duration = Duration::from_secs(10);

/// Locks that requests spread over.
const SHARDS: usize = 16;

/// A bounded table of who was seen when. Keys are seeded hashes, so nobody can
/// choose to collide with somebody else.
#[derive(Debug)]
pub(super) struct Viewers {
    seed: RandomState,
    max_per_shard: usize,
    max_per_network: usize,
    shards: [Mutex<Shard>; SHARDS],
    /// Viewers of each network. Locked within a shard's lock, for newcomers alone.
    networks: Mutex<HashMap<IpAddr, usize>>,
    /// Times that a viewer found no place.
    uncounted: IntCounter,
}

#[derive(Debug, Default)]
struct Shard {
    seen: HashMap<u64, Seen>,
    /// How many of them watch each channel.
    counts: HashMap<ChannelName, usize>,
}

/// One viewer of one channel.
#[derive(Debug)]
pub(super) struct ViewerKey {
    hash: u64,
    network: IpAddr,
    channel: ChannelName,
}

#[derive(Debug)]
struct Seen {
    channel: ChannelName,
    network: IpAddr,
    at: Instant,
}

impl Viewers {
    /// For so many viewers, and so many of one IPv4 address or IPv6 /64.
    pub(super) fn new(max: usize, max_per_network: usize, uncounted: IntCounter) -> Self {
        Self {
            seed: RandomState::new(),
            max_per_shard: max.div_ceil(SHARDS),
            max_per_network,
            shards: Default::default(),
            networks: Mutex::default(),
            uncounted,
        }
    }

    pub(super) fn saw(
        &self,
        channel: &ChannelName,
        address: IpAddr,
        agent: &[u8],
        page: Option<&str>,
    ) -> ViewerKey {
        let key = ViewerKey {
            hash: self.seed.hash_one((channel, address, agent, page)),
            network: network(address),
            channel: channel.clone(),
        };
        self.saw_again(&key);
        key
    }

    /// As [`Viewers::saw`], for one that does not ask anew.
    pub(super) fn saw_again(&self, viewer: &ViewerKey) {
        let shard = usize::try_from(viewer.hash % SHARDS as u64);
        let Some(shard) = shard.ok().and_then(|at| self.shards.get(at)) else {
            return;
        };
        let at = Instant::now();
        let mut shard = shard.lock();
        if let Some(known) = shard.seen.get_mut(&viewer.hash) {
            known.at = at;
            return;
        }
        if shard.seen.len() >= self.max_per_shard || !self.admits(viewer.network) {
            self.uncounted.inc();
            return;
        }
        let (channel, network) = (viewer.channel.clone(), viewer.network);
        *shard.counts.entry(channel.clone()).or_default() += 1;
        let seen = Seen {
            channel,
            network,
            at,
        };
        shard.seen.insert(viewer.hash, seen);
    }

    /// Takes one of the network's places, if there is one.
    fn admits(&self, network: IpAddr) -> bool {
        let mut networks = self.networks.lock();
        let taken = networks.get(&network).copied().unwrap_or(0);
        let free = taken < self.max_per_network;
        if free {
            networks.insert(network, taken + 1);
        }
        free
    }

    /// Viewers of one channel, those included who left since the last
    /// [`Self::count`].
    pub(super) fn count_of(&self, channel: &ChannelName) -> u64 {
        let of = |shard: &Mutex<Shard>| shard.lock().counts.get(channel).copied();
        let counts = self.shards.iter().filter_map(of);
        counts.sum::<usize>() as u64
    }

    /// Viewers by channel; forgets who has not been seen for too long.
    pub(super) fn count(&self) -> HashMap<ChannelName, u64> {
        let now = Instant::now();
        let mut all = HashMap::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let Shard { seen, counts } = &mut *shard;
            seen.retain(|_, one| {
                let stays = now - one.at < WITHIN;
                if !stays {
                    one_less(counts, &one.channel);
                    one_less(&mut self.networks.lock(), &one.network);
                }
                stays
            });
            for (channel, count) in counts {
                *all.entry(channel.clone()).or_insert(0) += *count as u64;
            }
        }
        all
    }
}

/// What counts nothing is no entry.
fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

/// A quick sum of what tells viewers of one connection apart, for who wants to
/// know whether it is the one of a moment ago. Its like is easily found.
pub(super) fn sum(parts: [&[u8]; 3]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(ODD).rotate_left(23);
    parts.iter().fold(ODD, |sum, part| {
        let (words, rest) = part.as_chunks::<8>();
        let sum = words.iter().fold(mix(sum, part.len() as u64), |sum, word| {
            mix(sum, u64::from_le_bytes(*word))
        });
        rest.iter()
            .fold(sum, |sum, byte| mix(sum, u64::from(*byte)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewers(max: usize, max_per_network: usize) -> Viewers {
        let uncounted = IntCounter::new("uncounted", "-").unwrap();
        Viewers::new(max, max_per_network, uncounted)
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn viewers_are_distinct_and_forgotten() {
        let viewers = viewers(1_000, 1_000);
        let (a, b) = (channel("a"), channel("b"));
        let address = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..3 {
            viewers.saw(&a, address, b"x", None);
        }
        viewers.saw(&a, address, b"x", Some("page"));
        viewers.saw(&a, address, b"y", None);
        viewers.saw(&b, address, b"x", None);
        assert_eq!((viewers.count_of(&a), viewers.count_of(&b)), (3, 1));
        tokio::time::advance(Duration::from_secs(9)).await;
        viewers.saw(&b, address, b"x", None);
        assert_eq!(
            viewers.count(),
            HashMap::from([(a.clone(), 3), (b.clone(), 1)])
        );
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(viewers.count(), HashMap::from([(b.clone(), 1)]));
        assert_eq!((viewers.count_of(&a), viewers.count_of(&b)), (0, 1));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(viewers.count(), HashMap::new());
        assert!(viewers.networks.lock().is_empty());
    }

    /// Page ids cost nothing: whoever makes them up is as many as they could be anyway.
    #[tokio::test(start_paused = true)]
    async fn a_network_is_no_more_viewers_than_it_may_have_connections() {
        let viewers = viewers(100_000, 5);
        let (a, b) = (channel("a"), channel("b"));
        let forged = |network: u8| {
            for n in 0..1_000 {
                let host = [0x2001, 0xdb8, 0, network.into(), 0, 0, 0, n];
                let page = n.to_string();
                viewers.saw(&a, IpAddr::from(host), b"x", Some(&page));
                viewers.saw(&b, IpAddr::from([10, 0, 0, network]), b"x", Some(&page));
            }
        };
        forged(1);
        assert_eq!((viewers.count_of(&a), viewers.count_of(&b)), (5, 5));
        assert_eq!(viewers.uncounted.get(), 2 * 995);
        forged(2);
        assert_eq!(
            viewers.count(),
            HashMap::from([(a.clone(), 10), (b.clone(), 10)])
        );
        // Who is counted stays so, and who leaves makes room.
        tokio::time::advance(WITHIN).await;
        viewers.count();
        forged(1);
        assert_eq!(viewers.count_of(&a), 5);
    }

    #[test]
    fn a_sum_tells_viewers_apart() {
        let agent = b"A player of no great age (like 7)".as_slice();
        let mut sums: Vec<_> = [
            [b"a".as_slice(), agent, b""],
            [b"b", agent, b""],
            [b"a", agent, b"1"],
            [b"a", &agent[1..], b""],
            [b"a1", agent, b""],
            [b"", b"", b""],
        ]
        .map(sum)
        .into();
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), 6);
    }

    /// No request sweeps it: with the table full, each would.
    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_who_counts_makes_room() {
        let viewers = viewers(SHARDS * 4, 1);
        let channel = channel("a");
        let flood = |from: u32| {
            for n in from..from + 10_000 {
                viewers.saw(&channel, IpAddr::from(n.to_be_bytes()), b"x", None);
            }
        };
        flood(0);
        let most = (SHARDS * 4) as u64;
        assert_eq!(viewers.count()[&channel], most);
        tokio::time::advance(WITHIN).await;
        flood(1 << 20);
        assert_eq!(viewers.count(), HashMap::new());
        flood(2 << 20);
        assert_eq!(viewers.count_of(&channel), most);
        assert_eq!(viewers.networks.lock().len(), SHARDS * 4);
    }
}
