//! H.264: the decoder configuration record, and the NAL units of a sample
//! (ISO/IEC 14496-15 5.3, ISO/IEC 14496-10 7.3.1 and D.1).

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    MAX_CONFIG_LEN,
    bits::Bits,
    error::Reason,
    sps::{Sps, without_emulation_prevention},
};
use crate::{
    cmaf::{self, AvcRecord, AvcRecordExt, VideoEntry, VideoTrack},
    sample::CodecConfig,
};

const NAL_SLICE: u8 = 1;
const NAL_IDR: u8 = 5;
const NAL_SEI: u8 = 6;
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;
const NAL_AUD: u8 = 9;
const NAL_FILLER: u8 = 12;

/// avcC counts its sequence parameter sets in five bits.
const MAX_SPS: usize = 31;
/// A picture parameter set's id is at most 255 (7.4.2.2), so there may be 256;
/// avcC counts them in eight bits.
const MAX_PPS_ID: u32 = 255;
const MAX_PPS: usize = 255;
/// x264 puts its options in the first kilobyte or two of an SEI.
const MAX_SEI_SEARCHED: usize = 4_096;
/// The uuid_iso_iec_11578 of x264's user data.
const X264_UUID: [u8; 16] = [
    0xdc, 0x45, 0xe9, 0xbd, 0xe6, 0xd9, 0x48, 0xb7, 0x96, 0x2c, 0xd8, 0x20, 0xd9, 0x23, 0xee, 0xef,
];

/// What must be known to read one H.264 track's samples.
#[derive(Debug)]
pub(super) struct Stream {
    /// Bytes of a NAL unit's length, as the publisher writes it.
    length_size: usize,
    sps: BTreeMap<u32, Bytes>,
    pps: BTreeMap<u32, Bytes>,
    keyint: Option<u32>,
}

/// What one sample holds.
#[derive(Debug, Default)]
pub(super) struct AccessUnit {
    /// NAL units behind four-byte lengths; `None` without a picture.
    pub data: Option<Bytes>,
    /// Holds an IDR picture, whatever the FLV header says. A recovery point
    /// alone is none: a player cannot start from it.
    pub sync: bool,
    /// Parameter sets in the sample differ from those known.
    pub sets_changed: bool,
    /// x264 names its longest GOP, for the first time or anew.
    pub keyint: Option<u32>,
    pub bad_nal_units: u64,
}

impl Stream {
    /// # Errors
    /// [`Reason::AvcRecord`] or [`Reason::Sps`].
    pub(super) fn from_record(record: &Bytes) -> Result<Self, Reason> {
        let short = Reason::AvcRecord("ends early");
        let [version, _, _, _, length_size, sps_count] = *record.first_chunk().ok_or(short)?;
        if version != 1 {
            return Err(Reason::AvcRecord("its version is not 1"));
        }
        let mut stream = Self {
            length_size: usize::from(length_size & 3) + 1,
            sps: BTreeMap::new(),
            pps: BTreeMap::new(),
            keyint: None,
        };
        if stream.length_size == 3 {
            return Err(Reason::AvcRecord("NAL unit lengths of three bytes"));
        }
        let mut rest = record.slice(6..);
        for _ in 0..sps_count & 0x1f {
            let set = take_set(&mut rest)?;
            let sps = Sps::parse(&set)?;
            stream.sps.insert(sps.id, set);
        }
        let pps_count = rest.first().copied();
        rest = rest.slice(rest.len().min(1)..);
        for _ in 0..pps_count.unwrap_or(0) {
            let set = take_set(&mut rest)?;
            let id = pps_id(&set).ok_or(Reason::AvcRecord("a picture parameter set without id"))?;
            stream.pps.insert(id, set);
        }
        // What follows for the High profiles the set says itself.
        Ok(stream)
    }

    pub(super) const fn keyint(&self) -> Option<u32> {
        self.keyint
    }

    pub(super) const fn recall_keyint(&mut self, keyint: Option<u32>) {
        self.keyint = keyint;
    }

