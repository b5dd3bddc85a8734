use bytes::Bytes;
use common::media::{Ticks, Timescale};
use mp4_atom::{Codec, Decode as _, Ftyp, Header, Moof, Moov, Prft, Styp as StypBox, TrunSamples};

use super::*;
use crate::sample::CodecConfig;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 1280 x 720, High 3.1, as x264 writes it, and its picture parameter set.
pub(crate) const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00,
    0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
];
pub(crate) const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

fn video() -> CodecConfig {
    video_config(&VideoTrack {
        codec: "avc1.64001f".to_owned(),
        size: (1280, 720),
        frame_rate: Some((30, 1)),
        sample_aspect: None,
        colour: Some(Colour {
            primaries: 1,
            transfer: 1,
            matrix: 1,
            full_range: false,
        }),
        bitrate_bps: Some(3_000_000),
        entry: VideoEntry::Avc(AvcRecord {
            profile: 0x64,
            compatibility: 0,
            level: 0x1f,
            sps: vec![Bytes::from_static(SPS)],
            pps: vec![Bytes::from_static(PPS)],
            ext: Some(AvcRecordExt {
                chroma_format: 1,
                bit_depth_luma: 8,
                bit_depth_chroma: 8,
            }),
        }),
    })
    .unwrap()
}

fn audio() -> CodecConfig {
    audio_config(&AudioTrack {
        codec: "mp4a.40.2".to_owned(),
        channels: 2,
        sample_rate_hz: 44_100,
        frame_samples: 1_024,
        bitrate_bps: Some(128_000),
        entry: AudioEntry::Aac(Bytes::from_static(&[0x12, 0x10])),
    })
    .unwrap()
}

fn header(base_dts: u64) -> ChunkHeader {
    ChunkHeader {
        sequence: 7,
        track_id: TRACK_ID,
        base_dts: Ticks(base_dts),
        styp: None,
        prft: None,
    }
}

fn sample(duration: u32, sync: bool, composition_offset: i32, data: &'static [u8]) -> ChunkSample {
    ChunkSample {
        duration,
        sync,
        composition_offset,
        data: Bytes::from_static(data),
    }
}

/// The kinds and sizes of the top-level boxes.
fn boxes(mut bytes: &[u8]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let whole = bytes.len();
        let header = Header::decode(&mut bytes).unwrap();
        let size = header.size.unwrap();
        found.push((header.kind.to_string(), size + whole - bytes.len()));
        bytes = &bytes[size..];
    }
    found
}

#[test]
fn c1_init_is_ftyp_and_moov_of_one_track_without_mehd() {
    for (config, hz) in [(video(), 120_000), (audio(), 44_100)] {
        let kinds: Vec<_> = boxes(&config.init)
            .into_iter()
            .map(|(kind, _)| kind)
            .collect();
        assert_eq!(kinds, ["ftyp", "moov"]);
        let mut rest = &config.init[..];
        let ftyp = Ftyp::decode(&mut rest).unwrap();
        for brand in [b"cmfc", b"cmf2", b"iso6"] {
            assert!(ftyp.compatible_brands.contains(&brand.into()));
        }
        let moov = Moov::decode(&mut rest).unwrap();
        let mvex = moov.mvex.unwrap();
        assert_eq!((mvex.mehd, mvex.trex.len()), (None, 1));
        assert_eq!((mvex.trex[0].track_id, moov.mvhd.duration), (TRACK_ID, 0));
        let [trak] = &moov.trak[..] else {
            panic!("one track a file")
        };
        assert_eq!(trak.edts, None);
        assert_eq!(trak.tkhd.track_id, TRACK_ID);
        assert_eq!(trak.mdia.mdhd.timescale, hz);
        assert_eq!(config.timescale, Timescale::new(hz).unwrap());
        assert_eq!(trak.mdia.minf.dinf.dref.entries.len(), 1);
        assert_eq!(trak.mdia.minf.stbl.stsd.codecs.len(), 1);
    }
}

