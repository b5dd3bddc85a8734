//! What of a broadcast a manifest shows, and when its periods begin.
//!
//! Time in a manifest is Unix time: availabilityStartTime is 1970, so it never
//! changes, and a period's media stands where its programme time puts it.
//! Within an epoch programme time less media time is one whole number of
//! milliseconds (the packager sees to that), so any segment tells it.

use std::{fmt, sync::Arc};

use common::{
    live::{ListedSegment, Listing, Plan, Track},
    media::{Ticks, Timescale},
    names::{BroadcastId, Epoch, InitId, Msn},
};

/// Never fewer complete segments, as in a playlist (H2).
const LEAST_SEGMENTS: usize = 6;

/// How far a manifest has come. Manifests of equal version are equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The newest segment that is complete in every track.
    pub last: Option<(Epoch, Msn)>,
    /// A segment that every track has begun and that does not simply go on
    /// from `last`: the first of an epoch.
    pub open: Option<(Epoch, Msn)>,
    /// Every track has begun the one after `last`. It is listed with a length
    /// that is expected; before it exists nothing is promised.
    pub ahead: bool,
    pub ended: bool,
}

/// What a manifest is rendered from, beside plan and tracks.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    pub version: Version,
    /// Oldest first; never empty.
    pub periods: Vec<Period>,
    /// The length that the segment being made is listed with: the shortest of
    /// the complete ones in its period.
    pub nominal_ms: u64,
    /// Programme time at the end of what is complete, else at its start.
    pub until_ms: u64,
    /// The same in the track that ends last.
    pub end_ms: u64,
}

/// A stretch without discontinuity (D8).
#[derive(Debug, PartialEq, Eq)]
pub struct Period {
    pub epoch: Epoch,
    pub discontinuity_sequence: u64,
    /// Unix time.
    pub start_ms: u64,
    /// Media time at its start: the presentation time offset.
    pub media_ms: u64,
    /// Its first listed segment.
    pub first: Msn,
    /// One a track, in the order of the tracks.
    pub runs: Vec<Run>,
}

/// One track's listed segments of a period, numbered on from its first.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub init: InitId,
    pub slots: Vec<Slot>,
}

/// One segment, in its track's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub start: Ticks,
    pub duration: Ticks,
}

/// One segment number in every track.
struct Row<'a>(Vec<&'a ListedSegment>);

/// What is shown of a broadcast; `None` while no segment was begun in every
/// track. The listings are those of `tracks`, in their order.
#[must_use]
pub fn shown(
    broadcast: BroadcastId,
    plan: &Plan,
    tracks: &[&Track],
    listings: &[Arc<Listing>],
) -> Option<Shown> {
    let leader = tracks.first().filter(|_| tracks.len() == listings.len())?;
    let mut rows = complete(plan, leader, listings);
    let closed = rows.len();
    let begun = begun(listings).filter(|begun| match rows.last() {
        None => true,
        Some(last) => begun.head().msn > last.head().msn && !begun.follows(last),
    });
    let number = |row: &Row<'_>| (row.head().epoch, row.head().msn);
    let version = Version {
        last: rows.last().map(number),
        open: begun.as_ref().map(number),
        ahead: begun.is_none() && rows.last().is_some_and(|last| goes_on(last, listings)),
        ended: listings.iter().all(|one| one.ended),
    };
    rows.extend(begun);
    let nominal = nominal(plan, leader, rows.last()?, rows.get(..closed)?);
    let mut periods: Vec<Period> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        if at == 0 || !row.follows(rows.get(at - 1)?) {
            let period = begin(broadcast, leader, row, periods.last());
            periods.push(period);
        }
        let period = periods.last_mut()?;
        for ((run, segment), track) in period.runs.iter_mut().zip(&row.0).zip(tracks) {
            let duration = if at < closed {
                segment.duration
            } else {
                leader.timescale.convert(nominal, track.timescale)
            };
            let start = segment.head.dts;
            run.slots.push(Slot { start, duration });
        }
    }
    let period = periods.last_mut()?;
    let (until_ms, end_ms) = ends(tracks, period, version.open.is_none());
    if version.ahead {
        for (run, track) in period.runs.iter_mut().zip(tracks) {
            let duration = leader.timescale.convert(nominal, track.timescale);
            let start = run.slots.last().map(|last| last.start + last.duration)?;
            run.slots.push(Slot { start, duration });
        }
    }
    Some(Shown {
        version,
        periods,
        nominal_ms: leader.timescale.to_ms(nominal),
        until_ms,
        end_ms,
    })
}

/// Whether every track has begun the segment after `last`, in the same epoch
/// and with the same init segment. A listing's version tells of a segment from
/// its first chunk, its segments from the first part.
fn goes_on(last: &Row<'_>, listings: &[Arc<Listing>]) -> bool {
    let next = last.head().msn.next();
    let mut pairs = last.0.iter().zip(listings);
    pairs.all(|(segment, listing)| {
        let on = listing.version.msn > next
            || (listing.hint_epoch, listing.hint_init) == (segment.head.epoch, segment.head.init);
        listing.version.msn >= next && on
    })
}

