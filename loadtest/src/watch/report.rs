//! What the viewers of one URL saw, added up, judged and printed.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{WatchArgs, viewer::Seen};
use crate::figures::{Counts, Latency, Percentiles};

/// The sum over a URL's viewers, of one process or of several.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    url: String,
    viewers: u64,
    with_media: u64,
    has_video: bool,
    counts: Counts,
    stamped: Latency,
    dated_video: Latency,
    dated_audio: Latency,
    first_frame: Latency,
    stalls: u64,
    stalled_us: i64,
    watched_us: i64,
    hold_back_us: u64,
    part_us: u64,
}

impl Report {
    #[must_use]
    pub fn new(url: String) -> Self {
        Self {
            url,
            viewers: 0,
            with_media: 0,
            has_video: false,
            counts: Counts::default(),
            stamped: Latency::new(3),
            dated_video: Latency::new(3),
            dated_audio: Latency::new(3),
            first_frame: Latency::new(3),
            stalls: 0,
            stalled_us: 0,
            watched_us: 0,
            hold_back_us: 0,
            part_us: 0,
        }
    }

    /// What another process' viewers of the same URL saw.
    pub fn merge(&mut self, other: &Self) {
        self.viewers += other.viewers;
        self.with_media += other.with_media;
        self.has_video |= other.has_video;
        self.counts.add(&other.counts);
        self.stamped.add(&other.stamped);
        self.dated_video.add(&other.dated_video);
        self.dated_audio.add(&other.dated_audio);
        self.first_frame.add(&other.first_frame);
        self.stalls += other.stalls;
        self.stalled_us = self.stalled_us.saturating_add(other.stalled_us);
        self.watched_us = self.watched_us.saturating_add(other.watched_us);
        self.hold_back_us = self.hold_back_us.max(other.hold_back_us);
        self.part_us = self.part_us.max(other.part_us);
    }

    pub fn add(&mut self, seen: &Seen) {
        self.viewers += 1;
        self.has_video |= seen.has_video;
        let first = if seen.has_video {
            seen.first_video_us
        } else {
            seen.first_audio_us
        };
        if let Some(us) = first {
            self.with_media += 1;
            self.first_frame.record(us);
        }
        self.counts.add(&seen.counts);
        self.stamped.add(&seen.stamped);
        self.dated_video.add(&seen.dated_video);
        self.dated_audio.add(&seen.dated_audio);
        self.stalls += seen.stalls;
        self.stalled_us = self.stalled_us.saturating_add(seen.stalled_us);
        self.watched_us = self.watched_us.saturating_add(seen.watched_us);
        self.hold_back_us = self.hold_back_us.max(seen.hold_back_us);
        self.part_us = self.part_us.max(seen.part_us);
    }

    #[must_use]
    pub fn lines(&self) -> UrlLines {
        let dated = if self.has_video {
            &self.dated_video
        } else {
            &self.dated_audio
        };
        let (kind, latency) = match (self.stamped.summary(), dated.summary()) {
            (Some(stamped), _) => ("stamp", Some(stamped)),
            (None, dated) => ("pdt", dated),
        };
        UrlLines {
            url: self.url.clone(),
            viewers: self.viewers,
            viewers_with_media: self.with_media,
            has_video: self.has_video,
            latency_kind: kind,
            latency,
            pdt_latency: dated.summary(),
            first_frame: self.first_frame.summary(),
            stalls: self.stalls,
            stalled_ms: self.stalled_us / 1000,
            watched_ms: self.watched_us / 1000,
            rebuffer_ratio: ratio(self.stalled_us, self.watched_us),
            part_target_ms: self.part_us / 1000,
            hold_back_ms: self.hold_back_us / 1000,
            counts: self.counts.clone(),
        }
    }
}

/// To six digits.
fn ratio(part_us: i64, whole_us: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "six digits are shown")]
    let ratio = part_us as f64 / whole_us.max(1) as f64;
    (ratio * 1e6).round() / 1e6
}

/// One URL's figures, as `--json` shows them.
#[derive(Debug, Serialize)]
pub struct UrlLines {
    url: String,
    viewers: u64,
    viewers_with_media: u64,
    has_video: bool,
    /// `stamp`: RTMP write to read. `pdt`: programme time to read.
    latency_kind: &'static str,
    latency: Option<Percentiles>,
    pdt_latency: Option<Percentiles>,
    /// From a viewer's due arrival to its first frame, what failed in between
    /// included; of a channel that was not live, from the first request after that.
    first_frame: Option<Percentiles>,
    stalls: u64,
    stalled_ms: i64,
    /// From the first picture on, stalls included, of all viewers together.
    watched_ms: i64,
    /// Stalled of watched.
    rebuffer_ratio: f64,
    part_target_ms: u64,
    hold_back_ms: u64,
    #[serde(flatten)]
    counts: Counts,
}

