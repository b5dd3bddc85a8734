//! `loadtest watch`: real low-latency viewers, and what they saw.
//!
//! In: URLs of multivariant or media playlists, of DASH manifests (`.mpd`) or of
//! endless streams (`stream.mp4`). Out: a [`Report`] per URL and
//! the thresholds that it failed. Each viewer is a task of its own with its own
//! connections; nothing is shared between viewers but the TLS configuration and
//! the playlists as they were read, equal bytes once. Viewers come when they are
//! due, whatever the server does; past a process' descriptors they are split over
//! several.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    arrivals::ArrivalArgs,
    client::{Net, TlsArgs},
    clock,
    figures::Latency,
    follow::Mode,
    output,
    progress::Progress,
    share::{ProcessArgs, Processes, Share},
    url::Url,
};

mod dash;
mod media;
mod reload;
mod report;
mod stream;
mod viewer;

use reload::Known;
use report::{Report, Summary};
use viewer::Plan;

#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = "\
With --json one object in one line: command, passed, seconds, cpu_seconds (of this program), processes, \
arrivals_late, urls, failed. Each of urls has url, viewers, viewers_with_media, latency_kind (stamp: RTMP \
write to read; pdt: programme time to read), latency, pdt_latency, first_frame (from when a viewer was due, \
failures in between included; of a channel that was not live, from the first request after that), stalls \
(media that never came is one, too), stalled_ms, watched_ms, rebuffer_ratio, part_target_ms, hold_back_ms, \
offline_answers (404, or ended), and counts of parts, bytes, frames, gaps and errors (a 503 is one). \
Distributions have count, p50_ms, p90_ms, p99_ms, max_ms and negative (read before it was sent: clocks \
differ).

Exit status: 0 all was as asked for, 1 a threshold was missed or no media came, 2 a wrong flag.")]
pub struct WatchArgs {
    /// A playlist to watch, multivariant or media, a DASH manifest (.mpd) or an endless stream
    /// (stream.mp4); may be given several times
    #[arg(long, required = true, value_name = "URL")]
    pub url: Vec<String>,
    /// Viewers of each URL
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub viewers: u32,
    /// Time from the first request to the last, waiting for the stream included
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub seconds: u64,
    #[command(flatten)]
    pub arrivals: ArrivalArgs,
    /// Of a playlist: whole parts, or segments streamed while they are made
    #[arg(long, value_enum, default_value_t = Mode::Parts)]
    pub mode: Mode,
    /// One HTTP/2 connection a viewer (without TLS by prior knowledge) in place of HTTP/1.1
    #[arg(long)]
    pub http2: bool,
    #[command(flatten)]
    pub processes: ProcessArgs,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// One line of JSON in place of the table
    #[arg(long)]
    pub json: bool,
    /// Fail if a URL's viewers read fewer parts (segments, or chunks of an endless stream) together
    #[arg(long, value_name = "N")]
    pub min_parts: Option<u64>,
    /// Fail if a URL's viewers stalled more often together
    #[arg(long, value_name = "N")]
    pub max_stalls: Option<u64>,
    /// Fail if a URL's viewers were stalled for a larger share of the time they watched, for
    /// example 0.001
    #[arg(long, value_name = "SHARE")]
    pub max_rebuffer_ratio: Option<f64>,
    /// Fail if a URL's viewers met more failed requests together
    #[arg(long, value_name = "N")]
    pub max_errors: Option<u64>,
    /// Fail if a URL's p99 latency is higher, in milliseconds
    #[arg(long, value_name = "MS")]
    pub max_p99_ms: Option<f64>,
    /// Fail if a URL's p99 of the time from a viewer's arrival to its first frame is higher, in
    /// milliseconds
    #[arg(long, value_name = "MS")]
    pub max_first_frame_ms: Option<f64>,
}

impl WatchArgs {
    /// # Errors
    /// Arrivals that last as long as the run: who comes at its end sees nothing.
    fn checked(&self) -> Result<()> {
        let arrivals = self.arrivals.of(self.viewers)?;
        let ramp = arrivals.length();
        // One viewer comes at once, at any rate.
        let all_at_once = arrivals.due(self.viewers.saturating_sub(1)).is_zero();
        if !all_at_once && ramp >= Duration::from_secs(self.seconds) {
            bail!(
                "the viewers come within {:.1} s (--ramp-ms, --arrivals-per-second), and --seconds is {}: longer, for example --seconds {}",
                ramp.as_secs_f64(),
                self.seconds,
                ramp.as_secs().saturating_add(AFTER_RAMP_S)
            );
        }
        Ok(())
    }
}

/// What an example leaves the last viewer.
const AFTER_RAMP_S: u64 = 20;

/// Past this many viewers their histograms keep two digits in place of three.
const FINE_VIEWERS: u32 = 100;

/// What one process' viewers saw.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    cpu_seconds: f64,
    late: Latency,
    /// In the order of the URLs.
    reports: Vec<Report>,
}

