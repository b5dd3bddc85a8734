//! What is said of channels beside their media: the title and the tags that an
//! operator gave one, and how well its publisher's stream comes in. Its origin writes
//! it, the link carries it, lists and pages show it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::names::ChannelName;

/// Characters of a title.
pub const MAX_TITLE_CHARS: usize = 140;
/// Tags of one channel.
pub const MAX_TAGS: usize = 10;
/// Characters of a tag.
pub const MAX_TAG_CHARS: usize = 25;

/// What nobody may be told of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AboutError {
    #[error("a title has at most {MAX_TITLE_CHARS} characters, none of them control characters")]
    Title,
    #[error(
        "there are at most {MAX_TAGS} tags of 1 to {MAX_TAG_CHARS} characters, each once, without white space and control characters"
    )]
    Tags,
}

/// How a publisher's stream comes in, as of the last seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Pictures that came, tenths of one a second; `None` without a picture.
    pub fps_tenths: Option<u32>,
    /// Between its last two keyframes; `None` before there were two.
    pub gop_ms: Option<u32>,
    /// Samples of this publish that no segment could take.
    pub dropped_samples: u64,
    /// How far arrivals stray from the publisher's clock (RFC 3550, 6.4.1).
    pub jitter_ms: u32,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Empty where nobody said one.
    pub title: String,
    pub tags: Vec<String>,
    /// While a publisher is on air.
    pub health: Option<Health>,
}

impl About {
    /// A title as it may be shown: without white space round it.
    ///
    /// # Errors
    /// [`AboutError::Title`].
    pub fn title(text: &str) -> Result<String, AboutError> {
        let text = text.trim();
        let fits = text.chars().count() <= MAX_TITLE_CHARS && !text.chars().any(char::is_control);
        fits.then(|| text.to_owned()).ok_or(AboutError::Title)
    }

    /// # Errors
    /// [`AboutError::Tags`].
    pub fn tags(tags: Vec<String>) -> Result<Vec<String>, AboutError> {
        let plain = |c: char| !c.is_control() && !c.is_whitespace();
        let fits = |tag: &String| {
            (1..=MAX_TAG_CHARS).contains(&tag.chars().count()) && tag.chars().all(plain)
        };
        let repeated = (1..).zip(&tags).any(|(behind, tag)| {
            let rest = tags.get(behind..).unwrap_or_default();
            rest.contains(tag)
        });
        let sound = tags.len() <= MAX_TAGS && tags.iter().all(fits) && !repeated;
        sound.then_some(tags).ok_or(AboutError::Tags)
    }
}

/// All that a node was told. Bounded by who writes: an origin by the channels it
/// admits and the titles it keeps, an edge by the channels that it knows.
#[derive(Debug)]
pub struct Abouts {
    known: RwLock<HashMap<ChannelName, Arc<About>>>,
    changes: watch::Sender<u64>,
}

impl Default for Abouts {
    fn default() -> Self {
        Self {
            known: RwLock::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Abouts {
    #[must_use]
    pub fn get(&self, channel: &ChannelName) -> Option<Arc<About>> {
        self.known.read().get(channel).cloned()
    }

    #[must_use]
    pub fn snapshot(&self) -> HashMap<ChannelName, Arc<About>> {
        self.known.read().clone()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.known.read().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the place of what was said before; `None` is nothing at all.
    pub fn put(&self, channel: &ChannelName, about: Option<Arc<About>>) {
        let mut known = self.known.write();
        if known.get(channel) == about.as_ref() {
            return;
        }
        match about {
            Some(about) => known.insert(channel.clone(), about),
            None => known.remove(channel),
        };
        drop(known);
        self.changed();
    }

    /// Changes what is said; who has nothing to be said of is forgotten.
    pub fn update(&self, channel: &ChannelName, change: impl FnOnce(&mut About)) {
        let mut known = self.known.write();
        let before = known.get(channel).cloned().unwrap_or_default();
        let mut after = About::clone(&before);
        change(&mut after);
        if after == *before {
            return;
        }
        if after == About::default() {
            known.remove(channel);
        } else {
            known.insert(channel.clone(), Arc::new(after));
        }
        drop(known);
        self.changed();
    }

    /// Ticks with every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_and_tags_are_bounded() {
        assert_eq!(
            About::title("  Sunday \u{1f3b8} ").unwrap(),
            "Sunday \u{1f3b8}"
        );
        assert!(About::title(&"\u{e9}".repeat(MAX_TITLE_CHARS)).is_ok());
        for bad in ["a\nb", "\u{1b}[2J", &"x".repeat(MAX_TITLE_CHARS + 1)] {
            assert_eq!(About::title(bad), Err(AboutError::Title), "{bad:?}");
        }
        let tags = |tags: &[&str]| About::tags(tags.iter().map(|tag| (*tag).to_owned()).collect());
        assert_eq!(tags(&["chess", "english"]).unwrap(), ["chess", "english"]);
        assert!(tags(&[]).is_ok());
        let long = "x".repeat(MAX_TAG_CHARS + 1);
        let many: Vec<_> = (0..=MAX_TAGS).map(|n| n.to_string()).collect();
        assert_eq!(About::tags(many), Err(AboutError::Tags));
        for bad in [
            &["a", "b", "a"][..],
            &[""],
            &["two words"],
            &["\u{7}"],
            &[&long],
        ] {
            assert_eq!(tags(bad), Err(AboutError::Tags), "{bad:?}");
        }
    }

    #[test]
    fn what_is_told_again_is_no_news() {
        let abouts = Abouts::default();
        let demo = ChannelName::parse("demo").unwrap();
        let mut changes = abouts.changes();
        let title = |about: &mut About| about.title = "one".to_owned();
        abouts.update(&demo, title);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        abouts.update(&demo, title);
        abouts.put(&demo, abouts.get(&demo));
        assert!(!changes.has_changed().unwrap());
        abouts.update(&demo, |about| about.title.clear());
        assert!(changes.has_changed().unwrap() && abouts.is_empty());
    }
}
