//! Bytes to lines, by framing. Lines are lent from the buffer they came in; what is
//! kept is the piece of one that is not whole yet.

use bytes::Bytes;
use common::{chat::irc::MAX_LINE_BYTES, live::UnixMs};

use super::{
    form::Framing,
    session::Session,
    ws::{self, Decoder, Received, WsError, opcode},
};

/// See the module's text.
#[derive(Debug)]
pub enum Input {
    Frames(Decoder),
    Lines(Lines),
}

/// Lines of a byte stream.
#[derive(Debug, Default)]
pub struct Lines {
    held: Vec<u8>,
    /// The rest of a line that was too long is passed over.
    skipping: bool,
}

impl Input {
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        if framing.is_websocket() {
            Self::Frames(Decoder::new(ws::MAX_MESSAGE_BYTES))
        } else {
            Self::Lines(Lines::default())
        }
    }

    /// Bytes that wait for more.
    #[cfg(test)]
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Frames(decoder) => decoder.held_bytes(),
            Self::Lines(lines) => lines.held.capacity(),
        }
    }

    /// Takes what came and hands its lines to the session.
    ///
    /// # Errors
    /// [`WsError`], with the code to close with.
    pub fn feed(
        &mut self,
        now: UnixMs,
        bytes: &mut [u8],
        session: &mut Session,
    ) -> Result<(), WsError> {
        match self {
            Self::Frames(decoder) => decoder.feed(bytes, |received| {
                frame(now, received, session);
                session.ending().is_none()
            }),
            Self::Lines(lines) => {
                lines.feed(now, bytes, session);
                Ok(())
            }
        }
    }
}

fn frame(now: UnixMs, received: Received<'_>, session: &mut Session) {
    match received {
        Received::Text(text) => text
            .split('\n')
            .for_each(|line| session.line(now, line.strip_suffix('\r').unwrap_or(line))),
        Received::Binary(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => frame(now, Received::Text(text), session),
            Err(_) => session.not_utf8(now),
        },
        Received::Ping(payload) => {
            let mut pong = Vec::with_capacity(2 + payload.len());
            ws::put_header(&mut pong, opcode::PONG, payload.len());
            pong.extend_from_slice(payload);
            session.emit_frame(Bytes::from(pong));
        }
        Received::Pong => {}
        Received::Close(code) => session.end("Client left", code, None),
    }
}

impl Lines {
    fn feed(&mut self, now: UnixMs, bytes: &[u8], session: &mut Session) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (piece, tail) = rest.split_at(end);
            rest = tail.get(1..).unwrap_or_default();
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.held.is_empty() {
                line(now, piece, session);
            } else {
                let mut held = std::mem::take(&mut self.held);
                held.extend_from_slice(piece);
                line(now, &held, session);
            }
            if session.ending().is_some() {
                return;
            }
        }
        if self.skipping {
            return;
        }
        if self.held.len() + rest.len() > MAX_LINE_BYTES + 2 {
            self.held = Vec::new();
            self.skipping = true;
            session.too_long(now);
            return;
        }
        self.held.extend_from_slice(rest);
    }
}

fn line(now: UnixMs, bytes: &[u8], session: &mut Session) {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => session.line(now, text),
        Err(_) => session.not_utf8(now),
    }
}
