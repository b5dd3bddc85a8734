//! Cuts a stream's bytes into frames: type, length, body. Pure: bytes in
//! whatever pieces they arrive, whole frames out.
//!
//! Invariant: a frame's length is held against its type's bound before
//! anything is allocated; the body grows with the bytes that came, not with
//! the length that was claimed; each body is an allocation of its own, so that
//! a chunk kept in a window pins nothing else. Unknown types are passed over.

use bytes::{Buf, Bytes, BytesMut};

use super::wire::{VARINT_MAX, WireError, int_len, peek_int, put_int};

/// A chunk holds at most one RTMP message (8 MiB) and its moof.
pub const MAX_CHUNK_BYTES: usize = 8 * 1024 * 1024 + 64 * 1024;

/// ftyp and moov of one track; parameter sets are a few hundred bytes.
pub const MAX_INIT_BYTES: usize = 256 * 1024;

/// The index of a whole window: some thousand parts of about ten bytes each.
pub const MAX_INDEX_BYTES: usize = 1024 * 1024;

/// Any other message.
pub const MAX_CONTROL_BYTES: usize = 16 * 1024;

/// A message of a type that this version doesn't know is read past and not kept.
pub const MAX_SKIPPED_BYTES: u64 = 16 * 1024 * 1024;

/// What is reserved at once for a body: most chunks fit, and a claimed length
/// alone never costs more.
const RESERVE_BYTES: usize = 256 * 1024;

/// Message types. The order has no meaning; gaps are for kin.
pub mod kind {
    pub const ERROR: u64 = 0x00;
    pub const HELLO: u64 = 0x01;
    pub const WATCH: u64 = 0x02;
    pub const LIVE: u64 = 0x03;
    pub const SNAPSHOT: u64 = 0x04;
    pub const GONE: u64 = 0x05;
    pub const GOAWAY: u64 = 0x06;
    pub const INGEST: u64 = 0x07;
    pub const INGEST_GONE: u64 = 0x08;
    pub const ABOUT: u64 = 0x0a;
    pub const AUDIENCE: u64 = 0x0b;
    pub const HEARSAY: u64 = 0x0c;
    pub const SUBSCRIBE: u64 = 0x10;
    pub const OK: u64 = 0x11;
    pub const TRACK: u64 = 0x12;
    pub const INIT: u64 = 0x13;
    pub const INDEX: u64 = 0x14;
    pub const DROPPED: u64 = 0x15;
    pub const ENDED: u64 = 0x16;
    pub const UPDATE: u64 = 0x17;
    pub const STATE: u64 = 0x18;
    pub const SEGMENT: u64 = 0x20;
    pub const CHUNK: u64 = 0x21;
    pub const PART: u64 = 0x22;
    pub const END: u64 = 0x23;
    pub const FETCH: u64 = 0x30;
    pub const LIST: u64 = 0x31;
    pub const CHAT: u64 = 0x40;
    pub const ENTER: u64 = 0x41;
    pub const EXIT: u64 = 0x42;
    pub const COUNTS: u64 = 0x43;
    pub const ASK: u64 = 0x44;
    pub const VERDICT: u64 = 0x45;
    pub const ROOM: u64 = 0x46;
    pub const EVENT: u64 = 0x47;
    pub const ORIGINS: u64 = 0x48;
    pub const CLOSED: u64 = 0x49;
    pub const ROLES: u64 = 0x4c;
    pub const MEMBERS: u64 = 0x4d;
    pub const PRESENT: u64 = 0x4e;
}

/// One message as it lies on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u64,
    pub body: Bytes,
}

impl Frame {
    /// Type, length and body in one piece.
    #[must_use]
    pub fn encode(kind: u64, body: &[u8]) -> Bytes {
        let len = body.len() as u64;
        let mut out = BytesMut::with_capacity(int_len(kind) + int_len(len) + body.len());
        put_int(&mut out, kind);
        put_int(&mut out, len);
        out.extend_from_slice(body);
        out.freeze()
    }
}

