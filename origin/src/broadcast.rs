//! From publishes to broadcasts: one task a channel, made when a publisher
//! comes and gone when nothing of the channel is left to show.
//!
//! In: authorised publishes. Out: channels in the [`Directory`], which the link
//! server reads. The channel's task owns everything that changes: the demuxer,
//! the packager, the broadcast's windows and the journal's page.

mod channel;
mod current;
mod dvr;
mod health;
pub mod journal;
mod metrics;
mod rivals;
mod scribe;
mod shown;
mod titles;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use common::{
    live::{Abouts, Archive, Directory, UnixMs},
    names::{ChannelName, Epoch, NodeId},
    shutdown::Shutdown,
};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{packager::PackagerConfig, rtmp::Publish, webhook::Hooks};
use channel::Actor;
pub use dvr::{DvrConfig, DvrWindow};
use journal::Journal;
pub use metrics::BroadcastMetrics;
pub use titles::{TitleError, Titles};

/// Publishes waiting for a channel's task: the one that takes over and one that
/// follows on its heels. A third waits in its own connection.
const PUBLISHES_WAITING: usize = 2;

/// Ends that operators asked for and nobody has looked at; further ones wait.
const ENDS_WAITING: usize = 16;

/// Channels with a task at once: publishers, and what they left on show for a
/// minute or so. Four times the connections that `--rtmp-max-connections` allows
/// by default; with `--open` any stranger can name a channel.
const MAX_CHANNELS: usize = 4_096;

/// Where the wall clock is read. Everything below gets the time from its caller.
type Clock = fn() -> UnixMs;

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

    /// Most bytes of media that one broadcast holds for edges; a publisher that needs more is refused
    #[arg(
        long,
        env = "MILLRACE_MAX_WINDOW_BYTES",
        value_name = "BYTES",
        default_value_t = 1 << 30,
        value_parser = clap::value_parser!(u64).range(1 << 20..)
    )]
    pub max_window_bytes: u64,

    /// Directory that remembers where each channel stood, so that a killed origin goes on
    #[arg(long, env = "MILLRACE_JOURNAL", value_name = "DIR")]
    pub journal: Option<PathBuf>,

    #[command(flatten)]
    pub dvr: DvrConfig,
}

