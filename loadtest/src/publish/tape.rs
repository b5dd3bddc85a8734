//! A recording as a loop without end.
//!
//! In: FLV tags. Out: for any position the tag and when it is due, in
//! milliseconds from the loop's first start. Times run on across the seam: the
//! loop is as long as its video, and sound that is longer is left out, so that
//! the two never drift apart. Pure but for [`load`].

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use super::flv::{self, Kind, Tag};

/// More than this is no test recording, and all of it is held in memory.
const MAX_FILE_BYTES: u64 = 1 << 30;

#[derive(Debug, PartialEq, Eq)]
pub struct Tape {
    /// AMF0 of onMetaData, as it stands in the file.
    pub metadata: Option<Bytes>,
    /// Decoder configurations, sent first.
    pub configs: Vec<Tag>,
    /// In the order in which they are due within the loop.
    frames: Vec<Frame>,
    loop_ms: u64,
    /// Bytes of a NAL unit's length; `None` without H.264.
    pub nal_length: Option<usize>,
}

/// A frame's place in the loop. What lies past the loop's end (tracks don't
/// start together) is due at the start of the next lap.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    at_ms: u64,
    laps: u64,
    tag: Tag,
}

/// # Errors
/// A line naming the file and what is wrong with it.
pub fn load(path: &Path) -> Result<Tape> {
    let shown = path.display();
    let about = std::fs::metadata(path).with_context(|| format!("--file {shown}"))?;
    if about.len() > MAX_FILE_BYTES {
        bail!("--file {shown}: larger than 1 GiB");
    }
    let bytes = std::fs::read(path).with_context(|| format!("--file {shown}"))?;
    let tape = flv::tags(bytes.into()).and_then(Tape::new);
    tape.with_context(|| {
        format!("--file {shown}: make one with `ffmpeg -i IN -c:v libx264 -c:a aac OUT.flv`")
    })
}

impl Tape {
    /// # Errors
    /// If there is nothing to send.
    pub fn new(tags: Vec<Tag>) -> Result<Self> {
        let first_ms = tags
            .iter()
            .filter(|tag| !tag.is_config())
            .map(|tag| tag.dts_ms)
            .min();
        let Some(first_ms) = first_ms else {
            bail!("no audio or video in the recording");
        };
        let mut configs = Vec::new();
        let mut frames = Vec::new();
        let mut metadata = None;
        for mut tag in tags {
            tag.dts_ms = tag.dts_ms.saturating_sub(first_ms);
            match tag.kind {
                Kind::Script => metadata = metadata.or(Some(tag.body)),
                _ if tag.is_config() => configs.push(tag),
                // An empty body or the end of a sequence is no frame.
                _ if tag.body.len() <= 5 && tag.is_avc() => {}
                _ => frames.push(tag),
            }
        }
        let leader = if frames.iter().any(|tag| tag.kind == Kind::Video) {
            Kind::Video
        } else {
            Kind::Audio
        };
        let loop_ms = length_ms(&frames, leader);
        let frames = around(frames, leader, loop_ms);
        let avc = configs.iter().find(|tag| tag.is_avc());
        // AVCDecoderConfigurationRecord behind 5 bytes of FLV.
        let nal_length = avc.and_then(|tag| Some(usize::from(tag.body.get(5 + 4)? & 3) + 1));
        Ok(Self {
            metadata,
            configs,
            frames,
            loop_ms,
            nal_length,
        })
    }

    #[must_use]
    pub fn has_video(&self) -> bool {
        self.nal_length.is_some()
    }

    /// Frames of one loop.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The tag at `position`, counted over all loops, and when it is due.
    /// `None` for the few places that the first lap leaves empty.
    #[must_use]
    pub fn at(&self, position: u64) -> Option<(u64, &Tag)> {
        let index = usize::try_from(position.checked_rem(self.frames())?).ok()?;
        let lap = position.checked_div(self.frames())?;
        let frame = self.frames.get(index)?;
        if lap < frame.laps {
            return None;
        }
        let due_ms = lap.checked_mul(self.loop_ms)?.checked_add(frame.at_ms)?;
        Some((due_ms, &frame.tag))
    }
}

