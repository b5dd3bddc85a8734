//! Bytes of several parts as one frame of a body: a segment leaves in one
//! vectored write, not in one write a part, and no part is copied to join it.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// Shared bytes in the order in which they are sent.
#[derive(Debug, Clone)]
pub(super) enum Slices {
    One(Bytes),
    /// None of them is empty.
    Many {
        slices: VecDeque<Bytes>,
        left: usize,
    },
}

impl Slices {
    /// The bytes from `first` to before `end`.
    pub(super) fn cut(self, first: u64, end: u64) -> Self {
        let slices = match self {
            Self::One(bytes) => VecDeque::from([bytes]),
            Self::Many { slices, .. } => slices,
        };
        let mut at = 0;
        let within = slices.into_iter().filter_map(|bytes| {
            let len = bytes.len() as u64;
            let (from, to) = (first.clamp(at, at + len) - at, end.clamp(at, at + len) - at);
            at += len;
            slice(&bytes, from, to - from)
        });
        Self::from(within.collect::<VecDeque<_>>())
    }
}

impl From<VecDeque<Bytes>> for Slices {
    fn from(mut slices: VecDeque<Bytes>) -> Self {
        slices.retain(|bytes| !bytes.is_empty());
        match slices.len() {
            0 | 1 => Self::One(slices.pop_front().unwrap_or_default()),
            _ => {
                let left = slices.iter().map(Bytes::len).sum();
                Self::Many { slices, left }
            }
        }
    }
}

impl Buf for Slices {
    fn remaining(&self) -> usize {
        match self {
            Self::One(bytes) => bytes.len(),
            Self::Many { left, .. } => *left,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::One(bytes) => bytes,
            Self::Many { slices, .. } => slices.front().map_or(&[], |bytes| bytes),
        }
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::One(bytes) => bytes.chunks_vectored(into),
            Self::Many { slices, .. } => {
                let filled = into.iter_mut().zip(slices);
                filled
                    .map(|(place, bytes)| *place = IoSlice::new(bytes))
                    .count()
            }
        }
    }

    fn advance(&mut self, count: usize) {
        let (slices, left) = match self {
            Self::One(bytes) => return bytes.advance(count),
            Self::Many { slices, left } => (slices, left),
        };
        *left = left.saturating_sub(count);
        let mut count = count;
        while let Some(bytes) = slices.front_mut() {
            if count < bytes.len() {
                bytes.advance(count);
                return;
            }
            count -= bytes.len();
            slices.pop_front();
        }
    }
}

/// `None` where the bytes do not reach: their lengths came from somebody else.
pub(super) fn slice(bytes: &Bytes, offset: u64, len: u64) -> Option<Bytes> {
    let from = usize::try_from(offset).ok()?;
    let to = from.checked_add(usize::try_from(len).ok()?)?;
    (to <= bytes.len()).then(|| bytes.slice(from..to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "abcdefgh";

    fn slices() -> Slices {
        Slices::from(VecDeque::from(["abc", "", "defg", "h"].map(Bytes::from)))
    }

    fn read(mut slices: Slices) -> Bytes {
        slices.copy_to_bytes(slices.remaining())
    }

    #[test]
    fn t5_ranges_cross_parts() {
        for first in 0..TEXT.len() {
            for end in first + 1..=TEXT.len() {
                let cut = slices().cut(first as u64, end as u64);
                assert_eq!(cut.remaining(), end - first);
                assert_eq!(read(cut), TEXT[first..end]);
            }
        }
    }

    #[test]
    fn writes_of_any_length_take_the_bytes_in_their_order() {
        for step in 1..=TEXT.len() {
            let (mut left, mut got) = (slices(), Vec::new());
            while left.has_remaining() {
                let mut vector = [IoSlice::new(&[]); 2];
                let filled = left.chunks_vectored(&mut vector);
                let seen: Vec<u8> = vector[..filled].iter().flat_map(|s| s.to_vec()).collect();
                assert!(seen.starts_with(left.chunk()) && !left.chunk().is_empty());
                let took = step.min(seen.len());
                got.extend_from_slice(&seen[..took]);
                left.advance(took);
                assert_eq!(left.remaining(), TEXT.len() - got.len());
            }
            assert_eq!(got, TEXT.as_bytes());
        }
    }

    #[test]
    fn lengths_of_others_are_not_trusted() {
        let bytes = Bytes::from("abc");
        assert_eq!(slice(&bytes, 1, 2).unwrap(), "bc");
        for (offset, len) in [(1, 3), (4, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(slice(&bytes, offset, len), None);
        }
    }
}
