//! The rooms that an edge reads, shared by all connections: each a feed and who
//! is to be woken when it moves. Made by who joins first; let go by the uplink when
//! nobody has been in one for a while.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use common::{
    chat::{Counts, Feed, Limits, Login, Offset, RoomEpoch, Settings},
    names::{ChannelName, NodeId},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{form::FORMS, mailbox::Mailbox};

/// Rooms that one edge reads: as many as a parent lets a child have.
pub const MAX_ROOMS: usize = common::link::chat::MAX_ROOMS;

/// Connections of a room are kept in so many lists, so that thousands that come at
/// once don't queue for one lock.
const SHARDS: usize = 8;

/// A child that did not say so again has no readers.
const COUNTS_FOR: Duration = Duration::from_secs(45);

/// Edges behind this one.
const MAX_CHILDREN: usize = 1_024;

/// Names that NAMES lists.
pub const MAX_NAMES: usize = 1_000;

/// One room at this edge.
#[derive(Debug)]
pub struct Room {
    pub feed: Arc<Feed>,
    /// Where the room stood when it was first heard.
    heard: OnceLock<(RoomEpoch, Offset)>,
    shards: [Mutex<Shard>; SHARDS],
    readers: AtomicU32,
    chatters: AtomicU32,
    /// What edges behind this one told, at most [`MAX_CHILDREN`].
    children: Mutex<HashMap<NodeId, (Counts, Instant)>>,
}

#[derive(Debug, Default)]
struct Shard {
    members: Vec<Option<Member>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Member {
    mailbox: Arc<Mailbox>,
    /// `None`: anonymous.
    login: Option<Login>,
}

/// A connection's place in a room, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    pub room: Arc<Room>,
    shard: usize,
    at: usize,
    chats: bool,
}

impl Room {
    fn new(name: ChannelName) -> Self {
        // Epoch 0: nothing was heard of it yet.
        let feed = Feed::new(name, RoomEpoch(0), FORMS, Limits::default());
        Self {
            feed: Arc::new(feed),
            heard: OnceLock::new(),
            shards: Default::default(),
            readers: AtomicU32::new(0),
            chatters: AtomicU32::new(0),
            children: Mutex::default(),
        }
    }

    #[must_use]
    pub fn name(&self) -> &ChannelName {
        &self.feed.room
    }

    /// Its home spoke: where the room stands there.
    pub fn stands(&self, epoch: RoomEpoch, next: Offset, live: Offset, settings: Settings) {
        self.feed.stands(epoch, next, settings);
        self.heard.get_or_init(|| (epoch, live));
    }

    /// Where the room stood when its home was first heard: what is before it is
    /// history to whoever joined earlier. `None` before that.
    #[must_use]
    pub fn heard(&self) -> Option<(RoomEpoch, Offset)> {
        self.heard.get().copied()
    }

    /// Takes a place: `mailbox` is woken at every event from now on.
    #[must_use]
    pub fn enter(self: &Arc<Self>, mailbox: Arc<Mailbox>, login: Option<Login>) -> Seat {
        let turn = self.readers.fetch_add(1, Relaxed);
        let chats = login.is_some();
        if chats {
            self.chatters.fetch_add(1, Relaxed);
        }
        let index = usize::try_from(turn).unwrap_or(0) % SHARDS;
        let mut at = 0;
        if let Some(shard) = self.shards.get(index) {
            let mut shard = shard.lock();
            let member = Some(Member { mailbox, login });
            at = shard.free.pop().unwrap_or(shard.members.len());
            match shard.members.get_mut(at) {
                Some(place) => *place = member,
                None => shard.members.push(member),
            }
        }
        Seat {
            room: self.clone(),
            shard: index,
            at,
            chats,
        }
    }

    /// Wakes everybody who reads it.
    pub fn wake(&self) {
        for shard in &self.shards {
            for member in shard.lock().members.iter().flatten() {
                member.mailbox.wake();
            }
        }
    }

