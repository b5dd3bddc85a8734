//! D1 to D8, T2, T4 and T5 of what was seen.

use std::collections::BTreeMap;

use super::{super::verdicts::Verdicts, Clock, Fetched, Seen, Snapshot};
use crate::{
    m3u8::date_time_us,
    mpd::{Manifest, Period, Set, Timing},
};

const PROFILE: &str = "http://www.dashif.org/guidelines/low-latency-live-v5";
const CRITICAL: &str = "urn:dvb:dash:lowlatency:critical:2019";
const SCOPE: &str = "urn:dvb:dash:lowlatency:scope:2019";

/// An answer given at once, over the Internet too.
const AT_ONCE_US: i64 = 1_000_000;

/// Two machines that both keep time by NTP.
const CLOCK_US: i64 = 500_000;

pub fn judge(seen: &Seen, slack_us: i64) -> Verdicts {
    let mut verdicts = Verdicts::of_dash();
    let v = &mut verdicts;
    for snapshot in &seen.manifests {
        transport(snapshot, v);
        let manifest = &snapshot.manifest;
        described(manifest, v);
        for (period, set) in sets(manifest) {
            reference(manifest, period, set, v);
            availability(set, v);
        }
        periods(manifest, v);
    }
    let mut starts = seen.manifests.iter().map(|one| one.manifest.available_us);
    if let Some(first) = starts.next() {
        let moved = starts.filter(|start| *start != first).count();
        v.hold("D3", moved == 0, || {
            format!("availabilityStartTime moved {moved} times")
        });
    }
    for clock in &seen.clocks {
        time(clock, v);
    }
    numbers(seen, v);
    for fetched in &seen.segments {
        media(fetched, v);
        streamed(fetched, slack_us, v);
    }
    for (status, took_us) in &seen.futures {
        v.hold("D7", *status == 404 && *took_us < AT_ONCE_US, || {
            format!("a segment far ahead: {status} after {} ms", took_us / 1_000)
        });
    }
    verdicts
}

fn sets(manifest: &Manifest) -> impl Iterator<Item = (&Period, &Set)> {
    let all = manifest.periods.iter();
    all.flat_map(|period| period.sets.iter().map(move |set| (period, set)))
}

