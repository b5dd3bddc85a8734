//! The task between this edge's rooms and their homes: one CHAT stream to each
//! parent whose link is open, and for each room the one that leads to its home.
//!
//! In: wishes of connections, rooms entered. Out: feeds that move, verdicts.
//! Invariants: a wish is answered once, by its room or, after [`PATIENCE`], by us;
//! one that was asked before the link broke, or before the room turned to another
//! parent, is asked again with the same id, in the same order, so that nothing
//! acknowledged is lost and nothing is said twice. Bounds: [`WISHES`],
//! [`MAX_PENDING`], one line a parent.

mod line;
mod paths;
mod pending;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    chat::{
        Counts, Login, MessageId, Notice, NoticeId, Offset, Request, RoomEpoch, Verdict,
        home::home, presence::TELL_AGAIN,
    },
    link::{Chat, Code, Message, chat::Changes},
    names::{ChannelName, NodeId},
    tls::Role,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{debug, info, warn};

use super::{
    mailbox::Mailbox,
    metrics::ChatMetrics,
    rooms::{Room, Rooms},
};
use crate::upstream::Upstream;

use line::{Ended, Line, LineId, Told};
use pending::Pending;

/// Wishes that the uplink has not looked at; a user whose wish finds no place is
/// told at once.
pub const WISHES: usize = 4_096;

/// Wishes that wait for verdicts: those of a 3-second cut of a busy edge.
pub const MAX_PENDING: usize = 4_096;

/// How long a wish waits for its room before its user is told that it failed:
/// longer than a parent's failover takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all lines together have told and the uplink has not looked at; a full
/// queue holds back the streams.
const TOLD: usize = 256;

/// How often counts are told, silent rooms looked for, and patience is tested.
const TICK: Duration = Duration::from_secs(1);

/// A room without anybody is kept this long, so that one who comes back finds it.
const LINGER: Duration = Duration::from_secs(30);

/// A room that a parent does not have is asked for there again after this.
const CLOSED_FOR: Duration = Duration::from_secs(5);

/// A room that no parent leads to is said to be lost, to edges behind this one,
/// after this: a parent that was restarted is back sooner.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// A parent that carries no chat is asked again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Who is told a verdict.
#[derive(Debug)]
pub enum ReplyTo {
    Connection(Arc<Mailbox>),
    /// A node behind this one.
    Child(mpsc::OwnedPermit<(MessageId, Verdict)>),
}

impl ReplyTo {
    pub(super) fn tell(self, id: MessageId, verdict: Verdict) {
        match self {
            Self::Connection(mailbox) => mailbox.decided(id, verdict),
            Self::Child(permit) => drop(permit.send((id, verdict))),
        }
    }
}

/// What the rest of chat asks of the uplink.
#[derive(Debug)]
pub enum Wish {
    /// A room that was made: read it.
    Read(Arc<Room>),
    Ask {
        room: ChannelName,
        request: Box<Request>,
        reply: ReplyTo,
    },
}

/// A room as the uplink holds it.
#[derive(Debug)]
struct Held {
    room: Arc<Room>,
    /// The parent that carries it, by a line that is up.
    at: Option<NodeId>,
    /// Parents that have said no, until when, and whether they carry it still: a
    /// relay that lost its own way says when it is back.
    shut: Vec<(NodeId, Instant, bool)>,
    /// Since when nobody leads to its home.
    lost_since: Option<Instant>,
    told: Option<(Counts, Instant)>,
    /// Who the parent was told is here, and as of which version.
    named: Option<Named>,
    empty_since: Option<Instant>,
}

/// Names that were told, as of a version of [`Room::local_version`].
type Named = (Arc<[Login]>, (u64, u64));

impl Held {
    fn new(room: Arc<Room>) -> Self {
        Self {
            room,
            at: None,
            shut: Vec::new(),
            lost_since: None,
            told: None,
            named: None,
            empty_since: None,
        }
    }

    /// What the parent is to be told of who is here.
    fn names(&mut self) -> Vec<Bytes> {
        let version = self.room.local_version();
        let before = self.named.as_ref();
        if before.is_some_and(|(_, told)| *told == version) {
            return Vec::new();
        }
        let names = self.room.local().names.unwrap_or_default();
        let changes = Changes::between(before.map(|(names, _)| &**names), &names);
        self.named = Some((names, version));
        let told = changes.into_iter().filter(|changes| !changes.is_empty());
        let members = told.map(|changes| {
            let room = self.room.name().clone();
            Message::Chat(Chat::Members { room, changes }).encode()
        });
        members.collect()
    }

    fn shuts(&self, node: &NodeId) -> bool {
        self.shut.iter().any(|(shut, ..)| shut == node)
    }
}

