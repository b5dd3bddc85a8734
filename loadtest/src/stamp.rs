//! The stamp that a publisher puts into each video frame and a viewer reads
//! back: wall clock and frame number as an SEI message.
//!
//! In: a time and a counter, or the bytes of one sample. Out: a NAL unit, or
//! the stamp found. The message is user_data_unregistered (H.264 annex D.1.7)
//! of 32 bytes: [`UUID`], Unix microseconds, counter, both big-endian. It
//! travels unchanged through RTMP, CMAF and HLS, since none of them looks
//! inside a sample. Invariant: `find` gives back exactly what `append` wrote.

/// Names the message as ours.
pub const UUID: [u8; 16] = [
    0x94, 0x33, 0x75, 0x20, 0xdb, 0xeb, 0x48, 0x72, 0x99, 0x59, 0xcd, 0x6e, 0x50, 0xbf, 0xfb, 0x20,
];

const NAL_SEI: u8 = 6;
const NAL_DELIMITER: u8 = 9;
const USER_DATA_UNREGISTERED: usize = 5;
const PAYLOAD_LEN: usize = 32;

/// What one frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Wall clock as the frame was handed to the RTMP socket.
    pub unix_us: u64,
    /// Frames sent before this one by the same publisher.
    pub counter: u64,
}

/// Appends the stamp as one NAL unit, without start code or length.
pub fn append(nal: &mut Vec<u8>, stamp: Stamp) {
    let mut plain = Vec::with_capacity(PAYLOAD_LEN + 4);
    plain.extend_from_slice(&[NAL_SEI, 5, 32]);
    plain.extend_from_slice(&UUID);
    plain.extend_from_slice(&stamp.unix_us.to_be_bytes());
    plain.extend_from_slice(&stamp.counter.to_be_bytes());
    // rbsp_trailing_bits
    plain.push(0x80);
    escape(&plain, nal);
}

/// Copies an AVCC sample with the stamp in front of its picture.
///
/// An access unit delimiter stays first (H.264 7.4.1.2.3). `None` if the
/// sample isn't made of length-prefixed NAL units.
#[must_use]
pub fn into_sample(sample: &[u8], nal_length: usize, stamp: Stamp) -> Option<Vec<u8>> {
    let mut nal = Vec::with_capacity(PAYLOAD_LEN + 12);
    append(&mut nal, stamp);
    let mut at = 0;
    if let Some((first, end)) = next_nal(sample, 0, nal_length)?
        && first.first().map(|b| b & 0x1f) == Some(NAL_DELIMITER)
    {
        at = end;
    }
    let len = u32::try_from(nal.len()).ok()?.to_be_bytes();
    let mut out = Vec::with_capacity(sample.len() + nal.len() + nal_length);
    out.extend_from_slice(sample.get(..at)?);
    out.extend_from_slice(len.get(4usize.checked_sub(nal_length)?..)?);
    out.extend_from_slice(&nal);
    out.extend_from_slice(sample.get(at..)?);
    Some(out)
}

/// The stamp in an AVCC sample, if one of its SEI messages is ours.
#[must_use]
pub fn find(sample: &[u8], nal_length: usize) -> Option<Stamp> {
    let mut at = 0;
    while let Some((nal, end)) = next_nal(sample, at, nal_length)? {
        let kind = nal.first().map(|b| b & 0x1f);
        if kind == Some(NAL_SEI)
            && let Some(stamp) = find_in_sei(nal)
        {
            return Some(stamp);
        }
        // Nothing of ours stands behind the first slice of a picture.
        if kind.is_some_and(|kind| (1..=5).contains(&kind)) {
            return None;
        }
        at = end;
    }
    None
}

/// The NAL unit at `at` and where it ends. Outer `None`: the lengths don't fit
/// the sample; inner `None`: the sample is over.
fn next_nal(sample: &[u8], at: usize, nal_length: usize) -> Option<Option<(&[u8], usize)>> {
    if at == sample.len() {
        return Some(None);
    }
    if !(1..=4).contains(&nal_length) {
        return None;
    }
    let start = at.checked_add(nal_length)?;
    let len = sample
        .get(at..start)?
        .iter()
        .fold(0usize, |len, byte| (len << 8) | usize::from(*byte));
    let end = start.checked_add(len)?;
    Some(Some((sample.get(start..end)?, end)))
}

