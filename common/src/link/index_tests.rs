//! INDEX of the past: what it tells of segments that are no longer recent.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    decode::MAX_INDEX_SEGMENTS,
    frame::Decoder,
    message::{Index, IndexedPart, IndexedSegment, Message},
    wire::{VARINT_MAX, WireError},
};
use crate::{
    live::{
        Chunk, Hint, Log, MAX_LISTED_SEGMENTS, PartEnd, PartFlags, Place, Plan, Position, Record,
        SegmentEnd, SegmentFlags, SegmentHead, Track, UnixMs,
    },
    media::{Ticks, Timescale},
    names::{Epoch, InitId, Msn, TrackName},
};

fn decoded(message: &Message) -> Result<Message, WireError> {
    let frame = Decoder::default().next(&mut message.encode())?;
    Message::decode(frame.expect("a whole message"))
}

fn head(msn: u64, dts: Ticks) -> SegmentHead {
    SegmentHead {
        epoch: Epoch(VARINT_MAX),
        msn: Msn(msn),
        init: InitId(u32::MAX),
        dts,
        program_time: UnixMs(VARINT_MAX),
        discontinuity_sequence: VARINT_MAX,
        flags: SegmentFlags {
            discontinuity: true,
            gap: false,
        },
    }
}

const PARTS: u32 = 60;

/// Segments of a second each, in 60 parts.
fn write(log: &mut Log, msns: std::ops::Range<u64>) {
    let sibling = |track| Position {
        track: TrackName::audio(track),
        msn: Msn(VARINT_MAX),
        part: PARTS,
    };
    let siblings: Arc<[Position]> = (0..63).map(sibling).collect();
    for msn in msns {
        let head = head((1 << 60) + msn, Ticks((1 << 60) + msn * 120_000));
        log.apply(Record::Open(head)).unwrap();
        for part in 0..PARTS {
            let chunk = Chunk {
                duration: Ticks(2_000),
                data: Bytes::from_static(&[7; 17_000]),
            };
            log.apply(Record::Chunk(chunk)).unwrap();
            let end = PartEnd {
                duration: Ticks(2_000),
                flags: PartFlags {
                    independent: true,
                    gap: false,
                },
                hint: Hint {
                    msn: head.msn,
                    part,
                },
                siblings: siblings.clone(),
            };
            log.apply(Record::Part(end)).unwrap();
        }
        log.complete().unwrap();
        for aged in log.aged(Ticks(33 * 120_000)) {
            log.let_go(aged.msn, Place::Elsewhere);
        }
    }
}

fn log() -> Log {
    let plan = Plan {
        target_duration_s: 3,
        part_hold_back_ms: 1_200,
        window_ms: 30 * 60_000,
    };
    let track = Track {
        name: TrackName::video(0),
        codec: String::new(),
        timescale: Timescale::VIDEO,
        part_target: Ticks(2_000),
        bandwidth_bps: 0,
        average_bandwidth_bps: 0,
        size: None,
        frame_rate: None,
        channels: None,
        sample_rate_hz: None,
    };
    Log::new(&plan, &track)
}

/// However short its segments and however many their parts: the longest window
/// is one INDEX.
#[test]
fn an_index_of_the_longest_window_is_within_its_bounds() {
    let mut origin = log();
    write(&mut origin, 0..1_300);
    let next = origin.newest().unwrap().head.msn.next();
    let index = Index::of(next, origin.index(next));
    assert_eq!(index.segments.len(), MAX_LISTED_SEGMENTS);
    const { assert!(MAX_LISTED_SEGMENTS < MAX_INDEX_SEGMENTS) };
    let single = index.segments.iter().filter(|one| !one.summed);
    assert!(single.map(|one| one.parts.len()).eq(vec![60; 34]));
    let message = Message::Index(index.clone());
    let len_bytes = message.encode().len();
    assert!(len_bytes < 128 * 1024, "{len_bytes}");
    assert_eq!(decoded(&message), Ok(message));

    // Who comes late lists the same, and goes on doing so.
    let mut late = log();
    late.seed(index.into_segments(), next);
    assert_eq!(late.listing(), origin.listing());
    assert_eq!(late.listing().unwrap().segments.len(), MAX_LISTED_SEGMENTS);
    write(&mut origin, 1_300..1_320);
    write(&mut late, 1_300..1_320);
    assert_eq!(late.listing(), origin.listing());
    // A sum is told on as one.
    let next = next.0 + 20;
    let (here, there) = (origin.index(Msn(next)), late.index(Msn(next)));
    assert_eq!(Index::of(Msn(next), here), Index::of(Msn(next), there));
}

#[test]
fn a_sum_stands_for_all_parts_and_alone() {
    let part = IndexedPart {
        duration: Ticks(1),
        flags: PartFlags::default(),
        chunks: 2,
        len_bytes: 3,
    };
    let index = |parts| {
        Message::Index(Index {
            next: Msn(6),
            segments: vec![IndexedSegment {
                head: head(5, Ticks(0)),
                parts,
                summed: true,
                crc32c: 9,
                tail: None,
            }],
        })
    };
    let Ok(Message::Index(one)) = decoded(&index(vec![part])) else {
        panic!("one sum is an index")
    };
    let segment = one.into_segments().remove(0);
    assert!(segment.is_summed() && !segment.is_held());
    assert_eq!(segment.duration(), Ticks(1));
    let end = SegmentEnd {
        chunks: 2,
        bytes: 3,
        crc32c: 9,
    };
    assert_eq!(segment.state, crate::live::SegmentState::Complete(end));
    let two = decoded(&index(vec![part, part]));
    assert!(matches!(two, Err(WireError::Invalid { .. })));
}
