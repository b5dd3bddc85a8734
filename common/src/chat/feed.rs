//! The recent past of a room, shared by one writer and many readers: the actor's
//! for its children, an edge's for its connections.
//!
//! A [`Feed`] is a ring of events, each encoded at most once per form; a reader
//! holds a [`Cursor`] and takes what is there when it can. Nobody waits for a
//! reader: one that falls off the ring learns how much it missed, and still gets
//! the moderation among it. Bounds: [`Limits`].

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    event::{Body, Event, Offset, RoomEpoch, Settings, Stamp},
    name::{Login, MessageId},
    user::Roles,
};
use crate::{live::UnixMs, names::ChannelName};

/// How much of a room is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub events: usize,
    pub bytes: usize,
}

impl Default for Limits {
    /// Ten seconds of a very busy room (a hundred messages a second), and more
    /// than a client asks for as history.
    fn default() -> Self {
        Self {
            events: 1_024,
            bytes: 1024 * 1024,
        }
    }
}

/// Users with a role by the room's own word: those that a broadcaster named and
/// those of the operator's file.
pub const MAX_ROLES: usize = 8_192;

/// Clears and deletions that outlive the ring, for readers that fell off it.
const LASTING: usize = 64;

/// An event and its encodings, made by whoever needs one first.
#[derive(Debug)]
pub struct Posted {
    /// Its number in this feed, whatever its epoch.
    pub seq: u64,
    pub event: Event,
    forms: Box<[OnceLock<Bytes>]>,
}

impl Posted {
    /// The event in the form that `slot` stands for.
    pub fn form(&self, slot: usize, make: impl FnOnce(&Event) -> Bytes) -> Bytes {
        match self.forms.get(slot) {
            Some(form) => form.get_or_init(|| make(&self.event)).clone(),
            None => make(&self.event),
        }
    }
}

/// Where a reader stands: everything before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64);

/// Where a reader that was away goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    pub cursor: Cursor,
    /// Whether nothing is missing between.
    pub whole: bool,
}

/// What a read came to, all as of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The reader was too slow: so many events are gone. Nothing was handed over,
    /// and the cursor stands at the first event that is still here.
    pub missed: u64,
    /// Whether the cursor is behind everything now.
    pub at_end: bool,
    /// Where the room stands; epoch 0 while a relay has heard nothing of it.
    pub epoch: RoomEpoch,
    pub next: Offset,
    pub settings: Settings,
    /// See [`Feed::set_lost`].
    pub lost: bool,
    /// Moves whenever [`Feed::roles`] is another.
    pub roles_version: u64,
}

#[derive(Debug)]
struct Ring {
    epoch: RoomEpoch,
    next: Offset,
    settings: Settings,
    lost: bool,
    /// At most [`MAX_ROLES`], each with some role.
    roles: HashMap<Login, Roles>,
    roles_version: u64,
    /// The number of the first event held.
    first: u64,
    held: VecDeque<Arc<Posted>>,
    held_bytes: usize,
    lasting: VecDeque<Arc<Posted>>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Feed {
    pub room: ChannelName,
    limits: Limits,
    forms: usize,
    ring: Mutex<Ring>,
    /// The number of the next event, told at each.
    moved: watch::Sender<u64>,
}

impl Feed {
    /// `forms` is how many encodings an event may have.
    #[must_use]
    pub fn new(room: ChannelName, epoch: RoomEpoch, forms: usize, limits: Limits) -> Self {
        Self {
            room,
            limits,
            forms,
            ring: Mutex::new(Ring {
                epoch,
                next: Offset(0),
                settings: Settings::default(),
                lost: false,
                roles: HashMap::new(),
                roles_version: 0,
                first: 0,
                held: VecDeque::new(),
                held_bytes: 0,
                lasting: VecDeque::new(),
            }),
            moved: watch::Sender::new(0),
        }
    }

    /// Appends what the room's actor numbered. What was appended before is passed
    /// over; what is missing before it leaves a [`Body::Gap`]. Whether it is new.
    pub fn append(&self, event: Event) -> bool {
        let mut ring = self.ring.lock();
        if event.stamp.epoch < ring.epoch
            || event.stamp.epoch == ring.epoch && event.stamp.offset < ring.next
        {
            return false;
        }
        let expected = ring.epoch == event.stamp.epoch && ring.next == event.stamp.offset;
        if !expected {
            self.jump(&mut ring, event.stamp.epoch, event.stamp.offset);
        }
        ring.next = event.stamp.offset.next();
        ring.lost = false;
        match &event.body {
            Body::Settings(settings) => ring.settings = *settings,
            Body::Roles { login, roles } => ring.put_roles(login, *roles),
            _ => {}
        }
        let next = self.push(&mut ring, event);
        drop(ring);
        self.moved.send_replace(next);
        true
    }

