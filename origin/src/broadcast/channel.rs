//! The task of one channel: publisher in, broadcast out.
//!
//! It begins with a publish and ends when nothing of the channel is left to
//! show. In between it feeds demux and packager, applies what they decide to
//! the broadcast's windows, and carries the broadcast over the publisher's
//! absence. A newcomer with the same key takes over at once: a half-open
//! connection must not keep its own publisher out (design: Broadcast, epoch,
//! republish).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    live::{
        Announcement, Broadcast, BroadcastState, Channel, LogError, Record, SegmentHead, Stage,
        TrackWindow,
    },
    media::Ticks,
    names::{BroadcastId, ChannelName, Epoch, InitId, Msn, TrackName},
    rtmp::MediaKind,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{error, info, warn};

use super::{
    Shared,
    journal::{Bookmark, Page, TrackBookmark},
    unix_now,
};
use crate::{
    demux::{Demuxer, declared},
    packager::{Continuation, Fresh, Output, Packager, Start},
    rtmp::{Publish, PublishEvent},
};

/// How often the packager looks whether something is overdue: a silent track,
/// the deadline of the track set. Well below a part.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Actor {
    channel: ChannelName,
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Publish>,
    air: Option<OnAir>,
    current: Option<Current>,
    /// What happens next if no publisher comes.
    due: Option<(Instant, Due)>,
    outputs: Vec<Output>,
}

/// A publisher and what reads it.
#[derive(Debug)]
struct OnAir {
    publish: Publish,
    demuxer: Demuxer,
    packager: Packager,
    dropped_samples: u64,
}

/// The broadcast of the current or the last publish, until it is forgotten.
#[derive(Debug)]
struct Current {
    id: BroadcastId,
    epoch: Epoch,
    /// Where it goes on; `None` while a publisher is on air and before a plan.
    handover: Option<Continuation>,
    /// `None` before the plan.
    broadcast: Option<Arc<Broadcast>>,
    /// The directory offers it.
    offered: bool,
    discontinuity_sequence: u64,
    newest: Msn,
    /// Where each track's newest segment began.
    opened: BTreeMap<TrackName, (Ticks, InitId)>,
}

