//! What a server asks of its own node when a child wants what is not here yet.
//! An origin is asked nothing: all there is stands in its directory. An edge
//! pulls, and answers.
//!
//! Each demand carries the way its answer comes back, so that the two sides
//! share a bounded queue and no more.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{
    link::message::{Code, Start},
    live::{Broadcast, SegmentEnd, SegmentHead},
    names::{ChannelName, Msn, NodeId, TrackName},
};

/// Demands that the node has not looked at: it takes each at once and works in
/// a task of its own. A child whose demand finds no room waits.
const WAITING: usize = 64;

/// See the module's text.
#[derive(Debug)]
pub enum Demand {
    /// Make the channel ready; the directory tells when it is.
    Channel {
        channel: ChannelName,
        /// Who pulls through the child, the child last.
        hops: Vec<NodeId>,
    },
    /// Follow a track for as long as `lease`'s other end lives.
    Track {
        broadcast: Arc<Broadcast>,
        track: TrackName,
        /// Where the child goes on: what lies before it need not be pulled.
        start: Start,
        hops: Vec<NodeId>,
        /// Answered once the window lists what the parent's lists.
        ready: oneshot::Sender<Result<(), Code>>,
        lease: oneshot::Receiver<Infallible>,
    },
    /// A complete segment that is known here by its index only.
    Segment {
        broadcast: Arc<Broadcast>,
        track: TrackName,
        msn: Msn,
        found: oneshot::Sender<Result<Fetched, Code>>,
    },
}

/// A complete segment of the past.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub head: SegmentHead,
    pub bytes: Bytes,
    /// Of `bytes`; its count of chunks is their writer's.
    pub sum: SegmentEnd,
}

/// A track is followed while it lives.
#[derive(Debug)]
pub(super) struct Lease(
    #[expect(dead_code, reason = "held for its drop")] oneshot::Sender<Infallible>,
);

/// The queue between a server and its node.
#[must_use]
pub fn demands() -> (mpsc::Sender<Demand>, mpsc::Receiver<Demand>) {
    mpsc::channel(WAITING)
}

/// The server's end of the queue; without one, nothing can be pulled.
#[derive(Debug, Clone, Default)]
pub(super) struct Node(pub(super) Option<mpsc::Sender<Demand>>);

impl Node {
    pub(super) fn pulls(&self) -> bool {
        self.0.is_some()
    }

    /// Only a node that stops takes no demands.
    async fn ask(&self, demand: Demand) -> Result<(), Code> {
        match &self.0 {
            Some(node) => node.send(demand).await.map_err(|_| Code::OriginLost),
            None => Ok(()),
        }
    }

    pub(super) async fn channel(&self, channel: &ChannelName, hops: &[NodeId]) -> Result<(), Code> {
        let channel = channel.clone();
        let hops = hops.to_vec();
        self.ask(Demand::Channel { channel, hops }).await
    }

    /// Resolves once the track's window is current.
    pub(super) async fn track(
        &self,
        broadcast: &Arc<Broadcast>,
        track: TrackName,
        start: Start,
        hops: &[NodeId],
    ) -> Result<Option<Lease>, Code> {
        if !self.pulls() {
            return Ok(None);
        }
        let (ready, answer) = oneshot::channel();
        let (held, lease) = oneshot::channel();
        let demand = Demand::Track {
            broadcast: broadcast.clone(),
            track,
            start,
            hops: hops.to_vec(),
            ready,
            lease,
        };
        self.ask(demand).await?;
        answer.await.unwrap_or(Err(Code::OriginLost))?;
        Ok(Some(Lease(held)))
    }

    pub(super) async fn segment(
        &self,
        broadcast: &Arc<Broadcast>,
        track: TrackName,
        msn: Msn,
    ) -> Result<Fetched, Code> {
        let (found, answer) = oneshot::channel();
        let demand = Demand::Segment {
            broadcast: broadcast.clone(),
            track,
            msn,
            found,
        };
        self.ask(demand).await?;
        answer.await.unwrap_or(Err(Code::OriginLost))
    }
}
