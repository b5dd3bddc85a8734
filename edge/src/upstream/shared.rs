//! What the tasks of [`super`] share: the directory they write, the links and the
//! paths over them, and handles on each other. Everybody reads it; who writes what
//! stands at the fields.

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::{
    ingest::Ingests,
    link::decode::MAX_HOPS,
    live::{Abouts, Announcement, Audience, Broadcast, Directory, Stage},
    names::{BroadcastId, ChannelName, Epoch, NodeId},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::Instant,
};

use super::{
    Unavailable, UpstreamMetrics,
    budget::WindowBudget,
    channel::ChannelTask,
    past::Past,
    routes::{Rank, Routes},
    session::Session,
    tracks::{TrackHandle, TrackKey},
};

/// What the tasks share. Locks are held for a look-up, never across an await.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) node: NodeId,
    pub(super) directory: Arc<Directory>,
    /// Written by the task of the parents.
    pub(super) ingests: Arc<Ingests>,
    /// What parents say of channels, and how many they say watch them.
    pub(super) abouts: Arc<Abouts>,
    pub(super) audience: Arc<Audience>,
    pub(super) metrics: UpstreamMetrics,
    /// What each parent carries. Written by the task of the parents.
    pub(super) routes: Mutex<Routes<Arc<Session>>>,
    /// Ticks when the best path of a channel may be another one.
    changes: watch::Sender<u64>,
    /// A parent fell from grace: what this node announces may change.
    pub(super) faults: Notify,
    /// Links that chat needs.
    pub(super) needed_links: watch::Sender<usize>,
    /// Whether any parent's snapshot was ever seen.
    pub(super) synced: watch::Sender<bool>,
    /// Since when no parent is connected.
    alone_since: Mutex<Option<Instant>>,
    channels: Mutex<HashMap<ChannelName, ChannelHandle>>,
    pub(super) tracks: Mutex<HashMap<TrackKey, TrackHandle>>,
    /// Broadcasts that were replaced, until their media need no longer be read.
    pub(super) retired: Mutex<Vec<(Instant, Arc<Broadcast>)>>,
    pub(super) past: Past,
    pub(super) windows: WindowBudget,
}

#[derive(Debug)]
struct ChannelHandle {
    announced: watch::Sender<Announcement>,
    task: AbortHandle,
}

