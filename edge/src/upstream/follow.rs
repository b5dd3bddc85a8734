//! The task of one track that viewers or children watch: it reads one parent,
//! for moments two, and turns from one to the other without a gap ([`Race`]).
//!
//! Invariants: the window has one writer, this task; what two parents bring is
//! applied once, because each [`Feed`] goes on where the window stands. A
//! parent is left only once another brings what it did not, or leaves by itself.

use std::{future::pending, pin::Pin, sync::Arc, time::Duration};

use common::{
    link::{Code, Start},
    live::{Broadcast, BroadcastState, SegmentState, TrackWindow},
    names::{Msn, NodeId},
};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use super::{
    Shared,
    feed::{Feed, FeedError, Mark},
    race::{Around, Race, Verdict, Why},
    session::Session,
    tracks::{Progress, Use},
};

/// Pauses between subscriptions that get nowhere grow from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// See the module's text.
pub(super) struct TrackTask {
    pub(super) shared: Arc<Shared>,
    pub(super) broadcast: Arc<Broadcast>,
    pub(super) track: Arc<TrackWindow>,
    pub(super) usage: Arc<Use>,
}

type Reading<'a> = Pin<Box<dyn Future<Output = Result<(), FeedError>> + Send + 'a>>;

/// A subscription under way.
struct Running<'a> {
    session: Arc<Session>,
    mark: Arc<Mark>,
    reading: Reading<'a>,
}

/// How a subscription ended, and whether it was the rival's.
struct Ended {
    rival: bool,
    outcome: Result<(), FeedError>,
}

impl TrackTask {
    pub(super) async fn run(self) {
        let part = self.track.track.part_target;
        let part_ms = self.track.track.timescale.to_ms(part);
        let mut race = Race::new(Duration::from_millis(part_ms));
        let mut failures = 0;
        loop {
            let session = self.path(failures).await;
            let began = self.applied();
            let (session, error) = match self.read(session, &mut race).await {
                Ok(()) => break,
                Err(failed) => failed,
            };
            debug!(
                channel = %self.broadcast.channel,
                track = %self.track.track.name,
                parent = %session.parent.node,
                %error,
                "subscription cut off"
            );
            self.shared.metrics.resumed.inc();
            if self.applied() != began {
                failures = 0;
            }
            if self.failed(&session, &error, &mut failures).await {
                break;
            }
        }
        self.usage.progress.send_replace(Progress::Finished);
        // Whoever idles ends this task.
        pending().await
    }

    /// What a subscription's failure means; `true` when nothing follows any more.
    async fn failed(&self, session: &Session, error: &FeedError, failures: &mut u32) -> bool {
        let others = self.paths().len();
        *failures = failures.saturating_add(1);
        match error {
            FeedError::Refused(Code::NotFound | Code::EpochMismatch | Code::Expired) => {
                let asked_all = *failures as usize >= others;
                // Nobody will write its end any more; what is here is all.
                if self.broadcast.state() == BroadcastState::Ended && asked_all {
                    self.track.window.end();
                    return true;
                }
                self.usage.progress.send_if_modified(|progress| {
                    let gone = *progress == Progress::Waiting && asked_all;
                    if gone {
                        *progress = Progress::Gone;
                    }
                    gone
                });
            }
            // What the window holds open can't be trusted or continued.
            FeedError::Log(_) | FeedError::OutOfPlace(_) => self.track.window.abort(),
            FeedError::Refused(_) | FeedError::Stream(_) | FeedError::CutOff(_) => {}
        }
        // A dead link's place is taken at once by one that is there.
        let elsewhere = !session.is_open() && others > 0;
        let rounds = *failures / u32::try_from(others.max(1)).unwrap_or(1);
        if !elsewhere && (rounds > 0 || others < 2) {
            let pause = FIRST_PAUSE.saturating_mul(1 << rounds.saturating_sub(1).min(8));
            sleep(pause.min(LAST_PAUSE)).await;
        }
        false
    }

