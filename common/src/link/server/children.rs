//! Who pulls from this node now, for an operator who asks: an entry a connection,
//! gone with it, of which the listener's own bound allows so many.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    link::{message::Hello, seen::LinkSeen},
    quic::Connection,
    tls::Identity,
};

#[derive(Debug)]
struct Child {
    connection: Connection,
    identity: Identity,
    since: Instant,
    hello: Option<Hello>,
}

/// See the module's text. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Children(Arc<Mutex<BTreeMap<usize, Child>>>);

/// A child's entry.
#[derive(Debug)]
pub(super) struct Entered {
    children: Children,
    id: usize,
}

impl Children {
    pub(super) fn enter(&self, connection: &Connection, identity: &Identity) -> Entered {
        let id = connection.stable_id();
        let child = Child {
            connection: connection.clone(),
            identity: identity.clone(),
            since: Instant::now(),
            hello: None,
        };
        self.0.lock().insert(id, child);
        Entered {
            children: self.clone(),
            id,
        }
    }

    pub(super) fn introduced(&self, connection: &Connection, hello: &Hello) {
        if let Some(child) = self.0.lock().get_mut(&connection.stable_id()) {
            child.hello = Some(hello.clone());
        }
    }

    /// All links, in the order of their nodes' names.
    #[must_use]
    pub fn seen(&self) -> Vec<LinkSeen> {
        let children = self.0.lock();
        let seen = |child: &Child| {
            LinkSeen::of(&child.connection, &child.identity, child.since)
                .introduced(child.hello.as_ref())
        };
        let mut seen: Vec<_> = children.values().map(seen).collect();
        drop(children);
        seen.sort_by(|one, other| (&one.node, one.age).cmp(&(&other.node, other.age)));
        seen
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.children.0.lock().remove(&self.id);
    }
}
