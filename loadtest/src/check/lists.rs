//! The rules that playlists alone can break.
//!
//! In: the snapshots of each rendition, oldest first. Pure. The rules of
//! low-latency playlists are held against those only that have EXT-X-PART-INF.

use std::collections::BTreeMap;

use super::{
    observed::{Observed, Snapshot, TrackSeen},
    verdicts::Verdicts,
};
use crate::m3u8::{MediaPlaylist, Part, Segment, ServerControl};

mod sequence;

/// Durations are printed with five digits or so.
const PRINT_SLACK_US: u64 = 20;

/// Milliseconds are what EXT-X-PROGRAM-DATE-TIME shows; two of them may differ.
const DATE_SLACK_US: i64 = 2_000;

pub fn check(observed: &Observed, verdicts: &mut Verdicts) {
    for track in &observed.tracks {
        let Some(first) = track.lists.first() else {
            continue;
        };
        for snapshot in &track.lists {
            let list = &snapshot.list;
            target_duration(&track.uri, list, &first.list, verdicts);
            version(&track.uri, list, verdicts);
            if list.part_target_us.is_some() {
                enough_media(&track.uri, list, &first.list, verdicts);
                parts(&track.uri, list, verdicts);
                control(&track.uri, list, &first.list, verdicts);
                old_parts(&track.uri, list, verdicts);
                dates(&track.uri, list, verdicts);
                hints(&track.uri, list, verdicts);
                reports(observed, track, list, verdicts);
            }
        }
        cadence(track, observed.slack_us, verdicts);
        sequence::check(track, verdicts);
    }
    across_renditions(observed, verdicts);
}

fn seconds(us: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let value = us as f64 / 1e6;
    value
}

fn target_duration(uri: &str, list: &MediaPlaylist, first: &MediaPlaylist, v: &mut Verdicts) {
    let Some(target_s) = list.target_duration_s else {
        v.hold("H1", false, || format!("{uri}: no EXT-X-TARGETDURATION"));
        return;
    };
    v.hold(
        "H1",
        list.target_duration_s == first.target_duration_s,
        || {
            let was = first.target_duration_s.unwrap_or(0);
            format!("{uri}: TARGETDURATION changed from {was} to {target_s}")
        },
    );
    for segment in &list.segments {
        let Some(us) = segment.duration_us else {
            continue;
        };
        let rounded_s = us.saturating_add(500_000) / 1_000_000;
        v.hold("H1", rounded_s <= target_s, || {
            let (msn, s) = (segment.msn, seconds(us));
            format!("{uri}: segment {msn} of {s} s, TARGETDURATION {target_s}")
        });
    }
}

fn version(uri: &str, list: &MediaPlaylist, v: &mut Verdicts) {
    if list.part_target_us.is_some() {
        v.hold(
            "H14",
            list.version.is_some_and(|version| version >= 9),
            || format!("{uri}: EXT-X-VERSION {:?}", list.version),
        );
    }
    if !list.ended {
        v.hold("H14", list.playlist_type.is_none(), || {
            format!(
                "{uri}: EXT-X-PLAYLIST-TYPE {:?} while live",
                list.playlist_type
            )
        });
    }
}

fn length_us(segment: &Segment) -> u64 {
    let parts = segment.parts.iter().map(|part| part.duration_us);
    segment
        .duration_us
        .unwrap_or_else(|| parts.fold(0, u64::saturating_add))
}

fn enough_media(uri: &str, list: &MediaPlaylist, first: &MediaPlaylist, v: &mut Verdicts) {
    if list.skipped > 0 {
        return;
    }
    let media_us = list
        .segments
        .iter()
        .map(length_us)
        .fold(0, u64::saturating_add);
    v.hold("H2", media_us >= list.hold_back_us(), || {
        let (have, want) = (seconds(media_us), seconds(list.hold_back_us()));
        format!("{uri}: {have} s of media, PART-HOLD-BACK {want} s")
    });
    // Something was removed, so more than what is listed was published.
    if list.media_sequence > first.media_sequence {
        v.hold("H2", list.segments.len() >= 6, || {
            format!("{uri}: {} segments listed", list.segments.len())
        });
    }
}

