//! AAC: the AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1 and 4.4.1).

use bytes::Bytes;

use super::{
    bits::{Bits, OutOfBits},
    error::Reason,
};
use crate::cmaf::{AudioEntry, AudioTrack};

/// Table 1.18.
const FREQUENCIES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];
const FREQUENCY_ESCAPE: u8 = 15;
const SYNC_EXTENSION: u32 = 0x2b7;
const AOT_SBR: u8 = 5;
const AOT_PS: u8 = 29;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AudioSpecificConfig {
    /// For the codec string: 5 and 29 when SBR and PS are said explicitly.
    pub object_type: u8,
    pub channels: u8,
    /// As decoded, SBR's doubling included.
    pub sample_rate_hz: u32,
    /// Of a coded frame, at that rate.
    pub frame_samples: u32,
}

const SHORT: Reason = Reason::AudioConfig("ends early");

fn short(_: OutOfBits) -> Reason {
    SHORT
}

impl AudioSpecificConfig {
    /// # Errors
    /// [`Reason::AudioConfig`] for what ends early or is not AAC in frames of
    /// 1024 or 960 samples.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let mut bits = Bits::new(bytes);
        let mut object_type = object_type(&mut bits).map_err(short)?;
        let core_hz = frequency(&mut bits)?;
        let channel_config = bits.u8(4).map_err(short)?;
        let mut output_hz = core_hz;
        let mut told = None;
        if matches!(object_type, AOT_SBR | AOT_PS) {
            told = Some(object_type);
            output_hz = frequency(&mut bits)?;
            object_type = self::object_type(&mut bits).map_err(short)?;
        }
        // Main, LC, SSR and LTP: the ones that players decode from mp4a.
        if !(1..=4).contains(&object_type) {
            return Err(Reason::AudioConfig("not AAC Main, LC, SSR, LTP or HE-AAC"));
        }
        let (frame, element_channels) = ga_specific(&mut bits, channel_config)?;
        if told.is_none()
            && let Ok(Some((extension, hz))) = sync_extension(&mut bits)
        {
            told = Some(extension);
            output_hz = hz;
        }
        let channels = match channel_config {
            0 => element_channels,
            one @ 1..=6 => one,
            7 => 8,
            _ => return Err(Reason::AudioConfig("no such channel configuration")),
        };
        // Parametric stereo makes two channels of one.
        let channels = if told == Some(AOT_PS) {
            2.max(channels)
        } else {
            channels
        };
        if channels == 0 {
            return Err(Reason::AudioConfig("no channel"));
        }
        if output_hz != core_hz && Some(output_hz) != core_hz.checked_mul(2) {
            return Err(Reason::AudioConfig(
                "an SBR rate that is not its core's double",
            ));
        }
        Ok(Self {
            object_type: told.unwrap_or(object_type),
            channels,
            sample_rate_hz: output_hz,
            frame_samples: if output_hz == core_hz {
                frame
            } else {
                2 * frame
            },
        })
    }

    pub(super) fn track(&self, bytes: Bytes, bitrate_bps: Option<u32>) -> AudioTrack {
        AudioTrack {
            codec: format!("mp4a.40.{}", self.object_type),
            channels: self.channels.into(),
            sample_rate_hz: self.sample_rate_hz,
            frame_samples: self.frame_samples,
            bitrate_bps,
            entry: AudioEntry::Aac(bytes),
        }
    }
}

/// A raw AAC frame never begins with an ADTS sync word: its first three bits
/// would be the end of a frame without elements.
///
/// # Errors
/// [`Reason::Adts`].
pub(super) fn refuse_adts(frame: &[u8]) -> Result<(), Reason> {
    match frame {
        [0xff, second, ..] if second & 0xf6 == 0xf0 => Err(Reason::Adts),
        _ => Ok(()),
    }
}

fn object_type(bits: &mut Bits<'_>) -> Result<u8, OutOfBits> {
    Ok(match bits.u8(5)? {
        31 => 32 + bits.u8(6)?,
        plain => plain,
    })
}

fn frequency(bits: &mut Bits<'_>) -> Result<u32, Reason> {
    let hz = match bits.u8(4).map_err(short)? {
        FREQUENCY_ESCAPE => bits.u(24).map_err(short)?,
        index => *FREQUENCIES
            .get(usize::from(index))
            .ok_or(Reason::AudioConfig("a reserved sampling frequency"))?,
    };
    Ok(hz)
}

