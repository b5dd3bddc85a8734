//! Fragments out of bytes that arrive in any split.

use bytes::{Buf, BytesMut};

use super::{BoxError, Fragment, Init, box_at, split_front, traf};

/// Gathers one resource's bytes and hands out each fragment once its mdat is
/// complete. A fragment begins with whatever stood between the last mdat and
/// its moof.
#[derive(Debug, Default)]
pub struct FragmentReader {
    buffer: BytesMut,
    /// Bytes at the buffer's front that are whole boxes already.
    whole: usize,
    after_moof: bool,
}

impl FragmentReader {
    /// # Errors
    /// Bytes that aren't boxes. The reader is of no further use then.
    pub fn push(&mut self, data: &[u8], init: &Init) -> Result<Vec<Fragment>, BoxError> {
        self.buffer.extend_from_slice(data);
        let mut out = Vec::new();
        while let Some(found) = box_at(&self.buffer, self.whole)? {
            if found.body.end > self.buffer.len() {
                break;
            }
            self.whole = found.body.end;
            match &found.name {
                b"moof" => self.after_moof = true,
                b"mdat" if self.after_moof => {
                    let bytes = split_front(&mut self.buffer, self.whole);
                    self.whole = 0;
                    self.after_moof = false;
                    out.push(traf::parse(bytes, init)?);
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// How many bytes wait for the rest of their fragment: 0 at a clean end,
    /// or whole boxes (sidx, emsg) that follow the last fragment.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.remaining() - self.whole + if self.after_moof { self.whole } else { 0 }
    }
}
