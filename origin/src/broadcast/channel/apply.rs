//! What a channel's task does with one event: demux, package, and apply what
//! comes of it to the broadcast's windows, in its order.

use std::sync::Arc;

use common::{
    live::{Broadcast, Plan, Record, Track},
    names::TrackName,
    rtmp::MediaKind,
};
use tokio::time::Instant;
use tracing::{error, info};

use super::{Actor, TurnedAway};
use crate::{
    broadcast::current::{ApplyError, Current},
    demux::{DemuxError, Demuxer, declared},
    packager::Output,
    rtmp::PublishEvent,
    sample::Input,
    webhook::Occasion,
};

impl Actor {
    pub(super) async fn event(&mut self, event: Option<PublishEvent>) {
        let Some(air) = &mut self.air else { return };
        air.heard = Instant::now();
        let came = match &event {
            Some(PublishEvent::Media { received, .. }) => *received,
            _ => air.heard,
        };
        let inputs = match event {
            Some(PublishEvent::Ended(reason)) => return self.gone(&reason.to_string()).await,
            None => return self.gone("the connection vanished").await,
            Some(event) => demuxed(&mut air.demuxer, event),
        };
        match inputs {
            Ok(inputs) => {
                let now = (self.shared.clock)();
                for input in inputs {
                    match &input {
                        Input::Sample(sample) => air.vitals.saw(sample, came),
                        Input::Discontinuity => air.vitals.jumped(),
                        _ => {}
                    }
                    air.packager.push(input, now, &mut self.outputs);
                }
                self.follow().await;
            }
            Err(error) => {
                let (label, words) = ("media", error.to_string());
                self.turn_away(TurnedAway { label, words }).await;
            }
        }
    }

    pub(super) async fn tick(&mut self) {
        if let Some(air) = &mut self.air {
            let now = (self.shared.clock)();
            air.packager.tick(now, &mut self.outputs);
            self.follow().await;
        }
    }

    /// Applies what the packager decided; the publisher goes where it must.
    async fn follow(&mut self) {
        if let Err(why) = self.apply().await {
            self.turn_away(why).await;
        }
        let max_bytes = self.shared.config.max_window_bytes;
        let held = self.current.as_ref().map_or(0, |it| it.held.get());
        if held > max_bytes && self.air.is_some() {
            self.turn_away(TurnedAway {
                label: "bytes",
                words: format!(
                    "the listed media is over {max_bytes} bytes (--max-window-bytes): lower the bit rate"
                ),
            })
            .await;
            // What returned to it would be as much too large.
            self.grace = None;
            self.end().await;
        }
        if let Some(air) = &mut self.air {
            air.waiting.set(air.packager.waiting_bytes() as u64);
            let dropped = air.packager.counts().dropped_samples;
            let since = dropped.saturating_sub(air.dropped_samples);
            self.shared.metrics.dropped_samples.inc_by(since);
            air.dropped_samples = dropped;
            if let Some(health) = air.vitals.due(dropped, Instant::now()) {
                let abouts = &self.shared.abouts;
                abouts.update(&self.channel, |about| about.health = Some(health));
            }
        }
    }

