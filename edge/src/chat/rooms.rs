//! The rooms that an edge reads, shared by all connections: each a feed and who
//! is to be woken when it moves. Made by who joins first; let go by the uplink when
//! nobody has been in one for a while. `table` says which may be made.

mod table;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use common::{
    chat::{
        Counts, Feed, Limits, Login, Offset, Presence, Present, RoomEpoch, Settings,
        presence::{MAX_NAMES, TOLD_FOR},
    },
    link::chat::Changes,
    names::ChannelName,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::{
    coming::{Coming, Comings},
    form::FORMS,
    mailbox::Mailbox,
    pace::{Pace, Turn},
};

pub use table::{MAX_ROOMS, NoRoom, Rooms};

/// Who joins a room waits so long for a word of its home before it is let in without:
/// longer than the way there and back, shorter than clients wait for their JOIN (tmi.js
/// gives up after 600 ms).
pub(super) const HOME_PATIENCE: Duration = Duration::from_millis(500);

/// Connections of a room are kept in so many lists, so that thousands that come at
/// once don't queue for one lock.
const SHARDS: usize = 8;

/// One room at this edge.
#[derive(Debug)]
pub struct Room {
    pub feed: Arc<Feed>,
    /// Where the room stood when it was first heard.
    heard: OnceLock<(RoomEpoch, Offset)>,
    /// When its home should have been heard.
    due: Instant,
    shards: [Mutex<Shard>; SHARDS],
    pace: Mutex<Pace>,
    readers: AtomicU32,
    chatters: AtomicU32,
    /// Who watches the channel here.
    viewers: AtomicU32,
    /// Changes whenever somebody comes or goes.
    moves: AtomicU64,
    /// What edges behind this one tell, and what all are told.
    pub presence: Arc<Presence>,
    told: Mutex<Told>,
    comings: Mutex<Comings>,
}

/// What a parent told of the whole room.
#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    /// Whether the room tells names; `None` before it said.
    named: Option<bool>,
    names: BTreeSet<Login>,
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
            due: Instant::now() + HOME_PATIENCE,
            shards: Default::default(),
            pace: Mutex::default(),
            readers: AtomicU32::new(0),
            chatters: AtomicU32::new(0),
            viewers: AtomicU32::new(0),
            moves: AtomicU64::new(0),
            presence: Arc::default(),
            told: Mutex::default(),
            comings: Mutex::default(),
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
    /// history to whoever joined earlier. `None` before that, and until that history
    /// is here: who asks for it as soon as there is a room is to get it.
    #[must_use]
    pub fn heard(&self) -> Option<(RoomEpoch, Offset)> {
        let heard = self.heard.get().copied()?;
        (self.feed.position() >= heard).then_some(heard)
    }

