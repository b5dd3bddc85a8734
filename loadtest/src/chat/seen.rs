//! Which messages a member has read, each once.
//!
//! In: a message's place among those of its room as they are sent, which is not the
//! order that they are read in. Out: whether it is read for the first time. What is
//! below the first one missing is forgotten, so a member to whom nothing is lost
//! keeps a few bytes. Bound: [`MAX_OPEN`] messages. Pure.

use std::collections::VecDeque;

/// How far behind the newest message that was read an older one may come, in
/// messages of the room. One that comes later counts as a double, which never hides a
/// loss.
const MAX_OPEN: u32 = 8_192;

/// Messages of a word.
const WORD: u32 = u64::BITS;

const MAX_WORDS: usize = (MAX_OPEN / WORD) as usize;

/// What one member has read. A kilobyte at most.
#[derive(Debug, Default)]
pub struct Seen {
    /// Words before the first open one: all read, or given up.
    done: u32,
    /// A bit for each message from there on.
    open: VecDeque<u64>,
}

impl Seen {
    /// Whether the message at `place` is read for the first time.
    pub fn read(&mut self, place: u32) -> bool {
        let (word, bit) = (place / WORD, 1 << (place % WORD));
        let Some(index) = word.checked_sub(self.done) else {
            return false;
        };
        let index = self.reach(index as usize);
        let Some(open) = self.open.get_mut(index) else {
            return false;
        };
        let first = *open & bit == 0;
        *open |= bit;
        while self.open.front() == Some(&u64::MAX) {
            self.open.pop_front();
            self.done += 1;
        }
        first
    }

    /// Opens words up to the `index`th; where it is then.
    fn reach(&mut self, index: usize) -> usize {
        let over = (index + 1).saturating_sub(MAX_WORDS);
        if over > 0 {
            self.open.drain(..over.min(self.open.len()));
            self.done = self
                .done
                .saturating_add(u32::try_from(over).unwrap_or(u32::MAX));
        }
        let index = index - over;
        if index >= self.open.len() {
            self.open.resize(index + 1, 0);
        }
        index
    }
}

/// Who says what: speakers take turns, each in its own room.
#[derive(Debug, Clone, Copy)]
pub struct Turns {
    speakers: u32,
    rooms: u32,
}

impl Turns {
    /// Rooms are dealt out to the speakers in turn, too.
    pub fn new(speakers: u32, rooms: u32) -> Self {
        Self {
            speakers: speakers.max(1),
            rooms: rooms.max(1),
        }
    }

    pub fn speaker(self, number: u32) -> u32 {
        number % self.speakers
    }

    /// A message's place among those of `room`; `None` if it is another room's.
    pub fn place(self, number: u32, room: usize) -> Option<u32> {
        let (round, speaker) = (number / self.speakers, number % self.speakers);
        let room = u32::try_from(room).ok()?;
        if speaker % self.rooms != room {
            return None;
        }
        let speakers = self.speakers.saturating_sub(room).div_ceil(self.rooms);
        Some(round * speakers + speaker / self.rooms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_read_once_in_any_order() {
        let mut seen = Seen::default();
        for place in [0, 2, 1, 300, 64, 63, 299] {
            assert!(seen.read(place), "{place}");
            assert!(!seen.read(place), "{place}");
        }
        assert!(seen.read(3));
    }

    #[test]
    fn a_member_that_misses_nothing_keeps_one_word() {
        let mut seen = Seen::default();
        for place in 0..100_000 {
            // Neighbours change places.
            assert!(seen.read(place ^ 1));
        }
        assert!(seen.open.len() <= 1);
        assert!(!seen.read(0) && !seen.read(99_999));
    }

    #[test]
    fn what_comes_far_too_late_is_taken_for_a_double() {
        let mut seen = Seen::default();
        assert!(seen.read(1));
        assert!(seen.read(MAX_OPEN - 1));
        assert!(seen.read(0));
        assert!(seen.read(MAX_OPEN));
        assert!(!seen.read(2));
        // The word that is open begins here.
        assert!(seen.read(64));
        assert!(seen.read(u32::MAX));
        assert!(!seen.read(u32::MAX - MAX_OPEN));
        assert!(seen.read(u32::MAX - 1));
        assert_eq!(seen.open.len(), MAX_WORDS);
    }

    #[test]
    fn a_rooms_messages_have_places_of_their_own() {
        for (speakers, rooms) in [(1, 1), (5, 2), (7, 3), (6, 3), (3, 3)] {
            let turns = Turns::new(speakers, rooms);
            for room in 0..rooms {
                let places = (0..100).filter_map(|number| turns.place(number, room as usize));
                let places: Vec<_> = places.collect();
                let all = u32::try_from(places.len()).unwrap();
                assert!(all > 0, "{speakers} {rooms} {room}");
                assert_eq!(places, (0..all).collect::<Vec<_>>(), "{speakers} {rooms}");
            }
            let rooms_of = |number| {
                (0..rooms).filter(move |room| turns.place(number, *room as usize).is_some())
            };
            assert!((0..100).all(|number| rooms_of(number).count() == 1));
        }
        assert_eq!(Turns::new(0, 0).place(3, 0), Some(3));
    }
}
