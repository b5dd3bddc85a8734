//! The log of one track: an append-only run of segments, each open, complete
//! or aborted, with the rule for what of it is listed. Pure: no clock, no lock.
//!
//! Invariants: msns rise; at most the last segment is open; what is listed is a
//! function of the records alone, so two nodes with the same records list the
//! same. Bytes may be missing where a node learnt of a segment from an index or
//! let them go ([`Log::let_go`]); the listing does not show it. What the past
//! costs is bounded: at most [`MAX_LISTED_SEGMENTS`], and past
//! [`Plan::recent_ms`] a segment without bytes is a head and its sums.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    plan::{Plan, Track},
    record::{Hint, PartFlags, Position, Record, SegmentEnd, SegmentHead},
    segment::{Part, Place, Segment, SegmentState},
};
use crate::{
    media::Ticks,
    names::{Epoch, InitId, Msn},
};

/// Segments listed at most, however short they are: what one INDEX of the link
/// holds (1,024), with room for the one that is open.
pub const MAX_LISTED_SEGMENTS: usize = 1_000;

/// A record that does not follow from the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("segment {new} opens after {last}, whose number is not lower or which is still open")]
    OutOfOrder { last: Msn, new: Msn },
    #[error("a chunk, part or end arrived and no segment is open")]
    NothingOpen,
    #[error("segment {msn} ends with {got:?}, its records add up to {expected:?}")]
    WrongSum {
        msn: Msn,
        got: SegmentEnd,
        expected: SegmentEnd,
    },
    #[error("segment {msn} ends with {chunks} chunks outside any part")]
    LooseChunks { msn: Msn, chunks: u32 },
    #[error("segment {msn} already has the most parts or chunks that a segment may have")]
    TooLong { msn: Msn },
}

/// How far a playlist has come. Playlists of equal version are equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub epoch: Epoch,
    pub msn: Msn,
    pub parts: u32,
    pub complete: bool,
    pub ended: bool,
}

/// What a request for a part finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartLookup {
    Ready(Bytes),
    /// Known by index; its bytes are this stretch of the segment.
    NotHeld {
        offset_bytes: u64,
        len_bytes: u64,
    },
    /// The part that comes next, or the first one of the next segment.
    Hinted,
    /// It will never exist, is long gone, or nobody promised it.
    Unknown,
}

/// One segment as a playlist shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSegment {
    pub head: SegmentHead,
    pub duration: Ticks,
    pub complete: bool,
    /// Empty once the segment lies more than three target durations back (H9).
    pub parts: Vec<ListedPart>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedPart {
    pub duration: Ticks,
    pub flags: PartFlags,
}

/// Everything a media playlist is rendered from, beside plan and track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub version: Version,
    pub segments: Vec<ListedSegment>,
    pub hint: Hint,
    /// The epoch and init segment that the hinted part belongs to.
    pub hint_epoch: Epoch,
    pub hint_init: InitId,
    pub siblings: Arc<[Position]>,
    pub ended: bool,
}

/// A complete segment whose bytes are in the window and need not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aged {
    pub msn: Msn,
    /// Its bytes, part by part.
    pub parts: Vec<Bytes>,
}

/// Why a reader cannot have what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    pub first: Option<Msn>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Log {
    window: Ticks,
    parts_listed: Ticks,
    recent: Ticks,
    segments: VecDeque<Segment>,
    /// Nothing before it is listed.
    listed_from: Msn,
    /// Index of the first listed segment: it changes where a segment is
    /// completed or aborted, and not with each part.
    first_listed: usize,
    /// The first segment that is not older than `recent`.
    recent_from: Msn,
    held_bytes: u64,
    ended: bool,
}

impl Log {
    #[must_use]
    pub fn new(plan: &Plan, track: &Track) -> Self {
        Self {
            window: track.timescale.from_ms(plan.window_ms.into()),
            parts_listed: track.timescale.from_ms(plan.parts_listed_ms().into()),
            recent: track.timescale.from_ms(plan.recent_ms().into()),
            segments: VecDeque::new(),
            listed_from: Msn(0),
            first_listed: 0,
            recent_from: Msn(0),
            held_bytes: 0,
            ended: false,
        }
    }

