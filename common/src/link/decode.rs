//! Bytes to messages. Nothing here panics, and nothing is allocated for a
//! count that the body cannot hold.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    chat::Chat,
    frame::{Frame, MAX_CHUNK_BYTES, MAX_INIT_BYTES, kind},
    ingest,
    message::{
        Accepted, Code, Fetch, GoneReason, Heard, Hello, Index, IndexedPart, IndexedSegment, List,
        Message, Refusal, SegmentStart, Start, Subscribe, Tail, Target, Update,
    },
    wire::{Fields, WireError},
};
use crate::{
    live::{
        About, Announcement, BroadcastState, Chunk, Crowd, Health, Hint, MAX_TAG_CHARS, MAX_TAGS,
        MAX_TITLE_CHARS, PartEnd, PartFlags, Phase, Plan, Position, SegmentEnd, SegmentFlags,
        SegmentHead, Track, UnixMs,
    },
    media::{Ticks, Timescale},
    names::{BroadcastId, ChannelName, NodeId, TrackName},
    tls::Role,
};

/// Tracks of one broadcast: renditions, languages, and room.
pub const MAX_TRACKS: usize = 64;

/// Nodes between an origin and a viewer.
pub const MAX_HOPS: usize = 16;

/// Other parents that a node may name.
pub const MAX_ALTERNATIVES: usize = 16;

/// Channels of one AUDIENCE or HEARSAY: as many as fit whatever their names are.
pub const MAX_AUDIENCE: usize = 256;

/// UTF-8 takes so many bytes a character at most.
const CHAR_BYTES: usize = 4;

/// Segments of one index: over half an hour of two-second segments.
pub const MAX_INDEX_SEGMENTS: usize = 1024;

/// Parts of one segment in an index: four hours of 60 frames a second each.
const MAX_INDEX_PARTS: usize = 1 << 16;

/// A codec string, with room for the longest RFC 6381 allows to list.
const MAX_CODEC_BYTES: usize = 128;

/// Regions, locations, addresses, reasons.
const MAX_TEXT_BYTES: usize = 256;

impl Message {
    /// # Errors
    /// [`WireError`] for a body that is not this type's.
    pub fn decode(frame: Frame) -> Result<Self, WireError> {
        let body = frame.body;
        match frame.kind {
            kind::ERROR => refusal(body).map(Self::Error),
            kind::HELLO => hello(body).map(Self::Hello),
            kind::WATCH => {
                let prefix = Fields::new("WATCH", body).text("prefix", ChannelName::MAX_LEN)?;
                Ok(Self::Watch { prefix })
            }
            kind::LIVE => live(body).map(Self::Live),
            kind::SNAPSHOT => {
                let channels = Fields::new("SNAPSHOT", body).int("channels")?;
                Ok(Self::Snapshot { channels })
            }
            kind::GONE => gone(body),
            kind::GOAWAY => {
                let mut fields = Fields::new("GOAWAY", body);
                let drain_ms = fields.int32("drain_ms")?;
                let alternatives = texts(&mut fields)?;
                Ok(Self::GoAway {
                    drain_ms,
                    alternatives,
                })
            }
            kind::INGEST => ingest::read(body).map(Self::Ingest),
            kind::INGEST_GONE => {
                let node = Fields::new("INGEST_GONE", body).node("node")?;
                Ok(Self::IngestGone { node })
            }
            kind::ABOUT => about(body),
            kind::AUDIENCE => crowds(&mut Fields::new("AUDIENCE", body)).map(Self::Audience),
            kind::HEARSAY => {
                let mut fields = Fields::new("HEARSAY", body);
                Ok(Self::Hearsay(Heard {
                    origin: fields.node("origin")?,
                    linked: fields.int("linked")? != 0,
                    crowds: crowds(&mut fields)?,
                }))
            }
            kind::SUBSCRIBE => subscribe(body).map(Self::Subscribe),
            kind::OK => accepted(body).map(Self::Ok),
            kind::TRACK => track(body).map(Self::Track),
            kind::INIT => {
                let mut fields = Fields::new("INIT", body);
                Ok(Self::Init {
                    track: fields.track("track")?,
                    id: fields.init_id()?,
                    bytes: fields.bytes("bytes", MAX_INIT_BYTES)?,
                })
            }
            kind::INDEX => index(body).map(Self::Index),
            kind::DROPPED => {
                let mut fields = Fields::new("DROPPED", body);
                Ok(Self::Dropped {
                    from: fields.msn("from")?,
                    to: fields.msn("to")?,
                    code: Code::from_number(fields.int("code")?),
                })
            }
            kind::ENDED => {
                let last = Fields::new("ENDED", body).option("last msn")?;
                Ok(Self::Ended {
                    last: last.map(crate::names::Msn),
                })
            }
            kind::UPDATE => update(body).map(Self::Update),
            kind::STATE => state(body),
            kind::SEGMENT => segment(body).map(Self::Segment),
            kind::CHUNK => chunk(body).map(Self::Chunk),
            kind::PART => part(body),
            kind::END => end(body).map(Self::End),
            kind::FETCH => fetch(body).map(Self::Fetch),
            kind::LIST => list(body).map(Self::List),
            got => match Chat::decode(got, body) {
                Some(chat) => chat.map(Self::Chat),
                None => Err(WireError::Unexpected {
                    got,
                    expected: "a known message",
                }),
            },
        }
    }
}

