//! The init segment (`ftyp` + `moov` without `mehd`, C1) and what else the
//! packager and the playlists need to know of a track.

use bytes::Bytes;
use common::{media::Timescale, names::Kind};
use mp4_atom::{
    Audio, Avc1, Avcc, AvccExt, Btrt, BufMut as _, Codec, Colr, Dinf, Dref, Encode, FixedPoint,
    FourCC, Ftyp, Hdlr, Mdhd, Mp4a, Mvex, Mvhd, Pasp, Smhd, Stbl, Stco, Stsd, Tkhd, Trex, Url,
    Visual, Vmhd,
    esds::{DecoderConfig, DecoderSpecific, EsDescriptor, Esds, SLConfig},
};

use super::TRACK_ID;
use crate::sample::CodecConfig;

/// Why a configuration has no init segment.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("a picture of {0} x {1} does not fit a sample entry")]
    Size(u32, u32),
    #[error("a sample rate of {0} Hz is outside 4000 to 192000")]
    SampleRate(u32),
    #[error("the init segment cannot be encoded: {0}")]
    Boxes(#[from] mp4_atom::Error),
}

/// What a video track's parameter sets say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoTrack {
    /// RFC 6381.
    pub codec: String,
    /// Cropped, in luma samples.
    pub size: (u32, u32),
    pub frame_rate: Option<(u32, u32)>,
    /// Width to height of one sample, unless it is square or not said.
    pub sample_aspect: Option<(u16, u16)>,
    pub colour: Option<Colour>,
    /// As the publisher declared it.
    pub bitrate_bps: Option<u32>,
    pub entry: VideoEntry,
}

/// Coding-independent code points (ISO/IEC 23091-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    pub primaries: u8,
    pub transfer: u8,
    pub matrix: u8,
    pub full_range: bool,
}

/// The codec's own box in the sample entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoEntry {
    /// `avc1`: samples carry NAL units behind four-byte lengths.
    Avc(AvcRecord),
}

/// avcC (ISO/IEC 14496-15 5.3.3.1) but for its length size, which is always 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvcRecord {
    pub profile: u8,
    pub compatibility: u8,
    pub level: u8,
    /// At most 31.
    pub sps: Vec<Bytes>,
    /// At most 255.
    pub pps: Vec<Bytes>,
    /// For the High profiles.
    pub ext: Option<AvcRecordExt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvcRecordExt {
    pub chroma_format: u8,
    pub bit_depth_luma: u8,
    pub bit_depth_chroma: u8,
}

/// What an audio track's configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioTrack {
    /// RFC 6381.
    pub codec: String,
    pub channels: u32,
    /// As decoded, so twice the core's for HE-AAC; the track's timescale.
    pub sample_rate_hz: u32,
    /// Of one coded frame at that rate.
    pub frame_samples: u32,
    /// As the publisher declared it.
    pub bitrate_bps: Option<u32>,
    pub entry: AudioEntry,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioEntry {
    /// `mp4a` with this AudioSpecificConfig.
    Aac(Bytes),
}

/// # Errors
/// [`ConfigError`] when the picture's size or a parameter set fits no box.
pub fn video_config(track: &VideoTrack) -> Result<CodecConfig, ConfigError> {
    let (width, height) = track.size;
    let fit = |side: u32| u16::try_from(side).ok().filter(|side| *side > 0);
    let (Some(width), Some(height)) = (fit(width), fit(height)) else {
        return Err(ConfigError::Size(width, height));
    };
    let VideoEntry::Avc(record) = &track.entry;
    let entry = Codec::Avc1(Avc1 {
        visual: Visual {
            data_reference_index: 1,
            width,
            height,
            ..Visual::default()
        },
        avcc: avcc(record),
        btrt: track.bitrate_bps.map(btrt),
        colr: track.colour.map(colr),
        pasp: track.sample_aspect.map(|(h, v)| Pasp {
            h_spacing: h.into(),
            v_spacing: v.into(),
        }),
        ..Avc1::default()
    });
    let shown_width = match track.sample_aspect {
        Some((h, v)) if v > 0 => u32::from(width) * u32::from(h) / u32::from(v),
        _ => width.into(),
    };
    let shown_width = u16::try_from(shown_width).unwrap_or(u16::MAX);
    Ok(CodecConfig {
        codec: track.codec.clone(),
        init: init_segment(Timescale::VIDEO, entry, Some((shown_width, height)))?,
        timescale: Timescale::VIDEO,
        kind: Kind::Video,
        size: Some(track.size),
        frame_rate: track.frame_rate,
        channels: None,
        sample_rate_hz: None,
        frame_samples: None,
    })
}

/// # Errors
/// [`ConfigError`] when the sample rate is none that a decoder would take.
pub fn audio_config(track: &AudioTrack) -> Result<CodecConfig, ConfigError> {
    let rate = track.sample_rate_hz;
    let timescale = Timescale::new(rate)
        .filter(|_| (4_000..=192_000).contains(&rate))
        .ok_or(ConfigError::SampleRate(rate))?;
    let AudioEntry::Aac(asc) = &track.entry;
    let entry = Codec::Mp4a(Mp4a {
        audio: Audio {
            data_reference_index: 1,
            channel_count: u16::try_from(track.channels).unwrap_or(2),
            sample_size: 16,
            // 16.16 has no room for 88.2 kHz and above: 0, and the decoder
            // takes its own configuration's word (ISO/IEC 14496-12 12.2.3.1).
            sample_rate: u16::try_from(rate).unwrap_or(0).into(),
        },
        esds: esds(asc, track.bitrate_bps.unwrap_or(0)),
        btrt: track.bitrate_bps.map(btrt),
        taic: None,
    });
    Ok(CodecConfig {
        codec: track.codec.clone(),
        init: init_segment(timescale, entry, None)?,
        timescale,
        kind: Kind::Audio,
        size: None,
        frame_rate: None,
        channels: Some(track.channels),
        sample_rate_hz: Some(rate),
        frame_samples: Some(track.frame_samples),
    })
}

