//! Who is in a room, over all edges: each child tells its counts and, where it has
//! few enough, its names; they are added up, and the sum goes the other way.
//!
//! In: what children tell. Out: [`Present`]. Shared by those that serve children,
//! who tell, and by the room's task, who sums. Nothing here is durable: what is not
//! told again within [`TOLD_FOR`] is forgotten. Bounds: [`MAX_CHILDREN`],
//! [`MAX_NAMES`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{Counts, Login};
use crate::names::NodeId;

/// A child that did not say so again has nobody there.
pub const TOLD_FOR: Duration = Duration::from_secs(45);

/// And so often it says so again.
pub const TELL_AGAIN: Duration = Duration::from_secs(15);

/// Sums are made, and told, no more often: who comes and goes at once is told at once.
pub const PACE: Duration = Duration::from_secs(1);

/// Nodes that tell of one room.
pub const MAX_CHILDREN: usize = 1_024;

/// Past so many chatters nobody is named: N clients that are told of N others cost N
/// times N.
pub const MAX_NAMES: usize = 1_000;

/// A room's people as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Present {
    pub counts: Counts,
    /// In order, each once. `None`: there are too many, or the room does not tell.
    pub names: Option<Arc<[Login]>>,
}

/// Names that came and names that went; both slices are in order.
#[must_use]
pub fn changes(before: &[Login], after: &[Login]) -> (Vec<Login>, Vec<Login>) {
    let missing = |of: &[Login], from: &[Login]| {
        let missing = of.iter().filter(|name| from.binary_search(name).is_err());
        missing.cloned().collect()
    };
    (missing(after, before), missing(before, after))
}

#[derive(Debug)]
struct Child {
    counts: Counts,
    names: BTreeSet<Login>,
    told: Instant,
}

/// What children told, added up.
#[derive(Debug, Default)]
struct Census {
    children: HashMap<NodeId, Child>,
}

impl Census {
    fn child(&mut self, from: NodeId, now: Instant) -> Option<&mut Child> {
        if self.children.len() >= MAX_CHILDREN && !self.children.contains_key(&from) {
            return None;
        }
        let child = self.children.entry(from).or_insert_with(|| Child {
            counts: Counts::default(),
            names: BTreeSet::new(),
            told: now,
        });
        child.told = now;
        Some(child)
    }

