//! What is sent to one webhook, and when. Pure: events, outcomes and the time go in,
//! attempts come out.
//!
//! Invariants: events of one channel are sent one after another, in their order, and
//! the next only when the one before was delivered or given up; at most [`AT_ONCE`] are
//! under way; an event is delivered once or given up once, the latter when a try fails
//! after its time.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use common::names::ChannelName;
use tokio::time::Instant;

/// Events that wait for one webhook, those under way included.
pub(super) const MAX_WAITING: usize = 1_024;

/// Requests to one webhook at a time.
pub(super) const AT_ONCE: usize = 8;

/// Pauses between tries grow from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What a try came to for its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Delivered,
    /// It is tried again.
    Again,
    GivenUp,
}

/// An event to send now; its outcome is told by its number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attempt<E> {
    pub(super) number: u64,
    pub(super) event: E,
}

#[derive(Debug)]
struct Entry<E> {
    number: u64,
    channel: ChannelName,
    event: E,
    /// A try that fails after this is the last.
    until: Instant,
    due: Instant,
    pause: Duration,
    tried: bool,
    under_way: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Outbox<E> {
    /// In the order in which they came.
    entries: VecDeque<Entry<E>>,
    retry_for: Duration,
    numbers: u64,
    closed: bool,
}

impl<E: Clone> Outbox<E> {
    pub(super) const fn new(retry_for: Duration) -> Self {
        Self {
            entries: VecDeque::new(),
            retry_for,
            numbers: 0,
            closed: false,
        }
    }

    /// `false` where there is no room.
    pub(super) fn push(&mut self, channel: ChannelName, event: E, now: Instant) -> bool {
        if self.entries.len() >= MAX_WAITING {
            return false;
        }
        self.entries.push_back(Entry {
            number: self.numbers,
            channel,
            event,
            until: now + self.retry_for,
            due: now,
            pause: FIRST_PAUSE,
            tried: false,
            under_way: false,
        });
        self.numbers += 1;
        true
    }

    /// The next event to send; ask until there is none.
    pub(super) fn next(&mut self, now: Instant) -> Option<Attempt<E>> {
        if self.under_way() >= AT_ONCE {
            return None;
        }
        let at = self
            .heads()
            .find(|(_, entry)| !entry.under_way && entry.due <= now);
        let (at, _) = at?;
        let entry = self.entries.get_mut(at)?;
        entry.under_way = true;
        entry.tried = true;
        Some(Attempt {
            number: entry.number,
            event: entry.event.clone(),
        })
    }

