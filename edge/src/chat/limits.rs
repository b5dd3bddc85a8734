//! How often users and addresses may do things at this edge, over all their
//! connections. Rooms have limits of their own, at their home.
//!
//! In: who does what, now. Out: whether they may. What strangers can choose at will is
//! never a key: a user is counted once the token is verified, an address before. Nor
//! can strangers who come from many addresses lock others out: of more than
//! [`MAX_REMEMBERED`] the ones that were quiet the longest are forgotten, which forgives
//! them, and nobody waits for a place.

use std::{collections::HashMap, hash::Hash};

use common::{
    chat::{
        Network, UserId,
        limit::{JOINS, MODERATOR_MESSAGES, Rate, SIGN_INS, Taken, USER_MESSAGES},
    },
    live::UnixMs,
};
use parking_lot::Mutex;

use super::metrics::ChatMetrics;

/// Users, and as many addresses, whose messages are counted; as many for joins, and for
/// sign-ins. By default an edge has no more connections at once.
const MAX_REMEMBERED: usize = 32_768;

/// Nothing that is counted is older.
const LONGEST_SPAN_MS: u64 = 30_000;

/// Shared by all connections; each table is locked for a look-up.
#[derive(Debug)]
pub struct Limits {
    /// Of one address: a household, or a school.
    address_messages: Rate,
    address_joins: Rate,
    messages: Mutex<Table>,
    joins: Mutex<Table>,
    sign_ins: Mutex<Table>,
    metrics: ChatMetrics,
}

/// Who did one thing lately.
#[derive(Debug, Default)]
struct Table {
    users: Recent<UserId>,
    networks: Recent<Network>,
}

impl Limits {
    /// So many messages of an address in half a minute, and so many joins in ten
    /// seconds.
    #[must_use]
    pub fn new(address_messages: usize, address_joins: usize, metrics: ChatMetrics) -> Self {
        Self {
            address_messages: Rate {
                most: address_messages,
                ..USER_MESSAGES
            },
            address_joins: Rate {
                most: address_joins,
                ..JOINS
            },
            messages: Mutex::default(),
            joins: Mutex::default(),
            sign_ins: Mutex::default(),
            metrics,
        }
    }

    /// One message of `user`, who may say more where they moderate.
    pub fn message(&self, now: UnixMs, user: &UserId, network: Network, moderates: bool) -> bool {
        let rate = if moderates {
            MODERATOR_MESSAGES
        } else {
            USER_MESSAGES
        };
        self.take("message", &self.messages, |table| {
            table.take(
                now,
                Some((user, rate)),
                Some((network, self.address_messages)),
            )
        })
    }

    /// One room joined. Who is anonymous counts by address alone.
    pub fn join(&self, now: UnixMs, user: Option<&UserId>, network: Network) -> bool {
        self.take("join", &self.joins, |table| {
            let user = user.map(|user| (user, JOINS));
            table.take(now, user, Some((network, self.address_joins)))
        })
    }

    /// One token that is to be verified, whosever it is said to be.
    pub fn sign_in(&self, now: UnixMs, network: Network) -> bool {
        self.take("sign_in", &self.sign_ins, |table| {
            table.take(now, None, Some((network, self.address_joins)))
        })
    }

    /// One sign-in of a user whose token was verified.
    pub fn signed_in(&self, now: UnixMs, user: &UserId) -> bool {
        self.take("sign_in", &self.sign_ins, |table| {
            table.take(now, Some((user, SIGN_INS)), None)
        })
    }

    fn take(
        &self,
        what: &str,
        table: &Mutex<Table>,
        take: impl FnOnce(&mut Table) -> Outcome,
    ) -> bool {
        let Outcome { may, more, fewer } = take(&mut table.lock());
        self.metrics.remembered.add(more);
        self.metrics.forgotten.inc_by(fewer);
        if !may {
            self.metrics.limited(what);
        }
        may
    }
}

/// What a look-up came to.
struct Outcome {
    may: bool,
    /// By how much the table grew.
    more: i64,
    /// How many it forgot before their time.
    fewer: u64,
}

