//! What an owner of a room does with wishes, wherever it keeps the room: lets
//! [`Clue`] decide, has it written, then tells the feed and the askers, in that
//! order. Wishes that came at once are written at once.

use std::sync::Arc;

use common::{
    chat::{
        Asked, Body, Event, Feed, MessageId, Notice, NoticeId, Presence, Request, Verdict,
        request::Ask,
    },
    names::NodeId,
};
use tokio::sync::{mpsc, watch};
use tracing::debug;

use super::{
    clue::{Change, Clue},
    entries::Entry,
    ledger::{Deposed, Ledger, Written},
    policy::Policy,
    record::{RoomRecord, lines},
    rooms::Shared,
    waiting::Waiting,
};

/// Wishes that are decided and written together.
pub(super) const AT_ONCE: usize = 64;

/// A request, and who waits for the verdict.
#[derive(Debug)]
pub(super) struct Wish {
    /// The child that passed it on; `None` for another origin.
    pub(super) from: Option<NodeId>,
    pub(super) request: Box<Request>,
    pub(super) reply: ReplyTo,
}

#[derive(Debug)]
pub(super) enum ReplyTo {
    Link(mpsc::OwnedPermit<(MessageId, Verdict)>),
    Bus(async_nats::Subject),
}

/// See the module's text.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) feed: Arc<Feed>,
    pub(super) clue: Clue,
    pub(super) ledger: Ledger,
    pub(super) presence: Arc<Presence>,
    /// The operator's word.
    pub(super) policy: watch::Receiver<Arc<Policy>>,
    /// Where what is said is written down.
    pub(super) record: Option<Arc<RoomRecord>>,
    pub(super) waiting: Waiting,
}

impl Desk {
    /// The operator's word from the beginning; who is what here.
    pub(super) fn begin(&mut self) {
        let policy = self.policy.borrow_and_update().clone();
        self.clue.begin_under(policy);
        self.feed.set_roles(false, self.clue.roles());
    }

    /// The operator's word is another.
    ///
    /// # Errors
    /// [`Deposed`], as in [`Self::decide`].
    pub(super) async fn govern(&mut self) -> Result<(), Deposed> {
        let policy = self.policy.borrow_and_update().clone();
        let events = self.clue.govern((self.shared.clock)(), policy);
        self.keep(Written {
            events,
            ..Written::default()
        })
        .await?;
        self.feed.set_roles(false, self.clue.roles());
        Ok(())
    }

    /// Time passes.
    ///
    /// # Errors
    /// [`Deposed`], as in [`Self::decide`].
    pub(super) async fn tick(&mut self) -> Result<(), Deposed> {
        let changes = self.clue.tick((self.shared.clock)());
        self.waiting.count(self.clue.held());
        self.forget(&changes).await
    }

    /// Nobody reads the room any more, anywhere: nothing of what waits for a moderator
    /// is to stay where it is kept, since strangers name rooms.
    pub(super) async fn abandon(&mut self) {
        let changes = self.clue.abandon();
        // Whoever owns it by now does so as well.
        let _ = self.forget(&changes).await;
    }

    async fn forget(&mut self, changes: &[Change]) -> Result<(), Deposed> {
        self.keep(Written {
            entries: changes.iter().map(Entry::from).collect(),
            ..Written::default()
        })
        .await
    }

    /// Answers who only wants to look; the wishes.
    pub(super) fn wishes(&self, asked: &mut Vec<Asked>) -> Vec<Wish> {
        let wishes = asked.drain(..).filter_map(|asked| match asked {
            Asked::Request {
                from,
                request,
                reply,
            } => Some(Wish {
                from: Some(from),
                request,
                reply: ReplyTo::Link(reply),
            }),
            Asked::Look {
                bans_after,
                most_bans,
                reply,
            } => {
                let now = (self.shared.clock)();
                let insight = self.clue.insight(now, bans_after.as_ref(), most_bans);
                // Gone where the asker is.
                let _ = reply.send(Box::new(insight));
                None
            }
        });
        wishes.collect()
    }

