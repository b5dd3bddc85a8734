//! Tag headers, legacy and enhanced: which track, which codec, and whether the
//! body is a configuration or a frame. FLV 10.1 E.4.2, E.4.3; Enhanced RTMP v2,
//! "Enhanced Audio" and "Enhanced Video".

use bytes::Bytes;
use common::names::{Kind, TrackName};

use super::{
    MAX_TRACKS,
    error::{At, FourCc, Reason},
};

/// What is packaged. HEVC, AV1, Opus and the others join here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Avc,
    Aac,
}

/// One track's share of a message.
#[derive(Debug)]
pub(super) struct Unit {
    pub track: TrackName,
    pub codec: Codec,
    pub body: Body,
    /// Where the body stands in the payload.
    pub offset: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Config(Bytes),
    Frame {
        composition_offset_ms: i32,
        data: Bytes,
    },
    /// End of sequence, HDR metadata, a channel layout: nothing to package.
    Ignored,
}

const CODEC_ID_AVC: u8 = 7;
const SOUND_FORMAT_AAC: u8 = 10;
const SOUND_FORMAT_EX_HEADER: u8 = 9;
const FRAME_TYPE_COMMAND: u8 = 5;

/// # Errors
/// A header that ends early or that names what is not packaged.
pub(super) fn video(payload: &Bytes) -> Result<Vec<Unit>, At> {
    let mut read = Reader::new(payload);
    let first = read.u8()?;
    if first & 0x80 != 0 {
        return enhanced(read, Kind::Video, first & 0x0f, first >> 4 & 0x07);
    }
    let (frame_type, codec) = (first >> 4, first & 0x0f);
    if frame_type == FRAME_TYPE_COMMAND {
        return Ok(Vec::new());
    }
    if codec != CODEC_ID_AVC {
        return Err(At(0, Reason::UnsupportedVideo(codec)));
    }
    let packet_type = read.u8()?;
    let composition_offset_ms = read.i24()?;
    let offset = read.at;
    let body = match packet_type {
        0 => Body::Config(read.rest()),
        1 => Body::Frame {
            composition_offset_ms,
            data: read.rest(),
        },
        2 => Body::Ignored,
        other => return Err(At(1, Reason::PacketType(other))),
    };
    Ok(vec![Unit {
        track: TrackName::video(0),
        codec: Codec::Avc,
        body,
        offset,
    }])
}

/// # Errors
/// A header that ends early or that names what is not packaged.
pub(super) fn audio(payload: &Bytes) -> Result<Vec<Unit>, At> {
    let mut read = Reader::new(payload);
    let first = read.u8()?;
    let format = first >> 4;
    if format == SOUND_FORMAT_EX_HEADER {
        return enhanced(read, Kind::Audio, first & 0x0f, 0);
    }
    if format != SOUND_FORMAT_AAC {
        return Err(At(0, Reason::UnsupportedAudio(format)));
    }
    let packet_type = read.u8()?;
    let offset = read.at;
    let body = match packet_type {
        0 => Body::Config(read.rest()),
        1 => Body::Frame {
            composition_offset_ms: 0,
            data: read.rest(),
        },
        other => return Err(At(1, Reason::PacketType(other))),
    };
    Ok(vec![Unit {
        track: TrackName::audio(0),
        codec: Codec::Aac,
        body,
        offset,
    }])
}

/// The packet types of both kinds in one vocabulary.
#[derive(Clone, Copy)]
enum Packet {
    SequenceStart,
    CodedFrames,
    /// Video whose composition offset is zero and left out.
    CodedFramesX,
    Ignored,
    Multitrack,
    ModEx,
}

impl Packet {
    fn of(kind: Kind, code: u8) -> Option<Self> {
        Some(match (kind, code) {
            (_, 0) => Self::SequenceStart,
            (_, 1) => Self::CodedFrames,
            (Kind::Video, 3) => Self::CodedFramesX,
            // 2 SequenceEnd; 4 video Metadata, audio MultichannelConfig.
            (_, 2 | 4) => Self::Ignored,
            (Kind::Video, 6) | (Kind::Audio, 5) => Self::Multitrack,
            (_, 7) => Self::ModEx,
            _ => return None,
        })
    }
}

fn packet(read: &Reader<'_>, kind: Kind, code: u8) -> Result<Packet, At> {
    Packet::of(kind, code).ok_or(At(read.at.saturating_sub(1), Reason::PacketType(code)))
}

fn enhanced(mut read: Reader<'_>, kind: Kind, code: u8, frame_type: u8) -> Result<Vec<Unit>, At> {
    let mut packet_type = packet(&read, kind, code)?;
    while let Packet::ModEx = packet_type {
        let mut len = usize::from(read.u8()?) + 1;
        if len == 256 {
            len = usize::from(read.u16()?) + 1;
        }
        read.skip(len)?;
        packet_type = packet(&read, kind, read.peek()? & 0x0f)?;
        read.skip(1)?;
    }
    if let Packet::Ignored = packet_type {
        return Ok(Vec::new());
    }
    // A command (seek start and end) has one byte in place of a codec.
    if kind == Kind::Video && frame_type == FRAME_TYPE_COMMAND {
        return Ok(Vec::new());
    }
    if let Packet::Multitrack = packet_type {
        return multitrack(read, kind);
    }
    let codec = codec(&mut read, kind)?;
    Ok(vec![unit(read, kind, 0, codec, packet_type)?])
}

