//! One subscription of a track at one parent, applied to the window in the
//! order of the segments' numbers, however their streams arrive.
//!
//! Invariants: a record is applied once (what the window has already, from this
//! parent or another, is passed over); a segment is complete only with its
//! END's sums; what a parent drops is known from its index before anything
//! behind it is applied. A segment that is not its turn waits unread: QUIC's
//! flow control bounds it.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    link::{Code, Index, List, Message, Reader, SegmentStart, StreamError, Subscribe, Target},
    live::{LogError, Record, SegmentEnd, SegmentHead, SegmentState, Window},
    names::Msn,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    channel::wishes,
    follow::TrackTask,
    race::Standing,
    session::{Arrival, Session},
};

/// A parent that cut a stream says at once on the control stream what it dropped.
const EXPLANATION: Duration = Duration::from_secs(1);

/// An index is answered from memory, or by one more node.
const INDEX_DEADLINE: Duration = Duration::from_secs(5);

/// Dropped ranges that were told and not reached yet; the parent tells them
/// one by one, each when it is due.
const MAX_DROPPED: usize = 64;

/// Segment streams that arrived before their turn: no more than the transport
/// lets a parent open for one track at a time, with room.
const MAX_WAITING: usize = 64;

#[derive(Debug, thiserror::Error)]
pub(super) enum FeedError {
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

/// Where a feed stands, for who weighs it against another.
#[derive(Debug)]
pub(super) struct Mark(Mutex<Standing>);

impl Mark {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Standing {
            at: None,
            since: Instant::now(),
            proven: false,
        }))
    }

    pub(super) fn standing(&self) -> Standing {
        *self.0.lock()
    }

    fn set(&self, at: (Msn, u32), proven: bool) {
        let mut standing = self.0.lock();
        standing.at = Some(at);
        standing.since = Instant::now();
        standing.proven |= proven;
    }
}

/// See the module's text.
pub(super) struct Feed<'a> {
    pub(super) task: &'a TrackTask,
    pub(super) session: Arc<Session>,
    pub(super) mark: Arc<Mark>,
}

/// The segment stream that is read now.
struct Current {
    reader: Reader,
    /// The index of the chunk that it brings next.
    chunk: u32,
}

/// One subscription's state: what is applied, what waits, what is known to be missing.
struct Follower<'a> {
    feed: &'a Feed<'a>,
    /// The segment that is applied now, or next.
    expected: Msn,
    current: Option<Current>,
    waiting: BTreeMap<Msn, Arrival>,
    dropped: Vec<(Msn, Msn)>,
    ended: Option<Option<Msn>>,
    /// A stream was cut off; by then the control stream must say why.
    explain_by: Option<Instant>,
}

/// What the window has of a segment.
enum Held {
    /// Nothing, and it is the next.
    Nothing,
    Open {
        head: SegmentHead,
        chunks: u32,
        parts: u32,
    },
    Complete {
        head: SegmentHead,
        end: SegmentEnd,
    },
    /// It was left behind.
    Passed,
}

fn held(window: &Window, msn: Msn) -> Held {
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    window.look(|log| match log.segment(msn) {
        Some(segment) => match segment.state {
            SegmentState::Open => Held::Open {
                head: segment.head,
                chunks: count(segment.chunks.len()),
                parts: count(segment.parts.len()),
            },
            SegmentState::Complete(end) => Held::Complete {
                head: segment.head,
                end,
            },
            SegmentState::Aborted => Held::Nothing,
        },
        None if log.newest().is_some_and(|newest| msn < newest.head.msn) => Held::Passed,
        None => Held::Nothing,
    })
}