impl UrlLines {
    /// A line for each threshold that was missed.
    #[must_use]
    pub fn failures(&self, args: &WatchArgs) -> Vec<String> {
        let url = &self.url;
        let mut out = Vec::new();
        let missing = self.viewers - self.viewers_with_media;
        if self.viewers_with_media == 0 {
            let (errors, offline) = (self.errors_text(), self.counts.offline_answers);
            out.push(format!(
                "{url}: no video flowed ({errors}, {offline} times not live)"
            ));
        } else if missing > 0 {
            let viewers = self.viewers;
            out.push(format!(
                "{url}: no video flowed to {missing} of {viewers} viewers"
            ));
        }
        if let Some(least) = args.min_parts
            && self.counts.parts < least
        {
            let parts = self.counts.parts;
            out.push(format!(
                "{url}: {parts} parts, less than --min-parts {least}"
            ));
        }
        if let Some(most) = args.max_stalls
            && self.stalls > most
        {
            let stalls = self.stalls;
            out.push(format!(
                "{url}: {stalls} stalls, more than --max-stalls {most}"
            ));
        }
        if let Some(most) = args.max_rebuffer_ratio
            && self.rebuffer_ratio > most
        {
            let ratio = self.rebuffer_ratio;
            out.push(format!(
                "{url}: {ratio} of the time was rebuffering, more than --max-rebuffer-ratio {most}"
            ));
        }
        let errors = self.counts.errors_total();
        if let Some(most) = args.max_errors
            && errors > most
        {
            let text = self.errors_text();
            out.push(format!(
                "{url}: {errors} errors ({text}), more than --max-errors {most}"
            ));
        }
        for (what, flag, most, found) in [
            ("latency", "--max-p99-ms", args.max_p99_ms, self.latency),
            (
                "first frame",
                "--max-first-frame-ms",
                args.max_first_frame_ms,
                self.first_frame,
            ),
        ] {
            match (most, found.map(|found| found.p99_ms)) {
                (None, _) => {}
                (Some(most), Some(p99)) if p99 <= most => {}
                (Some(most), Some(p99)) => {
                    out.push(format!(
                        "{url}: {what} p99 {p99} ms, more than {flag} {most}"
                    ));
                }
                (Some(most), None) => {
                    out.push(format!("{url}: no {what} to hold to {flag} {most}"));
                }
            }
        }
        out
    }

    fn errors_text(&self) -> String {
        let texts = self
            .counts
            .errors
            .iter()
            .map(|(kind, count)| format!("{count} x {kind}"));
        let text = texts.collect::<Vec<_>>().join(", ");
        if text.is_empty() {
            "no errors".to_owned()
        } else {
            text
        }
    }

    fn table(&self, out: &mut String) -> std::fmt::Result {
        let counts = &self.counts;
        writeln!(out, "{}", self.url)?;
        writeln!(
            out,
            "  viewers      {} of {}, part target {} ms, hold-back {} ms",
            self.viewers_with_media, self.viewers, self.part_target_ms, self.hold_back_ms
        )?;
        let what = match self.latency_kind {
            "stamp" => "RTMP write to read, by the frames' stamps",
            _ => "pdt latency: programme time to read, the frames carry no stamps",
        };
        line(out, "latency", self.latency, what)?;
        line(
            out,
            "first frame",
            self.first_frame,
            "from the arrival, as it was due",
        )?;
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let (megabytes, stalled_s) = (counts.bytes as f64 / 1e6, self.stalled_ms as f64 / 1000.0);
        writeln!(
            out,
            "  media        {} parts, {megabytes:.1} MB, {} video and {} audio frames, {} playlists",
            counts.parts, counts.video_frames, counts.audio_frames, counts.playlists
        )?;
        writeln!(
            out,
            "  playout      {} stalls, {stalled_s:.1} s stalled, rebuffer ratio {}",
            self.stalls, self.rebuffer_ratio
        )?;
        writeln!(
            out,
            "  continuity   {} frames missing, {} repeated, {} tfdt breaks, {} gap parts, {} discontinuities, {} skips",
            counts.frame_gaps,
            counts.frame_repeats,
            counts.tfdt_breaks,
            counts.gap_parts,
            counts.discontinuities,
            counts.skips
        )?;
        writeln!(
            out,
            "  hints        {} withdrawn, {} never listed",
            counts.hints_withdrawn, counts.hints_unlisted
        )?;
        let offline = counts.offline_answers;
        writeln!(
            out,
            "  errors       {}, {offline} times not live",
            self.errors_text()
        )
    }
}

