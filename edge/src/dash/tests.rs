//! The rules D1 to D8 as far as a text can hold them, read back with a parser
//! that is not ours.

use std::sync::Arc;

use common::{
    live::{Listing, SegmentFlags, Track},
    names::{Epoch, InitId, TrackName},
};
use roxmltree::{Document, Node};

mod periods;
mod versions;

use super::*;
use crate::fixture::{A, PARTS, START, Studio, V, audio, plan, video};

const DISCONTINUITY: SegmentFlags = SegmentFlags {
    discontinuity: true,
    gap: false,
};

fn studio() -> Studio {
    Studio::new(plan(3), vec![video(), audio()])
}

/// Whole segments 100 to 109 and the first parts of the next.
fn live() -> Studio {
    let mut studio = studio();
    studio.segments(100, 110);
    for name in [V, A] {
        studio.open(name, 110);
        studio.part(name, 110, 0);
    }
    studio
}

fn shows(studio: &Studio) -> Option<Shown> {
    let broadcast = &studio.broadcast;
    let tracks: Vec<&Track> = broadcast.tracks.iter().map(|of| &of.track).collect();
    let listings = broadcast.tracks.iter().map(|of| of.window.listing());
    let listings: Vec<Arc<Listing>> = listings.collect::<Option<_>>()?;
    shown(broadcast.id, &broadcast.plan, &tracks, &listings)
}

fn text(studio: &Studio) -> String {
    let tracks = studio.broadcast.tracks.iter().map(|of| &of.track);
    let tracks: Vec<&Track> = tracks.collect();
    manifest(&shows(studio).unwrap(), &studio.broadcast.plan, &tracks)
}

fn all<'a>(of: Node<'a, 'a>, name: &'a str) -> Vec<Node<'a, 'a>> {
    let nodes = of.descendants();
    nodes
        .filter(|node| node.tag_name().name() == name)
        .collect()
}

fn one<'a>(of: Node<'a, 'a>, name: &'a str) -> Node<'a, 'a> {
    let found = all(of, name);
    assert_eq!(found.len(), 1, "{name}");
    found[0]
}

