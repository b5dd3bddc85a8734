//! Webhooks: other programs are told over HTTP that a broadcast has begun or ended.
//!
//! In: what channels' tasks tell ([`Hooks::tell`], which never waits). Out: a POST of
//! JSON to each `--webhook`, signed as Standard Webhooks has it
//! (<https://www.standardwebhooks.com>), repeated until it is answered 2xx or its time
//! is over. Each URL has a task and a queue of its own (`outbox`, a pure core, decides
//! what is sent when), so that one that hangs costs itself alone. Where a queue is full
//! what comes is dropped and counted. Queues live in memory: what waits for another try
//! is lost with the process.
//!
//! Invariants: a broadcast's beginning is told once, however often its publisher comes
//! back within the grace; what is told of one channel arrives in order; redirects are
//! answers, not ways; a request goes nowhere but to a URL of the command line.

mod config;
mod metrics;
mod outbox;
mod post;
mod secret;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    live::{About, UnixMs},
    names::{BroadcastId, ChannelName, NodeId},
    reload::Reloads,
    shutdown::Shutdown,
};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

pub use config::{WebhookConfig, WebhookError};
pub use metrics::WebhookMetrics;
use outbox::{Attempt, Done, Outbox};
use post::{Poster, Target};
use secret::Secrets;

/// Events that a hook's task has not looked at yet: channels that all begin in one
/// moment.
const TOLD: usize = 256;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// It can be played for the first time.
    Start,
    /// Nothing of it follows any more.
    End,
}

impl Occasion {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "broadcast.start",
            Self::End => "broadcast.end",
        }
    }
}

/// One event as it is sent, the same at each try and to each URL.
#[derive(Debug)]
struct Event {
    /// Told again, it is known by this.
    id: String,
    channel: ChannelName,
    body: Bytes,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    at_ms: u64,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    channel: &'a str,
    /// A number that fits into no double: text.
    broadcast: String,
    live_since_ms: u64,
    origin: &'a str,
    title: &'a str,
    tags: &'a [String],
}

impl Event {
    fn new(
        occasion: Occasion,
        channel: &ChannelName,
        broadcast: BroadcastId,
        about: &About,
        at: UnixMs,
        node: &NodeId,
    ) -> Self {
        let body = Body {
            r#type: occasion.as_str(),
            at_ms: at.0,
            data: Data {
                channel: channel.as_str(),
                broadcast: broadcast.0.to_string(),
                live_since_ms: broadcast.0,
                origin: node.as_str(),
                title: &about.title,
                tags: &about.tags,
            },
        };
        let word = match occasion {
            Occasion::Start => "start",
            Occasion::End => "end",
        };
        Self {
            id: format!("msg_{channel}_{broadcast}_{word}", broadcast = broadcast.0),
            channel: channel.clone(),
            // Strings and numbers always have a JSON form.
            body: serde_json::to_vec(&body).unwrap_or_default().into(),
        }
    }
}

/// Tells all hooks. Clones share them; without any it costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Hooks(Option<Arc<Told>>);

#[derive(Debug)]
struct Told {
    node: NodeId,
    queues: Vec<mpsc::Sender<Arc<Event>>>,
    metrics: WebhookMetrics,
}

#[cfg(test)]
impl Hooks {
    /// Hooks whose events a test reads, by their ids.
    pub(crate) fn heard() -> (Self, Heard) {
        let (queue, told) = mpsc::channel(TOLD);
        let told_by = Told {
            node: NodeId::parse("origin").unwrap(),
            queues: vec![queue],
            metrics: WebhookMetrics::register(&prometheus::Registry::new()),
        };
        (Self(Some(Arc::new(told_by))), Heard(told))
    }
}

#[cfg(test)]
pub(crate) struct Heard(mpsc::Receiver<Arc<Event>>);

#[cfg(test)]
impl Heard {
    /// Ids of what was told since the last look.
    pub(crate) fn ids(&mut self) -> Vec<String> {
        let events = std::iter::from_fn(|| self.0.try_recv().ok());
        events.map(|event| event.id.clone()).collect()
    }
}

impl Hooks {
    /// Never waits: where a hook's queue is full the event is dropped there.
    pub fn tell(
        &self,
        occasion: Occasion,
        channel: &ChannelName,
        broadcast: BroadcastId,
        about: &About,
        at: UnixMs,
    ) {
        let Some(told) = &self.0 else { return };
        let event = Event::new(occasion, channel, broadcast, about, at, &told.node);
        let event = Arc::new(event);
        for queue in &told.queues {
            if queue.try_send(event.clone()).is_err() {
                told.metrics.dropped();
                warn!(%channel, id = event.id, "a webhook's queue is full; this event is not told");
            }
        }
    }
}

/// The hooks of the command line, ready to run.
#[derive(Debug)]
pub struct Webhooks {
    hooks: Hooks,
    tasks: Vec<Hook>,
}

