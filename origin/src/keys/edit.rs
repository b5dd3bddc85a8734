//! Keys added and revoked while the origin runs: lines of the keys file, which is
//! replaced in one step, with its comments and its permissions.
//!
//! Whoever else edits the file meanwhile is not overwritten unseen: it is read again
//! before each change, under a lock that orders ours.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use common::names::ChannelName;
use tracing::info;

use super::{KeyId, KeyRing, Keys, KeysError, MAX_KEY_BYTES, SAFE_KEY_CHARS, hash};

/// Keys that the API adds to one file at most; by hand more are possible.
const MAX_KEYS: usize = 100_000;

/// Of a key that is made here: 192 bits.
const RANDOM_BYTES: usize = 24;

/// Why the keys stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("this origin has no keys file to change: start it with --keys FILE")]
    NoFile,
    #[error("a key is 22 to 512 letters, digits and signs, without white space, # and ?")]
    Key,
    #[error("this key is known already")]
    Known,
    #[error("the keys file holds {MAX_KEYS} keys, as many as are added this way")]
    Full,
    #[error("no key has this id")]
    NoKey,
    #[error("the keys file is to be put right first: {0}")]
    File(#[from] KeysError),
    #[error("the keys file can't be written: {0}")]
    Write(#[from] io::Error),
    #[error("the system gives no random numbers")]
    Random,
}

/// A key that was added; nobody is told it again.
#[derive(Clone)]
pub struct NewKey {
    pub key: String,
    pub id: KeyId,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {}", self.id)
    }
}

impl KeyRing {
    /// Adds a key for the channel, one of the caller's choice or a random one. Blocks
    /// on the file.
    ///
    /// # Errors
    /// [`EditError`]; nothing is changed.
    pub fn add(&self, channel: &ChannelName, key: Option<String>) -> Result<NewKey, EditError> {
        let key = match key {
            Some(key) if is_safe(&key) => key,
            Some(_) => return Err(EditError::Key),
            None => random()?,
        };
        let hash = hash(&key);
        let line = format!("{key} {channel}\n");
        self.edit(|mut text, keys| {
            if keys.find(&hash).is_some() {
                return Err(EditError::Known);
            }
            if keys.entries.len() >= MAX_KEYS {
                return Err(EditError::Full);
            }
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            Ok(text + &line)
        })?;
        let id = KeyId::of(&hash);
        info!(%channel, %id, "a stream key was added");
        Ok(NewKey { key, id })
    }

    /// Takes a key off the file: who publishes with it is cut off. Blocks on the file.
    ///
    /// # Errors
    /// [`EditError`]; nothing is changed.
    pub fn revoke(&self, id: KeyId) -> Result<ChannelName, EditError> {
        let mut owned = None;
        self.edit(|text, keys| {
            let mut entries = keys.entries.iter();
            let entry = entries.find(|(hash, _)| KeyId::of(hash) == id);
            let (of, channel) = entry.ok_or(EditError::NoKey)?;
            owned = Some(channel.clone());
            let is_it = |line: &&str| {
                let line = line.split('#').next().unwrap_or_default();
                let key = line.split_whitespace().next();
                key.is_some_and(|key| hash(key) == *of)
            };
            let kept = text.split_inclusive('\n').filter(|line| !is_it(line));
            Ok(kept.collect())
        })?;
        let channel = owned.ok_or(EditError::NoKey)?;
        info!(%channel, %id, "a stream key was revoked");
        Ok(channel)
    }

    fn edit(
        &self,
        change: impl FnOnce(String, &Keys) -> Result<String, EditError>,
    ) -> Result<(), EditError> {
        let path = self.path.as_deref().ok_or(EditError::NoFile)?;
        let _one_at_a_time = self.editing.lock();
        let text = self.read(path)?;
        let keys = self.parsed(&text)?;
        let changed = change(text, &keys)?;
        let keys = self.parsed(&changed)?;
        replace(path, &changed)?;
        self.come_into_force(keys);
        Ok(())
    }
}

