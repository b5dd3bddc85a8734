//! FLV files into tags (Adobe FLV 10.1, E.3 and E.4). Audio and video bodies
//! are what RTMP carries, so they stay as they are.

use anyhow::{Result, bail};
use bytes::{Buf, Bytes};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Audio,
    Video,
    Script,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    pub kind: Kind,
    pub dts_ms: u32,
    pub body: Bytes,
}

impl Tag {
    /// Decoder configuration, not media.
    #[must_use]
    pub fn is_config(&self) -> bool {
        let second = self.body.get(1) == Some(&0);
        match self.kind {
            Kind::Video => second && self.is_avc(),
            // AAC only; other sound has no configuration.
            Kind::Audio => second && self.body.first().is_some_and(|b| b >> 4 == 10),
            Kind::Script => true,
        }
    }

    /// H.264 in the framing of before Enhanced RTMP.
    #[must_use]
    pub fn is_avc(&self) -> bool {
        self.kind == Kind::Video && self.body.first().is_some_and(|b| b & 0x8f == 7)
    }
}

/// # Errors
/// If it isn't FLV or ends in the middle of a tag.
pub fn tags(mut file: Bytes) -> Result<Vec<Tag>> {
    if !file.starts_with(b"FLV") || file.len() < 9 {
        bail!("not an FLV file");
    }
    let header = file.get(5..9).map_or(0, |mut len| len.get_u32()) as usize;
    if header < 9 || header + 4 > file.len() {
        bail!("the FLV header is cut short");
    }
    file.advance(header + 4);
    let mut out = Vec::new();
    while !file.is_empty() {
        let Some((kind, len, dts_ms)) = tag_header(&file) else {
            bail!("tag {} is cut short", out.len());
        };
        // Tag header before, previous tag size behind.
        if file.len() < 11 + len {
            bail!("tag {} is cut short", out.len());
        }
        file.advance(11);
        let body = file.split_to(len);
        file.advance(4.min(file.len()));
        if let Some(kind) = kind {
            out.push(Tag { kind, dts_ms, body });
        }
    }
    Ok(out)
}

fn tag_header(file: &[u8]) -> Option<(Option<Kind>, usize, u32)> {
    let head: [u8; 11] = file.get(..11)?.try_into().ok()?;
    let [kind, l0, l1, l2, t0, t1, t2, high, ..] = head;
    let kind = match kind & 0x1f {
        8 => Some(Kind::Audio),
        9 => Some(Kind::Video),
        18 => Some(Kind::Script),
        _ => None,
    };
    let len = u32::from_be_bytes([0, l0, l1, l2]) as usize;
    Some((kind, len, u32::from_be_bytes([high, t0, t1, t2])))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn file(tags: &[(u8, u32, &[u8])]) -> Bytes {
        let mut out = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, dts, body) in tags {
            let len = u32::try_from(body.len()).unwrap().to_be_bytes();
            let dts = dts.to_be_bytes();
            out.extend([
                *kind, len[1], len[2], len[3], dts[1], dts[2], dts[3], dts[0], 0, 0, 0,
            ]);
            out.extend(*body);
            out.extend((len[3] as u32 + 11).to_be_bytes());
        }
        out.into()
    }

    #[test]
    fn reads_tags_with_extended_times() {
        let bytes = file(&[
            (18, 0, b"meta"),
            (9, 0, &[0x17, 0, 1]),
            (8, 0x0102_0304, &[0xaf, 1]),
        ]);
        let tags = tags(bytes).unwrap();
        assert_eq!(tags[2].dts_ms, 0x0102_0304);
        assert!(tags[1].is_config() && tags[1].is_avc() && !tags[2].is_config());
        assert_eq!(tags[0].kind, Kind::Script);
    }

    #[test]
    fn what_is_no_flv_or_cut_is_refused() {
        let bytes = file(&[(9, 0, &[0x17, 0, 1])]);
        for len in 0..bytes.len() - 4 {
            let cut = tags(bytes.slice(..len));
            assert!(cut.is_err() || len == 13, "{len}");
        }
    }
}
