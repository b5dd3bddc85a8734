//! The rules H1 to H15 as far as a text can hold them, read back with an
//! independent parser.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    live::{Listing, PartFlags, SegmentFlags, Track},
    media::{Ticks, Timescale},
    names::{Epoch, InitId, Kind, Msn, TrackName},
};
use quick_m3u8::{
    HlsLine, Reader,
    config::ParsingOptionsBuilder,
    tag::{KnownTag, hls::Tag},
};

mod history;
mod long;
mod read;
mod reloads;

use self::read::Read;
use super::{Skip, is_offered, media, multivariant, rebased};
use crate::fixture::{A, FRAME, PART, PARTS, Studio, V, audio, plan, video};

const INDEPENDENT: PartFlags = flags(true, false);
const GAP: PartFlags = flags(false, true);
const DEPENDENT: PartFlags = flags(false, false);

const DISCONTINUITY: SegmentFlags = SegmentFlags {
    discontinuity: true,
    gap: false,
};

const fn flags(independent: bool, gap: bool) -> PartFlags {
    PartFlags { independent, gap }
}

fn studio() -> Studio {
    Studio::new(plan(2), vec![video(), audio()])
}

fn listing(studio: &Studio, name: TrackName) -> Arc<Listing> {
    studio.track(name).window.listing().unwrap()
}

fn text(studio: &Studio, name: TrackName, skip: Skip) -> String {
    let tracks: Vec<&Track> = studio.broadcast.tracks.iter().map(|t| &t.track).collect();
    let track = &studio.track(name).track;
    media(
        &listing(studio, name),
        &studio.broadcast.plan,
        track,
        &tracks,
        skip,
    )
}

fn read(studio: &Studio, name: TrackName) -> Read {
    Read::of(&text(studio, name, Skip::No))
}

/// Six segments, then two parts of the seventh.
fn live() -> Studio {
    let mut studio = studio();
    studio.segments(100, 106);
    for name in [V, A] {
        studio.open(name, 106);
        studio.part(name, 106, 0);
        studio.part(name, 106, 1);
    }
    studio
}

#[test]
fn golden_media_playlist() {
    let mut studio = studio();
    studio.segments(100, 101);
    studio.open(V, 101);
    studio.part(V, 101, 0);
    let expected = "#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.000,HOLD-BACK=6.000,PART-HOLD-BACK=1.200
#EXT-X-PART-INF:PART-TARGET=0.366667
#EXT-X-MEDIA-SEQUENCE:100
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI=\"7/v0/init-0.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T21:16:23.042Z
#EXT-X-PART:DURATION=0.333333,URI=\"7/v0/100.0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.333333,URI=\"7/v0/100.1.m4s\"
#EXT-X-PART:DURATION=0.333334,URI=\"7/v0/100.2.m4s\"
#EXT-X-PART:DURATION=0.333333,URI=\"7/v0/100.3.m4s\"
#EXT-X-PART:DURATION=0.333333,URI=\"7/v0/100.4.m4s\"
#EXT-X-PART:DURATION=0.333334,URI=\"7/v0/100.5.m4s\"
#EXTINF:2.000000,
7/v0/100.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T21:16:25.042Z
#EXT-X-PART:DURATION=0.333333,URI=\"7/v0/101.0.m4s\",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"7/v0/101.1.m4s\"
#EXT-X-RENDITION-REPORT:URI=\"a0.m3u8\",LAST-MSN=101,LAST-PART=1
";
    assert_eq!(text(&studio, V, Skip::No), expected);
}

#[test]
fn golden_multivariant_playlist() {
    let mut low = video();
    low.name = TrackName::video(1);
    low.size = Some((640, 360));
    low.bandwidth_bps = 900_000;
    low.average_bandwidth_bps = 800_000;
    low.frame_rate = Some((30, 1));
    let expected = "#EXTM3U
#EXT-X-VERSION:9
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"mp4a\",NAME=\"a0\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"a0.m3u8\"
#EXT-X-STREAM-INF:BANDWIDTH=3660000,AVERAGE-BANDWIDTH=3128000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO=\"mp4a\"
v0.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1060000,AVERAGE-BANDWIDTH=928000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=30.000,AUDIO=\"mp4a\"
v1.m3u8
";
    let (video, audio) = (video(), audio());
    assert_eq!(multivariant(&plan(2), &[&video, &low, &audio]), expected);
}

