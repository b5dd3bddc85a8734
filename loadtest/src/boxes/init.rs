//! What a reader needs of ftyp and moov: one track, its clock, its defaults.

use super::{BoxError, BoxRef, Fields, children};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Video,
    Audio,
    Other,
}

/// One track's init segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    pub kind: Kind,
    pub timescale: u32,
    /// `avc1.64001f`, `mp4a.40.2`; only the sample entry's name for others.
    pub codec: String,
    /// Bytes of a NAL unit's length, 4 unless avcC says otherwise.
    pub nal_length: usize,
    pub brands: Vec<[u8; 4]>,
    pub tracks: usize,
    pub has_mehd: bool,
    pub has_edit_list: bool,
    /// From trex: duration, size, flags.
    pub(super) defaults: Defaults,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    pub duration: u32,
    pub size: u32,
    pub flags: u32,
}

/// # Errors
/// If a box that every track needs is absent or cut short.
pub fn parse_init(bytes: &[u8]) -> Result<Init, BoxError> {
    let top = children(bytes, 0..bytes.len())?;
    let brands = match find(&top, b"ftyp") {
        Some(ftyp) => brands(bytes, ftyp)?,
        None => Vec::new(),
    };
    let moov = need(&top, b"moov", "moov")?;
    let moov = children(bytes, moov.body.clone())?;
    let tracks = moov.iter().filter(|child| &child.name == b"trak").count();
    let trak = need(&moov, b"trak", "trak")?;
    let trak = children(bytes, trak.body.clone())?;
    let mdia = need(&trak, b"mdia", "mdia")?;
    let mdia = children(bytes, mdia.body.clone())?;
    let timescale = timescale(bytes, need(&mdia, b"mdhd", "mdhd")?)?;
    let kind = kind(bytes, need(&mdia, b"hdlr", "hdlr")?)?;
    let minf = need(&mdia, b"minf", "minf")?;
    let minf = children(bytes, minf.body.clone())?;
    let stbl = need(&minf, b"stbl", "stbl")?;
    let stbl = children(bytes, stbl.body.clone())?;
    let (codec, nal_length) = codec(bytes, need(&stbl, b"stsd", "stsd")?, kind)?;
    let mvex = match find(&moov, b"mvex") {
        Some(mvex) => children(bytes, mvex.body.clone())?,
        None => Vec::new(),
    };
    let defaults = match find(&mvex, b"trex") {
        Some(trex) => defaults(bytes, trex)?,
        None => Defaults::default(),
    };
    let edits = match find(&trak, b"edts") {
        Some(edts) => children(bytes, edts.body.clone())?,
        None => Vec::new(),
    };
    Ok(Init {
        kind,
        timescale,
        codec,
        nal_length,
        brands,
        tracks,
        has_mehd: find(&mvex, b"mehd").is_some(),
        has_edit_list: find(&edits, b"elst").is_some(),
        defaults,
    })
}

pub(super) fn find<'a>(boxes: &'a [BoxRef], name: &[u8; 4]) -> Option<&'a BoxRef> {
    boxes.iter().find(|child| &child.name == name)
}

fn need<'a>(
    boxes: &'a [BoxRef],
    name: &[u8; 4],
    text: &'static str,
) -> Result<&'a BoxRef, BoxError> {
    find(boxes, name).ok_or(BoxError::Missing(text))
}

fn brands(bytes: &[u8], ftyp: &BoxRef) -> Result<Vec<[u8; 4]>, BoxError> {
    let mut fields = Fields::of(bytes, ftyp, "ftyp");
    let major = fields.name()?;
    fields.skip(4)?;
    let mut out = vec![major];
    while !fields.rest().is_empty() {
        out.push(fields.name()?);
    }
    Ok(out)
}