    /// Appends one record. An `End` is checked against what came before it.
    ///
    /// # Errors
    /// [`LogError`] when the record does not follow; the log is unchanged.
    pub fn apply(&mut self, record: Record) -> Result<(), LogError> {
        match record {
            Record::Open(head) => self.open(head),
            Record::Chunk(chunk) => {
                let len_bytes = chunk.data.len() as u64;
                self.open_segment()?.push(chunk)?;
                self.held_bytes += len_bytes;
                Ok(())
            }
            Record::Part(end) => self.open_segment()?.close_part(end),
            Record::End(got) => {
                let segment = self.open_segment()?;
                let expected = segment.sum();
                if got != expected {
                    return Err(LogError::WrongSum {
                        msn: segment.head.msn,
                        got,
                        expected,
                    });
                }
                self.complete().map(drop)
            }
        }
    }

    fn open(&mut self, head: SegmentHead) -> Result<(), LogError> {
        if let Some(last) = self.segments.back()
            && (last.state == SegmentState::Open || head.msn <= last.head.msn)
        {
            return Err(LogError::OutOfOrder {
                last: last.head.msn,
                new: head.msn,
            });
        }
        self.segments.push_back(Segment::new(head));
        Ok(())
    }

    fn open_segment(&mut self) -> Result<&mut Segment, LogError> {
        match self.segments.back_mut() {
            Some(segment) if segment.state == SegmentState::Open => Ok(segment),
            _ => Err(LogError::NothingOpen),
        }
    }

    /// Completes the open segment and lets what left the window go.
    ///
    /// # Errors
    /// [`LogError::NothingOpen`], or [`LogError::LooseChunks`] when chunks
    /// follow the last part.
    pub fn complete(&mut self) -> Result<SegmentEnd, LogError> {
        let end = self.open_segment()?.complete()?;
        self.trim();
        Ok(end)
    }

    /// Marks the open segment as one that nobody will finish, if there is one.
    pub fn abort(&mut self) {
        if let Ok(segment) = self.open_segment() {
            segment.state = SegmentState::Aborted;
            self.first_listed = self.find_first_listed();
        }
    }

    /// Nothing follows any more: ENDLIST.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Takes over what a parent lists before the segment it sends next: the
    /// segments that are not held here are known by index; what the parent no
    /// longer lists stays readable and is not listed (design: a restarted
    /// origin's index begins at its first segment after the restart).
    pub fn seed(&mut self, index: Vec<Segment>, next: Msn) {
        self.listed_from = index.first().map_or(next, |first| first.head.msn);
        self.segments
            .retain(|held| held.head.msn <= next && held.state != SegmentState::Aborted);
        for segment in index {
            let at = self
                .segments
                .partition_point(|held| held.head.msn < segment.head.msn);
            match self.segments.get(at) {
                Some(held) if held.head == segment.head && held.is_complete() => {}
                Some(held) if held.head.msn == segment.head.msn => {
                    if let Some(place) = self.segments.get_mut(at) {
                        *place = segment;
                    }
                }
                _ => self.segments.insert(at, segment),
            }
        }
        // A segment before `next` that is still open was cut off for good.
        self.segments
            .retain(|held| held.is_complete() || held.head.msn >= next);
        self.held_bytes = self.segments.iter().map(Segment::held_bytes).sum();
        self.trim();
    }

    /// Drops what is neither listed nor was so three target durations ago, and
    /// of what is not recent all that nobody asks for.
    fn trim(&mut self) {
        let first = self.find_first_listed();
        let mut beyond = Ticks(0);
        let mut keep_from = first;
        while keep_from > 0 && beyond < self.parts_listed && first - keep_from < MAX_LISTED_SEGMENTS
        {
            keep_from -= 1;
            beyond += self.segments[keep_from].duration();
        }
        let dropped = self.segments.drain(..keep_from);
        self.held_bytes -= dropped.map(|segment| segment.held_bytes()).sum::<u64>();
        self.first_listed = first - keep_from;
        let mut age = Ticks(0);
        for segment in self.segments.iter_mut().rev() {
            if age <= self.recent {
                self.recent_from = segment.head.msn;
            } else if segment.held_bytes() == 0 && segment.is_complete() {
                segment.sum_up();
            }
            age += segment.duration();
        }
    }