impl Current {
    fn new(id: BroadcastId, epoch: Epoch, newest: Msn, discontinuity_sequence: u64) -> Self {
        Self {
            id,
            epoch,
            handover: None,
            broadcast: None,
            offered: false,
            discontinuity_sequence,
            newest,
            opened: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The grace window is over: the broadcast ends.
    End,
    /// The ended playlist was shown for one window: the channel is forgotten.
    Forget,
}

impl Actor {
    pub(super) fn new(
        channel: ChannelName,
        shared: Arc<Shared>,
        incoming: mpsc::Receiver<Publish>,
    ) -> Self {
        Self {
            channel,
            shared,
            incoming,
            air: None,
            current: None,
            due: None,
            outputs: Vec::new(),
        }
    }

    #[tracing::instrument(name = "channel", skip_all, fields(channel = %self.channel))]
    pub(super) async fn run(mut self) {
        let shutdown = self.shared.shutdown.clone();
        let _guard = shutdown.guard();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The publish that this task was made for is in the queue already.
        let mut newcomer = self.incoming.recv().await;
        loop {
            if let Some(publish) = newcomer.take() {
                self.begin(publish).await;
            } else if self.air.is_none() && self.due.is_none() {
                // From here on the registry makes a new task; what it has
                // already handed to this one is still served.
                self.incoming.close();
                match self.incoming.try_recv() {
                    Ok(publish) => newcomer = Some(publish),
                    Err(_) => return,
                }
                continue;
            }
            tokio::select! {
                next = self.incoming.recv() => newcomer = next,
                event = next_event(&mut self.air) => self.event(event).await,
                _ = tick.tick(), if self.air.is_some() => self.tick().await,
                due = until(self.due) => self.fall_due(due),
                () = shutdown.draining() => {
                    self.take_off("the origin restarts; publish again in a moment").await;
                    return;
                }
            }
        }
    }

    /// A publisher was authorised: an older one makes way, and the broadcast
    /// goes on where it can.
    async fn begin(&mut self, publish: Publish) {
        self.take_off("another publisher took over this channel")
            .await;
        let peer = publish.peer;
        let start = self.start();
        let going_on = matches!(start, Start::Continue { .. });
        let packager = Packager::new(self.shared.config.packager(), start);
        let epoch = packager.epoch();
        info!(%peer, %epoch, going_on, "publisher is on air");
        self.no_longer_due();
        self.air = Some(OnAir {
            publish,
            demuxer: Demuxer::new(),
            packager,
            dropped_samples: 0,
        });
        self.shared.metrics.live.inc();
        self.announce();
    }

    /// Continues what this task or an earlier process carried, if its grace
    /// window is still open; else begins a broadcast.
    fn start(&mut self) -> Start {
        let epoch = self.next_epoch();
        if let Some(current) = &mut self.current
            && let Some(broadcast) = current.handover.take()
        {
            current.epoch = epoch;
            self.shared.metrics.continued.inc();
            return Start::Continue { epoch, broadcast };
        }
        let bookmark = self.shared.journal.lock().get(&self.channel).cloned();
        if let Some(mark) = bookmark.filter(|mark| self.current.is_none() && self.is_fresh(mark)) {
            let broadcast = mark.continuation(unix_now());
            self.shared.metrics.continued.inc();
            let tracks = mark
                .tracks
                .iter()
                .map(|known| known.track.clone())
                .collect();
            let restored = Broadcast::new(self.channel.clone(), mark.broadcast, mark.plan, tracks);
            self.current = Some(Current {
                broadcast: Some(Arc::new(restored)),
                ..Current::new(mark.broadcast, epoch, mark.msn, mark.discontinuity_sequence)
            });
            return Start::Continue { epoch, broadcast };
        }
        Start::Fresh(self.fresh(epoch))
    }

    /// Whether a killed origin's broadcast may still go on: its last segment
    /// opened no longer ago than a segment and the grace window take.
    fn is_fresh(&self, mark: &Bookmark) -> bool {
        let age_ms = unix_now().0.saturating_sub(mark.at.0);
        let segment_ms = u64::from(mark.plan.target_duration_ms());
        let grace_ms = self.shared.config.grace.saturating_mul(1_000);
        !mark.ended && !mark.tracks.is_empty() && age_ms <= grace_ms + segment_ms
    }

    /// Greater than any epoch of this channel that was ever used here.
    fn next_epoch(&self) -> Epoch {
        let last = self.current.as_ref().map(|current| current.epoch);
        let journalled = self
            .shared
            .journal
            .lock()
            .get(&self.channel)
            .map(|mark| mark.epoch);
        let floor = last.max(journalled).map_or(0, |epoch| epoch.0 + 1);
        Epoch(floor.max(unix_now().0))
    }

    /// A new broadcast: its numbers jump forward, never back.
    fn fresh(&mut self, epoch: Epoch) -> Fresh {
        let (msn, sequence) = self.high_water();
        let floor = unix_now().0 / 1_000;
        let fresh = Fresh {
            epoch,
            first_msn: Msn(floor.max(msn.map_or(0, |msn| msn.0 + 2))),
            discontinuity_sequence: floor.max(sequence.map_or(0, |sequence| sequence + 2)),
        };
        self.retire();
        let id = BroadcastId(epoch.0);
        let sequence = fresh.discontinuity_sequence;
        self.current = Some(Current::new(id, epoch, fresh.first_msn, sequence));
        self.shared.metrics.started.inc();
        fresh
    }

    /// The highest numbers that this channel ever used.
    fn high_water(&self) -> (Option<Msn>, Option<u64>) {
        let journal = self.shared.journal.lock();
        let mark = journal.get(&self.channel);
        let here = self
            .current
            .as_ref()
            .map(|c| (c.newest, c.discontinuity_sequence));
        (
            mark.map(|mark| mark.msn).max(here.map(|(msn, _)| msn)),
            mark.map(|mark| mark.discontinuity_sequence)
                .max(here.map(|(_, sequence)| sequence)),
        )
    }

    async fn event(&mut self, event: Option<PublishEvent>) {
        let Some(air) = &mut self.air else { return };
        let inputs = match event {
            Some(PublishEvent::Metadata(properties)) => {
                let numbers = properties
                    .iter()
                    .filter_map(|(name, value)| Some((name.as_str(), value.as_number()?)));
                Ok(vec![air.demuxer.metadata(declared(numbers))])
            }
            Some(PublishEvent::Media {
                kind: MediaKind::Audio,
                timestamp_ms,
                payload,
                ..
            }) => air.demuxer.audio(timestamp_ms, payload),
            Some(PublishEvent::Media {
                kind: MediaKind::Video,
                timestamp_ms,
                payload,
                ..
            }) => air.demuxer.video(timestamp_ms, payload),
            Some(PublishEvent::Media { .. }) => return,
            Some(PublishEvent::Ended(reason)) => return self.gone(&reason.to_string()).await,
            None => return self.gone("the connection vanished").await,
        };
        match inputs {
            Ok(inputs) => {
                let now = unix_now();
                for input in inputs {
                    air.packager.push(input, now, &mut self.outputs);
                }
                self.apply().await;
            }
            Err(error) => self.turn_away("media", &error.to_string()).await,
        }
    }

    async fn tick(&mut self) {
        if let Some(air) = &mut self.air {
            air.packager.tick(unix_now(), &mut self.outputs);
            self.apply().await;
        }
    }

    /// Applies what the packager decided, in its order.
    async fn apply(&mut self) {
        for output in std::mem::take(&mut self.outputs) {
            let result = match output {
                Output::Plan { plan, tracks } => {
                    self.planned(Broadcast::new(
                        self.channel.clone(),
                        self.id(),
                        plan,
                        tracks,
                    ));
                    Ok(())
                }
                Output::Init { track, id, bytes } => {
                    self.track(track).map(|track| track.add_init(id, bytes))
                }
                Output::Record { track, record } => self.record(track, record).await,
                Output::Complete { track, .. } => self.complete(track),
                Output::Ready => {
                    self.offer();
                    Ok(())
                }
                Output::NewBroadcast(why) => {
                    info!(%why, "the broadcast ends and the next one begins");
                    self.succeed();
                    Ok(())
                }
                Output::Refused(why) => {
                    self.turn_away("plan", &why.to_string()).await;
                    return;
                }
            };
            if let Err(error) = result {
                // A bug of ours; nobody else's broadcast is to suffer for it.
                error!(%error, "the packager's records don't follow");
                Box::pin(self.turn_away("internal", "internal error")).await;
                return;
            }
        }
        if let Some(air) = &mut self.air {
            let dropped = air.packager.counts().dropped_samples;
            self.shared
                .metrics
                .dropped_samples
                .inc_by(dropped - air.dropped_samples);
            air.dropped_samples = dropped;
        }
    }

    fn id(&self) -> BroadcastId {
        self.current
            .as_ref()
            .map_or(BroadcastId(0), |current| current.id)
    }

    fn track(&self, name: TrackName) -> Result<Arc<TrackWindow>, ApplyError> {
        let broadcast = self
            .current
            .as_ref()
            .and_then(|current| current.broadcast.as_ref());
        let track = broadcast.and_then(|broadcast| broadcast.track(name));
        track.cloned().ok_or(ApplyError::NoTrack(name))
    }

    async fn record(&mut self, name: TrackName, record: Record) -> Result<(), ApplyError> {
        let track = self.track(name)?;
        match &record {
            Record::Open(head) => self.remember(name, head).await,
            Record::Chunk(chunk) => self
                .shared
                .metrics
                .media_bytes
                .inc_by(chunk.data.len() as u64),
            Record::Part(_) => self.shared.metrics.parts.inc(),
            Record::End(_) => {}
        }
        Ok(track.window.apply(record)?)
    }

    fn complete(&self, name: TrackName) -> Result<(), ApplyError> {
        self.track(name)?.window.complete()?;
        self.shared.metrics.segments.inc();
        Ok(())
    }

    /// The journal knows a segment's number before any edge can.
    async fn remember(&mut self, name: TrackName, head: &SegmentHead) {
        let Some(current) = &mut self.current else {
            return;
        };
        current.discontinuity_sequence = head.discontinuity_sequence;
        current.opened.insert(name, (head.dts, head.init));
        if head.msn > current.newest || current.opened.len() == 1 {
            current.newest = head.msn;
            let page = self.page(false);
            self.write(page).await;
        }
    }

    /// The bookmark of the current broadcast, noted; what is to be written of it.
    fn page(&self, ended: bool) -> Option<Page> {
        let current = self.current.as_ref()?;
        let broadcast = current.broadcast.as_ref()?;
        let bookmark = Bookmark {
            broadcast: current.id,
            epoch: current.epoch,
            msn: current.newest,
            discontinuity_sequence: current.discontinuity_sequence,
            at: unix_now(),
            ended,
            plan: broadcast.plan,
            tracks: broadcast
                .tracks
                .iter()
                .map(|known| {
                    let opened = current.opened.get(&known.track.name);
                    let (dts, init) = opened.copied().unwrap_or((Ticks(0), InitId(0)));
                    TrackBookmark {
                        track: known.track.clone(),
                        dts,
                        init,
                    }
                })
                .collect(),
        };
        self.shared.journal.lock().set(&self.channel, bookmark)
    }

    async fn write(&self, page: Option<Page>) {
        let Some(page) = page else { return };
        let written = tokio::task::spawn_blocking(move || page.write()).await;
        if let Ok(Err(error)) = written {
            self.shared.metrics.journal_errors.inc();
            warn!(%error, "the journal can't be written; a restart now would begin a new broadcast");
        }
    }

    fn planned(&mut self, broadcast: Broadcast) {
        let plan = broadcast.plan;
        info!(
            broadcast = %broadcast.id,
            target_duration_s = plan.target_duration_s,
            part_hold_back_ms = plan.part_hold_back_ms,
            tracks = ?broadcast.tracks.iter().map(|known| &known.track.codec).collect::<Vec<_>>(),
            "the plan is frozen"
        );
        if let Some(current) = &mut self.current {
            current.broadcast = Some(Arc::new(broadcast));
        }
    }

    /// Announces the publish. An ended broadcast stays on show until the next
    /// one can be.
    fn announce(&self) {
        let Some(current) = &self.current else { return };
        let announcement = self.announcement(current, false);
        let shown = self
            .shared
            .directory
            .get(&self.channel)
            .map(|known| known.stage);
        match shown {
            Some(Stage::Ready(_)) if !current.offered => {}
            Some(Stage::Ready(broadcast)) => {
                broadcast.set_state(BroadcastState::Live);
                self.shared
                    .directory
                    .update(&self.channel, |known| known.announcement = announcement);
            }
            _ => self.shared.directory.put(Channel {
                announcement,
                stage: Stage::Starting,
            }),
        }
    }

    /// PART-HOLD-BACK of media exists: playlists are offered from now on (H2).
    fn offer(&mut self) {
        let Some(current) = &mut self.current else {
            return;
        };
        if current.offered {
            return;
        }
        let Some(broadcast) = current.broadcast.clone() else {
            return;
        };
        current.offered = true;
        let Some(current) = &self.current else { return };
        let announcement = self.announcement(current, false);
        self.shared.directory.put(Channel {
            announcement,
            stage: Stage::Ready(broadcast),
        });
    }

    fn announcement(&self, current: &Current, lost: bool) -> Announcement {
        Announcement {
            channel: self.channel.clone(),
            broadcast: current.id,
            epoch: current.epoch,
            lost,
            hops: vec![self.shared.node.clone()],
            cost: 0,
        }
    }

    /// The publisher goes on in a new broadcast (an outgrown GOP, a new track).
    fn succeed(&mut self) {
        let epoch = self.next_epoch();
        let fresh = self.fresh(epoch);
        if let Some(mut air) = self.air.take() {
            air.packager = air.packager.succeed(fresh);
            air.dropped_samples = air.packager.counts().dropped_samples;
            self.air = Some(air);
        }
        self.announce();
    }

    /// The publisher went away by itself.
    async fn gone(&mut self, reason: &str) {
        info!(reason, "publisher is gone");
        self.take_off(reason).await;
    }

    async fn turn_away(&mut self, label: &str, reason: &str) {
        warn!(reason, "publisher is turned away");
        self.shared
            .metrics
            .refused
            .with_label_values(&[label])
            .inc();
        self.take_off(reason).await;
    }

    /// No publisher any more: what is open is completed short, and the grace
    /// window begins.
    async fn take_off(&mut self, reason: &str) {
        let Some(mut air) = self.air.take() else {
            return;
        };
        self.shared.metrics.live.dec();
        air.publish.close.close(reason);
        air.packager.finish(&mut self.outputs);
        let handover = air.packager.handover();
        drop(air);
        Box::pin(self.apply()).await;
        let Some(current) = &mut self.current else {
            return;
        };
        current.handover = handover;
        match &current.broadcast {
            Some(broadcast) if current.offered => {
                broadcast.set_state(BroadcastState::Lost);
                self.shared
                    .directory
                    .update(&self.channel, |known| known.announcement.lost = true);
                self.shared.metrics.lost.inc();
                self.due = Some((Instant::now() + self.shared.config.grace(), Due::End));
            }
            // Nobody ever saw it: there is nothing to come back to.
            _ => self.forget(),
        }
    }

    fn no_longer_due(&mut self) {
        if matches!(self.due.take(), Some((_, Due::End))) {
            self.shared.metrics.lost.dec();
        }
    }

    fn fall_due(&mut self, due: Due) {
        self.no_longer_due();
        match due {
            Due::End => {
                let window_ms = self.retire();
                info!("the broadcast has ended");
                let window = Duration::from_millis(window_ms.into());
                self.due = Some((Instant::now() + window, Due::Forget));
            }
            Due::Forget => self.forget(),
        }
    }

    /// Ends the current broadcast for its viewers: ENDLIST, which stays on show.
    /// Tells how long.
    fn retire(&mut self) -> u32 {
        let page = self.page(true);
        let Some(current) = &mut self.current else {
            return 0;
        };
        current.handover = None;
        let Some(broadcast) = &current.broadcast else {
            return 0;
        };
        if broadcast.state() == BroadcastState::Ended {
            return 0;
        }
        for known in &broadcast.tracks {
            known.window.end();
        }
        broadcast.set_state(BroadcastState::Ended);
        self.shared.metrics.ended.inc();
        if let Some(page) = page {
            // Nothing waits for it: an unwritten end is an age that is too old.
            tokio::task::spawn_blocking(move || page.write());
        }
        let window_ms = broadcast.plan.window_ms;
        self.shared.directory.update(&self.channel, |_| {});
        window_ms
    }

    fn forget(&mut self) {
        self.no_longer_due();
        self.current = None;
        if let Some(shown) = self.shared.directory.get(&self.channel) {
            self.shared
                .directory
                .remove(&self.channel, shown.announcement.broadcast);
        }
    }
}

/// A bug between packager and window, in words.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("there is no track {0}")]
    NoTrack(TrackName),
    #[error(transparent)]
    Log(#[from] LogError),
}

async fn next_event(air: &mut Option<OnAir>) -> Option<PublishEvent> {
    match air {
        Some(air) => air.publish.events.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<(Instant, Due)>) -> Due {
    match due {
        Some((at, due)) => {
            sleep_until(at).await;
            due
        }
        None => std::future::pending().await,
    }
}
