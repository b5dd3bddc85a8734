//! One channel: begun, lost, found again, ended, taken over.

use common::{
    live::{BroadcastState, Phase, Stage},
    names::{BroadcastId, Epoch, Msn},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::rig::*;
use crate::broadcast::*;

#[tokio::test(start_paused = true)]
async fn h2_a_publish_is_announced_at_once_and_offered_with_hold_back() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.until_ms(1_900).await;
    let shown = origin.shown().unwrap();
    assert!(matches!(shown.stage, Stage::Starting));
    assert_eq!(shown.announcement.phase, Phase::Starting);
    assert_eq!(origin.metrics.live.get(), 1);

    // The plan is frozen at the first sync sample at or after 2 s.
    encoder.until_ms(2_400).await;
    let broadcast = origin.offered();
    let offered = origin.shown().unwrap().announcement;
    assert_eq!(offered.phase, Phase::Live);
    assert_eq!(offered.grace_ms, 10_000, "edges wait as long");
    assert_eq!(broadcast.id, BroadcastId(shown.announcement.epoch.0));
    assert_eq!(broadcast.id, shown.announcement.broadcast);
    assert_eq!(broadcast.state(), BroadcastState::Live);
    for track in [V0, A0] {
        let listing = listing(&broadcast, track);
        let timescale = broadcast.track(track).unwrap().track.timescale;
        let listed: common::media::Ticks = listing.segments.iter().map(|s| s.duration).sum();
        let hold_back_ms = u64::from(broadcast.plan.part_hold_back_ms);
        assert!(timescale.to_ms(listed) >= hold_back_ms);
        assert_eq!(listing.segments[0].head.msn, Msn(START_MS / 1_000));
    }
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_vanished_publisher_leaves_a_lost_broadcast_that_lists_what_it_did() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.seconds(7).await;
    let broadcast = origin.offered();
    let before = listing(&broadcast, V0);
    encoder.vanish().await;
    assert_eq!(broadcast.state(), BroadcastState::Lost);
    assert_eq!(origin.shown().unwrap().announcement.phase, Phase::Lost);
    assert!(all_complete(&broadcast));
    let after = listing(&broadcast, V0);
    let msns = |listing: &common::live::Listing| -> Vec<_> {
        listing.segments.iter().map(|s| s.head).collect()
    };
    assert_eq!(
        msns(&before),
        msns(&after),
        "it ends short and loses nothing"
    );
    assert!(!after.ended);
    assert_eq!(
        (origin.metrics.live.get(), origin.metrics.lost.get()),
        (0, 1)
    );
    pass(9).await;
    assert_eq!(listing(&broadcast, V0), after);
    assert_eq!(broadcast.state(), BroadcastState::Lost);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_republish_within_grace_goes_on_with_the_broadcast() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.seconds(7).await;
    let (first, broadcast) = (origin.shown().unwrap().announcement, origin.offered());
    encoder.stop().await;
    let before = listing(&broadcast, V0);
    pass(5).await;

    let mut encoder = origin.publish().await;
    encoder.seconds(5).await;
    let second = origin.shown().unwrap().announcement;
    assert_eq!(second.broadcast, first.broadcast);
    assert!(second.epoch > first.epoch && second.phase == Phase::Live);
    assert!(Arc::ptr_eq(&broadcast, &origin.offered()));
    assert_eq!(broadcast.state(), BroadcastState::Live);
    for track in [V0, A0] {
        let after = listing(&broadcast, track);
        let last = before.segments.last().unwrap().head;
        let next = after
            .segments
            .iter()
            .find(|s| s.head.msn == last.msn.next());
        let next = next.unwrap().head;
        assert_eq!(next.epoch, second.epoch);
        assert!(next.flags.discontinuity);
        assert_eq!(next.discontinuity_sequence, last.discontinuity_sequence + 1);
        assert!(next.program_time > last.program_time);
        let gaps = after.segments.windows(2);
        assert!(
            gaps.into_iter()
                .all(|w| w[1].head.msn == w[0].head.msn.next())
        );
        assert_eq!(after.segments[0].head.msn, before.segments[0].head.msn);
    }
    assert_eq!(
        (origin.metrics.live.get(), origin.metrics.lost.get()),
        (1, 0)
    );
    // What was due for the absence is forgotten.
    encoder.seconds(15).await;
    assert_eq!(broadcast.state(), BroadcastState::Live);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn after_grace_the_broadcast_ends_and_the_next_one_jumps_ahead() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.seconds(7).await;
    let (first, old) = (origin.shown().unwrap().announcement, origin.offered());
    encoder.vanish().await;
    pass(11).await;
    assert!(is_ended(&old));
    assert!(listing(&old, V0).ended && listing(&old, A0).ended);
    assert_eq!(origin.metrics.lost.get(), 0);

    let mut encoder = origin.publish().await;
    encoder.seconds(1).await;
    // The ended playlist stays until there is another.
    assert!(Arc::ptr_eq(&old, &origin.offered()));
    encoder.seconds(3).await;
    let (second, new) = (origin.shown().unwrap().announcement, origin.offered());
    assert!(second.broadcast.0 > first.broadcast.0 && second.epoch > first.epoch);
    assert_eq!(new.id, second.broadcast);
    let last = listing(&old, V0).segments.last().unwrap().head;
    let next = listing(&new, V0).segments[0].head;
    assert!(next.msn.0 >= last.msn.0 + 2);
    assert!(next.discontinuity_sequence >= last.discontinuity_sequence + 2);
    assert!(is_ended(&old), "and stays so");
    assert_eq!(origin.metrics.ended.get(), 1);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn an_ended_playlist_stays_for_one_window_and_then_all_is_gone() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.seconds(7).await;
    let broadcast = origin.offered();
    encoder.stop().await;
    let window = Duration::from_millis(broadcast.plan.window_ms.into());
    sleep(Duration::from_secs(10) + window - Duration::from_millis(20)).await;
    assert!(Arc::ptr_eq(&broadcast, &origin.offered()));
    assert_eq!(origin.metrics.channels.get(), 1);
    sleep(Duration::from_millis(40)).await;
    assert!(origin.directory.is_empty());
    assert_eq!(origin.metrics.channels.get(), 0);
    // Nobody but this test holds its bytes any more.
    assert_eq!(Arc::strong_count(&broadcast), 1);
    origin.drain().await;
}

