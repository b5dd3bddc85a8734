//! All channels a node knows: on an origin what is published there, on an edge
//! what its parents announce. WATCH streams and the channel list read it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::sync::watch;

use super::broadcast::Broadcast;
use crate::names::{BroadcastId, ChannelName, Epoch, NodeId};

/// LIVE on the link: who carries what, over which path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    pub channel: ChannelName,
    pub broadcast: BroadcastId,
    pub epoch: Epoch,
    pub phase: Phase,
    /// From the origin on, this node's parent last.
    pub hops: Vec<NodeId>,
    pub cost: u32,
    /// How long a vanished publisher has to come back, milliseconds: the origin's
    /// `--grace`. See [`Self::kept_for`].
    pub grace_ms: u32,
}

/// How a channel stands at its origin, whoever watches it or nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A publisher is on air; its plan or its first media is not there yet.
    Starting,
    Live,
    /// The publisher is away (grace); the broadcast may go on.
    Lost,
    /// Its last playlist is still offered, with ENDLIST.
    Ended,
}

impl Announcement {
    /// The grace of an origin that does not say: what `--grace` is by default.
    pub const USUAL_GRACE_MS: u32 = 10_000;

    /// The longest `--grace` that there is.
    pub const MAX_GRACE_MS: u32 = 600_000;

    /// What a publisher that returns, its LIVE and a first subscription take
    /// beyond the grace.
    const SLACK: Duration = Duration::from_secs(5);

    /// The least that a lost link may take to come back.
    pub const LEAST_KEPT_FOR: Duration = Duration::from_secs(15);

    /// How long a node believes in the channel after it was last told of it: for as
    /// long as its origin waits for the publisher, so that one who returns in time
    /// finds every viewer where it left them.
    #[must_use]
    pub fn kept_for(&self) -> Duration {
        let grace_ms = self.grace_ms.min(Self::MAX_GRACE_MS);
        let grace = Duration::from_millis(grace_ms.into());
        (grace + Self::SLACK).max(Self::LEAST_KEPT_FOR)
    }
}

/// How far a channel has come.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Announced; its plan or its first PART-HOLD-BACK of media is not there yet.
    Starting,
    /// Playable: plan, tracks and media are known.
    Ready(Arc<Broadcast>),
}

/// One channel as this node knows it.
#[derive(Debug, Clone)]
pub struct Channel {
    pub announcement: Announcement,
    pub stage: Stage,
}

/// See the module's text. Bounded by the caller: an origin admits so many
/// publishers, an edge so many announcements of a parent.
#[derive(Debug)]
pub struct Directory {
    channels: RwLock<HashMap<ChannelName, Channel>>,
    changes: watch::Sender<u64>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            channels: RwLock::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Directory {
    /// Announces a channel or replaces what was known of it.
    pub fn put(&self, channel: Channel) {
        self.channels
            .write()
            .insert(channel.announcement.channel.clone(), channel);
        self.changed();
    }

    /// Changes a channel in place; `false` when it is not known.
    pub fn update(&self, name: &ChannelName, change: impl FnOnce(&mut Channel)) -> bool {
        let found = self.channels.write().get_mut(name).map(change).is_some();
        if found {
            self.changed();
        }
        found
    }

    /// Forgets a channel, provided it still carries this broadcast.
    pub fn remove(&self, name: &ChannelName, broadcast: BroadcastId) {
        let mut channels = self.channels.write();
        if channels
            .get(name)
            .is_some_and(|known| known.announcement.broadcast == broadcast)
        {
            channels.remove(name);
            drop(channels);
            self.changed();
        }
    }

    #[must_use]
    pub fn get(&self, name: &ChannelName) -> Option<Channel> {
        self.channels.read().get(name).cloned()
    }

    /// What a channel plays now, if it does: all that a request needs to know.
    #[must_use]
    pub fn ready(&self, name: &ChannelName) -> Option<Arc<Broadcast>> {
        match &self.channels.read().get(name)?.stage {
            Stage::Ready(broadcast) => Some(broadcast.clone()),
            Stage::Starting => None,
        }
    }

    /// All channels in the order of their names.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Channel> {
        let mut all: Vec<_> = self.channels.read().values().cloned().collect();
        all.sort_by(|a, b| a.announcement.channel.cmp(&b.announcement.channel));
        all
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.channels.read().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
