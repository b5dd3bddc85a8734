use std::time::Instant;

use super::super::enhanced::Capabilities;
use super::super::{ServerEvent, ServerSession};
use super::*;

const FFMPEG: &[u8] = include_bytes!("fixtures/ffmpeg-5.1.bin");
const RTMP2SINK: &[u8] = include_bytes!("fixtures/rtmp2sink-1.22.bin");
const OBS: &[u8] = include_bytes!("fixtures/obs-29-beginning.bin");

fn read_back(suspended: &Suspended) -> Suspended {
    serde_json::from_str(&serde_json::to_string(suspended).unwrap()).unwrap()
}

/// The events of a recording, at a server that goes to another process behind
/// every `every`th message, and how often it did.
fn replay(mut recording: &[u8], every: usize) -> (Vec<ServerEvent>, usize) {
    let now = Instant::now();
    let mut server = ServerSession::new(1, Capabilities::default(), now);
    let (mut events, mut moves) = (Vec::new(), 0);
    while let Some(event) = server.next_event(&mut recording, now).unwrap() {
        if matches!(event, ServerEvent::Publish(_)) {
            server.accept_publish(now);
        }
        let media = matches!(event, ServerEvent::Media(_));
        events.push(event);
        server.take_output();
        if media && events.len().is_multiple_of(every) {
            let offset = server.offset();
            let suspended = read_back(&server.suspended().unwrap());
            server = ServerSession::resumed(suspended, Capabilities::default(), now).unwrap();
            assert!(server.is_publishing() && server.offset() == offset);
            moves += 1;
        }
    }
    (events, moves)
}

#[test]
fn a_session_goes_on_in_another_process_at_any_message() {
    for (name, recording) in [("ffmpeg", FFMPEG), ("rtmp2sink", RTMP2SINK), ("OBS", OBS)] {
        let (events, none) = replay(recording, usize::MAX);
        assert_eq!(none, 0);
        for every in [1, 7] {
            let (again, moves) = replay(recording, every);
            assert!(moves > 5, "{name}: {moves}");
            assert_eq!(again, events, "{name}, every {every}");
        }
    }
}

/// A message of another chunk stream is half read when the session moves.
#[test]
fn a_half_read_message_moves_along() {
    let now = Instant::now();
    let mut server = ServerSession::new(1, Capabilities::default(), now);
    let mut rest = FFMPEG;
    while let Some(event) = server.next_event(&mut rest, now).unwrap() {
        match event {
            ServerEvent::Publish(_) => server.accept_publish(now),
            ServerEvent::Media(_) => break,
            _ => {}
        }
    }
    server.take_output();
    // Chunk stream 60, stream 1: an audio message of which one chunk is here, and
    // behind that a whole one of two bytes on chunk stream 61.
    let chunk = server.suspended().unwrap().chunk_size;
    let length = chunk + 72;
    let [_, high, middle, low] = u32::try_from(length).unwrap().to_be_bytes();
    let mut bytes = vec![60, 0, 0, 5, high, middle, low, 8, 1, 0, 0, 0];
    bytes.extend(std::iter::repeat_n(7, chunk));
    bytes.extend([61, 0, 0, 6, 0, 0, 2, 8, 1, 0, 0, 0, 0xaf, 1]);
    let small = server.next_event(&mut &bytes[..], now).unwrap();
    assert!(matches!(&small, Some(ServerEvent::Media(media)) if media.payload.len() == 2));
    let suspended = read_back(&server.suspended().unwrap());
    let mut server = ServerSession::resumed(suspended, Capabilities::default(), now).unwrap();
    assert_eq!(server.partial_bytes(), chunk);
    let mut end = vec![0xc0 | 60];
    end.extend(std::iter::repeat_n(8, 72));
    let long = server.next_event(&mut &end[..], now).unwrap();
    let Some(ServerEvent::Media(media)) = long else {
        panic!("{long:?}")
    };
    assert_eq!((media.payload.len(), media.timestamp_ms), (length, 5));
    assert_eq!((media.payload[chunk - 1], media.payload[chunk]), (7, 8));
}

#[test]
fn what_no_session_ever_was_is_refused() {
    let now = Instant::now();
    assert_eq!(
        ServerSession::new(1, Capabilities::default(), now).suspended(),
        None
    );
    let sound = Suspended {
        app: "live".into(),
        streams: 1,
        fc_publish: true,
        publishing: 1,
        ack_every_bytes: 1_250_000,
        acked_bytes: 5,
        offset: 9,
        chunk_size: 4096,
        chunk_streams: vec![SuspendedStream {
            id: 4,
            timestamp_ms: 0,
            delta_ms: 0,
            extended: false,
            length: 4,
            type_id: 9,
            stream_id: 1,
            partial: Some(BASE64.encode([1, 2])),
        }],
    };
    let resumes = |change: fn(&mut Suspended)| {
        let mut changed = sound.clone();
        change(&mut changed);
        ServerSession::resumed(changed, Capabilities::default(), now).is_some()
    };
    assert!(resumes(|_| {}));
    let unsound: [fn(&mut Suspended); 8] = [
        |it| it.chunk_size = 0,
        |it| it.chunk_size = 1 << 20,
        |it| it.acked_bytes = 10,
        |it| it.ack_every_bytes = 0,
        |it| it.chunk_streams[0].partial = Some("not base64".into()),
        |it| it.chunk_streams[0].partial = Some(BASE64.encode([0; 9])),
        |it| it.chunk_streams[0].length = MAX_MESSAGE_BYTES + 1,
        |it| it.chunk_streams = vec![it.chunk_streams[0].clone(); MAX_CHUNK_STREAMS + 1],
    ];
    for (index, change) in unsound.into_iter().enumerate() {
        assert!(!resumes(change), "{index}");
    }
}
