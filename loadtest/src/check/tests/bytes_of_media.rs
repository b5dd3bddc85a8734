//! Faults in init segments, chunks and segments.

use super::{breaks, clean, put};

/// A fault in the bytes of part 106.1 and, so that they stay equal, in its
/// segment.
#[track_caller]
fn bytes_break(rules: &[&str], spoil: impl Fn(&mut Vec<u8>)) {
    let mut observed = clean();
    let seen = &mut observed.tracks[0];
    let mut whole = Vec::new();
    for part in 0..4 {
        let uri = format!("1/v0/106.{part}.m4s");
        let mut bytes = seen.media[&uri].bytes.to_vec();
        if part == 1 {
            spoil(&mut bytes);
        }
        whole.extend_from_slice(&bytes);
        put(seen, &uri, bytes);
    }
    put(seen, "1/v0/106.m4s", whole);
    breaks(&observed, rules);
}

fn poke(bytes: &mut [u8], name: &[u8; 4], offset: usize, value: u8) {
    let at = bytes.windows(4).position(|w| w == name).unwrap();
    bytes[at + 4 + offset] = value;
}

#[test]
fn c1_and_c5_init_segments() {
    let mut observed = clean();
    let init = observed.tracks[0].inits.values_mut().next().unwrap();
    init.has_mehd = true;
    breaks(&observed, &["C1"]);
    let init = observed.tracks[0].inits.values_mut().next().unwrap();
    init.has_mehd = false;
    init.has_edit_list = true;
    breaks(&observed, &["C5"]);
}

#[test]
fn c1_c2_and_c5_bind_low_latency_alone() {
    let mut observed = clean();
    let seen = &mut observed.tracks[0];
    for init in seen.inits.values_mut() {
        init.tracks = 2;
        init.has_edit_list = true;
    }
    breaks(&observed, &["C1", "C5"]);
    for track in &mut observed.tracks {
        for snapshot in &mut track.lists {
            snapshot.list.part_target_us = None;
        }
    }
    breaks(&observed, &[]);
}

#[test]
fn c2_chunks() {
    // tfhd without default-base-is-moof.
    bytes_break(&["C2"], |bytes| poke(bytes, b"tfhd", 1, 0));
    bytes_break(&["C2"], |bytes| {
        let at = bytes.windows(4).position(|w| w == b"mfhd").unwrap();
        bytes[at..at + 4].copy_from_slice(b"free");
    });
}

#[test]
fn c3_a_gap_in_tfdt() {
    // The lowest byte of tfdt.
    bytes_break(&["C3"], |bytes| {
        let at = bytes.windows(4).position(|w| w == b"tfdt").unwrap() + 4 + 4 + 7;
        bytes[at] ^= 1;
    });
}

#[test]
fn c4_a_segment_that_is_not_its_parts() {
    let mut observed = clean();
    let seen = &mut observed.tracks[0];
    let mut bytes = seen.media["1/v0/106.m4s"].bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    put(seen, "1/v0/106.m4s", bytes);
    breaks(&observed, &["C4"]);
}

#[test]
fn c5_unsigned_offsets() {
    bytes_break(&["C5"], |bytes| {
        // version 0, a composition offset of 5
        poke(bytes, b"trun", 0, 0);
        let at = bytes.windows(4).position(|w| w == b"trun").unwrap() + 4;
        bytes[at + 4 + 4 + 4 + 12 + 3] = 5;
    });
}

#[test]
fn c6_codecs() {
    let mut observed = clean();
    for init in observed.tracks[0].inits.values_mut() {
        init.codec = "avc1.640020".to_owned();
    }
    breaks(&observed, &["C6"]);
}
