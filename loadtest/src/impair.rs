//! `loadtest impair`: forwards UDP between clients and one server over a path as
//! bad as asked for, for tests of the link on machines whose kernel can't do it.
//!
//! In: datagrams at `--listen` and from the server. Out: the same, later or not
//! at all ([`path::Path`]), and at the end what became of them, as JSON. One
//! task owns both directions, the flows and what is under way.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{
    net::UdpSocket,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

mod path;

use path::{Fate, Path, Terms};

/// Clients at a time; a test has a handful.
const MAX_FLOWS: usize = 256;

/// Datagrams from the server that the task has not looked at; more are lost, as
/// in a full socket buffer.
const UNREAD: usize = 4_096;

/// Datagrams on their way in both directions: a second of a gigabit.
const MAX_UNDER_WAY: usize = 100_000;

/// No datagram is longer.
const DATAGRAM_BYTES: usize = 65_536;

#[derive(Debug, Clone, clap::Args)]
pub struct ImpairArgs {
    /// UDP address that clients send to
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// The server behind the path
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub to: SocketAddr,
    /// Time on the way, each way
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub delay_ms: u64,
    /// A datagram takes up to so much longer
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub jitter_ms: u64,
    /// Share of datagrams that is lost, each way, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub loss: f64,
    /// Share of datagrams that overtake those before them
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub reorder: f64,
    /// Bits a second, each way; 0 is as many as there are
    #[arg(long, value_name = "BITS", default_value_t = 0)]
    pub rate: u64,
    /// What waits in front of --rate at most, before more is dropped
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub queue_ms: u64,
    /// Deliver nothing from START to START + LENGTH after the first datagram; may be given several times
    #[arg(long, value_name = "START_MS+LENGTH_MS", value_parser = cut)]
    pub cut: Vec<Cut>,
    /// Where chance begins
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// A time in which nothing gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    from: Duration,
    to: Duration,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("write a share from 0 to 1, for example 0.01".to_owned()),
    }
}

fn cut(text: &str) -> Result<Cut, String> {
    let example = || "write START_MS+LENGTH_MS, for example 5000+2000".to_owned();
    let (from, length) = text.split_once('+').ok_or_else(example)?;
    let ms = |text: &str| {
        text.parse()
            .map(Duration::from_millis)
            .map_err(|_| example())
    };
    let from = ms(from)?;
    Ok(Cut {
        from,
        to: from + ms(length)?,
    })
}

impl ImpairArgs {
    const fn terms(&self) -> Terms {
        Terms {
            delay: Duration::from_millis(self.delay_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            loss: self.loss,
            reorder: self.reorder,
            rate: if self.rate > 0 { Some(self.rate) } else { None },
            queue: Duration::from_millis(self.queue_ms),
        }
    }
}

/// What became of the datagrams of one direction.
#[derive(Debug, Serialize)]
struct Told {
    delivered: u64,
    delivered_bytes: u64,
    lost: u64,
    overflowed: u64,
    cut: u64,
    queued_ms_p50: f64,
    queued_ms_p99: f64,
}

/// A direction: its path and its counts.
struct Direction {
    path: Path,
    queued_us: Histogram<u64>,
    told: Told,
}

impl Direction {
    fn new(terms: Terms, seed: u64) -> Result<Self> {
        Ok(Self {
            path: Path::new(terms, seed),
            // One that grows clamps what does not fit yet.
            queued_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
            told: Told {
                delivered: 0,
                delivered_bytes: 0,
                lost: 0,
                overflowed: 0,
                cut: 0,
                queued_ms_p50: 0.0,
                queued_ms_p99: 0.0,
            },
        })
    }

    /// When to deliver, if at all.
    fn send(&mut self, now: Instant, bytes: usize, cut: bool) -> Option<Instant> {
        let told = &mut self.told;
        if cut {
            told.cut += 1;
            return None;
        }
        match self.path.send(now, bytes) {
            Fate::Delivered { at, queued } => {
                told.delivered += 1;
                told.delivered_bytes += bytes as u64;
                let queued_us = u64::try_from(queued.as_micros()).unwrap_or(u64::MAX);
                self.queued_us.saturating_record(queued_us);
                Some(at)
            }
            Fate::Lost => {
                told.lost += 1;
                None
            }
            Fate::Overflowed => {
                told.overflowed += 1;
                None
            }
        }
    }

