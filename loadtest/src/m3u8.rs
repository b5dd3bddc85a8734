//! A parser of low-latency playlists, strict about syntax and about nothing
//! else: what it reads may break every rule of the server's, so that
//! [`crate::check`] can say which.
//!
//! In: the text of a playlist (RFC 8216bis section 4). Out: [`Playlist`], or
//! the line that isn't one. Durations are microseconds, times Unix
//! microseconds; tags we have no use for are skipped.

use std::collections::BTreeMap;

mod attributes;
mod media;
mod time;

pub use media::parse_media;
pub use time::date_time_us;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct M3u8Error {
    pub line: usize,
    pub what: String,
}

pub(crate) fn fault(line: usize, what: impl Into<String>) -> M3u8Error {
    M3u8Error {
        line,
        what: what.into(),
    }
}

/// Attribute list in the order of names; values without their quotes.
pub type Attributes = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Playlist {
    Multivariant(Multivariant),
    Media(Box<MediaPlaylist>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Multivariant {
    pub version: Option<u64>,
    pub independent_segments: bool,
    pub variants: Vec<Variant>,
    pub renditions: Vec<Rendition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    pub uri: String,
    pub attributes: Attributes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    pub kind: String,
    pub group: String,
    /// `None`: carried in the variant itself.
    pub uri: Option<String>,
    pub is_default: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaPlaylist {
    pub version: Option<u64>,
    pub target_duration_s: Option<u64>,
    pub part_target_us: Option<u64>,
    pub control: Option<ServerControl>,
    pub media_sequence: u64,
    pub discontinuity_sequence: Option<u64>,
    pub playlist_type: Option<String>,
    /// Segments replaced by EXT-X-SKIP.
    pub skipped: u64,
    /// In order of msn, without holes; the last may be open.
    pub segments: Vec<Segment>,
    pub hints: Vec<Hint>,
    pub reports: Vec<RenditionReport>,
    pub ended: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerControl {
    pub hold_back_us: Option<u64>,
    pub part_hold_back_us: Option<u64>,
    pub can_skip_until_us: Option<u64>,
    pub can_block_reload: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    pub msn: u64,
    /// `None` while the segment is open.
    pub uri: Option<String>,
    pub duration_us: Option<u64>,
    pub byte_range: Option<String>,
    pub parts: Vec<Part>,
    pub discontinuity: bool,
    pub gap: bool,
    pub date_time_us: Option<i64>,
    /// The EXT-X-MAP in force, URI only.
    pub map: Option<String>,
    /// PDT, MAP or DISCONTINUITY stood behind the first EXT-X-PART.
    pub late_tags: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    pub uri: String,
    pub duration_us: u64,
    pub independent: bool,
    pub gap: bool,
    pub byte_range: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// `PART` or `MAP`.
    pub kind: String,
    pub uri: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionReport {
    pub uri: String,
    pub last_msn: Option<u64>,
    pub last_part: Option<u64>,
}

impl MediaPlaylist {
    /// The hinted part.
    #[must_use]
    pub fn part_hint(&self) -> Option<&str> {
        let hint = self.hints.iter().find(|hint| hint.kind == "PART")?;
        Some(&hint.uri)
    }

    /// The last segment and how many of its parts are listed. An open segment
    /// counts as far as it goes.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        let last = self.segments.last()?;
        Some(Position {
            msn: last.msn,
            parts: last.parts.len() as u64,
            complete: last.uri.is_some(),
        })
    }

    #[must_use]
    pub fn target_us(&self) -> u64 {
        self.target_duration_s
            .unwrap_or(6)
            .saturating_mul(1_000_000)
    }

    /// How far behind the end a player stays.
    #[must_use]
    pub fn hold_back_us(&self) -> u64 {
        let control = self.control.clone().unwrap_or_default();
        control
            .part_hold_back_us
            .or(control.hold_back_us)
            .unwrap_or(self.target_us().saturating_mul(3))
    }
}

/// How far a media playlist goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub msn: u64,
    pub parts: u64,
    pub complete: bool,
}

impl Position {
    /// The part that comes next, as `_HLS_msn` and `_HLS_part` name it.
    #[must_use]
    pub fn next(self) -> (u64, u64) {
        if self.complete {
            (self.msn.saturating_add(1), 0)
        } else {
            (self.msn, self.parts)
        }
    }
}

/// # Errors
/// The first line that breaks the syntax.
pub fn parse(text: &str) -> Result<Playlist, M3u8Error> {
    if text.lines().next().map(str::trim_end) != Some("#EXTM3U") {
        return Err(fault(1, "not a playlist: it doesn't start with #EXTM3U"));
    }
    let multivariant = text
        .lines()
        .any(|line| line.starts_with("#EXT-X-STREAM-INF") || line.starts_with("#EXT-X-MEDIA:"));
    if multivariant {
        parse_multivariant(text).map(Playlist::Multivariant)
    } else {
        parse_media(text).map(|media| Playlist::Media(Box::new(media)))
    }
}

/// Lines with their numbers, from 1; blank ones and comments left out.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim_end()))
        .filter(|(_, line)| {
            !line.is_empty() && (!line.starts_with('#') || line.starts_with("#EXT"))
        })
}

/// `#EXT-X-NAME:value` into name and value.
pub(crate) fn tag(line: &str) -> (&str, &str) {
    line.split_once(':').unwrap_or((line, ""))
}

fn parse_multivariant(text: &str) -> Result<Multivariant, M3u8Error> {
    let mut out = Multivariant::default();
    let mut pending: Option<Attributes> = None;
    for (at, line) in lines(text) {
        let (name, value) = tag(line);
        match name {
            "#EXT-X-VERSION" => out.version = Some(attributes::integer(at, value)?),
            "#EXT-X-INDEPENDENT-SEGMENTS" => out.independent_segments = true,
            "#EXT-X-STREAM-INF" => pending = Some(attributes::parse(at, value)?),
            "#EXT-X-MEDIA" => {
                let list = attributes::parse(at, value)?;
                let take = |name: &str| list.get(name).cloned();
                out.renditions.push(Rendition {
                    kind: take("TYPE").ok_or_else(|| fault(at, "EXT-X-MEDIA without TYPE"))?,
                    group: take("GROUP-ID").unwrap_or_default(),
                    uri: take("URI"),
                    is_default: take("DEFAULT").as_deref() == Some("YES"),
                });
            }
            _ if line.starts_with('#') => {}
            _ => {
                let attributes = pending
                    .take()
                    .ok_or_else(|| fault(at, "a URI without EXT-X-STREAM-INF"))?;
                out.variants.push(Variant {
                    uri: line.to_owned(),
                    attributes,
                });
            }
        }
    }
    if pending.is_some() {
        return Err(fault(0, "the last EXT-X-STREAM-INF has no URI"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
