//! A room while this process owns it: wishes of its own children and of other
//! origins are decided here, until another process owns the room or nobody here
//! reads it.
//!
//! A node that drains gives a room up as soon as another origin reads it: that one
//! owns it in the next moment, and edges that turn there find it decided there. One
//! that nobody else reads goes on being decided here; since a leaving node's lease
//! holds nothing, whoever comes for it takes it at once.

use std::sync::Arc;

use async_nats::{Message as Told, Subscriber};
use common::{
    chat::{Asked, Offset, RoomEpoch},
    shutdown::Shutdown,
};
use futures_util::{FutureExt, StreamExt};
use tokio::{sync::watch, time::Interval};
use tracing::info;

use super::{BusRoom, Ended, TICK, subscribe, wished};
use crate::chat::{
    bus::{
        Bus, BusError, ask_subject,
        log::MOST_RECORDS,
        record::Record,
        tenure::{Claimed, Tenure},
        ticks,
    },
    clue::Clue,
    desk::{AT_ONCE, Desk},
    ledger::Ledger,
    waiting::Waiting,
};

/// What an owner listens to beside its children.
struct Ears {
    epoch: RoomEpoch,
    told: Subscriber,
    here: Subscriber,
    asks: Subscriber,
    missed: watch::Receiver<u64>,
    lapses: watch::Receiver<u64>,
    tick: Interval,
    shutdown: Shutdown,
    /// The node drains, and that was heard.
    drains: bool,
}

/// What came of one turn of listening.
enum Heard {
    /// Wishes, perhaps none.
    Wishes,
    /// A second passed.
    Tick,
    /// Something was missed: the room may be another's.
    Doubt,
    /// It is another's.
    Overtaken,
    /// Another origin reads the room.
    Others,
    /// The node begins to drain.
    Drain,
    /// Nobody holds the room here.
    Unused,
}

impl Ears {
    async fn new(
        bus: &Bus,
        room: &BusRoom,
        epoch: RoomEpoch,
        told: Subscriber,
        here: Subscriber,
    ) -> Result<Self, BusError> {
        let mut missed = bus.missed.clone();
        missed.mark_unchanged();
        Ok(Self {
            epoch,
            told,
            here,
            asks: subscribe(bus, ask_subject(&room.name)).await?,
            missed,
            lapses: bus.leases.lapses(),
            tick: ticks(TICK),
            shutdown: room.shared.shutdown.clone(),
            drains: false,
        })
    }

    fn record(&self, told: Option<Told>) -> Heard {
        match told.map(|told| Record::decode(told.payload)) {
            Some(Ok(record)) if record.epoch > self.epoch => Heard::Overtaken,
            Some(_) => Heard::Wishes,
            None => Heard::Doubt,
        }
    }
}

impl BusRoom {
    pub(super) async fn own(
        &mut self,
        bus: &Arc<Bus>,
        claimed: Claimed,
        told: Subscriber,
        here: Subscriber,
    ) -> Result<Ended, BusError> {
        self.deaf = 0;
        if let Some(before) = self.followed.take() {
            // Readers of one that died come back elsewhere; one that lives tells again.
            self.counted.others().gone(&before);
        }
        // Before anybody asks: the process ends no sooner than the room is another's.
        let mut stays = Some(self.shared.shutdown.guard());
        let epoch = claimed.tenure.epoch;
        let mut ears = Ears::new(bus, self, epoch, told, here).await?;
        let mut desk = self.desk(claimed);
        let mut asked = Vec::with_capacity(AT_ONCE);
        let ended = loop {
            if !self.decide_all(&mut desk).await {
                break Ended::Moved;
            }
            match self.hear(bus, &mut desk, &mut ears, &mut asked).await {
                Heard::Wishes => {}
                Heard::Tick => {
                    if let Some(tenure) = tenure(&mut desk) {
                        tenure.tick().await;
                    }
                    if desk.tick().await.is_err() {
                        break Ended::Moved;
                    }
                }
                Heard::Doubt => match tenure(&mut desk) {
                    Some(tenure) if tenure.stands().await? => {}
                    _ => break Ended::Moved,
                },
                Heard::Overtaken => break Ended::Moved,
                Heard::Unused => break Ended::Unused,
                Heard::Others | Heard::Drain if ears.drains => {
                    // Once: who reads it elsewhere and did not come for it then finds
                    // that this node's lease keeps nobody from it.
                    if self.counted.others().is_told()
                        && !std::mem::replace(&mut self.handed_over, true)
                    {
                        break Ended::HandedOver;
                    }
                    stays = None;
                }
                Heard::Others | Heard::Drain => {}
            }
            self.waiting.extend(desk.wishes(&mut asked));
        };
        info!(room = %self.name, epoch = epoch.0, ?ended, "this node owns the room no more");
        self.leave(desk, &ended).await;
        drop(stays);
        Ok(ended)
    }

