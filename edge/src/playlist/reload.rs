//! Rules over a listing: is it a playlist yet (H2), and in a blocking reload,
//! may a request be answered, must it wait, or does it ask for what is too far
//! away (section 6.2.5.2, R1 and R3).

use common::{
    live::{Listing, Plan, Track},
    media::Ticks,
    names::Msn,
};

/// Whether a player could start with it: PART-HOLD-BACK of media is listed, or
/// no more will come (H2). A subscription tells of an open segment chunk by
/// chunk, so an edge has less than that for a moment.
#[must_use]
pub fn is_offered(listing: &Listing, plan: &Plan, track: &Track) -> bool {
    let hold_back = track.timescale.from_ms(plan.part_hold_back_ms.into());
    let mut listed = Ticks(0);
    // The end of a long window says enough.
    listing.ended
        || listing.segments.iter().rev().any(|one| {
            listed += one.duration;
            listed >= hold_back
        })
}

/// What `_HLS_msn` and `_HLS_part` ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    pub msn: Msn,
    pub part: Option<u32>,
}

/// What a request gets while the listing stands as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The playlist has what was asked for.
    Answer,
    /// It will have it soon.
    Hold,
    /// 400, at once.
    TooFar,
}

/// The advance part limit: three parts, or three seconds of shorter ones (R3).
#[must_use]
pub fn part_limit(track: &Track) -> u32 {
    let (target, second) = (track.part_target.0, u64::from(track.timescale.hz()));
    if target == 0 || target >= second {
        return 3;
    }
    u32::try_from((3 * second).div_ceil(target)).unwrap_or(u32::MAX)
}

/// Judges a request. `limit` is the track's [`part_limit`].
#[must_use]
pub fn verdict(listing: &Listing, limit: u32, want: Want) -> Verdict {
    let at = listing.version;
    // A playlist that has ended holds all it ever will (R5).
    if at.ended {
        return Verdict::Answer;
    }
    let last_complete = if at.complete {
        at.msn.0
    } else {
        at.msn.0.saturating_sub(1)
    };
    let msn = want.msn.0;
    if msn > last_complete.saturating_add(2) {
        return Verdict::TooFar;
    }
    let Some(part) = want.part else {
        return if msn <= last_complete {
            Verdict::Answer
        } else {
            Verdict::Hold
        };
    };
    if msn < last_complete {
        return Verdict::Answer;
    }
    let parts = parts_of(listing, want.msn);
    if part < parts {
        Verdict::Answer
    } else if part >= parts.saturating_add(limit) {
        Verdict::TooFar
    } else if msn == last_complete && at.msn.0 > msn && at.parts > 0 {
        // Past the last part of a complete segment: part 0 of the next one.
        Verdict::Answer
    } else {
        Verdict::Hold
    }
}

fn parts_of(listing: &Listing, msn: Msn) -> u32 {
    let segment = listing.segments.iter().rev().find(|s| s.head.msn == msn);
    segment.map_or(0, |s| u32::try_from(s.parts.len()).unwrap_or(u32::MAX))
}
