//! Windows of many segments: the same text as ever, for the cost of what is new.

use std::io::Read as _;

use common::live::{Place, Plan};

use super::*;
use crate::playlist::Lines;

/// Half an hour of two-second segments.
fn half_an_hour() -> Plan {
    Plan {
        window_ms: 30 * 60_000,
        ..plan(2)
    }
}

fn tracks(studio: &Studio) -> Vec<&Track> {
    studio.broadcast.tracks.iter().map(|of| &of.track).collect()
}

fn rendered(studio: &Studio, lines: &mut Lines) -> (String, Vec<u8>) {
    let listing = listing(studio, V);
    let (plan, track) = (&studio.broadcast.plan, &studio.track(V).track);
    let (text, sections) = lines.media(&listing, plan, track, &tracks(studio));
    let gzip = sections.gzip(text.as_bytes());
    (text, gzip)
}

fn unzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(bytes);
    decoder.read_to_string(&mut text).unwrap();
    text
}

/// Through growth, a full window, discontinuities, gaps and another init
/// segment: a warm cache, a cold one and the plain renderer agree.
#[test]
fn kept_lines_are_the_plain_text_at_every_version() {
    let mut studio = Studio::new(
        Plan {
            window_ms: 300_000,
            ..plan(2)
        },
        vec![video()],
    );
    let mut warm = Lines::default();
    for msn in 1_000..1_400u64 {
        let odd = msn % 37 == 0;
        if odd {
            studio.discontinuities += 1;
            studio.init = InitId(studio.init.0 + u32::from(msn % 2 == 0));
        }
        let flags = SegmentFlags {
            discontinuity: odd,
            gap: msn % 41 == 0,
        };
        studio.open_with(V, msn, flags);
        for part in 0..PARTS {
            studio.part(V, msn, part);
        }
        studio.complete(V);
        for aged in studio.track(V).window.aged(6_000) {
            studio.track(V).window.let_go(aged.msn, Place::Elsewhere);
        }
        let (text, gzip) = rendered(&studio, &mut warm);
        assert_eq!(text, super::text(&studio, V, Skip::No), "{msn}");
        assert_eq!(unzipped(&gzip), text, "{msn}");
        if msn % 7 == 0 {
            let cold = rendered(&studio, &mut Lines::default());
            assert_eq!(cold, (text, gzip), "{msn}");
        }
    }
    // And at the end.
    studio.track(V).window.end();
    let (text, gzip) = rendered(&studio, &mut warm);
    assert!(text.ends_with("#EXT-X-ENDLIST\n"));
    assert_eq!(unzipped(&gzip), text);
}

/// A listing that another subscription told of goes over what was kept.
#[test]
fn kept_lines_of_another_log_are_not_used() {
    let mut lines = Lines::default();
    for init in [0, 1] {
        let mut studio = Studio::new(half_an_hour(), vec![video()]);
        studio.init = InitId(init);
        studio.segments(1_000, 1_200);
        let (text, _) = rendered(&studio, &mut lines);
        assert_eq!(text, super::text(&studio, V, Skip::No));
    }
    let mut studio = Studio::new(half_an_hour(), vec![video()]);
    studio.segments(1_000, 1_020);
    let (text, _) = rendered(&studio, &mut lines);
    assert_eq!(text, super::text(&studio, V, Skip::No));
}

#[test]
fn the_longest_window_keeps_the_rules() {
    let mut studio = Studio::new(half_an_hour(), vec![video(), audio()]);
    studio.segments(5_000, 6_000);
    for name in [V, A] {
        studio.open(name, 6_000);
        studio.part(name, 6_000, 0);
    }
    for name in [V, A] {
        let whole = read(&studio, name);
        // 1,800 s of 2-s segments, and the open one.
        assert_eq!(whole.segments.len(), 901, "{name}");
        let text = super::text(&studio, name, Skip::No);
        let count = |what: &str| text.matches(what).count();
        // H9: parts of three target durations and no more; H11: a date each.
        assert_eq!(count("#EXT-X-PART:"), 2 * 6 + 1);
        assert_eq!(count("#EXT-X-PROGRAM-DATE-TIME:"), 901);
        assert_eq!(count("#EXT-X-MAP:"), 1);
        // H10
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:5100\n"));
        // R5: all but six target durations are skipped.
        let delta = super::text(&studio, name, Skip::Yes);
        assert!(
            delta.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=894\n"),
            "{delta}"
        );
        assert!(delta.len() < 4_000, "{}", delta.len());
        let behind = delta.split("#EXT-X-PROGRAM-DATE-TIME").nth(1).unwrap();
        assert!(text.contains(behind));
    }
}
