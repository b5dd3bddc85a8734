//! What the edge's HTTP side asks of the tree above it, and the tasks that
//! answer: one for the parents, one a channel somebody asked for, one a track
//! somebody watches. Somebody is a viewer, or a node that pulls from this one.
//!
//! In: the link's streams of one parent or more. Out: the [`Directory`] with
//! broadcasts and windows that list what the parents' list. Invariants: one
//! upstream subscription per track, whatever the number of viewers, and a second
//! one only while one parent takes over from another; a lost link takes nothing
//! away; what is old is fetched once and kept by bytes.

mod budget;
mod candidate;
mod channel;
mod children;
mod config;
mod dial;
mod feed;
mod follow;
mod hearsay;
mod ingests;
mod metrics;
mod parent;
mod past;
mod race;
mod roster;
mod routes;
mod session;
mod shared;
mod tracks;
mod wanted;

use std::{sync::Arc, time::Duration};

use common::{
    ingest::Ingests,
    link::{Chat, Hello, LinkSeen, Message, Reader, StreamError, Writer},
    live::{Abouts, Announcement, Audience, Broadcast, Directory, Stage, TrackWindow},
    names::{ChannelName, Epoch, Msn, NodeId, TrackName},
    quic::Dialer,
    tls::Role,
};
use tokio::{sync::watch, task::AbortHandle};

pub use config::{ChildrenConfig, UpstreamConfig};
pub use metrics::UpstreamMetrics;

use parent::Parents;
pub use past::Kept;
pub use roster::{Roster, RosterError};
use session::Session;
use shared::Shared;
pub use tracks::Leased;

/// Why media cannot be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("no parent knows this channel")]
    Unknown,
    #[error("the channel starts; its first media is on the way")]
    Starting,
    #[error("no parent is connected")]
    Disconnected,
    #[error("the parent no longer has this")]
    Gone,
    #[error("windows hold as much as they may")]
    Full,
}

/// A parent that may carry rooms.
#[derive(Debug, Clone)]
pub struct ChatParent(Arc<Session>);

impl ChatParent {
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.0.parent.node
    }

    #[must_use]
    pub fn role(&self) -> Role {
        self.0.parent.role
    }

    /// Its place in the order given.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.0.rank
    }

    /// Opens a CHAT stream.
    ///
    /// # Errors
    /// Where the link is lost.
    pub async fn open(&self) -> Result<(Writer, Reader), StreamError> {
        self.0.request(&Message::Chat(Chat::Open)).await
    }
}

/// A handle on the edge's side of the link. Dropping it ends its tasks.
#[derive(Debug)]
pub struct Upstream {
    directory: Arc<Directory>,
    abouts: Arc<Abouts>,
    audience: Arc<Audience>,
    /// `None` where this process fills the directory itself.
    pulled: Option<Pulled>,
    ingests: Arc<Ingests>,
}

#[derive(Debug)]
struct Pulled {
    shared: Arc<Shared>,
    parents: AbortHandle,
    budget: AbortHandle,
}

impl Upstream {
    /// An edge whose directory is filled by its own process.
    #[must_use]
    pub fn local(directory: Arc<Directory>) -> Self {
        Self {
            directory,
            abouts: Arc::default(),
            audience: Arc::default(),
            pulled: None,
            ingests: Arc::default(),
        }
    }

    /// Starts to pull from `parents` as the node that `hello` names. Needs a
    /// tokio runtime.
    #[must_use]
    pub fn start(
        config: &UpstreamConfig,
        parents: watch::Receiver<Vec<String>>,
        hello: Hello,
        dialer: Dialer,
        directory: Arc<Directory>,
        metrics: UpstreamMetrics,
    ) -> Self {
        let shared = Arc::new(Shared::new(
            hello.node.clone(),
            directory.clone(),
            metrics,
            config.cache_bytes,
            config.window_bytes,
        ));
        let warm = config.warm_parents.into();
        let parents = Parents::new(shared.clone(), dialer, hello, parents, warm);
        let parents = tokio::spawn(parents.run()).abort_handle();
        let budget = tokio::spawn(shared.clone().keep_budget()).abort_handle();
        Self {
            directory,
            ingests: shared.ingests.clone(),
            abouts: shared.abouts.clone(),
            audience: shared.audience.clone(),
            pulled: Some(Pulled {
                shared,
                parents,
                budget,
            }),
        }
    }

    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The places to publish to that parents tell of.
    #[must_use]
    pub const fn ingests(&self) -> &Arc<Ingests> {
        &self.ingests
    }

