//! Who carries what: the tables of all parents, and the choice between them.
//! Pure: what a parent said goes in, the best announcement and the order of
//! the paths come out.
//!
//! A channel is pulled from the highest epoch that is still produced. Paths to
//! one origin's broadcast are twins, byte for byte; among them a parent that
//! stays comes first, then one that was steady of late, then the lowest cost,
//! then the order in which the parents were given. Being steady is what keeps
//! the choice from flapping: a fault costs a parent its place for a time that
//! doubles with each further one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use common::{
    live::{About, Announcement, Phase},
    names::{BroadcastId, ChannelName, NodeId},
};
use tokio::time::Instant;

/// How long a parent comes last after its first fault, and after many.
const FIRST_DISTRUST: Duration = Duration::from_secs(10);
const LAST_DISTRUST: Duration = Duration::from_secs(300);

/// A parent without fault for that long begins anew.
const FORGIVEN: Duration = Duration::from_secs(600);

/// Channels of one parent. Each costs a few hundred bytes here.
pub(super) const MAX_CHANNELS: usize = 65_536;

/// A parent's place in the order given.
pub(super) type Rank = usize;

/// `S` is a link to a parent.
#[derive(Debug)]
pub(super) struct Routes<S> {
    node: NodeId,
    parents: BTreeMap<Rank, Parent<S>>,
}

#[derive(Debug)]
struct Parent<S> {
    link: Option<S>,
    /// Since its link is lost.
    lost: Option<Lost>,
    /// It said GOAWAY.
    leaving: bool,
    told: HashMap<ChannelName, Announcement>,
    /// What it says of broadcasts that it told.
    said: HashMap<ChannelName, Arc<About>>,
    /// Channels told on this link before its SNAPSHOT.
    fresh: Option<HashSet<ChannelName>>,
    trust: Trust,
}

/// A lost link takes a channel away only once its origin would, too
/// ([`Announcement::kept_for`]).
#[derive(Debug, Clone, Copy)]
struct Lost {
    at: Instant,
    /// When the next channel goes.
    next: Option<Instant>,
}

impl Lost {
    fn since(at: Instant, told: &HashMap<ChannelName, Announcement>) -> Self {
        let next = told.values().map(|live| at + live.kept_for()).min();
        Self { at, next }
    }
}

impl<S> Default for Parent<S> {
    fn default() -> Self {
        Self {
            link: None,
            lost: None,
            leaving: false,
            told: HashMap::new(),
            said: HashMap::new(),
            fresh: None,
            trust: Trust::default(),
        }
    }
}

impl<S> Parent<S> {
    fn takes_back(&mut self, channel: &ChannelName) {
        self.told.remove(channel);
        self.said.remove(channel);
    }
}

#[derive(Debug, Default)]
struct Trust {
    faults: u32,
    until: Option<Instant>,
}

