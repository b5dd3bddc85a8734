//! The MPD as text.
//!
//! URLs are relative to `/live/{channel}/manifest.mpd`, so a prefix in front of
//! `/live` changes nothing and one text serves everybody.

use std::fmt::{self, Write};

use common::{
    live::{Plan, Track, UnixMs},
    media::Timescale,
    names::Kind,
};

use super::shown::{Period, Run, Shown, Slot};
use crate::playlist::{Iso8601, Quoted};

/// Where the edge tells the time (D3).
pub const TIME_PATH: &str = "/api/v1/time";

const PROFILES: &str = "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019,\
    http://www.dashif.org/guidelines/low-latency-live-v5";

/// A player that reads a manifest so often learns of the next segment before its
/// buffer is empty.
const UPDATE_MS: u64 = 500;

/// Tracks that a player may switch between: one kind, codec family and timescale.
struct Set<'a> {
    kind: Kind,
    family: &'a str,
    timescale: Timescale,
    /// Their places among the broadcast's tracks.
    tracks: Vec<(usize, &'a Track)>,
}

/// Renders the manifest; `tracks` are all of the broadcast's.
#[must_use]
pub fn manifest(shown: &Shown, plan: &Plan, tracks: &[&Track]) -> String {
    let mut out = String::with_capacity(4_096);
    // Writing to a String cannot fail.
    let _ = write(&mut out, shown, plan, tracks);
    out
}

fn write(out: &mut String, shown: &Shown, plan: &Plan, tracks: &[&Track]) -> fmt::Result {
    out.write_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")?;
    head(out, shown, plan)?;
    service(out, plan)?;
    let offset_ms = availability_offset_ms(shown, tracks);
    let sets = sets(tracks);
    for period in &shown.periods {
        write_period(out, period, &sets, offset_ms)?;
    }
    timing(out, " ")?;
    out.write_str("</MPD>\n")
}

fn head(out: &mut String, shown: &Shown, plan: &Plan) -> fmt::Result {
    let version = shown.version;
    // publishTime tells versions apart and, like all else, follows from the log.
    let state = u64::from(version.ended) * 2 + u64::from(version.ahead);
    let published = UnixMs(shown.until_ms + state);
    write!(
        out,
        "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"{PROFILES}\" type=\"dynamic\" \
         availabilityStartTime=\"1970-01-01T00:00:00Z\" publishTime=\"{}\"",
        Iso8601(published)
    )?;
    if version.ended {
        // The end is known and nothing is to be asked for again (5.3.1.2).
        write!(
            out,
            " mediaPresentationDuration=\"{}\"",
            Length(shown.end_ms)
        )?;
    } else {
        write!(out, " minimumUpdatePeriod=\"{}\"", Length(UPDATE_MS))?;
    }
    // No suggestedPresentationDelay: Shaka adds it to the latency of the service
    // description, and takes a maxSegmentDuration above the segments' own off it.
    writeln!(
        out,
        " minBufferTime=\"{}\" timeShiftBufferDepth=\"{}\">",
        Length(u64::from(plan.part_hold_back_ms) / 2),
        Length(plan.can_skip_until_ms().into()),
    )
}

/// D2
fn service(out: &mut String, plan: &Plan) -> fmt::Result {
    let target_ms = plan.part_hold_back_ms;
    write!(
        out,
        " <ServiceDescription id=\"0\">\n  \
         <Scope schemeIdUri=\"urn:dvb:dash:lowlatency:scope:2019\"/>\n  \
         <Latency referenceId=\"0\" target=\"{target_ms}\" min=\"{}\" max=\"{}\"/>\n  \
         <PlaybackRate min=\"0.95\" max=\"1.10\"/>\n \
         </ServiceDescription>\n",
        target_ms / 2,
        target_ms.saturating_mul(3),
    )
}

/// D5: how long before its end a segment may be asked for. It is there with its
/// first chunk; a part's length later it is there on any edge of a slow tree.
fn availability_offset_ms(shown: &Shown, tracks: &[&Track]) -> u64 {
    let part = |track: &&Track| track.timescale.to_ms(track.part_target);
    let part_ms = tracks.iter().map(part).max().unwrap_or(0);
    let nominal_ms = shown.nominal_ms;
    nominal_ms.saturating_sub(part_ms).max(nominal_ms / 2)
}

fn sets<'a>(tracks: &[&'a Track]) -> Vec<Set<'a>> {
    let mut sets: Vec<Set<'a>> = Vec::new();
    for (at, track) in tracks.iter().copied().enumerate() {
        let family = track.codec.split('.').next().unwrap_or_default();
        let kind = track.kind();
        let alike = |set: &&mut Set<'_>| {
            (set.kind, set.family, set.timescale) == (kind, family, track.timescale)
        };
        match sets.iter_mut().find(alike) {
            Some(set) => set.tracks.push((at, track)),
            None => sets.push(Set {
                kind,
                family,
                timescale: track.timescale,
                tracks: vec![(at, track)],
            }),
        }
    }
    sets
}

