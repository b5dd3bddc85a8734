//! Chat's vocabulary, which edges, mid tiers and origins share: who speaks, what
//! may be asked of a room, what happened in it, and the IRC that clients see.
//!
//! In: bytes and values. Out: values and bytes. Nothing here knows a socket or
//! reads a wall clock; [`feed`] and [`presence`] alone are shared between tasks. A room is a channel's
//! chat and bears its name. One actor per room orders and decides; everybody
//! else carries what it said. Invariant: whatever a value of these types holds
//! can be printed in an IRC line without escaping its place in it.

pub mod command;
pub mod event;
pub mod feed;
pub mod home;
pub mod irc;
pub mod limit;
pub mod name;
pub mod notice;
pub mod presence;
pub mod request;
pub mod term;
pub mod token;
pub mod user;

pub use command::{Command, CommandError};
pub use event::{
    Body, Event, Offset, Post, Reply, RoomEpoch, Settings, Stamp, UserNotice, UserNoticeKind,
};
pub use feed::{Cursor, Feed, Limits, Posted, Read, Resumed};
pub use name::{Display, EmoteSpans, Login, MessageId, Text, UserId};
pub use notice::{Notice, NoticeId};
pub use presence::{Presence, Present};
pub use request::{Asked, Counts, Request, RoomHandle, Verdict};
pub use term::{Term, TermAction};
pub use user::{Author, Badge, Claims, Colour, Network, Prefix, Roles, RoomClaims, Sender, User};
