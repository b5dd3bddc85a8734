//! What is counted, and how it is added up over tracks and viewers.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Two minutes: past that a viewer isn't late, it is lost.
const MAX_LATENCY_US: u64 = 120_000_000;

/// A latency distribution in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Recorded", into = "Recorded")]
pub struct Latency {
    histogram: Histogram<u32>,
    /// Read before it was sent: the clocks of two machines differ.
    pub negative: u64,
}

impl Latency {
    /// `digits` significant digits: 3 cost 74 KB, 2 cost 11 KB.
    #[must_use]
    pub fn new(digits: u8) -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants that fit")]
        let histogram =
            Histogram::new_with_bounds(1, MAX_LATENCY_US, digits.clamp(1, 4)).expect("bounds");
        Self {
            histogram,
            negative: 0,
        }
    }

    pub fn record(&mut self, us: i64) {
        if us < 0 {
            self.negative += 1;
        }
        let us = u64::try_from(us).unwrap_or(0);
        self.histogram
            .saturating_record(us.clamp(1, MAX_LATENCY_US));
    }

    pub fn add(&mut self, other: &Self) {
        // Both histograms have the same bounds, so the sum always fits.
        let _ = self.histogram.add(&other.histogram);
        self.negative += other.negative;
    }

    #[must_use]
    pub fn summary(&self) -> Option<Percentiles> {
        if self.histogram.is_empty() {
            return None;
        }
        let at = |quantile: f64| ms(self.histogram.value_at_quantile(quantile));
        Some(Percentiles {
            count: self.histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: ms(self.histogram.max()),
            negative: self.negative,
        })
    }
}

/// A distribution on its way from one process to another.
#[derive(Serialize, Deserialize)]
struct Recorded {
    negative: u64,
    /// Microseconds, and how often.
    counts: Vec<(u64, u32)>,
}

impl From<Latency> for Recorded {
    fn from(latency: Latency) -> Self {
        let steps = latency.histogram.iter_recorded();
        Self {
            negative: latency.negative,
            counts: steps
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        }
    }
}

impl From<Recorded> for Latency {
    fn from(recorded: Recorded) -> Self {
        let mut latency = Self::new(3);
        latency.negative = recorded.negative;
        for (us, count) in recorded.counts {
            let us = us.clamp(1, MAX_LATENCY_US);
            latency.histogram.saturating_record_n(us, count);
        }
        latency
    }
}

fn ms(us: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most two minutes in us")]
    let ms = us as f64 / 1000.0;
    (ms * 10.0).round() / 10.0
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub negative: u64,
}

/// Counters of what a viewer met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Answers that said that the channel isn't live (404, ended).
    pub offline_answers: u64,
    pub playlists: u64,
    pub parts: u64,
    pub bytes: u64,
    pub video_frames: u64,
    pub audio_frames: u64,
    pub stamped_frames: u64,
    /// Frames missing from, or out of place in, the stamps' counter.
    pub frame_gaps: u64,
    pub frame_repeats: u64,
    /// Fragments whose tfdt isn't the end of the one before (C3).
    pub tfdt_breaks: u64,
    pub gap_parts: u64,
    pub discontinuities: u64,
    /// Times that the list moved on before its parts were fetched.
    pub skips: u64,
    /// Hints answered with 404, and hints that never were listed.
    pub hints_withdrawn: u64,
    pub hints_unlisted: u64,
    /// By status or kind, for example `503` or `timeout`.
    pub errors: BTreeMap<String, u64>,
}

impl Counts {
    pub fn error(&mut self, kind: impl Into<String>) {
        *self.errors.entry(kind.into()).or_default() += 1;
    }

    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.offline_answers, other.offline_answers),
            (&mut self.playlists, other.playlists),
            (&mut self.parts, other.parts),
            (&mut self.bytes, other.bytes),
            (&mut self.video_frames, other.video_frames),
            (&mut self.audio_frames, other.audio_frames),
            (&mut self.stamped_frames, other.stamped_frames),
            (&mut self.frame_gaps, other.frame_gaps),
            (&mut self.frame_repeats, other.frame_repeats),
            (&mut self.tfdt_breaks, other.tfdt_breaks),
            (&mut self.gap_parts, other.gap_parts),
            (&mut self.discontinuities, other.discontinuities),
            (&mut self.skips, other.skips),
            (&mut self.hints_withdrawn, other.hints_withdrawn),
            (&mut self.hints_unlisted, other.hints_unlisted),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_every_viewer() {
        let mut fine = Latency::new(3);
        let mut coarse = Latency::new(2);
        for ms in 1..=50 {
            fine.record(ms * 1000);
            coarse.record((ms + 50) * 1000);
        }
        fine.record(-5);
        fine.add(&coarse);
        let summary = fine.summary().unwrap();
        assert_eq!((summary.count, summary.negative), (101, 1));
        assert!((summary.p50_ms - 50.0).abs() < 1.0, "{summary:?}");
        assert!((summary.max_ms - 100.0).abs() < 1.5, "{summary:?}");
        assert_eq!(Latency::new(2).summary(), None);
    }

    #[test]
    fn a_distribution_is_the_same_behind_a_pipe() {
        let mut latency = Latency::new(2);
        for us in [-1, 40, 1_234, 1_234, 119_000_000, i64::MAX] {
            latency.record(us);
        }
        let text = serde_json::to_string(&latency).unwrap();
        let read: Latency = serde_json::from_str(&text).unwrap();
        assert_eq!(read.negative, 1);
        let (was, is) = (latency.summary().unwrap(), read.summary().unwrap());
        assert_eq!((was.count, was.p50_ms), (is.count, is.p50_ms));
        assert!((was.max_ms - is.max_ms).abs() < 2_000.0, "{was:?} {is:?}");
    }

    #[test]
    fn what_is_later_than_the_last_bucket_still_counts() {
        let mut latency = Latency::new(2);
        latency.record(i64::MAX);
        assert!(latency.summary().unwrap().max_ms >= 119_000.0);
    }

    #[test]
    fn counts_add_up() {
        let mut sum = Counts::default();
        let mut one = Counts {
            parts: 2,
            hints_unlisted: 1,
            ..Counts::default()
        };
        one.error("503");
        sum.add(&one);
        sum.add(&one);
        assert_eq!(
            (sum.parts, sum.hints_unlisted, sum.errors["503"]),
            (4, 2, 2)
        );
    }
}