fn transport(snapshot: &Snapshot, v: &mut Verdicts) {
    let header = |name: &str| {
        let value = snapshot.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let packed = header("content-encoding") == "gzip";
    v.hold("T2", packed, || "the manifest is not gzipped".to_owned());
    let kind = header("content-type");
    v.hold("T4", kind.starts_with("application/dash+xml"), || {
        format!("the manifest is {kind}")
    });
    let cors = header("access-control-allow-origin");
    v.hold("T5", cors == "*", || {
        format!("the manifest's origin is `{cors}`")
    });
}

/// D1, D2 and that there is a clock at all (D3).
fn described(manifest: &Manifest, v: &mut Verdicts) {
    let profile = manifest.profiles.iter().any(|one| one == PROFILE);
    let scope = manifest.service.as_ref();
    let scope = scope.is_some_and(|service| service.scopes.iter().any(|one| one == SCOPE));
    let mut all = sets(manifest);
    let critical = all.all(|(_, set)| set.properties.iter().any(|one| one == CRITICAL));
    // Who claims neither, as ffmpeg, has not said to which guidelines it keeps.
    if profile || scope || critical {
        v.hold("D1", profile, || {
            format!("profiles are {}", manifest.profiles.join(" "))
        });
        v.hold("D1", scope || critical, || {
            "no low-latency property or scope".to_owned()
        });
    }
    let service = manifest.service.clone().unwrap_or_default();
    let ordered = match (service.min_ms, service.target_ms, service.max_ms) {
        (min, Some(target), max) => {
            min.is_none_or(|min| min <= target) && max.is_none_or(|max| target <= max)
        }
        _ => false,
    };
    v.hold("D2", ordered, || {
        let (min, max) = (service.min_ms, service.max_ms);
        format!(
            "latency is {:?}, from {min:?} to {max:?}",
            service.target_ms
        )
    });
    let speeds = service.slowest.is_some_and(|rate| rate < 1.0)
        && service.fastest.is_some_and(|rate| rate > 1.0);
    v.hold("D2", speeds, || {
        format!("speeds are {:?} to {:?}", service.slowest, service.fastest)
    });
    let known = |one: &Timing| one.scheme.contains(":utc:http-xsdate:");
    v.hold("D3", manifest.timing.iter().any(known), || {
        "no UTCTiming by http-xsdate".to_owned()
    });
}

fn time(clock: &Clock, v: &mut Verdicts) {
    let text = clock.body.trim();
    let cors = clock.headers.contains_key("access-control-allow-origin");
    let fraction = text.split_once('.').map_or("", |(_, rest)| rest);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    v.hold("D3", clock.status == 200 && cors && digits >= 3, || {
        format!("the time is `{text}`, {}, CORS {cors}", clock.status)
    });
    if let Some(at_us) = date_time_us(text) {
        let from_us = clock.asked_us - CLOCK_US;
        let fits = (from_us..=clock.done_us + CLOCK_US).contains(&at_us);
        v.hold("D3", fits, || format!("{text} is another time than ours"));
    }
}

fn reference(manifest: &Manifest, period: &Period, set: &Set, v: &mut Verdicts) {
    let Some(reference) = set.references.first() else {
        v.hold("D4", false, || {
            format!("{} has no ProducerReferenceTime", set.kind)
        });
        return;
    };
    let kind = &reference.kind;
    v.hold("D4", matches!(&kind[..], "encoder" | "captured"), || {
        format!("type is {kind}")
    });
    let timing = reference.timing.as_ref();
    let same = timing.is_some_and(|timing| manifest.timing.contains(timing));
    v.hold("D4", same, || {
        "its UTCTiming is not the manifest's".to_owned()
    });
    // Where Unix time is the manifest's own, the two must be one line.
    if let (Some(wall_us), Some(at), Some(of), 0) = (
        reference.wall_us,
        reference.presentation_time,
        set.representations.first(),
        manifest.available_us,
    ) {
        let us = |ticks: u64| i128::from(ticks) * 1_000_000 / i128::from(of.timescale);
        let at_us = i128::from(period.start_us) + us(at) - us(of.offset);
        let off_us = (at_us - i128::from(wall_us)).abs();
        v.hold("D4", off_us <= 100_000, || {
            format!("{} stands {} ms off its period", set.kind, off_us / 1_000)
        });
    }
}

fn availability(set: &Set, v: &mut Verdicts) {
    let offsets: Vec<_> = set.representations.iter().map(|of| of.ahead_us).collect();
    let alike = offsets.windows(2).all(|two| two[0] == two[1]);
    v.hold("D5", alike, || format!("offsets differ: {offsets:?}"));
    for of in &set.representations {
        let id = &of.id;
        v.hold("D5", !of.complete, || {
            format!("{id}: availabilityTimeComplete is not false")
        });
        let shortest = of.segments.iter().map(|one| one.duration_us).min();
        let offset = of.ahead_us.and_then(|us| i64::try_from(us).ok());
        if let Some(shortest) = shortest {
            let within = offset.is_some_and(|offset| 0 < offset && offset < shortest);
            v.hold("D5", within, || {
                format!("{id}: offset {offset:?} us, shortest segment {shortest} us")
            });
        }
        v.hold("D6", !of.resyncs.is_empty(), || {
            format!("{id}: no Resync with dT")
        });
    }
}

/// Periods follow one another, and so do their segments (D8).
fn periods(manifest: &Manifest, v: &mut Verdicts) {
    for two in manifest.periods.windows(2) {
        let [one, other] = two else { continue };
        v.hold(
            "D8",
            one.start_us < other.start_us && one.id != other.id,
            || format!("period {} does not come before {}", one.id, other.id),
        );
    }
    for (_, set) in sets(manifest) {
        for of in &set.representations {
            let mut pairs = of.segments.windows(2);
            let chained = pairs.all(|two| {
                two[1].number == two[0].number + 1
                    && two[1].start_us >= two[0].start_us + two[0].duration_us - 1
            });
            v.hold("D8", chained, || format!("{}: segments overlap", of.id));
        }
    }
}

/// A number means one time, whatever the manifest (D8).
fn numbers(seen: &Seen, v: &mut Verdicts) {
    let mut known: BTreeMap<(String, u64), i64> = BTreeMap::new();
    for snapshot in &seen.manifests {
        for (_, set) in sets(&snapshot.manifest) {
            for of in &set.representations {
                for segment in &of.segments {
                    let key = (of.id.clone(), segment.number);
                    let start_us = *known.entry(key).or_insert(segment.start_us);
                    v.hold("D8", start_us.abs_diff(segment.start_us) <= 2_000, || {
                        let off_us = segment.start_us - start_us;
                        format!("{} {}: moved by {off_us} us", of.id, segment.number)
                    });
                }
            }
        }
    }
}

/// D6 and D8: the bytes behind a number.
fn media(fetched: &Fetched, v: &mut Verdicts) {
    if fetched.status != 200 {
        return;
    }
    let (kind, number) = (&fetched.kind, fetched.segment.number);
    v.hold(
        "D6",
        fetched.readable && fetched.fragments.len() > 1,
        || format!("{kind} {number}: {} chunks", fetched.fragments.len()),
    );
    let mut pairs = fetched.fragments.windows(2);
    let apart = pairs.all(|two| two[1].tfdt >= two[0].end());
    v.hold("D6", apart, || format!("{kind} {number}: chunks overlap"));
    if let Some(first) = fetched.fragments.first() {
        let slack = if fetched.by_timeline {
            fetched.timescale / 1_000
        } else {
            let us = u64::try_from(fetched.segment.duration_us).unwrap_or(0);
            us * fetched.timescale / 2_000_000
        };
        let time = u128::from(first.tfdt) * u128::from(fetched.timescale);
        let time = time / u128::from(fetched.media_timescale.max(1));
        let off = time.abs_diff(u128::from(fetched.segment.time));
        v.hold("D8", off <= u128::from(slack), || {
            format!("{kind} {number}: media is {off} ticks off the manifest")
        });
    }
}

/// D7: offered with its first chunk, sent as it is made.
fn streamed(fetched: &Fetched, slack_us: i64, v: &mut Verdicts) {
    let (kind, segment) = (&fetched.kind, &fetched.segment);
    let number = segment.number;
    v.hold("D7", fetched.status == 200, || {
        format!("{kind} {number}: {} when it was offered", fetched.status)
    });
    let (Some(first), Some(last)) = (fetched.arrivals_us.first(), fetched.arrivals_us.last())
    else {
        return;
    };
    if fetched.status != 200 {
        return;
    }
    let waited_us = first - fetched.asked_us;
    v.hold("D7", waited_us <= slack_us, || {
        format!("{kind} {number}: first byte after {} ms", waited_us / 1_000)
    });
    // What is left of it when it is asked for comes as it is made: neither all
    // at once nor only at the end. We may have learnt of it late, so that its first
    // chunks come together; with less than a second left too little would follow.
    let end_us = segment.start_us + segment.duration_us;
    let left_us = end_us - fetched.asked_us;
    let (least_left_us, least_pieces) = if fetched.late {
        (1_000_000, 2)
    } else {
        (500_000, 3)
    };
    if left_us > least_left_us {
        let spread_us = last - first;
        let pieces = fetched.arrivals_us.len();
        v.hold(
            "D7",
            pieces >= least_pieces && spread_us * 2 > left_us - slack_us,
            || {
                format!(
                    "{kind} {number}: {pieces} pieces over {} ms, {} ms were left of it",
                    spread_us / 1_000,
                    left_us / 1_000
                )
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;
    use crate::{
        boxes::{
            FragmentReader, parse_init,
            tests::{chunk, video_init},
        },
        mpd::parse,
    };

    const S: i64 = 1_000_000;

    fn text() -> String {
        let timing = r#"<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-xsdate:2014" value="/t"/>"#;
        format!(
            r#"<MPD profiles="{PROFILE}" type="dynamic" availabilityStartTime="1970-01-01T00:00:00Z" minimumUpdatePeriod="PT1S">
  <ServiceDescription><Scope schemeIdUri="{SCOPE}"/><Latency target="1200" min="600" max="3600"/><PlaybackRate min="0.95" max="1.05"/></ServiceDescription>
  <Period id="a" start="PT100S"><AdaptationSet contentType="video"><SupplementalProperty schemeIdUri="{CRITICAL}"/>
   <ProducerReferenceTime id="0" type="encoder" wallClockTime="1970-01-01T00:01:40Z" presentationTime="0">{timing}</ProducerReferenceTime>
   <Representation id="v0"><Resync dT="4000"/><SegmentTemplate timescale="120000" startNumber="5" media="$Number$.m4s" initialization="i" availabilityTimeOffset="1.6" availabilityTimeComplete="false">
    <SegmentTimeline><S t="0" d="240000" r="3"/></SegmentTimeline></SegmentTemplate></Representation></AdaptationSet></Period>
  {timing}</MPD>"#
        )
    }

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/dash+xml"),
            ("content-encoding", "gzip"),
            ("access-control-allow-origin", "*"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    fn snapshot(text: &str) -> Snapshot {
        Snapshot {
            manifest: parse(text, 0).unwrap(),
            headers: headers(),
        }
    }

    /// Segment 8, asked for 0.4 s after its start and streamed to its end.
    fn fetched() -> Fetched {
        let init = parse_init(&video_init()).unwrap();
        let bytes: Vec<u8> = (0..20u64)
            .flat_map(|at| chunk(1, 720_000 + at * 4_000, 4_000, at == 0, &[0, 0, 0, 1, 0x65]))
            .collect();
        let fragments = FragmentReader::default()
            .push(&Bytes::from(bytes), &init)
            .unwrap();
        let segment =
            parse(&text(), 0).unwrap().periods[0].sets[0].representations[0].segments[3].clone();
        Fetched {
            kind: "video".to_owned(),
            asked_us: segment.start_us + 400_000,
            arrivals_us: (0..17)
                .map(|at| segment.start_us + 401_000 + at * 100_000)
                .collect(),
            segment,
            timescale: 120_000,
            media_timescale: 120_000,
            by_timeline: true,
            late: false,
            status: 200,
            headers: headers(),
            fragments,
            readable: true,
        }
    }

    fn clean() -> Seen {
        Seen {
            manifests: vec![snapshot(&text()), snapshot(&text())],
            clocks: vec![Clock {
                asked_us: 108 * S,
                done_us: 108 * S + 10,
                status: 200,
                body: "1970-01-01T00:01:48.000Z".to_owned(),
                headers: headers(),
            }],
            segments: vec![fetched()],
            futures: vec![(404, 1_000)],
        }
    }

    fn broken(seen: &Seen) -> Vec<&'static str> {
        judge(seen, 150_000).broken()
    }

    #[test]
    fn d8_media_may_count_by_a_clock_of_its_own() {
        let mut seen = clean();
        let fetched = &mut seen.segments[0];
        fetched.timescale *= 10;
        fetched.segment.time *= 10;
        assert_eq!(broken(&seen), [""; 0]);
        seen.segments[0].media_timescale *= 2;
        assert_eq!(broken(&seen), ["D8"]);
    }

    #[test]
    fn d1_who_claims_nothing_is_held_to_nothing() {
        let mut seen = clean();
        for snapshot in &mut seen.manifests {
            snapshot.manifest.profiles.clear();
        }
        assert_eq!(broken(&seen), ["D1"]);
        for snapshot in &mut seen.manifests {
            let manifest = &mut snapshot.manifest;
            if let Some(service) = &mut manifest.service {
                service.scopes.clear();
            }
            for set in manifest.periods.iter_mut().flat_map(|one| &mut one.sets) {
                set.properties.clear();
            }
        }
        assert_eq!(broken(&seen), [""; 0]);
    }

    #[test]
    fn a_clean_channel_passes_every_rule() {
        let verdicts = judge(&clean(), 150_000);
        assert_eq!(verdicts.broken(), [""; 0], "{verdicts:?}");
        assert!(verdicts.all().all(|(_, _, verdict)| verdict.is_some()));
    }

    #[test]
    fn each_fault_in_the_text_breaks_its_rule() {
        for (rule, from, to) in [
            ("D1", PROFILE, "urn:mpeg:dash:profile:isoff-live:2011"),
            ("D2", "target=\"1200\"", "target=\"200\""),
            ("D2", "max=\"1.05\"", "max=\"1.0\""),
            (
                "D3",
                "  <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-xsdate:2014\" value=\"/t\"/></MPD>",
                "</MPD>",
            ),
            ("D4", "type=\"encoder\"", "type=\"application\""),
            ("D4", "T00:01:40Z", "T00:02:40Z"),
            (
                "D5",
                "availabilityTimeOffset=\"1.6\"",
                "availabilityTimeOffset=\"2.0\"",
            ),
            ("D5", " availabilityTimeComplete=\"false\"", ""),
            ("D6", "<Resync dT=\"4000\"/>", ""),
        ] {
            let mut seen = clean();
            let planted = text().replace(from, to);
            assert_ne!(planted, text(), "{rule}");
            seen.manifests = vec![snapshot(&planted)];
            assert!(broken(&seen).contains(&rule), "{rule}: {:?}", broken(&seen));
        }
    }

    #[test]
    fn d3_the_start_may_not_move_and_the_clock_must_be_right() {
        let mut seen = clean();
        let moved = text().replace("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z");
        seen.manifests.push(snapshot(&moved));
        assert!(broken(&seen).contains(&"D3"));
        for body in ["1970-01-01T00:01:48Z", "1970-01-01T00:02:48.000Z"] {
            let mut seen = clean();
            seen.clocks[0].body = body.to_owned();
            assert_eq!(broken(&seen), ["D3"], "{body}");
        }
    }

    #[test]
    fn d7_a_segment_is_neither_held_nor_sent_at_its_end_nor_offered_too_early() {
        let plant = |change: fn(&mut Seen)| {
            let mut seen = clean();
            change(&mut seen);
            broken(&seen)
        };
        assert_eq!(plant(|seen| seen.segments[0].status = 404), ["D7"]);
        assert_eq!(
            plant(|seen| seen.segments[0].arrivals_us.drain(..12).for_each(drop)),
            ["D7"]
        );
        assert_eq!(
            plant(|seen| seen.segments[0].arrivals_us.truncate(3)),
            ["D7"]
        );
        // Learnt of late, but it comes all at once long before it can be whole.
        assert_eq!(plant(|seen| seen.segments[0].late = true), [""; 0]);
        assert_eq!(
            plant(|seen| {
                let late = &mut seen.segments[0];
                late.late = true;
                late.arrivals_us.truncate(3);
            }),
            ["D7"]
        );
        assert_eq!(plant(|seen| seen.futures[0].0 = 200), ["D7"]);
        assert_eq!(plant(|seen| seen.futures[0].1 = 2 * S), ["D7"]);
    }

    #[test]
    fn d6_d8_media_is_in_chunks_and_where_the_manifest_has_it() {
        let mut seen = clean();
        seen.segments[0].fragments.truncate(1);
        assert_eq!(broken(&seen), ["D6"]);
        let mut seen = clean();
        seen.segments[0].segment.time += 12_000;
        assert_eq!(broken(&seen), ["D8"]);
        let mut seen = clean();
        let moved = text().replace("startNumber=\"5\"", "startNumber=\"6\"");
        seen.manifests.push(snapshot(&moved));
        assert_eq!(broken(&seen), ["D8"]);
        let mut seen = clean();
        let overlap = text().replace(
            "<S t=\"0\" d=\"240000\" r=\"3\"/>",
            "<S t=\"0\" d=\"240000\"/><S t=\"200000\" d=\"240000\"/>",
        );
        seen.manifests = vec![snapshot(&overlap)];
        assert_eq!(broken(&seen), ["D8"]);
    }
}
