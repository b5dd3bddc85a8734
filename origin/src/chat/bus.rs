//! Rooms that many origins share, over NATS: who owns a room, what it decided, and
//! the way between its owner and the origins whose edges read it.
//!
//! In: a NATS server with JetStream. Out: rooms as [`super::Rooms`] hands them out.
//! Edges know nothing of it: any origin has every room, and relays where it is not
//! the owner. What lies where:
//!
//! ```text
//! KV      millrace_chat        owner.{room}                 node and life of the owner
//!                              fact.{room}.{kind}.{key}     moderation, see `entries`
//! KV      millrace_chat_nodes  {node}                       its life, and whether it leaves; gone after LEASE unless renewed
//! stream  MILLRACE_CHAT        millrace.chat.log.{room}     records: all that was decided, in order
//! core    millrace.chat.told.{room}     a record that is in the log, to who follows the room
//! core    millrace.chat.here.{room}     COUNTS and MEMBERS of an origin's own children
//! core    millrace.chat.ask.{room}      ASK, to the owner; the answer is a VERDICT
//! ```
//!
//! Invariants. The revision of `owner.{room}` is the fencing token: it is the room's
//! epoch, and a new one is taken only from an owner whose lease is over. An append to
//! a room's log names the record that it follows, so that one owner at a time can
//! append, whatever it believes: a new one begins by appending. Nobody is told what
//! is not in the log. Facts are the log's, written after it: who takes a room over
//! applies the log to the facts. What is deleted is purged (`facts` says why that is safe).

mod facts;
mod lease;
mod log;
mod record;
mod room;
mod tenure;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event, ServerAddr, ToServerAddrs,
    connection::State,
    jetstream::{
        self, kv,
        stream::{self, DiscardPolicy, StorageType},
    },
};
use common::{
    names::{ChannelName, NodeId},
    shutdown::Shutdown,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

pub(super) use room::BusRoom;
pub(super) use tenure::Tenure;

use lease::{LEASE, Leases, Owner};
use log::Log;

const BUCKET: &str = "millrace_chat";
const NODES: &str = "millrace_chat_nodes";

/// Until a server that can't be reached is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What JetStream gets to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// And what the client gets besides to pass it on: it counts no time in which it holds
/// things back, as it does for as long as the server is away.
const PASSED_ON: Duration = Duration::from_secs(2);

/// A silent connection is tested as often.
const PING: Duration = Duration::from_secs(2);

/// Messages of one subscription that were not looked at; what does not fit is found
/// again by the log.
const WAITING: usize = 4_096;

/// A NATS server, as the flag names it.
#[derive(Clone, PartialEq, Eq)]
pub struct BusUrl(ServerAddr);

impl FromStr for BusUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = ["nats://", "tls://"].iter().any(|s| text.starts_with(s));
        let parsed = plain.then(|| ServerAddr::from_str(text).ok()).flatten();
        let parsed = parsed.filter(|parsed| !parsed.host().is_empty());
        parsed.map(Self).ok_or_else(|| {
            "not the address of a NATS server, for example nats://127.0.0.1:4222".to_owned()
        })
    }
}

/// Without the password that may be in it.
impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.host(), self.0.port())
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why the bus did not do what it should.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {why}")]
pub(super) struct BusError {
    doing: &'static str,
    why: String,
}

impl BusError {
    fn of<E: fmt::Display>(doing: &'static str) -> impl Fn(E) -> Self {
        move |why| Self {
            doing,
            why: why.to_string(),
        }
    }
}

/// Does something on the bus that may not take longer than [`PASSED_ON`].
async fn timely<T, E: fmt::Display>(
    doing: &'static str,
    what: impl IntoFuture<Output = Result<T, E>>,
) -> Result<T, BusError> {
    let done = timeout(PASSED_ON, what)
        .await
        .map_err(BusError::of(doing))?;
    done.map_err(BusError::of(doing))
}

/// A connection and what lies behind it.
#[derive(Debug)]
pub(super) struct Bus {
    client: Client,
    context: jetstream::Context,
    log: Log,
    facts: kv::Store,
    leases: Leases,
    me: Owner,
    /// Epochs begin here: rooms that were kept otherwise, or by a bus that forgot
    /// everything, have lower ones.
    epochs_from: u64,
    /// Ticks when something may have been missed.
    missed: watch::Receiver<u64>,
}

