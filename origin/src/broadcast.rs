//! From publishes to broadcasts: one task a channel, made when a publisher
//! comes and gone when nothing of the channel is left to show.
//!
//! In: authorised publishes. Out: channels in the [`Directory`], which the link
//! server reads. The channel's task owns everything that changes: the demuxer,
//! the packager, the broadcast's windows and the journal's page.

mod channel;
pub mod journal;
mod metrics;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use common::{
    live::{Directory, UnixMs},
    names::{ChannelName, NodeId},
    shutdown::Shutdown,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{packager::PackagerConfig, rtmp::Publish};
use channel::Actor;
use journal::Journal;
pub use metrics::BroadcastMetrics;

/// Publishes waiting for a channel's task: the one that takes over and one that
/// follows on its heels. A third waits in its own connection.
const PUBLISHES_WAITING: usize = 2;

/// Flags of what becomes of a publish.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Broadcasts")]
pub struct BroadcastConfig {
    /// Seconds that a vanished publisher has to come back to the same broadcast
    #[arg(
        long,
        env = "MILLRACE_GRACE",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(0..=600)
    )]
    pub grace: u64,

    /// Longest distance of keyframes in seconds; a publisher that goes beyond it is refused
    #[arg(
        long,
        env = "MILLRACE_MAX_GOP",
        value_name = "SECONDS",
        default_value_t = 12,
        value_parser = clap::value_parser!(u32).range(2..=60)
    )]
    pub max_gop: u32,

    /// Directory that remembers where each channel stood, so that a killed origin goes on
    #[arg(long, env = "MILLRACE_JOURNAL", value_name = "DIR")]
    pub journal: Option<PathBuf>,
}

impl BroadcastConfig {
    fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }

    fn packager(&self) -> PackagerConfig {
        PackagerConfig {
            max_gop_ms: self.max_gop.saturating_mul(1_000),
            ..PackagerConfig::default()
        }
    }
}

/// What all channels' tasks share.
#[derive(Debug)]
struct Shared {
    config: BroadcastConfig,
    node: NodeId,
    directory: Arc<Directory>,
    journal: Mutex<Journal>,
    metrics: BroadcastMetrics,
    shutdown: Shutdown,
}

/// Hands each publish to its channel's task.
#[derive(Debug)]
pub struct Broadcasts {
    shared: Arc<Shared>,
    channels: HashMap<ChannelName, mpsc::Sender<Publish>>,
}

impl Broadcasts {
    /// # Errors
    /// When the journal's directory can't be used.
    pub fn new(
        config: BroadcastConfig,
        node: NodeId,
        directory: Arc<Directory>,
        metrics: BroadcastMetrics,
        shutdown: Shutdown,
    ) -> std::io::Result<Self> {
        let journal = Mutex::new(Journal::open(config.journal.as_deref())?);
        let shared = Shared {
            config,
            node,
            directory,
            journal,
            metrics,
            shutdown,
        };
        Ok(Self {
            shared: Arc::new(shared),
            channels: HashMap::new(),
        })
    }

    /// Runs until the RTMP side is gone or the node drains.
    pub async fn run(mut self, mut publishes: mpsc::Receiver<Publish>) {
        loop {
            tokio::select! {
                next = publishes.recv() => match next {
                    Some(publish) => self.hand_over(publish),
                    None => return,
                },
                () = self.shared.shutdown.draining() => return,
            }
        }
    }

    /// A full queue means that publishers of one key chase each other: the
    /// newest of them is turned away, as nothing waits for it here.
    fn hand_over(&mut self, publish: Publish) {
        self.channels.retain(|_, task| !task.is_closed());
        let name = publish.channel.clone();
        let mut publish = publish;
        if let Some(task) = self.channels.get(&name) {
            match task.try_send(publish) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(refused)) => {
                    refused
                        .close
                        .close("another publisher is just taking over this channel");
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(back)) => publish = back,
            }
        }
        let (task, incoming) = mpsc::channel(PUBLISHES_WAITING);
        // The queue is fresh and holds two: this can't fail.
        if task.try_send(publish).is_ok() {
            tokio::spawn(Actor::new(name.clone(), self.shared.clone(), incoming).run());
            self.channels.insert(name, task);
        }
    }
}

/// The wall clock, read here and passed on: the cores below never look at it.
fn unix_now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixMs(since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }))
}
