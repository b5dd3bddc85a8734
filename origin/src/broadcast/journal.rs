//! What an origin must still know after kill -9: where each channel stood.
//!
//! One small JSON file a channel, replaced by a rename whenever a segment
//! opens, so that a number that may have reached an edge is never used again.
//! Without a directory the bookmarks live as long as the process. A file that
//! can't be read is named in the log and treated as absent: the Unix-time floor
//! on msns still keeps numbers rising.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use common::{
    live::{Plan, Track, UnixMs},
    media::{Ticks, Timescale},
    names::{BroadcastId, ChannelName, Epoch, InitId, Msn, TrackName},
};
use serde::{Deserialize, Serialize};

use crate::packager::{Anchor, Continuation, ContinuedTrack};

/// Channels remembered at most; with `--open` any stranger can name one.
pub const MAX_CHANNELS: usize = 65_536;

/// Where a channel stands, as of the last segment that opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bookmark {
    pub broadcast: BroadcastId,
    pub epoch: Epoch,
    /// The highest msn that was opened in any track.
    pub msn: Msn,
    pub discontinuity_sequence: u64,
    /// The wall clock when it opened.
    pub at: UnixMs,
    /// Programme time of the first track's newest segment.
    pub program_time: UnixMs,
    pub ended: bool,
    /// Edges were told of it, and who listens to webhooks.
    pub offered: bool,
    pub plan: Plan,
    pub tracks: Vec<TrackBookmark>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackBookmark {
    pub track: Track,
    /// Decode time at which its newest segment opened.
    pub dts: Ticks,
    pub init: InitId,
}

impl Bookmark {
    /// Where the next process goes on: after the msn that may have reached an
    /// edge, and as much later in media time as on the wall clock, so that no
    /// decode time is used twice and programme time stays true.
    #[must_use]
    pub fn continuation(&self, now: UnixMs) -> Continuation {
        // A clock that was set back tells nothing: a segment is that long at most.
        let away_ms = now.0.checked_sub(self.at.0);
        let away_ms = away_ms.unwrap_or(self.plan.target_duration_ms().into());
        let track = |mark: &TrackBookmark| ContinuedTrack {
            track: mark.track.clone(),
            next_dts: mark.dts + mark.track.timescale.from_ms(away_ms),
            next_init: InitId(mark.init.0.saturating_add(1)),
            init: None,
            position: None,
        };
        let anchored = self.tracks.first().map_or(Ticks(0), |mark| {
            mark.track.timescale.convert(mark.dts, Timescale::VIDEO)
        });
        Continuation {
            plan: self.plan,
            tracks: self.tracks.iter().map(track).collect(),
            next_msn: self.msn.next(),
            discontinuity_sequence: self.discontinuity_sequence,
            anchor: Anchor {
                media: anchored,
                at: self.program_time,
            },
        }
    }
}

/// All bookmarks, on disk where a directory was given.
#[derive(Debug)]
pub struct Journal {
    dir: Option<PathBuf>,
    known: HashMap<ChannelName, Bookmark>,
}

impl Journal {
    /// Reads what an earlier process left.
    ///
    /// # Errors
    /// When the directory can neither be made nor listed.
    pub fn open(dir: Option<&Path>) -> io::Result<Self> {
        let mut known = HashMap::new();
        if let Some(dir) = dir {
            fs::create_dir_all(dir)?;
            for entry in fs::read_dir(dir)?.take(MAX_CHANNELS) {
                let path = entry?.path();
                if let Some((channel, bookmark)) = read(&path) {
                    known.insert(channel, bookmark);
                }
            }
        }
        Ok(Self {
            dir: dir.map(Path::to_owned),
            known,
        })
    }

    #[must_use]
    pub fn get(&self, channel: &ChannelName) -> Option<&Bookmark> {
        self.known.get(channel)
    }

