//! Before the first segment: samples wait until the tracks are fixed and the
//! plan can be frozen, or, continuing a broadcast, until they prove to fit.
//!
//! Bounded by bytes, by samples and by the longest GOP that is accepted.

use std::collections::BTreeSet;

use bytes::Bytes;
use common::{
    live::{Track, UnixMs},
    media::{Ticks, Timescale},
    names::{InitId, Kind, TrackName},
};

use super::{
    Anchor, Continuation, Fresh, NewBroadcast, PackagerConfig, Refusal, Start,
    bandwidth::Bandwidth,
    clock::snap,
    known::Known,
    lane::{Lane, Length},
    live::{Live, MAX_JUMP_MS},
    plan::{self, PartShape, SEGMENT_MS},
    rate::{MS, Rate},
};
use crate::sample::{Declared, Sample};

/// The tracks are fixed this long after the first sample, at the latest.
const TRACKS_FIXED_MS: u64 = 2_000;
/// Deltas from which a continued publish learns its rate: a fifth of a second
/// once per republish, and no claim of a bitstream is believed unchecked.
const LEARN_DELTAS: usize = 6;
/// Composition offsets beyond this say nothing of when a frame was captured:
/// 16 B-frames at 15 fps stay below it.
const MAX_COMPOSITION_MS: i64 = 2_000;
/// What a sample counts for at least: its place here, and that each new one has
/// all of them looked over. 64 MiB are 16,384 samples: a minute of a ladder.
const LEAST_SAMPLE_BYTES: usize = 4 << 10;

/// What gathering came to.
pub(super) enum Ready {
    NotYet,
    Start(Begun),
    Mismatch(NewBroadcast),
    Refused(Refusal),
}

/// A run about to take its samples.
pub(super) struct Begun {
    pub fresh: bool,
    pub live: Box<Live>,
    /// With whether it is new in the broadcast.
    pub inits: Vec<(TrackName, InitId, Bytes, bool)>,
    pub dropped: u64,
}

#[derive(Debug)]
pub(super) struct Gather {
    start: Start,
    samples: Vec<(Sample, UnixMs)>,
    /// The tracks of `samples`.
    heard: BTreeSet<TrackName>,
    bytes: usize,
    first: Option<(u64, UnixMs)>,
    /// The wall clock of the publisher's time 0: the smallest (arrival less
    /// presentation) heard. Frames arrive after they were captured, in bursts
    /// or ahead of their turn, never before, so this keeps programme time from
    /// running ahead of arrival (H11).
    zero_ms: Option<i64>,
    newest_ms: u64,
}

/// Where the leading track begins, as the publisher timed it.
struct Origin {
    dts_ms: u64,
    /// Added to every tfdt of the leader: its first composition offset.
    composition: i64,
}

impl Gather {
    pub(super) fn new(start: Start) -> Self {
        Self {
            start,
            samples: Vec::new(),
            heard: BTreeSet::new(),
            bytes: 0,
            first: None,
            zero_ms: None,
            newest_ms: 0,
        }
    }

    pub(super) fn add(&mut self, sample: Sample, now: UnixMs) {
        if sample.dts_ms > self.newest_ms.saturating_add(MAX_JUMP_MS) {
            // Another clock: what came before it is of no use.
            self.samples.clear();
            self.heard.clear();
            self.bytes = 0;
            self.first = None;
            self.zero_ms = None;
        }
        self.first.get_or_insert((sample.dts_ms, now));
        let composition = i64::from(sample.composition_offset_ms).clamp(0, MAX_COMPOSITION_MS);
        let zero = signed(now.0)
            .saturating_sub(signed(sample.dts_ms))
            .saturating_sub(composition);
        self.zero_ms = Some(self.zero_ms.map_or(zero, |least| least.min(zero)));
        self.newest_ms = self.newest_ms.max(sample.dts_ms);
        self.bytes += sample.data.len().max(LEAST_SAMPLE_BYTES);
        self.heard.insert(sample.track);
        self.samples.push((sample, now));
    }

