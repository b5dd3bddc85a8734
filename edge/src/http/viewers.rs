//! Viewers counted: a viewer is a distinct address, User-Agent and page id that
//! asked for a playlist of a channel within the last ten seconds.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    time::Duration,
};

use common::names::ChannelName;
use parking_lot::Mutex;
use tokio::time::Instant;

const WITHIN: Duration = Duration::from_secs(10);

/// Locks that requests spread over.
const SHARDS: usize = 16;

/// A bounded table of who was seen when. Keys are seeded hashes, so nobody can
/// choose to collide with somebody else.
#[derive(Debug)]
pub(super) struct Viewers {
    seed: RandomState,
    max_per_shard: usize,
    shards: [Mutex<HashMap<u64, Seen>>; SHARDS],
}

/// One viewer of one channel.
#[derive(Debug)]
pub(super) struct ViewerKey {
    hash: u64,
    channel: ChannelName,
}

#[derive(Debug)]
struct Seen {
    channel: ChannelName,
    at: Instant,
}

impl Viewers {
    pub(super) fn new(max: usize) -> Self {
        Self {
            seed: RandomState::new(),
            max_per_shard: max.div_ceil(SHARDS),
            shards: Default::default(),
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
            channel: channel.clone(),
        };
        self.saw_again(&key);
        key
    }

    /// As [`Viewers::saw`], for one that does not ask anew.
    pub(super) fn saw_again(&self, viewer: &ViewerKey) {
        let (key, channel) = (viewer.hash, &viewer.channel);
        let Some(shard) = usize::try_from(key % SHARDS as u64)
            .ok()
            .and_then(|at| self.shards.get(at))
        else {
            return;
        };
        let at = Instant::now();
        let mut seen = shard.lock();
        if let Some(known) = seen.get_mut(&key) {
            known.at = at;
            return;
        }
        if seen.len() >= self.max_per_shard {
            seen.retain(|_, one| at - one.at < WITHIN);
        }
        if seen.len() < self.max_per_shard {
            let channel = channel.clone();
            seen.insert(key, Seen { channel, at });
        }
    }

    /// Viewers of one channel.
    pub(super) fn count_of(&self, channel: &ChannelName) -> u64 {
        let now = Instant::now();
        let here = |one: &&Seen| one.channel == *channel && now - one.at < WITHIN;
        let shards = self.shards.iter();
        let counts = shards.map(|shard| shard.lock().values().filter(here).count());
        counts.sum::<usize>() as u64
    }

    /// Viewers by channel; forgets who has not been seen for too long.
    pub(super) fn count(&self) -> HashMap<ChannelName, u64> {
        let now = Instant::now();
        let mut counts = HashMap::new();
        for shard in &self.shards {
            let mut seen = shard.lock();
            seen.retain(|_, one| now - one.at < WITHIN);
            for one in seen.values() {
                *counts.entry(one.channel.clone()).or_insert(0) += 1;
            }
        }
        counts
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

    #[tokio::test(start_paused = true)]
    async fn viewers_are_distinct_and_forgotten() {
        let viewers = Viewers::new(1_000);
        let (a, b) = (
            ChannelName::parse("a").unwrap(),
            ChannelName::parse("b").unwrap(),
        );
        let address = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..3 {
            viewers.saw(&a, address, b"x", None);
        }
        viewers.saw(&a, address, b"x", Some("page"));
        viewers.saw(&a, address, b"y", None);
        viewers.saw(&b, address, b"x", None);
        tokio::time::advance(Duration::from_secs(9)).await;
        viewers.saw(&b, address, b"x", None);
        assert_eq!((viewers.count_of(&a), viewers.count_of(&b)), (3, 1));
        assert_eq!(
            viewers.count(),
            HashMap::from([(a.clone(), 3), (b.clone(), 1)])
        );
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!((viewers.count_of(&a), viewers.count_of(&b)), (0, 1));
        assert_eq!(viewers.count(), HashMap::from([(b, 1)]));
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

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_makes_room_in_time() {
        let viewers = Viewers::new(SHARDS * 4);
        let channel = ChannelName::parse("a").unwrap();
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
        assert_eq!(viewers.count()[&channel], most);
    }
}
