use super::*;
use crate::m3u8::parse_media;

/// A playlist of segments of `parts` parts of 0.5 s each from msn 10 on; the
/// last is open unless `complete`.
fn list(parts: &[usize], complete: bool, hint: &str) -> MediaPlaylist {
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n\
        #EXT-X-SERVER-CONTROL:PART-HOLD-BACK=1.5,CAN-BLOCK-RELOAD=YES\n\
        #EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-MAP:URI=\"1/v0/init-0.mp4\"\n\
        #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:10Z\n"
        .to_owned();
    for (at, count) in parts.iter().enumerate() {
        let msn = 10 + at;
        for part in 0..*count {
            let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
            text +=
                &format!("#EXT-X-PART:DURATION=0.5,URI=\"1/v0/{msn}.{part}.m4s\"{independent}\n");
        }
        if at + 1 < parts.len() || complete {
            text += &format!("#EXTINF:{},\n1/v0/{msn}.m4s\n", *count as f64 / 2.0);
        }
    }
    if !hint.is_empty() {
        text += &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{hint}\"\n");
    }
    parse_media(&text).unwrap()
}

fn all(follow: &mut Follow, list: &MediaPlaylist) -> Vec<String> {
    let mut out = Vec::new();
    while let Some(want) = follow.next(list) {
        follow.took(&want);
        out.push(want.uri.trim_start_matches("1/v0/").to_owned());
    }
    out
}

#[test]
fn starts_at_a_sync_point_the_hold_back_behind_the_end() {
    let mut follow = Follow::new(Mode::Parts);
    let got = all(&mut follow, &list(&[4, 4, 1], false, "1/v0/12.1.m4s"));
    assert_eq!(
        got,
        [
            "11.0.m4s", "11.1.m4s", "11.2.m4s", "11.3.m4s", "12.0.m4s", "12.1.m4s"
        ]
    );
}

#[test]
fn a_hinted_part_is_not_fetched_again_when_listed() {
    let mut follow = Follow::new(Mode::Parts);
    all(&mut follow, &list(&[4, 4, 1], false, "1/v0/12.1.m4s"));
    assert_eq!(
        all(&mut follow, &list(&[4, 4, 1], false, "1/v0/12.1.m4s")),
        [""; 0]
    );
    let got = all(&mut follow, &list(&[4, 4, 2], false, "1/v0/12.2.m4s"));
    assert_eq!(got, ["12.2.m4s"]);
    // The hint may name the next segment before this one is complete.
    let got = all(&mut follow, &list(&[4, 4, 3], false, "1/v0/13.0.m4s"));
    assert_eq!(got, ["13.0.m4s"]);
    let got = all(&mut follow, &list(&[4, 4, 3, 1], false, "1/v0/13.1.m4s"));
    assert_eq!(got, ["13.1.m4s"]);
    assert_eq!((follow.skipped, follow.unlisted), (0, 0));
}

#[test]
fn a_hint_that_is_taken_back_is_replaced_by_what_is_listed() {
    let mut follow = Follow::new(Mode::Parts);
    let before = list(&[4, 4, 1], false, "1/v0/12.1.m4s");
    let mut want = follow.next(&before).unwrap();
    while !want.hinted {
        follow.took(&want);
        want = follow.next(&before).unwrap();
    }
    follow.hint_gone(&want);
    assert_eq!(follow.next(&before), None);
    let after = list(&[4, 4, 1], true, "1/v0/13.0.m4s");
    assert!(Follow::is_stale(&want, &after) && !Follow::is_stale(&want, &before));
    assert_eq!(all(&mut follow, &after), ["13.0.m4s"]);
}

#[test]
fn programme_time_and_freshness() {
    let mut follow = Follow::new(Mode::Parts);
    let list = list(&[4, 4, 1], false, "1/v0/12.1.m4s");
    let mut got = Vec::new();
    while let Some(want) = follow.next(&list) {
        follow.took(&want);
        got.push((want.date_time_us.unwrap() / 1000, want.fresh));
    }
    let old = [12_000, 12_500, 13_000, 13_500, 14_000].map(|at| (at, false));
    assert_eq!(got[..5], old);
    assert_eq!(got[5..], [(14_500, true)]);
}

#[test]
fn a_list_that_moved_on_is_joined_again() {
    let mut follow = Follow::new(Mode::Parts);
    all(&mut follow, &list(&[4], true, ""));
    let mut later = list(&[0, 0, 4, 1], false, "");
    assert_eq!(all(&mut follow, &later).len(), 5);
    assert_eq!(follow.skipped, 1);
    for segment in &mut later.segments {
        segment.msn += 100;
    }
    assert_eq!(all(&mut follow, &later).len(), 5);
}

#[test]
fn segments_are_followed_by_our_own_names() {
    let mut follow = Follow::new(Mode::Segments);
    assert_eq!(
        all(&mut follow, &list(&[4, 1], false, "1/v0/11.1.m4s")),
        ["11.m4s"]
    );
    assert_eq!(
        all(&mut follow, &list(&[4, 4], true, "1/v0/12.0.m4s")),
        ["12.m4s"]
    );
    assert_eq!(segment_of("part-17.mp4", 17), None);
}

#[test]
fn a_folder_change_in_the_hint_is_a_discontinuity() {
    let mut follow = Follow::new(Mode::Parts);
    all(&mut follow, &list(&[4], true, ""));
    let want = follow.next(&list(&[4], true, "2/v0/11.0.m4s")).unwrap();
    assert!(want.discontinuity && want.date_time_us.is_none());
}
