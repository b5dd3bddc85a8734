//! Who may publish where: stream keys and the channels they own.
//!
//! Comes in: the keys file (`key channel` a line, `#` begins a comment) and the
//! keys that publishers offer; goes out: a channel, or nothing. A file with a
//! mistake changes nothing on [`KeyRing::reload`]. One [`KeyRing`] is shared by
//! all connections.
//!
//! Invariants: a key is kept and compared only as its SHA-256, in constant
//! time, and never appears in a log or an error.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256};
use common::names::ChannelName;
use common::reload::{self, Files};
use parking_lot::Mutex;
use tracing::{info, warn};

/// 22 characters of base64 hold 128 bits; fewer can be guessed.
pub const SAFE_KEY_CHARS: usize = 22;
/// A longer key is a mistake in the file.
const MAX_KEY_BYTES: usize = 512;

/// Flags of the keys.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Stream keys")]
pub struct KeysConfig {
    /// File of `key channel` lines, read again whenever it changes
    #[arg(long, env = "MILLRACE_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,

    /// Let anybody publish to any channel: the key is the channel's name (for development)
    #[arg(long, env = "MILLRACE_OPEN")]
    pub open: bool,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Neither `--keys` nor `--open`.
    #[error("nobody could publish: give --keys FILE, or --open for development")]
    NoSource,
    /// The file can't be read.
    #[error("keys file {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file has a mistake.
    #[error("keys file {}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, without the key.
        problem: &'static str,
    },
}

type KeyHash = [u8; 32];

fn hash(key: &str) -> KeyHash {
    let mut hash = KeyHash::default();
    let digest = digest::digest(&SHA256, key.as_bytes());
    for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    hash
}

/// The contents of a keys file.
#[derive(Debug, Default)]
struct Keys {
    entries: Vec<(KeyHash, ChannelName)>,
    /// Lines whose key is shorter than [`SAFE_KEY_CHARS`].
    short: Vec<usize>,
}

impl Keys {
    /// Every line of a file, or the first wrong one and what is wrong with it.
    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut keys = Self::default();
        let mut seen = std::collections::HashSet::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (key, channel) = match (words.next(), words.next(), words.next()) {
                (None, ..) => continue,
                (Some(key), Some(channel), None) => (key, channel),
                _ => {
                    return Err((
                        number,
                        "expected `key channel`, for example `9fC...x2 demo`",
                    ));
                }
            };
            if key.len() > MAX_KEY_BYTES {
                return Err((number, "the key is over 512 bytes long"));
            }
            if key.contains('?') {
                return Err((number, "a key may not hold a question mark"));
            }
            let Ok(channel) = ChannelName::parse(channel) else {
                return Err((number, "a channel is 1 to 32 of a-z, 0-9 and _"));
            };
            let hash = hash(key);
            if !seen.insert(hash) {
                return Err((number, "this key stands in an earlier line"));
            }
            if key.chars().count() < SAFE_KEY_CHARS {
                keys.short.push(number);
            }
            keys.entries.push((hash, channel));
        }
        Ok(keys)
    }

    /// Looks at every entry whatever it finds, so that time tells nothing.
    fn find(&self, key: &str) -> Option<ChannelName> {
        let offered = hash(key);
        let mut found = None;
        for (hash, channel) in &self.entries {
            if verify_slices_are_equal(hash, &offered).is_ok() {
                found = Some(channel);
            }
        }
        found.cloned()
    }
}

/// The keys in force.
#[derive(Debug)]
pub struct KeyRing {
    path: Option<PathBuf>,
    open: bool,
    current: Mutex<Arc<Keys>>,
    files: Files,
}

impl KeyRing {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// No source, an unreadable file, or a mistake in it.
    pub fn from_config(config: &KeysConfig) -> Result<Arc<Self>, KeysError> {
        if config.keys.is_none() && !config.open {
            return Err(KeysError::NoSource);
        }
        let ring = Self {
            path: config.keys.clone(),
            open: config.open,
            current: Mutex::default(),
            files: Files::seen(config.keys.clone()),
        };
        if ring.open {
            warn!("--open: anybody may publish to any channel");
        }
        ring.reload()?;
        Ok(Arc::new(ring))
    }

