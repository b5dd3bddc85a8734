//! A room's ownership: how it is claimed, and how its owner writes.
//!
//! A claim takes the owner's key from whoever holds no lease any more; its revision
//! is the epoch. The claimer then reads the facts and the log, and appends to it:
//! from there on the one before can't. An owner whose append fails because somebody
//! else appended is none any more, and nothing of what it wanted to write happened.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_nats::{
    HeaderMap, HeaderValue,
    jetstream::{
        consumer::DeliverPolicy,
        kv::{Operation, UpdateErrorKind},
    },
};
use bytes::Bytes;
use common::{
    chat::{MessageId, Offset, RoomEpoch, Settings, Verdict},
    link::{Chat, Message},
    live::UnixMs,
    names::ChannelName,
};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{
    BUCKET, Bus, BusError,
    lease::Owner,
    log::{AppendError, Seq, put, read_all},
    record::Record,
    told_subject,
};
use crate::chat::{
    clue::Known,
    entries::Entry,
    ledger::{Deposed, Written},
};

/// A claim that others come in between is tried as often.
const TRIES: u32 = 8;

/// An append that is not answered is tried again for so long. Then the room is
/// claimed anew, which finds out what became of it.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// After the last of some records, their end is told again so often, a second apart:
/// the last one of all could be lost, and nothing behind it would tell.
const AGAIN: u8 = 3;

/// Headers of a record that is told: its place in the log, and whose it follows.
pub(super) const SEQ: &str = "Millrace-Seq";
pub(super) const AFTER: &str = "Millrace-After";

const OPERATION: &str = "KV-Operation";

/// What a claim came to.
#[derive(Debug)]
pub(super) enum Claim {
    Mine(Box<Claimed>),
    Theirs(Owner, RoomEpoch),
}

/// A room that this process owns from now on.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) tenure: Tenure,
    pub(super) known: Known,
    /// What the log holds, oldest first.
    pub(super) past: Vec<(Seq, Record)>,
}

/// See the module's text. What an owner needs to write.
#[derive(Debug)]
pub(in crate::chat) struct Tenure {
    pub(super) bus: Arc<Bus>,
    room: ChannelName,
    pub(super) epoch: RoomEpoch,
    /// Of the owner's key.
    revision: u64,
    last: Seq,
    /// Of the next record.
    number: u64,
    /// Of the facts' keys.
    revisions: HashMap<String, u64>,
    /// Facts that are in the log and perhaps not in the bucket: those of a claim, or
    /// of one record.
    unwritten: VecDeque<Entry>,
    /// How often the end is to be told.
    tell_end: u8,
    stands: (Offset, Settings),
}

/// Facts as the bucket holds them, by key.
#[derive(Debug, Default)]
struct Facts {
    values: HashMap<String, String>,
    revisions: HashMap<String, u64>,
}

impl Bus {
    /// Makes this process the room's owner, unless another one lives; with `force`
    /// whether it lives or not.
    pub(super) async fn claim(
        self: &Arc<Self>,
        room: &ChannelName,
        now: UnixMs,
        force: bool,
    ) -> Result<Claim, BusError> {
        let key = format!("owner.{room}");
        for _ in 0..TRIES {
            let found = self.facts.entry(&key).await;
            let found = found.map_err(BusError::of("looking for an owner"))?;
            let revision = found.as_ref().map_or(0, |found| found.revision);
            let before = found
                .filter(|found| found.operation == Operation::Put)
                .and_then(|found| Owner::parse(&found.value));
            if let Some(owner) = before
                && owner != self.me
                && !force
                && self.leases.holds(&owner).await?
            {
                return Ok(Claim::Theirs(owner, self.epoch(revision)));
            }
            let mine = self.me.to_string().into();
            match self.facts.update(&key, mine, revision).await {
                Ok(revision) => {
                    if let Some(claimed) = self.take_over(room, revision, now).await? {
                        return Ok(Claim::Mine(Box::new(claimed)));
                    }
                }
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(BusError::of("claiming a room")(error)),
            }
        }
        Err(BusError {
            doing: "claiming a room",
            why: "others did, too, each time".to_owned(),
        })
    }

