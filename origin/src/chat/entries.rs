//! A room's moderation as facts, each under a kind and a key: what both keepers of
//! it, the file and the bus, can hold without knowing what it means.
//!
//! In: [`Change`]s. Out: [`Entry`]s, and what they come to again. The value of a
//! fact is JSON; one that can't be read is named in the log and treated as absent.

mod held;

use common::{
    chat::{Login, MessageId, Network, Roles, Settings, Term, TermAction, Text, UserId},
    live::UnixMs,
    names::ChannelName,
};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::clue::{Ban, Change, Known, MAX_BANS, MAX_HELD, MAX_ROLES, MAX_TERMS};
use held::{SavedHeld, held_text};

/// Kinds of facts: words of `[a-z]`, which every keeper can use in a key.
const BAN: &str = "ban";
const ROLE: &str = "role";
const SETTINGS: &str = "settings";
const TERM: &str = "term";
const HELD: &str = "held";

/// The one key of [`SETTINGS`].
const ALL: &str = "all";

/// A fact from now on; without a value it is none any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub kind: String,
    pub key: String,
    pub value: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedBan {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<[u8; 16]>,
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    at_ms: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct SavedSettings {
    slow_s: u32,
    followers_min: Option<u32>,
    subscribers_only: bool,
    emote_only: bool,
    unique: bool,
    no_links: bool,
}

impl Entry {
    fn new(kind: &str, key: impl Into<String>, value: Option<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            key: key.into(),
            value,
        }
    }
}

impl From<&Change> for Entry {
    fn from(change: &Change) -> Self {
        match change {
            Change::Ban(login, ban) => Self::new(BAN, login.as_str(), Some(ban_text(ban))),
            Change::Unban(login) => Self::new(BAN, login.as_str(), None),
            Change::Roles(login, of) => {
                let some = *of != Roles::default();
                Self::new(ROLE, login.as_str(), some.then(|| of.bits().to_string()))
            }
            Change::Settings(settings) => Self::new(SETTINGS, ALL, Some(settings_text(*settings))),
            Change::Term(term, action) => {
                let action = action.map(|action| written(&action.as_str()));
                Self::new(TERM, term.as_str(), action)
            }
            Change::Held(held) => Self::new(HELD, held.id.to_string(), Some(held_text(held))),
            Change::LookedAt(id) => Self::new(HELD, id.to_string(), None),
        }
    }
}

impl Known {
    /// Takes a fact that a keeper held or that was written since. Past the bounds of
    /// `clue` it is passed over.
    pub fn learn(&mut self, room: &ChannelName, kind: &str, key: &str, value: Option<&str>) {
        match kind {
            BAN => {
                let Ok(login) = Login::parse(key) else {
                    return;
                };
                match value.and_then(|text| ban(room, text)) {
                    Some(ban) if self.bans.len() < MAX_BANS || self.bans.contains_key(&login) => {
                        self.bans.insert(login, ban);
                    }
                    Some(_) => {}
                    None => drop(self.bans.remove(&login)),
                }
            }
            ROLE => {
                let Ok(login) = Login::parse(key) else {
                    return;
                };
                match value.and_then(|text| parsed::<u64>(room, text)) {
                    Some(bits)
                        if self.roles.len() < MAX_ROLES || self.roles.contains_key(&login) =>
                    {
                        self.roles.insert(login, Roles::from_bits(bits));
                    }
                    Some(_) => {}
                    None => drop(self.roles.remove(&login)),
                }
            }
            SETTINGS => {
                let saved = value.and_then(|text| parsed(room, text));
                self.settings = settings(&saved.unwrap_or_default());
            }
            TERM => {
                let Some(term) = Term::parse(key) else {
                    return;
                };
                let action = value.and_then(|text| parsed::<String>(room, text));
                match action.as_deref().and_then(TermAction::parse) {
                    Some(action)
                        if self.terms.len() < MAX_TERMS || self.terms.contains_key(&term) =>
                    {
                        self.terms.insert(term, action);
                    }
                    Some(_) => {}
                    None => drop(self.terms.remove(&term)),
                }
            }
            HELD => {
                let Ok(id) = MessageId::parse(key) else {
                    return;
                };
                let saved = value.and_then(|text| parsed::<SavedHeld>(room, text));
                match saved.and_then(|saved| saved.held(id)) {
                    Some(held) if self.held.len() < MAX_HELD || self.held.contains_key(&id) => {
                        self.held.insert(id, held);
                    }
                    Some(_) => {}
                    None => drop(self.held.remove(&id)),
                }
            }
            // Of a later version.
            _ => {}
        }
    }

    /// Forgets bans that are over and messages that waited too long; what that comes to
    /// for a keeper.
    pub fn forget_past(&mut self, now: UnixMs) -> Vec<Entry> {
        let mut past = Vec::new();
        self.bans.retain(|login, ban| {
            let over = ban.until.is_some_and(|until| until <= now);
            if over {
                past.push(Entry::new(BAN, login.as_str(), None));
            }
            !over
        });
        self.held.retain(|id, held| {
            let late = held.is_late(now);
            if late {
                past.push(Entry::new(HELD, id.to_string(), None));
            }
            !late
        });
        past
    }
}

fn parsed<'a, T: Deserialize<'a>>(room: &ChannelName, text: &'a str) -> Option<T> {
    serde_json::from_str(text)
        .inspect_err(|error| warn!(%room, %error, "a fact of the room can't be read"))
        .ok()
}

fn ban(room: &ChannelName, text: &str) -> Option<Ban> {
    let saved: SavedBan = parsed(room, text)?;
    Some(Ban {
        user: saved.user.and_then(|user| UserId::parse(&user).ok()),
        until: saved.until_ms.map(UnixMs),
        network: saved.network.map(Network),
        by: Login::parse(&saved.by).ok()?,
        reason: saved.reason.and_then(|reason| Text::cut(&reason)),
        at: UnixMs(saved.at_ms),
    })
}