    fn sum(&mut self, own: Present, now: Instant) -> Present {
        self.children
            .retain(|_, child| now.duration_since(child.told) < TOLD_FOR);
        let mut counts = own.counts;
        for child in self.children.values() {
            counts.readers = counts.readers.saturating_add(child.counts.readers);
            counts.chatters = counts.chatters.saturating_add(child.counts.chatters);
            counts.viewers = counts.viewers.saturating_add(child.counts.viewers);
        }
        let few = |count: u32| usize::try_from(count).is_ok_and(|count| count <= MAX_NAMES);
        let names = own.names.filter(|_| few(counts.chatters)).map(|own| {
            let theirs = self.children.values().flat_map(|child| &child.names);
            let all: BTreeSet<&Login> = own.iter().chain(theirs).collect();
            all.into_iter().take(MAX_NAMES).cloned().collect()
        });
        Present { counts, names }
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Presence {
    census: Mutex<Census>,
    changed: Notify,
    version: AtomicU64,
    total: watch::Sender<Arc<Present>>,
}

impl Presence {
    /// A child told how many are there.
    pub fn tell_counts(&self, from: NodeId, counts: Counts) {
        let mut census = self.census.lock();
        if let Some(child) = census.child(from, Instant::now())
            && child.counts != counts
        {
            child.counts = counts;
            self.moved();
        }
    }

    /// A child told who is there, or who came and went since it last did.
    pub fn tell_names(&self, from: NodeId, anew: bool, came: Vec<Login>, went: &[Login]) {
        let mut census = self.census.lock();
        let Some(child) = census.child(from, Instant::now()) else {
            return;
        };
        let before = if anew {
            std::mem::take(&mut child.names)
        } else {
            child.names.clone()
        };
        for name in went {
            child.names.remove(name);
        }
        let room = MAX_NAMES.saturating_sub(child.names.len());
        child.names.extend(came.into_iter().take(room));
        // What is told again is no news.
        if child.names != before {
            self.moved();
        }
    }

    /// A child has left.
    pub fn gone(&self, from: &NodeId) {
        if self.census.lock().children.remove(from).is_some() {
            self.moved();
        }
    }

    /// Whether a child told of itself of late.
    #[must_use]
    pub fn knows(&self, from: &NodeId) -> bool {
        let census = self.census.lock();
        let child = census.children.get(from);
        child.is_some_and(|child| child.told.elapsed() < TOLD_FOR)
    }

    /// Whether any child told of itself of late.
    #[must_use]
    pub fn is_told(&self) -> bool {
        let census = self.census.lock();
        let mut children = census.children.values();
        children.any(|child| child.told.elapsed() < TOLD_FOR)
    }

    /// Resolves when a sum would be another one. Sum after it, at [`PACE`].
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Another one where [`Self::sum`] would be another.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    fn moved(&self) {
        self.version.fetch_add(1, Relaxed);
        self.changed.notify_one();
    }

    /// Everybody at the children and, as `own` has it, beside them. Names are told
    /// only with names in `own`.
    #[must_use]
    pub fn sum(&self, own: Present) -> Present {
        self.census.lock().sum(own, Instant::now())
    }

    /// The room as everybody is told of it.
    #[must_use]
    pub fn total(&self) -> Arc<Present> {
        self.total.borrow().clone()
    }

    /// Says so; who waits is woken where it is another.
    pub fn set_total(&self, present: Present) {
        self.total.send_if_modified(|total| {
            let differs = **total != present;
            if differs {
                *total = Arc::new(present);
            }
            differs
        });
    }

    #[must_use]
    pub fn totals(&self) -> watch::Receiver<Arc<Present>> {
        self.total.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> NodeId {
        NodeId::parse(&format!("edge-{number}")).unwrap()
    }

    fn names(names: &str) -> Vec<Login> {
        let names = names.split_whitespace();
        names.map(|name| Login::parse(name).unwrap()).collect()
    }

    fn shown(present: &Present) -> Option<String> {
        let names = present.names.as_ref()?.iter();
        Some(names.map(Login::as_str).collect::<Vec<_>>().join(" "))
    }

    fn counts(readers: u32, chatters: u32) -> Counts {
        Counts {
            readers,
            chatters,
            viewers: 1,
        }
    }

    fn nobody() -> Present {
        Present {
            names: Some(Arc::default()),
            ..Present::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn children_are_added_up_and_forgotten() {
        let presence = Presence::default();
        presence.tell_counts(node(1), counts(3, 2));
        presence.tell_names(node(1), true, names("bob ann"), &[]);
        presence.tell_counts(node(2), counts(1, 1));
        presence.tell_names(node(2), true, names("ann"), &[]);
        let sum = presence.sum(nobody());
        assert_eq!(
            sum.counts,
            Counts {
                viewers: 2,
                ..counts(4, 3)
            }
        );
        assert_eq!(shown(&sum).unwrap(), "ann bob");
        presence.tell_names(node(1), false, names("cat"), &names("ann bob"));
        assert_eq!(shown(&presence.sum(nobody())).unwrap(), "ann cat");
        // Who does not tell its own tells no names.
        assert_eq!(shown(&presence.sum(Present::default())), None);
        tokio::time::sleep(TOLD_FOR / 2).await;
        presence.tell_counts(node(2), counts(1, 1));
        tokio::time::sleep(TOLD_FOR / 2).await;
        assert!(!presence.knows(&node(1)) && presence.knows(&node(2)));
        assert_eq!(presence.sum(nobody()).counts, counts(1, 1));
        presence.gone(&node(2));
        assert_eq!(presence.sum(nobody()), nobody());
    }

    #[tokio::test]
    async fn names_and_children_are_bounded() {
        let presence = Presence::default();
        let many: Vec<_> = (0..MAX_NAMES + 9)
            .map(|number| Login::parse(&format!("u{number}")).unwrap())
            .collect();
        presence.tell_names(node(0), true, many, &[]);
        presence.tell_counts(node(0), counts(9, u32::try_from(MAX_NAMES).unwrap()));
        let sum = presence.sum(nobody());
        assert_eq!(sum.names.unwrap().len(), MAX_NAMES);
        presence.tell_counts(node(1), counts(1, 1));
        assert_eq!(presence.sum(nobody()).names, None);
        for number in 0..MAX_CHILDREN + 9 {
            presence.tell_counts(node(number), counts(1, 0));
        }
        let readers = presence.sum(nobody()).counts.readers;
        assert_eq!(usize::try_from(readers).unwrap(), MAX_CHILDREN);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_what_is_new() {
        let presence = Presence::default();
        presence.tell_counts(node(1), counts(1, 1));
        presence.changed().await;
        let mut totals = presence.totals();
        presence.set_total(presence.sum(nobody()));
        totals.changed().await.unwrap();
        presence.set_total(presence.sum(nobody()));
        assert!(!totals.has_changed().unwrap());
    }

    #[test]
    fn changes_are_what_came_and_what_went() {
        let (came, went) = changes(&names("ann bob"), &names("bob cat dog"));
        assert_eq!((came, went), (names("cat dog"), names("ann")));
    }
}
