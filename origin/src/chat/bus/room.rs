//! The task of one room that origins share. It owns the room, or follows its owner:
//! reads what that told, and passes wishes on. Whoever reads the room here notices
//! nothing of a change between the two. What an operator may know of the room any
//! origin tells.
//!
//! Invariants: the feed gets what lies in the log, in its order; a wish is answered
//! once, by whoever owns the room when it is decided, and one that may have been
//! lost is asked again under the same id. Bounds: [`MOST_WAITING`], [`MOST_HELD`],
//! [`MOST_LOOKS`].

mod own;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_nats::{HeaderMap, Message as Told, StatusCode, Subscriber};
use bytes::{Bytes, BytesMut};
use common::{
    chat::{
        Asked, Feed, Limits, Login, MessageId, Notice, NoticeId, Offset, RoomEpoch, Verdict,
        request::Insight,
    },
    link::{Chat, Decoder, Message, chat::Changes},
    names::{ChannelName, NodeId},
};
use futures_util::StreamExt;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use super::{
    Bus, BusError, Ready, ask_subject, here_subject,
    lease::Owner,
    log::{Past, Seq},
    record::Record,
    tenure::{AFTER, Claim, SEQ},
    ticks, timely, told_subject,
};
use crate::chat::{
    clue::Clue,
    counted::Counted,
    desk::{AT_ONCE, ReplyTo, Wish},
    policy::Policy,
    record::RoomRecord,
    rooms::{FORMS, Shared},
};

/// Wishes that wait for the owner's word; more are refused.
const MOST_WAITING: usize = 1_024;

/// Header: the origin that tells who is there.
const NODE: &str = "Millrace-Node";

/// Verdicts that wait for their events; more are told at once.
const MOST_HELD: usize = 1_024;

/// Operators' looks at a room that another node owns, under way at once; more are told
/// that the room is not to be had just now. Each reads all that is kept of the room.
const MOST_LOOKS: usize = 4;

/// How often an owner's lease is looked at; it takes two looks.
const LOOK: Duration = Duration::from_millis(500);

/// An owner's own pace.
const TICK: Duration = Duration::from_secs(1);

/// What was not answered is asked again after this: the bus carries it at most once.
const AGAIN: Duration = Duration::from_secs(1);

/// Before a room whose owner is not to be found is claimed again.
const PAUSE: Duration = Duration::from_millis(100);

/// An owner that has not listened as often is none any more, whatever its lease says:
/// it died a moment ago, or let go of the room and could not say so. The log's fence
/// makes that safe.
const DEAF: u32 = 10;

/// Who gave a room up lets others come for it for so long before it looks again.
const YIELDS: Duration = Duration::from_millis(300);

/// The same where the bus fails.
const FAILED: Duration = Duration::from_millis(500);

/// See the module's text.
pub(in crate::chat) struct BusRoom {
    shared: Arc<Shared>,
    ready: Ready,
    name: ChannelName,
    feed: Arc<Feed>,
    asks: mpsc::Receiver<Asked>,
    counted: Counted,
    policy: watch::Receiver<Arc<Policy>>,
    record: Option<Arc<RoomRecord>>,
    /// What has no verdict yet, oldest first.
    waiting: VecDeque<Wish>,
    /// The last record that is in the feed.
    last: Seq,
    /// How often in a row nobody listened to a wish.
    deaf: u32,
    /// Whom it followed last.
    followed: Option<NodeId>,
    /// It was given up, so that another origin could own it before this one ends.
    handed_over: bool,
    looks: JoinSet<()>,
}

/// Why a room is not owned or followed any more.
#[derive(Debug)]
enum Ended {
    /// Nobody holds it here.
    Unused,
    /// Its owner is another one by now, or none.
    Moved,
    /// This node leaves, and others read the room.
    HandedOver,
}

/// An owner as its follower sees it.
struct Followed {
    owner: Owner,
    inbox: String,
    asked_at: Instant,
    /// Verdicts whose events have not come.
    held: Vec<(RoomEpoch, Offset, MessageId, Verdict)>,
    /// Its lease was over when it was last looked at.
    doubted: bool,
}

impl BusRoom {
    pub(in crate::chat) fn new(
        shared: Arc<Shared>,
        ready: Ready,
        name: ChannelName,
        asks: mpsc::Receiver<Asked>,
        counted: Counted,
        policy: watch::Receiver<Arc<Policy>>,
        record: Option<Arc<RoomRecord>>,
    ) -> Self {
        // Epoch 0: nothing was heard of it yet.
        let feed = Feed::new(name.clone(), RoomEpoch(0), FORMS, Limits::default());
        Self {
            counted,
            policy,
            record,
            shared,
            ready,
            name,
            feed: Arc::new(feed),
            asks,
            waiting: VecDeque::new(),
            last: 0,
            deaf: 0,
            followed: None,
            handed_over: false,
            looks: JoinSet::new(),
        }
    }

