//! The H.264 sequence parameter set, as far as a player must be told of it
//! (ISO/IEC 14496-10 7.3.2.1.1 and E.1.1).
//!
//! Read leniently: a publisher's level may be too low for its picture and its
//! VUI may end early, and decoders play both. What is refused is what leaves no
//! picture size.

use super::{
    bits::{Bits, OutOfBits},
    error::Reason,
};
use crate::cmaf::Colour;

/// Macroblocks along one side: 16384 luma samples.
const MAX_SIDE_MBS: u32 = 1_024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sps {
    pub profile: u8,
    pub compatibility: u8,
    pub level: u8,
    pub id: u32,
    pub chroma_format: u8,
    pub bit_depth_luma: u8,
    pub bit_depth_chroma: u8,
    /// Cropped, in luma samples.
    pub size: (u32, u32),
    pub vui: Vui,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Vui {
    pub sample_aspect: Option<(u16, u16)>,
    pub colour: Option<Colour>,
    /// Frames a second, reduced.
    pub frame_rate: Option<(u32, u32)>,
}

impl From<OutOfBits> for Reason {
    fn from(_: OutOfBits) -> Self {
        Self::Sps("ends early")
    }
}

impl Sps {
    /// # Errors
    /// [`Reason::Sps`] when the set ends before the picture's size or the size
    /// is none.
    pub(super) fn parse(nal: &[u8]) -> Result<Self, Reason> {
        let payload = nal.get(1..).ok_or(OutOfBits)?;
        let rbsp = without_emulation_prevention(payload);
        let mut bits = Bits::new(&rbsp);
        let (profile, compatibility, level) = (bits.u8(8)?, bits.u8(8)?, bits.u8(8)?);
        let id = bits.ue()?;
        if id > 31 {
            return Err(Reason::Sps("its id is over 31"));
        }
        let chroma = Chroma::read(&mut bits, profile)?;
        // log2_max_frame_num_minus4
        bits.ue()?;
        skip_picture_order(&mut bits)?;
        // max_num_ref_frames, gaps_in_frame_num_value_allowed_flag
        bits.ue()?;
        bits.flag()?;
        let size = picture_size(&mut bits, &chroma)?;
        let mut vui = Vui::default();
        if let Ok(true) = bits.flag() {
            // What came before a premature end is kept.
            let _ended_early = vui.read(&mut bits);
        }
        Ok(Self {
            profile,
            compatibility,
            level,
            id,
            chroma_format: chroma.format,
            bit_depth_luma: chroma.bit_depth_luma,
            bit_depth_chroma: chroma.bit_depth_chroma,
            size,
            vui,
        })
    }

    /// Profiles whose avcC says chroma format and bit depths (14496-15 5.3.3.1.2).
    pub(super) const fn has_record_ext(&self) -> bool {
        !matches!(self.profile, 66 | 77 | 88)
    }
}

struct Chroma {
    format: u8,
    separate_planes: bool,
    bit_depth_luma: u8,
    bit_depth_chroma: u8,
}

impl Chroma {
    fn read(bits: &mut Bits<'_>, profile: u8) -> Result<Self, Reason> {
        let mut chroma = Self {
            format: 1,
            separate_planes: false,
            bit_depth_luma: 8,
            bit_depth_chroma: 8,
        };
        let told = matches!(
            profile,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        );
        if !told {
            return Ok(chroma);
        }
        chroma.format = small(bits.ue()?, 3).ok_or(Reason::Sps("no such chroma format"))?;
        if chroma.format == 3 {
            chroma.separate_planes = bits.flag()?;
        }
        let depth = |minus8| small(minus8, 6).ok_or(Reason::Sps("no such bit depth"));
        chroma.bit_depth_luma = 8 + depth(bits.ue()?)?;
        chroma.bit_depth_chroma = 8 + depth(bits.ue()?)?;
        // qpprime_y_zero_transform_bypass_flag
        bits.flag()?;
        if bits.flag()? {
            let lists = if chroma.format == 3 { 12 } else { 8 };
            for list in 0..lists {
                if bits.flag()? {
                    skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
        Ok(chroma)
    }

    /// Luma samples of one unit of cropping (table 6-1).
    const fn crop_unit(&self) -> (u32, u32) {
        match self.format {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        }
    }
}

fn skip_scaling_list(bits: &mut Bits<'_>, len: u32) -> Result<(), OutOfBits> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..len {
        if next != 0 {
            let delta = bits.se()?;
            next = last.wrapping_add(delta).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Ok(())
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Result<(), Reason> {
    match bits.ue()? {
        0 => {
            // log2_max_pic_order_cnt_lsb_minus4
            bits.ue()?;
        }
        1 => {
            // delta_pic_order_always_zero_flag and two offsets
            bits.flag()?;
            bits.se()?;
            bits.se()?;
            let cycle = bits.ue()?;
            if cycle > 255 {
                return Err(Reason::Sps("a picture order cycle over 255"));
            }
            for _ in 0..cycle {
                bits.se()?;
            }
        }
        2 => {}
        _ => return Err(Reason::Sps("no such picture order count type")),
    }
    Ok(())
}

fn picture_size(bits: &mut Bits<'_>, chroma: &Chroma) -> Result<(u32, u32), Reason> {
    const BAD: Reason = Reason::Sps("no picture of that size");
    let side = |minus1: u32| (minus1 < MAX_SIDE_MBS).then(|| 16 * (minus1 + 1));
    let width = side(bits.ue()?).ok_or(BAD)?;
    let map_units = side(bits.ue()?).ok_or(BAD)?;
    let frame_mbs_only = bits.flag()?;
    let fields = if frame_mbs_only { 1 } else { 2 };
    if !frame_mbs_only {
        // mb_adaptive_frame_field_flag
        bits.flag()?;
    }
    // direct_8x8_inference_flag
    bits.flag()?;
    let height = map_units * fields;
    if !bits.flag()? {
        return Ok((width, height));
    }
    let (unit_x, unit_y) = if chroma.separate_planes {
        (1, 1)
    } else {
        chroma.crop_unit()
    };
    let mut cropped = |full: u32, unit: u32| {
        let crop = u64::from(bits.ue()?) + u64::from(bits.ue()?);
        let left = u64::from(full).checked_sub(crop * u64::from(unit));
        let left = left.and_then(|left| u32::try_from(left).ok());
        left.filter(|left| *left > 0).ok_or(BAD)
    };
    let width = cropped(width, unit_x)?;
    Ok((width, cropped(height, unit_y * fields)?))
}

/// Table E-1, from aspect_ratio_idc 1.
const SAMPLE_ASPECTS: [(u16, u16); 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

impl Vui {
    fn read(&mut self, bits: &mut Bits<'_>) -> Result<(), OutOfBits> {
        if bits.flag()? {
            let aspect = match bits.u8(8)? {
                255 => (to_u16(bits.u(16)?), to_u16(bits.u(16)?)),
                idc => usize::from(idc)
                    .checked_sub(1)
                    .and_then(|row| SAMPLE_ASPECTS.get(row).copied())
                    .unwrap_or((1, 1)),
            };
            let said = aspect.0 > 0 && aspect.1 > 0 && aspect.0 != aspect.1;
            self.sample_aspect = said.then_some(aspect);
        }
        if bits.flag()? {
            // overscan_appropriate_flag
            bits.flag()?;
        }
        if bits.flag()? {
            // video_format
            bits.u(3)?;
            let full_range = bits.flag()?;
            if bits.flag()? {
                self.colour = Some(Colour {
                    primaries: bits.u8(8)?,
                    transfer: bits.u8(8)?,
                    matrix: bits.u8(8)?,
                    full_range,
                });
            }
        }
        if bits.flag()? {
            // chroma_sample_loc_type of both fields
            bits.ue()?;
            bits.ue()?;
        }
        if bits.flag()? {
            let (units_in_tick, time_scale) = (bits.u(32)?, bits.u(32)?);
            self.frame_rate = frame_rate(time_scale, units_in_tick);
        }
        Ok(())
    }
}

/// A frame is two ticks, of a field each (E.2.1). Only a rate between one frame
/// in ten seconds and a thousand a second is believed.
fn frame_rate(time_scale: u32, units_in_tick: u32) -> Option<(u32, u32)> {
    let (frames, seconds) = (u64::from(time_scale), 2 * u64::from(units_in_tick));
    let believed = frames > 0 && seconds > 0 && frames * 10 >= seconds && frames <= seconds * 1_000;
    if !believed {
        return None;
    }
    let divisor = gcd(frames, seconds);
    let reduced = |value: u64| u32::try_from(value / divisor).ok();
    reduced(frames).zip(reduced(seconds))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn small(value: u32, max: u8) -> Option<u8> {
    u8::try_from(value).ok().filter(|value| *value <= max)
}

fn to_u16(sixteen_bits: u32) -> u16 {
    u16::try_from(sixteen_bits).unwrap_or(u16::MAX)
}

/// Without the 3 of every 0, 0, 3 (7.4.1).
pub(super) fn without_emulation_prevention(payload: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    let keep = |byte: &u8| {
        let prevention = zeros >= 2 && *byte == 3;
        zeros = match *byte {
            0 => zeros + 1,
            _ => 0,
        };
        !prevention
    };
    payload.iter().copied().filter(keep).collect()
}
