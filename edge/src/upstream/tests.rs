//! The edge's side of the link against the real server, over loopback QUIC.

mod stage;

use std::{net::SocketAddr, sync::Arc};

use common::{live::Directory, names::Msn};

use stage::*;

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
    let past = within(edge.upstream.past_segment(&copy, V0, Msn(105)))
        .await
        .unwrap();
    let whole = source.window.look(|log| {
        let chunks = &log.segment(Msn(105)).unwrap().chunks;
        chunks.iter().flat_map(|c| c.data.to_vec()).collect::<Vec<u8>>()
    });
    assert_eq!(past, whole);
}