/// `size` as shown, for a video track; an audio track has none.
fn init_segment(
    timescale: Timescale,
    entry: Codec,
    size: Option<(u16, u16)>,
) -> Result<Bytes, mp4_atom::Error> {
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: [b"iso6", b"cmfc", b"cmf2"].map(FourCC::new).to_vec(),
    };
    let mvhd = Mvhd {
        timescale: timescale.hz(),
        rate: 1.into(),
        volume: 1.into(),
        next_track_id: TRACK_ID + 1,
        ..Mvhd::default()
    };
    // C1: no mehd, a live track has no duration yet.
    let mvex = Mvex {
        mehd: None,
        trex: vec![Trex {
            track_id: TRACK_ID,
            default_sample_description_index: 1,
            ..Trex::default()
        }],
    };
    let mut out = Vec::with_capacity(1_024);
    ftyp.encode(&mut out)?;
    out.encode_atom(b"moov", |out| {
        mvhd.encode(out)?;
        out.encode_atom(b"trak", |out| trak(timescale, entry, size, out))?;
        mvex.encode(out)
    })?;
    Ok(Bytes::from(out))
}

/// The library's own structs would put mvex before trak and smhd after stbl.
/// Players read any order; the usual one is that of ISO/IEC 14496-12 6.3.4.
fn trak(
    timescale: Timescale,
    entry: Codec,
    size: Option<(u16, u16)>,
    out: &mut Vec<u8>,
) -> Result<(), mp4_atom::Error> {
    let (width, height) = size.unwrap_or_default();
    let (handler, name) = match size {
        Some(_) => (b"vide", "video"),
        None => (b"soun", "audio"),
    };
    let tkhd = Tkhd {
        track_id: TRACK_ID,
        enabled: true,
        in_movie: true,
        volume: FixedPoint::from(u8::from(size.is_none())),
        width: width.into(),
        height: height.into(),
        ..Tkhd::default()
    };
    let mdhd = Mdhd {
        timescale: timescale.hz(),
        language: "und".to_owned(),
        ..Mdhd::default()
    };
    let hdlr = Hdlr {
        handler: FourCC::new(handler),
        name: name.to_owned(),
    };
    // The library's default has no entry, and then data_reference_index 1
    // names nothing.
    let dref = Dref {
        entries: vec![Url::default().into()],
    };
    let stbl = Stbl {
        stsd: Stsd {
            codecs: vec![entry],
        },
        stco: Some(Stco::default()),
        ..Stbl::default()
    };
    tkhd.encode(out)?;
    out.encode_atom(b"mdia", |out| {
        mdhd.encode(out)?;
        hdlr.encode(out)?;
        out.encode_atom(b"minf", |out| {
            match size {
                Some(_) => Vmhd::default().encode(out)?,
                None => Smhd::default().encode(out)?,
            }
            Dinf { dref }.encode(out)?;
            stbl.encode(out)
        })
    })
}

fn avcc(record: &AvcRecord) -> Avcc {
    let sets = |sets: &[Bytes]| sets.iter().map(|set| set.to_vec()).collect();
    Avcc {
        configuration_version: 1,
        avc_profile_indication: record.profile,
        profile_compatibility: record.compatibility,
        avc_level_indication: record.level,
        length_size: 4,
        sequence_parameter_sets: sets(&record.sps),
        picture_parameter_sets: sets(&record.pps),
        ext: record.ext.map(|ext| AvccExt {
            chroma_format: ext.chroma_format,
            bit_depth_luma: ext.bit_depth_luma,
            bit_depth_chroma: ext.bit_depth_chroma,
            sequence_parameter_sets_ext: Vec::new(),
        }),
    }
}

fn colr(colour: Colour) -> Colr {
    Colr::Nclx {
        colour_primaries: colour.primaries.into(),
        transfer_characteristics: colour.transfer.into(),
        matrix_coefficients: colour.matrix.into(),
        full_range_flag: colour.full_range,
    }
}

fn btrt(bitrate_bps: u32) -> Btrt {
    Btrt {
        buffer_size_db: 0,
        max_bitrate: bitrate_bps,
        avg_bitrate: bitrate_bps,
    }
}

fn esds(asc: &Bytes, bitrate_bps: u32) -> Esds {
    Esds {
        es_desc: EsDescriptor {
            // ISO/IEC 14496-14 3.1.2: 0 in a file, the track's id stands in.
            es_id: 0,
            dec_config: DecoderConfig {
                // Audio ISO/IEC 14496-3, whatever the AAC.
                object_type_indication: 0x40,
                // AudioStream.
                stream_type: 5,
                max_bitrate: bitrate_bps,
                avg_bitrate: bitrate_bps,
                dec_specific: Some(DecoderSpecific {
                    raw: asc.to_vec(),
                    ..DecoderSpecific::default()
                }),
                ..DecoderConfig::default()
            },
            sl_config: SLConfig::default(),
            ..EsDescriptor::default()
        },
    }
}
