//! Connections on in-memory streams: deadlines in virtual time.

use tokio::io::{DuplexStream, duplex};

use super::*;

impl connection::Stream for DuplexStream {}

/// A connection on an in-memory stream, for virtual time.
fn in_memory() -> (
    DuplexStream,
    RtmpMetrics,
    mpsc::Receiver<Publish>,
    JoinHandle<()>,
) {
    let (ours, theirs) = duplex(64 << 10);
    let metrics = RtmpMetrics::register(&Registry::new());
    let (publishes, receiver) = mpsc::channel(4);
    let context = Arc::new(connection::Context {
        keys: keys(),
        metrics: metrics.clone(),
        publishes,
        admission: admission::Admission::new(&config()),
        offered: Capabilities::default(),
        hand_over: None,
    });
    let peer = SocketAddr::from(([127, 0, 0, 1], 9));
    let task = tokio::spawn(connection::run(theirs, peer, context, Shutdown::new()));
    (ours, metrics, receiver, task)
}

/// Drips a byte each half second until the connection is closed.
async fn drip(stream: &mut DuplexStream, byte: u8) -> Duration {
    let start = Instant::now();
    while stream.write_all(&[byte]).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_dripped_handshake_is_dropped_after_five_seconds() {
    let (mut stream, metrics, _publishes, task) = in_memory();
    stream.write_all(&[3]).await.unwrap();
    let took = drip(&mut stream, 0).await;
    // The close, the lingering second, and the half second of the drip.
    let (least, most) = (Duration::from_secs(5), Duration::from_millis(6_600));
    assert!((least..most).contains(&took), "{took:?}");
    task.await.unwrap();
    let errors = metrics
        .protocol_errors
        .with_label_values(&["handshake_deadline"]);
    assert_eq!(errors.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_publishes_nothing_is_dropped_after_ten_seconds() {
    let (mut stream, metrics, _publishes, task) = in_memory();
    stream
        .write_all(&[vec![3], vec![0; 3072]].concat())
        .await
        .unwrap();
    let start = Instant::now();
    read_to_end(&mut stream).await;
    assert_eq!(start.elapsed().as_secs(), 10);
    drop(stream);
    task.await.unwrap();
    let errors = metrics
        .protocol_errors
        .with_label_values(&["publish_deadline"]);
    assert_eq!(errors.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_drips_is_idle_after_ten_seconds() {
    let (stream, metrics, mut publishes, task) = in_memory();
    let mut client = Client::new(stream, KEY);
    assert_eq!(client.next_status().await, Some(ClientEvent::Publishing));
    let mut publish = publishes.recv().await.unwrap();
    // The header of a message that never ends.
    let header = [4, 0, 0, 0, 0, 0x0f, 0xff, 9, 1, 0, 0, 0];
    client.stream.write_all(&header).await.unwrap();
    let took = drip(&mut client.stream, 0).await;
    assert!((10..12).contains(&took.as_secs()), "{took:?}");
    let end = publish.events.recv().await;
    assert!(matches!(
        end,
        Some(PublishEvent::Ended(EndReason::Protocol(_)))
    ));
    task.await.unwrap();
    let errors = metrics
        .protocol_errors
        .with_label_values(&["idle_deadline"]);
    assert_eq!(errors.get(), 1);
    assert_eq!(metrics.partial_message_bytes.get(), 0);
}

#[tokio::test]
async fn chunk_stream_ids_of_one_connection_are_bounded() {
    let (mut stream, metrics, _publishes, task) = in_memory();
    stream
        .write_all(&[vec![3], vec![0; 3072]].concat())
        .await
        .unwrap();
    for id in 0..=255 {
        let header = [0, id, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0];
        if stream
            .write_all(&[&header[..], &[0; 128]].concat())
            .await
            .is_err()
        {
            break;
        }
    }
    drop(stream);
    task.await.unwrap();
    let errors = metrics
        .protocol_errors
        .with_label_values(&["chunk_streams"]);
    assert_eq!(errors.get(), 1);
    assert_eq!(metrics.partial_message_bytes.get(), 0);
}