fn texts(fields: &mut Fields) -> Result<Vec<String>, WireError> {
    let count = fields.count("alternatives", MAX_ALTERNATIVES, 1)?;
    (0..count)
        .map(|_| fields.text("alternative", MAX_TEXT_BYTES))
        .collect()
}

pub(super) fn hops(fields: &mut Fields) -> Result<Vec<NodeId>, WireError> {
    let count = fields.count("hops", MAX_HOPS, 1)?;
    (0..count).map(|_| fields.node("hop")).collect()
}

fn refusal(body: Bytes) -> Result<Refusal, WireError> {
    let mut fields = Fields::new("ERROR", body);
    Ok(Refusal {
        code: Code::from_number(fields.int("code")?),
        retry_ms: fields.int32("retry_ms")?,
        reason: fields.text("reason", MAX_TEXT_BYTES)?,
        alternatives: texts(&mut fields)?,
    })
}

fn hello(body: Bytes) -> Result<Hello, WireError> {
    let mut fields = Fields::new("HELLO", body);
    Ok(Hello {
        node: fields.node("node")?,
        role: match fields.int("role")? {
            0 => Role::Origin,
            1 => Role::Edge,
            _ => return Err(fields.invalid("role")),
        },
        region: fields.text("region", MAX_TEXT_BYTES)?,
        location: fields.text("location", MAX_TEXT_BYTES)?,
        cost: fields.int32("cost")?,
        max_chunk_bytes: fields.int32("max chunk")?,
    })
}

fn live(body: Bytes) -> Result<Announcement, WireError> {
    let mut fields = Fields::new("LIVE", body);
    let channel = fields.channel()?;
    let broadcast = BroadcastId(fields.int("broadcast")?);
    let epoch = fields.epoch()?;
    let flags = fields.int("flags")?;
    let cost = fields.int32("cost")?;
    let hops = hops(&mut fields)?;
    // An older node says nothing of it.
    let grace_ms = fields.more().then(|| fields.int32("grace")).transpose()?;
    let phase = match flags {
        ended if ended & 2 != 0 => Phase::Ended,
        lost if lost & 1 != 0 => Phase::Lost,
        starting if starting & 4 != 0 => Phase::Starting,
        _ => Phase::Live,
    };
    Ok(Announcement {
        channel,
        broadcast,
        epoch,
        phase,
        hops,
        cost,
        grace_ms: grace_ms.unwrap_or(Announcement::USUAL_GRACE_MS),
    })
}

fn about(body: Bytes) -> Result<Message, WireError> {
    let mut fields = Fields::new("ABOUT", body);
    let channel = fields.channel()?;
    let broadcast = BroadcastId(fields.int("broadcast")?);
    let title = fields.text("title", MAX_TITLE_CHARS * CHAR_BYTES)?;
    let count = fields.count("tags", MAX_TAGS, 1)?;
    let tags = (0..count).map(|_| fields.text("tag", MAX_TAG_CHARS * CHAR_BYTES));
    let tags = tags.collect::<Result<_, _>>()?;
    let health = match fields.int("health")? {
        0 => None,
        _ => Some(Health {
            fps_tenths: fields.option32("fps")?,
            gop_ms: fields.option32("gop")?,
            dropped_samples: fields.int("dropped")?,
            jitter_ms: fields.int32("jitter")?,
        }),
    };
    Ok(Message::About {
        channel,
        broadcast,
        about: Arc::new(About {
            title,
            tags,
            health,
        }),
    })
}

fn crowds(fields: &mut Fields) -> Result<Vec<(ChannelName, Crowd)>, WireError> {
    let count = fields.count("channels", MAX_AUDIENCE, 4)?;
    let crowd = |_| {
        let channel = fields.channel()?;
        let viewers = fields.int32("viewers")?;
        let chatters = fields.int32("chatters")?;
        Ok((channel, Crowd { viewers, chatters }))
    };
    (0..count).map(crowd).collect()
}

