//! Messages to bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    frame::{Frame, kind},
    ingest,
    message::{
        Accepted, Fetch, GoneReason, Hello, Index, IndexedSegment, List, Message, Refusal,
        SegmentStart, Start, Subscribe, Target, Update,
    },
    wire::{int_len, put_bytes, put_int, put_option, put_str},
};
use crate::{
    live::{
        About, Announcement, BroadcastState, Chunk, Crowd, Hint, PartEnd, PartFlags, Phase,
        Position, SegmentEnd, SegmentHead, Track,
    },
    names::{ChannelName, NodeId},
    tls::Role,
};

impl Message {
    /// The whole message, in one piece.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        let kind = self.put(&mut body);
        Frame::encode(kind, &body)
    }

    fn put(&self, out: &mut BytesMut) -> u64 {
        match self {
            Self::Error(refusal) => put_refusal(out, refusal),
            Self::Hello(hello) => put_hello(out, hello),
            Self::Watch { prefix } => {
                put_str(out, prefix);
                kind::WATCH
            }
            Self::Live(live) => put_live(out, live),
            Self::Snapshot { channels } => {
                put_int(out, *channels);
                kind::SNAPSHOT
            }
            Self::Gone {
                channel,
                broadcast,
                reason,
            } => {
                put_str(out, channel.as_str());
                put_int(out, broadcast.0);
                put_int(out, u64::from(*reason == GoneReason::Lost));
                kind::GONE
            }
            Self::GoAway {
                drain_ms,
                alternatives,
            } => {
                put_int(out, (*drain_ms).into());
                put_texts(out, alternatives);
                kind::GOAWAY
            }
            Self::Ingest(it) => ingest::put(out, it),
            Self::IngestGone { node } => {
                put_str(out, node.as_str());
                kind::INGEST_GONE
            }
            Self::About {
                channel,
                broadcast,
                about,
            } => {
                put_str(out, channel.as_str());
                put_int(out, broadcast.0);
                put_about(out, about)
            }
            Self::Audience(crowds) => {
                put_crowds(out, crowds);
                kind::AUDIENCE
            }
            Self::Hearsay(heard) => {
                put_str(out, heard.origin.as_str());
                put_int(out, heard.linked.into());
                put_crowds(out, &heard.crowds);
                kind::HEARSAY
            }
            Self::Subscribe(subscribe) => put_subscribe(out, subscribe),
            Self::Ok(accepted) => put_accepted(out, accepted),
            Self::Track(track) => put_track(out, track),
            Self::Init { track, id, bytes } => {
                put_str(out, &track.to_string());
                put_int(out, id.0.into());
                put_bytes(out, bytes);
                kind::INIT
            }
            Self::Index(index) => put_index(out, index),
            Self::Dropped { from, to, code } => {
                put_int(out, from.0);
                put_int(out, to.0);
                put_int(out, code.number().into());
                kind::DROPPED
            }
            Self::Ended { last } => {
                put_option(out, last.map(|last| last.0));
                kind::ENDED
            }
            Self::Update(update) => put_update(out, update),
            Self::State { state, epoch } => {
                put_int(out, state_number(*state));
                put_int(out, epoch.0);
                kind::STATE
            }
            Self::Segment(start) => put_segment(out, start),
            Self::Chunk(chunk) => {
                put_int(out, chunk.duration.0);
                out.put_slice(&chunk.data);
                kind::CHUNK
            }
            Self::Part { index, end } => put_part(out, *index, end),
            Self::End(end) => put_end(out, end),
            Self::Fetch(fetch) => put_fetch(out, fetch),
            Self::List(list) => put_list(out, list),
            Self::Chat(chat) => chat.put(out),
        }
    }
}

/// Everything of a CHUNK but its payload, which follows as it lies in memory.
#[must_use]
pub fn chunk_header(chunk: &Chunk) -> Bytes {
    let duration = chunk.duration.0;
    let body_len = int_len(duration) + chunk.data.len();
    let mut out = BytesMut::with_capacity(24);
    put_int(&mut out, kind::CHUNK);
    put_int(&mut out, body_len as u64);
    put_int(&mut out, duration);
    out.freeze()
}

