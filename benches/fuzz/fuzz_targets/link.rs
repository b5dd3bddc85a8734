//! Whatever a peer writes on a stream of the link: frames are cut alike however
//! the bytes are split, decoding never panics, and what decodes encodes back to
//! a message that decodes to itself.

#![no_main]

use bytes::Bytes;
use common::link::{Decoder, Frame, Message};
use libfuzzer_sys::fuzz_target;

fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, bool) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
    }
    (frames, decoder.at_boundary())
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_first() else {
        return;
    };
    let (head, tail) = data.split_at(usize::from(*cut).min(data.len()));
    let whole = frames(&[data]);
    assert_eq!(whole, frames(&[head, tail]));
    for frame in whole.0 {
        if let Ok(message) = Message::decode(frame) {
            let mut encoded = message.encode();
            let again = Decoder::default()
                .next(&mut encoded)
                .expect("what was encoded is within its bounds")
                .expect("what was encoded is whole");
            assert!(encoded.is_empty());
            assert_eq!(Message::decode(again).expect("decodes"), message);
            if let Message::Index(index) = message {
                drop(index.into_segments());
            }
        }
    }
});
