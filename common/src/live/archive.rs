//! The bytes of the past: what windows let go and playlists still list.
//!
//! In: a segment's bytes, as its parts. Out: an [`Archived`] that the segment
//! keeps in their place and that readers read from. The newest are in memory;
//! past seven eighths of the memory budget the oldest of these move to files,
//! where a directory was given. What fits in neither budget is given up, the
//! oldest first, and so is what can't be written: its readers are told that it
//! is gone, and nobody waits for a disk.
//!
//! Owned by whoever holds the [`Archived`]: dropping the last clone frees the
//! memory or the file. One [`ArchiveWriter`] does all writing and deleting. File
//! names are numbers of this process's own; nothing from outside is in a path.

mod files;
mod metrics;
mod read;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fs::File, io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use files::Files;
pub use metrics::ArchiveMetrics;
use metrics::Lost;
pub use read::ArchiveReader;

/// What the past may take.
#[derive(Debug, Clone)]
pub struct ArchiveLimits {
    pub memory_bytes: u64,
    pub disk: Option<Disk>,
}

/// Where and how much of it may be files.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Made if it is not there. Segments that an earlier process left in it are
    /// deleted: without that process's index nobody lists them.
    pub dir: PathBuf,
    pub budget_bytes: u64,
}

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("{dir}: {error}")]
    Io { dir: PathBuf, error: io::Error },
    #[error("{0}: another process keeps its past there")]
    Taken(PathBuf),
}

/// See the module's text. Dropping it ends the writer.
#[derive(Debug)]
pub struct Archive {
    shared: Arc<Shared>,
}

/// Does what blocks; one thread runs it.
#[derive(Debug)]
pub struct ArchiveWriter {
    shared: Arc<Shared>,
    files: Files,
    budget_bytes: u64,
    failing: bool,
    /// Held for as long as the directory is ours.
    _lock: File,
}

/// A hold on the bytes of one segment.
#[derive(Debug, Clone)]
pub struct Archived(Arc<Ticket>);

#[derive(Debug)]
struct Ticket {
    id: u64,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    memory_budget_bytes: u64,
    /// Where files are, if anywhere.
    files: Option<Files>,
    metrics: ArchiveMetrics,
    state: Mutex<State>,
    work: Condvar,
}

/// Whatever is in neither map is gone. Ids rise with age.
#[derive(Debug, Default)]
struct State {
    next: u64,
    memory: BTreeMap<u64, Vec<Bytes>>,
    memory_bytes: u64,
    disk: BTreeMap<u64, u64>,
    disk_bytes: u64,
    /// Files to delete; as many as there were in `disk` at most.
    doomed: Vec<u64>,
    closed: bool,
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        if state.forget(self.id) {
            shared.work.notify_one();
        }
        shared.tell(&state);
    }
}

impl Archive {
    /// # Errors
    /// [`ArchiveError`] when the directory can't be made, listed or locked.
    pub fn open(
        limits: ArchiveLimits,
        metrics: ArchiveMetrics,
    ) -> Result<(Self, Option<ArchiveWriter>), ArchiveError> {
        let opened = match limits.disk {
            Some(disk) => {
                let (files, lock) = files::open(&disk.dir)?;
                Some((files, lock, disk.budget_bytes))
            }
            None => None,
        };
        let shared = Arc::new(Shared {
            memory_budget_bytes: limits.memory_bytes,
            files: opened.as_ref().map(|(files, ..)| files.clone()),
            metrics,
            state: Mutex::default(),
            work: Condvar::new(),
        });
        let writer = opened.map(|(files, lock, budget_bytes)| ArchiveWriter {
            shared: shared.clone(),
            files,
            budget_bytes,
            failing: false,
            _lock: lock,
        });
        Ok((Self { shared }, writer))
    }

    /// Whether something waits for the disk.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let state = self.shared.state.lock();
        let above = state.memory_bytes > self.shared.high_water();
        self.shared.files.is_some() && (above || !state.doomed.is_empty())
    }

    /// Takes a segment's bytes. Never waits: what the budget has no room for is
    /// given up, the oldest first.
    #[must_use]
    pub fn keep(&self, parts: Vec<Bytes>) -> Archived {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let id = state.next;
        state.next += 1;
        state.memory_bytes += len_bytes(&parts);
        state.memory.insert(id, parts);
        while state.memory_bytes > shared.memory_budget_bytes
            && let Some((oldest, _)) = state.memory.first_key_value()
        {
            let oldest = *oldest;
            state.forget(oldest);
            shared.metrics.lose(Lost::Memory);
        }
        shared.tell(&state);
        if state.memory_bytes > shared.high_water() {
            shared.work.notify_one();
        }
        drop(state);
        Archived(Arc::new(Ticket {
            id,
            shared: shared.clone(),
        }))
    }
}

