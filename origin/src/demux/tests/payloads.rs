//! Payloads made by hand, and arbitrary ones.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use crate::{
    cmaf::tests::{PPS, SPS},
    demux::*,
};

/// avcC with lengths of `length_size` bytes.
fn record(length_size: u8, sps: &[u8], pps: &[u8]) -> Vec<u8> {
    let mut out = vec![1, sps[1], sps[2], sps[3], 0xfc | (length_size - 1), 0xe1];
    out.extend(u16::try_from(sps.len()).unwrap().to_be_bytes());
    out.extend(sps);
    out.push(1);
    out.extend(u16::try_from(pps.len()).unwrap().to_be_bytes());
    out.extend(pps);
    out
}

fn sequence_header(length_size: u8) -> Bytes {
    let mut out = vec![0x17, 0, 0, 0, 0];
    out.extend(record(length_size, SPS, PPS));
    out.into()
}

fn picture(nals: &[&[u8]]) -> Bytes {
    let mut out = vec![0x27, 1, 0, 0, 0];
    for nal in nals {
        out.extend(u32::try_from(nal.len()).unwrap().to_be_bytes());
        out.extend(*nal);
    }
    out.into()
}

fn samples(inputs: Vec<Input>) -> Vec<Sample> {
    let sample = |input| match input {
        Input::Sample(sample) => Some(sample),
        _ => None,
    };
    inputs.into_iter().filter_map(sample).collect()
}

fn ready() -> Demuxer {
    let mut demuxer = Demuxer::new();
    demuxer.video(0, sequence_header(4)).unwrap();
    demuxer
}

#[test]
fn c6_codec_size_and_rate_come_from_the_parameter_sets() {
    let mut demuxer = Demuxer::new();
    let inputs = demuxer.video(0, sequence_header(4)).unwrap();
    let [Input::Config { track, config }] = &inputs[..] else {
        panic!("{inputs:?}")
    };
    assert_eq!(*track, TrackName::video(0));
    assert_eq!(config.codec, "avc1.64001f");
    assert_eq!(config.size, Some((1280, 720)));
    assert_eq!(config.frame_rate, Some((30, 1)));
    // The same again says nothing.
    assert_eq!(demuxer.video(40, sequence_header(4)).unwrap(), []);
}

#[test]
fn an_idr_makes_a_sync_sample_and_the_frame_type_does_not() {
    let mut demuxer = ready();
    let idr = demuxer.video(0, picture(&[&[6, 1], &[0x65, 9]])).unwrap();
    let [sample] = &samples(idr)[..] else {
        panic!("one sample")
    };
    assert!(sample.sync);
    assert_eq!(&sample.data[..], [0, 0, 0, 2, 6, 1, 0, 0, 0, 2, 0x65, 9]);
    // A key frame by its header, a recovery point and an I slice by its bytes.
    let mut open_gop = picture(&[&[6, 6, 1, 0xc4, 0x80], &[0x61, 9]]).to_vec();
    open_gop[0] = 0x17;
    let inputs = demuxer.video(33, open_gop.into()).unwrap();
    assert!(!samples(inputs)[0].sync);
}

#[test]
fn delimiters_filler_and_parameter_sets_leave_the_sample() {
    let mut demuxer = ready();
    let nals: [&[u8]; 6] = [&[9, 0xf0], SPS, PPS, &[0x65, 1, 2], &[12, 0xff], &[0x65, 3]];
    let inputs = demuxer.video(0, picture(&nals)).unwrap();
    assert_eq!(inputs.len(), 1, "known sets are no news");
    let data = &samples(inputs)[0].data;
    assert_eq!(&data[..], [0, 0, 0, 3, 0x65, 1, 2, 0, 0, 0, 2, 0x65, 3]);
}

#[test]
fn a_new_set_in_the_sample_is_a_new_configuration() {
    let mut demuxer = ready();
    let mut level = SPS.to_vec();
    level[3] = 0x28;
    let inputs = demuxer
        .video(0, picture(&[&level, PPS, &[0x65, 1]]))
        .unwrap();
    let [Input::Config { config, .. }, Input::Sample(_)] = &inputs[..] else {
        panic!("{inputs:?}")
    };
    assert_eq!(config.codec, "avc1.640028");
}