fn timescale(bytes: &[u8], mdhd: &BoxRef) -> Result<u32, BoxError> {
    let mut fields = Fields::of(bytes, mdhd, "mdhd");
    let version = fields.u8()?;
    fields.skip(if version == 1 { 3 + 16 } else { 3 + 8 })?;
    // A clock that stands still would divide by zero further on.
    Ok(fields.u32()?.max(1))
}

fn kind(bytes: &[u8], hdlr: &BoxRef) -> Result<Kind, BoxError> {
    let mut fields = Fields::of(bytes, hdlr, "hdlr");
    fields.skip(8)?;
    Ok(match &fields.name()? {
        b"vide" => Kind::Video,
        b"soun" => Kind::Audio,
        _ => Kind::Other,
    })
}

fn defaults(bytes: &[u8], trex: &BoxRef) -> Result<Defaults, BoxError> {
    let mut fields = Fields::of(bytes, trex, "trex");
    fields.skip(4 + 4 + 4)?;
    Ok(Defaults {
        duration: fields.u32()?,
        size: fields.u32()?,
        flags: fields.u32()?,
    })
}

/// RFC 6381 string of the first sample entry.
fn codec(bytes: &[u8], stsd: &BoxRef, kind: Kind) -> Result<(String, usize), BoxError> {
    let start = stsd.body.start.saturating_add(8);
    let entries = children(bytes, start.min(stsd.body.end)..stsd.body.end)?;
    let entry = entries.first().ok_or(BoxError::Missing("sample entry"))?;
    let name = entry.name_text();
    // VisualSampleEntry and AudioSampleEntry, before their child boxes.
    let fixed = match kind {
        Kind::Video => 78,
        Kind::Audio => 28,
        Kind::Other => return Ok((name, 4)),
    };
    let inside = entry.body.start.saturating_add(fixed).min(entry.body.end);
    let boxes = children(bytes, inside..entry.body.end)?;
    if let Some(avcc) = find(&boxes, b"avcC") {
        let mut fields = Fields::of(bytes, avcc, "avcC");
        fields.skip(1)?;
        let (profile, compat, level) = (fields.u8()?, fields.u8()?, fields.u8()?);
        let nal_length = usize::from(fields.u8()? & 3) + 1;
        return Ok((
            format!("{name}.{profile:02x}{compat:02x}{level:02x}"),
            nal_length,
        ));
    }
    if let Some(esds) = find(&boxes, b"esds") {
        let mut fields = Fields::of(bytes, esds, "esds");
        fields.skip(4)?;
        if let Some((object, audio)) = mpeg4_audio(fields.rest()) {
            return Ok((format!("{name}.{object:x}.{audio}"), 4));
        }
    }
    Ok((name, 4))
}

/// Object type indication and audio object type out of an ES_Descriptor
/// (ISO 14496-1 7.2.6.5): descriptors 3 > 4 > 5.
fn mpeg4_audio(bytes: &[u8]) -> Option<(u8, u8)> {
    let es = descriptor(bytes, 3)?;
    let flags = *es.get(2)?;
    let mut skip = 3;
    skip += if flags & 0x80 != 0 { 2 } else { 0 };
    if flags & 0x40 != 0 {
        skip += 1 + usize::from(*es.get(skip)?);
    }
    skip += if flags & 0x20 != 0 { 2 } else { 0 };
    let config = descriptor(es.get(skip..)?, 4)?;
    let object = *config.first()?;
    let specific = descriptor(config.get(13..)?, 5)?;
    let first = *specific.first()?;
    let audio = first >> 3;
    if audio < 31 {
        return Some((object, audio));
    }
    let second = *specific.get(1)?;
    Some((object, 32 + ((first & 7) << 3 | second >> 5)))
}

fn descriptor(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    if *bytes.first()? != tag {
        return None;
    }
    let mut len = 0usize;
    for (at, byte) in bytes.iter().enumerate().skip(1).take(4) {
        len = len << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return bytes.get(at + 1..(at + 1).checked_add(len)?);
        }
    }
    None
}
