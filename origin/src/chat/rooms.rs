//! The rooms of this origin: made when somebody enters, let go when nobody has
//! held them for a while. One task gives out all handles, so that no room is made
//! twice.

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::{
    chat::{Asked, Feed, Limits, RoomHandle, home::home},
    link::{ChatPort, Code, OpenRoom},
    live::{Audience, Directory, UnixMs},
    names::{ChannelName, NodeId},
    shutdown::Shutdown,
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info};

use super::{
    ChatConfig, ChatMetrics, Policy, Recorder, Store, StoreError,
    bus::{self, BusRoom},
    clue::Clue,
    counted::{Counted, Tally},
    desk::Desk,
    ledger::Ledger,
    room::Room,
    waiting::Waiting,
};

/// Rooms with an actor at once.
pub const MAX_ROOMS: usize = 16_384;

/// Past so many a room is opened only if its channel is on air here, of which there
/// are at most as many as there are places left: any stranger can name a room, and
/// none is to find its place taken by names that somebody made up. A channel that is
/// on air at another origin counts as made up; edges know better, and have the same rule.
pub const MOST_OFF_AIR: usize = MAX_ROOMS / 4 * 3;

/// Wishes that wait for a room's decision: a second of a busy room. More are
/// refused at the link.
const MAILBOX: usize = 256;

/// Rooms asked for that were not looked at yet; more wait in their streams.
const OPENS: usize = 64;

/// How often rooms that nobody holds are looked for, and how often one must be
/// found: its past stays readable for so long.
const SWEEP: Duration = Duration::from_secs(60);
const SWEEPS: u32 = 5;

/// An origin's feed has one form: the link's.
pub(super) const FORMS: usize = 1;

/// Where the wall clock is read.
pub(super) type Clock = fn() -> UnixMs;

/// Where rooms are kept.
enum Keeper {
    File(Arc<Store>),
    Bus(bus::Ready),
}

pub(super) struct Shared {
    pub(super) metrics: ChatMetrics,
    pub(super) clock: Clock,
    /// Rooms that origins share are handed over when this node drains.
    pub(super) shutdown: Shutdown,
}

struct Held {
    handle: RoomHandle,
    unused_sweeps: u32,
}

/// See the module's text.
pub struct Rooms {
    shared: Arc<Shared>,
    keeper: Keeper,
    config: ChatConfig,
    node: NodeId,
    /// None where every origin has every room.
    origins: Vec<NodeId>,
    opens: mpsc::Receiver<OpenRoom>,
    rooms: HashMap<ChannelName, Held>,
    policy: watch::Receiver<Arc<Policy>>,
    recorder: Recorder,
    audience: Arc<Audience>,
    /// The channels of this origin.
    directory: Arc<Directory>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").finish_non_exhaustive()
    }
}

impl Rooms {
    /// The rooms of `node`, and where the link asks for them. With a bus, `store` is
    /// not used. Needs a tokio runtime.
    #[must_use]
    pub fn new(
        config: &ChatConfig,
        node: NodeId,
        store: Store,
        metrics: ChatMetrics,
    ) -> (Self, ChatPort) {
        Self::with_clock(config, node, store, metrics, now)
    }

    pub(super) fn with_clock(
        config: &ChatConfig,
        node: NodeId,
        store: Store,
        metrics: ChatMetrics,
        clock: Clock,
    ) -> (Self, ChatPort) {
        let mut origins = config.chat_origins.clone();
        let keeper = match &config.chat_bus {
            Some(url) => {
                let replicas = usize::from(config.chat_bus_replicas.max(1));
                Keeper::Bus(bus::connect(url.clone(), replicas, node.clone()))
            }
            None => {
                if origins.is_empty() {
                    origins.push(node.clone());
                }
                Keeper::File(Arc::new(store))
            }
        };
        let (opener, opens) = mpsc::channel(OPENS);
        let port = ChatPort {
            // Configured once: the sender need not stay.
            origins: watch::channel(origins.clone()).1,
            opens: opener,
        };
        let rooms = Self {
            shared: Arc::new(Shared {
                metrics,
                clock,
                shutdown: Shutdown::new(),
            }),
            keeper,
            config: config.clone(),
            node,
            origins,
            opens,
            rooms: HashMap::new(),
            policy: watch::channel(Arc::default()).1,
            recorder: Recorder::default(),
            audience: Arc::default(),
            directory: Arc::default(),
        };
        (rooms, port)
    }

    /// The operator's word in all rooms.
    #[must_use]
    pub fn under(mut self, policy: watch::Receiver<Arc<Policy>>) -> Self {
        self.policy = policy;
        self
    }

    /// Keeps what rooms say.
    #[must_use]
    pub fn recorded_by(mut self, recorder: Recorder) -> Self {
        self.recorder = recorder;
        self
    }

    /// Rooms of these channels have a place before others.
    #[must_use]
    pub fn preferring(mut self, directory: Arc<Directory>) -> Self {
        self.directory = directory;
        self
    }

    /// Hands rooms over to other origins when that begins to drain.
    #[must_use]
    pub fn until(mut self, shutdown: Shutdown) -> Self {
        self.shared = Arc::new(Shared {
            metrics: self.shared.metrics.clone(),
            clock: self.shared.clock,
            shutdown,
        });
        self
    }

