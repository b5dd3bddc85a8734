//! What readers of a room read, compared with each other.
//!
//! The first reader to read a message of a room says where it stands; everybody
//! else must read it in the same place. Speakers are not asked: a server does not
//! tell them their own words.

/// Where a reader stands in its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reader {
    next: u32,
    /// Messages that came, in their order.
    pub read: u32,
    /// Messages that came twice, or elsewhere than to others.
    pub misplaced: u32,
}

/// The order of every room.
#[derive(Debug)]
pub struct Ledger {
    rooms: Vec<Vec<u32>>,
    /// By message: where it stands in its room.
    places: Vec<Option<u32>>,
}

impl Ledger {
    pub fn new(rooms: usize) -> Self {
        Self {
            rooms: vec![Vec::new(); rooms],
            places: Vec::new(),
        }
    }

    /// So many messages more are sent, numbered from 0.
    pub fn send(&mut self, count: u32) {
        let places = self.places.len() + count as usize;
        self.places.resize(places, None);
    }

    /// Messages that were sent.
    pub fn total(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    /// What was read of each room, in its order.
    pub fn into_orders(self) -> Vec<Vec<u32>> {
        self.rooms
    }

    /// A reader of `room` read a message.
    pub fn read(&mut self, room: usize, number: u32, reader: &mut Reader) {
        let (Some(order), Some(place)) = (
            self.rooms.get_mut(room),
            self.places.get_mut(number as usize),
        ) else {
            // Of another run.
            reader.misplaced += 1;
            return;
        };
        let end = u32::try_from(order.len()).unwrap_or(u32::MAX);
        match *place {
            Some(at) if at >= reader.next => {
                // What stands between was not read, and is missed at the end.
                reader.next = at + 1;
                reader.read += 1;
            }
            None if reader.next == end => {
                *place = Some(end);
                order.push(number);
                reader.next = end + 1;
                reader.read += 1;
            }
            None => {
                // Who was ahead here read something else.
                *place = Some(end);
                order.push(number);
                reader.misplaced += 1;
            }
            Some(_) => reader.misplaced += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of some readers of one room read: read and misplaced.
    fn after(reads: &[&[u32]]) -> Vec<(u32, u32)> {
        let mut ledger = Ledger::new(1);
        ledger.send(10);
        let mut readers = vec![Reader::default(); reads.len()];
        for (numbers, reader) in reads.iter().zip(&mut readers) {
            for number in *numbers {
                ledger.read(0, *number, reader);
            }
        }
        let counts = readers.iter();
        counts
            .map(|reader| (reader.read, reader.misplaced))
            .collect()
    }

    #[test]
    fn one_order_is_any_order_that_all_agree_on() {
        assert_eq!(after(&[&[2, 0, 1], &[2, 0, 1]]), [(3, 0), (3, 0)]);
        // Whoever is ahead says where things stand.
        assert_eq!(
            after(&[&[2], &[2, 0, 1], &[2, 0]]),
            [(1, 0), (3, 0), (2, 0)]
        );
    }

    #[test]
    fn losses_doubles_and_other_orders_are_told_apart() {
        assert_eq!(after(&[&[0, 1, 2], &[0, 2]]), [(3, 0), (2, 0)]);
        assert_eq!(after(&[&[0, 1, 2], &[0, 1, 1, 2]]), [(3, 0), (3, 1)]);
        assert_eq!(after(&[&[0, 1, 2], &[1, 0, 2]]), [(3, 0), (2, 1)]);
        // The first reader missed one: that shows too.
        assert_eq!(after(&[&[0, 2], &[0, 1, 2]]), [(2, 0), (2, 1)]);
        assert_eq!(after(&[&[99]]), [(0, 1)]);
    }

    #[test]
    fn rooms_have_orders_of_their_own() {
        let mut ledger = Ledger::new(2);
        ledger.send(1);
        ledger.send(1);
        assert_eq!(ledger.total(), 2);
        let (mut one, mut other) = (Reader::default(), Reader::default());
        ledger.read(0, 1, &mut one);
        ledger.read(1, 0, &mut other);
        assert_eq!((one.read, other.read), (1, 1));
        assert_eq!((one.misplaced, other.misplaced), (0, 0));
    }
}