/// The newest segments that are complete in every track, one after the other
/// and as many as the window that is shown: shorter than the playlists' window
/// by what one track may be ahead of another.
fn complete<'a>(plan: &Plan, leader: &Track, listings: &'a [Arc<Listing>]) -> Vec<Row<'a>> {
    let newest = |listing: &Listing| {
        let mut complete = listing.segments.iter().rev().filter(|one| one.complete);
        complete.next().map(|one| one.head.msn)
    };
    let last: Option<Vec<_>> = listings.iter().map(|one| newest(one)).collect();
    let Some(mut next) = last.and_then(|all| all.into_iter().min()) else {
        return Vec::new();
    };
    let window = leader.timescale.from_ms(plan.can_skip_until_ms().into());
    let mut total = Ticks(0);
    let mut rows: Vec<Row<'a>> = Vec::new();
    while total < window || rows.len() < LEAST_SEGMENTS {
        let Some(row) = Row::at(listings, next).filter(|row| row.0.iter().all(|one| one.complete))
        else {
            break;
        };
        total += row.leading().duration;
        rows.push(row);
        let Some(before) = next.0.checked_sub(1) else {
            break;
        };
        next = Msn(before);
    }
    rows.reverse();
    rows
}

/// The newest segment that every track lists.
fn begun(listings: &[Arc<Listing>]) -> Option<Row<'_>> {
    let newest = |listing: &Listing| listing.segments.last().map(|one| one.head.msn);
    let newest: Option<Vec<_>> = listings.iter().map(|one| newest(one)).collect();
    Row::at(listings, newest?.into_iter().min()?)
}

impl<'a> Row<'a> {
    fn at(listings: &'a [Arc<Listing>], msn: Msn) -> Option<Self> {
        let found = |listing: &'a Arc<Listing>| {
            let at = listing.segments.partition_point(|one| one.head.msn < msn);
            listing.segments.get(at).filter(|one| one.head.msn == msn)
        };
        let all: Option<Vec<_>> = listings.iter().map(found).collect();
        all.filter(|all| !all.is_empty()).map(Self)
    }

    #[expect(clippy::indexing_slicing, reason = "a row has one segment at least")]
    fn leading(&self) -> &'a ListedSegment {
        self.0[0]
    }

    fn head(&self) -> &'a common::live::SegmentHead {
        &self.leading().head
    }

    /// Whether it stands in the period of the row before it.
    fn follows(&self, before: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&before.0);
        self.head().msn == before.head().msn.next()
            && pairs.all(|(now, then)| {
                (
                    now.head.epoch,
                    now.head.init,
                    now.head.discontinuity_sequence,
                ) == (
                    then.head.epoch,
                    then.head.init,
                    then.head.discontinuity_sequence,
                )
            })
    }
}

/// See [`Shown::nominal_ms`]; on the leading track's clock.
fn nominal(plan: &Plan, leader: &Track, newest: &Row<'_>, complete: &[Row<'_>]) -> Ticks {
    let period = |row: &Row<'_>| (row.head().epoch, row.head().discontinuity_sequence);
    let own = complete
        .iter()
        .rev()
        .take_while(|row| period(row) == period(newest));
    own.map(|row| row.leading().duration)
        .min()
        .unwrap_or_else(|| {
            // No segment of it is complete: what segments are planned to be.
            let planned_ms = plan.target_duration_ms().saturating_sub(1_000).max(1_000);
            leader.timescale.from_ms(planned_ms.into())
        })
}

/// The period that begins with `row`.
fn begin(broadcast: BroadcastId, leader: &Track, row: &Row<'_>, before: Option<&Period>) -> Period {
    let head = row.head();
    let on_video = leader.timescale.convert(head.dts, Timescale::VIDEO);
    let here_ms = head.program_time.0;
    // Unix time of media time zero, one number for the epoch.
    let zero_ms = here_ms.saturating_sub(Timescale::VIDEO.to_ms(on_video));
    let own_epoch = before.is_none_or(|before| before.epoch != head.epoch);
    // An epoch is numbered by the Unix time of its publish, which comes before
    // its media and after the media of the epoch before it: a start that can be
    // told from any of its segments. A broadcast's first epoch needs none.
    let start_ms = if own_epoch && head.epoch.0 == broadcast.0 {
        zero_ms
    } else if own_epoch && (zero_ms..=here_ms).contains(&head.epoch.0) {
        head.epoch.0
    } else if before.is_some() || head.flags.discontinuity {
        here_ms
    } else {
        zero_ms
    };
    let run = |segment: &&ListedSegment| Run {
        init: segment.head.init,
        slots: Vec::new(),
    };
    Period {
        epoch: head.epoch,
        discontinuity_sequence: head.discontinuity_sequence,
        start_ms,
        media_ms: start_ms - zero_ms,
        first: head.msn,
        runs: row.0.iter().map(run).collect(),
    }
}

/// Unix time to which a period's media is listed: in the leading track, and in
/// the one that goes furthest. A segment that is not complete counts by its start.
fn ends(tracks: &[&Track], period: &Period, complete: bool) -> (u64, u64) {
    let zero_ms = period.start_ms - period.media_ms;
    let end = |(track, run): (&&Track, &Run)| {
        let at = run.slots.last().map_or(Ticks(0), |last| {
            let length = if complete { last.duration } else { Ticks(0) };
            last.start + length
        });
        zero_ms + track.timescale.to_ms(at)
    };
    let mut all = tracks.iter().zip(&period.runs).map(end);
    let leading = all.next().unwrap_or(zero_ms);
    (leading, all.fold(leading, u64::max))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in [self.last, self.open] {
            match at {
                Some((epoch, msn)) => write!(f, "{epoch}-{msn}-")?,
                None => f.write_str("0-0-")?,
            }
        }
        f.write_str(match (self.ended, self.ahead) {
            (true, _) => "ended",
            (false, true) => "on",
            (false, false) => "still",
        })
    }
}
