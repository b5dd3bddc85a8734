//! The task of one track that viewers watch: one subscription, applied to the
//! window in the order of the segments' numbers, however their streams arrive.
//!
//! Invariants: a record is applied once (parts and chunks go on where the
//! window stands); a segment is complete only with its END's sums; whatever is
//! cut off is asked for again from where the window stands; what a parent
//! drops is known from its index before anything behind it is applied. A
//! segment that is not its turn waits unread: QUIC's flow control bounds it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    link::{
        Code, Index, List, Message, Reader, SegmentStart, Start, StreamError, Subscribe, Target,
    },
    live::{Broadcast, BroadcastState, LogError, Record, SegmentState, TrackWindow},
    names::{Msn, NodeId},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::{
    Shared,
    channel::wishes,
    session::{Arrival, Session},
    tracks::{Progress, Use},
};

/// Pauses between subscriptions that get nowhere grow from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// A parent that cut a stream says at once on the control stream what it dropped.
const EXPLANATION: Duration = Duration::from_secs(1);

/// An index is answered from memory.
const INDEX_DEADLINE: Duration = Duration::from_secs(5);

/// Dropped ranges that were told and not reached yet; the parent tells them
/// one by one, each when it is due.
const MAX_DROPPED: usize = 64;

/// Segment streams that arrived before their turn: no more than the transport
/// lets a parent open for one track at a time, with room.
const MAX_WAITING: usize = 64;

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("refused: {0}")]
    Refused(Code),
    #[error("segment {0} was cut off")]
    CutOff(Msn),
    #[error("{0} is not what follows")]
    OutOfPlace(&'static str),
}

/// See the module's text.
pub(super) struct TrackTask {
    pub(super) shared: Arc<Shared>,
    pub(super) broadcast: Arc<Broadcast>,
    pub(super) track: Arc<TrackWindow>,
    pub(super) usage: Arc<Use>,
}

/// One subscription's state: what is applied, what waits, what is known to be missing.
struct Follower<'a> {
    task: &'a TrackTask,
    session: &'a Session,
    /// The segment that is applied now, or next.
    expected: Msn,
    current: Option<Reader>,
    waiting: BTreeMap<Msn, Arrival>,
    dropped: Vec<(Msn, Msn)>,
    ended: Option<Option<Msn>>,
    /// A stream was cut off; by then the control stream must say why.
    explain_by: Option<Instant>,
}

impl TrackTask {
    pub(super) async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let session = self.shared.session().await;
            let began = self.applied();
            let error = match self.follow(&session).await {
                Ok(()) => break,
                Err(error) => error,
            };
            debug!(
                channel = %self.broadcast.channel,
                track = %self.track.track.name,
                %error,
                "subscription cut off"
            );
            self.shared.metrics.resumed.inc();
            match error {
                FollowError::Refused(Code::NotFound | Code::EpochMismatch | Code::Expired) => {
                    // Nobody will write its end any more; what is here is all.
                    if self.broadcast.state() == BroadcastState::Ended {
                        self.track.window.end();
                        break;
                    }
                    self.usage.progress.send_if_modified(|progress| {
                        let waiting = *progress == Progress::Waiting;
                        if waiting {
                            *progress = Progress::Gone;
                        }
                        waiting
                    });
                }
                // What the window holds open can't be trusted or continued.
                FollowError::Log(_) | FollowError::OutOfPlace(_) => self.track.window.abort(),
                FollowError::Refused(_) | FollowError::Stream(_) | FollowError::CutOff(_) => {}
            }
            if self.applied() != began {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
        self.usage.progress.send_replace(Progress::Finished);
        // Whoever idles ends this task.
        std::future::pending().await
    }

    /// Tells whether a subscription got anywhere.
    fn applied(&self) -> Option<(Msn, usize)> {
        self.track.window.look(|log| {
            log.newest()
                .map(|newest| (newest.head.msn, newest.chunks.len()))
        })
    }

    /// Everything before it is here.
    fn position(&self) -> Start {
        self.track.window.look(|log| match log.newest() {
            None => Start::Live,
            Some(newest) => match newest.state {
                SegmentState::Open => Start::At {
                    msn: newest.head.msn,
                    chunk: u32::try_from(newest.chunks.len()).unwrap_or(u32::MAX),
                },
                SegmentState::Complete(_) => Start::At {
                    msn: newest.head.msn.next(),
                    chunk: 0,
                },
                SegmentState::Aborted => Start::At {
                    msn: newest.head.msn,
                    chunk: 0,
                },
            },
        })
    }

