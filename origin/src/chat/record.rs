//! What rooms said, kept in files: so that a room remembers its last words over a
//! restart, and so that a recording can be shown with its chat.
//!
//! In: numbered events, before anybody is told of them. Out: JSON lines, one an
//! event, in `DIR/ROOM/BROADCAST-MS.jsonl`: the broadcast that the channel carried
//! (0 where it was not live) and when the file began, in Unix milliseconds; another
//! broadcast begins another file. See [`line`] for what a line holds.
//!
//! A line is written by one call before its message is told, and not synced: what
//! was told survives the process (`kill -9`), not the machine. Bounds: one budget
//! over all rooms ([`RecordConfig::chat_log_bytes`]), [`MAX_FILES`], and
//! [`MAX_FILE_BYTES`] a file; the oldest files go first. Calls block on the disk.

mod line;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use common::{
    chat::{Event, RoomEpoch},
    live::{Directory, UnixMs},
    names::ChannelName,
};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use tracing::{error, info, warn};

use super::{ChatMetrics, clue::RECENT};

pub(super) use line::{SavedUser, author, lines, saved};

/// One file: half a day of a busy room.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Files of all rooms; a stranger that talks in many rooms makes one each.
const MAX_FILES: usize = 16_384;

/// What is read of a room's files when it opens.
const MAX_PAST_BYTES: u64 = 1 << 20;

/// Flags of the files.
#[derive(Debug, Clone, Args)]
pub struct RecordConfig {
    /// Directory that keeps what rooms said, as JSON lines with programme time, a folder a room and a file a broadcast; rooms then remember their last 1,024 messages over a restart
    #[arg(long, env = "MILLRACE_CHAT_LOG", value_name = "DIR")]
    pub chat_log: Option<PathBuf>,

    /// Bytes that those files may take in all; the oldest go first
    #[arg(
        long,
        env = "MILLRACE_CHAT_LOG_BYTES",
        value_name = "BYTES",
        default_value_t = 1 << 30,
        value_parser = clap::value_parser!(u64).range(1 << 20..)
    )]
    pub chat_log_bytes: u64,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            chat_log: None,
            chat_log_bytes: 1 << 30,
        }
    }
}

/// A file by when it began: the oldest first.
type Key = (u64, PathBuf);

#[derive(Debug, Default)]
struct Kept {
    files: BTreeMap<Key, u64>,
    bytes: u64,
}

#[derive(Debug)]
struct Shelf {
    dir: PathBuf,
    most_bytes: u64,
    directory: Arc<Directory>,
    kept: Mutex<Kept>,
    held: IntGauge,
    dropped: IntCounter,
}

/// See the module's text. Without a directory nothing is kept.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Option<Arc<Shelf>>);

/// The files of one room, for its task.
#[derive(Debug)]
pub(super) struct RoomRecord {
    shelf: Arc<Shelf>,
    room: ChannelName,
    open: Mutex<Option<Open>>,
}

/// The file that grows.
#[derive(Debug, Clone)]
struct Open {
    broadcast: u64,
    key: Key,
    bytes: u64,
}

impl Recorder {
    /// Looks at what is there. `directory` says which broadcast a channel carries.
    ///
    /// # Errors
    /// Where the directory can't be made or read.
    pub fn open(
        config: &RecordConfig,
        directory: Arc<Directory>,
        metrics: &ChatMetrics,
    ) -> io::Result<Self> {
        let Some(dir) = config.chat_log.clone() else {
            return Ok(Self(None));
        };
        fs::create_dir_all(&dir)?;
        let mut kept = Kept::default();
        for room in fs::read_dir(&dir)?.flatten() {
            if ChannelName::parse(&room.file_name().to_string_lossy()).is_err() {
                continue;
            }
            for file in files(&room.path()) {
                let bytes = fs::metadata(&file.1).map_or(0, |metadata| metadata.len());
                kept.bytes += bytes;
                kept.files.insert(file, bytes);
            }
        }
        let shelf = Shelf {
            dir,
            most_bytes: config.chat_log_bytes,
            directory,
            kept: Mutex::new(kept),
            held: metrics.log_bytes.clone(),
            dropped: metrics.log_dropped.clone(),
        };
        shelf.make_room(None);
        Ok(Self(Some(Arc::new(shelf))))
    }

    /// A room's files; `None` where nothing is kept.
    pub(super) fn of(&self, room: &ChannelName) -> Option<RoomRecord> {
        let shelf = self.0.clone()?;
        Some(RoomRecord {
            shelf,
            room: room.clone(),
            open: Mutex::new(None),
        })
    }
}