impl Feed<'_> {
    /// Until the track has ended.
    pub(super) async fn run(self) -> Result<(), FeedError> {
        let mut route = self.session.route();
        let (broadcast, track) = (&self.task.broadcast, &self.task.track);
        let wishes = wishes(broadcast.plan.parts_listed_ms());
        let message = Message::Subscribe(Subscribe {
            subscription: route.subscription,
            channel: broadcast.channel.clone(),
            broadcast: Some(broadcast.id),
            target: Target::Track(track.track.name),
            start: self.task.position(),
            priority: wishes.priority,
            max_age_ms: wishes.max_age_ms,
            hops: self.task.hops(),
        });
        self.task.shared.metrics.subscribed.inc();
        // Dropped with this call, the writer ends the subscription.
        let (_writer, mut control) = self.session.request(&message).await?;
        let mut follower = self.accepted(&mut control).await?;
        let mut settled = None;
        loop {
            let over = follower.advance().await?;
            if settled.replace(follower.expected) != Some(follower.expected) {
                // The window owns the segments whose parts are listed.
                let age_ms = broadcast.plan.parts_listed_ms();
                self.task.shared.keep_past(broadcast, track, age_ms).await;
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
                () = until(explain_by) => return Err(FeedError::CutOff(follower.expected)),
            }
        }
    }

    /// OK, the init segments and the index; the window is current after it.
    async fn accepted<'a>(&'a self, control: &mut Reader) -> Result<Follower<'a>, FeedError> {
        let accepted = match control.expect().await? {
            Message::Ok(accepted) if accepted.broadcast == self.task.broadcast.id => accepted,
            Message::Error(refusal) => return Err(FeedError::Refused(refusal.code)),
            _ => return Err(FeedError::OutOfPlace("the answer to SUBSCRIBE")),
        };
        loop {
            match control.expect().await? {
                Message::Init { track, id, bytes } if track == self.task.track.track.name => {
                    self.init(id, bytes);
                }
                Message::Index(index) if index.next == accepted.first => {
                    self.seed(index);
                    break;
                }
                Message::Index(_) => return Err(FeedError::OutOfPlace("INDEX")),
                _ => {}
            }
        }
        self.mark.set((accepted.first, accepted.first_chunk), false);
        self.task.ready();
        Ok(Follower {
            feed: self,
            expected: accepted.first,
            current: None,
            waiting: BTreeMap::new(),
            dropped: Vec::new(),
            ended: None,
            explain_by: None,
        })
    }

    fn init(&self, id: common::names::InitId, bytes: bytes::Bytes) {
        if self.task.track.init(id).is_none() {
            self.task.track.add_init(id, bytes);
        }
    }

    /// An index that ends behind what another parent has brought meanwhile tells
    /// nothing new.
    fn seed(&self, index: Index) {
        let next = index.next;
        let window = &self.task.track.window;
        let behind = window.look(|log| log.newest().is_some_and(|newest| newest.head.msn > next));
        if !behind {
            window.seed(index.into_segments(), next);
        }
    }
}