#[test]
fn parameter_sets_are_bounded() {
    let mut demuxer = Demuxer::new();
    let long = [&[0x17, 0, 0, 0, 0][..], &vec![0; MAX_CONFIG_LEN + 1]].concat();
    let error = demuxer.video(0, long.into()).unwrap_err();
    assert!(matches!(error.reason, Reason::ConfigTooLong { .. }));

    // Every id there is, and each set as long as it may be.
    let mut demuxer = ready();
    let mut accepted = 0;
    for id in 0..256u32 {
        // Exp-Golomb, flush left.
        let code = (id + 1) << (31 - 2 * (id + 1).ilog2());
        let mut pps = [&[0x68][..], &code.to_be_bytes()].concat();
        pps.resize(400, 0x55);
        let inputs = demuxer.video(0, picture(&[&pps, &[0x65, 1]])).unwrap();
        for input in inputs {
            if let Input::Config { config, .. } = input {
                accepted += 1;
                assert!(config.init.len() <= MAX_CONFIG_LEN + 2_048);
            }
        }
    }
    assert_eq!(accepted, (MAX_CONFIG_LEN - SPS.len()) / 400);
}

#[test]
fn short_lengths_become_four_bytes() {
    let mut demuxer = Demuxer::new();
    demuxer.video(0, sequence_header(2)).unwrap();
    let payload = Bytes::from_static(&[0x17, 1, 0, 0, 0, 0, 2, 0x65, 7]);
    let inputs = demuxer.video(0, payload).unwrap();
    assert_eq!(&samples(inputs)[0].data[..], [0, 0, 0, 2, 0x65, 7]);
}

/// What the link carries and a segment holds is bounded by it.
#[test]
fn a_sample_is_never_longer_than_a_chunk_may_be() {
    // Two bytes of a NAL unit become five behind lengths of four bytes.
    let mut demuxer = Demuxer::new();
    demuxer.video(0, sequence_header(1)).unwrap();
    let mut payload = vec![0x27, 1, 0, 0, 0];
    payload.extend([1, 0x65].repeat(MAX_VIDEO_SAMPLE_LEN / 5 + 1));
    assert!(demuxer.video(0, payload.clone().into()).unwrap().is_empty());
    payload.truncate(payload.len() - 2);
    assert_eq!(samples(demuxer.video(0, payload.into()).unwrap()).len(), 1);
    assert_eq!(demuxer.counters().skipped_samples, 1);
    // Several audio frames make one chunk.
    let mut demuxer = Demuxer::new();
    demuxer
        .audio(0, Bytes::from_static(&[0xaf, 0, 0x11, 0x90]))
        .unwrap();
    let mut payload = vec![0x21; 2 + MAX_AUDIO_SAMPLE_LEN + 1];
    payload[..2].copy_from_slice(&[0xaf, 1]);
    assert!(demuxer.audio(0, payload.clone().into()).unwrap().is_empty());
    payload.pop();
    assert_eq!(samples(demuxer.audio(0, payload.into()).unwrap()).len(), 1);
    assert_eq!(demuxer.counters().skipped_samples, 1);
}

/// What waits for the plan is counted by the bytes of samples.
#[test]
fn a_short_sample_does_not_hold_its_long_message() {
    let mut demuxer = ready();
    let filler = [&[12][..], &[0xff; 1 << 20]].concat();
    let payload = picture(&[&[0x65, 1], &filler]);
    let held = payload.as_ptr_range();
    let inputs = demuxer.video(0, payload).unwrap();
    let data = &samples(inputs)[0].data;
    assert_eq!(&data[..], [0, 0, 0, 2, 0x65, 1]);
    assert!(!held.contains(&data.as_ptr()));
}

#[test]
fn damage_in_a_sample_is_skipped_and_counted() {
    let mut demuxer = ready();
    // An empty NAL unit, then a picture, then a length past the end.
    let payload = [
        0x27, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x65, 7, 0, 0, 1, 0, 5,
    ];
    let inputs = demuxer.video(0, Bytes::copy_from_slice(&payload)).unwrap();
    assert_eq!(&samples(inputs)[0].data[..], [0, 0, 0, 2, 0x65, 7]);
    assert_eq!(demuxer.counters().bad_nal_units, 2);
    // No picture, no bytes, no configuration, and the end of the sequence.
    assert_eq!(demuxer.video(0, picture(&[&[6, 1]])).unwrap(), []);
    assert_eq!(demuxer.audio(0, Bytes::new()).unwrap(), []);
    let early = Bytes::from_static(&[0xaf, 1, 0x21]);
    assert_eq!(demuxer.audio(0, early).unwrap(), []);
    assert_eq!(demuxer.counters().skipped_samples, 3);
    let end = Bytes::from_static(&[0x17, 2, 0, 0, 0]);
    assert_eq!(demuxer.video(0, end).unwrap(), []);
    assert_eq!(demuxer.counters().skipped_samples, 3);
}

