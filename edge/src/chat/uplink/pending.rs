//! Wishes that wait for their room's verdict, in the order they were asked.

use std::collections::{BTreeMap, HashMap};

use common::{
    chat::{MessageId, Request},
    names::ChannelName,
};
use tokio::time::Instant;

use super::ReplyTo;

#[derive(Debug)]
struct Wished {
    room: ChannelName,
    request: Box<Request>,
    reply: ReplyTo,
    until: Instant,
}

/// At most `most`; in both maps or in neither.
#[derive(Debug)]
pub(super) struct Pending {
    most: usize,
    next: u64,
    in_order: BTreeMap<u64, Wished>,
    by_id: HashMap<MessageId, u64>,
}

impl Pending {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            next: 0,
            in_order: BTreeMap::new(),
            by_id: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }

    /// Gives the reply back where there is no place, or the id is there already.
    pub(super) fn push(
        &mut self,
        room: ChannelName,
        request: Box<Request>,
        reply: ReplyTo,
        until: Instant,
    ) -> Result<(), ReplyTo> {
        if self.in_order.len() >= self.most || self.by_id.contains_key(&request.id) {
            return Err(reply);
        }
        self.by_id.insert(request.id, self.next);
        let wished = Wished {
            room,
            request,
            reply,
            until,
        };
        self.in_order.insert(self.next, wished);
        self.next += 1;
        Ok(())
    }

    pub(super) fn take(&mut self, id: MessageId) -> Option<ReplyTo> {
        let at = self.by_id.remove(&id)?;
        self.in_order.remove(&at).map(|wished| wished.reply)
    }

    pub(super) fn take_room(&mut self, room: &ChannelName) -> Vec<(MessageId, ReplyTo)> {
        self.take_where(|wished| wished.room == *room)
    }

    pub(super) fn take_late(&mut self, now: Instant) -> Vec<(MessageId, ReplyTo)> {
        // All wait for as long: the first in order are the first to be late.
        let late = self
            .in_order
            .iter()
            .take_while(|(_, wished)| wished.until <= now);
        let late: Vec<u64> = late.map(|(at, _)| *at).collect();
        self.remove(late)
    }

    fn take_where(&mut self, which: impl Fn(&Wished) -> bool) -> Vec<(MessageId, ReplyTo)> {
        let found = self.in_order.iter().filter(|(_, wished)| which(wished));
        let found: Vec<u64> = found.map(|(at, _)| *at).collect();
        self.remove(found)
    }

    fn remove(&mut self, places: Vec<u64>) -> Vec<(MessageId, ReplyTo)> {
        let removed = places.into_iter().filter_map(|at| {
            let wished = self.in_order.remove(&at)?;
            self.by_id.remove(&wished.request.id);
            Some((wished.request.id, wished.reply))
        });
        removed.collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ChannelName, &Request)> {
        self.in_order
            .values()
            .map(|wished| (&wished.room, wished.request.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use common::chat::{Login, Sender, Text, User, request::Ask};

    use super::*;

    fn request(id: u128) -> Request {
        Request {
            id: MessageId(id),
            sender: Sender {
                user: User::named(Login::parse("ann").unwrap()),
                roles: common::chat::Roles::default(),
                follows_since: None,
                network: None,
            },
            ask: Ask::Say {
                text: Text::cut("x").unwrap(),
                action: false,
                reply_to: None,
            },
        }
    }

    #[test]
    fn order_is_kept_and_places_are_bounded() {
        let now = Instant::now();
        let room = |name: &str| ChannelName::parse(name).unwrap();
        let mut pending = Pending::new(4);
        let push = |pending: &mut Pending, id: u128, name: &str| {
            let reply = ReplyTo::Connection(Arc::default());
            let until = now + Duration::from_secs(u64::try_from(id).unwrap());
            pending
                .push(room(name), Box::new(request(id)), reply, until)
                .is_ok()
        };
        for (id, name) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
            assert!(push(&mut pending, id, name));
        }
        assert!(!push(&mut pending, 5, "a"));
        assert!(pending.take(MessageId(2)).is_some());
        assert!(pending.take(MessageId(2)).is_none());
        assert!(!push(&mut pending, 3, "a"));
        assert!(push(&mut pending, 5, "a"));
        let ids = |pending: &Pending| pending.iter().map(|(_, r)| r.id.0).collect::<Vec<_>>();
        assert_eq!(ids(&pending), [1, 3, 4, 5]);
        let late = pending.take_late(now + Duration::from_secs(3));
        assert_eq!(late.len(), 2);
        assert_eq!(pending.take_room(&room("b")).len(), 1);
        assert_eq!(ids(&pending), [5]);
        assert_eq!(pending.by_id.len(), pending.len());
    }
}