/// Lays the frames round the loop. Of a track that isn't the leader, as many as
/// come nearest to the loop's length.
fn around(tags: Vec<Tag>, leader: Kind, loop_ms: u64) -> Vec<Frame> {
    let own = |kind: Kind| {
        let first = tags
            .iter()
            .filter(|tag| tag.kind == kind)
            .map(|tag| tag.dts_ms)
            .min();
        let count = tags.iter().filter(|tag| tag.kind == kind).count() as u64;
        let mean = length_ms(&tags, kind).checked_div(count).unwrap_or(0);
        (u64::from(first.unwrap_or(0)), mean)
    };
    let (video, audio) = (own(Kind::Video), own(Kind::Audio));
    let fits = |tag: &Tag| {
        let (first, mean) = if tag.kind == Kind::Video {
            video
        } else {
            audio
        };
        tag.kind == leader || u64::from(tag.dts_ms) - first + mean / 2 < loop_ms
    };
    let kept = tags.into_iter().filter(|tag| fits(tag));
    let mut frames: Vec<_> = kept
        .map(|tag| {
            let dts_ms = u64::from(tag.dts_ms);
            Frame {
                at_ms: dts_ms % loop_ms,
                laps: dts_ms / loop_ms,
                tag,
            }
        })
        .collect();
    // The earlier lap's first, where two are due at once.
    frames.sort_by_key(|frame| (frame.at_ms, std::cmp::Reverse(frame.laps)));
    frames
}

/// From the first frame of `kind` to the end of its last, which lasts as long
/// as the mean of the others.
fn length_ms(frames: &[Tag], kind: Kind) -> u64 {
    let mut times = frames
        .iter()
        .filter(|tag| tag.kind == kind)
        .map(|tag| u64::from(tag.dts_ms));
    let (Some(first), count) = (times.clone().next(), times.clone().count() as u64) else {
        return 1;
    };
    let span = times.next_back().unwrap_or(first) - first;
    let last = span.checked_div(count - 1).map_or(40, |_| {
        // Rounded: 8 s of 30 frames a second end after 8000 ms, not 7999.
        (span + (count - 1) / 2) / (count - 1)
    });
    (span + last).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: Kind, dts_ms: u32, body: &'static [u8]) -> Tag {
        Tag {
            kind,
            dts_ms,
            body: Bytes::from_static(body),
        }
    }

    const CONFIG: &[u8] = &[0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff];
    const FRAME: &[u8] = &[0x27, 1, 0, 0, 0, 0, 0, 0, 1, 0x41];

    /// 3 frames of 33, 33, 34 ms from 100 ms on, and sound past their end.
    fn tape() -> Tape {
        Tape::new(vec![
            tag(Kind::Script, 0, b"meta"),
            tag(Kind::Video, 0, CONFIG),
            tag(Kind::Audio, 0, &[0xaf, 0, 0x11, 0x90]),
            tag(Kind::Video, 100, FRAME),
            tag(Kind::Audio, 121, &[0xaf, 1, 7]),
            tag(Kind::Video, 133, FRAME),
            tag(Kind::Video, 167, FRAME),
            tag(Kind::Audio, 205, &[0xaf, 1, 8]),
            tag(Kind::Video, 167, &[0x17, 2, 0, 0, 0]),
        ])
        .unwrap()
    }

    #[test]
    fn times_run_on_across_the_seam() {
        let tape = tape();
        let due: Vec<_> = (0..9).filter_map(|at| Some(tape.at(at)?.0)).collect();
        // 67 ms over two frames: the third lasts 34.
        assert_eq!(due, [0, 21, 33, 67, 101, 122, 134, 168, 202]);
        assert_eq!((tape.frames(), tape.nal_length), (4, Some(4)));
        assert_eq!((tape.configs.len(), tape.metadata.is_some()), (2, true));
    }

    #[test]
    fn video_that_starts_behind_the_sound_keeps_its_pace() {
        // ffmpeg: AAC's priming comes first.
        let video = (0..3).map(|at| tag(Kind::Video, 21 + at * 40, FRAME));
        let audio = (0..6).map(|at| tag(Kind::Audio, at * 20, &[0xaf, 1]));
        let tape = Tape::new(video.chain(audio).collect()).unwrap();
        let video = (0..18).filter_map(|at| tape.at(at).filter(|(_, tag)| tag.kind == Kind::Video));
        let due: Vec<_> = video.map(|(due, _)| due).collect();
        assert_eq!(due, [21, 61, 101, 141, 181, 221]);
        let all: Vec<_> = (0..18).filter_map(|at| Some(tape.at(at)?.0)).collect();
        assert!(all.is_sorted(), "{all:?}");
    }

    #[test]
    fn a_loop_of_a_whole_number_of_frames_has_their_length() {
        let frames = (0..240u32).map(|at| tag(Kind::Video, (at * 1000 + 15) / 30, FRAME));
        let tape = Tape::new(frames.collect()).unwrap();
        assert_eq!(tape.at(240).unwrap().0, 8000);
    }

    #[test]
    fn sound_alone_loops_by_its_own_length() {
        let tape = Tape::new(vec![
            tag(Kind::Audio, 5, &[0xaf, 1]),
            tag(Kind::Audio, 28, &[0xaf, 1]),
        ]);
        let tape = tape.unwrap();
        assert_eq!(tape.at(2).unwrap().0, 46);
        assert!(!tape.has_video());
        assert!(Tape::new(vec![]).is_err());
    }
}