/// Behind a viewer's token every URI is, and nothing else differs.
#[test]
fn a_rebased_playlist_differs_in_its_uris_alone() {
    let (video, audio) = (video(), audio());
    let shared = multivariant(&plan(2), &[&video, &audio]);
    let personal = rebased(&shared, "../../s/a.b-c.d_/live/demo/");
    assert_eq!(personal.matches("../../s/a.b-c.d_/live/demo/").count(), 2);
    assert!(personal.contains(",URI=\"../../s/a.b-c.d_/live/demo/a0.m3u8\"\n"));
    assert!(personal.contains("\n../../s/a.b-c.d_/live/demo/v0.m3u8\n"));
    assert_eq!(personal.replace("../../s/a.b-c.d_/live/demo/", ""), shared);
}

/// Durations on odd grids: 29.97 frames a second, an audio of 44.1 kHz.
#[test]
fn h1_extinf_follows_the_media() {
    let mut odd = video();
    odd.frame_rate = Some((30_000, 1_001));
    let mut sound = audio();
    sound.timescale = Timescale::new(44_100).unwrap();
    sound.part_target = Ticks(15 * 1_024);
    let mut studio = Studio::new(plan(60), vec![odd, sound]);
    let (frame, mut media_ticks) = (4_004, [0, 0]);
    for msn in 100..140 {
        for (at, name, part) in [(0, V, frame * 10), (1, A, 15 * 1_024)] {
            studio.open(name, msn);
            for index in 0..PARTS {
                studio.chunk(name, "x");
                let next = (msn, index + 1);
                studio.close(name, Ticks(part), INDEPENDENT, next);
                media_ticks[at] += part;
            }
            studio.complete(name);
        }
    }
    for (at, name, hz) in [(0, V, 120_000), (1, A, 44_100)] {
        let read = read(&studio, name);
        let listed: f64 = read.segments.iter().filter_map(|s| s.duration).sum();
        let exact = media_ticks[at] as f64 / f64::from(hz);
        assert_eq!(read.segments.len(), 40);
        assert!((listed - exact).abs() < 0.000_01, "{listed} {exact}");
        for segment in &read.segments {
            let duration = segment.duration.unwrap();
            assert!(duration.round() <= read.target_duration as f64);
            let parts: f64 = segment.parts.iter().map(|part| part.duration).sum();
            assert!((parts - duration).abs() < 1e-9);
        }
    }
}

#[test]
fn h2_six_segments_are_listed() {
    let mut studio = Studio::new(plan(1), vec![video(), audio()]);
    studio.segments(100, 120);
    let read = read(&studio, V);
    assert!(read.segments.len() >= 6);
}

#[test]
fn h2_a_playlist_is_offered_with_a_hold_back_of_media() {
    let mut studio = studio();
    let offered = |studio: &Studio| {
        let (plan, track) = (&studio.broadcast.plan, &studio.track(V).track);
        is_offered(&listing(studio, V), plan, track)
    };
    studio.open(V, 100);
    // Parts of a third of a second, a hold-back of 1.2 s.
    for part in 0..3 {
        studio.part(V, 100, part);
        assert!(!offered(&studio), "part {part}");
    }
    studio.part(V, 100, 3);
    assert!(offered(&studio));
}

#[test]
fn h5_independent_parts_are_marked() {
    let read = read(&live(), V);
    for segment in &read.segments {
        assert!(segment.parts.is_empty() || segment.parts[0].independent);
        let others = segment.parts.iter().skip(1);
        assert!(others.clone().all(|part| !part.independent));
    }
}

#[test]
fn h6_h7_h8_server_control_is_the_same_in_all_renditions() {
    let studio = live();
    let (video, audio) = (read(&studio, V), read(&studio, A));
    assert_eq!(video.control, audio.control);
    assert_eq!(video.target_duration, audio.target_duration);
    let (can_skip, hold_back, part_hold_back) = video.control;
    let target = video.target_duration as f64;
    assert!(can_skip >= 6.0 * target && hold_back >= 3.0 * target);
    for read in [&video, &audio] {
        assert!(part_hold_back >= 3.0 * read.part_target);
    }
    assert_ne!(video.part_target, audio.part_target);
}

