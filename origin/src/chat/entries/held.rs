//! A held message as a fact: what was asked, whole, so that whoever approves it later
//! says what was meant.

use common::{
    chat::{Author, MessageId, Network, Sender, Text},
    live::UnixMs,
};
use serde::{Deserialize, Serialize};

use super::written;
use crate::chat::{
    clue::Held,
    record::{SavedUser, author, saved},
};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedHeld {
    at_ms: u64,
    /// With the roles of its token.
    user: SavedUser,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    follows_since_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<[u8; 16]>,
    text: String,
    #[serde(default)]
    action: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
}

impl SavedHeld {
    /// `None` where it holds what no message can.
    pub(super) fn held(self, id: MessageId) -> Option<Held> {
        let Author { user, roles } = author(self.user)?;
        let reply_to = self.reply_to.map(|parent| MessageId::parse(&parent));
        Some(Held {
            id,
            at: UnixMs(self.at_ms),
            sender: Sender {
                user,
                roles,
                follows_since: self.follows_since_ms.map(UnixMs),
                network: self.network.map(Network),
            },
            text: Text::cut(&self.text)?,
            action: self.action,
            reply_to: reply_to.transpose().ok()?,
        })
    }
}

pub(super) fn held_text(held: &Held) -> String {
    let Sender {
        user,
        roles,
        follows_since,
        network,
    } = &held.sender;
    let author = Author {
        user: user.clone(),
        roles: *roles,
    };
    written(&SavedHeld {
        at_ms: held.at.0,
        user: saved(&author),
        follows_since_ms: follows_since.map(|since| since.0),
        network: network.map(|network| network.0),
        text: held.text.to_string(),
        action: held.action,
        reply_to: held.reply_to.map(|parent| parent.to_string()),
    })
}
