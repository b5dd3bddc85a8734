//! Which origins live: each renews its own key, which is gone [`LEASE`] after the
//! last time. One lease a node, not one a room: a node that owns thousands of rooms
//! writes once in [`RENEW`].
//!
//! A node that leaves says so with its lease: others take its rooms as if it were
//! gone, and until they do it goes on owning them. Among themselves nodes that leave
//! take nothing from each other.
//!
//! A lease says when a room may be taken over, never who may append: that is the
//! log's fence. So nothing here compares clocks of two machines.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_nats::jetstream::kv;
use common::names::NodeId;
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};
use tracing::{debug, warn};

use super::{BusError, ticks, timely};

/// How long a node is believed to live after it last said so. With the two looks
/// that have to agree, a lost node's rooms move within 4 s.
pub(super) const LEASE: Duration = Duration::from_millis(2_500);

const RENEW: Duration = Duration::from_millis(500);

/// Behind the owner in its key's value. Who does not know the word takes the owner for
/// gone, which is right as well.
const LEAVES: &str = " leaves";

/// Rooms that ask for the same node in one moment cost one look.
const LOOKED: Duration = Duration::from_millis(250);

/// A process that may own rooms: its node, and a number of its own, so that a
/// restarted one is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) node: NodeId,
    life: u64,
}

impl Owner {
    pub(super) fn new(node: NodeId) -> Self {
        let life = RandomState::new().hash_one(node.as_str());
        Self { node, life }
    }

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (node, life) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        Some(Self {
            node: NodeId::parse(node).ok()?,
            life: life.parse().ok()?,
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.node, self.life)
    }
}

/// Who holds a node's key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    owner: Owner,
    leaves: bool,
}

impl Holder {
    fn parse(text: &[u8]) -> Option<Self> {
        let (owner, leaves) = match text.strip_suffix(LEAVES.as_bytes()) {
            Some(owner) => (owner, true),
            None => (text, false),
        };
        let owner = Owner::parse(owner)?;
        Some(Self { owner, leaves })
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Leases {
    store: kv::Store,
    me: Owner,
    /// What was found under a node's key, and when: as many as there are origins.
    seen: Mutex<HashMap<NodeId, (Instant, Option<Holder>)>>,
    leaving: AtomicBool,
    /// Ticks when this node was, for a while, not believed to live.
    lapses: watch::Sender<u64>,
}

impl Leases {
    pub(super) fn new(store: kv::Store, me: Owner) -> Self {
        Self {
            store,
            me,
            seen: Mutex::default(),
            leaving: AtomicBool::new(false),
            lapses: watch::Sender::new(0),
        }
    }

    pub(super) async fn take(&self) -> Result<(), BusError> {
        let leaves = if self.is_leaving() { LEAVES } else { "" };
        let text = format!("{}{leaves}", self.me).into();
        let put = self.store.put(self.me.node.as_str(), text).await;
        put.map(drop).map_err(BusError::of("renewing the lease"))
    }

    /// Renews this node's own for as long as the process lives.
    pub(super) async fn renew(&self) {
        let mut ticks = ticks(RENEW);
        let mut renewed = Instant::now();
        loop {
            ticks.tick().await;
            let began = Instant::now();
            match self.take().await {
                Ok(()) => {
                    if began.duration_since(renewed) > LEASE {
                        warn!("this node's lease on its rooms was over for a while");
                        self.lapses
                            .send_modify(|count| *count = count.wrapping_add(1));
                    }
                    renewed = began;
                }
                Err(why) => debug!(%why, "a lease was not renewed"),
            }
        }
    }

    /// Rooms of this node are anybody's from now on.
    pub(super) async fn leave(&self) -> Result<(), BusError> {
        self.leaving.store(true, Ordering::Release);
        self.take().await
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Whether the holder of a key keeps others from the rooms of `owner`.
    fn keeps(&self, found: Option<&Holder>, owner: &Owner) -> bool {
        found.is_some_and(|found| found.owner == *owner && (!found.leaves || self.is_leaving()))
    }

    pub(super) fn lapses(&self) -> watch::Receiver<u64> {
        self.lapses.subscribe()
    }

    /// Whether this process said within [`LEASE`] that it lives and stays.
    pub(super) async fn holds(&self, owner: &Owner) -> Result<bool, BusError> {
        // Held while it looks: whoever asks for the same meanwhile is told the same.
        let mut seen = self.seen.lock().await;
        if let Some((at, found)) = seen.get(&owner.node)
            && at.elapsed() < LOOKED
        {
            return Ok(self.keeps(found.as_ref(), owner));
        }
        let value = self.store.get(owner.node.as_str());
        let value = timely("looking at a lease", value).await?;
        let found = value.and_then(|value| Holder::parse(&value));
        let holds = self.keeps(found.as_ref(), owner);
        seen.insert(owner.node.clone(), (Instant::now(), found));
        Ok(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_node_is_another_owner() {
        let node = NodeId::parse("origin-1").unwrap();
        let [first, second] = [(), ()].map(|()| Owner::new(node.clone()));
        assert_ne!(first, second);
        assert_eq!(Owner::parse(first.to_string().as_bytes()), Some(first));
        for strange in ["", "origin-1", "origin-1 x", "Ä 1", "origin-1 1 2"] {
            assert_eq!(Owner::parse(strange.as_bytes()), None, "{strange}");
        }
    }

    #[test]
    fn who_leaves_says_so_behind_its_name() {
        let owner = Owner::new(NodeId::parse("origin-1").unwrap());
        for leaves in [false, true] {
            let word = if leaves { LEAVES } else { "" };
            let text = format!("{owner}{word}");
            let owner = owner.clone();
            let found = Holder::parse(text.as_bytes());
            assert_eq!(found, Some(Holder { owner, leaves }));
        }
        let text = format!("{owner}{LEAVES}");
        assert_eq!(Owner::parse(text.as_bytes()), None);
    }
}
