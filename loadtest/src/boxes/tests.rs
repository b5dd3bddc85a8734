use super::*;

fn boxed(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 8).unwrap();
    [&len.to_be_bytes()[..], name, body].concat()
}

fn full(name: &[u8; 4], version_flags: u32, words: &[u32]) -> Vec<u8> {
    let mut body = version_flags.to_be_bytes().to_vec();
    for word in words {
        body.extend_from_slice(&word.to_be_bytes());
    }
    boxed(name, &body)
}

pub(crate) fn video_init() -> Vec<u8> {
    let avcc = boxed(b"avcC", &[1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 0, 1, 0, 0]);
    let entry = boxed(b"avc1", &[&[0; 78][..], &avcc].concat());
    let stsd = boxed(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1][..], &entry].concat());
    let minf = boxed(b"minf", &boxed(b"stbl", &stsd));
    let mdhd = full(b"mdhd", 0, &[0, 0, 120_000, 0, 0]);
    let hdlr = boxed(b"hdlr", &[&[0; 8][..], b"vide", &[0; 13]].concat());
    let trak = boxed(b"trak", &boxed(b"mdia", &[mdhd, hdlr, minf].concat()));
    let mvex = boxed(b"mvex", &full(b"trex", 0, &[1, 1, 4000, 0, 0x1_0000]));
    let ftyp = boxed(b"ftyp", b"cmfc\0\0\0\0cmfccmf2iso6");
    [ftyp, boxed(b"moov", &[trak, mvex].concat())].concat()
}

/// A chunk with one sample, as a packager writes it.
pub(crate) fn chunk(sequence: u32, tfdt: u64, duration: u32, sync: bool, data: &[u8]) -> Vec<u8> {
    let flags = if sync { 0 } else { 0x1_0000 };
    let size = u32::try_from(data.len()).unwrap();
    let build = |data_offset: u32| {
        let mfhd = full(b"mfhd", 0, &[sequence]);
        let tfhd = full(b"tfhd", 0x2_0000, &[1]);
        let words = [(tfdt >> 32) as u32, tfdt as u32];
        let tfdt = full(b"tfdt", 0x0100_0000, &words);
        let trun = full(
            b"trun",
            0x0100_0f01,
            &[1, data_offset, duration, size, flags, 0],
        );
        let traf = boxed(b"traf", &[tfhd, tfdt, trun].concat());
        boxed(b"moof", &[mfhd, traf].concat())
    };
    let len = u32::try_from(build(0).len() + 8).unwrap();
    [build(len), boxed(b"mdat", data)].concat()
}

#[test]
fn reads_an_init_segment() {
    let init = parse_init(&video_init()).unwrap();
    assert_eq!((init.kind, init.timescale), (Kind::Video, 120_000));
    assert_eq!((init.codec.as_str(), init.nal_length), ("avc1.64001f", 4));
    assert_eq!((init.tracks, init.has_mehd), (1, false));
    assert!(init.brands.contains(b"cmf2"));
}

#[test]
fn reads_the_codec_of_aac() {
    let esds = [
        &[3, 25, 0, 1, 0, 4, 17, 0x40, 0x15][..],
        &[0; 11],
        &[5, 2, 0x11, 0x90, 6, 1, 2],
    ]
    .concat();
    assert_eq!(init::parse_init(&[]), Err(BoxError::Missing("moov")));
    let esds = boxed(b"esds", &[&[0; 4][..], &esds].concat());
    let entry = boxed(b"mp4a", &[&[0; 28][..], &esds].concat());
    let stsd = boxed(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1][..], &entry].concat());
    let minf = boxed(b"minf", &boxed(b"stbl", &stsd));
    let mdhd = full(b"mdhd", 0, &[0, 0, 48_000, 0, 0]);
    let hdlr = boxed(b"hdlr", &[&[0; 8][..], b"soun", &[0; 13]].concat());
    let trak = boxed(b"trak", &boxed(b"mdia", &[mdhd, hdlr, minf].concat()));
    let init = parse_init(&boxed(b"moov", &trak)).unwrap();
    assert_eq!((init.kind, init.codec.as_str()), (Kind::Audio, "mp4a.40.2"));
}

#[test]
fn any_split_gives_the_same_fragments() {
    let init = parse_init(&video_init()).unwrap();
    let styp = boxed(b"styp", b"cmfl\0\0\0\0");
    let bytes = [
        styp,
        chunk(1, 0x1_0000_0000, 4000, true, b"first"),
        chunk(2, 0x1_0000_0fa0, 4004, false, b"second"),
    ]
    .concat();
    let whole = FragmentReader::default().push(&bytes, &init).unwrap();
    assert_eq!(whole.len(), 2);
    assert_eq!(whole[0].boxes, [*b"styp", *b"moof", *b"mdat"]);
    assert_eq!(whole[0].sample_bytes(&whole[0].samples[0]), b"first");
    assert_eq!(
        (whole[1].tfdt, whole[1].end()),
        (0x1_0000_0fa0, 0x1_0000_1f44)
    );
    assert_eq!(whole[1].sample_bytes(&whole[1].samples[0]), b"second");
    assert!(whole[0].samples[0].sync && !whole[1].samples[0].sync);
    for step in 1..bytes.len() {
        let mut reader = FragmentReader::default();
        let mut got = Vec::new();
        for piece in bytes.chunks(step) {
            got.extend(reader.push(piece, &init).unwrap());
        }
        assert_eq!(got, whole);
        assert_eq!(reader.pending(), 0);
    }
    let mut reader = FragmentReader::default();
    reader.push(&bytes[..bytes.len() - 1], &init).unwrap();
    assert!(reader.pending() > 0);
}

#[test]
fn hostile_sizes_are_errors() {
    let init = parse_init(&video_init()).unwrap();
    for bytes in [
        &[0, 0, 0, 3, b'm', b'o', b'o', b'f'][..],
        &[0xff, 0xff, 0xff, 0xff, b'm', b'd', b'a', b't'],
        &[
            0, 0, 0, 1, b'm', b'd', b'a', b't', 0xff, 0, 0, 0, 0, 0, 0, 0,
        ],
    ] {
        let error = FragmentReader::default().push(bytes, &init);
        assert!(matches!(error, Err(BoxError::Length { .. })), "{error:?}");
    }
    let mut lying = chunk(1, 0, 4000, true, b"data");
    let at = lying.windows(4).position(|w| w == b"trun").unwrap();
    // sample_count
    lying[at + 8..at + 12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(FragmentReader::default().push(&lying, &init).is_err());
}

#[test]
fn no_flip_of_a_byte_panics() {
    let good = [video_init(), chunk(1, 9, 4000, true, b"data")].concat();
    let init = parse_init(&video_init()).unwrap();
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = parse_init(&bad);
            let _ = FragmentReader::default().push(&bad, &init);
        }
    }
}