    /// When [`Self::next`] may have another one, if by time alone.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.under_way() >= AT_ONCE {
            return None;
        }
        let waiting = self.heads().filter(|(_, entry)| !entry.under_way);
        let due = waiting.map(|(_, entry)| entry.due).min();
        due.map(|due| due.max(now))
    }

    /// A try has ended. `None` for one that is not known.
    pub(super) fn done(&mut self, number: u64, delivered: bool, now: Instant) -> Option<Done> {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.number == number)?;
        let closed = self.closed;
        let entry = self.entries.get_mut(at)?;
        let done = match delivered {
            true => Done::Delivered,
            false if closed || now >= entry.until => Done::GivenUp,
            false => Done::Again,
        };
        if done == Done::Again {
            entry.under_way = false;
            // Its last try is at the end of its time, not after.
            entry.due = (now + entry.pause).min(entry.until);
            entry.pause = (entry.pause * 2).min(LAST_PAUSE);
        } else {
            self.entries.remove(at);
        }
        Some(done)
    }

    /// The process ends: what waits for another try is given up, what was never tried
    /// is tried once. Tells how many were given up.
    pub(super) fn close(&mut self) -> usize {
        self.closed = true;
        let before = self.entries.len();
        self.entries.retain(|entry| entry.under_way || !entry.tried);
        before - self.entries.len()
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn under_way(&self) -> usize {
        let under_way = self.entries.iter().filter(|entry| entry.under_way);
        under_way.count()
    }

    /// The first event of each channel, where it stands.
    fn heads(&self) -> impl Iterator<Item = (usize, &Entry<E>)> {
        let mut seen = HashSet::new();
        let entries = self.entries.iter().enumerate();
        entries.filter(move |(_, entry)| seen.insert(&entry.channel))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const RETRY_FOR: Duration = Duration::from_secs(30);

    fn channel(n: usize) -> ChannelName {
        ChannelName::parse(&format!("c{n}")).unwrap()
    }

    fn all(outbox: &mut Outbox<u32>, now: Instant) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| outbox.next(now))
            .map(|attempt| (attempt.number, attempt.event))
            .collect()
    }

    #[test]
    fn a_channel_waits_for_its_own_events_and_no_others() {
        let now = Instant::now();
        let mut outbox = Outbox::new(RETRY_FOR);
        for (of, event) in [(0, 10), (0, 11), (1, 20)] {
            assert!(outbox.push(channel(of), event, now));
        }
        assert_eq!(all(&mut outbox, now), [(0, 10), (2, 20)]);
        assert_eq!(outbox.done(0, false, now), Some(Done::Again));
        assert_eq!(all(&mut outbox, now), []);
        assert_eq!(outbox.due(now), Some(now + FIRST_PAUSE));
        let later = now + FIRST_PAUSE;
        assert_eq!(all(&mut outbox, later), [(0, 10)]);
        assert_eq!(outbox.done(0, true, later), Some(Done::Delivered));
        assert_eq!(all(&mut outbox, later), [(1, 11)]);
        assert_eq!(outbox.done(9, true, later), None);
    }

    #[test]
    fn pauses_grow_and_the_last_try_is_at_the_end() {
        let start = Instant::now();
        let mut outbox = Outbox::new(RETRY_FOR);
        outbox.push(channel(0), 1, start);
        let mut tries = Vec::new();
        let mut now = start;
        loop {
            let attempt = outbox.next(now).unwrap();
            tries.push((now - start).as_secs());
            match outbox.done(attempt.number, false, now) {
                Some(Done::Again) => now = outbox.due(now).unwrap(),
                other => break assert_eq!(other, Some(Done::GivenUp)),
            }
        }
        assert_eq!(tries, [0, 1, 3, 7, 15, 30]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_waits_and_what_is_under_way_are_bounded() {
        let now = Instant::now();
        let mut outbox = Outbox::new(RETRY_FOR);
        for n in 0..MAX_WAITING {
            assert!(outbox.push(channel(n), 0, now));
        }
        assert!(!outbox.push(channel(0), 0, now));
        assert_eq!(all(&mut outbox, now).len(), AT_ONCE);
        assert_eq!(outbox.due(now), None);
        assert_eq!(outbox.done(3, true, now), Some(Done::Delivered));
        assert_eq!(all(&mut outbox, now).len(), 1);
    }

    #[test]
    fn at_the_end_everything_is_tried_once() {
        let now = Instant::now();
        let mut outbox = Outbox::new(RETRY_FOR);
        for (of, event) in [(0, 10), (1, 20), (2, 30), (2, 31)] {
            outbox.push(channel(of), event, now);
        }
        all(&mut outbox, now);
        outbox.done(0, false, now);
        assert_eq!(outbox.close(), 1, "channel 0 waited for another try");
        assert_eq!(outbox.done(1, false, now), Some(Done::GivenUp));
        assert_eq!(outbox.done(2, true, now), Some(Done::Delivered));
        assert_eq!(all(&mut outbox, now), [(3, 31)]);
        assert_eq!(outbox.done(3, false, now), Some(Done::GivenUp));
        assert!(outbox.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Pass(u64),
        /// The oldest under way ends so.
        Ends(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..4_usize).prop_map(Step::Push),
            2 => (1..9_000_u64).prop_map(Step::Pass),
            4 => any::<bool>().prop_map(Step::Ends),
        ]
    }

    proptest! {
        /// Whatever happens when: one at a time and in order for each channel, each
        /// event over once, and none outlives its time by more than one try.
        #[test]
        fn every_event_ends_once_and_in_order(steps in proptest::collection::vec(step(), 0..300)) {
            let start = Instant::now();
            let mut now = start;
            let mut outbox = Outbox::new(RETRY_FOR);
            let mut pushed: Vec<(usize, Instant)> = Vec::new();
            let mut under_way: BTreeMap<u64, usize> = BTreeMap::new();
            let mut over = BTreeSet::new();
            let mut ended: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Push(of) => {
                        let event = u32::try_from(pushed.len()).unwrap();
                        prop_assert!(outbox.push(channel(of), event, now));
                        pushed.push((of, now));
                    }
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                    Step::Ends(well) => {
                        let Some((number, of)) = under_way.pop_first() else { continue };
                        let done = outbox.done(number, well, now).unwrap();
                        prop_assert_eq!(done == Done::Delivered, well);
                        let came = pushed[usize::try_from(number).unwrap()].1;
                        let late = now >= came + RETRY_FOR;
                        prop_assert_eq!(done == Done::GivenUp, !well && late);
                        if done != Done::Again {
                            prop_assert!(over.insert(number));
                            ended.entry(of).or_default().push(u32::try_from(number).unwrap());
                        }
                    }
                }
                while let Some(attempt) = outbox.next(now) {
                    let of = pushed[usize::try_from(attempt.number).unwrap()].0;
                    prop_assert!(!over.contains(&attempt.number));
                    prop_assert!(!under_way.values().any(|other| *other == of));
                    prop_assert!(under_way.insert(attempt.number, of).is_none());
                    prop_assert!(under_way.len() <= AT_ONCE);
                }
                // Who sleeps until then misses nothing.
                if under_way.len() < AT_ONCE {
                    prop_assert!(outbox.due(now).is_none_or(|due| due > now));
                }
            }
            for events in ended.values() {
                prop_assert!(events.is_sorted());
            }
        }
    }
}