    /// Says where the room stands at its actor: a relay's first word of a room, or
    /// of a new epoch, or of what it lost.
    pub fn stands(&self, epoch: RoomEpoch, next: Offset, settings: Settings) {
        let mut ring = self.ring.lock();
        let older = epoch < ring.epoch || epoch == ring.epoch && next < ring.next;
        if !older && (epoch, next) != (ring.epoch, ring.next) {
            self.jump(&mut ring, epoch, next);
        }
        if epoch >= ring.epoch {
            ring.settings = settings;
            ring.lost = false;
        }
        let end = ring.end();
        drop(ring);
        self.moved.send_replace(end);
    }

    /// Goes on elsewhere. A first word and a new epoch are no loss that anybody
    /// could know of; within an epoch the numbers tell.
    fn jump(&self, ring: &mut Ring, epoch: RoomEpoch, next: Offset) {
        let lost = epoch == ring.epoch && ring.end() > 0;
        ring.epoch = epoch;
        ring.next = next;
        if lost {
            let stamp = Stamp {
                epoch,
                offset: next,
                id: MessageId(0),
                at: UnixMs(0),
                program: UnixMs(0),
            };
            let body = Body::Gap;
            self.push(ring, Event { stamp, body });
        }
    }

    fn push(&self, ring: &mut Ring, event: Event) -> u64 {
        let posted = Arc::new(Posted {
            seq: ring.end(),
            forms: std::iter::repeat_with(OnceLock::new)
                .take(self.forms)
                .collect(),
            event,
        });
        if posted.event.body.moderates() {
            if ring.lasting.len() == LASTING {
                ring.lasting.pop_front();
            }
            ring.lasting.push_back(posted.clone());
        }
        ring.held_bytes += posted.event.weight_bytes();
        ring.held.push_back(posted);
        while ring.held.len() > self.limits.events || ring.held_bytes > self.limits.bytes {
            let Some(oldest) = ring.held.pop_front() else {
                break;
            };
            ring.held_bytes -= oldest.event.weight_bytes();
            ring.first += 1;
        }
        ring.end()
    }

    /// The next event's place.
    #[must_use]
    pub fn position(&self) -> (RoomEpoch, Offset) {
        let ring = self.ring.lock();
        (ring.epoch, ring.next)
    }

    #[must_use]
    pub fn settings(&self) -> Settings {
        self.ring.lock().settings
    }

    pub fn set_settings(&self, settings: Settings) {
        self.ring.lock().settings = settings;
    }

    /// What a user is by the room's own word, and the word's version.
    #[must_use]
    pub fn roles_of(&self, login: &Login) -> (Roles, u64) {
        let ring = self.ring.lock();
        let roles = ring.roles.get(login).copied();
        (roles.unwrap_or_default(), ring.roles_version)
    }

    /// All of them and their version, in no order.
    #[must_use]
    pub fn roles(&self) -> (u64, Vec<(Login, Roles)>) {
        let ring = self.ring.lock();
        let roles = ring
            .roles
            .iter()
            .map(|(login, roles)| (login.clone(), *roles));
        (ring.roles_version, roles.collect())
    }

    /// Says anew who is what; with `keep`, beside what was said before.
    pub fn set_roles(&self, keep: bool, roles: impl IntoIterator<Item = (Login, Roles)>) {
        let mut ring = self.ring.lock();
        if !keep && !ring.roles.is_empty() {
            ring.roles.clear();
            ring.roles_version += 1;
        }
        for (login, roles) in roles {
            ring.put_roles(&login, roles);
        }
        let end = ring.end();
        drop(ring);
        self.moved.send_replace(end);
    }

    /// Begins with what an earlier life of the room said, oldest first, before
    /// anybody reads.
    pub fn recall(&self, past: impl IntoIterator<Item = Event>) {
        let mut ring = self.ring.lock();
        for event in past {
            self.push(&mut ring, event);
        }
    }

    /// Behind everything.
    #[must_use]
    pub fn end(&self) -> Cursor {
        Cursor(self.ring.lock().end())
    }

    /// The oldest event that is here.
    #[must_use]
    pub fn start(&self) -> Cursor {
        Cursor(self.ring.lock().first)
    }