    pub(in crate::chat) const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Runs until nobody holds the room's mailbox.
    pub(in crate::chat) async fn run(mut self) {
        while let Some(bus) = self.bus().await {
            match self.once(&bus).await {
                Ok(Ended::Unused) => return,
                Ok(Ended::Moved) => sleep(PAUSE).await,
                Ok(Ended::HandedOver) => sleep(YIELDS).await,
                Err(why) => {
                    self.shared.metrics.store_errors.inc();
                    warn!(room = %self.name, %why, "the chat bus");
                    if self.asks.is_closed() {
                        return;
                    }
                    sleep(FAILED).await;
                }
            }
        }
    }

    /// Waits until the bus is there; `None` where nobody holds the room any more, which
    /// may come first. Who only looks is told nothing meanwhile.
    async fn bus(&mut self) -> Option<Arc<Bus>> {
        let mut ready = self.ready.clone();
        let mut asked = Vec::with_capacity(AT_ONCE);
        loop {
            let found = ready.borrow_and_update().clone();
            let away = found.is_some();
            if let Some(bus) = found.filter(|bus| bus.is_connected()) {
                return Some(bus);
            }
            tokio::select! {
                there = ready.changed(), if !away => there.ok()?,
                () = sleep(FAILED), if away => {}
                count = self.asks.recv_many(&mut asked, AT_ONCE) => if count == 0 {
                    return None;
                },
            }
            for asked in asked.drain(..) {
                if let Asked::Request {
                    from,
                    request,
                    reply,
                } = asked
                {
                    self.put_by(Wish {
                        from: Some(from),
                        request,
                        reply: ReplyTo::Link(reply),
                    });
                }
            }
        }
    }

    /// Owns the room or follows who does, as long as that lasts.
    async fn once(&mut self, bus: &Arc<Bus>) -> Result<Ended, BusError> {
        // Before the log is read, so that nothing falls in between.
        let told = subscribe(bus, told_subject(&self.name)).await?;
        let here = subscribe(bus, here_subject(&self.name)).await?;
        let force = self.deaf >= DEAF;
        let now = (self.shared.clock)();
        let ended = match bus.claim(&self.name, now, force).await? {
            Claim::Mine(claimed) => self.own(bus, *claimed, told, here).await?,
            Claim::Theirs(owner, epoch) => self.follow(bus, owner, epoch, told, here).await?,
        };
        Ok(ended)
    }

    async fn follow(
        &mut self,
        bus: &Arc<Bus>,
        owner: Owner,
        epoch: RoomEpoch,
        mut told: Subscriber,
        mut here: Subscriber,
    ) -> Result<Ended, BusError> {
        info!(room = %self.name, owner = %owner.node, epoch = epoch.0, "another node owns the room");
        self.followed = Some(owner.node.clone());
        let inbox = bus.client.new_inbox();
        let mut answers = subscribe(bus, inbox.clone()).await?;
        let mut followed = Followed {
            owner,
            inbox,
            asked_at: Instant::now(),
            held: Vec::new(),
            doubted: false,
        };
        // The facts first: what the log says is newer.
        let known = bus.known_of(&self.name, epoch).await?;
        let settings = known.settings;
        let mut clue = Clue::new(self.name.clone(), epoch, known);
        clue.begin_under(self.policy.borrow_and_update().clone());
        self.feed.set_roles(false, clue.roles());
        self.catch_up(bus).await?;
        if self.feed.position().0 == RoomEpoch(0) {
            self.feed.stands(epoch, Offset(0), settings);
        }
        self.ask_all(bus, &mut followed).await?;
        let mut missed = bus.missed.clone();
        missed.mark_unchanged();
        let mut look = ticks(LOOK);
        let mut asked = Vec::with_capacity(AT_ONCE);
        loop {
            tokio::select! {
                // What was told before an answer is heard before it, mostly.
                biased;
                record = told.next() => match record {
                    // Its owner gave it up.
                    Some(record) if record.payload.is_empty() => return Ok(Ended::Moved),
                    Some(record) => self.heard(bus, record).await?,
                    None => return Ok(Ended::Moved),
                },
                answer = answers.next() => match answer {
                    Some(answer) if answer.status == Some(StatusCode::NO_RESPONDERS) => {
                        self.deaf += 1;
                        return Ok(Ended::Moved);
                    }
                    Some(answer) => self.answered(answer.payload, &mut followed),
                    None => return Ok(Ended::Moved),
                },
                count = self.asks.recv_many(&mut asked, AT_ONCE) => if count == 0 {
                    return Ok(Ended::Unused);
                },
                Ok(()) = missed.changed() => self.catch_up(bus).await?,
                _ = look.tick() => if self.look(bus, &mut followed).await? {
                    return Ok(Ended::Moved);
                },
                Some(there) = here.next() => self.told_of(there),
                () = self.counted.due() => self.tell_of(bus).await,
            }
            for asked in asked.drain(..) {
                match asked {
                    Asked::Request {
                        from,
                        request,
                        reply,
                    } => {
                        let wish = Wish {
                            from: Some(from),
                            request,
                            reply: ReplyTo::Link(reply),
                        };
                        if self.put_by(wish)
                            && let Some(wish) = self.waiting.back()
                        {
                            self.ask(bus, wish, &followed).await?;
                        }
                    }
                    Asked::Look {
                        bans_after,
                        most_bans,
                        reply,
                    } => self.show(bus, epoch, bans_after, most_bans, reply),
                }
            }
            self.release(&mut followed);
        }
    }

