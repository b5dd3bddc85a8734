//! A window that is longer than what it holds.

use common::{
    live::{Broadcast, Log, Place},
    names::{Msn, TrackName},
};

use super::rig::*;

/// 33 s at a TARGETDURATION of 3 s: what windows hold themselves.
const RECENT_S: u64 = 33;

async fn read(broadcast: &Broadcast, track: TrackName, msn: Msn) -> Option<Vec<u8>> {
    let track = broadcast.track(track).unwrap();
    let place = track
        .window
        .look(|log| log.segment(msn).unwrap().place().clone());
    let Place::Archive(kept) = place else {
        panic!("{msn} is not in the archive")
    };
    let mut reader = kept.read().await.unwrap()?;
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    Some(all)
}

fn held(broadcast: &Broadcast, track: TrackName) -> u64 {
    broadcast.track(track).unwrap().window.look(Log::held_bytes)
}

#[tokio::test(start_paused = true)]
async fn the_past_is_listed_for_as_long_as_asked_for_and_can_be_read() {
    let origin = Origin::with_dvr(None, Some("2m"), 1 << 30);
    let mut encoder = origin.publish().await;
    encoder.until_ms(40_000).await;
    let broadcast = origin.offered();
    assert_eq!(broadcast.plan.window_ms, 120_000);
    let early = listing(&broadcast, V0).segments[0].head;
    let whole = broadcast.track(V0).unwrap().window.look(|log| {
        let newest = log.newest().unwrap().head.msn;
        let last = log.segment(Msn(newest.0 - 1)).unwrap();
        let bytes = last
            .parts
            .iter()
            .flat_map(|part| part.data.clone().unwrap());
        (last.head.msn, bytes.collect::<Vec<u8>>())
    });
    let (held_early, held_audio) = (held(&broadcast, V0), held(&broadcast, A0));
    encoder.until_ms(100_000).await;
    let now = listing(&broadcast, V0);
    assert_eq!(now.segments[0].head, early);
    // What the window holds does not grow with what it lists.
    assert!(held(&broadcast, V0) < held_early * 11 / 10, "{held_early}");
    assert!(held(&broadcast, A0) < held_audio * 11 / 10, "{held_audio}");
    let (msn, bytes) = whole;
    assert_eq!(read(&broadcast, V0, msn).await.unwrap(), bytes);
    for track in [V0, A0] {
        assert!(read(&broadcast, track, early.msn).await.is_some());
    }
    let summed = broadcast
        .track(V0)
        .unwrap()
        .window
        .look(|log| log.segment(early.msn).unwrap().is_summed());
    assert!(summed);

    encoder.until_ms(200_000).await;
    let now = listing(&broadcast, V0);
    let listed: u64 = now.segments.iter().map(|one| one.duration.0 / 120).sum();
    assert!((120_000..125_000).contains(&listed), "{listed} ms");
    let parts = now.segments.iter().filter(|one| !one.parts.is_empty());
    assert!(parts.count() <= 5);
    // What left the list and three target durations leaves the archive.
    let kept_s = (120 + 9 + 6) - RECENT_S;
    let memory = origin.metric("millrace_past_memory_bytes");
    let a_second = (held_early + held_audio) / RECENT_S;
    assert!(
        memory > 0 && memory <= kept_s * a_second * 11 / 10,
        "{memory}"
    );
    assert_eq!(origin.metric("millrace_past_lost_total"), 0);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn beyond_the_budget_the_oldest_of_all_channels_are_gone_and_live_goes_on() {
    let origin = Origin::with_dvr(None, Some("30m"), 100_000);
    let mut encoder = origin.publish().await;
    encoder.until_ms(150_000).await;
    let broadcast = origin.offered();
    let memory = origin.metric("millrace_past_memory_bytes");
    assert!((90_000..=100_000).contains(&memory), "{memory}");
    assert!(origin.metric("millrace_past_lost_total") > 10);
    let segments = &listing(&broadcast, V0).segments;
    assert!(segments.len() > 60);
    assert_eq!(read(&broadcast, V0, segments[0].head.msn).await, None);
    let recent = &segments[segments.len() - 20];
    assert!(read(&broadcast, V0, recent.head.msn).await.is_some());
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn an_ended_broadcast_is_all_past_and_goes_with_its_window() {
    let origin = Origin::with_dvr(None, Some("1m"), 1 << 30);
    let mut encoder = origin.publish().await;
    encoder.until_ms(20_000).await;
    let broadcast = origin.offered();
    assert_eq!(origin.metric("millrace_past_memory_bytes"), 0);
    encoder.stop().await;
    pass(11).await;
    assert!(is_ended(&broadcast));
    let now = listing(&broadcast, V0);
    for track in [V0, A0] {
        assert_eq!(held(&broadcast, track), 0);
        for segment in &listing(&broadcast, track).segments {
            assert!(read(&broadcast, track, segment.head.msn).await.is_some());
        }
    }
    // Its last parts are still listed, and known by where they lie.
    assert!(!now.segments.last().unwrap().parts.is_empty());
    assert!(origin.metric("millrace_past_memory_bytes") > 0);
    drop(broadcast);
    // It ended a second ago.
    pass(58).await;
    assert!(!origin.directory.is_empty());
    pass(2).await;
    assert!(origin.directory.is_empty());
    assert_eq!(origin.metric("millrace_past_memory_bytes"), 0);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_past_nothing_is_archived() {
    for window in [None, Some("33s")] {
        let origin = Origin::with_dvr(None, window, 1 << 30);
        let mut encoder = origin.publish().await;
        encoder.until_ms(90_000).await;
        let broadcast = origin.offered();
        let window_ms = if window.is_some() { 33_000 } else { 24_000 };
        assert_eq!(broadcast.plan.window_ms, window_ms);
        encoder.stop().await;
        pass(11).await;
        assert!(is_ended(&broadcast));
        assert_eq!(origin.metric("millrace_past_memory_bytes"), 0);
        assert!(held(&broadcast, V0) > 0);
        origin.drain().await;
    }
}
