//! The forms that a line takes on its way to clients: framing by framing, with
//! tags or without. An event is encoded once per form, WebSocket's header included
//! (a server's frames are not masked, so they are the same for everybody).

use bytes::Bytes;

use super::ws::{self, opcode};

/// How lines are laid into the byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// TCP or TLS: CRLF.
    Tcp,
    /// WebSocket text with CRLF, one line a frame: Twitch's, and who names nothing.
    Text,
    /// `text.ircv3.net`: no CRLF.
    Ircv3Text,
    /// `binary.ircv3.net`: no CRLF.
    Ircv3Binary,
}

/// Framing and subprotocol to echo for what a client offers, or `None` for neither
/// of ours: then nothing is echoed and the framing is plain text with CRLF.
#[must_use]
pub fn negotiate<'a>(offers: impl Iterator<Item = &'a str>) -> (Framing, Option<&'static str>) {
    for offer in offers {
        match offer {
            "irc" => return (Framing::Text, Some("irc")),
            "text.ircv3.net" => return (Framing::Ircv3Text, Some("text.ircv3.net")),
            "binary.ircv3.net" => return (Framing::Ircv3Binary, Some("binary.ircv3.net")),
            _ => {}
        }
    }
    (Framing::Text, None)
}

impl Framing {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Text => "ws_text",
            Self::Ircv3Text => "ws_ircv3_text",
            Self::Ircv3Binary => "ws_ircv3_binary",
        }
    }

    #[must_use]
    pub const fn is_websocket(self) -> bool {
        !matches!(self, Self::Tcp)
    }

    /// One line, as it goes out.
    #[must_use]
    pub fn frame(self, line: &str) -> Bytes {
        let crlf = matches!(self, Self::Tcp | Self::Text);
        let end = if crlf { "\r\n" } else { "" };
        let len = line.len() + end.len();
        let mut out = Vec::with_capacity(len + 10);
        match self {
            Self::Tcp => {}
            Self::Text | Self::Ircv3Text => ws::put_header(&mut out, opcode::TEXT, len),
            Self::Ircv3Binary => ws::put_header(&mut out, opcode::BINARY, len),
        }
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(end.as_bytes());
        out.into()
    }
}

/// Which tags a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagging {
    None,
    /// `server-time` alone.
    Time,
    /// `twitch.tv/tags` or `message-tags`: all of both, since either's clients pass
    /// over what they don't know.
    All,
}

/// See the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub framing: Framing,
    pub tagging: Tagging,
}

/// Framings times taggings.
const SHOWN_FORMS: usize = 4 * 3;

/// The forms of an event at an edge: the link's for edges behind it, and clients'.
pub const FORMS: usize = 1 + SHOWN_FORMS;

impl Form {
    /// Its place among [`FORMS`]; the first is the link's.
    #[must_use]
    pub const fn slot(self) -> usize {
        1 + self.framing as usize * 3 + self.tagging as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_slot_of_its_own() {
        let mut slots = Vec::new();
        for framing in [
            Framing::Tcp,
            Framing::Text,
            Framing::Ircv3Text,
            Framing::Ircv3Binary,
        ] {
            for tagging in [Tagging::None, Tagging::Time, Tagging::All] {
                slots.push(Form { framing, tagging }.slot());
            }
        }
        assert_eq!(slots, (1..FORMS).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_subprotocol_that_is_ours_is_echoed() {
        let of = |offers: &[&str]| negotiate(offers.iter().copied()).1;
        assert_eq!(of(&["irc"]), Some("irc"));
        assert_eq!(
            of(&["mqtt", "text.ircv3.net", "binary.ircv3.net"]),
            Some("text.ircv3.net")
        );
        assert_eq!(of(&["mqtt"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_line_is_one_frame() {
        assert_eq!(Framing::Tcp.frame("PING"), &b"PING\r\n"[..]);
        assert_eq!(Framing::Text.frame("PING"), &b"\x81\x06PING\r\n"[..]);
        assert_eq!(Framing::Ircv3Text.frame("PING"), &b"\x81\x04PING"[..]);
        assert_eq!(Framing::Ircv3Binary.frame("PING"), &b"\x82\x04PING"[..]);
        let long = "x".repeat(200);
        assert_eq!(Framing::Ircv3Text.frame(&long)[..4], [0x81, 126, 0, 200]);
    }
}
