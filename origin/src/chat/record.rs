//! What rooms said, kept in files: so that a room remembers its last words over a
//! restart, and so that a recording can be shown with its chat.
//!
//! In: numbered events, before anybody is told of them. Out: JSON lines, one an
//! event, in `DIR/ROOM/BROADCAST-MS.jsonl`: the broadcast that the channel carried
//! (0 where it was not live) and when the file began, in Unix milliseconds; another
//! broadcast begins another file. See [`mod@line`] for what a line holds.
//!
//! A line is written by one call before its message is told, and not synced: what
//! was told survives the process (`kill -9`), not the machine. Bounds: one budget
//! over all rooms ([`RecordConfig::chat_log_bytes`]), [`MAX_FILES`], and
//! [`MAX_FILE_BYTES`] a file; the oldest files go first, and those of broadcasts never
//! for those of none ([`OFF_AIR_PART`]). Calls block on the disk.

mod line;

use std::{
    borrow::Cow,
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

/// Files of all rooms.
const MAX_FILES: usize = 16_384;

/// What is said while a channel is off air has at least one of so many parts of the
/// bytes and of the files, and whatever recordings of broadcasts leave: a stranger who
/// talks in many rooms makes a file each, and none of them is worth a recording.
const OFF_AIR_PART: u8 = 4;

/// What is read of a room's files when it opens.
const MAX_PAST_BYTES: u64 = 1 << 20;

/// Flags of the files.
#[derive(Debug, Clone, Args)]
pub struct RecordConfig {
    /// Directory that keeps what rooms said, as JSON lines with programme time, a folder a room and a file a broadcast; rooms then remember their last 1,024 messages over a restart
    #[arg(long, env = "MILLRACE_CHAT_LOG", value_name = "DIR")]
    pub chat_log: Option<PathBuf>,

    /// Bytes that those files may take in all, those of broadcasts three quarters of it; the oldest go first, and those of broadcasts for one another alone
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

/// A file, by when it began: the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    began: u64,
    path: PathBuf,
    /// 0 where the channel was off air.
    broadcast: u64,
}

/// Files that go for one another.
#[derive(Debug, Default)]
struct Kept {
    files: BTreeMap<Key, u64>,
    bytes: u64,
}

/// All files.
#[derive(Debug)]
struct Stock {
    most_bytes: u64,
    on_air: Kept,
    off_air: Kept,
}

#[derive(Debug)]
struct Shelf {
    dir: PathBuf,
    most_bytes: u64,
    directory: Arc<Directory>,
    stock: Mutex<Stock>,
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
    key: Key,
    bytes: u64,
    /// It ends in half a line.
    is_torn: bool,
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
        let mut stock = Stock::new(config.chat_log_bytes);
        for room in fs::read_dir(&dir)?.flatten() {
            if ChannelName::parse(&room.file_name().to_string_lossy()).is_err() {
                continue;
            }
            for file in files(&room.path()) {
                let bytes = fs::metadata(&file.path).map_or(0, |metadata| metadata.len());
                let kept = stock.of(file.broadcast);
                kept.bytes += bytes;
                kept.files.insert(file, bytes);
            }
        }
        let shelf = Shelf {
            dir,
            most_bytes: config.chat_log_bytes,
            directory,
            stock: Mutex::new(stock),
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
    /// [`MAX_PAST_BYTES`]; and whether that is all. What can't be read is passed over.
    pub(super) fn past(&self, epoch: RoomEpoch) -> (Vec<Event>, bool) {
        let mut newest_first = files(&self.dir());
        newest_first.reverse();
        let mut left = MAX_PAST_BYTES;
        let mut past: Vec<Event> = Vec::new();
        let mut unread = 0usize;
        let mut all = true;
        for Key { path, .. } in newest_first {
            if left == 0 || past.len() >= RECENT {
                all = false;
                break;
            }
            let Ok((text, whole)) = tail(&path, left) else {
                warn!(room = %self.room, path = %path.display(), "a chat log can't be read");
                all = false;
                continue;
            };
            left = left.saturating_sub(text.len() as u64);
            all &= whole;
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
        let too_many = past.len().saturating_sub(RECENT);
        past.drain(..too_many);
        (past, all && too_many == 0)
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// As the system's; part of a line may be there, which reading passes over.
    pub(super) fn append(&self, now: UnixMs, lines: &str) -> io::Result<()> {
        let carried = self.shelf.directory.get(&self.room);
        let broadcast = carried.map_or(0, |channel| channel.announcement.broadcast.0);
        let mut open = self.open.lock();
        let most = MAX_FILE_BYTES.min(self.shelf.most_bytes / 16);
        let fits = |open: &&Open| open.key.broadcast == broadcast && open.bytes < most;
        let opened = open.as_ref().filter(fits).map(|open| {
            // Closed in between: rooms may be more than descriptors.
            let file = OpenOptions::new().append(true).open(&open.key.path)?;
            Ok::<_, io::Error>((open.clone(), file))
        });
        let (mut growing, mut file) = match opened {
            Some(Ok(opened)) => opened,
            Some(Err(why)) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            // Other rooms' words made it the oldest of all, and it went.
            _ => self.begin(now, broadcast)?,
        };
        let text = if growing.is_torn {
            Cow::Owned(format!("\n{lines}"))
        } else {
            Cow::Borrowed(lines)
        };
        let written = file.write_all(text.as_bytes());
        let bytes = match &written {
            Ok(()) => text.len() as u64,
            Err(_) => {
                let length = file.metadata().map_or(0, |metadata| metadata.len());
                length.saturating_sub(growing.bytes)
            }
        };
        // On a full disk a file a message would be the end of older ones: the same
        // file goes on, and its next line is not to continue half of this one.
        growing.is_torn = written.is_err() && (growing.is_torn || bytes > 0);
        growing.bytes += bytes;
        self.shelf.grew(&growing.key, bytes);
        *open = Some(growing);
        written
    }

    fn begin(&self, now: UnixMs, broadcast: u64) -> io::Result<(Open, File)> {
        let dir = self.dir();
        // Held, so that nobody takes the folder away before something is in it.
        let mut stock = self.shelf.stock.lock();
        fs::create_dir_all(&dir)?;
        let mut began = now.0;
        loop {
            let path = dir.join(format!("{broadcast}-{began}.jsonl"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    info!(room = %self.room, path = %path.display(), "chat log begun");
                    let key = Key {
                        began,
                        path,
                        broadcast,
                    };
                    stock.of(broadcast).files.insert(key.clone(), 0);
                    let open = Open {
                        key,
                        bytes: 0,
                        is_torn: false,
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
            let mut stock = self.stock.lock();
            let kept = stock.of(key.broadcast);
            // One that went meanwhile takes nothing any more.
            if let Some(held) = kept.files.get_mut(key) {
                *held += bytes;
                kept.bytes += bytes;
            }
        }
        self.make_room(Some(key));
    }

    /// Deletes the oldest files until the rest fits; never the one that grows.
    fn make_room(&self, growing: Option<&Key>) {
        let mut stock = self.stock.lock();
        while let Some(oldest) = stock.excess(growing) {
            match fs::remove_file(&oldest.path) {
                Ok(()) => self.dropped.inc(),
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => {
                    error!(path = %oldest.path.display(), %why, "an old chat log can't be deleted");
                }
            }
            // Fails where others are in it.
            let _ = oldest.path.parent().map(fs::remove_dir);
        }
        let bytes = stock.on_air.bytes + stock.off_air.bytes;
        self.held.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl Stock {
    fn new(most_bytes: u64) -> Self {
        Self {
            most_bytes,
            on_air: Kept::default(),
            off_air: Kept::default(),
        }
    }

    const fn of(&mut self, broadcast: u64) -> &mut Kept {
        match broadcast {
            0 => &mut self.off_air,
            _ => &mut self.on_air,
        }
    }

    /// Takes out the oldest file of those that are too many, the one that grows aside.
    fn excess(&mut self, growing: Option<&Key>) -> Option<Key> {
        let Self {
            most_bytes,
            on_air,
            off_air,
        } = self;
        let files = MAX_FILES - MAX_FILES / usize::from(OFF_AIR_PART);
        let bytes = *most_bytes - *most_bytes / u64::from(OFF_AIR_PART);
        on_air.excess(files, bytes, growing).or_else(|| {
            let files = MAX_FILES.saturating_sub(on_air.files.len());
            let bytes = most_bytes.saturating_sub(on_air.bytes);
            off_air.excess(files, bytes, growing)
        })
    }
}

impl Kept {
    fn excess(&mut self, most_files: usize, most_bytes: u64, growing: Option<&Key>) -> Option<Key> {
        if self.bytes <= most_bytes && self.files.len() <= most_files {
            return None;
        }
        let mut oldest_first = self.files.keys();
        let oldest = oldest_first.find(|key| Some(*key) != growing).cloned()?;
        self.bytes -= self.files.remove(&oldest).unwrap_or(0);
        Some(oldest)
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
            let (broadcast, began) = name.strip_suffix(".jsonl")?.split_once('-')?;
            Some(Key {
                began: began.parse().ok()?,
                path: entry.path(),
                broadcast: broadcast.parse().ok()?,
            })
        })
        .collect();
    files.sort_unstable();
    files
}

/// The last whole lines of a file, at most so many bytes; and whether they are all.
fn tail(path: &Path, most: u64) -> io::Result<(String, bool)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(most);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all = skipped == 0;
    let lines = if all {
        Some(&*text)
    } else {
        text.split_once('\n').map(|(_, rest)| rest)
    };
    Ok((lines.unwrap_or_default().to_owned(), all))
}

#[cfg(test)]
mod tests;
