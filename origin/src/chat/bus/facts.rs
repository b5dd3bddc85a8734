//! A room's facts as they lie in the bucket, one message a key; which of them hold,
//! and how those that were deleted go for good.
//!
//! A write names the revision that it follows: 0 where there is nothing yet. A
//! deletion first writes a marker, which gives the key a revision like any; a server
//! that is killed in the next moment brings back the marker at most. The marker is
//! purged later, up to its own revision: what somebody wrote over it stays.
//!
//! From then on revisions alone don't tell a late owner: one that was held up since
//! before the key was there expects 0, and finds 0. So what was written over nothing
//! says in which epoch, [`MADE_IN`]. Epochs are revisions of the same bucket: the owner
//! of epoch E had no business there once a later one had claimed, before the message
//! got its own, greater revision. Such a fact is void ([`Facts::void_under`]). The log
//! names the owners that came between, since each begins with a record. Who claims a
//! room takes what is void for absent, gives the log its last word, and puts the
//! bucket right before its own first append: then whoever claims next does not need
//! records that the log has let go of. Only an owner that is held up for longer
//! than the log of a silent, unowned room is kept, seven days, could bring a fact back.
//! What was written over something needs none of that: a purge fails it.

use std::collections::{BTreeMap, HashMap};

use async_nats::jetstream::consumer::DeliverPolicy;
use common::{chat::RoomEpoch, names::ChannelName};

use super::{
    BUCKET, Bus, BusError,
    log::{AppendError, Past, Seq, put, read_all},
    timely,
};
use crate::chat::{clue::Known, entries::Entry};

/// Header of a marker.
const OPERATION: &str = "KV-Operation";

/// Header of a fact that was written where nothing was: its writer's epoch.
const MADE_IN: &str = "Millrace-Made-In";

/// What a bucket is to hold, by key; `None` for nothing.
pub(super) type Wanted = BTreeMap<String, Option<String>>;

/// Facts as the bucket holds them, by key.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) values: HashMap<String, String>,
    pub(super) revisions: HashMap<String, Seq>,
    /// Markers of deleted ones.
    pub(super) dead: Vec<(String, Seq)>,
    /// What was written where nothing was: in which epoch, and the epoch that a claim in
    /// its place would have begun.
    made: HashMap<String, (RoomEpoch, RoomEpoch)>,
    void: Vec<String>,
}

impl Facts {
    /// Takes for absent what somebody made whom one of these owners had followed.
    pub(super) fn void_under(&mut self, owners: &[RoomEpoch]) {
        let late = |(by, at): &(RoomEpoch, RoomEpoch)| owners.iter().any(|o| by < o && o < at);
        for (key, _) in self.made.extract_if(|_, made| late(made)) {
            self.values.remove(&key);
            self.void.push(key);
        }
    }

    /// What they come to with the log applied, and what of that the bucket lacks.
    pub(super) fn under(&self, room: &ChannelName, log: &Past) -> (Known, Wanted) {
        let mut known = Known::default();
        for (key, value) in &self.values {
            if let Some((kind, key)) = fact(room, key) {
                known.learn(room, kind, &key, Some(value));
            }
        }
        let mut last = wanted(room, log.records.iter().flat_map(|(_, r)| &r.entries));
        for entry in log.records.iter().flat_map(|(_, record)| &record.entries) {
            let Entry { kind, key, value } = entry;
            known.learn(room, kind, key, value.as_deref());
        }
        last.retain(|key, value| self.values.get(key) != value.as_ref());
        for key in &self.void {
            last.entry(key.clone()).or_default();
        }
        (known, last)
    }

    /// What is over by itself need not be written, nor deleted at once: whoever reads
    /// it finds that it is over. What is in the bucket is to be purged as it is.
    pub(super) fn pass_over(&mut self, over: Wanted, lacking: &mut Wanted) {
        for (key, _) in over {
            if self.void.contains(&key) {
                lacking.insert(key, None);
                continue;
            }
            lacking.remove(&key);
            if self.values.contains_key(&key)
                && let Some(revision) = self.revisions.get(&key)
            {
                self.dead.push((key, *revision));
            }
        }
    }
}

