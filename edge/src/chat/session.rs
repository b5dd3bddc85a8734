//! One client's conversation in IRC: lines in, lines out, without I/O.
//!
//! In: lines, verdicts, the time. Out: framed lines in [`Session::take_out`], and
//! the rooms' events that the client has not read, shared, in [`Session::pump`].
//! Whatever a client sends has an answer, and no line it sends makes this grow past
//! its bounds: rooms ([`ChatConfig::max_rooms_per_connection`]), wishes without a
//! verdict ([`MAX_WISHES`]), own lines ([`MAX_OUT_BYTES`] and one answer, past which
//! nothing more is read from it, and what was read waits: [`MAX_WAITING_BYTES`]).
//!
//! [`ChatConfig::max_rooms_per_connection`]: super::config::ChatConfig

mod history;
mod room;
mod say;
mod sign_in;

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use common::{
    chat::{
        Claims, Cursor, Login, MessageId, Network, Offset, Roles, RoomEpoch, UserId,
        irc::{Line, LineError, LineWriter},
    },
    live::UnixMs,
    names::ChannelName,
};

use super::{
    Shared,
    caps::{self, Caps},
    form::{Form, Framing},
    mailbox::Mailbox,
    metrics::Broken,
    rooms::Seat,
    show::Time,
    ws,
};

/// Own lines that wait to be written before nothing more is read or answered.
pub const MAX_OUT_BYTES: usize = 64 * 1024;

/// Lines that came in one piece with one that was answered and wait until the answers
/// are written: those of one read and of a WebSocket message that it ends.
pub const MAX_WAITING_BYTES: usize = 16 * 1024;

/// Messages and commands of one connection that wait for their verdicts.
pub const MAX_WISHES: usize = 16;

/// Lines within [`FLOOD_SPAN_MS`]: a client that joins a hundred rooms at once.
const FLOOD_LINES: u32 = 1_000;
const FLOOD_SPAN_MS: u64 = 10_000;

/// What CHATHISTORY and NAMES count for: each looks through all that a room holds. Who
/// joins a hundred rooms may still ask for the past of each.
const DEAR_LINES: u32 = 5;

/// A label's length (IRCv3: 64 bytes).
const MAX_LABEL_BYTES: usize = 64;

/// Why and how a conversation ends.
#[derive(Debug, Clone)]
pub struct Ending {
    pub reason: String,
    /// WebSocket's close code.
    pub code: u16,
    /// What it counts as; `None` where the client left.
    pub why: Option<Broken>,
}

#[derive(Debug)]
enum Stage {
    Signing(sign_in::Signing),
    In(Identity),
}

/// Who a client is.
#[derive(Debug)]
struct Identity {
    nick: Login,
    /// `None`: anonymous.
    claims: Option<Claims>,
}

/// How far the client's JOIN is. A reader that was told that it is in a room misses
/// nothing that is said from then on.
#[derive(Debug)]
enum Entry {
    /// Not answered, since the room's home was not heard: what is said now may be
    /// history by the time it comes. The label is that of the answer.
    Asked(Option<Box<str>>),
    /// Answered without the home, which takes too long; ROOMSTATE is due.
    Unheard,
    /// What was said before is history.
    Heard(RoomEpoch, Offset),
}

/// A room that the client is in.
#[derive(Debug)]
struct Joined {
    seat: Seat,
    cursor: Cursor,
    /// The next batch of who came and went.
    coming: u64,
    entry: Entry,
    /// What the user is here, by the token and by the room's word.
    roles: Roles,
    /// As of which word of the room.
    roles_version: u64,
}

impl Joined {
    /// The room's home was heard and the history is here, which this reader passes
    /// over: it may have filled the ring since the JOIN, and is nothing to fall behind of.
    fn heard(&mut self, epoch: RoomEpoch, offset: Offset) {
        let news = self.seat.room.feed.resume(epoch, offset).cursor;
        self.cursor = self.cursor.max(news);
        self.entry = Entry::Heard(epoch, offset);
    }
}

/// Something that was asked of a room.
#[derive(Debug)]
struct Wished {
    id: MessageId,
    room: ChannelName,
    /// Its event is still to come, and is not to be shown as another's.
    unseen: bool,
    label: Option<String>,
    nonce: Option<String>,
    /// Its verdict came.
    answered: bool,
}

/// What a command's answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Now,
    /// With the room's verdict, or once it was heard.
    Later,
}

