//! One `moof` and its `mdat`.

use bytes::Bytes;
use common::media::Ticks;
use mp4_atom::{
    BufMut, Encode, FourCC, Mfhd, Moof, Prft, ReferenceTime, Styp as StypBox, Tfdt, Tfhd, Traf,
    Trun, TrunEntry, TrunSamples,
};

/// What stands before the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// mfhd: grows by one with every chunk of a track; it may wrap.
    pub sequence: u32,
    /// [`super::TRACK_ID`], as the init segment has it.
    pub track_id: u32,
    /// tfdt, in the track's timescale: where the previous chunk ended (C3).
    pub base_dts: Ticks,
    /// For the first chunk of a segment; the others go without.
    pub styp: Option<Styp>,
    /// Left out unless a manifest advertises it (D4).
    pub prft: Option<ReferenceClock>,
}

/// What begins with this chunk, so which brands its `styp` claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Styp {
    /// A segment: a fragment and a chunk too.
    Segment,
    /// A fragment within a segment: a chunk that begins with a sync sample.
    Fragment,
    /// A chunk alone.
    Chunk,
}

/// The wall clock at the encoder for the first sample of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReferenceClock {
    /// NTP's 64 bits: seconds since 1900 and their binary fraction.
    pub ntp: u64,
    /// Presentation time of the chunk's first sample, track timescale.
    pub media_time: Ticks,
}

/// A sample whose times are final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSample {
    /// Ticks of the track's timescale.
    pub duration: u32,
    pub sync: bool,
    /// Presentation less decode time, ticks; negative without an edit list (C5).
    pub composition_offset: i32,
    pub data: Bytes,
}

/// sample_depends_on = 2: it needs no other sample.
const SYNC_FLAGS: u32 = 0x0200_0000;
/// sample_depends_on = 1 and sample_is_non_sync_sample.
const NON_SYNC_FLAGS: u32 = 0x0101_0000;

const BOX_HEADER_LEN: usize = 8;
/// moof, mfhd, traf, tfhd with a track id, tfdt version 1, trun with a data offset.
const MOOF_FIXED_LEN: usize = 8 + 16 + 8 + 16 + 20 + 20;

/// Encodes one chunk: `[styp] [prft] moof mdat` (C2), each payload copied once.
///
/// # Panics
/// If the samples' bytes exceed 4 GiB: an RTMP message is a thousand times
/// smaller, and a chunk holds about 100 ms.
#[must_use]
pub fn chunk(header: &ChunkHeader, samples: &[ChunkSample]) -> Bytes {
    let payload_len: usize = samples.iter().map(|sample| sample.data.len()).sum();
    let uniform = Uniform::of(samples);
    let moof_len = moof_len(samples.len(), uniform);
    let mdat_len = BOX_HEADER_LEN + payload_len;

    // styp is 32 bytes and prft 32 at most: one allocation holds it all.
    let mut out = Vec::with_capacity(64 + moof_len + mdat_len);
    if let Some(styp) = header.styp {
        encode(&styp_box(styp), &mut out);
    }
    if let Some(clock) = header.prft {
        encode(&prft_box(header.track_id, clock), &mut out);
    }
    let moof_at = out.len();
    encode(
        &moof(header, samples, uniform, moof_len + BOX_HEADER_LEN),
        &mut out,
    );
    debug_assert_eq!(out.len() - moof_at, moof_len, "the length is known ahead");
    out.append_slice(&size32(mdat_len).to_be_bytes());
    out.append_slice(b"mdat");
    for sample in samples {
        out.append_slice(&sample.data);
    }
    Bytes::from(out)
}

/// What all samples of a chunk have in common when only their sizes differ:
/// audio, as a rule. Said once in the tfhd instead of for every sample.
#[derive(Clone, Copy)]
struct Uniform {
    duration: u32,
    sync: bool,
}

impl Uniform {
    fn of(samples: &[ChunkSample]) -> Option<Self> {
        let (first, rest) = samples.split_first()?;
        let same = |one: &ChunkSample| {
            one.duration == first.duration && one.sync == first.sync && one.composition_offset == 0
        };
        (!rest.is_empty() && samples.iter().all(same)).then_some(Self {
            duration: first.duration,
            sync: first.sync,
        })
    }
}

const fn moof_len(samples: usize, uniform: Option<Uniform>) -> usize {
    match uniform {
        Some(_) => MOOF_FIXED_LEN + 8 + 4 * samples,
        None => MOOF_FIXED_LEN + 16 * samples,
    }
}

fn moof(
    header: &ChunkHeader,
    samples: &[ChunkSample],
    uniform: Option<Uniform>,
    data_offset: usize,
) -> Moof {
    let entry = |sample: &ChunkSample| {
        let mut entry = TrunEntry {
            size: Some(size32(sample.data.len())),
            ..TrunEntry::default()
        };
        if uniform.is_none() {
            entry.duration = Some(sample.duration);
            entry.flags = Some(flags(sample.sync));
            entry.cts = Some(sample.composition_offset.into());
        }
        entry
    };
    let entries = samples.iter().map(entry).collect();
    Moof {
        mfhd: Mfhd {
            sequence_number: header.sequence,
        },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: header.track_id,
                default_base_is_moof: true,
                default_sample_duration: uniform.map(|all| all.duration),
                default_sample_flags: uniform.map(|all| flags(all.sync)),
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt {
                base_media_decode_time: header.base_dts.0,
            }),
            trun: vec![Trun {
                data_offset: i32::try_from(data_offset).ok(),
                samples: TrunSamples::Explicit(entries),
            }],
            ..Traf::default()
        }],
    }
}

const fn flags(sync: bool) -> u32 {
    if sync { SYNC_FLAGS } else { NON_SYNC_FLAGS }
}

fn styp_box(styp: Styp) -> StypBox {
    let brands: &[&[u8; 4]] = match styp {
        Styp::Segment => &[b"msdh", b"cmfs", b"cmff", b"cmfl"],
        Styp::Fragment => &[b"cmff", b"cmfl"],
        Styp::Chunk => &[b"cmfl"],
    };
    StypBox {
        major_brand: FourCC::new(brands[0]),
        minor_version: 0,
        compatible_brands: brands.iter().map(|brand| FourCC::new(brand)).collect(),
    }
}

fn prft_box(track_id: u32, clock: ReferenceClock) -> Prft {
    Prft {
        reference_track_id: track_id,
        ntp_timestamp: clock.ntp,
        media_time: clock.media_time.0,
        utc_time_semantics: ReferenceTime::Input,
    }
}

fn size32(len: usize) -> u32 {
    u32::try_from(len).expect("a chunk is far below 4 GiB")
}

fn encode(one: &impl Encode, out: &mut Vec<u8>) {
    one.encode(out)
        .expect("every field is in its range by construction");
}
