//! A broadcast under way: samples go into their lanes, one lane leads the cuts.
//!
//! The leader is the first track that is not silent, video before audio. Its
//! cuts are queued for the others, so a lane's msn and its queue together
//! always name the leader's msn: every track has every msn.

use common::{
    live::{Plan, Track, UnixMs},
    media::{Ticks, Timescale},
    names::{Epoch, Msn, TrackName},
};

use super::{
    Anchor, NewBroadcast, Output,
    clock::{ROUNDING, is_hole, snap, video_duration},
    lane::{Lane, MAX_CUTS},
    plan::{SEGMENT_MS, is_full},
    rate::MS,
};
use crate::{cmaf::ChunkSample, sample::Sample};

/// A track this far behind its siblings, and unheard for as long, is silent.
const SILENCE_MS: u64 = 1_000;
/// This far behind it is silent however fast its siblings arrive.
const FAR_BEHIND_MS: u64 = 4_000;
/// A hole longer than this ends a video track's run: it returns at a sync sample.
const LONG_HOLE_MS: u64 = 1_000;
/// Video heard this recently, in media time, makes its own next cut.
const ALIVE_MS: u64 = 300;
/// A jump of stamps beyond this is another clock: demux says so at 5 s, this
/// bounds what a hole may cost should it ever not.
pub(super) const MAX_JUMP_MS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Live {
    pub epoch: Epoch,
    pub plan: Plan,
    pub anchor: Anchor,
    /// Media time (video clock) less the publisher's.
    pub shift: i64,
    /// Video before audio.
    pub lanes: Vec<Lane>,
    /// As the plan froze them.
    pub tracks: Vec<Track>,
    pub longest_gop: u64,
    pub discontinuity_sequence: u64,
    pub newest_msn: Msn,
    pub ready: bool,
    pub dropped_samples: u64,
    pub gap_parts: u64,
}

impl Live {
    pub(super) fn leader(&self) -> usize {
        self.lanes.iter().position(|lane| !lane.silent).unwrap_or(0)
    }

    /// Whether a stamp is of another clock than those before it.
    pub(super) fn jumps(&self, dts_ms: u64) -> bool {
        let newest = self
            .lanes
            .iter()
            .map(|lane| lane.received)
            .max()
            .unwrap_or(0);
        let stamp = i64::try_from(dts_ms.saturating_mul(MS)).unwrap_or(i64::MAX);
        let ahead = stamp
            .saturating_add(self.shift)
            .saturating_sub(newest.cast_signed());
        ahead > (MAX_JUMP_MS * MS).cast_signed()
    }

    pub(super) fn has(&self, name: TrackName) -> bool {
        self.lanes.iter().any(|lane| lane.name == name)
    }

    pub(super) fn track(&self, lane: &Lane) -> Option<&Track> {
        self.tracks.iter().find(|track| track.name == lane.name)
    }

    pub(super) fn longest_gop_ms(&self) -> u64 {
        Timescale::VIDEO.to_ms(Ticks(self.longest_gop))
    }

    /// The encoder's word on its longest GOP counts as one seen.
    pub(super) fn saw_gop(&mut self, name: TrackName, frames: u32, max: u64) {
        if let Some(lane) = self.lanes.iter().find(|lane| lane.name == name) {
            let gop = (u64::from(frames) * lane.shape.frame).min(max);
            self.longest_gop = self.longest_gop.max(gop);
        }
    }

    fn target_duration(&self, lane: &Lane) -> u64 {
        lane.ms(self.plan.target_duration_ms().into())
    }

    /// Where a sample stands on the lane's clock; `None` before time began.
    fn place(&self, lane: &Lane, dts_ms: u64) -> Option<(u64, u64)> {
        let stamp = dts_ms.checked_mul(MS).and_then(|t| i64::try_from(t).ok())?;
        let shifted = stamp
            .checked_add(self.shift)?
            .checked_add(lane.composition)?;
        let media = u64::try_from(shifted).ok()?;
        Some((media, lane.on_own_clock(media)))
    }

