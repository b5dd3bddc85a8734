//! The task between this edge's rooms and their home: one CHAT stream to a
//! parent, held for as long as there is one.
//!
//! In: wishes of connections, rooms entered. Out: feeds that move, verdicts.
//! Invariants: a wish is answered once, by its room or, after [`PATIENCE`], by us;
//! one that was asked before the link broke is asked again with the same id, in
//! the same order, so that nothing acknowledged is lost and nothing is said twice.
//! Bounds: [`WISHES`], [`MAX_PENDING`].

mod pending;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    chat::{Counts, MessageId, Notice, NoticeId, Offset, Request, RoomEpoch, Verdict},
    link::{Chat, Code, Message, Reader, StreamError, Writer},
    names::{ChannelName, NodeId},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{debug, info, warn};

use super::{
    mailbox::Mailbox,
    metrics::ChatMetrics,
    rooms::{Room, Rooms},
};
use crate::upstream::Upstream;

use pending::Pending;

/// Wishes that the uplink has not looked at; a user whose wish finds no place is
/// told at once.
pub const WISHES: usize = 4_096;

/// Wishes that wait for verdicts: those of a 3-second cut of a busy edge.
pub const MAX_PENDING: usize = 4_096;

/// How long a wish waits for its room before its user is told that it failed:
/// longer than a parent's failover takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Messages on their way into the stream.
const OUTGOING: usize = 256;

/// How often counts are told, silent rooms looked for, and patience is tested.
const TICK: Duration = Duration::from_secs(1);

/// A room's counts are told again though they did not change: see CHAT.
const COUNTS_AGAIN: Duration = Duration::from_secs(15);

/// A room without anybody is kept this long, so that one who comes back finds it.
const LINGER: Duration = Duration::from_secs(30);

