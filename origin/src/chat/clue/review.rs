//! Messages that wait for a moderator, and users that may post links for a while.
//! Neither outlives the process: a held message's author was told that it was not
//! sent, and a permit lasts a minute.

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
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) id: MessageId,
    pub(super) at: UnixMs,
    pub(super) sender: Sender,
    pub(super) text: Text,
    pub(super) action: bool,
    pub(super) reply_to: Option<MessageId>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Review {
    /// At most [`MAX_HELD`], oldest first.
    held: VecDeque<Held>,
    expired: u64,
    turned_away: u64,
    permits: HashMap<Login, UnixMs>,
}

impl Review {
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
        self.held.remove(at)
    }

    /// Of who was banned or timed out nothing is said any more.
    pub(super) fn forget(&mut self, login: &Login) {
        self.held.retain(|held| held.sender.user.login != *login);
        self.permits.remove(login);
    }

    pub(super) fn expire(&mut self, now: UnixMs) {
        let late = |held: &Held| held.at.0.saturating_add(HELD_FOR_MS) <= now.0;
        while self.held.front().is_some_and(late) {
            self.held.pop_front();
            self.expired += 1;
        }
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
