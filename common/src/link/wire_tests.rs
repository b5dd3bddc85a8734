use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, option, prelude::*};

use super::{
    decode::{MAX_HOPS, MAX_INDEX_SEGMENTS},
    encode::chunk_header,
    frame::{Decoder, Frame, MAX_CHUNK_BYTES, MAX_CONTROL_BYTES, MAX_SKIPPED_BYTES, kind},
    message::*,
    wire::{VARINT_MAX, WireError, peek_int, put_int},
};
use crate::{
    live::{
        About, Announcement, BroadcastState, Chunk, Crowd, Health, Hint, PartEnd, PartFlags, Phase,
        Plan, Position, SegmentEnd, SegmentFlags, SegmentHead, Track, UnixMs,
    },
    media::{Ticks, Timescale},
    names::{BroadcastId, ChannelName, Epoch, InitId, Kind, Msn, NodeId, TrackName},
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

prop_compose! {
    fn number()(bits in 0u32..62, value in any::<u64>()) -> u64 { value & (VARINT_MAX >> bits) }
}
prop_compose! {
    fn track_name()(video in any::<bool>(), index in any::<u8>()) -> TrackName {
        TrackName { kind: if video { Kind::Video } else { Kind::Audio }, index }
    }
}
prop_compose! {
    fn channel()(name in "[a-z0-9_]{1,32}") -> ChannelName { ChannelName::parse(&name).unwrap() }
}
prop_compose! {
    fn nodes()(names in vec("[a-z0-9-]{1,63}", 0..=MAX_HOPS)) -> Vec<NodeId> {
        names.iter().map(|name| NodeId::parse(name).unwrap()).collect()
    }
}
prop_compose! {
    fn any_head()(
        numbers in [number(), number(), number(), number(), number()],
        init in any::<u32>(), discontinuity in any::<bool>(), gap in any::<bool>(),
    ) -> SegmentHead {
        SegmentHead {
            epoch: Epoch(numbers[0]),
            msn: Msn(numbers[1]),
            init: InitId(init),
            dts: Ticks(numbers[2]),
            program_time: UnixMs(numbers[3]),
            discontinuity_sequence: numbers[4],
            flags: SegmentFlags { discontinuity, gap },
        }
    }
}
prop_compose! {
    fn flags()(independent in any::<bool>(), gap in any::<bool>()) -> PartFlags {
        PartFlags { independent, gap }
    }
}
prop_compose! {
    fn tail()(
        msn in number(), part in any::<u32>(),
        siblings in vec((track_name(), number(), any::<u32>()), 0..5),
    ) -> Tail {
        let position = |(track, msn, part)| Position { track, msn: Msn(msn), part };
        Tail {
            hint: Hint { msn: Msn(msn), part },
            siblings: siblings.into_iter().map(position).collect(),
        }
    }
}
prop_compose! {
    fn indexed()(
        head in any_head(),
        parts in vec((number(), flags(), any::<u32>(), number()), 0..6),
        crc32c in any::<u32>(), tail in option::of(tail()), summed in any::<bool>(),
    ) -> IndexedSegment {
        let part = |(duration, flags, chunks, len_bytes)| IndexedPart {
            duration: Ticks(duration), flags, chunks, len_bytes,
        };
        let parts: Vec<_> = parts.into_iter().map(part).collect();
        let summed = summed && parts.len() == 1;
        IndexedSegment { head, parts, summed, crc32c, tail }
    }
}
prop_compose! {
    fn index()(segments in vec(indexed(), 0..6)) -> Index {
        let mut segments = segments;
        for (segment, msn) in segments.iter_mut().zip(1..) {
            segment.head.msn = Msn(msn);
        }
        Index { next: Msn(segments.len() as u64 + 1), segments }
    }
}
prop_compose! {
    fn subscribe()(
        subscription in number(), channel in channel(), broadcast in option::of(0..VARINT_MAX),
        track in option::of(track_name()), start in option::of((0..VARINT_MAX, any::<u32>())),
        priority in any::<u8>(), max_age_ms in any::<u32>(), hops in nodes(),
    ) -> Subscribe {
        Subscribe {
            subscription,
            channel,
            broadcast: broadcast.map(BroadcastId),
            target: track.map_or(Target::Manifest, Target::Track),
            start: start.map_or(Start::Live, |(msn, chunk)| Start::At { msn: Msn(msn), chunk }),
            priority,
            max_age_ms,
            hops,
        }
    }
}
prop_compose! {
    fn track()(
        name in track_name(), codec in "[ -~]{0,40}", hz in 1u32.., part_target in number(),
        rates in any::<(u32, u32)>(), size in option::of((1u32.., any::<u32>())),
        frame_rate in option::of((1u32.., any::<u32>())),
        channels in any::<Option<u32>>(), sample_rate_hz in any::<Option<u32>>(),
    ) -> Track {
        Track {
            name,
            codec,
            timescale: Timescale::new(hz).unwrap(),
            part_target: Ticks(part_target),
            bandwidth_bps: rates.0,
            average_bandwidth_bps: rates.1,
            size,
            frame_rate,
            channels,
            sample_rate_hz,
        }
    }
}

fn live() -> impl Strategy<Value = Message> {
    let fields = (
        channel(),
        number(),
        number(),
        any::<(u8, u32, u32)>(),
        nodes(),
    );
    const PHASES: [Phase; 4] = [Phase::Starting, Phase::Live, Phase::Lost, Phase::Ended];
    fields.prop_map(
        |(channel, broadcast, epoch, (phase, cost, grace_ms), hops)| {
            Message::Live(Announcement {
                channel,
                broadcast: BroadcastId(broadcast),
                epoch: Epoch(epoch),
                phase: PHASES[usize::from(phase) % 4],
                hops,
                cost,
                grace_ms,
            })
        },
    )
}

fn accepted() -> impl Strategy<Value = Message> {
    let fields = ([number(), number(), number(), number()], any::<[u32; 5]>());
    fields.prop_map(|(long, short)| {
        Message::Ok(Accepted {
            broadcast: BroadcastId(long[0]),
            epoch: Epoch(long[1]),
            plan: Plan {
                target_duration_s: short[0],
                part_hold_back_ms: short[1],
                window_ms: short[2],
            },
            first: Msn(long[2]),
            first_chunk: short[3],
            live: Msn(long[3]),
            live_chunk: short[4],
        })
    })
}

fn about() -> impl Strategy<Value = Message> {
    let health = (
        option::of(0..u32::MAX),
        option::of(0..u32::MAX),
        number(),
        any::<u32>(),
    );
    let health = health.prop_map(|(fps_tenths, gop_ms, dropped_samples, jitter_ms)| Health {
        fps_tenths,
        gop_ms,
        dropped_samples,
        jitter_ms,
    });
    let texts = ("\\PC{0,140}", vec("\\PC{1,25}", 0..=10));
    (number(), texts, option::of(health)).prop_map(|(broadcast, (title, tags), health)| {
        Message::About {
            channel: ChannelName::parse("demo").unwrap(),
            broadcast: BroadcastId(broadcast),
            about: Arc::new(About {
                title,
                tags,
                health,
            }),
        }
    })
}

fn audience() -> impl Strategy<Value = Message> {
    let crowd = ("[a-z0-9_]{1,32}", any::<u32>(), any::<u32>());
    vec(crowd, 0..20).prop_map(|crowds| {
        let crowds = crowds.into_iter().map(|(name, viewers, chatters)| {
            (
                ChannelName::parse(&name).unwrap(),
                Crowd { viewers, chatters },
            )
        });
        Message::Audience(crowds.collect())
    })
}

fn message() -> impl Strategy<Value = Message> {
    let text = "[ -~]{0,30}";
    prop_oneof![
        about(),
        audience(),
        (0u64..13, any::<u32>(), text, vec(text, 0..4)).prop_map(
            |(code, retry_ms, reason, alternatives)| Message::Error(Refusal {
                code: Code::from_number(code),
                retry_ms,
                reason,
                alternatives,
            })
        ),
        live(),
        super::ingest::tests::told(),
        accepted(),
        subscribe().prop_map(Message::Subscribe),
        track().prop_map(Message::Track),
        index().prop_map(Message::Index),
        (track_name(), any::<u32>(), vec(any::<u8>(), 0..300)).prop_map(|(track, id, bytes)| {
            Message::Init {
                track,
                id: InitId(id),
                bytes: bytes.into(),
            }
        }),
        (any::<u8>(), any::<u32>(), option::of(0..VARINT_MAX)).prop_map(
            |(priority, max_age_ms, end)| Message::Update(Update {
                priority,
                max_age_ms,
                end: end.map(Msn),
            })
        ),
        (0usize..3, number()).prop_map(|(state, epoch)| Message::State {
            state: [
                BroadcastState::Live,
                BroadcastState::Lost,
                BroadcastState::Ended
            ][state],
            epoch: Epoch(epoch),
        }),
        (number(), any_head(), any::<u32>()).prop_map(|(subscription, head, first_chunk)| {
            Message::Segment(SegmentStart {
                subscription,
                head,
                first_chunk,
            })
        }),
        (number(), vec(any::<u8>(), 0..2_000)).prop_map(|(duration, data)| {
            Message::Chunk(Chunk {
                duration: Ticks(duration),
                data: data.into(),
            })
        }),
        (any::<u32>(), number(), flags(), tail()).prop_map(|(index, duration, flags, tail)| {
            Message::Part {
                index,
                end: PartEnd {
                    duration: Ticks(duration),
                    flags,
                    hint: tail.hint,
                    siblings: tail.siblings.into(),
                },
            }
        }),
        (any::<u32>(), number(), any::<u32>()).prop_map(|(chunks, bytes, crc32c)| {
            Message::End(SegmentEnd {
                chunks,
                bytes,
                crc32c,
            })
        }),
        (channel(), number(), track_name(), number(), number()).prop_map(
            |(channel, broadcast, track, from, to)| Message::List(List {
                channel,
                broadcast: BroadcastId(broadcast),
                track,
                from: Msn(from),
                to: Msn(to),
            })
        ),
    ]
}

proptest! {
    #[test]
    fn varints_are_themselves(value in number()) {
        let mut out = BytesMut::new();
        put_int(&mut out, value);
        prop_assert_eq!(peek_int(&out), Some((value, out.len())));
        for cut in 0..out.len() {
            prop_assert_eq!(peek_int(&out[..cut]), None);
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_itself_however_split(
        messages in vec(message(), 1..6), cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut whole = BytesMut::new();
        for message in &messages {
            whole.extend_from_slice(&message.encode());
        }
        let whole = whole.freeze();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for pair in cuts.windows(2) {
            let mut piece = whole.slice(pair[0]..pair[1]);
            while let Some(frame) = decoder.next(&mut piece).unwrap() {
                seen.push(Message::decode(frame).unwrap());
            }
            prop_assert!(piece.is_empty());
        }
        prop_assert!(decoder.at_boundary());
        prop_assert_eq!(seen, messages);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600), kind in 0u64..0x50) {
        let _ = decoded(bytes.clone().into());
        let _ = Message::decode(Frame { kind, body: bytes.into() });
    }

    #[test]
    fn a_message_cut_short_is_an_error_and_no_panic(message in message()) {
        let mut bytes = message.encode();
        let frame = Decoder::default().next(&mut bytes).unwrap().unwrap();
        for len in 0..frame.body.len() {
            let body = frame.body.slice(..len);
            let _ = Message::decode(Frame { kind: frame.kind, body });
        }
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