/// Walks the messages of one SEI NAL unit (H.264 7.3.2.3).
fn find_in_sei(nal: &[u8]) -> Option<Stamp> {
    let plain = unescape(nal.get(1..)?);
    let mut rest = plain.as_slice();
    loop {
        let (kind, after) = ff_coded(rest)?;
        let (len, after) = ff_coded(after)?;
        let payload = after.get(..len)?;
        if kind == USER_DATA_UNREGISTERED
            && let Some(stamp) = decode(payload)
        {
            return Some(stamp);
        }
        rest = after.get(len..)?;
        if rest.first().is_none_or(|byte| *byte == 0x80) {
            return None;
        }
    }
}

fn decode(payload: &[u8]) -> Option<Stamp> {
    let ours = payload.len() == PAYLOAD_LEN && payload.get(..16)? == UUID;
    if !ours {
        return None;
    }
    Some(Stamp {
        unix_us: u64::from_be_bytes(payload.get(16..24)?.try_into().ok()?),
        counter: u64::from_be_bytes(payload.get(24..32)?.try_into().ok()?),
    })
}

/// A number written as a run of 0xff and a last byte.
fn ff_coded(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let full = bytes.iter().take_while(|byte| **byte == 0xff).count();
    let last = bytes.get(full)?;
    Some((full * 255 + usize::from(*last), bytes.get(full + 1..)?))
}

/// H.264 7.3.1: no 00 00 00..03 inside a NAL unit.
fn escape(plain: &[u8], out: &mut Vec<u8>) {
    let mut zeros = 0;
    for byte in plain {
        if zeros == 2 && *byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
}

fn unescape(nal: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for byte in nal {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn golden_bytes() {
        let mut nal = Vec::new();
        append(
            &mut nal,
            Stamp {
                unix_us: 0x0006_0102_0304_0506,
                counter: 1,
            },
        );
        let wanted = "06 05 20 94337520dbeb48729959cd6e50bffb20
                      0006010203040506 0000 03 0000 03 0000 03 0001 80";
        assert_eq!(nal, hex(wanted));
    }

    #[test]
    fn every_value_comes_back() {
        let values = [
            0,
            1,
            2,
            3,
            0xff,
            0x0100,
            0x00ff_0000,
            0x0003_0000_0003_0000,
            u64::MAX,
        ];
        for unix_us in values {
            for counter in values {
                let stamp = Stamp { unix_us, counter };
                for nal_length in [1, 2, 4] {
                    let picture = [&vec![0; nal_length - 1][..], &[2, 0x65, 0xff]].concat();
                    let sample = into_sample(&picture, nal_length, stamp).unwrap();
                    assert_eq!(find(&sample, nal_length), Some(stamp));
                    assert!(sample.ends_with(&picture));
                }
            }
        }
    }

    #[test]
    fn escaped_bytes_hold_no_start_code() {
        let mut nal = Vec::new();
        let stamp = Stamp {
            unix_us: 0,
            counter: 0,
        };
        append(&mut nal, stamp);
        assert!(!nal.windows(3).any(|w| w[..2] == [0, 0] && w[2] < 3));
    }

    #[test]
    fn stands_behind_the_delimiter_and_beside_other_messages() {
        let stamp = Stamp {
            unix_us: 7,
            counter: 9,
        };
        let x264 = [&[6, 5, 17][..], &[0xdc; 17], &[0x80]].concat();
        let len = u8::try_from(x264.len()).unwrap();
        let sample = [
            &[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, len][..],
            &x264,
            &[0, 0, 0, 2, 0x65, 1],
        ]
        .concat();
        let stamped = into_sample(&sample, 4, stamp).unwrap();
        assert_eq!(stamped[..6], sample[..6]);
        assert_eq!(find(&stamped, 4), Some(stamp));
        assert_eq!(find(&sample, 4), None);
    }

    #[test]
    fn broken_samples_hold_no_stamp() {
        let stamp = Stamp {
            unix_us: 1,
            counter: 1,
        };
        let sample = into_sample(&[0, 0, 0, 1, 0x65], 4, stamp).unwrap();
        for cut in 0..sample.len() {
            let _ = find(&sample[..cut], 4);
        }
        assert_eq!(into_sample(&[0, 0, 0, 9, 1], 4, stamp), None);
        assert_eq!(find(&[0xff; 64], 4), None);
        assert_eq!(find(&[0, 0, 0, 4, 6, 0xff, 0xff, 0xff], 4), None);
    }
}
