//! How often the connections of a room are woken, as a pure core: at once where few
//! read, and at distances that grow with the readers where many do. What is said
//! meanwhile leaves in one write for each of them: a busy room of thousands costs
//! the processor by the write, not by the message.

use std::time::Duration;

use tokio::time::Instant;

/// A round of writes takes a few microseconds a reader; rounds this far apart leave
/// the processor to others, too.
const PER_READER: Duration = Duration::from_micros(20);

/// The longest that a message waits for others. A person does not see it.
const MOST: Duration = Duration::from_millis(100);

/// With fewer readers nothing waits.
const FEW: u32 = 250;

/// When to wake a room's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Now,
    At(Instant),
    /// They will be woken anyway.
    Due,
}

/// See the module's text. One per room.
#[derive(Debug, Default)]
pub struct Pace {
    woken: Option<Instant>,
    due: bool,
}

impl Pace {
    /// Something is to be read, by so many.
    pub fn moved(&mut self, now: Instant, readers: u32) -> Turn {
        if readers < FEW {
            return Turn::Now;
        }
        if self.due {
            return Turn::Due;
        }
        let apart = MOST.min(PER_READER * readers);
        match self.woken.map(|woken| woken + apart) {
            Some(next) if next > now => {
                self.due = true;
                Turn::At(next)
            }
            _ => {
                self.woken = Some(now);
                Turn::Now
            }
        }
    }

    /// The turn that was due begins.
    pub fn begins(&mut self, now: Instant) {
        self.woken = Some(now);
        self.due = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_room_never_waits() {
        let mut pace = Pace::default();
        let now = Instant::now();
        assert!((0..100).all(|_| pace.moved(now, FEW - 1) == Turn::Now));
    }

    #[test]
    fn a_large_room_waits_for_one_turn_at_a_time() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // After a silence the first word goes at once.
        assert_eq!(pace.moved(at(0), 1_000), Turn::Now);
        assert_eq!(pace.moved(at(1), 1_000), Turn::At(at(20)));
        assert_eq!(pace.moved(at(2), 1_000), Turn::Due);
        pace.begins(at(21));
        assert_eq!(pace.moved(at(22), 1_000), Turn::At(at(41)));
        pace.begins(at(41));
        assert_eq!(pace.moved(at(61), 1_000), Turn::Now);
    }

    #[test]
    fn nobody_waits_longer_than_a_person_notices() {
        let mut pace = Pace::default();
        let now = Instant::now();
        assert_eq!(pace.moved(now, u32::MAX), Turn::Now);
        assert_eq!(pace.moved(now, u32::MAX), Turn::At(now + MOST));
    }
}