fn write_period(
    out: &mut String,
    period: &Period,
    sets: &[Set<'_>],
    offset_ms: u64,
) -> fmt::Result {
    // What begins a period names it: the same on every edge and at any time.
    write!(
        out,
        " <Period id=\"{}-{}",
        period.epoch, period.discontinuity_sequence
    )?;
    for run in &period.runs {
        write!(out, "-{}", run.init)?;
    }
    writeln!(out, "\" start=\"{}\">", Length(period.start_ms))?;
    for (id, set) in sets.iter().enumerate() {
        write_set(out, id, set, period, offset_ms)?;
    }
    out.write_str(" </Period>\n")
}

fn write_set(
    out: &mut String,
    id: usize,
    set: &Set<'_>,
    period: &Period,
    offset_ms: u64,
) -> fmt::Result {
    let kind = match set.kind {
        Kind::Video => "video",
        Kind::Audio => "audio",
    };
    writeln!(
        out,
        "  <AdaptationSet id=\"{id}\" contentType=\"{kind}\" mimeType=\"{kind}/mp4\" \
         segmentAlignment=\"true\" startWithSAP=\"1\">\n   \
         <SupplementalProperty schemeIdUri=\"urn:dvb:dash:lowlatency:critical:2019\" value=\"true\"/>"
    )?;
    // D4: the period's start is one instant of both clocks.
    writeln!(
        out,
        "   <ProducerReferenceTime id=\"{id}\" type=\"encoder\" wallClockTime=\"{}\" presentationTime=\"{}\">",
        Iso8601(UnixMs(period.start_ms)),
        set.timescale.from_ms(period.media_ms).0,
    )?;
    timing(out, "    ")?;
    out.write_str("   </ProducerReferenceTime>\n")?;
    for (at, track) in &set.tracks {
        if let Some(run) = period.runs.get(*at) {
            write_representation(out, track, run, period, offset_ms)?;
        }
    }
    out.write_str("  </AdaptationSet>\n")
}

fn write_representation(
    out: &mut String,
    track: &Track,
    run: &Run,
    period: &Period,
    offset_ms: u64,
) -> fmt::Result {
    let (name, epoch, init) = (track.name, period.epoch, run.init);
    write!(
        out,
        "   <Representation id=\"{name}\" bandwidth=\"{}\" codecs=\"{}\"",
        track.bandwidth_bps,
        Quoted(&track.codec)
    )?;
    if let Some((width, height)) = track.size {
        write!(out, " width=\"{width}\" height=\"{height}\"")?;
    }
    match track.frame_rate {
        Some((frames, 1)) => write!(out, " frameRate=\"{frames}\"")?,
        Some((frames, per)) if per > 0 => write!(out, " frameRate=\"{frames}/{per}\"")?,
        _ => {}
    }
    if let Some(hz) = track.sample_rate_hz {
        write!(out, " audioSamplingRate=\"{hz}\"")?;
    }
    out.write_str(">\n")?;
    if let Some(channels) = track.channels {
        writeln!(
            out,
            "    <AudioChannelConfiguration \
             schemeIdUri=\"urn:mpeg:dash:23003:3:audio_channel_configuration:2011\" value=\"{channels}\"/>"
        )?;
    }
    // D6: a chunk begins within a part of the last one.
    writeln!(
        out,
        "    <Resync type=\"0\" dT=\"{}\"/>",
        track.part_target.0
    )?;
    writeln!(
        out,
        "    <SegmentTemplate timescale=\"{}\" presentationTimeOffset=\"{}\" startNumber=\"{}\" \
         media=\"{epoch}/{name}/$Number$.m4s\" initialization=\"{epoch}/{name}/init-{init}.mp4\" \
         availabilityTimeOffset=\"{}\" availabilityTimeComplete=\"false\">",
        track.timescale.hz(),
        track.timescale.from_ms(period.media_ms).0,
        period.first,
        Decimal(offset_ms),
    )?;
    timeline(out, &run.slots)?;
    out.write_str("    </SegmentTemplate>\n   </Representation>\n")
}

/// D8: every length exactly; equal neighbours are one element.
fn timeline(out: &mut String, slots: &[Slot]) -> fmt::Result {
    out.write_str("     <SegmentTimeline>\n")?;
    let mut expected = None;
    let mut rest = slots;
    while let Some(first) = rest.first() {
        let goes_on = |pair: &[Slot]| matches!(pair, [a, b] if b.duration == a.duration && b.start == a.start + a.duration);
        let more = rest.windows(2).take_while(|pair| goes_on(pair)).count();
        out.write_str("      <S")?;
        if expected != Some(first.start) {
            write!(out, " t=\"{}\"", first.start.0)?;
        }
        write!(out, " d=\"{}\"", first.duration.0)?;
        if more > 0 {
            write!(out, " r=\"{more}\"")?;
        }
        out.write_str("/>\n")?;
        expected = rest.get(more).map(|last| last.start + last.duration);
        rest = rest.get(more + 1..).unwrap_or_default();
    }
    out.write_str("     </SegmentTimeline>\n")
}

/// D3, and the same in D4.
fn timing(out: &mut String, indent: &str) -> fmt::Result {
    writeln!(
        out,
        "{indent}<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-xsdate:2014\" value=\"{TIME_PATH}\"/>"
    )
}

/// Milliseconds as an ISO 8601 duration.
struct Length(u64);

/// Milliseconds as seconds with three decimals.
struct Decimal(u64);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PT{}S", Decimal(self.0))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}