fn number(of: Node<'_, '_>, name: &str) -> u64 {
    let text = of.attribute(name);
    text.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// `PT1.250S` in milliseconds.
fn length(of: Node<'_, '_>, name: &str) -> u64 {
    let text = of.attribute(name).unwrap_or_else(|| panic!("no {name}"));
    let text = text.strip_prefix("PT").unwrap().strip_suffix('S').unwrap();
    decimal(text)
}

fn decimal(text: &str) -> u64 {
    let (whole, rest) = text.split_once('.').unwrap();
    assert_eq!(rest.len(), 3, "{text}");
    whole.parse::<u64>().unwrap() * 1_000 + rest.parse::<u64>().unwrap()
}

/// One listed segment: number, Unix start and end in microseconds, URL.
#[derive(Debug, Clone, PartialEq)]
struct Listed {
    number: u64,
    start_us: u64,
    end_us: u64,
    url: String,
}

/// As a player reads it: every segment of a track, over all periods.
fn segments(mpd: &str, track: &str) -> Vec<Listed> {
    let document = Document::parse(mpd).unwrap();
    let mut listed = Vec::new();
    for period in all(document.root_element(), "Period") {
        let start_ms = length(period, "start");
        for of in all(period, "Representation") {
            if of.attribute("id") != Some(track) {
                continue;
            }
            let template = one(of, "SegmentTemplate");
            let scale = number(template, "timescale");
            let offset = number(template, "presentationTimeOffset");
            let media = template.attribute("media").unwrap();
            let mut at = 0;
            let mut next = number(template, "startNumber");
            for s in all(of, "S") {
                at = s.attribute("t").map_or(at, |t| t.parse().unwrap());
                let repeated = s.attribute("r").map_or(0, |r| r.parse().unwrap());
                for _ in 0..=repeated {
                    let us = |t: u64| start_ms * 1_000 + (t - offset) * 1_000_000 / scale;
                    let end = at + number(s, "d");
                    listed.push(Listed {
                        number: next,
                        start_us: us(at),
                        end_us: us(end),
                        url: media.replace("$Number$", &next.to_string()),
                    });
                    (at, next) = (end, next + 1);
                }
            }
        }
    }
    listed
}

/// Numbers without a gap, times without going back.
fn assert_goes_on(listed: &[Listed]) {
    for two in listed.windows(2) {
        assert_eq!(two[1].number, two[0].number + 1);
        assert!(two[1].start_us >= two[0].end_us, "{two:?}");
    }
}

#[test]
fn golden_manifest() {
    let mut studio = studio();
    studio.segments(100, 102);
    let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019,http://www.dashif.org/guidelines/low-latency-live-v5" type="dynamic" availabilityStartTime="1970-01-01T00:00:00Z" publishTime="2026-11-22T21:16:27.042Z" minimumUpdatePeriod="PT0.500S" minBufferTime="PT0.600S" timeShiftBufferDepth="PT18.000S">
 <ServiceDescription id="0">
  <Scope schemeIdUri="urn:dvb:dash:lowlatency:scope:2019"/>
  <Latency referenceId="0" target="1200" min="600" max="3600"/>
  <PlaybackRate min="0.95" max="1.10"/>
 </ServiceDescription>
 <Period id="7-0-0-0" start="PT1795382183.042S">
  <AdaptationSet id="0" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">
   <SupplementalProperty schemeIdUri="urn:dvb:dash:lowlatency:critical:2019" value="true"/>
   <ProducerReferenceTime id="0" type="encoder" wallClockTime="2026-11-22T21:16:23.042Z" presentationTime="0">
    <UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-xsdate:2014" value="/api/v1/time"/>
   </ProducerReferenceTime>
   <Representation id="v0" bandwidth="3500000" codecs="avc1.64001f" width="1280" height="720" frameRate="30000/1001">
    <Resync type="0" dT="44000"/>
    <SegmentTemplate timescale="120000" presentationTimeOffset="0" startNumber="100" media="7/v0/$Number$.m4s" initialization="7/v0/init-0.mp4" availabilityTimeOffset="1.633" availabilityTimeComplete="false">
     <SegmentTimeline>
      <S t="0" d="240000" r="1"/>
     </SegmentTimeline>
    </SegmentTemplate>
   </Representation>
  </AdaptationSet>
  <AdaptationSet id="1" contentType="audio" mimeType="audio/mp4" segmentAlignment="true" startWithSAP="1">
   <SupplementalProperty schemeIdUri="urn:dvb:dash:lowlatency:critical:2019" value="true"/>
   <ProducerReferenceTime id="1" type="encoder" wallClockTime="2026-11-22T21:16:23.042Z" presentationTime="0">
    <UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-xsdate:2014" value="/api/v1/time"/>
   </ProducerReferenceTime>
   <Representation id="a0" bandwidth="160000" codecs="mp4a.40.2" audioSamplingRate="48000">
    <AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" value="2"/>
    <Resync type="0" dT="16384"/>
    <SegmentTemplate timescale="48000" presentationTimeOffset="0" startNumber="100" media="7/a0/$Number$.m4s" initialization="7/a0/init-0.mp4" availabilityTimeOffset="1.633" availabilityTimeComplete="false">
     <SegmentTimeline>
      <S t="0" d="96000" r="1"/>
     </SegmentTimeline>
    </SegmentTemplate>
   </Representation>
  </AdaptationSet>
 </Period>
 <UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-xsdate:2014" value="/api/v1/time"/>
</MPD>
"#;
    assert_eq!(text(&studio), expected);
}

#[test]
fn d1_profile_and_low_latency_properties() {
    let mpd = text(&live());
    let document = Document::parse(&mpd).unwrap();
    let root = document.root_element();
    let profiles: Vec<_> = root.attribute("profiles").unwrap().split(',').collect();
    assert!(profiles.contains(&"http://www.dashif.org/guidelines/low-latency-live-v5"));
    let scope = one(one(root, "ServiceDescription"), "Scope");
    let urn = "urn:dvb:dash:lowlatency:scope:2019";
    assert_eq!(scope.attribute("schemeIdUri"), Some(urn));
    for set in all(root, "AdaptationSet") {
        let property = one(set, "SupplementalProperty");
        let urn = "urn:dvb:dash:lowlatency:critical:2019";
        assert_eq!(property.attribute("schemeIdUri"), Some(urn));
    }
}

#[test]
fn d2_the_service_description_names_the_latency_and_the_speeds() {
    let mpd = text(&live());
    let document = Document::parse(&mpd).unwrap();
    let service = one(document.root_element(), "ServiceDescription");
    let latency = one(service, "Latency");
    let (min, target) = (number(latency, "min"), number(latency, "target"));
    assert_eq!(target, 1_200);
    assert!(min < target && target < number(latency, "max"));
    let rate = one(service, "PlaybackRate");
    let speed = |name| rate.attribute(name).unwrap().parse::<f64>().unwrap();
    assert!(speed("min") < 1.0 && speed("max") > 1.0);
}

#[test]
fn d3_the_edge_tells_the_time_and_the_start_never_changes() {
    let mut studio = studio();
    for msn in 100..140 {
        studio.segments(msn, msn + 1);
        let mpd = text(&studio);
        let document = Document::parse(&mpd).unwrap();
        let root = document.root_element();
        let start = root.attribute("availabilityStartTime");
        assert_eq!(start, Some("1970-01-01T00:00:00Z"));
        let timing = root.last_element_child().unwrap();
        assert_eq!(timing.tag_name().name(), "UTCTiming");
        let scheme = timing.attribute("schemeIdUri");
        assert_eq!(scheme, Some("urn:mpeg:dash:utc:http-xsdate:2014"));
        assert_eq!(timing.attribute("value"), Some(TIME_PATH));
        // The clock is Unix time: the newest segment ends when its programme does.
        let newest = segments(&mpd, "v0").pop().unwrap();
        let now_us = START.0 * 1_000 + (msn - 99) * 2_000_000;
        assert_eq!(newest.end_us, now_us);
        assert_eq!(length(all(root, "Period")[0], "start"), START.0);
    }
}

#[test]
fn d4_every_set_tells_its_producers_clock() {
    let mut studio = live();
    republish(&mut studio, 110, 5_000);
    studio.complete(V);
    studio.complete(A);
    studio.segments(112, 114);
    let mpd = text(&studio);
    let document = Document::parse(&mpd).unwrap();
    let root = document.root_element();
    let timing = root.last_element_child().unwrap();
    let sets = all(root, "AdaptationSet");
    assert_eq!(sets.len(), 4);
    for set in sets {
        let reference = one(set, "ProducerReferenceTime");
        assert!(matches!(
            reference.attribute("type"),
            Some("encoder" | "captured")
        ));
        let own = one(reference, "UTCTiming");
        for name in ["schemeIdUri", "value"] {
            assert_eq!(own.attribute(name), timing.attribute(name));
        }
        // Both name the period's start, one on the wall and one in the media.
        let period = set.parent().unwrap();
        let offset = one(set, "SegmentTemplate").attribute("presentationTimeOffset");
        assert_eq!(reference.attribute("presentationTime"), offset);
        let at = common::live::UnixMs(length(period, "start"));
        let wall = crate::playlist::Iso8601(at).to_string();
        assert_eq!(reference.attribute("wallClockTime"), Some(&wall[..]));
    }
}

#[test]
fn d5_a_segment_is_asked_for_before_its_end() {
    let mpd = text(&uneven());
    let document = Document::parse(&mpd).unwrap();
    let mut offsets = Vec::new();
    for template in all(document.root_element(), "SegmentTemplate") {
        assert_eq!(
            template.attribute("availabilityTimeComplete"),
            Some("false")
        );
        let offset = decimal(template.attribute("availabilityTimeOffset").unwrap());
        let scale = number(template, "timescale");
        for s in all(template, "S") {
            let duration_ms = number(s, "d") * 1_000 / scale;
            assert!(0 < offset && offset < duration_ms, "{offset} {duration_ms}");
        }
        offsets.push(offset);
    }
    // The same in every representation.
    assert_eq!(offsets.len(), 2);
    assert_eq!(offsets[0], offsets[1]);
}

#[test]
fn d6_chunks_are_told_with_a_resync() {
    let mpd = text(&live());
    let document = Document::parse(&mpd).unwrap();
    for of in all(document.root_element(), "Representation") {
        let resync = one(of, "Resync");
        let template = one(of, "SegmentTemplate");
        let segment = number(all(template, "S")[0], "d");
        // Several chunks a segment.
        assert!(number(resync, "dT") * 4 < segment);
    }
}

#[test]
fn an_ended_broadcast_has_a_length_and_no_updates() {
    let mut studio = live();
    finish(&mut studio, 110);
    studio.track(V).window.end();
    let before = text(&studio);
    assert!(before.contains("minimumUpdatePeriod"));
    studio.track(A).window.end();
    let mpd = text(&studio);
    let document = Document::parse(&mpd).unwrap();
    let root = document.root_element();
    assert_eq!(root.attribute("minimumUpdatePeriod"), None);
    assert_eq!(length(root, "mediaPresentationDuration"), START.0 + 22_000);
    assert_eq!(segments(&mpd, "v0").last().unwrap().number, 110);
}

#[test]
fn a_broadcast_is_shown_from_its_first_part_in_every_track() {
    let mut studio = studio();
    studio.open(V, 100);
    studio.part(V, 100, 0);
    assert_eq!(shows(&studio), None);
    studio.open(A, 100);
    studio.part(A, 100, 0);
    let listed = segments(&text(&studio), "a0");
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].number, listed[0].start_us),
        (100, START.0 * 1_000)
    );
}