/// Watches, prints, and says whether everything was as asked for.
///
/// # Errors
/// A flag that isn't what it should be.
pub async fn run(args: &WatchArgs) -> Result<bool> {
    let urls = args
        .url
        .iter()
        .map(|url| Url::parse(url))
        .collect::<Result<Vec<_>>>()?;
    args.checked()?;
    let come = Arc::new(AtomicU32::new(0));
    if let Some(share) = args.processes.share {
        let part = watch(args, &urls, share, &come).await?;
        println!("{}", serde_json::to_string(&part)?);
        return Ok(true);
    }
    let started = Instant::now();
    let processes = args.processes.count(descriptors(args, &urls))?;
    let progress = {
        let (come, all) = (come.clone(), args.viewers);
        let urls = urls.len();
        Progress::over(Some(Duration::from_secs(args.seconds)), move || match come
            .load(Ordering::Relaxed)
        {
            0 => format!("{all} viewers of {urls} URLs in {processes} processes"),
            come => format!("{come} viewers came, of {all} for each of {urls} URLs"),
        })
    };
    let part = if processes > 1 {
        add_up(&urls, Processes::start(processes)?.results().await?)
    } else {
        watch(args, &urls, Share::whole(), &come).await?
    };
    drop(progress);
    let urls: Vec<_> = part.reports.iter().map(Report::lines).collect();
    let failed: Vec<_> = urls.iter().flat_map(|lines| lines.failures(args)).collect();
    let summary = Summary {
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: part.cpu_seconds,
        processes,
        arrivals_late: part.late.summary(),
        urls,
    };
    output::leave("watch", &summary, &failed, args.json, || summary.table())
}

/// About as many as all viewers hold open at once.
fn descriptors(args: &WatchArgs, urls: &[Url]) -> u64 {
    let of = |url: &Url| {
        let path = url.path.split('?').next().unwrap_or_default();
        match args.http2 || path.ends_with("/stream.mp4") {
            true => 1,
            // Picture and sound, a playlist and a part of each.
            false => 4,
        }
    };
    urls.iter().map(of).sum::<u64>() * u64::from(args.viewers)
}

fn add_up(urls: &[Url], parts: Vec<Part>) -> Part {
    let mut sum = Part {
        cpu_seconds: 0.0,
        late: Latency::new(3),
        reports: reports(urls),
    };
    for part in parts {
        sum.cpu_seconds += part.cpu_seconds;
        sum.late.add(&part.late);
        for (sum, report) in sum.reports.iter_mut().zip(&part.reports) {
            sum.merge(report);
        }
    }
    sum
}

fn reports(urls: &[Url]) -> Vec<Report> {
    let all = urls.iter().map(ToString::to_string);
    all.map(Report::new).collect()
}

/// Runs the viewers of one share.
async fn watch(
    args: &WatchArgs,
    urls: &[Url],
    share: Share,
    come: &Arc<AtomicU32>,
) -> Result<Part> {
    let tls = match urls.iter().any(|url| url.tls) {
        true => Some(args.tls.config(args.http2)?),
        false => None,
    };
    let arrivals = args.arrivals.of(args.viewers)?;
    let started = Instant::now() + share.lead();
    let deadline = started + Duration::from_secs(args.seconds);
    let known = Arc::new(Known::default());
    let mut viewers = JoinSet::new();
    for (index, url) in urls.iter().enumerate() {
        for viewer in (0..args.viewers).filter(|viewer| share.has(*viewer)) {
            let due = arrivals.due(viewer);
            let due_us = i64::try_from(due.as_micros()).unwrap_or(i64::MAX);
            let plan = Plan {
                url: url.clone(),
                net: Arc::new(Net::new(tls.clone(), args.http2)),
                known: known.clone(),
                mode: args.mode,
                digits: if args.viewers > FINE_VIEWERS { 2 } else { 3 },
                due_us: share.start_us.saturating_add(due_us),
                deadline,
            };
            let come = come.clone();
            viewers.spawn(async move {
                tokio::time::sleep_until(started + due).await;
                come.fetch_add(1, Ordering::Relaxed);
                let late_us = clock::unix_us().saturating_sub(plan.due_us);
                (index, late_us, viewer::run(plan).await)
            });
        }
    }
    let mut part = Part {
        cpu_seconds: 0.0,
        late: Latency::new(3),
        reports: reports(urls),
    };
    while let Some(done) = viewers.join_next().await {
        let (index, late_us, seen) = done?;
        // Timers tick in milliseconds; nobody comes before its time by more.
        part.late.record(late_us.max(0));
        if let Some(report) = part.reports.get_mut(index) {
            report.add(&seen);
        }
    }
    part.cpu_seconds = clock::cpu_used().unwrap_or_default().as_secs_f64();
    Ok(part)
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

    /// Nobody listens at the URL (tcpmux).
    pub(super) fn args(flags: &[&str]) -> WatchArgs {
        let all = [&["x", "--url", "http://127.0.0.1:1/x.m3u8"], flags].concat();
        Flags::try_parse_from(all).unwrap().watch
    }

    #[tokio::test]
    async fn arrivals_that_outlast_the_run_are_refused() {
        for flags in [
            ["--viewers", "20", "--arrivals-per-second", "1000"],
            ["--viewers", "2", "--ramp-ms", "20"],
        ] {
            let flags = [&flags[..], &["--seconds", "0"]].concat();
            let line = run(&args(&flags)).await.unwrap_err().to_string();
            for named in ["--ramp-ms", "--arrivals-per-second", "--seconds 20"] {
                assert!(line.contains(named), "{line}");
            }
        }
    }

    #[test]
    fn arrivals_that_end_before_the_run_are_not() {
        for (flags, passes) in [
            (&["--viewers", "1000"][..], true),
            (&["--arrivals-per-second", "0.01"], true),
            (&["--viewers", "1000", "--arrivals-per-second", "51"], true),
            (&["--viewers", "1000", "--arrivals-per-second", "50"], false),
            (&["--viewers", "2", "--ramp-ms", "19999"], true),
            (&["--viewers", "2", "--ramp-ms", "20000"], false),
            (&["--viewers", "2", "--seconds", "0"], true),
        ] {
            assert_eq!(args(flags).checked().is_ok(), passes, "{flags:?}");
        }
    }
}
