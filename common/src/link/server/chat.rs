//! CHAT: one child's rooms. A reading half that hands wishes to rooms, a follower
//! a room that reads its feed at the child's pace, and a writing half for both.
//!
//! Nobody waits for a child: a follower that falls off a feed says where it goes
//! on (ROOM); a wish that a room has no place for is refused at once. Nothing that is
//! said in chat ends a link, whose pictures others watch: a message that makes no sense
//! costs itself, one without an end the stream. Bounds: rooms of a child
//! ([`MAX_ROOMS`]), verdicts and events on their way ([`VERDICTS`], [`EVENTS`]).

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tracing::debug;

use super::{
    Peer,
    request::{Failure, refused},
};
use crate::{
    chat::{
        Asked, Body, Feed, Login, MessageId, Notice, NoticeId, Offset, Posted, Presence, Present,
        Roles, RoomEpoch, RoomHandle, Verdict, presence::TELL_AGAIN,
    },
    link::{
        chat::{Changes, Chat, MAX_ROOMS, ROLES_AT_ONCE, encode_event, id_of_ask},
        frame::Frame,
        message::{Code, Message},
        stream::{Reader, StreamError, Writer},
        wire::{VARINT_MAX, WireError},
    },
    names::{ChannelName, NodeId},
    telemetry::metrics::Share,
};

/// Wishes of one child that are being decided; more wait in its stream.
const VERDICTS: usize = 256;

/// Events of one child on their way from its followers to its stream.
const EVENTS: usize = 64;

/// The encoding of an event that the link takes is the first of its forms.
const LINK_FORM: usize = 0;

/// What a node carries rooms with.
#[derive(Debug, Clone)]
pub struct ChatPort {
    /// The nodes over which rooms are spread, as far as this node knows.
    pub origins: watch::Receiver<Vec<NodeId>>,
    /// Where a room is asked for.
    pub opens: mpsc::Sender<OpenRoom>,
}

/// Asks for a room, made if it is not there.
#[derive(Debug)]
pub struct OpenRoom {
    pub room: ChannelName,
    /// [`Code::NotHere`] for a room whose home is elsewhere.
    pub reply: oneshot::Sender<Result<RoomHandle, Code>>,
}

struct Entered {
    handle: RoomHandle,
    follower: AbortHandle,
    teller: AbortHandle,
    _counted: Share,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.follower.abort();
        self.teller.abort();
    }
}

impl Peer {
    pub(super) async fn chat(
        &self,
        writer: &mut Writer,
        reader: &mut Reader,
    ) -> Result<(), Failure> {
        let Some(port) = self.shared.chat.clone() else {
            return Err(refused(Code::NotFound, "this node carries no chat"));
        };
        let (verdicts, decided) = mpsc::channel(VERDICTS);
        let (events, told) = mpsc::channel(EVENTS);
        let mut rooms = Rooms {
            peer: self,
            port: &port,
            entered: HashMap::new(),
            followers: JoinSet::new(),
            verdicts,
            events,
        };
        tokio::select! {
            ended = rooms.read(reader) => ended,
            ended = write(writer, decided, told, port.origins.clone()) => ended.map_err(Failure::from),
        }
    }
}

/// Without its frames nothing of a stream can be read, and nothing else is lost.
fn ends_chat(error: StreamError) -> Failure {
    match error {
        StreamError::Wire(error) => refused(Code::Protocol, error.to_string()),
        error => error.into(),
    }
}

struct Rooms<'a> {
    peer: &'a Peer,
    port: &'a ChatPort,
    entered: HashMap<ChannelName, Entered>,
    followers: JoinSet<()>,
    verdicts: mpsc::Sender<(MessageId, Verdict)>,
    events: mpsc::Sender<Bytes>,
}

