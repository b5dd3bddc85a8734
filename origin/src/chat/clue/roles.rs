//! Who is what in the room, by the broadcaster's word and by the operator's.

use std::{collections::HashSet, sync::Arc};

use common::{
    chat::{Body, Event, Login, MessageId, Notice, NoticeId, Roles, Sender, Settings},
    live::UnixMs,
};

use super::{Change, Clue, Decision, MAX_ROLES, done, moderate::Deed, refused};
use crate::chat::policy::Policy;

/// Names that one answer lists.
const LISTED: usize = 100;

/// Users that one new roles file tells of at once; whoever else it changes learns
/// it with the next list.
const TOLD: usize = 256;

/// A role that a broadcaster gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    Moderator,
    Vip,
}

impl Grant {
    const fn of(self, roles: Roles) -> bool {
        match self {
            Self::Moderator => roles.moderator,
            Self::Vip => roles.vip,
        }
    }

    const fn set(self, mut roles: Roles, on: bool) -> Roles {
        match self {
            Self::Moderator => roles.moderator = on,
            Self::Vip => roles.vip = on,
        }
        roles
    }
}

impl Clue {
    /// By the token, by what the broadcaster granted here, by the operator's file.
    pub(super) fn roles_of(&self, sender: &Sender) -> Roles {
        sender.roles.union(self.own_word(&sender.user.login))
    }

    /// The same without a token.
    pub(super) fn own_word(&self, login: &Login) -> Roles {
        let granted = self.roles.get(login).copied().unwrap_or_default();
        granted.union(self.policy.roles.of(&self.room, login))
    }

    /// Everybody who is something here by this room's own word, in no order.
    #[must_use]
    pub fn roles(&self) -> Vec<(Login, Roles)> {
        let named: HashSet<&Login> = self
            .roles
            .keys()
            .chain(self.policy.roles.logins(&self.room))
            .collect();
        let roles = named
            .into_iter()
            .map(|login| (login.clone(), self.own_word(login)));
        roles.collect()
    }

    /// The operator's word from the beginning, which is no news to anybody.
    pub fn begin_under(&mut self, policy: Arc<Policy>) {
        self.bans.reach(policy.ban_prefix);
        self.policy = policy;
    }

    /// The operator's word from now on. Whom it changes is told.
    pub fn govern(&mut self, now: UnixMs, policy: Arc<Policy>) -> Vec<Event> {
        let before = self.roles();
        let same = Arc::ptr_eq(&self.policy.roles, &policy.roles);
        self.begin_under(policy);
        if same {
            return Vec::new();
        }
        let was: std::collections::HashMap<_, _> = before.into_iter().collect();
        let is: std::collections::HashMap<_, _> = self.roles().into_iter().collect();
        let mut changed: Vec<_> = was
            .keys()
            .chain(is.keys())
            .filter(|login| was.get(*login) != is.get(*login))
            .cloned()
            .collect();
        changed.sort_unstable();
        changed.dedup();
        changed.truncate(TOLD);
        let events = changed.into_iter().map(|login| {
            // No request asked for it: its place is its name.
            let id = u128::from(self.epoch.0) << 64 | u128::from(self.next.0);
            let body = self.role_body(login);
            self.event(now, MessageId(id), body)
        });
        events.collect()
    }

    pub(super) fn role_body(&self, login: Login) -> Body {
        let roles = self.own_word(&login);
        Body::Roles { login, roles }
    }

    pub(super) fn grant(
        &mut self,
        deed: &Deed<'_>,
        login: &Login,
        what: Grant,
        give: bool,
    ) -> Decision {
        let had = self.roles.get(login).copied().unwrap_or_default();
        let operator = what.of(self.policy.roles.of(&self.room, login));
        let name = match what {
            Grant::Moderator => "a moderator",
            Grant::Vip => "a VIP",
        };
        if what.of(had) == give || give && operator {
            let id = match (what, give) {
                (Grant::Moderator, true) => NoticeId::BadModMod,
                (Grant::Moderator, false) => NoticeId::BadUnmodMod,
                (Grant::Vip, true) => NoticeId::BadVipGranteeAlreadyVip,
                (Grant::Vip, false) => NoticeId::BadUnvipGranteeNotVip,
            };
            let text = if operator && !give {
                format!("{login} is {name} by the operator's word.")
            } else {
                let already = if give { "already" } else { "not" };
                format!("{login} is {already} {name} of this channel.")
            };
            return refused(id, text);
        }
        if give && self.bans.of(deed.now, login).is_some() {
            let id = match what {
                Grant::Moderator => NoticeId::BadModBanned,
                Grant::Vip => NoticeId::BadVipGranteeBanned,
            };
            return refused(id, format!("{login} is banned in this channel."));
        }
        if give && self.roles.len() >= MAX_ROLES && had == Roles::default() {
            return refused(NoticeId::TooMany, "This room has too many roles.");
        }
        let roles = what.set(had, give);
        if roles == Roles::default() {
            self.roles.remove(login);
        } else {
            self.roles.insert(login.clone(), roles);
        }
        let (id, verb) = match (what, give) {
            (Grant::Moderator, true) => (NoticeId::ModSuccess, "added"),
            (Grant::Moderator, false) => (NoticeId::UnmodSuccess, "removed"),
            (Grant::Vip, true) => (NoticeId::VipSuccess, "added"),
            (Grant::Vip, false) => (NoticeId::UnvipSuccess, "removed"),
        };
        let body = self.role_body(login.clone());
        let event = self.event(deed.now, deed.id, body);
        let notice = Notice::new(id, format!("You have {verb} {login} as {name}."));
        Decision {
            events: vec![event],
            changes: vec![Change::Roles(login.clone(), roles)],
            ..done(notice)
        }
    }

    pub(super) fn list(&self, what: Grant) -> Decision {
        let holders = self
            .roles()
            .into_iter()
            .filter(|(_, roles)| what.of(*roles));
        let mut names: Vec<_> = holders.map(|(login, _)| login.to_string()).collect();
        names.sort_unstable();
        names.truncate(LISTED);
        let (some, none, name) = match what {
            Grant::Moderator => (NoticeId::RoomMods, NoticeId::NoMods, "moderators"),
            Grant::Vip => (NoticeId::VipsSuccess, NoticeId::NoVips, "VIPs"),
        };
        done(if names.is_empty() {
            Notice::new(none, format!("There are no {name} of this channel."))
        } else {
            let names = names.join(", ");
            Notice::new(some, format!("The {name} of this channel are: {names}"))
        })
    }

    #[must_use]
    pub const fn settings(&self) -> Settings {
        self.settings
    }
}
