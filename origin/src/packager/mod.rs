//! The packager: samples in, the records of a broadcast's logs out.
//!
//! In: [`Input`]s in the publisher's order, each with the wall clock of its
//! arrival. Out: [`Output`]s, to be applied in their order: the frozen plan
//! (once, for a fresh broadcast), init segments, records, readiness, and the
//! reasons why this broadcast cannot go on. Pure: no clock, no task; one owner
//! per publish calls it. The invariants, per track: tfdt chains exactly over
//! samples and GAP parts (C3), every track has every msn, parts keep to
//! PART-TARGET (H4), and nothing that the plan froze ever moves.
//!
//! Life: `gather` buffers until the plan can be frozen (or, continuing a
//! broadcast, until the publish proves to fit); `live` packages; a changed
//! configuration or a rebased clock finishes the run and gathers again within
//! the same epoch; an outgrown plan ends it, see [`Packager::succeed`].
//! draft-pantos-hls-rfc8216bis-22 section 6.2 and appendix B.

mod bandwidth;
mod clock;
mod gather;
mod known;
mod lane;
mod live;
mod parts;
mod plan;
mod rate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{
    live::{Plan, Position, Record, Track, UnixMs},
    media::{Ticks, Timescale},
    names::{Epoch, InitId, Msn, TrackName},
};

use self::{
    gather::{Gather, Ready},
    known::Known,
    live::Live,
};
use crate::sample::{Input, Sample};

/// The operator's limits.
#[derive(Debug, Clone, Copy)]
pub struct PackagerConfig {
    /// The longest GOP that is accepted (`--max-gop`).
    pub max_gop_ms: u32,
    /// The listed window in target durations; 8 by default, so that delta
    /// updates have something to skip.
    pub window_target_durations: u32,
    /// A longer window, for viewers who go back (`--dvr`); 0 for none.
    pub dvr_window_ms: u32,
    /// What may wait for the plan. 64 MiB are 12 s of 44 Mbit/s.
    pub buffer_budget_bytes: usize,
}

impl Default for PackagerConfig {
    fn default() -> Self {
        Self {
            max_gop_ms: 12_000,
            window_target_durations: 8,
            dvr_window_ms: 0,
            buffer_budget_bytes: 64 << 20,
        }
    }
}

/// One point that relates media time to the wall clock, per epoch (H11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// On the video clock, common to all tracks.
    pub media: Ticks,
    pub at: UnixMs,
}

impl Anchor {
    /// `media`: ticks of the video clock.
    #[must_use]
    pub fn program_time(&self, media: u64) -> UnixMs {
        let ms = |ticks| Timescale::VIDEO.to_ms(Ticks(ticks));
        // Rounded as one difference, so that equal media times give equal
        // programme times in every rendition.
        match media.checked_sub(self.media.0) {
            Some(after) => UnixMs(self.at.0.saturating_add(ms(after))),
            None => UnixMs(self.at.0.saturating_sub(ms(self.media.0 - media))),
        }
    }
}

/// A broadcast's first epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    pub epoch: Epoch,
    pub first_msn: Msn,
    /// Of the first segment.
    pub discontinuity_sequence: u64,
}

/// One track of a broadcast that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContinuedTrack {
    pub track: Track,
    /// Where its media time ended, on its own clock.
    pub next_dts: Ticks,
    /// The lowest init segment number that was never used.
    pub next_init: InitId,
    /// The newest init segment, where it is still known: the same bytes keep
    /// their number.
    pub init: Option<(InitId, Bytes)>,
    /// Its newest part, which siblings report until it has another (H13).
    pub position: Option<Position>,
}

/// A broadcast as its next epoch takes it over: what [`Packager::handover`]
/// gave, or what a restarted origin reads from its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    pub plan: Plan,
    pub tracks: Vec<ContinuedTrack>,
    pub next_msn: Msn,
    /// Of the last segment; the next one's is greater by one.
    pub discontinuity_sequence: u64,
    pub anchor: Anchor,
}