fn parts(uri: &str, list: &MediaPlaylist, v: &mut Verdicts) {
    let target_us = list.part_target_us.unwrap_or_default();
    let all: Vec<(&Segment, usize, &Part)> = list
        .segments
        .iter()
        .flat_map(|segment| {
            segment
                .parts
                .iter()
                .enumerate()
                .map(move |(at, part)| (segment, at, part))
        })
        .collect();
    for (place, (segment, at, part)) in all.iter().enumerate() {
        let (msn, s) = (segment.msn, seconds(part.duration_us));
        v.hold(
            "H4",
            part.duration_us <= target_us.saturating_add(PRINT_SLACK_US),
            || {
                format!(
                    "{uri}: part {msn}.{at} of {s} s, PART-TARGET {}",
                    seconds(target_us)
                )
            },
        );
        let next = all.get(place + 1);
        // The newest part may yet turn out to be its segment's last.
        let last = at + 1 == segment.parts.len();
        let excused =
            part.independent || part.gap || last || next.is_some_and(|(_, _, part)| part.gap);
        let least_us = target_us.saturating_mul(85) / 100;
        v.hold(
            "H4",
            excused || part.duration_us.saturating_add(PRINT_SLACK_US) >= least_us,
            || {
                format!(
                    "{uri}: part {msn}.{at} of {s} s, under 85 % of PART-TARGET {}",
                    seconds(target_us)
                )
            },
        );
    }
}

fn control(uri: &str, list: &MediaPlaylist, first: &MediaPlaylist, v: &mut Verdicts) {
    let Some(control) = &list.control else {
        v.hold("H7", false, || format!("{uri}: no EXT-X-SERVER-CONTROL"));
        return;
    };
    let part_target_us = list.part_target_us.unwrap_or_default();
    let least_us = part_target_us.saturating_mul(3);
    v.hold(
        "H6",
        control
            .part_hold_back_us
            .is_some_and(|us| us.saturating_add(PRINT_SLACK_US) >= least_us),
        || {
            format!(
                "{uri}: PART-HOLD-BACK {:?} s, PART-TARGET {} s",
                control.part_hold_back_us.map(seconds),
                seconds(part_target_us)
            )
        },
    );
    let target_us = list.target_us();
    v.hold(
        "H7",
        control.hold_back_us.is_some_and(|us| us >= target_us * 3),
        || format!("{uri}: HOLD-BACK {:?} s", control.hold_back_us.map(seconds)),
    );
    if let Some(skip_us) = control.can_skip_until_us {
        v.hold("H7", skip_us >= target_us.saturating_mul(6), || {
            format!("{uri}: CAN-SKIP-UNTIL {} s", seconds(skip_us))
        });
    }
    v.hold("H7", list.control == first.control, || {
        format!("{uri}: EXT-X-SERVER-CONTROL changed")
    });
    v.hold("H8", list.part_target_us == first.part_target_us, || {
        let was = first.part_target_us.map(seconds);
        format!(
            "{uri}: PART-TARGET changed from {was:?} to {}",
            seconds(part_target_us)
        )
    });
}

fn old_parts(uri: &str, list: &MediaPlaylist, v: &mut Verdicts) {
    let mut behind_us = 0u64;
    for segment in list.segments.iter().rev() {
        if behind_us > list.target_us().saturating_mul(3) {
            v.hold("H9", segment.parts.is_empty(), || {
                let s = seconds(behind_us);
                format!(
                    "{uri}: segment {} still lists parts {s} s before the end",
                    segment.msn
                )
            });
        }
        behind_us = behind_us.saturating_add(length_us(segment));
    }
}

fn dates(uri: &str, list: &MediaPlaylist, v: &mut Verdicts) {
    let dated = list
        .segments
        .iter()
        .any(|segment| segment.date_time_us.is_some());
    v.hold("H11", dated || list.segments.is_empty(), || {
        format!("{uri}: no EXT-X-PROGRAM-DATE-TIME")
    });
    let mut expected: Option<i64> = None;
    for segment in &list.segments {
        let msn = segment.msn;
        v.hold("H11", !segment.late_tags, || {
            format!("{uri}: segment {msn}: PDT, MAP or DISCONTINUITY behind its first part")
        });
        if segment.discontinuity {
            v.hold("H11", segment.date_time_us.is_some(), || {
                format!("{uri}: segment {msn}: DISCONTINUITY without PROGRAM-DATE-TIME")
            });
            expected = None;
        }
        if let (Some(date_us), Some(expected_us)) = (segment.date_time_us, expected) {
            let off_us = date_us.saturating_sub(expected_us);
            v.hold("H11", off_us.abs() <= DATE_SLACK_US, || {
                format!("{uri}: segment {msn}: PROGRAM-DATE-TIME is {off_us} us off its media time")
            });
        }
        let length = i64::try_from(length_us(segment)).unwrap_or(i64::MAX);
        let start = segment.date_time_us.or(expected);
        expected = start.map(|start| start.saturating_add(length));
    }
}