    const fn epoch(&self, revision: u64) -> RoomEpoch {
        RoomEpoch(self.epochs_from.saturating_add(revision))
    }

    /// `None` where another one took it meanwhile.
    async fn take_over(
        self: &Arc<Self>,
        room: &ChannelName,
        revision: u64,
        now: UnixMs,
    ) -> Result<Option<Claimed>, BusError> {
        let facts = self.facts_of(room).await?;
        let mut past = self.log.read(room, 0).await?;
        let mut tenure = Tenure {
            bus: self.clone(),
            room: room.clone(),
            epoch: self.epoch(revision),
            revision,
            last: 0,
            number: 0,
            revisions: HashMap::new(),
            unwritten: VecDeque::new(),
            tell_end: AGAIN,
            stands: (Offset(0), Settings::default()),
        };
        let mut tries = 0;
        let (mut known, late) = loop {
            let (known, late) = applied(room, &facts, &past);
            tenure.last = past.last().map_or(0, |(seq, _)| *seq);
            tenure.stands.1 = known.settings;
            // Where nothing was ever appended, the first append is the fence.
            if tenure.last == 0 {
                break (known, late);
            }
            match tenure.begin().await {
                Ok(()) => break (known, late),
                Err(AppendError::Overtaken) => {
                    tries += 1;
                    let further = self.log.read(room, tenure.last).await?;
                    if tries == TRIES || further.iter().any(|(_, r)| r.epoch > tenure.epoch) {
                        return Ok(None);
                    }
                    past.extend(further);
                }
                Err(AppendError::Bus(why)) => return Err(why),
            }
        };
        tenure.revisions = facts.revisions;
        tenure.unwritten = late.into();
        tenure.unwritten.extend(known.forget_past(now));
        tenure.write_facts().await?;
        let bans = known.bans.len();
        info!(%room, epoch = tenure.epoch.0, bans, records = past.len(), "this node owns the room");
        Ok(Some(Claimed {
            tenure,
            known,
            past,
        }))
    }

    async fn facts_of(&self, room: &ChannelName) -> Result<Facts, BusError> {
        let prefix = format!("$KV.{BUCKET}.");
        let filter = format!("{prefix}fact.{room}.>");
        let stored = read_all(&self.facts.stream, filter, DeliverPolicy::LastPerSubject).await?;
        let mut facts = Facts::default();
        for message in stored {
            let Some(key) = message.subject.strip_prefix(&prefix) else {
                continue;
            };
            facts.revisions.insert(key.to_owned(), message.seq);
            // A deleted one is a message, too.
            if !message.headers.contains_key(OPERATION)
                && let Ok(value) = String::from_utf8(message.payload.to_vec())
            {
                facts.values.insert(key.to_owned(), value);
            }
        }
        Ok(facts)
    }

    /// What the facts of a room come to.
    pub(super) async fn known_of(&self, room: &ChannelName) -> Result<Known, BusError> {
        let facts = self.facts_of(room).await?;
        Ok(applied(room, &facts, &[]).0)
    }
}