    /// One subscription, until the track has ended.
    async fn follow(&self, session: &Session) -> Result<(), FollowError> {
        let mut route = session.route();
        let wishes = wishes(self.broadcast.plan.parts_listed_ms());
        let message = Message::Subscribe(Subscribe {
            subscription: route.subscription,
            channel: self.broadcast.channel.clone(),
            broadcast: Some(self.broadcast.id),
            target: Target::Track(self.track.track.name),
            start: self.position(),
            priority: wishes.priority,
            max_age_ms: wishes.max_age_ms,
            hops: vec![self.node()],
        });
        self.shared.metrics.subscribed.inc();
        // Dropped with this call, the writer ends the subscription.
        let (_writer, mut control) = session.request(&message).await?;
        let mut follower = self.accepted(session, &mut control).await?;
        let mut settled = None;
        loop {
            let over = follower.advance().await?;
            if settled.replace(follower.expected) != Some(follower.expected) {
                self.shared.keep_past(&self.broadcast, &self.track).await;
            }
            if over {
                return Ok(());
            }
            let explain_by = follower.explain_by;
            tokio::select! {
                message = control.next(), if follower.ended.is_none() => {
                    follower.told(message?)?;
                }
                Some(arrival) = route.arrivals.recv() => follower.arrived(arrival)?,
                message = follower.next() => follower.received(message)?,
                () = until(explain_by) => return Err(FollowError::CutOff(follower.expected)),
            }
        }
    }

    fn node(&self) -> NodeId {
        self.shared.node.clone()
    }

    /// OK, the init segments and the index; the window is current after it.
    async fn accepted<'a>(
        &'a self,
        session: &'a Session,
        control: &mut Reader,
    ) -> Result<Follower<'a>, FollowError> {
        let accepted = match control.expect().await? {
            Message::Ok(accepted) if accepted.broadcast == self.broadcast.id => accepted,
            Message::Error(refusal) => return Err(FollowError::Refused(refusal.code)),
            _ => return Err(FollowError::OutOfPlace("the answer to SUBSCRIBE")),
        };
        loop {
            match control.expect().await? {
                Message::Init { track, id, bytes } if track == self.track.track.name => {
                    self.init(id, bytes);
                }
                Message::Index(index) if index.next == accepted.first => {
                    self.seed(index);
                    break;
                }
                Message::Index(_) => return Err(FollowError::OutOfPlace("INDEX")),
                _ => {}
            }
        }
        self.usage.progress.send_replace(Progress::Ready);
        Ok(Follower {
            task: self,
            session,
            expected: accepted.first,
            current: None,
            waiting: BTreeMap::new(),
            dropped: Vec::new(),
            ended: None,
            explain_by: None,
        })
    }

    fn init(&self, id: common::names::InitId, bytes: bytes::Bytes) {
        if self.track.init(id).is_none() {
            self.track.add_init(id, bytes);
        }
    }

    fn seed(&self, index: Index) {
        let next = index.next;
        self.track.window.seed(index.into_segments(), next);
    }
}