/// A room that its parent does not have is asked for again after this.
const CLOSED_FOR: Duration = Duration::from_secs(5);

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
    told: Option<(Counts, Instant)>,
    empty_since: Option<Instant>,
    /// Its parent has it not; when to ask again.
    closed_until: Option<Instant>,
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
        let uplink = Self {
            upstream,
            rooms,
            metrics,
            wishes,
            held: HashMap::new(),
            pending: Pending::new(MAX_PENDING),
            origins,
        };
        (uplink, sender)
    }

    /// Runs for as long as chat does.
    pub async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let upstream = self.upstream.clone();
        let mut opening = std::pin::pin!(upstream.open_chat());
        loop {
            tokio::select! {
                (parent, writer, reader) = opening.as_mut() => {
                    let why = self.linked(&parent, writer, reader, &mut tick).await;
                    self.metrics.linked.set(0);
                    warn!(%parent, %why, "chat lost its parent");
                    sleep_a_moment(&why).await;
                    opening.set(upstream.open_chat());
                }
                wish = self.wishes.recv() => match wish {
                    Some(wish) => drop(self.wish(wish)),
                    None => return,
                },
                _ = tick.tick() => drop(self.tick()),
            }
        }
    }

    /// Stays with one stream until it ends; why it did.
    async fn linked(
        &mut self,
        parent: &NodeId,
        mut writer: Writer,
        mut reader: Reader,
        tick: &mut tokio::time::Interval,
    ) -> Ended {
        info!(%parent, rooms = self.held.len(), pending = self.pending.len(), "chat has a parent");
        self.metrics.linked.set(1);
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let mut write = std::pin::pin!(write(&mut writer, self.hello(), outgoing));
        loop {
            // As many as one tick or wish can bring.
            let has_room = out.capacity() > OUTGOING / 2;
            let told = tokio::select! {
                message = reader.next() => match message {
                    Ok(Some(message)) => match self.heard(message) {
                        Ok(()) => continue,
                        Err(ended) => return ended,
                    },
                    Ok(None) => return Ended::Finished,
                    Err(error) => return Ended::Stream(error),
                },
                error = write.as_mut() => return Ended::Stream(error),
                wish = self.wishes.recv(), if has_room => match wish {
                    Some(wish) => self.wish(wish).into_iter().collect(),
                    None => return Ended::Finished,
                },
                _ = tick.tick(), if has_room => self.tick(),
            };
            for piece in told {
                // What finds no place is counts, told again.
                let _ = out.try_send(piece);
            }
        }
    }

    /// All rooms from where they stand, then all that waits for a verdict.
    fn hello(&mut self) -> Vec<Bytes> {
        let mut pieces: Vec<_> = self.held.values().map(|held| enter(&held.room)).collect();
        for held in self.held.values_mut() {
            held.told = None;
            held.closed_until = None;
        }
        pieces.extend(
            self.pending
                .iter()
                .map(|(room, request)| ask(room, request)),
        );
        pieces
    }

    /// Takes a wish; what to send for it.
    fn wish(&mut self, wish: Wish) -> Option<Bytes> {
        match wish {
            Wish::Read(room) => {
                let piece = enter(&room);
                let name = room.name().clone();
                let held = Held {
                    room,
                    told: None,
                    empty_since: None,
                    closed_until: None,
                };
                self.held.insert(name, held);
                let rooms = i64::try_from(self.held.len()).unwrap_or(i64::MAX);
                self.metrics.rooms.set(rooms);
                Some(piece)
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
                let kept = self.pending.push(room, request, reply, until);
                self.count_pending();
                if let Err(reply) = kept {
                    reply.tell(id, Verdict::Refused(busy()));
                    return None;
                }
                Some(piece)
            }
        }
    }

    fn heard(&mut self, message: Message) -> Result<(), Ended> {
        match message {
            Message::Chat(Chat::Event { room, event }) => {
                if let Some(held) = self.held.get(&room) {
                    self.metrics.events.inc();
                    if held.room.feed.append(*event) {
                        held.room.wake();
                    }
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
                if let Some(held) = self.held.get(&room) {
                    held.room.stands(epoch, next, live, settings);
                    held.room.wake();
                }
            }
            Message::Chat(Chat::Roles { room, more, roles }) => {
                if let Some(held) = self.held.get(&room) {
                    held.room.feed.set_roles(more, roles);
                    held.room.wake();
                }
            }
            Message::Chat(Chat::Closed { room, code }) => self.closed(&room, code),
            Message::Chat(Chat::Origins { nodes }) => {
                self.origins.send_replace(nodes);
            }
            Message::Error(refusal) => return Err(Ended::Refused(refusal.code)),
            // Of a later version.
            _ => {}
        }
        Ok(())
    }

    /// Its parent does not have the room: who asked there is told.
    fn closed(&mut self, room: &ChannelName, code: Code) {
        let origins = self.origins.borrow().clone();
        let home = common::chat::home::home(room, &origins);
        debug!(%room, %code, home = home.map(NodeId::as_str), "the parent has no such room");
        if let Some(held) = self.held.get_mut(room) {
            held.closed_until = Some(Instant::now() + CLOSED_FOR);
        }
        let notice = Notice::new(
            NoticeId::MsgRoomNotFound,
            "This room is not to be had here.",
        );
        for (id, reply) in self.pending.take_room(room) {
            reply.tell(id, Verdict::Refused(notice.clone()));
        }
        self.count_pending();
    }

    /// Counts, rooms that nobody is in, wishes that waited too long.
    fn tick(&mut self) -> Vec<Bytes> {
        let now = Instant::now();
        for (id, reply) in self.pending.take_late(now) {
            self.metrics.unanswered.inc();
            reply.tell(id, Verdict::Refused(unreachable()));
        }
        self.count_pending();
        let readers = self.held.values().map(|held| held.room.counts().readers);
        self.metrics.memberships.set(readers.map(i64::from).sum());
        let mut pieces = Vec::new();
        let mut gone = Vec::new();
        for (name, held) in &mut self.held {
            if pieces.len() >= OUTGOING / 2 {
                break;
            }
            if held.closed_until.is_some_and(|until| until <= now) {
                held.closed_until = None;
                pieces.push(enter(&held.room));
            }
            let counts = held.room.counts();
            let fresh = |(told, at): (Counts, Instant)| told == counts && now < at + COUNTS_AGAIN;
            if !held.told.is_some_and(fresh) {
                held.told = Some((counts, now));
                let room = name.clone();
                pieces.push(Message::Chat(Chat::Counts { room, counts }).encode());
            }
            if counts.readers > 0 {
                held.empty_since = None;
            } else if now >= *held.empty_since.get_or_insert(now) + LINGER {
                gone.push(name.clone());
            }
        }
        for name in gone {
            if let Some(held) = self.held.get(&name)
                // The map's, ours: somebody may be about to enter.
                && self.rooms.close(&held.room)
            {
                self.held.remove(&name);
                pieces.push(Message::Chat(Chat::Exit { room: name }).encode());
            }
        }
        let rooms = i64::try_from(self.held.len()).unwrap_or(i64::MAX);
        self.metrics.rooms.set(rooms);
        pieces
    }

    fn count_pending(&self) {
        let pending = i64::try_from(self.pending.len()).unwrap_or(i64::MAX);
        self.metrics.pending.set(pending);
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("it finished")]
    Finished,
    #[error("refused: {0}")]
    Refused(Code),
    #[error(transparent)]
    Stream(StreamError),
}

async fn sleep_a_moment(why: &Ended) {
    // A lost link says when it is back by itself.
    if !matches!(why, Ended::Stream(StreamError::Lost(_))) {
        sleep(RETRY).await;
    }
}

async fn write(
    writer: &mut Writer,
    mut first: Vec<Bytes>,
    mut outgoing: mpsc::Receiver<Bytes>,
) -> StreamError {
    if let Err(error) = writer.send_all(&mut first).await {
        return error;
    }
    drop(first);
    let mut pieces = Vec::with_capacity(OUTGOING);
    loop {
        if outgoing.recv_many(&mut pieces, OUTGOING).await == 0 {
            return StreamError::Closed;
        }
        if let Err(error) = writer.send_all(&mut pieces).await {
            return error;
        }
        pieces.clear();
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