fn line(
    out: &mut String,
    name: &str,
    figures: Option<Percentiles>,
    what: &str,
) -> std::fmt::Result {
    let Some(at) = figures else {
        return writeln!(out, "  {name:<12} none");
    };
    write!(
        out,
        "  {name:<12} p50 {:.1}  p90 {:.1}  p99 {:.1}  max {:.1} ms  of {}  ({what})",
        at.p50_ms, at.p90_ms, at.p99_ms, at.max_ms, at.count
    )?;
    if at.negative > 0 {
        write!(
            out,
            "; {} read before they were sent: clocks differ",
            at.negative
        )?;
    }
    writeln!(out)
}

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub seconds: f64,
    /// Of this process, to tell whether it was the bottleneck.
    pub cpu_seconds: f64,
    pub processes: u32,
    /// From when a viewer was due to when this machine let it begin: whether the
    /// arrivals were as asked for.
    pub arrivals_late: Option<Percentiles>,
    pub urls: Vec<UrlLines>,
}

impl Summary {
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        for url in &self.urls {
            // Writing to a string succeeds.
            let _ = url.table(&mut text);
        }
        let late = self.arrivals_late.map_or(0.0, |late| late.p99_ms);
        let _ = writeln!(
            text,
            "{:.1} s, own CPU {:.2} s ({:.1} % of a core) in {} processes, arrivals up to {late:.1} ms late (p99)",
            self.seconds,
            self.cpu_seconds,
            100.0 * self.cpu_seconds / self.seconds.max(0.001),
            self.processes,
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tests::args;

    fn seen(parts: u64, stalls: u64, latency_ms: i64) -> Seen {
        let mut stamped = Latency::new(3);
        stamped.record(latency_ms * 1000);
        Seen {
            counts: Counts {
                parts,
                ..Counts::default()
            },
            stamped,
            dated_video: Latency::new(3),
            dated_audio: Latency::new(3),
            first_video_us: Some(400_000),
            first_audio_us: None,
            has_video: true,
            started: true,
            stalls,
            stalled_us: 20_000,
            watched_us: 1_000_000,
            hold_back_us: 1_200_000,
            part_us: 366_667,
        }
    }

    #[test]
    fn each_threshold_names_itself() {
        let mut report = Report::new("http://a/b".to_owned());
        let mut one = seen(10, 1, 200);
        one.counts.error("media 503");
        report.add(&one);
        let lines = report.lines();
        assert_eq!(lines.failures(&args(&[])), [""; 0]);
        for (flag, kept, missed) in [
            ("--min-parts", "10", "11"),
            ("--max-stalls", "1", "0"),
            ("--max-p99-ms", "201", "199"),
            ("--max-first-frame-ms", "401", "399"),
            ("--max-rebuffer-ratio", "0.02", "0.019"),
            ("--max-errors", "1", "0"),
        ] {
            assert_eq!(lines.failures(&args(&[flag, kept])), [""; 0]);
            let failed = lines.failures(&args(&[flag, missed]));
            assert_eq!(failed.len(), 1);
            assert!(failed[0].contains(flag), "{failed:?}");
        }
    }

    #[test]
    fn a_viewer_without_media_fails_the_run() {
        let mut report = Report::new("http://a/b".to_owned());
        let mut blind = seen(0, 0, 1);
        blind.first_video_us = None;
        blind.counts.error("playlist 404");
        report.add(&blind);
        let failed = report.lines().failures(&args(&[]));
        assert!(
            failed[0].contains("no video flowed (1 x playlist 404,"),
            "{failed:?}"
        );
        report.add(&seen(10, 0, 1));
        let failed = report.lines().failures(&args(&[]));
        assert!(failed[0].contains("1 of 2"), "{failed:?}");
    }

    #[test]
    fn processes_add_up_to_what_one_would_have_seen() {
        let mut alone = Report::new("http://a/b".to_owned());
        let mut parts = [alone.url.clone(), alone.url.clone()].map(Report::new);
        for (at, one) in [seen(10, 1, 200), seen(20, 0, 300)].iter().enumerate() {
            alone.add(one);
            parts[at].add(one);
        }
        let text = serde_json::to_string(&parts).unwrap();
        let [mut sum, other]: [Report; 2] = serde_json::from_str(&text).unwrap();
        sum.merge(&other);
        let shown = |report: &Report| serde_json::to_string(&report.lines()).unwrap();
        assert_eq!(shown(&sum), shown(&alone));
    }

    #[test]
    fn the_table_says_which_latency_it_shows() {
        let mut report = Report::new("http://a/b".to_owned());
        report.add(&seen(10, 0, 200));
        let mut text = String::new();
        report.lines().table(&mut text).unwrap();
        assert!(text.contains("RTMP write to read"), "{text}");
        let mut plain = seen(10, 0, 200);
        plain.stamped = Latency::new(3);
        plain.dated_video.record(300_000);
        let mut report = Report::new("http://a/b".to_owned());
        report.add(&plain);
        text.clear();
        report.lines().table(&mut text).unwrap();
        assert!(text.contains("pdt latency"), "{text}");
    }
}
