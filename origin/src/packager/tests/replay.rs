//! Applies outputs as their owner would, through [`Log`], and asserts on every
//! record what holds always.

use std::collections::BTreeMap;

use common::{
    live::{Hint, Log, PartEnd, Plan, Position, Record, SegmentHead, Track, UnixMs},
    media::{Ticks, Timescale},
    names::{Epoch, InitId, Kind, Msn, TrackName},
};

use super::publisher::Script;
use crate::packager::{
    Fresh, NewBroadcast, Output, Packager, PackagerConfig, Refusal, Start, plan::is_full,
};

#[derive(Debug, Clone)]
pub struct PartSeen {
    pub end: PartEnd,
    pub frames: u32,
    pub dts: u64,
}

#[derive(Debug, Clone)]
pub struct SegmentSeen {
    pub head: SegmentHead,
    pub parts: Vec<PartSeen>,
    pub end: u64,
}

impl SegmentSeen {
    pub fn duration(&self) -> u64 {
        self.end - self.head.dts.0
    }
}

#[derive(Debug)]
pub struct TrackSeen {
    pub track: Track,
    pub log: Log,
    pub segments: Vec<SegmentSeen>,
    pub open: bool,
    loose_frames: u32,
    inits: Vec<InitId>,
    /// (hint given, what closed instead).
    pub wrong_hints: Vec<(Hint, Hint)>,
    hint: Option<Hint>,
}

#[derive(Debug)]
pub struct BroadcastSeen {
    pub plan: Plan,
    pub tracks: BTreeMap<TrackName, TrackSeen>,
    pub ready: bool,
}

/// Everything a packager said, one entry a broadcast.
#[derive(Debug, Default)]
pub struct Replay {
    pub broadcasts: Vec<BroadcastSeen>,
    pub ends: Vec<NewBroadcast>,
    pub refused: Option<Refusal>,
    pub first_output_at: Option<UnixMs>,
    epoch: u64,
}

pub const FIRST: Fresh = Fresh {
    epoch: Epoch(7),
    first_msn: Msn(1_000),
    discontinuity_sequence: 40,
};

/// Publishes a script into a fresh broadcast and finishes it.
pub fn run(script: &Script) -> Replay {
    let (replay, mut packager) = run_open(script);
    finished(replay, &mut packager)
}

pub fn run_open(script: &Script) -> (Replay, Packager) {
    let packager = Packager::new(PackagerConfig::default(), Start::Fresh(FIRST));
    let mut replay = Replay {
        epoch: 7,
        ..Replay::default()
    };
    let packager = feed(packager, script, &mut replay);
    (replay, packager)
}

pub fn finished(mut replay: Replay, packager: &mut Packager) -> Replay {
    let mut out = Vec::new();
    packager.finish(&mut out);
    replay.take(out, UnixMs(0));
    replay.check_whole();
    replay
}

pub fn feed(mut packager: Packager, script: &Script, replay: &mut Replay) -> Packager {
    let mut out = Vec::new();
    for (input, now) in &script.inputs {
        packager.push(input.clone(), *now, &mut out);
        packager.tick(*now, &mut out);
        let before = replay.ends.len();
        replay.take(std::mem::take(&mut out), *now);
        if replay.ends.len() > before {
            replay.epoch += 1;
            let last = replay.broadcasts.iter().flat_map(|b| b.tracks.values());
            let last = last.flat_map(|t| &t.segments).map(|s| s.head.msn.0).max();
            packager = packager.succeed(Fresh {
                epoch: Epoch(replay.epoch),
                first_msn: Msn(last.unwrap_or(1_000) + 2),
                discontinuity_sequence: 50,
            });
        }
    }
    packager
}

impl Replay {
    pub fn only(&self) -> &BroadcastSeen {
        assert_eq!(
            (self.broadcasts.len(), &self.refused),
            (1, &None),
            "{:?}",
            self.ends
        );
        &self.broadcasts[0]
    }

    pub fn take(&mut self, outputs: Vec<Output>, now: UnixMs) {
        for output in outputs {
            self.first_output_at.get_or_insert(now);
            match output {
                Output::Plan { plan, tracks } => {
                    self.broadcasts.push(BroadcastSeen::new(plan, tracks))
                }
                Output::NewBroadcast(why) => self.ends.push(why),
                Output::Refused(why) => self.refused = Some(why),
                output => self.broadcasts.last_mut().unwrap().apply(output),
            }
        }
    }

