//! What one viewer knows of one track's media: continuity, frames, latency.
//!
//! In: fragments as they arrive, with the time of arrival and what the playlist
//! said of their part. Out: counts, latencies, and the media time gained. Owned
//! by the track's task. Rules C3 (tfdt runs on) and the stamps' counter are
//! held here. Pure.

use crate::{
    boxes::{Fragment, Init, Kind},
    figures::{Counts, Latency},
    follow::Want,
    stamp,
};

#[derive(Debug)]
pub struct Track {
    pub init: Option<Init>,
    pub counts: Counts,
    /// From the RTMP write to our read, by stamps.
    pub stamped: Latency,
    /// From programme time to our read.
    pub dated: Latency,
    expected: Option<u64>,
    /// GAP parts were counted in since: their durations are rounded.
    loose: bool,
    counter: Option<u64>,
    /// Programme time and decode time of one sample.
    anchor: Option<(i64, u64)>,
    pub first_frame_us: Option<i64>,
}

/// Media time gained by one fragment, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gained {
    pub start_us: i64,
    pub end_us: i64,
}

/// What a GAP part's printed duration may be off by, in ticks.
const GAP_SLACK_TICKS: u64 = 2;

impl Track {
    #[must_use]
    pub fn new(digits: u8) -> Self {
        Self {
            init: None,
            counts: Counts::default(),
            stamped: Latency::new(digits),
            dated: Latency::new(digits),
            expected: None,
            loose: false,
            counter: None,
            anchor: None,
            first_frame_us: None,
        }
    }

    /// A part begins: `want` was taken.
    pub fn begin(&mut self, want: &Want) {
        // Where nothing was read before there is nothing to break with.
        if want.discontinuity && self.first_frame_us.is_some() {
            self.counts.discontinuities += 1;
            self.forget();
        }
    }

    /// What comes next does not follow what came before.
    pub fn forget(&mut self) {
        self.leave_out();
        self.counter = None;
    }

    /// Of what comes next something was left out: its frames are missing, however
    /// long they were.
    pub fn leave_out(&mut self) {
        self.expected = None;
        self.anchor = None;
        self.loose = false;
    }

    /// A GAP part: time passes, nothing comes.
    pub fn hole(&mut self, duration_us: u64) {
        self.counts.gap_parts += 1;
        let timescale = self.init.as_ref().map_or(1, |init| init.timescale);
        let ticks = u128::from(duration_us) * u128::from(timescale) + 500_000;
        let ticks = u64::try_from(ticks / 1_000_000).unwrap_or(u64::MAX);
        self.expected = self.expected.and_then(|at| at.checked_add(ticks));
        self.loose = true;
    }

    /// One fragment of `want`, complete at `at_us` by the wall clock. `first`:
    /// it is the first of its part.
    pub fn fragment(
        &mut self,
        fragment: &Fragment,
        want: &Want,
        first: bool,
        at_us: i64,
    ) -> Option<Gained> {
        let init = self.init.as_ref()?;
        let (kind, timescale, nal_length) = (init.kind, init.timescale, init.nal_length);
        self.follow_on(fragment);
        if first && let Some(date_us) = want.date_time_us {
            self.anchor = Some((date_us, fragment.tfdt));
        }
        for sample in &fragment.samples {
            match kind {
                Kind::Video => self.counts.video_frames += 1,
                Kind::Audio => self.counts.audio_frames += 1,
                Kind::Other => {}
            }
            self.first_frame_us.get_or_insert(at_us);
            if kind == Kind::Video
                && let Some(stamp) = stamp::find(fragment.sample_bytes(sample), nal_length)
            {
                self.count(stamp.counter);
                if want.fresh {
                    let sent_us = i64::try_from(stamp.unix_us).unwrap_or(i64::MAX);
                    self.stamped.record(at_us.saturating_sub(sent_us));
                }
            }
            if want.fresh
                && let Some((date_us, dts)) = self.anchor
            {
                let since = to_us(sample.dts, timescale).saturating_sub(to_us(dts, timescale));
                let made_us = date_us.saturating_add(since);
                self.dated.record(at_us.saturating_sub(made_us));
            }
        }
        Some(Gained {
            start_us: to_us(fragment.tfdt, timescale),
            end_us: to_us(fragment.end(), timescale),
        })
    }

    fn follow_on(&mut self, fragment: &Fragment) {
        let slack = if self.loose { GAP_SLACK_TICKS } else { 0 };
        if let Some(expected) = self.expected
            && expected.abs_diff(fragment.tfdt) > slack
        {
            self.counts.tfdt_breaks += 1;
        }
        self.expected = Some(fragment.end());
        self.loose = false;
    }

