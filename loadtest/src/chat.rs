//! `loadtest chat`: a crowd in chat rooms, and what each of it read.
//!
//! In: addresses of servers that speak IRC or NATS, over TCP or WebSocket. Out: an
//! [`Outcome`] and the thresholds that it failed. One thread holds all connections
//! and sends on time whatever the server does (open loop); a latency is counted
//! from when a message was due. What every reader of a room read is compared with
//! what the others did: one order, nothing lost, nothing twice.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use common::chat::token::{Audience, Signer, TokenBody};

use crate::{
    arrivals::ArrivalArgs,
    output,
    progress::Progress,
    share::{ProcessArgs, Processes, Share},
};

mod crowd;
mod ledger;
mod mark;
mod member;
mod process;
mod report;
mod seen;
mod server;
mod wire;

use crowd::{Crowd, Gauge};
use mark::MARK_BYTES;
use process::Looks;
use report::{Outcome, Part};
use server::Server;

#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = "\
With --json one object in one line: command, passed, processes, connections, joined, gone (connections that \
ended, by reason), sign_in (from when a connection was due to when it was signed in), sign_in_ms, join_ms, \
sent, refused, delivered (doubles apart), expected, lost, misplaced, latency (from when a message was due \
to when it was read), talking_s, deliveries_per_s, own_cpu_s, deliveries_per_server_cpu_s, servers, failed. \
Distributions have count, p50_ms, p90_ms, p99_ms and max_ms.

Exit status: 0 all was as asked for, 1 somebody was not let in or a threshold was missed, 2 a wrong flag.")]
pub struct ChatArgs {
    /// Where to read: ws://HOST:PORT/PATH, irc://HOST:PORT, nats://HOST:PORT or
    /// nats+ws://HOST:PORT; connections take turns over several
    #[arg(long, required = true, value_name = "URL", value_parser = Server::parse)]
    url: Vec<Server>,
    /// Where those who talk connect [default: as the others]
    #[arg(long, value_name = "URL", value_parser = Server::parse)]
    speak_url: Option<Server>,
    /// Connections that only read
    #[arg(long, default_value_t = 100, value_name = "N")]
    readers: u32,
    /// Connections that talk in turn, and read
    #[arg(long, default_value_t = 10, value_name = "N")]
    speakers: u32,
    /// The room; of several, what their names begin with
    #[arg(long, default_value = "demo", value_name = "NAME")]
    room: String,
    /// Rooms that the connections are dealt out to
    #[arg(long, default_value_t = 1, value_name = "N")]
    rooms: u32,
    /// Messages a second, of all rooms together, at even distances; 0: readers idle
    #[arg(long, default_value_t = 10.0, value_name = "N")]
    rate: f64,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    bytes: usize,
    /// Time that messages are sent for
    #[arg(long, default_value_t = 20, value_name = "N")]
    seconds: u64,
    #[command(flatten)]
    arrivals: ArrivalArgs,
    #[command(flatten)]
    processes: ProcessArgs,
    /// Sign in with tokens made with the first key of this file (KID HS256 SECRET, or
    /// KID EdDSA seed:SEED) in place of bare names
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The audience of those tokens
    #[arg(long, default_value = "chat", value_name = "TEXT")]
    audience: String,
    /// Readers are anonymous (justinfan)
    #[arg(long)]
    anonymous: bool,
    /// Ask for Twitch's tags and commands
    #[arg(long)]
    tags: bool,
    /// Local addresses to connect from, in turn
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    from: Vec<IpAddr>,
    /// Seconds to wait for sign-ins, for joins, and at the end for the next message
    #[arg(long, default_value_t = 10, value_name = "N")]
    patience: u64,
    /// A server's process, whose processor time and memory are read
    #[arg(long, value_name = "PID")]
    server_pid: Vec<u32>,
    /// One line of JSON in place of the table
    #[arg(long)]
    json: bool,
    /// Fail if the median latency is higher, in milliseconds
    #[arg(long, value_name = "MS")]
    max_p50_ms: Option<f64>,
    /// Fail if the p99 latency is higher, in milliseconds
    #[arg(long, value_name = "MS")]
    max_p99_ms: Option<f64>,
    /// Fail if the p99 of the time from a connection's arrival to its sign-in is higher, in
    /// milliseconds
    #[arg(long, value_name = "MS")]
    max_sign_in_ms: Option<f64>,
    /// Fail if all were not in their rooms sooner after they were let in, in milliseconds
    #[arg(long, value_name = "MS")]
    max_join_ms: Option<u64>,
    /// Fail if more messages were missing, summed over all readers
    #[arg(long, value_name = "N")]
    max_lost: Option<u64>,
    /// Fail if more messages came twice, or in another order than to others
    #[arg(long, value_name = "N")]
    max_misplaced: Option<u64>,
}