fn gone(body: Bytes) -> Result<Message, WireError> {
    let mut fields = Fields::new("GONE", body);
    Ok(Message::Gone {
        channel: fields.channel()?,
        broadcast: BroadcastId(fields.int("broadcast")?),
        // A reason of a later version leaves the channel its grace.
        reason: match fields.int("reason")? {
            0 => GoneReason::Ended,
            _ => GoneReason::Lost,
        },
    })
}

fn subscribe(body: Bytes) -> Result<Subscribe, WireError> {
    let mut fields = Fields::new("SUBSCRIBE", body);
    let subscription = fields.int("subscription")?;
    let channel = fields.channel()?;
    let broadcast = fields.option("broadcast")?.map(BroadcastId);
    let track = fields.text("track", 4)?;
    let target = if track.is_empty() {
        Target::Manifest
    } else {
        Target::Track(TrackName::parse(&track).map_err(|_| fields.invalid("track"))?)
    };
    let msn = fields.option("start msn")?.map(crate::names::Msn);
    let chunk = fields.int32("start chunk")?;
    Ok(Subscribe {
        subscription,
        channel,
        broadcast,
        target,
        start: msn.map_or(Start::Live, |msn| Start::At { msn, chunk }),
        priority: priority(&mut fields)?,
        max_age_ms: fields.int32("max_age_ms")?,
        hops: hops(&mut fields)?,
    })
}

fn priority(fields: &mut Fields) -> Result<u8, WireError> {
    let priority = fields.at_most("priority", u8::MAX.into())?;
    Ok(u8::try_from(priority).unwrap_or(u8::MAX))
}

fn accepted(body: Bytes) -> Result<Accepted, WireError> {
    let mut fields = Fields::new("OK", body);
    Ok(Accepted {
        broadcast: BroadcastId(fields.int("broadcast")?),
        epoch: fields.epoch()?,
        plan: Plan {
            target_duration_s: fields.int32("target duration")?,
            part_hold_back_ms: fields.int32("part hold back")?,
            window_ms: fields.int32("window")?,
        },
        first: fields.msn("first msn")?,
        first_chunk: fields.int32("first chunk")?,
        live: fields.msn("live msn")?,
        live_chunk: fields.int32("live chunk")?,
    })
}

fn pair(fields: &mut Fields, field: &'static str) -> Result<Option<(u32, u32)>, WireError> {
    let pair = (fields.int32(field)?, fields.int32(field)?);
    Ok((pair != (0, 0)).then_some(pair))
}

fn track(body: Bytes) -> Result<Track, WireError> {
    let mut fields = Fields::new("TRACK", body);
    Ok(Track {
        name: fields.track("name")?,
        codec: fields.text("codec", MAX_CODEC_BYTES)?,
        timescale: Timescale::new(fields.int32("timescale")?)
            .ok_or_else(|| fields.invalid("timescale"))?,
        part_target: Ticks(fields.int("part target")?),
        bandwidth_bps: fields.int32("bandwidth")?,
        average_bandwidth_bps: fields.int32("average bandwidth")?,
        size: pair(&mut fields, "size")?,
        frame_rate: pair(&mut fields, "frame rate")?,
        channels: fields.option32("channels")?,
        sample_rate_hz: fields.option32("sample rate")?,
    })
}

fn head(fields: &mut Fields) -> Result<SegmentHead, WireError> {
    let epoch = fields.epoch()?;
    let msn = fields.msn("msn")?;
    let discontinuity_sequence = fields.int("discontinuity sequence")?;
    let init = fields.init_id()?;
    let dts = Ticks(fields.int("dts")?);
    let program_time = UnixMs(fields.int("program time")?);
    let bits = fields.int("flags")?;
    Ok(SegmentHead {
        epoch,
        msn,
        init,
        dts,
        program_time,
        discontinuity_sequence,
        flags: SegmentFlags {
            discontinuity: bits & 1 != 0,
            gap: bits & 2 != 0,
        },
    })
}

fn part_flags(fields: &mut Fields) -> Result<PartFlags, WireError> {
    Ok(flags_of(fields.int("flags")?))
}

const fn flags_of(bits: u64) -> PartFlags {
    PartFlags {
        independent: bits & 1 != 0,
        gap: bits & 2 != 0,
    }
}

fn tail(fields: &mut Fields) -> Result<Tail, WireError> {
    let hint = Hint {
        msn: fields.msn("hint msn")?,
        part: fields.int32("hint part")?,
    };
    let count = fields.count("siblings", MAX_TRACKS, 4)?;
    let siblings = (0..count).map(|_| {
        Ok(Position {
            track: fields.track("sibling")?,
            msn: fields.msn("sibling msn")?,
            part: fields.int32("sibling part")?,
        })
    });
    let siblings = siblings.collect::<Result<_, WireError>>()?;
    Ok(Tail { hint, siblings })
}

