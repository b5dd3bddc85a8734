//! Whatever is said comes across, and no bytes are too strange to be read.

use std::sync::Arc;

use bytes::BytesMut;
use proptest::{collection::vec, option, prelude::*};

use super::{
    decode::MAX_HOPS,
    frame::{Decoder, Frame},
    message::*,
    wire::{VARINT_MAX, peek_int, put_int},
};
use crate::{
    live::{
        About, Announcement, BroadcastState, Chunk, Crowd, Health, Hint, PartEnd, PartFlags, Phase,
        Plan, Position, SegmentEnd, SegmentFlags, SegmentHead, Track, UnixMs,
    },
    media::{Ticks, Timescale},
    names::{BroadcastId, ChannelName, Epoch, InitId, Kind, Msn, NodeId, TrackName},
};

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

fn crowds() -> impl Strategy<Value = Vec<(ChannelName, Crowd)>> {
    let crowd = (channel(), any::<u32>(), any::<u32>());
    let crowd =
        crowd.prop_map(|(channel, viewers, chatters)| (channel, Crowd { viewers, chatters }));
    vec(crowd, 0..20)
}

fn hearsay() -> impl Strategy<Value = Message> {
    ("[a-z0-9-]{1,63}", any::<bool>(), crowds()).prop_map(|(origin, linked, crowds)| {
        Message::Hearsay(Heard {
            origin: NodeId::parse(&origin).unwrap(),
            linked,
            crowds,
        })
    })
}

fn message() -> impl Strategy<Value = Message> {
    let text = "[ -~]{0,30}";
    prop_oneof![
        about(),
        crowds().prop_map(Message::Audience),
        hearsay(),
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
        let mut input = bytes.clone().into();
        let mut decoder = Decoder::default();
        while let Ok(Some(frame)) = decoder.next(&mut input) {
            let _ = Message::decode(frame);
        }
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