    /// Whether its home has had its time to be heard.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.due <= Instant::now()
    }

    /// Lets in who waits for the home once it is overdue. Needs a tokio runtime.
    pub fn expect_home(self: &Arc<Self>) {
        let (room, due) = (Arc::downgrade(self), self.due);
        tokio::spawn(async move {
            sleep_until(due).await;
            if let Some(room) = room.upgrade()
                && room.heard().is_none()
            {
                room.wake();
            }
        });
    }

    /// Takes a place: `mailbox` is woken at every event from now on.
    #[must_use]
    pub fn enter(self: &Arc<Self>, mailbox: Arc<Mailbox>, login: Option<Login>) -> Seat {
        let turn = self.readers.fetch_add(1, Relaxed);
        self.moves.fetch_add(1, Relaxed);
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

    /// Wakes everybody who reads it, in their turn. Where many read it needs a tokio
    /// runtime.
    pub fn wake(self: &Arc<Self>) {
        let turn = self
            .pace
            .lock()
            .moved(Instant::now(), self.readers.load(Relaxed));
        match turn {
            Turn::Due => {}
            Turn::Now => self.wake_all(),
            Turn::At(when) => {
                let room = self.clone();
                tokio::spawn(async move {
                    sleep_until(when).await;
                    room.pace.lock().begins(Instant::now());
                    room.wake_all();
                });
            }
        }
    }

    fn wake_all(&self) {
        for shard in &self.shards {
            for member in shard.lock().members.iter().flatten() {
                member.mailbox.wake();
            }
        }
    }

    /// Whoever is here or behind here.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let own = Present {
            counts: self.own_counts(),
            names: None,
        };
        self.presence.sum(own).counts
    }

    fn own_counts(&self) -> Counts {
        Counts {
            readers: self.readers.load(Relaxed),
            chatters: self.chatters.load(Relaxed),
            viewers: self.viewers.load(Relaxed),
        }
    }

    /// The same with names, where they are few enough.
    #[must_use]
    pub fn local(&self) -> Present {
        self.presence.sum(Present {
            counts: self.own_counts(),
            names: self.own_names(),
        })
    }

    /// Another one where [`Self::local`] may be another.
    #[must_use]
    pub fn local_version(&self) -> (u64, u64) {
        (self.moves.load(Relaxed), self.presence.version())
    }

    pub fn set_viewers(&self, viewers: u32) {
        self.viewers.store(viewers, Relaxed);
    }

    /// A parent told of the whole room.
    pub fn hears_present(self: &Arc<Self>, counts: Counts, named: bool, changes: Changes) {
        let mut told = self.told.lock();
        let Changes { anew, came, went } = changes;
        let known = told.named == Some(true);
        let before = if anew {
            std::mem::take(&mut told.names)
        } else {
            BTreeSet::new()
        };
        for name in &went {
            told.names.remove(name);
        }
        told.names.extend(came.iter().cloned());
        let (came, went) = if anew {
            let missing = |of: &BTreeSet<Login>, from: &BTreeSet<Login>| {
                of.difference(from).cloned().collect()
            };
            (missing(&told.names, &before), missing(&before, &told.names))
        } else {
            (came, went)
        };
        told.at = Some(Instant::now());
        told.named = Some(named);
        let names = named.then(|| told.names.iter().cloned().collect());
        drop(told);
        self.presence.set_total(Present { counts, names });
        // The first word tells who is there; what was hidden has not come just now.
        if known && named && !(came.is_empty() && went.is_empty()) {
            self.comings.lock().push(came, went);
            self.wake();
        }
    }

    /// Everybody, over all edges, as far as that was told of late; else who is here.
    #[must_use]
    pub fn present(&self) -> Present {
        let told = self.told.lock();
        if told.at.is_some_and(|at| at.elapsed() < TOLD_FOR) {
            return Present::clone(&self.presence.total());
        }
        let hidden = told.named == Some(false);
        drop(told);
        let mut local = self.local();
        if hidden {
            local.names = None;
        }
        local
    }

    /// How many a parent told of of late.
    #[must_use]
    pub fn told_counts(&self) -> Option<Counts> {
        let fresh = |at: Instant| at.elapsed() < TOLD_FOR;
        let told = self.told.lock().at.is_some_and(fresh);
        told.then(|| self.presence.total().counts)
    }

    /// Whether a parent ever told of the whole room.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.told.lock().at.is_some()
    }

    #[must_use]
    pub fn comings(&self, from: u64) -> (Vec<Arc<Coming>>, u64) {
        self.comings.lock().from(from)
    }

    #[must_use]
    pub fn comings_end(&self) -> u64 {
        self.comings.lock().end()
    }

    /// Who is here and signed in, in order and each once, unless they are too many.
    fn own_names(&self) -> Option<Arc<[Login]>> {
        let many = |count: u32| usize::try_from(count).is_ok_and(|count| count > MAX_NAMES);
        if many(self.chatters.load(Relaxed)) {
            return None;
        }
        let mut names = BTreeSet::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let members = shard.members.iter().flatten();
            names.extend(members.filter_map(|member| member.login.clone()));
        }
        Some(names.into_iter().take(MAX_NAMES).collect())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let room = &self.room;
        room.readers.fetch_sub(1, Relaxed);
        room.moves.fetch_add(1, Relaxed);
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

#[cfg(test)]
mod tests {
    use common::{
        chat::{Body, Event, MessageId, Stamp},
        live::UnixMs,
    };

    use super::*;