fn ban_text(ban: &Ban) -> String {
    written(&SavedBan {
        user: ban.user.as_ref().map(|user| user.as_str().to_owned()),
        until_ms: ban.until.map(|until| until.0),
        network: ban.network.map(|network| network.0),
        by: ban.by.as_str().to_owned(),
        reason: ban.reason.as_ref().map(|reason| reason.as_str().to_owned()),
        at_ms: ban.at.0,
    })
}

const fn settings(saved: &SavedSettings) -> Settings {
    Settings {
        slow_s: saved.slow_s,
        followers_min: saved.followers_min,
        subscribers_only: saved.subscribers_only,
        emote_only: saved.emote_only,
        unique: saved.unique,
        no_links: saved.no_links,
    }
}

fn settings_text(settings: Settings) -> String {
    written(&SavedSettings {
        slow_s: settings.slow_s,
        followers_min: settings.followers_min,
        subscribers_only: settings.subscribers_only,
        emote_only: settings.emote_only,
        unique: settings.unique,
        no_links: settings.no_links,
    })
}

fn written(saved: &impl Serialize) -> String {
    // Strings and numbers always serialise.
    serde_json::to_string(saved).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use common::chat::{Badge, Colour, Sender, User};

    use super::*;
    use crate::chat::clue::{HELD_FOR_MS, Held};

    #[test]
    fn facts_come_to_what_was_changed() {
        let room = ChannelName::parse("demo").unwrap();
        let login = |name: &str| Login::parse(name).unwrap();
        let ban = |until: Option<u64>| Ban {
            user: Some(UserId::parse("u1").unwrap()),
            until: until.map(UnixMs),
            network: Some(Network([7; 16])),
            by: login("max"),
            reason: Text::cut("so"),
            at: UnixMs(3),
        };
        let settings = Settings {
            slow_s: 7,
            followers_min: Some(0),
            subscribers_only: true,
            emote_only: false,
            unique: true,
            no_links: true,
        };
        let moderator = Roles {
            moderator: true,
            ..Roles::default()
        };
        let mut known = Known::default();
        let mut learn = |change: Change| {
            let entry = Entry::from(&change);
            known.learn(&room, &entry.kind, &entry.key, entry.value.as_deref());
            known.clone()
        };
        learn(Change::Ban(login("ann"), ban(None)));
        learn(Change::Ban(login("bob"), ban(Some(9))));
        learn(Change::Roles(login("cat"), moderator));
        learn(Change::Roles(login("dog"), moderator));
        learn(Change::Roles(login("dog"), Roles::default()));
        learn(Change::Ban(login("eve"), ban(None)));
        learn(Change::Unban(login("eve")));
        let term = |text: &str| Term::parse(text).unwrap();
        learn(Change::Term(term("a b"), Some(TermAction::Hold)));
        learn(Change::Term(term("c"), Some(TermAction::Hold)));
        learn(Change::Term(term("c"), None));
        let told = learn(Change::Settings(settings));
        let expected = Known {
            bans: [(login("ann"), ban(None)), (login("bob"), ban(Some(9)))].into(),
            roles: [(login("cat"), moderator)].into(),
            settings,
            terms: [(Term::parse("a b").unwrap(), TermAction::Hold)].into(),
            held: HashMap::new(),
            past: Vec::new(),
        };
        assert_eq!(told, expected);
        assert!(known.forget_past(UnixMs(8)).is_empty());
        let past = known.forget_past(UnixMs(9));
        assert_eq!(past, [Entry::from(&Change::Unban(login("bob")))]);
        known.learn(&room, BAN, "zoe", Some("{"));
        known.learn(&room, "later", "x", Some("1"));
        assert_eq!(known.bans.len(), 1);
    }

    /// Whoever approves it after a restart says what was meant, by whom.
    #[test]
    fn a_held_message_is_kept_whole_and_not_for_ever() {
        let room = ChannelName::parse("demo").unwrap();
        let mut user = User::named(Login::parse("ann").unwrap());
        user.colour = Some(Colour(0x00ff_7f00));
        user.badges = vec![Badge::parse("subscriber/12").unwrap()];
        let held = |id: u128| Held {
            id: MessageId(id),
            at: UnixMs(5),
            sender: Sender {
                user: user.clone(),
                roles: Roles::from_bits(8),
                follows_since: Some(UnixMs(1)),
                network: Some(Network([7; 16])),
            },
            text: Text::cut("hm \"so\" \u{1f600}").unwrap(),
            action: true,
            reply_to: Some(MessageId(77)),
        };
        let mut known = Known::default();
        let learn = |known: &mut Known, change: Change| {
            let entry = Entry::from(&change);
            known.learn(&room, &entry.kind, &entry.key, entry.value.as_deref());
        };
        for id in 0..=MAX_HELD as u128 {
            learn(&mut known, Change::Held(Box::new(held(id))));
        }
        assert_eq!(known.held.len(), MAX_HELD);
        assert_eq!(known.held.get(&MessageId(3)), Some(&held(3)));
        learn(&mut known, Change::LookedAt(MessageId(3)));
        assert_eq!(known.held.get(&MessageId(3)), None);
        known.learn(&room, HELD, &MessageId(4).to_string(), Some("{}"));
        assert_eq!(known.held.len(), MAX_HELD - 2);
        let until = held(1).at.0 + HELD_FOR_MS;
        assert!(known.forget_past(UnixMs(until - 1)).is_empty());
        assert_eq!(known.forget_past(UnixMs(until)).len(), MAX_HELD - 2);
        assert!(known.held.is_empty());
    }
}
