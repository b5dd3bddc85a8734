//! The task that keeps the parents connected and writes what they announce into
//! the directory. Each link is a task of its own ([`super::dial`]) that tells
//! this one, in order, what it hears.
//!
//! Invariants: as many links as `--warm-parents` asks for, to the first parents
//! in the order given that can be had; what the directory says was said by a
//! parent. The order given may change while the edge runs: who is taken off it is
//! left as soon as another parent has its tracks. A lost link changes nothing in it while a
//! channel's origin waits for its publisher ([`Announcement::kept_for`]); a channel
//! that no parent's snapshot has is lost and has that long to come back; only
//! GONE{ended} or a STATE ends one. What parents tell of places to publish to
//! ([`super::ingests`]) it writes beside.

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::{
    link::{Code, GoneReason, Hello, Message, stream::close},
    live::{Announcement, BroadcastState, Channel, Crowd, Phase, Stage},
    names::{BroadcastId, ChannelName},
    quic::Dialer,
    tls::{Identity, Role},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    Shared,
    candidate::{Candidate, Claim, FIRST_PAUSE, LAST_PAUSE, State, jittered},
    dial::{Event, Link},
    hearsay,
    ingests::Heard,
    routes::{MAX_CHANNELS, Rank},
    session::Session,
};

/// Before a parent that is the same node as another one, or that told to leave,
/// is tried again.
const ASIDE: Duration = Duration::from_secs(30);

/// How often a better parent is looked for while the links are full.
const LOOK_FOR_BETTER: Duration = Duration::from_secs(15);

/// What a link that is not needed any more gets for its tracks to move.
const MOVING: Duration = Duration::from_secs(5);

/// What links heard and this task has not looked at: a snapshot comes as a
/// burst, and a full queue holds back one link's control stream.
const EVENTS: usize = 256;

/// Parents of the command line and alternatives that others named, together.
const MAX_CANDIDATES: usize = 64;

/// See the module's text.
pub(super) struct Parents {
    shared: Arc<Shared>,
    dialer: Dialer,
    hello: Hello,
    warm: usize,
    /// The parents given, the preferred one first.
    addresses: watch::Receiver<Vec<String>>,
    candidates: Vec<Candidate>,
    links: JoinSet<()>,
    events: mpsc::Sender<Event>,
    heard: mpsc::Receiver<Event>,
    /// Channels that go unless they come back: when, and which broadcast.
    leaving: HashMap<ChannelName, (Instant, BroadcastId)>,
    heard_ingests: Heard,
}

