//! The directory of an archive: one file a segment, named by a number.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::ArchiveError;

const EXTENSION: &str = "past";
/// Sixteen hexadecimal digits.
const DIGITS: usize = 16;

#[derive(Debug, Clone)]
pub(super) struct Files {
    dir: PathBuf,
    #[cfg(test)]
    pub(super) fails: Option<super::tests::Fails>,
}

/// Makes the directory ours and empties it of segments. Other files stay.
pub(super) fn open(dir: &Path) -> Result<(Files, File), ArchiveError> {
    let failed = |error| ArchiveError::Io {
        dir: dir.to_owned(),
        error,
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(failed)?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(ArchiveError::Taken(dir.to_owned())),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_ours(&path) {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    let files = Files {
        dir: dir.to_owned(),
        #[cfg(test)]
        fails: None,
    };
    Ok((files, lock))
}

fn is_ours(path: &Path) -> bool {
    let number = path.file_stem().and_then(|stem| stem.to_str());
    let number = number.filter(|_| path.extension().is_some_and(|of| of == EXTENSION));
    number.is_some_and(|stem| stem.len() == DIGITS && u64::from_str_radix(stem, 16).is_ok())
}

impl Files {
    fn path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:016x}.{EXTENSION}"))
    }

    /// Leaves nothing behind where it fails. Nothing is synced: after a crash
    /// of the machine nobody lists these bytes.
    pub(super) fn write(&self, id: u64, parts: &[Bytes]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(fails) = &self.fails {
            fails.check()?;
        }
        let path = self.path(id);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
        written
    }

    pub(super) fn delete(&self, id: u64) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn read(&self, id: u64) -> io::Result<File> {
        File::open(self.path(id))
    }
}