impl Trust {
    fn steady(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Further faults while it is not trusted are the same one.
    fn fault(&mut self, now: Instant) {
        if !self.steady(now) {
            return;
        }
        let recent = self
            .until
            .is_some_and(|until| now.duration_since(until) < FORGIVEN);
        self.faults = if recent {
            self.faults.saturating_add(1)
        } else {
            1
        };
        let doubled = FIRST_DISTRUST.saturating_mul(1 << (self.faults - 1).min(16));
        self.until = Some(now + doubled.min(LAST_DISTRUST));
    }
}

impl<S: Clone> Routes<S> {
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            node,
            parents: BTreeMap::new(),
        }
    }

    pub(super) fn connected(&mut self, rank: Rank, link: S) {
        self.begins(rank).link = Some(link);
    }

    /// What comes from this parent is its word on a new link.
    fn begins(&mut self, rank: Rank) -> &mut Parent<S> {
        let parent = self.parents.entry(rank).or_default();
        parent.lost = None;
        parent.leaving = false;
        parent.fresh = Some(HashSet::new());
        parent
    }

    /// A parent that speaks without a link, where only its words matter.
    #[cfg(test)]
    pub(super) fn speaks(&mut self, rank: Rank) {
        self.begins(rank);
    }

    /// Its word holds on for as long as each channel's origin waits.
    pub(super) fn lost(&mut self, rank: Rank, now: Instant) {
        if let Some(parent) = self.parents.get_mut(&rank)
            && parent.link.take().is_some()
        {
            parent.lost = Some(Lost::since(now, &parent.told));
            parent.trust.fault(now);
        }
    }

    pub(super) fn leaving(&mut self, rank: Rank) {
        if let Some(parent) = self.parents.get_mut(&rank) {
            parent.leaving = true;
        }
    }

    pub(super) fn fault(&mut self, rank: Rank, now: Instant) {
        if let Some(parent) = self.parents.get_mut(&rank) {
            parent.trust.fault(now);
        }
    }

    /// Takes a LIVE; `false` for one that leads back here or is one too many,
    /// which also takes back what the parent said of the channel before.
    pub(super) fn live(&mut self, rank: Rank, live: Announcement) -> bool {
        let Some(parent) = self.parents.get_mut(&rank) else {
            return false;
        };
        let channel = live.channel.clone();
        let full = parent.told.len() >= MAX_CHANNELS && !parent.told.contains_key(&channel);
        if full || live.hops.contains(&self.node) {
            parent.takes_back(&channel);
            return false;
        }
        if let Some(fresh) = &mut parent.fresh {
            fresh.insert(channel.clone());
        }
        if parent
            .told
            .get(&channel)
            .is_none_or(|old| !is_twin(old, &live))
        {
            parent.said.remove(&channel);
        }
        parent.told.insert(channel, live);
        true
    }

    /// Takes an ABOUT. One that follows no LIVE of its broadcast is passed over.
    pub(super) fn about(
        &mut self,
        rank: Rank,
        channel: &ChannelName,
        broadcast: BroadcastId,
        about: Arc<About>,
    ) {
        let Some(parent) = self.parents.get_mut(&rank) else {
            return;
        };
        let told = parent.told.get(channel);
        if told.is_some_and(|live| live.broadcast == broadcast) {
            parent.said.insert(channel.clone(), about);
        }
    }

    /// The channels that this parent does not know any more.
    pub(super) fn snapshot(&mut self, rank: Rank) -> Vec<ChannelName> {
        let Some(parent) = self.parents.get_mut(&rank) else {
            return Vec::new();
        };
        let Some(fresh) = parent.fresh.take() else {
            return Vec::new();
        };
        let missing = parent.told.keys().filter(|told| !fresh.contains(*told));
        let missing: Vec<_> = missing.cloned().collect();
        for channel in &missing {
            parent.takes_back(channel);
        }
        missing
    }

    pub(super) fn gone(&mut self, rank: Rank, channel: &ChannelName) {
        if let Some(parent) = self.parents.get_mut(&rank) {
            parent.takes_back(channel);
        }
    }

    /// Channels whose parents have been away too long to be believed.
    pub(super) fn expired(&mut self, now: Instant) -> BTreeSet<ChannelName> {
        let mut gone = BTreeSet::new();
        for parent in self.parents.values_mut() {
            let due = |lost: &Lost| lost.next.is_some_and(|next| next <= now);
            if let Some(Lost { at, .. }) = parent.lost.filter(due) {
                let over = |live: &Announcement| at + live.kept_for() <= now;
                let over = parent.told.extract_if(|_, live| over(live));
                for (channel, _) in over {
                    parent.said.remove(&channel);
                    gone.insert(channel);
                }
                parent.lost = Some(Lost::since(at, &parent.told));
            }
        }
        gone
    }

    /// When something changes by time alone.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let parents = self.parents.values();
        parents
            .flat_map(|parent| [parent.lost.and_then(|lost| lost.next), parent.trust.until])
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    /// What this node believes of the channel.
    pub(super) fn best(&self, channel: &ChannelName, now: Instant) -> Option<&Announcement> {
        let chosen = self.chosen(channel)?;
        let twins = self
            .told(channel)
            .filter(|(_, _, live)| is_twin(live, chosen));
        twins
            .min_by_key(|(rank, parent, live)| place(*rank, parent, live, now))
            .map(|(_, _, live)| live)
    }

    /// What is said of the channel's broadcast, by the best that says anything.
    pub(super) fn best_about(&self, channel: &ChannelName, now: Instant) -> Option<Arc<About>> {
        let chosen = self.chosen(channel)?;
        let twins = self
            .told(channel)
            .filter(|(_, _, live)| is_twin(live, chosen));
        let said = twins.filter_map(|(rank, parent, live)| {
            Some((place(rank, parent, live, now), parent.said.get(channel)?))
        });
        let (_, about) = said.min_by_key(|(place, _)| *place)?;
        (**about != About::default()).then(|| about.clone())
    }

    /// The links to pull a broadcast through, best first.
    pub(super) fn paths(
        &self,
        channel: &ChannelName,
        broadcast: BroadcastId,
        now: Instant,
    ) -> Vec<S> {
        let of_broadcast = |live: &Announcement| live.broadcast == broadcast;
        let chosen = self.chosen(channel).filter(|live| of_broadcast(live));
        let twin = |live: &Announcement| match chosen {
            Some(chosen) => is_twin(live, chosen),
            None => of_broadcast(live),
        };
        let mut paths: Vec<_> = self
            .told(channel)
            .filter(|(_, _, live)| twin(live))
            .filter_map(|(rank, parent, live)| {
                Some((place(rank, parent, live, now), parent.link.clone()?))
            })
            .collect();
        paths.sort_by_key(|(place, _)| *place);
        paths.into_iter().map(|(_, link)| link).collect()
    }

    /// Whether there is a parent, and each has told all that it carries.
    pub(super) fn all_told(&self) -> bool {
        let mut linked = self
            .parents
            .values()
            .filter(|p| p.link.is_some())
            .peekable();
        linked.peek().is_some() && linked.all(|parent| parent.fresh.is_none())
    }

    pub(super) fn links(&self) -> impl Iterator<Item = (Rank, &S)> {
        let links = self.parents.iter();
        links.filter_map(|(rank, parent)| Some((*rank, parent.link.as_ref()?)))
    }

    fn told(
        &self,
        channel: &ChannelName,
    ) -> impl Iterator<Item = (Rank, &Parent<S>, &Announcement)> {
        let parents = self.parents.iter();
        parents.filter_map(move |(rank, parent)| {
            parent.told.get(channel).map(|live| (*rank, parent, live))
        })
    }

    /// The youngest broadcast that still goes on, or the youngest that ended.
    fn chosen(&self, channel: &ChannelName) -> Option<&Announcement> {
        let all = self.told(channel).map(|(_, _, live)| live);
        all.max_by_key(|live| {
            let origin = live.hops.first();
            (
                live.phase != Phase::Ended,
                live.broadcast,
                Reverse(origin),
                live.epoch,
            )
        })
    }
}