fn index(body: Bytes) -> Result<Index, WireError> {
    let mut fields = Fields::new("INDEX", body);
    let next = fields.msn("next msn")?;
    let count = fields.count("segments", MAX_INDEX_SEGMENTS, 10)?;
    let mut segments: Vec<IndexedSegment> = Vec::with_capacity(count);
    for _ in 0..count {
        let segment = indexed(&mut fields)?;
        let rises = segments
            .last()
            .is_none_or(|last| last.head.msn < segment.head.msn);
        if !rises || segment.head.msn >= next {
            return Err(fields.invalid("order of msns"));
        }
        segments.push(segment);
    }
    Ok(Index { next, segments })
}

fn indexed(fields: &mut Fields) -> Result<IndexedSegment, WireError> {
    let head = head(fields)?;
    let count = fields.count("parts", MAX_INDEX_PARTS, 4)?;
    let mut summed = false;
    let parts = (0..count).map(|_| {
        let duration = Ticks(fields.int("part duration")?);
        let bits = fields.int("flags")?;
        summed |= bits & 4 != 0;
        Ok(IndexedPart {
            duration,
            flags: flags_of(bits),
            chunks: fields.int32("part chunks")?,
            len_bytes: fields.int("part bytes")?,
        })
    });
    let parts = parts.collect::<Result<Vec<_>, WireError>>()?;
    if summed && parts.len() != 1 {
        return Err(fields.invalid("sum of parts"));
    }
    let crc32c = fields.int32("crc32c")?;
    let tail = match fields.int("tail")? {
        0 => None,
        _ => Some(tail(fields)?),
    };
    Ok(IndexedSegment {
        head,
        parts,
        summed,
        crc32c,
        tail,
    })
}

fn update(body: Bytes) -> Result<Update, WireError> {
    let mut fields = Fields::new("UPDATE", body);
    Ok(Update {
        priority: priority(&mut fields)?,
        max_age_ms: fields.int32("max_age_ms")?,
        end: fields.option("end msn")?.map(crate::names::Msn),
    })
}

fn state(body: Bytes) -> Result<Message, WireError> {
    let mut fields = Fields::new("STATE", body);
    let state = match fields.int("state")? {
        0 => BroadcastState::Live,
        1 => BroadcastState::Lost,
        2 => BroadcastState::Ended,
        _ => return Err(fields.invalid("state")),
    };
    let epoch = fields.epoch()?;
    Ok(Message::State { state, epoch })
}

fn segment(body: Bytes) -> Result<SegmentStart, WireError> {
    let mut fields = Fields::new("SEGMENT", body);
    Ok(SegmentStart {
        subscription: fields.int("subscription")?,
        head: head(&mut fields)?,
        first_chunk: fields.int32("first chunk")?,
    })
}

fn chunk(body: Bytes) -> Result<Chunk, WireError> {
    let mut fields = Fields::new("CHUNK", body);
    let duration = Ticks(fields.int("duration")?);
    let data = fields.into_rest();
    if data.len() > MAX_CHUNK_BYTES {
        return Err(WireError::TooMuch {
            message: "CHUNK",
            field: "payload",
            got: data.len() as u64,
            most: MAX_CHUNK_BYTES as u64,
        });
    }
    Ok(Chunk { duration, data })
}

fn part(body: Bytes) -> Result<Message, WireError> {
    let mut fields = Fields::new("PART", body);
    let index = fields.int32("index")?;
    let duration = Ticks(fields.int("duration")?);
    let flags = part_flags(&mut fields)?;
    let tail = tail(&mut fields)?;
    let end = PartEnd {
        duration,
        flags,
        hint: tail.hint,
        siblings: tail.siblings.into(),
    };
    Ok(Message::Part { index, end })
}

fn end(body: Bytes) -> Result<SegmentEnd, WireError> {
    let mut fields = Fields::new("END", body);
    Ok(SegmentEnd {
        chunks: fields.int32("chunks")?,
        bytes: fields.int("bytes")?,
        crc32c: fields.int32("crc32c")?,
    })
}

fn fetch(body: Bytes) -> Result<Fetch, WireError> {
    let mut fields = Fields::new("FETCH", body);
    Ok(Fetch {
        channel: fields.channel()?,
        broadcast: BroadcastId(fields.int("broadcast")?),
        track: fields.track("track")?,
        msn: fields.msn("msn")?,
        first_chunk: fields.int32("first chunk")?,
    })
}

fn list(body: Bytes) -> Result<List, WireError> {
    let mut fields = Fields::new("LIST", body);
    Ok(List {
        channel: fields.channel()?,
        broadcast: BroadcastId(fields.int("broadcast")?),
        track: fields.track("track")?,
        from: fields.msn("from")?,
        to: fields.msn("to")?,
    })
}