const ONE_TRACK: u8 = 0;
const MANY_TRACKS: u8 = 1;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

fn multitrack(mut read: Reader<'_>, kind: Kind) -> Result<Vec<Unit>, At> {
    let at = read.at;
    let byte = read.u8()?;
    let (multitrack_type, code) = (byte >> 4, byte & 0x0f);
    let packet_type = packet(&read, kind, code)?;
    if let Packet::Multitrack | Packet::ModEx = packet_type {
        return Err(At(at, Reason::PacketType(code)));
    }
    let shared = match multitrack_type {
        ONE_TRACK | MANY_TRACKS => Some(codec(&mut read, kind)?),
        MANY_TRACKS_MANY_CODECS => None,
        other => return Err(At(at, Reason::MultitrackType(other))),
    };
    let mut units = Vec::new();
    loop {
        let codec = match shared {
            Some(codec) => codec,
            None => codec(&mut read, kind)?,
        };
        let index = read.u8()?;
        let body = if multitrack_type == ONE_TRACK {
            read.split_rest()
        } else {
            let len = read.u24()?;
            read.split(len)?
        };
        if units.len() >= MAX_TRACKS {
            return Err(At(read.at, Reason::TooManyTracks));
        }
        units.push(unit(body, kind, index, codec, packet_type)?);
        if multitrack_type == ONE_TRACK || read.is_empty() {
            return Ok(units);
        }
    }
}

fn unit(
    mut read: Reader<'_>,
    kind: Kind,
    index: u8,
    codec: Codec,
    packet_type: Packet,
) -> Result<Unit, At> {
    let mut composition_offset_ms = 0;
    if let (Packet::CodedFrames, Codec::Avc) = (packet_type, codec) {
        composition_offset_ms = read.i24()?;
    }
    let offset = read.at;
    let body = match packet_type {
        Packet::SequenceStart => Body::Config(read.rest()),
        Packet::CodedFrames | Packet::CodedFramesX => Body::Frame {
            composition_offset_ms,
            data: read.rest(),
        },
        Packet::Ignored | Packet::Multitrack | Packet::ModEx => Body::Ignored,
    };
    Ok(Unit {
        track: TrackName { kind, index },
        codec,
        body,
        offset,
    })
}

fn codec(read: &mut Reader<'_>, kind: Kind) -> Result<Codec, At> {
    let at = read.at;
    let fourcc = read.array::<4>()?;
    match (kind, &fourcc) {
        (Kind::Video, b"avc1") => Ok(Codec::Avc),
        (Kind::Audio, b"mp4a") => Ok(Codec::Aac),
        _ => Err(At(
            at,
            Reason::Unsupported {
                fourcc: FourCc(fourcc),
            },
        )),
    }
}

/// A cursor that knows its place in the payload; bodies are slices, not copies.
struct Reader<'a> {
    payload: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn new(payload: &'a Bytes) -> Self {
        Self {
            payload,
            at: 0,
            end: payload.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    fn skip(&mut self, len: usize) -> Result<(), At> {
        match self.at.checked_add(len) {
            Some(at) if at <= self.end => {
                self.at = at;
                Ok(())
            }
            _ => Err(At(self.end, Reason::Truncated)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], At> {
        let from = self.at;
        self.skip(N)?;
        let taken = self.payload.get(from..self.at);
        taken
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(At(from, Reason::Truncated))
    }

    fn peek(&self) -> Result<u8, At> {
        let byte = self.payload.get(self.at).filter(|_| !self.is_empty());
        byte.copied().ok_or(At(self.end, Reason::Truncated))
    }

    fn u8(&mut self) -> Result<u8, At> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, At> {
        self.array().map(u16::from_be_bytes)
    }

    fn u24(&mut self) -> Result<usize, At> {
        let [a, b, c] = self.array()?;
        Ok(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
    }

    fn i24(&mut self) -> Result<i32, At> {
        let [a, b, c] = self.array()?;
        Ok(i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    /// The next `len` bytes as a reader of their own.
    fn split(&mut self, len: usize) -> Result<Self, At> {
        let at = self.at;
        self.skip(len)?;
        Ok(Self {
            payload: self.payload,
            at,
            end: self.at,
        })
    }

    fn split_rest(&mut self) -> Self {
        let at = self.at;
        self.at = self.end;
        Self {
            payload: self.payload,
            at,
            end: self.end,
        }
    }

    fn rest(&mut self) -> Bytes {
        let from = self.at;
        self.at = self.end;
        self.payload.slice(from..self.end)
    }
}
