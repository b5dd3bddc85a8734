//! The window of one track: its [`Log`] behind a lock, one writer, many
//! waiters. Everything live writes to a window or waits on one.
//!
//! Two clocks tick: `appended` at every record, for who follows chunks (the
//! link server, a streamed segment), and `version` at every part, for the
//! thousands who hold playlist and part requests. The wall is looked at once a
//! part, to tell its `Age`; the log itself knows no clock.

use std::{sync::Arc, time::Instant};

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    arrivals::Arrivals,
    log::{Aged, Gone, Listing, Log, LogError, PartLookup, Version},
    plan::{Plan, Track},
    record::{Record, SegmentEnd},
    segment::{Place, Segment, SegmentState},
};
use crate::{
    media::Timescale,
    names::{Epoch, Msn},
};

/// See the module's text. Shared by `Arc`; the one writer is who created it.
#[derive(Debug)]
pub struct Window {
    timescale: Timescale,
    log: RwLock<Log>,
    listing: RwLock<Option<Arc<Listing>>>,
    appended: watch::Sender<u64>,
    version: watch::Sender<Option<Version>>,
    arrivals: RwLock<Arrivals>,
}

/// Where a follower stands: everything before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub msn: Msn,
    opened: bool,
    chunk: u32,
    part: u32,
}

/// What a follower reads next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Record(Record),
    /// Nothing yet: wait on [`Window::appended`].
    Wait,
    /// The segment's writer died; the cursor stands at the next segment.
    Aborted,
    /// The cursor's segment is not here (any more): it stands at the first that is.
    Skipped {
        from: Msn,
        to: Msn,
    },
    /// The last record was read and the log has ended.
    Ended,
}

impl Cursor {
    #[must_use]
    pub const fn at(msn: Msn) -> Self {
        Self {
            msn,
            opened: false,
            chunk: 0,
            part: 0,
        }
    }

    /// In the middle of a segment: `parts` of it and `chunk` chunks are known.
    #[must_use]
    pub const fn within(msn: Msn, chunk: u32, parts: u32) -> Self {
        Self {
            msn,
            opened: false,
            chunk,
            part: parts,
        }
    }

    #[must_use]
    pub const fn chunk(&self) -> u32 {
        self.chunk
    }

    #[must_use]
    pub const fn part(&self) -> u32 {
        self.part
    }
}

impl Window {
    #[must_use]
    pub fn new(plan: &Plan, track: &Track) -> Self {
        Self {
            timescale: track.timescale,
            log: RwLock::new(Log::new(plan, track)),
            listing: RwLock::new(None),
            appended: watch::Sender::new(0),
            version: watch::Sender::new(None),
            arrivals: RwLock::default(),
        }
    }

    /// Appends one record and wakes who waits for it.
    ///
    /// # Errors
    /// As [`Log::apply`].
    pub fn apply(&self, record: Record) -> Result<(), LogError> {
        let only_chunk = matches!(record, Record::Chunk(_));
        self.write(!only_chunk, |log| log.apply(record))
    }

    /// Completes the open segment; the sums are the window's own.
    ///
    /// # Errors
    /// As [`Log::complete`].
    pub fn complete(&self) -> Result<SegmentEnd, LogError> {
        self.write(true, Log::complete)
    }

    pub fn abort(&self) {
        self.write(true, Log::abort);
    }

    pub fn end(&self) {
        self.write(true, Log::end);
    }

    /// As [`Log::seed`].
    pub fn seed(&self, index: Vec<Segment>, next: Msn) {
        self.write(true, |log| log.seed(index, next));
    }

    fn write<T>(&self, new_version: bool, change: impl FnOnce(&mut Log) -> T) -> T {
        let (out, listing) = {
            let mut log = self.log.write();
            let out = change(&mut log);
            let news = || (log.version(), log.listing(), log.recent_from());
            (out, new_version.then(news))
        };
        if let Some((version, listing, oldest)) = listing {
            if let Some(version) = version {
                let (msn, parts) = (version.msn, version.parts as usize);
                let mut arrivals = self.arrivals.write();
                arrivals.saw(msn, parts, oldest, Instant::now());
            }
            *self.listing.write() = listing.map(Arc::new);
            self.version.send_replace(version);
        }
        self.appended
            .send_modify(|count| *count = count.wrapping_add(1));
        out
    }

    /// As [`Log::aged`], for an age in milliseconds.
    #[must_use]
    pub fn aged(&self, age_ms: u32) -> Vec<Aged> {
        self.log.read().aged(self.timescale.from_ms(age_ms.into()))
    }

