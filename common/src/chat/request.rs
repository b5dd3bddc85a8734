//! What is asked of a room's actor, and what it answers.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    command::Command,
    event::{Settings, Stamp},
    feed::Feed,
    name::{Login, MessageId, Text},
    notice::Notice,
    presence::Presence,
    term::{Term, TermAction},
    user::{Roles, Sender},
};
use crate::{
    live::UnixMs,
    names::{ChannelName, NodeId},
};

/// Something that only the room's actor may decide. `id` is the edge's, and is
/// the message's own when it is said: who asks again after a lost link names the
/// same id, and is told the same verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub id: MessageId,
    pub sender: Sender,
    pub ask: Ask,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Say {
        text: Text,
        action: bool,
        reply_to: Option<MessageId>,
    },
    Do(Command),
    /// The viewers of another room come here. An edge asks this once that room
    /// agreed; no client can.
    Arrive {
        from: ChannelName,
        viewers: u32,
    },
}

/// The answer to a [`Request`], for who asked alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is said, and the event is on its way to everybody.
    Said(Stamp),
    Done(Notice),
    Refused(Notice),
    /// So many viewers go on to another room, which whoever asked is to tell.
    Raids {
        notice: Notice,
        to: ChannelName,
        viewers: u32,
    },
}

/// Users of a room at one node and those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections that read along, signed in or not.
    pub readers: u32,
    /// Those that may write.
    pub chatters: u32,
    /// Who watches the channel, chatting or not.
    pub viewers: u32,
}

/// What lies in the mailbox of a room's actor or of its relay.
#[derive(Debug)]
pub enum Asked {
    Request {
        /// Who passes it on.
        from: NodeId,
        request: Box<Request>,
        /// A place in the asker's queue, so that answering never waits.
        reply: mpsc::OwnedPermit<(MessageId, Verdict)>,
    },
    /// What moderators may know of the room, for the operator of its home.
    Look {
        /// Bans of logins after this one.
        bans_after: Option<Login>,
        most_bans: usize,
        reply: oneshot::Sender<Box<Insight>>,
    },
}

/// A room as its moderators may see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Insight {
    pub settings: Settings,
    /// By login, those in force.
    pub bans: Vec<(Login, BanSeen)>,
    pub bans_in_all: usize,
    /// By login, the room's own and the operator's.
    pub roles: Vec<(Login, Roles)>,
    pub terms: Vec<(Term, TermAction)>,
    /// Oldest first.
    pub held: Vec<HeldSeen>,
}

/// A ban or a time-out in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BanSeen {
    /// `None`: for good.
    pub until: Option<UnixMs>,
    pub network: bool,
    pub by: Login,
    pub reason: Option<Text>,
    pub at: UnixMs,
}

/// A message that waits for a moderator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSeen {
    pub id: MessageId,
    pub login: Login,
    pub text: Text,
    pub at: UnixMs,
}

/// A room as whoever carries it to others holds it: at its home and in between.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    pub feed: Arc<Feed>,
    pub asks: mpsc::Sender<Asked>,
    pub presence: Arc<Presence>,
}
