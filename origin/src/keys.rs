//! Who may publish where: stream keys and the channels they own.
//!
//! Comes in: the keys file (`key channel` a line, `#` begins a comment) and the
//! keys that publishers offer; goes out: a channel, or nothing. A file with a
//! mistake changes nothing on [`KeyRing::reload`]. One [`KeyRing`] is shared by
//! all connections. The file is the truth: who adds or revokes a key over the API
//! changes it (`edit`), and a key that is not in it any more ends its publish.
//!
//! Invariants: a key is kept and compared only as its SHA-256, in constant
//! time, and never appears in a log or an error; it is told once, to who had it made.

mod edit;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use common::names::ChannelName;
use common::reload::{self, Files};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

pub use edit::{EditError, NewKey};

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

/// What a key is called where it must not be told: the first eight bytes of its
/// SHA-256, in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(u64);

impl KeyId {
    fn of(hash: &KeyHash) -> Self {
        let first = hash.first_chunk::<8>();
        Self(first.map_or(0, |first| u64::from_be_bytes(*first)))
    }

    /// Sixteen hexadecimal digits in lower case, as it is printed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let fits = text.len() == 16 && text.bytes().all(plain);
        fits.then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a key opens: a channel, for as long as [`KeyRing::holds`].
#[derive(Debug, Clone)]
pub struct Grant {
    pub channel: ChannelName,
    hash: KeyHash,
}

impl Grant {
    /// What [`KeyRing::granted`] takes. The key can't be told from it.
    pub fn place(&self) -> String {
        BASE64.encode(self.hash)
    }
}

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
    /// Which of the entries has a hash: for grants, whose key was offered before.
    places: HashMap<KeyHash, usize>,
    /// Lines whose key is shorter than [`SAFE_KEY_CHARS`].
    short: Vec<usize>,
}

