//! Against peers that the test plays itself: what no well-behaved node does,
//! and a child that does not read.

use std::sync::Arc;

use common::{
    link::{
        Accepted, Code, Index, Message, Reader, SegmentStart, Start, StreamError, Subscribe,
        Target, Writer, priority, stream,
    },
    live::{BroadcastState, Directory, Record, SegmentEnd},
    names::{BroadcastId, Epoch, Msn},
    quic::{Connection, client_endpoint, server_endpoint},
};
use prometheus::Registry;

use super::{any, stage::*};

/// Plays a parent for one child: answers WATCH and the manifest, and leaves
/// each track subscription and LIST to the script.
struct Played {
    connection: Connection,
}

impl Played {
    async fn request(&self) -> (Message, Writer, Reader) {
        loop {
            let (send, receive) = within(self.connection.accept_bi()).await.unwrap();
            let mut writer = Writer::new(send, priority::CONTROL);
            let mut reader = Reader::new(receive);
            let message = reader.expect().await.unwrap();
            let answers = match &message {
                Message::Watch { .. } => vec![
                    Message::Live(announcement(7)),
                    Message::Snapshot { channels: 1 },
                ],
                Message::Subscribe(Subscribe {
                    target: Target::Manifest,
                    ..
                }) => vec![
                    accepted(Msn(0), 0),
                    Message::Track(track(V0)),
                    Message::State {
                        state: BroadcastState::Live,
                        epoch: Epoch(7),
                    },
                ],
                _ => return (message, writer, reader),
            };
            for answer in answers {
                writer.send(&answer).await.unwrap();
            }
            // They stay open for as long as the link.
            std::mem::forget((writer, reader));
        }
    }

    async fn subscribed(&self) -> (Subscribe, Writer, Reader) {
        match self.request().await {
            (Message::Subscribe(subscribe), writer, reader) => (subscribe, writer, reader),
            (other, ..) => panic!("{other:?} where SUBSCRIBE was due"),
        }
    }

    async fn segment(&self, subscription: u64, msn: u64, first_chunk: u32) -> Writer {
        let mut writer = Writer::new(self.connection.open_uni().await.unwrap(), 0);
        let start = SegmentStart {
            subscription,
            head: head(7, msn),
            first_chunk,
        };
        writer.send(&Message::Segment(start)).await.unwrap();
        writer
    }
}

fn accepted(first: Msn, first_chunk: u32) -> Message {
    Message::Ok(Accepted {
        broadcast: BroadcastId(7),
        epoch: Epoch(7),
        plan: plan(),
        first,
        first_chunk,
        live: first,
        live_chunk: first_chunk,
    })
}

async fn accept(writer: &mut Writer, first: u64, first_chunk: u32) {
    let index = Index {
        next: Msn(first),
        segments: Vec::new(),
    };
    let init = Message::Init {
        track: V0,
        id: common::names::InitId(0),
        bytes: "init".into(),
    };
    for message in [
        accepted(Msn(first), first_chunk),
        init,
        Message::Index(index),
    ] {
        writer.send(&message).await.unwrap();
    }
}

/// A played parent with an edge that asks it for a track.
async fn played(
    certs: &Certs,
) -> (
    Played,
    Edge,
    Arc<common::live::TrackWindow>,
    Subscribe,
    Writer,
    Reader,
) {
    let link = certs.config("origin");
    let credentials = link.credentials().unwrap();
    let listener = server_endpoint(any(), &link, &credentials, &Registry::new()).unwrap();
    let edge = Edge::start(certs, "edge-1", listener.local_addr().unwrap());
    let (connection, _) = within(listener.accept())
        .await
        .unwrap()
        .finish()
        .await
        .unwrap();
    // The endpoint lives as long as the link.
    std::mem::forget(listener);
    let played = Played { connection };
    let upstream = edge.upstream.clone();
    let asking = tokio::spawn(async move {
        upstream.until_synced().await;
        let copy = upstream.broadcast(&channel()).await.unwrap();
        upstream.track(&copy, V0).await.unwrap()
    });
    let (subscribe, mut writer, reader) = played.subscribed().await;
    assert_eq!(subscribe.start, Start::Live);
    accept(&mut writer, 100, 0).await;
    let window = within(asking).await.unwrap();
    (played, edge, window, subscribe, writer, reader)
}