/// How a publish begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    Fresh(Fresh),
    Continue {
        epoch: Epoch,
        broadcast: Continuation,
    },
}

/// Why this broadcast ends although its publisher goes on. The owner ends it
/// and begins the next with [`Packager::succeed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewBroadcast {
    #[error("a GOP of {gop_ms} ms outgrew TARGETDURATION")]
    Outgrown { gop_ms: u64 },
    #[error("track {track} appeared after the tracks were fixed")]
    NewTrack { track: TrackName },
    #[error("track {track} no longer fits the broadcast's plan")]
    Incompatible { track: TrackName },
    #[error("the publish has other tracks than the broadcast")]
    OtherTracks,
}

/// Why the publisher is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "no keyframe within {max_gop_ms} ms: set Keyframe Interval to 2 s (in OBS: Settings, Output, Streaming, \"Keyframe Interval\")"
    )]
    GopTooLong { max_gop_ms: u32 },
    #[error(
        "the buffer of {budget_bytes} bytes is full before the second keyframe: lower the bit rate or, in OBS, the \"Keyframe Interval\""
    )]
    BufferFull { budget_bytes: usize },
}

/// What the packager decides, in the order in which it is to be applied.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A fresh broadcast's frozen plan, before anything else of it.
    Plan { plan: Plan, tracks: Vec<Track> },
    /// Before the first segment that names it.
    Init {
        track: TrackName,
        id: InitId,
        bytes: Bytes,
    },
    /// `Open`, `Chunk` or `Part`; a completion is [`Output::Complete`].
    Record { track: TrackName, record: Record },
    /// The open segment of the track is complete. Its sums are the window's
    /// own (`Window::complete`): nothing is summed twice.
    Complete { track: TrackName, msn: Msn },
    /// PART-HOLD-BACK of media exists in every track of this run. Comes again
    /// after each discontinuity.
    Ready,
    /// Every open segment has been completed; nothing of this broadcast
    /// follows. Inputs are kept for the successor, within the buffer's bounds.
    NewBroadcast(NewBroadcast),
    /// As [`Output::NewBroadcast`], and the publisher must go.
    Refused(Refusal),
}

/// What happened, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Samples without a place: older than a listed GAP, before the first
    /// sync sample, of no track.
    pub dropped_samples: u64,
    pub gap_parts: u64,
}

#[derive(Debug)]
enum Phase {
    Gathering(Box<Gather>),
    Live(Box<Live>),
    /// Ended by [`Output::NewBroadcast`]; the inputs for its successor.
    Over(Vec<(Sample, UnixMs)>),
    /// Refused or finished.
    Done,
}

/// See the module's text.
#[derive(Debug)]
pub struct Packager {
    config: PackagerConfig,
    known: Known,
    epoch: Epoch,
    phase: Phase,
    /// The broadcast as it stands between runs; `None` before the first.
    between: Option<Continuation>,
    inits: BTreeMap<TrackName, (InitId, Bytes)>,
    counts: Counts,
}

