//! The multivariant playlist: which renditions a broadcast has (H15).
//!
//! Video renditions are the variants and share the audio renditions, grouped by
//! codec family. A broadcast without video has its audio as the variant.

use std::fmt::{self, Write};

use common::{
    live::{Plan, Track},
    names::Kind,
};

use super::VERSION;

/// Audio renditions that one variant can switch between: one codec family.
struct Group<'a> {
    family: &'a str,
    tracks: Vec<&'a Track>,
}

/// Renders the playlist; URIs are relative to `/live/{channel}/index.m3u8`.
/// What a broadcast's plan froze is all that shows.
#[must_use]
pub fn multivariant(_plan: &Plan, tracks: &[&Track]) -> String {
    let mut out = String::with_capacity(256 + tracks.len() * 256);
    // Writing to a String cannot fail.
    let _ = write(&mut out, tracks);
    out
}

/// The same playlist with `prefix` before each of its URIs, which are relative.
#[must_use]
pub fn rebased(text: &str, prefix: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8 * prefix.len());
    for line in text.split_inclusive('\n') {
        if line.starts_with('#') {
            out.push_str(&line.replace("URI=\"", &format!("URI=\"{prefix}")));
        } else {
            out.push_str(prefix);
            out.push_str(line);
        }
    }
    out
}

fn write(out: &mut String, tracks: &[&Track]) -> fmt::Result {
    out.write_str("#EXTM3U\n")?;
    out.write_str(VERSION)?;
    out.write_str("#EXT-X-INDEPENDENT-SEGMENTS\n")?;
    let groups = groups(tracks);
    let has_video = tracks.iter().any(|track| track.kind() == Kind::Video);
    for group in &groups {
        // One audio track alone is the variant itself.
        if has_video || group.tracks.len() > 1 {
            for (index, track) in group.tracks.iter().enumerate() {
                rendition(out, group, index, track)?;
            }
        }
    }
    if !has_video {
        for group in &groups {
            let grouped = group.tracks.len() > 1;
            if let Some(first) = group.tracks.first() {
                variant(out, None, Some(group), grouped, first)?;
            }
        }
        return Ok(());
    }
    let videos = tracks.iter().filter(|track| track.kind() == Kind::Video);
    for video in videos {
        if groups.is_empty() {
            variant(out, Some(video), None, false, video)?;
        }
        for group in &groups {
            variant(out, Some(video), Some(group), true, video)?;
        }
    }
    Ok(())
}

fn groups<'a>(tracks: &[&'a Track]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for track in tracks.iter().filter(|track| track.kind() == Kind::Audio) {
        let family = track.codec.split('.').next().unwrap_or_default();
        match groups.iter_mut().find(|group| group.family == family) {
            Some(group) => group.tracks.push(track),
            None => groups.push(Group {
                family,
                tracks: vec![track],
            }),
        }
    }
    groups
}

fn rendition(out: &mut String, group: &Group<'_>, index: usize, track: &Track) -> fmt::Result {
    let (family, name) = (Quoted(group.family), track.name);
    write!(
        out,
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{family}\",NAME=\"{name}\",DEFAULT={},AUTOSELECT=YES",
        if index == 0 { "YES" } else { "NO" },
    )?;
    if let Some(channels) = track.channels {
        write!(out, ",CHANNELS=\"{channels}\"")?;
    }
    writeln!(out, ",URI=\"{name}.m3u8\"")
}

/// BANDWIDTH is the sum of the peaks that can be played together: the video and
/// the largest rendition of its group.
fn variant(
    out: &mut String,
    video: Option<&Track>,
    audio: Option<&Group<'_>>,
    grouped: bool,
    uri: &Track,
) -> fmt::Result {
    let heard = |rate: fn(&Track) -> u32| {
        audio.map_or(0, |group| {
            group.tracks.iter().map(|t| rate(t)).max().unwrap_or(0)
        })
    };
    let peak = video.map_or(0, |track| track.bandwidth_bps);
    let average = video.map_or(0, |track| track.average_bandwidth_bps);
    write!(
        out,
        "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"",
        u64::from(peak) + u64::from(heard(|track| track.bandwidth_bps)),
        u64::from(average) + u64::from(heard(|track| track.average_bandwidth_bps)),
    )?;
    codecs(out, video, audio)?;
    out.write_char('"')?;
    if let Some((width, height)) = video.and_then(|track| track.size) {
        write!(out, ",RESOLUTION={width}x{height}")?;
    }
    if let Some((frames, per)) = video.and_then(|track| track.frame_rate)
        && per > 0
    {
        let milli = (u64::from(frames) * 1_000 + u64::from(per) / 2) / u64::from(per);
        write!(out, ",FRAME-RATE={}.{:03}", milli / 1_000, milli % 1_000)?;
    }
    if let Some(group) = audio.filter(|_| grouped) {
        write!(out, ",AUDIO=\"{}\"", Quoted(group.family))?;
    }
    writeln!(out, "\n{}.m3u8", uri.name)
}

fn codecs(out: &mut String, video: Option<&Track>, audio: Option<&Group<'_>>) -> fmt::Result {
    let group = audio.map(|group| group.tracks.as_slice());
    let all = video
        .into_iter()
        .chain(group.into_iter().flatten().copied());
    let mut seen: Vec<&str> = Vec::new();
    for track in all {
        if !seen.contains(&track.codec.as_str()) {
            let comma = if seen.is_empty() { "" } else { "," };
            write!(out, "{comma}{}", Quoted(&track.codec))?;
            seen.push(&track.codec);
        }
    }
    Ok(())
}

/// A codec string comes over the link: whatever it holds, it stays within its
/// quotes and on its line.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        self.0
            .chars()
            .filter(|c| safe(*c))
            .try_for_each(|c| f.write_char(c))
    }
}