    /// Where who has everything before `offset` of `epoch` goes on.
    #[must_use]
    pub fn resume(&self, epoch: RoomEpoch, offset: Offset) -> Resumed {
        let ring = self.ring.lock();
        let stamped = |posted: &&Arc<Posted>| posted.event.body != Body::Gap;
        let at = ring.held.iter().filter(stamped).position(|posted| {
            let stamp = posted.event.stamp;
            (stamp.epoch, stamp.offset) >= (epoch, offset)
        });
        let first = ring.held.iter().filter(stamped).nth(at.unwrap_or(0));
        let cursor = match at {
            Some(_) => first.map_or(ring.end(), |posted| posted.seq),
            None => ring.end(),
        };
        let whole = match at {
            Some(_) => first.is_some_and(|posted| {
                let stamp = posted.event.stamp;
                (stamp.epoch, stamp.offset) == (epoch, offset)
            }),
            None => (ring.epoch, ring.next) == (epoch, offset),
        };
        Resumed {
            cursor: Cursor(cursor),
            whole,
        }
    }

    /// Hands over what the cursor has not read, at most `most` events, oldest first.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        most: usize,
        mut take: impl FnMut(&Arc<Posted>),
    ) -> Read {
        let ring = self.ring.lock();
        let missed = ring.first.saturating_sub(cursor.0);
        cursor.0 += missed;
        if missed == 0 {
            let skip = usize::try_from(cursor.0 - ring.first).unwrap_or(usize::MAX);
            for posted in ring.held.iter().skip(skip).take(most) {
                take(posted);
                cursor.0 = posted.seq + 1;
            }
        }
        Read {
            missed,
            at_end: cursor.0 >= ring.end(),
            epoch: ring.epoch,
            next: ring.next,
            settings: ring.settings,
            lost: ring.lost,
            roles_version: ring.roles_version,
        }
    }

    /// Says whether the room's actor can't be reached from here, for readers that may
    /// have another way to it. An event, or a word of where it stands, says that it can.
    pub fn set_lost(&self, lost: bool) {
        let mut ring = self.ring.lock();
        if ring.lost == lost {
            return;
        }
        ring.lost = lost;
        let end = ring.end();
        drop(ring);
        self.moved.send_replace(end);
    }

    /// Clears and deletions from `from` on that are before the ring.
    #[must_use]
    pub fn lasting(&self, from: Cursor) -> Vec<Arc<Posted>> {
        let ring = self.ring.lock();
        let fell = |posted: &&Arc<Posted>| (from.0..ring.first).contains(&posted.seq);
        ring.lasting.iter().filter(fell).cloned().collect()
    }

    /// All that is here, oldest first.
    #[must_use]
    pub fn held(&self) -> Vec<Arc<Posted>> {
        self.ring.lock().held.iter().cloned().collect()
    }

    /// Changes at each event.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }
}

impl Ring {
    fn put_roles(&mut self, login: &Login, roles: Roles) {
        let before = if roles == Roles::default() {
            self.roles.remove(login)
        } else if self.roles.len() < MAX_ROLES || self.roles.contains_key(login) {
            self.roles.insert(login.clone(), roles)
        } else {
            return;
        };
        self.roles_version += u64::from(before.unwrap_or_default() != roles);
    }

    fn end(&self) -> u64 {
        self.first + self.held.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Notice, NoticeId};

    fn stamp(epoch: u64, offset: u64) -> Stamp {
        Stamp {
            epoch: RoomEpoch(epoch),
            offset: Offset(offset),
            id: MessageId(offset.into()),
            at: UnixMs(1),
            program: UnixMs(1),
        }
    }

    fn said(epoch: u64, offset: u64) -> Event {
        Event {
            stamp: stamp(epoch, offset),
            body: Body::Notice(Notice::new(NoticeId::SlowOff, "x")),
        }
    }

    fn feed(events: usize) -> Feed {
        let room = ChannelName::parse("demo").unwrap();
        let bytes = 1 << 20;
        Feed::new(room, RoomEpoch(1), 1, Limits { events, bytes })
    }

    fn offsets(feed: &Feed, cursor: &mut Cursor) -> Vec<u64> {
        let mut offsets = Vec::new();
        feed.read(cursor, 100, |posted| {
            offsets.push(match posted.event.body {
                Body::Gap => 1_000 + posted.event.stamp.offset.0,
                _ => posted.event.stamp.offset.0,
            });
        });
        offsets
    }

    #[test]
    fn a_reader_that_falls_off_learns_it_and_what_was_moderated() {
        let feed = feed(3);
        let mut cursor = feed.end();
        for offset in 0..5 {
            let mut event = said(1, offset);
            if offset == 1 {
                event.body = Body::Cleared;
            }
            assert!(feed.append(event));
        }
        let fell = cursor;
        let read = feed.read(&mut cursor, 100, |_| panic!("not yet"));
        assert_eq!(read.missed, 2);
        let lasting = feed.lasting(fell);
        assert_eq!(lasting.len(), 1);
        assert_eq!(lasting[0].event.body, Body::Cleared);
        assert_eq!(offsets(&feed, &mut cursor), [2, 3, 4]);
        assert!(offsets(&feed, &mut cursor).is_empty());
    }

