use super::*;

const OURS: &str = r#"<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="a,b" type="dynamic" availabilityStartTime="1970-01-01T00:00:00Z" minimumUpdatePeriod="PT0.500S">
 <ServiceDescription id="0"><Scope schemeIdUri="scope"/><Latency target="1200" min="600" max="3600"/><PlaybackRate min="0.95" max="1.10"/></ServiceDescription>
 <Period id="p" start="PT100.000S">
  <AdaptationSet contentType="video">
   <SupplementalProperty schemeIdUri="low"/>
   <ProducerReferenceTime id="0" type="encoder" wallClockTime="1970-01-01T00:01:40Z" presentationTime="1000"><UTCTiming schemeIdUri="s" value="v"/></ProducerReferenceTime>
   <Representation id="v0">
    <Resync type="0" dT="100"/>
    <SegmentTemplate timescale="1000" presentationTimeOffset="1000" startNumber="7" media="9/$RepresentationID$/$Number$.m4s" initialization="9/v0/init-0.mp4" availabilityTimeOffset="1.633" availabilityTimeComplete="false">
     <SegmentTimeline><S t="2000" d="2000" r="1"/><S d="2300"/></SegmentTimeline>
    </SegmentTemplate>
   </Representation>
  </AdaptationSet>
 </Period>
 <UTCTiming schemeIdUri="s" value="v"/>
</MPD>"#;

#[test]
fn a_timeline_is_written_out() {
    let mpd = parse(OURS, 0).unwrap();
    let (_, set, of) = mpd.of_kind("video").next().unwrap();
    let segment = |number: u64, time: u64, start_us: i64, duration_us: i64| Segment {
        number,
        time,
        start_us,
        duration_us,
        uri: format!("9/v0/{number}.m4s"),
    };
    let wanted = [
        segment(7, 2_000, 101_000_000, 2_000_000),
        segment(8, 4_000, 103_000_000, 2_000_000),
        segment(9, 6_000, 105_000_000, 2_300_000),
    ];
    assert_eq!(of.segments, wanted);
    assert_eq!(
        (of.ahead_us, of.complete, of.by_timeline),
        (Some(1_633_000), false, true)
    );
    assert_eq!(of.resyncs, [100]);
    let reference = &set.references[0];
    assert_eq!(reference.wall_us, Some(100_000_000));
    assert_eq!(reference.timing.as_ref(), mpd.timing.first());
    assert_eq!(mpd.update_us, Some(500_000));
    assert_eq!(mpd.service.unwrap().target_ms, Some(1_200));
}

#[test]
fn templates_are_inherited_and_nominal_durations_counted_from_the_clock() {
    let text = r#"<MPD type="dynamic" availabilityStartTime="1970-01-01T00:00:10Z"><Period start="PT0S">
      <AdaptationSet mimeType="audio/mp4"><SegmentTemplate timescale="10" duration="20" startNumber="1" media="$RepresentationID$-$Number%04d$-$Time$$$"/>
      <Representation id="a"/></AdaptationSet></Period></MPD>"#;
    let mpd = parse(text, 17_000_000).unwrap();
    let (_, _, of) = mpd.of_kind("audio").next().unwrap();
    assert!(!of.by_timeline && of.complete);
    let last = of.segments.last().unwrap();
    assert_eq!(
        (last.number, last.start_us, &last.uri[..]),
        (4, 16_000_000, "a-0004-60$")
    );
    assert_eq!(of.segments.len(), 4);
}

#[test]
fn what_is_no_manifest_is_an_error() {
    for text in [
        "",
        "<html/>",
        "<MPD",
        r#"<MPD minimumUpdatePeriod="soon"/>"#,
        r#"<MPD><Period><AdaptationSet><Representation><SegmentTemplate timescale="x"/></Representation></AdaptationSet></Period></MPD>"#,
        r#"<MPD><Period><AdaptationSet><Representation><SegmentTemplate><SegmentTimeline><S/></SegmentTimeline></SegmentTemplate></Representation></AdaptationSet></Period></MPD>"#,
    ] {
        assert!(parse(text, 0).is_err(), "{text}");
    }
}

#[test]
fn a_timeline_without_end_is_bounded() {
    let text = r#"<MPD><Period><AdaptationSet contentType="video"><Representation><SegmentTemplate media="x">
      <SegmentTimeline><S t="0" d="0" r="18446744073709551615"/></SegmentTimeline></SegmentTemplate></Representation></AdaptationSet></Period></MPD>"#;
    let mpd = parse(text, 0).unwrap();
    assert_eq!(
        mpd.of_kind("video").next().unwrap().2.segments.len(),
        MAX_SEGMENTS
    );
}
