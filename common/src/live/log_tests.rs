use super::*;
use crate::{
    live::record::{Chunk, PartEnd, PartFlags, SegmentFlags, UnixMs},
    media::Timescale,
    names::TrackName,
};

const PLAN: Plan = Plan {
    target_duration_s: 3,
    part_hold_back_ms: 1_200,
    window_ms: 24_000,
};
const SECOND: u64 = 120_000;

fn track() -> Track {
    Track {
        name: TrackName::video(0),
        codec: "avc1.64001f".into(),
        timescale: Timescale::VIDEO,
        part_target: Ticks(44_000),
        bandwidth_bps: 3_300_000,
        average_bandwidth_bps: 3_000_000,
        size: Some((1280, 720)),
        frame_rate: Some((30, 1)),
        channels: None,
        sample_rate_hz: None,
    }
}

fn head(msn: u64) -> SegmentHead {
    SegmentHead {
        epoch: Epoch(7),
        msn: Msn(msn),
        init: InitId(0),
        dts: Ticks(msn * 2 * SECOND),
        program_time: UnixMs(1_700_000_000_000 + msn * 2_000),
        discontinuity_sequence: 0,
        flags: SegmentFlags::default(),
    }
}

fn chunk(bytes: &'static [u8]) -> Record {
    Record::Chunk(Chunk {
        duration: Ticks(SECOND / 2),
        data: Bytes::from_static(bytes),
    })
}

fn part(hint_msn: u64, hint_part: u32) -> Record {
    Record::Part(PartEnd {
        duration: Ticks(SECOND),
        flags: PartFlags::default(),
        hint: Hint {
            msn: Msn(hint_msn),
            part: hint_part,
        },
        siblings: Arc::from([]),
    })
}

/// Two parts of a second, two chunks each.
fn write_segment(log: &mut Log, msn: u64) {
    let records = [
        Record::Open(head(msn)),
        chunk(b"ab"),
        chunk(b"cd"),
        part(msn, 1),
        chunk(b"ef"),
        chunk(b"gh"),
        part(msn + 1, 0),
    ];
    for record in records {
        log.apply(record).unwrap();
    }
    log.complete().unwrap();
}

fn log_of(msns: std::ops::Range<u64>) -> Log {
    let mut log = Log::new(&PLAN, &track());
    msns.for_each(|msn| write_segment(&mut log, msn));
    log
}

#[test]
fn c4_a_segment_is_the_sum_of_its_parts_and_chunks() {
    let log = log_of(5..6);
    let segment = log.segment(Msn(5)).unwrap();
    let parts: Vec<u8> = segment
        .parts
        .iter()
        .flat_map(|p| p.data.clone().unwrap())
        .collect();
    let chunks: Vec<u8> = segment.chunks.iter().flat_map(|c| c.data.clone()).collect();
    assert_eq!(parts, b"abcdefgh");
    assert_eq!(chunks, parts);
    assert_eq!(segment.parts[1].offset_bytes, 4);
    let sum = SegmentEnd {
        chunks: 4,
        bytes: 8,
        crc32c: crc32c::crc32c(b"abcdefgh"),
    };
    assert_eq!(segment.state, SegmentState::Complete(sum));
}

#[test]
fn a_closed_parts_chunks_are_slices_of_the_part() {
    let log = log_of(5..6);
    let segment = log.segment(Msn(5)).unwrap();
    let data = segment.parts[0].data.clone().unwrap();
    assert_eq!(segment.chunks[0].data.as_ptr(), data.as_ptr());
    assert_eq!(segment.chunks[1].data.as_ptr(), data[2..].as_ptr());
}

#[test]
fn records_that_do_not_follow_are_refused_and_change_nothing() {
    let mut log = log_of(5..6);
    assert_eq!(log.apply(chunk(b"x")), Err(LogError::NothingOpen));
    let old = LogError::OutOfOrder {
        last: Msn(5),
        new: Msn(5),
    };
    assert_eq!(log.apply(Record::Open(head(5))), Err(old));
    log.apply(Record::Open(head(6))).unwrap();
    log.apply(chunk(b"x")).unwrap();
    assert_eq!(
        log.complete(),
        Err(LogError::LooseChunks {
            msn: Msn(6),
            chunks: 1
        })
    );
    let wrong = Record::End(SegmentEnd {
        chunks: 2,
        bytes: 1,
        crc32c: 0,
    });
    assert!(matches!(log.apply(wrong), Err(LogError::WrongSum { .. })));
    assert_eq!(log.segment(Msn(6)).unwrap().state, SegmentState::Open);
}

