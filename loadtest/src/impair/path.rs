//! One direction of an imperfect path. Pure: a datagram's length and the time
//! go in, the time of its delivery comes out, or that it is lost. What chance
//! decides is decided by the seed alone.
//!
//! The order is a real path's: a queue in front of a link of a certain rate,
//! which drops what does not fit; then the way itself, which takes a time that
//! varies, loses some and lets some overtake.

use std::time::{Duration, Instant};

/// How imperfect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    pub delay: Duration,
    /// Each datagram takes up to so much longer.
    pub jitter: Duration,
    /// Of all datagrams, from 0 to 1.
    pub loss: f64,
    /// The share that overtakes: it takes no `delay`.
    pub reorder: f64,
    /// Bits a second; `None` is as fast as can be.
    pub rate: Option<u64>,
    /// What the queue in front of `rate` holds at most, as time.
    pub queue: Duration,
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Delivered {
        at: Instant,
        /// How long it waited in front of the link.
        queued: Duration,
    },
    Lost,
    /// The queue was full.
    Overflowed,
}

/// See the module's text.
#[derive(Debug)]
pub struct Path {
    terms: Terms,
    chance: u64,
    /// When the link has sent all that is queued.
    busy_until: Option<Instant>,
    /// Nothing is delivered before what came before it, unless it overtakes.
    last: Option<Instant>,
}

impl Path {
    pub fn new(terms: Terms, seed: u64) -> Self {
        Self {
            terms,
            chance: seed,
            busy_until: None,
            last: None,
        }
    }

    pub fn send(&mut self, now: Instant, bytes: usize) -> Fate {
        // Drawn for each datagram, so that one number's use never shifts another's.
        let (loss, overtakes, varies) = (self.draw(), self.draw(), self.draw());
        let start = self.busy_until.map_or(now, |busy| busy.max(now));
        let queued = start.duration_since(now);
        let sent = match self.terms.rate {
            Some(rate) => {
                if queued > self.terms.queue {
                    return Fate::Overflowed;
                }
                let bits = bytes as f64 * 8.0;
                start + Duration::from_secs_f64(bits / rate.max(1) as f64)
            }
            None => now,
        };
        self.busy_until = Some(sent);
        if loss < self.terms.loss {
            return Fate::Lost;
        }
        if overtakes < self.terms.reorder {
            return Fate::Delivered { at: sent, queued };
        }
        let at = sent + self.terms.delay + self.terms.jitter.mul_f64(varies);
        let at = self.last.map_or(at, |last| last.max(at));
        self.last = Some(at);
        Fate::Delivered { at, queued }
    }

    /// From 0 to below 1, by SplitMix64.
    fn draw(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PERFECT: Terms = Terms {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        reorder: 0.0,
        rate: None,
        queue: Duration::ZERO,
    };

    fn fates(terms: Terms, seed: u64, count: u32) -> Vec<Fate> {
        let begin = Instant::now();
        let mut path = Path::new(terms, seed);
        let fates = (0..count).map(|at| match path.send(begin + MS * at, 1_250) {
            // Relative to its sending, so that two runs compare.
            Fate::Delivered { at: then, queued } => Fate::Delivered {
                at: begin + then.duration_since(begin + MS * at),
                queued,
            },
            other => other,
        });
        fates.collect()
    }

    fn delays(terms: Terms) -> Vec<Duration> {
        let begin = Instant::now();
        let mut path = Path::new(terms, 1);
        let sent = (0..2_000).filter_map(|_| match path.send(begin, 1_250) {
            Fate::Delivered { at, .. } => Some(at.duration_since(begin)),
            _ => None,
        });
        sent.collect()
    }

    #[test]
    fn a_perfect_path_delivers_at_once() {
        assert!(delays(PERFECT).iter().all(Duration::is_zero));
    }

    #[test]
    fn a_seed_is_a_run() {
        let lossy = Terms {
            loss: 0.2,
            reorder: 0.1,
            ..PERFECT
        };
        let kinds = |seed| {
            let kind = |fate: &Fate| matches!(fate, Fate::Lost);
            fates(lossy, seed, 10_000)
                .iter()
                .map(kind)
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(7), kinds(7));
        assert_ne!(kinds(7), kinds(8));
        let lost = kinds(7).iter().filter(|lost| **lost).count();
        assert!((1_850..2_150).contains(&lost), "{lost}");
    }

    #[test]
    fn jitter_varies_the_delay_and_keeps_the_order() {
        let jittery = Terms {
            delay: MS * 50,
            jitter: MS * 20,
            ..PERFECT
        };
        let delays = delays(jittery);
        assert!(delays.is_sorted());
        assert!(delays[0] >= MS * 50 && *delays.last().unwrap() <= MS * 70);
        assert!(delays.last() > delays.first());
    }

    #[test]
    fn some_overtake() {
        let terms = Terms {
            delay: MS * 50,
            reorder: 0.1,
            ..PERFECT
        };
        let early = delays(terms)
            .iter()
            .filter(|delay| **delay < MS * 50)
            .count();
        assert!((150..250).contains(&early), "{early}");
    }

    #[test]
    fn a_rate_spaces_datagrams_and_a_full_queue_drops() {
        // 1,250 bytes at 10 Mbit/s take a millisecond; 20 more fit into the queue.
        let narrow = Terms {
            rate: Some(10_000_000),
            queue: MS * 20,
            ..PERFECT
        };
        let delays = delays(narrow);
        let spaced: Vec<_> = (1..=21).map(|at| MS * at).collect();
        assert_eq!(delays, spaced);
        let paced = fates(narrow, 1, 2_000);
        let waits = |fate: &Fate| matches!(fate, Fate::Delivered { queued, .. } if *queued < MS);
        assert!(paced.iter().all(waits), "as fast as it is filled");
    }
}