    fn tell(mut self) -> Told {
        let ms = |quantile| self.queued_us.value_at_quantile(quantile) as f64 / 1_000.0;
        (self.told.queued_ms_p50, self.told.queued_ms_p99) = (ms(0.5), ms(0.99));
        self.told
    }
}

/// A datagram on its way.
struct UnderWay {
    at: Instant,
    number: u64,
    data: Bytes,
    /// To the client of this flow, or from it to the server.
    flow: Arc<Flow>,
    back: bool,
}

struct Flow {
    client: SocketAddr,
    socket: UdpSocket,
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for UnderWay {}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Forwards until SIGTERM or SIGINT, then tells.
///
/// # Errors
/// An address that can't be had.
pub async fn run(args: &ImpairArgs) -> Result<bool> {
    let near = UdpSocket::bind(args.listen)
        .await
        .with_context(|| format!("--listen {}", args.listen))?;
    let mut forwarder = Forwarder {
        there: Direction::new(args.terms(), args.seed)?,
        back: Direction::new(args.terms(), args.seed.wrapping_add(1))?,
        flows: HashMap::new(),
        under_way: BinaryHeap::new(),
        number: 0,
        began: None,
        args: args.clone(),
    };
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let (answers, mut answered) = mpsc::channel(UNREAD);
    let mut readers = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        let due = forwarder.due();
        tokio::select! {
            got = near.recv_from(&mut datagram) => {
                // An error is a port that nobody listens on any more.
                let Ok((len, client)) = got else { continue };
                let flow = match forwarder.flow(client).await? {
                    Some((flow, fresh)) => {
                        if fresh {
                            readers.spawn(read(flow.clone(), answers.clone()));
                        }
                        flow
                    }
                    None => continue,
                };
                forwarder.take(flow, Bytes::copy_from_slice(&datagram[..len]), false);
            }
            Some((flow, data)) = answered.recv() => forwarder.take(flow, data, true),
            () = until(due) => forwarder.deliver(&near),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    let told = serde_json::json!({
        "to_server": forwarder.there.tell(),
        "to_clients": forwarder.back.tell(),
    });
    println!("{told}");
    Ok(true)
}

async fn read(flow: Arc<Flow>, answers: mpsc::Sender<(Arc<Flow>, Bytes)>) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        if let Ok(len) = flow.socket.recv(&mut datagram).await {
            let data = Bytes::copy_from_slice(&datagram[..len]);
            let _ = answers.try_send((flow.clone(), data));
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

struct Forwarder {
    args: ImpairArgs,
    there: Direction,
    back: Direction,
    flows: HashMap<SocketAddr, Arc<Flow>>,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    number: u64,
    began: Option<Instant>,
}

impl Forwarder {
    /// The flow of a client, and whether it is new; `None` past the bound.
    async fn flow(&mut self, client: SocketAddr) -> Result<Option<(Arc<Flow>, bool)>> {
        if let Some(flow) = self.flows.get(&client) {
            return Ok(Some((flow.clone(), false)));
        }
        if self.flows.len() >= MAX_FLOWS {
            return Ok(None);
        }
        let any: SocketAddr = match self.args.to {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any)
            .await
            .context("a socket for a client")?;
        socket.connect(self.args.to).await.context("--to")?;
        let flow = Arc::new(Flow { client, socket });
        self.flows.insert(client, flow.clone());
        Ok(Some((flow, true)))
    }

    fn take(&mut self, flow: Arc<Flow>, data: Bytes, back: bool) {
        let now = Instant::now();
        let since = now.duration_since(*self.began.get_or_insert(now));
        let cut = self
            .args
            .cut
            .iter()
            .any(|cut| (cut.from..cut.to).contains(&since));
        let direction = if back {
            &mut self.back
        } else {
            &mut self.there
        };
        if self.under_way.len() >= MAX_UNDER_WAY {
            direction.told.overflowed += 1;
            return;
        }
        if let Some(at) = direction.send(now, data.len(), cut) {
            self.number += 1;
            let number = self.number;
            self.under_way.push(Reverse(UnderWay {
                at,
                number,
                data,
                flow,
                back,
            }));
        }
    }

    fn due(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse(next)| next.at)
    }

    fn deliver(&mut self, near: &UdpSocket) {
        let now = Instant::now();
        while self.due().is_some_and(|due| due <= now) {
            let Some(Reverse(next)) = self.under_way.pop() else {
                return;
            };
            // A full socket buffer is one more loss.
            let _ = if next.back {
                near.try_send_to(&next.data, next.flow.client)
            } else {
                next.flow.socket.try_send(&next.data)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_cuts_are_checked() {
        assert_eq!(share("0.05"), Ok(0.05));
        for bad in ["1.1", "-0.1", "x", "nan"] {
            assert!(share(bad).unwrap_err().contains("for example"), "{bad}");
        }
        let cut_off = cut("5000+2000").unwrap();
        assert_eq!(cut_off.to, Duration::from_secs(7));
        for bad in ["5000", "+", "a+1", "1+b"] {
            assert!(cut(bad).unwrap_err().contains("for example"), "{bad}");
        }
    }

    #[test]
    fn what_is_due_first_goes_first() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
            let client = socket.local_addr().unwrap();
            let flow = Arc::new(Flow { client, socket });
            let begin = Instant::now();
            let mut heap = BinaryHeap::new();
            for (number, ms) in [(1, 30), (2, 10), (3, 10), (4, 20)] {
                heap.push(Reverse(UnderWay {
                    at: begin + Duration::from_millis(ms),
                    number,
                    data: Bytes::new(),
                    flow: flow.clone(),
                    back: false,
                }));
            }
            let order: Vec<_> = std::iter::from_fn(|| heap.pop())
                .map(|next| next.0.number)
                .collect();
            assert_eq!(order, [2, 3, 4, 1]);
        });
    }
}
