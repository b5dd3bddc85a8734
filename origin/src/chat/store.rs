//! The facts of rooms in one redb file: pure Rust and small, copy-on-write pages
//! and one writer, so that a commit is there after kill -9 and a torn one never
//! was. Keys are (room, kind, key); SQL would add a C compiler and nothing that a
//! look-up by key needs.
//!
//! Every call blocks on the disk: for a thread that may.

use std::path::Path;

use common::{chat::RoomEpoch, live::UnixMs, names::ChannelName};
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{clue::Known, entries::Entry};

/// By (room, kind, key).
const FACTS: TableDefinition<'_, (&str, &str, &str), &str> = TableDefinition::new("facts");
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
        write.open_table(FACTS)?;
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
        let mut known = Known::default();
        let Some(file) = &self.file else {
            return Ok((epoch, known));
        };
        let name = room.as_str();
        let read = file.begin_read()?;
        for fact in read.open_table(FACTS)?.range((name, "", "")..)? {
            let (at, value) = fact?;
            let (of, kind, key) = at.value();
            if of != name {
                break;
            }
            known.learn(room, kind, key, Some(value.value()));
        }
        drop(read);
        let past = known.forget_past(now);
        if !past.is_empty() {
            self.write_in(room, &past)?;
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

    /// Writes facts, all or none; they are on disk when it returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn write(&self, room: &ChannelName, entries: &[Entry]) -> Result<(), StoreError> {
        self.write_in(room, entries).map_err(StoreError)
    }

    fn write_in(&self, room: &ChannelName, entries: &[Entry]) -> Result<(), redb::Error> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let write = file.begin_write()?;
        {
            let mut facts = write.open_table(FACTS)?;
            for Entry { kind, key, value } in entries {
                let at = (room.as_str(), kind.as_str(), key.as_str());
                match value {
                    Some(value) => drop(facts.insert(at, value.as_str())?),
                    None => drop(facts.remove(at)?),
                }
            }
        }
        write.commit()?;
        Ok(())
    }
}
