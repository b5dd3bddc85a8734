//! The task of one channel: publisher in, broadcast out.
//!
//! It begins with a publish and ends when nothing of the channel is left to
//! show. In between it feeds demux and packager, applies what they decide to
//! the broadcast's windows, and carries the broadcast over the publisher's
//! absence. A newcomer with the same key takes over at once: a half-open
//! connection must not keep its own publisher out (design: Broadcast, epoch,
//! republish).

mod apply;

use std::{sync::Arc, time::Duration};

use common::names::{BroadcastId, ChannelName, Epoch, Msn};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

use super::{
    Over, Shared, current::Current, health::Vitals, journal::Bookmark, metrics::Counted,
    rivals::Rivals, scribe::Scribe, shown::Shown,
};
use crate::{
    demux::Demuxer,
    packager::{Fresh, Output, Packager, Start},
    rtmp::{Publish, PublishEvent},
    webhook::Occasion,
};

/// How often the packager looks whether something is overdue: a silent track,
/// the deadline of the track set. Every sample has it look too, so this is for
/// when none comes, and seldom enough to cost an idle origin nothing.
const TICK: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Actor {
    channel: ChannelName,
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Publish>,
    ends: mpsc::Receiver<Over>,
    air: Option<OnAir>,
    current: Option<Current>,
    shown: Shown,
    /// While the publisher of a known broadcast is away.
    grace: Option<Grace>,
    rivals: Rivals,
    scribe: Scribe,
    outputs: Vec<Output>,
}

/// A publisher and what reads it.
#[derive(Debug)]
struct OnAir {
    publish: Publish,
    demuxer: Demuxer,
    packager: Packager,
    dropped_samples: u64,
    vitals: Vitals,
    waiting: Counted,
    /// When it last sent something.
    heard: Instant,
    _counted: Counted,
}

/// The broadcast ends then if no publisher comes.
#[derive(Debug)]
struct Grace {
    until: Instant,
    _counted: Counted,
}

/// Why a publisher is turned away: a metric's label, and words for it.
struct TurnedAway {
    label: &'static str,
    words: String,
}

impl Actor {
    pub(super) fn new(
        channel: ChannelName,
        shared: Arc<Shared>,
        incoming: mpsc::Receiver<Publish>,
        ends: mpsc::Receiver<Over>,
    ) -> Self {
        let shown = Shown::new(
            channel.clone(),
            shared.node.clone(),
            shared.directory.clone(),
            shared.config.grace(),
        );
        Self {
            channel,
            shared,
            incoming,
            ends,
            air: None,
            current: None,
            shown,
            grace: None,
            rivals: Rivals::default(),
            scribe: Scribe::default(),
            outputs: Vec::new(),
        }
    }

    /// Returns the queue, in which another publish may have arrived meanwhile.
    #[tracing::instrument(name = "channel", skip_all, fields(channel = %self.channel))]
    pub(super) async fn run(mut self) -> mpsc::Receiver<Publish> {
        let shutdown = self.shared.shutdown.clone();
        let _guard = shutdown.guard();
        let _counted = Counted::one(&self.shared.metrics.channels);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The publish that this task was made for is in the queue already.
        let mut newcomer = self.incoming.try_recv().ok();
        loop {
            if let Some(publish) = newcomer.take() {
                self.begin(publish).await;
            }
            let due = self.due();
            if self.air.is_none() && due.is_none() {
                break;
            }
            tokio::select! {
                Some(next) = self.incoming.recv() => newcomer = Some(next),
                Some(over) = self.ends.recv() => self.end_now(over).await,
                event = next_event(&mut self.air) => self.event(event).await,
                _ = tick.tick(), if self.air.is_some() => self.tick().await,
                () = until(due) => self.fall_due().await,
                () = shutdown.draining() => {
                    self.take_off("the origin restarts; publish again in a moment").await;
                    break;
                }
            }
        }
        self.scribe.settle(&self.shared.metrics).await;
        self.incoming
    }

