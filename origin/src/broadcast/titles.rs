//! The titles and tags of channels, over a restart: a small file a channel beside the
//! journal's pages, replaced in one step. Without a directory they live as long as the
//! process.
//!
//! In: what an operator sets, live channel or not. Out: the channel's entry in the
//! [`Abouts`], whose health is the channel's task's. A file that can't be read is named
//! in the log and passed over.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{
    live::{About, Abouts},
    names::ChannelName,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Channels with a title or tags.
const MAX_TITLED: usize = 65_536;

/// Below the journal's directory.
const DIR: &str = "about";

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TitleError {
    #[error("{MAX_TITLED} channels have a title or tags, as many as are kept; clear some")]
    Full,
    #[error("the journal can't be written: {0}")]
    Write(#[from] io::Error),
}

/// The file. Added fields need a default.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    title: String,
    tags: Vec<String>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Titles {
    abouts: Arc<Abouts>,
    dir: Option<PathBuf>,
    /// Who has one; the lock orders the files' changes, too.
    titled: Mutex<HashSet<ChannelName>>,
}

impl Titles {
    /// Reads what is there. `journal` is the directory of `--journal`.
    ///
    /// # Errors
    /// When the directory can neither be made nor listed.
    pub fn open(journal: Option<&Path>, abouts: Arc<Abouts>) -> io::Result<Self> {
        let dir = journal.map(|journal| journal.join(DIR));
        let mut titled = HashSet::new();
        if let Some(dir) = &dir {
            fs::create_dir_all(dir)?;
            for entry in fs::read_dir(dir)?.take(MAX_TITLED) {
                let path = entry?.path();
                if let Some((channel, stored)) = read(&path) {
                    abouts.update(&channel, |about| {
                        about.title = stored.title;
                        about.tags = stored.tags;
                    });
                    titled.insert(channel);
                }
            }
        }
        Ok(Self {
            abouts,
            dir,
            titled: Mutex::new(titled),
        })
    }

    /// Gives the channel another title, other tags, or both; what is `None` stays.
    /// Both have been checked. Blocks on the file.
    ///
    /// # Errors
    /// [`TitleError`]; nothing is changed.
    pub fn set(
        &self,
        channel: &ChannelName,
        title: Option<String>,
        tags: Option<Vec<String>>,
    ) -> Result<Arc<About>, TitleError> {
        let mut titled = self.titled.lock();
        let before = self.abouts.get(channel).unwrap_or_default();
        let stored = Stored {
            title: title.unwrap_or_else(|| before.title.clone()),
            tags: tags.unwrap_or_else(|| before.tags.clone()),
        };
        let is_empty = stored.title.is_empty() && stored.tags.is_empty();
        if !is_empty && titled.len() >= MAX_TITLED && !titled.contains(channel) {
            return Err(TitleError::Full);
        }
        if let Some(dir) = &self.dir {
            write(dir, channel, (!is_empty).then_some(&stored))?;
        }
        if is_empty {
            titled.remove(channel);
        } else {
            titled.insert(channel.clone());
        }
        self.abouts.update(channel, |about| {
            about.title = stored.title;
            about.tags = stored.tags;
        });
        drop(titled);
        Ok(self.abouts.get(channel).unwrap_or_default())
    }
}

fn write(dir: &Path, channel: &ChannelName, stored: Option<&Stored>) -> io::Result<()> {
    let path = dir.join(format!("{channel}.json"));
    let Some(stored) = stored else {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    let fresh = path.with_extension("new");
    fs::write(&fresh, serde_json::to_string(stored)?)?;
    fs::rename(&fresh, &path)
}

fn read(path: &Path) -> Option<(ChannelName, Stored)> {
    if path.extension()?.to_str()? != "json" {
        return None;
    }
    let channel = ChannelName::parse(path.file_stem()?.to_str()?).ok()?;
    let text = fs::read(path).map_err(|error| error.to_string());
    let stored = text.and_then(|text| {
        let stored: Stored = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let title = About::title(&stored.title).map_err(|error| error.to_string())?;
        let tags = About::tags(stored.tags).map_err(|error| error.to_string())?;
        Ok(Stored { title, tags })
    });
    match stored {
        Ok(stored) => Some((channel, stored)),
        Err(error) => {
            tracing::warn!(path = %path.display(), error, "a channel's title is unreadable; it has none");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> (Titles, Arc<Abouts>) {
        let abouts = Arc::new(Abouts::default());
        (
            Titles::open(Some(dir.path()), abouts.clone()).unwrap(),
            abouts,
        )
    }

    #[test]
    fn a_new_process_finds_titles_and_tags() {
        let dir = tempfile::tempdir().unwrap();
        let demo = ChannelName::parse("demo").unwrap();
        let (titles, abouts) = open(&dir);
        titles.set(&demo, Some("One".into()), None).unwrap();
        let both = titles.set(&demo, None, Some(vec!["chess".into()])).unwrap();
        assert_eq!(
            (&*both.title, &both.tags[..]),
            ("One", &["chess".to_owned()][..])
        );
        assert_eq!(abouts.get(&demo), Some(both.clone()));
        let (titles, abouts) = open(&dir);
        assert_eq!(abouts.get(&demo), Some(both));
        titles
            .set(&demo, Some(String::new()), Some(Vec::new()))
            .unwrap();
        assert!(abouts.is_empty());
        let left = fs::read_dir(dir.path().join(DIR)).unwrap().count();
        assert_eq!((left, open(&dir).1.len()), (0, 0));
    }

    #[test]
    fn torn_and_foreign_files_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(&dir));
        let long = format!(r#"{{"title":"{}","tags":[]}}"#, "x".repeat(999));
        for (name, text) in [
            ("demo.json", "{\"title\":"),
            ("long.json", long.as_str()),
            ("Bad Name.json", r#"{"title":"x","tags":[]}"#),
            ("x.new", "{}"),
        ] {
            fs::write(dir.path().join(DIR).join(name), text).unwrap();
        }
        assert!(open(&dir).1.is_empty());
    }

    #[test]
    fn titles_are_bounded() {
        let titles = Titles::open(None, Arc::default()).unwrap();
        let name = |n| ChannelName::parse(&format!("c{n}")).unwrap();
        let title = || Some("x".to_owned());
        for n in 0..MAX_TITLED {
            titles.set(&name(n), title(), None).unwrap();
        }
        let more = titles.set(&name(MAX_TITLED), title(), None);
        assert!(matches!(more, Err(TitleError::Full)));
        titles.set(&name(7), Some(String::new()), None).unwrap();
        titles.set(&name(MAX_TITLED), title(), None).unwrap();
    }
}