    /// The configuration that the known parameter sets make, once there is one
    /// of each kind.
    ///
    /// # Errors
    /// [`Reason::Sps`] or [`Reason::Config`].
    pub(super) fn config(&self, bitrate_bps: Option<u32>) -> Result<Option<CodecConfig>, Reason> {
        let Some(first) = self.sps.values().next() else {
            return Ok(None);
        };
        if self.pps.is_empty() {
            return Ok(None);
        }
        let sps = Sps::parse(first)?;
        let config = cmaf::video_config(&VideoTrack {
            codec: format!(
                "avc1.{:02x}{:02x}{:02x}",
                sps.profile, sps.compatibility, sps.level
            ),
            size: sps.size,
            frame_rate: sps.vui.frame_rate,
            sample_aspect: sps.vui.sample_aspect,
            colour: sps.vui.colour,
            bitrate_bps,
            entry: VideoEntry::Avc(AvcRecord {
                profile: sps.profile,
                compatibility: sps.compatibility,
                level: sps.level,
                sps: self.sps.values().cloned().collect(),
                pps: self.pps.values().cloned().collect(),
                ext: sps.has_record_ext().then_some(AvcRecordExt {
                    chroma_format: sps.chroma_format,
                    bit_depth_luma: sps.bit_depth_luma,
                    bit_depth_chroma: sps.bit_depth_chroma,
                }),
            }),
        })?;
        Ok(Some(config))
    }

    /// Takes a sample apart: parameter sets are kept here and go into the init
    /// segment, delimiters and filler go, the rest stays in order.
    pub(super) fn access_unit(&mut self, sample: &Bytes) -> AccessUnit {
        let mut unit = AccessUnit::default();
        let mut kept = Kept::new(sample, self.length_size);
        let mut picture = false;
        let mut at = 0;
        while at < sample.len() {
            let Some(range) = nal_range(sample, at, self.length_size) else {
                unit.bad_nal_units += 1;
                break;
            };
            at = range.end;
            let Some(&header) = sample.get(range.start).filter(|_| !range.is_empty()) else {
                unit.bad_nal_units += 1;
                continue;
            };
            let nal = sample.slice(range.clone());
            match header & 0x1f {
                NAL_SPS | NAL_PPS => unit.sets_changed |= self.learn(nal),
                0 | NAL_AUD..=NAL_FILLER | 24.. => {}
                kind => {
                    picture |= (NAL_SLICE..=NAL_IDR).contains(&kind);
                    unit.sync |= kind == NAL_IDR;
                    if kind == NAL_SEI
                        && let Some(keyint) = x264_keyint(&nal)
                    {
                        // Some writers repeat the message within one sample.
                        if self.keyint != Some(keyint) {
                            unit.keyint = Some(keyint);
                        }
                        self.keyint = Some(keyint);
                    }
                    kept.keep(range);
                }
            }
        }
        unit.data = picture.then(|| kept.into_bytes());
        unit
    }

    /// Whether the set is new or other than the one of its id.
    fn learn(&mut self, nal: Bytes) -> bool {
        let id = match nal.first().map(|header| header & 0x1f) {
            Some(NAL_SPS) => Sps::parse(&nal).ok().map(|sps| sps.id),
            _ => pps_id(&nal),
        };
        let Some(id) = id else { return false };
        let is_sps = nal.first().is_some_and(|header| header & 0x1f == NAL_SPS);
        let all = self.sps.values().chain(self.pps.values());
        let held: usize = all.map(Bytes::len).sum();
        let (sets, max) = if is_sps {
            (&mut self.sps, MAX_SPS)
        } else {
            (&mut self.pps, MAX_PPS)
        };
        let full = sets.len() >= max && !sets.contains_key(&id);
        // A set's length is 16 bits in avcC.
        if full || nal.len() > usize::from(u16::MAX) || held + nal.len() > MAX_CONFIG_LEN {
            return false;
        }
        if sets.get(&id) == Some(&nal) {
            return false;
        }
        // A copy, so that a few bytes don't keep a whole picture in memory.
        sets.insert(id, Bytes::copy_from_slice(&nal));
        true
    }
}