/// See the module's text.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    network: Network,
    framing: Framing,
    caps: Caps,
    stage: Stage,
    joined: Vec<Joined>,
    wished: VecDeque<Wished>,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// Lines that were not looked at yet, each with its end.
    waiting: String,
    /// The span that lines are counted in, and how many came.
    flood: (u64, u32),
    batches: u32,
    ending: Option<Ending>,
}

impl Session {
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        network: Network,
        framing: Framing,
    ) -> Self {
        Self {
            shared,
            mailbox,
            network,
            framing,
            caps: Caps::default(),
            stage: Stage::Signing(sign_in::Signing::default()),
            joined: Vec::new(),
            wished: VecDeque::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            waiting: String::new(),
            flood: (0, 0),
            batches: 0,
            ending: None,
        }
    }

    #[must_use]
    pub const fn is_signed_in(&self) -> bool {
        matches!(self.stage, Stage::In(_))
    }

    #[must_use]
    pub const fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Whether more may be read from the client.
    #[must_use]
    pub const fn takes_more(&self) -> bool {
        self.answers() && self.waiting.is_empty()
    }

    const fn answers(&self) -> bool {
        self.ending.is_none() && self.out_bytes < MAX_OUT_BYTES
    }

    /// Moves own lines to where they are written.
    pub fn take_out(&mut self, into: &mut VecDeque<Bytes>) {
        into.append(&mut self.out);
        self.out = VecDeque::new();
        self.out_bytes = 0;
    }

    /// A line that came, without its end. It waits where the client has enough to read.
    pub fn line(&mut self, now: UnixMs, text: &str) {
        if self.ending.is_some() || text.is_empty() {
            return;
        }
        if self.takes_more() {
            self.act(now, text);
        } else if self.waiting.len() + text.len() < MAX_WAITING_BYTES {
            self.shared.metrics.held_lines.inc();
            self.waiting.push_str(text);
            self.waiting.push('\n');
        } else {
            self.flooded();
        }
    }

    /// Looks at lines that wait, as far as there is room for their answers.
    fn go_on(&mut self, now: UnixMs) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut rest = waiting.as_str();
        while self.answers()
            && let Some((line, tail)) = rest.split_once('\n')
        {
            rest = tail;
            self.act(now, line);
        }
        if self.ending.is_none() && !rest.is_empty() {
            self.waiting = rest.to_owned();
        }
    }

    /// Counts so many lines; `false` where they were too many, and ended it all.
    fn takes_lines(&mut self, now: UnixMs, lines: u32) -> bool {
        let span = now.0 / FLOOD_SPAN_MS;
        if self.flood.0 != span {
            self.flood = (span, 0);
        }
        self.flood.1 += lines;
        if self.flood.1 > FLOOD_LINES {
            self.flooded();
        }
        self.flood.1 <= FLOOD_LINES
    }

    fn flooded(&mut self) {
        self.end("Excess flood", ws::code::POLICY, Some(Broken::Flood));
    }

    fn act(&mut self, now: UnixMs, text: &str) {
        self.shared.metrics.lines.inc();
        if !self.takes_lines(now, 1) {
            return;
        }
        let line = match Line::parse(text) {
            Ok(line) => line,
            Err(error) => {
                self.unreadable(now, error);
                return;
            }
        };
        let label = if self.caps.labels {
            line.tags.get("label")
        } else {
            None
        };
        let label = label
            .filter(|label| (1..=MAX_LABEL_BYTES).contains(&label.len()))
            .map(std::borrow::Cow::into_owned);
        let mut replies = Replies::default();
        if self.command(now, &line, label.as_deref(), &mut replies) == Answer::Now {
            self.send(now, label.as_deref(), replies);
        }
    }

    /// Bytes that are no text.
    pub fn not_utf8(&mut self, now: UnixMs) {
        if !self.takes_lines(now, 1) {
            return;
        }
        let mut replies = Replies::default();
        let server = &self.shared.config.chat_server_name;
        replies.add(|line| {
            line.command(server, "FAIL")
                .param("*")
                .param("INVALID_UTF8")
                .trailing("Lines are to be UTF-8.");
        });
        self.send(now, None, replies);
    }

    /// A line that is longer than any.
    pub fn too_long(&mut self, now: UnixMs) {
        if self.takes_lines(now, 1) {
            self.numeric_now(now, "417", "Input line was too long");
        }
    }

    fn unreadable(&mut self, now: UnixMs, error: LineError) {
        match error {
            LineError::Tags | LineError::Length => {
                self.numeric_now(now, "417", "Input line was too long");
            }
            LineError::Control | LineError::Command => {
                self.numeric_now(now, "421", "Unknown command");
            }
        }
    }

    fn numeric_now(&mut self, now: UnixMs, number: &str, text: &str) {
        let mut replies = Replies::default();
        self.numeric(&mut replies, number, &[], text);
        self.send(now, None, replies);
    }

    /// Ends the conversation once what is said is written.
    pub fn end(&mut self, reason: &str, code: u16, why: Option<Broken>) {
        if self.ending.is_some() {
            return;
        }
        if !self.framing.is_websocket() || why.is_some() {
            let mut text = String::new();
            let line = LineWriter::new(&mut text).bare_command("ERROR");
            line.trailing(format_args!("Closing link: {reason}"));
            self.emit(&text);
        }
        self.ending = Some(Ending {
            reason: reason.to_owned(),
            code,
            why,
        });
        self.joined.clear();
        self.waiting = String::new();
    }

    /// Asks the client to come back, to another edge or to this one's next life.
    pub fn reconnect(&mut self) {
        let mut text = String::new();
        let server = &self.shared.config.chat_server_name;
        let _ = LineWriter::new(&mut text).command(server, "RECONNECT");
        self.emit(&text);
    }

    /// A sign of life is asked for.
    pub fn ping(&mut self) {
        let mut text = String::new();
        let line = LineWriter::new(&mut text).bare_command("PING");
        line.trailing(&self.shared.config.chat_server_name);
        self.emit(&text);
    }

    /// A frame that is no line.
    pub fn emit_frame(&mut self, frame: Bytes) {
        self.out_bytes += frame.len();
        self.out.push_back(frame);
    }

    fn emit(&mut self, line: &str) {
        let frame = self.framing.frame(line);
        self.emit_frame(frame);
    }

    /// Sends a command's answer: with its label, in a batch if it has several lines
    /// (IRCv3 labeled-response), and with the time where that is taken.
    fn send(&mut self, now: UnixMs, label: Option<&str>, replies: Replies) {
        let server = self.shared.config.chat_server_name.clone();
        let mut lines = replies.0;
        let mut batch = None;
        if let Some(label) = label {
            match lines.len() {
                0 => {
                    let mut ack = String::new();
                    let mut line = LineWriter::new(&mut ack);
                    line.tag("label", label);
                    let _ = line.command(&server, "ACK");
                    lines.push(ack);
                }
                1 => {
                    if let Some(line) = lines.first_mut() {
                        *line = with_tag(line, "label", label);
                    }
                }
                _ if self.caps.batch => batch = Some(label),
                _ => {}
            }
        }
        let reference = batch.map(|label| {
            self.batches = self.batches.wrapping_add(1);
            let reference = format!("l{}", self.batches);
            let mut begin = String::new();
            let mut line = LineWriter::new(&mut begin);
            line.tag("label", label);
            line.command(&server, "BATCH")
                .param(format_args!("+{reference}"))
                .trailing("labeled-response");
            self.emit(&begin);
            reference
        });
        for line in lines {
            let mut line = line;
            if let Some(reference) = &reference
                && !has_tag(&line, "batch")
            {
                line = with_tag(&line, "batch", reference);
            }
            if self.caps.server_time && !has_tag(&line, "time") {
                line = with_tag(&line, "time", &Time(now).to_string());
            }
            self.emit(&line);
        }
        if let Some(reference) = reference {
            let mut end = String::new();
            let line = LineWriter::new(&mut end).command(&server, "BATCH");
            let _ = line.param(format_args!("-{reference}"));
            self.emit(&end);
        }
    }

    fn nick(&self) -> String {
        match &self.stage {
            Stage::In(identity) => identity.nick.to_string(),
            Stage::Signing(_) => "*".to_owned(),
        }
    }

    /// `:server 421 nick middle... :text`
    fn numeric(&self, replies: &mut Replies, number: &str, middle: &[&str], text: &str) {
        let server = &self.shared.config.chat_server_name;
        replies.add(|line| {
            let mut line = line.command(server, number).param(self.nick());
            for param in middle {
                line = line.param(param);
            }
            line.trailing(text);
        });
    }

    fn form(&self) -> Form {
        Form {
            framing: self.framing,
            tagging: self.caps.tagging(),
        }
    }

    fn command(
        &mut self,
        now: UnixMs,
        line: &Line<'_>,
        label: Option<&str>,
        replies: &mut Replies,
    ) -> Answer {
        let command = line.command.to_ascii_uppercase();
        match command.as_str() {
            "CAP" => self.cap(now, line, replies),
            "PASS" | "NICK" | "USER" => self.sign_in(now, &command, line, replies),
            "PING" => self.pong(line, replies),
            "QUIT" => self.end("Client quit", ws::code::NORMAL, None),
            // Signs of life, and what clients say to servers of other kinds.
            "PONG" | "AWAY" | "USERHOST" | "NOTICE" | "TAGMSG" => {}
            _ if !self.is_signed_in() => {
                self.numeric(replies, "451", &[], "You have not registered");
            }
            "JOIN" => return self.join(now, line, label, replies),
            "PART" => self.part(now, line, replies),
            "PRIVMSG" => return self.privmsg(now, line, label, replies),
            "NAMES" | "CHATHISTORY" if !self.takes_lines(now, DEAR_LINES - 1) => {}
            "NAMES" => self.names(line, replies),
            "CHATHISTORY" => self.history(line, replies),
            "MODE" => self.mode(line, replies),
            "WHO" => {
                let mask = line.params.get(0).unwrap_or("*");
                self.numeric(replies, "315", &[mask], "End of /WHO list");
            }
            "WHOIS" => {
                let nick = line.params.get(0).unwrap_or("*");
                self.numeric(replies, "318", &[nick], "End of /WHOIS list");
            }
            _ => self.numeric(replies, "421", &[line.command], "Unknown command"),
        }
        Answer::Now
    }

    fn pong(&self, line: &Line<'_>, replies: &mut Replies) {
        let server = &self.shared.config.chat_server_name;
        let token = line.params.get(0).unwrap_or(server);
        replies.add(|line| line.command(server, "PONG").param(server).trailing(token));
    }

    fn cap(&mut self, now: UnixMs, line: &Line<'_>, replies: &mut Replies) {
        let server = self.shared.config.chat_server_name.clone();
        let nick = self.nick();
        let names = line.params.get(1).unwrap_or_default();
        let mut answer = |verb: &str, names: &str| {
            replies.add(|line| {
                line.command(&server, "CAP")
                    .param(&nick)
                    .param(verb)
                    .trailing(names);
            });
        };
        match line
            .params
            .get(0)
            .unwrap_or_default()
            .to_ascii_uppercase()
            .as_str()
        {
            "LS" => {
                answer("LS", caps::ALL);
                if let Stage::Signing(signing) = &mut self.stage {
                    signing.hold();
                }
            }
            "LIST" => answer("LIST", &self.caps.list()),
            "REQ" => match self.caps.request(names) {
                Some(caps) => {
                    self.caps = caps;
                    answer("ACK", names);
                }
                None => answer("NAK", names),
            },
            "END" => {
                if let Stage::Signing(signing) = &mut self.stage {
                    signing.go_on();
                }
                self.try_to_sign_in(now, replies);
            }
            _ => self.numeric(replies, "410", &["CAP"], "Invalid CAP command"),
        }
    }

    fn user_id(&self) -> Option<&UserId> {
        match &self.stage {
            Stage::In(identity) => identity.claims.as_ref().map(|claims| &claims.user.id),
            Stage::Signing(_) => None,
        }
    }
}

/// Lines of one answer.
#[derive(Debug, Default)]
struct Replies(Vec<String>);

impl Replies {
    fn add(&mut self, write: impl FnOnce(LineWriter<'_>)) {
        let mut text = String::new();
        write(LineWriter::new(&mut text));
        self.0.push(text);
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(String::len).sum()
    }
}

fn has_tag(line: &str, key: &str) -> bool {
    Line::parse(line).is_ok_and(|line| line.tags.iter().any(|(name, _)| name == key))
}

/// The line with one tag more, in front.
fn with_tag(line: &str, key: &str, value: &str) -> String {
    let mut text = String::with_capacity(line.len() + key.len() + value.len() + 3);
    LineWriter::new(&mut text).tag(key, value);
    match line.strip_prefix('@') {
        Some(rest) => {
            text.push(';');
            text.push_str(rest);
        }
        None => {
            text.push(' ');
            text.push_str(line);
        }
    }
    text
}
