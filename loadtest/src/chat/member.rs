//! One connection of the crowd: its socket, how far in it is, what it says to get
//! further. The crowd's loop calls it; it never waits.

use std::io::{self, ErrorKind, Read, Write};

use common::chat::irc::Line;
use mio::net::TcpStream;

use super::{
    ledger::{Ledger, Reader},
    seen::{Seen, Turns},
    server::Server,
    wire::{self, Inbox, Speech},
};

/// How far in a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Connecting,
    /// The answer to WebSocket's handshake is awaited.
    Upgrading,
    SigningIn,
    SignedIn,
    Joining,
    Joined,
    Gone,
}

/// What it says of itself.
#[derive(Debug, Clone)]
pub struct Name {
    pub nick: String,
    /// What PASS says, if anything.
    pub pass: Option<String>,
    /// Twitch's tags and commands are asked for.
    pub tags: bool,
}

#[derive(Debug)]
pub struct Member {
    pub stream: Option<TcpStream>,
    /// Its place among the crowd's servers.
    pub server: usize,
    pub room: usize,
    pub speaks: bool,
    pub stage: Stage,
    pub inbox: Inbox,
    /// As a reader stands in its room's order; of a speaker, only what came twice.
    pub reader: Reader,
    /// What it read; of a speaker, and what it said itself.
    pub seen: Seen,
    /// What its socket did not take yet.
    out: Vec<u8>,
    /// The handshake's answer, until it is whole.
    head: Vec<u8>,
}

/// A handshake's answer is shorter.
const MAX_HEAD_BYTES: usize = 4 * 1024;

/// What a line from the server came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    /// The server did not take a message.
    Refused,
    /// The server says why it will close.
    Ending(String),
}

impl Member {
    pub fn new(server: usize, room: usize, speaks: bool) -> Self {
        Self {
            stream: None,
            server,
            room,
            speaks,
            stage: Stage::Connecting,
            inbox: Inbox::default(),
            reader: Reader::default(),
            seen: Seen::default(),
            out: Vec::new(),
            head: Vec::new(),
        }
    }

