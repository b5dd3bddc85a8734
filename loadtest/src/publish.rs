//! `loadtest publish`: RTMP publishers that send a recording in real time, in a
//! loop, each frame stamped as it is written.
//!
//! In: an RTMP URL and an FLV file, or a picture made with ffmpeg. Out: how
//! many frames went out and how late. The schedule is absolute: a server that
//! reads slowly makes frames late, never rare, and their stamps say when they
//! should have gone.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    clock,
    figures::{Latency, Percentiles},
};

mod flv;
mod picture;
mod publisher;
mod tape;
mod target;

use picture::PictureArgs;
use publisher::{Job, Sent};
use tape::Tape;
use target::Target;

#[derive(Debug, Clone, clap::Args)]
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
    /// Spread the publishers' arrivals over this time
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub ramp_ms: u64,
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
    failed: Vec<String>,
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
    let stop = stop_signal(args.seconds)?;
    let started = Instant::now();
    let mut publishers = JoinSet::new();
    for (index, target) in targets.into_iter().enumerate() {
        let index = u32::try_from(index)?;
        let job = Job {
            start: started + Duration::from_millis(args.ramp_ms) * index / args.publishers.max(1),
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
    let summary = summarize(args, &total, started, failed, &tape);
    summary.print(args.json)?;
    Ok(summary.failed.is_empty())
}

fn summarize(
    args: &PublishArgs,
    total: &Sent,
    started: Instant,
    mut failed: Vec<String>,
    tape: &Tape,
) -> Summary {
    let late = total.late.summary();
    if let (Some(most), Some(late)) = (args.max_late_ms, late)
        && late.p99_ms > most
    {
        failed.push(format!(
            "p99 lateness {} ms, more than --max-late-ms {most}",
            late.p99_ms
        ));
    }
    let per_loop = tape.frames().max(1);
    Summary {
        publishers: args.publishers,
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: clock::cpu_used().unwrap_or_default().as_secs_f64(),
        video_frames: total.video_frames,
        audio_frames: total.audio_frames,
        bytes: total.bytes,
        loops: (total.video_frames + total.audio_frames) / per_loop,
        late,
        failed,
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
    fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
            let megabytes = self.bytes as f64 / 1e6;
            println!(
                "published {} video and {} audio frames, {megabytes:.1} MB, in {:.1} s by {} publishers",
                self.video_frames, self.audio_frames, self.seconds, self.publishers
            );
            if let Some(late) = self.late {
                println!(
                    "written p50 {:.1}  p99 {:.1}  max {:.1} ms after they were due",
                    late.p50_ms, late.p99_ms, late.max_ms
                );
            }
            println!("own CPU {:.2} s", self.cpu_seconds);
        }
        for line in &self.failed {
            eprintln!("loadtest: {line}");
        }
        Ok(())
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