impl Rooms<'_> {
    async fn read(&mut self, reader: &mut Reader) -> Result<(), Failure> {
        loop {
            let frame = tokio::select! {
                frame = reader.frame() => frame.map_err(ends_chat)?,
                Some(_) = self.followers.join_next(), if !self.followers.is_empty() => continue,
            };
            let Some(frame) = frame else {
                return Ok(());
            };
            let message = match Message::decode(frame.clone()) {
                Ok(message) => message,
                Err(error) => {
                    self.unreadable(&frame, &error).await;
                    continue;
                }
            };
            match message {
                Message::Chat(Chat::Enter { room, after }) => self.enter(room, after).await,
                Message::Chat(Chat::Exit { room }) => {
                    // Who is cut off may be back in a moment; who leaves says so.
                    if let Some(entered) = self.entered.remove(&room) {
                        entered.handle.presence.gone(&self.peer.identity.node);
                    }
                }
                Message::Chat(Chat::Counts { room, counts }) => {
                    if let Some(entered) = self.entered.get(&room) {
                        let from = self.peer.identity.node.clone();
                        entered.handle.presence.tell_counts(from, counts);
                    }
                }
                Message::Chat(Chat::Members { room, changes }) => {
                    if let Some(entered) = self.entered.get(&room) {
                        let from = self.peer.identity.node.clone();
                        let Changes { anew, came, went } = changes;
                        entered.handle.presence.tell_names(from, anew, came, &went);
                    }
                }
                Message::Chat(Chat::Ask { room, request }) => {
                    self.peer.shared.metrics.chat_asks.inc();
                    let Ok(reply) = self.verdicts.clone().reserve_owned().await else {
                        return Ok(());
                    };
                    let asked = Asked::Request {
                        from: self.peer.identity.node.clone(),
                        request,
                        reply,
                    };
                    self.ask(&room, asked);
                }
                _ => return Err(refused(Code::Protocol, "not a message of CHAT")),
            }
        }
    }

    /// Who asked in vain is told; anything else is passed over, as a type that this
    /// version does not know is.
    async fn unreadable(&self, frame: &Frame, error: &WireError) {
        self.peer.shared.metrics.chat_unreadable.inc();
        debug!(node = %self.peer.identity.node, %error, "a message of chat makes no sense");
        if let Some(id) = id_of_ask(frame) {
            let notice = Notice::new(
                NoticeId::MsgRejected,
                "Your message was not sent because its room can't read it.",
            );
            // Fails where the stream is over.
            let _ = self.verdicts.send((id, Verdict::Refused(notice))).await;
        }
    }

    fn ask(&self, room: &ChannelName, asked: Asked) {
        let asked = match self.entered.get(room) {
            Some(entered) => match entered.handle.asks.try_send(asked) {
                Ok(()) => return,
                Err(error) => error.into_inner(),
            },
            None => asked,
        };
        if let Asked::Request { request, reply, .. } = asked {
            let notice = Notice::new(
                NoticeId::MsgRateLimit,
                "Your message was not sent because the room is too busy.",
            );
            reply.send((request.id, Verdict::Refused(notice)));
        }
    }

    async fn enter(&mut self, room: ChannelName, after: Option<(RoomEpoch, Offset)>) {
        self.entered.remove(&room);
        let opened = if self.entered.len() >= MAX_ROOMS {
            Err(Code::Overloaded)
        } else {
            self.open(room.clone()).await
        };
        match opened {
            Ok(handle) => {
                // Taken here: what the child asks next is decided after it.
                let entered = handle.feed.position();
                let follow = follow(handle.feed.clone(), after, entered, self.events.clone());
                let follower = self.followers.spawn(follow);
                let tell = tell_of(room.clone(), &handle, self.events.clone());
                let teller = self.followers.spawn(tell);
                let entered = Entered {
                    handle,
                    follower,
                    teller,
                    _counted: Share::one(&self.peer.shared.metrics.chat_rooms),
                };
                self.entered.insert(room, entered);
            }
            Err(code) => {
                self.peer.shared.metrics.refuse(code);
                let closed = Message::Chat(Chat::Closed { room, code }).encode();
                let _ = self.events.send(closed).await;
            }
        }
    }

    async fn open(&self, room: ChannelName) -> Result<RoomHandle, Code> {
        let (reply, opened) = oneshot::channel();
        let asked = self.port.opens.send(OpenRoom { room, reply }).await;
        asked.map_err(|_| Code::OriginLost)?;
        opened.await.unwrap_or(Err(Code::OriginLost))
    }
}