#[test]
fn h9_old_parts_are_not_listed() {
    let read = read(&live(), V);
    let mut from_end = 0.0;
    for segment in read.segments.iter().rev() {
        let duration = segment.duration;
        from_end += duration.unwrap_or_else(|| segment.parts.iter().map(|p| p.duration).sum());
        let recent = from_end <= 3.0 * read.target_duration as f64 + 1e-6;
        assert_eq!(!segment.parts.is_empty(), recent);
    }
}

#[test]
fn h10_sequence_numbers_never_go_back() {
    let mut studio = Studio::new(plan(1), vec![video()]);
    let mut last: Option<Read> = None;
    let mut seen = 0;
    for msn in 100..130 {
        // A republish every fourth segment.
        if msn % 4 == 0 {
            studio.epoch = Epoch(studio.epoch.0 + 1);
            studio.discontinuities += 1;
            studio.open_with(V, msn, DISCONTINUITY);
            (0..PARTS).for_each(|part| studio.part(V, msn, part));
            studio.complete(V);
        } else {
            studio.segment(V, msn);
        }
        let now = read(&studio, V);
        if let Some(before) = &last {
            let removed = usize::try_from(now.msn - before.msn).unwrap();
            let gone = before.segments[..removed].iter();
            let discontinuities = gone.filter(|s| s.discontinuity).count() as u64;
            assert_eq!(
                now.discontinuities,
                before.discontinuities + discontinuities
            );
            seen += discontinuities;
            // What stays is what was: a player matches segments by number.
            let (stayed, before) = (&now.segments, &before.segments[removed..]);
            for (a, b) in stayed.iter().zip(before) {
                assert_eq!((&a.uri, a.discontinuity), (&b.uri, b.discontinuity));
            }
        }
        last = Some(now);
    }
    assert!(seen > 3);
}

#[test]
fn h11_dates_maps_and_discontinuities() {
    let mut studio = live();
    (2..PARTS).for_each(|part| studio.part(V, 106, part));
    studio.complete(V);
    studio.epoch = Epoch(8);
    studio.init = InitId(1);
    studio.discontinuities = 1;
    let flags = DISCONTINUITY;
    studio.open_with(V, 107, flags);
    studio.part(V, 107, 0);
    let text = text(&studio, V, Skip::No);
    assert!(text.contains(
        "#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"8/v0/init-1.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T21:16:37.042Z
#EXT-X-PART:DURATION=0.333333,URI=\"8/v0/107.0.m4s\",INDEPENDENT=YES
"
    ));
    let video = Read::of(&text);
    assert!(video.segments.iter().all(|segment| segment.date.is_some()));
    let maps = video.segments.iter().filter(|s| s.map.is_some());
    assert_eq!(maps.count(), 2);
    // The same segment begins at the same time in every rendition.
    let audio = read(&studio, A);
    for (v, a) in video.segments.iter().zip(&audio.segments) {
        assert_eq!(v.date, a.date);
    }
}

#[test]
fn h12_the_hint_names_the_next_part() {
    let mut studio = live();
    let hints = |studio: &Studio| read(studio, V).hints;
    let part = |uri: &str| ("PART".to_owned(), uri.to_owned());
    assert_eq!(hints(&studio), [part("7/v0/106.2.m4s")]);
    (2..PARTS).for_each(|part| studio.part(V, 106, part));
    assert_eq!(hints(&studio), [part("7/v0/107.0.m4s")]);
    studio.complete(V);
    assert_eq!(hints(&studio), [part("7/v0/107.0.m4s")]);
    // A new init segment is hinted as soon as its segment opens.
    studio.epoch = Epoch(8);
    studio.init = InitId(1);
    studio.open(V, 107);
    let map = ("MAP".to_owned(), "8/v0/init-1.mp4".to_owned());
    assert_eq!(hints(&studio), [map, part("8/v0/107.0.m4s")]);
    studio.part(V, 107, 0);
    assert_eq!(hints(&studio), [part("8/v0/107.1.m4s")]);
    studio.track(V).window.end();
    let read = read(&studio, V);
    assert!(read.ended && read.hints.is_empty());
}

