//! `loadtest publish`: RTMP publishers that send a recording in real time, in a
//! loop, each frame stamped as it is written.
//!
//! In: an RTMP URL and an FLV file, or a picture made with ffmpeg. Out: how
//! many frames went out and how late. The schedule is absolute: a server that
//! reads slowly makes frames late, never rare, and their stamps say when they
//! should have gone.

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    arrivals::ArrivalArgs,
    clock,
    figures::{Latency, Percentiles},
    output,
    progress::Progress,
};

mod flv;
mod picture;
mod publisher;
mod tape;
pub(crate) mod target;

use picture::PictureArgs;
use publisher::{Job, Sent};
use tape::Tape;
use target::Target;

#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = "\
With --json one object in one line: command, passed, publishers, seconds, cpu_seconds, video_frames, \
audio_frames, bytes, loops, late (count, p50_ms, p90_ms, p99_ms, max_ms: from when a frame was due to when \
its write was done), failed (a line for each publisher that failed and each threshold missed).

Exit status: 0 all was as asked for, 1 a publisher or a threshold failed, 2 a wrong flag or file.")]
pub struct PublishArgs {
    /// Where to publish, the key last; {n} in it becomes 1 to N
    #[arg(
        long,
        default_value = "rtmp://127.0.0.1:1935/live/demo",
        value_name = "URL"
    )]
    pub url: String,
    /// H.264 and AAC in FLV to send; without it ffmpeg makes a picture
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub picture: PictureArgs,
    /// How long to publish [default: until Ctrl-C]
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// How many publish at once
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub publishers: u32,
    #[command(flatten)]
    pub arrivals: ArrivalArgs,
    /// Send the frames as they are in the file
    #[arg(long)]
    pub no_stamps: bool,
    /// At the end close the socket without a word, as a crash does
    #[arg(long)]
    pub abrupt: bool,
    /// One line of JSON in place of words
    #[arg(long)]
    pub json: bool,
    /// Fail if the p99 of the writes' lateness is higher, in milliseconds
    #[arg(long, value_name = "MS")]
    pub max_late_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Summary {
    publishers: u32,
    seconds: f64,
    cpu_seconds: f64,
    video_frames: u64,
    audio_frames: u64,
    bytes: u64,
    loops: u64,
    /// From when a frame was due to when its write was done.
    late: Option<Percentiles>,
}

/// # Errors
/// A flag, a file or ffmpeg that isn't what it should be.
pub async fn run(args: &PublishArgs) -> Result<bool> {
    let targets = Target::spread(&args.url, args.publishers)?;
    let tape = Arc::new(match &args.file {
        Some(file) => tape::load(file)?,
        None => picture::make(&args.picture).await?,
    });
    if !tape.has_video() && !args.no_stamps {
        eprintln!("loadtest: no H.264 in the recording: nothing to stamp");
    }
    let arrivals = args.arrivals.of(args.publishers)?;
    let stop = stop_signal(args.seconds)?;
    let (publishers, length) = (args.publishers, args.seconds.map(Duration::from_secs));
    let progress = Progress::over(length, move || format!("{publishers} publish"));
    let started = Instant::now();
    let mut publishers = JoinSet::new();
    for (index, target) in targets.into_iter().enumerate() {
        let index = u32::try_from(index)?;
        let job = Job {
            start: started + arrivals.due(index),
            target,
            tape: tape.clone(),
            stamps: !args.no_stamps,
            abrupt: args.abrupt,
            seed: u64::from(index),
            stop: stop.clone(),
        };
        publishers.spawn(publisher::run(job));
    }
    let mut total = Sent::new();
    let mut failed = Vec::new();
    while let Some(done) = publishers.join_next().await {
        let (sent, error) = done?;
        total.add(&sent);
        failed.extend(error);
    }
    drop(progress);
    let summary = summarize(args, &total, started, &tape);
    failed.extend(too_late(args, &summary));
    output::leave("publish", &summary, &failed, args.json, || summary.words())
}

fn too_late(args: &PublishArgs, summary: &Summary) -> Option<String> {
    let (most, late) = (args.max_late_ms?, summary.late?);
    let p99 = late.p99_ms;
    (p99 > most).then(|| format!("p99 lateness {p99} ms, more than --max-late-ms {most}"))
}

fn summarize(args: &PublishArgs, total: &Sent, started: Instant, tape: &Tape) -> Summary {
    let per_loop = tape.frames().max(1);
    Summary {
        publishers: args.publishers,
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: clock::cpu_used().unwrap_or_default().as_secs_f64(),
        video_frames: total.video_frames,
        audio_frames: total.audio_frames,
        bytes: total.bytes,
        loops: (total.video_frames + total.audio_frames) / per_loop,
        late: total.late.summary(),
    }
}

/// Turns true after `seconds`, or on SIGINT or SIGTERM.
fn stop_signal(seconds: Option<u64>) -> Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (stop, stopped) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let over = async {
            match seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        let _ = stop.send(true);
    });
    Ok(stopped)
}

impl Summary {
    fn words(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let megabytes = self.bytes as f64 / 1e6;
        let mut out = format!(
            "published {} video and {} audio frames, {megabytes:.1} MB, in {:.1} s by {} publishers\n",
            self.video_frames, self.audio_frames, self.seconds, self.publishers
        );
        if let Some(late) = self.late {
            let _ = writeln!(
                out,
                "written p50 {:.1}  p99 {:.1}  max {:.1} ms after they were due",
                late.p50_ms, late.p99_ms, late.max_ms
            );
        }
        let _ = writeln!(out, "own CPU {:.2} s", self.cpu_seconds);
        out
    }
}

pub(crate) fn need(condition: bool, line: &str) -> Result<()> {
    if !condition {
        bail!("{line}");
    }
    Ok(())
}

impl Sent {
    fn new() -> Self {
        Self {
            video_frames: 0,
            audio_frames: 0,
            bytes: 0,
            late: Latency::new(3),
        }
    }

    fn add(&mut self, other: &Self) {
        self.video_frames += other.video_frames;
        self.audio_frames += other.audio_frames;
        self.bytes += other.bytes;
        self.late.add(&other.late);
    }
}
