//! Where a subscription begins: a pure choice over a track's log.

use crate::{
    link::message::Start,
    live::{Log, Segment, SegmentState},
    media::Ticks,
    names::Msn,
};

/// A log holds some hundred segments; a request may not make us count further.
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
        SegmentState::Complete(end) => segment.chunks.len() == end.chunks as usize,
        SegmentState::Aborted => false,
    }
}
