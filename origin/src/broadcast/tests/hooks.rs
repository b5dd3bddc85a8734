//! What webhooks and operators see of a channel, and an operator's word that it ends.

use common::{
    live::{BroadcastState, Health},
    names::{BroadcastId, ChannelName},
};

use super::rig::*;

fn id(broadcast: BroadcastId, word: &str) -> String {
    format!("msg_demo_{}_{word}", broadcast.0)
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_begins_and_ends_once_however_often_its_publisher_returns() {
    let mut origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.until_ms(1_900).await;
    assert_eq!(origin.heard.ids(), [""; 0], "nothing can be played yet");
    encoder.seconds(4).await;
    let first = origin.offered().id;
    assert_eq!(origin.heard.ids(), [id(first, "start")]);
    for _ in 0..3 {
        encoder.vanish().await;
        pass(5).await;
        encoder = origin.publish().await;
        encoder.seconds(6).await;
    }
    assert_eq!(origin.heard.ids(), [""; 0]);
    encoder.stop().await;
    pass(11).await;
    assert_eq!(origin.heard.ids(), [id(first, "end")]);
    let mut encoder = origin.publish().await;
    encoder.seconds(6).await;
    let second = origin.offered().id;
    assert_eq!(origin.heard.ids(), [id(second, "start")]);
    encoder.vanish().await;
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_shows_nothing_is_none() {
    let mut origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.until_ms(1_000).await;
    encoder.vanish().await;
    pass(20).await;
    assert_eq!(origin.heard.ids(), [""; 0]);
    origin.drain().await;
}

/// The process that began it has told so; the one that ends it tells that.
#[tokio::test(start_paused = true)]
async fn a_broadcast_goes_on_over_a_restart_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let mut origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.seconds(6).await;
    let broadcast = origin.offered().id;
    assert_eq!(origin.heard.ids(), [id(broadcast, "start")]);
    origin.kill().await;
    drop(encoder);
    let mut origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.seconds(6).await;
    assert_eq!(origin.offered().id, broadcast);
    assert_eq!(origin.heard.ids(), [""; 0]);
    encoder.stop().await;
    pass(11).await;
    assert_eq!(origin.heard.ids(), [id(broadcast, "end")]);
    origin.drain().await;
}

/// The process that was killed had not come so far.
#[tokio::test(start_paused = true)]
async fn a_broadcast_that_was_not_offered_before_a_restart_begins_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.seconds(6).await;
    let broadcast = origin.offered().id;
    assert_eq!(origin.heard.ids(), [id(broadcast, "start")]);
    origin.kill().await;
    drop(encoder);
    // As its page was between its first segment and the first playlist.
    let page = dir.path().join("demo.json");
    let text = std::fs::read_to_string(&page).unwrap();
    let before = text.replace(r#""offered":true"#, r#""offered":false"#);
    assert_ne!(before, text);
    std::fs::write(&page, before).unwrap();
    let mut origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.seconds(6).await;
    assert_eq!(origin.offered().id, broadcast);
    assert_eq!(origin.heard.ids(), [id(broadcast, "start")]);
    encoder.stop().await;
    pass(11).await;
    assert_eq!(origin.heard.ids(), [id(broadcast, "end")]);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_ends_a_broadcast_without_grace() {
    let mut origin = Origin::start();
    let demo = ChannelName::parse("demo").unwrap();
    assert!(!origin.control.end(demo.clone()).await, "there is none");
    let mut encoder = origin.publish().await;
    encoder.seconds(6).await;
    let broadcast = origin.offered();
    assert!(origin.control.end(demo.clone()).await);
    let told = encoder.last_words().unwrap();
    assert!(told.contains("operator has ended"), "{told}");
    assert_eq!(broadcast.state(), BroadcastState::Ended);
    assert!(is_ended(&broadcast));
    let ids = [id(broadcast.id, "start"), id(broadcast.id, "end")];
    assert_eq!(origin.heard.ids(), ids);
    assert!(!origin.control.end(demo.clone()).await, "it is over");
    // Who publishes again begins another one.
    let mut encoder = origin.publish().await;
    encoder.seconds(6).await;
    assert!(origin.offered().id > broadcast.id);
    // Also while its publisher is away.
    encoder.vanish().await;
    assert!(origin.control.end(demo).await);
    assert_eq!(origin.offered().state(), BroadcastState::Ended);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn how_a_publish_comes_in_is_told_while_it_does() {
    let origin = Origin::start();
    let demo = ChannelName::parse("demo").unwrap();
    let mut encoder = origin.publish().await;
    encoder.seconds(9).await;
    let about = origin.abouts.get(&demo).unwrap();
    let steady = Health {
        fps_tenths: Some(300),
        gop_ms: Some(2_000),
        dropped_samples: 0,
        jitter_ms: 0,
    };
    assert_eq!(about.health, Some(steady));
    encoder.vanish().await;
    assert!(origin.abouts.is_empty());
    origin.drain().await;
}