impl Shared {
    pub(super) fn new(
        node: NodeId,
        directory: Arc<Directory>,
        metrics: UpstreamMetrics,
        cache_bytes: u64,
        window_bytes: u64,
    ) -> Self {
        Self {
            routes: Mutex::new(Routes::new(node.clone())),
            changes: watch::Sender::new(0),
            faults: Notify::new(),
            needed_links: watch::Sender::new(0),
            node,
            directory,
            ingests: Arc::default(),
            abouts: Arc::default(),
            audience: Arc::default(),
            metrics,
            synced: watch::Sender::new(false),
            alone_since: Mutex::new(Some(Instant::now())),
            channels: Mutex::default(),
            tracks: Mutex::default(),
            retired: Mutex::default(),
            past: Past::new(cache_bytes),
            windows: WindowBudget::new(window_bytes),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        let routes = self.routes.lock();
        routes.links().any(|(_, session)| session.is_open())
    }

    pub(super) fn connected(&self, rank: Rank, session: &Arc<Session>) {
        *self.alone_since.lock() = None;
        let mut routes = self.routes.lock();
        routes.connected(rank, session.clone());
        self.count(&routes);
    }

    pub(super) fn disconnected(&self, rank: Rank) {
        let mut routes = self.routes.lock();
        routes.lost(rank, Instant::now());
        self.count(&routes);
        if routes.links().next().is_none() {
            let mut alone_since = self.alone_since.lock();
            alone_since.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn count(&self, routes: &Routes<Arc<Session>>) {
        let count = i64::try_from(routes.links().count()).unwrap_or(i64::MAX);
        self.metrics.connected.set(count);
    }

    /// Ticks when a path may have come or gone.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn changed(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The open links to pull a broadcast through, best first.
    pub(super) fn paths(&self, channel: &ChannelName, broadcast: BroadcastId) -> Vec<Arc<Session>> {
        let mut paths = self.routes.lock().paths(channel, broadcast, Instant::now());
        paths.retain(|session| session.is_open());
        paths
    }

    /// A parent did not bring what another one did.
    pub(super) fn fault(&self, session: &Session) {
        self.routes.lock().fault(session.rank, Instant::now());
        self.faults.notify_one();
        self.changed();
    }

    /// SUBSCRIBE's hops: who pulls through this node, and itself.
    pub(super) fn hops(&self, mut via: Vec<NodeId>) -> Vec<NodeId> {
        via.truncate(MAX_HOPS - 1);
        via.push(self.node.clone());
        via
    }

    /// How long no parent has been there, if there is none.
    pub(super) fn alone_for(&self) -> Option<Duration> {
        self.alone_since.lock().map(|since| since.elapsed())
    }

    pub(super) async fn broadcast(
        self: &Arc<Self>,
        channel: &ChannelName,
    ) -> Result<Arc<Broadcast>, Unavailable> {
        let mut changes = self.directory.changes();
        let mut paths = self.changes();
        loop {
            changes.mark_unchanged();
            paths.mark_unchanged();
            let Some(known) = self.directory.get(channel) else {
                let synced = *self.synced.borrow() && self.routes.lock().all_told();
                return Err(if synced {
                    Unavailable::Unknown
                } else {
                    Unavailable::Disconnected
                });
            };
            let kept_for = known.announcement.kept_for();
            if self.alone_for().is_some_and(|alone| alone > kept_for) {
                return Err(Unavailable::Disconnected);
            }
            match known.stage {
                Stage::Ready(broadcast) => return Ok(broadcast),
                Stage::Starting if !self.is_connected() => return Err(Unavailable::Disconnected),
                Stage::Starting => self.open_channel(known.announcement, Vec::new()),
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| Unavailable::Disconnected)?,
                changed = paths.changed() => changed.map_err(|_| Unavailable::Disconnected)?,
            }
        }
    }

    /// Starts the channel's task unless it runs; `via` names the children that asked.
    pub(super) fn open_channel(self: &Arc<Self>, announcement: Announcement, via: Vec<NodeId>) {
        let channel = announcement.channel.clone();
        let mut channels = self.channels.lock();
        channels.entry(channel.clone()).or_insert_with(|| {
            let (announced, receiver) = watch::channel(announcement);
            let task = ChannelTask {
                shared: self.clone(),
                channel,
                announced: receiver,
                via,
            };
            let task = tokio::spawn(task.run()).abort_handle();
            ChannelHandle { announced, task }
        });
    }

    /// Tells a running channel what its parent says of it now.
    pub(super) fn announced(&self, channel: &ChannelName, announcement: &Announcement) {
        if let Some(handle) = self.channels.lock().get(channel) {
            handle.announced.send_if_modified(|known| {
                let changed = known != announcement;
                known.clone_from(announcement);
                changed
            });
        }
    }

    /// The channel is gone: its task ends, its media stays readable a while.
    pub(super) fn forget(&self, channel: &ChannelName, broadcast: BroadcastId) {
        if let Some(handle) = self.channels.lock().remove(channel) {
            handle.task.abort();
        }
        let held = match self.directory.get(channel).map(|known| known.stage) {
            Some(Stage::Ready(held)) => Some(held),
            _ => None,
        };
        if let Some(held) = &held {
            self.retire(held.clone());
        }
        self.directory.remove(channel, broadcast);
        self.abouts.put(channel, None);
        if let Some(held) = held {
            held.supersede();
        }
    }

    /// Keeps a broadcast that the directory no longer offers for three target
    /// durations, as its last playlist's readers need it.
    pub(super) fn retire(&self, broadcast: Arc<Broadcast>) {
        let now = Instant::now();
        let until = now + Duration::from_millis(broadcast.plan.parts_listed_ms().into());
        let mut retired = self.retired.lock();
        retired.retain(|(until, _)| *until > now);
        retired.push((until, broadcast));
    }

    /// The broadcast that an epoch belongs to: the youngest that is not younger.
    pub(super) fn of_epoch(
        &self,
        channel: &ChannelName,
        epoch: Epoch,
        current: Option<&Arc<Broadcast>>,
    ) -> Option<Arc<Broadcast>> {
        let mut retired = self.retired.lock();
        if !retired.is_empty() {
            let now = Instant::now();
            retired.retain(|(until, _)| *until > now);
        }
        let retired = retired.iter().map(|(_, broadcast)| broadcast);
        retired
            .filter(|broadcast| broadcast.channel == *channel)
            .chain(current)
            .filter(|broadcast| broadcast.id.0 <= epoch.0)
            .max_by_key(|broadcast| broadcast.id)
            .cloned()
    }

    pub(super) fn stop(&self) {
        for handle in self.channels.lock().values() {
            handle.task.abort();
        }
        for handle in self.tracks.lock().values() {
            handle.task.abort();
        }
        for (_, session) in self.routes.lock().links() {
            common::link::stream::close(
                &session.connection,
                common::link::Code::Cancelled,
                "stopping",
            );
        }
    }
}
