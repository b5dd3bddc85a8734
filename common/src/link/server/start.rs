//! Where a subscription begins: a pure choice over a track's log.

use crate::{
    link::message::Start,
    live::{Log, Segment, SegmentState},
    media::Ticks,
    names::Msn,
};

/// A log holds some thousand segments; a request may not make us count further.
const MAX_STEPS: usize = 4096;

/// The first segment to stream and its first chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct First {
    pub(super) msn: Msn,
    pub(super) chunk: u32,
}

/// The segment that is open, or that opens next.
pub(super) fn live(log: &Log) -> Msn {
    match log.newest() {
        Some(newest) if newest.state == SegmentState::Open => newest.head.msn,
        Some(newest) => newest.head.msn.next(),
        None => Msn(0),
    }
}

/// How long ago a segment ended, on the track's own clock.
pub(super) fn age(log: &Log, segment: &Segment) -> Ticks {
    let end = |segment: &Segment| segment.head.dts + segment.duration();
    log.newest()
        .map_or(Ticks(0), |newest| end(newest).saturating_sub(end(segment)))
}

/// As asked, unless that is no longer held whole, older than `max_age`, or
/// ahead of what there is.
pub(super) fn choose(log: &Log, start: Start, max_age: Ticks) -> First {
    let live = live(log);
    let Start::At { msn, chunk } = start else {
        return First {
            msn: live,
            chunk: 0,
        };
    };
    if msn > live {
        return First {
            msn: live,
            chunk: 0,
        };
    }
    let oldest = log.oldest().map_or(live, |oldest| oldest.head.msn);
    let mut first = msn.max(oldest.min(live));
    for at in std::iter::successors(Some(first), |at| Some(at.next())).take(MAX_STEPS) {
        if at >= live {
            break;
        }
        let sendable = log
            .segment(at)
            .is_some_and(|segment| is_held(segment) && age(log, segment) <= max_age);
        if !sendable {
            first = at.next();
        }
    }
    First {
        msn: first,
        chunk: if first == msn { chunk } else { 0 },
    }
}

/// Whether every chunk of a segment is here.
pub(super) fn is_held(segment: &Segment) -> bool {
    match segment.state {
        SegmentState::Open => true,
        SegmentState::Complete(_) => segment.is_held() && !segment.is_summed(),
        SegmentState::Aborted => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::{
            Chunk, Hint, PartEnd, PartFlags, Plan, Record, SegmentFlags, SegmentHead, Track, UnixMs,
        },
        media::Timescale,
        names::{Epoch, InitId, TrackName},
    };

    const SECOND: Ticks = Ticks(120_000);

    fn log() -> Log {
        let plan = Plan {
            target_duration_s: 2,
            part_hold_back_ms: 1_200,
            window_ms: 16_000,
        };
        let track = Track {
            name: TrackName::video(0),
            codec: String::new(),
            timescale: Timescale::VIDEO,
            part_target: SECOND,
            bandwidth_bps: 0,
            average_bandwidth_bps: 0,
            size: None,
            frame_rate: None,
            channels: None,
            sample_rate_hz: None,
        };
        Log::new(&plan, &track)
    }

    fn open(log: &mut Log, msn: u64) {
        log.apply(Record::Open(SegmentHead {
            epoch: Epoch(1),
            msn: Msn(msn),
            init: InitId(0),
            dts: Ticks(msn * SECOND.0),
            program_time: UnixMs(0),
            discontinuity_sequence: 0,
            flags: SegmentFlags::default(),
        }))
        .unwrap();
        let chunk = Chunk {
            duration: SECOND,
            data: "chunk".into(),
        };
        log.apply(Record::Chunk(chunk)).unwrap();
        let end = PartEnd {
            duration: SECOND,
            flags: PartFlags::default(),
            hint: Hint {
                msn: Msn(msn + 1),
                part: 0,
            },
            siblings: [].into(),
        };
        log.apply(Record::Part(end)).unwrap();
    }

    /// Segments 10 to 15, the last one open.
    fn filled() -> Log {
        let mut log = log();
        for msn in 10..16 {
            open(&mut log, msn);
            if msn < 15 {
                log.complete().unwrap();
            }
        }
        log
    }

    fn from(log: &Log, msn: u64, chunk: u32, max_age_s: u64) -> (u64, u32) {
        let start = Start::At {
            msn: Msn(msn),
            chunk,
        };
        let first = choose(log, start, Ticks(max_age_s * SECOND.0));
        (first.msn.0, first.chunk)
    }

    #[test]
    fn a_newcomer_begins_with_the_open_segment() {
        let first = choose(&filled(), Start::Live, SECOND);
        assert_eq!((first.msn, first.chunk), (Msn(15), 0));
        let nothing = choose(&log(), Start::Live, SECOND);
        assert_eq!(nothing.msn, Msn(0));
    }

    #[test]
    fn a_resumption_goes_on_where_it_stood() {
        let log = filled();
        assert_eq!(from(&log, 13, 1, 10), (13, 1));
        assert_eq!(from(&log, 15, 1, 10), (15, 1));
    }

    #[test]
    fn the_next_segment_may_not_be_open_yet() {
        let mut log = filled();
        log.complete().unwrap();
        assert_eq!(from(&log, 16, 0, 10), (16, 0));
    }

    #[test]
    fn what_is_too_old_gone_or_ahead_is_not_sent() {
        let log = filled();
        // 12 ended three seconds before the newest second does.
        assert_eq!(from(&log, 11, 1, 3), (12, 0));
        assert_eq!(from(&log, 3, 1, 10), (10, 0));
        assert_eq!(from(&log, 99, 1, 10), (15, 0));
        assert_eq!(from(&log, u64::MAX, 1, 10), (15, 0));
    }

    #[test]
    fn what_is_known_by_index_only_is_not_sent() {
        let source = filled();
        let index = crate::link::Index::of(Msn(15), source.index(Msn(15)));
        let mut child = log();
        child.seed(index.into_segments(), Msn(15));
        open(&mut child, 15);
        assert_eq!(from(&child, 12, 0, 10), (15, 0));
    }
}