/// The most that a message may hold (Twitch's 500 characters).
const MAX_TEXT_BYTES: usize = 500;

impl ChatArgs {
    fn total(&self) -> u32 {
        self.readers.saturating_add(self.speakers)
    }

    const fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    fn checked(&self) -> Result<()> {
        if !(MARK_BYTES..=MAX_TEXT_BYTES).contains(&self.bytes) {
            bail!("--bytes is {MARK_BYTES} to {MAX_TEXT_BYTES}, for example --bytes 100");
        }
        if !(0.0..=1e6).contains(&self.rate) {
            bail!("--rate is 0 to 1000000 messages a second, for example --rate 20");
        }
        if self.rooms == 0 || self.total() == 0 {
            bail!("--rooms and the connections are at least 1");
        }
        if self.rate > 0.0 && self.speakers < self.rooms {
            bail!("--speakers is at least --rooms: each room has its own");
        }
        Ok(())
    }
}

/// The tokens that connections sign in with.
struct Tokens {
    signer: Signer,
    audience: String,
    expires: u64,
}

/// Longer than any run.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

impl Tokens {
    fn read(args: &ChatArgs) -> Result<Option<Self>> {
        let Some(path) = &args.keys else {
            return Ok(None);
        };
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("--keys {shown}"))?;
        let signer = Signer::of_file(&text)
            .with_context(|| format!("--keys {shown}: the first line holds no key that signs"))?;
        let now = u64::try_from(crate::clock::unix_us() / 1_000_000)?;
        Ok(Some(Self {
            signer,
            audience: args.audience.clone(),
            expires: now + TOKEN_LIFE.as_secs(),
        }))
    }

    fn sign(&self, login: &str) -> Result<String> {
        let body = TokenBody {
            sub: login.to_owned(),
            aud: Audience::One(self.audience.clone()),
            exp: self.expires,
            login: login.to_owned(),
            ..TokenBody::default()
        };
        Ok(self.signer.sign(&body)?)
    }
}

/// Chats, prints, and says whether everything was as asked for.
///
/// # Errors
/// A flag that isn't what it should be.
pub async fn run(args: &ChatArgs) -> Result<bool> {
    args.checked()?;
    let tokens = Tokens::read(args)?;
    let gauge = Arc::new(Gauge::default());
    if let Some(share) = args.processes.share {
        let part = Crowd::new(args, tokens, share, gauge)?.run(&mut Looks::none())?;
        println!("{}", serde_json::to_string(&part)?);
        return Ok(true);
    }
    let processes = args.processes.count(u64::from(args.total()))?;
    let mut looks = Looks::new(&args.server_pid)?;
    let progress = {
        let (gauge, all) = (gauge.clone(), args.total());
        Progress::over(None, move || {
            let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
            let (joined, delivered) = (read(&gauge.joined), read(&gauge.delivered));
            match processes {
                1 => format!("{joined} of {all} in their rooms, {delivered} messages read"),
                _ => format!("{all} connections in {processes} processes"),
            }
        })
    };
    let parts = if processes > 1 {
        together(processes, &mut looks).await?
    } else {
        // A loop of its own, on this thread.
        vec![Crowd::new(args, tokens, Share::whole(), gauge)?.run(&mut looks)?]
    };
    drop(progress);
    let outcome = Outcome::of(parts, looks.taken());
    let failed = outcome.failures(args);
    output::leave("chat", &outcome, &failed, args.json, || outcome.table())
}

/// The crowd in several processes: all sign in, join and talk at the same times.
async fn together(count: u32, looks: &mut Looks) -> Result<Vec<Part>> {
    let mut processes = Processes::start(count)?;
    // Signed in, then in their rooms.
    processes.ready().await?;
    processes.go().await?;
    processes.ready().await?;
    looks.joined()?;
    processes.go().await?;
    let parts = processes.results().await?;
    looks.ended()?;
    Ok(parts)
}
