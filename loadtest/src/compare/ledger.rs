//! Which bytes stood for which version of a playlist, at either edge.
//!
//! In: one [`Entry`] per answer. Out: comparisons and differences. Invariant:
//! two entries are compared only if playlist, form and version are equal.
//! Bound: [`KEPT`] versions.

use std::collections::BTreeMap;

use crate::m3u8::MediaPlaylist;

/// A track of three parts a second in three forms, for two minutes.
const KEPT: usize = 1 << 12;

/// More of these tell nothing new.
const MAX_DIFFERENCES: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    Plain,
    Gzip,
    Delta,
}

/// Which state of the origin's log a playlist shows: at equal versions all
/// edges give identical bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    msn: u64,
    parts: u64,
    complete: bool,
    ended: bool,
    /// The folder of what comes next, which begins with the epoch.
    epoch: String,
}

impl Version {
    #[must_use]
    pub fn of(list: &MediaPlaylist) -> Option<Self> {
        let position = list.position()?;
        let last_part = || {
            list.segments
                .last()?
                .parts
                .last()
                .map(|part| part.uri.as_str())
        };
        let uri = list.part_hint().or_else(last_part).unwrap_or_default();
        let epoch = uri.rsplit_once('/').map_or("", |(folder, _)| folder);
        Some(Self {
            msn: position.msn,
            parts: position.parts,
            complete: position.complete,
            ended: list.ended,
            epoch: epoch.to_owned(),
        })
    }
}

#[derive(Debug)]
pub struct Entry {
    pub edge: usize,
    pub playlist: String,
    pub form: Form,
    pub version: Version,
    pub bytes: Vec<u8>,
}

/// By version first, so that the oldest is the first to go.
type Key = (Version, String, Form);

#[derive(Debug, Default)]
pub struct Ledger {
    seen: BTreeMap<Key, [Option<Vec<u8>>; 2]>,
    compared: BTreeMap<(String, Form), u64>,
    differences: Vec<String>,
}

impl Ledger {
    pub fn observe(&mut self, entry: Entry) {
        let key = (entry.version, entry.playlist, entry.form);
        let both = self.seen.entry(key.clone()).or_default();
        let (Some(own), Some(other)) = (both.get(entry.edge), both.get(1 - entry.edge.min(1)))
        else {
            return;
        };
        let mut found = None;
        match (own, other) {
            (Some(own), _) if *own != entry.bytes => {
                found = Some(difference("twice at one edge", own, &entry.bytes));
            }
            (None, Some(other)) => {
                *self.compared.entry((key.1.clone(), key.2)).or_default() += 1;
                if *other != entry.bytes {
                    found = Some(difference("between the edges", other, &entry.bytes));
                }
            }
            _ => {}
        }
        if let Some(slot) = both.get_mut(entry.edge) {
            *slot = Some(entry.bytes);
        }
        if let Some(text) = found
            && self.differences.len() < MAX_DIFFERENCES
        {
            let (version, playlist, form) = &key;
            let Version {
                msn,
                parts,
                complete,
                epoch,
                ..
            } = version;
            self.differences.push(format!(
                "{playlist} {form:?} epoch {epoch} msn {msn} parts {parts} complete {complete}: {text}"
            ));
        }
        while self.seen.len() > KEPT {
            self.seen.pop_first();
        }
    }

    /// Versions of one playlist met at both edges.
    #[must_use]
    pub fn compared(&self, playlist: &str, form: Form) -> u64 {
        let key = (playlist.to_owned(), form);
        self.compared.get(&key).copied().unwrap_or(0)
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.compared.values().sum()
    }

    #[must_use]
    pub fn differences(&self) -> &[String] {
        &self.differences
    }
}

/// The first line that differs; the first byte where it isn't text.
fn difference(place: &str, a: &[u8], b: &[u8]) -> String {
    if let (Ok(a), Ok(b)) = (std::str::from_utf8(a), std::str::from_utf8(b)) {
        let mut lines = a
            .lines()
            .map(Some)
            .chain([None])
            .zip(b.lines().map(Some).chain([None]));
        if let Some((a, b)) = lines.find(|(a, b)| a != b) {
            let shown = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
            return format!("{place}: `{}` and `{}`", shown(a), shown(b));
        }
    }
    let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    format!(
        "{place}: {} and {} bytes, different from byte {at} on",
        a.len(),
        b.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::m3u8::parse_media;

    fn entry(edge: usize, msn: u64, form: Form, bytes: &str) -> Entry {
        Entry {
            edge,
            playlist: "v0.m3u8".to_owned(),
            form,
            version: Version {
                msn,
                ..Version::default()
            },
            bytes: bytes.into(),
        }
    }

    #[test]
    fn only_equal_versions_are_compared() {
        let mut ledger = Ledger::default();
        ledger.observe(entry(0, 1, Form::Plain, "a"));
        ledger.observe(entry(1, 2, Form::Plain, "b"));
        ledger.observe(entry(1, 1, Form::Gzip, "c"));
        assert_eq!(ledger.total(), 0);
        ledger.observe(entry(1, 1, Form::Plain, "a"));
        ledger.observe(entry(1, 1, Form::Plain, "a"));
        assert_eq!(
            (ledger.total(), ledger.compared("v0.m3u8", Form::Plain)),
            (1, 1)
        );
        assert!(ledger.differences().is_empty());
    }

    #[test]
    fn a_difference_shows_its_lines() {
        let mut ledger = Ledger::default();
        ledger.observe(entry(1, 7, Form::Plain, "x\nA\n"));
        ledger.observe(entry(0, 7, Form::Plain, "x\nB\n"));
        let [line] = ledger.differences() else {
            panic!()
        };
        assert!(
            line.contains("msn 7") && line.contains("`A` and `B`"),
            "{line}"
        );
        ledger.observe(entry(0, 7, Form::Plain, "x\nA\n"));
        assert!(ledger.differences()[1].contains("twice at one edge"));
        ledger.observe(entry(0, 8, Form::Gzip, "abc"));
        ledger.observe(entry(1, 8, Form::Gzip, "abcd"));
        assert_eq!(ledger.differences().len(), 3);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut ledger = Ledger::default();
        for msn in 0..2 * KEPT as u64 {
            ledger.observe(entry(0, msn, Form::Plain, "a"));
            ledger.observe(entry(1, msn, Form::Plain, "b"));
        }
        assert_eq!(
            (ledger.seen.len(), ledger.differences().len()),
            (KEPT, MAX_DIFFERENCES)
        );
    }

    #[test]
    fn the_epoch_comes_from_the_hint() {
        let text =
            "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-PART:DURATION=1,URI=\"1/v0/5.0.m4s\"\n";
        let old = Version::of(&parse_media(text).unwrap()).unwrap();
        let hint = format!("{text}#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"2/v0/5.1.m4s\"\n");
        let new = Version::of(&parse_media(&hint).unwrap()).unwrap();
        assert_eq!((old.epoch.as_str(), new.epoch.as_str()), ("1/v0", "2/v0"));
        assert_eq!((new.msn, new.parts, new.complete), (5, 1, false));
    }
}
