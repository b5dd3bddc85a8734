//! When a publisher goes on and its broadcast does not.

use common::live::BroadcastState;

use super::rig::*;
use crate::broadcast::*;

/// Both windows are there, the older one ended and the newer one ahead of it.
fn assert_succeeds(old: &common::live::Broadcast, new: &common::live::Broadcast) {
    assert!(is_ended(old) && all_complete(old));
    assert_eq!(new.state(), BroadcastState::Live);
    assert!(new.id.0 > old.id.0);
    let last = listing(old, old.tracks[0].track.name);
    let first = listing(new, new.tracks[0].track.name);
    let (last, first) = (last.segments.last().unwrap().head, first.segments[0].head);
    assert!(first.msn.0 >= last.msn.0 + 2);
    assert!(first.discontinuity_sequence >= last.discontinuity_sequence + 2);
    assert!(first.epoch > last.epoch);
}

#[tokio::test(start_paused = true)]
async fn an_outgrown_gop_begins_a_broadcast_with_room_for_it() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.seconds(6).await;
    let old = origin.offered();
    assert_eq!(old.plan.target_duration_s, 3);
    // The next keyframe comes 5 s after the last: past TARGETDURATION.
    encoder.gop_frames = 330;
    encoder.seconds(4).await;
    assert!(is_ended(&old), "at once, not at the keyframe");
    assert!(
        Arc::ptr_eq(&old, &origin.offered()),
        "until there is another"
    );
    encoder.seconds(6).await;
    let new = origin.offered();
    assert_succeeds(&old, &new);
    assert!(new.plan.target_duration_s >= 6, "{:?}", new.plan);
    assert_eq!(encoder.last_words(), None);
    assert_eq!(origin.metrics.started.get(), 2);
    assert_eq!(origin.metrics.live.get(), 1);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_gop_past_the_limit_is_refused_with_the_setting_named() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.gop_frames = 100_000;
    encoder.seconds(20).await;
    let words = encoder.last_words().unwrap();
    assert!(
        words.contains("Keyframe Interval") && words.contains("12000 ms"),
        "{words}"
    );
    assert_eq!(origin.refused("plan"), 1);
    assert!(origin.directory.is_empty());
    // In the middle of a broadcast as well: doubled up to the limit, no further.
    let mut encoder = origin.publish().await;
    encoder.seconds(5).await;
    encoder.gop_frames = 100_000;
    encoder.seconds(60).await;
    assert!(encoder.last_words().unwrap().contains("Keyframe Interval"));
    assert_eq!(origin.metrics.live.get(), 0);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_track_begins_a_broadcast_that_has_it() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.audio = false;
    encoder.seconds(6).await;
    let old = origin.offered();
    assert_eq!(old.tracks.len(), 1);
    encoder.audio = true;
    encoder.seconds(6).await;
    let new = origin.offered();
    assert_eq!(new.tracks.len(), 2);
    assert_succeeds(&old, &new);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_republish_that_does_not_fit_begins_a_broadcast() {
    let other_rate = |encoder: &mut Encoder| (encoder.fps, encoder.gop_frames) = (2, 4);
    let sound_only = |encoder: &mut Encoder| encoder.video = false;
    let cases: [&dyn Fn(&mut Encoder); 2] = [&other_rate, &sound_only];
    for changed in cases {
        let origin = Origin::start();
        let mut encoder = origin.publish().await;
        encoder.seconds(6).await;
        let old = origin.offered();
        encoder.vanish().await;
        pass(1).await;
        let mut encoder = origin.publish().await;
        changed(&mut encoder);
        // Six frames of half a second are a part, and four of those hold back.
        encoder.seconds(20).await;
        assert_eq!(encoder.last_words(), None);
        assert_succeeds(&old, &origin.offered());
        origin.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_republish_at_a_rate_that_fits_goes_on() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    encoder.seconds(6).await;
    let old = origin.offered();
    encoder.vanish().await;
    let mut encoder = origin.publish().await;
    (encoder.fps, encoder.gop_frames) = (60, 120);
    encoder.seconds(6).await;
    assert!(Arc::ptr_eq(&old, &origin.offered()));
    assert_eq!(origin.metrics.continued.get(), 1);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_packaged_ends_the_publish_with_its_name() {
    let origin = Origin::start();
    let mut encoder = origin.publish().await;
    let hevc = bytes::Bytes::from_static(b"\x90hvc1\x01");
    encoder.send(common::rtmp::MediaKind::Video, 0, hevc).await;
    settle().await;
    assert!(encoder.last_words().unwrap().contains("hvc1"));
    assert_eq!(origin.refused("media"), 1);
    assert!(origin.directory.is_empty());
    origin.drain().await;
}
