use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    decode::{MAX_HOPS, MAX_INDEX_SEGMENTS},
    encode::chunk_header,
    frame::{Decoder, Frame, MAX_CHUNK_BYTES, MAX_CONTROL_BYTES, MAX_SKIPPED_BYTES, kind},
    message::*,
    wire::{VARINT_MAX, WireError, put_int},
};
use crate::{
    live::{
        About, Announcement, Chunk, Crowd, Health, Hint, PartEnd, PartFlags, Phase, Position,
        SegmentEnd, SegmentFlags, SegmentHead, UnixMs,
    },
    media::Ticks,
    names::{BroadcastId, ChannelName, Epoch, InitId, Msn, NodeId, TrackName},
    tls::Role,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decoded(bytes: Bytes) -> Result<Vec<Message>, WireError> {
    let mut input = bytes;
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    while let Some(frame) = decoder.next(&mut input)? {
        messages.push(Message::decode(frame)?);
    }
    Ok(messages)
}

fn head() -> SegmentHead {
    SegmentHead {
        epoch: Epoch(5),
        msn: Msn(100),
        init: InitId(1),
        dts: Ticks(120_000),
        program_time: UnixMs(1_700_000_000_000),
        discontinuity_sequence: 3,
        flags: SegmentFlags {
            discontinuity: true,
            gap: false,
        },
    }
}

/// The protocol's bytes, which no change of this code may move.
#[test]
fn golden_bytes() {
    let demo = ChannelName::parse("demo").unwrap();
    let node = NodeId::parse("o-1").unwrap();
    let end = PartEnd {
        duration: Ticks(40_000),
        flags: PartFlags {
            independent: true,
            gap: false,
        },
        hint: Hint {
            msn: Msn(100),
            part: 1,
        },
        siblings: [Position {
            track: TrackName::audio(0),
            msn: Msn(100),
            part: 2,
        }]
        .into(),
    };
    let cases = [
        (
            Message::Hello(Hello {
                node: node.clone(),
                role: Role::Edge,
                region: "eu".to_owned(),
                location: String::new(),
                cost: 10,
                max_chunk_bytes: 65_536,
            }),
            "010e036f2d310102657500 0a80010000",
        ),
        (
            Message::Watch {
                prefix: String::new(),
            },
            "020100",
        ),
        (
            Message::Live(Announcement {
                channel: demo.clone(),
                broadcast: BroadcastId(5),
                epoch: Epoch(6),
                phase: Phase::Lost,
                hops: vec![node.clone()],
                cost: 1,
                grace_ms: 20,
            }),
            "030f 0464656d6f 05 06 01 01 01 036f2d31 14",
        ),
        (
            Message::About {
                channel: demo.clone(),
                broadcast: BroadcastId(5),
                about: Arc::new(About {
                    title: "Hi".to_owned(),
                    tags: vec!["a".to_owned()],
                    health: Some(Health {
                        fps_tenths: Some(299),
                        gop_ms: None,
                        dropped_samples: 2,
                        jitter_ms: 3,
                    }),
                }),
            },
            "0a12 0464656d6f 05 024869 01 0161 01 412c 00 02 03",
        ),
        (
            Message::Audience(vec![(
                demo.clone(),
                Crowd {
                    viewers: 7,
                    chatters: 1,
                },
            )]),
            "0b08 01 0464656d6f 07 01",
        ),
        (
            Message::Hearsay(Heard {
                origin: node.clone(),
                linked: true,
                crowds: vec![(
                    demo.clone(),
                    Crowd {
                        viewers: 7,
                        chatters: 1,
                    },
                )],
            }),
            "0c0d 036f2d31 01 01 0464656d6f 07 01",
        ),
        (
            Message::Subscribe(Subscribe {
                subscription: 1,
                channel: demo.clone(),
                broadcast: Some(BroadcastId(5)),
                target: Target::Track(TrackName::video(0)),
                start: Start::At {
                    msn: Msn(100),
                    chunk: 7,
                },
                priority: 128,
                max_age_ms: 3_000,
                hops: vec![node],
            }),
            "1016 01 0464656d6f 06 027630 4065 07 4080 4bb8 01 036f2d31",
        ),
        (
            Message::Dropped {
                from: Msn(1),
                to: Msn(2),
                code: Code::TooFarBehind,
            },
            "1503 01 02 08",
        ),
        (
            Message::Ended {
                last: Some(Msn(100)),
            },
            "1602 4065",
        ),
        (
            Message::Segment(SegmentStart {
                subscription: 1,
                head: head(),
                first_chunk: 0,
            }),
            "2014 01 05 4064 03 01 8001d4c0 c000018bcfe56800 01 00",
        ),
        (
            Message::Chunk(Chunk {
                duration: Ticks(4_000),
                data: Bytes::from_static(b"moof"),
            }),
            "2106 4fa0 6d6f6f66",
        ),
        (
            Message::Part { index: 0, end },
            "2210 00 80009c40 01 4064 01 01 026130 4064 02",
        ),
        (
            Message::End(SegmentEnd {
                chunks: 10,
                bytes: 5_000,
                crc32c: 0xdead_beef,
            }),
            "230b 0a 5388 c0000000deadbeef",
        ),
        (
            Message::Fetch(Fetch {
                channel: demo.clone(),
                broadcast: BroadcastId(5),
                track: TrackName::video(0),
                msn: Msn(99),
                first_chunk: 0,
            }),
            "300c 0464656d6f 05 027630 4063 00",
        ),
        (
            Message::GoAway {
                drain_ms: 3_000,
                alternatives: vec!["b:1".to_owned()],
            },
            "0607 4bb8 01 03623a31",
        ),
    ];
    for (message, golden) in cases {
        let bytes = message.encode();
        let golden = golden.replace(' ', "");
        assert_eq!(hex(&bytes), golden, "{message:?}");
        assert_eq!(decoded(bytes).unwrap(), [message]);
    }
}

#[test]
fn a_chunk_goes_out_as_header_and_payload() {
    let chunk = Chunk {
        duration: Ticks(4_004),
        data: Bytes::from(vec![9; 70_000]),
    };
    let mut pieces = chunk_header(&chunk).to_vec();
    pieces.extend_from_slice(&chunk.data);
    assert_eq!(pieces, Message::Chunk(chunk).encode());
}

#[test]
fn lengths_are_bounded_before_anything_is_allocated() {
    for (kind, most) in [
        (kind::WATCH, MAX_CONTROL_BYTES as u64),
        (kind::CHUNK, MAX_CHUNK_BYTES as u64 + 8),
        (0x3f, MAX_SKIPPED_BYTES),
    ] {
        for (len, fits) in [(most, true), (most + 1, false), (VARINT_MAX, false)] {
            let mut header = BytesMut::new();
            put_int(&mut header, kind);
            put_int(&mut header, len);
            let outcome = Decoder::default().next(&mut header.freeze());
            assert_eq!(outcome.is_ok(), fits, "{kind:#x} {len}");
        }
    }
}

#[test]
fn counts_are_bounded_by_what_is_there() {
    // A thousand segments announced, none there.
    let mut body = BytesMut::new();
    put_int(&mut body, 1);
    put_int(&mut body, MAX_INDEX_SEGMENTS as u64);
    let frame = |kind, body: &BytesMut| Frame {
        kind,
        body: body.clone().freeze(),
    };
    let error = Message::decode(frame(kind::INDEX, &body)).unwrap_err();
    assert!(matches!(error, WireError::Truncated { .. }), "{error}");

    let mut live = BytesMut::new();
    live.extend_from_slice(b"\x04demo\x05\x06\x00\x01");
    put_int(&mut live, MAX_HOPS as u64 + 1);
    live.extend_from_slice(&b"\x01a".repeat(MAX_HOPS + 1));
    let error = Message::decode(frame(kind::LIVE, &live)).unwrap_err();
    assert!(matches!(error, WireError::TooMuch { .. }), "{error}");
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&Frame::encode(0x50, b"new"));
    // SNAPSHOT with a field that this version does not know.
    bytes.extend_from_slice(&Frame::encode(kind::SNAPSHOT, &[3, 9, 9]));
    bytes.extend_from_slice(&Frame::encode(0x1234, &[0; 5_000]));
    bytes.extend_from_slice(&Frame::encode(kind::WATCH, &[0]));
    let messages = decoded(bytes.freeze()).unwrap();
    let watch = Message::Watch {
        prefix: String::new(),
    };
    assert_eq!(messages, [Message::Snapshot { channels: 3 }, watch]);
}

