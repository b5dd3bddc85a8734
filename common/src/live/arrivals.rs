//! When each part of a window became available here: what `Age` is told from.
//!
//! In: how many parts a segment has by now, and the time. Out: the time at
//! which one of them, or the last of them, was there. Pure and beside the log,
//! which knows no clock; bounded by what of the log is recent.

use std::{collections::VecDeque, time::Instant};

use crate::names::Msn;

#[derive(Debug, Default)]
pub(super) struct Arrivals(VecDeque<(Msn, Vec<Instant>)>);

impl Arrivals {
    /// `msn` is the newest segment and has so many parts; nothing before
    /// `oldest` is asked about.
    pub(super) fn saw(&mut self, msn: Msn, parts: usize, oldest: Msn, now: Instant) {
        if self.0.back().is_none_or(|(last, _)| *last < msn) {
            self.0.push_back((msn, Vec::new()));
        }
        if let Some((_, times)) = self.0.back_mut().filter(|(last, _)| *last == msn) {
            times.resize(parts, now);
        }
        while self.0.front().is_some_and(|(first, _)| *first < oldest) {
            self.0.pop_front();
        }
    }

    pub(super) fn part(&self, msn: Msn, part: u32) -> Option<Instant> {
        self.times(msn)?.get(part as usize).copied()
    }

    /// When the newest part of it was there.
    pub(super) fn segment(&self, msn: Msn) -> Option<Instant> {
        self.times(msn)?.last().copied()
    }

    fn times(&self, msn: Msn) -> Option<&[Instant]> {
        let at = self.0.partition_point(|(held, _)| *held < msn);
        let found = self.0.get(at).filter(|(held, _)| *held == msn);
        found.map(|(_, times)| &times[..])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_part_keeps_the_time_it_came_at() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut arrivals = Arrivals::default();
        arrivals.saw(Msn(5), 0, Msn(5), at(0));
        arrivals.saw(Msn(5), 1, Msn(5), at(1));
        arrivals.saw(Msn(5), 2, Msn(5), at(2));
        // Its completion is no new part.
        arrivals.saw(Msn(5), 2, Msn(5), at(3));
        arrivals.saw(Msn(7), 1, Msn(5), at(4));
        assert_eq!(arrivals.part(Msn(5), 0), Some(at(1)));
        assert_eq!(arrivals.part(Msn(5), 1), Some(at(2)));
        assert_eq!(arrivals.part(Msn(5), 2), None);
        assert_eq!(arrivals.segment(Msn(5)), Some(at(2)));
        assert_eq!(arrivals.segment(Msn(6)), None);
        assert_eq!(arrivals.part(Msn(7), 0), Some(at(4)));
    }

    #[test]
    fn what_is_not_recent_is_forgotten() {
        let mut arrivals = Arrivals::default();
        for msn in 0..1_000 {
            let oldest = Msn(msn.max(9) - 9);
            arrivals.saw(Msn(msn), 6, oldest, Instant::now());
            assert!(arrivals.0.len() <= 10);
        }
    }
}
