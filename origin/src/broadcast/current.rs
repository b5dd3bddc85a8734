//! The broadcast of the current or the last publish of a channel: its numbers,
//! its windows, and where the journal says that it stands.
//!
//! In: what the packager decides. Out: records in the broadcast's windows, and
//! bookmarks for the journal. Owned by the channel's task.

use std::{collections::BTreeMap, sync::Arc};

use common::{
    live::{Archive, Broadcast, Log, LogError, Plan, Record, SegmentHead, TrackWindow, UnixMs},
    media::Ticks,
    names::{BroadcastId, ChannelName, Epoch, InitId, Msn, TrackName},
};

use super::{
    BroadcastMetrics,
    dvr::archive_past,
    journal::{Bookmark, TrackBookmark},
    metrics::Counted,
};
use crate::packager::{Continuation, Fresh};

/// A bug between packager and window, in words.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error("there is no broadcast")]
    NoBroadcast,
    #[error("there is no track {0}")]
    NoTrack(TrackName),
    #[error(transparent)]
    Log(#[from] LogError),
}

#[derive(Debug)]
pub(super) struct Current {
    pub(super) id: BroadcastId,
    pub(super) epoch: Epoch,
    /// Where it goes on; `None` while a publisher is on air, before a plan and
    /// after the end.
    pub(super) handover: Option<Continuation>,
    /// `None` before the plan.
    pub(super) broadcast: Option<Arc<Broadcast>>,
    /// The directory offers it.
    pub(super) offered: bool,
    /// An earlier process offered it: edges may hold on to it.
    pub(super) restored: bool,
    /// Bytes of media in the windows, those of the open segments included.
    pub(super) held: Counted,
    discontinuity_sequence: u64,
    newest: Msn,
    /// Where each track's newest segment began.
    opened: BTreeMap<TrackName, (Ticks, InitId)>,
    /// Programme time of the first track's newest segment.
    program_time: Option<UnixMs>,
}

impl Current {
    pub(super) fn fresh(fresh: &Fresh, metrics: &BroadcastMetrics) -> Self {
        Self {
            id: BroadcastId(fresh.epoch.0),
            epoch: fresh.epoch,
            handover: None,
            broadcast: None,
            offered: false,
            restored: false,
            held: Counted::none(&metrics.window_bytes),
            discontinuity_sequence: fresh.discontinuity_sequence,
            newest: fresh.first_msn,
            opened: BTreeMap::new(),
            program_time: None,
        }
    }

    /// What an earlier process left, its windows empty.
    pub(super) fn restored(
        channel: &ChannelName,
        mark: &Bookmark,
        epoch: Epoch,
        metrics: &BroadcastMetrics,
    ) -> Self {
        let tracks = mark.tracks.iter().map(|known| known.track.clone());
        let broadcast =
            Broadcast::new(channel.clone(), mark.broadcast, mark.plan, tracks.collect());
        let opened = |known: &TrackBookmark| (known.track.name, (known.dts, known.init));
        Self {
            id: mark.broadcast,
            epoch,
            handover: None,
            broadcast: Some(Arc::new(broadcast)),
            offered: false,
            restored: mark.offered,
            held: Counted::none(&metrics.window_bytes),
            discontinuity_sequence: mark.discontinuity_sequence,
            newest: mark.msn,
            opened: mark.tracks.iter().map(opened).collect(),
            program_time: Some(mark.program_time),
        }
    }

    /// Whether an edge may show it.
    pub(super) const fn is_known(&self) -> bool {
        self.offered || self.restored
    }

    pub(super) const fn numbers(&self) -> (Msn, u64) {
        (self.newest, self.discontinuity_sequence)
    }

    /// `None` before it is frozen.
    pub(super) fn plan(&self) -> Option<Plan> {
        self.broadcast.as_ref().map(|broadcast| broadcast.plan)
    }

    pub(super) fn track(&self, name: TrackName) -> Result<&Arc<TrackWindow>, ApplyError> {
        let broadcast = self.broadcast.as_ref();
        let track = broadcast.and_then(|broadcast| broadcast.track(name));
        track.ok_or(ApplyError::NoTrack(name))
    }

    pub(super) fn record(
        &mut self,
        name: TrackName,
        record: Record,
        metrics: &BroadcastMetrics,
    ) -> Result<(), ApplyError> {
        match &record {
            Record::Chunk(chunk) => {
                let len_bytes = chunk.data.len() as u64;
                metrics.media_bytes.inc_by(len_bytes);
                self.held.set(self.held.get() + len_bytes);
            }
            Record::Part(_) => metrics.parts.inc(),
            Record::Open(_) | Record::End(_) => {}
        }
        Ok(self.track(name)?.window.apply(record)?)
    }

    /// A segment is complete, and its window lets go of what is too old: to the
    /// archive what is still listed.
    pub(super) fn complete(
        &mut self,
        name: TrackName,
        archive: &Archive,
    ) -> Result<(), ApplyError> {
        let track = self.track(name)?;
        track.window.complete()?;
        if let Some(plan) = self.plan().filter(Plan::has_past) {
            archive_past(archive, track, plan.recent_ms());
        }
        self.count_held();
        Ok(())
    }

    fn count_held(&mut self) {
        let tracks = self.broadcast.iter().flat_map(|it| &it.tracks);
        let held = tracks.map(|known| known.window.look(Log::held_bytes)).sum();
        self.held.set(held);
    }

    /// A segment opens. Tells whether the journal has to hear of it first: a
    /// number that no track used before, or an init segment that this one
    /// didn't.
    pub(super) fn open(&mut self, name: TrackName, head: &SegmentHead) -> bool {
        self.discontinuity_sequence = self.discontinuity_sequence.max(head.discontinuity_sequence);
        let before = self.opened.insert(name, (head.dts, head.init));
        let news = head.msn > self.newest || before.is_none_or(|(_, init)| init != head.init);
        self.newest = self.newest.max(head.msn);
        let leader = self.broadcast.as_ref().and_then(|it| it.tracks.first());
        if leader.is_some_and(|leader| leader.track.name == name) {
            self.program_time = Some(head.program_time);
        }
        news
    }

    /// Where it stands; `None` before the plan.
    pub(super) fn bookmark(&self, at: UnixMs, ended: bool) -> Option<Bookmark> {
        let broadcast = self.broadcast.as_ref()?;
        let mark = |known: &Arc<TrackWindow>| {
            let opened = self.opened.get(&known.track.name).copied();
            let (dts, init) = opened.unwrap_or((Ticks(0), InitId(0)));
            TrackBookmark {
                track: known.track.clone(),
                dts,
                init,
            }
        };
        Some(Bookmark {
            broadcast: self.id,
            epoch: self.epoch,
            msn: self.newest,
            discontinuity_sequence: self.discontinuity_sequence,
            at,
            program_time: self.program_time.unwrap_or(at),
            ended,
            offered: self.is_known(),
            plan: broadcast.plan,
            tracks: broadcast.tracks.iter().map(mark).collect(),
        })
    }

    /// Nothing follows. Where it stays on show for long, all of it counts against
    /// the budgets of the past from now on.
    pub(super) fn end(&mut self, archive: &Archive) {
        self.handover = None;
        let past = self.plan().is_some_and(|plan| plan.has_past());
        for known in self.broadcast.iter().flat_map(|it| &it.tracks) {
            // Open only after a bug of ours: what is cut off is not listed.
            known.window.abort();
            known.window.end();
            if past {
                archive_past(archive, known, 0);
            }
        }
        self.count_held();
    }
}
