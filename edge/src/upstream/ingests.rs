//! What parents tell of places to publish to, made one list. Pure: what is heard
//! and `now` in, the list out.
//!
//! Invariants: an origin stands in the list once, told by whoever reaches it by the
//! shortest way; the order is that of the parents, and of each parent's own list; a
//! parent tells of [`MAX_INGESTS`] at most; what only lost links told of is
//! unavailable, and gone after [`KEPT`].

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use common::{
    ingest::{Ingest, IngestState, MAX_INGESTS},
    names::NodeId,
};
use tokio::time::Instant;

use super::routes::Rank;

/// How long an origin that nobody reaches stays in the list: a restart is shorter.
pub(super) const KEPT: Duration = Duration::from_secs(30);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Heard {
    node: NodeId,
    parents: BTreeMap<Rank, Vec<Told>>,
}

#[derive(Debug)]
struct Told {
    ingest: Ingest,
    /// When the link was lost that this was told on, and not told again since.
    lost: Option<Instant>,
}

impl Told {
    fn is_of(&self, node: &NodeId) -> bool {
        self.ingest.node() == Some(node)
    }
}

impl Heard {
    pub(super) const fn new(node: NodeId) -> Self {
        Self {
            node,
            parents: BTreeMap::new(),
        }
    }

    /// Takes an INGEST; `false` for one that is not shown: it leads back here, is
    /// one too many, or says what no origin's flags would.
    pub(super) fn told(&mut self, rank: Rank, ingest: Ingest) -> bool {
        let told = self.parents.entry(rank).or_default();
        let known = told.iter().position(|it| it.ingest.node() == ingest.node());
        let refused = !ingest.is_sound() || ingest.hops.contains(&self.node);
        if refused || (known.is_none() && told.len() >= MAX_INGESTS) {
            if let Some(at) = known {
                told.remove(at);
            }
            return false;
        }
        let new = Told { ingest, lost: None };
        match known.and_then(|at| told.get_mut(at)) {
            Some(place) => *place = new,
            None => told.push(new),
        }
        true
    }

    pub(super) fn gone(&mut self, rank: Rank, node: &NodeId) {
        if let Some(told) = self.parents.get_mut(&rank) {
            told.retain(|it| !it.is_of(node));
        }
    }

    /// The parent has told all: what it has not told again is no more.
    pub(super) fn snapshot(&mut self, rank: Rank) {
        if let Some(told) = self.parents.get_mut(&rank) {
            told.retain(|it| it.lost.is_none());
        }
    }

    pub(super) fn lost(&mut self, rank: Rank, now: Instant) {
        for told in self.parents.get_mut(&rank).into_iter().flatten() {
            told.lost.get_or_insert(now);
        }
    }

    /// Forgets what has been out of reach for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        for told in self.parents.values_mut() {
            told.retain(|it| it.lost.is_none_or(|lost| lost + KEPT > now));
        }
        self.parents.retain(|_, told| !told.is_empty());
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let all = self.parents.values().flatten();
        all.filter_map(|it| it.lost).min().map(|lost| lost + KEPT)
    }

    /// The list, each origin once.
    pub(super) fn list(&self) -> Vec<Ingest> {
        let mut list: Vec<&Told> = Vec::new();
        let mut places = HashMap::new();
        for told in self.parents.values().flatten() {
            let at = *places.entry(told.ingest.node()).or_insert(list.len());
            match list.get_mut(at) {
                Some(known) if way(told) < way(known) => *known = told,
                Some(_) => {}
                None => list.push(told),
            }
        }
        list.truncate(MAX_INGESTS);
        list.into_iter().map(shown).collect()
    }
}

/// The lowest is believed: a way that is there before one that is not, and the
/// shortest, whose word is the youngest.
fn way(told: &Told) -> (bool, bool, usize) {
    let unavailable = told.ingest.state == IngestState::Unavailable;
    (told.lost.is_some(), unavailable, told.ingest.hops.len())
}