impl BroadcastConfig {
    fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }

    /// How long a publish may take until it can be played: one longest GOP, and what
    /// is gathered before the plan and behind it.
    #[must_use]
    pub fn playable_within(&self) -> Duration {
        Duration::from_secs(u64::from(self.max_gop) + 3)
    }

    fn packager(&self) -> PackagerConfig {
        PackagerConfig {
            max_gop_ms: self.max_gop.saturating_mul(1_000),
            dvr_window_ms: self.dvr.window_ms(),
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
    /// How publishes come in is written there.
    abouts: Arc<Abouts>,
    hooks: Hooks,
    journal: Mutex<Journal>,
    archive: Archive,
    metrics: BroadcastMetrics,
    shutdown: Shutdown,
    clock: Clock,
    /// The highest epoch given out, over all channels: a wall clock that is set
    /// back never makes one repeat, even after its channel is forgotten.
    newest_epoch: Mutex<Epoch>,
}

impl Shared {
    /// Greater than any epoch of this process and any journalled of this channel.
    fn next_epoch(&self, channel: &ChannelName) -> Epoch {
        let journalled = self.journal.lock().get(channel).map(|mark| mark.epoch);
        let mut newest = self.newest_epoch.lock();
        let floor = journalled.max(Some(*newest));
        let floor = floor.map_or(0, |last| last.0.saturating_add(1));
        *newest = Epoch(floor.max((self.clock)().0));
        *newest
    }
}

/// An operator's word that a broadcast is over; told whether there was one.
#[derive(Debug)]
struct End {
    channel: ChannelName,
    over: Over,
}

type Over = oneshot::Sender<bool>;

/// A handle for operators.
#[derive(Debug, Clone)]
pub struct Control(mpsc::Sender<End>);

impl Control {
    /// Ends the channel's broadcast without grace and disconnects its publisher.
    /// `false` where there is none.
    pub async fn end(&self, channel: ChannelName) -> bool {
        let (over, ended) = oneshot::channel();
        let sent = self.0.send(End { channel, over }).await;
        sent.is_ok() && ended.await.unwrap_or(false)
    }
}

/// How a channel's task is reached.
#[derive(Debug)]
struct Task {
    publishes: mpsc::Sender<Publish>,
    ends: mpsc::Sender<Over>,
}

/// Hands each publish to its channel's task.
#[derive(Debug)]
pub struct Broadcasts {
    shared: Arc<Shared>,
    channels: HashMap<ChannelName, Task>,
    control: Control,
    ends: mpsc::Receiver<End>,
    /// Each ends with its queue: a publish that came while it was ending is
    /// handed to the next one.
    tasks: JoinSet<(ChannelName, mpsc::Receiver<Publish>)>,
}

impl Broadcasts {
    /// `archive` keeps what is older than the windows hold.
    ///
    /// # Errors
    /// When the journal's directory can't be used.
    pub fn new(
        config: BroadcastConfig,
        node: NodeId,
        directory: Arc<Directory>,
        archive: Archive,
        metrics: BroadcastMetrics,
        shutdown: Shutdown,
    ) -> std::io::Result<Self> {
        let journal = Mutex::new(Journal::open(config.journal.as_deref())?);
        let shared = Shared {
            config,
            node,
            directory,
            abouts: Arc::default(),
            hooks: Hooks::default(),
            journal,
            archive,
            metrics,
            shutdown,
            clock: unix_now,
            newest_epoch: Mutex::new(Epoch(0)),
        };
        let (control, ends) = mpsc::channel(ENDS_WAITING);
        Ok(Self {
            shared: Arc::new(shared),
            channels: HashMap::new(),
            control: Control(control),
            ends,
            tasks: JoinSet::new(),
        })
    }

    /// Writes there how publishes come in, and tells `hooks` of begins and ends.
    #[must_use]
    pub fn telling(mut self, abouts: Arc<Abouts>, hooks: Hooks) -> Self {
        // Nobody else holds it before it runs.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.abouts = abouts;
            shared.hooks = hooks;
        }
        self
    }

    /// Ends broadcasts from outside.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Runs until the RTMP side is gone or the node drains, and all channels
    /// are done.
    pub async fn run(mut self, mut publishes: mpsc::Receiver<Publish>) {
        let shutdown = self.shared.shutdown.clone();
        let mut draining = std::pin::pin!(shutdown.draining());
        loop {
            tokio::select! {
                next = publishes.recv() => match next {
                    Some(publish) => self.hand_over(publish),
                    None => break,
                },
                Some(ended) = self.tasks.join_next() => self.task_ended(ended),
                Some(end) = self.ends.recv() => self.pass_on(end),
                () = draining.as_mut() => break,
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.task_ended(ended);
        }
    }

    /// A full queue means that publishers of one key chase each other: the
    /// newest of them is turned away, as nothing waits for it here.
    fn hand_over(&mut self, publish: Publish) {
        let name = publish.channel.clone();
        let mut publish = publish;
        if let Some(task) = self.channels.get(&name) {
            match task.publishes.try_send(publish) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(refused)) => {
                    self.refuse(
                        &refused,
                        "queue",
                        "another publisher is just taking over this channel",
                    );
                    return;
                }
                // Only a task that panicked drops its queue.
                Err(mpsc::error::TrySendError::Closed(back)) => publish = back,
            }
        } else if self.channels.len() >= MAX_CHANNELS {
            self.refuse(
                &publish,
                "channels",
                "this origin has as many channels as it can carry",
            );
            return;
        }
        let (publishes, incoming) = mpsc::channel(PUBLISHES_WAITING);
        // One is as good as many.
        let (ends, told_to_end) = mpsc::channel(1);
        // The queue is fresh and holds two: this can't fail.
        if publishes.try_send(publish).is_ok() {
            let actor = Actor::new(name.clone(), self.shared.clone(), incoming, told_to_end);
            let ends_as = name.clone();
            self.tasks
                .spawn(async move { (ends_as, Box::pin(actor.run()).await) });
            self.channels.insert(name, Task { publishes, ends });
        }
    }

    /// What is dropped here answers that there is no broadcast: its task is ending.
    fn pass_on(&self, end: End) {
        if let Some(task) = self.channels.get(&end.channel) {
            let _ = task.ends.try_send(end.over);
        }
    }

    fn refuse(&self, publish: &Publish, label: &str, words: &str) {
        let refused = &self.shared.metrics.refused;
        refused.with_label_values(&[label]).inc();
        publish.close.close(words);
    }

    fn task_ended(
        &mut self,
        ended: Result<(ChannelName, mpsc::Receiver<Publish>), tokio::task::JoinError>,
    ) {
        match ended {
            Ok((name, mut left)) => {
                self.channels.remove(&name);
                while let Ok(publish) = left.try_recv() {
                    if !self.shared.shutdown.is_draining() {
                        self.hand_over(publish);
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "a channel's task failed");
                self.channels.retain(|_, task| !task.publishes.is_closed());
            }
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