    /// Reads from `present`, or whoever takes its place, until the track's end
    /// or until nobody is read from.
    async fn read(
        &self,
        present: Arc<Session>,
        race: &mut Race,
    ) -> Result<(), (Arc<Session>, FeedError)> {
        let mut changes = self.shared.changes();
        let mut states = self.broadcast.states();
        let mut present = self.subscribe(present);
        let mut rival: Option<Running<'_>> = None;
        race.won();
        loop {
            changes.mark_unchanged();
            states.mark_unchanged();
            let (around, best) = self.around(&present.session);
            let now = Instant::now();
            let standing = present.mark.standing();
            let verdict = race.judge(
                now,
                standing,
                rival.as_ref().map(|r| r.mark.standing()),
                around,
            );
            match verdict {
                Verdict::Stay => {}
                Verdict::Rival(why) => match best {
                    Some(best) => {
                        self.tell(why, &present.session, &best);
                        rival = Some(self.subscribe(best));
                        continue;
                    }
                    None => race.lost(now),
                },
                Verdict::Drop { fault } => {
                    if let Some(rival) = rival.take().filter(|_| fault) {
                        self.shared.fault(&rival.session);
                    }
                    continue;
                }
                Verdict::Swap { fault } => {
                    if let Some(next) = rival.take() {
                        let left = std::mem::replace(&mut present, next);
                        self.moved(&left.session, &present.session, fault);
                    }
                    continue;
                }
            }
            let due = race.due(now, standing, around);
            let ended = tokio::select! {
                outcome = &mut present.reading => Ended { rival: false, outcome },
                outcome = reading(&mut rival) => Ended { rival: true, outcome },
                () = until(due) => continue,
                _ = changes.changed() => continue,
                _ = states.changed() => continue,
            };
            match (ended.outcome, ended.rival) {
                (Ok(()), _) => return Ok(()),
                (Err(error), true) => {
                    debug!(%error, channel = %self.broadcast.channel, "the other parent failed");
                    rival = None;
                    race.lost(Instant::now());
                }
                (Err(error), false) => match rival.take() {
                    Some(next) => {
                        debug!(%error, channel = %self.broadcast.channel, "parent failed");
                        let left = std::mem::replace(&mut present, next);
                        self.moved(&left.session, &present.session, false);
                        race.won();
                    }
                    None => return Err((present.session, error)),
                },
            }
        }
    }

    fn subscribe(&self, session: Arc<Session>) -> Running<'_> {
        let mark = Arc::new(Mark::new());
        let feed = Feed {
            task: self,
            session: session.clone(),
            mark: mark.clone(),
        };
        Running {
            session,
            mark,
            reading: Box::pin(feed.run()),
        }
    }

    /// What there is beside the present link, and the link to try.
    fn around(&self, present: &Arc<Session>) -> (Around, Option<Arc<Session>>) {
        let paths = self.paths();
        let better = paths
            .first()
            .is_some_and(|best| !Arc::ptr_eq(best, present));
        let other = paths.into_iter().find(|path| !Arc::ptr_eq(path, present));
        let around = Around {
            better,
            other: other.is_some(),
            live: self.broadcast.state() == BroadcastState::Live,
        };
        (around, other)
    }

    fn tell(&self, why: Why, present: &Session, other: &Session) {
        let label = match why {
            Why::Silent => "silent",
            Why::Better => "better",
        };
        self.shared.metrics.rivals.with_label_values(&[label]).inc();
        debug!(
            channel = %self.broadcast.channel,
            track = %self.track.track.name,
            parent = %present.parent.node,
            other = %other.parent.node,
            why = label,
            "a second parent is asked"
        );
    }

    fn moved(&self, from: &Session, to: &Session, fault: bool) {
        if fault {
            self.shared.fault(from);
        }
        self.shared.metrics.moved.inc();
        info!(
            channel = %self.broadcast.channel,
            track = %self.track.track.name,
            from = %from.parent.node,
            to = %to.parent.node,
            fault,
            "track moved to another parent"
        );
    }

    fn paths(&self) -> Vec<Arc<Session>> {
        self.shared
            .paths(&self.broadcast.channel, self.broadcast.id)
    }

    /// The best path, or after failures each in turn, waiting until there is one.
    async fn path(&self, failures: u32) -> Arc<Session> {
        let mut changes = self.shared.changes();
        loop {
            changes.mark_unchanged();
            let paths = self.paths();
            if !paths.is_empty() {
                let turn = failures as usize % paths.len();
                if let Some(path) = paths.get(turn) {
                    return path.clone();
                }
            }
            if changes.changed().await.is_err() {
                // Never: the shared state holds the sender.
                pending::<()>().await;
            }
        }
    }

    /// Tells whether a subscription got anywhere.
    fn applied(&self) -> Option<(Msn, usize)> {
        self.track.window.look(|log| {
            log.newest()
                .map(|newest| (newest.head.msn, newest.chunks.len()))
        })
    }

    /// Everything before it is here.
    pub(super) fn position(&self) -> Start {
        self.track.window.look(|log| match log.newest() {
            None => self.usage.begin(),
            Some(newest) => match newest.state {
                SegmentState::Open => Start::At {
                    msn: newest.head.msn,
                    chunk: u32::try_from(newest.chunks.len()).unwrap_or(u32::MAX),
                },
                SegmentState::Complete(_) => Start::At {
                    msn: newest.head.msn.next(),
                    chunk: 0,
                },
                SegmentState::Aborted => Start::At {
                    msn: newest.head.msn,
                    chunk: 0,
                },
            },
        })
    }

    /// Who pulls through this node, itself last.
    pub(super) fn hops(&self) -> Vec<NodeId> {
        self.shared.hops(self.usage.via())
    }

    pub(super) fn ready(&self) {
        self.usage.progress.send_replace(Progress::Ready);
    }
}

async fn reading(running: &mut Option<Running<'_>>) -> Result<(), FeedError> {
    match running {
        Some(running) => (&mut running.reading).await,
        None => pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