/// Facts with the log applied, and what of it the facts lack.
fn applied(room: &ChannelName, facts: &Facts, log: &[(Seq, Record)]) -> (Known, Vec<Entry>) {
    let mut known = Known::default();
    for (key, value) in &facts.values {
        if let Some((kind, key)) = fact(room, key) {
            known.learn(room, kind, &key, Some(value));
        }
    }
    let mut last = BTreeMap::new();
    for entry in log.iter().flat_map(|(_, record)| &record.entries) {
        let Entry { kind, key, value } = entry;
        known.learn(room, kind, key, value.as_deref());
        last.insert(fact_key(room, kind, key), entry);
    }
    let late = last
        .into_iter()
        .filter(|(key, entry)| facts.values.get(key) != entry.value.as_ref());
    (known, late.map(|(_, entry)| entry.clone()).collect())
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

impl Tenure {
    /// The first record: from now on nobody of before can append.
    async fn begin(&mut self) -> Result<(), AppendError> {
        let record = self.record(Written::default());
        let bytes = record.encode(&self.room);
        let after = self.last;
        self.last = self
            .bus
            .log
            .append(&self.room, after, bytes.clone())
            .await?;
        self.number += 1;
        self.tell(after, bytes).await;
        Ok(())
    }

    fn record(&self, written: Written) -> Record {
        Record {
            epoch: self.epoch,
            number: self.number,
            entries: written.entries,
            events: written.events,
            verdicts: written.verdicts,
            next: self.stands.0,
            settings: self.stands.1,
        }
    }

    /// Appends a decision, and tells those who follow the room.
    ///
    /// # Errors
    /// [`Deposed`]: it did not happen, or the next owner finds that it did.
    pub(in crate::chat) async fn write(&mut self, written: Written) -> Result<(), Deposed> {
        // Facts must not fall behind by more than the log holds.
        if let Err(why) = self.write_facts().await {
            warn!(room = %self.room, %why, "the room's facts can't be written");
            return Err(Deposed);
        }
        self.stands = (written.next, written.settings);
        let record = self.record(written);
        let bytes = record.encode(&self.room);
        let after = self.last;
        self.last = self.append(bytes.clone()).await?;
        self.number += 1;
        self.tell_end = AGAIN;
        self.tell(after, bytes).await;
        self.unwritten = record.entries.into();
        if let Err(why) = self.write_facts().await {
            // The log has them.
            warn!(room = %self.room, %why, "the room's facts are late");
        }
        Ok(())
    }

    async fn append(&self, bytes: Bytes) -> Result<Seq, Deposed> {
        let log = &self.bus.log;
        let until = Instant::now() + PATIENCE;
        loop {
            match log.append(&self.room, self.last, bytes.clone()).await {
                Ok(seq) => return Ok(seq),
                Err(AppendError::Overtaken) => match log.last(&self.room).await {
                    // One that was not answered and that arrived all the same.
                    Ok(Some((seq, last))) if last == bytes => return Ok(seq),
                    Ok(_) => return Err(Deposed),
                    Err(why) => {
                        warn!(room = %self.room, %why, "a decision is not known to be written")
                    }
                },
                Err(AppendError::Bus(why)) => {
                    warn!(room = %self.room, %why, "a decision is not written yet");
                }
            }
            if Instant::now() >= until {
                return Err(Deposed);
            }
            sleep(PAUSE).await;
        }
    }

    /// Tells a record that is in the log. Where it is lost, the next one tells.
    async fn tell(&self, after: Seq, bytes: Bytes) {
        let mut headers = HeaderMap::new();
        headers.insert(SEQ, HeaderValue::from(self.last));
        headers.insert(AFTER, HeaderValue::from(after));
        let subject = told_subject(&self.room);
        let told = self
            .bus
            .client
            .publish_with_headers(subject, headers, bytes);
        if let Err(why) = told.await {
            warn!(room = %self.room, %why, "a record was not told");
        }
    }

    /// Tells an asker at another node.
    pub(in crate::chat) async fn answer(
        &self,
        to: async_nats::Subject,
        id: MessageId,
        verdict: Verdict,
    ) {
        let piece = Message::Chat(Chat::Verdict { id, verdict }).encode();
        // It asks again.
        let _ = self.bus.client.publish(to, piece).await;
    }

    /// A second passed.
    pub(super) async fn tick(&mut self) {
        if self.tell_end > 0 && self.last > 0 {
            self.tell_end -= 1;
            let bytes = self.record(Written::default()).encode(&self.room);
            self.tell(self.last, bytes).await;
        }
        if let Err(why) = self.write_facts().await {
            warn!(room = %self.room, %why, "the room's facts are late");
        }
    }

    /// Whether the owner's key still names this tenure.
    pub(super) async fn stands(&self) -> Result<bool, BusError> {
        let found = self.bus.facts.entry(format!("owner.{}", self.room)).await;
        let found = found.map_err(BusError::of("looking for an owner"))?;
        Ok(found.is_some_and(|found| found.revision == self.revision))
    }

    /// Gives the room up: nobody reads it here.
    pub(super) async fn release(mut self) {
        let _ = self.write_facts().await;
        let key = format!("owner.{}", self.room);
        let facts = &self.bus.facts;
        let released = facts.delete_expect_revision(&key, Some(self.revision));
        if released.await.is_err() {
            return;
        }
        // A stranger can name rooms: nothing of one without a past stays.
        let subject = format!("$KV.{BUCKET}.{key}");
        let _ = facts.stream.purge().filter(subject).await;
        let told = self
            .bus
            .client
            .publish(told_subject(&self.room), Bytes::new());
        let _ = told.await;
    }

    /// Brings the bucket up to the log.
    async fn write_facts(&mut self) -> Result<(), BusError> {
        while let Some(entry) = self.unwritten.front() {
            let key = fact_key(&self.room, &entry.kind, &entry.key);
            let known = self.revisions.get(&key).copied().unwrap_or_default();
            let value = entry.value.as_ref();
            if known > 0 || value.is_some() {
                let revision = self.write_fact(&key, value, known).await?;
                self.revisions.insert(key, revision);
            }
            self.unwritten.pop_front();
        }
        Ok(())
    }

    /// As an owner does that was held up between its record and its facts.
    #[cfg(test)]
    pub(super) async fn write_late(&mut self, entries: Vec<Entry>) {
        self.unwritten = entries.into();
        let _ = self.write_facts().await;
    }

    async fn write_fact(
        &self,
        key: &str,
        value: Option<&String>,
        mut known: u64,
    ) -> Result<u64, BusError> {
        let facts = &self.bus.facts;
        let payload = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        let header = payload.is_none().then_some((OPERATION, "DEL"));
        for _ in 0..TRIES {
            let subject = format!("$KV.{BUCKET}.{key}");
            let payload = payload.clone().unwrap_or_default();
            match put(&self.bus.context, subject, known, header, payload).await {
                Ok(revision) => return Ok(revision),
                // An owner of before, late, or the one behind this one. What is read
                // first can't be of one that comes after the look at the key.
                Err(AppendError::Overtaken) => {
                    let found = facts.entry(key).await;
                    let found = found.map_err(BusError::of("looking at a fact"))?;
                    known = found.map_or(0, |found| found.revision);
                    if !self.stands().await? {
                        return Err(BusError {
                            doing: "writing a fact",
                            why: "another node owns the room".to_owned(),
                        });
                    }
                }
                Err(AppendError::Bus(why)) => return Err(why),
            }
        }
        Err(BusError {
            doing: "writing a fact",
            why: "others did, too, each time".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn record(entries: Vec<Entry>) -> Record {
        Record {
            epoch: RoomEpoch(1),
            number: 0,
            entries,
            events: Vec::new(),
            verdicts: Vec::new(),
            next: Offset(0),
            settings: Settings::default(),
        }
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
        let log = [
            (1, record(vec![entry("ann", None), entry("dog", Some("4"))])),
            (
                2,
                record(vec![entry("bob", Some("2")), entry("dog", Some("8"))]),
            ),
        ];
        let (known, late) = applied(&room(), &facts, &log);
        let mut names: Vec<_> = known.roles.keys().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["bob", "cat", "dog"]);
        assert_eq!(late, [entry("ann", None), entry("dog", Some("8"))]);
    }
}
