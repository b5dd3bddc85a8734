//! Who spoke lately: for limits, slow mode, and to find a user by login.

use std::collections::HashMap;

use common::{
    chat::{Author, Login, Network, Roles, Sender, UserId, limit::Taken},
    live::UnixMs,
};

use super::MAX_SPEAKERS;

/// Nothing that a limit counts is older.
const FORGOTTEN_AFTER_MS: u64 = 10 * 60_000;

#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) user: UserId,
    pub(super) roles: Roles,
    pub(super) network: Option<Network>,
    pub(super) taken: Taken,
    pub(super) commands: Taken,
    /// When something was said and accepted.
    pub(super) said: Option<UnixMs>,
    seen: UnixMs,
}

/// At most [`MAX_SPEAKERS`].
#[derive(Debug, Default)]
pub(super) struct Speakers {
    by_login: HashMap<Login, Speaker>,
    /// Whoever is not here may have spoken until then: as far back as is known of an
    /// earlier life.
    known_from: Option<UnixMs>,
}

impl Speakers {
    /// The sender's entry; `None` where there is no room for one more who spoke
    /// within [`FORGOTTEN_AFTER_MS`].
    pub(super) fn of(
        &mut self,
        now: UnixMs,
        sender: &Sender,
        roles: Roles,
    ) -> Option<&mut Speaker> {
        let login = &sender.user.login;
        let by_login = &mut self.by_login;
        if by_login.len() >= MAX_SPEAKERS && !by_login.contains_key(login) {
            let old = now.0.saturating_sub(FORGOTTEN_AFTER_MS);
            by_login.retain(|_, speaker| speaker.seen.0 > old);
            if by_login.len() >= MAX_SPEAKERS {
                return None;
            }
        }
        let speaker = by_login.entry(login.clone()).or_insert_with(|| Speaker {
            user: sender.user.id.clone(),
            roles,
            network: sender.network,
            taken: Taken::default(),
            commands: Taken::default(),
            said: None,
            seen: now,
        });
        speaker.user = sender.user.id.clone();
        speaker.roles = roles;
        speaker.network = sender.network;
        speaker.seen = now;
        Some(speaker)
    }

    pub(super) fn find(&self, login: &Login) -> Option<&Speaker> {
        self.by_login.get(login)
    }

    /// When a user spoke last, as far as it may matter.
    pub(super) fn said(&self, login: &Login) -> Option<UnixMs> {
        let own = self.find(login).and_then(|speaker| speaker.said);
        own.max(self.known_from)
    }

    /// In an earlier life of the room somebody spoke, as of another clock perhaps.
    pub(super) fn recall(&mut self, now: UnixMs, author: &Author, at: UnixMs) {
        let at = at.min(now);
        if now.0.saturating_sub(at.0) >= FORGOTTEN_AFTER_MS {
            return;
        }
        let sender = Sender {
            user: author.user.clone(),
            roles: author.roles,
            follows_since: None,
            network: None,
        };
        if let Some(speaker) = self.of(now, &sender, author.roles) {
            speaker.said = speaker.said.max(Some(at));
        }
    }

    /// Nothing is known of who spoke before.
    pub(super) fn known_from(&mut self, now: UnixMs, at: UnixMs) {
        self.known_from = Some(at.min(now));
    }
}
