//! Which parents there are: those of the flags and the lines of a file, which
//! may change while the edge runs.
//!
//! In: the flags, and the file whenever it changes. Out: a watched list, never
//! empty, the preferred parent first. A file with a mistake changes nothing.

use std::{io, path::PathBuf};

use common::{
    link::config::host_and_port,
    reload::{self, Files},
};
use tokio::sync::watch;

use super::config::UpstreamConfig;

/// An edge has a few; a file with more is the wrong one.
const MAX_PARENTS: usize = 64;

/// Why there are no parents.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    #[error("parents file {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("parents file {}:{line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        /// From 1.
        line: usize,
        problem: String,
    },
    #[error("no parent: give --parent HOST:PORT, or a line of --parents-file")]
    Nobody,
}

/// See the module's text.
#[derive(Debug)]
pub struct Roster {
    flags: Vec<String>,
    file: Option<PathBuf>,
    files: Files,
    current: watch::Sender<Vec<String>>,
}

impl Roster {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// A file that can't be read or has a mistake, or no parent at all.
    pub fn from_config(config: &UpstreamConfig) -> Result<Self, RosterError> {
        let roster = Self {
            flags: config.parents.clone(),
            file: config.parents_file.clone(),
            files: Files::seen(config.parents_file.clone()),
            current: watch::Sender::new(Vec::new()),
        };
        roster.reload()?;
        Ok(roster)
    }

    /// The file, as it was before it was read.
    #[must_use]
    pub fn files(&self) -> Files {
        self.files.clone()
    }

    /// Reads the file again. Blocks on it.
    ///
    /// # Errors
    /// The parents of before stay.
    pub fn reload(&self) -> Result<(), RosterError> {
        let mut parents = self.flags.clone();
        if let Some(path) = &self.file {
            let text = reload::read(path).map_err(|error| RosterError::Read {
                path: path.clone(),
                error,
            })?;
            parse(&text, &mut parents).map_err(|(line, problem)| RosterError::Line {
                path: path.clone(),
                line,
                problem,
            })?;
        }
        if parents.is_empty() {
            return Err(RosterError::Nobody);
        }
        self.current.send_if_modified(|known| {
            let changed = *known != parents;
            *known = parents;
            changed
        });
        Ok(())
    }

    /// The list, and its changes for as long as the roster lives.
    #[must_use]
    pub fn parents(&self) -> watch::Receiver<Vec<String>> {
        self.current.subscribe()
    }
}

fn parse(text: &str, into: &mut Vec<String>) -> Result<(), (usize, String)> {
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if line.contains(char::is_whitespace) {
            return Err((number, "one parent a line".to_owned()));
        }
        let address = host_and_port(line).map_err(|problem| (number, problem))?;
        if into.contains(&address) {
            return Err((number, "this parent is named already".to_owned()));
        }
        into.push(address);
        if into.len() > MAX_PARENTS {
            return Err((number, "more than 64 parents".to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn flags_come_first_and_a_mistake_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parents");
        fs::write(&path, "# near\n b:1 \n[::1]:2 # far\n\n").unwrap();
        let mut config = UpstreamConfig {
            warm_parents: 2,
            parents: vec!["a:1".into()],
            parents_file: Some(path.clone()),
            window_bytes: 0,
            cache_bytes: 0,
        };
        let roster = Roster::from_config(&config).unwrap();
        let mut parents = roster.parents();
        assert_eq!(*parents.borrow_and_update(), ["a:1", "b:1", "[::1]:2"]);
        roster.reload().unwrap();
        assert!(!parents.has_changed().unwrap());
        for (bad, line) in [("b:1\nb", 2), ("a:1", 1), ("b:1 c:1", 1), ("b:1\n\nb:1", 3)] {
            fs::write(&path, bad).unwrap();
            let error = roster.reload().unwrap_err().to_string();
            assert!(error.contains(&format!("parents:{line}: ")), "{error}");
        }
        assert!(!parents.has_changed().unwrap());
        fs::write(&path, "").unwrap();
        roster.reload().unwrap();
        assert_eq!(*parents.borrow_and_update(), ["a:1"]);
        config.parents.clear();
        let nobody = Roster::from_config(&config).unwrap_err();
        assert!(nobody.to_string().contains("--parent "));
    }
}