/// Whoever reads the file sees the old or the new one, and keeps its permissions. A
/// link to a file stays one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let mut file = fs::File::create(&fresh)?;
    let written = fs::metadata(&path)
        .and_then(|metadata| file.set_permissions(metadata.permissions()))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&fresh, &path));
    if written.is_err() {
        // What is left of it would hold keys.
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn is_safe(key: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'?');
    (SAFE_KEY_CHARS..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(plain)
}

fn random() -> Result<String, EditError> {
    let mut bytes = [0; RANDOM_BYTES];
    rand::fill(&mut bytes).map_err(|_| EditError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, sync::Arc};

    use super::*;
    use crate::keys::KeysConfig;

    const KEY: &str = "sK8mVYJ0rT4cW1xQ7nZbEg";

    fn ring(dir: &tempfile::TempDir, text: &str) -> Arc<KeyRing> {
        let path = dir.path().join("keys");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        KeyRing::from_config(&KeysConfig {
            keys: Some(path),
            open: false,
        })
        .unwrap()
    }

    fn text(dir: &tempfile::TempDir) -> String {
        fs::read_to_string(dir.path().join("keys")).unwrap()
    }

    #[test]
    fn keys_come_and_go_and_the_rest_of_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let before = format!("# who\n{KEY} news # evening");
        let ring = ring(&dir, &before);
        let demo = ChannelName::parse("demo").unwrap();
        let added = ring.add(&demo, None).unwrap();
        assert_eq!(added.key.len(), 32);
        assert!(!format!("{added:?}").contains(&added.key));
        assert_eq!(text(&dir), format!("{before}\n{} demo\n", added.key));
        let grant = ring.authorise(&added.key).unwrap();
        assert_eq!(grant.channel, demo);
        let ids: Vec<_> = ring
            .list()
            .into_iter()
            .map(|(of, _)| of.to_string())
            .collect();
        assert_eq!(ids, ["demo", "news"]);
        let mode = fs::metadata(dir.path().join("keys")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert_eq!(ring.revoke(added.id).unwrap(), demo);
        assert_eq!(text(&dir), format!("{before}\n"));
        assert!(!ring.holds(&grant) && ring.authorise(&added.key).is_none());
        assert!(matches!(ring.revoke(added.id), Err(EditError::NoKey)));
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left"
        );
    }

    #[test]
    fn what_cannot_be_done_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(&dir, &format!("{KEY} news\n"));
        let demo = ChannelName::parse("demo").unwrap();
        let add = |key: &str| ring.add(&demo, Some(key.to_owned()));
        assert!(matches!(add(KEY), Err(EditError::Known)));
        let long = "k".repeat(513);
        for bad in [
            "short",
            "with white space in its middle",
            "a#bcdefghijklmnopqrstuvwx",
            &long,
        ] {
            assert!(matches!(add(bad), Err(EditError::Key)), "{bad}");
        }
        assert_eq!(text(&dir), format!("{KEY} news\n"));
        // Somebody edits it by hand and is not done.
        fs::write(dir.path().join("keys"), format!("{KEY} news\nhalf")).unwrap();
        let error = add("pB2hXqv8LrTf5mYw0dKcZA").unwrap_err().to_string();
        assert!(
            error.contains("keys:2: ") && !error.contains(KEY),
            "{error}"
        );
        assert_eq!(text(&dir), format!("{KEY} news\nhalf"));
        let open = KeyRing::from_config(&KeysConfig {
            keys: None,
            open: true,
        });
        let refused = open.unwrap().add(&demo, None);
        assert!(matches!(refused, Err(EditError::NoFile)));
    }

    #[test]
    fn a_link_to_the_file_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let _ring = ring(&dir, "");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("keys"), &link).unwrap();
        let config = KeysConfig {
            keys: Some(link.clone()),
            open: false,
        };
        let ring = KeyRing::from_config(&config).unwrap();
        ring.add(&ChannelName::parse("demo").unwrap(), None)
            .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(text(&dir).ends_with(" demo\n"));
    }

    /// Else a reading that began before a key was revoked would bring it back.
    #[test]
    fn nothing_is_changed_while_the_file_is_being_read() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(&dir, &format!("{KEY} news\n"));
        let path = dir.path().join("keys");
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let reading = ring.clone();
        let reading = std::thread::spawn(move || reading.reload());
        // Returns when the reader is there: it is in the midst of reading now.
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert!(ring.editing.try_lock().is_none());
        file.write_all(b"").unwrap();
        drop(file);
        reading.join().unwrap().unwrap();
        assert!(ring.list().is_empty() && ring.editing.try_lock().is_some());
    }
}