#[test]
fn c1_sample_entries_carry_the_decoder_configuration() {
    let entry = |config: &CodecConfig| {
        let mut rest = &config.init[..];
        Ftyp::decode(&mut rest).unwrap();
        let mut moov = Moov::decode(&mut rest).unwrap();
        moov.trak.remove(0).mdia.minf.stbl.stsd.codecs.remove(0)
    };
    let Codec::Avc1(avc1) = entry(&video()) else {
        panic!("avc1")
    };
    assert_eq!((avc1.visual.width, avc1.visual.height), (1280, 720));
    assert_eq!(avc1.avcc.length_size, 4);
    assert_eq!(avc1.avcc.sequence_parameter_sets, [SPS]);
    assert_eq!(avc1.avcc.picture_parameter_sets, [PPS]);
    assert!(avc1.colr.is_some() && avc1.btrt.is_some());
    let Codec::Mp4a(mp4a) = entry(&audio()) else {
        panic!("mp4a")
    };
    let decoder = &mp4a.esds.es_desc.dec_config;
    assert_eq!(
        (decoder.object_type_indication, decoder.stream_type),
        (0x40, 5)
    );
    assert_eq!(
        (decoder.avg_bitrate, decoder.max_bitrate),
        (128_000, 128_000)
    );
    let specific = decoder.dec_specific.as_ref().unwrap();
    assert_eq!(specific.raw, [0x12, 0x10]);
    assert_eq!(mp4a.audio.sample_rate.integer(), 44_100);
}

#[test]
fn init_segment_golden_bytes() {
    assert_eq!(hex(&audio().init), AUDIO_INIT.replace([' ', '\n'], ""));
}

#[test]
fn c2_a_chunk_is_moof_and_mdat_and_says_every_value_itself() {
    let samples = [
        sample(4_000, true, 8_000, &[1, 2, 3]),
        sample(4_000, false, 0, &[4]),
    ];
    let mut with_all = header(1 << 40);
    with_all.styp = Some(Styp::Segment);
    with_all.prft = Some(ReferenceClock {
        ntp: 0xe000_0000_8000_0000,
        media_time: Ticks(1 << 40),
    });
    let bytes = chunk(&with_all, &samples);
    let kinds: Vec<_> = boxes(&bytes).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["styp", "prft", "moof", "mdat"]);
    let mut rest = &bytes[..];
    let styp = StypBox::decode(&mut rest).unwrap();
    assert!(styp.compatible_brands.contains(&b"cmfs".into()));
    assert_eq!(Prft::decode(&mut rest).unwrap().media_time, 1 << 40);
    let before_moof = rest.len();
    let moof = Moof::decode(&mut rest).unwrap();
    let [traf] = &moof.traf[..] else {
        panic!("one track fragment")
    };
    assert_eq!(moof.mfhd.sequence_number, 7);
    assert!(traf.tfhd.default_base_is_moof);
    assert_eq!(traf.tfhd.base_data_offset, None);
    assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, 1 << 40);
    let moof_len = before_moof - rest.len();
    let data_offset = usize::try_from(traf.trun[0].data_offset.unwrap()).unwrap();
    assert_eq!(data_offset, moof_len + 8);
    assert_eq!(&rest[data_offset - moof_len..], [1, 2, 3, 4]);
    let TrunSamples::Explicit(entries) = &traf.trun[0].samples else {
        panic!("explicit samples")
    };
    let said: Vec<_> = entries
        .iter()
        .map(|one| (one.duration, one.size, one.flags))
        .collect();
    assert_eq!(
        said,
        [
            (Some(4_000), Some(3), Some(0x0200_0000)),
            (Some(4_000), Some(1), Some(0x0101_0000)),
        ]
    );
}