    #[test]
    fn what_comes_twice_is_passed_over_and_what_is_missing_is_marked() {
        let feed = feed(10);
        let mut cursor = feed.end();
        assert!(feed.append(said(1, 0)));
        assert!(!feed.append(said(1, 0)));
        assert!(feed.append(said(1, 4)));
        assert_eq!(offsets(&feed, &mut cursor), [0, 1_004, 4]);
        // A new life of the actor counts anew, and its past is no loss.
        feed.stands(RoomEpoch(2), Offset(0), Settings::default());
        assert!(feed.append(said(2, 0)));
        assert!(!feed.append(said(1, 5)));
        assert_eq!(offsets(&feed, &mut cursor), [0]);
    }

    #[test]
    fn the_first_word_of_a_room_is_no_loss() {
        let feed = feed(10);
        let mut cursor = feed.end();
        feed.stands(RoomEpoch(7), Offset(40), Settings::default());
        assert!(feed.append(said(7, 40)));
        assert_eq!(offsets(&feed, &mut cursor), [40]);
    }

    #[test]
    fn who_was_away_goes_on_where_it_was() {
        let feed = feed(3);
        let at = |offset| feed.resume(RoomEpoch(1), Offset(offset));
        let found = |cursor, whole| Resumed {
            cursor: Cursor(cursor),
            whole,
        };
        assert_eq!(at(0), found(0, true));
        for offset in 0..5 {
            feed.append(said(1, offset));
        }
        assert_eq!(at(5), found(5, true));
        assert_eq!(at(3), found(3, true));
        assert_eq!(at(1), found(2, false));
        assert_eq!(at(9), found(5, false));
        let earlier = feed.resume(RoomEpoch(0), Offset(3));
        assert_eq!(earlier, found(2, false));
    }

    #[test]
    fn an_earlier_life_is_history_and_who_was_there_misses_nothing() {
        let feed = Feed::new(
            ChannelName::parse("demo").unwrap(),
            RoomEpoch(2),
            1,
            Limits::default(),
        );
        feed.recall((0..3).map(|offset| said(1, offset)));
        assert_eq!(feed.position(), (RoomEpoch(2), Offset(0)));
        assert_eq!(feed.end(), Cursor(3));
        let resumed = feed.resume(RoomEpoch(1), Offset(2));
        assert!(resumed.whole);
        assert!(feed.append(said(2, 0)));
        let mut cursor = resumed.cursor;
        assert_eq!(offsets(&feed, &mut cursor), [2, 0]);
        assert_eq!(offsets(&feed, &mut feed.start()), [0, 1, 2, 0]);
    }

    #[test]
    fn roles_are_kept_in_step_and_bounded() {
        let feed = feed(10);
        let login = |number: usize| Login::parse(&format!("u{number}")).unwrap();
        let role = Roles::from_bits(2);
        assert_eq!(feed.roles(), (0, Vec::new()));
        let mut event = said(1, 0);
        event.body = Body::Roles {
            login: login(1),
            roles: role,
        };
        feed.append(event.clone());
        assert_eq!(feed.roles_of(&login(1)).0, role);
        let (version, _) = feed.roles();
        // The same word again changes nothing.
        feed.set_roles(true, [(login(1), role)]);
        assert_eq!(feed.roles().0, version);
        event.stamp = stamp(1, 1);
        event.body = Body::Roles {
            login: login(1),
            roles: Roles::default(),
        };
        feed.append(event);
        assert_eq!(feed.roles_of(&login(1)).0, Roles::default());
        assert!(feed.roles().0 > version);
        feed.set_roles(
            false,
            (0..MAX_ROLES + 9).map(|number| (login(number), role)),
        );
        assert_eq!(feed.roles().1.len(), MAX_ROLES);
        feed.set_roles(false, []);
        assert!(feed.roles().1.is_empty());
    }

    #[test]
    fn a_ring_is_bounded_in_bytes() {
        let room = ChannelName::parse("demo").unwrap();
        let bytes = 10 * said(1, 0).weight_bytes();
        let feed = Feed::new(room, RoomEpoch(1), 0, Limits { events: 99, bytes });
        for offset in 0..50 {
            feed.append(said(1, offset));
        }
        assert_eq!(feed.held().len(), 10);
    }

    #[test]
    fn a_form_is_made_once() {
        let feed = feed(3);
        feed.append(said(1, 0));
        let posted = feed.held().remove(0);
        let first = posted.form(0, |_| Bytes::from_static(b"one"));
        let again = posted.form(0, |_| Bytes::from_static(b"two"));
        assert_eq!(first, again);
        assert_eq!(posted.form(1, |_| Bytes::from_static(b"two")), "two");
    }
}
