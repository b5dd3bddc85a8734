use super::*;

const MEDIA: &str = r#"#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:3
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.2,HOLD-BACK=9.0,CAN-SKIP-UNTIL=18.0
#EXT-X-PART-INF:PART-TARGET=0.36667
#EXT-X-MEDIA-SEQUENCE:100
#EXT-X-DISCONTINUITY-SEQUENCE:4
#EXT-X-MAP:URI="5/v0/init-0.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T21:16:23.000Z
#EXTINF:2.00000,
5/v0/100.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="6/v0/init-1.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T21:16:30.000Z
#EXT-X-PART:DURATION=0.33333,URI="6/v0/101.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.33333,URI="6/v0/101.1.m4s"
#EXTINF:0.66667,
6/v0/101.m4s
#EXT-X-PART:DURATION=0.33333,URI="6/v0/102.0.m4s",INDEPENDENT=YES,GAP=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="6/v0/102.1.m4s"
#EXT-X-RENDITION-REPORT:URI="a0.m3u8",LAST-MSN=102,LAST-PART=0
"#;

fn media(text: &str) -> MediaPlaylist {
    match parse(text).unwrap() {
        Playlist::Media(media) => *media,
        Playlist::Multivariant(_) => panic!("multivariant"),
    }
}

#[test]
fn reads_every_tag_of_a_low_latency_playlist() {
    let list = media(MEDIA);
    assert_eq!(list.target_us(), 3_000_000);
    assert_eq!(list.hold_back_us(), 1_200_000);
    assert_eq!(list.part_target_us, Some(366_670));
    assert_eq!(list.discontinuity_sequence, Some(4));
    let msns: Vec<_> = list.segments.iter().map(|s| s.msn).collect();
    assert_eq!(msns, [100, 101, 102]);
    let republished = &list.segments[1];
    assert!(republished.discontinuity && !republished.late_tags);
    assert_eq!(republished.map.as_deref(), Some("6/v0/init-1.mp4"));
    assert_eq!(republished.date_time_us, Some(1_795_382_190_000_000));
    assert_eq!(republished.parts[1].duration_us, 333_330);
    let open = &list.segments[2];
    assert!(open.uri.is_none() && open.parts[0].gap && open.parts[0].independent);
    assert_eq!(open.map, republished.map);
    assert_eq!(list.part_hint(), Some("6/v0/102.1.m4s"));
    assert_eq!(list.position().unwrap().next(), (102, 1));
    assert_eq!(list.reports[0].last_part, Some(0));
}

#[test]
fn a_complete_end_is_followed_by_part_zero() {
    let until = MEDIA
        .find("#EXT-X-PART:DURATION=0.33333,URI=\"6/v0/102.0")
        .unwrap();
    assert_eq!(media(&MEDIA[..until]).position().unwrap().next(), (102, 0));
}

#[test]
fn a_delta_update_counts_what_it_skips() {
    let text =
        "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXTINF:2,\n13.m4s\n";
    let list = media(text);
    assert_eq!((list.skipped, list.segments[0].msn), (3, 13));
}

#[test]
fn tags_behind_the_first_part_are_noticed() {
    let text = "#EXTM3U\n#EXT-X-PART:DURATION=1,URI=\"a\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T21:16:30Z\n";
    assert!(media(text).segments[0].late_tags);
}

#[test]
fn reads_a_multivariant_playlist() {
    let text = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a0\",DEFAULT=YES,URI=\"a0.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=3400000,CODECS=\"avc1.64001f,mp4a.40.2\",AUDIO=\"a\"\nv0.m3u8\n";
    let Playlist::Multivariant(list) = parse(text).unwrap() else {
        panic!("media");
    };
    assert_eq!(list.variants[0].uri, "v0.m3u8");
    assert_eq!(
        list.variants[0].attributes["CODECS"],
        "avc1.64001f,mp4a.40.2"
    );
    assert_eq!(list.renditions[0].uri.as_deref(), Some("a0.m3u8"));
    assert!(list.renditions[0].is_default && list.independent_segments);
}

#[test]
fn faults_name_their_line() {
    for (text, line) in [
        ("<html>", 1),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:3.5\n", 2),
        ("#EXTM3U\n#EXTINF:x,\na\n", 2),
        ("#EXTM3U\nlonely.m4s\n", 2),
        ("#EXTM3U\n\n#EXT-X-PART:URI=\"a\"\n", 3),
        ("#EXTM3U\n#EXT-X-PART:DURATION=1,URI=\"a\n", 2),
        ("#EXTM3U\n#EXT-X-PART:DURATION=1,URI=\"a\",\n", 2),
        ("#EXTM3U\n#EXT-X-PART:DURATION=1,DURATION=1,URI=\"a\"\n", 2),
        ("#EXTM3U\n#EXT-X-PART:DURATION=1,URI=\"a\",GAP=MAYBE\n", 2),
        ("#EXTM3U\n#EXTINF:1,\n", 0),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n", 0),
        ("#EXTM3U\n#EXTINF:99999999999999999999,\na\n", 2),
        ("#EXTM3U\n#EXTINF:-1,\na\n", 2),
    ] {
        assert_eq!(parse(text).unwrap_err().line, line, "{text}");
    }
}