    /// A publisher was authorised: an older one makes way, and the broadcast
    /// goes on where it can.
    async fn begin(&mut self, publish: Publish) {
        let peer = publish.peer;
        if let Some(air) = &self.air {
            let (on_air, now) = (air.publish.peer, Instant::now());
            if !self.rivals.may_take_over(peer, on_air, air.heard, now) {
                warn!(%peer, %on_air, "two publishers take this channel from each other; the one on air stays");
                self.count_refused("rivals");
                publish.close.close(
                    "another encoder with this stream key is on air; stop it and try again in a minute",
                );
                return;
            }
        }
        self.take_off("another publisher took over this channel")
            .await;
        let start = self.start().await;
        let going_on = matches!(start, Start::Continue { .. });
        let packager = Packager::new(self.shared.config.packager(), start);
        let epoch = packager.epoch();
        info!(%peer, %epoch, going_on, "publisher is on air");
        self.grace = None;
        self.air = Some(OnAir {
            publish,
            demuxer: Demuxer::new(),
            packager,
            dropped_samples: 0,
            vitals: Vitals::new(Instant::now()),
            waiting: Counted::none(&self.shared.metrics.plan_waiting_bytes),
            heard: Instant::now(),
            _counted: Counted::one(&self.shared.metrics.live),
        });
        self.show();
    }

    /// Continues what this task or an earlier process carried, if its grace
    /// window is still open; else begins a broadcast.
    async fn start(&mut self) -> Start {
        let epoch = self.shared.next_epoch(&self.channel);
        if let Some(current) = &mut self.current
            && let Some(broadcast) = current.handover.take()
        {
            current.epoch = epoch;
            self.shared.metrics.continued.inc();
            return Start::Continue { epoch, broadcast };
        }
        let mark = self.shared.journal.lock().get(&self.channel).cloned();
        if let Some(mark) = mark.filter(|mark| self.current.is_none() && self.is_fresh(mark)) {
            let broadcast = mark.continuation((self.shared.clock)());
            self.current = Some(Current::restored(
                &self.channel,
                &mark,
                epoch,
                &self.shared.metrics,
            ));
            self.shared.metrics.continued.inc();
            return Start::Continue { epoch, broadcast };
        }
        Start::Fresh(self.fresh(epoch).await)
    }

    /// Whether a killed origin's broadcast may still go on: its last segment
    /// opened no longer ago than a segment and the grace window take. Nothing is
    /// known of its age by a clock that was set back further than that.
    fn is_fresh(&self, mark: &Bookmark) -> bool {
        let age_ms = (self.shared.clock)().0.abs_diff(mark.at.0);
        let segment_ms = u64::from(mark.plan.target_duration_ms());
        let grace_ms = self.shared.config.grace.saturating_mul(1_000);
        !mark.ended && !mark.tracks.is_empty() && age_ms <= grace_ms + segment_ms
    }

    /// A new broadcast: its numbers jump forward, never back. What was before
    /// it ends.
    async fn fresh(&mut self, epoch: Epoch) -> Fresh {
        let (msn, sequence) = self.high_water();
        let now_s = (self.shared.clock)().0 / 1_000;
        let after = |last: Option<u64>| last.map_or(0, |last| last.saturating_add(2));
        let fresh = Fresh {
            epoch,
            first_msn: Msn(now_s.max(after(msn.map(|msn| msn.0)))),
            discontinuity_sequence: discontinuity_floor(now_s).max(after(sequence)),
        };
        self.end().await;
        self.current = Some(Current::fresh(&fresh, &self.shared.metrics));
        self.shared.metrics.started.inc();
        fresh
    }

    /// The highest numbers that this channel ever used.
    fn high_water(&self) -> (Option<Msn>, Option<u64>) {
        let journal = self.shared.journal.lock();
        let mark = journal.get(&self.channel);
        let here = self.current.as_ref().map(Current::numbers);
        (
            mark.map(|mark| mark.msn).max(here.map(|here| here.0)),
            mark.map(|mark| mark.discontinuity_sequence)
                .max(here.map(|here| here.1)),
        )
    }

    /// Shows what a publisher on air begins or goes on with.
    fn show(&mut self) {
        let Some(current) = &self.current else { return };
        match &current.broadcast {
            Some(broadcast) if current.offered => self.shown.live(broadcast, current.epoch),
            _ => self.shown.starting(current.id, current.epoch),
        }
    }

    /// Notes where the broadcast stands, on disk too where there is a journal.
    async fn remember(&mut self, ended: bool) {
        let at = (self.shared.clock)();
        let bookmark = self.current.as_ref().and_then(|it| it.bookmark(at, ended));
        if let Some(mark) = bookmark {
            self.keep(mark).await;
        }
    }

    /// Where it stands is as of its last segment still.
    async fn remember_offered(&mut self) {
        let mark = self.shared.journal.lock().get(&self.channel).cloned();
        if let Some(mark) = mark {
            let offered = true;
            self.keep(Bookmark { offered, ..mark }).await;
        }
    }