/// GASpecificConfig: samples of a frame, and channels if the elements are listed.
fn ga_specific(bits: &mut Bits<'_>, channel_config: u8) -> Result<(u32, u8), Reason> {
    let frame = if bits.flag().map_err(short)? {
        960
    } else {
        1_024
    };
    if bits.flag().map_err(short)? {
        // coreCoderDelay
        bits.skip(14).map_err(short)?;
    }
    // extensionFlag: for other object types only
    bits.flag().map_err(short)?;
    if channel_config > 0 {
        return Ok((frame, 0));
    }
    Ok((frame, program_channels(bits).map_err(short)?))
}

/// The channels of a program_config_element (4.4.1.1).
fn program_channels(bits: &mut Bits<'_>) -> Result<u8, OutOfBits> {
    // element_instance_tag, object_type, sampling_frequency_index
    bits.skip(10)?;
    let (front, side, back) = (bits.u8(4)?, bits.u8(4)?, bits.u8(4)?);
    let (lfe, assoc, coupling) = (bits.u8(2)?, bits.u8(3)?, bits.u8(4)?);
    for mixdown_bits in [4, 4, 3] {
        if bits.flag()? {
            bits.skip(mixdown_bits)?;
        }
    }
    let mut channels = lfe;
    for _ in 0..front + side + back {
        channels += 1 + u8::from(bits.flag()?);
        bits.skip(4)?;
    }
    let left = usize::from(lfe) * 4 + usize::from(assoc) * 4 + usize::from(coupling) * 5;
    bits.skip(left)?;
    bits.align();
    let comment = usize::from(bits.u8(8)?);
    bits.skip(8 * comment)?;
    Ok(channels)
}

/// The backward-compatible way to say SBR and PS: after the configuration of
/// the core (1.6.2.1). `None` where it says that there is none.
fn sync_extension(bits: &mut Bits<'_>) -> Result<Option<(u8, u32)>, OutOfBits> {
    if bits.left() < 16 || bits.u(11)? != SYNC_EXTENSION || object_type(bits)? != AOT_SBR {
        return Ok(None);
    }
    if !bits.flag()? {
        return Ok(None);
    }
    let hz = frequency(bits).map_err(|_| OutOfBits)?;
    const PS_EXTENSION: u32 = 0x548;
    let ps = bits.left() >= 12 && bits.u(11)? == PS_EXTENSION && bits.flag()?;
    Ok(Some((if ps { AOT_PS } else { AOT_SBR }, hz)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parsed(bytes: &[u8]) -> (u8, u8, u32, u32) {
        let asc = AudioSpecificConfig::parse(bytes).unwrap();
        (
            asc.object_type,
            asc.channels,
            asc.sample_rate_hz,
            asc.frame_samples,
        )
    }

    #[test]
    fn c6_audio_configurations() {
        assert_eq!(parsed(&[0x12, 0x10]), (2, 2, 44_100, 1_024));
        assert_eq!(parsed(&[0x11, 0x88]), (2, 1, 48_000, 1_024));
        // ffmpeg's encoder says at length that there is no SBR.
        assert_eq!(
            parsed(&[0x12, 0x10, 0x56, 0xe5, 0x00]),
            (2, 2, 44_100, 1_024)
        );
        // 960 samples, channel configuration 7.
        assert_eq!(parsed(&[0x11, 0xbc]), (2, 8, 48_000, 960));
        // The frequency spelled out: 12345 Hz.
        assert_eq!(
            parsed(&[0x17, 0x80, 0x18, 0x1c, 0x90]),
            (2, 2, 12_345, 1_024)
        );
        // HE-AAC, hierarchical: object type 5, 24 kHz core, 48 kHz out.
        assert_eq!(parsed(&[0x2b, 0x11, 0x88, 0x00]), (5, 2, 48_000, 2_048));
        // HE-AAC v2, hierarchical: 29, 22.05 kHz mono core.
        assert_eq!(parsed(&[0xeb, 0x8a, 0x08, 0x00]), (29, 2, 44_100, 2_048));
        // HE-AAC, backward compatible.
        assert_eq!(
            parsed(&[0x13, 0x10, 0x56, 0xe5, 0x98]),
            (5, 2, 48_000, 2_048)
        );
    }

    #[test]
    fn odd_configurations_are_refused() {
        for bad in [
            &[][..],
            &[0x12],
            &[0x16, 0x90],
            &[0x12, 0x40],
            &[0xf8, 0x00],
        ] {
            assert!(AudioSpecificConfig::parse(bad).is_err(), "{bad:x?}");
        }
        assert!(refuse_adts(&[0xff, 0xf1, 0x50, 0x80]).is_err());
        assert!(refuse_adts(&[0x21, 0x10]).is_ok());
    }
}
