//! How many connections there may be, in all and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;

use super::metrics::Rejected;

/// Counts open connections. The table holds no more addresses than there may be
/// connections.
#[derive(Debug)]
pub(crate) struct Admission {
    max_all: usize,
    max_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place among the open connections, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    pub(crate) fn new(max_all: usize, max_address: usize) -> Arc<Self> {
        Arc::new(Self {
            max_all,
            max_address,
            open: Mutex::default(),
        })
    }

    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Rejected> {
        let address = network(peer);
        let mut open = self.open.lock();
        if open.all >= self.max_all {
            return Err(Rejected::Connections);
        }
        let count = open.by_address.get(&address).copied().unwrap_or(0);
        if count >= self.max_address {
            return Err(Rejected::Address);
        }
        open.by_address.insert(address, count + 1);
        open.all += 1;
        Ok(Place {
            admission: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock();
        open.all = open.all.saturating_sub(1);
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// What one subscriber of a network usually has: an IPv4 address, an IPv6 /64.
pub(crate) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let subnet = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(subnet))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_bounded_in_all_and_by_address() {
        let admission = Admission::new(3, 2);
        let first = admission.enter(ip("10.0.0.1")).unwrap();
        let _second = admission.enter(ip("::ffff:10.0.0.1")).unwrap();
        let third = admission.enter(ip("10.0.0.1"));
        assert_eq!(third.unwrap_err(), Rejected::Address);
        let _other = admission.enter(ip("10.0.0.2")).unwrap();
        let fourth = admission.enter(ip("10.0.0.3"));
        assert_eq!(fourth.unwrap_err(), Rejected::Connections);
        drop(first);
        let again = admission.enter(ip("10.0.0.1"));
        assert!(again.is_ok());
        drop(again);
        assert_eq!(admission.open.lock().by_address.len(), 2);
    }

    #[test]
    fn an_ipv6_subnet_is_one_address() {
        let admission = Admission::new(9, 1);
        let _first = admission.enter(ip("2001:db8::1")).unwrap();
        assert!(admission.enter(ip("2001:db8::ffff:1")).is_err());
        assert!(admission.enter(ip("2001:db8:0:1::1")).is_ok());
    }
}
