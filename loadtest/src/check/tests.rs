//! A clean channel passes every rule; each planted fault breaks its own.

mod bytes_of_media;

use bytes::Bytes;
use http::HeaderMap;

use super::{
    judge,
    observed::{Asked, Exchange, Media, Observed, Snapshot, TrackSeen},
};
use crate::{
    boxes::{
        parse_init,
        tests::{chunk, video_init},
    },
    m3u8::{Playlist, parse, parse_media},
};

const PART_US: i64 = 500_000;
const FIRST: u64 = 100;

/// Version `step` of a playlist: segments of 2 s in parts of 0.5 s, eight listed
/// before the open one, parts on the last three and the open one.
fn text(track: &str, other: &str, step: u64) -> String {
    let first = FIRST + step / 4;
    let open_parts = step % 4 + 1;
    let mut out = format!(
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.6,HOLD-BACK=6,CAN-SKIP-UNTIL=12\n\
         #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXT-X-MAP:URI=\"1/{track}/init-0.mp4\"\n"
    );
    for msn in first..=first + 8 {
        let at_s = (msn - FIRST) * 2;
        let (minute, second) = (at_s / 60, at_s % 60);
        out += &format!("#EXT-X-PROGRAM-DATE-TIME:2026-11-22T00:{minute:02}:{second:02}.000Z\n");
        let open = msn == first + 8;
        let parts = if open { open_parts } else { 4 };
        for part in (0..parts).filter(|_| msn >= first + 5) {
            let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
            out += &format!(
                "#EXT-X-PART:DURATION=0.5,URI=\"1/{track}/{msn}.{part}.m4s\"{independent}\n"
            );
        }
        if !open || open_parts == 4 {
            out += &format!("#EXTINF:2.0,\n1/{track}/{msn}.m4s\n");
        }
    }
    let (msn, part) = next(step);
    out += &format!(
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1/{track}/{msn}.{part}.m4s\"\n\
         #EXT-X-RENDITION-REPORT:URI=\"{other}.m3u8\",LAST-MSN={},LAST-PART={}\n",
        first + 8,
        open_parts - 1
    );
    out
}

fn next(step: u64) -> (u64, u64) {
    let last = FIRST + step / 4 + 8;
    if step % 4 == 3 {
        (last + 1, 0)
    } else {
        (last, step % 4 + 1)
    }
}

fn track(name: &str, other: &str, edit: &dyn Fn(u64, String) -> String) -> TrackSeen {
    let init = parse_init(&video_init()).unwrap();
    let mut seen = TrackSeen {
        uri: format!("{name}.m3u8"),
        ..TrackSeen::default()
    };
    for step in 0..12 {
        let list = parse_media(&edit(step, text(name, other, step))).unwrap();
        let at_us = i64::try_from(step).unwrap() * PART_US;
        seen.lists.push(Snapshot { at_us, list });
    }
    for msn in FIRST..FIRST + 12 {
        let mut whole = Vec::new();
        for part in 0..4u64 {
            let number = (msn - FIRST) * 4 + part;
            let bytes = chunk(1, number * 60_000, 60_000, part == 0, &number.to_be_bytes());
            whole.extend_from_slice(&bytes);
            put(&mut seen, &format!("1/{name}/{msn}.{part}.m4s"), bytes);
        }
        put(&mut seen, &format!("1/{name}/{msn}.m4s"), whole);
    }
    seen.inits.insert(format!("1/{name}/init-0.mp4"), init);
    seen
}

fn put(seen: &mut TrackSeen, uri: &str, bytes: Vec<u8>) {
    let init = parse_init(&video_init()).unwrap();
    seen.media
        .insert(uri.to_owned(), Media::read(bytes.into(), &init));
}

const MULTIVARIANT: &str = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n\
    #EXT-X-STREAM-INF:BANDWIDTH=2,AVERAGE-BANDWIDTH=1,CODECS=\"avc1.64001f\",RESOLUTION=2x2,FRAME-RATE=30\nv0.m3u8\n";

