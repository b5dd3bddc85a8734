//! The rules that the media's bytes can break: C1 to C6, H5, and H1 and H11
//! where a playlist speaks of media time.

use std::collections::BTreeMap;

use super::{
    observed::{Media, Observed, Snapshot, TrackSeen},
    verdicts::Verdicts,
};
use crate::{
    boxes::{Fragment, Init, Kind},
    m3u8::{MediaPlaylist, Segment},
};

/// Renditions may differ by the rounding of a date and of a tick.
const DATE_SLACK_US: i64 = 10_000;

/// What GAP parts' printed durations may be off by.
const GAP_SLACK_TICKS: u64 = 2;

pub fn check(observed: &Observed, v: &mut Verdicts) {
    for track in &observed.tracks {
        let low_latency = |last: &Snapshot| last.list.part_target_us.is_some();
        let cmaf = track.lists.last().is_some_and(low_latency);
        for (uri, init) in track.inits.iter().filter(|_| cmaf) {
            init_segment(uri, init, v);
        }
        for (uri, media) in &track.media {
            chunks(uri, media, cmaf, v);
        }
        let segments = newest(track);
        for segment in segments.values() {
            sync(track, segment, v);
            whole(track, segment, v);
        }
        continuity(track, &segments, v);
    }
    codecs(observed, v);
    dates(observed, v);
}

/// Each segment as it was listed last with parts.
fn newest(track: &TrackSeen) -> BTreeMap<u64, Segment> {
    let mut out: BTreeMap<u64, Segment> = BTreeMap::new();
    for segment in track
        .lists
        .iter()
        .flat_map(|snapshot| &snapshot.list.segments)
    {
        let known = out.entry(segment.msn).or_insert_with(|| segment.clone());
        if segment.parts.len() >= known.parts.len() {
            *known = segment.clone();
        }
    }
    out
}

fn init_segment(uri: &str, init: &Init, v: &mut Verdicts) {
    v.hold("C1", init.tracks == 1, || {
        format!("{uri}: {} tracks", init.tracks)
    });
    v.hold("C1", !init.has_mehd, || format!("{uri}: has mehd"));
    let cmaf = [b"cmfc", b"cmf2"]
        .into_iter()
        .any(|brand| init.brands.contains(brand));
    v.hold("C1", cmaf, || {
        format!("{uri}: neither cmfc nor cmf2 among the brands")
    });
    v.hold("C5", !init.has_edit_list, || {
        format!("{uri}: has an edit list")
    });
}

/// What is no low-latency playlist need not be CMAF: several tracks a file, edit lists
/// and unsigned offsets are well there. It must be readable.
fn chunks(uri: &str, media: &Media, cmaf: bool, v: &mut Verdicts) {
    if let Err(error) = &media.fragments {
        v.hold("C2", false, || format!("{uri}: {error}"));
        return;
    }
    if !cmaf {
        return v.hold("C2", true, String::new);
    }
    for (index, fragment) in media.fragments().iter().enumerate() {
        let known = [*b"styp", *b"prft", *b"emsg", *b"sidx"];
        let (tail, before) = match fragment.boxes.as_slice() {
            [before @ .., moof, mdat] => ([*moof, *mdat], before),
            _ => ([[0; 4]; 2], &[][..]),
        };
        let order = tail == [*b"moof", *b"mdat"] && before.iter().all(|name| known.contains(name));
        let sound =
            order && fragment.base_is_moof && fragment.tfdt_version == 1 && fragment.trafs == 1;
        v.hold("C2", sound, || {
            let names = fragment
                .boxes
                .iter()
                .map(|name| String::from_utf8_lossy(name).into_owned());
            format!(
                "{uri}: chunk {index}: boxes {}, default-base-is-moof {}, tfdt version {}, {} traf",
                names.collect::<Vec<_>>().join(" "),
                fragment.base_is_moof,
                fragment.tfdt_version,
                fragment.trafs
            )
        });
        let offsets = fragment.samples.iter().any(|sample| sample.offset != 0);
        v.hold("C5", !offsets || fragment.trun_version == 1, || {
            format!("{uri}: chunk {index}: composition offsets in a trun of version 0")
        });
        let moving = fragment.samples.iter().all(|sample| sample.duration > 0);
        v.hold("C5", moving, || {
            format!("{uri}: chunk {index}: a sample without duration")
        });
    }
}