/// One URL's task.
#[derive(Debug)]
struct Hook {
    target: Target,
    told: mpsc::Receiver<Arc<Event>>,
    poster: Arc<Poster>,
    secrets: Arc<Secrets>,
    outbox: Outbox<Arc<Event>>,
    metrics: WebhookMetrics,
    clock: fn() -> UnixMs,
}

impl Webhooks {
    /// # Errors
    /// [`WebhookError`]: a secret or certificates that can't be used.
    pub fn from_config(
        config: &WebhookConfig,
        node: NodeId,
        metrics: WebhookMetrics,
        reloads: &mut Reloads,
    ) -> Result<Self, WebhookError> {
        let Some((secrets, poster)) = config.open()? else {
            return Ok(Self {
                hooks: Hooks::default(),
                tasks: Vec::new(),
            });
        };
        secrets.watched_by(reloads);
        let retry_for = Duration::from_secs(config.webhook_retry);
        let mut queues = Vec::new();
        let mut tasks = Vec::new();
        for target in &config.webhooks {
            let (queue, told) = mpsc::channel(TOLD);
            queues.push(queue);
            tasks.push(Hook {
                target: target.clone(),
                told,
                poster: poster.clone(),
                secrets: secrets.clone(),
                outbox: Outbox::new(retry_for),
                metrics: metrics.clone(),
                clock: now,
            });
        }
        let hooks = Hooks(Some(Arc::new(Told {
            node,
            queues,
            metrics,
        })));
        Ok(Self { hooks, tasks })
    }

    /// What tells them.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.hooks.clone()
    }

    /// Runs until the drain, and until what was never tried has been tried once.
    pub async fn run(self, shutdown: Shutdown) {
        let tasks = self.tasks.into_iter();
        let mut tasks: JoinSet<()> = tasks.map(|hook| hook.run(shutdown.clone())).collect();
        drop(self.hooks);
        while tasks.join_next().await.is_some() {}
    }
}

impl Hook {
    async fn run(mut self, shutdown: Shutdown) {
        let _guard = shutdown.guard();
        let mut sending: JoinSet<(u64, Result<(), String>)> = JoinSet::new();
        loop {
            let now = Instant::now();
            while let Some(Attempt { number, event }) = self.outbox.next(now) {
                sending.spawn(self.send(number, event));
            }
            if shutdown.is_draining() && self.told.is_empty() && self.outbox.is_empty() {
                return;
            }
            let due = self.outbox.due(now);
            tokio::select! {
                Some(event) = self.told.recv() => self.take(event),
                Some(sent) = sending.join_next(), if !sending.is_empty() => {
                    if let Ok((number, outcome)) = sent {
                        self.done(number, outcome);
                    }
                }
                () = until(due) => {}
                () = shutdown.draining(), if !self.outbox.is_closed() => {
                    let lost = self.outbox.close();
                    self.metrics.gave_up(lost);
                    self.metrics.waiting.sub(i64::try_from(lost).unwrap_or(0));
                }
            }
        }
    }

    fn take(&mut self, event: Arc<Event>) {
        let channel = event.channel.clone();
        if self.outbox.push(channel, event, Instant::now()) {
            self.metrics.waiting.inc();
        } else {
            self.metrics.dropped();
            warn!(hook = %self.target, "too many events wait for this webhook; one is not told");
        }
    }

    /// One try, as a task of its own.
    fn send(
        &self,
        number: u64,
        event: Arc<Event>,
    ) -> impl Future<Output = (u64, Result<(), String>)> + Send + use<> {
        let (target, poster) = (self.target.clone(), self.poster.clone());
        let at_s = (self.clock)().0 / 1_000;
        let signature = self.secrets.sign(&event.id, at_s, &event.body);
        async move {
            let headers = [
                ("webhook-id", event.id.clone()),
                ("webhook-timestamp", at_s.to_string()),
                ("webhook-signature", signature),
            ];
            let outcome = poster.post(&target, headers, event.body.clone()).await;
            (number, outcome.map_err(|error| error.to_string()))
        }
    }

    fn done(&mut self, number: u64, outcome: Result<(), String>) {
        let done = self.outbox.done(number, outcome.is_ok(), Instant::now());
        let error = outcome.err().unwrap_or_default();
        match done {
            Some(Done::Delivered) => self.metrics.delivered(),
            Some(Done::Again) => {
                self.metrics.failed_attempts.inc();
                info!(hook = %self.target, error, "a webhook is tried again");
                return;
            }
            Some(Done::GivenUp) => {
                self.metrics.failed_attempts.inc();
                self.metrics.gave_up(1);
                warn!(hook = %self.target, error, "a webhook is given up");
            }
            None => return,
        }
        self.metrics.waiting.dec();
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The wall clock, which the signature names.
fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    UnixMs(u64::try_from(ms).unwrap_or(u64::MAX))
}
