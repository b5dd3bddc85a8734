//! One live event of a channel: its frozen plan, its tracks with their windows
//! and init segments, and whether it is live, lost or ended.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    plan::{Plan, Track},
    window::Window,
};
use crate::names::{BroadcastId, ChannelName, InitId, TrackName};

/// How a broadcast stands. Only the origin says so; an edge that lost its
/// parents keeps what it last heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BroadcastState {
    Live,
    /// The publisher is away and may return within the grace window.
    Lost,
    Ended,
}

/// A track and what is known of its media here.
#[derive(Debug)]
pub struct TrackWindow {
    pub track: Track,
    pub window: Window,
    inits: RwLock<BTreeMap<InitId, Bytes>>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Broadcast {
    pub channel: ChannelName,
    pub id: BroadcastId,
    pub plan: Plan,
    /// In the order of their names: video before audio.
    pub tracks: Vec<Arc<TrackWindow>>,
    state: watch::Sender<BroadcastState>,
    superseded: watch::Sender<bool>,
}

impl TrackWindow {
    /// A republish may change the init segment: this often within the longest
    /// window (30 minutes) an encoder would have to be set up anew every seven
    /// seconds. Beyond it the oldest can't be played any more.
    pub const MAX_INITS: usize = 256;

    #[must_use]
    pub fn new(plan: &Plan, track: Track) -> Self {
        let window = Window::new(plan, &track);
        Self {
            track,
            window,
            inits: RwLock::default(),
        }
    }

    /// Adds an init segment; past [`Self::MAX_INITS`] the oldest goes.
    pub fn add_init(&self, id: InitId, bytes: Bytes) {
        let mut inits = self.inits.write();
        inits.insert(id, bytes);
        while inits.len() > Self::MAX_INITS {
            inits.pop_first();
        }
    }

    #[must_use]
    pub fn init(&self, id: InitId) -> Option<Bytes> {
        self.inits.read().get(&id).cloned()
    }

    #[must_use]
    pub fn inits(&self) -> Vec<(InitId, Bytes)> {
        self.inits
            .read()
            .iter()
            .map(|(id, bytes)| (*id, bytes.clone()))
            .collect()
    }
}

impl Broadcast {
    #[must_use]
    pub fn new(channel: ChannelName, id: BroadcastId, plan: Plan, tracks: Vec<Track>) -> Self {
        let mut tracks: Vec<_> = tracks
            .into_iter()
            .map(|track| Arc::new(TrackWindow::new(&plan, track)))
            .collect();
        tracks.sort_by_key(|track| track.track.name);
        Self {
            channel,
            id,
            plan,
            tracks,
            state: watch::Sender::new(BroadcastState::Live),
            superseded: watch::Sender::new(false),
        }
    }

    #[must_use]
    pub fn track(&self, name: TrackName) -> Option<&Arc<TrackWindow>> {
        self.tracks.iter().find(|track| track.track.name == name)
    }

    #[must_use]
    pub fn state(&self) -> BroadcastState {
        *self.state.borrow()
    }

    pub fn set_state(&self, state: BroadcastState) {
        self.state.send_replace(state);
    }

    /// This node offers another broadcast in its place, or none.
    pub fn supersede(&self) {
        self.superseded.send_replace(true);
    }

    /// Resolves once [`Self::supersede`] was called: who waits for this
    /// broadcast's media here waits in vain.
    pub async fn superseded(&self) {
        // The sender lives in self: the wait can't fail.
        let _ = self.superseded.subscribe().wait_for(|done| *done).await;
    }

    #[must_use]
    pub fn states(&self) -> watch::Receiver<BroadcastState> {
        self.state.subscribe()
    }
}
