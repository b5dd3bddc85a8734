//! Files that are read again while the node runs: certificates, keys, parents.
//!
//! In: the files of each thing, SIGHUP, and a look at the files each second.
//! Out: a call to read them again, off the async threads. A file that cannot be
//! used changes nothing: one line of the log says so, and a metric.
//!
//! Invariants: a change is acted on once it has stood still for a look, so that
//! a certificate and its key are not read in the middle of being replaced;
//! what is not changed is read again on SIGHUP only.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus::{IntCounterVec, IntGaugeVec, Registry};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info};

use crate::telemetry::metrics;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A list of a hundred thousand keys is below this; more is a wrong file.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reads a text file that an operator wrote.
///
/// # Errors
/// As the system's, and for a file over 16 MiB.
pub fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "over 16 MiB"));
    }
    fs::read_to_string(path)
}

/// What tells that a file is not the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    /// Moves with every change, also with one that keeps time and length.
    changed: (i64, i64),
    length_bytes: u64,
    inode: u64,
}

impl Stamp {
    /// `None` where there is no file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            length_bytes: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

/// Some files and how they looked before they were first read: made before that,
/// so that no change falls between.
#[derive(Debug, Clone)]
pub struct Files {
    paths: Vec<PathBuf>,
    stamps: Vec<Option<Stamp>>,
}

impl Files {
    /// Looks at the files.
    #[must_use]
    pub fn seen(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<_> = paths.into_iter().collect();
        Self {
            stamps: look(&paths),
            paths,
        }
    }
}

fn look(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| Stamp::of(path)).collect()
}

/// Everything that one process reads again.
#[derive(Debug)]
pub struct Reloads {
    watched: Vec<Watched>,
    outcomes: IntCounterVec,
    last_success: IntGaugeVec,
}

type Again = dyn Fn() -> Result<(), String> + Send + Sync;

