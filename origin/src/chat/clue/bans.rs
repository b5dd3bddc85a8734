//! Bans and time-outs of one room, found by login, by user and by network.

use std::collections::{BTreeSet, HashMap};

use common::{
    chat::{Login, Network, Prefix, Sender, UserId, request::BanSeen},
    live::UnixMs,
};

use super::{Ban, MAX_BANS};

/// Bans that end at once for who keeps them: one write of some ten kB.
pub(super) const OVER_AT_ONCE: usize = 256;

/// At most [`MAX_BANS`]. Every index leads to a ban that is there.
#[derive(Debug, Default)]
pub(super) struct Bans {
    by_login: HashMap<Login, Ban>,
    by_user: HashMap<UserId, Login>,
    /// By the network that a ban covers, which is as wide as `prefix` says.
    by_network: HashMap<Network, Login>,
    prefix: Prefix,
    /// When time-outs end, the first first.
    ends: BTreeSet<(UnixMs, Login)>,
    /// Over, and not yet told to who keeps them.
    gone: Vec<Login>,
}

impl Bans {
    pub(super) fn new(known: HashMap<Login, Ban>) -> Self {
        let mut bans = Self::default();
        for (login, ban) in known {
            bans.insert(login, ban);
        }
        bans
    }

    /// In force, on this login.
    pub(super) fn of(&self, now: UnixMs, login: &Login) -> Option<&Ban> {
        self.by_login.get(login).filter(|ban| !ban.is_over(now))
    }

    /// In force on this sender: by login, by the user under another login, or by
    /// network.
    pub(super) fn on(&self, now: UnixMs, sender: &Sender) -> Option<&Ban> {
        let user = self.by_user.get(&sender.user.id);
        let network = sender
            .network
            .and_then(|network| self.by_network.get(&network.within(self.prefix)));
        [Some(&sender.user.login), user, network]
            .into_iter()
            .flatten()
            .find_map(|login| self.of(now, login))
    }

    /// Whether one more fits, for which what is over makes way.
    pub(super) fn has_room(&mut self, now: UnixMs) -> bool {
        if self.by_login.len() >= MAX_BANS {
            self.expire(now);
        }
        self.by_login.len() < MAX_BANS
    }

    /// Forgets what is over, at most [`OVER_AT_ONCE`].
    pub(super) fn expire(&mut self, now: UnixMs) {
        let room = OVER_AT_ONCE.saturating_sub(self.gone.len());
        let over = self.ends.iter().take(room);
        let over = over.take_while(|(until, _)| *until <= now);
        let over: Vec<_> = over.map(|(_, login)| login.clone()).collect();
        for login in over {
            self.remove(&login);
            self.gone.push(login);
        }
    }

    /// What was forgotten since it was asked for last.
    pub(super) fn take_gone(&mut self) -> Vec<Login> {
        std::mem::take(&mut self.gone)
    }

    /// How far bans of networks reach from now on.
    pub(super) fn reach(&mut self, prefix: Prefix) {
        if self.prefix == prefix {
            return;
        }
        self.prefix = prefix;
        let networks = self.by_login.iter().filter_map(|(login, ban)| {
            let network = ban.network?.within(prefix);
            Some((network, login.clone()))
        });
        self.by_network = networks.collect();
    }

    /// Those in force, by login, after one of them and at most so many; and how
    /// many there are in all.
    pub(super) fn seen(
        &self,
        now: UnixMs,
        after: Option<&Login>,
        most: usize,
    ) -> (Vec<(Login, BanSeen)>, usize) {
        let in_force = self.by_login.iter().filter(|(_, ban)| !ban.is_over(now));
        let in_all = in_force.clone().count();
        let mut seen: Vec<_> = in_force.filter(|(login, _)| Some(*login) > after).collect();
        seen.sort_unstable_by_key(|(login, _)| *login);
        seen.truncate(most);
        let seen = seen.into_iter().map(|(login, ban)| {
            let seen = BanSeen {
                until: ban.until,
                network: ban.network.is_some(),
                by: ban.by.clone(),
                reason: ban.reason.clone(),
                at: ban.at,
            };
            (login.clone(), seen)
        });
        (seen.collect(), in_all)
    }

    pub(super) fn insert(&mut self, login: Login, ban: Ban) {
        self.remove(&login);
        if let Some(user) = &ban.user {
            self.by_user.insert(user.clone(), login.clone());
        }
        if let Some(network) = ban.network {
            self.by_network
                .insert(network.within(self.prefix), login.clone());
        }
        if let Some(until) = ban.until {
            self.ends.insert((until, login.clone()));
        }
        self.by_login.insert(login, ban);
    }

    pub(super) fn remove(&mut self, login: &Login) -> Option<Ban> {
        let ban = self.by_login.remove(login)?;
        if let Some(until) = ban.until {
            self.ends.remove(&(until, login.clone()));
        }
        if let Some(user) = &ban.user
            && self.by_user.get(user) == Some(login)
        {
            self.by_user.remove(user);
        }
        if let Some(network) = ban.network.map(|network| network.within(self.prefix))
            && self.by_network.get(&network) == Some(login)
        {
            self.by_network.remove(&network);
        }
        Some(ban)
    }
}
