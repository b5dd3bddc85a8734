//! What rooms must not forget, in one redb file: pure Rust and small, copy-on-write
//! pages and one writer, so that a commit is there after kill -9 and a torn one
//! never was. Keys are (room, login); SQL would add a C compiler and nothing that
//! a look-up by key needs.
//!
//! Every call blocks on the disk: for a thread that may.

use std::path::Path;

use common::{
    chat::{Login, Network, Roles, RoomEpoch, Settings, Term, TermAction, Text, UserId},
    live::UnixMs,
    names::ChannelName,
};
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::clue::{Ban, Change, Known, MAX_BANS, MAX_ROLES, MAX_TERMS};

/// By (room, login).
const BANS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("bans");
const ROLES: TableDefinition<'_, (&str, &str), u8> = TableDefinition::new("roles");
/// By (room, term): the word of its action.
const TERMS: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("terms");
const ROOMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rooms");
const EPOCHS: TableDefinition<'_, &str, u64> = TableDefinition::new("epochs");

/// The one key of [`EPOCHS`]: no epoch as great was given out yet.
const BELOW: &str = "below";

/// Epochs that one write reserves, so that a stranger who names rooms does not
/// make the disk write: they are milliseconds.
const RESERVED: u64 = 3_600_000;

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(#[from] redb::Error);

/// See the module's text.
#[derive(Debug)]
pub struct Store {
    file: Option<Database>,
    epochs: Mutex<Epochs>,
}

#[derive(Debug, Default)]
struct Epochs {
    /// The greatest that was given out.
    last: u64,
    /// What the file says is the least that was not.
    below: u64,
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
struct SavedRoom {
    slow_s: u32,
    followers_min: Option<u32>,
    subscribers_only: bool,
    emote_only: bool,
    unique: bool,
    no_links: bool,
}

impl Store {
    /// Opens or makes the file; without one, rooms forget when they close.
    ///
    /// # Errors
    /// [`StoreError`]; another process that has it open is one.
    pub fn open(path: Option<&Path>) -> Result<Self, StoreError> {
        let Some(path) = path else {
            return Ok(Self {
                file: None,
                epochs: Mutex::default(),
            });
        };
        let file = Database::create(path).map_err(redb::Error::from)?;
        let store = Self {
            file: Some(file),
            epochs: Mutex::default(),
        };
        store.with_tables().map_err(StoreError)?;
        Ok(store)
    }

    fn with_tables(&self) -> Result<(), redb::Error> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let write = file.begin_write()?;
        write.open_table(BANS)?;
        write.open_table(ROLES)?;
        write.open_table(ROOMS)?;
        write.open_table(TERMS)?;
        let below = {
            let epochs = write.open_table(EPOCHS)?;
            let below = epochs.get(BELOW)?;
            below.map_or(0, |below| below.value())
        };
        write.commit()?;
        // What the last process reserved, this one passes over.
        *self.epochs.lock() = Epochs { last: below, below };
        Ok(())
    }

    /// Begins a room's next life: what is known of it, and an epoch greater than
    /// all before, even those of a process that was killed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(&self, room: &ChannelName, now: UnixMs) -> Result<(RoomEpoch, Known), StoreError> {
        self.begin_in(room, now).map_err(StoreError)
    }

    fn begin_in(&self, room: &ChannelName, now: UnixMs) -> Result<(RoomEpoch, Known), redb::Error> {
        let epoch = self.next_epoch(now)?;
        let Some(file) = &self.file else {
            return Ok((epoch, Known::default()));
        };
        let key = room.as_str();
        let mut known = Known::default();
        let read = file.begin_read()?;
        let mut saved = SavedRoom::default();
        if let Some(value) = read.open_table(ROOMS)?.get(key)? {
            saved = parsed(room, value.value()).unwrap_or_default();
        }
        known.settings = Settings {
            slow_s: saved.slow_s,
            followers_min: saved.followers_min,
            subscribers_only: saved.subscribers_only,
            emote_only: saved.emote_only,
            unique: saved.unique,
            no_links: saved.no_links,
        };
        for entry in read.open_table(BANS)?.range((key, "")..)? {
            let (at, value) = entry?;
            let (of, login) = at.value();
            if of != key || known.bans.len() == MAX_BANS {
                break;
            }
            if let (Ok(login), Some(ban)) = (Login::parse(login), ban(room, value.value())) {
                known.bans.insert(login, ban);
            }
        }
        for entry in read.open_table(ROLES)?.range((key, "")..)? {
            let (at, value) = entry?;
            let (of, login) = at.value();
            if of != key || known.roles.len() == MAX_ROLES {
                break;
            }
            if let Ok(login) = Login::parse(login) {
                let roles = Roles::from_bits(value.value().into());
                known.roles.insert(login, roles);
            }
        }
        for entry in read.open_table(TERMS)?.range((key, "")..)? {
            let (at, value) = entry?;
            let (of, term) = at.value();
            if of != key || known.terms.len() == MAX_TERMS {
                break;
            }
            if let (Some(term), Some(action)) =
                (Term::parse(term), TermAction::parse(value.value()))
            {
                known.terms.insert(term, action);
            }
        }
        drop(read);
        let over = |ban: &Ban| ban.until.is_some_and(|until| until <= now);
        let past: Vec<Login> = known
            .bans
            .iter()
            .filter(|(_, ban)| over(ban))
            .map(|(l, _)| l.clone())
            .collect();
        known.bans.retain(|_, ban| !over(ban));
        if !past.is_empty() {
            let write = file.begin_write()?;
            {
                let mut bans = write.open_table(BANS)?;
                for login in &past {
                    bans.remove((key, login.as_str()))?;
                }
            }
            write.commit()?;
        }
        Ok((epoch, known))
    }

    /// Greater than all before, over all rooms and processes of this file, whatever
    /// the clock does.
    fn next_epoch(&self, now: UnixMs) -> Result<RoomEpoch, redb::Error> {
        let mut epochs = self.epochs.lock();
        let epoch = now.0.max(epochs.last.saturating_add(1));
        if let Some(file) = &self.file
            && epoch >= epochs.below
        {
            let below = epoch.saturating_add(RESERVED);
            let write = file.begin_write()?;
            write.open_table(EPOCHS)?.insert(BELOW, below)?;
            write.commit()?;
            epochs.below = below;
        }
        epochs.last = epoch;
        Ok(RoomEpoch(epoch))
    }

    /// Writes a decision's changes, all or none; they are on disk when it returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn apply(&self, room: &ChannelName, changes: &[Change]) -> Result<(), StoreError> {
        self.apply_in(room, changes).map_err(StoreError)
    }

    fn apply_in(&self, room: &ChannelName, changes: &[Change]) -> Result<(), redb::Error> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let key = room.as_str();
        let write = file.begin_write()?;
        {
            let mut bans = write.open_table(BANS)?;
            let mut roles = write.open_table(ROLES)?;
            let mut rooms = write.open_table(ROOMS)?;
            let mut terms = write.open_table(TERMS)?;
            for change in changes {
                match change {
                    Change::Ban(login, ban) => {
                        let bytes = ban_bytes(ban);
                        bans.insert((key, login.as_str()), bytes.as_slice())?;
                    }
                    Change::Unban(login) => {
                        bans.remove((key, login.as_str()))?;
                    }
                    Change::Roles(login, of) if *of == Roles::default() => {
                        roles.remove((key, login.as_str()))?;
                    }
                    Change::Roles(login, of) => {
                        roles.insert((key, login.as_str()), of.bits())?;
                    }
                    Change::Settings(settings) => {
                        let bytes = room_bytes(*settings);
                        rooms.insert(key, bytes.as_slice())?;
                    }
                    Change::Term(term, Some(action)) => {
                        terms.insert((key, term.as_str()), action.as_str())?;
                    }
                    Change::Term(term, None) => {
                        terms.remove((key, term.as_str()))?;
                    }
                }
            }
        }
        write.commit()?;
        Ok(())
    }
}