    /// What holds once everything is finished.
    pub fn check_whole(&self) {
        for broadcast in &self.broadcasts {
            broadcast.check_msns();
            for track in broadcast.tracks.values() {
                assert!(!track.open, "{} is complete", track.track.name);
                track.check_parts(&broadcast.plan);
            }
        }
    }
}

impl BroadcastSeen {
    fn new(plan: Plan, tracks: Vec<Track>) -> Self {
        for track in &tracks {
            let hold_back = u64::from(plan.part_hold_back_ms) * u64::from(track.timescale.hz());
            assert!(hold_back >= track.part_target.0 * 3_200, "H6");
            assert!(track.bandwidth_bps >= track.average_bandwidth_bps);
        }
        let seen = |track: Track| {
            let log = Log::new(&plan, &track);
            let seen = TrackSeen {
                track,
                log,
                segments: Vec::new(),
                open: false,
                loose_frames: 0,
                inits: Vec::new(),
                wrong_hints: Vec::new(),
                hint: None,
            };
            (seen.track.name, seen)
        };
        Self {
            plan,
            tracks: tracks.into_iter().map(seen).collect(),
            ready: false,
        }
    }

    pub fn track(&self, name: TrackName) -> &TrackSeen {
        &self.tracks[&name]
    }

    fn apply(&mut self, output: Output) {
        match output {
            Output::Init { track, id, .. } => {
                self.tracks.get_mut(&track).unwrap().inits.push(id);
            }
            Output::Record { track, record } => {
                if let Record::Part(end) = &record {
                    self.check_siblings(track, end);
                }
                self.tracks.get_mut(&track).unwrap().record(record);
            }
            Output::Complete { track, msn } => {
                self.tracks.get_mut(&track).unwrap().complete(msn);
            }
            Output::Ready => {
                self.ready = true;
                for track in self.tracks.values() {
                    let media: u64 = track.segments.iter().map(SegmentSeen::duration).sum();
                    let held = u64::from(self.plan.part_hold_back_ms);
                    assert!(track.track.timescale.to_ms(Ticks(media)) + 1 >= held);
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// H13: what a part says of its siblings is where they stand.
    fn check_siblings(&self, of: TrackName, end: &PartEnd) {
        let at = |track: &TrackSeen| {
            let segment = track.segments.iter().rev().find(|s| !s.parts.is_empty())?;
            Some(Position {
                track: track.track.name,
                msn: segment.head.msn,
                part: u32::try_from(segment.parts.len()).unwrap() - 1,
            })
        };
        let others = self.tracks.values().filter(|t| t.track.name != of);
        let want: Vec<_> = others.filter_map(at).collect();
        assert_eq!(end.siblings.to_vec(), want, "H13");
    }

    /// Every track has every msn, with one discontinuity sequence and one
    /// programme time for each instant.
    fn check_msns(&self) {
        let heads = |track: &TrackSeen| -> Vec<_> {
            track
                .segments
                .iter()
                .map(|s| {
                    (
                        s.head.msn,
                        s.head.discontinuity_sequence,
                        s.head.flags.discontinuity,
                        s.head.epoch,
                    )
                })
                .collect()
        };
        let mut all = self.tracks.values().map(heads);
        let first = all.next().unwrap();
        for other in all {
            assert_eq!(first, other);
        }
        for pair in first.windows(2) {
            assert_eq!(pair[0].0.next(), pair[1].0);
            assert!(pair[0].1 + u64::from(pair[1].2) == pair[1].1, "H10");
        }
        let leader = self.tracks.values().next().unwrap();
        for track in self.tracks.values() {
            for (segment, lead) in track.segments.iter().zip(&leader.segments) {
                let ms = |track: &TrackSeen, s: &SegmentSeen| {
                    let common = track.track.timescale.convert(s.head.dts, Timescale::VIDEO);
                    s.head.program_time.0.cast_signed()
                        - Timescale::VIDEO.to_ms(common).cast_signed()
                };
                let apart = ms(track, segment) - ms(leader, lead);
                assert!(apart.abs() <= 1, "H11: {apart} ms");
            }
        }
    }
}

impl TrackSeen {
    fn record(&mut self, record: Record) {
        match &record {
            Record::Open(head) => {
                if let Some(last) = self.segments.last() {
                    assert!(
                        head.flags.discontinuity || head.dts.0 == last.end,
                        "C3 {} {head:?} {}",
                        self.track.name,
                        last.end
                    );
                }
                assert!(self.inits.contains(&head.init), "INIT comes first");
                self.open = true;
                self.segments.push(SegmentSeen {
                    head: *head,
                    parts: Vec::new(),
                    end: head.dts.0,
                });
            }
            Record::Chunk(chunk) => {
                let segment = self.segments.last_mut().unwrap();
                assert!(!segment.head.flags.gap, "no media in a GAP segment");
                let (tfdt, frames) = boxes(&chunk.data);
                assert_eq!(tfdt, segment.end, "C3");
                segment.end += chunk.duration.0;
                self.loose_frames += frames;
            }
            Record::Part(end) => self.part(end),
            Record::End(_) => panic!("completions are told as Complete"),
        }
        self.log.apply(record).unwrap();
    }

    fn part(&mut self, end: &PartEnd) {
        let segment = self.segments.last_mut().unwrap();
        let frames = std::mem::take(&mut self.loose_frames);
        assert_eq!(end.flags.gap, frames == 0, "a part has media or is a GAP");
        if end.flags.gap {
            segment.end += end.duration.0;
        }
        let this = Hint {
            msn: segment.head.msn,
            part: u32::try_from(segment.parts.len()).unwrap(),
        };
        if let Some(hint) = self.hint.replace(end.hint)
            && hint != this
        {
            self.wrong_hints.push((hint, this));
        }
        assert!(end.hint > this, "H12");
        segment.parts.push(PartSeen {
            end: end.clone(),
            frames,
            dts: segment.end - end.duration.0,
        });
        let sum: u64 = segment.parts.iter().map(|part| part.end.duration.0).sum();
        assert_eq!(
            sum,
            segment.duration(),
            "C4: a segment is the sum of its parts"
        );
    }

    fn complete(&mut self, msn: Msn) {
        self.log.complete().unwrap();
        self.open = false;
        let segment = self.segments.last().unwrap();
        assert_eq!(segment.head.msn, msn);
        assert!(!segment.parts.is_empty());
    }

    fn check_parts(&self, plan: &Plan) {
        let hz = u64::from(self.track.timescale.hz());
        let target = self.track.part_target.0;
        for segment in &self.segments {
            let name = self.track.name;
            let longest = u64::from(plan.target_duration_s) * hz + hz / 2;
            assert!(
                segment.duration() <= longest,
                "H1 {name} {:?} of {longest}: {} {:?}",
                segment.head,
                segment.duration(),
                segment
                    .parts
                    .iter()
                    .map(|p| (p.end.duration.0, p.frames))
                    .collect::<Vec<_>>()
            );
            if self.track.kind() == Kind::Video && !segment.head.flags.gap {
                assert!(
                    segment.parts[0].end.flags.independent,
                    "H5 {name} {:?} {:?}",
                    segment.head,
                    segment
                        .parts
                        .iter()
                        .map(|p| (p.dts, p.end.duration.0, p.frames, p.end.flags))
                        .collect::<Vec<_>>()
                );
            }
            for (at, part) in segment.parts.iter().enumerate() {
                let duration = part.end.duration.0;
                assert!(
                    duration > 0 && duration <= target,
                    "H4 {name} {duration} of {target}"
                );
                let next = segment.parts.get(at + 1);
                let excused = part.end.flags.gap
                    || next.is_none_or(|next| next.end.flags.gap)
                    || part.end.flags.independent && self.track.kind() == Kind::Video;
                assert!(
                    excused || is_full(duration, target),
                    "H4 {name} {duration} of {target}: {:?}",
                    segment
                        .parts
                        .iter()
                        .map(|p| (p.dts, p.end.duration.0, p.frames, p.end.flags))
                        .collect::<Vec<_>>()
                );
            }
        }
    }

    pub fn gap_parts(&self) -> usize {
        let parts = self.segments.iter().flat_map(|s| &s.parts);
        parts.filter(|part| part.end.flags.gap).count()
    }

    pub fn media(&self) -> u64 {
        self.segments.iter().map(SegmentSeen::duration).sum()
    }
}

/// tfdt and the count of samples, from the bytes.
pub fn boxes(chunk: &[u8]) -> (u64, u32) {
    let at = |name: &[u8]| chunk.windows(4).position(|w| w == name).unwrap() + 4;
    let (tfdt, trun) = (at(b"tfdt") + 4, at(b"trun") + 4);
    (
        u64::from_be_bytes(chunk[tfdt..tfdt + 8].try_into().unwrap()),
        u32::from_be_bytes(chunk[trun..trun + 4].try_into().unwrap()),
    )
}