fn shown(told: &Told) -> Ingest {
    let mut ingest = told.ingest.clone();
    if told.lost.is_some() {
        ingest.state = IngestState::Unavailable;
    }
    ingest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn by(hops: &[&str]) -> Ingest {
        Ingest {
            hops: hops.iter().map(|name| node(name)).collect(),
            region: "eu-ams".to_owned(),
            city: String::new(),
            place: None,
            rtmp: "rtmp://ams.example.net/live".to_owned(),
            rtmps: None,
            publishers: 0,
            capacity: 10,
            state: IngestState::Available,
        }
    }

    fn heard() -> Heard {
        Heard::new(node("edge"))
    }

    /// `origin:hops` of each, with `!` where it can't be had.
    fn list(heard: &Heard) -> String {
        let shown = |it: &Ingest| {
            let away = if it.state == IngestState::Unavailable {
                "!"
            } else {
                ""
            };
            format!("{}:{}{away}", it.node().unwrap(), it.hops.len())
        };
        let all: Vec<_> = heard.list().iter().map(shown).collect();
        all.join(" ")
    }

    #[test]
    fn parents_lists_are_joined_in_the_parents_order() {
        let mut heard = heard();
        for (rank, hops) in [
            (2, &["z", "m2"][..]),
            (0, &["b", "m1"]),
            (0, &["a", "m1"]),
            (2, &["b", "m2"]),
        ] {
            assert!(heard.told(rank, by(hops)));
        }
        assert_eq!(list(&heard), "b:2 a:2 z:2");
        // An update keeps its place, a shorter way is believed.
        heard.told(0, by(&["b", "m1"]));
        heard.told(2, by(&["a"]));
        assert_eq!(list(&heard), "b:2 a:1 z:2");
        heard.gone(0, &node("b"));
        heard.gone(2, &node("z"));
        assert_eq!(list(&heard), "a:1 b:2");
        heard.gone(7, &node("b"));
    }

    #[test]
    fn a_lost_link_makes_unavailable_and_then_nothing() {
        let mut heard = heard();
        let now = Instant::now();
        heard.told(0, by(&["a"]));
        heard.told(0, by(&["b"]));
        heard.told(1, by(&["b", "m"]));
        assert_eq!(heard.next_change(), None);
        heard.lost(0, now);
        assert_eq!(list(&heard), "a:1! b:2");
        // Attempts that fail are no reason to believe longer.
        heard.lost(0, now + KEPT / 2);
        assert_eq!(heard.next_change(), Some(now + KEPT));
        heard.expire(now + KEPT - Duration::from_millis(1));
        assert_eq!(list(&heard), "a:1! b:2");
        heard.expire(now + KEPT);
        assert_eq!(list(&heard), "b:2");
        assert_eq!(heard.next_change(), None);
    }

    #[test]
    fn a_link_that_is_back_tells_anew() {
        let mut heard = heard();
        heard.told(0, by(&["a"]));
        heard.told(0, by(&["b"]));
        heard.lost(0, Instant::now());
        heard.told(0, by(&["b"]));
        assert_eq!(list(&heard), "a:1! b:1");
        heard.snapshot(0);
        assert_eq!(list(&heard), "b:1");
    }

    #[test]
    fn a_parent_that_lost_it_is_not_believed_where_another_has_it() {
        let mut heard = heard();
        let mut away = by(&["a", "m1"]);
        away.state = IngestState::Unavailable;
        heard.told(0, away);
        assert_eq!(list(&heard), "a:2!");
        heard.told(1, by(&["a", "m2", "m3"]));
        assert_eq!(list(&heard), "a:3");
    }

    #[test]
    fn what_leads_back_or_makes_no_sense_is_refused_and_taken_back() {
        let mut heard = heard();
        assert!(heard.told(0, by(&["a", "m"])));
        assert!(!heard.told(0, by(&["a", "edge", "m"])));
        assert_eq!(list(&heard), "");
        let mut bad = by(&["b"]);
        bad.rtmp = "javascript:alert(1)".to_owned();
        assert!(!heard.told(0, bad));
        assert_eq!(list(&heard), "");
    }

    #[test]
    fn there_is_an_end_to_what_parents_tell() {
        let mut heard = heard();
        for n in 0..MAX_INGESTS {
            assert!(heard.told(0, by(&[&format!("a-{n}")])));
            assert!(heard.told(1, by(&[&format!("b-{n}")])));
        }
        assert!(!heard.told(0, by(&["one-more"])));
        assert!(heard.told(0, by(&["a-5"])), "known already");
        assert_eq!(heard.list().len(), MAX_INGESTS);
    }
}