#[test]
fn composition_offsets_are_signed() {
    let mut demuxer = ready();
    let mut offset = |bytes: [u8; 3]| {
        let mut payload = picture(&[&[0x65, 1]]).to_vec();
        payload[2..5].copy_from_slice(&bytes);
        samples(demuxer.video(0, payload.into()).unwrap())[0].composition_offset_ms
    };
    assert_eq!(offset([0, 0, 80]), 80);
    assert_eq!(offset([0xff, 0xff, 0xec]), -20);
    assert_eq!(offset([0x80, 0, 0]), 0);
    assert_eq!(demuxer.counters().negative_offsets, 1);
    assert_eq!(demuxer.counters().clamped_offsets, 1);
}

#[test]
fn x264_names_its_keyint_once() {
    let mut demuxer = ready();
    let mut sei = vec![6, 5, 60];
    sei.extend([
        0xdc, 0x45, 0xe9, 0xbd, 0xe6, 0xd9, 0x48, 0xb7, 0x96, 0x2c, 0xd8, 0x20, 0xd9, 0x23, 0xee,
        0xef,
    ]);
    sei.extend(b"x264 - options: threads=3 keyint=250 keyint_min=25\0\x80");
    let inputs = demuxer.video(0, picture(&[&sei, &[0x65, 1]])).unwrap();
    let keyint = Input::Keyint {
        track: TrackName::video(0),
        frames: 250,
    };
    assert_eq!(inputs[0], keyint);
    let again = demuxer.video(33, picture(&[&sei, &[0x65, 1]])).unwrap();
    assert_eq!(again.len(), 1);
}

#[test]
fn enhanced_avc1_and_mp4a_are_the_legacy_ones_by_another_name() {
    let mut demuxer = Demuxer::new();
    let mut start = b"\x90avc1".to_vec();
    start.extend(record(4, SPS, PPS));
    assert_eq!(demuxer.video(0, start.into()).unwrap().len(), 1);
    // CodedFrames with an offset of 40, CodedFramesX without, both behind ModEx.
    let frames = b"\x91avc1\0\0\x28\0\0\0\x02\x65\x01";
    let sample = &samples(demuxer.video(0, Bytes::from_static(frames)).unwrap())[0];
    assert_eq!((sample.composition_offset_ms, sample.data.len()), (40, 6));
    let modex = b"\xa7\x02\0\0\0\x03avc1\0\0\0\x02\x41\x01";
    let sample = &samples(demuxer.video(33, Bytes::from_static(modex)).unwrap())[0];
    assert_eq!((sample.composition_offset_ms, sample.sync), (0, false));
    let asc = Bytes::from_static(b"\x90mp4a\x12\x10");
    assert_eq!(demuxer.audio(0, asc).unwrap().len(), 1);
    let frame = Bytes::from_static(b"\x91mp4a\x21\x10");
    assert_eq!(demuxer.audio(0, frame).unwrap().len(), 1);
    // HDR metadata and a channel layout are no frames.
    assert_eq!(
        demuxer.video(0, Bytes::from_static(b"\xd4\x02")).unwrap(),
        []
    );
    assert_eq!(
        demuxer.audio(0, Bytes::from_static(b"\x94mp4a\0")).unwrap(),
        []
    );
}

