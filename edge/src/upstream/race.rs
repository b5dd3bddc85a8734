//! When a track's reader turns to another parent: make before break. Pure.
//!
//! A silent parent gets a rival after two part durations: whoever brings the
//! next record first is believed, and both write the same bytes, so nothing is
//! lost by waiting a moment for the one that was silent. A better path gets its
//! chance beside the present one, which stays until the other has caught up.

use std::time::Duration;

use common::names::Msn;
use tokio::time::Instant;

/// A parent that has not even answered: it may be building the channel up.
const ANSWER: Duration = Duration::from_secs(1);

/// A better path that brings nothing in this time, while the present one does,
/// is none.
const PROOF: Duration = Duration::from_secs(5);

/// Pauses between rivals that did not win grow from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(16);

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Segment and chunk that it brings next; `None` before it was answered.
    pub(super) at: Option<(Msn, u32)>,
    /// When it began, was answered, or brought its last record.
    pub(super) since: Instant,
    /// Whether it brought any record.
    pub(super) proven: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The present parent is silent.
    Silent,
    /// There is a better path, or the present one leaves.
    Better,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Stay,
    Rival(Why),
    /// The rival goes; with `fault`, because it brought nothing.
    Drop {
        fault: bool,
    },
    /// The rival takes over; with `fault`, because the other was silent.
    Swap {
        fault: bool,
    },
}

/// What surrounds the subscription.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    /// Another path is the best one.
    pub(super) better: bool,
    /// There is another path at all.
    pub(super) other: bool,
    /// Media is due: the publisher is there.
    pub(super) live: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Race {
    /// How long a parent may be silent.
    patience: Duration,
    rival: Option<(Instant, Why)>,
    leads_since: Option<Instant>,
    not_before: Option<Instant>,
    pause: Duration,
}

impl Race {
    pub(super) fn new(part: Duration) -> Self {
        Self {
            patience: part * 2,
            rival: None,
            leads_since: None,
            not_before: None,
            pause: FIRST_PAUSE,
        }
    }

    pub(super) fn judge(
        &mut self,
        now: Instant,
        present: Standing,
        rival: Option<Standing>,
        around: Around,
    ) -> Verdict {
        let verdict = match (self.rival, rival) {
            (Some((began, why)), Some(rival)) => {
                self.between(now, present, rival, began, why, around)
            }
            _ => self.alone(now, present, around),
        };
        match verdict {
            Verdict::Rival(why) => {
                self.rival = Some((now, why));
                self.leads_since = None;
            }
            Verdict::Drop { .. } => self.lost(now),
            Verdict::Swap { .. } => self.won(),
            Verdict::Stay => {}
        }
        verdict
    }

    /// When to judge again, if nothing happens before.
    pub(super) fn due(&self, now: Instant, present: Standing, around: Around) -> Option<Instant> {
        if self.rival.is_some() {
            return Some(now + self.patience / 16);
        }
        let wanted = if around.better {
            now
        } else if around.live && around.other {
            present.since + self.patience_with(present)
        } else {
            return None;
        };
        Some(
            self.not_before
                .map_or(wanted, |not_before| wanted.max(not_before)),
        )
    }

    /// The rival ended by itself.
    pub(super) fn lost(&mut self, now: Instant) {
        self.rival = None;
        self.not_before = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }

    /// The rival took the other's place.
    pub(super) fn won(&mut self) {
        self.rival = None;
        self.not_before = None;
        self.pause = FIRST_PAUSE;
    }

    fn patience_with(&self, present: Standing) -> Duration {
        match present.at {
            Some(_) => self.patience,
            None => self.patience.max(ANSWER),
        }
    }

