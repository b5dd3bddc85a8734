//! What a message of ours carries at its end: its number and when it was due, in
//! fixed places, so that a reader finds them without reading the line.

/// `~0000000012~1795639813250000~`
pub const MARK_BYTES: usize = 29;

const NUMBER_DIGITS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Of all rooms together, from 0.
    pub number: u32,
    /// Microseconds since 1970.
    pub due_us: i64,
}

impl Mark {
    /// A text of so many bytes that ends with the mark.
    pub fn text(self, bytes: usize) -> String {
        let mark = format!("~{:010}~{:016}~", self.number, self.due_us);
        let filler = "the quick brown fox jumps over the lazy dog ";
        let mut text: String = filler
            .chars()
            .cycle()
            .take(bytes.saturating_sub(MARK_BYTES))
            .collect();
        text.push_str(&mark);
        text
    }

    /// The mark at the end of a text, if there is one.
    pub fn at_end_of(text: &[u8]) -> Option<Self> {
        let mark = text.last_chunk::<MARK_BYTES>()?;
        let (first, rest) = mark.split_first()?;
        let (number, rest) = rest.split_at(NUMBER_DIGITS);
        let (second, rest) = rest.split_first()?;
        let (last, due) = rest.split_last()?;
        if [first, second, last] != [&b'~'; 3] {
            return None;
        }
        Some(Self {
            number: u32::try_from(decimal(number)?).ok()?,
            due_us: i64::try_from(decimal(due)?).ok()?,
        })
    }
}

/// At most 16 digits, which fit.
fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then_some(sum * 10 + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_at_the_end_and_nowhere_else() {
        let mark = Mark {
            number: 12,
            due_us: 1_795_639_813_250_000,
        };
        for bytes in [MARK_BYTES, 100, 500] {
            let text = mark.text(bytes);
            assert_eq!(text.len(), bytes);
            assert!(text.ends_with("~0000000012~1795639813250000~"));
            assert_eq!(Mark::at_end_of(text.as_bytes()), Some(mark));
            assert_eq!(Mark::at_end_of(format!("{text} ").as_bytes()), None);
        }
        assert_eq!(Mark::at_end_of(b""), None);
        assert_eq!(Mark::at_end_of(b"~000000001x~1795639813250000~"), None);
        assert_eq!(Mark::at_end_of(b"~9999999999~1795639813250000~"), None);
    }
}
