//! The rules D1 to D8 as far as a text can hold them, read back with a parser
//! that is not ours.

use std::sync::Arc;

use common::{
    live::{Listing, PartFlags, SegmentFlags, Track},
    media::Ticks,
    names::{Epoch, InitId, TrackName},
};
use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::*;
use crate::fixture::{A, FRAME, PART, PARTS, START, Studio, V, audio, plan, video};

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
fn d8_numbers_are_the_playlists_and_times_are_the_medias() {
    for studio in [live(), uneven()] {
        let mpd = text(&studio);
        for (name, track) in [(V, "v0"), (A, "a0")] {
            let listing = studio.track(name).window.listing().unwrap();
            let listed = segments(&mpd, track);
            let scale = studio.track(name).track.timescale;
            let mut complete = 0;
            for at in &listed {
                let held = listing.segments.iter();
                let Some(held) = held.clone().find(|held| held.head.msn.0 == at.number) else {
                    continue;
                };
                assert_eq!(at.url, format!("7/{track}/{}.m4s", held.head.msn));
                let us = |ticks: Ticks| START.0 * 1_000 + scale.to_us(ticks);
                assert!(at.start_us.abs_diff(us(held.head.dts)) <= 1);
                if held.complete {
                    let end = held.head.dts + held.duration;
                    assert!(at.end_us.abs_diff(us(end)) <= 1);
                    complete += 1;
                }
            }
            assert!(complete >= 6);
        }
    }
}

#[test]
fn d8_the_segment_being_made_is_listed_when_every_track_has_begun_it() {
    let mut studio = studio();
    studio.segments(100, 108);
    let newest = |studio: &Studio| {
        let mpd = text(studio);
        let last = segments(&mpd, "v0").pop().unwrap();
        assert_eq!(segments(&mpd, "a0").pop().unwrap().number, last.number);
        (last.number, last.end_us - last.start_us)
    };
    assert_eq!(newest(&studio), (107, 2_000_000));
    studio.open(V, 108);
    studio.chunk(V, "first");
    assert_eq!(newest(&studio).0, 107);
    studio.open(A, 108);
    studio.chunk(A, "first");
    // Its length is expected; the update that follows tells it exactly.
    assert_eq!(newest(&studio), (108, 2_000_000));
    (0..PARTS + 1).for_each(|part| studio.part(V, 108, part));
    studio.complete(V);
    (0..PARTS + 1).for_each(|part| studio.part(A, 108, part));
    assert_eq!(newest(&studio), (108, 2_000_000));
    studio.complete(A);
    assert_eq!(newest(&studio), (108, 2_333_333));
}

#[test]
fn d8_a_discontinuity_begins_a_period() {
    let mut studio = live();
    republish(&mut studio, 110, 5_000);
    // Its first segment is shown when every track has begun it.
    let mpd = text(&studio);
    let first = segments(&mpd, "v0").pop().unwrap();
    assert_eq!(
        (first.number, &first.url[..]),
        (111, &*format!("{}/v0/111.m4s", studio.epoch))
    );
    assert_eq!(first.start_us, (START.0 + 5_000) * 1_000 + 22_000_000);
    for msn in 112..130 {
        studio.complete(V);
        studio.complete(A);
        for name in [V, A] {
            studio.open(name, msn);
            (0..PARTS).for_each(|part| studio.part(name, msn, part));
        }
        let mpd = text(&studio);
        let document = Document::parse(&mpd).unwrap();
        let periods = all(document.root_element(), "Period");
        let old = segments(&mpd, "v0").first().unwrap().number < 111;
        assert_eq!(periods.len(), if old { 2 } else { 1 }, "{msn}");
        // It begins when its publish began, also when that is long gone.
        let start = length(*periods.last().unwrap(), "start");
        assert_eq!(start, studio.epoch.0);
        let id = format!("{}-1-1-1", studio.epoch);
        assert_eq!(periods.last().unwrap().attribute("id"), Some(&id[..]));
        let listed = segments(&mpd, "a0");
        assert!(
            listed
                .windows(2)
                .all(|two| two[1].number == two[0].number + 1)
        );
        assert!(
            listed
                .windows(2)
                .all(|two| two[1].start_us >= two[0].end_us)
        );
    }
}

