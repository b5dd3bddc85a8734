//! What one version of a playlist owes to the one before it: H10, and the
//! hints that came true (H12).

use super::super::{observed::TrackSeen, verdicts::Verdicts};
use crate::m3u8::{MediaPlaylist, Segment};

/// A server predicts each cut; it may be wrong this seldom.
const WRONG_HINTS_PERCENT: u64 = 10;

pub fn check(track: &TrackSeen, v: &mut Verdicts) {
    let (mut told, mut wrong, mut example) = (0u64, 0u64, None);
    for pair in track.lists.windows(2) {
        let [before, now] = pair else { continue };
        removed(&track.uri, &before.list, &now.list, v);
        if let Some(came_true) = hint_came_true(&before.list, &now.list) {
            told += 1;
            wrong += u64::from(!came_true);
            if !came_true {
                example = before.list.part_hint().map(str::to_owned);
            }
        }
    }
    if told > 0 {
        let fine = wrong == 0 || (told >= 3 && wrong * 100 <= told * WRONG_HINTS_PERCENT);
        v.hold("H12", fine, || {
            let example = example.unwrap_or_default();
            format!(
                "{}: {wrong} of {told} hints were not the next part, such as {example}",
                track.uri
            )
        });
    }
}

fn removed(uri: &str, before: &MediaPlaylist, now: &MediaPlaylist, v: &mut Verdicts) {
    let (was, is) = (before.media_sequence, now.media_sequence);
    v.hold("H10", is >= was, || {
        format!("{uri}: MEDIA-SEQUENCE went from {was} back to {is}")
    });
    if now.part_target_us.is_some() {
        v.hold("H10", now.discontinuity_sequence.is_some(), || {
            format!("{uri}: no EXT-X-DISCONTINUITY-SEQUENCE")
        });
    }
    let sequence = |list: &MediaPlaylist| list.discontinuity_sequence.unwrap_or(0);
    let (was_d, is_d) = (sequence(before), sequence(now));
    v.hold("H10", is_d >= was_d, || {
        format!("{uri}: DISCONTINUITY-SEQUENCE went from {was_d} back to {is_d}")
    });
    // A new broadcast shares nothing with the old playlist.
    let shared = now
        .segments
        .first()
        .is_some_and(|first| find(before, first.msn).is_some());
    if !shared || before.skipped > 0 {
        return;
    }
    let gone = before.segments.iter().filter(|segment| segment.msn < is);
    let cuts = gone.filter(|segment| segment.discontinuity).count() as u64;
    v.hold("H10", is_d.saturating_sub(was_d) == cuts, || {
        format!(
            "{uri}: {cuts} discontinuities removed, DISCONTINUITY-SEQUENCE from {was_d} to {is_d}"
        )
    });
    for segment in &now.segments {
        let Some(old) = find(before, segment.msn) else {
            continue;
        };
        let msn = segment.msn;
        let same_uri = old.uri.is_none() || old.uri == segment.uri;
        v.hold("H10", same_uri, || {
            format!(
                "{uri}: segment {msn} was {:?} and is {:?}",
                old.uri, segment.uri
            )
        });
        let same_date = old.date_time_us.is_none() || old.date_time_us == segment.date_time_us;
        // The first listed segment may carry a date that it did not need before.
        v.hold("H11", same_date || segment.date_time_us.is_none(), || {
            format!("{uri}: segment {msn} changed its PROGRAM-DATE-TIME")
        });
    }
}

fn find(list: &MediaPlaylist, msn: u64) -> Option<&Segment> {
    list.segments.iter().find(|segment| segment.msn == msn)
}

/// Whether the part that followed `before` is the one it hinted; `None` if
/// nothing followed yet, or a publisher's return voided the hint.
fn hint_came_true(before: &MediaPlaylist, now: &MediaPlaylist) -> Option<bool> {
    let hint = before.part_hint()?;
    let (msn, part) = before.position()?.next();
    let same = find(now, msn);
    let listed = same.and_then(|segment| segment.parts.get(usize::try_from(part).ok()?));
    let (segment, next) = match (same, listed) {
        (Some(segment), Some(next)) => (segment, next),
        // The segment was complete after all: the next one's first part.
        (Some(segment), None) if segment.uri.is_some() => {
            let segment = find(now, msn.checked_add(1)?)?;
            (segment, segment.parts.first()?)
        }
        _ => return None,
    };
    if segment.discontinuity {
        return None;
    }
    Some(next.uri == hint)
}