    /// # Errors
    /// [`NewBroadcast::Outgrown`] when the open segment reaches TARGETDURATION
    /// without a sync sample.
    pub(super) fn push(
        &mut self,
        sample: Sample,
        now: UnixMs,
        out: &mut Vec<Output>,
    ) -> Result<(), NewBroadcast> {
        let Some(at) = self.lanes.iter().position(|lane| lane.name == sample.track) else {
            self.dropped_samples += 1;
            return Ok(());
        };
        let Some((media, target)) = self.place(&self.lanes[at], sample.dts_ms) else {
            self.dropped_samples += 1;
            return Ok(());
        };
        let lane = &mut self.lanes[at];
        lane.heard = now;
        lane.received = lane.received.max(media);
        let result = if lane.is_video() {
            self.video(at, &sample, target, out)
        } else {
            self.audio(at, &sample, target, out);
            Ok(())
        };
        if result.is_ok() {
            self.advance(now, out);
        }
        result
    }

    fn video(
        &mut self,
        at: usize,
        sample: &Sample,
        target: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), NewBroadcast> {
        let frame = self.lanes[at].shape.frame;
        if !self.lanes[at].silent {
            self.bridge_video(at, target, out);
        }
        if self.lanes[at].silent {
            let older = target + frame < self.lanes[at].end;
            if older || !sample.sync {
                self.dropped_samples += 1;
                return Ok(());
            }
            self.resume(at, target, out);
        } else if sample.sync {
            self.sync_sample(at, out);
        }
        let lane = &self.lanes[at];
        let error = difference(target, lane.end);
        // Where a part holds one frame only, what it can't take of the error is
        // left to the next.
        let mut duration = video_duration(frame, error).min(lane.shape.target);
        if lane.part.frames > 0 && lane.part.duration + duration > lane.shape.target {
            let room = lane.shape.target - lane.part.duration;
            // A part that is not full yet takes what fits (H4).
            if room >= frame || !is_full(lane.part.duration, lane.shape.target) {
                duration = room;
            } else {
                self.close_part(at, None, out);
            }
        }
        let lane = &self.lanes[at];
        if lane.length(lane.end + duration) > self.target_duration(lane) {
            let length = lane.length(lane.end);
            self.dropped_samples += 1;
            return Err(NewBroadcast::Outgrown {
                gop_ms: lane.timescale.to_ms(Ticks(length)),
            });
        }
        let offset = snap(sample.composition_offset_ms, frame) - lane.composition;
        // Where the decode time strays, the presentation time need not.
        let stray = if error.abs() > ROUNDING { error } else { 0 };
        let chunk = ChunkSample {
            duration: u32::try_from(duration).unwrap_or(u32::MAX),
            sync: sample.sync,
            composition_offset: clamp_i32(offset + stray),
            data: sample.data.clone(),
        };
        self.append_chunk(at, &[chunk], out);
        Ok(())
    }

    /// Fills a hole before the sample, or finds the lane silent across it.
    fn bridge_video(&mut self, at: usize, target: u64, out: &mut Vec<Output>) {
        let lane = &self.lanes[at];
        let error = difference(target, lane.end);
        let frame = lane.shape.frame;
        if error < -lane.ms(LONG_HOLE_MS).cast_signed() {
            self.silence(at, out);
        } else if is_hole(error, frame, ROUNDING) {
            let too_long = lane.length(target) + frame > self.target_duration(lane);
            if too_long || error.unsigned_abs() > lane.ms(LONG_HOLE_MS) {
                self.silence(at, out);
            } else {
                self.fill(at, target, out);
            }
        }
    }