#[test]
fn h2_the_window_lists_what_fills_it_and_keeps_bytes_three_targets_longer() {
    let log = log_of(100..150);
    let listing = log.listing().unwrap();
    // 24 s of 2-s segments.
    assert_eq!(listing.segments.len(), 12);
    assert_eq!(listing.segments[0].head.msn, Msn(138));
    // 9 s more of bytes: five segments, the last of them in part.
    assert_eq!(log.oldest().unwrap().head.msn, Msn(133));
    assert!(matches!(
        log.part(Epoch(7), Msn(133), 0),
        PartLookup::Ready(_)
    ));
    assert_eq!(log.part(Epoch(7), Msn(132), 0), PartLookup::Unknown);
}

#[test]
fn h2_at_least_six_segments_are_listed_however_long_they_are() {
    let plan = Plan {
        window_ms: 1_000,
        ..PLAN
    };
    let mut log = Log::new(&plan, &track());
    (0..20).for_each(|msn| write_segment(&mut log, msn));
    assert_eq!(log.listing().unwrap().segments.len(), 6);
}

#[test]
fn h9_parts_are_listed_for_three_target_durations() {
    let listing = log_of(100..150).listing().unwrap();
    let with_parts: Vec<_> = listing
        .segments
        .iter()
        .filter(|s| !s.parts.is_empty())
        .map(|s| s.head.msn.0)
        .collect();
    // 9 s hold four whole segments of 2 s.
    assert_eq!(with_parts, [146, 147, 148, 149]);
}

#[test]
fn h12_the_hint_follows_the_prediction_and_then_the_fact() {
    let mut log = log_of(5..6);
    assert_eq!(
        log.listing().unwrap().hint,
        Hint {
            msn: Msn(6),
            part: 0
        }
    );
    log.apply(Record::Open(head(6))).unwrap();
    assert_eq!(
        log.listing().unwrap().hint,
        Hint {
            msn: Msn(6),
            part: 0
        }
    );
    log.apply(chunk(b"x")).unwrap();
    log.apply(part(6, 1)).unwrap();
    assert_eq!(
        log.listing().unwrap().hint,
        Hint {
            msn: Msn(6),
            part: 1
        }
    );
    assert_eq!(log.part(Epoch(7), Msn(6), 1), PartLookup::Hinted);
    // The cut came early: the hinted part will never exist.
    log.complete().unwrap();
    assert_eq!(log.part(Epoch(7), Msn(6), 1), PartLookup::Unknown);
    assert_eq!(log.part(Epoch(7), Msn(7), 0), PartLookup::Hinted);
}

#[test]
fn r6_only_the_hinted_part_is_waited_for() {
    let mut log = log_of(5..6);
    log.apply(Record::Open(head(6))).unwrap();
    assert_eq!(log.part(Epoch(7), Msn(6), 1), PartLookup::Unknown);
    assert_eq!(log.part(Epoch(7), Msn(8), 0), PartLookup::Unknown);
    assert_eq!(
        log.part(Epoch(8), Msn(6), 0),
        PartLookup::Unknown,
        "another epoch's path"
    );
    assert_eq!(log.part(Epoch(7), Msn(6), 0), PartLookup::Hinted);
    log.end();
    assert_eq!(
        log.part(Epoch(7), Msn(7), 0),
        PartLookup::Unknown,
        "nothing follows the end"
    );
}

#[test]
fn a_hint_of_the_old_epoch_dies_when_the_next_epoch_opens() {
    let mut log = log_of(5..6);
    assert_eq!(log.part(Epoch(7), Msn(6), 0), PartLookup::Hinted);
    log.apply(Record::Open(SegmentHead {
        epoch: Epoch(8),
        ..head(6)
    }))
    .unwrap();
    assert_eq!(log.part(Epoch(7), Msn(6), 0), PartLookup::Unknown);
    assert_eq!(log.listing().unwrap().hint_epoch, Epoch(8));
}