impl RoomRecord {
    /// What was said last before `epoch`, oldest first, at most [`RECENT`] events and
    /// [`MAX_PAST_BYTES`]. What can't be read is passed over.
    pub(super) fn past(&self, epoch: RoomEpoch) -> Vec<Event> {
        let mut newest_first = files(&self.dir());
        newest_first.reverse();
        let mut left = MAX_PAST_BYTES;
        let mut past: Vec<Event> = Vec::new();
        let mut unread = 0usize;
        for (_, path) in newest_first {
            if left == 0 || past.len() >= RECENT {
                break;
            }
            let Ok(text) = tail(&path, left) else {
                warn!(room = %self.room, path = %path.display(), "a chat log can't be read");
                continue;
            };
            left = left.saturating_sub(text.len() as u64);
            let mut earlier: Vec<_> = text
                .lines()
                .filter_map(|line| {
                    let event = line::parse(line);
                    unread += usize::from(event.is_none());
                    event
                })
                .collect();
            earlier.append(&mut past);
            past = earlier;
        }
        if unread > 0 {
            warn!(room = %self.room, unread, "lines of the chat log were passed over");
        }
        let mut last = None;
        past.retain(|event| {
            let at = Some((event.stamp.epoch, event.stamp.offset));
            let fits = event.stamp.epoch < epoch && at > last;
            last = last.max(at.filter(|_| fits));
            fits
        });
        past.drain(..past.len().saturating_sub(RECENT));
        past
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// As the system's; part of a line may be there, which reading passes over.
    pub(super) fn append(&self, now: UnixMs, lines: &str) -> io::Result<()> {
        let carried = self.shelf.directory.get(&self.room);
        let broadcast = carried.map_or(0, |channel| channel.announcement.broadcast.0);
        let mut open = self.open.lock();
        let most = MAX_FILE_BYTES.min(self.shelf.most_bytes / 4);
        let fits = |open: &Open| open.broadcast == broadcast && open.bytes < most;
        let mut file = match open.as_ref().filter(|open| fits(open)) {
            // Closed in between: rooms may be more than descriptors.
            Some(open) => OpenOptions::new()
                .append(true)
                .create(true)
                .open(&open.key.1)?,
            None => {
                let (begun, file) = self.begin(now, broadcast)?;
                info!(room = %self.room, path = %begun.key.1.display(), "chat log begun");
                *open = Some(begun);
                file
            }
        };
        let written = file.write_all(lines.as_bytes());
        if let Some(open) = open.as_mut() {
            open.bytes += lines.len() as u64;
            self.shelf.grew(&open.key, lines.len() as u64);
        }
        if written.is_err() {
            // The next line is not to continue half of this one.
            *open = None;
        }
        written
    }

    fn begin(&self, now: UnixMs, broadcast: u64) -> io::Result<(Open, File)> {
        let dir = self.dir();
        fs::create_dir_all(&dir)?;
        let mut began = now.0;
        loop {
            let path = dir.join(format!("{broadcast}-{began}.jsonl"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    let open = Open {
                        broadcast,
                        key: (began, path),
                        bytes: 0,
                    };
                    return Ok((open, file));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => began += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn dir(&self) -> PathBuf {
        self.shelf.dir.join(self.room.as_str())
    }
}

impl Shelf {
    fn grew(&self, key: &Key, bytes: u64) {
        {
            let mut kept = self.kept.lock();
            *kept.files.entry(key.clone()).or_default() += bytes;
            kept.bytes += bytes;
        }
        self.make_room(Some(key));
    }

    /// Deletes the oldest files until the rest fits; never the one that grows.
    fn make_room(&self, growing: Option<&Key>) {
        let mut kept = self.kept.lock();
        while kept.bytes > self.most_bytes || kept.files.len() > MAX_FILES {
            let oldest = kept.files.keys().find(|key| Some(*key) != growing).cloned();
            let Some(oldest) = oldest else {
                break;
            };
            kept.bytes -= kept.files.remove(&oldest).unwrap_or(0);
            match fs::remove_file(&oldest.1) {
                Ok(()) => self.dropped.inc(),
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => {
                    error!(path = %oldest.1.display(), %why, "an old chat log can't be deleted")
                }
            }
            // Fails where others are in it.
            let _ = oldest.1.parent().map(fs::remove_dir);
        }
        self.held.set(i64::try_from(kept.bytes).unwrap_or(i64::MAX));
    }
}

/// A room's files, oldest first.
fn files(dir: &Path) -> Vec<Key> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut files: Vec<Key> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (_, began) = name.strip_suffix(".jsonl")?.split_once('-')?;
            Some((began.parse().ok()?, entry.path()))
        })
        .collect();
    files.sort_unstable();
    files
}

/// The last whole lines of a file, at most so many bytes.
fn tail(path: &Path, most: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(most);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = if skipped == 0 {
        Some(&*text)
    } else {
        text.split_once('\n').map(|(_, rest)| rest)
    };
    Ok(whole.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests;
