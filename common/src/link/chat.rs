//! CHAT: rooms over the link. The text in [`super`] says what each message is for;
//! the modules below are their bytes.

mod decode;
mod encode;

use crate::{
    chat::{Counts, Event, MessageId, Offset, Request, RoomEpoch, Settings, Verdict},
    names::{ChannelName, NodeId},
};

pub use encode::event as encode_event;

use super::message::Code;

/// Rooms that one child may read at once; each is a channel somebody there chats in.
pub const MAX_ROOMS: usize = 4_096;

/// Origins that may share rooms: as many as the hash is asked over at every join.
pub const MAX_ORIGINS: usize = 64;

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
    /// The room is not to be had on this stream.
    Closed {
        room: ChannelName,
        code: Code,
    },
}

#[cfg(test)]
mod tests;