#[test]
fn a_codec_string_stays_within_its_quotes() {
    let mut hostile = video();
    hostile.codec = "avc1\"/><script>&amp;".to_owned();
    let mut studio = Studio::new(plan(3), vec![hostile]);
    studio.segments(100, 102);
    let mpd = text(&studio);
    let document = Document::parse(&mpd).unwrap();
    let codecs = one(document.root_element(), "Representation").attribute("codecs");
    assert_eq!(codecs, Some("avc1scriptamp"));
    assert!(all(document.root_element(), "script").is_empty());
}

#[test]
fn sound_alone_is_a_manifest_too() {
    let mut studio = Studio::new(plan(3), vec![audio()]);
    studio.segments(100, 108);
    let listed = segments(&text(&studio), "a0");
    assert_eq!(listed.len(), 8);
    assert_eq!(listed[7].end_us, START.0 * 1_000 + 16_000_000);
}

/// Segments of two seconds and of two and a third, as scene cuts make them.
fn uneven() -> Studio {
    let mut studio = studio();
    for msn in 100..110 {
        for name in [V, A] {
            studio.open(name, msn);
            let parts = PARTS + u32::from(msn % 3 == 0);
            (0..parts).for_each(|part| studio.part(name, msn, part));
            studio.complete(name);
        }
    }
    studio.open(V, 110);
    studio.open(A, 110);
    studio
}

/// Closes what is open in both tracks after its first part.
fn finish(studio: &mut Studio, msn: u64) {
    for name in [V, A] {
        (1..PARTS).for_each(|part| studio.part(name, msn, part));
        studio.complete(name);
    }
}

/// The publisher goes in segment `msn` and returns with another init segment.
fn republish(studio: &mut Studio, msn: u64, away_ms: u64) {
    finish(studio, msn);
    studio.away_ms += away_ms;
    studio.discontinuities += 1;
    studio.init = InitId(1);
    let ended_ms = (msn - 99) * 2_000;
    studio.epoch = Epoch(START.0 + ended_ms + studio.away_ms - 40);
    for name in [V, A] {
        studio.open_with(name, msn + 1, DISCONTINUITY);
        (0..PARTS).for_each(|part| studio.part(name, msn + 1, part));
    }
}
