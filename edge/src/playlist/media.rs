//! The media playlist of one track, whole or as a delta update.
//!
//! URIs are relative to `/live/{channel}/{track}.m3u8`, so a prefix in front of
//! `/live` changes nothing and one text serves everybody.

use std::fmt::{self, Write};

use common::{
    live::{ListedSegment, Listing, Plan, Track},
    media::Ticks,
    names::{Epoch, InitId, TrackName},
};

use super::{
    VERSION,
    clock::{Iso8601, Running, SecondsMs, ceiling},
};

/// Whether segments before the skip boundary are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    No,
    /// A delta update, where there is something to skip.
    Yes,
}

/// Renders the playlist of `track`; `tracks` are all of the broadcast's.
#[must_use]
pub fn media(
    listing: &Listing,
    plan: &Plan,
    track: &Track,
    tracks: &[&Track],
    skip: Skip,
) -> String {
    let mut out = String::with_capacity(1024 + listing.segments.len() * 512);
    // Writing to a String cannot fail.
    let _ = write(&mut out, listing, plan, track, tracks, skip);
    out
}

fn write(
    out: &mut String,
    listing: &Listing,
    plan: &Plan,
    track: &Track,
    tracks: &[&Track],
    skip: Skip,
) -> fmt::Result {
    header(out, listing, plan, track)?;
    let skipped = match skip {
        Skip::No => 0,
        Skip::Yes => skippable(listing, plan, track),
    };
    if skipped > 0 {
        writeln!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")?;
    }
    let mut init = None;
    for segment in listing.segments.iter().skip(skipped) {
        write_segment(out, track, segment, &mut init)?;
    }
    end(out, listing, track.name, tracks, init)
}

/// What stands behind the segments.
pub(super) fn end(
    out: &mut String,
    listing: &Listing,
    name: TrackName,
    tracks: &[&Track],
    init: Option<(Epoch, InitId)>,
) -> fmt::Result {
    if listing.ended {
        reports(out, listing, name, tracks)?;
        return out.write_str("#EXT-X-ENDLIST\n");
    }
    hints(out, listing, name, init)?;
    reports(out, listing, name, tracks)
}

pub(super) fn header(
    out: &mut String,
    listing: &Listing,
    plan: &Plan,
    track: &Track,
) -> fmt::Result {
    out.write_str("#EXTM3U\n")?;
    out.write_str(VERSION)?;
    writeln!(out, "#EXT-X-TARGETDURATION:{}", plan.target_duration_s)?;
    writeln!(
        out,
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={},HOLD-BACK={},PART-HOLD-BACK={}",
        SecondsMs(plan.can_skip_until_ms()),
        SecondsMs(plan.hold_back_ms()),
        SecondsMs(plan.part_hold_back_ms),
    )?;
    let part_target = ceiling(track.timescale, track.part_target);
    writeln!(out, "#EXT-X-PART-INF:PART-TARGET={part_target}")?;
    let first = listing.segments.first().map(|segment| segment.head);
    let (msn, discontinuities) = first.map_or((listing.hint.msn.0, 0), |head| {
        // A segment's own EXT-X-DISCONTINUITY, while listed, adds one to what
        // the header says; once it is gone the header must say it.
        let listed = u64::from(head.flags.discontinuity);
        (
            head.msn.0,
            head.discontinuity_sequence.saturating_sub(listed),
        )
    });
    writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{msn}")?;
    writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}")?;
    out.write_str("#EXT-X-INDEPENDENT-SEGMENTS\n")
}

/// How many segments lie wholly before the skip boundary, which is measured
/// from the end of the playlist, parts of the open segment included.
fn skippable(listing: &Listing, plan: &Plan, track: &Track) -> usize {
    let boundary = track.timescale.from_ms(plan.can_skip_until_ms().into());
    let total: Ticks = listing.segments.iter().map(|s| s.duration).sum();
    let mut left = total;
    listing
        .segments
        .iter()
        .take_while(|segment| {
            left = left.saturating_sub(segment.duration);
            segment.complete && left >= boundary
        })
        .count()
}

/// PDT, MAP and DISCONTINUITY apply to the segment's first part as well and so
/// stand before it (H11). A MAP is also written first in a delta update: a
/// reader then needs nothing of what was skipped.
pub(super) fn write_segment(
    out: &mut String,
    track: &Track,
    segment: &ListedSegment,
    init: &mut Option<(Epoch, InitId)>,
) -> fmt::Result {
    let head = &segment.head;
    let (epoch, name, msn) = (head.epoch, track.name, head.msn);
    if head.flags.discontinuity {
        out.write_str("#EXT-X-DISCONTINUITY\n")?;
    }
    if init.replace((epoch, head.init)) != Some((epoch, head.init)) {
        let id = head.init;
        writeln!(out, "#EXT-X-MAP:URI=\"{epoch}/{name}/init-{id}.mp4\"")?;
    }
    let date = Iso8601(head.program_time);
    writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{date}")?;
    // Only a segment of which nothing exists: one with GAP parts among others
    // still has media behind its URI (section 4.4.4.7).
    if head.flags.gap {
        out.write_str("#EXT-X-GAP\n")?;
    }
    let mut running = Running::from(track.timescale, head.dts);
    for (index, part) in segment.parts.iter().enumerate() {
        let duration = running.advance(part.duration);
        write!(
            out,
            "#EXT-X-PART:DURATION={duration},URI=\"{epoch}/{name}/{msn}.{index}.m4s\""
        )?;
        // GAP keeps its URI, which the draft requires and which answers 404.
        out.write_str(match (part.flags.gap, part.flags.independent) {
            (true, _) => ",GAP=YES\n",
            (false, true) => ",INDEPENDENT=YES\n",
            (false, false) => "\n",
        })?;
    }
    if segment.complete {
        let duration = Running::from(track.timescale, head.dts).advance(segment.duration);
        writeln!(out, "#EXTINF:{duration},\n{epoch}/{name}/{msn}.m4s")?;
    }
    Ok(())
}

/// The next part, and before it its init segment where that is a new one (H12).
fn hints(
    out: &mut String,
    listing: &Listing,
    name: TrackName,
    init: Option<(Epoch, InitId)>,
) -> fmt::Result {
    let (epoch, next) = (listing.hint_epoch, listing.hint);
    let id = listing.hint_init;
    if init != Some((epoch, id)) {
        writeln!(
            out,
            "#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"{epoch}/{name}/init-{id}.mp4\""
        )?;
    }
    let (msn, part) = (next.msn, next.part);
    writeln!(
        out,
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{epoch}/{name}/{msn}.{part}.m4s\""
    )
}

fn reports(out: &mut String, listing: &Listing, name: TrackName, tracks: &[&Track]) -> fmt::Result {
    for other in tracks.iter().filter(|other| other.name != name) {
        let stood = listing.siblings.iter().find(|at| at.track == other.name);
        if let Some(at) = stood {
            writeln!(
                out,
                "#EXT-X-RENDITION-REPORT:URI=\"{}.m3u8\",LAST-MSN={},LAST-PART={}",
                other.name, at.msn, at.part
            )?;
        }
    }
    Ok(())
}