fn as_index(log: &Log, before: u64) -> Vec<Segment> {
    let strip = |segment: &Segment| {
        let SegmentState::Complete(end) = segment.state else {
            unreachable!()
        };
        let parts = segment
            .parts
            .iter()
            .map(|p| Part {
                data: None,
                ..p.clone()
            })
            .collect();
        Segment::indexed(segment.head, parts, end)
    };
    log.index(Msn(before)).map(strip).collect()
}

#[test]
fn a_late_node_lists_the_same_as_one_that_was_there_all_along() {
    let mut origin = log_of(100..140);
    let mut late = Log::new(&PLAN, &track());
    late.seed(as_index(&origin, 140), Msn(140));
    assert_eq!(late.listing(), origin.listing());
    for msn in 140..160 {
        write_segment(&mut origin, msn);
        write_segment(&mut late, msn);
        assert_eq!(late.listing(), origin.listing());
    }
    assert!(matches!(
        origin.part(Epoch(7), Msn(147), 1),
        PartLookup::Ready(_)
    ));
}

#[test]
fn what_is_known_by_index_says_where_its_bytes_lie() {
    let origin = log_of(100..110);
    let mut late = Log::new(&PLAN, &track());
    late.seed(as_index(&origin, 110), Msn(110));
    let stretch = PartLookup::NotHeld {
        offset_bytes: 4,
        len_bytes: 4,
    };
    assert_eq!(late.part(Epoch(7), Msn(109), 1), stretch);
    assert!(!late.segment(Msn(109)).unwrap().is_held());
}

#[test]
fn a_seed_keeps_held_bytes_and_forgets_what_the_parent_no_longer_lists() {
    let origin = log_of(100..112);
    let mut edge = log_of(100..108);
    edge.seed(as_index(&origin, 112).split_off(4), Msn(112));
    // Held before and still listed: the bytes stayed.
    assert!(matches!(
        edge.part(Epoch(7), Msn(107), 0),
        PartLookup::Ready(_)
    ));
    assert!(matches!(
        edge.part(Epoch(7), Msn(110), 0),
        PartLookup::NotHeld { .. }
    ));
    // Not listed any more, its bytes readable for three targets.
    assert_eq!(edge.listing().unwrap().segments[0].head.msn, Msn(104));
    assert!(matches!(
        edge.part(Epoch(7), Msn(103), 0),
        PartLookup::Ready(_)
    ));
}

#[test]
fn a_restarted_origin_with_an_empty_index_lists_nothing_old() {
    let mut edge = log_of(100..108);
    edge.apply(Record::Open(head(108))).unwrap();
    edge.seed(Vec::new(), Msn(110));
    assert_eq!(edge.listing(), None);
    assert!(matches!(
        edge.part(Epoch(7), Msn(107), 0),
        PartLookup::Ready(_)
    ));
    write_segment(&mut edge, 110);
    assert_eq!(edge.listing().unwrap().segments.len(), 1);
}

#[test]
fn an_aborted_segment_is_neither_listed_nor_complete() {
    let mut log = log_of(5..7);
    log.apply(Record::Open(head(7))).unwrap();
    log.apply(chunk(b"x")).unwrap();
    log.abort();
    assert_eq!(log.segment(Msn(7)).unwrap().state, SegmentState::Aborted);
    assert_eq!(log.version().unwrap().msn, Msn(6));
}

const LONG: Plan = Plan {
    window_ms: 120_000,
    ..PLAN
};

/// Lets go what the window of who made it does not keep.
fn settle(log: &mut Log, age_ms: u32) {
    for aged in log.aged(Timescale::VIDEO.from_ms(age_ms.into())) {
        log.let_go(aged.msn, Place::Elsewhere);
    }
}