    /// The rule of the cut (design: Packaging, TARGETDURATION).
    fn sync_sample(&mut self, at: usize, out: &mut Vec<Output>) {
        let lane = &self.lanes[at];
        let (end, frame) = (lane.end, lane.shape.frame);
        if let Some(last) = lane.last_sync {
            self.longest_gop = self.longest_gop.max(end.saturating_sub(last));
        }
        let lane = &self.lanes[at];
        let length = lane.length(end);
        if length > 0 && lane.passes_cut(end) {
            self.follow_cut(at, out);
        } else if length > 0 && lane.cuts.is_empty() {
            // Of several video tracks whoever comes first makes the cut.
            let long_enough = length + frame / 2 >= lane.ms(SEGMENT_MS);
            let last_chance = length + self.longest_gop > self.target_duration(lane);
            if long_enough || last_chance {
                self.lead_cut(at, out);
            }
        }
        self.lanes[at].last_sync = Some(end);
    }

    /// A video track returns with a sync sample, which begins a segment.
    fn resume(&mut self, at: usize, target: u64, out: &mut Vec<Output>) {
        let frame = self.lanes[at].shape.frame;
        self.bridge(at, target, target.saturating_sub(frame / 2), out);
        if self.lanes[at].segment.is_some() {
            if self.lanes[at].cuts.is_empty() {
                self.lead_cut(at, out);
            } else {
                self.follow_cut(at, out);
            }
        }
        self.lanes[at].silent = false;
        self.lanes[at].last_sync = Some(self.lanes[at].end);
    }

    /// Makes every cut up to `to`, holes between them.
    fn fill_through_cuts(&mut self, at: usize, to: u64, out: &mut Vec<Output>) {
        while let Some(cut) = self.lanes[at].cuts.front().copied() {
            let lane = &self.lanes[at];
            let mut boundary = lane.on_own_clock(cut.at);
            if boundary > to {
                return;
            }
            if lane.segment.is_none() {
                // No segment is empty, however near two cuts lie.
                boundary = boundary.max(lane.end + lane.shape.frame);
            }
            self.fill(at, boundary, out);
            self.follow_cut(at, out);
        }
    }

    /// Fills up to `to`, making the cuts up to `cuts_to` on the way. Less than
    /// half a frame is no hole: durations absorb it.
    fn bridge(&mut self, at: usize, to: u64, cuts_to: u64, out: &mut Vec<Output>) {
        self.fill_through_cuts(at, cuts_to, out);
        self.fill_alone(at, to, out);
        if to > self.lanes[at].end + self.lanes[at].shape.frame / 2 {
            self.fill(at, to, out);
        }
    }

    /// A hole in which nobody cut: at every 2 s past TARGETDURATION this lane
    /// does, so that no segment outgrows it.
    fn fill_alone(&mut self, at: usize, to: u64, out: &mut Vec<Output>) {
        while self.lanes[at].cuts.is_empty() {
            let lane = &self.lanes[at];
            let start = lane.segment.map_or(lane.end, |segment| segment.start);
            if to.saturating_sub(start) <= self.target_duration(lane) {
                return;
            }
            let boundary = (start + lane.ms(SEGMENT_MS)).max(lane.end);
            self.fill(at, boundary, out);
            self.lead_cut(at, out);
        }
    }

