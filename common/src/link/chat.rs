//! CHAT: rooms over the link. The text in [`super`] says what each message is for;
//! the modules below are their bytes.

mod decode;
mod encode;

use crate::{
    chat::{Counts, Event, Login, MessageId, Offset, Request, Roles, RoomEpoch, Settings, Verdict},
    names::{ChannelName, NodeId},
};

pub use encode::event as encode_event;

use super::message::Code;

/// Rooms that one child may read at once; each is a channel somebody there chats in.
pub const MAX_ROOMS: usize = 4_096;

/// Origins that may share rooms: as many as the hash is asked over at every join.
pub const MAX_ORIGINS: usize = 64;

/// Users in one ROLES: what fits into a message, at 27 bytes each.
pub const ROLES_AT_ONCE: usize = 512;

/// Every message of a CHAT stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chat {
    /// The first message of the stream.
    Open,
    Enter {
        room: ChannelName,
        /// Everything before this is known. `None`: nothing is.
        after: Option<(RoomEpoch, Offset)>,
    },
    Exit {
        room: ChannelName,
    },
    Counts {
        room: ChannelName,
        counts: Counts,
    },
    Ask {
        room: ChannelName,
        request: Box<Request>,
    },
    Verdict {
        id: MessageId,
        verdict: Verdict,
    },
    Room {
        room: ChannelName,
        epoch: RoomEpoch,
        /// The first event that follows.
        next: Offset,
        /// Where the room stands: what is before it is the past.
        live: Offset,
        settings: Settings,
    },
    Event {
        room: ChannelName,
        event: Box<Event>,
    },
    Origins {
        nodes: Vec<NodeId>,
    },
    /// Who is what in a room by its own word.
    Roles {
        room: ChannelName,
        /// Beside those that were said before.
        more: bool,
        /// At most [`ROLES_AT_ONCE`].
        roles: Vec<(Login, Roles)>,
    },
    /// The room is not to be had on this stream.
    Closed {
        room: ChannelName,
        code: Code,
    },
}

#[cfg(test)]
mod tests;
