//! The edge's side of the link against the real server, over loopback QUIC.

mod budget;
mod chat;
mod dvr;
mod ingests;
mod lossy;
mod past;
mod played;
mod stage;
mod tiers;
mod timed;

use std::{net::SocketAddr, sync::Arc};

use common::{
    live::{BroadcastState, Directory, Log, Record, Segment},
    names::{ChannelName, Epoch, Msn},
};

use super::Unavailable;
use stage::*;
use tokio::sync::watch;

fn any() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[tokio::test]
async fn a_live_window_is_followed_byte_for_byte() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let broadcast = publish(&directory, 7);
    let source = broadcast.track(V0).unwrap();
    for msn in 100..110 {
        segment(&source.window, 7, msn, 500);
    }
    open(&source.window, 7, 110);
    part(&source.window, 110, 0, 500);
    let parent = Parent::start(&certs, &directory, any());
    let edge = Edge::start(&certs, "edge-1", parent.address);

    let copy = edge.broadcast().await;
    assert_eq!((copy.id, copy.plan), (broadcast.id, broadcast.plan));
    assert_eq!(copy.track(A0).unwrap().track, track(A0));
    let window = within(edge.upstream.track(&copy, V0)).await.unwrap();
    reaches(&window.window, 110, 1).await;
    equals(&window.window, &source.window).await;

    for msn in 110..116 {
        let from = if msn == 110 {
            1
        } else {
            open(&source.window, 7, msn);
            0
        };
        for at in from..PARTS {
            part(&source.window, msn, at, 70_000);
            reaches(&window.window, msn, at + 1).await;
            equals(&window.window, &source.window).await;
        }
        source.window.complete().unwrap();
        equals(&window.window, &source.window).await;
    }
    let chunks = same_bytes(&window.window, &source.window, 110..116);
    assert_eq!(chunks, 6 * 12);
    let inits = window.inits();
    assert_eq!(inits, source.inits());

    // What was before it is known by index, and fetched.
    let (past, _) = within(edge.upstream.past_segment(&copy, V0, Msn(105)))
        .await
        .unwrap();
    let whole = source.window.look(|log| {
        let chunks = &log.segment(Msn(105)).unwrap().chunks;
        chunks
            .iter()
            .flat_map(|c| c.data.to_vec())
            .collect::<Vec<u8>>()
    });
    assert_eq!(past, whole);
}

#[tokio::test]
async fn a_link_cut_in_mid_segment_resumes_without_loss_or_repeat() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let broadcast = publish(&directory, 7);
    let source = &broadcast.track(V0).unwrap().window;
    segment(source, 7, 100, 300);
    open(source, 7, 101);
    part(source, 101, 0, 300);
    source.apply(Record::Chunk(chunk(101, 1, 0, 300))).unwrap();
    let parent = Parent::start(&certs, &directory, any());
    let address = parent.address;
    let edge = Edge::start(&certs, "edge-1", address);
    let copy = edge.broadcast().await;
    let track = within(edge.upstream.track(&copy, V0)).await.unwrap();
    let window = &track.window;
    holds(window, 101, 5).await;

    parent.kill().await;
    // What is made meanwhile is not lost, and what was held goes on.
    for at in 1..CHUNKS {
        source.apply(Record::Chunk(chunk(101, 1, at, 300))).unwrap();
    }
    source.apply(Record::Part(part_end(101, 1))).unwrap();
    let parent = Parent::start(&certs, &directory, address);
    reaches(window, 101, 2).await;
    part(source, 101, 2, 300);
    source.complete().unwrap();
    segment(source, 7, 102, 300);
    equals(window, source).await;
    assert_eq!(same_bytes(window, source, 101..103), 2 * 12);
    // The object that viewers hold is the one that goes on.
    let again = edge.broadcast().await;
    assert!(Arc::ptr_eq(&copy, &again));
    drop(parent);
}

#[tokio::test]
async fn two_edges_list_the_same_whenever_they_joined() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let broadcast = publish(&directory, 7);
    let source = &broadcast.track(V0).unwrap().window;
    segment(source, 7, 100, 100);
    let parent = Parent::start(&certs, &directory, any());
    let early = Edge::start(&certs, "edge-1", parent.address);
    let copy = early.broadcast().await;
    let early_track = within(early.upstream.track(&copy, V0)).await.unwrap();
    for msn in 101..130 {
        segment(source, 7, msn, 100);
    }
    open(source, 7, 130);
    part(source, 130, 0, 100);
    let late = Edge::start(&certs, "edge-2", parent.address);
    let late_copy = late.broadcast().await;
    let late_track = within(late.upstream.track(&late_copy, V0)).await.unwrap();
    for at in 1..PARTS {
        reaches(&early_track.window, 130, at).await;
        reaches(&late_track.window, 130, at).await;
        assert_eq!(early_track.window.listing(), late_track.window.listing());
        part(source, 130, at, 100);
    }
    equals(&early_track.window, source).await;
    equals(&late_track.window, source).await;
}

