//! How often users and addresses may do things at this edge, over all their
//! connections. Rooms have limits of their own, at their home.

use std::collections::HashMap;

use common::{
    chat::{
        Network, UserId,
        limit::{JOINS, MODERATOR_MESSAGES, Rate, SIGN_INS, Taken, USER_MESSAGES},
    },
    live::UnixMs,
};
use parking_lot::Mutex;

/// Users and addresses that are remembered; beyond it strangers wait their turn.
const MAX_REMEMBERED: usize = 65_536;

/// Nothing that is counted is older.
const LONGEST_SPAN_MS: u64 = 30_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    User(UserId),
    Network(Network),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Message,
    Join,
    SignIn,
}

/// Shared by all connections; locked for a look-up.
#[derive(Debug)]
pub struct Limits {
    /// Of one address: a household, or a school.
    address_messages: Rate,
    address_joins: Rate,
    taken: Mutex<HashMap<(Who, What), Taken>>,
}

impl Limits {
    /// So many messages of an address in half a minute, and so many joins in ten
    /// seconds.
    #[must_use]
    pub fn new(address_messages: usize, address_joins: usize) -> Self {
        Self {
            address_messages: Rate {
                most: address_messages,
                ..USER_MESSAGES
            },
            address_joins: Rate {
                most: address_joins,
                ..JOINS
            },
            taken: Mutex::default(),
        }
    }

    /// One message of `user`, who may say more where they moderate.
    pub fn message(&self, now: UnixMs, user: &UserId, network: Network, moderates: bool) -> bool {
        let rate = if moderates {
            MODERATOR_MESSAGES
        } else {
            USER_MESSAGES
        };
        self.take(now, Who::User(user.clone()), What::Message, rate)
            && self.take(
                now,
                Who::Network(network),
                What::Message,
                self.address_messages,
            )
    }

    /// One room joined. Who is anonymous counts by address alone.
    pub fn join(&self, now: UnixMs, user: Option<&UserId>, network: Network) -> bool {
        let own = user.is_none_or(|user| {
            let who = Who::User(user.clone());
            self.take(now, who, What::Join, JOINS)
        });
        own && self.take(now, Who::Network(network), What::Join, self.address_joins)
    }

    /// One sign-in that is to be verified, by the name that was given.
    pub fn sign_in(&self, now: UnixMs, user: Option<&UserId>, network: Network) -> bool {
        let own = user.is_none_or(|user| {
            let who = Who::User(user.clone());
            self.take(now, who, What::SignIn, SIGN_INS)
        });
        own && self.take(now, Who::Network(network), What::SignIn, self.address_joins)
    }

    fn take(&self, now: UnixMs, who: Who, what: What, rate: Rate) -> bool {
        let mut taken = self.taken.lock();
        let key = (who, what);
        if taken.len() >= MAX_REMEMBERED && !taken.contains_key(&key) {
            let old = now.0.saturating_sub(LONGEST_SPAN_MS);
            taken.retain(|_, taken| taken.last_ms().is_some_and(|last| last > old));
            if taken.len() >= MAX_REMEMBERED {
                return false;
            }
        }
        taken.entry(key).or_default().take(now.0, rate).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn network(last: u8) -> Network {
        Network::of(IpAddr::from([10, 0, 0, last]))
    }

    fn user(number: usize) -> UserId {
        UserId::parse(&format!("u{number}")).unwrap()
    }

    #[test]
    fn users_and_addresses_are_limited_over_all_connections() {
        let limits = Limits::new(200, 2_000);
        let now = UnixMs(1_000_000);
        let said = |who: usize, moderates| limits.message(now, &user(who), network(1), moderates);
        assert!((0..20).all(|_| said(1, false)));
        assert!(!said(1, false));
        assert!(said(2, false));
        assert!((0..79).all(|_| said(3, true)));
        // The address has its own.
        let others = (10..30).flat_map(|who| (0..10).map(move |_| who));
        let accepted = others.filter(|who| said(*who, false)).count();
        assert_eq!(accepted, 100);
        assert!(limits.message(now, &user(99), network(2), false));
    }

    #[test]
    fn joins_and_sign_ins_are_limited() {
        let limits = Limits::new(200, 2_000);
        let now = UnixMs(1_000_000);
        let one = user(1);
        assert!((0..20).all(|_| limits.join(now, Some(&one), network(1))));
        assert!(!limits.join(now, Some(&one), network(1)));
        assert!((0..20).all(|_| limits.sign_in(now, Some(&one), network(1))));
        assert!(!limits.sign_in(now, Some(&one), network(1)));
        let later = UnixMs(now.0 + 10_000);
        assert!(limits.join(later, Some(&one), network(1)));
        assert!((0..2_000).all(|_| limits.join(later, None, network(2))));
        assert!(!limits.join(later, None, network(2)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let limits = Limits::new(200, 2_000);
        let now = UnixMs(1_000_000);
        for who in 0..MAX_REMEMBERED + 10 {
            limits.sign_in(
                now,
                Some(&user(who)),
                network(u8::try_from(who % 250).unwrap()),
            );
        }
        assert!(limits.taken.lock().len() <= MAX_REMEMBERED);
        let later = UnixMs(now.0 + LONGEST_SPAN_MS);
        assert!(limits.sign_in(later, Some(&user(usize::MAX)), network(1)));
    }
}
