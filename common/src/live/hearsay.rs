//! How many watch and chat where another origin counts them: rooms are spread over
//! origins, and origins don't talk to each other. An edge that is linked to both says
//! to the one what it was told by the other ([`super::Audience`]).
//!
//! In: what each child that says something says. Out: one crowd a channel. Nothing of
//! it is told to anybody else but who asks this node: it is no word of its own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::RwLock;

use super::Crowd;
use crate::names::{ChannelName, NodeId};

/// Origins that one child says something of: as many as rooms are spread over.
const MAX_ORIGINS: usize = 64;

/// Channels of one origin that one child says something of. Whoever listens takes
/// those that it has, which are fewer.
const MAX_CHANNELS: usize = 65_536;

/// What one child says: of which origins it hears, and what of whom.
type Said = HashMap<NodeId, HashMap<ChannelName, Crowd>>;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Hearsay {
    tellers: RwLock<BTreeMap<u64, Said>>,
    next: AtomicU64,
}

/// A child's place; what it said goes with it.
#[derive(Debug)]
pub struct Teller {
    hearsay: Arc<Hearsay>,
    id: u64,
}

impl Hearsay {
    #[must_use]
    pub fn teller(self: &Arc<Self>) -> Teller {
        let id = self.next.fetch_add(1, Relaxed);
        self.tellers.write().insert(id, Said::new());
        Teller {
            hearsay: self.clone(),
            id,
        }
    }

    /// What `origin` counts in the channel's room, as far as any child is linked to it.
    #[must_use]
    pub fn get(&self, origin: &NodeId, channel: &ChannelName) -> Option<Crowd> {
        let tellers = self.tellers.read();
        let said = tellers.values().filter_map(|said| said.get(origin));
        let crowds = said.map(|crowds| crowds.get(channel).copied().unwrap_or_default());
        crowds.reduce(Crowd::larger)
    }
}

impl Teller {
    /// `origin` counts so many, where others are as they were. Nobody is nothing to
    /// remember.
    pub fn tell(&self, origin: NodeId, crowds: impl IntoIterator<Item = (ChannelName, Crowd)>) {
        let mut tellers = self.hearsay.tellers.write();
        let Some(said) = tellers.get_mut(&self.id) else {
            return;
        };
        if said.len() >= MAX_ORIGINS && !said.contains_key(&origin) {
            return;
        }
        let known = said.entry(origin).or_default();
        for (channel, crowd) in crowds {
            if crowd.is_nobody() {
                known.remove(&channel);
            } else if known.len() < MAX_CHANNELS || known.contains_key(&channel) {
                known.insert(channel, crowd);
            }
        }
    }

    /// The child hears `origin` no more.
    pub fn unheard(&self, origin: &NodeId) {
        if let Some(said) = self.hearsay.tellers.write().get_mut(&self.id) {
            said.remove(origin);
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.hearsay.tellers.write().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    const fn crowd(viewers: u32) -> Crowd {
        Crowd {
            viewers,
            chatters: 1,
        }
    }

    #[test]
    fn what_any_child_hears_is_known_and_goes_with_it() {
        let hearsay = Arc::<Hearsay>::default();
        let [demo, news] = ["demo", "news"].map(|name| ChannelName::parse(name).unwrap());
        let [o1, o2] = ["o-1", "o-2"].map(node);
        let (one, other) = (hearsay.teller(), hearsay.teller());
        assert_eq!(hearsay.get(&o1, &demo), None);
        one.tell(o1.clone(), [(demo.clone(), crowd(5))]);
        other.tell(o1.clone(), [(demo.clone(), crowd(7))]);
        let get = |of, channel| hearsay.get(of, channel);
        assert_eq!(get(&o1, &demo), Some(crowd(7)));
        // Heard, and nobody there; not heard.
        assert_eq!(get(&o1, &news), Some(Crowd::default()));
        assert_eq!(get(&o2, &demo), None);
        other.tell(o1.clone(), [(demo.clone(), Crowd::default())]);
        assert_eq!(get(&o1, &demo), Some(crowd(5)));
        one.unheard(&o1);
        assert_eq!(get(&o1, &demo), Some(Crowd::default()));
        drop(other);
        assert_eq!(get(&o1, &demo), None);
    }

    #[test]
    fn what_one_child_says_is_bounded() {
        let hearsay = Arc::<Hearsay>::default();
        let teller = hearsay.teller();
        let demo = ChannelName::parse("demo").unwrap();
        for n in 0..MAX_ORIGINS + 9 {
            teller.tell(node(&format!("o-{n}")), [(demo.clone(), crowd(1))]);
        }
        let name = |n| ChannelName::parse(&format!("c{n}")).unwrap();
        teller.tell(
            node("o-0"),
            (0..MAX_CHANNELS + 9).map(|n| (name(n), crowd(1))),
        );
        let tellers = hearsay.tellers.read();
        let said = tellers.values().next().unwrap();
        assert_eq!(said.len(), MAX_ORIGINS);
        assert_eq!(said[&node("o-0")].len(), MAX_CHANNELS);
    }
}
