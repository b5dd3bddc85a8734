//! One room's mind, without I/O: what may be said and done there, by whom, and in
//! which order. Fed requests and the time, it gives verdicts, numbered events, and
//! what has to be written to disk before anybody may see either.
//!
//! Invariants: offsets rise by one without gaps; a request that comes twice is
//! decided once; every table is bounded ([`MAX_BANS`], [`MAX_SPEAKERS`],
//! [`RECENT`], [`VERDICTS`]).

mod bans;
mod moderate;
mod past;
mod say;
mod speakers;

use std::collections::{HashMap, VecDeque};

use common::{
    chat::{
        Body, Event, Login, MessageId, Network, Notice, NoticeId, Offset, Request, Roles,
        RoomEpoch, Sender, Settings, Stamp, Text, UserId, Verdict, limit::Rate, request::Ask,
    },
    live::UnixMs,
    names::ChannelName,
};

use bans::Bans;
use speakers::Speakers;

/// Bans and time-outs of one room that are in force.
pub const MAX_BANS: usize = 100_000;

/// Users with a role of the room's own.
pub const MAX_ROLES: usize = 4_096;

/// Users whose last words are remembered for their limits.
pub const MAX_SPEAKERS: usize = 16_384;

/// Messages that can be deleted, answered or repeated.
pub const RECENT: usize = 1_024;

/// Requests that are recognised when they come again.
pub const VERDICTS: usize = 4_096;

/// Messages of all users together: beyond it nobody can read along anyway.
const ROOM_MESSAGES: Rate = Rate {
    most: 200,
    span_ms: 1_000,
};

/// Why somebody may not speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Known where the user ever spoke here.
    pub user: Option<UserId>,
    /// `None`: for good.
    pub until: Option<UnixMs>,
    /// Everybody of this network too.
    pub network: Option<Network>,
    pub by: Login,
    pub reason: Option<Text>,
    pub at: UnixMs,
}

impl Ban {
    fn is_over(&self, now: UnixMs) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What must be on disk before the decision is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Ban(Login, Ban),
    Unban(Login),
    /// Without any, the user has no role of the room's own.
    Roles(Login, Roles),
    Settings(Settings),
}

/// What the store knows of a room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    pub bans: HashMap<Login, Ban>,
    pub roles: HashMap<Login, Roles>,
    pub settings: Settings,
}

/// What a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    pub events: Vec<Event>,
    pub changes: Vec<Change>,
}

/// A message that was said lately.
#[derive(Debug, Clone)]
struct Said {
    id: MessageId,
    /// The first message of its thread.
    thread: MessageId,
    sender: common::chat::User,
    roles: Roles,
    text: Text,
    /// Still to be seen.
    shown: bool,
}

/// See the module's text.
#[derive(Debug)]
pub struct Clue {
    room: ChannelName,
    epoch: RoomEpoch,
    next: Offset,
    bans: Bans,
    roles: HashMap<Login, Roles>,
    settings: Settings,
    speakers: Speakers,
    recent: VecDeque<Said>,
    all: common::chat::limit::Taken,
    verdicts: HashMap<MessageId, Verdict>,
    decided: VecDeque<MessageId>,
}

impl Clue {
    #[must_use]
    pub fn new(room: ChannelName, epoch: RoomEpoch, known: Known) -> Self {
        Self {
            room,
            epoch,
            next: Offset(0),
            bans: Bans::new(known.bans),
            roles: known.roles,
            settings: known.settings,
            speakers: Speakers::default(),
            recent: VecDeque::new(),
            all: common::chat::limit::Taken::default(),
            verdicts: HashMap::new(),
            decided: VecDeque::new(),
        }
    }

    #[must_use]
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// The number of the next event.
    #[must_use]
    pub const fn next(&self) -> Offset {
        self.next
    }

    /// Decides and numbers. What it returns has happened as far as this room's
    /// mind goes: the caller writes the changes, then tells events and verdict.
    pub fn decide(&mut self, now: UnixMs, request: &Request) -> Decision {
        if let Some(verdict) = self.verdicts.get(&request.id) {
            return Decision {
                verdict: verdict.clone(),
                events: Vec::new(),
                changes: Vec::new(),
            };
        }
        let sender = &request.sender;
        let roles = self.roles_of(sender);
        let decision = match &request.ask {
            Ask::Say {
                text,
                action,
                reply_to,
            } => self.say(now, request.id, sender, roles, text, *action, *reply_to),
            Ask::Do(command) => self.moderate(now, request.id, sender, roles, command),
        };
        self.remember(request.id, &decision.verdict);
        decision
    }

    /// By the token, or by what the broadcaster granted here.
    fn roles_of(&self, sender: &Sender) -> Roles {
        let own = self.roles.get(&sender.user.login).copied();
        sender.roles.union(own.unwrap_or_default())
    }

    fn remember(&mut self, id: MessageId, verdict: &Verdict) {
        if self.decided.len() == VERDICTS
            && let Some(oldest) = self.decided.pop_front()
        {
            self.verdicts.remove(&oldest);
        }
        self.decided.push_back(id);
        self.verdicts.insert(id, verdict.clone());
    }

    fn stamp(&mut self, now: UnixMs, id: MessageId) -> Stamp {
        let offset = self.next;
        self.next = offset.next();
        Stamp {
            epoch: self.epoch,
            offset,
            id,
            at: now,
            program: now,
        }
    }

    /// An event of a request that is no message; a request makes at most one.
    fn event(&mut self, now: UnixMs, id: MessageId, body: Body) -> Event {
        let stamp = self.stamp(now, id);
        Event { stamp, body }
    }
}

fn refused(id: NoticeId, text: impl Into<String>) -> Decision {
    Decision {
        verdict: Verdict::Refused(Notice::new(id, text)),
        events: Vec::new(),
        changes: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