    fn audio(&mut self, at: usize, sample: &Sample, target: u64, out: &mut Vec<Output>) {
        let frame = self.lanes[at].shape.frame;
        if !self.settle_audio(at, target, out) {
            self.dropped_samples += 1;
            return;
        }
        // Without a sync sample of video in time the segment would outgrow
        // TARGETDURATION: video is silent and this track leads.
        let lane = &self.lanes[at];
        let too_long = lane.length(lane.at() + frame) > self.target_duration(lane);
        let here = lane.on_video_clock(lane.at());
        let behind = |other: &Lane| other.received + ALIVE_MS * MS < here;
        let alive = self
            .lanes
            .iter()
            .any(|other| other.is_video() && !behind(other));
        if too_long && lane.cuts.is_empty() && !alive {
            let behind: Vec<usize> = (0..at)
                .filter(|&other| !self.lanes[other].silent && self.lanes[other].is_video())
                .collect();
            for other in behind {
                self.silence(other, out);
            }
            self.flush(at, out);
            self.close_part(at, None, out);
            self.lead_cut(at, out);
        }
        self.lanes[at].pending.push(ChunkSample {
            duration: u32::try_from(frame).unwrap_or(u32::MAX),
            sync: true,
            composition_offset: 0,
            data: sample.data.clone(),
        });
        self.follow_audio(at, out);
        let lane = &self.lanes[at];
        let pending = u32::try_from(lane.pending.len()).unwrap_or(u32::MAX);
        let fills_part = lane.part.frames + pending >= lane.shape.frames;
        if pending >= lane.shape.chunk_frames || fills_part {
            self.flush(at, out);
            self.follow_audio(at, out);
            let lane = &self.lanes[at];
            let between_parts = lane.part.frames == 0 && lane.pending.is_empty();
            let leads = at == self.leader() && lane.cuts.is_empty();
            if between_parts && leads && lane.segment.is_some() && self.audio_leader_cuts(at) {
                self.lead_cut(at, out);
            }
        }
    }

    /// Brings an audio lane to where its sample stands; `false` when the
    /// sample has no place.
    fn settle_audio(&mut self, at: usize, target: u64, out: &mut Vec<Output>) -> bool {
        let lane = &mut self.lanes[at];
        let frame = lane.shape.frame;
        let rounding = lane.ms(2).cast_signed();
        let mut error = difference(target, lane.at());
        if !lane.started && lane.pending.is_empty() {
            // The first sample says where the grid lies.
            if error.abs() <= frame.cast_signed() && error + frame.cast_signed() / 2 >= 0 {
                lane.end = target.max(lane.end);
                error = 0;
            } else if error < 0 {
                return false;
            }
        }
        // The publisher's clock is behind the count of samples.
        if error < -(frame.cast_signed() + rounding) {
            return false;
        }
        if lane.silent {
            return self.resume_audio(at, target, out);
        }
        if is_hole(error, frame, rounding) {
            if error.unsigned_abs() > lane.ms(LONG_HOLE_MS) {
                self.silence(at, out);
                return self.resume_audio(at, target, out);
            }
            self.flush(at, out);
            self.bridge(at, target, target, out);
        }
        true
    }

    fn resume_audio(&mut self, at: usize, target: u64, out: &mut Vec<Output>) -> bool {
        let frame = self.lanes[at].shape.frame;
        self.fill_through_cuts(at, target + frame / 2, out);
        self.fill_alone(at, target, out);
        if self.lanes[at].segment.is_some_and(|segment| segment.gap) {
            if self.lanes.len() > 1 || self.lanes[at].end >= target {
                // Listed as EXT-X-GAP: media waits for the next segment.
                return false;
            }
            self.fill(at, target, out);
            self.lead_cut(at, out);
        }
        self.lanes[at].silent = false;
        if target > self.lanes[at].end + frame / 2 {
            self.fill(at, target, out);
        }
        true
    }

    /// Audio cuts at its first frame at or after the leader's cut.
    fn follow_audio(&mut self, at: usize, out: &mut Vec<Output>) {
        loop {
            let lane = &self.lanes[at];
            let Some(cut) = lane.cuts.front() else { return };
            let boundary = lane.on_own_clock(cut.at);
            let early = boundary.saturating_sub(lane.end + lane.shape.frame / 2);
            let frames = usize::try_from(early.div_ceil(lane.shape.frame)).unwrap_or(usize::MAX);
            let empty = lane.segment.is_none() && frames == 0;
            if frames > lane.pending.len() || empty {
                return;
            }
            let rest = self.lanes[at].pending.split_off(frames);
            self.flush(at, out);
            self.follow_cut(at, out);
            self.lanes[at].pending = rest;
        }
    }

    /// A lane falls silent: what it has is closed, GAP parts follow.
    fn silence(&mut self, at: usize, out: &mut Vec<Output>) {
        self.flush(at, out);
        self.close_part(at, None, out);
        self.lanes[at].silent = true;
    }

