//! What happened in a room, as its actor numbered it.

use std::fmt;

use super::{
    name::{Display, EmoteSpans, Login, MessageId, Text, UserId},
    notice::Notice,
    user::{Author, Roles},
};
use crate::live::UnixMs;

/// One life of a room's actor. Greater than every epoch before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RoomEpoch(pub u64);

/// The number of an event within its epoch, from 0 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(pub u64);

impl Offset {
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Where an event stands: (epoch, offset) is one total order per room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub epoch: RoomEpoch,
    pub offset: Offset,
    pub id: MessageId,
    /// The actor's wall clock.
    pub at: UnixMs,
    /// Programme time: where in the picture it belongs. The actor's UTC, as the
    /// packager's is the origin's.
    pub program: UnixMs,
}

/// What a message answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub parent: MessageId,
    /// The first message of the thread.
    pub thread: MessageId,
    pub user: UserId,
    pub login: Login,
    pub display: Display,
    pub text: Text,
}

/// A message of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    pub author: Author,
    pub text: Text,
    /// `/me`
    pub action: bool,
    pub reply: Option<Reply>,
    pub emotes: EmoteSpans,
}

/// What everybody sees of a room's rules: ROOMSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Seconds between two messages of one user; 0 is off.
    pub slow_s: u32,
    /// Minutes that one must have followed; `None` is off, 0 any follower.
    pub followers_min: Option<u32>,
    pub subscribers_only: bool,
    pub emote_only: bool,
    /// No message twice (r9k).
    pub unique: bool,
    /// No links, but of who may.
    pub no_links: bool,
}

/// What a USERNOTICE is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserNoticeKind {
    /// The colour is one of Twitch's words, such as PRIMARY.
    Announcement {
        colour: String,
    },
    Raid {
        viewers: u32,
    },
}

/// An event that a user caused and that is more than a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNotice {
    pub kind: UserNoticeKind,
    pub author: Author,
    /// What a client without a clue shows; may be empty.
    pub system: String,
    pub text: Option<Text>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Post(Post),
    /// CLEARCHAT: all that was said is to be hidden.
    Cleared,
    /// CLEARCHAT of a user: banned, or silent for so many seconds.
    UserCleared {
        user: UserId,
        login: Login,
        seconds: Option<u32>,
    },
    /// CLEARMSG.
    Deleted {
        message: MessageId,
        login: Login,
        text: Text,
    },
    Settings(Settings),
    Notice(Notice),
    UserNotice(UserNotice),
    /// A message that moderators look at before it is said, and for them alone.
    /// Its id is the message's.
    Held {
        author: Author,
        text: Text,
    },
    /// It won't be said: for moderators and for who wrote it.
    Denied {
        message: MessageId,
        login: Login,
        by: Login,
    },
    /// What a user is in this room by the room's own word, whatever a token says:
    /// for that user.
    Roles {
        login: Login,
        roles: Roles,
    },
    /// Not numbered and never said by an actor: here a relay lost some events for
    /// good. Its stamp is that of the event that follows.
    Gap,
}

impl Body {
    /// What a reader must learn even where it was too slow for the rest.
    #[must_use]
    pub const fn moderates(&self) -> bool {
        matches!(
            self,
            Self::Cleared | Self::UserCleared { .. } | Self::Deleted { .. }
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub stamp: Stamp,
    pub body: Body,
}

impl Event {
    /// Roughly what it takes in memory, for the bounds of rings.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let own = size_of::<Self>();
        match &self.body {
            Body::Post(post) => {
                let reply = post.reply.as_ref();
                own + post.text.as_str().len()
                    + post.emotes.as_str().len()
                    + reply.map_or(0, |reply| reply.text.as_str().len())
            }
            Body::Deleted { text, .. } => own + text.as_str().len(),
            Body::Notice(notice) => own + notice.text.len(),
            Body::UserNotice(notice) => own + notice.system.len() + Text::MAX_BYTES / 4,
            Body::Held { text, .. } => own + text.as_str().len(),
            Body::Cleared
            | Body::UserCleared { .. }
            | Body::Settings(_)
            | Body::Denied { .. }
            | Body::Roles { .. }
            | Body::Gap => own,
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RoomEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
