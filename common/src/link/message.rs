//! The link's messages as values. [`super::encode`] and [`super::decode`] turn
//! them into bodies and back; the module's text in [`super`] says what each is for.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::chat::Chat;
use crate::{
    ingest::Ingest,
    live::{
        About, Announcement, BroadcastState, Chunk, Crowd, Hint, Part, PartEnd, PartFlags, Plan,
        Position, Segment, SegmentEnd, SegmentHead, SegmentState, Track,
    },
    media::Ticks,
    names::{BroadcastId, ChannelName, Epoch, InitId, Msn, NodeId, TrackName},
    tls::Role,
};

/// Why something was refused, reset or closed: one table for ERROR messages
/// and for QUIC's own application error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Ok,
    Internal,
    Protocol,
    Unauthorised,
    NotFound,
    NotHere,
    EpochMismatch,
    Expired,
    TooFarBehind,
    Loop,
    Overloaded,
    Cancelled,
    OriginLost,
}

impl Code {
    const ALL: [Self; 13] = [
        Self::Ok,
        Self::Internal,
        Self::Protocol,
        Self::Unauthorised,
        Self::NotFound,
        Self::NotHere,
        Self::EpochMismatch,
        Self::Expired,
        Self::TooFarBehind,
        Self::Loop,
        Self::Overloaded,
        Self::Cancelled,
        Self::OriginLost,
    ];

    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// A code of a later version is an internal error to this one.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        usize::try_from(number)
            .ok()
            .and_then(|at| Self::ALL.get(at).copied())
            .unwrap_or(Self::Internal)
    }

    /// The word in logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Internal => "internal",
            Self::Protocol => "protocol",
            Self::Unauthorised => "unauthorised",
            Self::NotFound => "not_found",
            Self::NotHere => "not_here",
            Self::EpochMismatch => "epoch_mismatch",
            Self::Expired => "expired",
            Self::TooFarBehind => "too_far_behind",
            Self::Loop => "loop",
            Self::Overloaded => "overloaded",
            Self::Cancelled => "cancelled",
            Self::OriginLost => "origin_lost",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// ERROR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// With [`Code::Overloaded`]: when to ask again.
    pub retry_ms: u32,
    pub reason: String,
    /// With [`Code::NotHere`]: who may have it, as `host:port`.
    pub alternatives: Vec<String>,
}

impl Refusal {
    #[must_use]
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            retry_ms: 0,
            reason: reason.into(),
            alternatives: Vec::new(),
        }
    }
}

/// HELLO: who speaks. Node id and role are those of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub node: NodeId,
    pub role: Role,
    pub region: String,
    pub location: String,
    /// What it costs to pull from here; added to the cost of what is announced.
    pub cost: u32,
    /// The largest chunk that this node takes.
    pub max_chunk_bytes: u32,
}

/// HEARSAY: what a child is told by another origin of channels of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub origin: NodeId,
    /// Whether the child hears that origin; if not, nothing of it holds any more.
    pub linked: bool,
    pub crowds: Vec<(ChannelName, Crowd)>,
}

/// GONE's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneReason {
    Ended,
    Lost,
}

/// What a subscription is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Plan, tracks, init segments and the broadcast's state.
    Manifest,
    Track(TrackName),
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The open segment, from its first chunk.
    Live,
    /// Everything before chunk `chunk` of segment `msn` is known.
    At { msn: Msn, chunk: u32 },
}

/// SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Chosen by the subscriber, once per connection: SEGMENT streams name it.
    pub subscription: u64,
    pub channel: ChannelName,
    /// `None`: whichever the channel carries now.
    pub broadcast: Option<BroadcastId>,
    pub target: Target,
    pub start: Start,
    /// Among subscriptions of one class; higher goes first.
    pub priority: u8,
    /// A complete segment older than this is dropped rather than sent.
    pub max_age_ms: u32,
    /// Who pulls through this subscription, the subscriber last.
    pub hops: Vec<NodeId>,
}

/// OK: the answer to SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub broadcast: BroadcastId,
    pub epoch: Epoch,
    pub plan: Plan,
    /// The first segment that is streamed, and its first chunk.
    pub first: Msn,
    pub first_chunk: u32,
    /// Where the track stood as this was written.
    pub live: Msn,
    pub live_chunk: u32,
}

/// UPDATE: a subscriber's change of mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    pub priority: u8,
    pub max_age_ms: u32,
    /// Nothing from this segment on is wanted.
    pub end: Option<Msn>,
}

/// A part that an index tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedPart {
    pub duration: Ticks,
    pub flags: PartFlags,
    pub chunks: u32,
    pub len_bytes: u64,
}

/// What the last part of an index promised as it closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    pub hint: Hint,
    pub siblings: Vec<Position>,
}

/// A complete segment that an index tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedSegment {
    pub head: SegmentHead,
    /// One that stands for all of them where `summed`.
    pub parts: Vec<IndexedPart>,
    /// The past's single parts are not told any more.
    pub summed: bool,
    pub crc32c: u32,
    /// Only on the last segment.
    pub tail: Option<Tail>,
}

/// INDEX: every listed complete segment before `next`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub next: Msn,
    pub segments: Vec<IndexedSegment>,
}