fn put_texts(out: &mut BytesMut, texts: &[String]) {
    put_int(out, texts.len() as u64);
    for text in texts {
        put_str(out, text);
    }
}

pub(super) fn put_nodes(out: &mut BytesMut, nodes: &[NodeId]) {
    put_int(out, nodes.len() as u64);
    for node in nodes {
        put_str(out, node.as_str());
    }
}

fn put_refusal(out: &mut BytesMut, refusal: &Refusal) -> u64 {
    put_int(out, refusal.code.number().into());
    put_int(out, refusal.retry_ms.into());
    put_str(out, &refusal.reason);
    put_texts(out, &refusal.alternatives);
    kind::ERROR
}

fn put_hello(out: &mut BytesMut, hello: &Hello) -> u64 {
    put_str(out, hello.node.as_str());
    put_int(out, u64::from(hello.role == Role::Edge));
    put_str(out, &hello.region);
    put_str(out, &hello.location);
    put_int(out, hello.cost.into());
    put_int(out, hello.max_chunk_bytes.into());
    kind::HELLO
}

fn put_live(out: &mut BytesMut, announcement: &Announcement) -> u64 {
    put_str(out, announcement.channel.as_str());
    put_int(out, announcement.broadcast.0);
    put_int(out, announcement.epoch.0);
    let flags = match announcement.phase {
        Phase::Live => 0,
        Phase::Lost => 1,
        Phase::Ended => 2,
        Phase::Starting => 4,
    };
    put_int(out, flags);
    put_int(out, announcement.cost.into());
    put_nodes(out, &announcement.hops);
    put_int(out, announcement.grace_ms.into());
    kind::LIVE
}

fn put_about(out: &mut BytesMut, about: &About) -> u64 {
    put_str(out, &about.title);
    put_texts(out, &about.tags);
    put_int(out, u64::from(about.health.is_some()));
    if let Some(health) = &about.health {
        put_option(out, health.fps_tenths.map(u64::from));
        put_option(out, health.gop_ms.map(u64::from));
        put_int(out, health.dropped_samples);
        put_int(out, health.jitter_ms.into());
    }
    kind::ABOUT
}

fn put_crowds(out: &mut BytesMut, crowds: &[(ChannelName, Crowd)]) {
    put_int(out, crowds.len() as u64);
    for (channel, crowd) in crowds {
        put_str(out, channel.as_str());
        put_int(out, crowd.viewers.into());
        put_int(out, crowd.chatters.into());
    }
}

fn put_subscribe(out: &mut BytesMut, subscribe: &Subscribe) -> u64 {
    put_int(out, subscribe.subscription);
    put_str(out, subscribe.channel.as_str());
    put_option(out, subscribe.broadcast.map(|id| id.0));
    match subscribe.target {
        Target::Manifest => put_str(out, ""),
        Target::Track(track) => put_str(out, &track.to_string()),
    }
    let (msn, chunk) = match subscribe.start {
        Start::Live => (None, 0),
        Start::At { msn, chunk } => (Some(msn.0), chunk),
    };
    put_option(out, msn);
    put_int(out, chunk.into());
    put_int(out, subscribe.priority.into());
    put_int(out, subscribe.max_age_ms.into());
    put_nodes(out, &subscribe.hops);
    kind::SUBSCRIBE
}

fn put_accepted(out: &mut BytesMut, accepted: &Accepted) -> u64 {
    put_int(out, accepted.broadcast.0);
    put_int(out, accepted.epoch.0);
    put_int(out, accepted.plan.target_duration_s.into());
    put_int(out, accepted.plan.part_hold_back_ms.into());
    put_int(out, accepted.plan.window_ms.into());
    put_int(out, accepted.first.0);
    put_int(out, accepted.first_chunk.into());
    put_int(out, accepted.live.0);
    put_int(out, accepted.live_chunk.into());
    kind::OK
}

fn put_pair(out: &mut BytesMut, pair: Option<(u32, u32)>) {
    let (a, b) = pair.unwrap_or((0, 0));
    put_int(out, a.into());
    put_int(out, b.into());
}

