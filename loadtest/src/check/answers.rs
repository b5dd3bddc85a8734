//! The rules of requests and answers: R1 to R6, T2 to T5, H9's bytes, H15.

use super::{
    observed::{Asked, Exchange, Observed},
    verdicts::Verdicts,
};
use crate::m3u8::{Attributes, MediaPlaylist, Playlist, parse};

/// An answer given at once, over the Internet too.
const AT_ONCE_US: i64 = 1_000_000;

/// First to last byte of a part at line rate. A part that trickles takes as
/// long as it lasts, a third of a second and more.
const LINE_RATE_US: i64 = 200_000;

/// What is immutable is kept for at least this long.
const LONG_S: u64 = 3_600;

pub fn check(observed: &Observed, v: &mut Verdicts) {
    for exchange in &observed.exchanges {
        let redirected = (300..400).contains(&exchange.status);
        v.hold("H15", !redirected, || {
            format!("{}: redirected, {}", exchange.path, exchange.status)
        });
        let target_us = target_us(observed, exchange);
        requests(observed, exchange, target_us, v);
        transport(exchange, target_us, v);
    }
    multivariant(observed, v);
}

/// Of the track's playlist, if it is a low-latency one.
fn target_us(observed: &Observed, exchange: &Exchange) -> Option<u64> {
    let list = &observed.tracks.get(exchange.track)?.lists.last()?.list;
    list.part_target_us.map(|_| list.target_us())
}

fn requests(observed: &Observed, x: &Exchange, target_us: Option<u64>, v: &mut Verdicts) {
    let Some(target_us) = target_us else {
        return;
    };
    let (path, status) = (&x.path, x.status);
    let took_us = x.done_us.saturating_sub(x.asked_us);
    match &x.asked {
        Asked::Blocking { msn, part } => {
            blocking(x, (*msn, *part), v);
            let held = i64::try_from(target_us)
                .unwrap_or(i64::MAX)
                .saturating_mul(3);
            if took_us > held {
                let fine = status == 503 && took_us <= held.saturating_add(AT_ONCE_US);
                v.hold("R4", fine, || {
                    format!("{path}: {status} after {} ms", took_us / 1000)
                });
            }
        }
        Asked::PartWithoutMsn | Asked::Unparsable => {
            v.hold("R2", status == 400, || format!("{path}: {status}"));
        }
        Asked::FarAhead => {
            v.hold("R3", status == 400 && took_us < AT_ONCE_US, || {
                format!("{path}: {status} after {} ms", took_us / 1000)
            });
        }
        Asked::Skip { full } => skip(x, full, v),
        Asked::Hinted if status == 200 => {
            let first_us = x.first_byte_us.unwrap_or(x.done_us);
            let spread_us = x.done_us.saturating_sub(first_us);
            v.hold("R6", spread_us <= LINE_RATE_US, || {
                format!("{path}: trickled for {} ms", spread_us / 1000)
            });
            let track = observed.tracks.get(x.track);
            let listed = track.and_then(|track| {
                track
                    .media
                    .iter()
                    .find(|(uri, _)| path.ends_with(uri.trim_start_matches("../")))
            });
            if let Some((uri, media)) = listed {
                v.hold("R6", media.bytes == x.body, || {
                    format!("{uri}: other bytes as a hint than as listed")
                });
            }
        }
        // 404: it won't exist after all.
        Asked::Hinted => v.hold("R6", matches!(status, 404 | 503), || {
            format!("{path}: {status}")
        }),
        // A machine that stood still has let the future come.
        Asked::Future if listed_by(observed, x) => {}
        Asked::Future => v.hold("R6", status == 404 && took_us < AT_ONCE_US, || {
            format!("{path}: {status} after {} ms", took_us / 1000)
        }),
        Asked::Dropped => v.hold("H9", status == 200, || {
            format!("{path}: {status} soon after it left the list")
        }),
        _ => {}
    }
}

/// Whether a playlist named what was asked for before the answer was read.
fn listed_by(observed: &Observed, x: &Exchange) -> bool {
    let lists = observed.tracks.get(x.track).map(|track| &track.lists);
    let by_then = lists
        .into_iter()
        .flatten()
        .take_while(|seen| seen.at_us <= x.done_us);
    by_then
        .flat_map(|seen| &seen.list.segments)
        .flat_map(|segment| &segment.parts)
        .any(|part| x.path.ends_with(part.uri.trim_start_matches("../")))
}

fn media_list(x: &Exchange) -> Option<MediaPlaylist> {
    match parse(std::str::from_utf8(&x.body).ok()?) {
        Ok(Playlist::Media(list)) => Some(*list),
        _ => None,
    }
}

fn blocking(x: &Exchange, (msn, part): (u64, u64), v: &mut Verdicts) {
    if x.status != 200 {
        return;
    }
    let Some(list) = media_list(x) else {
        v.hold("R1", false, || format!("{}: not a media playlist", x.path));
        return;
    };
    let there = list.ended || list.position().is_some_and(|end| end.next() > (msn, part));
    v.hold("R1", there, || {
        format!("{}: ends at {:?}", x.path, list.position())
    });
}

