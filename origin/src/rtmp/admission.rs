//! Who is let in: connection limits and the count of wrong keys.
//!
//! Comes in: addresses and the time; goes out: a [`Slot`] that holds a place as
//! long as it lives, or why there is none. Shared by all listeners and
//! connections behind a mutex that no await crosses. Both tables are bounded:
//! one by the connection limit, the other by [`MAX_TRACKED`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::config::RtmpConfig;

/// Addresses whose wrong keys are counted at once. When more offer some, the
/// one that began longest ago is forgotten.
const MAX_TRACKED: usize = 4096;
/// How long wrong keys count.
const WRONG_KEYS_WINDOW: Duration = Duration::from_secs(60);

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    AddressFull,
    WrongKeys,
}

impl Refusal {
    pub(super) const ALL: [Self; 3] = [Self::Full, Self::AddressFull, Self::WrongKeys];

    /// For a metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Full => "max_connections",
            Self::AddressFull => "max_connections_per_address",
            Self::WrongKeys => "wrong_keys",
        }
    }
}

/// What counts as one address: an IPv6 host has a whole /64 to itself.
fn bucket(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// The door of the RTMP server.
#[derive(Debug)]
pub(super) struct Admission {
    max_connections: usize,
    max_per_address: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connections: HashMap<IpAddr, usize>,
    total: usize,
    wrong_keys: WrongKeys,
}

/// A connection's place; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Slot {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    pub(super) fn new(config: &RtmpConfig) -> Arc<Self> {
        Arc::new(Self {
            max_connections: config.rtmp_max_connections as usize,
            max_per_address: config.rtmp_max_connections_per_address as usize,
            state: Mutex::new(State {
                connections: HashMap::new(),
                total: 0,
                wrong_keys: WrongKeys::new(config.rtmp_max_wrong_keys),
            }),
        })
    }

    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Slot, Refusal> {
        let address = bucket(address);
        let mut state = self.state.lock();
        if state.wrong_keys.blocked(address, now) {
            return Err(Refusal::WrongKeys);
        }
        if state.total >= self.max_connections {
            return Err(Refusal::Full);
        }
        let count = state.connections.entry(address).or_insert(0);
        if *count >= self.max_per_address {
            return Err(Refusal::AddressFull);
        }
        *count += 1;
        state.total += 1;
        Ok(Slot {
            admission: self.clone(),
            address,
        })
    }

    /// True if the address has offered too many wrong keys: this one is not
    /// even looked at, for connections opened before the limit was reached.
    pub(super) fn keys_blocked(&self, address: IpAddr, now: Instant) -> bool {
        self.state.lock().wrong_keys.blocked(bucket(address), now)
    }

    /// Counts one, and tells of how many addresses some are counted.
    pub(super) fn wrong_key(&self, address: IpAddr, now: Instant) -> usize {
        let mut state = self.state.lock();
        state.wrong_keys.record(bucket(address), now);
        state.wrong_keys.addresses.len()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock();
        state.total -= 1;
        if let Some(count) = state.connections.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                state.connections.remove(&self.address);
            }
        }
    }
}

#[derive(Debug)]
struct WrongKeys {
    limit: u32,
    addresses: HashMap<IpAddr, (Instant, u32)>,
}

impl WrongKeys {
    fn new(limit: u32) -> Self {
        Self {
            limit,
            addresses: HashMap::new(),
        }
    }

    fn blocked(&self, address: IpAddr, now: Instant) -> bool {
        self.addresses.get(&address).is_some_and(|(since, count)| {
            *count >= self.limit && now.saturating_duration_since(*since) < WRONG_KEYS_WINDOW
        })
    }

    fn record(&mut self, address: IpAddr, now: Instant) {
        let current = |since: Instant| now.saturating_duration_since(since) < WRONG_KEYS_WINDOW;
        if self.addresses.len() >= MAX_TRACKED && !self.addresses.contains_key(&address) {
            self.addresses.retain(|_, (since, _)| current(*since));
        }
        if self.addresses.len() >= MAX_TRACKED && !self.addresses.contains_key(&address) {
            let oldest = self.addresses.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.addresses.remove(&oldest);
            }
        }
        let entry = self.addresses.entry(address).or_insert((now, 0));
        if !current(entry.0) {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + last).to_be_bytes())
    }

    #[test]
    fn connections_are_bounded_and_places_come_back() {
        let mut config = super::super::tests::config();
        (
            config.rtmp_max_connections,
            config.rtmp_max_connections_per_address,
        ) = (3, 2);
        let admission = Admission::new(&config);
        let now = Instant::now();
        let admit = |n| admission.admit(address(n), now);
        let (first, _second) = (admit(1).unwrap(), admit(1).unwrap());
        assert_eq!(admit(1).unwrap_err(), Refusal::AddressFull);
        let _third = admit(2).unwrap();
        assert_eq!(admit(3).unwrap_err(), Refusal::Full);
        drop(first);
        drop(admit(3).unwrap());
        drop(admit(1).unwrap());
        assert_eq!(admission.state.lock().connections.len(), 2);
    }

    #[test]
    fn ten_thousand_wrong_keys_are_ten() {
        let admission = Admission::new(&super::super::tests::config());
        let now = Instant::now();
        let mut looked_at = 0;
        for _ in 0..10_000 {
            if !admission.keys_blocked(address(1), now) {
                looked_at += 1;
                assert_eq!(admission.wrong_key(address(1), now), 1);
            }
        }
        assert_eq!(looked_at, 10);
        assert_eq!(
            admission.admit(address(1), now).unwrap_err(),
            Refusal::WrongKeys
        );
        assert!(admission.admit(address(2), now).is_ok());
        assert!(admission.admit(address(1), now + WRONG_KEYS_WINDOW).is_ok());
    }

    #[test]
    fn wrong_keys_of_many_addresses_are_bounded() {
        let mut wrong = WrongKeys::new(1);
        let now = Instant::now();
        for n in 0..5000 {
            wrong.record(address(n), now + Duration::from_millis(u64::from(n)));
            assert!(wrong.addresses.len() <= MAX_TRACKED);
        }
        assert!(wrong.blocked(address(4999), now + Duration::from_secs(5)));
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let (a, b): (IpAddr, IpAddr) = (
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2:1".parse().unwrap(),
        );
        assert_eq!(bucket(a), bucket(b));
        assert_ne!(bucket(a), bucket("2001:db8:0:1::1".parse().unwrap()));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(bucket(mapped), address(1));
    }
}