/// See the module's text.
pub struct Uplink {
    upstream: Arc<Upstream>,
    rooms: Arc<Rooms>,
    metrics: ChatMetrics,
    wishes: mpsc::Receiver<Wish>,
    held: HashMap<ChannelName, Held>,
    pending: Pending,
    origins: watch::Sender<Vec<NodeId>>,
    lines: HashMap<NodeId, Line>,
    lines_begun: u64,
    tell: mpsc::Sender<(LineId, Told)>,
    told: mpsc::Receiver<(LineId, Told)>,
    /// Parents that are not asked for a line before then.
    resting: HashMap<NodeId, Instant>,
}

impl std::fmt::Debug for Uplink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uplink").finish_non_exhaustive()
    }
}

impl Uplink {
    pub(super) fn new(
        upstream: Arc<Upstream>,
        rooms: Arc<Rooms>,
        metrics: ChatMetrics,
        origins: watch::Sender<Vec<NodeId>>,
    ) -> (Self, mpsc::Sender<Wish>) {
        let (sender, wishes) = mpsc::channel(WISHES);
        let (tell, told) = mpsc::channel(TOLD);
        let uplink = Self {
            upstream,
            rooms,
            metrics,
            wishes,
            held: HashMap::new(),
            pending: Pending::new(MAX_PENDING),
            origins,
            lines: HashMap::new(),
            lines_begun: 0,
            tell,
            told,
            resting: HashMap::new(),
        };
        (uplink, sender)
    }