    /// # Errors
    /// The wishes, none of them decided, where the room is another node's.
    pub(super) async fn decide(&mut self, wishes: Vec<Wish>) -> Result<(), Vec<Wish>> {
        let readers = self.presence.total().counts.readers;
        self.clue.watched_by(readers);
        let mut written = Written::default();
        let mut decided = Vec::with_capacity(wishes.len());
        for wish in &wishes {
            let now = (self.shared.clock)();
            let decision = self.clue.decide(now, &wish.request);
            if !(decision.events.is_empty() && decision.changes.is_empty()) {
                let id = wish.request.id;
                written.verdicts.push((id, decision.verdict.clone()));
            }
            let entries = decision.changes.iter().map(Entry::from);
            written.entries.extend(entries);
            let is_held = |event: &Event| matches!(event.body, Body::Held { .. });
            let held = decision.events.iter().any(is_held);
            written.events.extend(decision.events);
            decided.push((decision.verdict, held));
        }
        if self.keep(written).await.is_err() {
            return Err(wishes);
        }
        for (wish, (verdict, held)) in wishes.into_iter().zip(decided) {
            self.waiting.decided(held, &verdict);
            self.count(&wish, &verdict);
            self.tell(wish, verdict).await;
        }
        self.waiting.count(self.clue.held());
        Ok(())
    }

    /// Has it written, then told to who reads.
    async fn keep(&mut self, mut written: Written) -> Result<(), Deposed> {
        let Written {
            entries,
            events,
            verdicts,
            ..
        } = &written;
        if entries.is_empty() && events.is_empty() && verdicts.is_empty() {
            return Ok(());
        }
        written.next = self.clue.next();
        written.settings = self.clue.settings();
        let events = written.events.clone();
        let write = self.ledger.write(&self.shared, &self.feed.room, written);
        write.await?;
        self.write_down(&events).await;
        for event in events {
            self.feed.append(event);
        }
        Ok(())
    }

    /// What is said is in the room's file before anybody is told; a full disk stops
    /// nobody from talking.
    async fn write_down(&self, events: &[Event]) {
        let Some(record) = self.record.clone() else {
            return;
        };
        let lines = lines(events);
        if lines.is_empty() {
            return;
        }
        let now = (self.shared.clock)();
        let written = tokio::task::spawn_blocking(move || record.append(now, &lines)).await;
        let why = match written {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why.to_string(),
            Err(why) => why.to_string(),
        };
        self.shared.metrics.log_errors.inc();
        debug!(room = %self.feed.room, why, "a message was not written to the chat log");
    }

    async fn tell(&self, wish: Wish, verdict: Verdict) {
        let id = wish.request.id;
        match (wish.reply, &self.ledger) {
            (ReplyTo::Link(reply), _) => drop(reply.send((id, verdict))),
            (ReplyTo::Bus(to), Ledger::Bus(tenure)) => tenure.answer(to, id, verdict).await,
            // Only a bus brings them.
            (ReplyTo::Bus(_), Ledger::File(_)) => {}
        }
    }

    fn count(&self, wish: &Wish, verdict: &Verdict) {
        let metrics = &self.shared.metrics;
        let Request { id, ask, .. } = wish.request.as_ref();
        match (verdict, ask) {
            (Verdict::Refused(Notice { id: why, .. }), _) => {
                let reason: NoticeId = *why;
                metrics.refused.with_label_values(&[reason.as_str()]).inc();
                let from = wish.from.as_ref().map(NodeId::as_str);
                debug!(room = %self.feed.room, from, %id, reason = reason.as_str(), "refused");
            }
            (_, Ask::Say { .. }) => metrics.messages.inc(),
            (_, Ask::Do(_) | Ask::Arrive { .. }) => metrics.moderations.inc(),
        }
    }
}