struct Watched {
    what: &'static str,
    paths: Vec<PathBuf>,
    /// As of what was last read.
    read: Vec<Option<Stamp>>,
    /// As of the last look.
    seen: Vec<Option<Stamp>>,
    again: Arc<Again>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

impl Reloads {
    /// Registers the metrics; nothing is watched yet.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            watched: Vec::new(),
            outcomes: metrics::int_counter_vec(
                registry,
                "millrace_reloads_total",
                "Times that files were read again, by what they hold and how it went: ok or failed.",
                &["what", "outcome"],
            ),
            last_success: metrics::int_gauge_vec(
                registry,
                "millrace_reload_success_timestamp_seconds",
                "When files were last read without a mistake, in Unix seconds.",
                &["what"],
            ),
        }
    }

    /// Calls `again` when one of `files`, which have just been read, changes, and
    /// on SIGHUP. When it fails, what was read before has to stay in force.
    pub fn add<E: fmt::Display>(
        &mut self,
        what: &'static str,
        files: Files,
        again: impl Fn() -> Result<(), E> + Send + Sync + 'static,
    ) {
        for outcome in ["ok", "failed"] {
            self.outcomes.with_label_values(&[what, outcome]);
        }
        self.succeeded(what);
        self.watched.push(Watched {
            what,
            paths: files.paths,
            seen: files.stamps.clone(),
            read: files.stamps,
            again: Arc::new(move || again().map_err(|error| error.to_string())),
        });
    }

    /// Takes SIGHUP over from the kernel's default of ending the process, and
    /// returns the task's work, which runs until it is dropped.
    ///
    /// # Errors
    /// When the signal can't be listened to.
    pub fn run(self) -> io::Result<impl Future<Output = ()>> {
        Ok(self.follow(signal(SignalKind::hangup())?))
    }

    async fn follow(mut self, mut hangups: Signal) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                _ = ticks.tick() => false,
                Some(()) = hangups.recv() => {
                    info!("SIGHUP: reading files again");
                    true
                }
            };
            // The files may be on a slow disk.
            match spawn_blocking(move || self.look(all)).await {
                Ok(looked) => self = looked,
                Err(error) => {
                    error!(%error, "files are no longer read again");
                    return;
                }
            }
        }
    }

    fn look(mut self, all: bool) -> Self {
        let mut watched = std::mem::take(&mut self.watched);
        for one in &mut watched {
            // Before the contents: a change between the two is seen at the next look.
            let now = look(&one.paths);
            let settled = now == one.seen;
            let changed = now != one.read;
            one.seen = now;
            if all || (changed && settled) {
                one.read.clone_from(&one.seen);
                self.read_again(one);
            }
        }
        self.watched = watched;
        self
    }

    fn read_again(&self, one: &Watched) {
        let what = one.what;
        let outcome = match (one.again)() {
            Ok(()) => {
                self.succeeded(what);
                info!(what, "read again");
                "ok"
            }
            Err(error) => {
                error!(what, error, "not read again: what was in force stays so");
                "failed"
            }
        };
        self.outcomes.with_label_values(&[what, outcome]).inc();
    }

    fn succeeded(&self, what: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        self.last_success
            .with_label_values(&[what])
            .set(i64::try_from(now).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    struct Rig {
        dir: tempfile::TempDir,
        text: Arc<Mutex<String>>,
        outcomes: IntCounterVec,
        reloads: Option<Reloads>,
    }

    /// Two files that are one thing; `bad` in either cannot be used.
    fn rig() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        for path in &paths {
            fs::write(path, "1").unwrap();
        }
        let files = Files::seen(paths.clone());
        let text = Arc::new(Mutex::new("11".to_owned()));
        let mut reloads = Reloads::new(&Registry::new());
        let into = text.clone();
        reloads.add("things", files, move || {
            let both = paths
                .iter()
                .map(|path| read(path))
                .collect::<io::Result<String>>();
            let both = both.map_err(|error| error.to_string())?;
            if both.contains("bad") {
                return Err(format!("{both} is bad"));
            }
            *into.lock() = both;
            Ok(())
        });
        Rig {
            dir,
            text,
            outcomes: reloads.outcomes.clone(),
            reloads: Some(reloads),
        }
    }

    impl Rig {
        fn write(&self, name: &str, text: &str) {
            fs::write(self.dir.path().join(name), text).unwrap();
        }

        fn look(&mut self, all: bool) -> (String, u64, u64) {
            self.reloads = self.reloads.take().map(|reloads| reloads.look(all));
            let count = |outcome| self.outcomes.with_label_values(&["things", outcome]).get();
            (self.text.lock().clone(), count("ok"), count("failed"))
        }
    }

    #[test]
    fn a_change_is_read_once_it_stands_still() {
        let mut rig = rig();
        assert_eq!(rig.look(false), ("11".into(), 0, 0));
        rig.write("a", "2");
        assert_eq!(rig.look(false), ("11".into(), 0, 0));
        // The other half of a pair that is being replaced.
        rig.write("b", "2");
        assert_eq!(rig.look(false), ("11".into(), 0, 0));
        assert_eq!(rig.look(false), ("22".into(), 1, 0));
        assert_eq!(rig.look(false), ("22".into(), 1, 0));
    }

    #[test]
    fn a_mistake_is_counted_once_and_changes_nothing() {
        let mut rig = rig();
        rig.write("a", "bad");
        rig.look(false);
        assert_eq!(rig.look(false), ("11".into(), 0, 1));
        assert_eq!(rig.look(false), ("11".into(), 0, 1));
        fs::remove_file(rig.dir.path().join("a")).unwrap();
        rig.look(false);
        assert_eq!(rig.look(false), ("11".into(), 0, 2));
        rig.write("a", "3");
        rig.look(false);
        assert_eq!(rig.look(false), ("31".into(), 1, 2));
    }

    #[test]
    fn a_hangup_reads_what_has_not_changed_too() {
        let mut rig = rig();
        assert_eq!(rig.look(true), ("11".into(), 1, 0));
        rig.write("b", "2");
        assert_eq!(rig.look(true), ("12".into(), 2, 0));
        assert_eq!(rig.look(false), ("12".into(), 2, 0));
    }

    /// Virtual time: the looks cost nothing.
    #[tokio::test(start_paused = true)]
    async fn the_task_looks_by_itself() {
        let mut rig = rig();
        let task = tokio::spawn(rig.reloads.take().unwrap().run().unwrap());
        rig.write("a", "another");
        while *rig.text.lock() != "another1" {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        task.abort();
    }

    #[test]
    fn an_enormous_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        let file = fs::File::create(&path).unwrap();
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