#[tokio::test]
async fn a_stream_that_finishes_without_end_is_asked_for_again() {
    let certs = Certs::new();
    let (played, _edge, track, subscribe, _writer, _reader) = played(&certs).await;
    let mut stream = played.segment(subscribe.subscription, 100, 0).await;
    for at in 0..3 {
        stream
            .send(&Message::Chunk(chunk(100, 0, at, 50)))
            .await
            .unwrap();
    }
    holds(&track.window, 100, 3).await;
    stream.finish();

    let (again, mut writer, _held) = played.subscribed().await;
    let from = Start::At {
        msn: Msn(100),
        chunk: 3,
    };
    assert_eq!(again.start, from);
    accept(&mut writer, 100, 3).await;
    let mut stream = played.segment(again.subscription, 100, 3).await;
    stream
        .send(&Message::Chunk(chunk(100, 0, 3, 50)))
        .await
        .unwrap();
    let end = part_end(100, 0);
    stream.send(&Message::Part { index: 0, end }).await.unwrap();
    reaches(&track.window, 100, 1).await;
    let sum = track
        .window
        .look(|log| log.segment(Msn(100)).unwrap().sum());
    stream.send(&Message::End(sum)).await.unwrap();
    stream.finish();
    let complete = |version: &Option<common::live::Version>| version.is_some_and(|v| v.complete);
    within(track.window.versions().wait_for(complete))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_end_that_does_not_add_up_is_not_believed() {
    let certs = Certs::new();
    let (played, _edge, track, subscribe, _writer, _reader) = played(&certs).await;
    let mut stream = played.segment(subscribe.subscription, 100, 0).await;
    stream
        .send(&Message::Chunk(chunk(100, 0, 0, 50)))
        .await
        .unwrap();
    let end = part_end(100, 0);
    stream.send(&Message::Part { index: 0, end }).await.unwrap();
    let lie = SegmentEnd {
        chunks: 1,
        bytes: 50,
        crc32c: 1,
    };
    stream.send(&Message::End(lie)).await.unwrap();
    let (again, ..) = played.subscribed().await;
    let from = Start::At {
        msn: Msn(100),
        chunk: 0,
    };
    assert_eq!(again.start, from);
    assert!(
        !track
            .window
            .look(|log| log.segment(Msn(100)).unwrap().is_complete())
    );
}

#[tokio::test]
async fn what_a_parent_drops_is_known_by_its_index_before_what_follows() {
    let certs = Certs::new();
    let (played, edge, track, subscribe, mut control, _reader) = played(&certs).await;
    // What the parent has, for its index and sums.
    let source = common::live::Window::new(&plan(), &super::stage::track(V0));
    segment(&source, 7, 100, 50);
    segment(&source, 7, 101, 50);

    // 102 arrives first and waits; 100 is cut, and dropped together with 101.
    let mut next = played.segment(subscribe.subscription, 102, 0).await;
    next.send(&Message::Chunk(chunk(102, 0, 0, 50)))
        .await
        .unwrap();
    let end = part_end(102, 0);
    next.send(&Message::Part { index: 0, end }).await.unwrap();
    let mut cut = played.segment(subscribe.subscription, 100, 0).await;
    cut.send(&Message::Chunk(chunk(100, 0, 0, 50)))
        .await
        .unwrap();
    holds(&track.window, 100, 1).await;
    cut.abort(Code::TooFarBehind);
    let dropped = Message::Dropped {
        from: Msn(100),
        to: Msn(101),
        code: Code::TooFarBehind,
    };
    control.send(&dropped).await.unwrap();
    let (asked, mut answer, _held) = played.request().await;
    assert!(matches!(asked, Message::List(list) if list.to == Msn(102)));
    let index = source.look(|log| Index::of(Msn(102), log.index(Msn(102))));
    answer.send(&Message::Index(index)).await.unwrap();
    reaches(&track.window, 102, 1).await;
    source.apply(Record::Open(head(7, 102))).unwrap();
    source.apply(Record::Chunk(chunk(102, 0, 0, 50))).unwrap();
    source.apply(Record::Part(part_end(102, 0))).unwrap();
    assert_eq!(track.window.listing(), source.listing());
    let dropped = metric(&edge.registry, "millrace_upstream_segments_dropped_total");
    assert_eq!(dropped, 2.0);
}

/// HELLO, which comes when it comes, is passed over.
async fn next_segment(connection: &Connection) -> (SegmentStart, Reader) {
    loop {
        let mut stream = Reader::new(within(connection.accept_uni()).await.unwrap());
        if let Message::Segment(start) = within(stream.expect()).await.unwrap() {
            return (start, stream);
        }
    }
}

/// The parent neither waits for the child that does not read nor keeps more
/// for it than the flow-control window. Two threads: while this one makes its
/// megabytes the links are to stay alive, on a busy machine too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_does_not_read_is_told_what_it_missed() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let broadcast = publish(&directory, 7);
    let source = &broadcast.track(V0).unwrap().window;
    open(source, 7, 100);
    let parent = Parent::start(&certs, &directory, any());
    let link = certs.config("edge-1");
    let dialer = client_endpoint(&link, &link.credentials().unwrap()).unwrap();
    let (connection, _) = within(dialer.connect(parent.address)).await.unwrap();
    let subscribe = Message::Subscribe(Subscribe {
        subscription: 1,
        channel: channel(),
        broadcast: None,
        target: Target::Track(V0),
        start: Start::Live,
        priority: 1,
        max_age_ms: 3_000,
        hops: Vec::new(),
    });
    let (_writer, mut control) = stream::request(&connection, &subscribe, priority::CONTROL)
        .await
        .unwrap();
    while !matches!(within(control.expect()).await.unwrap(), Message::Index(_)) {}
    for at in 0..PARTS {
        part(source, 100, at, 2_000_000);
    }
    source.complete().unwrap();
    // The follower is in the middle of 100 before anything behind it exists.
    let (start, mut unread) = next_segment(&connection).await;
    assert_eq!(start.head.msn, Msn(100));
    for msn in 101..110 {
        segment(source, 7, msn, 100);
    }
    let dropped = loop {
        match within(control.expect()).await.unwrap() {
            Message::Dropped { from, to, code } => break (from, to, code),
            _ => continue,
        }
    };
    assert_eq!(dropped.0, Msn(100));
    assert_eq!(dropped.2, Code::TooFarBehind);
    let ended = loop {
        match within(unread.next()).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(
        matches!(ended, Err(StreamError::Ended(Code::TooFarBehind))),
        "{ended:?}"
    );
    // And the subscription goes on.
    segment(source, 7, 110, 100);
    let next = dropped.1.next();
    let (start, _stream) = next_segment(&connection).await;
    assert_eq!(start.head.msn, next);
    assert!(connection.close_reason().is_none());
}
