//! How many watch and chat, channel by channel, over all edges: what the homes of
//! rooms add up, told to every node, whether anybody watches there or not.
//!
//! In: the sums of this node's own rooms, or what each parent tells. Out: one crowd a
//! channel. What an origin says is its own sum; an edge repeats what it heard, so
//! that it is believed only where no origin speaks: two edges that are each other's
//! parents do not keep alive what neither hears any more.

use std::collections::{BTreeMap, HashMap};

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{
    names::{ChannelName, NodeId},
    tls::Role,
};

/// Channels that one node tells of.
pub const MAX_CROWDS: usize = 65_536;

/// Over all edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crowd {
    pub viewers: u32,
    /// Connections that may write in its chat.
    pub chatters: u32,
}

impl Crowd {
    #[must_use]
    pub const fn is_nobody(self) -> bool {
        self.viewers == 0 && self.chatters == 0
    }

    pub(super) fn larger(self, other: Self) -> Self {
        Self {
            viewers: self.viewers.max(other.viewers),
            chatters: self.chatters.max(other.chatters),
        }
    }
}

#[derive(Debug)]
struct Teller {
    role: Role,
    crowds: HashMap<ChannelName, Crowd>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Audience {
    tellers: RwLock<BTreeMap<NodeId, Teller>>,
    changes: watch::Sender<u64>,
}

impl Default for Audience {
    fn default() -> Self {
        Self {
            tellers: RwLock::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Audience {
    /// `from` says who watches these channels now; nobody is nothing to remember.
    pub fn tell(
        &self,
        from: &NodeId,
        role: Role,
        crowds: impl IntoIterator<Item = (ChannelName, Crowd)>,
    ) {
        let mut tellers = self.tellers.write();
        let teller = tellers.entry(from.clone()).or_insert_with(|| Teller {
            role,
            crowds: HashMap::new(),
        });
        let mut news = false;
        for (channel, crowd) in crowds {
            if crowd.is_nobody() {
                news |= teller.crowds.remove(&channel).is_some();
            } else if teller.crowds.len() < MAX_CROWDS || teller.crowds.contains_key(&channel) {
                news |= teller.crowds.insert(channel, crowd) != Some(crowd);
            }
        }
        drop(tellers);
        if news {
            self.changed();
        }
    }

    /// `from` is not heard any more.
    pub fn forget(&self, from: &NodeId) {
        let gone = self.tellers.write().remove(from);
        if gone.is_some_and(|gone| !gone.crowds.is_empty()) {
            self.changed();
        }
    }

    /// Everybody of all channels that have somebody.
    #[must_use]
    pub fn snapshot(&self) -> HashMap<ChannelName, Crowd> {
        let mut all = HashMap::new();
        let tellers = self.tellers.read();
        for role in [Role::Origin, Role::Edge] {
            let said = tellers.values().filter(|teller| teller.role == role);
            let mut any = false;
            for teller in said {
                any = true;
                for (channel, crowd) in &teller.crowds {
                    let known: &mut Crowd = all.entry(channel.clone()).or_default();
                    *known = known.larger(*crowd);
                }
            }
            if any {
                break;
            }
        }
        all
    }

    /// Who watches one channel, as far as anybody told.
    #[must_use]
    pub fn get(&self, channel: &ChannelName) -> Crowd {
        let tellers = self.tellers.read();
        let of = |role: Role| {
            let said = tellers.values().filter(|teller| teller.role == role);
            let crowds = said.map(|teller| teller.crowds.get(channel).copied().unwrap_or_default());
            crowds.reduce(Crowd::larger)
        };
        of(Role::Origin)
            .or_else(|| of(Role::Edge))
            .unwrap_or_default()
    }

    /// What one node says of these channels, of those that have somebody.
    #[must_use]
    pub fn told_by<'a>(
        &self,
        node: &NodeId,
        channels: impl IntoIterator<Item = &'a ChannelName>,
    ) -> HashMap<ChannelName, Crowd> {
        let tellers = self.tellers.read();
        let Some(teller) = tellers.get(node) else {
            return HashMap::new();
        };
        let channels = channels.into_iter();
        let said = channels.filter_map(|of| Some((of.clone(), *teller.crowds.get(of)?)));
        said.collect()
    }

    /// Ticks with every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
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
            chatters: 0,
        }
    }

    #[test]
    fn origins_are_believed_before_edges() {
        let audience = Audience::default();
        let [demo, news] = ["demo", "news"].map(|name| ChannelName::parse(name).unwrap());
        let mut changes = audience.changes();
        let said = |viewers| [(demo.clone(), crowd(viewers))];
        audience.tell(&node("edge-1"), Role::Edge, said(9));
        assert_eq!(audience.get(&demo), crowd(9));
        audience.tell(&node("o-1"), Role::Origin, said(5));
        audience.tell(&node("o-2"), Role::Origin, [(news.clone(), crowd(2))]);
        assert_eq!(audience.get(&demo), crowd(5));
        let both = HashMap::from([(demo.clone(), crowd(5)), (news.clone(), crowd(2))]);
        assert_eq!(audience.snapshot(), both);
        let told_by = |name| audience.told_by(&node(name), [&demo]);
        assert_eq!(told_by("o-1"), HashMap::from([(demo.clone(), crowd(5))]));
        assert!(told_by("o-2").is_empty() && told_by("o-3").is_empty());
        changes.mark_unchanged();
        audience.tell(&node("o-1"), Role::Origin, said(5));
        assert!(!changes.has_changed().unwrap());
        // Nobody is the end of it, and an origin's word still.
        audience.tell(&node("o-1"), Role::Origin, said(0));
        assert_eq!(audience.get(&demo), crowd(0));
        audience.forget(&node("o-1"));
        audience.forget(&node("o-2"));
        assert_eq!(
            audience.snapshot(),
            HashMap::from([(demo.clone(), crowd(9))])
        );
    }

    #[test]
    fn what_one_node_tells_is_bounded() {
        let audience = Audience::default();
        let name = |n| ChannelName::parse(&format!("c{n}")).unwrap();
        let many = (0..MAX_CROWDS + 9).map(|n| (name(n), crowd(1)));
        audience.tell(&node("o"), Role::Origin, many);
        assert_eq!(audience.snapshot().len(), MAX_CROWDS);
        audience.tell(&node("o"), Role::Origin, [(name(3), crowd(7))]);
        assert_eq!(audience.get(&name(3)), crowd(7));
    }
}
