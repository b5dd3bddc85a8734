//! WebSocket frames (RFC 6455), the server's side, without I/O.
//!
//! In: bytes as they came, which are unmasked where they lie. Out: whole messages
//! and control frames, lent to the caller, or the code to close with. Nothing is
//! kept between calls but the piece of a frame or message that is not whole yet,
//! bounded by `max_message`. No extension is ever agreed to, so that nothing
//! inflates.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::metrics::Broken;

/// The most that a client may send in one message, fragments together.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// Pieces that one message may come in; a line of chat comes in one.
const MAX_FRAGMENTS: u32 = 4_096;

/// Sixteen bits of length and a mask. Longer ones are too long in any case.
const LONGEST_HEADER: usize = 14;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// Checked to be UTF-8.
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// With the code to answer.
    Close(u16),
}

/// Why a connection is closed, by the code that tells the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WsError {
    pub code: u16,
    pub why: Broken,
}

/// Codes of RFC 6455, 7.4.1, and of IANA's registry.
pub mod code {
    pub const NORMAL: u16 = 1_000;
    pub const PROTOCOL: u16 = 1_002;
    pub const NOT_UTF8: u16 = 1_007;
    pub const POLICY: u16 = 1_008;
    pub const TOO_LONG: u16 = 1_009;
    pub const RESTART: u16 = 1_012;
    pub const TRY_LATER: u16 = 1_013;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opcode {
    Text,
    Binary,
}

/// See the module's text.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    /// The beginning of a frame.
    held: Vec<u8>,
    /// Fragments of a message, and what it is.
    message: Vec<u8>,
    fragments: Option<(Opcode, u32)>,
    /// How much of a text in fragments is known to be UTF-8.
    checked: usize,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    header_len: usize,
    payload_len: usize,
}

const fn protocol() -> WsError {
    WsError {
        code: code::PROTOCOL,
        why: Broken::Frame,
    }
}

const fn not_utf8() -> WsError {
    WsError {
        code: code::NOT_UTF8,
        why: Broken::Utf8,
    }
}

const fn too_long() -> WsError {
    WsError {
        code: code::TOO_LONG,
        why: Broken::TooLong,
    }
}

impl Decoder {
    #[must_use]
    pub const fn new(max_message: usize) -> Self {
        Self {
            max_message,
            held: Vec::new(),
            message: Vec::new(),
            fragments: None,
            checked: 0,
        }
    }

