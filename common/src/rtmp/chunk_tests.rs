use super::*;
use proptest::prelude::*;

const LIMITS: ReadLimits = ReadLimits {
    message_bytes: 1 << 20,
    partial_budget_bytes: 1 << 20,
};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn read_with(reader: &mut ChunkReader, bytes: &[u8]) -> Result<Vec<Message>, RtmpError> {
    let mut input = bytes;
    let mut messages = Vec::new();
    while let Some(message) = reader.next_message(&mut input)? {
        messages.push(message);
    }
    Ok(messages)
}

fn read(bytes: &[u8]) -> Result<Vec<Message>, RtmpError> {
    read_with(&mut ChunkReader::new(LIMITS), bytes)
}

fn message(type_id: u8, timestamp_ms: u32, payload: &[u8]) -> Message {
    Message {
        type_id,
        stream_id: 1,
        timestamp_ms,
        payload: Bytes::copy_from_slice(payload),
    }
}

#[test]
fn golden_four_header_types() {
    let bytes = hex("04 000010 000002 08 01000000 aaab   \
         44 000017 000003 08 acadae          \
         84 000018 afb0b1                    \
         c4 b2b3b4                           ");
    let expected = [
        message(8, 16, &[0xaa, 0xab]),
        message(8, 16 + 23, &[0xac, 0xad, 0xae]),
        message(8, 16 + 23 + 24, &[0xaf, 0xb0, 0xb1]),
        message(8, 16 + 23 + 24 + 24, &[0xb2, 0xb3, 0xb4]),
    ];
    assert_eq!(read(&bytes).unwrap(), expected);
    let (mut writer, mut out) = (ChunkWriter::new(), BytesMut::new());
    for message in &expected {
        writer.write(4, message, &mut out);
    }
    assert_eq!(out, bytes);
}

/// After a type 0 chunk the delta is that chunk's timestamp (5.3.1.2.4).
#[test]
fn type_3_after_type_0_adds_its_timestamp() {
    let bytes = hex("04 000017 000001 08 01000000 aa  c4 ab  c4 ac");
    let times: Vec<u32> = read(&bytes)
        .unwrap()
        .iter()
        .map(|m| m.timestamp_ms)
        .collect();
    assert_eq!(times, [23, 46, 69]);
}

#[test]
fn golden_chunk_stream_id_forms() {
    let mut bytes = Vec::new();
    let forms: [(u32, &str); 6] = [
        (3, "03"),
        (63, "3f"),
        (64, "0000"),
        (319, "00ff"),
        (320, "010001"),
        (65_599, "01ffff"),
    ];
    for (id, basic) in forms {
        let golden = [hex(basic), hex("000000 000001 09 01000000 55")].concat();
        let mut out = BytesMut::new();
        ChunkWriter::new().write(id, &message(9, 0, &[0x55]), &mut out);
        assert_eq!(out, golden, "id {id}");
        bytes.extend(golden);
    }
    assert_eq!(read(&bytes).unwrap().len(), forms.len());
}

#[test]
fn golden_extended_timestamps() {
    // 130 bytes in two chunks: the type 3 chunk repeats the extended timestamp.
    // Then a delta of 2^24, and a type 3 chunk that begins a message with it.
    let body = "77".repeat(128);
    let bytes = hex(&format!(
        "04 ffffff 000082 09 01000000 01000001 {body} c4 01000001 7777 \
         44 ffffff 000001 09 01000000 aa  c4 01000000 bb",
    ));
    let messages = read(&bytes).unwrap();
    let times: Vec<u32> = messages.iter().map(|m| m.timestamp_ms).collect();
    assert_eq!(times, [0x0100_0001, 0x0200_0001, 0x0300_0001]);
    assert_eq!(messages[0].payload, vec![0x77; 130]);
    let (mut writer, mut out) = (ChunkWriter::new(), BytesMut::new());
    for message in &messages {
        writer.write(4, message, &mut out);
    }
    assert_eq!(out, bytes);
}

#[test]
fn timestamps_wrap() {
    let bytes = hex("04 ffffff 000001 08 01000000 fffffff0 aa  84 000020 bb");
    let times: Vec<u32> = read(&bytes)
        .unwrap()
        .iter()
        .map(|m| m.timestamp_ms)
        .collect();
    assert_eq!(times, [0xffff_fff0, 0x10]);
}