#[test]
fn what_is_let_go_stays_listed_and_costs_a_head_and_its_sums() {
    let (mut kept, mut lean) = (Log::new(&LONG, &track()), Log::new(&LONG, &track()));
    for msn in 100..300 {
        write_segment(&mut kept, msn);
        write_segment(&mut lean, msn);
        settle(&mut lean, LONG.recent_ms());
        assert_eq!(lean.listing(), kept.listing());
    }
    assert_eq!(lean.listing().unwrap().segments.len(), 60);
    // 33 s of 2-s segments, the 17th in part; the rest has no chunks and no parts.
    assert_eq!(lean.held_bytes(), 16 * 8);
    let state = |msn: u64| {
        let segment = lean.segment(Msn(msn)).unwrap();
        let sizes = (segment.chunks.len(), segment.parts.len());
        (segment.is_held(), segment.is_summed(), sizes)
    };
    assert_eq!(state(299), (true, false, (4, 2)));
    assert_eq!(state(284), (true, false, (4, 2)));
    assert_eq!(state(283), (false, false, (0, 2)));
    assert_eq!(state(282), (false, true, (0, 0)));
    assert_eq!(state(240), (false, true, (0, 0)));
    assert_eq!(lean.recent_from(), Msn(283));
    // Its sums are what they were.
    let sum = |log: &Log| log.segment(Msn(250)).unwrap().state;
    assert_eq!(sum(&lean), sum(&kept));
    assert_eq!(lean.part(Epoch(7), Msn(250), 0), PartLookup::Unknown);
}

#[test]
fn h9_an_edge_holds_the_bytes_of_listed_parts_and_no_others() {
    let mut edge = Log::new(&LONG, &track());
    for msn in 100..200 {
        write_segment(&mut edge, msn);
        let aged = edge.aged(Timescale::VIDEO.from_ms(LONG.parts_listed_ms().into()));
        let bytes = aged.iter().map(|one| one.parts.concat());
        assert!(bytes.eq(aged.iter().map(|_| b"abcdefgh")));
        settle(&mut edge, LONG.parts_listed_ms());
        let listed = edge.listing().unwrap();
        for segment in &listed.segments {
            let held = edge.segment(segment.head.msn).unwrap().is_held();
            assert_eq!(held, !segment.parts.is_empty(), "{}", segment.head.msn);
        }
    }
    assert_eq!(edge.held_bytes(), 4 * 8);
    // Its parts can be asked for three target durations longer, and more.
    let stretch = PartLookup::NotHeld {
        offset_bytes: 4,
        len_bytes: 4,
    };
    assert_eq!(edge.part(Epoch(7), Msn(195), 1), stretch);
    assert_eq!(edge.part(Epoch(7), Msn(184), 1), stretch);
    assert_eq!(edge.part(Epoch(7), Msn(182), 1), PartLookup::Unknown);
}

#[test]
fn only_what_is_complete_and_held_is_let_go() {
    let mut log = log_of(5..8);
    log.apply(Record::Open(head(8))).unwrap();
    log.apply(chunk(b"x")).unwrap();
    for msn in [4, 8, 9] {
        log.let_go(Msn(msn), Place::Elsewhere);
    }
    assert_eq!(log.held_bytes(), 3 * 8 + 1);
    log.let_go(Msn(5), Place::Elsewhere);
    log.let_go(Msn(5), Place::Window);
    assert_eq!(log.held_bytes(), 2 * 8 + 1);
    assert!(!log.segment(Msn(5)).unwrap().is_held());
    // What goes with the window is counted off.
    (9..40).for_each(|msn| {
        log.abort();
        write_segment(&mut log, msn);
    });
    let held = |log: &Log| (0..99).filter_map(|msn| log.segment(Msn(msn))).count() as u64;
    assert_eq!(log.held_bytes(), held(&log) * 8);
}

#[test]
fn a_window_of_tiny_segments_is_bounded_by_their_number() {
    let mut log = Log::new(&LONG, &track());
    for msn in 0..3_000 {
        let tiny = PartEnd {
            duration: Ticks(1),
            flags: PartFlags::default(),
            hint: Hint {
                msn: Msn(msn + 1),
                part: 0,
            },
            siblings: Arc::from([]),
        };
        log.apply(Record::Open(head(msn))).unwrap();
        log.apply(chunk(b"x")).unwrap();
        log.apply(Record::Part(tiny)).unwrap();
        log.complete().unwrap();
    }
    assert_eq!(log.listing().unwrap().segments.len(), MAX_LISTED_SEGMENTS);
    assert_eq!(log.held_bytes(), 2 * MAX_LISTED_SEGMENTS as u64);
}