fn kind(track: &TrackSeen) -> Option<Kind> {
    track.inits.values().next().map(|init| init.kind)
}

fn starts_with_sync(media: &Media) -> Option<bool> {
    let first = media.fragments().first()?.samples.first()?;
    Some(first.sync)
}

fn sync(track: &TrackSeen, segment: &Segment, v: &mut Verdicts) {
    if kind(track) != Some(Kind::Video) {
        return;
    }
    for (index, part) in segment.parts.iter().enumerate() {
        let Some(media) = track
            .media
            .get(&part.uri)
            .filter(|_| part.byte_range.is_none())
        else {
            continue;
        };
        let mut samples = media
            .fragments()
            .iter()
            .flat_map(|fragment| &fragment.samples);
        let holds = samples.any(|sample| sample.sync);
        v.hold("H5", holds == part.independent, || {
            let yes = if part.independent { "YES" } else { "NO" };
            format!("{}: sync sample {holds}, INDEPENDENT={yes}", part.uri)
        });
        if index == 0
            && let Some(starts) = starts_with_sync(media)
        {
            v.hold("H5", starts, || {
                format!("{}: the segment starts without a sync sample", part.uri)
            });
        }
    }
}

/// C4 and the EXTINF of H1.
fn whole(track: &TrackSeen, segment: &Segment, v: &mut Verdicts) {
    let (Some(uri), None) = (&segment.uri, &segment.byte_range) else {
        return;
    };
    let Some(media) = track.media.get(uri) else {
        return;
    };
    if let Some(starts) = starts_with_sync(media) {
        v.hold("C4", starts, || {
            format!("{uri}: starts without a sync sample")
        });
    }
    let listed = segment.parts.iter().filter(|part| !part.gap);
    let parts: Option<Vec<&Media>> = listed.map(|part| track.media.get(&part.uri)).collect();
    if let Some(parts) = parts.filter(|parts| !parts.is_empty()) {
        let sum: Vec<u8> = parts
            .iter()
            .flat_map(|part| part.bytes.iter().copied())
            .collect();
        v.hold("C4", media.bytes == sum, || {
            format!(
                "{uri}: {} bytes, its parts {} or different ones",
                media.bytes.len(),
                sum.len()
            )
        });
    }
    if media.fragments.is_err() {
        return;
    }
    let scale = segment.map.as_ref().and_then(|map| track.inits.get(map));
    if let (Some(init), Some(said_us), false) = (
        scale,
        segment.duration_us,
        segment.parts.iter().any(|part| part.gap),
    ) {
        let samples = || {
            media
                .fragments()
                .iter()
                .flat_map(|fragment| &fragment.samples)
        };
        let ticks = samples()
            .map(|sample| u64::from(sample.duration))
            .fold(0, u64::saturating_add);
        let longest = samples()
            .map(|sample| u64::from(sample.duration))
            .max()
            .unwrap_or(0);
        let is_us = to_us(ticks, init.timescale);
        let frame_us = to_us(longest, init.timescale);
        let off_us = i64::try_from(said_us)
            .unwrap_or(i64::MAX)
            .saturating_sub(is_us)
            .abs();
        v.hold("H1", off_us <= frame_us.saturating_add(20), || {
            format!("{uri}: EXTINF {said_us} us, its samples {is_us} us")
        });
    }
}