impl Shared {
    /// From here on memory goes to disk; the rest is for what comes meanwhile.
    const fn high_water(&self) -> u64 {
        self.memory_budget_bytes / 8 * 7
    }

    fn tell(&self, state: &State) {
        self.metrics
            .tell(state.memory_bytes, state.disk_bytes, state.disk.len());
    }
}

impl State {
    /// Frees a segment wherever it is; `true` where its file has to go.
    fn forget(&mut self, id: u64) -> bool {
        if let Some(parts) = self.memory.remove(&id) {
            self.memory_bytes -= len_bytes(&parts);
        }
        let Some(len_bytes) = self.disk.remove(&id) else {
            return false;
        };
        self.disk_bytes -= len_bytes;
        self.doomed.push(id);
        true
    }
}

/// One thing for the writer to do.
enum Job {
    Delete(Vec<u64>),
    Write(u64, Vec<Bytes>),
}

impl ArchiveWriter {
    /// Works until the archive is dropped. Blocks.
    pub fn run(mut self) {
        loop {
            while self.turn() {}
            let mut state = self.shared.state.lock();
            if state.closed {
                return;
            }
            if self.next_job(&mut state, false).is_none() {
                self.shared.work.wait(&mut state);
            }
        }
    }

    /// Does one thing, if there is one to do.
    pub fn turn(&mut self) -> bool {
        let job = {
            let mut state = self.shared.state.lock();
            self.next_job(&mut state, true)
        };
        match job {
            Some(Job::Delete(ids)) => ids.iter().for_each(|id| self.delete(*id)),
            Some(Job::Write(id, parts)) => self.write(id, &parts),
            None => return false,
        }
        true
    }

    fn next_job(&self, state: &mut State, take: bool) -> Option<Job> {
        if !state.doomed.is_empty() {
            let ids = if take {
                std::mem::take(&mut state.doomed)
            } else {
                Vec::new()
            };
            return Some(Job::Delete(ids));
        }
        if state.memory_bytes <= self.shared.high_water() {
            return None;
        }
        let (id, parts) = state.memory.first_key_value()?;
        Some(Job::Write(*id, parts.clone()))
    }

    fn delete(&mut self, id: u64) {
        let outcome = self.files.delete(id);
        self.report(outcome);
    }

    /// A full disk shrinks the past from its far end: the oldest file makes way.
    fn write(&mut self, id: u64, parts: &[Bytes]) {
        let len_bytes = len_bytes(parts);
        let mut why = Lost::Disk;
        let mut written = false;
        if len_bytes <= self.budget_bytes {
            self.make_room(len_bytes);
            loop {
                match self.files.write(id, parts) {
                    Ok(()) => {
                        written = true;
                        self.report(Ok(()));
                        break;
                    }
                    Err(error) if is_full(&error) && self.give_up_oldest() => {}
                    Err(error) => {
                        why = Lost::Error;
                        self.report(Err(error));
                        break;
                    }
                }
            }
        }
        let mut state = self.shared.state.lock();
        let wanted = state.memory.contains_key(&id);
        state.forget(id);
        if wanted && written {
            state.disk_bytes += len_bytes;
            state.disk.insert(id, len_bytes);
        } else if written {
            // Nobody lists it any more, or memory ran over meanwhile.
            state.doomed.push(id);
        } else if wanted {
            self.shared.metrics.lose(why);
        }
        self.shared.tell(&state);
    }

    fn make_room(&mut self, len_bytes: u64) {
        let over = |state: &State| state.disk_bytes + len_bytes > self.budget_bytes;
        while over(&self.shared.state.lock()) && self.give_up_oldest() {}
    }

    /// Deletes the oldest file; `false` without one.
    fn give_up_oldest(&self) -> bool {
        let oldest = {
            let mut state = self.shared.state.lock();
            let oldest = state.disk.pop_first();
            if let Some((_, len_bytes)) = oldest {
                state.disk_bytes -= len_bytes;
                self.shared.metrics.lose(Lost::Disk);
                self.shared.tell(&state);
            }
            oldest
        };
        // What can't be deleted is tried again by the next start.
        oldest.is_some_and(|(id, _)| self.files.delete(id).is_ok())
    }

    /// One line when the disk begins to fail and one when it works again.
    fn report(&mut self, outcome: io::Result<()>) {
        match outcome {
            Err(error) => {
                self.shared.metrics.errors.inc();
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        %error,
                        "segments of the past can't be written or deleted; what is lost answers 404"
                    );
                }
            }
            Ok(()) if std::mem::replace(&mut self.failing, false) => {
                tracing::info!("segments of the past are written again");
            }
            Ok(()) => {}
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn len_bytes(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}
