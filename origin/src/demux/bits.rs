//! A reader of bit fields and Exp-Golomb codes (ISO/IEC 14496-10 9.1).

/// The bits ended before the field did, or a code is longer than 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfBits;

pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }

    pub(super) fn flag(&mut self) -> Result<bool, OutOfBits> {
        let byte = self.bytes.get(self.at / 8).ok_or(OutOfBits)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// At most 32 bits.
    pub(super) fn u(&mut self, bits: u32) -> Result<u32, OutOfBits> {
        (0..bits).try_fold(0u32, |value, _| Ok(value << 1 | u32::from(self.flag()?)))
    }

    /// A field of at most 8 bits.
    pub(super) fn u8(&mut self, bits: u32) -> Result<u8, OutOfBits> {
        self.u(bits.min(8))?.try_into().map_err(|_| OutOfBits)
    }

    pub(super) fn skip(&mut self, bits: usize) -> Result<(), OutOfBits> {
        if bits > self.left() {
            return Err(OutOfBits);
        }
        self.at += bits;
        Ok(())
    }

    pub(super) fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    pub(super) fn ue(&mut self) -> Result<u32, OutOfBits> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(OutOfBits);
            }
        }
        let rest = self.u(zeros)?;
        Ok((1 << zeros) - 1 + rest)
    }

    pub(super) fn se(&mut self) -> Result<i32, OutOfBits> {
        let code = self.ue()?;
        let half = i32::try_from(code.div_ceil(2)).map_err(|_| OutOfBits)?;
        Ok(if code % 2 == 1 { half } else { -half })
    }
}