    fn alone(&self, now: Instant, present: Standing, around: Around) -> Verdict {
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return Verdict::Stay;
        }
        let silent = now.duration_since(present.since) >= self.patience_with(present);
        if around.better {
            Verdict::Rival(Why::Better)
        } else if around.live && around.other && silent {
            Verdict::Rival(Why::Silent)
        } else {
            Verdict::Stay
        }
    }

    fn between(
        &mut self,
        now: Instant,
        present: Standing,
        rival: Standing,
        began: Instant,
        why: Why,
        around: Around,
    ) -> Verdict {
        let moved = present.since > began;
        match why {
            Why::Silent if rival.proven && rival.at > present.at => {
                let since = *self.leads_since.get_or_insert(now);
                if now.duration_since(since) >= self.patience / 2 {
                    Verdict::Swap { fault: true }
                } else {
                    Verdict::Stay
                }
            }
            Why::Silent if moved || !around.live => Verdict::Drop { fault: false },
            Why::Better if rival.proven && rival.at >= present.at => Verdict::Swap { fault: false },
            Why::Better if !around.better => Verdict::Drop { fault: false },
            Why::Better if moved && now.duration_since(began) >= PROOF => {
                Verdict::Drop { fault: true }
            }
            Why::Silent => {
                self.leads_since = None;
                Verdict::Stay
            }
            Why::Better => Verdict::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Duration = Duration::from_millis(300);
    const AROUND: Around = Around {
        better: false,
        other: true,
        live: true,
    };

    fn at(chunk: u32, since: Instant) -> Standing {
        Standing {
            at: Some((Msn(7), chunk)),
            since,
            proven: true,
        }
    }

    fn fresh(chunk: u32, since: Instant) -> Standing {
        Standing {
            proven: false,
            ..at(chunk, since)
        }
    }

    #[test]
    fn a_silent_parent_gets_a_rival_after_two_parts_and_goes_when_it_is_ahead() {
        let begin = Instant::now();
        let mut race = Race::new(PART);
        let present = at(5, begin);
        assert_eq!(race.due(begin, present, AROUND), Some(begin + PART * 2));
        let early = begin + PART * 2 - Duration::from_millis(1);
        assert_eq!(race.judge(early, present, None, AROUND), Verdict::Stay);
        let now = begin + PART * 2;
        assert_eq!(
            race.judge(now, present, None, AROUND),
            Verdict::Rival(Why::Silent)
        );
        assert_eq!(
            race.judge(now, present, Some(fresh(5, now)), AROUND),
            Verdict::Stay
        );
        let ahead = Some(at(6, now));
        assert_eq!(race.judge(now, present, ahead, AROUND), Verdict::Stay);
        let later = now + PART;
        assert_eq!(
            race.judge(later, present, ahead, AROUND),
            Verdict::Swap { fault: true }
        );
    }

    #[test]
    fn a_publisher_that_paused_costs_nobody_a_place() {
        let begin = Instant::now();
        let mut race = Race::new(PART);
        let mut now = begin + PART * 2;
        race.judge(now, at(5, begin), None, AROUND);
        for _ in 0..100 {
            now += PART;
            let both = race.judge(now, at(5, begin), Some(fresh(5, begin)), AROUND);
            assert_eq!(both, Verdict::Stay);
        }
        // It is gone: nobody is asked beside.
        let mut gone = Race::new(PART);
        gone.judge(now, at(5, begin), None, AROUND);
        let away = Around {
            live: false,
            ..AROUND
        };
        let dropped = gone.judge(now, at(5, begin), Some(fresh(5, begin)), away);
        assert_eq!(dropped, Verdict::Drop { fault: false });
        // The rival is a little faster; the other follows at once.
        assert_eq!(
            race.judge(now, at(5, begin), Some(at(6, now)), AROUND),
            Verdict::Stay
        );
        let dropped = race.judge(now, at(6, now), Some(at(6, now)), AROUND);
        assert_eq!(dropped, Verdict::Drop { fault: false });
        // Not again at once.
        let silent = at(6, begin);
        assert_eq!(race.judge(now, silent, None, AROUND), Verdict::Stay);
        let again = race.judge(now + FIRST_PAUSE, silent, None, AROUND);
        assert_eq!(again, Verdict::Rival(Why::Silent));
    }

    #[test]
    fn nothing_is_due_from_a_publisher_that_is_away_and_no_rival_without_another_path() {
        let begin = Instant::now();
        let mut race = Race::new(PART);
        let now = begin + PART * 100;
        for around in [
            Around {
                live: false,
                ..AROUND
            },
            Around {
                other: false,
                ..AROUND
            },
        ] {
            assert_eq!(race.judge(now, at(5, begin), None, around), Verdict::Stay);
            assert_eq!(race.due(now, at(5, begin), around), None);
        }
    }

    #[test]
    fn a_parent_that_does_not_answer_is_given_a_second() {
        let begin = Instant::now();
        let mut race = Race::new(PART);
        let unanswered = Standing {
            at: None,
            since: begin,
            proven: false,
        };
        let stays = race.judge(begin + PART * 2, unanswered, None, AROUND);
        assert_eq!(stays, Verdict::Stay);
        let rival = race.judge(begin + ANSWER, unanswered, None, AROUND);
        assert_eq!(rival, Verdict::Rival(Why::Silent));
    }

    #[test]
    fn a_better_path_takes_over_once_it_has_caught_up() {
        let now = Instant::now();
        let mut race = Race::new(PART);
        let around = Around {
            better: true,
            ..AROUND
        };
        assert_eq!(
            race.judge(now, at(5, now), None, around),
            Verdict::Rival(Why::Better)
        );
        assert_eq!(
            race.judge(now, at(5, now), Some(fresh(5, now)), around),
            Verdict::Stay
        );
        assert_eq!(
            race.judge(now, at(7, now), Some(at(6, now)), around),
            Verdict::Stay
        );
        let caught_up = race.judge(now, at(7, now), Some(at(7, now)), around);
        assert_eq!(caught_up, Verdict::Swap { fault: false });
    }

    #[test]
    fn a_better_path_that_brings_nothing_is_none() {
        let now = Instant::now();
        let mut race = Race::new(PART);
        let around = Around {
            better: true,
            ..AROUND
        };
        race.judge(now, at(5, now), None, around);
        let later = now + PROOF;
        let nothing = race.judge(later, at(5, now), Some(fresh(5, now)), around);
        assert_eq!(nothing, Verdict::Stay, "nobody brings anything");
        let nothing = race.judge(later, at(9, later), Some(fresh(5, now)), around);
        assert_eq!(nothing, Verdict::Drop { fault: true });
    }
}