impl Follower<'_> {
    /// Goes as far as what has arrived allows; `true` at the track's end.
    async fn advance(&mut self) -> Result<bool, FollowError> {
        loop {
            if self.current.is_some() {
                return Ok(false);
            }
            let covered = self
                .dropped
                .iter()
                .position(|(from, to)| (*from..=*to).contains(&self.expected));
            if let Some(at) = covered {
                let (from, to) = self.dropped.swap_remove(at);
                let count = to.0.saturating_sub(from.0).saturating_add(1);
                self.task
                    .shared
                    .metrics
                    .dropped_segments
                    .inc_by(count.min(1024));
                self.expected = to.next();
                self.explain_by = None;
                self.waiting = self.waiting.split_off(&self.expected);
                self.learn().await?;
                continue;
            }
            let track = &self.task.track;
            let next = self.waiting.first_entry().filter(|next| {
                *next.key() == self.expected && track.init(next.get().start.head.init).is_some()
            });
            if let Some(next) = next {
                let Arrival { start, reader } = next.remove();
                self.begin(&start)?;
                self.current = Some(reader);
                continue;
            }
            let over = self
                .ended
                .is_some_and(|last| last.is_none_or(|last| last < self.expected));
            if over {
                track.window.end();
            }
            return Ok(over);
        }
    }

    /// Reads the index up to the segment that comes next.
    async fn learn(&self) -> Result<(), FollowError> {
        let broadcast = &self.task.broadcast;
        let message = Message::List(List {
            channel: broadcast.channel.clone(),
            broadcast: broadcast.id,
            track: self.task.track.track.name,
            from: Msn(0),
            to: self.expected,
        });
        let answer = async {
            let (writer, mut reader) = self.session.request(&message).await?;
            writer.finish();
            reader.expect().await
        };
        let answer = timeout(INDEX_DEADLINE, answer).await;
        match answer.map_err(|_| FollowError::OutOfPlace("an index that does not come"))?? {
            Message::Index(index) if index.next == self.expected => {
                self.task.seed(index);
                Ok(())
            }
            Message::Error(refusal) => Err(FollowError::Refused(refusal.code)),
            _ => Err(FollowError::OutOfPlace("the answer to LIST")),
        }
    }

    /// Opens a segment in the window, or finds it open where this one goes on.
    fn begin(&self, start: &SegmentStart) -> Result<(), FollowError> {
        let window = &self.task.track.window;
        let open = window.look(|log| {
            log.segment(start.head.msn)
                .filter(|held| held.state == SegmentState::Open)
                .map(|held| (held.head, held.chunks.len()))
        });
        match open {
            Some((head, chunks)) if head == start.head && chunks == start.first_chunk as usize => {
                Ok(())
            }
            None if start.first_chunk == 0 => Ok(window.apply(Record::Open(start.head))?),
            _ => Err(FollowError::OutOfPlace("SEGMENT")),
        }
    }

    fn told(&mut self, message: Option<Message>) -> Result<(), FollowError> {
        match message {
            Some(Message::Init { track, id, bytes }) if track == self.task.track.track.name => {
                self.task.init(id, bytes);
            }
            // Told late: what it speaks of was had.
            Some(Message::Dropped { from, to, .. }) if from <= to && to < self.expected => {}
            Some(Message::Dropped { from, to, .. })
                if from <= to && self.dropped.len() < MAX_DROPPED =>
            {
                // Its stream, if it came at all, is cut off.
                if (from..=to).contains(&self.expected) {
                    self.current = None;
                }
                self.dropped.push((from, to));
            }
            Some(Message::Dropped { .. }) => return Err(FollowError::OutOfPlace("DROPPED")),
            Some(Message::Ended { last }) => self.ended = Some(last),
            Some(Message::Error(refusal)) => return Err(FollowError::Refused(refusal.code)),
            Some(_) => {}
            None => return Err(FollowError::OutOfPlace("the end of a subscription")),
        }
        Ok(())
    }

    fn arrived(&mut self, arrival: Arrival) -> Result<(), FollowError> {
        let msn = arrival.start.head.msn;
        if msn < self.expected {
            return Ok(());
        }
        if self.waiting.len() >= MAX_WAITING || self.waiting.insert(msn, arrival).is_some() {
            return Err(FollowError::OutOfPlace("a segment's second stream"));
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Message>, StreamError> {
        match &mut self.current {
            Some(reader) => reader.next().await,
            None => std::future::pending().await,
        }
    }

    fn received(
        &mut self,
        message: Result<Option<Message>, StreamError>,
    ) -> Result<(), FollowError> {
        match message {
            Ok(Some(message)) => self.apply(message),
            Err(StreamError::Ended(Code::TooFarBehind | Code::Expired | Code::OriginLost)) => {
                self.current = None;
                self.explain_by = Some(Instant::now() + EXPLANATION);
                Ok(())
            }
            // A stream that finishes without END was cut off.
            Ok(None) | Err(StreamError::Ended(_)) => Err(FollowError::CutOff(self.expected)),
            Err(error) => Err(error.into()),
        }
    }

    fn apply(&mut self, message: Message) -> Result<(), FollowError> {
        let window = &self.task.track.window;
        match message {
            Message::Chunk(chunk) => {
                let len_bytes = chunk.data.len() as u64;
                window.apply(Record::Chunk(chunk))?;
                self.task.shared.metrics.received_bytes.inc_by(len_bytes);
            }
            Message::Part { index, end } => {
                let known = window.look(|log| {
                    log.segment(self.expected)
                        .map_or(0, |segment| segment.parts.len())
                });
                match (index as usize).cmp(&known) {
                    // Told again at the head of a resumed stream.
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => window.apply(Record::Part(end))?,
                    std::cmp::Ordering::Greater => return Err(FollowError::OutOfPlace("PART")),
                }
            }
            Message::End(end) => {
                window.apply(Record::End(end))?;
                self.current = None;
                self.expected = self.expected.next();
            }
            _ => return Err(FollowError::OutOfPlace("a message on a segment's stream")),
        }
        Ok(())
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