    /// Applies what the packager decided, in its order.
    pub(super) async fn apply(&mut self) -> Result<(), TurnedAway> {
        for output in std::mem::take(&mut self.outputs) {
            let applied = match output {
                Output::Plan { plan, tracks } => self.planned(plan, tracks),
                Output::Init { track, id, bytes } => self
                    .current()
                    .and_then(|current| current.track(track))
                    .map(|track| track.add_init(id, bytes)),
                Output::Record { track, record } => self.record(track, record).await,
                Output::Complete { track, .. } => self.complete(track),
                Output::Ready => self.offer().await,
                Output::NewBroadcast(why) => {
                    info!(%why, "the broadcast ends and the next one begins");
                    self.succeed().await;
                    Ok(())
                }
                Output::Refused(why) => {
                    return Err(TurnedAway {
                        label: "plan",
                        words: why.to_string(),
                    });
                }
            };
            if let Err(error) = applied {
                // A bug of ours; nobody else's broadcast is to suffer for it.
                error!(%error, "the packager's records don't follow");
                return Err(TurnedAway {
                    label: "internal",
                    words: "internal error".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn current(&self) -> Result<&Current, ApplyError> {
        self.current.as_ref().ok_or(ApplyError::NoBroadcast)
    }

    fn planned(&mut self, plan: Plan, tracks: Vec<Track>) -> Result<(), ApplyError> {
        let current = self.current.as_mut().ok_or(ApplyError::NoBroadcast)?;
        let broadcast = Broadcast::new(self.channel.clone(), current.id, plan, tracks);
        info!(
            broadcast = %broadcast.id,
            target_duration_s = plan.target_duration_s,
            part_hold_back_ms = plan.part_hold_back_ms,
            tracks = ?broadcast.tracks.iter().map(|known| &known.track.codec).collect::<Vec<_>>(),
            "the plan is frozen"
        );
        current.broadcast = Some(Arc::new(broadcast));
        Ok(())
    }

    /// The journal knows a segment's number before any edge can.
    async fn record(&mut self, name: TrackName, record: Record) -> Result<(), ApplyError> {
        if let Record::Open(head) = &record
            && let Some(current) = &mut self.current
            && current.open(name, head)
        {
            self.remember(false).await;
        }
        let metrics = &self.shared.metrics;
        let current = self.current.as_mut().ok_or(ApplyError::NoBroadcast)?;
        current.record(name, record, metrics)?;
        // Edges have listed media of it already, and whose viewers wait for more;
        // one that has none waits for a hold-back by itself (H2).
        if current.restored {
            self.offer().await?;
        }
        Ok(())
    }

    fn complete(&mut self, name: TrackName) -> Result<(), ApplyError> {
        let current = self.current.as_mut().ok_or(ApplyError::NoBroadcast)?;
        current.complete(name, &self.shared.archive)?;
        self.shared.metrics.segments.inc();
        Ok(())
    }

    /// PART-HOLD-BACK of media exists: playlists are offered from now on (H2).
    async fn offer(&mut self) -> Result<(), ApplyError> {
        let current = self.current.as_mut().ok_or(ApplyError::NoBroadcast)?;
        let Some(broadcast) = current.broadcast.clone().filter(|_| !current.offered) else {
            return Ok(());
        };
        let (id, epoch, told) = (current.id, current.epoch, current.restored);
        current.offered = true;
        // Its beginning is told by the process that offers it first; twice, under one
        // id, if that one is killed between the two, and never not at all.
        if !told {
            self.tell_hooks(Occasion::Start, id);
            self.remember_offered().await;
        }
        self.shown.live(&broadcast, epoch);
        Ok(())
    }

    /// The publisher goes on in a new broadcast (an outgrown GOP, a new track).
    async fn succeed(&mut self) {
        let epoch = self.shared.next_epoch(&self.channel);
        let fresh = self.fresh(epoch).await;
        if let Some(mut air) = self.air.take() {
            air.packager = air.packager.succeed(fresh);
            self.air = Some(air);
        }
        self.show();
    }
}

/// Samples and what describes them, from one event of the publisher.
fn demuxed(demuxer: &mut Demuxer, event: PublishEvent) -> Result<Vec<Input>, DemuxError> {
    match event {
        PublishEvent::Metadata(properties) => {
            let numbers = properties
                .iter()
                .filter_map(|(name, value)| Some((name.as_str(), value.as_number()?)));
            Ok(vec![demuxer.metadata(declared(numbers))])
        }
        PublishEvent::Media {
            kind: MediaKind::Audio,
            timestamp_ms,
            payload,
            ..
        } => demuxer.audio(timestamp_ms, payload),
        PublishEvent::Media {
            kind: MediaKind::Video,
            timestamp_ms,
            payload,
            ..
        } => demuxer.video(timestamp_ms, payload),
        PublishEvent::Media { .. } | PublishEvent::Ended(_) => Ok(Vec::new()),
    }
}