/// Two origins may give one number to their broadcasts: then they are no twins.
fn is_twin(one: &Announcement, other: &Announcement) -> bool {
    one.broadcast == other.broadcast && one.hops.first() == other.hops.first()
}

type Place = (bool, bool, bool, u32, Rank);

/// The lowest comes first.
fn place<S>(rank: Rank, parent: &Parent<S>, live: &Announcement, now: Instant) -> Place {
    (
        parent.link.is_none(),
        parent.leaving,
        !parent.trust.steady(now),
        live.cost,
        rank,
    )
}

#[cfg(test)]
mod tests {
    use common::names::Epoch;

    use super::*;

    const GRACE: Duration = Announcement::LEAST_KEPT_FOR;

    fn channel() -> ChannelName {
        ChannelName::parse("demo").unwrap()
    }

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn live(epoch: u64, hops: &[&str], cost: u32) -> Announcement {
        Announcement {
            channel: channel(),
            broadcast: BroadcastId(epoch),
            epoch: Epoch(epoch),
            phase: Phase::Live,
            hops: hops.iter().map(|name| node(name)).collect(),
            cost,
            grace_ms: Announcement::USUAL_GRACE_MS,
        }
    }

    /// Two parents that carry one origin's broadcast at one cost.
    fn twins() -> (Routes<char>, Instant) {
        let mut routes = Routes::new(node("leaf"));
        for (rank, link, hops) in [(0, 'a', ["o", "m1"]), (1, 'b', ["o", "m2"])] {
            routes.connected(rank, link);
            assert!(routes.live(rank, live(7, &hops, 2)));
            assert!(routes.snapshot(rank).is_empty());
        }
        (routes, Instant::now())
    }

