//! `GET /api/v1/channels` with many channels, asked at a steady rate. Serves an edge of
//! its own whose directory is made up, or asks one.
//!
//! Open loop: each request has its time, whether the one before was answered or not,
//! and its latency counts from then on, so that a server that stalls is not spared
//! (coordinated omission).

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use common::{
    live::{About, Announcement, Broadcast, Channel, Directory, Phase, Plan, Stage, Track},
    media::{Ticks, Timescale},
    names::{BroadcastId, ChannelName, Epoch, TrackName},
    service::Inherited,
    shutdown::Shutdown,
    telemetry::metrics,
};
use edge::{
    http::{self, HttpConfig, HttpMetrics},
    upstream::Upstream,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until},
};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Serves so many channels and prints where.
    Serve {
        #[arg(long, default_value_t = 1_000)]
        channels: u64,
    },
    /// Asks at a rate and prints latencies.
    Ask {
        /// Where it is served.
        address: SocketAddr,
        #[arg(long, default_value_t = 2_000)]
        rate: u32,
        #[arg(long, default_value_t = 20)]
        seconds: u32,
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[arg(long, default_value = "")]
        query: String,
        #[arg(long)]
        gzip: bool,
    },
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    http: HttpConfig,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().what {
        What::Serve { channels } => serve(channels).await,
        What::Ask {
            address,
            rate,
            seconds,
            connections,
            query,
            gzip,
        } => {
            let encoding = if gzip {
                "Accept-Encoding: gzip\r\n"
            } else {
                ""
            };
            let request =
                format!("GET /api/v1/channels{query} HTTP/1.1\r\nHost: edge\r\n{encoding}\r\n");
            ask(
                address,
                request.into_bytes().into(),
                rate,
                rate * seconds,
                connections,
            )
            .await
        }
    }
}

async fn serve(channels: u64) -> anyhow::Result<()> {
    let directory = Arc::new(Directory::default());
    let upstream = Arc::new(Upstream::local(directory.clone()));
    for n in 0..channels {
        let name = ChannelName::parse(&format!("channel_{n}"))?;
        directory.put(made_up(&name, n));
        upstream.abouts().update(&name, |about| {
            *about = About {
                title: format!("What channel {n} is about this evening"),
                tags: vec!["english".into(), "chess".into()],
                health: None,
            };
        });
    }
    let config = Flags::parse_from(["edge", "--http-listen", "127.0.0.1:0"]).http;
    let listeners = http::bind(&config, &mut Inherited::none()).await?;
    let address = listeners.http_address().context("no address")?;
    println!("{address}");
    std::io::stdout().flush()?;
    let registered = HttpMetrics::register(&metrics::registry("edge"));
    http::serve(
        config,
        listeners,
        upstream,
        None,
        registered,
        Shutdown::new(),
    )
    .await;
    Ok(())
}

fn made_up(name: &ChannelName, n: u64) -> Channel {
    let id = BroadcastId(1_795_000_000_000 + n);
    let track = |name: TrackName,
                 codec: &str,
                 size: Option<(u32, u32)>,
                 rate_hz: u32,
                 sample_rate_hz: Option<u32>| Track {
        name,
        codec: codec.to_owned(),
        timescale: Timescale::new(rate_hz).unwrap_or(Timescale::VIDEO),
        part_target: Ticks(44_000),
        bandwidth_bps: 6_300_000,
        average_bandwidth_bps: 6_000_000,
        size,
        frame_rate: size.map(|_| (60_000, 1_001)),
        channels: sample_rate_hz.map(|_| 2),
        sample_rate_hz,
    };
    let tracks = vec![
        track(
            TrackName::video(0),
            "avc1.64002a",
            Some((1920, 1080)),
            120_000,
            None,
        ),
        track(TrackName::audio(0), "mp4a.40.2", None, 48_000, Some(48_000)),
    ];
    let plan = Plan {
        target_duration_s: 3,
        part_hold_back_ms: 1_200,
        window_ms: 24_000,
    };
    let broadcast = Broadcast::new(name.clone(), id, plan, tracks);
    Channel {
        announcement: Announcement {
            channel: name.clone(),
            broadcast: id,
            epoch: Epoch(id.0),
            phase: Phase::Live,
            hops: Vec::new(),
            cost: 1,
            grace_ms: 10_000,
        },
        stage: Stage::Ready(Arc::new(broadcast)),
    }
}

async fn ask(
    address: SocketAddr,
    request: Arc<[u8]>,
    rate: u32,
    count: u32,
    connections: usize,
) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    // A moment to connect in.
    let begin = Instant::now() + Duration::from_millis(200);
    let mut askers = JoinSet::new();
    for _ in 0..connections {
        let (next, request) = (next.clone(), request.clone());
        askers.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut buffer = vec![0; 1 << 16];
            let (mut took_us, mut bytes) = (Vec::new(), 0);
            loop {
                let n = u32::try_from(next.fetch_add(1, Relaxed))?;
                if n >= count {
                    return anyhow::Ok((took_us, bytes));
                }
                let at = begin + Duration::from_secs(1) * n / rate;
                sleep_until(at).await;
                stream.write_all(&request).await?;
                bytes = answered(&mut stream, &mut buffer).await?;
                took_us.push(u32::try_from(at.elapsed().as_micros())?);
            }
        });
    }
    let (mut all, mut bytes) = (Vec::new(), 0);
    while let Some(asked) = askers.join_next().await {
        let (took_us, len) = asked??;
        all.extend(took_us);
        bytes = bytes.max(len);
    }
    let seconds = begin.elapsed().as_secs_f64();
    all.sort_unstable();
    let at = |per_mille: usize| {
        let us = all.get((all.len() * per_mille / 1_000).min(all.len() - 1));
        f64::from(*us.unwrap_or(&0)) / 1_000.0
    };
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let rate = all.len() as f64 / seconds;
    println!(
        "{rate:.0} requests a second, {bytes} bytes each: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, most {:.2} ms",
        at(500),
        at(990),
        at(999),
        at(1_000),
    );
    Ok(())
}

/// Reads one answer; its body's length.
async fn answered(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<usize> {
    let mut head = Vec::new();
    let (status, len, mut have) = loop {
        let count = stream.read(buffer).await?;
        ensure!(count > 0, "the server hung up");
        head.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(head.get(..at).unwrap_or_default()).to_lowercase();
            let len = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let len: usize = len.context("no length")?.parse()?;
            break (text, len, head.len() - at - 4);
        }
    };
    ensure!(status.starts_with("http/1.1 200"), "answered {status}");
    while have < len {
        let count = stream.read(buffer).await?;
        ensure!(count > 0, "the server hung up");
        have += count;
    }
    Ok(len)
}
