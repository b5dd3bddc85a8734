//! Fetches of the past as parents see them: how often, how many at once, and what
//! refusals come to.

use std::{
    collections::VecDeque, future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, task::Poll,
};

use bytes::Bytes;
use common::{
    link::{Code, Demand, Fetched, demands},
    live::{Broadcast, Directory, SegmentEnd},
    names::Msn,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{any, stage::*};
use crate::upstream::{Unavailable, wanted::FETCHES_AT_ONCE};

type Answer = oneshot::Sender<Result<Fetched, Code>>;

/// Parents that have the test look for what they do not hold, which is all.
struct Relays {
    parents: Vec<Parent>,
    demanded: mpsc::Receiver<Demand>,
    edge: Edge,
    copy: Arc<Broadcast>,
}

impl Relays {
    async fn start(stems: &[&str]) -> Self {
        let certs = Certs::new();
        let directory = Arc::new(Directory::default());
        publish(&directory, 7);
        // Twins have it from the same origin.
        directory.update(&channel(), |known| {
            known.announcement.hops = vec![node("origin")];
        });
        let (demands, demanded) = demands();
        let relay = |stem: &&str| {
            let (demands, synced) = (demands.clone(), watch::channel(true).1);
            let pulling = |server: common::link::LinkServer| server.pulling(demands, synced);
            Parent::serve(&certs, &directory, any(), stem, pulling)
        };
        let parents: Vec<_> = stems.iter().map(relay).collect();
        let addresses: Vec<SocketAddr> = parents.iter().map(|of| of.address).collect();
        let edge = Edge::under(&certs, "edge-2", &addresses);
        edge.has_paths(7, stems.len()).await;
        let copy = edge.broadcast().await;
        Self {
            parents,
            demanded,
            edge,
            copy,
        }
    }

    fn ask(&self, msn: u64) -> impl Future<Output = Result<Bytes, Unavailable>> + use<> {
        let (upstream, copy) = (self.edge.upstream.clone(), self.copy.clone());
        async move {
            let kept = upstream.past_segment(&copy, V0, Msn(msn)).await;
            kept.map(|(bytes, _)| bytes)
        }
    }

    /// The next segment that a parent is asked for.
    async fn asked(&mut self) -> (Msn, Answer) {
        loop {
            if let Some(Demand::Segment { msn, found, .. }) = within(self.demanded.recv()).await {
                return (msn, found);
            }
        }
    }

    fn refused(&self) -> f64 {
        let refused = |of: &Parent| metric(&of.registry, "millrace_link_refused_total");
        self.parents.iter().map(refused).sum()
    }
}

fn whole(msn: Msn) -> Bytes {
    Bytes::from(format!("all of {msn}"))
}

fn fetched(msn: Msn) -> Fetched {
    let bytes = whole(msn);
    let sum = SegmentEnd {
        chunks: 1,
        bytes: bytes.len() as u64,
        crc32c: crc32c::crc32c(&bytes),
    };
    let head = head(7, msn.0);
    Fetched { head, bytes, sum }
}

/// Asks, and goes away at once.
async fn begun<T>(ask: impl Future<Output = T>) {
    {
        let mut ask = pin!(ask);
        let pending = poll_fn(|cx| Poll::Ready(ask.as_mut().poll(cx).is_pending()));
        assert!(pending.await);
    }
    settle().await;
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_goes_away_does_not_have_it_fetched_anew() {
    let mut relays = Relays::start(&["edge-1"]).await;
    for _ in 0..10 {
        begun(relays.ask(100)).await;
    }
    let leaves = tokio::spawn(relays.ask(100));
    let (msn, answer) = relays.asked().await;
    leaves.abort();
    assert!(leaves.await.is_err());
    for _ in 0..300 {
        begun(relays.ask(100)).await;
    }
    let stays = tokio::spawn(relays.ask(100));
    settle().await;
    answer.send(Ok(fetched(msn))).unwrap();
    assert_eq!(within(stays).await.unwrap().unwrap(), whole(Msn(100)));
    assert_eq!(within(relays.ask(100)).await.unwrap(), whole(Msn(100)));
    // Nobody asked for it in between.
    let next = tokio::spawn(relays.ask(101));
    let (msn, answer) = relays.asked().await;
    assert_eq!(msn, Msn(101));
    answer.send(Ok(fetched(msn))).unwrap();
    assert!(within(next).await.unwrap().is_ok());
}

#[tokio::test]
async fn what_is_more_than_a_parent_takes_waits_for_its_turn() {
    const ALL: usize = 3 * FETCHES_AT_ONCE;
    let mut relays = Relays::start(&["edge-1"]).await;
    let asks = (0..ALL as u64).map(|msn| tokio::spawn(relays.ask(msn)));
    let asks: Vec<_> = asks.collect();
    let mut open = VecDeque::new();
    for _ in 0..FETCHES_AT_ONCE {
        open.push_back(relays.asked().await);
    }
    // Whoever gives up before its turn has nothing fetched.
    begun(relays.ask(1_000)).await;
    let mut asked = open.len();
    while let Some((msn, answer)) = open.pop_front() {
        assert!(relays.demanded.try_recv().is_err(), "one too many");
        assert!(msn < Msn(1_000));
        answer.send(Ok(fetched(msn))).unwrap();
        if asked < ALL {
            open.push_back(relays.asked().await);
            asked += 1;
        }
    }
    for (msn, ask) in asks.into_iter().enumerate() {
        let bytes = within(ask).await.unwrap().unwrap();
        assert_eq!(bytes, whole(Msn(msn as u64)));
    }
    assert_eq!(relays.refused(), 0.0);
}

/// 404 is for what is gone. A parent that has no room or no parent does not know.
#[tokio::test]
async fn a_parent_that_cannot_tell_is_no_proof_that_it_is_gone() {
    use Unavailable::{Disconnected, Gone};
    let mut relays = Relays::start(&["edge-1", "edge-3"]).await;
    for (msn, (first, second, comes_to)) in (100..).zip([
        (Code::Overloaded, Code::OriginLost, Disconnected),
        (Code::Overloaded, Code::Expired, Disconnected),
        (Code::Expired, Code::Internal, Disconnected),
        (Code::Expired, Code::NotFound, Gone),
    ]) {
        let ask = tokio::spawn(relays.ask(msn));
        for code in [first, second] {
            let (of, answer) = relays.asked().await;
            assert_eq!(of, Msn(msn));
            answer.send(Err(code)).unwrap();
        }
        let refused = within(ask).await.unwrap().unwrap_err();
        assert_eq!(refused, comes_to, "{first} {second}");
    }
    assert_eq!(relays.refused(), 8.0);
}
