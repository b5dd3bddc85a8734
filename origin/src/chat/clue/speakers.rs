//! Who spoke lately: for limits, slow mode, and to find a user by login.

use std::collections::HashMap;

use common::{
    chat::{Login, Network, Roles, Sender, UserId, limit::Taken},
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
pub(super) struct Speakers(HashMap<Login, Speaker>);

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
        if self.0.len() >= MAX_SPEAKERS && !self.0.contains_key(login) {
            let old = now.0.saturating_sub(FORGOTTEN_AFTER_MS);
            self.0.retain(|_, speaker| speaker.seen.0 > old);
            if self.0.len() >= MAX_SPEAKERS {
                return None;
            }
        }
        let speaker = self.0.entry(login.clone()).or_insert_with(|| Speaker {
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
        self.0.get(login)
    }
}