impl Table {
    /// One of each, or none of either: who may do no more is not to use up what others
    /// at the same address may, and an address that spent its own makes no users known.
    fn take(
        &mut self,
        now: UnixMs,
        user: Option<(&UserId, Rate)>,
        network: Option<(Network, Rate)>,
    ) -> Outcome {
        let (before, forgotten) = (self.len(), self.forgotten());
        let may = network.is_none_or(|(who, rate)| self.networks.has(now, &who, rate))
            && user.is_none_or(|(who, rate)| self.users.take(now, who.clone(), rate))
            && network.is_none_or(|(who, rate)| self.networks.take(now, who, rate));
        let signed = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        Outcome {
            may,
            more: signed(self.len()) - signed(before),
            fewer: self.forgotten() - forgotten,
        }
    }

    fn len(&self) -> usize {
        self.users.len() + self.networks.len()
    }

    const fn forgotten(&self) -> u64 {
        self.users.forgotten + self.networks.forgotten
    }
}

/// What each did lately, in two ages: whoever does something is young again. When there
/// are too many young ones, or a span is over, the old are forgotten and the young are
/// old, so that no look-up ever walks the table. At most [`MAX_REMEMBERED`].
#[derive(Debug)]
struct Recent<K> {
    turned: UnixMs,
    young: HashMap<K, Taken>,
    old: HashMap<K, Taken>,
    /// How many in all before they had been quiet for a span.
    forgotten: u64,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self {
            turned: UnixMs(0),
            young: HashMap::new(),
            old: HashMap::new(),
            forgotten: 0,
        }
    }
}

impl<K: Eq + Hash> Recent<K> {
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn has(&self, now: UnixMs, who: &K, rate: Rate) -> bool {
        let taken = self.young.get(who).or_else(|| self.old.get(who));
        taken.is_none_or(|taken| taken.has(now.0, rate))
    }

