//! What is appended to a track's log: segment heads, chunks, parts, holes and
//! completions, each with the hint and the sibling positions of that moment.

use std::sync::Arc;

use common::{
    live::{Chunk, Hint, PartEnd, PartFlags, Position, Record, SegmentFlags, SegmentHead},
    media::Ticks,
    names::{Kind, Msn},
};

use super::{
    Output,
    lane::{Cut, Length, OpenPart, OpenSegment},
    live::Live,
    plan::{SEGMENT_MS, is_full},
};
use crate::cmaf::{self, ChunkHeader, ChunkSample, Styp};

impl Live {
    fn record(&self, lane: usize, record: Record, out: &mut Vec<Output>) {
        out.push(Output::Record {
            track: self.lanes[lane].name,
            record,
        });
    }

    /// Opens the segment that the lane stands before. Its first chunk or hole
    /// does it, so that an empty segment never is.
    fn open(&mut self, lane: usize, gap: bool, out: &mut Vec<Output>) {
        if self.lanes[lane].segment.is_some() {
            return;
        }
        let head = {
            let lane = &self.lanes[lane];
            SegmentHead {
                epoch: self.epoch,
                msn: lane.msn,
                init: lane.init,
                dts: Ticks(lane.end),
                program_time: self.anchor.program_time(lane.on_video_clock(lane.end)),
                discontinuity_sequence: self.discontinuity_sequence,
                flags: SegmentFlags {
                    discontinuity: lane.discontinuity,
                    gap,
                },
            }
        };
        self.record(lane, Record::Open(head), out);
        let lane = &mut self.lanes[lane];
        lane.discontinuity = false;
        lane.segment = Some(OpenSegment {
            start: lane.end,
            frames: 0,
            chunks: 0,
            parts: 0,
            gap,
        });
        self.newest_msn = self.newest_msn.max(lane.msn);
    }

    /// Encodes and appends one chunk; closes the part when it is full.
    pub(super) fn append_chunk(
        &mut self,
        at: usize,
        samples: &[ChunkSample],
        out: &mut Vec<Output>,
    ) {
        if samples.is_empty() {
            return;
        }
        self.open(at, false, out);
        let lane = &mut self.lanes[at];
        let Some(segment) = lane.segment.as_mut() else {
            return;
        };
        let sync = lane.name.kind == Kind::Audio || samples.iter().any(|sample| sample.sync);
        let header = ChunkHeader {
            sequence: lane.sequence,
            track_id: cmaf::TRACK_ID,
            base_dts: Ticks(lane.end),
            styp: (segment.chunks == 0).then_some(Styp::Segment),
            prft: None,
        };
        let duration: u64 = samples.iter().map(|one| u64::from(one.duration)).sum();
        let frames = u32::try_from(samples.len()).unwrap_or(u32::MAX);
        segment.chunks += 1;
        segment.frames += frames;
        lane.sequence = lane.sequence.wrapping_add(1);
        lane.end += duration;
        lane.started = true;
        lane.part.frames += frames;
        lane.part.duration += duration;
        lane.part.independent |= sync;
        let chunk = Chunk {
            duration: Ticks(duration),
            data: cmaf::chunk(&header, samples),
        };
        self.record(at, Record::Chunk(chunk), out);
        self.close_part_if_full(at, out);
    }

    /// H4: at the planned count, or when one more frame would cross PART-TARGET;
    /// in any case not before 85 % of it are there.
    fn close_part_if_full(&mut self, at: usize, out: &mut Vec<Output>) {
        let lane = &self.lanes[at];
        let (part, shape) = (lane.part, lane.shape);
        let planned = part.frames >= shape.frames;
        let crossing = part.duration + shape.frame > shape.target;
        if (planned || crossing) && is_full(part.duration, shape.target) {
            self.close_part(at, None, out);
        }
    }

    /// Closes the open part, if it holds anything. `hint` is set where the
    /// next part is known rather than predicted.
    pub(super) fn close_part(&mut self, at: usize, hint: Option<Hint>, out: &mut Vec<Output>) {
        let part = std::mem::take(&mut self.lanes[at].part);
        if part.frames > 0 {
            let flags = PartFlags {
                independent: part.independent,
                gap: false,
            };
            self.append_part(at, part.duration, flags, hint, out);
        }
    }

