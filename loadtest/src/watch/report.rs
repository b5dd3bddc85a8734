//! What the viewers of one URL saw, added up, judged and printed.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::{WatchArgs, viewer::Seen};
use crate::figures::{Counts, Latency, Percentiles};

/// The sum over a URL's viewers.
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
            hold_back_us: 0,
            part_us: 0,
        }
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
            part_target_ms: self.part_us / 1000,
            hold_back_ms: self.hold_back_us / 1000,
            counts: self.counts.clone(),
        }
    }
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
    first_frame: Option<Percentiles>,
    stalls: u64,
    stalled_ms: i64,
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
            let errors = self.errors_text();
            out.push(format!("{url}: no video flowed ({errors})"));
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
        if let Some(most) = args.max_p99_ms {
            match self.latency {
                Some(latency) if latency.p99_ms <= most => {}
                Some(latency) => {
                    let p99 = latency.p99_ms;
                    out.push(format!(
                        "{url}: p99 {p99} ms, more than --max-p99-ms {most}"
                    ));
                }
                None => out.push(format!("{url}: no latency to hold to --max-p99-ms {most}")),
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
            "from the first request",
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
            "  playout      {} stalls, {stalled_s:.1} s stalled",
            self.stalls
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
        writeln!(out, "  errors       {}", self.errors_text())
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
    pub urls: Vec<UrlLines>,
    pub failed: Vec<String>,
}

impl Summary {
    /// # Errors
    /// If the figures can't be written as JSON.
    pub fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            let mut text = String::new();
            for url in &self.urls {
                url.table(&mut text)?;
            }
            println!(
                "{text}{:.1} s, own CPU {:.2} s ({:.1} % of a core)",
                self.seconds,
                self.cpu_seconds,
                100.0 * self.cpu_seconds / self.seconds.max(0.001)
            );
        }
        for line in &self.failed {
            eprintln!("loadtest: {line}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        watch: WatchArgs,
    }

    fn args(flags: &[&str]) -> WatchArgs {
        let all = [&["x", "--url", "http://a/b"], flags].concat();
        Flags::try_parse_from(all).unwrap().watch
    }

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
            stalled_us: 0,
            hold_back_us: 1_200_000,
            part_us: 366_667,
        }
    }

    #[test]
    fn each_threshold_names_itself() {
        let mut report = Report::new("http://a/b".to_owned());
        report.add(&seen(10, 1, 200));
        let lines = report.lines();
        assert_eq!(lines.failures(&args(&[])), [""; 0]);
        let kept = [
            "--min-parts",
            "10",
            "--max-stalls",
            "1",
            "--max-p99-ms",
            "201",
        ];
        assert_eq!(lines.failures(&args(&kept)), [""; 0]);
        for (flag, value) in [
            ("--min-parts", "11"),
            ("--max-stalls", "0"),
            ("--max-p99-ms", "199"),
        ] {
            let failed = lines.failures(&args(&[flag, value]));
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
            failed[0].contains("no video flowed (1 x playlist 404)"),
            "{failed:?}"
        );
        report.add(&seen(10, 0, 1));
        let failed = report.lines().failures(&args(&[]));
        assert!(failed[0].contains("1 of 2"), "{failed:?}");
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
