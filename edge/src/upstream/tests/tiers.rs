//! Edges under edges, and edges under two parents: what is handed on is the
//! same, and who leaves is not missed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    link::{Code, Message, Start, Subscribe, Target, priority, stream},
    live::{Abouts, Audience, Broadcast, Channel, Crowd, Directory, Hearsay, Stage, Window},
    names::{BroadcastId, ChannelName, Msn},
    quic::client_endpoint,
    tls::Role,
};

use super::{any, lossy::Path, stage::*};

/// An origin that carries one channel, with a complete and an open segment.
struct Source {
    certs: Certs,
    broadcast: Arc<Broadcast>,
    origin: Parent,
}

impl Source {
    fn new() -> Self {
        let certs = Certs::new();
        let directory = Arc::new(Directory::default());
        let broadcast = publish(&directory, 7);
        let origin = Parent::start(&certs, &directory, any());
        let source = Self {
            certs,
            broadcast,
            origin,
        };
        segment(source.window(), 7, 100, 1_000);
        open(source.window(), 7, 101);
        part(source.window(), 101, 0, 1_000);
        source
    }

    fn window(&self) -> &Window {
        &self.broadcast.track(V0).unwrap().window
    }

    fn mid(&self, stem: &str) -> (Edge, Parent) {
        let edge = Edge::start(&self.certs, stem, self.origin.address);
        let parent = Parent::of(&edge, &self.certs, any());
        (edge, parent)
    }

    /// Two mid edges and a leaf under both, which follows the track through the
    /// first one.
    async fn pair(&self) -> ([(Edge, Parent); 2], Edge, Arc<common::live::TrackWindow>) {
        let mids = [self.mid("edge-1"), self.mid("edge-2")];
        let parents = [mids[0].1.address, mids[1].1.address];
        let (leaf, track) = self.leaf(&parents).await;
        (mids, leaf, track)
    }

    async fn leaf(
        &self,
        parents: &[std::net::SocketAddr],
    ) -> (Edge, Arc<common::live::TrackWindow>) {
        let leaf = Edge::under(&self.certs, "edge-3", parents);
        leaf.has_paths(7, 2).await;
        let copy = leaf.broadcast().await;
        let track = within(leaf.upstream.track(&copy, V0)).await.unwrap();
        reaches(&track.window, 101, 1).await;
        (leaf, track)
    }

    /// Two more parts of the open segment and a whole one, each of which must
    /// have come through before the next is made.
    async fn goes_on(&self, at: &Window, msn: u64) {
        for number in [msn, msn + 1] {
            for index in u32::from(number == msn)..PARTS {
                part(self.window(), number, index, 5_000);
                reaches(at, number, index + 1).await;
            }
            self.window().complete().unwrap();
            open(self.window(), 7, number + 1);
        }
        part(self.window(), msn + 2, 0, 5_000);
        reaches(at, msn + 2, 1).await;
        equals(at, self.window()).await;
        same_bytes(at, self.window(), msn..msn + 3);
    }
}

/// Titles and counts go down the tree, again when they change, and with the link.
#[tokio::test]
async fn what_is_said_of_channels_and_who_watches_is_handed_on() {
    let certs = Certs::new();
    let (directory, abouts) = (Arc::<Directory>::default(), Arc::<Abouts>::default());
    let audience = Arc::<Audience>::default();
    publish(&directory, 7);
    let title = |title: &str| abouts.update(&channel(), |about| about.title = title.to_owned());
    let watched = |viewers| {
        let crowd = Crowd {
            viewers,
            chatters: 1,
        };
        let others = (0..600).map(|n| (ChannelName::parse(&format!("c{n}")).unwrap(), crowd));
        let all = others.chain([(channel(), crowd)]);
        audience.tell(&node("origin"), Role::Origin, all);
    };
    title("one");
    watched(5);
    let origin = Parent::serve(&certs, &directory, any(), "origin", |server| {
        server.telling(abouts.clone(), audience.clone())
    });
    let mid = Edge::start(&certs, "edge-1", origin.address);
    let (demands, demanded) = common::link::demands();
    tokio::spawn(mid.upstream.clone().serve(demanded));
    let known = mid.upstream.directory().clone();
    let mut children = None;
    let relay = Parent::serve(&certs, &known, any(), "edge-1", |server| {
        children = Some(server.children());
        server.pulling(demands, mid.upstream.sync()).telling(
            mid.upstream.abouts().clone(),
            mid.upstream.audience().clone(),
        )
    });
    let leaf = Edge::start(&certs, "edge-2", relay.address);
    let told = async |expected: &str, viewers: u32| {
        let (mut said, mut counted) = (
            leaf.upstream.abouts().changes(),
            leaf.upstream.audience().changes(),
        );
        let now = || {
            let about = leaf.upstream.abouts().get(&channel());
            let crowds = leaf.upstream.audience().snapshot();
            let all = crowds
                .values()
                .filter(|crowd| crowd.viewers == viewers)
                .count();
            about.is_some_and(|about| about.title == expected) && all == 601
        };
        while !now() {
            let changed = async {
                tokio::select! {
                    changed = said.changed() => changed,
                    changed = counted.changed() => changed,
                }
            };
            within(changed).await.unwrap();
        }
    };
    told("one", 5).await;
    title("two");
    watched(9);
    told("two", 9).await;
    let seen = children.unwrap().seen();
    assert_eq!((seen.len(), &seen[0].node), (1, &node("edge-2")));
    let up = leaf.upstream.links();
    assert_eq!((up.len(), up[0].role), (1, Role::Edge));
    assert!(up[0].received_bytes > 0 && seen[0].sent_bytes > 0);
    // Counts of who is not linked any more are nobody's; a title stays with its channel.
    relay.kill().await;
    leaf.disconnected().await;
    let mut counted = leaf.upstream.audience().changes();
    while leaf.upstream.audience().get(&channel()) != Crowd::default() {
        within(counted.changed()).await.unwrap();
    }
    assert!(leaf.upstream.abouts().get(&channel()).is_some());
}