impl Index {
    /// Describes `segments`, all complete, in the order of their numbers.
    pub fn of<'a>(next: Msn, segments: impl Iterator<Item = &'a Segment>) -> Self {
        let mut last = None;
        let mut indexed: Vec<_> = segments
            .filter_map(|segment| {
                let SegmentState::Complete(end) = segment.state else {
                    return None;
                };
                last = segment.parts.last().or(last);
                let summed = segment.is_summed();
                let parts = if summed {
                    vec![IndexedPart::sum_of(segment, end)]
                } else {
                    segment.parts.iter().map(IndexedPart::of).collect()
                };
                Some(IndexedSegment {
                    head: segment.head,
                    parts,
                    summed,
                    crc32c: end.crc32c,
                    tail: None,
                })
            })
            .collect();
        if let (Some(segment), Some(part)) = (indexed.last_mut(), last) {
            segment.tail = Some(Tail {
                hint: part.end.hint,
                siblings: part.end.siblings.to_vec(),
            });
        }
        Self {
            next,
            segments: indexed,
        }
    }

    /// The segments as a window takes them: without bytes.
    #[must_use]
    pub fn into_segments(self) -> Vec<Segment> {
        self.segments
            .into_iter()
            .map(IndexedSegment::into_segment)
            .collect()
    }
}

impl IndexedPart {
    fn sum_of(segment: &Segment, end: SegmentEnd) -> Self {
        Self {
            duration: segment.duration(),
            flags: PartFlags::default(),
            chunks: end.chunks,
            len_bytes: end.bytes,
        }
    }

    fn of(part: &Part) -> Self {
        Self {
            duration: part.end.duration,
            flags: part.end.flags,
            chunks: part.chunks,
            len_bytes: part.len_bytes,
        }
    }
}

impl IndexedSegment {
    fn into_segment(self) -> Segment {
        let mut sum = SegmentEnd {
            chunks: 0,
            bytes: 0,
            crc32c: self.crc32c,
        };
        if let ([all], true) = (&self.parts[..], self.summed) {
            sum.chunks = all.chunks;
            sum.bytes = all.len_bytes;
            return Segment::summed(self.head, all.duration, sum);
        }
        let msn = self.head.msn;
        let mut parts: Vec<Part> = Vec::with_capacity(self.parts.len());
        for (part, index) in self.parts.iter().zip(1u32..) {
            let end = PartEnd {
                duration: part.duration,
                flags: part.flags,
                hint: Hint { msn, part: index },
                siblings: [].into(),
            };
            parts.push(Part {
                end,
                first_chunk: sum.chunks,
                chunks: part.chunks,
                offset_bytes: sum.bytes,
                len_bytes: part.len_bytes,
                data: None,
            });
            sum.chunks = sum.chunks.saturating_add(part.chunks);
            sum.bytes = sum.bytes.saturating_add(part.len_bytes);
        }
        if let (Some(part), Some(tail)) = (parts.last_mut(), self.tail) {
            part.end.hint = tail.hint;
            part.end.siblings = tail.siblings.into();
        }
        Segment::indexed(self.head, parts, sum)
    }
}

/// SEGMENT: the head of a segment stream and of FETCH's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentStart {
    /// 0 where FETCH asked.
    pub subscription: u64,
    pub head: SegmentHead,
    /// The first chunk that follows.
    pub first_chunk: u32,
}

/// FETCH: one segment of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub channel: ChannelName,
    pub broadcast: BroadcastId,
    pub track: TrackName,
    pub msn: Msn,
    pub first_chunk: u32,
}

/// LIST: asks for an INDEX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    pub channel: ChannelName,
    pub broadcast: BroadcastId,
    pub track: TrackName,
    /// From the first listed segment, if it is listed at all.
    pub from: Msn,
    /// Up to but without this one.
    pub to: Msn,
}

/// Every message of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Error(Refusal),
    Hello(Hello),
    Watch {
        prefix: String,
    },
    Live(Announcement),
    Snapshot {
        channels: u64,
    },
    Gone {
        channel: ChannelName,
        broadcast: BroadcastId,
        reason: GoneReason,
    },
    GoAway {
        drain_ms: u32,
        alternatives: Vec<String>,
    },
    /// A place to publish to, as it stands now.
    Ingest(Ingest),
    /// This origin is none any more, or not by this way.
    IngestGone {
        node: NodeId,
    },
    About {
        channel: ChannelName,
        broadcast: BroadcastId,
        about: Arc<About>,
    },
    Audience(Vec<(ChannelName, Crowd)>),
    Hearsay(Heard),
    Subscribe(Subscribe),
    Ok(Accepted),
    Track(Track),
    Init {
        track: TrackName,
        id: InitId,
        bytes: Bytes,
    },
    Index(Index),
    Dropped {
        from: Msn,
        to: Msn,
        code: Code,
    },
    Ended {
        last: Option<Msn>,
    },
    Update(Update),
    State {
        state: BroadcastState,
        epoch: Epoch,
    },
    Segment(SegmentStart),
    Chunk(Chunk),
    Part {
        index: u32,
        end: PartEnd,
    },
    End(SegmentEnd),
    Fetch(Fetch),
    List(List),
    Chat(Chat),
}
