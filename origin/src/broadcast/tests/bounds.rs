//! What strangers may fill.

use super::rig::*;
use crate::broadcast::*;

#[tokio::test(start_paused = true)]
async fn many_publishes_in_a_row_leave_nothing_behind() {
    let origin = Origin::start();
    for round in 0..100 {
        let mut encoder = origin.publish().await;
        encoder.seconds(if round % 10 == 0 { 4 } else { 1 }).await;
        encoder.vanish().await;
        assert!(origin.directory.len() <= 1);
        assert!(origin.metrics.channels.get() <= 1);
    }
    let broadcast = origin.offered();
    for track in &broadcast.tracks {
        assert!(track.inits().len() <= 2, "the same bytes keep their number");
        let (first, last) = track.window.look(|log| {
            let dts = |segment: Option<&common::live::Segment>| segment.unwrap().head.dts;
            (dts(log.oldest()), dts(log.newest()))
        });
        let held_ms = track.track.timescale.to_ms(last.saturating_sub(first));
        let plan = broadcast.plan;
        let most_ms = plan.window_ms + plan.parts_listed_ms() + plan.target_duration_ms();
        assert!(held_ms <= most_ms.into(), "{held_ms}");
    }
    drop(broadcast);
    pass(60).await;
    assert!(origin.directory.is_empty());
    assert_eq!(origin.metrics.channels.get(), 0);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn channels_of_strangers_are_bounded() {
    let origin = Origin::start();
    let mut encoders = Vec::new();
    for n in 0..MAX_CHANNELS + 500 {
        let encoder = origin.publish_from([10, 0, 0, 1], &format!("c{n}")).await;
        encoders.push(encoder);
    }
    settle().await;
    assert_eq!(origin.directory.len(), MAX_CHANNELS);
    assert_eq!(origin.refused("channels"), 500);
    let words = encoders.last_mut().unwrap().last_words().unwrap();
    assert!(words.contains("as many channels"), "{words}");
    assert_eq!(encoders[0].last_words(), None);
    // They go, and there is room again.
    drop(encoders);
    settle().await;
    assert!(origin.directory.is_empty());
    assert_eq!(origin.metrics.channels.get(), 0);
    let mut encoder = origin.publish().await;
    encoder.seconds(3).await;
    origin.offered();
    origin.drain().await;
}

/// Publishers that chase each other faster than the task takes them.
#[tokio::test(start_paused = true)]
async fn the_queue_of_a_channel_is_bounded() {
    let origin = Origin::start();
    let mut encoders = Vec::new();
    for _ in 0..50 {
        encoders.push(origin.publish().await);
    }
    settle().await;
    let told = encoders.iter_mut().filter_map(Encoder::last_words);
    assert_eq!(told.count(), 49);
    assert_eq!(origin.metrics.live.get(), 1);
    origin.drain().await;
}
