use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::chunk::{ChunkReader, ChunkWriter};
use super::super::client::{ClientConfig, ClientEvent, ClientSession};
use super::super::limits::{MAX_OUTPUT_BYTES, MIN_ACK_EVERY_BYTES};
use super::*;

fn offered() -> Capabilities {
    Capabilities::forwarding(&["avc1"], &["mp4a"])
}

fn config() -> ClientConfig {
    ClientConfig {
        app: "live".to_owned(),
        tc_url: "rtmp://localhost/live".to_owned(),
        key: "demo?a=b".to_owned(),
        chunk_size: 4096,
        capabilities: Capabilities::default(),
        seed: 1,
    }
}

/// A server past the handshake, and a writer and reader for a scripted peer.
struct Peer {
    server: ServerSession,
    now: Instant,
    writer: ChunkWriter,
    reader: ChunkReader,
}

impl Peer {
    fn new() -> Self {
        let now = Instant::now();
        let mut server = ServerSession::new(1, offered(), now);
        let bytes = [vec![3], vec![0; 3072]].concat();
        assert_eq!(server.next_event(&mut &bytes[..], now), Ok(None));
        assert_eq!(server.take_output().len(), 3073);
        Self {
            server,
            now,
            writer: ChunkWriter::new(),
            reader: ChunkReader::new(PUBLISHER),
        }
    }

    fn connected() -> Self {
        let mut peer = Self::new();
        let app = Value::Object(vec![("app".into(), "live".into())]);
        let events = peer.call(0, &["connect".into(), 1.0.into(), app]).unwrap();
        assert!(matches!(&events[..], [ServerEvent::Connect(request)] if request.app == "live"));
        peer.replies();
        peer
    }

    fn publishing() -> Self {
        let mut peer = Self::connected();
        peer.publish("demo").unwrap();
        peer.server.accept_publish(peer.now);
        peer.replies();
        peer
    }

    fn publish(&mut self, key: &str) -> Result<Vec<ServerEvent>, RtmpError> {
        let values = [
            "publish".into(),
            5.0.into(),
            Value::Null,
            key.into(),
            "live".into(),
        ];
        self.call(1, &values)
    }

    fn call(&mut self, stream_id: u32, values: &[Value]) -> Result<Vec<ServerEvent>, RtmpError> {
        self.send(&message::command(stream_id, values))
    }

