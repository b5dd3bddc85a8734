//! Where a room's actor lives, without NATS: rendezvous hashing over the origins
//! that are configured, live or not. Every node that knows the same list finds
//! the same home, and an origin more moves only the rooms that become its own.

use crate::names::{ChannelName, NodeId};

/// The origin whose actor owns `room`; `None` without origins. The order of the
/// list does not matter.
#[must_use]
pub fn home<'a>(room: &ChannelName, origins: &'a [NodeId]) -> Option<&'a NodeId> {
    origins
        .iter()
        .max_by_key(|origin| (weight(room, origin), *origin))
}

/// FNV-1a over both names, then a mixer, since FNV leaves the high bits of short
/// texts alike. Part of the protocol: nodes of different versions must agree.
fn weight(room: &ChannelName, origin: &NodeId) -> u64 {
    let bytes = origin
        .as_str()
        .bytes()
        .chain([0])
        .chain(room.as_str().bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn room(number: u32) -> ChannelName {
        ChannelName::parse(&format!("room_{number}")).unwrap()
    }

    #[test]
    fn rooms_spread_and_an_origin_more_moves_only_its_own() {
        let three = [node("a"), node("b"), node("c")];
        let four = [node("d"), node("c"), node("b"), node("a")];
        let mut counts = [0; 3];
        for number in 0..3_000 {
            let room = room(number);
            let before = home(&room, &three).unwrap();
            let after = home(&room, &four).unwrap();
            assert!(after == before || after.as_str() == "d");
            counts[three.iter().position(|node| node == before).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (900..1_100).contains(count)),
            "{counts:?}"
        );
        assert_eq!(home(&room(1), &[]), None);
    }

    /// Nodes of different versions must find the same home.
    #[test]
    fn homes_are_part_of_the_protocol() {
        let origins = [node("origin-1"), node("origin-2"), node("origin-3")];
        let homes: Vec<_> = (0..8)
            .map(|n| home(&room(n), &origins).unwrap().as_str())
            .collect();
        assert_eq!(
            homes.join(" "),
            "origin-2 origin-3 origin-1 origin-2 origin-1 origin-3 origin-1 origin-1"
        );
    }
}