impl Keys {
    /// Every line of a file, or the first wrong one and what is wrong with it.
    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut keys = Self::default();
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
            if keys.places.insert(hash, keys.entries.len()).is_some() {
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
    fn find(&self, offered: &KeyHash) -> Option<ChannelName> {
        let mut found = None;
        for (hash, channel) in &self.entries {
            if verify_slices_are_equal(hash, offered).is_ok() {
                found = Some(channel);
            }
        }
        found.cloned()
    }

    /// The same without looking at all: for who needs not find a key by trying.
    fn owned(&self, granted: &KeyHash) -> Option<&ChannelName> {
        let place = self.places.get(granted)?;
        self.entries.get(*place).map(|(_, channel)| channel)
    }
}

/// The keys in force.
#[derive(Debug)]
pub struct KeyRing {
    path: Option<PathBuf>,
    open: bool,
    current: Mutex<Arc<Keys>>,
    files: Files,
    /// One change or reading of the file at a time: what was read before a change
    /// may not come into force after it.
    editing: Mutex<()>,
    changes: watch::Sender<u64>,
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
            editing: Mutex::default(),
            changes: watch::Sender::new(0),
        };
        if ring.open {
            warn!("--open: anybody may publish to any channel");
        }
        ring.reload()?;
        Ok(Arc::new(ring))
    }

    /// The channel that a key owns. With `--open` a key that the file doesn't
    /// know is a channel's name.
    pub fn authorise(&self, key: &str) -> Option<Grant> {
        let keys = self.current.lock().clone();
        let hash = hash(key);
        let mut channel = keys.find(&hash);
        if channel.is_none() && self.open {
            channel = ChannelName::parse(key).ok();
        }
        channel.map(|channel| Grant { channel, hash })
    }

    /// A grant as another process of this node had it, where it holds here too; the
    /// text is [`Grant::place`]'s.
    pub fn granted(&self, channel: &ChannelName, place: &str) -> Option<Grant> {
        let hash = BASE64.decode(place).ok()?;
        let hash = KeyHash::try_from(hash.as_slice()).ok()?;
        let channel = channel.clone();
        let grant = Grant { channel, hash };
        self.holds(&grant).then_some(grant)
    }

    /// Whether a grant still holds: its key owns its channel. All publishers ask it at
    /// each change of the file.
    pub fn holds(&self, grant: &Grant) -> bool {
        let keys = self.current.lock().clone();
        match keys.owned(&grant.hash) {
            Some(channel) => *channel == grant.channel,
            // A channel's name, or a key that was in the file and opened another.
            None => self.open && hash(grant.channel.as_str()) == grant.hash,
        }
    }

    /// Ticks when grants may not hold any more.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The keys in force, in the order of their channels.
    pub fn list(&self) -> Vec<(ChannelName, KeyId)> {
        let keys = self.current.lock().clone();
        let listed = keys.entries.iter();
        let mut listed: Vec<_> = listed
            .map(|(hash, channel)| (channel.clone(), KeyId::of(hash)))
            .collect();
        listed.sort();
        listed
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
        let _one_at_a_time = self.editing.lock();
        let keys = self.parsed(&self.read(path)?)?;
        if let Some(first) = keys.short.first() {
            let short = keys.short.len();
            warn!(
                short,
                first_line = first,
                "keys of fewer than {SAFE_KEY_CHARS} characters can be guessed"
            );
        }
        info!(keys = keys.entries.len(), "stream keys read");
        self.come_into_force(keys);
        Ok(())
    }

    fn read(&self, path: &std::path::Path) -> Result<String, KeysError> {
        reload::read(path).map_err(|error| KeysError::Read {
            path: path.to_owned(),
            error,
        })
    }

    fn parsed(&self, text: &str) -> Result<Keys, KeysError> {
        Keys::parse(text).map_err(|(line, problem)| KeysError::Line {
            path: self.path.clone().unwrap_or_default(),
            line,
            problem,
        })
    }

    fn come_into_force(&self, keys: Keys) {
        *self.current.lock() = Arc::new(keys);
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
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

    fn authorised(ring: &KeyRing, key: &str) -> Option<ChannelName> {
        ring.authorise(key).map(|grant| grant.channel)
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
        let find = |key: &str| keys.find(&hash(key));
        assert_eq!(find(KEY), channel("news"));
        assert_eq!(find(&format!("{KEY}2")), channel("news"));
        assert_eq!(find("demo"), channel("demo"));
        assert_eq!(keys.short, [5]);
        for wrong in ["", "news", "#", &KEY[..21], &KEY.to_lowercase()] {
            assert_eq!(find(wrong), None);
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
        assert_eq!(authorised(&ring, KEY), channel("news"));
        fs::remove_file(dir.path().join("keys")).unwrap();
        assert!(ring.reload().is_err());
        assert_eq!(authorised(&ring, KEY), channel("news"));
    }

    #[test]
    fn open_takes_any_channel_name_and_the_file_still_rules() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(&dir, &format!("{KEY} news\nsport football"), true).unwrap();
        assert_eq!(authorised(&ring, KEY), channel("news"));
        assert_eq!(authorised(&ring, "sport"), channel("football"));
        assert_eq!(authorised(&ring, "demo"), channel("demo"));
        assert_eq!(authorised(&ring, "Not A Channel"), None);
        assert_eq!(authorised(&ring, ""), None);
        let neither = KeyRing::from_config(&KeysConfig::default());
        assert!(matches!(neither, Err(KeysError::NoSource)));
    }

    #[test]
    fn a_grant_holds_while_its_key_owns_its_channel() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(&dir, &format!("{KEY} news\nsport football"), true).unwrap();
        let mut changes = ring.changes();
        let [news, football, demo] = [KEY, "sport", "demo"].map(|key| ring.authorise(key).unwrap());
        for grant in [&news, &football, &demo] {
            assert!(ring.holds(grant), "{}", grant.channel);
        }
        assert!(!changes.has_changed().unwrap());
        fs::write(dir.path().join("keys"), format!("{KEY} other")).unwrap();
        ring.reload().unwrap();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert!(!ring.holds(&news), "it owns another channel");
        assert!(!ring.holds(&football), "it is gone");
        assert!(ring.holds(&demo), "open still");
    }

    #[test]
    fn a_key_has_a_name_that_is_none_of_its_bytes() {
        let id = KeyId::of(&hash(KEY));
        assert_eq!(KeyId::parse(&id.to_string()), Some(id));
        for bad in [
            "",
            "12345",
            "0123456789ABCDEF",
            "+123456789abcdef",
            "0123456789abcdef0",
        ] {
            assert_eq!(KeyId::parse(bad), None, "{bad}");
        }
    }
}
