//! Messages that wait for a moderator, and users that may post links for a while.
//! A held message is kept with the room's moderation, so that it can be looked at
//! whoever owns the room by then; a permit lasts a minute and goes with the process.

use std::collections::{HashMap, VecDeque};

use common::{
    chat::{Login, MessageId, Sender, Text, request::HeldSeen},
    live::UnixMs,
};

/// Messages of one room that wait.
pub const MAX_HELD: usize = 128;

/// Those of one user, so that nobody fills the queue alone.
pub const MAX_HELD_OF_ONE: usize = 4;

/// Nobody answers a message of five minutes ago.
pub const HELD_FOR_MS: u64 = 5 * 60_000;

/// Users with a permit at once.
pub const MAX_PERMITS: usize = 256;

/// A message as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub id: MessageId,
    pub at: UnixMs,
    pub sender: Sender,
    pub text: Text,
    pub action: bool,
    pub reply_to: Option<MessageId>,
}

impl Held {
    /// Whether nobody will look at it any more.
    #[must_use]
    pub const fn is_late(&self, now: UnixMs) -> bool {
        self.at.0.saturating_add(HELD_FOR_MS) <= now.0
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Review {
    /// At most [`MAX_HELD`], oldest first.
    held: VecDeque<Held>,
    /// Those that wait no more and that may still be kept somewhere: as many, since
    /// keeping one more says so of these.
    gone: Vec<MessageId>,
    expired: u64,
    turned_away: u64,
    permits: HashMap<Login, UnixMs>,
}

impl Review {
    /// What an earlier life held, in any order.
    pub(super) fn of(held: impl IntoIterator<Item = Held>) -> Self {
        let mut held: Vec<_> = held.into_iter().collect();
        held.sort_unstable_by_key(|held| (held.at, held.id));
        Self {
            held: held.into(),
            ..Self::default()
        }
    }

    /// Whether there was a place for one more, of this user.
    pub(super) fn push(&mut self, held: Held) -> bool {
        let login = &held.sender.user.login;
        let own = self
            .held
            .iter()
            .filter(|other| other.sender.user.login == *login);
        if self.held.len() >= MAX_HELD || own.count() >= MAX_HELD_OF_ONE {
            self.turned_away += 1;
            return false;
        }
        self.held.push_back(held);
        true
    }

    pub(super) fn take(&mut self, id: MessageId) -> Option<Held> {
        let at = self.held.iter().position(|held| held.id == id)?;
        self.gone.push(id);
        self.held.remove(at)
    }

    /// Of who was banned or timed out nothing is said any more.
    pub(super) fn forget(&mut self, login: &Login) {
        let (held, gone) = (&mut self.held, &mut self.gone);
        held.retain(|held| {
            let stays = held.sender.user.login != *login;
            if !stays {
                gone.push(held.id);
            }
            stays
        });
        self.permits.remove(login);
    }

    pub(super) fn expire(&mut self, now: UnixMs) {
        while let Some(held) = self.held.pop_front_if(|held| held.is_late(now)) {
            self.gone.push(held.id);
            self.expired += 1;
        }
    }

    /// Nobody is there to look at anything.
    pub(super) fn give_up(&mut self) {
        self.gone.extend(self.held.drain(..).map(|held| held.id));
    }

    /// Those that wait no more, since this was asked last.
    pub(super) fn take_gone(&mut self) -> Vec<MessageId> {
        std::mem::take(&mut self.gone)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Messages that nobody looked at in time, ever.
    pub(super) const fn expired(&self) -> u64 {
        self.expired
    }

    /// Messages for which there was no place, ever.
    pub(super) const fn turned_away(&self) -> u64 {
        self.turned_away
    }

    pub(super) fn seen(&self) -> Vec<HeldSeen> {
        let seen = self.held.iter().map(|held| HeldSeen {
            id: held.id,
            login: held.sender.user.login.clone(),
            text: held.text.clone(),
            at: held.at,
        });
        seen.collect()
    }

    /// Whether there was a place.
    pub(super) fn permit(&mut self, now: UnixMs, login: &Login, seconds: u32) -> bool {
        self.permits.retain(|_, until| *until > now);
        if self.permits.len() >= MAX_PERMITS && !self.permits.contains_key(login) {
            return false;
        }
        let until = UnixMs(now.0.saturating_add(u64::from(seconds) * 1_000));
        self.permits.insert(login.clone(), until);
        true
    }

    pub(super) fn is_permitted(&self, now: UnixMs, login: &Login) -> bool {
        self.permits.get(login).is_some_and(|until| *until > now)
    }
}
