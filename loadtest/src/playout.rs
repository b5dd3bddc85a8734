//! A model of a player's buffer: would this delivery have stalled it?
//!
//! In: when which media arrived. Out: stalls and the time spent in them. It
//! starts to play once a hold-back of every track is buffered, that far behind
//! the end; it never speeds up, so a stall makes its buffer larger, as with
//! players that don't catch up. Media that never came is a stall where it is
//! missing: the picture stands for as long as it lasts, a hold-back at most, then
//! the model seeks over it. Bound: [`MAX_HOLES`]. Pure: time comes in as an
//! argument, in microseconds of any one clock.

use std::ops::Range;

/// Media that begins this close behind the last follows on it: times are rounded.
const SAME_US: i64 = 10_000;

/// Holes that it has yet to come to; further ones are stalls at once.
const MAX_HOLES: usize = 256;

/// One arrival of media on one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub track: usize,
    pub at_us: i64,
    /// Media time, in microseconds, on the track's own line.
    pub start_us: i64,
    pub end_us: i64,
    pub discontinuity: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Filling,
    Playing { since_us: i64, from_us: i64 },
    Stalled { since_us: i64, at_us: i64 },
    Ended,
}

#[derive(Debug, Clone, Copy, Default)]
struct Buffered {
    /// Added to media time so that the line runs on across discontinuities.
    shift_us: i64,
    start_us: i64,
    end_us: i64,
}

#[derive(Debug)]
pub struct Playout {
    hold_back_us: i64,
    /// What must be buffered to go on after a stall: one part.
    resume_us: i64,
    tracks: Vec<Option<Buffered>>,
    /// Media time ahead that a track never got: in order, apart from each other.
    holes: Vec<Range<i64>>,
    state: State,
    /// When it first played.
    began_us: Option<i64>,
    stalls: u64,
    stalled_us: i64,
}

/// What the model saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub started: bool,
    pub stalls: u64,
    pub stalled_us: i64,
    /// From when it first played, stalls included.
    pub watched_us: i64,
}

impl Playout {
    #[must_use]
    pub fn new(tracks: usize, hold_back_us: i64, resume_us: i64) -> Self {
        Self {
            hold_back_us,
            resume_us,
            tracks: vec![None; tracks],
            holes: Vec::new(),
            state: State::Filling,
            began_us: None,
            stalls: 0,
            stalled_us: 0,
        }
    }

    pub fn arrive(&mut self, arrival: Arrival) {
        self.advance(arrival.at_us);
        let Some(slot) = self.tracks.get_mut(arrival.track) else {
            return;
        };
        let buffered = slot.get_or_insert(Buffered {
            shift_us: 0,
            start_us: arrival.start_us,
            end_us: arrival.start_us,
        });
        if arrival.discontinuity {
            buffered.shift_us = buffered.end_us.saturating_sub(arrival.start_us);
        }
        let on_line = |us: i64| us.saturating_add(buffered.shift_us);
        let (start_us, end_us) = (on_line(arrival.start_us), on_line(arrival.end_us));
        let hole = buffered.end_us..start_us;
        buffered.end_us = buffered.end_us.max(end_us);
        if length(&hole) > SAME_US {
            if let State::Filling = self.state {
                // It begins behind the hole.
                buffered.start_us = start_us;
            } else {
                self.miss(hole);
            }
        }
        self.after_arrival(arrival.at_us);
    }

    /// A track went on behind `hole`.
    fn miss(&mut self, mut hole: Range<i64>) {
        // What both tracks miss at a time is missed once.
        self.holes.retain(|other| {
            let apart = other.end < hole.start || hole.end < other.start;
            if !apart {
                hole = hole.start.min(other.start)..hole.end.max(other.end);
            }
            apart
        });
        match &mut self.state {
            // It stands there already.
            State::Stalled { at_us, .. } if hole.contains(&*at_us) => *at_us = hole.end,
            _ if self.holes.len() < MAX_HOLES => {
                let at = self.holes.partition_point(|other| other.start < hole.start);
                self.holes.insert(at, hole);
            }
            _ => {
                self.stand(&hole);
            }
        }
    }

    /// Counts a hole as a stall; how long.
    fn stand(&mut self, hole: &Range<i64>) -> i64 {
        let stood_us = length(hole).min(self.hold_back_us);
        self.stalls += 1;
        self.stalled_us += stood_us;
        stood_us
    }

