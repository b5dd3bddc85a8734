//! The facts of rooms in one redb file: pure Rust and small, copy-on-write pages
//! and one writer, so that a commit is there after kill -9 and a torn one never
//! was. Keys are (room, kind, key); SQL would add a C compiler and nothing that a
//! look-up by key needs.
//!
//! Every call blocks on the disk: for a thread that may. Without a file the facts last
//! as long as the process, in [`Memory`].

mod memory;

use std::path::Path;

use common::{chat::RoomEpoch, live::UnixMs, names::ChannelName};
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{clue::Known, entries::Entry};
use memory::Memory;

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
pub enum StoreError {
    #[error("{0}")]
    File(#[from] redb::Error),
    /// As much is remembered as may be without a file.
    #[error("no more than this is remembered without --chat-store")]
    Full,
}

/// See the module's text.
#[derive(Debug)]
pub struct Store {
    facts: Facts,
    epochs: Mutex<Epochs>,
}

#[derive(Debug)]
enum Facts {
    File(Database),
    Memory(Mutex<Memory>),
}

#[derive(Debug, Default)]
struct Epochs {
    /// The greatest that was given out.
    last: u64,
    /// What the file says is the least that was not.
    below: u64,
}

impl Store {
    /// Opens or makes the file; without one, it is forgotten with the process.
    ///
    /// # Errors
    /// [`StoreError::File`]; another process that has it open is one.
    pub fn open(path: Option<&Path>) -> Result<Self, StoreError> {
        let Some(path) = path else {
            return Ok(Self {
                facts: Facts::Memory(Mutex::default()),
                epochs: Mutex::default(),
            });
        };
        let file = Database::create(path).map_err(redb::Error::from)?;
        let epochs = with_tables(&file)?;
        Ok(Self {
            facts: Facts::File(file),
            epochs: Mutex::new(epochs),
        })
    }

    /// Begins a room's next life: what is known of it, and an epoch greater than
    /// all before, even those of a process that was killed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(&self, room: &ChannelName, now: UnixMs) -> Result<(RoomEpoch, Known), StoreError> {
        let epoch = self.next_epoch(now)?;
        let mut known = Known::default();
        let learn = |kind: &str, key: &str, value: &str| {
            known.learn(room, kind, key, Some(value));
        };
        match &self.facts {
            Facts::File(file) => read(file, room, learn)?,
            Facts::Memory(memory) => memory.lock().read(room, learn),
        }
        let past = known.forget_past(now);
        if !past.is_empty() {
            self.write(room, &past)?;
        }
        Ok((epoch, known))
    }

    /// Greater than all before, over all rooms and processes of this file, whatever
    /// the clock does.
    fn next_epoch(&self, now: UnixMs) -> Result<RoomEpoch, redb::Error> {
        let mut epochs = self.epochs.lock();
        let epoch = now.0.max(epochs.last.saturating_add(1));
        if let Facts::File(file) = &self.facts
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

    /// Writes facts, all or none; they are on disk when it returns, where there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn write(&self, room: &ChannelName, entries: &[Entry]) -> Result<(), StoreError> {
        match &self.facts {
            Facts::File(file) => Ok(write(file, room, entries)?),
            Facts::Memory(memory) => memory.lock().write(room, entries),
        }
    }
}

fn with_tables(file: &Database) -> Result<Epochs, redb::Error> {
    let write = file.begin_write()?;
    write.open_table(FACTS)?;
    let below = {
        let epochs = write.open_table(EPOCHS)?;
        let below = epochs.get(BELOW)?;
        below.map_or(0, |below| below.value())
    };
    write.commit()?;
    // What the last process reserved, this one passes over.
    Ok(Epochs { last: below, below })
}

fn read(
    file: &Database,
    room: &ChannelName,
    mut learn: impl FnMut(&str, &str, &str),
) -> Result<(), redb::Error> {
    let name = room.as_str();
    let read = file.begin_read()?;
    for fact in read.open_table(FACTS)?.range((name, "", "")..)? {
        let (at, value) = fact?;
        let (of, kind, key) = at.value();
        if of != name {
            break;
        }
        learn(kind, key, value.value());
    }
    Ok(())
}

fn write(file: &Database, room: &ChannelName, entries: &[Entry]) -> Result<(), redb::Error> {
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