#[test]
fn h13_every_other_rendition_is_reported() {
    let mut second = video();
    second.name = TrackName::video(1);
    let mut studio = Studio::new(plan(2), vec![video(), audio(), second]);
    studio.segments(100, 103);
    for track in studio.broadcast.tracks.clone() {
        let name = track.track.name;
        let reports = read(&studio, name).reports;
        let others = studio.broadcast.tracks.iter().map(|of| of.track.name);
        let others = others.filter(|other| *other != name);
        let expected: Vec<_> = others
            .map(|other| (format!("{other}.m3u8"), 103, Some(0)))
            .collect();
        assert_eq!(reports, expected);
    }
}

#[test]
fn h14_version_and_type() {
    let text = text(&live(), V, Skip::No);
    assert_eq!(Read::of(&text).version, 9);
    assert!(!text.contains("PLAYLIST-TYPE"));
}

#[test]
fn h15_audio_alone_is_the_variant() {
    let track = audio();
    let text = multivariant(&plan(2), &[&track]);
    let expected = "#EXT-X-STREAM-INF:BANDWIDTH=160000,AVERAGE-BANDWIDTH=128000,CODECS=\"mp4a.40.2\"\na0.m3u8\n";
    assert!(text.ends_with(expected), "{text}");
    assert!(!text.contains("EXT-X-MEDIA:"));
    let track = video();
    let text = multivariant(&plan(2), &[&track]);
    assert!(text.contains("BANDWIDTH=3500000,") && !text.contains("AUDIO="));
}

#[test]
fn h15_audio_codecs_are_groups_of_their_own() {
    let (video, aac) = (video(), audio());
    let mut opus = audio();
    opus.name = TrackName::audio(1);
    opus.codec = "opus".to_owned();
    opus.bandwidth_bps = 200_000;
    let mut dub = audio();
    dub.name = TrackName::audio(2);
    let text = multivariant(&plan(2), &[&video, &aac, &opus, &dub]);
    let options = ParsingOptionsBuilder::new()
        .with_parsing_for_all_tags()
        .build();
    let mut reader = Reader::from_str(&text, options);
    let (mut variants, mut renditions) = (Vec::new(), 0);
    while let Some(line) = reader.read_line().unwrap() {
        match line {
            HlsLine::KnownTag(KnownTag::Hls(Tag::StreamInf(tag))) => variants.push((
                tag.bandwidth(),
                tag.codecs().unwrap().to_owned(),
                tag.audio().unwrap().to_owned(),
            )),
            HlsLine::KnownTag(KnownTag::Hls(Tag::Media(_))) => renditions += 1,
            _ => {}
        }
    }
    let variant = |bandwidth, codecs: &str, group: &str| (bandwidth, codecs.into(), group.into());
    let expected: Vec<(u64, String, String)> = vec![
        variant(3_660_000, "avc1.64001f,mp4a.40.2", "mp4a"),
        variant(3_700_000, "avc1.64001f,opus", "opus"),
    ];
    assert_eq!((variants, renditions), (expected, 3));
}

#[test]
fn a_codec_cannot_leave_its_quotes() {
    let mut track = video();
    track.codec = "avc1\"\n#EXT-X-ENDLIST\r\n,x=\"".to_owned();
    let text = multivariant(&plan(2), &[&track]);
    assert!(text.contains("CODECS=\"avc1EXT-X-ENDLISTx\","), "{text}");
}

#[test]
fn holes_are_gap_parts_and_gap_segments() {
    let mut studio = live();
    studio.close(V, PART, GAP, (106, 3));
    let read_now = read(&studio, V);
    let parts = &read_now.segments.last().unwrap().parts;
    assert!(parts[2].gap && parts[2].uri == "7/v0/106.2.m4s");
    studio.complete(V);
    // A segment with media behind its URI is no gap as a whole.
    assert!(!read(&studio, V).segments.last().unwrap().gap);
    let gap = true;
    let flags = SegmentFlags {
        gap,
        ..SegmentFlags::default()
    };
    studio.open_with(V, 107, flags);
    studio.close(V, PART, GAP, (107, 1));
    studio.complete(V);
    let last = read(&studio, V).segments.pop().unwrap();
    assert!(last.gap && last.parts[0].gap && last.uri.is_some());
}