    fn send(&mut self, message: &Message) -> Result<Vec<ServerEvent>, RtmpError> {
        let mut out = BytesMut::new();
        self.writer.write(3, message, &mut out);
        self.push(&out)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<ServerEvent>, RtmpError> {
        let mut input = bytes;
        let mut events = Vec::new();
        while let Some(event) = self.server.next_event(&mut input, self.now)? {
            events.push(event);
        }
        Ok(events)
    }

    /// What the server sent: control messages as their type, commands with the
    /// code of their status, if they have one.
    fn replies(&mut self) -> Vec<String> {
        let out = self.server.take_output();
        let mut input = &out[..];
        let mut replies = Vec::new();
        while let Some(message) = self.reader.next_message(&mut input).unwrap() {
            if message.type_id == message::SET_CHUNK_SIZE {
                let size = message.payload[..].try_into().unwrap();
                self.reader
                    .set_chunk_size(u32::from_be_bytes(size))
                    .unwrap();
            }
            if message.type_id != message::COMMAND_AMF0 {
                replies.push(format!("type {}", message.type_id));
                continue;
            }
            let command = Command::decode(&message).unwrap();
            let info = command.arguments.get(1);
            let code = info
                .and_then(|info| info.get("code"))
                .and_then(Value::as_str);
            replies.push(match code {
                Some(code) => format!("{} {code}", command.name),
                None => command.name,
            });
        }
        replies
    }
}

fn media(type_id: u8, timestamp_ms: u32, payload: &'static [u8]) -> Message {
    Message {
        type_id,
        stream_id: 1,
        timestamp_ms,
        payload: Bytes::from_static(payload),
    }
}

#[test]
fn fmle_flow_publishes_and_unpublishes() {
    let mut peer = Peer::new();
    let app = Value::Object(vec![
        ("app".into(), "/live/?token=1".into()),
        ("tcUrl".into(), "rtmp://host/live".into()),
    ]);
    let events = peer.call(0, &["connect".into(), 1.0.into(), app]).unwrap();
    let [ServerEvent::Connect(request)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(request.app, "live");
    assert_eq!(
        peer.replies(),
        [
            "type 5",
            "type 6",
            "type 1",
            "_result NetConnection.Connect.Success"
        ]
    );
    for (name, transaction) in [("releaseStream", 2.0), ("FCPublish", 3.0)] {
        let values = [name.into(), transaction.into(), Value::Null, "demo".into()];
        assert_eq!(peer.call(0, &values), Ok(vec![]));
        assert_eq!(peer.replies(), ["_result"]);
    }
    peer.call(0, &["createStream".into(), 4.0.into(), Value::Null])
        .unwrap();
    assert_eq!(peer.replies(), ["_result"]);

    let events = peer.publish("demo?key=1&b").unwrap();
    let request = PublishRequest {
        app: "live".into(),
        key: "demo".into(),
        query: Some("key=1&b".into()),
    };
    assert_eq!(events, [ServerEvent::Publish(request)]);
    // Nothing is said, and no media passes, before the owner decides.
    assert_eq!(peer.send(&media(8, 0, b"early")), Ok(vec![]));
    assert!(peer.replies().is_empty());
    peer.server.accept_publish(peer.now);
    assert_eq!(
        peer.replies(),
        [
            "type 4",
            "onFCPublish NetStream.Publish.Start",
            "onStatus NetStream.Publish.Start"
        ]
    );
    let events = peer.send(&media(9, 40, b"frame")).unwrap();
    let frame = MediaMessage {
        kind: MediaKind::Video,
        timestamp_ms: 40,
        stream_id: 1,
        payload: Bytes::from_static(b"frame"),
    };
    assert_eq!(events, [ServerEvent::Media(frame)]);

    let values = ["FCUnpublish".into(), 6.0.into(), Value::Null, "demo".into()];
    assert_eq!(peer.call(0, &values), Ok(vec![ServerEvent::Unpublish]));
    assert_eq!(
        peer.replies(),
        ["_result", "onStatus NetStream.Unpublish.Success"]
    );
    let values = ["deleteStream".into(), 7.0.into(), Value::Null, 1.0.into()];
    assert_eq!(peer.call(0, &values), Ok(vec![]));
    assert_eq!(peer.send(&media(9, 80, b"late")), Ok(vec![]));
}

#[test]
fn a_rejected_publish_never_starts() {
    let mut peer = Peer::connected();
    peer.publish("wrong").unwrap();
    peer.server
        .reject_publish("NetStream.Publish.BadName", "no such key", peer.now);
    assert_eq!(peer.replies(), ["onStatus NetStream.Publish.BadName"]);
    peer.server.accept_publish(peer.now);
    assert!(peer.replies().is_empty());
    assert_eq!(peer.send(&media(8, 0, b"x")), Ok(vec![]));
}

#[test]
fn streams_are_ended_by_their_own_commands_only() {
    let delete = |id: f64| ["deleteStream".into(), 0.0.into(), Value::Null, id.into()];
    let mut peer = Peer::publishing();
    assert_eq!(peer.call(0, &delete(2.0)), Ok(vec![]));
    assert_eq!(peer.call(0, &delete(1.0)), Ok(vec![ServerEvent::Unpublish]));
    let mut peer = Peer::publishing();
    let close = ["closeStream".into(), 0.0.into(), Value::Null];
    assert_eq!(peer.call(1, &close), Ok(vec![ServerEvent::Unpublish]));
    // The connection may publish again.
    assert_eq!(peer.publish("demo").unwrap().len(), 1);
}

#[test]
fn play_and_unknown_calls_are_refused_in_words() {
    let mut peer = Peer::connected();
    peer.call(1, &["play".into(), 0.0.into(), Value::Null, "demo".into()])
        .unwrap();
    assert_eq!(peer.replies(), ["onStatus NetStream.Play.Failed"]);
    peer.call(0, &["mystery".into(), 9.0.into()]).unwrap();
    assert_eq!(peer.replies(), ["_error NetConnection.Call.Failed"]);
    peer.call(0, &["mystery".into(), 0.0.into()]).unwrap();
    assert!(peer.replies().is_empty());
    peer.publish("demo").unwrap();
    peer.server.accept_publish(peer.now);
    peer.replies();
    assert_eq!(peer.publish("other"), Ok(vec![]));
    assert_eq!(peer.replies(), ["onStatus NetStream.Publish.BadName"]);
    assert!(peer.server.is_publishing());
}

#[test]
fn metadata_is_decoded_and_other_data_passes() {
    let mut peer = Peer::publishing();
    let properties = vec![("width".to_owned(), Value::from(640.0))];
    let array = Value::EcmaArray(properties.clone());
    for handler in [
        &["@setDataFrame".into(), "onMetaData".into()][..],
        &["onMetaData".into()],
    ] {
        let values = [handler, std::slice::from_ref(&array)].concat();
        for type_id in [message::DATA_AMF0, message::DATA_AMF3] {
            let mut data = message::data(1, 0, &values);
            data.type_id = type_id;
            if type_id == message::DATA_AMF3 {
                data.payload = [&[0], &data.payload[..]].concat().into();
            }
            let events = peer.send(&data);
            assert_eq!(events, Ok(vec![ServerEvent::Metadata(properties.clone())]));
        }
    }
    let cue = message::data(1, 5, &["onCuePoint".into(), Value::Null]);
    let events = peer.send(&cue).unwrap();
    assert!(matches!(&events[..], [ServerEvent::Media(m)] if m.kind == MediaKind::Data));
}

#[test]
fn type_17_commands_are_amf0_behind_a_zero() {
    let mut peer = Peer::connected();
    let mut publish = message::command(1, &["publish".into(), 5.0.into(), Value::Null, "k".into()]);
    publish.type_id = message::COMMAND_AMF3;
    publish.payload = [&[0], &publish.payload[..]].concat().into();
    let events = peer.send(&publish).unwrap();
    assert!(matches!(&events[..], [ServerEvent::Publish(request)] if request.key == "k"));
}

#[test]
fn aggregates_come_apart() {
    let mut peer = Peer::publishing();
    let mut body = Vec::new();
    for (type_id, time_ms, payload) in [(8u8, 1000u32, "a"), (9, 1020, "bb")] {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let time = time_ms.to_be_bytes();
        body.push(type_id);
        body.extend(&length[1..]);
        body.extend([time[1], time[2], time[3], time[0], 0, 0, 0]);
        body.extend(payload.as_bytes());
        body.extend((11 + u32::from(length[3])).to_be_bytes());
    }
    let aggregate = Message {
        type_id: message::AGGREGATE,
        stream_id: 1,
        timestamp_ms: 5000,
        payload: body.clone().into(),
    };
    let events = peer.send(&aggregate).unwrap();
    let seen: Vec<_> = events
        .iter()
        .map(|event| match event {
            ServerEvent::Media(m) => (m.kind, m.timestamp_ms, m.payload.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        seen,
        [(MediaKind::Audio, 5000, 1), (MediaKind::Video, 5020, 2)]
    );

    body.truncate(20);
    let truncated = Message {
        payload: body.into(),
        ..aggregate
    };
    assert_eq!(
        peer.send(&truncated).unwrap_err().kind,
        ErrorKind::Aggregate
    );
}

#[test]
fn enhanced_connect_is_answered_and_a_plain_one_is_not() {
    let mut client = config();
    for asked in [
        Capabilities::default(),
        Capabilities::forwarding(&["hvc1"], &["Opus"]),
    ] {
        client.capabilities = asked.clone();
        let (events, server_events) = converse(client.clone(), 1);
        let [ServerEvent::Connect(request), ..] = &server_events[..] else {
            panic!("{server_events:?}");
        };
        assert_eq!(request.capabilities, asked);
        let expected = if asked.is_empty() { asked } else { offered() };
        assert_eq!(events[0], ClientEvent::Connected(expected));
    }
}

/// Runs our client against our server, `cut` bytes at a time, until both are
/// silent; every publish is accepted.
fn converse(config: ClientConfig, cut: usize) -> (Vec<ClientEvent>, Vec<ServerEvent>) {
    let now = Instant::now();
    let mut client = ClientSession::new(config);
    let mut server = ServerSession::new(2, offered(), now);
    let (mut client_events, mut server_events) = (Vec::new(), Vec::new());
    while client.has_output() || server.has_output() {
        for mut bytes in client.take_output().chunks(cut) {
            while let Some(event) = server.next_event(&mut bytes, now).unwrap() {
                if let ServerEvent::Publish(_) = event {
                    server.accept_publish(now);
                }
                server_events.push(event);
            }
        }
        for mut bytes in server.take_output().chunks(cut) {
            while let Some(event) = client.next_event(&mut bytes).unwrap() {
                if event == ClientEvent::Publishing {
                    client.send_metadata(vec![("width".into(), 1.0.into())]);
                    let payload = Bytes::from(vec![7; 10_000]);
                    client.send_media(MediaKind::Video, 40, payload.clone());
                    client.send_media(MediaKind::Audio, 41, payload.slice(..300));
                    client.send_media(MediaKind::Audio, 64, payload.slice(..300));
                    client.unpublish();
                }
                client_events.push(event);
            }
        }
    }
    (client_events, server_events)
}

#[test]
fn our_client_publishes_to_our_server_however_it_is_cut() {
    let whole = converse(config(), usize::MAX);
    let (client, server) = &whole;
    assert_eq!(client.len(), 2);
    assert!(matches!(server[0], ServerEvent::Connect(_)));
    assert!(matches!(&server[1], ServerEvent::Publish(r) if r.key == "demo"));
    assert!(matches!(server[2], ServerEvent::Metadata(_)));
    let times: Vec<_> = server[3..6]
        .iter()
        .map(|event| match event {
            ServerEvent::Media(m) => (m.kind, m.timestamp_ms, m.payload.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        times,
        [
            (MediaKind::Video, 40, 10_000),
            (MediaKind::Audio, 41, 300),
            (MediaKind::Audio, 64, 300)
        ]
    );
    assert_eq!(server[6..], [ServerEvent::Unpublish]);
    for cut in [1, 2, 7, 1000] {
        assert_eq!(converse(config(), cut), whole);
    }
}

#[test]
fn pings_are_answered_and_windows_acknowledged() {
    let mut peer = Peer::connected();
    let control = |type_id, payload: &'static [u8]| Message {
        type_id,
        stream_id: 0,
        timestamp_ms: 0,
        payload: Bytes::from_static(payload),
    };
    peer.send(&control(4, b"\x00\x06\x00\x00\x00\x2a")).unwrap();
    assert_eq!(peer.replies(), ["type 4"]);
    // A window of zero is tolerated, one of a byte is not taken at its word.
    for window in [&b"\0\0\0\0"[..], b"\0\0\0\x01"] {
        peer.send(&control(5, window)).unwrap();
        assert!(peer.replies().len() <= 1);
    }
    let payload = vec![0; MIN_ACK_EVERY_BYTES as usize];
    peer.writer.set_chunk_size(65_536);
    peer.send(&control(1, b"\0\x01\0\0")).unwrap();
    peer.replies();
    let mut audio = media(8, 0, b"");
    audio.payload = payload.into();
    peer.send(&audio).unwrap();
    assert_eq!(peer.replies(), ["type 3"]);
}

#[test]
fn hostile_messages_are_errors() {
    type Row = (u8, &'static [u8], fn(&ErrorKind) -> bool);
    let table: [Row; 12] = [
        (1, b"\0\0\0\0", |k| *k == ErrorKind::ChunkSize(0)),
        (1, b"\x80\0\0\0", |k| *k == ErrorKind::ChunkSize(1 << 31)),
        (1, b"\0\x01\0\x01", |k| *k == ErrorKind::ChunkSize(65_537)),
        (1, b"\0\0", |k| *k == ErrorKind::ControlLength(1)),
        (2, b"", |k| *k == ErrorKind::ControlLength(2)),
        (4, b"\0", |k| *k == ErrorKind::ControlLength(4)),
        (4, b"\0\x06\0", |k| *k == ErrorKind::ControlLength(4)),
        (5, b"\0\0\0", |k| *k == ErrorKind::ControlLength(5)),
        (20, b"", |k| matches!(k, ErrorKind::Command(_))),
        (20, b"\x02\xff\xffx", |k| matches!(k, ErrorKind::Amf(_))),
        (17, b"\0\x11", |k| matches!(k, ErrorKind::Amf(_))),
        (18, b"\x0a\xff\xff\xff\xff", |k| {
            matches!(k, ErrorKind::Amf(_))
        }),
    ];
    for (type_id, payload, expected) in table {
        let mut peer = Peer::publishing();
        let error = peer.send(&media(type_id, 0, payload)).unwrap_err();
        assert!(expected(&error.kind), "{type_id} {payload:?}: {error}");
        assert!(error.offset > 3073);
        assert!(ErrorKind::LABELS.contains(&error.kind.label()));
    }
}

#[test]
fn commands_out_of_order_are_errors() {
    let early = Peer::new().publish("demo").unwrap_err();
    assert_eq!(early.kind, ErrorKind::Command("publish".into()));
    let again = Peer::connected().call(0, &["connect".into(), 1.0.into()]);
    assert_eq!(
        again.unwrap_err().kind,
        ErrorKind::Command("connect".into())
    );
    let nameless = Peer::connected().call(1, &["publish".into(), 5.0.into(), Value::Null]);
    assert_eq!(
        nameless.unwrap_err().kind,
        ErrorKind::Command("publish".into())
    );
}

#[test]
fn a_stranger_may_send_less_than_a_publisher() {
    let header = |length: &[u8]| [&[4, 0, 0, 0], length, &[9, 1, 0, 0, 0]].concat();
    let mut peer = Peer::connected();
    let error = peer.push(&header(&[0, 0x80, 1])).unwrap_err();
    assert_eq!(error.kind.label(), "message_too_long");
    let mut peer = Peer::publishing();
    assert_eq!(peer.push(&header(&[0x80, 0, 0])), Ok(vec![]));
    let mut peer = Peer::publishing();
    let error = peer.push(&header(&[0x80, 0, 1])).unwrap_err();
    assert_eq!(error.kind.label(), "message_too_long");
}

#[test]
fn streams_and_replies_are_bounded() {
    let mut peer = Peer::connected();
    let create = ["createStream".into(), 4.0.into(), Value::Null];
    for _ in 0..MAX_MESSAGE_STREAMS {
        peer.call(0, &create).unwrap();
    }
    assert_eq!(peer.server.streams, MAX_MESSAGE_STREAMS);
    peer.replies();
    peer.call(0, &create).unwrap();
    assert_eq!(peer.replies(), ["_error NetConnection.Call.Failed"]);
    // A peer that asks on and never reads.
    let error = loop {
        if let Err(error) = peer.call(0, &["what".into(), 1.0.into()]) {
            break error;
        }
    };
    assert_eq!(error.kind.label(), "output");
    assert!(peer.server.take_output().len() < MAX_OUTPUT_BYTES + 1024);
}

#[test]
fn deadlines_follow_the_stage() {
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let mut server = ServerSession::new(0, offered(), start);
    // Dripped bytes do not move the handshake's deadline.
    for tick in 0..5 {
        let now = start + second * tick;
        assert_eq!(server.check(now), Ok(()));
        server.next_event(&mut &[3][..], now).unwrap();
    }
    let late = server.check(start + 5 * second).unwrap_err();
    assert_eq!((late.kind, late.offset), (ErrorKind::HandshakeDeadline, 5));

    let mut peer = Peer::connected();
    assert_eq!(peer.server.check(peer.now + 9 * second), Ok(()));
    let late = peer.server.check(peer.now + 10 * second).unwrap_err();
    assert_eq!(late.kind, ErrorKind::PublishDeadline);
    peer.publish("demo").unwrap();
    assert_eq!(peer.server.deadline(), None);
    peer.now += 20 * second;
    peer.server.accept_publish(peer.now);
    assert_eq!(peer.server.check(peer.now + 9 * second), Ok(()));
    // A pause of ours is not the publisher's silence.
    peer.server.resume(peer.now + 5 * second);
    assert_eq!(peer.server.check(peer.now + 14 * second), Ok(()));
    peer.server.resume(peer.now);
    // Half a message is no message.
    peer.now += 9 * second;
    peer.push(&[4, 0, 0, 0, 0, 0, 9, 9, 1, 0, 0, 0, 0xaa])
        .unwrap();
    let late = peer.server.check(peer.now + second).unwrap_err();
    assert_eq!(late.kind, ErrorKind::IdleDeadline);
    peer.push(&[0xaa; 8]).unwrap();
    assert_eq!(peer.server.check(peer.now + 9 * second), Ok(()));
}

proptest! {
    #[test]
    fn any_bytes_after_connect_never_panic(
        bytes in prop::collection::vec(prop_oneof![0..24u8, any::<u8>()], 0..800),
        cut in 1..200usize,
    ) {
        let run = |cut: usize| {
            let mut peer = Peer::publishing();
            let mut events = Vec::new();
            for piece in bytes.chunks(cut) {
                match peer.push(piece) {
                    Ok(more) => events.extend(more),
                    Err(error) => return (events.len(), Some(error)),
                }
            }
            (events.len(), None)
        };
        // An error hides the events before it in its own push, so counts compare
        // only without one; the error and its offset always do.
        let (whole, cut) = (run(usize::MAX), run(cut));
        prop_assert_eq!(&whole.1, &cut.1);
        if whole.1.is_none() {
            prop_assert_eq!(whole.0, cut.0);
        }
    }
}
