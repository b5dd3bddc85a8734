//! A broadcast for tests: 30 frames a second of video in parts of ten frames
//! and segments of two seconds, with 48 kHz audio beside it.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    live::{
        Announcement, Broadcast, BroadcastState, Channel, Chunk, Directory, Hint, PartEnd,
        PartFlags, Phase, Plan, Position, Record, SegmentFlags, SegmentHead, Stage, Track,
        TrackWindow, UnixMs,
    },
    media::{Ticks, Timescale},
    names::{BroadcastId, ChannelName, Epoch, InitId, Msn, TrackName},
};

pub(crate) const V: TrackName = TrackName::video(0);
pub(crate) const A: TrackName = TrackName::audio(0);
/// Parts of a whole segment.
pub(crate) const PARTS: u32 = 6;
pub(crate) const FRAME: u64 = 4_000;
/// Ten frames of video.
pub(crate) const PART: Ticks = Ticks(FRAME * 10);
/// 2026-11-22T21:16:23.042Z
pub(crate) const START: UnixMs = UnixMs(1_795_382_183_042);

pub(crate) fn plan(target_duration_s: u32) -> Plan {
    Plan {
        target_duration_s,
        part_hold_back_ms: 1_200,
        window_ms: target_duration_s * 8_000,
    }
}

pub(crate) fn video() -> Track {
    Track {
        name: V,
        codec: "avc1.64001f".to_owned(),
        timescale: Timescale::VIDEO,
        part_target: Ticks(FRAME * 11),
        bandwidth_bps: 3_500_000,
        average_bandwidth_bps: 3_000_000,
        size: Some((1280, 720)),
        frame_rate: Some((30_000, 1_001)),
        channels: None,
        sample_rate_hz: None,
    }
}

pub(crate) fn audio() -> Track {
    Track {
        name: A,
        codec: "mp4a.40.2".to_owned(),
        timescale: Timescale::new(48_000).unwrap(),
        part_target: Ticks(16 * 1_024),
        bandwidth_bps: 160_000,
        average_bandwidth_bps: 128_000,
        size: None,
        frame_rate: None,
        channels: Some(2),
        sample_rate_hz: Some(48_000),
    }
}

/// Writes a broadcast as a packager would, one track at a time.
pub(crate) struct Studio {
    pub(crate) broadcast: Arc<Broadcast>,
    pub(crate) epoch: Epoch,
    pub(crate) init: InitId,
    pub(crate) discontinuities: u64,
    /// How long its publisher has been away in all, milliseconds.
    pub(crate) away_ms: u64,
    /// Decode time of the next segment, in the track's ticks.
    dts: [Ticks; 2],
}

impl Studio {
    pub(crate) fn new(plan: Plan, tracks: Vec<Track>) -> Self {
        let channel = ChannelName::parse("demo").unwrap();
        let broadcast = Arc::new(Broadcast::new(channel, BroadcastId(7), plan, tracks));
        for track in &broadcast.tracks {
            track.add_init(
                InitId(0),
                Bytes::from(format!("init of {}", track.track.name)),
            );
        }
        Self {
            broadcast,
            epoch: Epoch(7),
            init: InitId(0),
            discontinuities: 0,
            away_ms: 0,
            dts: [Ticks(0); 2],
        }
    }

    pub(crate) fn track(&self, name: TrackName) -> &Arc<TrackWindow> {
        self.broadcast.track(name).unwrap()
    }

    pub(crate) fn open_with(&mut self, name: TrackName, msn: u64, flags: SegmentFlags) {
        let track = self.track(name);
        let dts = self.dts[usize::from(name == A)];
        let at = START.0 + self.away_ms + track.track.timescale.to_ms(dts);
        let head = SegmentHead {
            epoch: self.epoch,
            msn: Msn(msn),
            init: self.init,
            dts,
            program_time: UnixMs(at),
            discontinuity_sequence: self.discontinuities,
            flags,
        };
        track.window.apply(Record::Open(head)).unwrap();
    }

    pub(crate) fn open(&mut self, name: TrackName, msn: u64) {
        self.open_with(name, msn, SegmentFlags::default());
    }

    pub(crate) fn chunk(&self, name: TrackName, data: impl Into<Bytes>) {
        let chunk = Chunk {
            duration: Ticks(FRAME),
            data: data.into(),
        };
        self.track(name).window.apply(Record::Chunk(chunk)).unwrap();
    }

    /// Closes a part without adding bytes; `next` is what the packager expects.
    pub(crate) fn close(
        &mut self,
        name: TrackName,
        duration: Ticks,
        flags: PartFlags,
        next: (u64, u32),
    ) {
        self.dts[usize::from(name == A)] += duration;
        let others = self.broadcast.tracks.iter().map(|of| of.track.name);
        let stood = |track| Position {
            track,
            msn: Msn(next.0),
            part: next.1,
        };
        let siblings: Vec<_> = others.filter(|other| *other != name).map(stood).collect();
        let end = PartEnd {
            duration,
            flags,
            hint: Hint {
                msn: Msn(next.0),
                part: next.1,
            },
            siblings: siblings.into(),
        };
        self.track(name).window.apply(Record::Part(end)).unwrap();
    }

    /// One part of a regular segment: the sixth is followed by the next segment.
    pub(crate) fn part(&mut self, name: TrackName, msn: u64, part: u32) {
        self.chunk(name, format!("{name} {msn}.{part};"));
        let next = if part + 1 == PARTS {
            (msn + 1, 0)
        } else {
            (msn, part + 1)
        };
        let duration = if name == V { PART } else { Ticks(16_000) };
        let flags = PartFlags {
            independent: part == 0 || name == A,
            gap: false,
        };
        self.close(name, duration, flags, next);
    }

    pub(crate) fn complete(&self, name: TrackName) {
        self.track(name).window.complete().unwrap();
    }

    pub(crate) fn segment(&mut self, name: TrackName, msn: u64) {
        self.open(name, msn);
        (0..PARTS).for_each(|part| self.part(name, msn, part));
        self.complete(name);
    }

    /// Whole segments `from..to` of every track.
    pub(crate) fn segments(&mut self, from: u64, to: u64) {
        let names: Vec<_> = self.broadcast.tracks.iter().map(|t| t.track.name).collect();
        for msn in from..to {
            names.iter().for_each(|name| self.segment(*name, msn));
        }
    }

    pub(crate) fn channel(&self, stage: Stage) -> Channel {
        Channel {
            announcement: Announcement {
                channel: self.broadcast.channel.clone(),
                broadcast: self.broadcast.id,
                epoch: self.epoch,
                phase: match self.broadcast.state() {
                    BroadcastState::Live => Phase::Live,
                    BroadcastState::Lost => Phase::Lost,
                    BroadcastState::Ended => Phase::Ended,
                },
                hops: Vec::new(),
                cost: 0,
                grace_ms: Announcement::USUAL_GRACE_MS,
            },
            stage,
        }
    }

    pub(crate) fn announce(&self, directory: &Directory) {
        directory.put(self.channel(Stage::Ready(self.broadcast.clone())));
    }
}
