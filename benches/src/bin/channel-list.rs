//! `GET /api/v1/channels` with many channels, asked at a steady rate. Serves an edge of
//! its own whose directory is made up, or asks one.
//!
//! Open loop: each request has its time, whether the one before was answered or not,
//! and its latency counts from then on, so that a server that stalls is not spared
//! (coordinated omission). A thread a connection, so that the kernel's timers alone
//! say when a request leaves; how late they did is told, and what the asking costs.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
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

fn main() -> anyhow::Result<()> {
    match Cli::parse().what {
        What::Serve { channels } => tokio::runtime::Runtime::new()?.block_on(serve(channels)),
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
            let plan = Arc::new(Asking {
                address,
                request: request.into_bytes(),
                // A moment to connect in.
                begin: Instant::now() + Duration::from_millis(200),
                rate,
                count: rate * seconds,
                next: AtomicU32::new(0),
            });
            ask(&plan, connections)
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

/// What all connections ask.
struct Asking {
    address: SocketAddr,
    request: Vec<u8>,
    begin: Instant,
    rate: u32,
    count: u32,
    next: AtomicU32,
}

/// What one connection met, microseconds.
#[derive(Default)]
struct Seen {
    took: Vec<u32>,
    /// By how much it woke behind a request's time that it had waited for.
    late: Vec<u32>,
    /// Requests whose time had passed before the connection was free.
    behind: u32,
    bytes: usize,
}

fn ask(plan: &Arc<Asking>, connections: usize) -> anyhow::Result<()> {
    let asking = (0..connections).map(|_| {
        let plan = plan.clone();
        thread::spawn(move || plan.run())
    });
    let asking: Vec<_> = asking.collect();
    let mut all = Seen::default();
    for thread in asking {
        let seen = thread.join().expect("it does not panic")?;
        all.took.extend(seen.took);
        all.late.extend(seen.late);
        all.behind += seen.behind;
        all.bytes = all.bytes.max(seen.bytes);
    }
    let seconds = plan.begin.elapsed().as_secs_f64();
    all.took.sort_unstable();
    all.late.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "some ten thousands")]
    let rate = all.took.len() as f64 / seconds;
    println!(
        "{rate:.0} requests a second, {} bytes each: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, most {:.2} ms; \
         asked late by p99 {:.2} ms, {} times for want of a connection, with {:.0} % of a core",
        all.bytes,
        at(&all.took, 500),
        at(&all.took, 990),
        at(&all.took, 999),
        at(&all.took, 1_000),
        at(&all.late, 990),
        all.behind,
        cpu_seconds().unwrap_or(f64::NAN) / seconds * 100.0,
    );
    Ok(())
}

/// Milliseconds, of sorted microseconds.
fn at(sorted: &[u32], per_mille: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let us = sorted.get((sorted.len() * per_mille / 1_000).min(last));
    us.map_or(f64::NAN, |us| f64::from(*us) / 1_000.0)
}

/// Of /proc/self/stat, whatever the machine: `sysconf(_SC_CLK_TCK)` is 100 on Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// What this process has used of processors, threads that ended included.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold anything; behind it `utime` and `stime` are the 12th and 13th.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks = ticks.map(|ticks| ticks.parse::<f64>().unwrap_or(f64::NAN));
    Some(ticks.sum::<f64>() / TICKS_A_SECOND)
}

impl Asking {
    fn run(&self) -> anyhow::Result<Seen> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut buffer = vec![0; 1 << 16];
        let mut seen = Seen::default();
        loop {
            let n = self.next.fetch_add(1, Relaxed);
            if n >= self.count {
                return Ok(seen);
            }
            let at = self.begin + Duration::from_secs(1) * n / self.rate;
            match at.checked_duration_since(Instant::now()) {
                Some(left) => {
                    thread::sleep(left);
                    seen.late.push(us(at.elapsed()));
                }
                None => seen.behind += 1,
            }
            stream.write_all(&self.request)?;
            seen.bytes = answered(&mut stream, &mut buffer)?;
            seen.took.push(us(at.elapsed()));
        }
    }
}

fn us(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// Reads one answer; its body's length.
fn answered(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<usize> {
    let mut head = Vec::new();
    let (status, len, mut have) = loop {
        let count = stream.read(buffer)?;
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
        let count = stream.read(buffer)?;
        ensure!(count > 0, "the server hung up");
        have += count;
    }
    Ok(len)
}