fn hints(uri: &str, list: &MediaPlaylist, v: &mut Verdicts) {
    if list.ended {
        v.hold("H12", list.hints.is_empty(), || {
            format!("{uri}: a hint beside ENDLIST")
        });
        return;
    }
    for kind in ["PART", "MAP"] {
        let count = list.hints.iter().filter(|hint| hint.kind == kind).count();
        v.hold("H12", count <= 1, || {
            format!("{uri}: {count} hints of type {kind}")
        });
    }
    v.hold("H12", list.part_hint().is_some(), || {
        let end = list.position();
        format!("{uri}: no hint at {end:?}")
    });
    let listed = |hint: &str| {
        let mut parts = list.segments.iter().flat_map(|segment| &segment.parts);
        parts.any(|part| part.uri == hint && part.byte_range.is_none())
    };
    if let Some(hint) = list.part_hint() {
        v.hold("H12", !listed(hint), || {
            format!("{uri}: the hint {hint} is listed already")
        });
    }
}

fn reports(observed: &Observed, track: &TrackSeen, list: &MediaPlaylist, v: &mut Verdicts) {
    if list.ended {
        return;
    }
    let uri = &track.uri;
    for other in observed.tracks.iter().filter(|other| other.uri != *uri) {
        let name = file(&other.uri);
        let report = list.reports.iter().find(|report| file(&report.uri) == name);
        v.hold("H13", report.is_some(), || {
            format!("{uri}: no report of {}", other.uri)
        });
    }
    let own = list.position().map_or(0, |position| position.msn);
    for report in &list.reports {
        let to = &report.uri;
        v.hold("H13", !to.contains("://"), || {
            format!("{uri}: the report's URI {to} is absolute")
        });
        let whole = report.last_msn.is_some() && report.last_part.is_some();
        v.hold("H13", whole, || {
            format!("{uri}: the report of {to} lacks LAST-MSN or LAST-PART")
        });
        let last = report.last_msn.unwrap_or(own);
        v.hold("H13", last.abs_diff(own) <= 1, || {
            format!("{uri}: at msn {own} the report of {to} says {last}")
        });
    }
}

fn file(uri: &str) -> &str {
    let path = uri.split('?').next().unwrap_or(uri);
    path.rsplit('/').next().unwrap_or(path)
}

/// H3 by the times at which new versions reached us.
fn cadence(track: &TrackSeen, slack_us: i64, v: &mut Verdicts) {
    let uri = &track.uri;
    let mut last_part: Option<i64> = None;
    let mut last_segment: Option<i64> = None;
    for pair in track.lists.windows(2) {
        let [before, now] = pair else { continue };
        let (Some(was), Some(is)) = (before.list.position(), now.list.position()) else {
            continue;
        };
        let resumed = |snapshot: &Snapshot| {
            snapshot
                .list
                .segments
                .last()
                .is_some_and(|s| s.discontinuity)
        };
        if resumed(now) {
            // The publisher was away.
            (last_part, last_segment) = (None, None);
        }
        if is.next() > was.next()
            && let Some(target_us) = now.list.part_target_us
        {
            let late_us = last_part.map_or(0, |last| now.at_us.saturating_sub(last));
            let most_us = i64::try_from(target_us)
                .unwrap_or(i64::MAX)
                .saturating_add(slack_us);
            v.hold("H3", late_us <= most_us, || {
                let (msn, part) = is.next();
                format!(
                    "{uri}: {} ms before {msn}.{part}, PART-TARGET {} s",
                    late_us / 1000,
                    seconds(target_us)
                )
            });
            last_part = Some(now.at_us);
        }
        if is.next().0 > was.next().0 {
            let late_us = last_segment.map_or(0, |last| now.at_us.saturating_sub(last));
            let target_us = i64::try_from(now.list.target_us()).unwrap_or(i64::MAX);
            let most_us = (target_us.saturating_mul(3) / 2).saturating_add(slack_us);
            v.hold("H3", late_us <= most_us, || {
                format!(
                    "{uri}: {} ms before segment {}",
                    late_us / 1000,
                    is.next().0
                )
            });
            last_segment = Some(now.at_us);
        }
    }
}

fn across_renditions(observed: &Observed, v: &mut Verdicts) {
    let mut controls: BTreeMap<&str, (Option<u64>, Option<&ServerControl>)> = BTreeMap::new();
    for track in &observed.tracks {
        if let Some(last) = track
            .lists
            .last()
            .filter(|last| last.list.part_target_us.is_some())
        {
            let terms = (last.list.target_duration_s, last.list.control.as_ref());
            controls.insert(&track.uri, terms);
        }
    }
    let mut all = controls.iter();
    let Some((first_uri, first)) = all.next() else {
        return;
    };
    for (uri, terms) in all {
        v.hold("H8", terms.0 == first.0, || {
            format!("TARGETDURATION differs between {first_uri} and {uri}")
        });
        v.hold("H7", terms.1 == first.1, || {
            format!("EXT-X-SERVER-CONTROL differs between {first_uri} and {uri}")
        });
    }
}