impl Bus {
    pub(super) async fn facts_of(&self, room: &ChannelName) -> Result<Facts, BusError> {
        let prefix = format!("$KV.{BUCKET}.");
        let filter = format!("{prefix}fact.{room}.>");
        let stored = read_all(&self.facts.stream, filter, DeliverPolicy::LastPerSubject).await?;
        let mut facts = Facts::default();
        for message in stored {
            let Some(key) = message.subject.strip_prefix(&prefix) else {
                continue;
            };
            facts.revisions.insert(key.to_owned(), message.seq);
            if message.headers.contains_key(OPERATION) {
                facts.dead.push((key.to_owned(), message.seq));
                continue;
            }
            let made = message.headers.get(MADE_IN).and_then(|by| by.parse().ok());
            if let Some(by) = made.map(RoomEpoch) {
                let made = (by, self.epoch(message.seq));
                facts.made.insert(key.to_owned(), made);
            }
            if let Ok(value) = String::from_utf8(message.payload.to_vec()) {
                facts.values.insert(key.to_owned(), value);
            }
        }
        Ok(facts)
    }

    /// What the facts of a room come to, which belongs to the owner of `epoch`.
    pub(super) async fn known_of(
        &self,
        room: &ChannelName,
        epoch: RoomEpoch,
    ) -> Result<Known, BusError> {
        let mut facts = self.facts_of(room).await?;
        facts.void_under(&[epoch]);
        Ok(facts.under(room, &Past::default()).0)
    }

    /// Writes what follows revision `known` of a key, in an owner's name; without a
    /// value, the marker that deletes it.
    pub(super) async fn write_fact(
        &self,
        key: &str,
        value: Option<&str>,
        known: Seq,
        epoch: RoomEpoch,
    ) -> Result<Seq, AppendError> {
        let epoch = epoch.0.to_string();
        let mut headers = Vec::new();
        if value.is_none() {
            headers.push((OPERATION, "DEL"));
        }
        if known == 0 {
            headers.push((MADE_IN, &epoch));
        }
        let payload = value.unwrap_or_default().to_owned().into();
        put(&self.context, in_bucket(key), known, &headers, payload).await
    }

    /// Purges a key up to this revision, which is a marker or otherwise over.
    pub(super) async fn bury(&self, key: &str, revision: Seq) -> Result<(), BusError> {
        let purge = self.facts.stream.purge().filter(in_bucket(key));
        let purged = timely("purging a fact", purge.sequence(revision + 1));
        purged.await.map(drop)
    }
}

/// The subject of a key.
fn in_bucket(key: &str) -> String {
    format!("$KV.{BUCKET}.{key}")
}

/// What these come to: the last of a key counts.
pub(super) fn wanted<'a>(
    room: &ChannelName,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Wanted {
    let entries = entries.into_iter();
    let keyed =
        entries.map(|Entry { kind, key, value }| (fact_key(room, kind, key), value.clone()));
    keyed.collect()
}

/// Keys of a bucket take few characters: others are written in hexadecimal.
fn fact_key(room: &ChannelName, kind: &str, key: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if !key.is_empty() && key.bytes().all(plain) {
        format!("fact.{room}.{kind}.{key}")
    } else {
        let hex: String = key.bytes().map(|b| format!("{b:02x}")).collect();
        format!("fact.{room}.{kind}.={hex}")
    }
}