impl Follower<'_> {
    /// Goes as far as what has arrived allows; `true` at the track's end.
    async fn advance(&mut self) -> Result<bool, FeedError> {
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
                let metrics = &self.feed.task.shared.metrics;
                metrics.dropped_segments.inc_by(count.min(1024));
                self.expected = to.next();
                self.explain_by = None;
                self.waiting = self.waiting.split_off(&self.expected);
                self.learn().await?;
                continue;
            }
            let track = &self.feed.task.track;
            let next = self.waiting.first_entry().filter(|next| {
                *next.key() == self.expected && track.init(next.get().start.head.init).is_some()
            });
            if let Some(next) = next {
                let Arrival { start, reader } = next.remove();
                self.begin(&start)?;
                let chunk = start.first_chunk;
                self.current = Some(Current { reader, chunk });
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
    async fn learn(&self) -> Result<(), FeedError> {
        let task = self.feed.task;
        let broadcast = &task.broadcast;
        let message = Message::List(List {
            channel: broadcast.channel.clone(),
            broadcast: broadcast.id,
            track: task.track.track.name,
            from: Msn(0),
            to: self.expected,
        });
        let answer = async {
            let (writer, mut reader) = self.feed.session.request(&message).await?;
            writer.finish();
            reader.expect().await
        };
        let answer = timeout(INDEX_DEADLINE, answer).await;
        match answer.map_err(|_| FeedError::OutOfPlace("an index that does not come"))?? {
            Message::Index(index) if index.next == self.expected => {
                self.feed.seed(index);
                Ok(())
            }
            Message::Error(refusal) => Err(FeedError::Refused(refusal.code)),
            _ => Err(FeedError::OutOfPlace("the answer to LIST")),
        }
    }

    /// Opens a segment in the window, or finds there what this stream goes on
    /// with, or what it tells again.
    fn begin(&self, start: &SegmentStart) -> Result<(), FeedError> {
        let window = &self.feed.task.track.window;
        match held(window, start.head.msn) {
            Held::Open { head, chunks, .. }
                if head == start.head && start.first_chunk <= chunks =>
            {
                Ok(())
            }
            Held::Complete { head, .. } if head == start.head => Ok(()),
            Held::Passed => Ok(()),
            Held::Nothing if start.first_chunk == 0 => Ok(window.apply(Record::Open(start.head))?),
            _ => Err(FeedError::OutOfPlace("SEGMENT")),
        }
    }

    fn told(&mut self, message: Option<Message>) -> Result<(), FeedError> {
        match message {
            Some(Message::Init { track, id, bytes })
                if track == self.feed.task.track.track.name =>
            {
                self.feed.init(id, bytes);
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
            Some(Message::Dropped { .. }) => return Err(FeedError::OutOfPlace("DROPPED")),
            Some(Message::Ended { last }) => self.ended = Some(last),
            Some(Message::Error(refusal)) => return Err(FeedError::Refused(refusal.code)),
            Some(_) => {}
            None => return Err(FeedError::OutOfPlace("the end of a subscription")),
        }
        Ok(())
    }

    fn arrived(&mut self, arrival: Arrival) -> Result<(), FeedError> {
        let msn = arrival.start.head.msn;
        if msn < self.expected {
            return Ok(());
        }
        if self.waiting.len() >= MAX_WAITING || self.waiting.insert(msn, arrival).is_some() {
            return Err(FeedError::OutOfPlace("a segment's second stream"));
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Message>, StreamError> {
        match &mut self.current {
            Some(current) => current.reader.next().await,
            None => std::future::pending().await,
        }
    }

    fn received(&mut self, message: Result<Option<Message>, StreamError>) -> Result<(), FeedError> {
        match message {
            Ok(Some(message)) => self.apply(message),
            Err(StreamError::Ended(Code::TooFarBehind | Code::Expired | Code::OriginLost)) => {
                self.current = None;
                self.explain_by = Some(Instant::now() + EXPLANATION);
                Ok(())
            }
            // A stream that finishes without END was cut off.
            Ok(None) | Err(StreamError::Ended(_)) => Err(FeedError::CutOff(self.expected)),
            Err(error) => Err(error.into()),
        }
    }

    fn apply(&mut self, message: Message) -> Result<(), FeedError> {
        let task = self.feed.task;
        let window = &task.track.window;
        let held = held(window, self.expected);
        let Some(current) = &mut self.current else {
            return Err(FeedError::OutOfPlace("a message without a stream"));
        };
        match message {
            Message::Chunk(chunk) => {
                let index = current.chunk;
                current.chunk = index.saturating_add(1);
                let len_bytes = chunk.data.len() as u64;
                match held {
                    Held::Open { chunks, .. } if index == chunks => {
                        window.apply(Record::Chunk(chunk))?;
                        task.shared.metrics.received_bytes.inc_by(len_bytes);
                    }
                    Held::Open { chunks, .. } if index > chunks => {
                        return Err(FeedError::OutOfPlace("CHUNK"));
                    }
                    Held::Nothing => return Err(FeedError::OutOfPlace("CHUNK")),
                    // Another parent was faster.
                    Held::Open { .. } | Held::Complete { .. } | Held::Passed => {
                        task.shared.metrics.duplicate_bytes.inc_by(len_bytes);
                    }
                }
                self.feed
                    .mark
                    .set((self.expected, index.saturating_add(1)), true);
            }
            Message::Part { index, end } => match held {
                Held::Open { parts, .. } => match index.cmp(&parts) {
                    // Told again at the head of a resumed stream, or by the slower parent.
                    Ordering::Less => {}
                    Ordering::Equal => window.apply(Record::Part(end))?,
                    Ordering::Greater => return Err(FeedError::OutOfPlace("PART")),
                },
                Held::Complete { .. } | Held::Passed => {}
                Held::Nothing => return Err(FeedError::OutOfPlace("PART")),
            },
            Message::End(end) => {
                match held {
                    Held::Open { .. } => window.apply(Record::End(end))?,
                    Held::Complete { end: known, .. } if known == end => {}
                    Held::Passed => {}
                    Held::Complete { .. } | Held::Nothing => {
                        return Err(FeedError::OutOfPlace("END"));
                    }
                }
                self.current = None;
                self.expected = self.expected.next();
                self.feed.mark.set((self.expected, 0), true);
            }
            _ => return Err(FeedError::OutOfPlace("a message on a segment's stream")),
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
