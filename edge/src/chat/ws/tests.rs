use proptest::prelude::*;

use super::*;

/// A client's frame.
pub(in crate::chat) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut out = Vec::new();
    put_header(&mut out, 0, payload.len());
    out[0] = first;
    out[1] |= 0x80;
    out.extend_from_slice(&mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    out
}

fn shown(received: &Received<'_>) -> String {
    match received {
        Received::Text(text) => format!("text {text}"),
        Received::Binary(bytes) => format!("binary {}", bytes.len()),
        Received::Ping(bytes) => format!("ping {}", bytes.len()),
        Received::Pong => "pong".to_owned(),
        Received::Close(code) => format!("close {code}"),
    }
}

fn fed(pieces: &[&[u8]]) -> (Vec<String>, Option<u16>) {
    let mut decoder = Decoder::new(MAX_MESSAGE_BYTES);
    let mut seen = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let fed = decoder.feed(&mut piece, |received| {
            seen.push(shown(&received));
            true
        });
        if let Err(error) = fed {
            return (seen, Some(error.code));
        }
        assert!(decoder.held_bytes() <= 4 * MAX_MESSAGE_BYTES);
    }
    (seen, None)
}

fn all(frames: &[Vec<u8>]) -> (Vec<String>, Option<u16>) {
    fed(&[&frames.concat()])
}

#[test]
fn messages_come_whole_and_in_fragments() {
    let (seen, error) = all(&[
        frame(0x81, b"hello"),
        frame(0x01, "h\u{e4}".as_bytes().split_at(2).0),
        frame(0x89, b"now"),
        frame(0x00, "h\u{e4}".as_bytes().split_at(2).1),
        frame(0x80, b"!"),
        frame(0x82, &[0xff; 300]),
        frame(0x8a, b""),
        frame(0x88, &[0x03, 0xe8]),
        frame(0x81, b"unheard"),
    ]);
    assert_eq!(error, None);
    let expected = [
        "text hello",
        "ping 3",
        "text h\u{e4}!",
        "binary 300",
        "pong",
        "close 1000",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn what_breaks_the_protocol_is_closed_with_its_code() {
    let unmasked = vec![0x81, 0x01, b'x'];
    let long_control = frame(0x89, &[0; 126]);
    for (frames, code) in [
        (vec![unmasked], code::PROTOCOL),
        (vec![frame(0xc1, b"x")], code::PROTOCOL),
        (vec![frame(0x83, b"x")], code::PROTOCOL),
        (vec![frame(0x8b, b"x")], code::PROTOCOL),
        (vec![frame(0x80, b"x")], code::PROTOCOL),
        (vec![frame(0x01, b"x"), frame(0x81, b"y")], code::PROTOCOL),
        (vec![frame(0x09, b"x")], code::PROTOCOL),
        (vec![long_control], code::PROTOCOL),
        (vec![frame(0x88, b"x")], code::PROTOCOL),
        (vec![frame(0x88, &[0x03, 0xed])], code::PROTOCOL),
        (vec![frame(0x88, &[0x03, 0xe8, 0xff])], code::NOT_UTF8),
        (vec![frame(0x81, &[0xc3])], code::NOT_UTF8),
        (vec![frame(0x01, &[0xff])], code::NOT_UTF8),
        (vec![frame(0x01, &[0xc3]), frame(0x80, b"")], code::NOT_UTF8),
        (
            vec![frame(0x81, &[b'x'; MAX_MESSAGE_BYTES + 1])],
            code::TOO_LONG,
        ),
        (
            vec![frame(0x01, &[b'x'; MAX_MESSAGE_BYTES]), frame(0x80, b"y")],
            code::TOO_LONG,
        ),
    ] {
        assert_eq!(all(&frames).1, Some(code), "{:02x?}", &frames[0][..2]);
    }
    assert_eq!(all(&[frame(0x81, &[b'x'; MAX_MESSAGE_BYTES])]).1, None);
}

#[test]
fn a_length_beyond_reason_costs_nothing() {
    let mut header = vec![0x82, 0xff];
    header.extend_from_slice(&u64::MAX.to_be_bytes());
    assert_eq!(fed(&[&header]), (Vec::new(), Some(code::TOO_LONG)));
    let fragments: Vec<_> = std::iter::once(frame(0x01, b""))
        .chain((0..=MAX_FRAGMENTS).map(|_| frame(0x00, b"")))
        .collect();
    assert_eq!(all(&fragments).1, Some(code::TOO_LONG));
}

#[test]
fn a_decoder_at_rest_holds_nothing() {
    let mut decoder = Decoder::new(MAX_MESSAGE_BYTES);
    let mut bytes = frame(0x81, &[b'x'; 5_000]);
    let (head, tail) = bytes.split_at_mut(40);
    decoder.feed(head, |_| true).unwrap();
    assert!(decoder.held_bytes() > 0);
    decoder.feed(tail, |_| true).unwrap();
    assert_eq!(decoder.held_bytes(), 0);
}

/// RFC 6455, 1.3 and 5.7.
#[test]
fn golden_bytes() {
    assert_eq!(
        accept_value("dGhlIHNhbXBsZSBub25jZQ=="),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let mut out = Vec::new();
    put_header(&mut out, opcode::TEXT, 5);
    put_header(&mut out, opcode::BINARY, 256);
    put_header(&mut out, opcode::BINARY, 65_536);
    assert_eq!(
        out,
        [
            0x81, 5, 0x82, 0x7e, 1, 0, 0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0
        ]
    );
    assert_eq!(
        close_frame(1_000, "bye"),
        [0x88, 5, 3, 0xe8, b'b', b'y', b'e']
    );
    assert_eq!(close_frame(1_000, &"ä".repeat(100)).len(), 2 + 2 + 122);
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        texts in prop::collection::vec("[a-zä]{0,200}", 1..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| frame(0x81, text.as_bytes())).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(fed(&pieces), fed(&[&bytes]));
        prop_assert_eq!(fed(&pieces).0.len(), texts.len());
    }

    #[test]
    fn no_bytes_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let _ = fed(&pieces);
    }
}
