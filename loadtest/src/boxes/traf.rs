//! moof/traf/trun into samples with times and byte ranges.

use std::ops::Range;

use bytes::Bytes;

use super::{
    BoxError, BoxRef, Fields, Init, children,
    init::{Defaults, find},
};

const NON_SYNC: u32 = 0x1_0000;

/// One sample of a fragment. Times are in the track's timescale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub dts: u64,
    pub duration: u32,
    pub offset: i32,
    pub sync: bool,
    /// Within [`Fragment::bytes`].
    pub data: Range<usize>,
}

/// One moof+mdat, with the boxes that stood before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// From the first box of the fragment (styp, prft, moof) to mdat's end.
    pub bytes: Bytes,
    pub sequence: u32,
    pub tfdt: u64,
    pub tfdt_version: u8,
    pub trun_version: u8,
    pub base_is_moof: bool,
    pub trafs: usize,
    /// Names of the top-level boxes, in order.
    pub boxes: Vec<[u8; 4]>,
    pub samples: Vec<Sample>,
}

impl Fragment {
    /// Decode time at which the next fragment starts.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.samples.iter().fold(self.tfdt, |end, sample| {
            end.saturating_add(u64::from(sample.duration))
        })
    }

    #[must_use]
    pub fn sample_bytes(&self, sample: &Sample) -> &[u8] {
        self.bytes.get(sample.data.clone()).unwrap_or_default()
    }
}

/// Reads the fragment that `bytes` is: whole boxes, exactly one moof, then mdat.
pub(super) fn parse(bytes: Bytes, init: &Init) -> Result<Fragment, BoxError> {
    let top = children(&bytes, 0..bytes.len())?;
    let moof = find(&top, b"moof").ok_or(BoxError::Missing("moof"))?;
    let inside = children(&bytes, moof.body.clone())?;
    let mfhd = find(&inside, b"mfhd").ok_or(BoxError::Missing("mfhd"))?;
    let mut fields = Fields::of(&bytes, mfhd, "mfhd");
    fields.skip(4)?;
    let sequence = fields.u32()?;
    let trafs = inside.iter().filter(|child| &child.name == b"traf").count();
    let traf = find(&inside, b"traf").ok_or(BoxError::Missing("traf"))?;
    let traf = children(&bytes, traf.body.clone())?;
    let tfhd = find(&traf, b"tfhd").ok_or(BoxError::Missing("tfhd"))?;
    let tfhd = parse_tfhd(&bytes, tfhd, init.defaults)?;
    let tfdt = find(&traf, b"tfdt").ok_or(BoxError::Missing("tfdt"))?;
    let mut fields = Fields::of(&bytes, tfdt, "tfdt");
    let tfdt_version = fields.u8()?;
    fields.skip(3)?;
    let tfdt = match tfdt_version {
        0 => u64::from(fields.u32()?),
        _ => fields.u64()?,
    };
    let mut run = Run {
        dts: tfdt,
        data: moof.at,
        base: moof.at,
        version: 0,
        samples: Vec::new(),
    };
    for trun in traf.iter().filter(|child| &child.name == b"trun") {
        run.read(&bytes, trun, tfhd.defaults)?;
    }
    let boxes = top.iter().map(|child| child.name).collect();
    let (trun_version, samples) = (run.version, run.samples);
    Ok(Fragment {
        sequence,
        tfdt,
        tfdt_version,
        trun_version,
        base_is_moof: tfhd.base_is_moof,
        trafs,
        boxes,
        samples,
        bytes,
    })
}

struct Tfhd {
    base_is_moof: bool,
    defaults: Defaults,
}

fn parse_tfhd(bytes: &[u8], tfhd: &BoxRef, trex: Defaults) -> Result<Tfhd, BoxError> {
    let mut fields = Fields::of(bytes, tfhd, "tfhd");
    let flags = fields.u32()? & 0xff_ffff;
    fields.skip(4)?;
    let mut defaults = trex;
    if flags & 0x1 != 0 {
        fields.skip(8)?;
    }
    if flags & 0x2 != 0 {
        fields.skip(4)?;
    }
    if flags & 0x8 != 0 {
        defaults.duration = fields.u32()?;
    }
    if flags & 0x10 != 0 {
        defaults.size = fields.u32()?;
    }
    if flags & 0x20 != 0 {
        defaults.flags = fields.u32()?;
    }
    Ok(Tfhd {
        base_is_moof: flags & 0x2_0000 != 0,
        defaults,
    })
}

/// Where the next sample stands, in time and in bytes.
struct Run {
    dts: u64,
    data: usize,
    base: usize,
    version: u8,
    samples: Vec<Sample>,
}

impl Run {
    fn outside(&self) -> BoxError {
        BoxError::Sample {
            index: self.samples.len(),
            at: self.base,
        }
    }

    fn read(&mut self, bytes: &[u8], trun: &BoxRef, defaults: Defaults) -> Result<(), BoxError> {
        let mut fields = Fields::of(bytes, trun, "trun");
        let word = fields.u32()?;
        self.version = u8::try_from(word >> 24).unwrap_or_default();
        let flags = word & 0xff_ffff;
        let count = fields.u32()?;
        // No bytes stand behind a count like that.
        if count as usize > bytes.len() {
            return Err(self.outside());
        }
        if flags & 0x1 != 0 {
            let offset = i64::from(fields.u32()?.cast_signed());
            let base = i64::try_from(self.base).unwrap_or(i64::MAX);
            let at = usize::try_from(base.saturating_add(offset));
            self.data = at.unwrap_or(usize::MAX);
        }
        let first_flags = if flags & 0x4 != 0 {
            Some(fields.u32()?)
        } else {
            None
        };
        for index in 0..count {
            let per = |fields: &mut Fields<'_>, bit: u32, default: u32| {
                if flags & bit != 0 {
                    fields.u32()
                } else {
                    Ok(default)
                }
            };
            let duration = per(&mut fields, 0x100, defaults.duration)?;
            let size = per(&mut fields, 0x200, defaults.size)?;
            let own = per(&mut fields, 0x400, defaults.flags)?;
            let offset = per(&mut fields, 0x800, 0)?.cast_signed();
            let sample_flags = match first_flags {
                Some(first) if index == 0 => first,
                _ => own,
            };
            let end = self.data.saturating_add(size as usize);
            if end > bytes.len() {
                return Err(self.outside());
            }
            self.samples.push(Sample {
                dts: self.dts,
                duration,
                offset,
                sync: sample_flags & NON_SYNC == 0,
                data: self.data..end,
            });
            self.data = end;
            self.dts = self.dts.saturating_add(u64::from(duration));
        }
        Ok(())
    }
}