#[tokio::test]
async fn an_aborted_segment_is_never_listed_as_complete() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let broadcast = publish(&directory, 7);
    let source = &broadcast.track(V0).unwrap().window;
    segment(source, 7, 100, 100);
    open(source, 7, 101);
    part(source, 101, 0, 100);
    let parent = Parent::start(&certs, &directory, any());
    let edge = Edge::start(&certs, "edge-1", parent.address);
    let copy = edge.broadcast().await;
    let track = within(edge.upstream.track(&copy, V0)).await.unwrap();
    reaches(&track.window, 101, 1).await;
    source.abort();
    segment(source, 7, 102, 100);
    reaches(&track.window, 102, PARTS).await;
    equals(&track.window, source).await;
    let cut_off = |log: &Log| log.segment(Msn(101)).is_some_and(Segment::is_complete);
    assert!(!track.window.look(cut_off));
}

#[tokio::test]
async fn two_hundred_viewers_are_one_subscription() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let broadcast = publish(&directory, 7);
    segment(&broadcast.track(V0).unwrap().window, 7, 100, 100);
    let parent = Parent::start(&certs, &directory, any());
    let edge = Edge::start(&certs, "edge-1", parent.address);
    edge.upstream.until_synced().await;
    let viewers: Vec<_> = (0..200)
        .map(|_| {
            let upstream = edge.upstream.clone();
            tokio::spawn(async move {
                let copy = upstream.broadcast(&channel()).await.unwrap();
                let track = upstream.track(&copy, V0).await.unwrap();
                assert!(track.window.listing().is_some());
                upstream.past_segment(&copy, V0, Msn(100)).await.unwrap().0
            })
        })
        .collect();
    for viewer in viewers {
        within(viewer).await.unwrap();
    }
    let upstream = |name| metric(&edge.registry, name);
    assert_eq!(upstream("millrace_upstream_subscribed_total"), 1.0);
    assert_eq!(upstream("millrace_upstream_fetches_total"), 1.0);
    // The manifest and the track.
    assert_eq!(metric(&parent.registry, "millrace_link_subscriptions"), 2.0);
}

#[tokio::test]
async fn the_origins_end_is_the_edges_end() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let broadcast = publish(&directory, 7);
    let source = &broadcast.track(V0).unwrap().window;
    segment(source, 7, 100, 100);
    open(source, 7, 101);
    let parent = Parent::start(&certs, &directory, any());
    let edge = Edge::start(&certs, "edge-1", parent.address);
    let copy = edge.broadcast().await;
    let track = within(edge.upstream.track(&copy, V0)).await.unwrap();
    part(source, 101, 0, 100);
    source.complete().unwrap();
    source.end();
    broadcast.set_state(BroadcastState::Ended);
    equals(&track.window, source).await;
    assert!(track.window.listing().unwrap().ended);
    within(
        copy.states()
            .wait_for(|state| *state == BroadcastState::Ended),
    )
    .await
    .unwrap();
    // Who comes now sees the same last playlist.
    let late = Edge::start(&certs, "edge-2", parent.address);
    let copy = late.broadcast().await;
    let track = within(late.upstream.track(&copy, V0)).await.unwrap();
    equals(&track.window, source).await;
}

#[tokio::test]
async fn a_new_broadcast_takes_the_place_of_the_old_one_which_stays_readable() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let old = publish(&directory, 7);
    segment(&old.track(V0).unwrap().window, 7, 100, 100);
    open(&old.track(V0).unwrap().window, 7, 101);
    part(&old.track(V0).unwrap().window, 101, 0, 100);
    let parent = Parent::start(&certs, &directory, any());
    let edge = Edge::start(&certs, "edge-1", parent.address);
    let copy = edge.broadcast().await;
    let track = within(edge.upstream.track(&copy, V0)).await.unwrap();
    reaches(&track.window, 101, 1).await;

    let mut changes = edge.upstream.directory().changes();
    let new = publish(&directory, 9);
    segment(&new.track(V0).unwrap().window, 9, 200, 100);
    let current = loop {
        let now = edge.broadcast().await;
        if now.id == new.id {
            break now;
        }
        within(changes.changed()).await.unwrap();
    };
    let window = within(edge.upstream.track(&current, V0)).await.unwrap();
    equals(&window.window, &new.track(V0).unwrap().window).await;
    let held = |epoch| edge.upstream.held(&channel(), Epoch(epoch), V0);
    assert!(Arc::ptr_eq(&held(8).unwrap().0, &copy));
    assert!(Arc::ptr_eq(&held(9).unwrap().0, &current));
    assert!(held(6).is_none());
}

