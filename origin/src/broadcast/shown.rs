//! What a channel shows to edges: its entry in the [`Directory`].
//!
//! In: what becomes of the channel's broadcasts. Out: the one entry of this
//! channel, which nobody else writes. The invariant: an ended playlist stays
//! until the next broadcast is offered, for one window at most, and a broadcast
//! is offered only once it is playable (H2; design: Broadcast, epoch,
//! republish).

use std::{sync::Arc, time::Duration};

use common::{
    live::{Announcement, Broadcast, BroadcastState, Channel, Directory, Phase, Stage},
    names::{BroadcastId, ChannelName, Epoch, NodeId},
};
use tokio::time::Instant;

use super::metrics::Counted;

#[derive(Debug)]
struct Ended {
    id: BroadcastId,
    until: Instant,
    _held: Counted,
}

#[derive(Debug)]
pub(super) struct Shown {
    channel: ChannelName,
    node: NodeId,
    directory: Arc<Directory>,
    grace_ms: u32,
    /// The ended broadcast on show.
    ended: Option<Ended>,
    /// What is on air and waits to be offered.
    starting: Option<(BroadcastId, Epoch)>,
}

impl Shown {
    /// `grace` is how long a vanished publisher has: edges wait as long.
    pub(super) fn new(
        channel: ChannelName,
        node: NodeId,
        directory: Arc<Directory>,
        grace: Duration,
    ) -> Self {
        Self {
            channel,
            node,
            directory,
            grace_ms: u32::try_from(grace.as_millis()).unwrap_or(u32::MAX),
            ended: None,
            starting: None,
        }
    }

    /// When [`Shown::expire`] is due.
    pub(super) fn until(&self) -> Option<Instant> {
        self.ended.as_ref().map(|ended| ended.until)
    }

    /// A publish that has nothing to play yet.
    pub(super) fn starting(&mut self, id: BroadcastId, epoch: Epoch) {
        self.starting = Some((id, epoch));
        if self.ended.is_none() {
            self.put(id, epoch, Stage::Starting);
        }
    }

    /// The broadcast is playable: offered from now on, or offered still, by
    /// another epoch.
    pub(super) fn live(&mut self, broadcast: &Arc<Broadcast>, epoch: Epoch) {
        self.ended = None;
        self.starting = None;
        broadcast.set_state(BroadcastState::Live);
        self.put(broadcast.id, epoch, Stage::Ready(broadcast.clone()));
    }

    /// The publisher is away and may come back.
    pub(super) fn lost(&mut self, broadcast: Option<&Broadcast>) {
        if let Some(broadcast) = broadcast {
            broadcast.set_state(BroadcastState::Lost);
        }
        if self.ended.is_none() {
            let lost = |known: &mut Channel| known.announcement.phase = Phase::Lost;
            self.directory.update(&self.channel, lost);
        }
    }

    /// ENDLIST, which stays for one window.
    pub(super) fn ended(&mut self, broadcast: &Broadcast, held: Counted, now: Instant) {
        broadcast.set_state(BroadcastState::Ended);
        let window = Duration::from_millis(broadcast.plan.window_ms.into());
        self.ended = Some(Ended {
            id: broadcast.id,
            until: now + window,
            _held: held,
        });
        // Nothing in the entry changes but the broadcast that it points to.
        self.directory.update(&self.channel, |_| {});
    }

    /// A broadcast that was never offered is over.
    pub(super) fn withdraw(&mut self, id: BroadcastId) {
        self.starting = None;
        if self.ended.is_none() {
            self.directory.remove(&self.channel, id);
        }
    }

    /// The ended playlist was shown for one window.
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(Ended { id, until, .. }) = self.ended
            && until <= now
        {
            self.ended = None;
            match self.starting {
                Some((id, epoch)) => self.put(id, epoch, Stage::Starting),
                None => self.directory.remove(&self.channel, id),
            }
        }
    }

    fn put(&self, broadcast: BroadcastId, epoch: Epoch, stage: Stage) {
        let phase = match stage {
            Stage::Starting => Phase::Starting,
            Stage::Ready(_) => Phase::Live,
        };
        let announcement = Announcement {
            channel: self.channel.clone(),
            broadcast,
            epoch,
            phase,
            hops: vec![self.node.clone()],
            cost: 0,
            grace_ms: self.grace_ms,
        };
        self.directory.put(Channel {
            announcement,
            stage,
        });
    }
}