    /// Shows there how many watch and chat.
    #[must_use]
    pub fn shown_in(mut self, audience: Arc<Audience>) -> Self {
        self.audience = audience;
        self
    }

    /// Gives out rooms for as long as somebody may ask.
    pub async fn run(mut self) {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Keeper::Bus(ready) = &self.keeper {
            tokio::spawn(bus::leave(ready.clone(), self.shared.shutdown.clone()));
        }
        loop {
            tokio::select! {
                open = self.opens.recv() => match open {
                    Some(OpenRoom { room, reply }) => {
                        let opened = self.open(room).await;
                        // Gone where the asker's link is.
                        let _ = reply.send(opened);
                    }
                    None => return,
                },
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    async fn open(&mut self, room: ChannelName) -> Result<RoomHandle, Code> {
        match self.rooms.get_mut(&room) {
            // Only an actor that panicked drops its mailbox: the room begins anew.
            Some(held) if held.handle.asks.is_closed() => drop(self.rooms.remove(&room)),
            Some(held) => {
                held.unused_sweeps = 0;
                return Ok(held.handle.clone());
            }
            None => {}
        }
        let refuse = |code: Code| {
            let refused = &self.shared.metrics.rooms_refused;
            refused.with_label_values(&[code.as_str()]).inc();
            Err(code)
        };
        let elsewhere = home(&room, &self.origins).is_some_and(|home| *home != self.node);
        if elsewhere {
            return refuse(Code::NotHere);
        }
        let most = match self.directory.get(&room) {
            Some(_) => MAX_ROOMS,
            None => MOST_OFF_AIR,
        };
        if self.rooms.len() >= most {
            return refuse(Code::Overloaded);
        }
        let (mailbox, asks) = mpsc::channel(MAILBOX);
        let names = self.config.names(&room);
        let tally = Tally {
            audience: self.audience.clone(),
            node: self.node.clone(),
            room: room.clone(),
        };
        let counted = Counted::new(self.shared.metrics.clone(), tally, names);
        let presence = counted.presence().clone();
        let feed = match &self.keeper {
            Keeper::File(store) => {
                match self.kept_in_file(store.clone(), &room, asks, counted).await {
                    Ok(feed) => feed,
                    Err(code) => return refuse(code),
                }
            }
            Keeper::Bus(ready) => {
                let room = BusRoom::new(
                    self.shared.clone(),
                    ready.clone(),
                    room.clone(),
                    asks,
                    counted,
                    self.policy.clone(),
                    self.recorder.of(&room).map(Arc::new),
                );
                let feed = room.feed().clone();
                tokio::spawn(room.run());
                feed
            }
        };
        let handle = RoomHandle {
            feed,
            asks: mailbox,
            presence,
        };
        let held = Held {
            handle: handle.clone(),
            unused_sweeps: 0,
        };
        self.rooms.insert(room, held);
        Ok(handle)
    }

    async fn kept_in_file(
        &self,
        store: Arc<Store>,
        room: &ChannelName,
        asks: mpsc::Receiver<Asked>,
        counted: Counted,
    ) -> Result<Arc<Feed>, Code> {
        let record = self.recorder.of(room).map(Arc::new);
        let (begin, name, now) = (store.clone(), room.clone(), (self.shared.clock)());
        let past = record.clone();
        let begun = tokio::task::spawn_blocking(move || {
            let (epoch, mut known) = begin.begin(&name, now)?;
            let mut all = true;
            if let Some(record) = past {
                (known.past, all) = record.past(epoch);
            }
            Ok::<_, StoreError>((epoch, known, all))
        });
        let (epoch, known, all) = match begun.await {
            Ok(Ok(begun)) => begun,
            Ok(Err(why)) => {
                self.shared.metrics.store_errors.inc();
                error!(%room, %why, "the chat store can't be read");
                return Err(Code::Internal);
            }
            Err(_) => return Err(Code::Internal),
        };
        info!(%room, epoch = epoch.0, bans = known.bans.len(), "room opened");
        let feed = Arc::new(Feed::new(room.clone(), epoch, FORMS, Limits::default()));
        let past = known.past.clone();
        feed.recall(past.iter().cloned());
        let mut clue = Clue::new(room.clone(), epoch, known);
        clue.spoke(now, &past, all);
        feed.set_settings(clue.settings());
        let actor = Room {
            desk: Desk {
                shared: self.shared.clone(),
                feed: feed.clone(),
                clue,
                ledger: Ledger::File(store),
                presence: counted.presence().clone(),
                policy: self.policy.clone(),
                record,
                waiting: Waiting::new(self.shared.metrics.clone()),
            },
            asks,
            counted,
        };
        tokio::spawn(actor.run());
        Ok(feed)
    }

    /// A room whose mailbox nobody else holds has no reader. Its actor ends with
    /// the last handle.
    fn sweep(&mut self) {
        self.rooms.retain(|room, held| {
            if held.handle.asks.strong_count() > 1 {
                held.unused_sweeps = 0;
                return true;
            }
            held.unused_sweeps += 1;
            let stays = held.unused_sweeps < SWEEPS;
            if !stays {
                info!(%room, "room closed");
            }
            stays
        });
    }
}

fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    UnixMs(u64::try_from(ms).unwrap_or(u64::MAX))
}
