//! A publisher's connection in two processes, one after the other.

use std::os::unix::net::UnixDatagram;

use common::service::{Inherited, Manager};
use tokio::net::TcpListener;

use super::super::hand_over::{HandOver, HandOverConfig, HandedOver, Place};
use super::*;

const HEADER: &[u8] = &[0x17, 0, 0, 0, 0, 1];
const KEYFRAME: &[u8] = &[0x17, 1, 0, 0, 0, 8];
const FRAME: &[u8] = &[0x27, 1, 0, 0, 0, 9];

struct Process {
    context: Arc<connection::Context>,
    publishes: mpsc::Receiver<Publish>,
}

fn process(hand_over: Option<Arc<HandOver>>) -> Process {
    let (publishes, receiver) = mpsc::channel(4);
    let context = Arc::new(connection::Context {
        keys: keys(),
        metrics: RtmpMetrics::register(&Registry::new()),
        publishes,
        admission: admission::Admission::new(&config()),
        offered: Capabilities::default(),
        hand_over,
    });
    Process {
        context,
        publishes: receiver,
    }
}

impl Client<TcpStream> {
    async fn frame(&mut self, timestamp_ms: u32, payload: &'static [u8]) {
        let payload = Bytes::from_static(payload);
        self.session
            .send_media(MediaKind::Video, timestamp_ms, payload);
        self.flush().await.unwrap();
    }
}

/// The next frames of a publish: times and payloads.
async fn frames(publish: &mut Publish, count: usize) -> Vec<(u32, Bytes)> {
    let mut out = Vec::new();
    while out.len() < count {
        match publish.events.recv().await.unwrap() {
            PublishEvent::Media {
                timestamp_ms,
                payload,
                ..
            } => out.push((timestamp_ms, payload)),
            other => panic!("{other:?}"),
        }
    }
    out
}

fn sent(frames: &[(u32, &'static [u8])]) -> Vec<(u32, Bytes)> {
    let bytes = |(at, payload): &(u32, &'static [u8])| (*at, Bytes::from_static(payload));
    frames.iter().map(bytes).collect()
}

#[tokio::test]
async fn a_publisher_goes_over_at_its_keyframe_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let heard = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    let manager = Manager::at(dir.path().join("notify").to_str().unwrap());
    let manager = Arc::new(manager.unwrap());
    let places = HandOverConfig {
        hand_over: Some(dir.path().join("places")),
    };
    let hand_over = HandOver::from_config(&places, &manager).unwrap();
    let hand_over = hand_over.unwrap();
    let mut old = process(Some(hand_over.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = Client::new(TcpStream::connect(address).await.unwrap(), KEY);
    let (stream, peer) = listener.accept().await.unwrap();
    // What the manager would keep.
    let stream = stream.into_std().unwrap();
    let kept = stream.try_clone().unwrap();
    let stream = TcpStream::from_std(stream).unwrap();
    let running = connection::run(stream, peer, old.context.clone(), Shutdown::new());
    let running = tokio::spawn(running);
    assert_eq!(client.next_status().await, Some(ClientEvent::Publishing));
    let mut before = old.publishes.recv().await.unwrap();
    for (at, payload) in [(0, HEADER), (0, KEYFRAME), (33, FRAME)] {
        client.frame(at, payload).await;
    }
    let seen = frames(&mut before, 3).await;
    assert_eq!(seen, sent(&[(0, HEADER), (0, KEYFRAME), (33, FRAME)]));

    // Not in the middle of a GOP.
    let leaving = tokio::spawn(async move { hand_over.everybody(Duration::from_secs(10)).await });
    tokio::task::yield_now().await;
    client.frame(66, FRAME).await;
    assert_eq!(frames(&mut before, 1).await, sent(&[(66, FRAME)]));
    client.frame(100, KEYFRAME).await;
    client.frame(133, FRAME).await;
    let ended = before.events.recv().await;
    assert_eq!(ended, Some(PublishEvent::Ended(EndReason::HandedOver)));
    assert!(leaving.await.unwrap());
    running.await.unwrap();
    let mut buffer = [0; 128];
    let count = heard.recv(&mut buffer).unwrap();
    let told = std::str::from_utf8(&buffer[..count]).unwrap();
    let name = told.strip_prefix("FDSTORE=1\nFDNAME=").unwrap();
    let file = std::fs::read(dir.path().join("places").join(name)).unwrap();
    assert!(!String::from_utf8_lossy(&file).contains(KEY));

    // A process that ends before it serves leaves the publisher to the next.
    for ends_early in [true, false] {
        let mut handed = HandedOver::from_config(&places, &mut Inherited::none()).unwrap();
        handed
            .take(name.to_owned(), kept.try_clone().unwrap())
            .unwrap();
        let publishers = handed.publishers();
        assert_eq!(publishers.len(), 1);
        assert_eq!(publishers[0].place.channel().unwrap().as_str(), "news");
        if !ends_early {
            handed.arrived(&manager);
        }
        assert_eq!(dir.path().join("places").join(name).exists(), ends_early);
    }
    let mut buffer = [0; 128];
    let count = heard.recv(&mut buffer).unwrap();
    let removed = format!("FDSTOREREMOVE=1\nFDNAME={name}");
    assert_eq!(&buffer[..count], removed.as_bytes());
    let place: Place = serde_json::from_slice(&file).unwrap();

    let mut new = process(None);
    let stream = TcpStream::from_std(kept).unwrap();
    let shutdown = Shutdown::new();
    let going_on = connection::go_on(stream, peer, place, new.context.clone(), shutdown.clone());
    let going_on = tokio::spawn(going_on);
    let mut after = new.publishes.recv().await.unwrap();
    assert_eq!(after.channel.to_string(), "news");
    client.frame(166, FRAME).await;
    let wanted = [(0, HEADER), (100, KEYFRAME), (133, FRAME), (166, FRAME)];
    assert_eq!(frames(&mut after, 4).await, sent(&wanted));
    shutdown.drain();
    let status = client.next_status().await;
    assert!(
        matches!(status, Some(ClientEvent::Rejected { .. }) | None),
        "{status:?}"
    );
    drop(client);
    going_on.await.unwrap();
}
