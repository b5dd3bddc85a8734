//! Any messages at any times: no panic, bounded tracks, and no track's decode
//! time goes back. What is demuxed is packaged too, so that every init segment
//! and every chunk's offsets come from a stranger's bytes.
//!
//! The input is a row of messages: kind, timestamp (4 bytes), length (2), body.
#![no_main]

use std::collections::BTreeMap;

use bytes::Bytes;
use common::media::Ticks;
use libfuzzer_sys::fuzz_target;
use origin::{
    cmaf::{self, ChunkHeader, ChunkSample},
    demux::{Demuxer, MAX_TRACKS},
    sample::Input,
};

fuzz_target!(|data: &[u8]| {
    let mut demuxer = Demuxer::new();
    let mut last = BTreeMap::new();
    let mut configured = BTreeMap::new();
    let mut rest = data;
    while let [kind, t0, t1, t2, t3, l0, l1, body @ ..] = rest {
        let at = u32::from_be_bytes([*t0, *t1, *t2, *t3]);
        let len = usize::from(u16::from_be_bytes([*l0, *l1])).min(body.len());
        let payload = Bytes::copy_from_slice(&body[..len]);
        rest = &body[len..];
        let inputs = match kind {
            8 => demuxer.audio(at, payload),
            _ => demuxer.video(at, payload),
        };
        // An error ends the publish.
        let Ok(inputs) = inputs else { return };
        for input in inputs {
            match input {
                Input::Config { track, config } => {
                    assert_ne!(configured.insert(track, config.clone()), Some(config));
                    assert!(configured.len() <= MAX_TRACKS);
                }
                Input::Sample(sample) => {
                    assert!(configured.contains_key(&sample.track));
                    let before = last.insert(sample.track, sample.dts_ms).unwrap_or(0);
                    assert!(before <= sample.dts_ms);
                    let header = ChunkHeader {
                        sequence: 0,
                        track_id: cmaf::TRACK_ID,
                        base_dts: Ticks(sample.dts_ms),
                        styp: None,
                        prft: None,
                    };
                    let one = ChunkSample {
                        duration: 1,
                        sync: sample.sync,
                        composition_offset: sample.composition_offset_ms,
                        data: sample.data,
                    };
                    let _encoded = cmaf::chunk(&header, &[one]);
                }
                Input::Declared(_) | Input::Keyint { .. } | Input::Discontinuity => {}
            }
        }
    }
});
