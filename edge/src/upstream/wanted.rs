//! Which segments of the past are being fetched, who waits for each, and whose turn it
//! is at a parent.
//!
//! In: who wants a segment. Out: what came of it, told to all of them at once. Each
//! segment has one task, owned by nobody who asked: one that goes away neither ends the
//! fetch for the others nor has it begun anew. Invariants: a parent is asked for so many
//! at once, fewer than it refuses; what waits for its turn is dropped with the last who
//! waits for it, and what has begun comes to its end and into the cache.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::pin,
    sync::Arc,
};

use common::{
    link::MAX_FETCHES,
    names::{BroadcastId, ChannelName, Msn, TrackName},
};
use parking_lot::Mutex;
use tokio::sync::{SemaphorePermit, watch};

use super::{Unavailable, past::Stored, session::Session};

/// Names a segment of the past.
pub(super) type Key = (ChannelName, BroadcastId, TrackName, Msn);

/// Fetches of one parent under way: half of what it takes of one child, since one that
/// has ended here may have yet to end there.
pub(super) const FETCHES_AT_ONCE: usize = MAX_FETCHES / 2;

/// Segments wanted at once, those that wait for their turn included: a task and a place
/// in the table each. Who wants another is answered 503, and may ask again.
const MAX_WANTED: usize = 4_096;

/// What came of it; nothing yet.
pub(super) type Outcome = Option<Result<Arc<Stored>, Unavailable>>;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Wanted(Mutex<HashMap<Key, Arc<watch::Sender<Outcome>>>>);

/// What an asker finds.
pub(super) enum Place {
    /// Somebody else's task fetches it.
    Joined(watch::Receiver<Outcome>),
    /// The asker has to give it a task.
    First(watch::Receiver<Outcome>, Errand),
    /// Too many are wanted.
    None,
}

/// A segment's place in the table, given back when dropped, whatever came of it.
#[derive(Debug)]
pub(super) struct Errand {
    wanted: Arc<Wanted>,
    pub(super) key: Key,
    outcome: Arc<watch::Sender<Outcome>>,
}

impl Wanted {
    pub(super) fn place(self: &Arc<Self>, key: Key) -> Place {
        let mut wanted = self.0.lock();
        let all = wanted.len();
        match wanted.entry(key) {
            Entry::Occupied(known) => Place::Joined(known.get().subscribe()),
            Entry::Vacant(_) if all >= MAX_WANTED => Place::None,
            Entry::Vacant(vacant) => {
                let (outcome, receiver) = watch::channel(None);
                let errand = Errand {
                    wanted: self.clone(),
                    key: vacant.key().clone(),
                    outcome: vacant.insert(Arc::new(outcome)).clone(),
                };
                Place::First(receiver, errand)
            }
        }
    }
}

impl Errand {
    /// Waits for a turn at the parent; `None` once nobody waits for the segment.
    pub(super) async fn turn<'a>(&self, session: &'a Session) -> Option<SemaphorePermit<'a>> {
        let mut turn = pin!(session.fetches.acquire());
        loop {
            tokio::select! {
                biased;
                () = self.outcome.closed() => if self.is_forsaken() {
                    return None;
                },
                // Never closed.
                turn = &mut turn => return turn.ok(),
            }
        }
    }

    /// Whether nobody waits; then nobody can join any more.
    fn is_forsaken(&self) -> bool {
        let mut wanted = self.wanted.0.lock();
        let forsaken = self.outcome.receiver_count() == 0;
        if forsaken {
            self.leave(&mut wanted);
        }
        forsaken
    }

    /// Tells everybody who waits.
    pub(super) fn done(self, found: Result<Arc<Stored>, Unavailable>) {
        self.outcome.send_replace(Some(found));
    }

    fn leave(&self, wanted: &mut HashMap<Key, Arc<watch::Sender<Outcome>>>) {
        // Its place may be somebody else's by now.
        let own = |outcome: &Arc<_>| Arc::ptr_eq(outcome, &self.outcome);
        if wanted.get(&self.key).is_some_and(own) {
            wanted.remove(&self.key);
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.leave(&mut self.wanted.0.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(msn: u64) -> Key {
        let channel = ChannelName::parse("demo").unwrap();
        (channel, BroadcastId(7), TrackName::video(0), Msn(msn))
    }

    fn first(wanted: &Arc<Wanted>, msn: u64) -> (watch::Receiver<Outcome>, Errand) {
        match wanted.place(key(msn)) {
            Place::First(receiver, errand) => (receiver, errand),
            Place::Joined(_) | Place::None => panic!("{msn} is wanted already"),
        }
    }

    #[test]
    fn one_errand_serves_all_who_want_it() {
        let wanted = Arc::new(Wanted::default());
        let (mine, errand) = first(&wanted, 100);
        let Place::Joined(theirs) = wanted.place(key(100)) else {
            panic!("a second errand");
        };
        let (_, _other) = first(&wanted, 101);
        errand.done(Err(Unavailable::Gone));
        for receiver in [mine, theirs] {
            let outcome = receiver.borrow().clone();
            assert!(matches!(outcome, Some(Err(Unavailable::Gone))));
        }
        drop(first(&wanted, 100));
        assert_eq!(wanted.0.lock().len(), 1);
    }

    #[test]
    fn what_nobody_waits_for_makes_way_for_who_comes_next() {
        let wanted = Arc::new(Wanted::default());
        let (mine, errand) = first(&wanted, 100);
        assert!(!errand.is_forsaken());
        drop(mine);
        let Place::Joined(late) = wanted.place(key(100)) else {
            panic!("a second errand");
        };
        assert!(!errand.is_forsaken());
        drop(late);
        assert!(errand.is_forsaken());
        let (_next, of_next) = first(&wanted, 100);
        // The old one's end is not the new one's.
        drop(errand);
        assert!(matches!(wanted.place(key(100)), Place::Joined(_)));
        drop(of_next);
        assert!(wanted.0.lock().is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let wanted = Arc::new(Wanted::default());
        let held: Vec<_> = (0..MAX_WANTED as u64).map(|n| first(&wanted, n)).collect();
        assert!(matches!(wanted.place(key(u64::MAX)), Place::None));
        assert!(matches!(wanted.place(key(0)), Place::Joined(_)));
        drop(held);
        assert!(matches!(wanted.place(key(u64::MAX)), Place::First(..)));
        assert!(wanted.0.lock().is_empty());
    }
}