    fn after_arrival(&mut self, at_us: i64) {
        let Some((start_us, end_us)) = self.buffered() else {
            return;
        };
        match self.state {
            State::Filling if end_us.saturating_sub(start_us) >= self.hold_back_us => {
                self.began_us.get_or_insert(at_us);
                self.state = State::Playing {
                    since_us: at_us,
                    from_us: end_us.saturating_sub(self.hold_back_us),
                };
            }
            State::Stalled {
                since_us,
                at_us: media,
            } if end_us.saturating_sub(media) >= self.resume_us => {
                self.stalled_us += at_us.saturating_sub(since_us).max(0);
                self.state = State::Playing {
                    since_us: at_us,
                    from_us: media,
                };
            }
            _ => {}
        }
    }

    /// What every track has: from the latest start to the earliest end.
    fn buffered(&self) -> Option<(i64, i64)> {
        let mut range = (i64::MIN, i64::MAX);
        for track in &self.tracks {
            let track = (*track)?;
            range = (range.0.max(track.start_us), range.1.min(track.end_us));
        }
        (!self.tracks.is_empty()).then_some(range)
    }

    /// Plays on until `now_us`.
    pub fn advance(&mut self, now_us: i64) {
        let Some((_, end_us)) = self.buffered() else {
            return;
        };
        while let State::Playing { since_us, from_us } = self.state {
            // What comes first: a hole, or the end of what is buffered.
            let hole = self.holes.first().filter(|hole| hole.start < end_us);
            let hole = hole.cloned();
            let media_us = hole.as_ref().map_or(end_us, |hole| hole.start);
            let media_us = media_us.max(from_us);
            let at_us = since_us.saturating_add(media_us.saturating_sub(from_us));
            if now_us <= at_us {
                return;
            }
            self.state = if let Some(hole) = hole {
                self.holes.remove(0);
                State::Playing {
                    since_us: at_us.saturating_add(self.stand(&hole)),
                    from_us: hole.end,
                }
            } else {
                self.stalls += 1;
                State::Stalled {
                    since_us: at_us,
                    at_us: media_us,
                }
            };
        }
    }

    /// No more will come and nothing else is missing: what is buffered plays out.
    pub fn end(&mut self) {
        if let State::Playing { .. } = self.state {
            self.state = State::Ended;
            for hole in std::mem::take(&mut self.holes) {
                self.stand(&hole);
            }
        }
    }

    #[must_use]
    pub fn finish(mut self, now_us: i64) -> Outcome {
        self.advance(now_us);
        if let State::Stalled { since_us, .. } = self.state {
            self.stalled_us += now_us.saturating_sub(since_us).max(0);
        }
        Outcome {
            started: !matches!(self.state, State::Filling),
            stalls: self.stalls,
            stalled_us: self.stalled_us,
            watched_us: self
                .began_us
                .map_or(0, |began_us| now_us.saturating_sub(began_us).max(0)),
        }
    }
}