#[test]
fn d8_a_discontinuity_within_an_epoch_begins_a_period_too() {
    let mut studio = live();
    finish(&mut studio, 110);
    (studio.discontinuities, studio.away_ms) = (1, 400);
    studio.init = InitId(1);
    for name in [V, A] {
        studio.open_with(name, 111, DISCONTINUITY);
        (0..PARTS).for_each(|part| studio.part(name, 111, part));
        studio.complete(name);
    }
    let mpd = text(&studio);
    let document = Document::parse(&mpd).unwrap();
    let periods = all(document.root_element(), "Period");
    let starts: Vec<_> = periods.iter().map(|of| length(*of, "start")).collect();
    assert_eq!(starts, [START.0, START.0 + 22_400]);
    let listed = segments(&mpd, "v0");
    assert!(
        listed
            .windows(2)
            .all(|two| two[1].number == two[0].number + 1)
    );
    assert!(
        listed
            .windows(2)
            .all(|two| two[1].start_us >= two[0].end_us)
    );
}

#[test]
fn nothing_is_promised_while_the_publisher_is_away() {
    let mut studio = live();
    finish(&mut studio, 110);
    let mpd = text(&studio);
    assert_eq!(segments(&mpd, "v0").last().unwrap().number, 110);
    assert_eq!(segments(&mpd, "a0").last().unwrap().number, 110);
    assert!(mpd.contains("minimumUpdatePeriod"));
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

/// What a track's log gets next, so that two edges can get it at different times.
#[derive(Debug, Clone, Copy)]
enum Act {
    Open(u64),
    Part(u64, u32, bool),
    Complete,
}

fn script(lengths: &[u32]) -> Vec<Act> {
    let mut acts = Vec::new();
    for (msn, parts) in (100..).zip(lengths) {
        acts.push(Act::Open(msn));
        acts.extend((0..*parts).map(|part| Act::Part(msn, part, part + 1 == *parts)));
        acts.push(Act::Complete);
    }
    acts
}

fn perform(studio: &mut Studio, name: TrackName, act: Act) {
    match act {
        Act::Open(msn) => studio.open(name, msn),
        Act::Part(msn, part, last) => {
            let flags = PartFlags {
                independent: part == 0,
                gap: false,
            };
            let next = if last { (msn + 1, 0) } else { (msn, part + 1) };
            studio.chunk(name, "x");
            let duration = if name == V { PART } else { Ticks(16_000) };
            studio.close(name, duration, flags, next);
        }
        Act::Complete => studio.complete(name),
    }
}

proptest! {
    /// The property that playlists have: at equal versions equal bytes, whichever
    /// track an edge is ahead with.
    #[test]
    fn equal_versions_are_equal_bytes(
        lengths in proptest::collection::vec(1u32..9, 8..24),
        order in proptest::collection::vec(0u8..4, 64),
    ) {
        let acts = script(&lengths);
        let mut seen = std::collections::HashMap::new();
        // Edges that are ahead by so many records with video, audio or neither.
        for lead in [-9i64, -3, 0, 3, 9] {
            let mut studio = studio();
            let mut at = [0usize; 2];
            let mut turn = order.iter().cycle();
            while at.iter().any(|at| *at < acts.len()) {
                let wish = usize::from(*turn.next().unwrap() % 2);
                let ahead = at[0].cast_signed() as i64 - at[1].cast_signed() as i64;
                let which = match wish {
                    0 if ahead > lead + 3 => 1,
                    1 if ahead < lead - 3 => 0,
                    wish => wish,
                };
                let which = if at[which] < acts.len() { which } else { 1 - which };
                perform(&mut studio, [V, A][which], acts[at[which]]);
                at[which] += 1;
                if let Some(now) = shows(&studio) {
                    let mpd = text(&studio);
                    let known = seen.entry(now.version).or_insert_with(|| mpd.clone());
                    prop_assert_eq!(known, &mpd);
                }
            }
        }
        prop_assert!(seen.len() >= lengths.len());
    }

    #[test]
    fn no_lengths_make_a_manifest_that_is_no_xml(lengths in proptest::collection::vec(1u32..40, 1..12)) {
        let mut studio = studio();
        for act in script(&lengths) {
            for name in [V, A] {
                perform(&mut studio, name, act);
            }
            if shows(&studio).is_some() {
                let mpd = text(&studio);
                prop_assert!(Document::parse(&mpd).is_ok());
                let listed = segments(&mpd, "v0");
                prop_assert!(listed.windows(2).all(|two| two[1].start_us >= two[0].end_us));
                prop_assert!(listed.iter().all(|at| at.end_us - at.start_us >= FRAME * 1_000 / 120));
            }
        }
    }
}