    fn count(&mut self, counter: u64) {
        self.counts.stamped_frames += 1;
        if let Some(last) = self.counter {
            let next = last.saturating_add(1);
            self.counts.frame_gaps += counter.saturating_sub(next);
            self.counts.frame_repeats += u64::from(counter < next);
        }
        self.counter = Some(counter);
    }
}

fn to_us(ticks: u64, timescale: u32) -> i64 {
    let us = u128::from(ticks) * 1_000_000 / u128::from(timescale.max(1));
    i64::try_from(us).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boxes::{
            FragmentReader, parse_init,
            tests::{chunk, video_init},
        },
        stamp::Stamp,
    };

    fn want() -> Want {
        Want {
            uri: "1/v0/1.0.m4s".to_owned(),
            map: None,
            hinted: false,
            gap: false,
            duration_us: 100_000,
            discontinuity: false,
            date_time_us: Some(1_000_000),
            fresh: true,
        }
    }

    fn track() -> Track {
        let mut track = Track::new(3);
        track.init = Some(parse_init(&video_init()).unwrap());
        track
    }

    fn frame(tfdt: u64, unix_us: u64, counter: u64) -> Fragment {
        let sample =
            stamp::into_sample(&[0, 0, 0, 1, 0x65], 4, Stamp { unix_us, counter }).unwrap();
        let bytes = chunk(1, tfdt, 4000, true, &sample);
        let init = parse_init(&video_init()).unwrap();
        FragmentReader::default()
            .push(&bytes, &init)
            .unwrap()
            .remove(0)
    }

    #[test]
    fn latency_by_stamp_and_by_programme_time() {
        let mut track = track();
        let gained = track.fragment(&frame(12_000, 1_000_500, 0), &want(), true, 1_050_500);
        assert_eq!(
            gained,
            Some(Gained {
                start_us: 100_000,
                end_us: 133_333
            })
        );
        track.fragment(&frame(16_000, 1_033_833, 1), &want(), false, 1_083_833);
        assert_eq!(track.stamped.summary().unwrap().p50_ms, 50.0);
        assert_eq!(track.dated.summary().unwrap().p99_ms, 50.5);
        let clean = Counts {
            video_frames: 2,
            stamped_frames: 2,
            ..Counts::default()
        };
        assert_eq!(track.counts, clean);
    }

    #[test]
    fn c3_a_tfdt_that_jumps_is_counted() {
        let mut track = track();
        for tfdt in [0, 4000, 8001, 12_001, 12_001] {
            track.fragment(&frame(tfdt, 0, tfdt), &want(), false, 0);
        }
        assert_eq!(track.counts.tfdt_breaks, 2);
        track.begin(&Want {
            discontinuity: true,
            ..want()
        });
        track.fragment(&frame(0, 0, 0), &want(), true, 0);
        assert_eq!(
            (track.counts.tfdt_breaks, track.counts.discontinuities),
            (2, 1)
        );
    }

    #[test]
    fn c3_gap_parts_count_as_time() {
        let mut track = track();
        track.fragment(&frame(0, 0, 0), &want(), true, 0);
        track.hole(333_333);
        track.fragment(&frame(44_000, 0, 1), &want(), true, 0);
        assert_eq!((track.counts.tfdt_breaks, track.counts.gap_parts), (0, 1));
    }

    #[test]
    fn frames_missing_or_twice_are_counted() {
        let mut track = track();
        for (at, counter) in [5, 6, 9, 9, 10].into_iter().enumerate() {
            track.fragment(&frame(4000 * at as u64, 0, counter), &want(), false, 0);
        }
        assert_eq!(
            (track.counts.frame_gaps, track.counts.frame_repeats),
            (2, 1)
        );
    }

    #[test]
    fn frames_left_out_are_missing_and_no_break() {
        let mut track = track();
        track.fragment(&frame(0, 0, 5), &want(), true, 0);
        track.leave_out();
        track.fragment(&frame(44_000, 0, 16), &want(), true, 0);
        assert_eq!((track.counts.frame_gaps, track.counts.tfdt_breaks), (10, 0));
    }

    #[test]
    fn what_was_there_before_we_came_has_no_latency() {
        let mut track = track();
        let old = Want {
            fresh: false,
            ..want()
        };
        track.fragment(&frame(0, 0, 0), &old, true, 9);
        assert!(track.stamped.summary().is_none() && track.dated.summary().is_none());
        assert_eq!(track.first_frame_us, Some(9));
    }
}
