//! The file of keys that verifies viewers' tokens, and which of it are in force.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};
use common::{
    key_file::{KeyFile, KeyFileError},
    reload::{self, Files},
};
use tracing::info;

/// Why there are no keys. Never holds one.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("view keys {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("view keys {}: {error}", path.display())]
    Line { path: PathBuf, error: KeyFileError },
    #[error("view keys {}: no key in it, and nobody could watch", .0.display())]
    Empty(PathBuf),
}

/// # Errors
/// [`KeysError`], also for a file without keys.
pub(super) fn read(path: &Path) -> Result<KeyFile, KeysError> {
    let text = reload::read(path).map_err(|error| KeysError::Read {
        path: path.to_owned(),
        error,
    })?;
    let keys = KeyFile::parse(&text).map_err(|error| KeysError::Line {
        path: path.to_owned(),
        error,
    })?;
    if keys.is_empty() {
        return Err(KeysError::Empty(path.to_owned()));
    }
    Ok(keys)
}

/// The keys in force.
#[derive(Debug)]
pub(super) struct ViewKeys {
    path: PathBuf,
    files: Files,
    current: ArcSwap<KeyFile>,
}

impl ViewKeys {
    pub(super) fn load(path: &Path) -> Result<Self, KeysError> {
        let files = Files::seen([path.to_owned()]);
        let keys = read(path)?;
        info!(?keys, "viewing needs tokens");
        Ok(Self {
            path: path.to_owned(),
            files,
            current: ArcSwap::from_pointee(keys),
        })
    }

    pub(super) fn files(&self) -> Files {
        self.files.clone()
    }

    pub(super) fn reload(&self) -> Result<(), KeysError> {
        self.current.store(Arc::new(read(&self.path)?));
        Ok(())
    }

    /// To be looked at, not kept: every request for media takes it, and would
    /// otherwise count one reference up and down that all processors share.
    pub(super) fn current(&self) -> Guard<Arc<KeyFile>> {
        self.current.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn a_mistake_keeps_the_old_keys_and_never_shows_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("view");
        std::fs::write(&path, format!("a HS256 {SECRET}")).unwrap();
        let keys = ViewKeys::load(&path).unwrap();
        assert!(!format!("{keys:?}").contains(SECRET));
        for bad in [
            format!("b HS256 {SECRET}x{SECRET}="),
            String::new(),
            "# none".into(),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = keys.reload().unwrap_err().to_string();
            assert!(!error.contains(SECRET) && error.contains("view"), "{error}");
            assert!(keys.current().get("a").is_some());
        }
        std::fs::write(&path, format!("b HS256 {SECRET}")).unwrap();
        keys.reload().unwrap();
        assert!(keys.current().get("a").is_none() && keys.current().get("b").is_some());
    }
}