async fn write(
    writer: &mut Writer,
    mut verdicts: mpsc::Receiver<(MessageId, Verdict)>,
    mut events: mpsc::Receiver<Bytes>,
    mut origins: watch::Receiver<Vec<NodeId>>,
) -> Result<(), StreamError> {
    let nodes = origins.borrow_and_update().clone();
    writer.send(&Message::Chat(Chat::Origins { nodes })).await?;
    let mut decided = Vec::with_capacity(16);
    let mut pieces = Vec::with_capacity(EVENTS);
    loop {
        tokio::select! {
            count = verdicts.recv_many(&mut decided, 16) => if count == 0 {
                return Ok(());
            },
            count = events.recv_many(&mut pieces, EVENTS) => if count == 0 {
                return Ok(());
            },
            Ok(()) = origins.changed() => {
                let nodes = origins.borrow_and_update().clone();
                pieces.push(Message::Chat(Chat::Origins { nodes }).encode());
            }
        }
        let told = decided
            .drain(..)
            .map(|(id, verdict)| Message::Chat(Chat::Verdict { id, verdict }).encode());
        pieces.extend(told);
        writer.send_all(&mut pieces).await?;
        pieces.clear();
    }
}

/// Reads a room's feed for one child, as fast as the child takes it. `entered` is
/// where the room stood when the child came: what is before it is the past.
async fn follow(
    feed: Arc<Feed>,
    after: Option<(RoomEpoch, Offset)>,
    entered: (RoomEpoch, Offset),
    events: mpsc::Sender<Bytes>,
) {
    let mut moves = feed.moves();
    let mut cursor = match after {
        Some((epoch, offset)) => feed.resume(epoch, offset).cursor,
        None => feed.start(),
    };
    // What the child takes for the next event; `None` where it has to be told.
    let mut expects: Option<(RoomEpoch, Offset)> = None;
    let mut told = Vec::with_capacity(EVENTS);
    let mut was_lost = false;
    // A child that knows the room may know roles of an earlier life of it; to others
    // a room that never had any is not told of.
    let mut roles_told = after.is_none().then_some(0);
    loop {
        moves.mark_unchanged();
        let before = cursor;
        let read = feed.read(&mut cursor, EVENTS, |posted| {
            let stamp = posted.event.stamp;
            if posted.event.body == Body::Gap {
                return;
            }
            if expects != Some((stamp.epoch, stamp.offset)) {
                told.push(Told::Stands(stamp.epoch, stamp.offset));
            }
            expects = Some((stamp.epoch, stamp.offset.next()));
            told.push(Told::Event(posted.clone()));
        });
        let stands = (read.epoch, read.next);
        if read.at_end && expects != Some(stands) && read.epoch != RoomEpoch(0) {
            told.push(Told::Stands(read.epoch, read.next));
            expects = Some(stands);
        }
        if read.lost && !was_lost {
            told.push(Told::Lost);
            was_lost = true;
        }
        if was_lost && !read.lost && read.at_end {
            // That it is back, whether anything happened or not.
            told.push(Told::Stands(read.epoch, read.next));
            was_lost = false;
        }
        if read.at_end && expects.is_some() && roles_told != Some(read.roles_version) {
            let (version, roles) = feed.roles();
            roles_told = Some(version);
            told.push(Told::Roles(roles));
        }
        for told in told.drain(..) {
            let piece = match told {
                Told::Roles(roles) => {
                    if tell_roles(&feed.room, &roles, &events).await.is_err() {
                        return;
                    }
                    continue;
                }
                Told::Event(posted) => {
                    posted.form(LINK_FORM, |event| encode_event(&feed.room, event))
                }
                Told::Stands(epoch, next) => Message::Chat(Chat::Room {
                    room: feed.room.clone(),
                    epoch,
                    next,
                    live: match epoch {
                        _ if epoch == entered.0 => entered.1.max(next),
                        _ if epoch == read.epoch => read.next.max(next),
                        // An earlier life is the past, all of it.
                        _ => Offset(VARINT_MAX),
                    },
                    settings: read.settings,
                })
                .encode(),
                Told::Lost => Message::Chat(Chat::Closed {
                    room: feed.room.clone(),
                    code: Code::OriginLost,
                })
                .encode(),
            };
            if events.send(piece).await.is_err() {
                return;
            }
        }
        if before == cursor && moves.changed().await.is_err() {
            return;
        }
    }
}

/// Tells one child who is in the room, and when the room is gone.
fn tell_of(
    room: ChannelName,
    handle: &RoomHandle,
    events: mpsc::Sender<Bytes>,
) -> impl Future<Output = ()> + use<> {
    let present = tell_present(room.clone(), handle.presence.clone(), events.clone());
    let asks = handle.asks.clone();
    async move {
        tokio::select! {
            () = present => {}
            // Only a task that panicked drops its mailbox. Nothing is said in that room
            // any more; whoever enters again gets another.
            () = asks.closed() => {
                let code = Code::Internal;
                let closed = Message::Chat(Chat::Closed { room, code }).encode();
                let _ = events.send(closed).await;
            }
        }
    }
}