    /// Bytes that wait for more.
    #[cfg(test)]
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.capacity() + self.message.capacity()
    }

    /// Takes all of `input` and lends what is whole to `take`, in order, until it
    /// says no.
    ///
    /// # Errors
    /// [`WsError`]; nothing can be read any more.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        mut take: impl FnMut(Received<'_>) -> bool,
    ) -> Result<(), WsError> {
        if self.held.is_empty() {
            let used = self.frames(input, &mut take)?;
            let rest = input.get(used..).unwrap_or_default();
            self.held.extend_from_slice(rest);
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(input);
        let used = self.frames(&mut held, &mut take)?;
        if used < held.len() {
            held.drain(..used);
            self.held = held;
        }
        Ok(())
    }

    /// How many bytes were whole frames.
    fn frames(
        &mut self,
        bytes: &mut [u8],
        take: &mut impl FnMut(Received<'_>) -> bool,
    ) -> Result<usize, WsError> {
        let mut used = 0;
        loop {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let Some(header) = self.header(rest)? else {
                return Ok(used);
            };
            let len = header.header_len + header.payload_len;
            let Some(payload) = rest.get_mut(header.header_len..len) else {
                return Ok(used);
            };
            for (byte, mask) in payload.iter_mut().zip(header.mask.iter().cycle()) {
                *byte ^= mask;
            }
            used += len;
            if !self.frame(header, payload, take)? {
                return Ok(bytes.len());
            }
        }
    }

    /// RFC 6455, 5.2. What is wrong is told before the payload is there.
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, WsError> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let control = opcode & 0x8 != 0;
        let short = usize::from(second & 0x7f);
        // Reserved bits belong to extensions, of which there are none; clients mask.
        if first & 0x70 != 0 || second & 0x80 == 0 || control && (!fin || short > 125) {
            return Err(protocol());
        }
        match (opcode, self.fragments.is_some()) {
            (0x0, true) | (0x1 | 0x2, false) | (0x8..=0xa, _) => {}
            _ => return Err(protocol()),
        }
        let (payload_len, rest) = match short {
            126 => match rest {
                [a, b, rest @ ..] => (usize::from(u16::from_be_bytes([*a, *b])), rest),
                _ => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((len, rest)) => {
                    let len = u64::from_be_bytes(*len);
                    (usize::try_from(len).map_err(|_| too_long())?, rest)
                }
                None => return Ok(None),
            },
            short => (short, rest),
        };
        let before = if control { 0 } else { self.message.len() };
        if payload_len > self.max_message.saturating_sub(before) && !control {
            return Err(too_long());
        }
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let header_len = bytes.len() - rest.len();
        debug_assert!(header_len <= LONGEST_HEADER);
        Ok(Some(Header {
            fin,
            opcode,
            mask: *mask,
            header_len,
            payload_len,
        }))
    }

    fn frame(
        &mut self,
        header: Header,
        payload: &[u8],
        take: &mut impl FnMut(Received<'_>) -> bool,
    ) -> Result<bool, WsError> {
        match header.opcode {
            0x8 => close(payload).map(|code| {
                take(Received::Close(code));
                false
            }),
            0x9 => Ok(take(Received::Ping(payload))),
            0xa => Ok(take(Received::Pong)),
            0x1 if header.fin => {
                let text = std::str::from_utf8(payload).map_err(|_| not_utf8())?;
                Ok(take(Received::Text(text)))
            }
            0x2 if header.fin => Ok(take(Received::Binary(payload))),
            opcode => self.fragment(opcode, header.fin, payload, take),
        }
    }

    fn fragment(
        &mut self,
        opcode: u8,
        fin: bool,
        payload: &[u8],
        take: &mut impl FnMut(Received<'_>) -> bool,
    ) -> Result<bool, WsError> {
        let (kind, count) = match (self.fragments, opcode) {
            (Some((kind, count)), _) => (kind, count + 1),
            (None, 0x1) => (Opcode::Text, 1),
            (None, _) => (Opcode::Binary, 1),
        };
        if count > MAX_FRAGMENTS {
            return Err(too_long());
        }
        self.fragments = Some((kind, count));
        self.message.extend_from_slice(payload);
        if kind == Opcode::Text {
            self.check_utf8(fin)?;
        }
        if !fin {
            return Ok(true);
        }
        let message = std::mem::take(&mut self.message);
        self.fragments = None;
        self.checked = 0;
        match kind {
            Opcode::Text => {
                let text = std::str::from_utf8(&message).map_err(|_| not_utf8())?;
                Ok(take(Received::Text(text)))
            }
            Opcode::Binary => Ok(take(Received::Binary(&message))),
        }
    }

    /// Bytes that no continuation can make UTF-8 end the message at once.
    fn check_utf8(&mut self, whole: bool) -> Result<(), WsError> {
        let fresh = self.message.get(self.checked..).unwrap_or_default();
        match std::str::from_utf8(fresh) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_none() && !whole => {
                self.checked += error.valid_up_to();
            }
            Err(_) => return Err(not_utf8()),
        }
        Ok(())
    }
}

/// RFC 6455, 5.5.1 and 7.4: the code that is echoed.
fn close(payload: &[u8]) -> Result<u16, WsError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(code::NORMAL)
        } else {
            Err(protocol())
        };
    };
    let code = u16::from_be_bytes(*code);
    if std::str::from_utf8(reason).is_err() {
        return Err(not_utf8());
    }
    match code {
        1_000..=1_003 | 1_007..=1_014 | 3_000..=4_999 => Ok(code),
        _ => Err(protocol()),
    }
}

/// Opcodes of frames that a server sends.
pub mod opcode {
    pub const TEXT: u8 = 0x1;
    pub const BINARY: u8 = 0x2;
    pub const CLOSE: u8 = 0x8;
    pub const PONG: u8 = 0xa;
}

/// Appends a whole, unmasked frame's header.
pub fn put_header(out: &mut Vec<u8>, opcode: u8, payload_len: usize) {
    out.push(0x80 | opcode);
    match u16::try_from(payload_len) {
        Ok(len @ 0..=125) => out.push(len.to_be_bytes()[1]),
        Ok(len) => {
            out.push(126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => {
            out.push(127);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
}

/// A frame that closes, with a reason cut to what fits.
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let end = reason.floor_char_boundary(123.min(reason.len()));
    let reason = reason.get(..end).unwrap_or_default();
    let mut out = Vec::with_capacity(4 + reason.len());
    put_header(&mut out, opcode::CLOSE, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
    out
}

/// The value of Sec-WebSocket-Accept (RFC 6455, 4.2.2).
#[must_use]
pub fn accept_value(key: &str) -> String {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

#[cfg(test)]
pub(super) mod tests;