    /// What is said of channels.
    #[must_use]
    pub fn abouts(&self) -> &Arc<Abouts> {
        &self.abouts
    }

    /// Who watches channels, over all edges, as parents tell.
    #[must_use]
    pub fn audience(&self) -> &Arc<Audience> {
        &self.audience
    }

    /// The links to parents that are open, in the order given.
    #[must_use]
    pub fn links(&self) -> Vec<LinkSeen> {
        let Some(Pulled { shared, .. }) = &self.pulled else {
            return Vec::new();
        };
        let routes = shared.routes.lock();
        let open = routes.links().filter(|(_, session)| session.is_open());
        open.map(|(_, of)| LinkSeen::of(&of.connection, &of.parent, of.since))
            .collect()
    }

    /// Whether a parent's snapshot was seen: only then is a channel unknown.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.pulled
            .as_ref()
            .is_none_or(|pulled| *pulled.shared.synced.borrow())
    }

    /// The same for who wants to be told.
    #[must_use]
    pub fn sync(&self) -> watch::Receiver<bool> {
        match &self.pulled {
            Some(pulled) => pulled.shared.synced.subscribe(),
            None => watch::Sender::new(true).subscribe(),
        }
    }

    /// Resolves when [`Self::synced`] first holds: the edge is ready.
    pub async fn until_synced(&self) {
        if let Some(pulled) = &self.pulled {
            // Fails only with the sender gone, which `self` holds.
            let _ = pulled
                .shared
                .synced
                .subscribe()
                .wait_for(|seen| *seen)
                .await;
        }
    }

    /// Whether a parent is connected now. Without one, what is held answers
    /// the requests that it satisfies, and the others get 503.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.pulled
            .as_ref()
            .is_none_or(|pulled| pulled.shared.is_connected())
    }

    /// What a channel plays, when this edge may offer it without waiting.
    #[must_use]
    pub fn ready(&self, channel: &ChannelName) -> Option<Arc<Broadcast>> {
        let alone_for = self.pulled.as_ref().and_then(|it| it.shared.alone_for());
        let Some(alone_for) = alone_for else {
            return self.directory.ready(channel);
        };
        let known = self.directory.get(channel)?;
        match known.stage {
            Stage::Ready(held) if alone_for <= known.announcement.kept_for() => Some(held),
            _ => None,
        }
    }

    /// How long a channel's publisher may be away before its viewers are given up.
    #[must_use]
    pub fn kept_for(&self, channel: &ChannelName) -> Duration {
        let known = self.directory.get(channel);
        known.map_or(Announcement::LEAST_KEPT_FOR, |known| {
            known.announcement.kept_for()
        })
    }

    /// The broadcast that a channel carries now, subscribing to its manifest
    /// when this edge has not yet. Waits while it starts: bound it by a time-out.
    ///
    /// # Errors
    /// [`Unavailable::Unknown`] or [`Unavailable::Disconnected`], at once.
    pub async fn broadcast(&self, channel: &ChannelName) -> Result<Arc<Broadcast>, Unavailable> {
        let Some(Pulled { shared, .. }) = &self.pulled else {
            return match self.directory.get(channel).map(|known| known.stage) {
                Some(Stage::Ready(broadcast)) => Ok(broadcast),
                Some(Stage::Starting) => Err(Unavailable::Starting),
                None => Err(Unavailable::Unknown),
            };
        };
        shared.broadcast(channel).await
    }

    /// [`Self::track`] where nothing has to be waited for.
    #[must_use]
    pub fn followed(&self, broadcast: &Broadcast, name: TrackName) -> Option<Arc<TrackWindow>> {
        let current = match &self.pulled {
            Some(pulled) => pulled.shared.is_current(broadcast, name),
            None => true,
        };
        broadcast.track(name).filter(|_| current).cloned()
    }

    /// A track with a live subscription and its index applied.
    ///
    /// # Errors
    /// [`Unavailable::Unknown`] for a name the broadcast does not have.
    pub async fn track(
        &self,
        broadcast: &Arc<Broadcast>,
        name: TrackName,
    ) -> Result<Arc<TrackWindow>, Unavailable> {
        match &self.pulled {
            Some(pulled) => pulled.shared.followed(broadcast, name).await,
            None => broadcast.track(name).cloned().ok_or(Unavailable::Unknown),
        }
    }

    /// Keeps a track's subscription while its viewer stays without asking again.
    /// `None` where nobody follows it, or nobody need.
    #[must_use]
    pub fn following(&self, broadcast: &Broadcast, name: TrackName) -> Option<Leased> {
        let pulled = self.pulled.as_ref()?;
        pulled.shared.following(broadcast, name)
    }

    /// The window that holds media of this epoch, whether its broadcast is the
    /// current one or one that ended a moment ago. Never goes upstream. `None`
    /// also while [`Self::track`] could make current what nobody follows now.
    #[must_use]
    pub fn held(
        &self,
        channel: &ChannelName,
        epoch: Epoch,
        name: TrackName,
    ) -> Option<(Arc<Broadcast>, Arc<TrackWindow>)> {
        let current = self.directory.ready(channel);
        let broadcast = match &self.pulled {
            Some(pulled) => pulled.shared.of_epoch(channel, epoch, current.as_ref())?,
            None => current.clone()?,
        };
        let track = broadcast.track(name)?.clone();
        if let (Some(pulled), Some(current)) = (&self.pulled, current) {
            let followed = pulled.shared.touch(&broadcast, name);
            let stale = broadcast.id == current.id && !followed;
            if stale && pulled.shared.is_connected() {
                return None;
            }
        }
        Some((broadcast, track))
    }

    /// The parents whose links are open, in the order given: each may carry rooms.
    #[must_use]
    pub fn chat_parents(&self) -> Vec<ChatParent> {
        let Some(Pulled { shared, .. }) = &self.pulled else {
            return Vec::new();
        };
        let routes = shared.routes.lock();
        let open = routes.links().filter(|(_, session)| session.is_open());
        open.map(|(_, session)| ChatParent(session.clone()))
            .collect()
    }

    /// Ticks when [`Self::chat_parents`] may be others; `None` without any ever.
    #[must_use]
    pub fn parents_change(&self) -> Option<watch::Receiver<u64>> {
        let pulled = self.pulled.as_ref()?;
        Some(pulled.shared.changes())
    }

    /// Keeps at least so many links, however few `--warm-parents` asks for.
    pub fn need_links(&self, least: usize) {
        if let Some(pulled) = &self.pulled {
            pulled.shared.needed_links.send_if_modified(|needed| {
                let differs = *needed != least;
                *needed = least;
                differs
            });
        }
    }

    /// All bytes of a complete segment that this edge knows by index only,
    /// fetched once however many ask.
    ///
    /// # Errors
    /// [`Unavailable`] when no parent has it.
    pub async fn past_segment(
        &self,
        broadcast: &Arc<Broadcast>,
        track: TrackName,
        msn: Msn,
    ) -> Result<Kept, Unavailable> {
        match &self.pulled {
            Some(pulled) => pulled.shared.past(broadcast, track, msn).await,
            None => Err(Unavailable::Gone),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(pulled) = &self.pulled {
            pulled.parents.abort();
            pulled.budget.abort();
            pulled.shared.stop();
        }
    }
}

#[cfg(test)]
mod tests;
