use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::{
    live::record::{Chunk, Hint, PartEnd, PartFlags, SegmentFlags, SegmentHead, UnixMs},
    media::{Ticks, Timescale},
    names::{InitId, TrackName},
};

fn window() -> Window {
    let plan = Plan {
        target_duration_s: 1,
        part_hold_back_ms: 500,
        window_ms: 2_000,
    };
    let track = Track {
        name: TrackName::audio(0),
        codec: "mp4a.40.2".into(),
        timescale: Timescale::new(1_000).unwrap(),
        part_target: Ticks(500),
        bandwidth_bps: 128_000,
        average_bandwidth_bps: 128_000,
        size: None,
        frame_rate: None,
        channels: Some(2),
        sample_rate_hz: Some(1_000),
    };
    Window::new(&plan, &track)
}

fn head(msn: u64) -> SegmentHead {
    SegmentHead {
        epoch: Epoch(1),
        msn: Msn(msn),
        init: InitId(0),
        dts: Ticks(msn * 1_000),
        program_time: UnixMs(msn * 1_000),
        discontinuity_sequence: 0,
        flags: SegmentFlags::default(),
    }
}

fn segment(msn: u64) -> Vec<Record> {
    let chunk = |data: &'static [u8]| {
        Record::Chunk(Chunk {
            duration: Ticks(250),
            data: Bytes::from_static(data),
        })
    };
    let part = |part| {
        Record::Part(PartEnd {
            duration: Ticks(500),
            flags: PartFlags::default(),
            hint: Hint {
                msn: Msn(msn),
                part,
            },
            siblings: Arc::from([]),
        })
    };
    vec![
        Record::Open(head(msn)),
        chunk(b"a"),
        chunk(b"b"),
        part(1),
        chunk(b"c"),
        part(2),
    ]
}

fn drain(window: &Window, cursor: &mut Cursor) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        match window.step(cursor) {
            Step::Wait => return steps,
            Step::Ended => {
                steps.push(Step::Ended);
                return steps;
            }
            step => steps.push(step),
        }
    }
}

#[test]
fn a_follower_reads_exactly_the_records_that_were_written() {
    let window = window();
    let mut cursor = Cursor::at(Msn(4));
    let mut read = Vec::new();
    let mut written = Vec::new();
    for msn in 4..7 {
        for record in segment(msn) {
            window.apply(record.clone()).unwrap();
            written.push(Step::Record(record));
            // Whatever the moment at which it looks.
            if msn == 5 {
                read.extend(drain(&window, &mut cursor));
            }
        }
        written.push(Step::Record(Record::End(window.complete().unwrap())));
    }
    window.end();
    written.push(Step::Ended);
    read.extend(drain(&window, &mut cursor));
    assert_eq!(read, written);
}

#[test]
fn a_follower_in_mid_segment_starts_at_its_chunk() {
    let window = window();
    segment(4)
        .into_iter()
        .for_each(|record| window.apply(record).unwrap());
    let mut cursor = Cursor::within(Msn(4), 2, 1);
    let steps = drain(&window, &mut cursor);
    let expected: Vec<_> = [0, 4, 5]
        .map(|at| Step::Record(segment(4)[at].clone()))
        .into();
    assert_eq!(steps, expected);
}

#[test]
fn a_follower_that_fell_behind_is_told_what_it_missed() {
    let window = window();
    for msn in 0..30 {
        segment(msn)
            .into_iter()
            .for_each(|record| window.apply(record).unwrap());
        window.complete().unwrap();
    }
    let oldest = window.look(|log| log.oldest().unwrap().head.msn);
    let mut cursor = Cursor::at(Msn(3));
    assert_eq!(
        window.step(&mut cursor),
        Step::Skipped {
            from: Msn(3),
            to: oldest
        }
    );
    assert_eq!(
        window.step(&mut cursor),
        Step::Record(Record::Open(head(oldest.0)))
    );
    assert_eq!(
        window.gone(Msn(3)),
        Some(Gone {
            first: Some(oldest)
        })
    );
}

#[test]
fn a_followers_unread_bytes_count_while_a_newer_segment_has_media() {
    let window = window();
    let mut cursor = Cursor::at(Msn(4));
    let write = |msn| {
        segment(msn)
            .into_iter()
            .for_each(|record| window.apply(record).unwrap());
    };
    write(4);
    window.step(&mut cursor);
    window.step(&mut cursor);
    assert_eq!(window.unread_bytes(&cursor), 0, "nowhere to go");
    window.complete().unwrap();
    window.apply(Record::Open(head(5))).unwrap();
    assert_eq!(window.unread_bytes(&cursor), 0, "no sync sample yet");
    segment(5)
        .into_iter()
        .skip(1)
        .for_each(|record| window.apply(record).unwrap());
    // One of the three chunks of segment 4 was read.
    assert_eq!(window.unread_bytes(&cursor), 2 + 3);
    assert_eq!(window.unread_bytes(&Cursor::at(Msn(5))), 0);
}

#[test]
fn an_aborted_segment_never_ends_for_its_follower() {
    let window = window();
    segment(4)
        .into_iter()
        .for_each(|record| window.apply(record).unwrap());
    window.abort();
    let mut cursor = Cursor::at(Msn(4));
    assert_eq!(drain(&window, &mut cursor).last(), Some(&Step::Aborted));
    assert_eq!(cursor, Cursor::at(Msn(5)));
}

#[tokio::test]
async fn versions_tick_with_parts_and_appended_with_chunks() {
    let window = window();
    let (mut versions, mut appended) = (window.versions(), window.appended());
    for record in segment(4) {
        let is_chunk = matches!(record, Record::Chunk(_));
        window.apply(record).unwrap();
        assert_eq!(versions.has_changed().unwrap(), !is_chunk);
        assert!(appended.has_changed().unwrap());
        versions.mark_unchanged();
        appended.mark_unchanged();
    }
    assert_eq!(window.listing().unwrap().version.parts, 2);
}