#[test]
fn multitrack_bodies_are_tracks_of_their_own() {
    let mut demuxer = Demuxer::new();
    // One track, index 1; then two in one message.
    let one = Bytes::from_static(b"\x95\x00mp4a\x01\x12\x10");
    assert_eq!(demuxer.audio(0, one).unwrap().len(), 1);
    let two = Bytes::from_static(b"\x95\x10mp4a\x02\0\0\x02\x12\x10\x03\0\0\x02\x11\x90");
    let inputs = demuxer.audio(0, two).unwrap();
    let track = |input: &Input| match input {
        Input::Config { track, .. } => track.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(inputs.iter().map(track).collect::<Vec<_>>(), ["a2", "a3"]);
    for index in 4..u8::try_from(MAX_TRACKS + 1).unwrap() {
        let more = [&b"\x95\x00mp4a"[..], &[index], b"\x12\x10"].concat();
        demuxer.audio(0, more.into()).unwrap();
    }
    let beyond = demuxer.audio(0, Bytes::from_static(b"\x95\x00mp4a\xff\x12\x10"));
    assert!(matches!(beyond.unwrap_err().reason, Reason::TooManyTracks));
}

#[test]
fn what_is_not_packaged_is_named() {
    let mut demuxer = Demuxer::new();
    let mut video = |payload| demuxer.video(0, Bytes::from_static(payload)).unwrap_err();
    let error = video(b"\x90hvc1\x01");
    assert_eq!(error.offset, 1);
    assert_eq!(
        error.to_string(),
        "video message, byte 1: codec hvc1 is not packaged; publish H.264 video and AAC audio"
    );
    assert!(video(b"\x90a\x1b[m").to_string().contains("a\\x1b[m"));
    assert!(matches!(video(b"\x12").reason, Reason::UnsupportedVideo(2)));
    assert!(matches!(video(b"\x17\x00").reason, Reason::Truncated));
    assert!(matches!(
        video(b"\x17\x09\0\0\0").reason,
        Reason::PacketType(9)
    ));
    let mut audio = |payload| demuxer.audio(0, Bytes::from_static(payload)).unwrap_err();
    assert!(matches!(
        audio(b"\x2f\xff\xfb").reason,
        Reason::UnsupportedAudio(2)
    ));
    assert!(matches!(
        audio(b"\x90Opus").reason,
        Reason::Unsupported { .. }
    ));
    demuxer
        .audio(0, Bytes::from_static(b"\xaf\0\x12\x10"))
        .unwrap();
    let adts = demuxer.audio(0, Bytes::from_static(b"\xaf\x01\xff\xf1\x50\x80"));
    assert!(matches!(adts.unwrap_err().reason, Reason::Adts));
}

#[test]
fn a_jump_says_discontinuity_before_its_sample() {
    let mut demuxer = ready();
    demuxer.video(0, picture(&[&[0x65, 1]])).unwrap();
    let inputs = demuxer.video(60_000, picture(&[&[0x65, 1]])).unwrap();
    assert!(matches!(
        inputs[..],
        [Input::Discontinuity, Input::Sample(_)]
    ));
    assert_eq!(demuxer.counters().discontinuities, 1);
}

/// Payloads that get past the first bytes often enough to matter.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let lead = prop_oneof![
        Just(vec![]),
        Just(sequence_header(4).to_vec()),
        Just(picture(&[&[0x65, 1]]).to_vec()),
        Just(vec![0x17, 0, 0, 0, 0]),
        Just(vec![0xaf, 0, 0x12, 0x10]),
        Just(vec![0xaf, 0]),
        Just(vec![0xaf, 1, 0x21]),
        Just(b"\x90avc1".to_vec()),
        Just(b"\x96\x21avc1".to_vec()),
        Just(b"\x95\x11mp4a".to_vec()),
    ];
    (lead, vec(any::<u8>(), 0..64)).prop_map(|(lead, rest)| [lead, rest].concat())
}

proptest! {
    #[test]
    fn no_payload_panics_and_no_track_goes_back(
        messages in vec((any::<bool>(), any::<u32>(), 0u32..200, payload()), 1..60),
    ) {
        let mut demuxer = Demuxer::new();
        let mut last = BTreeMap::new();
        let mut now = 0u32;
        for (n, (is_video, jump, step, payload)) in messages.into_iter().enumerate() {
            now = if n % 7 == 6 { jump } else { now.wrapping_add(step) };
            let payload = Bytes::from(payload);
            let inputs = match is_video {
                true => demuxer.video(now, payload),
                false => demuxer.audio(now, payload),
            };
            for sample in samples(inputs.unwrap_or_default()) {
                let before = last.insert(sample.track, sample.dts_ms).unwrap_or(0);
                prop_assert!(before <= sample.dts_ms);
                prop_assert!(!sample.data.is_empty());
            }
            prop_assert!(demuxer.tracks.len() <= MAX_TRACKS);
        }
    }

    #[test]
    fn parameter_sets_of_any_bytes_do_not_panic(
        mut sps in vec(any::<u8>(), 0..80), tail in vec(any::<u8>(), 0..80), cut in 0usize..26,
    ) {
        let _refused_or_read = sps::Sps::parse(&sps);
        sps = [&SPS[..cut], &tail[..]].concat();
        let _refused_or_read = sps::Sps::parse(&sps);
        let _refused_or_read = aac::AudioSpecificConfig::parse(&tail);
    }
}