    fn take(&mut self, now: UnixMs, who: K, rate: Rate) -> bool {
        let spent = now.0.saturating_sub(self.turned.0) >= LONGEST_SPAN_MS;
        let full = self.young.len() >= MAX_REMEMBERED / 2 && !self.young.contains_key(&who);
        if spent || full {
            let young = std::mem::take(&mut self.young);
            let forgotten = std::mem::replace(&mut self.old, young);
            if !spent {
                self.forgotten += forgotten.len() as u64;
            }
            self.turned = now;
        }
        let taken = self.old.remove(&who).unwrap_or_default();
        let taken = self.young.entry(who).or_insert(taken);
        taken.take(now.0, rate).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use prometheus::Registry;

    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn limits() -> Limits {
        let metrics = ChatMetrics::register(&Registry::new());
        Limits::new(200, 2_000, metrics)
    }

    fn network(last: u8) -> Network {
        Network::of(IpAddr::from([10, 0, 0, last]))
    }

    /// One of the many that a provider gives to whoever asks.
    fn subnet(number: usize) -> Network {
        let subnet = u128::try_from(number).unwrap() << 64;
        Network::of(Ipv6Addr::from(0x2001_0db8 << 96 | subnet).into())
    }

    fn user(number: usize) -> UserId {
        UserId::parse(&format!("u{number}")).unwrap()
    }

    #[test]
    fn users_and_addresses_are_limited_over_all_connections() {
        let limits = limits();
        let said = |who: usize, moderates| limits.message(NOW, &user(who), network(1), moderates);
        assert!((0..20).all(|_| said(1, false)));
        assert!(!said(1, false));
        assert!(said(2, false));
        assert!((0..79).all(|_| said(3, true)));
        // The address has its own.
        let others = (10..30).flat_map(|who| (0..10).map(move |_| who));
        let accepted = others.filter(|who| said(*who, false)).count();
        assert_eq!(accepted, 100);
        assert!(limits.message(NOW, &user(99), network(2), false));
        assert_eq!(limits.metrics.limits("message"), 101);
    }

    #[test]
    fn joins_and_sign_ins_are_limited() {
        let limits = limits();
        let one = user(1);
        assert!((0..20).all(|_| limits.join(NOW, Some(&one), network(1))));
        assert!(!limits.join(NOW, Some(&one), network(1)));
        assert!((0..20).all(|_| limits.signed_in(NOW, &one)));
        assert!(!limits.signed_in(NOW, &one));
        assert!(limits.signed_in(NOW, &user(2)));
        assert!((0..2_000).all(|_| limits.sign_in(NOW, network(1))));
        assert!(!limits.sign_in(NOW, network(1)));
        let later = UnixMs(NOW.0 + 10_000);
        assert!(limits.join(later, Some(&one), network(1)));
        assert!(limits.signed_in(later, &one) && limits.sign_in(later, network(1)));
        assert!((0..2_000).all(|_| limits.join(later, None, network(2))));
        assert!(!limits.join(later, None, network(2)));
    }

    /// Who is refused costs the others at the same address nothing.
    #[test]
    fn who_may_do_no_more_uses_up_nothing_of_others() {
        let limits = limits();
        let said = |who: usize| limits.message(NOW, &user(who), network(1), false);
        assert_eq!((0..1_000).filter(|_| said(1)).count(), 20);
        assert_eq!(
            (2..11)
                .flat_map(|who| [who; 20])
                .filter(|who| said(*who))
                .count(),
            180
        );
    }

    /// Names are free: an address that spent its own makes none of them known.
    #[test]
    fn one_address_with_many_names_fills_nothing() {
        let limits = limits();
        for who in 0..5_000 {
            limits.join(NOW, Some(&user(who)), network(1));
            limits.message(NOW, &user(who), network(1), false);
        }
        assert_eq!(limits.joins.lock().len(), 2_000 + 1);
        assert_eq!(limits.messages.lock().len(), 200 + 1);
    }

    /// Addresses are nearly free: whoever has many gets in with each, and keeps nobody
    /// else out.
    #[test]
    fn many_addresses_lock_nobody_out_and_fill_nothing() {
        let limits = limits();
        assert!((0..20).all(|_| limits.signed_in(NOW, &user(1))));
        for number in 0..3 * MAX_REMEMBERED {
            assert!(limits.sign_in(NOW, subnet(number)));
            assert!(limits.join(NOW, None, subnet(number)));
        }
        for table in [&limits.sign_ins, &limits.joins] {
            assert!(table.lock().networks.len() <= MAX_REMEMBERED);
        }
        assert!(limits.sign_in(NOW, network(1)) && limits.signed_in(NOW, &user(2)));
        assert!(limits.join(NOW, Some(&user(2)), network(1)));
        assert!(limits.message(NOW, &user(2), network(1), false));
        // Strangers' addresses push no user out.
        assert!(!limits.signed_in(NOW, &user(1)));
        let metrics = &limits.metrics;
        let held: usize = [&limits.sign_ins, &limits.joins, &limits.messages]
            .iter()
            .map(|table| table.lock().len())
            .sum();
        assert_eq!(usize::try_from(metrics.remembered.get()).unwrap(), held);
        assert!(metrics.forgotten.get() > 0);
    }

    #[test]
    fn who_is_busy_is_not_forgotten_and_who_is_quiet_is() {
        let mut recent = Recent::default();
        let busy = subnet(0);
        let rate = Rate {
            most: 3,
            span_ms: LONGEST_SPAN_MS,
        };
        for number in 1..=2 * MAX_REMEMBERED {
            recent.take(NOW, subnet(number), rate);
            if number % 1_000 == 0 {
                recent.take(NOW, busy, rate);
            }
            assert!(recent.len() <= MAX_REMEMBERED);
        }
        assert!(!recent.has(NOW, &busy, rate));
        let later = |spans: u64| UnixMs(NOW.0 + spans * LONGEST_SPAN_MS);
        let before = recent.forgotten;
        for spans in 1..=3 {
            assert!(recent.take(later(spans), busy, rate));
        }
        assert_eq!((recent.len(), recent.forgotten), (1, before));
    }
}