#[test]
fn chunk_streams_interleave() {
    let (a, b) = ("aa".repeat(128), "bb".repeat(128));
    let bytes = hex(&format!(
        "04 000000 000081 08 01000000 {a}  06 000000 000081 09 01000000 {b}  c6 bb  c4 aa",
    ));
    let messages = read(&bytes).unwrap();
    assert_eq!(messages[0].payload, vec![0xbb; 129]);
    assert_eq!(messages[1].payload, vec![0xaa; 129]);
}

/// librtmp opens chunk stream 2 with a type 1 header.
#[test]
fn type_1_may_open_a_chunk_stream() {
    let messages = read(&hex("42 000005 000004 03 00000001")).unwrap();
    assert_eq!((messages[0].timestamp_ms, messages[0].stream_id), (5, 0));
}

#[test]
fn empty_messages_end_with_their_header() {
    let bytes = hex("04 000001 000000 08 01000000 c4 c4 04 ffffff 000000 08 01000000 01000000");
    let times: Vec<u32> = read(&bytes)
        .unwrap()
        .iter()
        .map(|m| m.timestamp_ms)
        .collect();
    assert_eq!(times, [1, 2, 3, 1 << 24]);
}

#[test]
fn abort_forgets_one_chunk_stream() {
    let mut reader = ChunkReader::new(LIMITS);
    let begun = hex(&format!(
        "04 000000 000100 08 01000000 {}",
        "aa".repeat(128)
    ));
    assert_eq!(read_with(&mut reader, &begun), Ok(vec![]));
    assert_eq!(reader.partial_bytes(), 128);
    reader.abort(5);
    assert_eq!(reader.partial_bytes(), 128);
    reader.abort(4);
    assert_eq!(reader.partial_bytes(), 0);
    let next = read_with(&mut reader, &hex("04 000000 000001 08 01000000 cc"));
    assert_eq!(next, Ok(vec![message(8, 0, &[0xcc])]));
}

#[test]
fn hostile_headers_are_errors() {
    let half = format!("04 000000 000100 08 01000000 {}", "aa".repeat(128));
    let table: Vec<(Vec<u8>, u64, ErrorKind)> = vec![
        (hex("c4"), 1, ErrorKind::NothingToInherit(4)),
        (hex("84 000001"), 4, ErrorKind::NothingToInherit(4)),
        (hex("c0 00"), 2, ErrorKind::NothingToInherit(64)),
        (
            hex("04 000000 ffffff 08 01000000"),
            12,
            ErrorKind::MessageTooLong {
                declared_bytes: 0xff_ffff,
                limit_bytes: 1 << 20,
            },
        ),
        // A length that changes inside a message.
        (
            hex(&format!("{half} 44 000000 000010 08")),
            12 + 128 + 8,
            ErrorKind::HeaderInsideMessage(4),
        ),
        (
            hex(&format!("{half} 04 000000 000100 08 01000000")),
            12 + 128 + 12,
            ErrorKind::HeaderInsideMessage(4),
        ),
    ];
    for (bytes, offset, kind) in table {
        assert_eq!(read(&bytes), Err(RtmpError::new(offset, kind)));
    }
}

#[test]
fn chunk_sizes_are_bounded() {
    let mut reader = ChunkReader::new(LIMITS);
    for size in [0, 65_537, 0x7fff_ffff, 0x8000_0000, 0x8000_0080, u32::MAX] {
        assert_eq!(reader.set_chunk_size(size), Err(ErrorKind::ChunkSize(size)));
    }
    for size in [1, 128, 65_536] {
        assert_eq!(reader.set_chunk_size(size), Ok(()));
    }
}

#[test]
fn chunk_stream_ids_are_bounded() {
    let mut reader = ChunkReader::new(LIMITS);
    let opened = |id: u8| hex(&format!("{id:02x} 000000 000001 08 01000000 00"));
    for id in 2..64 {
        assert_eq!(read_with(&mut reader, &opened(id)).unwrap().len(), 1);
    }
    let more = |second: u8| [vec![0, second], opened(3)[1..].to_vec()].concat();
    assert_eq!(read_with(&mut reader, &more(0)).unwrap().len(), 1);
    assert_eq!(read_with(&mut reader, &more(1)).unwrap().len(), 1);
    let error = read_with(&mut reader, &more(2)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooManyChunkStreams(64));
    assert_eq!(reader.streams.len(), 64);
}