    /// The room's mind as the one before left it.
    fn desk(&mut self, claimed: Claimed) -> Desk {
        let Claimed {
            tenure,
            known,
            past,
        } = claimed;
        let epoch = tenure.epoch;
        let mut clue = Clue::new(self.name.clone(), epoch, known);
        let events = past.records.iter().flat_map(|(_, record)| &record.events);
        let all = past.records.len() < MOST_RECORDS;
        clue.spoke((self.shared.clock)(), events, all);
        for (_, record) in &past.records {
            clue.recollect(&record.events, &record.verdicts);
        }
        self.apply_all(past);
        self.feed.stands(epoch, Offset(0), clue.settings());
        let mut desk = Desk {
            shared: self.shared.clone(),
            feed: self.feed.clone(),
            clue,
            ledger: Ledger::Bus(tenure),
            presence: self.counted.presence().clone(),
            policy: self.policy.clone(),
            record: self.record.clone(),
            waiting: Waiting::new(self.shared.metrics.clone()),
        };
        desk.begin();
        desk
    }

    /// Decides what waits; `false` where the room is another's by now.
    async fn decide_all(&mut self, desk: &mut Desk) -> bool {
        while !self.waiting.is_empty() {
            let most = self.waiting.len().min(AT_ONCE);
            let wishes = self.waiting.drain(..most).collect();
            if let Err(wishes) = desk.decide(wishes).await {
                for wish in wishes.into_iter().rev() {
                    self.waiting.push_front(wish);
                }
                return false;
            }
        }
        true
    }

    /// Waits for one thing.
    async fn hear(
        &mut self,
        bus: &Bus,
        desk: &mut Desk,
        ears: &mut Ears,
        asked: &mut Vec<Asked>,
    ) -> Heard {
        tokio::select! {
            told = ears.told.next() => ears.record(told),
            count = self.asks.recv_many(asked, AT_ONCE) => match count {
                0 => Heard::Unused,
                _ => Heard::Wishes,
            },
            wish = ears.asks.next() => {
                let Some(message) = wish else {
                    return Heard::Doubt;
                };
                self.waiting.extend(wished(message));
                // What came with it is written with it.
                while self.waiting.len() < AT_ONCE
                    && let Some(Some(message)) = ears.asks.next().now_or_never()
                {
                    self.waiting.extend(wished(message));
                }
                Heard::Wishes
            }
            _ = ears.tick.tick() => Heard::Tick,
            Ok(()) = self.policy.changed() => match desk.govern().await {
                Ok(()) => Heard::Wishes,
                Err(_) => Heard::Overtaken,
            },
            Some(there) = ears.here.next() => {
                self.told_of(there);
                Heard::Others
            }
            () = self.counted.due() => {
                self.tell_of(bus).await;
                Heard::Wishes
            }
            () = ears.shutdown.draining(), if !ears.drains => {
                ears.drains = true;
                Heard::Drain
            }
            Ok(()) = ears.missed.changed() => Heard::Doubt,
            Ok(()) = ears.lapses.changed() => Heard::Doubt,
        }
    }

    async fn leave(&self, mut desk: Desk, ended: &Ended) {
        match ended {
            Ended::Moved => return,
            Ended::Unused if self.counted.presence().total().counts.readers == 0 => {
                desk.abandon().await;
            }
            Ended::Unused | Ended::HandedOver => {}
        }
        if let Some(tenure) = tenure(&mut desk) {
            tenure.release().await;
            if matches!(ended, Ended::Unused) {
                tenure.bury_all().await;
            }
        }
    }
}

/// Of a room on a bus there always is one.
const fn tenure(desk: &mut Desk) -> Option<&mut Tenure> {
    match &mut desk.ledger {
        Ledger::Bus(tenure) => Some(tenure),
        Ledger::File(_) => None,
    }
}
