//! A walker over ISO BMFF boxes (ISO 14496-12) as CMAF uses them.
//!
//! In: the bytes of an init segment, or of parts and segments as they arrive
//! in any split. Out: [`Init`], and a [`Fragment`] per moof+mdat with its
//! samples. It takes any vendor's bytes, so it judges nothing but what it can't
//! read; [`crate::check`] judges. Bounds: a box is at most [`MAX_BOX_BYTES`].

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

mod init;
mod reader;
mod traf;

pub use init::{Init, Kind, parse_init};
pub use reader::FragmentReader;
pub use traf::Fragment;

/// Larger than any chunk of a watchable stream, small enough to buffer.
pub const MAX_BOX_BYTES: usize = 64 << 20;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoxError {
    #[error("box at byte {at} claims {len} bytes")]
    Length { at: usize, len: u64 },
    #[error("`{name}` at byte {at} is cut short")]
    Short { name: String, at: usize },
    #[error("no `{0}` box")]
    Missing(&'static str),
    #[error("sample {index} of the fragment at byte {at} lies outside of its bytes")]
    Sample { index: usize, at: usize },
}

/// One box inside a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxRef {
    pub name: [u8; 4],
    pub at: usize,
    pub body: Range<usize>,
}

impl BoxRef {
    #[must_use]
    pub fn name_text(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// The box at `at`; `None` if its header isn't all there yet.
///
/// # Errors
/// A size that is smaller than its own header (0, "to the end of the file", has
/// no place in a stream) or past [`MAX_BOX_BYTES`].
pub fn box_at(bytes: &[u8], at: usize) -> Result<Option<BoxRef>, BoxError> {
    let Some(mut head) = bytes.get(at..).filter(|rest| rest.len() >= 8) else {
        return Ok(None);
    };
    let short = u64::from(head.get_u32());
    let mut name = [0; 4];
    head.copy_to_slice(&mut name);
    let (len, header) = match short {
        1 if head.len() < 8 => return Ok(None),
        1 => (head.get_u64(), 16),
        len => (len, 8),
    };
    match usize::try_from(len) {
        Ok(size) if size >= header && size <= MAX_BOX_BYTES => Ok(Some(BoxRef {
            name,
            at,
            body: at + header..at + size,
        })),
        _ => Err(BoxError::Length { at, len }),
    }
}

/// The boxes directly inside `range`, which must fill it.
///
/// # Errors
/// A box that leaves `range`.
pub fn children(bytes: &[u8], range: Range<usize>) -> Result<Vec<BoxRef>, BoxError> {
    let end = range.end.min(bytes.len());
    let mut at = range.start;
    let mut out = Vec::new();
    while at < end {
        let inside = bytes.get(..end).unwrap_or_default();
        match box_at(inside, at)? {
            Some(child) if child.body.end <= end => {
                at = child.body.end;
                out.push(child);
            }
            Some(child) => {
                return Err(BoxError::Short {
                    name: child.name_text(),
                    at,
                });
            }
            None => {
                return Err(BoxError::Short {
                    name: "box header".to_owned(),
                    at,
                });
            }
        }
    }
    Ok(out)
}

/// A cursor over one box's body that ends with an error, never a panic.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    name: &'static str,
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(bytes: &'a [u8], found: &BoxRef, name: &'static str) -> Self {
        Self {
            rest: bytes.get(found.body.clone()).unwrap_or_default(),
            name,
            at: found.at,
        }
    }

    fn short(&self) -> BoxError {
        BoxError::Short {
            name: self.name.to_owned(),
            at: self.at,
        }
    }

    pub(crate) fn skip(&mut self, len: usize) -> Result<(), BoxError> {
        self.rest = self.rest.get(len..).ok_or_else(|| self.short())?;
        Ok(())
    }

    pub(crate) fn u8(&mut self) -> Result<u8, BoxError> {
        self.rest.try_get_u8().map_err(|_| self.short())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, BoxError> {
        self.rest.try_get_u32().map_err(|_| self.short())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, BoxError> {
        self.rest.try_get_u64().map_err(|_| self.short())
    }

    pub(crate) fn name(&mut self) -> Result<[u8; 4], BoxError> {
        Ok(self.u32()?.to_be_bytes())
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Splits what arrives into bytes that are whole boxes.
pub(crate) fn split_front(buffer: &mut BytesMut, len: usize) -> Bytes {
    buffer.split_to(len.min(buffer.len())).freeze()
}

#[cfg(test)]
pub(crate) mod tests;