    fn paths(routes: &Routes<char>, now: Instant) -> String {
        routes
            .paths(&channel(), BroadcastId(7), now)
            .iter()
            .collect()
    }

    #[test]
    fn the_lowest_cost_wins_then_the_order_given() {
        let (mut routes, now) = twins();
        assert_eq!(paths(&routes, now), "ab");
        routes.live(1, live(7, &["o", "m2"], 1));
        assert_eq!(paths(&routes, now), "ba");
        let best = routes.best(&channel(), now).unwrap();
        assert_eq!((best.cost, best.hops.len()), (1, 2));
    }

    #[test]
    fn the_highest_epoch_wins_whatever_it_costs() {
        let (mut routes, now) = twins();
        routes.live(1, live(9, &["o2", "m2"], 50));
        let best = routes.best(&channel(), now).unwrap();
        assert_eq!(best.epoch, Epoch(9));
        // Who still reads the old one is led to where it is.
        assert_eq!(paths(&routes, now), "a");
        assert_eq!(routes.paths(&channel(), BroadcastId(9), now), ['b']);
        // One that ended is no reason to leave one that goes on.
        let ended = Announcement {
            phase: Phase::Ended,
            ..live(9, &["o2", "m2"], 50)
        };
        routes.live(1, ended);
        let best = routes.best(&channel(), now).unwrap();
        assert_eq!(best.epoch, Epoch(7));
    }

    fn titled(title: &str) -> Arc<About> {
        Arc::new(About {
            title: title.to_owned(),
            ..About::default()
        })
    }

    /// A parent that says nothing of it is no reason to show nothing.
    #[test]
    fn what_is_said_is_of_the_broadcast_that_is_pulled() {
        let (mut routes, now) = twins();
        let said = |routes: &Routes<char>| {
            let about = routes.best_about(&channel(), now);
            about.map(|about| about.title.clone())
        };
        assert_eq!(said(&routes), None);
        routes.about(1, &channel(), BroadcastId(7), titled("b"));
        assert_eq!(said(&routes).as_deref(), Some("b"));
        routes.about(0, &channel(), BroadcastId(7), titled("a"));
        assert_eq!(said(&routes).as_deref(), Some("a"));
        // Of a broadcast that was not told: nothing to say it of.
        routes.about(0, &channel(), BroadcastId(8), titled("x"));
        assert_eq!(said(&routes).as_deref(), Some("a"));
        routes.live(1, live(9, &["o2", "m2"], 1));
        assert_eq!(said(&routes), None, "another origin's broadcast");
        routes.about(1, &channel(), BroadcastId(9), titled("c"));
        assert_eq!(said(&routes).as_deref(), Some("c"));
        routes.gone(1, &channel());
        assert_eq!(said(&routes).as_deref(), Some("a"));
        routes.about(0, &channel(), BroadcastId(7), titled(""));
        assert_eq!(said(&routes), None, "taken back");
    }

