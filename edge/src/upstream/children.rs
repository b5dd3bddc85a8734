//! What this edge's own children ask of it: the link server's demands, answered
//! as a viewer's would be, by the same subscriptions and the same cache.

use std::sync::Arc;

use common::{
    link::{Code, Demand, Fetched, Start},
    live::Broadcast,
    names::{Msn, NodeId, TrackName},
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{Pulled, Shared, Unavailable, Upstream};

impl Upstream {
    /// Answers demands until the link server is gone. Each has a task, of which
    /// the server's own bounds allow so many.
    pub async fn serve(self: Arc<Self>, mut demands: mpsc::Receiver<Demand>) {
        let Some(Pulled { shared, .. }) = &self.pulled else {
            return;
        };
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                demand = demands.recv() => match demand {
                    Some(demand) => {
                        let shared = shared.clone();
                        tasks.spawn(async move { shared.demanded(demand).await });
                    }
                    None => return,
                },
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
    }
}

impl Shared {
    async fn demanded(self: Arc<Self>, demand: Demand) {
        match demand {
            Demand::Channel { channel, hops } => {
                if let Some(known) = self.directory.get(&channel) {
                    self.open_channel(known.announcement, hops);
                }
            }
            Demand::Track {
                broadcast,
                track,
                start,
                hops,
                ready,
                mut lease,
            } => {
                let following = self.follow_for(&broadcast, track, start, hops);
                tokio::select! {
                    outcome = following => match outcome {
                        Ok(_held) => {
                            // Its failure is the lease's end, too.
                            let _ = ready.send(Ok(()));
                            // Ends with its other half.
                            let _ = lease.await;
                        }
                        Err(why) => {
                            let _ = ready.send(Err(code(why)));
                        }
                    },
                    _ = &mut lease => {}
                }
            }
            Demand::Segment {
                broadcast,
                track,
                msn,
                mut found,
            } => {
                let fetched = tokio::select! {
                    fetched = self.fetched(&broadcast, track, msn) => fetched,
                    // The child gave up: what has begun is cached for the next one.
                    () = found.closed() => return,
                };
                let _ = found.send(fetched.map_err(code));
            }
        }
    }

    /// Follows a track on a child's behalf until what it gives back is dropped.
    async fn follow_for(
        self: &Arc<Self>,
        broadcast: &Arc<Broadcast>,
        track: TrackName,
        start: Start,
        hops: Vec<NodeId>,
    ) -> Result<super::Leased, Unavailable> {
        let leased = self.lease(broadcast, track, start, hops)?;
        self.followed(broadcast, track).await?;
        Ok(leased)
    }

    async fn fetched(
        self: &Arc<Self>,
        broadcast: &Arc<Broadcast>,
        track: TrackName,
        msn: Msn,
    ) -> Result<Fetched, Unavailable> {
        let stored = self.stored(broadcast, track, msn).await?;
        Ok(stored.fetched.clone())
    }
}

const fn code(why: Unavailable) -> Code {
    match why {
        Unavailable::Unknown => Code::NotFound,
        Unavailable::Gone => Code::Expired,
        Unavailable::Starting | Unavailable::Full => Code::Overloaded,
        Unavailable::Disconnected => Code::OriginLost,
    }
}