    /// As [`Log::let_go`]. Nobody waits for it: what is listed stays the same.
    pub fn let_go(&self, msn: Msn, to: Place) {
        self.log.write().let_go(msn, to);
    }

    /// Ticks with every record.
    #[must_use]
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    /// Ticks with every opening, part, completion and the end.
    #[must_use]
    pub fn versions(&self) -> watch::Receiver<Option<Version>> {
        self.version.subscribe()
    }

    /// What a playlist lists now; `None` until a part was closed.
    #[must_use]
    pub fn listing(&self) -> Option<Arc<Listing>> {
        self.listing.read().clone()
    }

    #[must_use]
    pub fn part(&self, epoch: Epoch, msn: Msn, part: u32) -> PartLookup {
        self.log.read().part(epoch, msn, part)
    }

    /// Since when this part has been available here, where that is known.
    #[must_use]
    pub fn part_since(&self, msn: Msn, part: u32) -> Option<Instant> {
        self.arrivals.read().part(msn, part)
    }

    /// Since when the newest part of this segment has been available here.
    #[must_use]
    pub fn segment_since(&self, msn: Msn) -> Option<Instant> {
        self.arrivals.read().segment(msn)
    }

    /// Reads the log under its lock: `look` must be short and must not block.
    pub fn look<T>(&self, look: impl FnOnce(&Log) -> T) -> T {
        look(&self.log.read())
    }

    /// The next record for a follower, whose cursor moves past it.
    pub fn step(&self, cursor: &mut Cursor) -> Step {
        let log = self.log.read();
        let Some(segment) = log.segment(cursor.msn) else {
            return missing(&log, cursor);
        };
        if !cursor.opened {
            cursor.opened = true;
            return Step::Record(Record::Open(segment.head));
        }
        if let Some(part) = segment.parts.get(cursor.part as usize)
            && cursor.chunk >= part.first_chunk + part.chunks
        {
            cursor.part += 1;
            return Step::Record(Record::Part(part.end.clone()));
        }
        if let Some(chunk) = segment.chunks.get(cursor.chunk as usize) {
            cursor.chunk += 1;
            return Step::Record(Record::Chunk(chunk.clone()));
        }
        match segment.state {
            SegmentState::Open => Step::Wait,
            SegmentState::Aborted => {
                *cursor = Cursor::at(cursor.msn.next());
                Step::Aborted
            }
            // Bytes that are not held can't be followed; who wants them fetches.
            SegmentState::Complete(end) if end.chunks > cursor.chunk || segment.is_summed() => {
                let from = cursor.msn;
                *cursor = Cursor::at(from.next());
                Step::Skipped {
                    from,
                    to: cursor.msn,
                }
            }
            SegmentState::Complete(end) => {
                *cursor = Cursor::at(cursor.msn.next());
                Step::Record(Record::End(end))
            }
        }
    }

    /// Bytes that are here and that a follower has yet to read; 0 while it
    /// stands in the newest segment that has any.
    #[must_use]
    pub fn unread_bytes(&self, cursor: &Cursor) -> u64 {
        let log = self.log.read();
        let behind = log
            .newest()
            .is_some_and(|newest| newest.head.msn > cursor.msn && !newest.chunks.is_empty());
        if behind {
            log.bytes_from(cursor.msn, cursor.chunk)
        } else {
            0
        }
    }

    /// Whether `msn` can no longer be read here, and what can.
    #[must_use]
    pub fn gone(&self, msn: Msn) -> Option<Gone> {
        let log = self.log.read();
        let first = log.oldest().map(|segment| segment.head.msn);
        (first.is_some_and(|first| msn < first)).then_some(Gone { first })
    }
}

fn missing(log: &Log, cursor: &mut Cursor) -> Step {
    let newest = log.newest().map(|segment| segment.head.msn);
    if newest.is_none_or(|newest| cursor.msn > newest) {
        return if log.is_ended() {
            Step::Ended
        } else {
            Step::Wait
        };
    }
    let from = cursor.msn;
    let mut to = from.next();
    while log.segment(to).is_none() && newest.is_some_and(|newest| to < newest) {
        to = match log.oldest() {
            Some(oldest) if oldest.head.msn > to => oldest.head.msn,
            _ => to.next(),
        };
    }
    *cursor = Cursor::at(to);
    Step::Skipped { from, to }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
