//! The pure cores, one after another along the life of a part.
//! `cargo bench -p benches`

use std::{io::Write, time::Instant};

use benches::{FRAME_BYTES, package, packager, publish};
use bytes::Bytes;
use common::{
    chat::{
        Body, Cursor as ChatCursor, Event, Feed, Limits, MessageId, Notice, NoticeId, Offset,
        RoomEpoch, Stamp,
    },
    link::{Decoder, Message, encode::chunk_header},
    live::{Chunk, Cursor, Log, Place, Plan, Step, Track, UnixMs, Window},
    media::Ticks,
    names::{ChannelName, Kind, TrackName},
    rtmp::{MediaKind, MediaMessage, ServerEvent, ServerSession, enhanced::Capabilities},
};
use divan::{
    Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};
use edge::{
    chat::Framing,
    playlist::{self, Lines, Skip},
};
use flate2::{Compression, write::GzEncoder};
use origin::{
    cmaf::{self, ChunkHeader, ChunkSample},
    demux::Demuxer,
    packager::Output,
};

fn main() {
    divan::main();
}

const RECORDED: &[u8] = include_bytes!("../../common/src/rtmp/fixtures/ffmpeg-5.1.bin");

/// A recorded ffmpeg publish, bytes to events.
#[divan::bench]
fn rtmp_session(bencher: Bencher) {
    bencher.counter(BytesCount::of_slice(RECORDED)).bench(|| {
        let mut media = 0;
        session(|_| media += 1);
        media
    });
}

/// Its messages: FLV tag bodies to samples.
#[divan::bench]
fn demux(bencher: Bencher) {
    let mut messages = Vec::new();
    session(|message| messages.push(message));
    let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
    bencher.counter(BytesCount::new(bytes)).bench(|| {
        let mut demuxer = Demuxer::new();
        for message in &messages {
            let (at, payload) = (message.timestamp_ms, message.payload.clone());
            let made = match message.kind {
                MediaKind::Audio => demuxer.audio(at, payload),
                MediaKind::Video => demuxer.video(at, payload),
                MediaKind::Data => continue,
            };
            assert!(black_box(made).is_ok(), "ffmpeg's own");
        }
    });
}

fn session(mut media: impl FnMut(MediaMessage)) {
    let now = Instant::now();
    let mut session = ServerSession::new(1, Capabilities::forwarding(&["avc1"], &["mp4a"]), now);
    let mut input = RECORDED;
    while let Ok(Some(event)) = session.next_event(&mut input, now) {
        match event {
            ServerEvent::Publish(_) => session.accept_publish(now),
            ServerEvent::Media(message) => media(message),
            _ => {}
        }
        black_box(session.take_output());
    }
}

/// One video frame into one CMAF chunk.
#[divan::bench]
fn cmaf_chunk(bencher: Bencher) {
    let header = ChunkHeader {
        sequence: 1,
        track_id: cmaf::TRACK_ID,
        base_dts: Ticks(1 << 40),
        styp: None,
        prft: None,
    };
    let sample = ChunkSample {
        duration: 4_000,
        sync: false,
        composition_offset: 8_000,
        data: Bytes::from(vec![7; FRAME_BYTES]),
    };
    bencher
        .counter(BytesCount::new(FRAME_BYTES))
        .bench(|| cmaf::chunk(black_box(&header), std::slice::from_ref(black_box(&sample))));
}

/// Ten seconds of a publish, samples to records.
#[divan::bench]
fn packager_10_s(bencher: Bencher) {
    bencher.with_inputs(|| publish(10)).bench_values(package);
}

/// The same records into the log of their track.
#[divan::bench]
fn log_10_s(bencher: Bencher) {
    let outputs = package(publish(10));
    bencher.bench(|| log_of(&outputs));
}