    #[test]
    fn broadcasts_of_two_origins_are_no_twins() {
        let (mut routes, now) = twins();
        routes.live(1, live(7, &["z", "m2"], 1));
        assert_eq!(paths(&routes, now), "a");
    }

    #[test]
    fn a_lost_link_is_no_path_and_its_word_holds_for_the_grace() {
        let (mut routes, now) = twins();
        routes.lost(0, now);
        assert_eq!(paths(&routes, now), "b");
        routes.lost(1, now);
        assert_eq!(paths(&routes, now), "");
        assert!(routes.best(&channel(), now).is_some());
        assert!(routes.expired(now + GRACE / 2).is_empty());
        assert_eq!(routes.expired(now + GRACE).len(), 1);
        assert!(routes.best(&channel(), now).is_none());
    }

    /// Each channel stays for as long as its own origin waits for a publisher.
    #[test]
    fn a_lost_link_takes_each_channel_away_after_its_own_grace() {
        let mut routes = Routes::new(node("leaf"));
        let now = Instant::now();
        routes.connected(0, 'a');
        for (name, grace_ms) in [("none", 0), ("minute", 60_000), ("endless", u32::MAX)] {
            let mut live = live(7, &["o"], 1);
            live.channel = ChannelName::parse(name).unwrap();
            live.grace_ms = grace_ms;
            assert!(routes.live(0, live));
        }
        routes.snapshot(0);
        routes.lost(0, now);
        let distrusted = now + FIRST_DISTRUST;
        let mut at = now;
        for (name, seconds) in [("none", 15), ("minute", 65), ("endless", 605)] {
            let next = loop {
                at = routes.next_change(at).unwrap();
                if at != distrusted {
                    break at;
                }
            };
            assert_eq!(next, now + Duration::from_secs(seconds), "{name}");
            assert!(routes.expired(next - Duration::from_millis(1)).is_empty());
            let gone = routes.expired(next);
            let names: Vec<_> = gone.iter().map(ChannelName::as_str).collect();
            assert_eq!(names, [name]);
        }
        assert_eq!(routes.next_change(at), None);
    }

    #[test]
    fn a_parent_that_faults_comes_back_later_each_time() {
        let (mut routes, mut now) = twins();
        let mut away = Vec::new();
        for _ in 0..7 {
            routes.fault(0, now);
            routes.fault(0, now + Duration::from_millis(1));
            assert_eq!(paths(&routes, now), "ba");
            let back = routes.next_change(now).unwrap();
            away.push((back - now).as_secs());
            assert_eq!(paths(&routes, back), "ab");
            now = back;
        }
        assert_eq!(away, [10, 20, 40, 80, 160, 300, 300]);
        now += FORGIVEN;
        routes.fault(0, now);
        assert_eq!(routes.next_change(now), Some(now + FIRST_DISTRUST));
    }

    #[test]
    fn a_parent_that_leaves_comes_last_and_is_still_a_path() {
        let (mut routes, now) = twins();
        routes.leaving(0);
        routes.fault(1, now);
        assert_eq!(paths(&routes, now), "ba");
        routes.lost(1, now);
        assert_eq!(paths(&routes, now), "a");
    }

    #[test]
    fn a_path_that_comes_to_lead_back_here_is_taken_away() {
        let (mut routes, now) = twins();
        assert!(!routes.live(0, live(7, &["o", "leaf", "m1"], 1)));
        assert_eq!(paths(&routes, now), "b");
    }

    #[test]
    fn a_new_snapshot_tells_what_a_parent_no_longer_has() {
        let (mut routes, now) = twins();
        routes.lost(0, now);
        routes.connected(0, 'c');
        assert_eq!(
            paths(&routes, now),
            "bc",
            "just lost: it comes last for a while"
        );
        assert_eq!(routes.snapshot(0), [channel()]);
        assert_eq!(paths(&routes, now), "b");
        routes.gone(1, &channel());
        assert!(routes.best(&channel(), now).is_none());
    }
}
