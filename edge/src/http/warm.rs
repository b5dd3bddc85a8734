//! What an edge follows before anybody asks, so that those who come over from
//! another find everything there: a channel takes a hold-back of media until it
//! can be played, which is longer than a player can wait.
//!
//! In: what is live now. Out: a [`Warm`] that keeps it followed while it lives.

use std::{sync::Arc, time::Duration};

use common::{live::Listing, names::ChannelName};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::info;

use super::playlists::listed;
use crate::{
    playlist::is_offered,
    upstream::{Leased, Upstream},
};

/// Channels that are followed although nobody asked.
#[derive(Debug, Default)]
pub struct Warm(Vec<Leased>);

impl Warm {
    /// Tracks that it keeps.
    #[must_use]
    pub fn tracks(&self) -> usize {
        self.0.len()
    }
}

/// Follows the channels that are live, `most` of them at most, and resolves once
/// each can be played, or after `within` with those that can.
pub async fn warm(upstream: &Arc<Upstream>, most: usize, within: Duration) -> Warm {
    let until = Instant::now() + within;
    let mut warm = Warm::default();
    if most == 0 || timeout_at(until, upstream.until_synced()).await.is_err() {
        return warm;
    }
    let channels = upstream.directory().snapshot().into_iter().take(most);
    let mut tasks = JoinSet::new();
    for channel in channels {
        let upstream = upstream.clone();
        let followed = async move { followed(&upstream, &channel.announcement.channel).await };
        tasks.spawn(timeout_at(until, followed));
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok(Ok(leases)) = done {
            warm.0.extend(leases);
        }
    }
    info!(tracks = warm.tracks(), "what is live can be played here");
    warm
}

async fn followed(upstream: &Upstream, channel: &ChannelName) -> Vec<Leased> {
    let Ok(broadcast) = upstream.broadcast(channel).await else {
        return Vec::new();
    };
    let mut leases = Vec::new();
    for track in &broadcast.tracks {
        let name = track.track.name;
        if upstream.track(&broadcast, name).await.is_err() {
            continue;
        }
        leases.extend(upstream.following(&broadcast, name));
        let offered = |listing: &Listing| is_offered(listing, &broadcast.plan, &track.track);
        listed(&track.window, offered).await;
    }
    leases
}