/// A media playlist and its delta update, eight target durations of it.
#[divan::bench(args = [Skip::No, Skip::Yes])]
fn playlist(bencher: Bencher, skip: Skip) {
    let outputs = package(publish(40));
    let Some(Output::Plan { plan, tracks }) =
        outputs.iter().find(|o| matches!(o, Output::Plan { .. }))
    else {
        unreachable!("forty seconds make a plan")
    };
    let Some(listing) = log_of(&outputs).listing() else {
        unreachable!("and parts")
    };
    let all: Vec<_> = tracks.iter().collect();
    bencher.bench(|| playlist::media(black_box(&listing), plan, &tracks[0], &all, skip));
}

/// What a version of a playlist of 900 segments costs: whole as everybody
/// renders it, whole with the lines that the version before left, as a delta
/// update, and each of them compressed.
#[divan::bench(args = ["plain", "kept lines", "delta", "plain gzip", "kept lines gzip", "listing"])]
fn playlist_900(bencher: Bencher, how: &str) {
    let (log, plan, tracks) = half_an_hour();
    let Some(listing) = log.listing() else {
        unreachable!("it has parts")
    };
    let all: Vec<_> = tracks.iter().collect();
    let plain = |skip| playlist::media(black_box(&listing), &plan, &tracks[0], &all, skip);
    let mut lines = Lines::default();
    let (text, sections) = lines.media(&listing, &plan, &tracks[0], &all);
    black_box(sections.gzip(text.as_bytes()));
    match how {
        "plain" => bencher.bench_local(|| plain(Skip::No)),
        "kept lines" => {
            bencher.bench_local(|| lines.media(black_box(&listing), &plan, &tracks[0], &all));
        }
        "delta" => bencher.bench_local(|| plain(Skip::Yes)),
        "plain gzip" => bencher.bench_local(|| gzip(black_box(text.as_bytes()))),
        "kept lines gzip" => bencher.bench_local(|| sections.gzip(black_box(text.as_bytes()))),
        _ => bencher.bench_local(|| log.listing()),
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(text);
    assert!(written.is_ok(), "memory takes it");
    encoder.finish().unwrap_or_default()
}

/// A window of half an hour as an edge holds it: three target durations of
/// bytes and parts, and the sums of the rest.
fn half_an_hour() -> (Log, Plan, Vec<Track>) {
    let (mut packager, mut outputs) = (packager(), Vec::new());
    let mut made: Option<(Log, Plan, Vec<Track>)> = None;
    for (input, now) in publish(1_830) {
        packager.push(input, now, &mut outputs);
        for output in outputs.drain(..) {
            match (output, &mut made) {
                (Output::Plan { plan, tracks }, _) => {
                    let window_ms = 30 * 60_000;
                    let plan = Plan { window_ms, ..plan };
                    made = Some((Log::new(&plan, &tracks[0]), plan, tracks));
                }
                (Output::Record { track, record }, Some((log, ..))) if is_video(track) => {
                    assert!(log.apply(record).is_ok(), "the packager's records follow");
                }
                (Output::Complete { track, .. }, Some((log, plan, tracks))) if is_video(track) => {
                    assert!(log.complete().is_ok(), "the packager's records follow");
                    let age_ms = plan.parts_listed_ms().into();
                    for aged in log.aged(tracks[0].timescale.from_ms(age_ms)) {
                        log.let_go(aged.msn, Place::Elsewhere);
                    }
                }
                _ => {}
            }
        }
    }
    let Some(made) = made else {
        unreachable!("half an hour makes a plan")
    };
    made
}

/// What a chunk costs on the link beside its payload.
#[divan::bench]
fn link_chunk_header(bencher: Bencher) {
    let chunk = Chunk {
        duration: Ticks(4_000),
        data: Bytes::from(vec![7; FRAME_BYTES]),
    };
    bencher.bench(|| chunk_header(black_box(&chunk)));
}

/// Sixty chunks as an edge reads them off the link.
#[divan::bench]
fn link_decode(bencher: Bencher) {
    let chunk = Chunk {
        duration: Ticks(4_000),
        data: Bytes::from(vec![7; FRAME_BYTES]),
    };
    let one = [&chunk_header(&chunk)[..], &chunk.data].concat();
    let stream = Bytes::from(one.repeat(60));
    bencher.counter(BytesCount::new(stream.len())).bench(|| {
        let (mut decoder, mut input) = (Decoder::default(), stream.clone());
        let mut chunks = 0;
        while let Ok(Some(frame)) = decoder.next(&mut input) {
            chunks += usize::from(Message::decode(frame).is_ok());
        }
        assert_eq!(chunks, 60, "all are whole");
    });
}

/// Followers of one track, each of whom reads a segment of sixty chunks out of the
/// window that all share.
#[divan::bench(args = [1, 400, 5_000])]
fn window_fan_out(bencher: Bencher, followers: usize) {
    let outputs = package(publish(10));
    let Some(Output::Plan { plan, tracks }) =
        outputs.iter().find(|o| matches!(o, Output::Plan { .. }))
    else {
        unreachable!("ten seconds make a plan")
    };
    let window = Window::new(plan, &tracks[0]);
    let mut last = None;
    for output in &outputs {
        match output {
            Output::Record { track, record } if is_video(*track) => {
                assert!(window.apply(record.clone()).is_ok(), "records follow");
            }
            Output::Complete { track, .. } if is_video(*track) => {
                assert!(window.complete().is_ok(), "records follow");
                last = window.look(|log| log.newest().map(|newest| newest.head.msn));
            }
            _ => {}
        }
    }
    let Some(msn) = last else {
        unreachable!("ten seconds make a segment")
    };
    bencher.counter(ItemsCount::new(followers)).bench(|| {
        for _ in 0..followers {
            let mut cursor = Cursor::at(msn);
            while cursor.msn == msn {
                match window.step(&mut cursor) {
                    Step::Record(record) => drop(black_box(record)),
                    _ => break,
                }
            }
        }
    });
}

/// One message to readers of a room: laid into the byte stream once, taken by all.
#[divan::bench(args = [1, 250, 5_000])]
fn chat_fan_out(bencher: Bencher, readers: usize) {
    let Ok(room) = ChannelName::parse("demo") else {
        unreachable!("a valid name")
    };
    let feed = Feed::new(room, RoomEpoch(1), 1, Limits::default());
    let text = "x".repeat(100);
    let mut cursors = vec![ChatCursor(0); readers];
    let mut offset = 0;
    bencher.counter(ItemsCount::new(readers)).bench_local(|| {
        let stamp = Stamp {
            epoch: RoomEpoch(1),
            offset: Offset(offset),
            id: MessageId(offset.into()),
            at: UnixMs(1),
            program: UnixMs(1),
        };
        offset += 1;
        let body = Body::Notice(Notice::new(NoticeId::SlowOff, text.as_str()));
        assert!(feed.append(Event { stamp, body }), "offsets follow");
        for cursor in &mut cursors {
            feed.read(cursor, 100, |posted| {
                let framed = posted.form(0, |event| match &event.body {
                    Body::Notice(notice) => Framing::Text.frame(&notice.text),
                    _ => Bytes::new(),
                });
                black_box(framed);
            });
        }
    });
}

fn log_of(outputs: &[Output]) -> Log {
    let Some(Output::Plan { plan, tracks }) =
        outputs.iter().find(|o| matches!(o, Output::Plan { .. }))
    else {
        unreachable!("ten seconds make a plan")
    };
    let mut log = Log::new(plan, &tracks[0]);
    for output in outputs {
        let followed = match output {
            Output::Record { track, record } if is_video(*track) => log.apply(record.clone()),
            Output::Complete { track, .. } if is_video(*track) => log.complete().map(drop),
            _ => Ok(()),
        };
        assert!(followed.is_ok(), "the packager's records follow");
    }
    log
}

fn is_video(track: TrackName) -> bool {
    track.kind == Kind::Video
}