fn put_track(out: &mut BytesMut, track: &Track) -> u64 {
    put_str(out, &track.name.to_string());
    put_str(out, &track.codec);
    put_int(out, track.timescale.hz().into());
    put_int(out, track.part_target.0);
    put_int(out, track.bandwidth_bps.into());
    put_int(out, track.average_bandwidth_bps.into());
    put_pair(out, track.size);
    put_pair(out, track.frame_rate);
    put_option(out, track.channels.map(u64::from));
    put_option(out, track.sample_rate_hz.map(u64::from));
    kind::TRACK
}

fn put_head(out: &mut BytesMut, head: &SegmentHead) {
    put_int(out, head.epoch.0);
    put_int(out, head.msn.0);
    put_int(out, head.discontinuity_sequence);
    put_int(out, head.init.0.into());
    put_int(out, head.dts.0);
    put_int(out, head.program_time.0);
    put_int(
        out,
        u64::from(head.flags.discontinuity) | u64::from(head.flags.gap) << 1,
    );
}

fn part_bits(flags: PartFlags) -> u64 {
    u64::from(flags.independent) | u64::from(flags.gap) << 1
}

fn put_tail(out: &mut BytesMut, hint: Hint, siblings: &[Position]) {
    put_int(out, hint.msn.0);
    put_int(out, hint.part.into());
    put_int(out, siblings.len() as u64);
    for sibling in siblings {
        put_str(out, &sibling.track.to_string());
        put_int(out, sibling.msn.0);
        put_int(out, sibling.part.into());
    }
}

fn put_index(out: &mut BytesMut, index: &Index) -> u64 {
    put_int(out, index.next.0);
    put_int(out, index.segments.len() as u64);
    for segment in &index.segments {
        put_indexed(out, segment);
    }
    kind::INDEX
}

fn put_indexed(out: &mut BytesMut, segment: &IndexedSegment) {
    put_head(out, &segment.head);
    put_int(out, segment.parts.len() as u64);
    for part in &segment.parts {
        put_int(out, part.duration.0);
        put_int(out, part_bits(part.flags) | u64::from(segment.summed) << 2);
        put_int(out, part.chunks.into());
        put_int(out, part.len_bytes);
    }
    put_int(out, segment.crc32c.into());
    put_int(out, u64::from(segment.tail.is_some()));
    if let Some(tail) = &segment.tail {
        put_tail(out, tail.hint, &tail.siblings);
    }
}

fn put_update(out: &mut BytesMut, update: &Update) -> u64 {
    put_int(out, update.priority.into());
    put_int(out, update.max_age_ms.into());
    put_option(out, update.end.map(|end| end.0));
    kind::UPDATE
}

const fn state_number(state: BroadcastState) -> u64 {
    match state {
        BroadcastState::Live => 0,
        BroadcastState::Lost => 1,
        BroadcastState::Ended => 2,
    }
}

fn put_segment(out: &mut BytesMut, start: &SegmentStart) -> u64 {
    put_int(out, start.subscription);
    put_head(out, &start.head);
    put_int(out, start.first_chunk.into());
    kind::SEGMENT
}

fn put_part(out: &mut BytesMut, index: u32, end: &PartEnd) -> u64 {
    put_int(out, index.into());
    put_int(out, end.duration.0);
    put_int(out, part_bits(end.flags));
    put_tail(out, end.hint, &end.siblings);
    kind::PART
}

fn put_end(out: &mut BytesMut, end: &SegmentEnd) -> u64 {
    put_int(out, end.chunks.into());
    put_int(out, end.bytes);
    put_int(out, end.crc32c.into());
    kind::END
}

fn put_fetch(out: &mut BytesMut, fetch: &Fetch) -> u64 {
    put_str(out, fetch.channel.as_str());
    put_int(out, fetch.broadcast.0);
    put_str(out, &fetch.track.to_string());
    put_int(out, fetch.msn.0);
    put_int(out, fetch.first_chunk.into());
    kind::FETCH
}

fn put_list(out: &mut BytesMut, list: &List) -> u64 {
    put_str(out, list.channel.as_str());
    put_int(out, list.broadcast.0);
    put_str(out, &list.track.to_string());
    put_int(out, list.from.0);
    put_int(out, list.to.0);
    kind::LIST
}
