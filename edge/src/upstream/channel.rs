//! The task of one channel that somebody asked for: subscribes to its manifest,
//! builds the broadcast and keeps its state. It lives until the channel is
//! forgotten, and takes the channel from one broadcast to the next.
//!
//! Invariant: the directory offers a broadcast only with plan, tracks and init
//! segments known, and the old one until then. A link cut and made again
//! continues the same [`Broadcast`] object while its id is the same.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    link::{Accepted, Code, Message, Reader, Start, StreamError, Subscribe, Target, Update},
    live::{Announcement, Broadcast, BroadcastState, Channel, Stage, Track, TrackWindow},
    names::{BroadcastId, ChannelName, InitId, NodeId, TrackName},
};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info};

use super::{Shared, session::Session};

/// Before asking again what a parent refused or could not answer yet.
const PAUSE: Duration = Duration::from_millis(500);

/// What a manifest tells before its first STATE; bounded by the protocol.
const MAX_TRACKS: usize = common::link::decode::MAX_TRACKS;
const MAX_INITS: usize = MAX_TRACKS * TrackWindow::MAX_INITS;

/// Why a manifest's subscription is over.
enum Over {
    /// The channel carries another broadcast.
    Superseded,
    Ended,
    Refused(Code),
    Cut,
    /// Another parent is the better one now.
    Moved,
}

/// See the module's text.
pub(super) struct ChannelTask {
    pub(super) shared: Arc<Shared>,
    pub(super) channel: ChannelName,
    pub(super) announced: watch::Receiver<Announcement>,
    /// On whose behalf it was opened.
    pub(super) via: Vec<NodeId>,
}

#[derive(Default)]
struct Manifest {
    tracks: Vec<Track>,
    inits: Vec<(TrackName, InitId, Bytes)>,
}