#[test]
fn c5_offsets_are_signed_in_trun_version_1() {
    let bytes = chunk(&header(0), &[sample(4_000, false, -4_000, &[0])]);
    let moof = Moof::decode(&mut &bytes[..]).unwrap();
    assert_eq!(
        moof.traf[0].trun[0].samples.get(0).unwrap().cts,
        Some(-4_000)
    );
    let trun = bytes.windows(4).position(|four| four == b"trun").unwrap();
    assert_eq!(bytes[trun + 4], 1, "version");
}

#[test]
fn chunk_golden_bytes() {
    let one = chunk(
        &header(0x1_0000_0000),
        &[sample(4_000, true, 8_000, &[0xaa, 0xbb])],
    );
    assert_eq!(hex(&one), VIDEO_CHUNK.replace([' ', '\n'], ""));
    let frames = [
        sample(1_024, true, 0, &[0x21]),
        sample(1_024, true, 0, &[0x21, 0x22]),
    ];
    let audio = chunk(&header(2_048), &frames);
    assert_eq!(hex(&audio), AUDIO_CHUNK.replace([' ', '\n'], ""));
}

const VIDEO_CHUNK: &str = "
    00000068 6d6f6f66
      00000010 6d666864 00000000 00000007
      00000050 74726166
        00000010 74666864 00020000 00000001
        00000014 74666474 01000000 0000000100000000
        00000024 7472756e 01000b05 00000001 00000070 02000000
          00000fa0 00000002 00001f40
    0000000a 6d646174 aabb";
const AUDIO_CHUNK: &str = "
    00000068 6d6f6f66
      00000010 6d666864 00000000 00000007
      00000050 74726166
        00000018 74666864 00020028 00000001 00000400 02000000
        00000014 74666474 01000000 0000000000000800
        0000001c 7472756e 01000201 00000002 00000070
          00000001 00000002
    0000000b 6d646174 212122";
/// ftyp; moov: mvhd, trak: tkhd, mdia: mdhd, hdlr, minf: smhd, dinf: dref, stbl:
/// stsd: mp4a: esds, btrt; four empty tables; mvex: trex.
const AUDIO_INIT: &str = "
    0000001c 66747970
      69736f36 00000000 69736f36 636d6663 636d6632
    00000269 6d6f6f76
      00000078 6d766864
        01000000 00000000 00000000 00000000 00000000 0000ac44 00000000 00000000
        00010000 01000000 00000000 00000000 00010000 00000000 00000000 00000000
        00010000 00000000 00000000 00000000 40000000 00000000 00000000 00000000
        00000000 00000000 00000000 00000002
      000001c1 7472616b
        00000068 746b6864
          01000007 00000000 00000000 00000000 00000000 00000001 00000000 00000000
          00000000 00000000 00000000 00000000 01000000 00010000 00000000 00000000
          00000000 00010000 00000000 00000000 00000000 40000000 00000000 00000000
        00000151 6d646961
          0000002c 6d646864
            01000000 00000000 00000000 00000000 00000000 0000ac44 00000000 00000000
            55c40000
          00000026 68646c72
            00000000 00000000 736f756e 00000000 00000000 00000000 61756469 6f00
          000000f7 6d696e66
            00000010 736d6864
              00000000 00000000
            00000024 64696e66
              0000001c 64726566
                00000000 00000001 0000000c 75726c20 00000001
            000000bb 7374626c
              0000006f 73747364
                00000000 00000001 0000005f 6d703461 00000000 00000001 00000000 00000000
                00020010 00000000 ac440000 00000027 65736473 00000000 03190000 00041140
                15000000 0001f400 0001f400 05021210 06010200 00001462 74727400 00000000
                01f40000 01f400
              00000010 73747473
                00000000 00000000
              00000010 73747363
                00000000 00000000
              00000014 7374737a
                00000000 00000000 00000000
              00000010 7374636f
                00000000 00000000
      00000028 6d766578
        00000020 74726578
          00000000 00000001 00000001 00000000 00000000 00000000";