    /// Remembers where a channel stands. Returns what to write to disk, so that
    /// no lock is held meanwhile.
    pub fn set(&mut self, channel: &ChannelName, bookmark: Bookmark) -> Option<Page> {
        let page = self.dir.as_ref().map(|dir| Page {
            path: dir.join(format!("{channel}.json")),
            text: serde_json::to_string(&Stored::from(&bookmark)).unwrap_or_default(),
        });
        if self.known.len() >= MAX_CHANNELS && !self.known.contains_key(channel) {
            self.forget_oldest();
        }
        self.known.insert(channel.clone(), bookmark);
        page
    }

    /// Channels remembered, at most [`MAX_CHANNELS`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .known
            .iter()
            .min_by_key(|(_, mark)| mark.at)
            .map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.known.remove(&name);
            if let Some(dir) = &self.dir {
                // Best effort: a leftover file costs a start-up read, no more.
                let _ = fs::remove_file(dir.join(format!("{name}.json")));
            }
        }
    }
}

/// A bookmark on its way to disk.
#[derive(Debug)]
pub struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// Replaces the file in one step: a reader sees the old page or the new.
    ///
    /// # Errors
    /// Those of the file system, a full disk among them.
    pub fn write(&self) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        fs::write(&fresh, &self.text)?;
        fs::rename(&fresh, &self.path)
    }
}

fn read(path: &Path) -> Option<(ChannelName, Bookmark)> {
    if path.extension()?.to_str()? != "json" {
        return None;
    }
    let channel = ChannelName::parse(path.file_stem()?.to_str()?).ok()?;
    let stored = fs::read(path)
        .map_err(|error| error.to_string())
        .and_then(|text| {
            serde_json::from_slice::<Stored>(&text).map_err(|error| error.to_string())
        });
    match stored.and_then(Bookmark::try_from) {
        Ok(bookmark) => Some((channel, bookmark)),
        Err(error) => {
            tracing::warn!(path = %path.display(), error, "journal page is unreadable; the channel starts afresh");
            None
        }
    }
}

/// The page as JSON. Added fields need a default; a changed meaning needs a new name.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    broadcast: u64,
    epoch: u64,
    msn: u64,
    discontinuity_sequence: u64,
    at_unix_ms: u64,
    program_time_unix_ms: u64,
    ended: bool,
    /// Of a page that does not say nothing is told twice.
    #[serde(default = "yes")]
    offered: bool,
    target_duration_s: u32,
    part_hold_back_ms: u32,
    window_ms: u32,
    tracks: Vec<StoredTrack>,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredTrack {
    name: String,
    codec: String,
    timescale_hz: u32,
    part_target_ticks: u64,
    bandwidth_bps: u32,
    average_bandwidth_bps: u32,
    size: Option<(u32, u32)>,
    frame_rate: Option<(u32, u32)>,
    channels: Option<u32>,
    sample_rate_hz: Option<u32>,
    dts_ticks: u64,
    init: u32,
}

impl From<&Bookmark> for Stored {
    fn from(mark: &Bookmark) -> Self {
        Self {
            broadcast: mark.broadcast.0,
            epoch: mark.epoch.0,
            msn: mark.msn.0,
            discontinuity_sequence: mark.discontinuity_sequence,
            at_unix_ms: mark.at.0,
            program_time_unix_ms: mark.program_time.0,
            ended: mark.ended,
            offered: mark.offered,
            target_duration_s: mark.plan.target_duration_s,
            part_hold_back_ms: mark.plan.part_hold_back_ms,
            window_ms: mark.plan.window_ms,
            tracks: mark.tracks.iter().map(StoredTrack::from).collect(),
        }
    }
}

impl From<&TrackBookmark> for StoredTrack {
    fn from(mark: &TrackBookmark) -> Self {
        let track = &mark.track;
        Self {
            name: track.name.to_string(),
            codec: track.codec.clone(),
            timescale_hz: track.timescale.hz(),
            part_target_ticks: track.part_target.0,
            bandwidth_bps: track.bandwidth_bps,
            average_bandwidth_bps: track.average_bandwidth_bps,
            size: track.size,
            frame_rate: track.frame_rate,
            channels: track.channels,
            sample_rate_hz: track.sample_rate_hz,
            dts_ticks: mark.dts.0,
            init: mark.init.0,
        }
    }
}

