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

/// Eleven target durations of the highest bit rate would be without end.
#[tokio::test(start_paused = true)]
async fn the_media_of_a_broadcast_is_bounded_and_counted() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.bytes = 10_000;
    encoder.seconds(60).await;
    let broadcast = origin.offered();
    let held = || {
        let held = |track: &Arc<common::live::TrackWindow>| {
            track.window.look(common::live::Log::held_bytes)
        };
        broadcast.tracks.iter().map(held).sum::<u64>()
    };
    assert!(held() > 9_000_000);
    assert_eq!(origin.metrics.window_bytes.get().unsigned_abs(), held());
    assert_eq!(encoder.last_words(), None);
    // The same for twice the bit rate is too much.
    encoder.bytes = 20_000;
    encoder.seconds(60).await;
    let words = encoder.last_words().unwrap();
    assert!(words.contains("--max-window-bytes"), "{words}");
    assert_eq!(origin.refused("bytes"), 1);
    assert!(held() < MAX_WINDOW_BYTES + 50_000, "{}", held());
    assert!(is_ended(&broadcast), "who returns begins anew");
    drop(broadcast);
    let mut encoder = origin.publish().await;
    encoder.seconds(60).await;
    assert_eq!(encoder.last_words(), None);
    assert!(origin.metrics.window_bytes.get() < 1_000_000);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_plan_is_counted() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.bytes = 10_000;
    encoder.until_ms(1_000).await;
    let waiting = origin.metrics.plan_waiting_bytes.get();
    assert!((300_000..600_000).contains(&waiting), "{waiting}");
    encoder.until_ms(4_000).await;
    assert_eq!(origin.metrics.plan_waiting_bytes.get(), 0);
    origin.drain().await;
}