    /// Everything that follows from time having passed on other tracks.
    pub(super) fn advance(&mut self, now: UnixMs, out: &mut Vec<Output>) {
        if self.lanes.len() < 2 {
            return;
        }
        let newest = self
            .lanes
            .iter()
            .map(|lane| lane.received)
            .max()
            .unwrap_or(0);
        for at in 0..self.lanes.len() {
            if !self.lanes[at].is_video() && !self.lanes[at].cuts.is_empty() {
                self.follow_audio(at, out);
            }
            let lane = &self.lanes[at];
            let behind_ms = Timescale::VIDEO.to_ms(Ticks(newest - lane.received));
            let unheard_ms = now.0.saturating_sub(lane.heard.0);
            let late = behind_ms >= SILENCE_MS && unheard_ms >= SILENCE_MS;
            let lost = behind_ms >= FAR_BEHIND_MS || lane.cuts.len() >= MAX_CUTS;
            if !lane.silent && (late || lost) && behind_ms > 0 {
                self.silence(at, out);
            }
            if self.lanes[at].silent {
                self.fill_silent(at, newest, out);
            }
        }
    }

    fn fill_silent(&mut self, at: usize, newest: u64, out: &mut Vec<Output>) {
        let to = self.lanes[at].on_own_clock(newest);
        self.fill_through_cuts(at, to, out);
        self.fill_alone(at, to, out);
        let lane = &self.lanes[at];
        let whole = to.saturating_sub(lane.end) / lane.shape.target;
        let filled = lane.end + whole * lane.shape.target;
        self.fill(at, filled, out);
    }

    /// Completes what is open, short where it must be. Afterwards every track
    /// has every msn up to the newest, and all of them are complete.
    pub(super) fn finish(&mut self, out: &mut Vec<Output>) {
        for at in 0..self.lanes.len() {
            self.flush(at, out);
            if !self.lanes[at].is_video() {
                self.follow_audio(at, out);
            }
        }
        let ends = self.lanes.iter().map(|lane| lane.on_video_clock(lane.end));
        let end = ends.max().unwrap_or(0);
        // Filling may cut, which concerns the lanes before it: two rounds.
        for at in 0..self.lanes.len() {
            self.fill_through_cuts_for_finish(at, self.newest_msn, out);
            let lane = &self.lanes[at];
            let own_end = lane.on_own_clock(end);
            if own_end.saturating_sub(lane.end) > lane.shape.target {
                self.lanes[at].silent |= self.lanes[at].segment.is_none();
                self.fill_alone(at, own_end, out);
                self.fill(at, own_end, out);
            }
        }
        for at in 0..self.lanes.len() {
            self.fill_through_cuts_for_finish(at, self.newest_msn, out);
            let lane = &mut self.lanes[at];
            if lane.segment.is_none() && lane.msn <= self.newest_msn {
                lane.silent = true;
                let least = lane.end + lane.shape.frame;
                let to = lane.on_own_clock(end).max(least);
                self.fill(at, to, out);
            }
            let next = self.lanes[at].msn.next();
            self.complete(at, next, out);
        }
    }

    fn fill_through_cuts_for_finish(&mut self, at: usize, newest: Msn, out: &mut Vec<Output>) {
        while let Some(cut) = self.lanes[at].cuts.front().copied() {
            if cut.msn > newest {
                return;
            }
            let lane = &mut self.lanes[at];
            let boundary = lane.on_own_clock(cut.at);
            let least = lane.end + lane.shape.frame;
            if lane.segment.is_none() {
                lane.silent = true;
                self.fill(at, boundary.max(least), out);
            } else if boundary > least {
                self.fill(at, boundary, out);
            }
            self.follow_cut(at, out);
        }
    }
}

const fn difference(target: u64, at: u64) -> i64 {
    target.cast_signed().wrapping_sub(at.cast_signed())
}

fn clamp_i32(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}