    /// What waits, as the budget counts it.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn take(&mut self) -> Vec<(Sample, UnixMs)> {
        std::mem::take(&mut self.samples)
    }

    pub(super) fn ready(
        &mut self,
        known: &mut Known,
        config: &PackagerConfig,
        now: UnixMs,
    ) -> Ready {
        let Some((first_ms, heard)) = self.first else {
            return Ready::NotYet;
        };
        if self.bytes > config.buffer_budget_bytes {
            let budget_bytes = config.buffer_budget_bytes;
            return Ready::Refused(Refusal::BufferFull { budget_bytes });
        }
        let overdue = now.0.saturating_sub(heard.0) >= TRACKS_FIXED_MS
            || self.newest_ms.saturating_sub(first_ms) >= TRACKS_FIXED_MS;
        match &self.start {
            Start::Fresh(fresh) => {
                let fresh = *fresh;
                if !overdue && !self.all_named(known) {
                    return Ready::NotYet;
                }
                self.freeze(fresh, known, config)
            }
            Start::Continue { broadcast, .. } => {
                let broadcast = broadcast.clone();
                self.resume(&broadcast, known, config, overdue)
            }
        }
    }

    /// The wall clock of what is presented at `media_ms` of the publisher's time.
    fn captured(&self, media_ms: u64) -> UnixMs {
        let at = self.zero_ms.unwrap_or(0).saturating_add(signed(media_ms));
        UnixMs(at.max(0).unsigned_abs())
    }

    fn heard(&self) -> Vec<TrackName> {
        self.heard.iter().copied().collect()
    }

    /// Whether every track that metadata or a predecessor names is here.
    fn all_named(&self, known: &Known) -> bool {
        let heard = self.heard();
        let has = |kind| heard.iter().any(|name| name.kind == kind);
        let Declared {
            has_video,
            has_audio,
            ..
        } = known.declared;
        let named = match (has_video, has_audio) {
            (Some(video), Some(audio)) => {
                (!video || has(Kind::Video)) && (!audio || has(Kind::Audio))
            }
            _ => known.gop_ms.is_some(),
        };
        named && known.configs.keys().all(|name| heard.contains(name))
    }

    fn times_of(&self, track: TrackName) -> impl Iterator<Item = &Sample> {
        self.samples
            .iter()
            .map(|(one, _)| one)
            .filter(move |one| one.track == track)
    }

    fn learn(&self, track: TrackName, known: &Known) -> Option<Rate> {
        let stamps: Vec<u64> = self.times_of(track).map(|one| one.dts_ms).collect();
        let learnt = (stamps.len() > LEARN_DELTAS)
            .then(|| Rate::learn(&stamps, &known.claims(track)))
            .flatten();
        learnt.or_else(|| known.rates.get(&track).copied())
    }

    /// A fresh broadcast: waits for a sync sample at or after 2 s.
    fn freeze(&mut self, fresh: Fresh, known: &mut Known, config: &PackagerConfig) -> Ready {
        let names = self.heard();
        let Some(&leader) = names.first() else {
            return Ready::NotYet;
        };
        let max_gop_ms = config.max_gop_ms;
        for name in names.iter().filter(|name| name.kind == Kind::Video) {
            let claimed = known.claims(*name).first().copied();
            let rate = self.learn(*name, known).or(claimed);
            known.rates.insert(*name, rate.unwrap_or(Rate::FALLBACK));
        }
        let Some(origin) = self.origin(leader, known) else {
            return self.waiting(max_gop_ms);
        };
        let (longest, first) = match self.longest_gop(leader, &origin, known, max_gop_ms) {
            Some(found) => found,
            None => return self.waiting_since(origin.dts_ms, max_gop_ms),
        };
        let tracks = self.tracks(&names, known);
        let target_duration_s = plan::target_duration_s(longest);
        let plan = plan::plan(target_duration_s, config, &tracks);
        let mut inits = Vec::new();
        let mut lanes = Vec::new();
        for track in &tracks {
            let Some(codec) = known.configs.get(&track.name) else {
                continue;
            };
            inits.push((track.name, InitId(0), codec.init.clone(), true));
            let shape = self.shape(track.name, known, &names);
            let mut lane = Lane::new(track, shape, InitId(0), 0, fresh.first_msn);
            // Nothing of this broadcast comes before it. A player that comes from
            // another origin's, whose end nobody could write, learns of the break.
            lane.discontinuity = true;
            lanes.push(lane);
        }
        let live = Live {
            epoch: fresh.epoch,
            plan,
            anchor: Anchor {
                media: Ticks(origin.dts_ms.saturating_mul(MS)),
                at: self.captured(origin.dts_ms),
            },
            shift: 0,
            lanes,
            tracks,
            longest_gop: longest,
            discontinuity_sequence: fresh.discontinuity_sequence,
            newest_msn: fresh.first_msn,
            ready: false,
            dropped_samples: 0,
            gap_parts: 0,
        };
        self.begin(live, &origin, first, inits, true)
    }

    /// A broadcast that goes on: waits until the publish proves to fit it.
    fn resume(
        &mut self,
        broadcast: &Continuation,
        known: &mut Known,
        config: &PackagerConfig,
        overdue: bool,
    ) -> Ready {
        let mut names: Vec<_> = broadcast.tracks.iter().map(|one| one.track.name).collect();
        names.sort_unstable();
        let heard = self.heard();
        let stranger = heard.iter().any(|name| !names.contains(name));
        let complete = names.iter().all(|name| known.is_configured(*name));
        let Some(&leader) = names.first() else {
            return Ready::Mismatch(NewBroadcast::OtherTracks);
        };
        let leads = heard.contains(&leader);
        if stranger || (overdue && !(complete && leads)) {
            return Ready::Mismatch(NewBroadcast::OtherTracks);
        }
        if !(complete && leads) {
            return Ready::NotYet;
        }
        if let Some(track) = known.misfit(broadcast) {
            return Ready::Mismatch(NewBroadcast::Incompatible { track });
        }
        let mut lanes = Vec::new();
        let mut inits = Vec::new();
        for continued in &broadcast.tracks {
            let track = &continued.track;
            let Some(codec) = known.configs.get(&track.name).cloned() else {
                return Ready::NotYet;
            };
            let frame = match track.kind() {
                Kind::Audio => plan::audio_frame(&codec),
                Kind::Video => match self.learn(track.name, known) {
                    Some(rate) => {
                        known.rates.insert(track.name, rate);
                        rate.frame
                    }
                    // A second video track may begin late; the leader may not.
                    None if track.name == leader => return self.waiting(config.max_gop_ms),
                    None => (track.part_target.0 / 11).max(1),
                },
            };
            let Some(shape) = PartShape::fitting(frame, track) else {
                let track = track.name;
                return Ready::Mismatch(NewBroadcast::Incompatible { track });
            };
            let (id, new) = match &continued.init {
                Some((id, bytes)) if *bytes == codec.init => (*id, false),
                _ => (continued.next_init, true),
            };
            inits.push((track.name, id, codec.init.clone(), new));
            let mut lane = Lane::new(track, shape, id, continued.next_dts.0, broadcast.next_msn);
            lane.discontinuity = true;
            lane.position = continued.position;
            lanes.push(lane);
        }
        let Some(origin) = self.origin(leader, known) else {
            return self.waiting(config.max_gop_ms);
        };
        let live = self.continued(broadcast, &origin, lanes);
        self.begin(live, &origin, None, inits, false)
    }

    fn continued(&self, broadcast: &Continuation, origin: &Origin, lanes: Vec<Lane>) -> Live {
        let base = lanes
            .iter()
            .map(|lane| lane.on_video_clock(lane.end))
            .max()
            .unwrap_or(0);
        let start = ticks(origin.dts_ms).saturating_add(origin.composition);
        let epoch = match &self.start {
            Start::Fresh(fresh) => fresh.epoch,
            Start::Continue { epoch, .. } => *epoch,
        };
        let start_ms = Timescale::VIDEO.to_ms(Ticks(start.max(0).unsigned_abs()));
        // Programme time never goes back within a broadcast.
        let ended = broadcast.anchor.program_time(base);
        let at = self.captured(start_ms).max(ended);
        Live {
            epoch,
            plan: broadcast.plan,
            anchor: Anchor {
                // A whole millisecond: programme time less media time is then one
                // number for the whole epoch, and can be had from any segment.
                media: Ticks(base - base % MS),
                at,
            },
            shift: base.cast_signed().saturating_sub(start),
            lanes,
            tracks: broadcast
                .tracks
                .iter()
                .map(|one| one.track.clone())
                .collect(),
            longest_gop: u64::from(Timescale::VIDEO.hz()) * (SEGMENT_MS / 1_000),
            discontinuity_sequence: broadcast.discontinuity_sequence.saturating_add(1),
            newest_msn: broadcast.next_msn,
            ready: false,
            dropped_samples: 0,
            gap_parts: 0,
        }
    }

    /// Puts every lane where the leader begins and lets go of what is older.
    fn begin(
        &mut self,
        mut live: Live,
        origin: &Origin,
        first: Option<Length>,
        inits: Vec<(TrackName, InitId, Bytes, bool)>,
        fresh: bool,
    ) -> Ready {
        live.lanes.sort_by_key(|lane| lane.name);
        live.tracks.sort_by_key(|track| track.name);
        let start = ticks(origin.dts_ms) + origin.composition + live.shift;
        let start = start.max(0).unsigned_abs();
        let heard = self.first.map_or(UnixMs(0), |(_, heard)| heard);
        for (at, lane) in live.lanes.iter_mut().enumerate() {
            lane.end = lane.end.max(lane.on_own_clock(start));
            lane.received = start;
            lane.heard = heard;
            if at == 0 {
                lane.composition = origin.composition;
                lane.previous = first;
            } else if lane.is_video() {
                // It begins at a sync sample of its own.
                lane.silent = true;
                lane.composition = origin.composition;
            }
        }
        let leader = live.lanes.first().map(|lane| lane.name);
        let before = self.samples.len();
        self.samples
            .retain(|(one, _)| Some(one.track) != leader || one.dts_ms >= origin.dts_ms);
        // A leader that is video begins with its sync sample, whatever shares
        // that sample's millisecond.
        if let Some(at) = self
            .samples
            .iter()
            .position(|(one, _)| Some(one.track) == leader && one.sync)
        {
            let mut index = 0;
            self.samples.retain(|(one, _)| {
                index += 1;
                index > at || Some(one.track) != leader
            });
        }
        Ready::Start(Begun {
            fresh,
            live: Box::new(live),
            inits,
            dropped: (before - self.samples.len()) as u64,
        })
    }

    /// The leader's first sync sample.
    fn origin(&self, leader: TrackName, known: &Known) -> Option<Origin> {
        let first = self
            .times_of(leader)
            .find(|one| one.sync || leader.kind == Kind::Audio)?;
        let composition = match known.rates.get(&leader) {
            Some(rate) if leader.kind == Kind::Video => {
                snap(first.composition_offset_ms, rate.frame)
            }
            _ => 0,
        };
        Some(Origin {
            dts_ms: first.dts_ms,
            composition: composition.max(0),
        })
    }

    /// The longest GOP that the plan has to make room for (video clock), and
    /// the first segment's length where it is already known.
    fn longest_gop(
        &self,
        leader: TrackName,
        origin: &Origin,
        known: &Known,
        max_gop_ms: u32,
    ) -> Option<(u64, Option<Length>)> {
        let segment = SEGMENT_MS * MS;
        if leader.kind == Kind::Audio {
            let long_enough = self.newest_ms.saturating_sub(origin.dts_ms) >= SEGMENT_MS;
            return (long_enough || known.gop_ms.is_some()).then_some((segment, None));
        }
        let rate = known.rates.get(&leader).copied().unwrap_or(Rate::FALLBACK);
        let max_gop = u64::from(max_gop_ms) * MS;
        let keyint = known.keyints.get(&leader).copied().unwrap_or(0);
        let keyint = (u64::from(keyint) * rate.frame).min(max_gop);
        if let Some(gop_ms) = known.gop_ms {
            return Some(((gop_ms * MS).max(keyint), None));
        }
        let (mut longest, mut last) = (keyint, origin.dts_ms);
        let from_origin = self
            .times_of(leader)
            .filter(|one| one.dts_ms >= origin.dts_ms);
        for (frames, one) in from_origin.enumerate().filter(|(_, one)| one.sync) {
            longest = longest.max(one.dts_ms.saturating_sub(last) * MS);
            last = one.dts_ms;
            let ticks = (one.dts_ms - origin.dts_ms) * MS;
            if ticks + rate.frame / 2 >= segment {
                // Stamps are in milliseconds, GOPs in frames.
                let grid = (longest + rate.frame / 2) / rate.frame * rate.frame;
                let frames = u32::try_from(frames).unwrap_or(u32::MAX);
                return Some((grid, Some(Length { frames, ticks })));
            }
        }
        None
    }

    fn tracks(&self, names: &[TrackName], known: &mut Known) -> Vec<Track> {
        let mut tracks = Vec::new();
        for name in names {
            let bandwidth = self.bandwidth(*name, names, known);
            known.bandwidths.insert(*name, bandwidth);
            let Some(codec) = known.configs.get(name) else {
                continue;
            };
            let rate = known.rates.get(name).filter(|_| name.kind == Kind::Video);
            tracks.push(Track {
                name: *name,
                codec: codec.codec.clone(),
                timescale: codec.timescale,
                part_target: Ticks(self.shape(*name, known, names).target),
                bandwidth_bps: bandwidth.peak_bps,
                average_bandwidth_bps: bandwidth.average_bps,
                size: codec.size,
                frame_rate: rate.map(|rate| rate.fraction),
                channels: codec.channels,
                sample_rate_hz: codec.sample_rate_hz,
            });
        }
        tracks
    }

    fn shape(&self, name: TrackName, known: &Known, names: &[TrackName]) -> PartShape {
        let rate = |name| known.rates.get(&name).copied().unwrap_or(Rate::FALLBACK);
        match (name.kind, known.configs.get(&name)) {
            (Kind::Audio, Some(codec)) => {
                let video = names.iter().find(|name| name.kind == Kind::Video);
                let video = video.map(|video| PartShape::video(rate(*video)));
                PartShape::audio(plan::audio_frame(codec), codec.timescale, video)
            }
            _ => PartShape::video(rate(name)),
        }
    }

    fn bandwidth(&self, name: TrackName, names: &[TrackName], known: &Known) -> Bandwidth {
        let own = || self.times_of(name);
        let (bytes, count) = own().fold((0, 0), |(bytes, count), one| {
            (bytes + one.data.len() as u64, count + 1)
        });
        let span_ms = own().map(|one| one.dts_ms).max().unwrap_or(0)
            - own().map(|one| one.dts_ms).min().unwrap_or(0);
        if let Some(before) = known.bandwidths.get(&name)
            && span_ms < SEGMENT_MS / 2
        {
            return *before;
        }
        let alone = names.iter().filter(|other| other.kind == name.kind).count() == 1;
        let declared = match name.kind {
            Kind::Video => known.declared.video_bps,
            Kind::Audio => known.declared.audio_bps,
        };
        Bandwidth::of(bytes, count, span_ms, declared.filter(|_| alone))
    }

    fn waiting(&self, max_gop_ms: u32) -> Ready {
        let first_ms = self.first.map_or(self.newest_ms, |(first, _)| first);
        self.waiting_since(first_ms, max_gop_ms)
    }

    fn waiting_since(&self, since_ms: u64, max_gop_ms: u32) -> Ready {
        // Half a second for stamps that are a little off a GOP of exactly that.
        if self.newest_ms.saturating_sub(since_ms) > u64::from(max_gop_ms) + 500 {
            Ready::Refused(Refusal::GopTooLong { max_gop_ms })
        } else {
            Ready::NotYet
        }
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn ticks(ms: u64) -> i64 {
    i64::try_from(ms.saturating_mul(MS)).unwrap_or(i64::MAX / 4)
}