    /// Reads once; `0` is the end.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Some(stream) => stream.read(into),
            None => Ok(0),
        }
    }

    /// The socket is open: says the first thing.
    pub fn greet(&mut self, server: &Server, name: &Name) {
        if server.carrier == wire::Carrier::WebSocket {
            self.stage = Stage::Upgrading;
            let (path, authority) = (&server.path, &server.authority);
            // The key is RFC 6455's own example: who checks the answer is not us.
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {authority}\r\nOrigin: http://{authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            self.out.extend_from_slice(request.as_bytes());
        } else {
            self.sign_in(server, name);
        }
    }

    /// Takes the answer to WebSocket's handshake; what comes behind it, once it is
    /// whole.
    ///
    /// # Errors
    /// The status line of an answer that is not 101.
    pub fn upgraded(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.head.extend_from_slice(bytes);
        let end = self.head.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            return if self.head.len() > MAX_HEAD_BYTES {
                Err("a handshake without end".to_owned())
            } else {
                Ok(None)
            };
        };
        if !self.head.starts_with(b"HTTP/1.1 101") {
            let line = self.head.split(|byte| *byte == b'\r').next();
            return Err(String::from_utf8_lossy(line.unwrap_or_default()).into_owned());
        }
        let rest = self.head.split_off(end + 4);
        self.head = Vec::new();
        Ok(Some(rest))
    }

    pub fn sign_in(&mut self, server: &Server, name: &Name) {
        self.stage = Stage::SigningIn;
        match server.speech {
            Speech::Nats => {
                let connect = "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false}\r\n";
                self.say(server, connect);
                self.say(server, "PING\r\n");
            }
            Speech::Irc => {
                if name.tags {
                    self.say(server, "CAP REQ :twitch.tv/tags twitch.tv/commands\r\n");
                    self.say(server, "CAP END\r\n");
                }
                if let Some(pass) = &name.pass {
                    self.say(server, &format!("PASS {pass}\r\n"));
                }
                let nick = &name.nick;
                self.say(server, &format!("NICK {nick}\r\n"));
                self.say(server, &format!("USER {nick} 0 * :{nick}\r\n"));
            }
        }
    }

    pub fn join(&mut self, server: &Server, room: &str) {
        self.stage = Stage::Joining;
        match server.speech {
            Speech::Nats => {
                self.say(server, &format!("SUB {room} 1\r\n"));
                self.say(server, "PING\r\n");
            }
            Speech::Irc => self.say(server, &format!("JOIN #{room}\r\n")),
        }
    }

    pub fn post(&mut self, server: &Server, room: &str, text: &str) {
        match server.speech {
            Speech::Nats => {
                let len = text.len();
                self.say(server, &format!("PUB {room} {len}\r\n{text}\r\n"));
            }
            Speech::Irc => self.say(server, &format!("PRIVMSG #{room} :{text}\r\n")),
        }
    }

    fn say(&mut self, server: &Server, line: &str) {
        wire::put(&mut self.out, server.carrier, server.speech, line);
    }

    pub fn pong(&mut self, payload: &[u8]) {
        wire::put_frame(&mut self.out, 0xa, payload);
    }

    /// A message of the crowd: whether it was read for the first time.
    pub fn heard(&mut self, number: u32, turns: Turns, ledger: &mut Ledger) -> bool {
        let place = turns.place(number, self.room);
        let Some(place) = place.filter(|_| number < ledger.total()) else {
            // Of another run, or of another room.
            self.reader.misplaced += 1;
            return false;
        };
        let first = self.seen.read(place);
        if self.speaks {
            self.reader.misplaced += u32::from(!first);
        } else {
            ledger.read(self.room, number, &mut self.reader);
        }
        first
    }

    /// A line that is no message of the crowd.
    pub fn told(&mut self, server: &Server, line: &[u8]) -> Told {
        match server.speech {
            Speech::Nats => self.told_nats(server, line),
            Speech::Irc => self.told_irc(server, line),
        }
    }

    fn told_irc(&mut self, server: &Server, line: &[u8]) -> Told {
        let Some(line) = std::str::from_utf8(line)
            .ok()
            .and_then(|text| Line::parse(text).ok())
        else {
            return Told::Nothing;
        };
        match (line.command, self.stage) {
            ("PING", _) => {
                let token = line.params.get(0).unwrap_or_default();
                self.say(server, &format!("PONG :{token}\r\n"));
            }
            ("001", Stage::SigningIn) => self.stage = Stage::SignedIn,
            ("366", Stage::Joining) => self.stage = Stage::Joined,
            ("NOTICE", Stage::Joined) if self.speaks => return Told::Refused,
            ("ERROR" | "433" | "432" | "263" | "437", _) => {
                return Told::Ending(line.params.as_slice().last().unwrap_or(&"").to_string());
            }
            _ => {}
        }
        Told::Nothing
    }

    fn told_nats(&mut self, server: &Server, line: &[u8]) -> Told {
        match (line, self.stage) {
            (b"PING", _) => self.say(server, "PONG\r\n"),
            (b"PONG", Stage::SigningIn) => self.stage = Stage::SignedIn,
            (b"PONG", Stage::Joining) => self.stage = Stage::Joined,
            (line, _) if line.starts_with(b"-ERR") => {
                return Told::Ending(String::from_utf8_lossy(line).into_owned());
            }
            _ => {}
        }
        Told::Nothing
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// The socket's.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out = Vec::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(url: &str) -> (Server, Member) {
        (Server::parse(url).unwrap(), Member::new(0, 0, true))
    }

    fn said(member: &mut Member) -> String {
        String::from_utf8(std::mem::take(&mut member.out)).unwrap()
    }

    #[test]
    fn irc_is_signed_into_and_joined() {
        let (server, mut ann) = member("irc://127.0.0.1");
        let name = Name {
            nick: "ann".to_owned(),
            pass: Some("oauth:x".to_owned()),
            tags: false,
        };
        ann.greet(&server, &name);
        assert_eq!(
            said(&mut ann),
            "PASS oauth:x\r\nNICK ann\r\nUSER ann 0 * :ann\r\n"
        );
        assert_eq!(ann.told(&server, b":x NOTICE * :looking up"), Told::Nothing);
        ann.told(&server, b":x 001 ann :Welcome");
        assert_eq!(ann.stage, Stage::SignedIn);
        ann.join(&server, "demo");
        assert_eq!(said(&mut ann), "JOIN #demo\r\n");
        ann.told(&server, b":x 366 ann #demo :End");
        assert_eq!(ann.stage, Stage::Joined);
        ann.told(&server, b"PING :t 1");
        assert_eq!(said(&mut ann), "PONG :t 1\r\n");
        let told = ann.told(&server, b"@msg-id=x :x NOTICE #demo :slowly");
        assert_eq!(told, Told::Refused);
        let told = ann.told(&server, b"ERROR :Closing link: flood");
        assert_eq!(told, Told::Ending("Closing link: flood".to_owned()));
    }

    #[test]
    fn nats_is_signed_into_and_joined() {
        let (server, mut ann) = member("nats://127.0.0.1");
        let name = Name {
            nick: "ann".to_owned(),
            pass: None,
            tags: true,
        };
        ann.greet(&server, &name);
        assert!(said(&mut ann).ends_with("}\r\nPING\r\n"));
        ann.told(&server, b"PONG");
        ann.join(&server, "demo");
        assert_eq!(said(&mut ann), "SUB demo 1\r\nPING\r\n");
        ann.told(&server, b"PONG");
        assert_eq!(ann.stage, Stage::Joined);
        ann.post(&server, "demo", "hello");
        assert_eq!(said(&mut ann), "PUB demo 5\r\nhello\r\n");
        let told = ann.told(&server, b"-ERR 'slow'");
        assert_eq!(told, Told::Ending("-ERR 'slow'".to_owned()));
    }

    #[test]
    fn a_handshake_is_awaited_whole() {
        let (server, mut ann) = member("ws://127.0.0.1/chat");
        let name = Name {
            nick: "ann".to_owned(),
            pass: None,
            tags: true,
        };
        ann.greet(&server, &name);
        assert!(said(&mut ann).starts_with("GET /chat HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"));
        assert_eq!(ann.upgraded(b"HTTP/1.1 101 Switching\r\n\r"), Ok(None));
        assert_eq!(ann.upgraded(b"\nrest"), Ok(Some(b"rest".to_vec())));
        let refused = ann.upgraded(b"HTTP/1.1 503 Busy\r\n\r\n");
        assert_eq!(refused, Err("HTTP/1.1 503 Busy".to_owned()));
    }
}
