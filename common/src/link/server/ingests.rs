//! The places to publish to, beside the channels of a WATCH: which of them a child
//! is told, and what to say when they change.

use std::collections::HashMap;

use super::Peer;
use crate::{
    ingest::Ingest,
    link::{decode::MAX_HOPS, message::Message},
    names::NodeId,
};

impl Peer {
    /// What the child is to know, with this node on the way.
    pub(super) fn visible_ingests(&self, all: &[Ingest]) -> Vec<Ingest> {
        seen_from(&self.identity.node, &self.shared.hello.node, all)
    }
}

fn seen_from(child: &NodeId, node: &NodeId, all: &[Ingest]) -> Vec<Ingest> {
    all.iter()
        // As with channels: no way through the child, and room for one hop more.
        .filter(|ingest| !ingest.hops.contains(child) && ingest.hops.len() < MAX_HOPS)
        .map(|ingest| {
            let mut ingest = ingest.clone();
            if ingest.hops.last() != Some(node) {
                ingest.hops.push(node.clone());
            }
            ingest
        })
        .collect()
}

pub(super) fn changes(told: &[Ingest], now: &[Ingest]) -> Vec<Message> {
    let (before, after) = (by_node(told), by_node(now));
    let gone = told.iter().filter_map(Ingest::node);
    let gone = gone.filter(|node| !after.contains_key(node));
    let gone = gone.map(|node| Message::IngestGone { node: node.clone() });
    let is_new = |it: &&Ingest| it.node().and_then(|node| before.get(node)) != Some(it);
    let new = now.iter().filter(is_new).cloned();
    gone.chain(new.map(Message::Ingest)).collect()
}

fn by_node(all: &[Ingest]) -> HashMap<&NodeId, &Ingest> {
    let named = all.iter().filter_map(|it| Some((it.node()?, it)));
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::tests::ingest;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    #[test]
    fn a_child_is_told_what_does_not_lead_through_itself() {
        let mut through = ingest("b", None);
        through.hops.push(node("child"));
        let mut far = ingest("c", None);
        far.hops = vec![node("c"); MAX_HOPS];
        let all = [ingest("a", None), through, far];
        let told = seen_from(&node("child"), &node("mid"), &all);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].hops, [node("a"), node("mid")]);
        // An origin's own way begins with itself.
        let own = seen_from(&node("child"), &node("a"), &all);
        assert_eq!(own[0].hops, [node("a")]);
    }

    #[test]
    fn what_changed_is_told_and_nothing_else() {
        let (a, b) = (ingest("a", None), ingest("b", None));
        let mut busy = b.clone();
        busy.publishers = 9;
        let is = Message::Ingest;
        assert_eq!(
            changes(&[], &[a.clone(), b.clone()]),
            [is(a.clone()), is(b.clone())]
        );
        let both = [a.clone(), b.clone()];
        assert!(changes(&both, &both).is_empty());
        assert_eq!(
            changes(&[a, b], &[busy.clone()]),
            [Message::IngestGone { node: node("a") }, is(busy)]
        );
    }
}
