//! Over a path that loses datagrams by a seeded coin, and one that is cut.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use common::live::Directory;
use tokio::{net::UdpSocket, task::JoinSet};

use super::{any, stage::*};

/// Longer than any datagram that QUIC sends without path MTU discovery's end.
const DATAGRAM_BYTES: usize = 65_536;

/// Forwards datagrams both ways between children and one parent.
pub struct Path {
    pub address: SocketAddr,
    /// Of 1,000 datagrams, how many are lost.
    lost_per_mille: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Coin {
    state: Arc<AtomicU64>,
    lost_per_mille: Arc<AtomicU64>,
}

impl Coin {
    /// SplitMix64: its sequence is the seed's alone.
    fn passes(&self) -> bool {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self
            .state
            .fetch_add(STEP, Ordering::Relaxed)
            .wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 1_000 >= self.lost_per_mille.load(Ordering::Relaxed)
    }
}

impl Path {
    pub async fn to(parent: SocketAddr, seed: u64, lost_per_mille: u64) -> Self {
        let near = Arc::new(UdpSocket::bind(any()).await.unwrap());
        let address = near.local_addr().unwrap();
        let lost_per_mille = Arc::new(AtomicU64::new(lost_per_mille));
        let coin = Coin {
            state: Arc::new(AtomicU64::new(seed)),
            lost_per_mille: lost_per_mille.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut far: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
            let mut back = JoinSet::new();
            let mut datagram = vec![0; DATAGRAM_BYTES];
            loop {
                let Ok((len, child)) = near.recv_from(&mut datagram).await else {
                    continue;
                };
                let far = match far.entry(child) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        let socket = Arc::new(UdpSocket::bind(any()).await.unwrap());
                        socket.connect(parent).await.unwrap();
                        back.spawn(returned(socket.clone(), near.clone(), child, coin.clone()));
                        new.insert(socket)
                    }
                };
                if coin.passes() {
                    // A full socket buffer is one more loss.
                    let _ = far.send(&datagram[..len]).await;
                }
            }
        });
        Self {
            address,
            lost_per_mille,
            _tasks: tasks,
        }
    }

    pub fn lose(&self, per_mille: u64) {
        self.lost_per_mille.store(per_mille, Ordering::Relaxed);
    }
}

async fn returned(far: Arc<UdpSocket>, near: Arc<UdpSocket>, child: SocketAddr, coin: Coin) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        if let Ok(len) = far.recv(&mut datagram).await
            && coin.passes()
        {
            let _ = near.send_to(&datagram[..len], child).await;
        }
    }
}

#[tokio::test]
async fn loss_and_a_cut_link_change_nothing_but_the_time() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    let broadcast = publish(&directory, 7);
    let source = &broadcast.track(V0).unwrap().window;
    segment(source, 7, 100, 1_000);
    open(source, 7, 101);
    let parent = Parent::start(&certs, &directory, any());
    let path = Path::to(parent.address, 42, 50).await;
    let edge = Edge::start(&certs, "edge-1", path.address);
    let near = Edge::start(&certs, "edge-2", parent.address);
    let copy = edge.broadcast().await;
    let track = within(edge.upstream.track(&copy, V0)).await.unwrap();
    let near_copy = near.broadcast().await;
    let near_track = within(near.upstream.track(&near_copy, V0)).await.unwrap();

    let more = async |from: u64, to: u64| {
        for msn in from..to {
            if msn > 101 {
                open(source, 7, msn);
            }
            for at in 0..PARTS {
                part(source, msn, at, 10_000);
                reaches(&track.window, msn, at + 1).await;
            }
            source.complete().unwrap();
        }
    };
    more(101, 106).await;
    equals(&track.window, source).await;

    path.lose(1_000);
    edge.disconnected().await;
    segment(source, 7, 106, 10_000);
    open(source, 7, 107);
    part(source, 107, 0, 10_000);
    path.lose(50);
    reaches(&track.window, 107, 1).await;
    source.complete().unwrap();
    more(108, 110).await;
    equals(&track.window, source).await;
    equals(&near_track.window, source).await;
    assert_eq!(track.window.listing(), near_track.window.listing());
    assert_eq!(same_bytes(&track.window, source, 101..107), 6 * 12);
}
