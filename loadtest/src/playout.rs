//! A model of a player's buffer: would this delivery have stalled it?
//!
//! In: when which media arrived. Out: stalls and the time spent in them. It
//! starts to play once a hold-back of every track is buffered, that far behind
//! the end; it never seeks and never speeds up, so a stall makes its buffer
//! larger, as with players that don't catch up. Pure: time comes in as an
//! argument, in microseconds of any one clock.

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
        let end_us = arrival.end_us.saturating_add(buffered.shift_us);
        buffered.end_us = buffered.end_us.max(end_us);
        self.after_arrival(arrival.at_us);
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
        let (State::Playing { since_us, from_us }, Some((_, end_us))) =
            (self.state, self.buffered())
        else {
            return;
        };
        let dry_at_us = since_us.saturating_add(end_us.saturating_sub(from_us));
        if now_us > dry_at_us {
            self.stalls += 1;
            self.state = State::Stalled {
                since_us: dry_at_us,
                at_us: end_us,
            };
        }
    }

    /// No more will come and none is missing: what is buffered plays out.
    pub fn end(&mut self) {
        if let State::Playing { .. } = self.state {
            self.state = State::Ended;
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
}