impl Parents {
    pub(super) fn new(
        shared: Arc<Shared>,
        dialer: Dialer,
        hello: Hello,
        addresses: watch::Receiver<Vec<String>>,
        warm: usize,
    ) -> Self {
        let (events, heard) = mpsc::channel(EVENTS);
        let mut parents = Self {
            heard_ingests: Heard::new(shared.node.clone()),
            shared,
            dialer,
            hello,
            warm: warm.max(1),
            addresses,
            candidates: Vec::new(),
            links: JoinSet::new(),
            events,
            heard,
            leaving: HashMap::new(),
        };
        parents.given();
        parents
    }

    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        let mut needed = shared.needed_links.subscribe();
        let asked_for = self.warm;
        loop {
            // Rooms are spread over origins: each has to be within reach.
            self.warm = asked_for.max(*needed.borrow_and_update());
            let now = Instant::now();
            self.dial(now);
            let due = self.due(now);
            tokio::select! {
                Some(event) = self.heard.recv() => self.event(event),
                Ok(()) = self.addresses.changed() => self.given(),
                Some(_) = self.links.join_next(), if !self.links.is_empty() => {}
                () = shared.faults.notified() => self.settle_all(),
                Ok(()) = needed.changed() => {}
                () = wait_until(due) => self.tick(Instant::now()),
            }
        }
    }

    /// Takes the list of parents as it is now. A place is kept for as long as its
    /// link lives; who is new stands where there is room.
    fn given(&mut self) {
        let now = Instant::now();
        let addresses = self.addresses.borrow_and_update().clone();
        for rank in 0..self.candidates.len() {
            let candidate = &mut self.candidates[rank];
            if candidate.claim == Claim::Given && !addresses.contains(&candidate.address) {
                info!(
                    parent = candidate.address,
                    "no parent of this node any more"
                );
                candidate.claim = Claim::Removed;
                self.leaves(rank, MOVING);
            }
        }
        for address in addresses.into_iter().take(MAX_CANDIDATES) {
            let known = self.candidates.iter_mut().find(|c| c.address == address);
            match known {
                Some(known) => known.claim = Claim::Given,
                None => self.add(Candidate::new(address, Claim::Given), now),
            }
        }
        self.shared.changed();
    }

    fn add(&mut self, candidate: Candidate, now: Instant) {
        if let Some(place) = self.candidates.iter_mut().find(|c| c.is_free(now)) {
            *place = candidate;
        } else if self.candidates.len() < MAX_CANDIDATES {
            self.candidates.push(candidate);
        }
    }

    /// Dials as many as are missing, the first in the list first, and one that
    /// stands before a link that is there.
    fn dial(&mut self, now: Instant) {
        let staying = |all: &[Candidate]| all.iter().filter(|c| c.state.stays()).count();
        let last = self.candidates.iter().rposition(|c| c.state.stays());
        for rank in 0..self.candidates.len() {
            let count = staying(&self.candidates);
            let better = count == self.warm && last.is_some_and(|last| rank < last);
            let candidate = &mut self.candidates[rank];
            let due = matches!(candidate.state, State::Idle { not_before } if not_before <= now)
                && candidate.claim != Claim::Removed;
            if !due || !(count < self.warm || better) {
                continue;
            }
            candidate.state = State::Dialling;
            let link = Link {
                rank,
                address: candidate.address.clone(),
                dialer: self.dialer.clone(),
                hello: self.hello.clone(),
                metrics: self.shared.metrics.clone(),
                events: self.events.clone(),
            };
            self.links.spawn(link.run());
        }
    }

    /// When something is due that nobody tells.
    fn due(&self, now: Instant) -> Option<Instant> {
        let full = self.candidates.iter().filter(|c| c.state.stays()).count() >= self.warm;
        let last = self.candidates.iter().rposition(|c| c.state.stays());
        let candidates = self.candidates.iter().enumerate();
        let candidates = candidates.filter_map(|(rank, candidate)| match &candidate.state {
            State::Idle { .. } if candidate.claim == Claim::Removed => None,
            State::Idle { not_before } => {
                (!full || last.is_some_and(|last| rank < last)).then_some(*not_before)
            }
            State::Leaving(_, until) => Some(*until),
            State::Dialling | State::Connected(_) => None,
        });
        let leaving = self.leaving.values().map(|(at, _)| *at);
        let routes = self.shared.routes.lock().next_change(now);
        // What is due now and can't be done yet is looked at with the next event.
        candidates
            .filter(|at| *at > now)
            .chain(leaving)
            .chain(routes)
            .chain(self.heard_ingests.next_change())
            .min()
    }

    fn tick(&mut self, now: Instant) {
        for candidate in &self.candidates {
            if let State::Leaving(session, until) = &candidate.state
                && *until <= now
            {
                close(&session.connection, Code::Cancelled, "leaving");
            }
        }
        let expired = self.shared.routes.lock().expired(now);
        for channel in expired {
            if self.best(&channel).is_none() {
                self.leave_at(&channel, now);
            } else {
                self.settle(&channel);
            }
        }
        self.leave();
        self.heard_ingests.expire(now);
        self.list_ingests();
        // A parent may be trusted again.
        self.settle_all();
        self.shared.changed();
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected(rank, session) => self.connected(rank, &session),
            // These move no path.
            Event::Told(rank, message @ (Message::About { .. } | Message::Audience(_))) => {
                return self.told(rank, message);
            }
            Event::Told(rank, message) => self.told(rank, message),
            Event::Lost { rank, synced } => self.lost(rank, synced),
        }
        self.shared.changed();
    }

    pub(super) fn connected(&mut self, rank: Rank, session: &Arc<Session>) {
        let node = &session.parent.node;
        // One that leaves makes way for itself at another address.
        let stays = |c: &Candidate| match &c.state {
            State::Connected(other) => other.parent.node == *node,
            _ => false,
        };
        let twice = *node == self.hello.node || self.candidates.iter().any(stays);
        if twice {
            warn!(parent = self.address(rank), %node, "not a further parent: this node, or one that is connected already");
            close(&session.connection, Code::Cancelled, "connected already");
            if let Some(candidate) = self.candidates.get_mut(rank) {
                candidate.pause = ASIDE;
            }
            return;
        }
        let mut removed = false;
        if let Some(candidate) = self.candidates.get_mut(rank) {
            candidate.state = State::Connected(session.clone());
            removed = candidate.claim == Claim::Removed;
        }
        self.shared.connected(rank, session);
        if session.parent.role == Role::Origin {
            let telling = hearsay::tell(self.shared.clone(), session.clone());
            self.links.spawn(telling);
        }
        if removed {
            self.leaves(rank, Duration::ZERO);
        }
    }

    fn lost(&mut self, rank: Rank, synced: bool) {
        let now = Instant::now();
        let full = self.candidates.iter().filter(|c| c.state.stays()).count() > self.warm;
        let connected = |c: &Candidate| matches!(c.state, State::Connected(_));
        let others = self.candidates.iter().any(connected);
        let Some(candidate) = self.candidates.get_mut(rank) else {
            return;
        };
        let was = std::mem::replace(&mut candidate.state, State::Idle { not_before: now });
        if synced {
            candidate.pause = FIRST_PAUSE;
        }
        let pause = match was {
            // Whoever has another parent lets it drain in peace.
            State::Leaving(..) if others => ASIDE,
            _ if candidate.claim == Claim::Borrowed => ASIDE,
            _ if full => LOOK_FOR_BETTER,
            _ => jittered(candidate.pause),
        };
        candidate.state = State::Idle {
            not_before: now + pause,
        };
        candidate.pause = (candidate.pause * 2).min(LAST_PAUSE);
        self.shared.disconnected(rank);
        if let State::Connected(session) | State::Leaving(session, _) = &was {
            self.unheard(session);
        }
        self.heard_ingests.lost(rank, now);
        self.list_ingests();
        self.settle_all();
    }

    fn told(&mut self, rank: Rank, message: Message) {
        match message {
            Message::Live(live) => self.live(rank, live),
            Message::Snapshot { .. } => self.snapshot(rank),
            Message::Gone {
                channel,
                broadcast,
                reason,
            } => self.gone(rank, &channel, broadcast, reason),
            Message::Ingest(ingest) => {
                if !self.heard_ingests.told(rank, ingest) {
                    self.shared.metrics.refused_ingests.inc();
                }
                self.list_ingests();
            }
            Message::IngestGone { node } => {
                self.heard_ingests.gone(rank, &node);
                self.list_ingests();
            }
            Message::GoAway {
                drain_ms,
                alternatives,
            } => self.go_away(rank, drain_ms, alternatives),
            Message::About {
                channel,
                broadcast,
                about,
            } => {
                let routes = &self.shared.routes;
                routes.lock().about(rank, &channel, broadcast, about);
                self.tell_about(&channel);
            }
            Message::Audience(crowds) => self.audience(rank, crowds),
            Message::Error(refusal) => {
                warn!(code = %refusal.code, reason = refusal.reason, "parent refused WATCH");
            }
            _ => {}
        }
    }

    /// Writes what is said of a channel that this node knows where lists look.
    fn tell_about(&self, channel: &ChannelName) {
        if self.shared.directory.get(channel).is_some() {
            let routes = self.shared.routes.lock();
            let about = routes.best_about(channel, Instant::now());
            drop(routes);
            self.shared.abouts.put(channel, about);
        }
    }

    /// Counts of a node that is linked no more are nobody's.
    fn unheard(&self, lost: &Session) {
        let node = &lost.parent.node;
        let linked = |c: &Candidate| matches!(&c.state, State::Connected(other) | State::Leaving(other, _) if other.parent.node == *node);
        if !self.candidates.iter().any(linked) {
            self.shared.audience.forget(node);
        }
    }

    fn audience(&self, rank: Rank, crowds: Vec<(ChannelName, Crowd)>) {
        let candidate = self.candidates.get(rank).map(|candidate| &candidate.state);
        if let Some(State::Connected(session) | State::Leaving(session, _)) = candidate {
            let Identity { node, role } = &session.parent;
            self.shared.audience.tell(node, *role, crowds);
        }
    }

    pub(super) fn live(&mut self, rank: Rank, live: Announcement) {
        let channel = live.channel.clone();
        let directory = &self.shared.directory;
        let full = directory.len() >= MAX_CHANNELS && directory.get(&channel).is_none();
        if full || !self.shared.routes.lock().live(rank, live) {
            self.shared.metrics.refused_channels.inc();
        }
        self.settle(&channel);
    }

    pub(super) fn snapshot(&mut self, rank: Rank) {
        let missing = self.shared.routes.lock().snapshot(rank);
        for channel in missing {
            self.settle(&channel);
        }
        // What was held since before this process's parents were lost.
        for channel in self.shared.directory.snapshot() {
            let name = channel.announcement.channel;
            if self.best(&name).is_none() {
                self.settle(&name);
            }
        }
        self.heard_ingests.snapshot(rank);
        self.list_ingests();
        self.shared.synced.send_replace(true);
        self.thin_out();
    }

    fn list_ingests(&self) {
        let list = self.heard_ingests.list();
        let count = i64::try_from(list.len()).unwrap_or(i64::MAX);
        self.shared.metrics.ingests.set(count);
        self.shared.ingests.set(list);
    }

    /// With one link more than wanted, the last in the list goes.
    fn thin_out(&mut self) {
        let connected = |c: &Candidate| matches!(c.state, State::Connected(_));
        if self.candidates.iter().filter(|c| connected(c)).count() > self.warm
            && let Some(rank) = self.candidates.iter().rposition(connected)
        {
            info!(parent = self.address(rank), "parent left for a better one");
            self.leaves(rank, MOVING);
        }
    }

    fn leaves(&mut self, rank: Rank, within: Duration) {
        if let Some(candidate) = self.candidates.get_mut(rank)
            && let State::Connected(session) = &candidate.state
        {
            candidate.state = State::Leaving(session.clone(), Instant::now() + within);
            self.shared.routes.lock().leaving(rank);
            self.settle_all();
        }
    }

    /// A draining parent serves on until it closes; whoever has no other takes
    /// what there is.
    fn go_away(&mut self, rank: Rank, drain_ms: u32, alternatives: Vec<String>) {
        info!(
            parent = self.address(rank),
            drain_ms,
            ?alternatives,
            "parent drains"
        );
        let slack = Duration::from_secs(1);
        self.leaves(rank, Duration::from_millis(drain_ms.into()) + slack);
        let now = Instant::now();
        for address in alternatives {
            if !self.candidates.iter().any(|c| c.address == address) {
                self.add(Candidate::new(address, Claim::Borrowed), now);
            }
        }
    }

    pub(super) fn gone(
        &mut self,
        rank: Rank,
        channel: &ChannelName,
        broadcast: BroadcastId,
        reason: GoneReason,
    ) {
        self.shared.routes.lock().gone(rank, channel);
        if self.best(channel).is_some() {
            self.settle(channel);
            return;
        }
        let Some(known) = self.shared.directory.get(channel) else {
            return;
        };
        let kept_for = known.announcement.kept_for();
        let stays = match known.stage {
            Stage::Ready(held) => {
                let current = held.id == broadcast || known.announcement.broadcast == broadcast;
                let ended = current && reason == GoneReason::Ended;
                if ended && held.state() == BroadcastState::Ended {
                    // Its last playlist was on show here for as long as there.
                    Duration::ZERO
                } else if ended {
                    held.set_state(BroadcastState::Ended);
                    Duration::from_millis(held.plan.window_ms.into())
                } else {
                    kept_for
                }
            }
            Stage::Starting if reason == GoneReason::Ended => Duration::ZERO,
            Stage::Starting => kept_for,
        };
        self.leave_at(channel, Instant::now() + stays);
    }

    fn best(&self, channel: &ChannelName) -> Option<Announcement> {
        let routes = self.shared.routes.lock();
        routes.best(channel, Instant::now()).cloned()
    }

    fn settle_all(&mut self) {
        for channel in self.shared.directory.snapshot() {
            self.settle(&channel.announcement.channel);
        }
    }

    /// Writes what this node believes of a channel into the directory.
    fn settle(&mut self, channel: &ChannelName) {
        let directory = &self.shared.directory;
        let known = directory.get(channel);
        let Some(announcement) = self.best(channel) else {
            if let Some(known) = known
                && !self.leaving.contains_key(channel)
            {
                let kept_for = known.announcement.kept_for();
                self.leave_at(channel, Instant::now() + kept_for);
            }
            return;
        };
        self.leaving.remove(channel);
        let ended = announcement.phase == Phase::Ended;
        match known {
            None => directory.put(Channel {
                announcement: announcement.clone(),
                stage: Stage::Starting,
            }),
            Some(known) => match known.stage {
                // The old broadcast stays until the new one can be played.
                Stage::Ready(held) if held.id != announcement.broadcast => {}
                stage => {
                    if let (Stage::Ready(held), true) = (&stage, ended) {
                        held.set_state(BroadcastState::Ended);
                    }
                    if known.announcement != announcement || ended {
                        let announcement = announcement.clone();
                        directory.update(channel, |known| known.announcement = announcement);
                    }
                }
            },
        }
        self.tell_about(channel);
        self.shared.announced(channel, &announcement);
    }

    fn leave_at(&mut self, channel: &ChannelName, at: Instant) {
        if let Some(known) = self.shared.directory.get(channel) {
            let broadcast = known.announcement.broadcast;
            debug!(%channel, %broadcast, "no parent carries this any more");
            self.leaving.insert(channel.clone(), (at, broadcast));
        }
    }

    pub(super) fn leave(&mut self) {
        let now = Instant::now();
        let shared = &self.shared;
        self.leaving.retain(|channel, (at, broadcast)| {
            let stays = *at > now;
            if !stays {
                shared.forget(channel, *broadcast);
            }
            stays
        });
    }

    fn address(&self, rank: Rank) -> &str {
        self.candidates
            .get(rank)
            .map_or("", |candidate| &candidate.address)
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