/// C3 over parts, in the order of the list.
fn continuity(track: &TrackSeen, segments: &BTreeMap<u64, Segment>, v: &mut Verdicts) {
    let mut expected: Option<u64> = None;
    let mut slack = 0;
    let mut last_msn = None;
    for (msn, segment) in segments {
        let follows = last_msn.is_some_and(|last: u64| last.checked_add(1) == Some(*msn));
        if segment.discontinuity || !follows {
            expected = None;
        }
        last_msn = Some(*msn);
        let timescale = segment
            .map
            .as_ref()
            .and_then(|map| track.inits.get(map))
            .map(|init| init.timescale);
        let pieces: Vec<(&str, u64, bool)> = if segment.parts.is_empty() {
            let uri = segment.uri.as_deref().unwrap_or_default();
            vec![(uri, segment.duration_us.unwrap_or(0), segment.gap)]
        } else {
            let parts = segment.parts.iter();
            parts
                .map(|part| (part.uri.as_str(), part.duration_us, part.gap))
                .collect()
        };
        for (uri, duration_us, gap) in pieces {
            if gap {
                let ticks =
                    u128::from(duration_us) * u128::from(timescale.unwrap_or(0)) / 1_000_000;
                let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
                expected = expected.map(|at| at.saturating_add(ticks));
                slack += GAP_SLACK_TICKS;
                continue;
            }
            let media = track.media.get(uri);
            let Some(media) = media.filter(|media| media.fragments.is_ok()) else {
                expected = None;
                continue;
            };
            for fragment in media.fragments() {
                chain(uri, fragment, expected, slack, v);
                expected = Some(fragment.end());
                slack = 0;
            }
        }
    }
}

fn chain(uri: &str, fragment: &Fragment, expected: Option<u64>, slack: u64, v: &mut Verdicts) {
    if let Some(expected) = expected {
        v.hold("C3", expected.abs_diff(fragment.tfdt) <= slack, || {
            format!("{uri}: tfdt {} where {expected} follows", fragment.tfdt)
        });
    }
}

fn codecs(observed: &Observed, v: &mut Verdicts) {
    let Some(multivariant) = &observed.multivariant else {
        return;
    };
    let said: Vec<&str> = multivariant
        .variants
        .iter()
        .filter_map(|variant| variant.attributes.get("CODECS"))
        .flat_map(|codecs| codecs.split(','))
        .map(str::trim)
        .collect();
    for (uri, init) in observed.tracks.iter().flat_map(|track| &track.inits) {
        // Codecs whose parameters we don't read say only what they are.
        let full = init.codec.contains('.');
        let named = |codec: &&str| {
            codec.eq_ignore_ascii_case(&init.codec) || (!full && codec.starts_with(&init.codec))
        };
        v.hold("C6", said.iter().any(named), || {
            format!("{uri}: is {}, CODECS says {}", init.codec, said.join(","))
        });
    }
}

/// H11: programme time less media time is the same in all renditions.
fn dates(observed: &Observed, v: &mut Verdicts) {
    let mut first: Option<(&str, i64)> = None;
    for track in &observed.tracks {
        let Some(zero_us) = track.lists.last().and_then(|last| zero(track, &last.list)) else {
            continue;
        };
        match first {
            None => first = Some((&track.uri, zero_us)),
            Some((other, other_us)) => {
                let off_us = zero_us.saturating_sub(other_us);
                v.hold("H11", off_us.abs() <= DATE_SLACK_US, || {
                    format!(
                        "programme time of {} is {off_us} us off that of {other}",
                        track.uri
                    )
                });
            }
        }
    }
}

/// The programme time of media time 0, by the newest segment that tells.
fn zero(track: &TrackSeen, list: &MediaPlaylist) -> Option<i64> {
    list.segments.iter().rev().find_map(|segment| {
        let date_us = segment.date_time_us?;
        let init = track.inits.get(segment.map.as_ref()?)?;
        let part = segment.parts.first().map(|part| &part.uri);
        let media = part
            .or(segment.uri.as_ref())
            .and_then(|uri| track.media.get(uri))?;
        let tfdt = media.fragments().first()?.tfdt;
        Some(date_us.saturating_sub(to_us(tfdt, init.timescale)))
    })
}

fn to_us(ticks: u64, timescale: u32) -> i64 {
    let us = u128::from(ticks) * 1_000_000 / u128::from(timescale.max(1));
    i64::try_from(us).unwrap_or(i64::MAX)
}