    fn append_part(
        &mut self,
        at: usize,
        duration: u64,
        flags: PartFlags,
        hint: Option<Hint>,
        out: &mut Vec<Output>,
    ) {
        let lane = &mut self.lanes[at];
        let Some(segment) = lane.segment.as_mut() else {
            return;
        };
        let index = segment.parts;
        segment.parts += 1;
        lane.closed += duration;
        lane.position = Some(Position {
            track: lane.name,
            msn: lane.msn,
            part: index,
        });
        let others = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at);
        let siblings: Arc<[Position]> = others.filter_map(|(_, lane)| lane.position).collect();
        let end = PartEnd {
            duration: Ticks(duration),
            flags,
            hint: hint.unwrap_or_else(|| self.predict(at)),
            siblings,
        };
        self.record(at, Record::Part(end), out);
        self.tell_ready(out);
    }

    fn tell_ready(&mut self, out: &mut Vec<Output>) {
        let enough =
            |lane: &super::lane::Lane| lane.closed >= lane.ms(self.plan.part_hold_back_ms.into());
        if !self.ready && self.lanes.iter().all(enough) {
            self.ready = true;
            out.push(Output::Ready);
        }
    }

    /// What closes next: the next part of this segment, or the first one of
    /// the next where a cut is known or expected to stand right here.
    fn predict(&self, at: usize) -> Hint {
        let lane = &self.lanes[at];
        let Some(segment) = lane.segment else {
            return first_of(lane.msn);
        };
        if self.cut_expected(at, &segment) {
            first_of(lane.msn.next())
        } else {
            Hint {
                msn: lane.msn,
                part: segment.parts,
            }
        }
    }

    fn cut_expected(&self, at: usize, segment: &OpenSegment) -> bool {
        let lane = &self.lanes[at];
        if !lane.cuts.is_empty() {
            return lane.passes_cut(lane.end);
        }
        let leader = self.leader();
        if at == leader {
            return match lane.name.kind {
                Kind::Video => lane
                    .previous
                    .is_some_and(|last| last.frames == segment.frames),
                Kind::Audio => self.audio_leader_cuts(at),
            };
        }
        let leader = &self.lanes[leader];
        let expected = leader
            .segment
            .zip(leader.previous)
            .and_then(|(open, last)| {
                let due = leader.msn == lane.msn && open.frames <= last.frames;
                due.then_some(leader.on_video_clock(open.start + last.ticks))
            });
        expected
            .is_some_and(|expected| lane.end + lane.shape.frame / 2 >= lane.on_own_clock(expected))
    }

    /// Audio without video cuts between parts, at 2 s less half a frame.
    pub(super) fn audio_leader_cuts(&self, at: usize) -> bool {
        let lane = &self.lanes[at];
        lane.length(lane.end) + lane.shape.frame / 2 >= lane.ms(SEGMENT_MS)
    }

    /// Sends what is pending as a chunk of its own.
    pub(super) fn flush(&mut self, at: usize, out: &mut Vec<Output>) {
        let samples = std::mem::take(&mut self.lanes[at].pending);
        self.append_chunk(at, &samples, out);
    }

    /// Fills a lane with GAP parts, each at most PART-TARGET, up to `to`.
    pub(super) fn fill(&mut self, at: usize, to: u64, out: &mut Vec<Output>) {
        self.flush(at, out);
        self.close_part(at, None, out);
        while self.lanes[at].end < to {
            let lane = &self.lanes[at];
            // A video segment that a hole begins has no sync sample: no media.
            let (left, gap) = (to - lane.end, lane.silent || lane.is_video());
            // A tail of a tick or two joins its neighbour by halves.
            let target = lane.shape.target;
            let duration = if left <= target {
                left
            } else if left < target + lane.shape.frame {
                left / 2
            } else {
                target
            };
            self.open(at, gap, out);
            self.lanes[at].end += duration;
            self.lanes[at].started = true;
            self.gap_parts += 1;
            let flags = PartFlags {
                independent: false,
                gap: true,
            };
            self.append_part(at, duration, flags, None, out);
        }
    }

    /// Completes the lane's segment where it stands and puts it before `cut`'s.
    pub(super) fn complete(&mut self, at: usize, next: Msn, out: &mut Vec<Output>) {
        self.flush(at, out);
        self.close_part(at, Some(first_of(next)), out);
        let lane = &mut self.lanes[at];
        if let Some(segment) = lane.segment.take() {
            lane.previous = Some(Length {
                frames: segment.frames,
                ticks: lane.end - segment.start,
            });
            out.push(Output::Complete {
                track: lane.name,
                msn: lane.msn,
            });
            lane.msn = next;
        }
        lane.part = OpenPart::default();
    }

    /// The leader's own cut: its siblings get it to make when they reach it.
    pub(super) fn lead_cut(&mut self, at: usize, out: &mut Vec<Output>) {
        let lane = &self.lanes[at];
        let cut = Cut {
            msn: lane.msn.next(),
            at: lane.on_video_clock(lane.end),
        };
        self.complete(at, cut.msn, out);
        for (other, lane) in self.lanes.iter_mut().enumerate() {
            if other != at {
                lane.cuts.push_back(cut);
            }
        }
    }

    /// Makes the next queued cut where the lane stands.
    pub(super) fn follow_cut(&mut self, at: usize, out: &mut Vec<Output>) {
        if let Some(cut) = self.lanes[at].cuts.pop_front() {
            self.complete(at, cut.msn, out);
        }
    }
}

const fn first_of(msn: Msn) -> Hint {
    Hint { msn, part: 0 }
}
