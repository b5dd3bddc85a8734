//! Any bytes, in any pieces, at any stage of a publisher's connection: no panic,
//! bounded memory, and the same events as in one piece.
#![no_main]

use std::sync::LazyLock;
use std::time::Instant;

use arbitrary::Arbitrary;
use bytes::Bytes;
use common::rtmp::enhanced::Capabilities;
use common::rtmp::{
    ClientConfig, ClientEvent, ClientSession, MediaKind, RtmpError, ServerEvent, ServerSession,
    limits,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// How far a well-behaved client gets before the bytes begin.
    stage: u8,
    accept: bool,
    cuts: [u8; 4],
    bytes: &'a [u8],
}

/// What our own client sends up to each stage: nothing, the handshake, connect,
/// publish, media.
static PREFIXES: LazyLock<[Vec<u8>; 5]> = LazyLock::new(|| {
    let now = Instant::now();
    let mut client = ClientSession::new(ClientConfig {
        app: "live".into(),
        tc_url: "rtmp://localhost/live".into(),
        key: "demo".into(),
        chunk_size: 4096,
        capabilities: Capabilities::forwarding(&["avc1"], &["mp4a"]),
        seed: 1,
    });
    let mut server = ServerSession::new(2, Capabilities::default(), now);
    let mut sent = Vec::new();
    let mut stages: [Vec<u8>; 5] = Default::default();
    while client.has_output() {
        let bytes = client.take_output();
        sent.extend_from_slice(&bytes);
        if sent.len() >= 3073 && stages[1].is_empty() {
            stages[1] = sent[..3073].to_vec();
        }
        let mut input = &bytes[..];
        while let Ok(Some(event)) = server.next_event(&mut input, now) {
            match event {
                ServerEvent::Connect(_) => stages[2].clone_from(&sent),
                ServerEvent::Publish(_) => {
                    stages[3].clone_from(&sent);
                    server.accept_publish(now);
                }
                _ => {}
            }
        }
        let answers = server.take_output();
        let mut input = &answers[..];
        while let Ok(Some(event)) = client.next_event(&mut input) {
            if event == ClientEvent::Publishing {
                client.send_metadata(vec![("width".into(), 1.0.into())]);
                client.send_media(MediaKind::Video, 40, Bytes::from_static(&[7; 6000]));
                client.send_media(MediaKind::Audio, 41, Bytes::from_static(&[7; 300]));
                client.send_media(MediaKind::Audio, 64, Bytes::from_static(&[7; 300]));
            }
        }
    }
    stages[4] = sent;
    stages
});

/// Events as text, and the error that ended them.
fn run<'a>(
    prefix: &'a [u8],
    accept: bool,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<ServerEvent>, Option<RtmpError>) {
    let now = Instant::now();
    let mut server = ServerSession::new(3, Capabilities::forwarding(&["avc1"], &["mp4a"]), now);
    let mut events = Vec::new();
    for mut piece in std::iter::once(prefix).chain(pieces) {
        loop {
            match server.next_event(&mut piece, now) {
                Ok(None) => break,
                Ok(Some(ServerEvent::Publish(request))) => {
                    assert!(!server.is_publishing());
                    if accept {
                        server.accept_publish(now);
                    } else {
                        server.reject_publish("NetStream.Publish.BadName", "no", now);
                    }
                    events.push(ServerEvent::Publish(request));
                }
                Ok(Some(event)) => events.push(event),
                Err(error) => return (events, Some(error)),
            }
            assert!(server.partial_bytes() <= limits::PARTIAL_BUDGET_BYTES + 65_536);
        }
        assert!(piece.is_empty());
        server.take_output();
    }
    (events, None)
}

fuzz_target!(|input: Input| {
    let prefix = &PREFIXES[usize::from(input.stage) % PREFIXES.len()];
    let whole = run(prefix, input.accept, std::iter::once(input.bytes));
    let mut cuts = input.cuts.iter().cycle();
    let mut rest = input.bytes;
    let pieces = std::iter::from_fn(|| {
        if rest.is_empty() {
            return None;
        }
        let count = usize::from(*cuts.next()?).clamp(1, rest.len());
        let (now, later) = rest.split_at(count);
        rest = later;
        Some(now)
    });
    let cut = run(prefix, input.accept, pieces);
    // The bound on unread replies depends on when they are taken. As text only if
    // need be: it is slow, but NaN is equal to itself there.
    let unread = |error: &RtmpError| error.kind.label() == "output";
    if !whole.1.as_ref().is_some_and(unread) && cut != whole {
        assert_eq!(format!("{cut:?}"), format!("{whole:?}"));
    }
});
