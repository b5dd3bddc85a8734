//! What windows hold when there is more to hold than they may: who watches goes on,
//! who came last yields, and nothing of anybody else's is lost.

use std::{sync::Arc, time::Duration};

use common::{
    live::{Broadcast, Directory, Log, TrackWindow},
    names::{ChannelName, Msn},
};

use super::{any, stage::*, timed};
use crate::upstream::Unavailable;

/// A channel at the origin with its newest segment open.
fn source(directory: &Directory, name: &str, id: u64) -> Arc<Broadcast> {
    let channel = ChannelName::parse(name).unwrap();
    let broadcast = publish_to(directory, channel, id, plan());
    for name in [V0, A0] {
        let window = &broadcast.track(name).unwrap().window;
        segment(window, id, 100, 100);
        open(window, id, 101);
        part(window, 101, 0, 100);
    }
    broadcast
}

async fn follow(edge: &Edge, source: &Broadcast) -> (Arc<Broadcast>, Arc<TrackWindow>) {
    edge.upstream.until_synced().await;
    let copy = within(edge.upstream.broadcast(&source.channel))
        .await
        .unwrap();
    let track = within(edge.upstream.track(&copy, V0)).await.unwrap();
    reaches(&track.window, 101, 1).await;
    (copy, track)
}

fn held(track: &TrackWindow) -> u64 {
    track.window.look(Log::held_bytes)
}

async fn until(what: impl Fn() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Near the limit who watches goes on, and another track waits for room.
#[tokio::test]
async fn no_further_track_is_followed_near_the_limit() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let source = source(&directory, "demo", 7);
    let window = &source.track(V0).unwrap().window;
    let parent = Parent::start(&certs, &directory, any());
    let edge = Edge::holding(&certs, "edge-1", parent.address, 100_000);
    let (copy, video) = follow(&edge, &source).await;
    part(window, 101, 1, 22_500);
    reaches(&video.window, 101, 2).await;
    assert!((90_000..100_000).contains(&held(&video)));
    let shared = &edge.upstream.pulled.as_ref().unwrap().shared;
    until(|| shared.windows.is_spent()).await;
    let refused = edge.upstream.track(&copy, A0).await;
    assert_eq!(refused.unwrap_err(), Unavailable::Full);
    let refused = metric(&edge.registry, "millrace_upstream_tracks_refused_total");
    assert_eq!(refused, 1.0);
    part(window, 101, 2, 500);
    reaches(&video.window, 101, 3).await;
    equals(&video.window, window).await;
    let yielded = metric(&edge.registry, "millrace_upstream_tracks_yielded_total");
    assert_eq!(yielded, 0.0);
}

/// What is older than a target duration is let go first, into the cache: nobody
/// yields, and whoever asks for it gets it without another fetch.
#[tokio::test]
async fn what_is_old_makes_room_before_anybody_yields() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let source = source(&directory, "demo", 7);
    let window = &source.track(V0).unwrap().window;
    let parent = Parent::start(&certs, &directory, any());
    // Three segments of 120 kB are what a window holds otherwise.
    let edge = Edge::holding(&certs, "edge-1", parent.address, 300_000);
    let (copy, video) = follow(&edge, &source).await;
    (1..PARTS).for_each(|at| part(window, 101, at, 10_000));
    window.complete().unwrap();
    for msn in 102..105 {
        segment(window, 7, msn, 10_000);
        reaches(&video.window, msn, PARTS).await;
    }
    open(window, 7, 105);
    until(|| held(&video) <= 300_000).await;
    equals(&video.window, window).await;
    let parts = |msn| (0..PARTS).flat_map(move |part| (0..CHUNKS).map(move |at| (msn, part, at)));
    for msn in 102..105 {
        let past = edge.upstream.past_segment(&copy, V0, Msn(msn));
        let bytes = parts(msn).flat_map(|(msn, part, at)| chunk(msn, part, at, 10_000).data);
        let whole: Vec<u8> = bytes.collect();
        assert!(within(past).await.unwrap().0 == whole, "{msn}");
    }
    let count = |name| metric(&edge.registry, name);
    assert_eq!(count("millrace_upstream_fetches_total"), 0.0);
    assert_eq!(count("millrace_upstream_tracks_yielded_total"), 0.0);
    assert!(count("millrace_cache_bytes") >= 120_000.0);
}

/// Tracks that outgrow the limit: the channel that was followed last yields, with
/// 503; the other goes on without a gap, and once there is room so does that one.
#[tokio::test]
async fn the_channel_that_came_last_yields() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let (first, last) = (
        source(&directory, "demo", 7),
        source(&directory, "other", 9),
    );
    let parent = Parent::start(&certs, &directory, any());
    let edge = Edge::holding(&certs, "edge-1", parent.address, 200_000);
    let (_, stays) = follow(&edge, &first).await;
    let (copy, yields) = follow(&edge, &last).await;
    let (of_first, of_last) = (
        &first.track(V0).unwrap().window,
        &last.track(V0).unwrap().window,
    );
    part(of_first, 101, 1, 30_000);
    reaches(&stays.window, 101, 2).await;
    part(of_last, 101, 1, 30_000);
    let yielded = || metric(&edge.registry, "millrace_upstream_tracks_yielded_total");
    until(|| yielded() > 0.0 && held(&yields) == 0).await;
    assert!((120_000..200_000).contains(&held(&stays)));
    let refused = edge.upstream.track(&copy, V0).await;
    assert_eq!(refused.unwrap_err(), Unavailable::Full);
    assert!(edge.upstream.followed(&copy, V0).is_none());

    part(of_first, 101, 2, 100);
    of_first.complete().unwrap();
    equals(&stays.window, of_first).await;
    assert_eq!(same_bytes(&stays.window, of_first, 101..102), 12);
    assert_eq!(yielded(), 1.0);
    open(of_first, 7, 102);
    part(of_first, 102, 0, 100);

    // The other comes back to where it is by then, and lists the same.
    part(of_last, 101, 2, 100);
    of_last.complete().unwrap();
    let back = within(async {
        loop {
            match edge.upstream.track(&copy, V0).await {
                Err(Unavailable::Full) => tokio::time::sleep(Duration::from_millis(20)).await,
                other => break other.unwrap(),
            }
        }
    })
    .await;
    assert!(Arc::ptr_eq(&back, &yields));
    open(of_last, 9, 102);
    part(of_last, 102, 0, 100);
    reaches(&back.window, 102, 1).await;
    equals(&back.window, of_last).await;
}

/// A broadcast that another one replaced is still read, and counts for as long.
#[tokio::test(start_paused = true)]
async fn what_was_replaced_counts_until_nobody_reads_it() {
    let shared = timed::shared_holding(100_000);
    let (old, next) = (
        source(&shared.directory, "demo", 7),
        source(&shared.directory, "demo", 9),
    );
    let look = || shared.keep_within_budget();
    let spent = || shared.windows.is_spent();
    part(&old.track(V0).unwrap().window, 101, 1, 30_000);
    look().await;
    assert!(!spent(), "nobody offers the old one");
    shared.retire(old);
    look().await;
    // What is being made is not the cache's, and nobody is there to yield.
    assert!(spent());
    let millis = u64::from(next.plan.parts_listed_ms());
    tokio::time::advance(Duration::from_millis(millis)).await;
    look().await;
    assert!(shared.retired.lock().is_empty(), "without a request");
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(!spent());
}
