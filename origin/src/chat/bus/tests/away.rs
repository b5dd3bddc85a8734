//! A server that is away, and rooms that nobody holds meanwhile.

use bytes::Bytes;
use futures_util::FutureExt;

use super::*;
use crate::chat::{
    bus::room::BusRoom,
    counted::{Counted, Tally},
    rooms::Shared,
};

/// The room's task, and a handle that alone holds the room.
fn task(ready: Ready) -> RoomHandle {
    let metrics = ChatMetrics::register(&registry("origin"));
    let tally = Tally {
        audience: Arc::default(),
        node: NodeId::parse("origin-1").unwrap(),
        room: room(),
    };
    let counted = Counted::new(metrics.clone(), tally, true);
    let presence = counted.presence().clone();
    let shared = Arc::new(Shared {
        metrics,
        clock: || UnixMs(1),
        shutdown: Shutdown::new(),
    });
    let (asks, asked) = mpsc::channel(8);
    let policy = watch::channel(Arc::default()).1;
    let task = BusRoom::new(shared, ready, room(), asked, counted, policy, None);
    let feed = task.feed().clone();
    tokio::spawn(task.run());
    RoomHandle {
        feed,
        asks,
        presence,
    }
}

/// Until the task let go of the room: its feed went with it.
async fn ends(handle: RoomHandle) {
    let mut moves = handle.feed.moves();
    drop(handle);
    within(async { while moves.changed().await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_room_that_nobody_holds_does_not_wait_for_the_bus() {
    let (never, ready) = watch::channel(None);
    let handle = task(ready);
    // Nor does it forget who asked, as long as somebody holds it.
    let (sender, mut verdicts) = mpsc::channel(1);
    let asked = Asked::Request {
        from: NodeId::parse("edge-1").unwrap(),
        request: Box::new(request(1, "ann", "hello")),
        reply: sender.reserve_owned().await.unwrap(),
    };
    handle.asks.send(asked).await.unwrap();
    ends(handle).await;
    assert!(within(verdicts.recv()).await.is_none());
    drop(never);
}

#[tokio::test]
async fn what_was_asked_before_the_bus_was_there_is_answered() {
    let nats = Nats::start();
    let bus = nats.bus("origin-1").await;
    let (there, ready) = watch::channel(None);
    let handle = task(ready);
    let hello = request(1, "ann", "hello");
    let first = ask(&handle, &hello);
    let (verdict, _) = tokio::join!(first, async {
        // It looks into its mailbox before the bus is there.
        within(async {
            while handle.asks.capacity() < handle.asks.max_capacity() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        there.send_replace(Some(bus.clone()));
    });
    assert!(matches!(verdict, Some(Verdict::Said(_))), "{verdict:?}");
}

#[tokio::test]
async fn a_room_that_nobody_holds_does_not_wait_for_a_bus_that_went() {
    let mut nats = Nats::start();
    let bus = nats.bus("origin-1").await;
    let handle = task(watch::channel(Some(bus.clone())).1);
    asked(&handle, 1, "ann", "hello").await;
    nats.kill();
    // As many rooms do that ask again and again: what the client passes on is full.
    within(async {
        while let Some(sent) = bus.client.publish("nobody", Bytes::new()).now_or_never() {
            sent.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Who asks finds that the room can't be decided, which leads to a new claim.
    let (sender, _verdicts) = mpsc::channel(1);
    let asked = Asked::Request {
        from: NodeId::parse("edge-1").unwrap(),
        request: Box::new(request(2, "ann", "more")),
        reply: sender.reserve_owned().await.unwrap(),
    };
    handle.asks.send(asked).await.unwrap();
    ends(handle).await;
}