    /// Tells an operator of the room by its facts, which its owner has written before
    /// it answers a command.
    fn show(
        &mut self,
        bus: &Arc<Bus>,
        epoch: RoomEpoch,
        bans_after: Option<Login>,
        most_bans: usize,
        reply: oneshot::Sender<Box<Insight>>,
    ) {
        while self.looks.try_join_next().is_some() {}
        if self.looks.len() >= MOST_LOOKS {
            return;
        }
        let (bus, room) = (bus.clone(), self.name.clone());
        let (now, policy) = ((self.shared.clock)(), self.policy.borrow().clone());
        self.looks.spawn(async move {
            let mut known = match bus.known_of(&room, epoch).await {
                Ok(known) => known,
                Err(why) => {
                    warn!(%room, %why, "the room's facts can't be read");
                    return;
                }
            };
            known.forget_past(now);
            let mut clue = Clue::new(room, RoomEpoch(0), known);
            clue.begin_under(policy);
            // Gone where the asker is.
            let _ = reply.send(Box::new(clue.insight(now, bans_after.as_ref(), most_bans)));
        });
    }

    /// Tells other origins who is here, and children who is anywhere.
    async fn tell_of(&mut self, bus: &Bus) {
        let Some(own) = self.counted.recount() else {
            return;
        };
        let room = &self.name;
        let counts = Chat::Counts {
            room: room.clone(),
            counts: own.counts,
        };
        let mut pieces = BytesMut::from(&Message::Chat(counts).encode()[..]);
        let names = own.names.unwrap_or_default();
        for changes in Changes::between(None, &names) {
            let room = room.clone();
            let members = Message::Chat(Chat::Members { room, changes });
            pieces.extend_from_slice(&members.encode());
        }
        let mut headers = HeaderMap::new();
        headers.insert(NODE, bus.me.node.as_str());
        let subject = here_subject(room);
        let told = bus
            .client
            .publish_with_headers(subject, headers, pieces.freeze());
        if let Err(why) = timely("telling who is here", told).await {
            // It is told again.
            debug!(%room, %why, "who is here was not told");
        }
    }

    /// Another origin tells who is there.
    fn told_of(&self, there: Told) {
        let headers = there.headers.as_ref();
        let node = headers.and_then(|headers| headers.get(NODE));
        let Some(node) = node.and_then(|node| NodeId::parse(node.as_str()).ok()) else {
            return;
        };
        let others = self.counted.others();
        for message in messages(there.payload) {
            match message {
                Chat::Counts { counts, .. } => others.tell_counts(node.clone(), counts),
                Chat::Members { changes, .. } => {
                    let Changes { anew, came, went } = changes;
                    others.tell_names(node.clone(), anew, came, &went);
                }
                _ => {}
            }
        }
    }

    /// Whether the owner is gone. Asks again what may have been lost.
    async fn look(&mut self, bus: &Arc<Bus>, followed: &mut Followed) -> Result<bool, BusError> {
        let holds = bus.leases.holds(&followed.owner).await?;
        if !holds && std::mem::replace(&mut followed.doubted, true) {
            return Ok(true);
        }
        followed.doubted = !holds;
        let late = followed.asked_at.elapsed() >= AGAIN;
        if late && !(self.waiting.is_empty() && followed.held.is_empty()) {
            self.catch_up(bus).await?;
            self.ask_all(bus, followed).await?;
        }
        Ok(false)
    }

    async fn ask_all(&mut self, bus: &Bus, followed: &mut Followed) -> Result<(), BusError> {
        followed.asked_at = Instant::now();
        for wish in &self.waiting {
            self.ask(bus, wish, followed).await?;
        }
        Ok(())
    }

