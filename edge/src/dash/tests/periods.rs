//! D8: what is listed, under which number and in which period.

use common::media::Ticks;

use super::*;

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
        assert_goes_on(&listed);
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
    assert_goes_on(&listed);
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