/// Kind and key of a fact.
fn fact<'a>(room: &ChannelName, key: &'a str) -> Option<(&'a str, String)> {
    let rest = key.strip_prefix("fact.")?.strip_prefix(room.as_str())?;
    let (kind, key) = rest.strip_prefix('.')?.split_once('.')?;
    let Some(hex) = key.strip_prefix('=') else {
        return Some((kind, key.to_owned()));
    };
    let bytes = (0..hex.len()).step_by(2).map(|at| {
        let digits = hex.get(at..at + 2)?;
        u8::from_str_radix(digits, 16).ok()
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    Some((kind, String::from_utf8(bytes?).ok()?))
}

#[cfg(test)]
mod tests {
    use common::chat::{Offset, Settings};

    use super::{super::record::Record, *};

    fn room() -> ChannelName {
        ChannelName::parse("demo").unwrap()
    }

    fn entry(key: &str, value: Option<&str>) -> Entry {
        Entry {
            kind: "role".to_owned(),
            key: key.to_owned(),
            value: value.map(ToOwned::to_owned),
        }
    }

    fn log(records: Vec<Vec<Entry>>) -> Past {
        let record = |entries| Record {
            epoch: RoomEpoch(1),
            number: 0,
            entries,
            events: Vec::new(),
            verdicts: Vec::new(),
            next: Offset(0),
            settings: Settings::default(),
        };
        let records: Vec<_> = (1..).zip(records.into_iter().map(record)).collect();
        let last = records.len() as Seq;
        Past { records, last }
    }

    fn names(known: &Known) -> Vec<String> {
        let mut names: Vec<_> = known.roles.keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn keys_of_any_text_are_found_again() {
        for key in ["ann", "a_1", "", "Ann", "a.b", "ä b", "=", "*"] {
            let written = fact_key(&room(), "role", key);
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._=".contains(&b);
            assert!(written.bytes().all(allowed), "{written}");
            assert_eq!(fact(&room(), &written), Some(("role", key.to_owned())));
        }
        assert_eq!(fact(&room(), "fact.other.role.ann"), None);
        assert_eq!(fact(&room(), "fact.demo.role.=zz"), None);
    }

    #[test]
    fn the_log_has_the_last_word_over_the_facts() {
        let mut facts = Facts::default();
        for (name, bits) in [("ann", "2"), ("bob", "2"), ("cat", "2")] {
            let key = fact_key(&room(), "role", name);
            facts.values.insert(key, bits.to_owned());
        }
        let log = log(vec![
            vec![entry("ann", None), entry("dog", Some("4"))],
            vec![entry("bob", Some("2")), entry("dog", Some("8"))],
        ]);
        let (known, lacking) = facts.under(&room(), &log);
        assert_eq!(names(&known), ["bob", "cat", "dog"]);
        let expected = wanted(&room(), &[entry("ann", None), entry("dog", Some("8"))]);
        assert_eq!(lacking, expected);
    }

    #[test]
    fn what_an_owner_made_that_was_followed_before_is_void() {
        let key = |name: &str| fact_key(&room(), "role", name);
        let mut facts = Facts::default();
        // Made in epoch 10, at places before and after the claims of 20 and 30.
        for (name, at) in [("ann", 15), ("bob", 25), ("cat", 35), ("dog", 36)] {
            facts.values.insert(key(name), "2".to_owned());
            let made = (RoomEpoch(10), RoomEpoch(at));
            facts.made.insert(key(name), made);
        }
        facts.void_under(&[RoomEpoch(10)]);
        let nothing = Past::default();
        assert_eq!(facts.under(&room(), &nothing).0.roles.len(), 4);
        facts.void_under(&[RoomEpoch(30), RoomEpoch(40)]);
        let (known, lacking) = facts.under(&room(), &nothing);
        assert_eq!(names(&known), ["ann", "bob"]);
        let gone = [entry("cat", None), entry("dog", None)];
        assert_eq!(lacking, wanted(&room(), &gone));
        // What the log has is written again.
        let log = log(vec![vec![entry("cat", Some("2"))]]);
        let (known, lacking) = facts.under(&room(), &log);
        assert_eq!(names(&known), ["ann", "bob", "cat"]);
        let again = [entry("cat", Some("2")), entry("dog", None)];
        assert_eq!(lacking, wanted(&room(), &again));
    }
}