    async fn keep(&mut self, mark: Bookmark) {
        let page = {
            let mut journal = self.shared.journal.lock();
            let page = journal.set(&self.channel, mark);
            let known = i64::try_from(journal.len()).unwrap_or(i64::MAX);
            self.shared.metrics.journal_channels.set(known);
            page
        };
        if let Some(page) = page {
            self.scribe.write(page, &self.shared.metrics).await;
        }
    }

    /// The publisher went away by itself.
    async fn gone(&mut self, reason: &str) {
        info!(reason, "publisher is gone");
        self.take_off(reason).await;
    }

    async fn turn_away(&mut self, why: TurnedAway) {
        warn!(reason = why.words, "publisher is turned away");
        self.count_refused(why.label);
        self.take_off(&why.words).await;
    }

    fn count_refused(&self, label: &str) {
        let refused = &self.shared.metrics.refused;
        refused.with_label_values(&[label]).inc();
    }

    /// An operator says that it is over.
    async fn end_now(&mut self, over: Over) {
        let known = self.air.is_some() || self.current.is_some();
        self.take_off("the operator has ended this broadcast").await;
        self.grace = None;
        self.end().await;
        // Who asked may be gone.
        let _ = over.send(known);
    }

    /// No publisher any more: what is open is completed short, and the grace
    /// window begins.
    async fn take_off(&mut self, reason: &str) {
        let Some(mut air) = self.air.take() else {
            return;
        };
        air.publish.close.close(reason);
        let abouts = &self.shared.abouts;
        abouts.update(&self.channel, |about| about.health = None);
        air.packager.finish(&mut self.outputs);
        let handover = air.packager.handover();
        drop(air);
        let sound = self.apply().await.is_ok();
        let Some(current) = &mut self.current else {
            return;
        };
        // What went wrong once is not gone on with.
        current.handover = handover.filter(|_| sound);
        if current.is_known() {
            self.shown.lost(current.broadcast.as_deref());
            self.grace = Some(Grace {
                until: Instant::now() + self.shared.config.grace(),
                _counted: Counted::one(&self.shared.metrics.lost),
            });
        } else {
            // Nobody ever saw it: there is nothing to come back to.
            self.end().await;
        }
    }

    fn due(&self) -> Option<Instant> {
        let grace = self.grace.as_ref().map(|grace| grace.until);
        [grace, self.shown.until()].into_iter().flatten().min()
    }

    async fn fall_due(&mut self) {
        let now = Instant::now();
        self.shown.expire(now);
        if self.grace.as_ref().is_some_and(|grace| grace.until <= now) {
            self.grace = None;
            self.end().await;
        }
    }

    /// Ends the broadcast for its viewers, if there is one: ENDLIST, which
    /// stays on show for a while.
    async fn end(&mut self) {
        self.remember(true).await;
        let Some(mut current) = self.current.take() else {
            return;
        };
        info!(broadcast = %current.id, "the broadcast has ended");
        if current.is_known() {
            self.tell_hooks(Occasion::End, current.id);
        }
        current.end(&self.shared.archive);
        match &current.broadcast {
            Some(broadcast) if current.offered => {
                self.shown.ended(broadcast, current.held, Instant::now());
            }
            _ => self.shown.withdraw(current.id),
        }
        self.shared.metrics.ended.inc();
    }

    fn tell_hooks(&self, occasion: Occasion, broadcast: BroadcastId) {
        let about = self.shared.abouts.get(&self.channel).unwrap_or_default();
        let at = (self.shared.clock)();
        let hooks = &self.shared.hooks;
        hooks.tell(occasion, &self.channel, broadcast, &about, at);
    }
}

/// Where a channel without a memory starts its DISCONTINUITY-SEQUENCE, so that
/// it hardly ever goes back: hours since 2026. Not Unix seconds, as for msns:
/// hls.js keeps arrays by this number and walks them, which at 10^9 hangs the
/// page for good.
const fn discontinuity_floor(unix_s: u64) -> u64 {
    const YEAR_2026_UNIX_S: u64 = 1_767_225_600;
    unix_s.saturating_sub(YEAR_2026_UNIX_S) / 3_600
}

async fn next_event(air: &mut Option<OnAir>) -> Option<PublishEvent> {
    match air {
        Some(air) => air.publish.events.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
