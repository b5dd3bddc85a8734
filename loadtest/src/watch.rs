//! `loadtest watch`: real low-latency viewers, and what they saw.
//!
//! In: URLs of multivariant or media playlists, of DASH manifests (`.mpd`) or of
//! endless streams (`stream.mp4`). Out: a [`Report`] per URL and
//! the thresholds that it failed. Each viewer is a task of its own with its own
//! connections; nothing is shared between viewers but the TLS configuration and
//! the playlists as they were read, equal bytes once.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    client::{Net, TlsArgs},
    clock,
    follow::Mode,
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
    /// Spread the viewers' arrivals over this time
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub ramp_ms: u64,
    /// Of a playlist: whole parts, or segments streamed while they are made
    #[arg(long, value_enum, default_value_t = Mode::Parts)]
    pub mode: Mode,
    /// One HTTP/2 connection a viewer (without TLS by prior knowledge) in place of HTTP/1.1
    #[arg(long)]
    pub http2: bool,
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
    /// Fail if a URL's p99 latency is higher, in milliseconds
    #[arg(long, value_name = "MS")]
    pub max_p99_ms: Option<f64>,
}

/// Past this many viewers their histograms keep two digits in place of three.
const FINE_VIEWERS: u32 = 100;

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
    let tls = match urls.iter().any(|url| url.tls) {
        true => Some(args.tls.config(args.http2)?),
        false => None,
    };
    let started = Instant::now();
    let deadline = started + Duration::from_secs(args.seconds);
    let known = Arc::new(Known::default());
    let mut viewers = JoinSet::new();
    for (index, url) in urls.iter().enumerate() {
        for viewer in 0..args.viewers {
            let ramp = Duration::from_millis(args.ramp_ms) * viewer / args.viewers.max(1);
            let plan = Plan {
                url: url.clone(),
                net: Arc::new(Net::new(tls.clone(), args.http2)),
                known: known.clone(),
                mode: args.mode,
                digits: if args.viewers > FINE_VIEWERS { 2 } else { 3 },
                deadline,
            };
            viewers.spawn(async move {
                tokio::time::sleep_until(started + ramp).await;
                (index, viewer::run(plan).await)
            });
        }
    }
    let mut reports: Vec<_> = urls
        .iter()
        .map(|url| Report::new(url.to_string()))
        .collect();
    while let Some(done) = viewers.join_next().await {
        let (index, seen) = done?;
        if let Some(report) = reports.get_mut(index) {
            report.add(&seen);
        }
    }
    let urls: Vec<_> = reports.iter().map(Report::lines).collect();
    let failed = urls.iter().flat_map(|lines| lines.failures(args)).collect();
    let summary = Summary {
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: clock::cpu_used().unwrap_or_default().as_secs_f64(),
        urls,
        failed,
    };
    summary.print(args.json)?;
    Ok(summary.failed.is_empty())
}
