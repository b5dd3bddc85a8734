//! The link's primitives: QUIC varints (RFC 9000, 16), bounded strings and
//! lists, and the cursor that reads them out of a message's body.
//!
//! Invariant: nothing is allocated for a length or a count before the bytes
//! that it speaks of are there, and no input panics.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::names::{ChannelName, Epoch, InitId, Msn, NodeId, TrackName};

/// The largest number a varint carries.
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// Why bytes are not a message of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("{message}: ends inside {field}")]
    Truncated {
        message: &'static str,
        field: &'static str,
    },
    #[error("{message}: {field} is {got}, at most {most} is allowed")]
    TooMuch {
        message: &'static str,
        field: &'static str,
        got: u64,
        most: u64,
    },
    #[error("{message}: {field} has no meaning")]
    Invalid {
        message: &'static str,
        field: &'static str,
    },
    #[error("a message of type {got:#x} where {expected} is due")]
    Unexpected { got: u64, expected: &'static str },
    #[error("the stream ends inside a message")]
    Cut,
}

/// Bytes that [`put_int`] takes for `value`.
#[must_use]
pub const fn int_len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends a varint in its shortest form. Numbers past [`VARINT_MAX`] exist
/// only by a bug of ours and become it: no clock and no counter gets there.
#[expect(
    clippy::cast_possible_truncation,
    reason = "each branch is as wide as its range"
)]
pub fn put_int(out: &mut BytesMut, value: u64) {
    match int_len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(0x4000 | value as u16),
        4 => out.put_u32(0x8000_0000 | value as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | value.min(VARINT_MAX)),
    }
}

pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_int(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn put_str(out: &mut BytesMut, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// An optional number: 0, or the number plus one.
pub fn put_option(out: &mut BytesMut, value: Option<u64>) {
    put_int(out, value.map_or(0, |value| value.saturating_add(1)));
}

/// A varint at the front of `bytes` and its length, or `None` while it is
/// not all there.
#[must_use]
pub fn peek_int(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1usize << (first >> 6);
    let rest = bytes.get(1..len)?;
    let start = u64::from(first & 0x3f);
    let value = rest
        .iter()
        .fold(start, |value, byte| (value << 8) | u64::from(*byte));
    Some((value, len))
}

/// Reads the fields of one body. What follows the last known field is an
/// extension of a later version and is ignored.
#[derive(Debug)]
pub struct Fields {
    message: &'static str,
    rest: Bytes,
}

impl Fields {
    #[must_use]
    pub fn new(message: &'static str, body: Bytes) -> Self {
        Self {
            message,
            rest: body,
        }
    }

    /// Whether a later version's fields follow.
    #[must_use]
    pub fn more(&self) -> bool {
        self.rest.has_remaining()
    }

    /// What was not read yet.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        self.rest
    }

    pub fn int(&mut self, field: &'static str) -> Result<u64, WireError> {
        let message = self.message;
        let (value, len) = peek_int(&self.rest).ok_or(WireError::Truncated { message, field })?;
        self.rest.advance(len);
        Ok(value)
    }

    pub fn at_most(&mut self, field: &'static str, most: u64) -> Result<u64, WireError> {
        let got = self.int(field)?;
        if got > most {
            return Err(WireError::TooMuch {
                message: self.message,
                field,
                got,
                most,
            });
        }
        Ok(got)
    }

    pub fn int32(&mut self, field: &'static str) -> Result<u32, WireError> {
        let got = self.at_most(field, u32::MAX.into())?;
        Ok(u32::try_from(got).unwrap_or(u32::MAX))
    }

    pub fn option(&mut self, field: &'static str) -> Result<Option<u64>, WireError> {
        Ok(self.int(field)?.checked_sub(1))
    }

    pub fn option32(&mut self, field: &'static str) -> Result<Option<u32>, WireError> {
        let got = self.at_most(field, u64::from(u32::MAX) + 1)?;
        Ok(got.checked_sub(1).and_then(|got| u32::try_from(got).ok()))
    }

    /// A count of things that take at least `each_bytes` each: no more of them
    /// are allocated for than the body can hold.
    pub fn count(
        &mut self,
        field: &'static str,
        most: usize,
        each_bytes: usize,
    ) -> Result<usize, WireError> {
        let got = self.at_most(field, most as u64)?;
        let message = self.message;
        let got = usize::try_from(got).map_err(|_| WireError::Invalid { message, field })?;
        if got.saturating_mul(each_bytes) > self.rest.len() {
            return Err(WireError::Truncated { message, field });
        }
        Ok(got)
    }

    pub fn bytes(&mut self, field: &'static str, most: usize) -> Result<Bytes, WireError> {
        let len = self.count(field, most, 1)?;
        Ok(self.rest.split_to(len))
    }

    /// Exactly so many bytes, without a length in front.
    pub fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let message = self.message;
        let cut = WireError::Truncated { message, field };
        let bytes = self.rest.first_chunk::<N>().copied().ok_or(cut)?;
        self.rest.advance(N);
        Ok(bytes)
    }

    pub fn text(&mut self, field: &'static str, most: usize) -> Result<String, WireError> {
        let bytes = self.bytes(field, most)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| self.invalid(field))?;
        Ok(text.to_owned())
    }

    pub fn channel(&mut self) -> Result<ChannelName, WireError> {
        let text = self.text("channel", ChannelName::MAX_LEN)?;
        ChannelName::parse(&text).map_err(|_| self.invalid("channel"))
    }

    pub fn node(&mut self, field: &'static str) -> Result<NodeId, WireError> {
        let text = self.text(field, NodeId::MAX_LEN)?;
        NodeId::parse(&text).map_err(|_| self.invalid(field))
    }

    /// `v255` is the longest.
    pub fn track(&mut self, field: &'static str) -> Result<TrackName, WireError> {
        let text = self.text(field, 4)?;
        TrackName::parse(&text).map_err(|_| self.invalid(field))
    }

    pub fn msn(&mut self, field: &'static str) -> Result<Msn, WireError> {
        self.int(field).map(Msn)
    }

    pub fn epoch(&mut self) -> Result<Epoch, WireError> {
        self.int("epoch").map(Epoch)
    }

    pub fn init_id(&mut self) -> Result<InitId, WireError> {
        self.int32("init id").map(InitId)
    }

    #[must_use]
    pub const fn invalid(&self, field: &'static str) -> WireError {
        WireError::Invalid {
            message: self.message,
            field,
        }
    }
}
