//! One segment while it grows and after: its parts, its chunks, its sums.

use bytes::{Bytes, BytesMut};

use super::{
    archive::Archived,
    log::LogError,
    record::{Chunk, PartEnd, SegmentEnd, SegmentHead},
};
use crate::media::Ticks;

/// How a segment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentState {
    Open,
    Complete(SegmentEnd),
    /// Its writer died: never listed as complete, never cached.
    Aborted,
}

/// A closed part and where its bytes lie in the segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub end: PartEnd,
    pub first_chunk: u32,
    pub chunks: u32,
    pub offset_bytes: u64,
    pub len_bytes: u64,
    /// `None` where the bytes are not in this window (any more).
    pub data: Option<Bytes>,
}

/// Where the bytes of a segment are.
#[derive(Debug, Clone)]
pub enum Place {
    /// In its chunks and parts.
    Window,
    /// The window let them go, and the archive of this node took them.
    Archive(Archived),
    /// Not known here: its index was told, or the window let them go.
    Elsewhere,
}

/// A segment: its head, the closed parts, and the chunks where they are held.
#[derive(Debug, Clone)]
pub struct Segment {
    pub head: SegmentHead,
    /// Empty again once nobody asks for a part of it any more.
    pub parts: Vec<Part>,
    /// All chunks from the first; empty where the window holds no bytes of it.
    pub chunks: Vec<Chunk>,
    pub state: SegmentState,
    place: Place,
    duration: Ticks,
    crc32c: u32,
    len_bytes: u64,
}

/// Four hours of 60 frames a second never reach it: the cap is for a peer that
/// sends records without end.
const MAX_RECORDS_PER_SEGMENT: usize = 1 << 16;

impl Segment {
    #[must_use]
    pub fn new(head: SegmentHead) -> Self {
        Self {
            head,
            parts: Vec::new(),
            chunks: Vec::new(),
            state: SegmentState::Open,
            place: Place::Window,
            duration: Ticks(0),
            crc32c: 0,
            len_bytes: 0,
        }
    }

    /// A segment known by its index only: parts carry lengths and no data.
    #[must_use]
    pub fn indexed(head: SegmentHead, parts: Vec<Part>, end: SegmentEnd) -> Self {
        let duration = parts.iter().map(|part| part.end.duration).sum();
        Self {
            parts,
            ..Self::summed(head, duration, end)
        }
    }

    /// A segment of the past, of which nobody knows the parts any more.
    #[must_use]
    pub fn summed(head: SegmentHead, duration: Ticks, end: SegmentEnd) -> Self {
        Self {
            head,
            parts: Vec::new(),
            chunks: Vec::new(),
            state: SegmentState::Complete(end),
            place: Place::Elsewhere,
            duration,
            crc32c: end.crc32c,
            len_bytes: end.bytes,
        }
    }

    #[must_use]
    pub const fn duration(&self) -> Ticks {
        self.duration
    }

    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.state, SegmentState::Complete(_))
    }

    /// Whether every byte so far is in this window.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        matches!(self.place, Place::Window)
    }

    /// Whether only the sum of its parts is known.
    #[must_use]
    pub fn is_summed(&self) -> bool {
        self.parts.is_empty() && self.duration > Ticks(0)
    }

    /// Bytes of it that this window keeps in memory.
    pub(super) const fn held_bytes(&self) -> u64 {
        if self.is_held() { self.len_bytes } else { 0 }
    }

    /// Takes the bytes out of the window. Its parts stay known.
    pub(super) fn let_go(&mut self, to: Place) {
        self.chunks = Vec::new();
        for part in &mut self.parts {
            part.data = None;
        }
        self.place = to;
    }

    /// Forgets the parts and keeps their sum.
    pub(super) fn sum_up(&mut self) {
        self.parts = Vec::new();
    }

    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn chunks_in_parts(&self) -> u32 {
        self.parts
            .last()
            .map_or(0, |part| part.first_chunk + part.chunks)
    }

    fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunks.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn push(&mut self, chunk: Chunk) -> Result<(), LogError> {
        if self.chunks.len() >= MAX_RECORDS_PER_SEGMENT {
            return Err(LogError::TooLong { msn: self.head.msn });
        }
        self.crc32c = crc32c::crc32c_append(self.crc32c, &chunk.data);
        self.len_bytes += chunk.data.len() as u64;
        self.chunks.push(chunk);
        Ok(())
    }

    /// A part's chunks become slices of one allocation, so that a viewer's
    /// response is one buffer and the chunks cost nothing beside it.
    pub(super) fn close_part(&mut self, end: PartEnd) -> Result<(), LogError> {
        if self.parts.len() >= MAX_RECORDS_PER_SEGMENT {
            return Err(LogError::TooLong { msn: self.head.msn });
        }
        let first_chunk = self.chunks_in_parts();
        let chunks = self.chunk_count().saturating_sub(first_chunk);
        let fresh = self
            .chunks
            .get_mut(first_chunk as usize..)
            .unwrap_or_default();
        let data = gather(fresh);
        let len_bytes = data.len() as u64;
        self.duration += end.duration;
        self.parts.push(Part {
            end,
            first_chunk,
            chunks,
            offset_bytes: self.len_bytes - len_bytes,
            len_bytes,
            data: Some(data),
        });
        Ok(())
    }

    /// The sums over what was appended: what [`SegmentEnd`] must say.
    #[must_use]
    pub fn sum(&self) -> SegmentEnd {
        SegmentEnd {
            chunks: self.chunk_count(),
            bytes: self.len_bytes,
            crc32c: self.crc32c,
        }
    }

    pub(super) fn complete(&mut self) -> Result<SegmentEnd, LogError> {
        let loose = self.chunk_count().saturating_sub(self.chunks_in_parts());
        if loose > 0 {
            return Err(LogError::LooseChunks {
                msn: self.head.msn,
                chunks: loose,
            });
        }
        let end = self.sum();
        self.state = SegmentState::Complete(end);
        Ok(end)
    }
}

fn gather(chunks: &mut [Chunk]) -> Bytes {
    if let [only] = chunks {
        return only.data.clone();
    }
    let mut all = BytesMut::with_capacity(chunks.iter().map(|chunk| chunk.data.len()).sum());
    for chunk in chunks.iter() {
        all.extend_from_slice(&chunk.data);
    }
    let all = all.freeze();
    let mut from = 0;
    for chunk in chunks {
        let to = from + chunk.data.len();
        chunk.data = all.slice(from..to);
        from = to;
    }
    all
}
