//! What only time decides, on a clock that the test moves. No parent answers.

use std::{sync::Arc, time::Duration};

use common::{
    link::{GoneReason, Start},
    live::{Announcement, BroadcastState, Channel, Directory, Log, Phase, SegmentState, Stage},
    names::{BroadcastId, Msn},
    quic::client_endpoint,
};
use prometheus::Registry;
use tokio::{sync::watch, time::advance};

use super::stage::*;
use crate::upstream::{Shared, Unavailable, UpstreamMetrics, parent::Parents, tracks::IDLE};

const GRACE: Duration = Announcement::LEAST_KEPT_FOR;

fn shared() -> Arc<Shared> {
    shared_holding(1 << 30)
}

/// Whose windows may hold so many bytes.
pub(super) fn shared_holding(window_bytes: u64) -> Arc<Shared> {
    let metrics = UpstreamMetrics::register(&Registry::new());
    Arc::new(Shared::new(
        node("edge-1"),
        Arc::new(Directory::default()),
        metrics,
        1 << 20,
        window_bytes,
    ))
}

fn parents(certs: &Certs, shared: &Arc<Shared>) -> Parents {
    let link = certs.config("edge-1");
    let dialer = client_endpoint(&link, &link.credentials().unwrap()).unwrap();
    let addresses = watch::channel(Vec::new()).1;
    Parents::new(shared.clone(), dialer, hello("edge-1"), addresses, 2)
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_track_nobody_asks_for_is_let_go() {
    let shared = shared();
    let broadcast = publish(&shared.directory, 7);
    let window = &broadcast.track(V0).unwrap().window;
    segment(window, 7, 100, 500);
    open(window, 7, 101);
    part(window, 101, 0, 500);
    let ask = shared.followed(&broadcast, V0).await;
    assert_eq!(ask.unwrap_err(), Unavailable::Disconnected);
    let followed = || shared.tracks.lock().len();
    for _ in 0..5 {
        assert_eq!(followed(), 1);
        advance(IDLE - Duration::from_secs(1)).await;
        settle().await;
        assert!(shared.touch(&broadcast, V0), "a viewer kept it");
    }
    advance(IDLE + Duration::from_millis(1)).await;
    settle().await;
    assert_eq!(followed(), 0);
    assert!(!shared.touch(&broadcast, V0));
    // What it held is in the cache: windows are for what is watched. What was being
    // made is nowhere, and counts against nobody.
    assert_eq!(window.look(Log::held_bytes), 0);
    let open = window.look(|log| log.segment(Msn(101)).unwrap().state);
    assert_eq!(open, SegmentState::Aborted);
    let kept = shared.past(&broadcast, V0, Msn(100)).await.unwrap();
    assert_eq!(kept.0.len(), 12 * 500);
}

#[tokio::test(start_paused = true)]
async fn a_track_that_a_child_follows_is_kept() {
    let shared = shared();
    let broadcast = publish(&shared.directory, 7);
    let leased = shared.lease(&broadcast, V0, Start::Live, Vec::new());
    let leased = leased.unwrap();
    let followed = || shared.tracks.lock().len();
    for _ in 0..5 {
        advance(IDLE * 2).await;
        settle().await;
        assert_eq!(followed(), 1);
    }
    drop(leased);
    advance(IDLE - Duration::from_secs(1)).await;
    settle().await;
    assert_eq!(followed(), 1, "it may come back");
    advance(IDLE).await;
    settle().await;
    assert_eq!(followed(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_stays_keeps_its_track() {
    let shared = shared();
    let broadcast = publish(&shared.directory, 7);
    let _ = shared.followed(&broadcast, V0).await;
    let staying = shared.following(&broadcast, V0).unwrap();
    for _ in 0..5 {
        advance(IDLE * 2).await;
        settle().await;
        assert_eq!(shared.tracks.lock().len(), 1);
    }
    drop(staying);
    advance(IDLE - Duration::from_secs(1)).await;
    settle().await;
    assert_eq!(shared.tracks.lock().len(), 1);
    advance(Duration::from_secs(1) + Duration::from_millis(1)).await;
    settle().await;
    assert_eq!(shared.tracks.lock().len(), 0);
    assert!(shared.following(&broadcast, V0).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_channel_missing_from_a_snapshot_is_lost_and_has_its_grace() {
    let (certs, shared) = (Certs::new(), shared());
    let mut parents = parents(&certs, &shared);
    publish(&shared.directory, 7);
    let known = || shared.directory.get(&channel()).is_some();
    let missing = |parents: &mut Parents| {
        shared.routes.lock().speaks(0);
        parents.snapshot(0);
    };

    missing(&mut parents);
    advance(GRACE - Duration::from_secs(1)).await;
    parents.leave();
    assert!(known());
    // It came back in time; then it does not.
    parents.live(0, announcement(7));
    advance(GRACE * 2).await;
    parents.leave();
    assert!(known());
    missing(&mut parents);
    advance(GRACE).await;
    parents.leave();
    assert!(!known());
}

#[tokio::test(start_paused = true)]
async fn an_ended_channel_stays_for_one_window() {
    let (certs, shared) = (Certs::new(), shared());
    let mut parents = parents(&certs, &shared);
    let broadcast = publish(&shared.directory, 7);
    parents.gone(0, &channel(), BroadcastId(7), GoneReason::Ended);
    assert_eq!(broadcast.state(), BroadcastState::Ended);
    advance(Duration::from_millis(u64::from(plan().window_ms) - 1)).await;
    parents.leave();
    assert!(shared.directory.get(&channel()).is_some());
    advance(Duration::from_millis(1)).await;
    parents.leave();
    assert!(shared.directory.get(&channel()).is_none());
    let held = shared.of_epoch(&channel(), common::names::Epoch(7), None);
    assert!(
        held.is_some(),
        "its media is readable for three target durations"
    );
    advance(Duration::from_millis(plan().parts_listed_ms().into())).await;
    assert!(
        shared
            .of_epoch(&channel(), common::names::Epoch(7), None)
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn a_loop_is_passed_over() {
    let (certs, shared) = (Certs::new(), shared());
    let mut parents = parents(&certs, &shared);
    let mut looped = announcement(7);
    looped.hops = vec![node("origin"), node("edge-1"), node("edge-2")];
    shared.routes.lock().speaks(0);
    parents.live(0, looped);
    assert!(shared.directory.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_parent_what_is_held_answers_for_the_grace() {
    let shared = shared();
    let broadcast = publish(&shared.directory, 7);
    shared.disconnected(0);
    let held = shared.broadcast(&channel()).await.unwrap();
    assert!(Arc::ptr_eq(&held, &broadcast));
    advance(GRACE + Duration::from_millis(1)).await;
    let forsaken = shared.broadcast(&channel()).await;
    assert_eq!(forsaken.unwrap_err(), Unavailable::Disconnected);
}

/// An origin that waits ten minutes for its publisher finds its viewers where they
/// were, although the edge had no link all that time and the origin's snapshot after
/// its restart did not have the channel yet.
#[tokio::test(start_paused = true)]
async fn a_channel_is_kept_for_as_long_as_its_origin_waits() {
    let (certs, shared) = (Certs::new(), shared());
    let mut parents = parents(&certs, &shared);
    let patient = || Announcement {
        grace_ms: 600_000,
        ..announcement(7)
    };
    shared.routes.lock().speaks(0);
    parents.live(0, patient());
    let broadcast = publish(&shared.directory, 7);
    let channel = channel();
    shared.directory.update(&channel, |known| {
        known.announcement = patient();
    });
    shared.disconnected(0);
    advance(Duration::from_secs(604)).await;
    let held = shared.broadcast(&channel).await.unwrap();
    assert!(Arc::ptr_eq(&held, &broadcast));

    let missing = |parents: &mut Parents| {
        shared.routes.lock().speaks(0);
        parents.snapshot(0);
        parents.leave();
    };
    missing(&mut parents);
    advance(Duration::from_secs(604)).await;
    parents.leave();
    parents.live(0, patient());
    advance(Duration::from_secs(3_600)).await;
    parents.leave();
    let back = shared.directory.get(&channel).unwrap();
    assert!(matches!(back.stage, Stage::Ready(held) if Arc::ptr_eq(&held, &broadcast)));

    missing(&mut parents);
    advance(Duration::from_secs(605)).await;
    parents.leave();
    assert!(shared.directory.get(&channel).is_none());
}

/// What nobody watches has the state that its origin tells, its end too.
#[tokio::test(start_paused = true)]
async fn an_unwatched_channel_stands_as_its_origin_says() {
    let (certs, shared) = (Certs::new(), shared());
    let mut parents = parents(&certs, &shared);
    shared.routes.lock().speaks(0);
    for phase in [Phase::Starting, Phase::Live, Phase::Lost, Phase::Ended] {
        let said = Announcement {
            phase,
            ..announcement(7)
        };
        parents.live(0, said.clone());
        let Channel {
            announcement,
            stage,
        } = shared.directory.get(&channel()).unwrap();
        assert_eq!(announcement, said);
        assert!(matches!(stage, Stage::Starting));
    }
}