    /// Complete segments of which the bytes are here, although they begin more
    /// than `age` before the end of the newest part; oldest first.
    #[must_use]
    pub fn aged(&self, age: Ticks) -> Vec<Aged> {
        let mut from_end = Ticks(0);
        let mut aged = Vec::new();
        for segment in self.segments.iter().rev() {
            from_end += segment.duration();
            if from_end > age && segment.is_complete() && segment.held_bytes() > 0 {
                let parts = segment.parts.iter().filter_map(|part| part.data.clone());
                aged.push(Aged {
                    msn: segment.head.msn,
                    parts: parts.filter(|data| !data.is_empty()).collect(),
                });
            }
        }
        aged.reverse();
        aged
    }

    /// Frees the bytes of a segment that is not open, which are in `to` from now on.
    /// The listing stays what it was.
    pub fn let_go(&mut self, msn: Msn, to: Place) {
        let at = self.position(msn);
        let segment = at.and_then(|at| self.segments.get_mut(at));
        let closed = |found: &&mut Segment| found.state != SegmentState::Open && found.is_held();
        if let Some(segment) = segment.filter(closed) {
            self.held_bytes -= segment.held_bytes();
            segment.let_go(to);
        }
    }

    /// The shortest run of complete segments at the end that fills the window,
    /// and never fewer than six (H2) nor more than an index holds.
    fn find_first_listed(&self) -> usize {
        let mut total = Ticks(0);
        let mut count = 0;
        let mut first = self.segments.len();
        for (at, segment) in self.segments.iter().enumerate().rev() {
            if segment.head.msn < self.listed_from
                || segment.state == SegmentState::Aborted
                || (total >= self.window && count >= 6)
                || count >= MAX_LISTED_SEGMENTS
            {
                break;
            }
            first = at;
            if segment.is_complete() {
                total += segment.duration();
                count += 1;
            }
        }
        first
    }