/// `None` for a type that this version doesn't know.
const fn most_bytes(kind: u64) -> Option<usize> {
    match kind {
        // The duration in front of the payload.
        kind::CHUNK => Some(MAX_CHUNK_BYTES + 8),
        // Track and id in front of the bytes.
        kind::INIT => Some(MAX_INIT_BYTES + 32),
        kind::INDEX => Some(MAX_INDEX_BYTES),
        kind::ERROR..=kind::INGEST_GONE
        | kind::ABOUT..=kind::HEARSAY
        | kind::SUBSCRIBE..=kind::STATE
        | kind::SEGMENT
        | kind::PART
        | kind::END
        | kind::FETCH
        | kind::LIST
        | kind::CHAT..=kind::CLOSED
        | kind::ROLES..=kind::PRESENT => Some(MAX_CONTROL_BYTES),
        _ => None,
    }
}

#[derive(Debug)]
enum State {
    /// Type and length: at most two varints of eight bytes.
    Header {
        held: [u8; 16],
        len: usize,
    },
    Body {
        kind: u64,
        left: usize,
        body: BytesMut,
    },
    Skip {
        left: u64,
    },
}

/// See the module's text.
#[derive(Debug)]
pub struct Decoder {
    state: State,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            state: State::HEADER,
        }
    }
}

impl State {
    const HEADER: Self = Self::Header {
        held: [0; 16],
        len: 0,
    };
}

impl Decoder {
    /// Takes bytes off the front of `input` until a frame is whole; `None` when
    /// `input` is used up first.
    ///
    /// # Errors
    /// [`WireError::TooMuch`] for a frame longer than its type may be; the
    /// stream can't be read any further.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Frame>, WireError> {
        loop {
            match &mut self.state {
                State::Header { held, len } => {
                    if let Some(next) = header(held, *len)? {
                        self.state = next;
                        continue;
                    }
                    let Some(place) = held.get_mut(*len) else {
                        // Two varints never need more than 16 bytes.
                        return Err(WireError::Cut);
                    };
                    if !input.has_remaining() {
                        return Ok(None);
                    }
                    *place = input.get_u8();
                    *len += 1;
                }
                State::Body { kind, left, body } => {
                    let take = input.split_to(input.len().min(*left));
                    body.extend_from_slice(&take);
                    *left -= take.len();
                    if *left > 0 {
                        return Ok(None);
                    }
                    let frame = Frame {
                        kind: *kind,
                        body: std::mem::take(body).freeze(),
                    };
                    self.state = State::HEADER;
                    return Ok(Some(frame));
                }
                State::Skip { left } => {
                    let take = input
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    input.advance(take);
                    *left -= take as u64;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::HEADER;
                }
            }
        }
    }

    /// Whether the stream may end here.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        matches!(self.state, State::Header { len: 0, .. })
    }
}

fn header(held: &[u8; 16], len: usize) -> Result<Option<State>, WireError> {
    let held = held.get(..len).unwrap_or_default();
    let Some((kind, kind_len)) = peek_int(held) else {
        return Ok(None);
    };
    let Some((body_len, _)) = peek_int(held.get(kind_len..).unwrap_or_default()) else {
        return Ok(None);
    };
    let known = most_bytes(kind);
    let most = known.map_or(MAX_SKIPPED_BYTES, |most| most as u64);
    let left = usize::try_from(body_len).unwrap_or(usize::MAX);
    if body_len > most || body_len > VARINT_MAX {
        return Err(WireError::TooMuch {
            message: "frame",
            field: "length",
            got: body_len,
            most,
        });
    }
    Ok(Some(match known {
        Some(_) => State::Body {
            kind,
            left,
            body: BytesMut::with_capacity(left.min(RESERVE_BYTES)),
        },
        None => State::Skip { left: body_len },
    }))
}
