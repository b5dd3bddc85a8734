//! What real senders sent: their first bytes to their last, recorded at a server
//! that accepted them. Each recording is of our own making, of a test picture.

use std::time::Instant;

use super::enhanced::Capabilities;
use super::{MediaKind, ServerEvent, ServerSession};

const FFMPEG: &[u8] = include_bytes!("fixtures/ffmpeg-5.1.bin");
const RTMP2SINK: &[u8] = include_bytes!("fixtures/rtmp2sink-1.22.bin");
const LIBRTMP: &[u8] = include_bytes!("fixtures/librtmp-2.4.bin");

/// Cut off in the middle of a message.
const OBS: &[u8] = include_bytes!("fixtures/obs-29-beginning.bin");

fn replay(recording: &[u8], cut: usize) -> Vec<ServerEvent> {
    let now = Instant::now();
    let mut server = ServerSession::new(1, Capabilities::default(), now);
    let mut events = Vec::new();
    for mut piece in recording.chunks(cut) {
        while let Some(event) = server.next_event(&mut piece, now).unwrap() {
            if matches!(event, ServerEvent::Publish(_)) {
                server.accept_publish(now);
            }
            events.push(event);
        }
        server.take_output();
    }
    events
}

fn times(events: &[ServerEvent], kind: MediaKind) -> Vec<u32> {
    let times = events.iter().filter_map(|event| match event {
        ServerEvent::Media(media) if media.kind == kind => Some(media.timestamp_ms),
        _ => None,
    });
    times.collect()
}

#[test]
fn recorded_senders_are_understood_however_they_are_cut() {
    for (name, recording, video, audio, audio_step) in [
        ("ffmpeg", FFMPEG, 52, 89, 23..=24),
        ("rtmp2sink", RTMP2SINK, 32, 92, 21..=22),
        ("librtmp", LIBRTMP, 22, 62, 21..=22),
        ("OBS", OBS, 37, 58, 21..=22),
    ] {
        let events = replay(recording, usize::MAX);
        assert!(
            matches!(&events[0], ServerEvent::Connect(r) if r.app == "live"),
            "{name}"
        );
        assert!(
            matches!(&events[1], ServerEvent::Publish(r) if r.key == "demo"),
            "{name}"
        );
        assert!(matches!(&events[2], ServerEvent::Metadata(_)), "{name}");
        let ended = events.last() == Some(&ServerEvent::Unpublish);
        assert_eq!(ended, name != "OBS", "{name}");
        let video_times = times(&events, MediaKind::Video);
        assert_eq!(video_times.len(), video, "{name}");
        assert!(video_times.is_sorted(), "{name}");
        let audio_times = times(&events, MediaKind::Audio);
        assert_eq!(audio_times.len(), audio, "{name}");
        for pair in audio_times[2..].windows(2) {
            assert!(
                audio_step.contains(&(pair[1] - pair[0])),
                "{name}: {pair:?}"
            );
        }
        for cut in [1, 13, 128, 1500] {
            assert_eq!(replay(recording, cut), events, "{name} cut at {cut}");
        }
    }
}
