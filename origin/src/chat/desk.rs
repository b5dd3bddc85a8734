//! What an owner of a room does with wishes, wherever it keeps the room: lets
//! [`Clue`] decide, has it written, then tells the feed and the askers, in that
//! order. Wishes that came at once are written at once.

use std::sync::Arc;

use common::{
    chat::{Asked, Feed, MessageId, Notice, NoticeId, Request, Verdict, request::Ask},
    names::NodeId,
};
use tokio::sync::mpsc;
use tracing::debug;

use super::{
    clue::Clue,
    entries::Entry,
    ledger::{Ledger, Written},
    rooms::{Clock, Shared},
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

impl From<Asked> for Wish {
    fn from(asked: Asked) -> Self {
        let Asked::Request {
            from,
            request,
            reply,
        } = asked;
        Self {
            from: Some(from),
            request,
            reply: ReplyTo::Link(reply),
        }
    }
}

/// See the module's text.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) feed: Arc<Feed>,
    pub(super) clue: Clue,
    pub(super) ledger: Ledger,
}

impl Desk {
    /// # Errors
    /// The wishes, none of them decided, where the room is another node's.
    pub(super) async fn decide(&mut self, wishes: Vec<Wish>) -> Result<(), Vec<Wish>> {
        let clock: Clock = self.shared.clock;
        let mut written = Written::default();
        let mut verdicts = Vec::with_capacity(wishes.len());
        for wish in &wishes {
            let decision = self.clue.decide(clock(), &wish.request);
            if !(decision.events.is_empty() && decision.changes.is_empty()) {
                let id = wish.request.id;
                written.verdicts.push((id, decision.verdict.clone()));
            }
            let entries = decision.changes.iter().map(Entry::from);
            written.entries.extend(entries);
            written.events.extend(decision.events);
            verdicts.push(decision.verdict);
        }
        if !written.verdicts.is_empty() {
            written.next = self.clue.next();
            written.settings = self.clue.settings();
            let events = written.events.clone();
            let write = self.ledger.write(&self.shared, &self.feed.room, written);
            if write.await.is_err() {
                return Err(wishes);
            }
            for event in events {
                self.feed.append(event);
            }
        }
        for (wish, verdict) in wishes.into_iter().zip(verdicts) {
            self.count(&wish, &verdict);
            self.tell(wish, verdict).await;
        }
        Ok(())
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
            (_, Ask::Do(_)) => metrics.moderations.inc(),
        }
    }
}