    /// Whoever reads here or behind here.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            readers: self.readers.load(Relaxed),
            chatters: self.chatters.load(Relaxed),
        };
        let mut children = self.children.lock();
        children.retain(|_, (_, told)| told.elapsed() < COUNTS_FOR);
        for (theirs, _) in children.values() {
            counts.readers = counts.readers.saturating_add(theirs.readers);
            counts.chatters = counts.chatters.saturating_add(theirs.chatters);
        }
        counts
    }

    /// An edge behind this one told how many read there.
    pub fn child_counts(&self, child: NodeId, counts: Counts) {
        let mut children = self.children.lock();
        if children.len() < MAX_CHILDREN || children.contains_key(&child) {
            children.insert(child, (counts, Instant::now()));
        }
    }

    /// Whether an edge behind this one reads the room here.
    #[must_use]
    pub fn is_read_by(&self, node: &NodeId) -> bool {
        let children = self.children.lock();
        let told = children.get(node);
        told.is_some_and(|(_, told)| told.elapsed() < COUNTS_FOR)
    }

    /// Who is here and signed in, each once, at most [`MAX_NAMES`].
    #[must_use]
    pub fn names(&self) -> Vec<Login> {
        let mut names = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let logins = shard.members.iter().flatten();
            let logins = logins.filter_map(|member| member.login.clone());
            names.extend(logins.take(MAX_NAMES.saturating_sub(names.len())));
        }
        names.sort_unstable();
        names.dedup();
        names.truncate(MAX_NAMES);
        names
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let room = &self.room;
        room.readers.fetch_sub(1, Relaxed);
        if self.chats {
            room.chatters.fetch_sub(1, Relaxed);
        }
        if let Some(shard) = room.shards.get(self.shard) {
            let mut shard = shard.lock();
            if let Some(place) = shard.members.get_mut(self.at) {
                *place = None;
            }
            shard.free.push(self.at);
            if shard.free.len() == shard.members.len() {
                *shard = Shard::default();
            }
        }
    }
}

/// All rooms of this edge.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: Mutex<HashMap<ChannelName, Arc<Room>>>,
}

impl Rooms {
    /// The room, and whether it was made just now; `None` past [`MAX_ROOMS`].
    #[must_use]
    pub fn open(&self, name: &ChannelName) -> Option<(Arc<Room>, bool)> {
        let mut rooms = self.rooms.lock();
        if let Some(room) = rooms.get(name) {
            return Some((room.clone(), false));
        }
        if rooms.len() >= MAX_ROOMS {
            return None;
        }
        let room = Arc::new(Room::new(name.clone()));
        rooms.insert(name.clone(), room.clone());
        Some((room, true))
    }

    #[must_use]
    pub fn get(&self, name: &ChannelName) -> Option<Arc<Room>> {
        self.rooms.lock().get(name).cloned()
    }

    /// Forgets a room if nobody but the map and the caller hold it.
    pub fn close(&self, room: &Arc<Room>) -> bool {
        let mut rooms = self.rooms.lock();
        // Handles come from the map alone, whose lock is held.
        let unused = Arc::strong_count(room) <= 2;
        if unused {
            rooms.remove(room.name());
        }
        unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    #[test]
    fn places_are_given_back() {
        let rooms = Rooms::default();
        let (demo, made) = rooms.open(&room("demo")).unwrap();
        assert!(made && !rooms.open(&room("demo")).unwrap().1);
        let login = |name: &str| Some(Login::parse(name).unwrap());
        let mailbox = Arc::new(Mailbox::default());
        let seats: Vec<_> = ["bob", "ann", "ann"]
            .iter()
            .map(|name| demo.enter(mailbox.clone(), login(name)))
            .collect();
        let anonymous = demo.enter(mailbox.clone(), None);
        let names: Vec<_> = demo.names().iter().map(Login::to_string).collect();
        assert_eq!(names, ["ann", "bob"]);
        let Counts { readers, chatters } = demo.counts();
        assert_eq!((readers, chatters), (4, 3));
        drop((seats, anonymous));
        assert_eq!(demo.counts(), Counts::default());
        assert!(
            demo.shards
                .iter()
                .all(|shard| shard.lock().members.is_empty())
        );
        assert_eq!(Arc::strong_count(&mailbox), 1);
    }

    #[test]
    fn a_room_that_somebody_holds_is_not_closed() {
        let rooms = Rooms::default();
        let (demo, _) = rooms.open(&room("demo")).unwrap();
        let seat = demo.enter(Arc::default(), None);
        assert!(!rooms.close(&demo));
        drop(seat);
        assert!(rooms.close(&demo));
        assert!(rooms.get(&room("demo")).is_none());
    }

    #[test]
    fn rooms_are_bounded() {
        let rooms = Rooms::default();
        for number in 0..MAX_ROOMS {
            assert!(rooms.open(&room(&format!("r{number}"))).is_some());
        }
        assert!(rooms.open(&room("one_more")).is_none());
        assert!(rooms.open(&room("r1")).is_some());
    }
}