impl ChannelTask {
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let wanted = self.announced.borrow_and_update().broadcast;
            let Some(session) = self.path(wanted, failures).await else {
                continue;
            };
            let over = self.subscribe(&session, wanted).await;
            failures = match over {
                Over::Refused(_) | Over::Cut => failures.wrapping_add(1),
                Over::Superseded | Over::Ended | Over::Moved => 0,
            };
            match over {
                Over::Superseded | Over::Moved => {}
                Over::Ended => {
                    if !self.another(wanted).await {
                        return;
                    }
                }
                Over::Refused(code) => {
                    debug!(channel = %self.channel, %code, "manifest refused");
                    sleep(PAUSE).await;
                }
                Over::Cut => sleep(PAUSE / 10).await,
            }
        }
    }

    /// The best parent for a broadcast, or after failures each in turn; `None`
    /// when the channel carries another one before there is any.
    async fn path(&mut self, wanted: BroadcastId, failures: usize) -> Option<Arc<Session>> {
        let mut changes = self.shared.changes();
        loop {
            changes.mark_unchanged();
            let paths = self.shared.paths(&self.channel, wanted);
            if let Some(path) = paths.get(failures % paths.len().max(1)) {
                return Some(path.clone());
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    // Never: the shared state holds the sender.
                    std::future::pending::<()>().await;
                },
                _ = self.announced.changed() => return None,
            }
        }
    }

    /// Resolves when `session` is not the best parent for the broadcast any more
    /// and there is another.
    async fn better(&self, session: &Arc<Session>, wanted: BroadcastId, was_best: bool) {
        let mut changes = self.shared.changes();
        loop {
            changes.mark_unchanged();
            let paths = self.shared.paths(&self.channel, wanted);
            let best = paths.first().is_none_or(|best| Arc::ptr_eq(best, session));
            if !best && was_best || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until another broadcast is announced; `false` when none will be.
    async fn another(&mut self, than: BroadcastId) -> bool {
        self.announced
            .wait_for(|announced| announced.broadcast != than)
            .await
            .is_ok()
    }

    async fn subscribe(&mut self, session: &Arc<Session>, wanted: BroadcastId) -> Over {
        let message = Message::Subscribe(Subscribe {
            subscription: session.number(),
            channel: self.channel.clone(),
            broadcast: Some(wanted),
            target: Target::Manifest,
            start: Start::Live,
            priority: 0,
            max_age_ms: 0,
            hops: self.shared.hops(self.via.clone()),
        });
        // Dropped with this call, the writer ends the subscription.
        let (_writer, mut reader) = match session.request(&message).await {
            Ok(streams) => streams,
            Err(_) => return Over::Cut,
        };
        let mut announced = self.announced.clone();
        let paths = self.shared.paths(&self.channel, wanted);
        let was_best = paths.first().is_some_and(|best| Arc::ptr_eq(best, session));
        tokio::select! {
            over = self.follow(&mut reader) => match over {
                Ok(over) => over,
                Err(error) => {
                    debug!(channel = %self.channel, %error, "manifest cut off");
                    Over::Cut
                }
            },
            _ = announced.wait_for(|announced| announced.broadcast != wanted) => Over::Superseded,
            () = self.better(session, wanted, was_best) => Over::Moved,
        }
    }

    async fn follow(&self, reader: &mut Reader) -> Result<Over, StreamError> {
        let accepted = match reader.expect().await? {
            Message::Ok(accepted) => accepted,
            Message::Error(refusal) => return Ok(Over::Refused(refusal.code)),
            _ => return Ok(Over::Refused(Code::Protocol)),
        };
        let mut manifest = Manifest::default();
        let mut broadcast: Option<Arc<Broadcast>> = None;
        while let Some(message) = reader.next().await? {
            match message {
                Message::Track(track) if manifest.tracks.len() < MAX_TRACKS => {
                    manifest.tracks.push(track);
                }
                Message::Init { track, id, bytes } => match &broadcast {
                    Some(broadcast) => add_init(broadcast, track, id, bytes),
                    None if manifest.inits.len() < MAX_INITS => {
                        manifest.inits.push((track, id, bytes));
                    }
                    None => {}
                },
                Message::State { state, epoch } => {
                    let broadcast = broadcast.get_or_insert_with(|| {
                        self.ready(&accepted, std::mem::take(&mut manifest))
                    });
                    self.shared.directory.update(&self.channel, |known| {
                        if known.announcement.broadcast == broadcast.id {
                            known.announcement.epoch = epoch;
                        }
                    });
                    broadcast.set_state(state);
                    if state == BroadcastState::Ended {
                        return Ok(Over::Ended);
                    }
                }
                Message::Error(refusal) => return Ok(Over::Refused(refusal.code)),
                _ => {}
            }
        }
        Ok(Over::Cut)
    }

    /// The broadcast that a manifest tells of: the one that is known, or a new
    /// one that takes its place.
    fn ready(&self, accepted: &Accepted, manifest: Manifest) -> Arc<Broadcast> {
        let known = match self.shared.directory.get(&self.channel) {
            Some(Channel {
                stage: Stage::Ready(broadcast),
                ..
            }) => Some(broadcast),
            _ => None,
        };
        let broadcast = match known {
            Some(known) if known.id == accepted.broadcast => known,
            old => {
                let new = Arc::new(Broadcast::new(
                    self.channel.clone(),
                    accepted.broadcast,
                    accepted.plan,
                    manifest.tracks,
                ));
                if let Some(old) = &old {
                    self.shared.retire(old.clone());
                }
                for (track, id, bytes) in &manifest.inits {
                    add_init(&new, *track, *id, bytes.clone());
                }
                info!(channel = %self.channel, broadcast = %new.id, "broadcast ready");
                self.shared.directory.put(Channel {
                    announcement: self.announced.borrow().clone(),
                    stage: Stage::Ready(new.clone()),
                });
                if let Some(old) = old {
                    old.supersede();
                }
                return new;
            }
        };
        for (track, id, bytes) in manifest.inits {
            add_init(&broadcast, track, id, bytes);
        }
        broadcast
    }
}

fn add_init(broadcast: &Broadcast, track: TrackName, id: InitId, bytes: Bytes) {
    if let Some(track) = broadcast.track(track)
        && track.init(id).is_none()
    {
        track.add_init(id, bytes);
    }
}

/// What this edge wishes of every track subscription.
pub(super) const fn wishes(max_age_ms: u32) -> Update {
    Update {
        priority: 128,
        max_age_ms,
        end: None,
    }
}
