//! A room's ownership: how it is claimed, and how its owner writes.
//!
//! A claim takes the owner's key from whoever holds no lease any more; its revision
//! is the epoch. The claimer then reads the facts and the log, and appends to it:
//! from there on the one before can't. An owner whose append fails because somebody
//! else appended is none any more, and nothing of what it wanted to write happened.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_nats::{
    HeaderMap, HeaderValue,
    jetstream::kv::{Operation, UpdateErrorKind},
};
use bytes::Bytes;
use common::{
    chat::{MessageId, Offset, RoomEpoch, Settings, Verdict},
    link::{Chat, Message},
    live::UnixMs,
    names::ChannelName,
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::{
    Bus, BusError,
    facts::{Wanted, wanted},
    lease::Owner,
    log::{AppendError, Past, Seq},
    record::Record,
    timely, told_subject,
};
use crate::chat::{
    clue::Known,
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

/// What is over and is to be purged: more is left to whoever claims the room next.
const MOST_DEAD: usize = 16_384;

/// So much of it at once, each second: a room waits for no more.
const BURIED_AT_ONCE: usize = 32;

/// And so often once nobody reads the room.
const LAST_BURIALS: usize = 32;

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
    /// What the log holds.
    pub(super) past: Past,
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
    unwritten: Wanted,
    /// What the bucket holds for nothing, and up to which revision. At most
    /// [`MOST_DEAD`].
    dead: VecDeque<(String, Seq)>,
    /// How often the end is to be told.
    tell_end: u8,
    stands: (Offset, Settings),
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
            let found = timely("looking for an owner", self.facts.entry(&key)).await?;
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

    pub(super) const fn epoch(&self, revision: u64) -> RoomEpoch {
        RoomEpoch(self.epochs_from.saturating_add(revision))
    }

    /// `None` where another one took it meanwhile.
    ///
    /// Writes no fact: nobody decides in the room until its new owner listens, and
    /// that need not wait for facts, which are written before the owner's next record
    /// and, where nobody says anything, at its first tick.
    async fn take_over(
        self: &Arc<Self>,
        room: &ChannelName,
        revision: u64,
        now: UnixMs,
    ) -> Result<Option<Claimed>, BusError> {
        let mut facts = self.facts_of(room).await?;
        let mut past = self.log.read(room, 0).await?;
        let mut tenure = Tenure {
            bus: self.clone(),
            room: room.clone(),
            epoch: self.epoch(revision),
            revision,
            last: 0,
            number: 0,
            revisions: HashMap::new(),
            unwritten: Wanted::new(),
            dead: VecDeque::new(),
            tell_end: AGAIN,
            stands: (Offset(0), Settings::default()),
        };
        let mut tries = 0;
        let (mut known, mut lacking) = loop {
            let owners = past.records.iter().map(|(_, record)| record.epoch);
            let owners: Vec<_> = owners.chain([tenure.epoch]).collect();
            facts.void_under(&owners);
            let (known, lacking) = facts.under(room, &past);
            tenure.last = past.last;
            tenure.stands.1 = known.settings;
            // Where nothing was ever appended, the first append is the fence.
            if tenure.last == 0 {
                break (known, lacking);
            }
            match tenure.begin().await {
                Ok(()) => break (known, lacking),
                Err(AppendError::Overtaken) => {
                    tries += 1;
                    let further = self.log.read(room, tenure.last).await?;
                    let later = |(_, record): &(Seq, Record)| record.epoch > tenure.epoch;
                    if tries == TRIES || further.records.iter().any(later) {
                        return Ok(None);
                    }
                    past.records.extend(further.records);
                    past.last = further.last;
                }
                Err(AppendError::Bus(why)) => return Err(why),
            }
        };
        let over = known.forget_past(now);
        facts.pass_over(wanted(room, &over), &mut lacking);
        tenure.unwritten = lacking;
        tenure.revisions = facts.revisions;
        tenure.dead = facts.dead.into_iter().take(MOST_DEAD).collect();
        let (bans, records) = (known.bans.len(), past.records.len());
        info!(%room, epoch = tenure.epoch.0, bans, records, "this node owns the room");
        Ok(Some(Claimed {
            tenure,
            known,
            past,
        }))
    }
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
        self.unwritten = wanted(&self.room, &record.entries);
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
        if let Err(why) = timely("telling a record", told).await {
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
        let _ = timely("answering", self.bus.client.publish(to, piece)).await;
    }

    /// A second passed.
    pub(super) async fn tick(&mut self) {
        if self.tell_end > 0 && self.last > 0 {
            self.tell_end -= 1;
            let bytes = self.record(Written::default()).encode(&self.room);
            self.tell(self.last, bytes).await;
        }
        match self.write_facts().await {
            Ok(()) => drop(self.bury().await),
            Err(why) => warn!(room = %self.room, %why, "the room's facts are late"),
        }
    }

    /// Whether the owner's key still names this tenure.
    pub(super) async fn stands(&self) -> Result<bool, BusError> {
        let found = self.bus.facts.entry(format!("owner.{}", self.room));
        let found = timely("looking for an owner", found).await?;
        Ok(found.is_some_and(|found| found.revision == self.revision))
    }

    /// Gives the room up, to whoever comes for it.
    pub(super) async fn release(&mut self) {
        let _ = self.write_facts().await;
        let key = format!("owner.{}", self.room);
        let bus = self.bus.clone();
        let released = bus.write_fact(&key, None, self.revision, self.epoch);
        let Ok(marker) = released.await else {
            return;
        };
        // A stranger can name rooms: nothing of one without a past stays. A claim that
        // came in between is another revision.
        let _ = bus.bury(&key, marker).await;
        let told = bus.client.publish(told_subject(&self.room), Bytes::new());
        let _ = timely("giving a room up", told).await;
    }

    /// Leaves nothing in the bucket that is over: nobody may come for the room again.
    pub(super) async fn bury_all(&mut self) {
        for _ in 0..LAST_BURIALS {
            if self.dead.is_empty() || !self.bury().await {
                return;
            }
        }
    }

    /// Brings the bucket up to the log.
    async fn write_facts(&mut self) -> Result<(), BusError> {
        while let Some((key, value)) = self.unwritten.first_key_value() {
            let known = self.revisions.get(key).copied().unwrap_or_default();
            let revision = self.write_fact(key, value.as_deref(), known).await?;
            let Some((key, value)) = self.unwritten.pop_first() else {
                break;
            };
            if revision == 0 {
                self.revisions.remove(&key);
                continue;
            }
            if value.is_none() && self.dead.len() < MOST_DEAD {
                self.dead.push_back((key.clone(), revision));
            }
            self.revisions.insert(key, revision);
        }
        Ok(())
    }

    /// As an owner does that was held up between its record and its facts.
    #[cfg(test)]
    pub(super) async fn write_late(&mut self, entries: Vec<crate::chat::entries::Entry>) {
        self.unwritten = wanted(&self.room, &entries);
        let _ = self.write_facts().await;
    }

    /// The key's new revision; 0 where there is nothing to delete.
    async fn write_fact(
        &self,
        key: &str,
        value: Option<&str>,
        mut known: Seq,
    ) -> Result<Seq, BusError> {
        for _ in 0..TRIES {
            if known == 0 && value.is_none() {
                return Ok(0);
            }
            match self.bus.write_fact(key, value, known, self.epoch).await {
                Ok(revision) => return Ok(revision),
                // An owner of before, late, or the one behind this one; or a purge. What
                // is read first can't be of one that comes after the look at the key.
                Err(AppendError::Overtaken) => {
                    let found = self.bus.facts.entry(key);
                    let found = timely("looking at a fact", found).await?;
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

    /// Purges some of what the bucket holds for nothing; `false` where that failed. Any
    /// owner may, late or not: see [`super::facts`].
    async fn bury(&mut self) -> bool {
        let some = self.dead.len().min(BURIED_AT_ONCE);
        let some: Vec<_> = self.dead.drain(..some).collect();
        let bus = &self.bus;
        let burials = some.iter().map(|(key, revision)| bus.bury(key, *revision));
        let mut all = true;
        for (burial, (key, revision)) in join_all(burials).await.into_iter().zip(some) {
            match burial {
                Ok(()) if self.revisions.get(&key) == Some(&revision) => {
                    self.revisions.remove(&key);
                }
                Ok(()) => {}
                Err(why) => {
                    debug!(room = %self.room, key, %why, "a deleted fact is still there");
                    self.dead.push_back((key, revision));
                    all = false;
                }
            }
        }
        all
    }
}