/// Two origins that don't know each other, and an edge that is linked to both: what one
/// counts of the other's channels comes to the other, and goes with the edge.
#[tokio::test]
async fn an_edge_says_to_an_origin_what_another_counts() {
    let certs = Certs::new();
    let crowd = Crowd {
        viewers: 5,
        chatters: 2,
    };
    let (directory, hearsay) = (Arc::<Directory>::default(), Arc::<Hearsay>::default());
    publish(&directory, 7);
    let origin = Parent::serve(&certs, &directory, any(), "origin", |server| {
        server.hearing(hearsay.clone())
    });
    let audience = Arc::<Audience>::default();
    let others = ChannelName::parse("others").unwrap();
    let all = [(channel(), crowd), (others.clone(), crowd)];
    audience.tell(&node("origin-2"), Role::Origin, all);
    let other = Parent::serve(&certs, &Arc::default(), any(), "origin-2", |server| {
        server.telling(Arc::default(), audience.clone())
    });
    let until = async |expected: Option<Crowd>| {
        within(async {
            while hearsay.get(&node("origin-2"), &channel()) != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    let edge = Edge::under(&certs, "edge-1", &[origin.address, other.address]);
    until(Some(crowd)).await;
    // That one is none of the first origin's.
    let of_others = hearsay.get(&node("origin-2"), &others);
    assert_eq!(of_others, Some(Crowd::default()));
    audience.tell(
        &node("origin-2"),
        Role::Origin,
        [(channel(), Crowd::default())],
    );
    until(Some(Crowd::default())).await;
    other.kill().await;
    until(None).await;
    drop(edge);
}

fn moves(edge: &Edge) -> f64 {
    metric(&edge.registry, "millrace_upstream_moved_total")
}

#[tokio::test]
async fn a_mid_edge_hands_on_what_it_gets() {
    let source = Source::new();
    let (mid, parent) = source.mid("edge-1");
    let leaf = Edge::start(&source.certs, "edge-2", parent.address);
    let copy = leaf.broadcast().await;
    assert_eq!(copy.id, source.broadcast.id);
    let track = within(leaf.upstream.track(&copy, V0)).await.unwrap();
    source.goes_on(&track.window, 101).await;

    let known = leaf.upstream.directory().get(&channel()).unwrap();
    assert!(matches!(known.stage, Stage::Ready(_)));
    let hops = ["origin", "edge-1"].map(node);
    assert_eq!(known.announcement.hops, hops);
    assert_eq!(known.announcement.cost, 2);
    // The manifest and one track, on each link.
    let subscriptions = "millrace_link_subscriptions";
    assert_eq!(metric(&source.origin.registry, subscriptions), 2.0);
    assert_eq!(metric(&parent.registry, subscriptions), 2.0);
    drop(mid);
}

#[tokio::test]
async fn the_past_goes_through_a_mid_edge_once() {
    let source = Source::new();
    let (_mid, parent) = source.mid("edge-1");
    let leaves = ["edge-2", "edge-3"].map(|stem| Edge::start(&source.certs, stem, parent.address));
    let mut tasks = Vec::new();
    for leaf in &leaves {
        let upstream = leaf.upstream.clone();
        let copy = leaf.broadcast().await;
        within(upstream.track(&copy, V0)).await.unwrap();
        tasks.push(tokio::spawn(async move {
            upstream.past_segment(&copy, V0, Msn(100)).await.unwrap().0
        }));
    }
    let whole = source.window().look(|log| {
        let chunks = &log.segment(Msn(100)).unwrap().chunks;
        let all = chunks.iter().flat_map(|chunk| chunk.data.to_vec());
        all.collect::<Vec<u8>>()
    });
    for task in tasks {
        assert_eq!(within(task).await.unwrap(), whole);
    }
    let fetches = metric(&source.origin.registry, "millrace_link_fetches_total");
    assert_eq!(fetches, 1.0);
    let asked = metric(&parent.registry, "millrace_link_fetches_total");
    assert_eq!(asked, 2.0);
}

#[tokio::test]
async fn a_ring_of_edges_forms_no_loop() {
    let source = Source::new();
    // Each is a parent of the next and the last of the first, which has the origin.
    let ports: Vec<_> = (0..3)
        .map(|_| {
            std::net::UdpSocket::bind(any())
                .unwrap()
                .local_addr()
                .unwrap()
        })
        .collect();
    let stems = ["edge-1", "edge-2", "edge-3"];
    let under = [
        vec![source.origin.address, ports[2]],
        vec![ports[0]],
        vec![ports[1]],
    ];
    let edges: Vec<_> = (0..3)
        .map(|at| Edge::under(&source.certs, stems[at], &under[at]))
        .collect();
    let _parents: Vec<_> = (0..3)
        .map(|at| Parent::of(&edges[at], &source.certs, ports[at]))
        .collect();
    let last = &edges[2];
    let mut changes = last.upstream.directory().changes();
    while last.upstream.directory().get(&channel()).is_none() {
        within(changes.changed()).await.unwrap();
    }
    let copy = last.broadcast().await;
    let track = within(last.upstream.track(&copy, V0)).await.unwrap();
    source.goes_on(&track.window, 101).await;
    for (edge, hops) in edges.iter().zip([1, 2, 3]) {
        let known = edge.upstream.directory().get(&channel()).unwrap();
        assert_eq!(known.announcement.hops.len(), hops);
        assert!(!known.announcement.hops.contains(&edge.node));
    }
    // With the origin gone nobody finds a way round the ring.
    let address = source.origin.address;
    let shared = &edges[0].upstream;
    source.origin.kill().await;
    let mut paths = edges[0].upstream.pulled.as_ref().unwrap().shared.changes();
    let through = |edge: &Edge| {
        let shared = &edge.upstream.pulled.as_ref().unwrap().shared;
        shared.paths(&channel(), BroadcastId(7)).len()
    };
    while through(&edges[0]) > 0 {
        within(paths.changed()).await.unwrap();
    }
    assert!(
        shared.directory().get(&channel()).is_some(),
        "lost, not gone"
    );
    let _ = address;
}

#[tokio::test]
async fn a_subscription_that_leads_back_is_a_loop() {
    let source = Source::new();
    let (mid, parent) = source.mid("edge-1");
    mid.broadcast().await;
    let link = source.certs.config("edge-2");
    let dialer = client_endpoint(&link, &link.credentials().unwrap()).unwrap();
    let (connection, _) = within(dialer.connect(parent.address)).await.unwrap();
    let subscribe = Message::Subscribe(Subscribe {
        subscription: 1,
        channel: channel(),
        broadcast: None,
        target: Target::Track(V0),
        start: Start::Live,
        priority: 1,
        max_age_ms: 3_000,
        hops: vec![node("edge-1"), node("edge-2")],
    });
    let (_writer, mut reader) = stream::request(&connection, &subscribe, priority::CONTROL)
        .await
        .unwrap();
    match within(reader.expect()).await.unwrap() {
        Message::Error(refusal) => assert_eq!(refusal.code, Code::Loop),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_killed_parent_is_left_at_once() {
    let source = Source::new();
    let ([(first, parent), second], leaf, track) = source.pair().await;
    parent.kill().await;
    source.goes_on(&track.window, 101).await;
    source.goes_on(&track.window, 103).await;
    // What it announces to children of its own says so.
    let mut changes = leaf.upstream.directory().changes();
    let hops = || {
        let known = leaf.upstream.directory().get(&channel());
        known.unwrap().announcement.hops
    };
    while hops()[1] != second.0.node {
        within(changes.changed()).await.unwrap();
    }
    drop(first);
}

#[tokio::test]
async fn a_silent_parent_is_left_without_a_gap() {
    let source = Source::new();
    let mids = [source.mid("edge-1"), source.mid("edge-2")];
    let path = Path::to(mids[0].1.address, 7, 0).await;
    let (leaf, track) = source.leaf(&[path.address, mids[1].1.address]).await;
    path.lose(1_000);
    // The link still counts as open: only its silence tells.
    part(source.window(), 101, 1, 5_000);
    reaches(&track.window, 101, 2).await;
    assert!(metric(&leaf.registry, "millrace_upstream_rivals_total") >= 1.0);
    for index in 2..PARTS {
        part(source.window(), 101, index, 5_000);
    }
    source.window().complete().unwrap();
    segment(source.window(), 7, 102, 5_000);
    equals(&track.window, source.window()).await;
    same_bytes(&track.window, source.window(), 101..103);
    within(async {
        while moves(&leaf) < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Nobody asked for anything again, and nothing came in two pieces.
    assert_eq!(
        metric(&leaf.registry, "millrace_upstream_dropped_total"),
        0.0
    );
}

#[tokio::test]
async fn a_parent_that_drains_is_left_before_it_goes() {
    let source = Source::new();
    let ([first, _second], leaf, track) = source.pair().await;
    let (_edge, mut parent) = first;
    parent.drain();
    source.goes_on(&track.window, 101).await;
    within(parent.ended()).await;
    source.goes_on(&track.window, 103).await;
    assert!(moves(&leaf) >= 1.0);
    assert_eq!(
        metric(&leaf.registry, "millrace_upstream_resumed_total"),
        0.0
    );
}

#[tokio::test]
async fn a_parent_that_drains_names_another_which_is_taken() {
    let source = Source::new();
    let (second, other) = source.mid("edge-2");
    let first = Edge::start(&source.certs, "edge-1", source.origin.address);
    let (demands, demanded) = common::link::demands();
    tokio::spawn(first.upstream.clone().serve(demanded));
    let alternatives = vec![other.address.to_string()];
    let parent = Parent::serve(
        &source.certs,
        first.upstream.directory(),
        any(),
        "edge-1",
        |server| {
            let pulls = server.pulling(demands, first.upstream.sync());
            pulls.leaving_to(alternatives)
        },
    );
    let leaf = Edge::start(&source.certs, "edge-3", parent.address);
    let copy = leaf.broadcast().await;
    let track = within(leaf.upstream.track(&copy, V0)).await.unwrap();
    reaches(&track.window, 101, 1).await;
    parent.drain();
    leaf.has_paths(7, 2).await;
    source.goes_on(&track.window, 101).await;
    let mut parent = parent;
    within(parent.ended()).await;
    source.goes_on(&track.window, 103).await;
    assert_eq!(
        metric(&leaf.registry, "millrace_upstream_resumed_total"),
        0.0
    );
    drop(second);
}

#[tokio::test]
async fn a_younger_broadcast_of_another_origin_takes_the_channel() {
    let source = Source::new();
    let elsewhere = Arc::new(Directory::default());
    // Another node of the same cluster that carries the channel by itself.
    let other = Parent::serve(&source.certs, &elsewhere, any(), "edge-2", |server| server);
    let parents = [source.origin.address, other.address];
    let leaf = Edge::under(&source.certs, "edge-3", &parents);
    leaf.has_paths(7, 1).await;
    let copy = leaf.broadcast().await;
    assert_eq!(copy.id, BroadcastId(7));
    within(leaf.upstream.track(&copy, V0)).await.unwrap();

    let mut changes = leaf.upstream.directory().changes();
    let new = publish(&elsewhere, 9);
    segment(&new.track(V0).unwrap().window, 9, 200, 1_000);
    let current = loop {
        let now = leaf.broadcast().await;
        if now.id == new.id {
            break now;
        }
        within(changes.changed()).await.unwrap();
    };
    let track = within(leaf.upstream.track(&current, V0)).await.unwrap();
    equals(&track.window, &new.track(V0).unwrap().window).await;
}

/// As long as the longest GOP takes and no longer: what a child then hears is
/// that it may ask again.
#[tokio::test]
async fn a_request_for_a_channel_that_starts_waits_for_so_long() {
    let certs = Certs::new();
    let directory = Arc::new(Directory::default());
    directory.put(Channel {
        announcement: announcement(7),
        stage: Stage::Starting,
    });
    let brief = Duration::from_millis(200);
    let parent = Parent::serve(&certs, &directory, any(), "origin", |server| {
        server.playable_within(brief)
    });
    let link = certs.config("edge-1");
    let dialer = client_endpoint(&link, &link.credentials().unwrap()).unwrap();
    let (connection, _) = dialer.connect(parent.address).await.unwrap();
    let asked = Message::Subscribe(Subscribe {
        subscription: 1,
        channel: channel(),
        broadcast: None,
        target: Target::Manifest,
        start: Start::Live,
        priority: 0,
        max_age_ms: 0,
        hops: Vec::new(),
    });
    let began = Instant::now();
    let request = stream::request(&connection, &asked, priority::CONTROL);
    let (_writer, mut reader) = request.await.unwrap();
    let answer = within(reader.expect()).await.unwrap();
    assert!(
        matches!(&answer, Message::Error(refusal)
            if refusal.code == Code::Overloaded && refusal.retry_ms > 0),
        "{answer:?}"
    );
    assert!(began.elapsed() >= brief);
}