fn skip(x: &Exchange, full: &MediaPlaylist, v: &mut Verdicts) {
    let (path, status) = (&x.path, x.status);
    let Some(list) = media_list(x).filter(|_| status == 200) else {
        v.hold("R5", false, || format!("{path}: {status}"));
        return;
    };
    let until_us = full
        .control
        .as_ref()
        .and_then(|control| control.can_skip_until_us);
    let Some(until_us) = until_us.filter(|_| !full.ended) else {
        v.hold("R5", list.skipped == 0, || {
            format!("{path}: skips what it may not")
        });
        return;
    };
    // 6.2.5.1: segments further from the end than the boundary may go.
    let mut behind_us = 0u64;
    let mut kept = 0;
    for segment in full.segments.iter().rev() {
        if behind_us >= until_us {
            break;
        }
        kept += 1;
        let parts = segment.parts.iter().map(|part| part.duration_us);
        let length = segment
            .duration_us
            .unwrap_or_else(|| parts.fold(0, u64::saturating_add));
        behind_us = behind_us.saturating_add(length);
    }
    let may_skip = full.segments.len() - kept;
    let skipped = usize::try_from(list.skipped).unwrap_or(usize::MAX);
    // One more where a new version came between the two requests.
    v.hold(
        "R5",
        skipped <= may_skip + 1 && (skipped > 0 || may_skip <= 1),
        || format!("{path}: {skipped} segments skipped, {may_skip} lie before the boundary"),
    );
    for segment in &list.segments {
        let old = full.segments.iter().find(|old| old.msn == segment.msn);
        if let Some(uri) = old.and_then(|old| old.uri.as_ref()) {
            v.hold("R5", segment.uri.as_ref() == Some(uri), || {
                format!(
                    "{path}: segment {} is {:?}, in full {uri}",
                    segment.msn, segment.uri
                )
            });
        }
    }
}

fn transport(x: &Exchange, target_us: Option<u64>, v: &mut Verdicts) {
    let path = &x.path;
    let content_type = x.header("content-type");
    let is = |wanted: &[&str]| {
        wanted
            .iter()
            .any(|wanted| content_type.eq_ignore_ascii_case(wanted))
    };
    let playlist = matches!(
        x.asked,
        Asked::Playlist | Asked::Blocking { .. } | Asked::Gzip | Asked::Skip { .. }
    );
    let media = matches!(x.asked, Asked::Media | Asked::Init | Asked::Hinted);
    if x.status == 200 && playlist {
        let fine = is(&["application/vnd.apple.mpegurl", "audio/mpegurl"]);
        v.hold("T4", fine, || {
            format!("{path}: Content-Type `{content_type}`")
        });
    }
    if x.status == 200 && media {
        let fine = is(&["video/mp4", "audio/mp4", "video/iso.segment"]);
        v.hold("T4", fine, || {
            format!("{path}: Content-Type `{content_type}`")
        });
    }
    if x.asked == Asked::Gzip && x.status == 200 {
        v.hold("T2", x.header("content-encoding") == "gzip", || {
            format!("{path}: not gzipped")
        });
    }
    if x.asked == Asked::Range {
        v.hold("T5", x.status == 206 && x.body.len() == 10, || {
            format!(
                "{path}: bytes=0-9 answered with {} and {} bytes",
                x.status,
                x.body.len()
            )
        });
    }
    v.hold(
        "T5",
        !x.header("access-control-allow-origin").is_empty(),
        || format!("{path}: {} without Access-Control-Allow-Origin", x.status),
    );
    if let Some(target_us) = target_us {
        caching(x, target_us, v);
    }
}

fn caching(x: &Exchange, target_us: u64, v: &mut Verdicts) {
    let header = x.header("cache-control");
    let age_s = header
        .split(',')
        .find_map(|word| word.trim().strip_prefix("max-age="));
    let age_s: Option<u64> = age_s.and_then(|age| age.parse().ok());
    let target_s = target_us / 1_000_000;
    let fine = match (&x.asked, x.status) {
        (Asked::Blocking { .. }, 200) => age_s == Some(target_s * 6),
        (Asked::Playlist | Asked::Gzip, 200) => {
            age_s.is_some_and(|age| age <= target_s.div_ceil(2))
        }
        (Asked::Media | Asked::Init | Asked::Hinted, 200) => age_s.is_some_and(|age| age >= LONG_S),
        (Asked::Missing | Asked::Future, 404) => age_s.is_none_or(|age| age <= target_s),
        _ => return,
    };
    v.hold("T3", fine, || {
        format!("{}: {} with Cache-Control `{header}`", x.path, x.status)
    });
}

fn multivariant(observed: &Observed, v: &mut Verdicts) {
    let Some(list) = &observed.multivariant else {
        return;
    };
    let low_latency = |list: &MediaPlaylist| list.part_target_us.is_some();
    let mut lists = observed.tracks.iter().flat_map(|track| track.lists.last());
    if !lists.any(|last| low_latency(&last.list)) {
        return;
    }
    v.hold("H15", list.independent_segments, || {
        "no EXT-X-INDEPENDENT-SEGMENTS".to_owned()
    });
    for variant in &list.variants {
        let missing = missing(&variant.attributes);
        v.hold("H15", missing.is_empty(), || {
            format!("{}: lacks {}", variant.uri, missing.join(", "))
        });
        let number = |name: &str| variant.attributes.get(name)?.parse::<u64>().ok();
        if let (Some(peak), Some(average)) = (number("BANDWIDTH"), number("AVERAGE-BANDWIDTH")) {
            v.hold("H15", peak >= average, || {
                format!(
                    "{}: BANDWIDTH {peak} under AVERAGE-BANDWIDTH {average}",
                    variant.uri
                )
            });
        }
    }
}

fn missing(attributes: &Attributes) -> Vec<&'static str> {
    let codecs = attributes
        .get("CODECS")
        .map(String::as_str)
        .unwrap_or_default();
    let video = ["avc", "hvc", "hev", "av01", "vp09"]
        .iter()
        .any(|name| codecs.contains(name));
    let mut needed = vec!["BANDWIDTH", "AVERAGE-BANDWIDTH", "CODECS"];
    if video {
        needed.extend(["RESOLUTION", "FRAME-RATE"]);
    }
    needed.retain(|name| !attributes.contains_key(*name));
    needed
}
