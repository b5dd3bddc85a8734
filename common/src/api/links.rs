//! `/api/v1/links`: the nodes at the other ends of a node's links.

use serde::Serialize;

use crate::{link::LinkSeen, names::NodeId, tls::Role};

/// What a node is linked to now.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// Where it pulls from, in the order given; none on an origin.
    pub parents: Vec<LinkSeen>,
    /// Who pulls from it.
    pub children: Vec<LinkSeen>,
}

#[derive(Serialize)]
struct Told<'a> {
    node: &'a str,
    role: &'static str,
    parents: Vec<Link<'a>>,
    children: Vec<Link<'a>>,
}

#[derive(Serialize)]
struct Link<'a> {
    node: &'a str,
    role: &'static str,
    address: String,
    region: &'a str,
    location: &'a str,
    rtt_ms: f64,
    sent_bytes: u64,
    received_bytes: u64,
    lost_packets: u64,
    age_s: u64,
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Origin => "origin",
        Role::Edge => "edge",
    }
}

fn link(seen: &LinkSeen) -> Link<'_> {
    Link {
        node: seen.node.as_str(),
        role: word(seen.role),
        address: seen.address.to_string(),
        region: &seen.region,
        location: &seen.location,
        rtt_ms: (seen.rtt.as_secs_f64() * 1e5).round() / 100.0,
        sent_bytes: seen.sent_bytes,
        received_bytes: seen.received_bytes,
        lost_packets: seen.lost_packets,
        age_s: seen.age.as_secs(),
    }
}

impl Links {
    /// As JSON, of the node of that name and role.
    #[must_use]
    pub fn json(&self, node: &NodeId, role: Role) -> String {
        let told = Told {
            node: node.as_str(),
            role: word(role),
            parents: self.parents.iter().map(link).collect(),
            children: self.children.iter().map(link).collect(),
        };
        // Strings and finite numbers always have a JSON form.
        serde_json::to_string(&told).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_link_is_told_in_units() {
        let links = Links {
            parents: vec![LinkSeen {
                node: NodeId::parse("origin").unwrap(),
                role: Role::Origin,
                address: ([127, 0, 0, 1], 4443).into(),
                region: "eu-ams".into(),
                location: String::new(),
                rtt: Duration::from_micros(1_234),
                sent_bytes: 10,
                received_bytes: 20,
                lost_packets: 0,
                age: Duration::from_millis(3_900),
            }],
            children: Vec::new(),
        };
        let expected = concat!(
            r#"{"node":"edge-1","role":"edge","parents":[{"node":"origin","role":"origin","#,
            r#""address":"127.0.0.1:4443","region":"eu-ams","location":"","rtt_ms":1.23,"#,
            r#""sent_bytes":10,"received_bytes":20,"lost_packets":0,"age_s":3}],"children":[]}"#,
        );
        let node = NodeId::parse("edge-1").unwrap();
        assert_eq!(links.json(&node, Role::Edge), expected);
    }
}