/// What can't be read is named in the log and treated as absent.
fn parsed<'a, T: Deserialize<'a>>(room: &ChannelName, bytes: &'a [u8]) -> Option<T> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| warn!(%room, %error, "an entry of the chat store can't be read"))
        .ok()
}

fn ban(room: &ChannelName, bytes: &[u8]) -> Option<Ban> {
    let saved: SavedBan = parsed(room, bytes)?;
    Some(Ban {
        user: saved.user.and_then(|user| UserId::parse(&user).ok()),
        until: saved.until_ms.map(UnixMs),
        network: saved.network.map(Network),
        by: Login::parse(&saved.by).ok()?,
        reason: saved.reason.and_then(|reason| Text::cut(&reason)),
        at: UnixMs(saved.at_ms),
    })
}

fn ban_bytes(ban: &Ban) -> Vec<u8> {
    let saved = SavedBan {
        user: ban.user.as_ref().map(|user| user.as_str().to_owned()),
        until_ms: ban.until.map(|until| until.0),
        network: ban.network.map(|network| network.0),
        by: ban.by.as_str().to_owned(),
        reason: ban.reason.as_ref().map(|reason| reason.as_str().to_owned()),
        at_ms: ban.at.0,
    };
    // Strings and numbers always serialise.
    serde_json::to_vec(&saved).unwrap_or_default()
}

fn room_bytes(settings: Settings) -> Vec<u8> {
    let saved = SavedRoom {
        slow_s: settings.slow_s,
        followers_min: settings.followers_min,
        subscribers_only: settings.subscribers_only,
        emote_only: settings.emote_only,
        unique: settings.unique,
        no_links: settings.no_links,
    };
    serde_json::to_vec(&saved).unwrap_or_default()
}