/// Tells one child who is in the room, when that changes and every [`TELL_AGAIN`].
async fn tell_present(room: ChannelName, presence: Arc<Presence>, events: mpsc::Sender<Bytes>) {
    let mut totals = presence.totals();
    let mut told: Option<Arc<[Login]>> = None;
    if **totals.borrow_and_update() == Present::default() {
        // Nobody was counted yet.
        let _ = totals.changed().await;
    }
    loop {
        let present = totals.borrow_and_update().clone();
        let after = present.names.clone().unwrap_or_default();
        for changes in Changes::between(told.as_deref(), &after) {
            let piece = Message::Chat(Chat::Present {
                room: room.clone(),
                counts: present.counts,
                named: present.names.is_some(),
                changes,
            });
            if events.send(piece.encode()).await.is_err() {
                return;
            }
        }
        told = Some(after);
        // Its sender is ours; a time-out says it again.
        let _ = timeout(TELL_AGAIN, totals.changed()).await;
    }
}

enum Told {
    Stands(RoomEpoch, Offset),
    Event(Arc<Posted>),
    Lost,
    Roles(Vec<(Login, Roles)>),
}

/// The first piece replaces what the child knows, the others add to it.
async fn tell_roles(
    room: &ChannelName,
    roles: &[(Login, Roles)],
    events: &mpsc::Sender<Bytes>,
) -> Result<(), mpsc::error::SendError<Bytes>> {
    let mut more = false;
    let mut pieces = roles.chunks(ROLES_AT_ONCE);
    // Nobody has a role any more: that is told as well.
    let mut piece = Some(pieces.next().unwrap_or_default());
    while let Some(some) = piece {
        let message = Chat::Roles {
            room: room.clone(),
            more,
            roles: some.to_vec(),
        };
        events.send(Message::Chat(message).encode()).await?;
        more = true;
        piece = pieces.next();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chat::{Event, Limits, Settings, Stamp},
        link::Decoder,
        live::UnixMs,
    };

    /// What is said behind ENTER on the same stream is news to whoever made the child
    /// enter, however late the follower gets its turn.
    #[tokio::test]
    async fn what_is_said_after_entering_is_no_history() {
        let room = ChannelName::parse("demo").unwrap();
        let feed = Arc::new(Feed::new(room, RoomEpoch(7), 1, Limits::default()));
        feed.stands(RoomEpoch(7), Offset(3), Settings::default());
        let entered = feed.position();
        let stamp = Stamp {
            epoch: RoomEpoch(7),
            offset: Offset(3),
            id: MessageId(1),
            at: UnixMs(1),
            program: UnixMs(1),
        };
        feed.append(Event {
            stamp,
            body: Body::Cleared,
        });
        let (events, mut told) = mpsc::channel(EVENTS);
        let follower = tokio::spawn(follow(feed, None, entered, events));
        let frame = Decoder::default().next(&mut told.recv().await.unwrap());
        let message = Message::decode(frame.unwrap().unwrap()).unwrap();
        let Message::Chat(Chat::Room { next, live, .. }) = message else {
            panic!("{message:?}");
        };
        assert_eq!((next, live), (Offset(3), Offset(3)));
        follower.abort();
    }

    /// A child that waits for words of a room whose task is dead would wait for ever.
    #[tokio::test]
    async fn a_child_is_told_that_its_room_is_gone() {
        let room = ChannelName::parse("demo").unwrap();
        let (asks, mailbox) = mpsc::channel(1);
        let handle = RoomHandle {
            feed: Arc::new(Feed::new(room.clone(), RoomEpoch(7), 1, Limits::default())),
            asks,
            presence: Arc::default(),
        };
        let (events, mut told) = mpsc::channel(EVENTS);
        let teller = tokio::spawn(tell_of(room.clone(), &handle, events));
        assert!(told.try_recv().is_err());
        drop(mailbox);
        let frame = Decoder::default().next(&mut told.recv().await.unwrap());
        let message = Message::decode(frame.unwrap().unwrap()).unwrap();
        let code = Code::Internal;
        assert_eq!(message, Message::Chat(Chat::Closed { room, code }));
        teller.await.unwrap();
    }
}