/// Declared lengths cost nothing; received bytes at most twice themselves and
/// the first reserve of each chunk stream.
#[test]
fn memory_follows_the_bytes_received() {
    let limits = ReadLimits {
        message_bytes: 8 << 20,
        partial_budget_bytes: 100_000,
    };
    let mut reader = ChunkReader::new(limits);
    let held = |reader: &ChunkReader| -> usize {
        let partials = reader.streams.iter().filter_map(|s| s.partial.as_ref());
        partials.map(BytesMut::capacity).sum()
    };
    for id in 2..64u8 {
        let header = hex(&format!("{id:02x} 000000 800000 09 01000000"));
        assert_eq!(read_with(&mut reader, &header), Ok(vec![]));
        assert_eq!(read_with(&mut reader, &[0; 128]), Ok(vec![]));
    }
    assert_eq!(reader.partial_bytes(), 62 * 128);
    assert!(held(&reader) <= 62 * FIRST_RESERVE);
    // All of them grow, until the budget of the connection ends it.
    let error = loop {
        let more: Vec<u8> = (2..64u8)
            .flat_map(|id| [vec![0xc0 | id], vec![0; 128]].concat())
            .collect();
        if let Err(error) = read_with(&mut reader, &more) {
            break error;
        }
        assert!(held(&reader) <= 2 * reader.partial_bytes() + 62 * FIRST_RESERVE);
    };
    assert_eq!(error.kind, ErrorKind::PartialBudget(100_000));
    assert!(reader.partial_bytes() <= 100_000 + 128);
}

#[derive(Debug, Clone)]
struct Step {
    id: u32,
    type_id: u8,
    stream_id: u32,
    advance_ms: u32,
    length: usize,
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = prop_oneof![3..8u32, Just(64), Just(400)];
    let advance = prop_oneof![
        Just(0u32),
        Just(23),
        0..100u32,
        Just(0x00ff_fffe),
        Just(0x00ff_ffff),
        Just(0x0100_0000),
        any::<u32>(),
    ];
    let length = prop_oneof![0..400usize, Just(128usize), Just(256), Just(1000)];
    (id, 8..10u8, 0..2u32, advance, length).prop_map(
        |(id, type_id, stream_id, advance_ms, length)| Step {
            id,
            type_id,
            stream_id,
            advance_ms,
            length,
        },
    )
}

proptest! {
    #[test]
    fn written_messages_are_read_however_they_are_cut(
        steps in prop::collection::vec(any_step(), 1..30),
        chunk_size in prop_oneof![Just(1u32), Just(128), 1..600u32],
        cuts in prop::collection::vec(1..300usize, 1..50),
    ) {
        let (mut writer, mut out) = (ChunkWriter::new(), BytesMut::new());
        writer.set_chunk_size(chunk_size);
        let mut sent = Vec::new();
        let mut clock_ms = 0u32;
        for (index, step) in steps.iter().enumerate() {
            clock_ms = clock_ms.wrapping_add(step.advance_ms);
            let message = Message {
                type_id: step.type_id,
                stream_id: step.stream_id,
                timestamp_ms: clock_ms,
                payload: vec![u8::try_from(index).unwrap(); step.length].into(),
            };
            writer.write(step.id, &message, &mut out);
            sent.push(message);
        }
        let mut reader = ChunkReader::new(LIMITS);
        reader.set_chunk_size(chunk_size).unwrap();
        let mut received = Vec::new();
        let mut rest = &out[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            received.extend(read_with(&mut reader, now).unwrap());
            rest = later;
        }
        prop_assert_eq!(received, sent);
        prop_assert_eq!(reader.partial_bytes(), 0);
        prop_assert_eq!(reader.offset(), out.len() as u64);
    }

    #[test]
    fn any_bytes_give_the_same_result_however_they_are_cut(
        bytes in prop::collection::vec(prop_oneof![0..8u8, any::<u8>()], 0..600),
        cuts in prop::collection::vec(1..40usize, 1..20),
    ) {
        let whole = {
            let mut reader = ChunkReader::new(LIMITS);
            (read_with(&mut reader, &bytes), reader.partial_bytes())
        };
        let mut reader = ChunkReader::new(LIMITS);
        let mut result = Ok(Vec::new());
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            match (read_with(&mut reader, now), &mut result) {
                (Ok(more), Ok(messages)) => messages.extend(more),
                (Err(error), _) => { result = Err(error); break; }
                (Ok(_), Err(_)) => unreachable!(),
            }
            rest = later;
        }
        prop_assert_eq!((result, reader.partial_bytes()), whole);
    }
}
