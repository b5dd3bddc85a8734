//! How often somebody may do something: so many in any span of time, counted one
//! by one, as Twitch counts.

use std::collections::VecDeque;

/// So many within so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub most: usize,
    pub span_ms: u64,
}

/// Messages of one user.
pub const USER_MESSAGES: Rate = Rate {
    most: 20,
    span_ms: 30_000,
};

/// Messages of one user where they moderate.
pub const MODERATOR_MESSAGES: Rate = Rate {
    most: 100,
    span_ms: 30_000,
};

/// Rooms joined, and sign-ins.
pub const JOINS: Rate = Rate {
    most: 20,
    span_ms: 10_000,
};

pub const SIGN_INS: Rate = Rate {
    most: 20,
    span_ms: 10_000,
};

/// When somebody did it, at most as many entries as a rate's `most`.
#[derive(Debug, Clone, Default)]
pub struct Taken(VecDeque<u64>);

impl Taken {
    /// Takes one of `rate` at `now_ms`, of any clock that does not go back.
    ///
    /// # Errors
    /// In how many milliseconds there will be one again; nothing was taken.
    pub fn take(&mut self, now_ms: u64, rate: Rate) -> Result<(), u64> {
        let over = |at: &u64| at.saturating_add(rate.span_ms) <= now_ms;
        while self.0.front().is_some_and(over) {
            self.0.pop_front();
        }
        if self.0.len() < rate.most {
            self.0.push_back(now_ms);
            return Ok(());
        }
        // A moderator that is one no longer has more than fit.
        let freeing = self.0.len().saturating_sub(rate.most);
        let at = self.0.get(freeing).copied().unwrap_or(now_ms);
        Err(at.saturating_add(rate.span_ms).saturating_sub(now_ms))
    }

    /// Whether [`Self::take`] would take one.
    #[must_use]
    pub fn has(&self, now_ms: u64, rate: Rate) -> bool {
        let over = |at: &u64| at.saturating_add(rate.span_ms) <= now_ms;
        self.0.len() - self.0.partition_point(over) < rate.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_span_holds_more_than_the_rate() {
        let rate = Rate {
            most: 2,
            span_ms: 100,
        };
        let mut taken = Taken::default();
        assert_eq!(taken.take(0, rate), Ok(()));
        assert_eq!(taken.take(60, rate), Ok(()));
        assert!(!taken.has(99, rate));
        assert_eq!(taken.take(99, rate), Err(1));
        assert!(taken.has(100, rate));
        assert_eq!(taken.take(100, rate), Ok(()));
        assert!(!taken.has(101, rate));
        assert_eq!(taken.take(101, rate), Err(59));
    }

    #[test]
    fn who_may_less_than_before_waits_for_the_lesser_rate() {
        let mut taken = Taken::default();
        for now in 0..100 {
            assert_eq!(taken.take(now, MODERATOR_MESSAGES), Ok(()));
        }
        assert_eq!(taken.take(100, USER_MESSAGES), Err(80 + 30_000 - 100));
        assert_eq!(taken.take(30_080, USER_MESSAGES), Ok(()));
    }
}