    /// Lets a wish wait for its verdict, or refuses it.
    fn put_by(&mut self, wish: Wish) -> bool {
        // A child whose link was lost asks again by another.
        let same = |other: &Wish| other.request.id == wish.request.id;
        if let Some(at) = self.waiting.iter().position(same) {
            self.waiting.remove(at);
        }
        if self.waiting.len() >= MOST_WAITING {
            if let ReplyTo::Link(reply) = wish.reply {
                let notice = Notice::new(
                    NoticeId::MsgRateLimit,
                    "Your message was not sent because the room is too busy.",
                );
                reply.send((wish.request.id, Verdict::Refused(notice)));
            }
            return false;
        }
        self.waiting.push_back(wish);
        true
    }

    async fn ask(&self, bus: &Bus, wish: &Wish, followed: &Followed) -> Result<(), BusError> {
        let room = self.name.clone();
        let request = wish.request.clone();
        let piece = Message::Chat(Chat::Ask { room, request }).encode();
        let subject = ask_subject(&self.name);
        let inbox = followed.inbox.clone();
        let asked = bus.client.publish_with_reply(subject, inbox, piece);
        timely("passing a wish on", asked).await
    }

    /// A verdict: it is told once its event is in the feed.
    fn answered(&mut self, payload: Bytes, followed: &mut Followed) {
        let Some(Chat::Verdict { id, verdict }) = message(payload) else {
            return;
        };
        self.deaf = 0;
        match verdict {
            Verdict::Said(stamp) if followed.held.len() < MOST_HELD => {
                let held = (stamp.epoch, stamp.offset, id, verdict);
                followed.held.push(held);
            }
            verdict => self.tell(id, verdict),
        }
    }

    fn release(&mut self, followed: &mut Followed) {
        let position = self.feed.position();
        let ripe = |held: &mut (RoomEpoch, Offset, MessageId, Verdict)| (held.0, held.1) < position;
        for (.., id, verdict) in followed.held.extract_if(.., ripe) {
            self.tell(id, verdict);
        }
    }

    fn tell(&mut self, id: MessageId, verdict: Verdict) {
        let of = |wish: &Wish| wish.request.id == id;
        let found = self.waiting.iter().position(of);
        if let Some(wish) = found.and_then(|at| self.waiting.remove(at))
            && let ReplyTo::Link(reply) = wish.reply
        {
            reply.send((id, verdict));
        }
    }

    /// A record that the owner told; what is missing before it is read from the log.
    async fn heard(&mut self, bus: &Bus, told: Told) -> Result<(), BusError> {
        let number = |name| {
            let headers = told.headers.as_ref()?;
            headers.get(name)?.as_str().parse::<Seq>().ok()
        };
        let (Some(seq), Some(after)) = (number(SEQ), number(AFTER)) else {
            return Ok(());
        };
        if seq <= self.last {
            return Ok(());
        }
        match Record::decode(told.payload) {
            Ok(record) if after == self.last => {
                self.apply(seq, record);
                Ok(())
            }
            _ => self.catch_up(bus).await,
        }
    }

    async fn catch_up(&mut self, bus: &Bus) -> Result<(), BusError> {
        let past = bus.log.read(&self.name, self.last).await?;
        self.apply_all(past);
        Ok(())
    }

    /// What can't be read is passed over, and not read again.
    fn apply_all(&mut self, past: Past) {
        for (seq, record) in past.records {
            self.apply(seq, record);
        }
        self.last = self.last.max(past.last);
    }

    fn apply(&mut self, seq: Seq, record: Record) {
        if seq <= self.last {
            return;
        }
        self.last = seq;
        for event in record.events {
            self.feed.append(event);
        }
        let Record {
            epoch,
            next,
            settings,
            ..
        } = record;
        self.feed.stands(epoch, next, settings);
    }
}

async fn subscribe(bus: &Bus, subject: String) -> Result<Subscriber, BusError> {
    timely("subscribing", bus.client.subscribe(subject)).await
}

/// Messages of CHAT up to the first that is none.
fn messages(mut payload: Bytes) -> impl Iterator<Item = Chat> {
    let mut decoder = Decoder::default();
    std::iter::from_fn(move || {
        let frame = decoder.next(&mut payload).ok()??;
        match Message::decode(frame).ok()? {
            Message::Chat(chat) => Some(chat),
            _ => None,
        }
    })
}

fn message(payload: Bytes) -> Option<Chat> {
    messages(payload).next()
}

/// A wish of another origin.
fn wished(message: Told) -> Option<Wish> {
    let reply = ReplyTo::Bus(message.reply?);
    match self::message(message.payload)? {
        Chat::Ask { request, .. } => Some(Wish {
            from: None,
            request,
            reply,
        }),
        _ => None,
    }
}