impl Packager {
    #[must_use]
    pub fn new(config: PackagerConfig, start: Start) -> Self {
        let (epoch, between) = match &start {
            Start::Fresh(fresh) => (fresh.epoch, None),
            Start::Continue { epoch, broadcast } => (*epoch, Some(broadcast.clone())),
        };
        Self {
            config,
            known: Known::default(),
            epoch,
            phase: Phase::Gathering(Box::new(Gather::new(start))),
            between,
            inits: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// The packager of the broadcast that follows an [`Output::NewBroadcast`]:
    /// it knows what this one learnt, takes its plan at its first sync sample
    /// where the GOP is known, and has this one's unused inputs.
    #[must_use]
    pub fn succeed(mut self, fresh: Fresh) -> Self {
        let mut gather = Gather::new(Start::Fresh(fresh));
        if let Phase::Over(samples) = std::mem::replace(&mut self.phase, Phase::Done) {
            for (sample, now) in samples {
                gather.add(sample, now);
            }
        }
        Self {
            epoch: fresh.epoch,
            phase: Phase::Gathering(Box::new(gather)),
            between: None,
            inits: BTreeMap::new(),
            ..self
        }
    }

    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Bytes of samples that wait for the plan; the budget bounds them.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        match &self.phase {
            Phase::Gathering(gather) => gather.bytes(),
            Phase::Over(kept) => kept.iter().map(|(sample, _)| sample.data.len()).sum(),
            Phase::Live(_) | Phase::Done => 0,
        }
    }

    /// Takes one input; what follows from it is appended to `out`.
    pub fn push(&mut self, input: Input, now: UnixMs, out: &mut Vec<Output>) {
        match input {
            Input::Declared(declared) => self.known.declared = declared,
            Input::Keyint { track, frames } => self.keyint(track, frames),
            Input::Config { track, config } => {
                let changed = self.known.configure(track, config);
                if changed {
                    self.reconfigured(track, out);
                }
            }
            Input::Discontinuity => self.restart(out),
            Input::Sample(sample) => {
                if let Phase::Live(live) = &self.phase
                    && live.jumps(sample.dts_ms)
                {
                    self.restart(out);
                }
                self.sample(sample, now, out);
            }
        }
    }

    /// Lets time pass: call it a few times a second.
    pub fn tick(&mut self, now: UnixMs, out: &mut Vec<Output>) {
        match &mut self.phase {
            Phase::Gathering(_) => self.try_start(now, out),
            Phase::Live(live) => {
                live.advance(now, out);
                self.count();
            }
            Phase::Over(_) | Phase::Done => {}
        }
    }

    /// The publisher is gone: open segments are completed, short. Afterwards
    /// [`Packager::handover`] says where the broadcast stands.
    pub fn finish(&mut self, out: &mut Vec<Output>) {
        self.end_run(out);
        self.phase = Phase::Done;
    }

    /// Where the broadcast stands after [`Packager::finish`]; `None` when it
    /// never had a plan.
    #[must_use]
    pub fn handover(&self) -> Option<Continuation> {
        match &self.phase {
            Phase::Live(live) => Some(self.continuation(live)),
            _ => self.between.clone(),
        }
    }

    fn sample(&mut self, sample: Sample, now: UnixMs, out: &mut Vec<Output>) {
        let configured = self.known.is_configured(sample.track);
        match &mut self.phase {
            Phase::Gathering(gather) if configured => {
                gather.add(sample, now);
                self.try_start(now, out);
            }
            Phase::Live(live) if live.has(sample.track) => {
                let result = live.push(sample, now, out);
                self.count();
                if let Err(why) = result {
                    self.outgrown(why, out);
                }
            }
            Phase::Live(_) if configured => {
                let track = sample.track;
                self.end_run(out);
                self.phase = Phase::Over(vec![(sample, now)]);
                out.push(Output::NewBroadcast(NewBroadcast::NewTrack { track }));
            }
            Phase::Over(kept) if configured => {
                // One sample of each track tells the successor that it lives;
                // more would only age.
                if kept.iter().all(|(one, _)| one.track != sample.track) {
                    kept.push((sample, now));
                }
            }
            _ => self.counts.dropped_samples += 1,
        }
    }

    fn keyint(&mut self, track: TrackName, frames: u32) {
        self.known.keyints.insert(track, frames);
        if let Phase::Live(live) = &mut self.phase {
            let max = u64::from(self.config.max_gop_ms) * rate::MS;
            live.saw_gop(track, frames, max);
        }
    }

    /// A configuration changed. Where it fits, the run ends and the next one
    /// begins with DISCONTINUITY; elsewhere the broadcast ends.
    fn reconfigured(&mut self, track: TrackName, out: &mut Vec<Output>) {
        let Phase::Live(live) = &self.phase else {
            return;
        };
        if !live.has(track) {
            return;
        }
        self.known.rates.remove(&track);
        let broadcast = self.continuation(live);
        if self.known.misfit(&broadcast).is_none() {
            self.restart(out);
        } else {
            self.end_run(out);
            self.known.gop_ms = None;
            self.phase = Phase::Over(Vec::new());
            out.push(Output::NewBroadcast(NewBroadcast::Incompatible { track }));
        }
    }

    /// Ends this run; the next one continues the broadcast in the same epoch.
    fn restart(&mut self, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        self.end_run(out);
        if let Some(broadcast) = self.between.clone() {
            self.phase = Phase::Gathering(Box::new(Gather::new(Start::Continue {
                epoch: self.epoch,
                broadcast,
            })));
        }
    }

    fn outgrown(&mut self, why: NewBroadcast, out: &mut Vec<Output>) {
        let NewBroadcast::Outgrown { gop_ms: observed } = why else {
            return;
        };
        self.end_run(out);
        let max_gop_ms = self.config.max_gop_ms;
        if observed >= u64::from(max_gop_ms) {
            self.phase = Phase::Done;
            out.push(Output::Refused(Refusal::GopTooLong { max_gop_ms }));
            return;
        }
        let gop_ms = (observed * 2).min(max_gop_ms.into());
        self.known.gop_ms = Some(gop_ms);
        self.phase = Phase::Over(Vec::new());
        out.push(Output::NewBroadcast(NewBroadcast::Outgrown { gop_ms }));
    }

    /// Completes everything open and remembers where the broadcast stands.
    fn end_run(&mut self, out: &mut Vec<Output>) {
        if let Phase::Live(live) = &mut self.phase {
            live.finish(out);
            self.count();
        }
        if let Phase::Live(live) = &self.phase {
            self.known.gop_ms = Some(live.longest_gop_ms());
            self.between = Some(self.continuation(live));
            self.phase = Phase::Done;
        }
    }

    fn continuation(&self, live: &Live) -> Continuation {
        let continued = |lane: &lane::Lane| {
            let track = live.track(lane)?.clone();
            let init = self.inits.get(&lane.name).cloned();
            Some(ContinuedTrack {
                track,
                next_dts: Ticks(lane.end),
                next_init: InitId(lane.init.0.saturating_add(1)),
                init,
                position: lane.position,
            })
        };
        Continuation {
            plan: live.plan,
            tracks: live.lanes.iter().filter_map(continued).collect(),
            next_msn: live.newest_msn.next(),
            discontinuity_sequence: live.discontinuity_sequence,
            anchor: live.anchor,
        }
    }

    fn try_start(&mut self, now: UnixMs, out: &mut Vec<Output>) {
        let Phase::Gathering(gather) = &mut self.phase else {
            return;
        };
        match gather.ready(&mut self.known, &self.config, now) {
            Ready::NotYet => {}
            Ready::Refused(why) => {
                self.phase = Phase::Done;
                out.push(Output::Refused(why));
            }
            Ready::Mismatch(why) => {
                let samples = gather.take();
                self.phase = Phase::Over(samples);
                out.push(Output::NewBroadcast(why));
            }
            Ready::Start(begun) => {
                let samples = gather.take();
                if begun.fresh {
                    let (plan, tracks) = (begun.live.plan, begun.live.tracks.clone());
                    out.push(Output::Plan { plan, tracks });
                }
                for (track, id, bytes, new) in begun.inits {
                    if new {
                        let bytes = bytes.clone();
                        out.push(Output::Init { track, id, bytes });
                    }
                    self.inits.insert(track, (id, bytes));
                }
                self.counts.dropped_samples += begun.dropped;
                self.phase = Phase::Live(begun.live);
                for (sample, heard) in samples {
                    self.sample(sample, heard, out);
                }
            }
        }
    }

    fn count(&mut self) {
        if let Phase::Live(live) = &mut self.phase {
            self.counts.dropped_samples += std::mem::take(&mut live.dropped_samples);
            self.counts.gap_parts += std::mem::take(&mut live.gap_parts);
        }
    }
}