    fn room(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn rooms() -> Rooms {
        Rooms::new(Arc::default(), 2)
    }

    #[test]
    fn places_are_given_back() {
        let rooms = rooms();
        let (demo, made) = rooms.open(&room("demo"), None).unwrap();
        assert!(made && !rooms.open(&room("demo"), None).unwrap().1);
        let login = |name: &str| Some(Login::parse(name).unwrap());
        let mailbox = Arc::new(Mailbox::default());
        let seats: Vec<_> = ["bob", "ann", "ann"]
            .iter()
            .map(|name| demo.enter(mailbox.clone(), login(name)))
            .collect();
        let anonymous = demo.enter(mailbox.clone(), None);
        let local = demo.local();
        let names: Vec<_> = local.names.iter().flat_map(|names| names.iter()).collect();
        assert_eq!(names, [&login("ann").unwrap(), &login("bob").unwrap()]);
        let Counts {
            readers, chatters, ..
        } = demo.counts();
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

    /// Who asks for the past as soon as there is a room would get none of it.
    #[test]
    fn a_room_is_heard_once_its_past_is_here() {
        let (demo, _) = rooms().open(&room("demo"), None).unwrap();
        let said = |offset| Event {
            stamp: Stamp {
                epoch: RoomEpoch(1),
                offset: Offset(offset),
                id: MessageId(offset.into()),
                at: UnixMs(0),
                program: UnixMs(0),
            },
            body: Body::Cleared,
        };
        assert_eq!(demo.heard(), None);
        demo.stands(RoomEpoch(1), Offset(3), Offset(5), Settings::default());
        assert_eq!(demo.heard(), None);
        demo.feed.append(said(3));
        assert_eq!(demo.heard(), None);
        demo.feed.append(said(4));
        assert_eq!(demo.heard(), Some((RoomEpoch(1), Offset(5))));
        demo.feed.append(said(5));
        assert_eq!(demo.heard(), Some((RoomEpoch(1), Offset(5))));
    }

    #[test]
    fn who_came_and_went_over_all_edges_is_told_once_it_is_known_who_was_there() {
        let demo = Arc::new(Room::new(room("demo")));
        let login = |name: &str| Login::parse(name).unwrap();
        let seat = demo.enter(Arc::default(), Some(login("ann")));
        let names = |demo: &Room| {
            let names = demo.present().names;
            names.map(|names| names.iter().map(Login::to_string).collect::<Vec<_>>())
        };
        // Nobody told of others yet.
        assert_eq!(names(&demo).unwrap(), ["ann"]);
        let changes = |anew, came: &[&str], went: &[&str]| Changes {
            anew,
            came: came.iter().map(|name| login(name)).collect(),
            went: went.iter().map(|name| login(name)).collect(),
        };
        let counts = Counts {
            readers: 9,
            chatters: 2,
            viewers: 7,
        };
        demo.hears_present(counts, true, changes(true, &["ann", "bob"], &[]));
        assert_eq!((demo.present().counts, demo.comings_end()), (counts, 0));
        demo.hears_present(counts, true, changes(false, &["cat"], &["bob"]));
        assert_eq!(names(&demo).unwrap(), ["ann", "cat"]);
        // Another parent tells the same, and one more.
        demo.hears_present(counts, true, changes(true, &["ann", "cat", "dog"], &[]));
        assert_eq!((demo.comings_end(), demo.comings(1).0.len()), (2, 1));
        demo.hears_present(counts, false, changes(true, &[], &[]));
        assert_eq!((names(&demo), demo.comings_end()), (None, 2));
        drop(seat);
    }

    #[test]
    fn a_room_that_somebody_holds_is_not_closed() {
        let rooms = rooms();
        let (demo, _) = rooms.open(&room("demo"), None).unwrap();
        let seat = demo.enter(Arc::default(), None);
        assert!(!rooms.close(&demo));
        drop(seat);
        assert!(rooms.close(&demo));
        assert!(rooms.get(&room("demo")).is_none());
    }

    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// What is said while a turn is due is read in that turn, by everybody.
    #[tokio::test(start_paused = true)]
    async fn many_readers_are_woken_in_turns() {
        let rooms = rooms();
        let (demo, _) = rooms.open(&room("demo"), None).unwrap();
        let wakes = Arc::new(Wakes::default());
        let mailbox = Arc::new(Mailbox::default());
        mailbox.register(&wakes.clone().into());
        let seats: Vec<_> = (0..300)
            .map(|_| demo.enter(mailbox.clone(), None))
            .collect();
        let count = || wakes.0.load(Relaxed);
        demo.wake();
        assert_eq!(count(), 300);
        (0..3).for_each(|_| demo.wake());
        assert_eq!(count(), 300);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(count(), 600);
        drop(seats);
    }

    /// One timer a room: whoever waits is woken, and looks.
    #[tokio::test(start_paused = true)]
    async fn a_home_that_is_not_heard_in_time_wakes_who_waits_for_it() {
        let rooms = rooms();
        for (name, heard) in [("demo", false), ("other", true)] {
            let (room, _) = rooms.open(&room(name), None).unwrap();
            let wakes = Arc::new(Wakes::default());
            let mailbox = Arc::new(Mailbox::default());
            mailbox.register(&wakes.clone().into());
            let seat = room.enter(mailbox, None);
            room.expect_home();
            if heard {
                room.stands(RoomEpoch(1), Offset(0), Offset(0), Settings::default());
            }
            tokio::time::sleep(HOME_PATIENCE).await;
            tokio::task::yield_now().await;
            assert!(room.is_overdue());
            assert_eq!(wakes.0.load(Relaxed), u32::from(!heard));
            drop(seat);
        }
    }
}
