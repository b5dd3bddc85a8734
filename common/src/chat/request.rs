//! What is asked of a room's actor, and what it answers.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    command::Command,
    event::Stamp,
    feed::Feed,
    name::{MessageId, Text},
    notice::Notice,
    presence::Presence,
    user::Sender,
};
use crate::names::NodeId;

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
}

/// The answer to a [`Request`], for who asked alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is said, and the event is on its way to everybody.
    Said(Stamp),
    Done(Notice),
    Refused(Notice),
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
}

/// A room as whoever carries it to others holds it: at its home and in between.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    pub feed: Arc<Feed>,
    pub asks: mpsc::Sender<Asked>,
    pub presence: Arc<Presence>,
}
