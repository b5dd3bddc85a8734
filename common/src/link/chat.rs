//! CHAT: rooms over the link. The text in [`super`] says what each message is for;
//! the modules below are their bytes.

mod decode;
mod encode;

use crate::{
    chat::{
        Counts, Event, Login, MessageId, Offset, Request, Roles, RoomEpoch, Settings, Verdict,
        presence::changes,
    },
    names::{ChannelName, NodeId},
};

pub use decode::id_of_ask;
pub use encode::event as encode_event;

use super::message::Code;

/// Rooms that one child may read at once; each is a channel somebody there chats in.
pub const MAX_ROOMS: usize = 4_096;

/// Origins that may share rooms: as many as the hash is asked over at every join.
pub const MAX_ORIGINS: usize = 64;

/// Names that came or that went, in one message.
pub const NAMES_AT_ONCE: usize = 256;

/// Who came and who went since the last such message; with `anew`, since nobody was
/// there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    pub anew: bool,
    pub came: Vec<Login>,
    pub went: Vec<Login>,
}

impl Changes {
    /// What leads from `before` to `after`, both in order, in pieces of at most
    /// [`NAMES_AT_ONCE`]; at least one.
    #[must_use]
    pub fn between(before: Option<&[Login]>, after: &[Login]) -> Vec<Self> {
        let (came, went) = changes(before.unwrap_or_default(), after);
        let (mut came, mut went) = (came.chunks(NAMES_AT_ONCE), went.chunks(NAMES_AT_ONCE));
        let mut pieces = vec![Self {
            anew: before.is_none(),
            came: came.next().unwrap_or_default().to_vec(),
            went: went.next().unwrap_or_default().to_vec(),
        }];
        loop {
            let further = (came.next(), went.next());
            if further == (None, None) {
                return pieces;
            }
            pieces.push(Self {
                anew: false,
                came: further.0.unwrap_or_default().to_vec(),
                went: further.1.unwrap_or_default().to_vec(),
            });
        }
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.anew && self.came.is_empty() && self.went.is_empty()
    }
}

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
    /// Names, as far as the room has few enough.
    Members {
        room: ChannelName,
        changes: Changes,
    },
    /// The room over all edges.
    Present {
        room: ChannelName,
        counts: Counts,
        /// Whether it tells names.
        named: bool,
        changes: Changes,
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