fn length(hole: &Range<i64>) -> i64 {
    hole.end.saturating_sub(hole.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1000;

    fn media(track: usize, at_ms: i64, start_ms: i64, end_ms: i64) -> Arrival {
        Arrival {
            track,
            at_us: at_ms * MS,
            start_us: start_ms * MS,
            end_us: end_ms * MS,
            discontinuity: false,
        }
    }

    /// 1 s of hold-back, parts of 300 ms, the first second at once.
    fn playing() -> Playout {
        let mut model = Playout::new(1, 1000 * MS, 300 * MS);
        model.arrive(media(0, 0, 5000, 6200));
        model
    }

    #[test]
    fn steady_delivery_never_stalls() {
        let mut model = playing();
        for part in 0..100 {
            model.arrive(media(
                0,
                300 * (part + 1),
                6200 + 300 * part,
                6500 + 300 * part,
            ));
        }
        let wanted = Outcome {
            started: true,
            stalls: 0,
            stalled_us: 0,
            watched_us: 30_000 * MS,
        };
        assert_eq!(model.finish(30_000 * MS), wanted);
    }

    #[test]
    fn a_late_part_within_the_hold_back_is_no_stall() {
        let mut model = playing();
        model.arrive(media(0, 1000, 6200, 6500));
        assert_eq!(model.finish(1299 * MS).stalls, 0);
    }

    #[test]
    fn a_pause_past_the_hold_back_is_one_stall_of_its_length() {
        let mut model = playing();
        // Playback ran dry at 1000 ms and needs 300 ms of media to go on.
        model.arrive(media(0, 1500, 6200, 6400));
        model.arrive(media(0, 1600, 6400, 6800));
        let outcome = model.finish(1700 * MS);
        assert_eq!((outcome.stalls, outcome.stalled_us), (1, 600 * MS));
        assert_eq!(outcome.watched_us, 1700 * MS);
    }

    #[test]
    fn the_slower_track_decides() {
        let mut model = Playout::new(2, 1000 * MS, 300 * MS);
        model.arrive(media(0, 0, 0, 9000));
        assert!(!matches!(model.state, State::Playing { .. }));
        model.arrive(media(1, 100, 0, 1000));
        model.advance(1101 * MS);
        assert_eq!(model.stalls, 1);
    }

    #[test]
    fn a_discontinuity_runs_on_where_the_old_line_ended() {
        let mut model = playing();
        model.arrive(Arrival {
            discontinuity: true,
            ..media(0, 300, 0, 300)
        });
        model.arrive(media(0, 600, 300, 600));
        assert_eq!(model.finish(1599 * MS).stalls, 0);
    }

    #[test]
    fn an_unfinished_stall_counts_until_the_end() {
        let outcome = playing().finish(3000 * MS);
        assert_eq!((outcome.stalls, outcome.stalled_us), (1, 2000 * MS));
        let empty = Playout::new(0, 0, 0).finish(9);
        assert_eq!((empty.started, empty.watched_us), (false, 0));
    }

    #[test]
    fn media_that_never_came_is_a_stall_where_it_is_missing() {
        let mut model = playing();
        // 6200 to 6500 is left out, as 6200 is played at 1000.
        model.arrive(media(0, 300, 6500, 6800));
        model.advance(1000 * MS);
        assert_eq!(model.stalls, 0);
        // The picture stands until 1300, with a second buffered all the time.
        for part in 1..=4 {
            let (at, start) = (300 * (part + 1), 6500 + 300 * part);
            model.arrive(media(0, at, start, start + 300));
        }
        let outcome = model.finish(1600 * MS);
        assert_eq!((outcome.stalls, outcome.stalled_us), (1, 300 * MS));
    }

    #[test]
    fn a_hole_of_both_tracks_is_one_stall() {
        let mut model = Playout::new(2, 1000 * MS, 300 * MS);
        for track in 0..2 {
            model.arrive(media(track, 0, 0, 1000 + 10 * track as i64));
        }
        for track in 0..2 {
            model.arrive(media(track, 100, 1300 + 10 * track as i64, 3000));
        }
        let outcome = model.finish(1500 * MS);
        assert_eq!((outcome.stalls, outcome.stalled_us), (1, 310 * MS));
    }

    #[test]
    fn a_stall_that_a_hole_ends_is_one_stall() {
        let mut model = playing();
        // Dry at 1000; what comes at 1500 is no media to wait for more of.
        model.arrive(media(0, 1500, 6800, 7000));
        model.arrive(media(0, 1600, 7000, 7200));
        let outcome = model.finish(1900 * MS);
        assert_eq!((outcome.stalls, outcome.stalled_us), (1, 600 * MS));
    }

    #[test]
    fn a_jump_of_the_clock_is_sought_over() {
        let mut model = playing();
        model.arrive(media(0, 300, 3_600_000, 3_602_000));
        let outcome = model.finish(3_900 * MS);
        // A hold-back from 1000 on, then two seconds of media.
        assert_eq!((outcome.stalls, outcome.stalled_us), (1, 1000 * MS));
    }

    #[test]
    fn a_hole_before_the_beginning_is_not_played() {
        let mut model = Playout::new(1, 1000 * MS, 300 * MS);
        model.arrive(media(0, 0, 0, 600));
        model.arrive(media(0, 0, 900, 1500));
        assert!(!model.finish(0).started);
        let mut model = Playout::new(1, 1000 * MS, 300 * MS);
        model.arrive(media(0, 0, 0, 600));
        model.arrive(media(0, 0, 900, 1900));
        assert_eq!(model.finish(1000 * MS).stalls, 0);
    }

    #[test]
    fn a_hole_in_what_plays_out_is_a_stall() {
        let mut model = playing();
        model.arrive(media(0, 300, 6500, 6800));
        model.end();
        let outcome = model.finish(1000 * MS);
        assert_eq!((outcome.stalls, outcome.stalled_us), (1, 300 * MS));
    }

    #[test]
    fn rounded_times_are_no_hole_and_holes_are_bounded() {
        let mut model = playing();
        model.arrive(media(0, 300, 6205, 6500));
        assert!(model.holes.is_empty());
        // The other track never comes on: the model stands, and holes pile up.
        let mut model = Playout::new(2, 1000 * MS, 300 * MS);
        model.arrive(media(0, 0, 0, 1000));
        model.arrive(media(1, 0, 0, 1000));
        for part in 0..2 * MAX_HOLES as i64 {
            model.arrive(media(0, 1500, 1200 + 100 * part, 1250 + 100 * part));
        }
        assert_eq!(model.holes.len(), MAX_HOLES);
    }
}