/// The NAL units that stay: the sample itself as long as nothing is left out.
struct Kept<'a> {
    sample: &'a Bytes,
    /// Whether the bytes so far can stay as they are.
    intact_to: Option<usize>,
    rebuilt: BytesMut,
    length_size: usize,
}

impl<'a> Kept<'a> {
    fn new(sample: &'a Bytes, length_size: usize) -> Self {
        Self {
            sample,
            intact_to: (length_size == 4).then_some(0),
            rebuilt: BytesMut::new(),
            length_size,
        }
    }

    fn keep(&mut self, range: std::ops::Range<usize>) {
        if let Some(to) = self.intact_to {
            if to + self.length_size == range.start {
                self.intact_to = Some(range.end);
                return;
            }
            self.rebuilt
                .put_slice(self.sample.get(..to).unwrap_or_default());
            self.intact_to = None;
        }
        let nal = self.sample.get(range).unwrap_or_default();
        // An RTMP message is shorter than 2^32.
        self.rebuilt.put_u32(u32::try_from(nal.len()).unwrap_or(0));
        self.rebuilt.put_slice(nal);
    }

    fn into_bytes(self) -> Bytes {
        match self.intact_to {
            // A copy, so that what waits is not held with a message of filler.
            Some(to) if to < self.sample.len() / 2 => {
                Bytes::copy_from_slice(self.sample.get(..to).unwrap_or_default())
            }
            Some(to) => self.sample.slice(..to),
            None => self.rebuilt.freeze(),
        }
    }
}

fn nal_range(sample: &[u8], at: usize, length_size: usize) -> Option<std::ops::Range<usize>> {
    let start = at.checked_add(length_size)?;
    let len = sample
        .get(at..start)?
        .iter()
        .try_fold(0usize, |len, byte| {
            Some(len.checked_mul(256)? + usize::from(*byte))
        })?;
    let end = start.checked_add(len)?;
    (end <= sample.len()).then_some(start..end)
}

fn take_set(rest: &mut Bytes) -> Result<Bytes, Reason> {
    let short = Reason::AvcRecord("a parameter set ends early");
    let Some((len, _)) = rest.split_first_chunk::<2>() else {
        return Err(short);
    };
    let end = 2 + usize::from(u16::from_be_bytes(*len));
    if end == 2 || end > rest.len() {
        return Err(short);
    }
    let set = Bytes::copy_from_slice(rest.get(2..end).unwrap_or_default());
    *rest = rest.slice(end..);
    Ok(set)
}

fn pps_id(nal: &[u8]) -> Option<u32> {
    // The id needs at most 17 bits, which 8 bytes hold whatever is escaped.
    let head = nal.get(1..nal.len().min(9))?;
    let rbsp = without_emulation_prevention(head);
    let id = Bits::new(&rbsp).ue().ok()?;
    (id <= MAX_PPS_ID).then_some(id)
}

/// `keyint` from the options that x264 writes into its first picture as
/// user_data_unregistered. Looked for as text: no byte of it needs an escape.
fn x264_keyint(sei: &[u8]) -> Option<u32> {
    const KEY: &[u8] = b" keyint=";
    let sei = sei.get(..sei.len().min(MAX_SEI_SEARCHED))?;
    let text = after(sei, &X264_UUID)?;
    let digits = after(text, KEY)?;
    let len = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let number = std::str::from_utf8(digits.get(..len)?).ok()?;
    number
        .parse()
        .ok()
        .filter(|frames| (1..=100_000).contains(frames))
}

fn after<'a>(hay: &'a [u8], needle: &[u8]) -> Option<&'a [u8]> {
    let at = hay
        .windows(needle.len())
        .position(|window| window == needle)?;
    hay.get(at + needle.len()..)
}