impl TryFrom<Stored> for Bookmark {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        Ok(Self {
            broadcast: BroadcastId(stored.broadcast),
            epoch: Epoch(stored.epoch),
            msn: Msn(stored.msn),
            discontinuity_sequence: stored.discontinuity_sequence,
            at: UnixMs(stored.at_unix_ms),
            program_time: UnixMs(stored.program_time_unix_ms),
            ended: stored.ended,
            offered: stored.offered,
            plan: Plan {
                target_duration_s: stored.target_duration_s,
                part_hold_back_ms: stored.part_hold_back_ms,
                window_ms: stored.window_ms,
            },
            tracks: stored
                .tracks
                .into_iter()
                .map(TrackBookmark::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<StoredTrack> for TrackBookmark {
    type Error = String;

    fn try_from(stored: StoredTrack) -> Result<Self, String> {
        let track = Track {
            name: TrackName::parse(&stored.name).map_err(|error| error.to_string())?,
            codec: stored.codec,
            timescale: Timescale::new(stored.timescale_hz).ok_or("timescale_hz is 0")?,
            part_target: Ticks(stored.part_target_ticks),
            bandwidth_bps: stored.bandwidth_bps,
            average_bandwidth_bps: stored.average_bandwidth_bps,
            size: stored.size,
            frame_rate: stored.frame_rate,
            channels: stored.channels,
            sample_rate_hz: stored.sample_rate_hz,
        };
        Ok(Self {
            track,
            dts: Ticks(stored.dts_ticks),
            init: InitId(stored.init),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bookmark(msn: u64) -> Bookmark {
        Bookmark {
            broadcast: BroadcastId(1_700_000_000_000),
            epoch: Epoch(1_700_000_000_001),
            msn: Msn(msn),
            discontinuity_sequence: 1_700_000_000,
            at: UnixMs(msn),
            program_time: UnixMs(msn + 1),
            ended: false,
            offered: true,
            plan: Plan {
                target_duration_s: 3,
                part_hold_back_ms: 1_200,
                window_ms: 24_000,
            },
            tracks: vec![TrackBookmark {
                track: Track {
                    name: TrackName::video(0),
                    codec: "avc1.64001f".into(),
                    timescale: Timescale::VIDEO,
                    part_target: Ticks(44_000),
                    bandwidth_bps: 3_300_000,
                    average_bandwidth_bps: 3_000_000,
                    size: Some((1280, 720)),
                    frame_rate: Some((30_000, 1_001)),
                    channels: None,
                    sample_rate_hz: None,
                },
                dts: Ticks(u64::MAX),
                init: InitId(3),
            }],
        }
    }

    #[test]
    fn a_new_process_finds_what_the_old_one_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let demo = ChannelName::parse("demo").unwrap();
        let mut journal = Journal::open(Some(dir.path())).unwrap();
        for msn in [5, 6] {
            journal.set(&demo, bookmark(msn)).unwrap().write().unwrap();
        }
        let next = Journal::open(Some(dir.path())).unwrap();
        assert_eq!(next.get(&demo), Some(&bookmark(6)));
    }

    #[test]
    fn torn_and_foreign_files_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("demo.json", "{\"broadcast\":"),
            ("Bad Name.json", "{}"),
            ("x.new", "{}"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let journal = Journal::open(Some(dir.path())).unwrap();
        assert!(journal.known.is_empty());
    }

    #[test]
    fn the_table_of_channels_is_bounded_and_the_oldest_goes() {
        let mut journal = Journal::open(None).unwrap();
        for at in 0..=MAX_CHANNELS as u64 {
            let channel = ChannelName::parse(&format!("c{at}")).unwrap();
            assert!(journal.set(&channel, bookmark(at)).is_none());
        }
        assert_eq!(journal.known.len(), MAX_CHANNELS);
        assert_eq!(journal.get(&ChannelName::parse("c0").unwrap()), None);
    }
}