/// The bus once it is there.
pub(super) type Ready = watch::Receiver<Option<Arc<Bus>>>;

/// Connects, as often as it takes; video does not wait for it.
pub(super) fn connect(url: BusUrl, replicas: usize, node: NodeId) -> Ready {
    let (found, ready) = watch::channel(None);
    tokio::spawn(async move {
        let me = Owner::new(node);
        loop {
            match Bus::new(&url, replicas, me.clone()).await {
                Ok(bus) => {
                    info!(%url, "the chat bus is there");
                    let bus = Arc::new(bus);
                    found.send_replace(Some(bus.clone()));
                    bus.leases.renew().await;
                    return;
                }
                Err(why) => {
                    warn!(%url, %why, "the chat bus is not to be had");
                    sleep(AGAIN).await;
                }
            }
        }
    });
    ready
}

/// Gives up this node's lease when it begins to drain: others may take its rooms.
pub(super) async fn leave(mut ready: Ready, shutdown: Shutdown) {
    shutdown.draining().await;
    let found = ready.wait_for(Option::is_some).await;
    let Some(bus) = found.ok().and_then(|found| found.clone()) else {
        return;
    };
    if let Err(why) = bus.leases.leave().await {
        // It is said again with the next renewal.
        warn!(%why, "other origins were not told that this one leaves");
    }
}

impl Bus {
    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    async fn new(url: &BusUrl, replicas: usize, me: Owner) -> Result<Self, BusError> {
        let (missed, may_have) = watch::channel(0u64);
        let missed = Arc::new(missed);
        let options = ConnectOptions::new()
            .name(format!("millrace {}", me.node))
            .ping_interval(PING)
            // An owner knows what it told.
            .no_echo()
            .subscription_capacity(WAITING)
            .event_callback(move |event| {
                match &event {
                    Event::Connected | Event::SlowConsumer(_) => {
                        missed.send_modify(|count| *count = count.wrapping_add(1));
                    }
                    event => warn!(%event, "the chat bus"),
                }
                std::future::ready(())
            });
        let addresses = url.0.clone().to_server_addrs();
        let addresses = addresses.map_err(BusError::of("its address"))?;
        let addresses: Vec<_> = addresses.collect();
        let client = options
            .connect(addresses)
            .await
            .map_err(BusError::of("connecting"))?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER);
        let log = Log::open(&context, replicas).await?;
        let facts = bucket(&context, BUCKET, kept(replicas)).await?;
        let nodes = bucket(&context, NODES, leased(replicas)).await?;
        let created = facts.stream.cached_info().created.unix_timestamp_nanos() / 1_000_000;
        let leases = Leases::new(nodes, me.clone());
        leases.take().await?;
        Ok(Self {
            client,
            context,
            log,
            facts,
            leases,
            me,
            epochs_from: u64::try_from(created).unwrap_or_default(),
            missed: may_have,
        })
    }
}

fn kept(replicas: usize) -> stream::Config {
    stream::Config {
        description: Some("Owners of chat rooms and their moderation".to_owned()),
        num_replicas: replicas,
        ..stream::Config::default()
    }
}

fn leased(replicas: usize) -> stream::Config {
    stream::Config {
        description: Some("Origins that carry chat now".to_owned()),
        max_age: LEASE,
        storage: StorageType::Memory,
        num_replicas: replicas,
        ..stream::Config::default()
    }
}

/// A bucket; whoever comes first makes it. It is made as the stream that it is:
/// async-nats asks first for what servers of Debian's age don't tell.
async fn bucket(
    context: &jetstream::Context,
    name: &str,
    config: stream::Config,
) -> Result<kv::Store, BusError> {
    let config = stream::Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        discard: DiscardPolicy::New,
        ..config
    };
    let made = context.get_or_create_stream(config).await;
    made.map_err(BusError::of("making a bucket"))?;
    let store = context.get_key_value(name).await;
    store.map_err(BusError::of("opening a bucket"))
}

fn told_subject(room: &ChannelName) -> String {
    format!("millrace.chat.told.{room}")
}

fn ask_subject(room: &ChannelName) -> String {
    format!("millrace.chat.ask.{room}")
}

fn here_subject(room: &ChannelName) -> String {
    format!("millrace.chat.here.{room}")
}

/// Ticks that are late are not made up for.
fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests;