    /// The channel that a key owns. With `--open` a key that the file doesn't
    /// know is a channel's name.
    pub fn authorise(&self, key: &str) -> Option<ChannelName> {
        let keys = self.current.lock().clone();
        let known = keys.find(key);
        if known.is_none() && self.open {
            return ChannelName::parse(key).ok();
        }
        known
    }

    /// The keys file, as it was before it was read.
    #[must_use]
    pub fn files(&self) -> Files {
        self.files.clone()
    }

    /// Reads the file now. Blocks on it.
    ///
    /// # Errors
    /// The old keys stay in force and the caller says why.
    pub fn reload(&self) -> Result<(), KeysError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let text = reload::read(path).map_err(|error| KeysError::Read {
            path: path.clone(),
            error,
        })?;
        let keys = Keys::parse(&text).map_err(|(line, problem)| KeysError::Line {
            path: path.clone(),
            line,
            problem,
        })?;
        if let Some(first) = keys.short.first() {
            let short = keys.short.len();
            warn!(
                short,
                first_line = first,
                "keys of fewer than {SAFE_KEY_CHARS} characters can be guessed"
            );
        }
        info!(keys = keys.entries.len(), "stream keys read");
        *self.current.lock() = Arc::new(keys);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const KEY: &str = "sK8mVYJ0rT4cW1xQ7nZbEg";

    fn channel(name: &str) -> Option<ChannelName> {
        Some(ChannelName::parse(name).unwrap())
    }

    fn ring(dir: &tempfile::TempDir, text: &str, open: bool) -> Result<Arc<KeyRing>, KeysError> {
        let path = dir.path().join("keys");
        fs::write(&path, text).unwrap();
        KeyRing::from_config(&KeysConfig {
            keys: Some(path),
            open,
        })
    }

    #[test]
    fn keys_own_channels() {
        let text = format!("# who\n\n  {KEY}\tnews # evening\n{KEY}2 news\ndemo demo\r\n");
        let keys = Keys::parse(&text).unwrap();
        assert_eq!(keys.find(KEY), channel("news"));
        assert_eq!(keys.find(&format!("{KEY}2")), channel("news"));
        assert_eq!(keys.find("demo"), channel("demo"));
        assert_eq!(keys.short, [5]);
        for wrong in ["", "news", "#", &KEY[..21], &KEY.to_lowercase()] {
            assert_eq!(keys.find(wrong), None);
        }
    }

    #[test]
    fn the_first_wrong_line_is_named() {
        for (text, line) in [
            ("key", 1),
            ("# c\nkey channel more", 2),
            ("key Channel", 1),
            ("key ../x", 1),
            ("a b\na c", 2),
            ("\n\na?b c", 3),
        ] {
            assert_eq!(Keys::parse(text).unwrap_err().0, line, "{text:?}");
        }
        let long = format!("{} c", "k".repeat(513));
        assert!(Keys::parse(&long).is_err());
    }

    #[test]
    fn a_mistake_keeps_the_old_keys_and_never_shows_one() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(&dir, &format!("{KEY} news"), false).unwrap();
        fs::write(dir.path().join("keys"), format!("a b\n{KEY} news extra")).unwrap();
        let error = ring.reload().unwrap_err().to_string();
        assert!(error.contains("keys:2: "), "{error}");
        assert!(!error.contains(KEY));
        assert!(!format!("{ring:?}").contains(KEY));
        assert_eq!(ring.authorise(KEY), channel("news"));
        fs::remove_file(dir.path().join("keys")).unwrap();
        assert!(ring.reload().is_err());
        assert_eq!(ring.authorise(KEY), channel("news"));
    }

    #[test]
    fn open_takes_any_channel_name_and_the_file_still_rules() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(&dir, &format!("{KEY} news\nsport football"), true).unwrap();
        assert_eq!(ring.authorise(KEY), channel("news"));
        assert_eq!(ring.authorise("sport"), channel("football"));
        assert_eq!(ring.authorise("demo"), channel("demo"));
        assert_eq!(ring.authorise("Not A Channel"), None);
        assert_eq!(ring.authorise(""), None);
        let neither = KeyRing::from_config(&KeysConfig::default());
        assert!(matches!(neither, Err(KeysError::NoSource)));
    }
}
