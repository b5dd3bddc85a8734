//! Bytes of a chat server to what matters of them, and lines to bytes, without I/O.
//!
//! WebSocket frames (RFC 6455) from a server, which are not masked; lines of IRC; the
//! client's side of the NATS protocol. What is not whole yet waits in the [`Inbox`],
//! at most [`MAX_HELD_BYTES`].

use super::mark::Mark;

/// What carries the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Tcp,
    WebSocket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    Irc,
    Nats,
}

/// Longer than anything that a server of ours sends in one piece.
const MAX_HELD_BYTES: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a masked frame from a server")]
    Masked,
    #[error("a message that does not end")]
    TooLong,
    #[error("a line of NATS that has no meaning")]
    Nats,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A message of this crowd.
    Said(Mark),
    /// Anything else, without its end.
    Line(&'a [u8]),
    Ping(&'a [u8]),
    /// WebSocket's close.
    Close,
}

/// The pieces that are not whole yet: of frames, and of lines across frames.
#[derive(Debug, Default)]
pub struct Inbox {
    frames: Vec<u8>,
    lines: Vec<u8>,
}

impl Inbox {
    /// Takes what came and hands over what is whole.
    ///
    /// # Errors
    /// [`WireError`]; nothing can be read any more.
    pub fn feed(
        &mut self,
        carrier: Carrier,
        speech: Speech,
        bytes: &[u8],
        mut take: impl FnMut(Heard<'_>),
    ) -> Result<(), WireError> {
        let Self { frames, lines } = self;
        match (carrier, speech) {
            (Carrier::Tcp, Speech::Irc) => {
                through(lines, bytes, |bytes| Ok(irc_lines(bytes, &mut take)))
            }
            (Carrier::Tcp, Speech::Nats) => through(lines, bytes, |bytes| nats(bytes, &mut take)),
            (Carrier::WebSocket, speech) => through(frames, bytes, |bytes| {
                unframed(bytes, |opcode, payload| match (opcode, speech) {
                    (0x9, _) => {
                        take(Heard::Ping(payload));
                        Ok(())
                    }
                    (0x8, _) => {
                        take(Heard::Close);
                        Ok(())
                    }
                    // One line a frame, with its end or without.
                    (0x1 | 0x2, Speech::Irc) => {
                        take(heard(line(payload)));
                        Ok(())
                    }
                    // A stream, cut anywhere.
                    (0x0..=0x2, Speech::Nats) => {
                        through(lines, payload, |bytes| nats(bytes, &mut take))
                    }
                    _ => Ok(()),
                })
            }),
        }
    }
}

/// Splits what was held and what came, and holds the rest.
fn through(
    held: &mut Vec<u8>,
    bytes: &[u8],
    mut split: impl FnMut(&[u8]) -> Result<usize, WireError>,
) -> Result<(), WireError> {
    if held.is_empty() {
        let used = split(bytes)?;
        held.extend_from_slice(bytes.get(used..).unwrap_or_default());
    } else {
        let mut all = std::mem::take(held);
        all.extend_from_slice(bytes);
        let used = split(&all)?;
        if used < all.len() {
            all.drain(..used);
            *held = all;
        }
    }
    if held.len() > MAX_HELD_BYTES {
        return Err(WireError::TooLong);
    }
    Ok(())
}

fn heard(text: &[u8]) -> Heard<'_> {
    match Mark::at_end_of(text) {
        Some(mark) => Heard::Said(mark),
        None => Heard::Line(text),
    }
}

fn line(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Hands over whole frames; how many bytes they were.
fn unframed(
    bytes: &[u8],
    mut take: impl FnMut(u8, &[u8]) -> Result<(), WireError>,
) -> Result<usize, WireError> {
    let mut rest = bytes;
    loop {
        let used = bytes.len() - rest.len();
        let [first, second, tail @ ..] = rest else {
            return Ok(used);
        };
        if second & 0x80 != 0 {
            return Err(WireError::Masked);
        }
        let (len, tail) = match (second, tail) {
            (126, [a, b, tail @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), tail),
            (127, tail) => match tail.split_first_chunk::<8>() {
                Some((len, tail)) => {
                    let len = usize::try_from(u64::from_be_bytes(*len));
                    (len.map_err(|_| WireError::TooLong)?, tail)
                }
                None => return Ok(used),
            },
            (126, _) => return Ok(used),
            (short, tail) => (usize::from(*short), tail),
        };
        if len > MAX_HELD_BYTES {
            return Err(WireError::TooLong);
        }
        let Some((payload, tail)) = tail.split_at_checked(len) else {
            return Ok(used);
        };
        take(first & 0x0f, payload)?;
        rest = tail;
    }
}

fn irc_lines(bytes: &[u8], take: &mut impl FnMut(Heard<'_>)) -> usize {
    let mut used = 0;
    for whole in bytes.split_inclusive(|byte| *byte == b'\n') {
        if whole.last() != Some(&b'\n') {
            break;
        }
        take(heard(line(whole)));
        used += whole.len();
    }
    used
}

/// Lines of NATS, and the payloads of MSG.
fn nats(bytes: &[u8], take: &mut impl FnMut(Heard<'_>)) -> Result<usize, WireError> {
    let mut rest = bytes;
    loop {
        let used = bytes.len() - rest.len();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return Ok(used);
        };
        let (head, tail) = rest.split_at(end + 1);
        let head = line(head);
        if !head.starts_with(b"MSG ") {
            take(Heard::Line(head));
            rest = tail;
            continue;
        }
        let len = head.rsplit(|byte| *byte == b' ').next();
        let len = len.and_then(|len| std::str::from_utf8(len).ok()?.parse::<usize>().ok());
        let len = len.ok_or(WireError::Nats)?;
        if len > MAX_HELD_BYTES {
            return Err(WireError::TooLong);
        }
        let Some((payload, tail)) = tail.split_at_checked(len + 2) else {
            return Ok(used);
        };
        take(heard(line(payload)));
        rest = tail;
    }
}

/// A line as a client sends it; `text` holds its end.
pub fn put(out: &mut Vec<u8>, carrier: Carrier, speech: Speech, text: &str) {
    match (carrier, speech) {
        (Carrier::Tcp, _) => out.extend_from_slice(text.as_bytes()),
        (Carrier::WebSocket, Speech::Irc) => put_frame(out, 0x1, text.as_bytes()),
        (Carrier::WebSocket, Speech::Nats) => put_frame(out, 0x2, text.as_bytes()),
    }
}

/// A whole frame, masked with zeros: a mask keeps proxies from taking a page's words
/// for a request, and here is no page.
pub fn put_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match u16::try_from(payload.len()) {
        Ok(len @ 0..=125) => out.push(0x80 | len.to_be_bytes()[1]),
        Ok(len) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark {
        number: 7,
        due_us: 1_795_639_813_250_000,
    };

    fn shown(heard: &Heard<'_>) -> String {
        match heard {
            Heard::Said(mark) => format!("said {}", mark.number),
            Heard::Line(line) => String::from_utf8_lossy(line).into_owned(),
            Heard::Ping(payload) => format!("ping {}", payload.len()),
            Heard::Close => "close".to_owned(),
        }
    }

    /// Fed byte by byte and at once: the same.
    fn fed(carrier: Carrier, speech: Speech, bytes: &[u8]) -> Vec<String> {
        let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut inbox = Inbox::default();
            let mut seen = Vec::new();
            for piece in pieces {
                let fed = inbox.feed(carrier, speech, piece, |heard| seen.push(shown(&heard)));
                fed.unwrap();
            }
            assert!(inbox.frames.is_empty() && inbox.lines.is_empty());
            seen
        };
        let at_once = run(&mut std::iter::once(bytes));
        assert_eq!(run(&mut bytes.chunks(1)), at_once);
        at_once
    }

    /// As servers frame.
    fn frame(opcode: u8, payload: &str) -> Vec<u8> {
        let mut out = vec![0x80 | opcode];
        if payload.len() < 126 {
            out.push(u8::try_from(payload.len()).unwrap());
        } else {
            out.push(126);
            out.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
        out.extend_from_slice(payload.as_bytes());
        out
    }

    #[test]
    fn irc_comes_over_both() {
        let said = format!(":a!a@a PRIVMSG #demo :{}", MARK.text(150));
        let lines = format!(":x 001 ann :hello\r\n{said}\r\nPING :x\n");
        let expected = [":x 001 ann :hello", "said 7", "PING :x"];
        assert_eq!(fed(Carrier::Tcp, Speech::Irc, lines.as_bytes()), expected);
        let frames = [
            frame(1, ":x 001 ann :hello"),
            frame(0x9, "hi"),
            frame(1, &format!("{said}\r\n")),
            frame(0x8, ""),
        ];
        assert_eq!(
            fed(Carrier::WebSocket, Speech::Irc, &frames.concat()),
            [":x 001 ann :hello", "ping 2", "said 7", "close"]
        );
    }

    #[test]
    fn nats_comes_over_both_and_is_cut_anywhere() {
        let text = MARK.text(100);
        let stream = format!("INFO {{}}\r\nMSG demo 1 100\r\n{text}\r\nPING\r\n");
        let expected = ["INFO {}", "said 7", "PING"];
        assert_eq!(fed(Carrier::Tcp, Speech::Nats, stream.as_bytes()), expected);
        let (one, other) = stream.split_at(30);
        let frames = [frame(2, one), frame(2, other)].concat();
        assert_eq!(fed(Carrier::WebSocket, Speech::Nats, &frames), expected);
        let mut inbox = Inbox::default();
        let fed = inbox.feed(Carrier::Tcp, Speech::Nats, b"MSG a 1 x\r\n", |_| ());
        assert_eq!(fed, Err(WireError::Nats));
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        let mut inbox = Inbox::default();
        let masked = inbox.feed(Carrier::WebSocket, Speech::Irc, &[0x81, 0x80], |_| ());
        assert_eq!(masked, Err(WireError::Masked));
        let mut inbox = Inbox::default();
        let endless = vec![b'x'; MAX_HELD_BYTES + 1];
        let fed = inbox.feed(Carrier::Tcp, Speech::Irc, &endless, |_| ());
        assert_eq!(fed, Err(WireError::TooLong));
    }

    #[test]
    fn lines_are_framed_and_masked() {
        let mut out = Vec::new();
        put(&mut out, Carrier::WebSocket, Speech::Irc, "PING\r\n");
        assert_eq!(out, b"\x81\x86\0\0\0\0PING\r\n");
        out.clear();
        put(&mut out, Carrier::WebSocket, Speech::Nats, &"x".repeat(300));
        assert_eq!(out[..8], [0x82, 0xfe, 1, 44, 0, 0, 0, 0]);
        out.clear();
        put(&mut out, Carrier::Tcp, Speech::Irc, "PING\r\n");
        assert_eq!(out, b"PING\r\n");
    }
}