fn exchange(asked: Asked, path: &str, status: u16, headers: &[(&'static str, &str)]) -> Exchange {
    let mut map = HeaderMap::new();
    map.insert("access-control-allow-origin", "*".parse().unwrap());
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    Exchange {
        asked,
        track: 0,
        path: path.to_owned(),
        status,
        headers: map,
        asked_us: 0,
        first_byte_us: Some(400_000),
        done_us: 401_000,
        body: Bytes::new(),
    }
}

const HLS: (&str, &str) = ("content-type", "application/vnd.apple.mpegurl");
const MP4: (&str, &str) = ("content-type", "video/mp4");

fn exchanges(seen: &TrackSeen) -> Vec<Exchange> {
    let forever = ("cache-control", "public, max-age=31536000, immutable");
    let (msn, part) = next(0);
    let blocking = exchange(
        Asked::Blocking { msn, part },
        "/live/x/v0.m3u8?_HLS_msn=108&_HLS_part=1",
        200,
        &[HLS, ("cache-control", "max-age=12")],
    );
    let hint = format!("1/v0/{msn}.{part}.m4s");
    let full = text("v0", "v1", 5);
    let delta = full.replace(
        "#EXT-X-MAP:URI=\"1/v0/init-0.mp4\"\n",
        "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n",
    );
    let cut = delta.find("#EXT-X-PROGRAM").unwrap();
    let kept = delta.find("1/v0/102.m4s").unwrap() + "1/v0/102.m4s\n".len();
    let delta = format!("{}{}", &delta[..cut], &delta[kept..]);
    let full = Box::new(parse_media(&full).unwrap());
    vec![
        Exchange {
            body: text("v0", "v1", 1).into(),
            ..blocking
        },
        exchange(
            Asked::Playlist,
            "/live/x/v0.m3u8",
            200,
            &[HLS, ("cache-control", "max-age=1")],
        ),
        exchange(
            Asked::Gzip,
            "/live/x/v0.m3u8",
            200,
            &[
                HLS,
                ("content-encoding", "gzip"),
                ("cache-control", "max-age=1"),
            ],
        ),
        exchange(Asked::PartWithoutMsn, "?_HLS_part=0", 400, &[]),
        exchange(Asked::Unparsable, "?_HLS_msn=x", 400, &[]),
        exchange(Asked::FarAhead, "?_HLS_msn=999", 400, &[]),
        Exchange {
            body: delta.into(),
            ..exchange(Asked::Skip { full }, "?_HLS_skip=YES", 200, &[HLS])
        },
        exchange(Asked::Media, "/live/x/1/v0/100.m4s", 200, &[MP4, forever]),
        Exchange {
            body: seen.media[&hint].bytes.clone(),
            ..exchange(
                Asked::Hinted,
                &format!("/live/x/{hint}"),
                200,
                &[MP4, forever],
            )
        },
        exchange(
            Asked::Future,
            "/live/x/1/v0/108.9.m4s",
            404,
            &[("cache-control", "max-age=1")],
        ),
        exchange(Asked::Dropped, "/live/x/1/v0/104.0.m4s", 200, &[]),
        Exchange {
            body: Bytes::from_static(&[0; 10]),
            ..exchange(Asked::Range, "/live/x/1/v0/100.m4s", 206, &[])
        },
        exchange(Asked::Missing, "/live/x/none.m3u8", 404, &[]),
    ]
}

fn observed(edit: &dyn Fn(u64, String) -> String) -> Observed {
    let Playlist::Multivariant(multivariant) = parse(MULTIVARIANT).unwrap() else {
        panic!("not multivariant");
    };
    let tracks = vec![track("v0", "v1", edit), track("v1", "v0", &|_, text| text)];
    Observed {
        multivariant: Some(multivariant),
        exchanges: exchanges(&tracks[0]),
        tracks,
        slack_us: 150_000,
    }
}

fn clean() -> Observed {
    observed(&|_, text| text)
}

#[track_caller]
fn breaks(observed: &Observed, rules: &[&str]) {
    let verdicts = judge(observed);
    let evidence: Vec<_> = verdicts
        .all()
        .filter_map(|(_, _, verdict)| Some(&verdict?.evidence))
        .collect();
    assert_eq!(verdicts.broken(), rules, "{evidence:#?}");
}

#[track_caller]
fn text_breaks(rules: &[&str], edit: impl Fn(u64, String) -> String) {
    breaks(&observed(&edit), rules);
}

#[test]
fn a_clean_channel_passes_and_every_rule_is_seen() {
    let observed = clean();
    breaks(&observed, &[]);
    let verdicts = judge(&observed);
    let unseen: Vec<_> = verdicts
        .all()
        .filter(|(_, _, v)| v.is_none())
        .map(|(id, _, _)| id)
        .collect();
    // A reload held too long can't be had from a server that is well.
    assert_eq!(unseen, ["R4"]);
}

#[test]
fn h1_target_duration() {
    // Longer than TARGETDURATION, than its samples, and than its dates allow.
    text_breaks(&["H1", "H11"], |_, text| {
        text.replace("#EXTINF:2.0,\n1/v0/103.", "#EXTINF:2.6,\n1/v0/103.")
    });
}

#[test]
fn h1_target_duration_changes() {
    // HOLD-BACK is no longer three of them, either.
    text_breaks(&["H1", "H7"], |step, text| {
        let then = if step == 4 {
            "DURATION:4\n"
        } else {
            "DURATION:2\n"
        };
        text.replace("DURATION:2\n", then)
    });
}

#[test]
fn h3_a_late_part() {
    let mut observed = clean();
    for late in &mut observed.tracks[0].lists[6..] {
        late.at_us += 400_000;
    }
    breaks(&observed, &["H3"]);
}

#[test]
fn h4_part_durations() {
    text_breaks(&["H4"], |_, text| {
        text.replace(
            "DURATION=0.5,URI=\"1/v0/107.1.m4s\"",
            "DURATION=0.501,URI=\"1/v0/107.1.m4s\"",
        )
    });
    text_breaks(&["H4"], |_, text| {
        text.replace(
            "DURATION=0.5,URI=\"1/v0/107.1.m4s\"",
            "DURATION=0.42,URI=\"1/v0/107.1.m4s\"",
        )
    });
    // The last part of a segment may be short, and one before a hole.
    text_breaks(&[], |_, text| {
        text.replace(
            "DURATION=0.5,URI=\"1/v0/107.3.m4s\"",
            "DURATION=0.1,URI=\"1/v0/107.3.m4s\"",
        )
    });
}

#[test]
fn h5_independent_parts() {
    text_breaks(&["H5"], |_, text| {
        text.replace("107.0.m4s\",INDEPENDENT=YES", "107.0.m4s\"")
    });
    text_breaks(&["H5"], |_, text| {
        text.replace("107.2.m4s\"", "107.2.m4s\",INDEPENDENT=YES")
    });
}

#[test]
fn h6_h7_h8_server_control() {
    text_breaks(&["H6", "H7"], |_, text| {
        text.replace("PART-HOLD-BACK=1.6", "PART-HOLD-BACK=1.4")
    });
    text_breaks(&["H7"], |_, text| {
        text.replace("HOLD-BACK=6,", "HOLD-BACK=5,")
            .replace("PART-HOLD-BACK=5", "PART-HOLD-BACK=1.6")
    });
    text_breaks(&["H7"], |_, text| {
        text.replace("CAN-SKIP-UNTIL=12", "CAN-SKIP-UNTIL=11.9")
    });
    text_breaks(&["H7"], |step, text| {
        if step > 6 {
            text.replace("PART-HOLD-BACK=1.6", "PART-HOLD-BACK=1.7")
        } else {
            text
        }
    });
    text_breaks(&["H8"], |step, text| {
        if step > 6 {
            text.replace("PART-TARGET=0.5", "PART-TARGET=0.51")
        } else {
            text
        }
    });
}

#[test]
fn h2_too_little_listed() {
    text_breaks(&["H2"], |step, text| {
        // Keep the header and the last four segments.
        let first = FIRST + step / 4;
        let from = text.find("#EXT-X-PROGRAM").unwrap();
        let cut = format!("1/v0/{}.m4s\n", first + 4);
        let to = text.find(&cut).unwrap() + cut.len();
        let head = text[..from].replace(
            &format!("SEQUENCE:{first}"),
            &format!("SEQUENCE:{}", first + 5),
        );
        head + &text[to..]
    });
}

#[test]
fn h9_old_parts_listed_or_gone() {
    text_breaks(&["H9"], |_, text| {
        let part = |msn: u64, at: u64| {
            let independent = if at == 0 { ",INDEPENDENT=YES" } else { "" };
            format!("#EXT-X-PART:DURATION=0.5,URI=\"1/v0/{msn}.{at}.m4s\"{independent}\n")
        };
        // 103 and 104 keep their parts for longer than they should.
        [103, 104].into_iter().fold(text, |text, msn| {
            let parts: String = (0..4).map(|at| part(msn, at)).collect();
            let end = format!("#EXTINF:2.0,\n1/v0/{msn}.m4s");
            text.replace(&end, &format!("{parts}{end}"))
        })
    });
    let mut gone = clean();
    for exchange in &mut gone.exchanges {
        if exchange.asked == Asked::Dropped {
            exchange.status = 404;
        }
    }
    breaks(&gone, &["H9"]);
}

#[test]
fn h10_sequences() {
    text_breaks(&["H10"], |_, text| {
        text.replace("#EXT-X-DISCONTINUITY-SEQUENCE:3\n", "")
    });
    text_breaks(&["H10"], |step, text| {
        if step > 5 {
            text.replace("DISCONTINUITY-SEQUENCE:3", "DISCONTINUITY-SEQUENCE:2")
        } else {
            text
        }
    });
    // The same number, another segment: MEDIA-SEQUENCE was not counted on.
    text_breaks(&["H10"], |step, text| {
        if step < 4 {
            text
        } else {
            text.replace("1/v0/101.m4s", "1/v0/x.m4s")
        }
    });
}

#[test]
fn h11_programme_time() {
    text_breaks(&["H11"], |_, text| {
        text.lines()
            .filter(|line| !line.starts_with("#EXT-X-PROGRAM"))
            .map(|line| format!("{line}\n"))
            .collect()
    });
    // A clock that jitters: one segment's date 5 ms late.
    text_breaks(&["H11"], |_, text| {
        text.replace("00:00:10.000Z", "00:00:10.005Z")
    });
    // The rendition as a whole is 50 ms off the other.
    text_breaks(&["H11"], |_, text| text.replace(".000Z", ".050Z"));
}

#[test]
fn h12_hints() {
    text_breaks(&["H12"], |step, text| {
        if step == 3 {
            text.lines()
                .filter(|line| !line.contains("PRELOAD"))
                .map(|line| format!("{line}\n"))
                .collect()
        } else {
            text
        }
    });
    text_breaks(&["H12"], |step, text| {
        let (msn, part) = next(step);
        text.replace(
            &format!("TYPE=PART,URI=\"1/v0/{msn}.{part}"),
            &format!("TYPE=PART,URI=\"1/v0/{msn}.{}", part + 1),
        )
    });
    text_breaks(&["H12"], |step, text| {
        if step == 11 {
            text + "#EXT-X-ENDLIST\n"
        } else {
            text
        }
    });
}

#[test]
fn h13_reports() {
    text_breaks(&["H13"], |_, text| text.replace("v1.m3u8", "v7.m3u8"));
    text_breaks(&["H13"], |_, text| text.replace("LAST-PART", "X-PART"));
}

#[test]
fn h14_version() {
    text_breaks(&["H14"], |_, text| text.replace("VERSION:9", "VERSION:7"));
    text_breaks(&["H14"], |_, text| {
        text.replace(
            "#EXT-X-PART-INF",
            "#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-PART-INF",
        )
    });
}

#[test]
fn h15_multivariant() {
    for (was, is) in [
        ("RESOLUTION=2x2,", ""),
        ("#EXT-X-INDEPENDENT-SEGMENTS\n", ""),
        ("BANDWIDTH=2", "BANDWIDTH=0"),
    ] {
        let Playlist::Multivariant(list) = parse(&MULTIVARIANT.replacen(was, is, 1)).unwrap()
        else {
            panic!("not multivariant");
        };
        let mut observed = clean();
        observed.multivariant = Some(list);
        breaks(&observed, &["H15"]);
    }
}

/// A fault in the answer to one kind of question.
#[track_caller]
fn answer_breaks(rules: &[&str], is: impl Fn(&Asked) -> bool, spoil: impl Fn(&mut Exchange)) {
    let mut observed = clean();
    observed
        .exchanges
        .iter_mut()
        .filter(|x| is(&x.asked))
        .for_each(spoil);
    breaks(&observed, rules);
}

#[test]
fn r1_to_r6_requests() {
    let blocking = |asked: &Asked| matches!(asked, Asked::Blocking { .. });
    let skip = |asked: &Asked| matches!(asked, Asked::Skip { .. });
    answer_breaks(&["R1"], blocking, |x| x.body = text("v0", "v1", 0).into());
    answer_breaks(
        &["R2"],
        |asked| *asked == Asked::PartWithoutMsn,
        |x| x.status = 200,
    );
    answer_breaks(
        &["R2"],
        |asked| *asked == Asked::Unparsable,
        |x| x.status = 503,
    );
    answer_breaks(
        &["R3"],
        |asked| *asked == Asked::FarAhead,
        |x| x.done_us = 5_000_000,
    );
    answer_breaks(&["R4"], blocking, |x| x.done_us = 6_500_000);
    answer_breaks(&["R5"], skip, |x| x.body = text("v0", "v1", 5).into());
    answer_breaks(
        &["R6"],
        |asked| *asked == Asked::Hinted,
        |x| x.done_us += 450_000,
    );
    answer_breaks(
        &["R6"],
        |asked| *asked == Asked::Hinted,
        |x| x.body = Bytes::from_static(b"?"),
    );
    answer_breaks(&["R6"], |asked| *asked == Asked::Future, |x| x.status = 200);
}

#[test]
fn r6_a_part_that_was_listed_by_then_is_no_future_part() {
    let future = |asked: &Asked| *asked == Asked::Future;
    let found_at = |done_us| {
        move |x: &mut Exchange| {
            x.path = "/live/x/1/v0/109.0.m4s".to_owned();
            x.status = 200;
            x.done_us = done_us;
        }
    };
    // The playlist of 2 s names it first.
    answer_breaks(&["R6"], future, found_at(4 * PART_US - 1));
    answer_breaks(&[], future, found_at(4 * PART_US));
}

#[test]
fn t2_to_t5_headers() {
    let media = |asked: &Asked| *asked == Asked::Media;
    answer_breaks(
        &["T2"],
        |asked| *asked == Asked::Gzip,
        |x| {
            x.headers.remove("content-encoding");
        },
    );
    answer_breaks(&["T3"], media, |x| {
        x.headers
            .insert("cache-control", "no-store".parse().unwrap());
    });
    answer_breaks(&["T4"], media, |x| {
        x.headers
            .insert("content-type", "text/plain".parse().unwrap());
    });
    answer_breaks(
        &["T5"],
        |asked| *asked == Asked::Missing,
        |x| x.headers.clear(),
    );
    answer_breaks(&["T5"], |asked| *asked == Asked::Range, |x| x.status = 200);
    answer_breaks(
        &["H15"],
        |asked| *asked == Asked::Playlist,
        |x| x.status = 302,
    );
}
