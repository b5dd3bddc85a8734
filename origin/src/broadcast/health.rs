//! How a publish comes in: pictures a second, the distance of keyframes, and how far
//! arrivals stray from the publisher's clock.
//!
//! In: samples and when each came. Out: a [`Health`] every [`EVERY`], rounded so that
//! a steady stream is told once. Pure: the caller has the clock.

use std::time::Duration;

use common::{live::Health, names::Kind};
use tokio::time::Instant;

use crate::sample::Sample;

/// How often it is told: long enough that a GOP's burst does not show.
pub(super) const EVERY: Duration = Duration::from_secs(4);

/// See the module's text. One publish's.
#[derive(Debug)]
pub(super) struct Vitals {
    since: Instant,
    pictures: u32,
    any_picture: bool,
    synced_ms: Option<u64>,
    gop_ms: Option<u32>,
    /// Of the track that jitter is taken from: the picture's, else the sound's.
    last: Option<(Kind, u64, Instant)>,
    /// Microseconds, times sixteen (RFC 3550, A.8).
    jitter: u64,
}

impl Vitals {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            pictures: 0,
            any_picture: false,
            synced_ms: None,
            gop_ms: None,
            last: None,
            jitter: 0,
        }
    }

    pub(super) fn saw(&mut self, sample: &Sample, came: Instant) {
        let kind = sample.track.kind;
        if kind == Kind::Video {
            self.pictures = self.pictures.saturating_add(1);
            self.any_picture = true;
            if sample.sync {
                let before = self.synced_ms.replace(sample.dts_ms);
                let gop_ms = before.map(|before| sample.dts_ms.saturating_sub(before));
                self.gop_ms = gop_ms.and_then(|ms| u32::try_from(ms).ok()).or(self.gop_ms);
            }
        }
        if self.any_picture && kind != Kind::Video {
            return;
        }
        if let Some((of, dts_ms, at)) = self.last
            && of == kind
        {
            let arrived_us = came.saturating_duration_since(at).as_micros();
            let arrived_us = u64::try_from(arrived_us).unwrap_or(u64::MAX);
            let sent_us = sample.dts_ms.saturating_sub(dts_ms).saturating_mul(1_000);
            let strays_us = arrived_us.abs_diff(sent_us).min(60_000_000);
            let settled = (self.jitter + 8) >> 4;
            self.jitter = (self.jitter + strays_us).saturating_sub(settled);
        }
        self.last = Some((kind, sample.dts_ms, came));
    }

    /// The publisher's clock is on a new base: what was before says nothing of it.
    pub(super) fn jumped(&mut self) {
        self.synced_ms = None;
        self.last = None;
    }

    /// What is to be told, when it is time.
    pub(super) fn due(&mut self, dropped_samples: u64, now: Instant) -> Option<Health> {
        let passed = now.saturating_duration_since(self.since);
        if passed < EVERY {
            return None;
        }
        let pictures = std::mem::take(&mut self.pictures);
        self.since = now;
        let tenths = u128::from(pictures) * 10_000_000 / passed.as_micros().max(1);
        let tenths = u32::try_from(tenths).unwrap_or(u32::MAX);
        let jitter_ms = (self.jitter >> 4).saturating_add(500) / 1_000;
        Some(Health {
            fps_tenths: self.any_picture.then(|| steadied(tenths)),
            gop_ms: self.gop_ms,
            dropped_samples,
            jitter_ms: u32::try_from(jitter_ms).unwrap_or(u32::MAX),
        })
    }
}

/// A picture more or less in [`EVERY`] is no news: to a whole one where it is near.
const fn steadied(tenths: u32) -> u32 {
    let whole = (tenths + 5) / 10 * 10;
    if whole.abs_diff(tenths) <= 3 {
        whole
    } else {
        tenths
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use common::names::TrackName;

    use super::*;

    fn sample(track: TrackName, dts_ms: u64, sync: bool) -> Sample {
        Sample {
            track,
            dts_ms,
            composition_offset_ms: 0,
            sync,
            data: Bytes::new(),
        }
    }

    /// Eight seconds of 25 pictures a second, each late by what `late_ms` says.
    fn watched(late_ms: impl Fn(u64) -> u64) -> Option<Health> {
        let start = Instant::now();
        let mut vitals = Vitals::new(start);
        let mut told = None;
        for n in 0..200 {
            let dts_ms = n * 40;
            let came = start + Duration::from_millis(dts_ms + late_ms(n));
            vitals.saw(&sample(TrackName::video(0), dts_ms, n % 50 == 0), came);
            vitals.saw(&sample(TrackName::audio(0), dts_ms, true), came);
            told = vitals.due(3, came).or(told);
        }
        let end = start + Duration::from_secs(9);
        vitals.due(3, end).or(told)
    }

    #[test]
    fn a_steady_publisher_is_told_as_it_is() {
        let start = Instant::now();
        let mut vitals = Vitals::new(start);
        let mut told = Vec::new();
        for n in 0..300 {
            let dts_ms = n * 100 / 3;
            let came = start + Duration::from_millis(dts_ms);
            vitals.saw(&sample(TrackName::video(0), dts_ms, n % 60 == 0), came);
            told.extend(vitals.due(0, came));
        }
        let expected = Health {
            fps_tenths: Some(300),
            gop_ms: Some(2_000),
            dropped_samples: 0,
            jitter_ms: 0,
        };
        assert_eq!(told, [expected; 2]);
    }

    #[test]
    fn jitter_is_of_arrivals() {
        assert_eq!(watched(|_| 7).unwrap().jitter_ms, 0);
        let strayed = watched(|n| n % 2 * 20).unwrap();
        assert!((18..=20).contains(&strayed.jitter_ms), "{strayed:?}");
        assert_eq!((strayed.gop_ms, strayed.dropped_samples), (Some(2_000), 3));
    }

    #[test]
    fn sound_alone_has_jitter_and_no_pictures() {
        let start = Instant::now();
        let mut vitals = Vitals::new(start);
        for n in 0..300_u64 {
            let came = start + Duration::from_millis(n * 21 + n % 2 * 16);
            vitals.saw(&sample(TrackName::audio(0), n * 21, true), came);
        }
        assert_eq!(vitals.due(0, start + EVERY / 2), None);
        let told = vitals.due(0, start + EVERY).unwrap();
        assert_eq!((told.fps_tenths, told.gop_ms), (None, None));
        assert!((14..=16).contains(&told.jitter_ms), "{told:?}");
    }

    #[test]
    fn a_clock_that_jumps_is_no_jitter_and_no_gop() {
        let start = Instant::now();
        let mut vitals = Vitals::new(start);
        let v = TrackName::video(0);
        vitals.saw(&sample(v, 0, true), start);
        vitals.jumped();
        vitals.saw(
            &sample(v, 9_000_000, true),
            start + Duration::from_millis(40),
        );
        let told = vitals.due(0, start + EVERY).unwrap();
        assert_eq!((told.gop_ms, told.jitter_ms), (None, 0));
    }
}