    /// `None` until a segment was opened.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let last = self
            .segments
            .iter()
            .rev()
            .find(|s| s.state != SegmentState::Aborted)?;
        Some(Version {
            epoch: last.head.epoch,
            msn: last.head.msn,
            parts: u32::try_from(last.parts.len()).unwrap_or(u32::MAX),
            complete: last.is_complete(),
            ended: self.ended,
        })
    }

    /// What a playlist lists now; `None` until a part was closed.
    #[must_use]
    pub fn listing(&self) -> Option<Listing> {
        let version = self.version()?;
        let first = self.first_listed;
        let parts_from = self.first_with_parts();
        let mut segments = Vec::with_capacity(self.segments.len() - first);
        for (at, segment) in self.segments.iter().enumerate().skip(first) {
            if segment.parts.is_empty() && !segment.is_summed() {
                continue;
            }
            segments.push(ListedSegment {
                head: segment.head,
                duration: segment.duration(),
                complete: segment.is_complete(),
                parts: if at >= parts_from {
                    listed_parts(segment)
                } else {
                    Vec::new()
                },
            });
        }
        let last_part = self
            .segments
            .iter()
            .skip(first)
            .rev()
            .find_map(|s| s.parts.last())?;
        let last = self
            .segments
            .iter()
            .rev()
            .find(|s| s.head.msn == version.msn)?;
        Some(Listing {
            version,
            segments,
            hint: self.hint()?,
            hint_epoch: last.head.epoch,
            hint_init: last.head.init,
            siblings: last_part.end.siblings.clone(),
            ended: self.ended,
        })
    }

    /// Index of the first segment whose parts are listed (H9).
    fn first_with_parts(&self) -> usize {
        let mut from_end = Ticks(0);
        let mut first = self.segments.len();
        for (at, segment) in self.segments.iter().enumerate().rev() {
            from_end += segment.duration();
            if from_end > self.parts_listed {
                break;
            }
            first = at;
        }
        first
    }

    fn hint(&self) -> Option<Hint> {
        let last = self
            .segments
            .iter()
            .rev()
            .find(|s| s.state != SegmentState::Aborted)?;
        if last.is_complete() {
            return Some(Hint {
                msn: last.head.msn.next(),
                part: 0,
            });
        }
        Some(last.parts.last().map_or(
            Hint {
                msn: last.head.msn,
                part: 0,
            },
            |part| part.end.hint,
        ))
    }

    #[must_use]
    pub fn segment(&self, msn: Msn) -> Option<&Segment> {
        self.segments.get(self.position(msn)?)
    }

    /// Whether a segment of this epoch that is known here begins with this init
    /// segment. Looks at all of them at worst: [`MAX_LISTED_SEGMENTS`] twice.
    #[must_use]
    pub fn begins_with(&self, epoch: Epoch, init: InitId) -> bool {
        let begins = |segment: &Segment| (segment.head.epoch, segment.head.init) == (epoch, init);
        self.segments.iter().rev().any(begins)
    }

    fn position(&self, msn: Msn) -> Option<usize> {
        let before = |segment: &Segment| segment.head.msn < msn;
        let at = self.segments.partition_point(before);
        (self.segments.get(at)?.head.msn == msn).then_some(at)
    }

    #[must_use]
    pub fn part(&self, epoch: Epoch, msn: Msn, part: u32) -> PartLookup {
        let Some(last) = self.segments.back() else {
            return PartLookup::Unknown;
        };
        let next = Hint { msn, part };
        // The first part of the next segment is promised from the moment a
        // closing predicted it, and it comes even where the prediction was
        // early: only a hint inside a segment can turn out to be wrong.
        let hinted = self.hint() == Some(next) || (part == 0 && msn == last.head.msn.next());
        let Some(segment) = self.segment(msn) else {
            let promised = hinted && !self.ended && epoch == last.head.epoch;
            return if promised {
                PartLookup::Hinted
            } else {
                PartLookup::Unknown
            };
        };
        if segment.head.epoch != epoch {
            return PartLookup::Unknown;
        }
        match segment.parts.get(part as usize) {
            Some(Part {
                data: Some(data),
                end,
                ..
            }) if !end.flags.gap => PartLookup::Ready(data.clone()),
            Some(Part {
                data: None,
                end,
                offset_bytes,
                len_bytes,
                ..
            }) if !end.flags.gap => PartLookup::NotHeld {
                offset_bytes: *offset_bytes,
                len_bytes: *len_bytes,
            },
            None if hinted && segment.state == SegmentState::Open => PartLookup::Hinted,
            _ => PartLookup::Unknown,
        }
    }

    /// Complete segments that are listed and come before `before`: the answer
    /// to a subscription or to INDEX.
    pub fn index(&self, before: Msn) -> impl Iterator<Item = &Segment> {
        self.segments
            .iter()
            .skip(self.first_listed)
            .take_while(move |segment| segment.head.msn < before)
            .filter(|segment| segment.is_complete())
    }

    /// The newest segment, open or not.
    #[must_use]
    pub fn newest(&self) -> Option<&Segment> {
        self.segments.back()
    }

    #[must_use]
    pub fn oldest(&self) -> Option<&Segment> {
        self.segments.front()
    }

    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Segments known, with bytes or without.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes of the chunks held from the `chunk`th of `msn` on.
    #[must_use]
    pub fn bytes_from(&self, msn: Msn, chunk: u32) -> u64 {
        let ahead = self.segments.iter().rev();
        let ahead = ahead.take_while(|segment| segment.head.msn >= msn);
        let unread = |segment: &Segment| {
            let read = if segment.head.msn == msn { chunk } else { 0 };
            let chunks = segment.chunks.get(read as usize..).unwrap_or_default();
            chunks.iter().map(|one| one.data.len() as u64).sum::<u64>()
        };
        ahead.map(unread).sum()
    }

    /// Bytes of all chunks held.
    #[must_use]
    pub const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The first segment that began no longer than [`Plan::recent_ms`] ago.
    #[must_use]
    pub const fn recent_from(&self) -> Msn {
        self.recent_from
    }
}

fn listed_parts(segment: &Segment) -> Vec<ListedPart> {
    let listed = |part: &Part| ListedPart {
        duration: part.end.duration,
        flags: part.end.flags,
    };
    segment.parts.iter().map(listed).collect()
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