    /// Runs for as long as chat does.
    pub async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut parents = self.upstream.parents_change();
        self.look_at_parents();
        loop {
            tokio::select! {
                () = changed(&mut parents) => self.look_at_parents(),
                Some((line, told)) = self.told.recv() => self.told(line, told),
                wish = self.wishes.recv() => match wish {
                    Some(wish) => self.wish(wish),
                    None => return,
                },
                _ = tick.tick() => self.tick(),
            }
        }
    }

    /// Begins a line to every parent that has none.
    fn look_at_parents(&mut self) {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        for parent in self.upstream.chat_parents() {
            let node = parent.node().clone();
            if self.lines.contains_key(&node) || self.resting.contains_key(&node) {
                continue;
            }
            let id = LineId(self.lines_begun);
            self.lines_begun += 1;
            let line = Line::start(id, parent, self.tell.clone());
            self.lines.insert(node, line);
        }
    }

    fn told(&mut self, id: LineId, told: Told) {
        let line = self.lines.values_mut().find(|line| line.id == id);
        let Some(line) = line else {
            // Of a line that was let go.
            return;
        };
        let parent = line.parent.node().clone();
        match told {
            Told::Up => {
                line.is_up = true;
                info!(%parent, rooms = self.held.len(), pending = self.pending.len(), "chat has a parent");
                self.ways_changed();
            }
            Told::Heard(message) => self.heard(&parent, message),
            // One room's event must not end the chat of all: its place stays a gap.
            Told::Unreadable(error) => {
                self.metrics.unreadable.inc();
                debug!(%parent, %error, "a message of chat makes no sense");
            }
            Told::Ended(why) => self.ended(&parent, &why),
        }
    }

    fn ended(&mut self, parent: &NodeId, why: &Ended) {
        warn!(%parent, %why, "chat lost its parent");
        self.lines.remove(parent);
        if !why.is_lost() {
            let until = Instant::now() + RETRY;
            self.resting.insert(parent.clone(), until);
        }
        for held in self.held.values_mut() {
            held.shut.retain(|(shut, ..)| shut != parent);
            if held.at.as_ref() == Some(parent) {
                held.at = None;
            }
        }
        self.look_at_parents();
        self.ways_changed();
    }

    /// A line came or went, or what origins there are: every room may have a better
    /// way, or none.
    fn ways_changed(&mut self) {
        let mut told: Vec<&Line> = self.lines.values().filter(|line| line.is_up).collect();
        self.metrics.linked.set(i64::from(!told.is_empty()));
        told.sort_by_key(|line| line.way().rank);
        // A relay that has not heard of them says none.
        let known = told.iter().find(|line| !line.origins.is_empty());
        let known = known.map(|line| line.origins.clone()).unwrap_or_default();
        let direct = told.iter().any(|line| line.way().role == Role::Origin);
        self.upstream
            .need_links(if direct { known.len() } else { 0 });
        if *self.origins.borrow() != known {
            self.origins.send_replace(known);
        }
        self.steer_all();
    }

    fn steer_all(&mut self) {
        let names: Vec<_> = self.held.keys().cloned().collect();
        for name in names {
            self.steer(&name);
        }
    }

    /// Reads a room through the best parent there is, and asks again there what
    /// waits for a verdict.
    fn steer(&mut self, name: &ChannelName) {
        let Some(held) = self.held.get_mut(name) else {
            return;
        };
        let origins = self.origins.borrow().clone();
        let ways = self.lines.values().filter(|line| line.is_up).map(Line::way);
        // A child that reads it here would lead in a circle.
        let shut = |node: &NodeId| held.shuts(node) || held.room.presence.knows(node);
        let best = paths::best(home(name, &origins), ways, shut, held.at.as_ref());
        let Some(best) = best.cloned() else {
            held.lost_since.get_or_insert_with(Instant::now);
            return;
        };
        if held.at.as_ref() == Some(&best) {
            return;
        }
        debug!(room = %name, parent = %best, "a room has a way");
        if let Some(before) = held.at.replace(best.clone())
            && let Some(line) = self.lines.get(&before)
        {
            let room = name.clone();
            line.send(Message::Chat(Chat::Exit { room }).encode());
        }
        held.told = None;
        held.named = None;
        held.lost_since = None;
        let mut pieces = vec![enter(&held.room)];
        let waiting = self.pending.iter().filter(|(room, _)| *room == name);
        pieces.extend(waiting.map(|(room, request)| ask(room, request)));
        for piece in pieces {
            self.send(&best, piece);
        }
    }

    /// A line that takes nothing more is dead, whatever its link says.
    fn send(&mut self, parent: &NodeId, piece: Bytes) {
        let sent = self.lines.get(parent).is_some_and(|line| line.send(piece));
        if !sent && self.lines.remove(parent).is_some() {
            let until = Instant::now() + RETRY;
            self.resting.insert(parent.clone(), until);
            warn!(%parent, "chat's way to a parent is stuck");
            for held in self.held.values_mut() {
                held.at.take_if(|at| at == parent);
            }
        }
    }

    fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Read(room) => {
                let name = room.name().clone();
                room.expect_home();
                self.held.insert(name.clone(), Held::new(room));
                let rooms = i64::try_from(self.held.len()).unwrap_or(i64::MAX);
                self.metrics.rooms.set(rooms);
                self.steer(&name);
            }
            Wish::Ask {
                room,
                request,
                reply,
            } => {
                self.metrics.asks.inc();
                let id = request.id;
                let piece = ask(&room, &request);
                let until = Instant::now() + PATIENCE;
                let at = self.held.get(&room).and_then(|held| held.at.clone());
                let kept = self.pending.push(room, request, reply, until);
                self.count_pending();
                match (kept, at) {
                    (Err(reply), _) => reply.tell(id, Verdict::Refused(busy())),
                    (Ok(()), Some(at)) => self.send(&at, piece),
                    // It is asked when there is a way.
                    (Ok(()), None) => {}
                }
            }
        }
    }

    fn heard(&mut self, parent: &NodeId, message: Message) {
        match message {
            Message::Chat(Chat::Event { room, event }) => {
                if let Some(held) = self.carried(&room, parent) {
                    let new = held.room.feed.append(*event);
                    if new {
                        held.room.wake();
                    }
                    self.metrics.events.inc();
                }
            }
            Message::Chat(Chat::Verdict { id, verdict }) => {
                if let Some(reply) = self.pending.take(id) {
                    reply.tell(id, verdict);
                }
                self.count_pending();
            }
            Message::Chat(Chat::Room {
                room,
                epoch,
                next,
                live,
                settings,
            }) => {
                if let Some(held) = self.carried(&room, parent) {
                    held.lost_since = None;
                    held.shut.retain(|(shut, ..)| shut != parent);
                    held.room.stands(epoch, next, live, settings);
                    held.room.wake();
                }
            }
            Message::Chat(Chat::Roles { room, more, roles }) => {
                if let Some(held) = self.carried(&room, parent) {
                    held.room.feed.set_roles(more, roles);
                    held.room.wake();
                }
            }
            Message::Chat(Chat::Present {
                room,
                counts,
                named,
                changes,
            }) => {
                if let Some(held) = self.carried(&room, parent) {
                    held.room.hears_present(counts, named, changes);
                }
            }
            Message::Chat(Chat::Closed { room, code }) => self.closed(&room, parent, code),
            Message::Chat(Chat::Origins { nodes }) => {
                if let Some(line) = self.lines.get_mut(parent) {
                    line.origins = nodes;
                }
                self.ways_changed();
            }
            // Of a later version.
            _ => {}
        }
    }

    fn carried(&mut self, room: &ChannelName, parent: &NodeId) -> Option<&mut Held> {
        let held = self.held.get_mut(room)?;
        (held.at.as_ref() == Some(parent)).then_some(held)
    }

    /// A parent does not have the room: another is looked for. Without one, who asked
    /// is told.
    fn closed(&mut self, room: &ChannelName, parent: &NodeId, code: Code) {
        let Some(held) = self.carried(room, parent) else {
            return;
        };
        debug!(%room, %parent, %code, "a parent has no such room");
        let stays = code == Code::OriginLost;
        let until = Instant::now() + CLOSED_FOR;
        held.shut.retain(|(shut, ..)| shut != parent);
        held.shut.push((parent.clone(), until, stays));
        if !stays {
            held.at = None;
        }
        self.steer(room);
        let lost = self.held.get(room).is_some_and(|held| held.at.is_none());
        if lost && !stays {
            let notice = Notice::new(
                NoticeId::MsgRoomNotFound,
                "This room is not to be had here.",
            );
            for (id, reply) in self.pending.take_room(room) {
                reply.tell(id, Verdict::Refused(notice.clone()));
            }
            self.count_pending();
        }
    }

    /// Counts, rooms that nobody is in, wishes that waited too long, ways that may
    /// be open again.
    fn tick(&mut self) {
        let now = Instant::now();
        self.look_at_parents();
        for (id, reply) in self.pending.take_late(now) {
            self.metrics.unanswered.inc();
            reply.tell(id, Verdict::Refused(unreachable()));
        }
        self.count_pending();
        let readers = self.held.values().map(|held| held.room.counts().readers);
        self.metrics.memberships.set(readers.map(i64::from).sum());
        let mut pieces = Vec::new();
        let mut gone = Vec::new();
        let mut again = Vec::new();
        for (name, held) in &mut self.held {
            if held.at.is_none() || held.shut.iter().any(|(_, until, _)| *until <= now) {
                held.shut.retain(|(_, until, _)| *until > now);
                again.push(name.clone());
            }
            let lost = held
                .lost_since
                .is_some_and(|since| since + LOST_AFTER <= now);
            held.room.feed.set_lost(lost);
            let counts = held.room.counts();
            let fresh = |(told, at): (Counts, Instant)| told == counts && now < at + TELL_AGAIN;
            if let Some(at) = &held.at
                && !held.told.is_some_and(fresh)
            {
                held.told = Some((counts, now));
                let room = name.clone();
                let piece = Message::Chat(Chat::Counts { room, counts }).encode();
                pieces.push((at.clone(), piece));
            }
            if let Some(at) = held.at.clone() {
                let members = held.names().into_iter();
                pieces.extend(members.map(|piece| (at.clone(), piece)));
            }
            if counts.readers > 0 || counts.viewers > 0 {
                held.empty_since = None;
            } else if now >= *held.empty_since.get_or_insert(now) + LINGER {
                gone.push(name.clone());
            }
        }
        for name in gone {
            if let Some(held) = self.held.get(&name)
                // The map's, ours: somebody may be about to enter.
                && self.rooms.close(&held.room)
                && let Some(held) = self.held.remove(&name)
                && let Some(at) = held.at
            {
                pieces.push((at, Message::Chat(Chat::Exit { room: name }).encode()));
            }
        }
        for (parent, piece) in pieces {
            self.send(&parent, piece);
        }
        for name in again {
            self.steer(&name);
        }
        let rooms = i64::try_from(self.held.len()).unwrap_or(i64::MAX);
        self.metrics.rooms.set(rooms);
    }

    fn count_pending(&self) {
        let pending = i64::try_from(self.pending.len()).unwrap_or(i64::MAX);
        self.metrics.pending.set(pending);
    }
}

async fn changed(parents: &mut Option<watch::Receiver<u64>>) {
    let gone = match parents {
        Some(changes) => changes.changed().await.is_err(),
        None => true,
    };
    if gone {
        std::future::pending().await
    }
}

fn enter(room: &Room) -> Bytes {
    let (epoch, next): (RoomEpoch, Offset) = room.feed.position();
    let after = (epoch != RoomEpoch(0)).then_some((epoch, next));
    let room = room.name().clone();
    Message::Chat(Chat::Enter { room, after }).encode()
}

fn ask(room: &ChannelName, request: &Request) -> Bytes {
    let (room, request) = (room.clone(), Box::new(request.clone()));
    Message::Chat(Chat::Ask { room, request }).encode()
}

/// More is asked than the way up carries.
#[must_use]
pub fn busy() -> Notice {
    Notice::new(
        NoticeId::MsgRateLimit,
        "Your message was not sent because chat is too busy.",
    )
}

fn unreachable() -> Notice {
    Notice::new(
        NoticeId::MsgRejected,
        "Your message was not sent because the room can't be reached.",
    )
}
