//! Through which parent a room is read, chosen without I/O.
//!
//! The home itself is best; an edge relays towards it; another origin does not.
//! Where nobody names a home (no origin was told, or all of them share every
//! room) any parent will do. Who carries a room keeps it among equals.

use common::{names::NodeId, tls::Role};

/// A parent that carries chat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) node: &'a NodeId,
    pub(super) role: Role,
    /// Its place in the order given.
    pub(super) rank: usize,
}

/// The best of `ways` to a room whose home is `home`. `shut` are those that have
/// said no, `now` is the one that carries it.
pub(super) fn best<'a>(
    home: Option<&NodeId>,
    ways: impl Iterator<Item = Way<'a>>,
    shut: impl Fn(&NodeId) -> bool,
    now: Option<&NodeId>,
) -> Option<&'a NodeId> {
    let leads = |way: &Way<'_>| match home {
        None => true,
        Some(home) => way.node == home || way.role == Role::Edge,
    };
    let open = ways.filter(|way| leads(way) && !shut(way.node));
    let order = |way: &Way<'_>| (home != Some(way.node), now != Some(way.node), way.rank);
    open.min_by_key(order).map(|way| way.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    /// `o` is an origin, `e` an edge; the order is the rank.
    fn chosen(home: Option<&str>, parents: &str, shut: &str, now: Option<&str>) -> Option<String> {
        let nodes: Vec<_> = parents.split(' ').map(node).collect();
        let ways = nodes.iter().enumerate().map(|(rank, node)| Way {
            node,
            role: if node.as_str().starts_with('o') {
                Role::Origin
            } else {
                Role::Edge
            },
            rank,
        });
        let home = home.map(node);
        let shut = |node: &NodeId| shut.split(' ').any(|shut| shut == node.as_str());
        let now = now.map(node);
        best(home.as_ref(), ways, shut, now.as_ref()).map(ToString::to_string)
    }

    #[test]
    fn the_home_comes_first_then_who_relays_to_it() {
        for (home, parents, shut, now, expected) in [
            (Some("o2"), "o1 e1 o2", "", Some("e1"), Some("o2")),
            (Some("o2"), "o1 e1 o2", "o2", None, Some("e1")),
            (Some("o2"), "o1 e1 e2", "", None, Some("e1")),
            (Some("o2"), "o1 e1 e2", "", Some("e2"), Some("e2")),
            (Some("o2"), "o1 e1 e2", "e2", Some("e2"), Some("e1")),
            (Some("o2"), "o1 o3", "", None, None),
            (Some("o2"), "o1 e1", "e1", None, None),
            (None, "o1 o2", "", None, Some("o1")),
            (None, "o1 o2", "", Some("o2"), Some("o2")),
            (None, "o1 o2", "o1", Some("o1"), Some("o2")),
        ] {
            let found = chosen(home, parents, shut, now);
            assert_eq!(
                found.as_deref(),
                expected,
                "{home:?} {parents} {shut} {now:?}"
            );
        }
    }
}
