//! BANDWIDTH and AVERAGE-BANDWIDTH, frozen with the plan (H15).

/// What a chunk's boxes cost beside its samples.
const CHUNK_OVERHEAD_BYTES: u64 = 128;

/// Bits a second, peak and average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bandwidth {
    pub peak_bps: u32,
    pub average_bps: u32,
}

impl Bandwidth {
    /// From what was heard until the plan froze, or from what the publisher
    /// declares where that is more. Half as much again for peaks, a tenth for
    /// the average: a segment above BANDWIDTH stalls a player that chose by it.
    pub(super) fn of(bytes: u64, chunks: u64, duration_ms: u64, declared_bps: Option<u32>) -> Self {
        let overhead = chunks.saturating_mul(CHUNK_OVERHEAD_BYTES);
        let per_second = |bytes: u64| bytes.saturating_mul(8_000) / duration_ms.max(1);
        let declared = u64::from(declared_bps.unwrap_or(0)).saturating_add(per_second(overhead));
        let measured = per_second(bytes.saturating_add(overhead));
        let rate = declared.max(measured).max(1_000);
        let narrow = |bps: u64| u32::try_from(bps).unwrap_or(u32::MAX);
        Self {
            peak_bps: narrow(rate.saturating_mul(3) / 2),
            average_bps: narrow(rate.saturating_mul(11) / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h15_headroom_over_the_greater_of_declared_and_measured() {
        let measured = Bandwidth::of(750_000, 0, 2_000, None);
        assert_eq!(measured.peak_bps, 4_500_000);
        assert_eq!(measured.average_bps, 3_300_000);
        assert_eq!(
            Bandwidth::of(1, 0, 2_000, Some(2_000_000)).peak_bps,
            3_000_000
        );
        assert_eq!(Bandwidth::of(u64::MAX, 1, 0, None).peak_bps, u32::MAX);
    }
}