#[test]
fn an_index_must_rise_and_end_before_what_is_streamed() {
    let segment = |msn| IndexedSegment {
        head: SegmentHead {
            msn: Msn(msn),
            ..head()
        },
        parts: Vec::new(),
        summed: false,
        crc32c: 0,
        tail: None,
    };
    let decodes = |msns: &[u64]| {
        let index = Message::Index(Index {
            next: Msn(10),
            segments: msns.iter().map(|msn| segment(*msn)).collect(),
        });
        decoded(index.encode()).is_ok()
    };
    assert!(decodes(&[7, 9]));
    for bad in [&[9, 7][..], &[7, 7], &[10]] {
        assert!(!decodes(bad), "{bad:?}");
    }
}

/// A node of before says nothing of the grace; one of later more than is known.
#[test]
fn live_may_end_early_and_go_on() {
    let known = b"\x04demo\x05\x06\x0c\x01\x01\x03o-1";
    for (more, grace_ms) in [(&[][..], 10_000), (&[20, 5], 20)] {
        let body = [known, more].concat();
        let frame = Frame::encode(kind::LIVE, &body);
        let live = decoded(frame).unwrap().remove(0);
        assert!(
            matches!(&live, Message::Live(live)
                if (live.phase, live.grace_ms) == (Phase::Starting, grace_ms)),
            "{live:?}"
        );
    }
}
