//! The log of one track: an append-only run of segments, each open, complete
//! or aborted, with the rule for what of it is listed. Pure: no clock, no lock.
//!
//! Invariants: msns rise; at most the last segment is open; what is listed is a
//! function of the records alone, so two nodes with the same records list the
//! same. Bytes may be missing (`data` is `None`) where a node learnt of a
//! segment from an index; the listing does not show it.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    plan::{Plan, Track},
    record::{Hint, PartFlags, Position, Record, SegmentEnd, SegmentHead},
    segment::{Part, Segment, SegmentState},
};
use crate::{
    media::Ticks,
    names::{Epoch, InitId, Msn},
};

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
    segments: VecDeque<Segment>,
    /// Nothing before it is listed.
    listed_from: Msn,
    ended: bool,
}

impl Log {
    #[must_use]
    pub fn new(plan: &Plan, track: &Track) -> Self {
        Self {
            window: track.timescale.from_ms(plan.window_ms.into()),
            parts_listed: track.timescale.from_ms(plan.parts_listed_ms().into()),
            segments: VecDeque::new(),
            listed_from: Msn(0),
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
            Record::Chunk(chunk) => self.open_segment()?.push(chunk),
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
        self.trim();
    }

    fn trim(&mut self) {
        let first_listed = self.first_listed();
        let mut beyond = Ticks(0);
        let mut keep_from = first_listed;
        while keep_from > 0 && beyond < self.parts_listed {
            keep_from -= 1;
            beyond += self.segments[keep_from].duration();
        }
        self.segments.drain(..keep_from);
    }

    /// Index of the first listed segment: the shortest run of complete segments
    /// at the end that fills the window, and never fewer than six (H2).
    fn first_listed(&self) -> usize {
        let mut total = Ticks(0);
        let mut count = 0;
        let mut first = self.segments.len();
        for (at, segment) in self.segments.iter().enumerate().rev() {
            if segment.head.msn < self.listed_from
                || segment.state == SegmentState::Aborted
                || (total >= self.window && count >= 6)
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
        let first = self.first_listed();
        let mut segments = Vec::with_capacity(self.segments.len() - first);
        let mut from_end = Ticks(0);
        for segment in self.segments.iter().skip(first).rev() {
            if segment.parts.is_empty() {
                continue;
            }
            let duration = segment.duration();
            from_end += duration;
            let parts = if from_end <= self.parts_listed {
                listed_parts(segment)
            } else {
                Vec::new()
            };
            let complete = segment.is_complete();
            segments.push(ListedSegment {
                head: segment.head,
                duration,
                complete,
                parts,
            });
        }
        segments.reverse();
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
        let at = self
            .segments
            .partition_point(|segment| segment.head.msn < msn);
        self.segments
            .get(at)
            .filter(|segment| segment.head.msn == msn)
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
        let first = self.first_listed();
        self.segments
            .iter()
            .skip(first)
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
    pub fn held_bytes(&self) -> u64 {
        let held = |segment: &Segment| {
            segment
                .chunks
                .iter()
                .map(|c| c.data.len() as u64)
                .sum::<u64>()
        };
        self.segments.iter().map(held).sum()
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