/// One window is the longest, whoever is about to begin.
#[tokio::test(start_paused = true)]
async fn an_ended_playlist_does_not_outstay_its_window_behind_a_slow_start() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.seconds(7).await;
    encoder.stop().await;
    pass(11).await;
    // A publisher without a second keyframe, another, a third: none is offered.
    for _ in 0..2 {
        let mut encoder = origin.publish().await;
        encoder.gop_frames = 600;
        encoder.seconds(9).await;
        assert!(is_ended(&origin.offered()));
        encoder.vanish().await;
        assert!(is_ended(&origin.offered()), "and it did not take it along");
    }
    let mut encoder = origin.publish().await;
    encoder.gop_frames = 600;
    encoder.seconds(9).await;
    assert!(matches!(origin.shown().unwrap().stage, Stage::Starting));
    encoder.vanish().await;
    assert!(origin.directory.is_empty());
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_nobody_saw_leaves_nothing() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.seconds(1).await;
    encoder.vanish().await;
    assert!(origin.directory.is_empty());
    assert_eq!(origin.metrics.channels.get(), 0);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_takeover_closes_the_older_one_with_words_and_goes_on() {
    let origin = Origin::start();
    let mut older = origin.publish().await;
    older.seconds(7).await;
    let (first, broadcast) = (origin.shown().unwrap().announcement, origin.offered());
    let mut newer = origin.publish_from([10, 0, 0, 2], "demo").await;
    settle().await;
    let words = older.last_words().unwrap();
    assert_eq!(words, "another publisher took over this channel");
    assert!(!older.seconds(1).await, "nobody reads it any more");
    newer.seconds(3).await;
    let second = origin.shown().unwrap().announcement;
    assert_eq!(second.broadcast, first.broadcast);
    assert!(second.epoch > first.epoch);
    assert!(Arc::ptr_eq(&broadcast, &origin.offered()));
    assert_eq!(newer.last_words(), None);
    assert_eq!(origin.metrics.live.get(), 1);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn two_encoders_of_one_key_do_not_alternate_for_ever() {
    let origin = Origin::start();
    let hosts = [[10, 0, 0, 1], [10, 0, 0, 2]];
    let mut on_air = origin.publish_from(hosts[0], "demo").await;
    on_air.seconds(3).await;
    let mut taken_over = 0;
    for round in 1..10 {
        // The displaced one reconnects at once, as OBS does.
        let mut newcomer = origin.publish_from(hosts[round % 2], "demo").await;
        settle().await;
        if newcomer.last_words().is_some() {
            break;
        }
        assert!(on_air.last_words().is_some());
        on_air = newcomer;
        on_air.seconds(2).await;
        taken_over += 1;
    }
    assert_eq!(taken_over, 4);
    assert_eq!(origin.refused("rivals"), 1);
    assert!(on_air.seconds(2).await, "who was on air stays");
    origin.drain().await;
}

/// At every moment round the end of a channel's task, a publish finds a task:
/// the old one or a new one, and never two.
#[tokio::test(start_paused = true)]
async fn a_newcomer_to_a_task_that_ends_is_not_lost() {
    for early_us in (0..4_000).step_by(250) {
        let origin = Origin::start();
        let mut encoder = origin.publish().await;
        encoder.seconds(4).await;
        let broadcast = origin.offered();
        let window_ms = u64::from(broadcast.plan.window_ms);
        let over = Instant::now() + Duration::from_millis(10_000 + window_ms + 2);
        encoder.vanish().await;
        sleep_until(over - Duration::from_micros(early_us)).await;
        let mut encoder = origin.publish().await;
        encoder.seconds(4).await;
        assert_ne!(origin.offered().id, broadcast.id);
        assert_eq!(encoder.last_words(), None);
        assert_eq!(origin.metrics.channels.get(), 1);
        assert_eq!(origin.metrics.live.get(), 1);
        origin.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn epochs_rise_even_when_the_wall_clock_is_set_back() {
    let origin = Origin::start();
    let mut last = Epoch(0);
    for _ in 0..5 {
        let mut encoder = origin.publish().await;
        encoder.seconds(1).await;
        let epoch = origin.shown().unwrap().announcement.epoch;
        assert!(epoch > last);
        last = epoch;
        // Forgotten at once, as nobody saw it.
        encoder.vanish().await;
        assert!(origin.directory.is_empty());
        set_clock_back(3_000);
    }
    // And so do msns and programme times within a broadcast.
    let mut encoder = origin.publish().await;
    encoder.seconds(5).await;
    set_clock_back(60_000);
    encoder.vanish().await;
    let mut encoder = origin.publish().await;
    encoder.seconds(5).await;
    let heads: Vec<_> = listing(&origin.offered(), V0)
        .segments
        .iter()
        .map(|segment| segment.head)
        .collect();
    assert!(heads.iter().any(|head| head.flags.discontinuity));
    assert!(heads.windows(2).all(|w| w[0].epoch <= w[1].epoch
        && w[0].msn < w[1].msn
        && w[0].program_time < w[1].program_time));
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_tells_the_publisher_and_completes_what_is_open() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.seconds(5).await;
    let (broadcast, directory) = (origin.offered(), origin.directory.clone());
    origin.drain().await;
    let words = encoder.last_words().unwrap();
    assert!(words.contains("publish again"), "{words}");
    assert!(all_complete(&broadcast));
    // Lost, not ended: the next process may go on with it.
    assert_eq!(broadcast.state(), BroadcastState::Lost);
    assert!(!listing(&broadcast, V0).ended);
    assert_eq!(directory.len(), 1);
}
