//! A parent that may be dialled, and how its link stands. The task of the parents
//! ([`super::parent`]) owns all of them and moves each from state to state.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::session::Session;

/// Pauses between attempts grow from the first to the last.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A parent that may be dialled. Its place in the list is its rank.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) address: String,
    pub(super) claim: Claim,
    pub(super) state: State,
    pub(super) pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Given,
    /// Named by a parent that drains: forgotten once its link is lost.
    Borrowed,
    /// Taken off the list: not dialled any more, and its place is free.
    Removed,
}

#[derive(Debug)]
pub(super) enum State {
    Idle {
        not_before: Instant,
    },
    Dialling,
    Connected(Arc<Session>),
    /// It drains, or is one too many; its tracks move, and at the latest then it is closed.
    Leaving(Arc<Session>, Instant),
}

impl State {
    pub(super) const fn stays(&self) -> bool {
        matches!(self, Self::Dialling | Self::Connected(_))
    }
}

impl Candidate {
    pub(super) fn new(address: String, claim: Claim) -> Self {
        Self {
            address,
            claim,
            state: State::Idle {
                not_before: Instant::now(),
            },
            pause: FIRST_PAUSE,
        }
    }

    /// Whether another may have its place in the list.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        match (self.claim, &self.state) {
            (Claim::Removed, State::Idle { .. }) => true,
            (Claim::Borrowed, State::Idle { not_before }) => *not_before > now,
            _ => false,
        }
    }
}

/// Between half of `pause` and all of it, so that a parent's children don't
/// all come back in one moment.
pub(super) fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8) % 1024;
    let half = pause / 2;
    half + half.mul_f64(f64::from(u16::try_from(random).unwrap_or(0)) / 1024.0)
}