#[tokio::test]
async fn an_unknown_channel_is_unknown_at_once_and_only_when_synced() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let parent = Parent::start(&certs, &directory, any());
    let edge = Edge::start(&certs, "edge-1", parent.address);
    let other = ChannelName::parse("other").unwrap();
    if !edge.upstream.synced() {
        let early = within(edge.upstream.broadcast(&other)).await;
        assert_eq!(early.unwrap_err(), Unavailable::Disconnected);
    }
    within(edge.upstream.until_synced()).await;
    let unknown = within(edge.upstream.broadcast(&other)).await;
    assert_eq!(unknown.unwrap_err(), Unavailable::Unknown);
    assert!(edge.upstream.connected());
}

#[tokio::test]
async fn a_stranger_is_refused_and_nobody_else_notices() {
    let (certs, strangers) = (Certs::new(), Certs::new());
    let directory = Arc::new(Directory::default());
    let broadcast = publish(&directory, 7);
    segment(&broadcast.track(V0).unwrap().window, 7, 100, 100);
    let parent = Parent::start(&certs, &directory, any());
    let stranger = Edge::start(&strangers, "edge-1", parent.address);
    let edge = Edge::start(&certs, "edge-1", parent.address);
    let copy = edge.broadcast().await;
    within(edge.upstream.track(&copy, V0)).await.unwrap();
    assert!(!stranger.upstream.synced());
    // An origin's certificate is a node's, but origins do not pull.
    let origin = Edge::start(&certs, "origin", parent.address);
    let refused = async {
        while metric(&parent.registry, "millrace_link_refused_total") < 1.0 {
            tokio::task::yield_now().await;
        }
    };
    within(refused).await;
    assert!(!origin.upstream.synced());
}

#[tokio::test]
async fn a_drain_tells_the_edge_and_ends() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let mut parent = Parent::start(&certs, &directory, any());
    let edge = Edge::start(&certs, "edge-1", parent.address);
    within(edge.upstream.until_synced()).await;
    parent.drain();
    within(parent.ended()).await;
    edge.disconnected().await;
    // It has no other: it tries this one again and again.
    let address = parent.address;
    // Its port is free only with its runtime's end.
    parent.kill().await;
    let _back = Parent::start(&certs, &directory, address);
    edge.connected().await;
}

/// A parent that is taken off the list is left for the one that is on it now,
/// and what was held is held.
#[tokio::test]
async fn parents_change_while_the_edge_runs() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let broadcast = publish(&directory, 7);
    let source = broadcast.track(V0).unwrap();
    for msn in 100..106 {
        segment(&source.window, 7, msn, 500);
    }
    open(&source.window, 7, 106);
    part(&source.window, 106, 0, 500);
    let (one, two) = (
        Parent::start(&certs, &directory, any()),
        Parent::start(&certs, &directory, any()),
    );
    let (list, parents) = watch::channel(vec![one.address.to_string()]);
    let edge = Edge::of(&certs, "edge-1", parents, 1 << 30);
    let copy = edge.broadcast().await;
    let window = within(edge.upstream.track(&copy, V0)).await.unwrap();
    reaches(&window.window, 106, 1).await;
    let children = |parent: &Parent| metric(&parent.registry, "millrace_link_children");
    assert_eq!((children(&one), children(&two)), (1.0, 0.0));
    // One more changes nothing; without the first the second is used.
    list.send_modify(|all| all.push(two.address.to_string()));
    list.send_modify(|all| drop(all.remove(0)));
    part(&source.window, 106, 1, 500);
    reaches(&window.window, 106, 2).await;
    let moved = async {
        while children(&one) > 0.0 || children(&two) < 1.0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within(moved).await;
    part(&source.window, 106, 2, 500);
    reaches(&window.window, 106, 3).await;
    equals(&window.window, &source.window).await;
}
