//! A parent and edges in one process, over real QUIC on loopback, with a
//! packager that is a function.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    certs::{CertsArgs, run},
    link::{Hello, LinkServer, LinkServerMetrics, MAX_CHUNK_BYTES, demands},
    live::{
        Announcement, Broadcast, Channel, Chunk, Directory, Hint, PartEnd, PartFlags, Phase, Plan,
        Position, Record, SegmentFlags, SegmentHead, SegmentState, Stage, Track, UnixMs, Version,
        Window,
    },
    media::{Ticks, Timescale},
    names::{BroadcastId, ChannelName, Epoch, InitId, Msn, NodeId, TrackName},
    quic::{Congestion, LinkBudget, LinkConfig, Switch, client_endpoint, server_endpoint},
    shutdown::Shutdown,
    tls::Role,
};
use prometheus::Registry;
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
    task::JoinHandle,
};

use crate::upstream::{Upstream, UpstreamConfig, UpstreamMetrics};

pub const V0: TrackName = TrackName::video(0);
pub const A0: TrackName = TrackName::audio(0);

/// A third of a second, three to a segment.
pub const PART: Ticks = Ticks(40_000);
pub const PARTS: u32 = 3;
pub const CHUNKS: u32 = 4;

pub fn channel() -> ChannelName {
    ChannelName::parse("demo").unwrap()
}

pub fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

pub struct Certs(TempDir);

impl Certs {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args = CertsArgs {
            out: dir.path().to_owned(),
            origins: vec![node("origin"), node("origin-2")],
            edges: vec![node("edge-1"), node("edge-2"), node("edge-3")],
            web_names: Vec::new(),
            force: false,
        };
        run(&args).unwrap();
        Self(dir)
    }

    pub fn config(&self, stem: &str) -> LinkConfig {
        config(self.0.path(), stem)
    }
}

pub fn hello(stem: &str) -> Hello {
    Hello {
        node: node(stem),
        role: Role::Edge,
        region: String::new(),
        location: String::new(),
        cost: 1,
        max_chunk_bytes: u32::try_from(MAX_CHUNK_BYTES).unwrap(),
    }
}

fn config(dir: &Path, stem: &str) -> LinkConfig {
    LinkConfig {
        link_ca: dir.join("ca.pem"),
        link_cert: dir.join(format!("{stem}.pem")),
        link_key: dir.join(format!("{stem}.key")),
        link_congestion: Congestion::Bbr,
        link_gso: Switch::On,
        link_budget: LinkBudget::default(),
    }
}

/// A node that serves a directory over the link.
pub struct Parent {
    pub address: SocketAddr,
    pub registry: Registry,
    shutdown: Shutdown,
    task: JoinHandle<()>,
    runtime: Option<Runtime>,
}

impl Drop for Parent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Parent {
    pub fn start(certs: &Certs, directory: &Arc<Directory>, listen: SocketAddr) -> Self {
        Self::serve(certs, directory, listen, "origin", |server| server)
    }

    /// An edge that is a parent; it ends with what it holds.
    pub fn of(edge: &Edge, certs: &Certs, listen: SocketAddr) -> Self {
        let (demands, demanded) = demands();
        let directory = edge.upstream.directory().clone();
        tokio::spawn(edge.upstream.clone().serve(demanded));
        let stem = edge.node.as_str();
        let synced = edge.upstream.sync();
        let ingests = edge.upstream.ingests().clone();
        Self::serve(certs, &directory, listen, stem, |server| {
            server.pulling(demands, synced).telling_of(ingests)
        })
    }

    pub fn serve(
        certs: &Certs,
        directory: &Arc<Directory>,
        listen: SocketAddr,
        stem: &str,
        with: impl FnOnce(LinkServer) -> LinkServer,
    ) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let registry = Registry::new();
        let link = certs.config(stem);
        let listener =
            server_endpoint(listen, &link, &link.credentials().unwrap(), &registry).unwrap();
        let address = listener.local_addr().unwrap();
        let hello = Hello {
            role: if stem == "origin" {
                Role::Origin
            } else {
                Role::Edge
            },
            ..hello(stem)
        };
        let metrics = LinkServerMetrics::register(&registry);
        let server = with(LinkServer::new(hello, directory.clone(), metrics));
        let shutdown = Shutdown::new();
        let task = runtime.spawn(server.run(listener, shutdown.clone()));
        drop(entered);
        Self {
            address,
            registry,
            shutdown,
            task,
            runtime: Some(runtime),
        }
    }

    /// As kill -9 does: nobody is told, and the port is free again.
    pub async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        let killed = move || runtime.shutdown_timeout(Duration::from_secs(30));
        tokio::task::spawn_blocking(killed).await.unwrap();
    }

    pub fn drain(&self) {
        self.shutdown.drain();
    }

    pub async fn ended(&mut self) {
        (&mut self.task).await.unwrap();
    }
}

pub struct Edge {
    pub node: NodeId,
    pub upstream: Arc<Upstream>,
    pub registry: Registry,
}

impl Edge {
    pub fn start(certs: &Certs, stem: &str, parent: SocketAddr) -> Self {
        Self::under(certs, stem, &[parent])
    }

    pub fn under(certs: &Certs, stem: &str, parents: &[SocketAddr]) -> Self {
        Self::warm(certs, stem, parents, 2)
    }

    /// That keeps so many links.
    pub fn warm(certs: &Certs, stem: &str, parents: &[SocketAddr], links: u8) -> Self {
        let parents = parents.iter().map(ToString::to_string).collect();
        Self::pulling(certs, stem, watch::channel(parents).1, 1 << 30, links)
    }

    /// Whose windows may hold so many bytes.
    pub fn holding(certs: &Certs, stem: &str, parent: SocketAddr, window_bytes: u64) -> Self {
        let (_, parents) = watch::channel(vec![parent.to_string()]);
        Self::of(certs, stem, parents, window_bytes)
    }

    /// Whose parents may change.
    pub fn of(
        certs: &Certs,
        stem: &str,
        parents: watch::Receiver<Vec<String>>,
        window_bytes: u64,
    ) -> Self {
        Self::pulling(certs, stem, parents, window_bytes, 2)
    }

    fn pulling(
        certs: &Certs,
        stem: &str,
        parents: watch::Receiver<Vec<String>>,
        window_bytes: u64,
        warm_parents: u8,
    ) -> Self {
        let registry = Registry::new();
        let link = certs.config(stem);
        let dialer = client_endpoint(&link, &link.credentials().unwrap()).unwrap();
        let config = UpstreamConfig {
            parents: Vec::new(),
            parents_file: None,
            warm_parents,
            window_bytes,
            cache_bytes: 1 << 20,
        };
        let upstream = Upstream::start(
            &config,
            parents,
            hello(stem),
            dialer,
            Arc::new(Directory::default()),
            UpstreamMetrics::register(&registry),
        );
        Self {
            node: node(stem),
            upstream: Arc::new(upstream),
            registry,
        }
    }

    pub async fn disconnected(&self) {
        let shared = &self.upstream.pulled.as_ref().unwrap().shared;
        let mut changes = shared.changes();
        while shared.is_connected() {
            within(changes.changed()).await.unwrap();
        }
    }

    pub async fn connected(&self) {
        let shared = &self.upstream.pulled.as_ref().unwrap().shared;
        let mut changes = shared.changes();
        while !shared.is_connected() {
            within(changes.changed()).await.unwrap();
        }
    }

    /// Waits until so many parents have told what they carry.
    pub async fn has_paths(&self, broadcast: u64, count: usize) {
        let shared = &self.upstream.pulled.as_ref().unwrap().shared;
        let mut changes = shared.changes();
        while shared.paths(&channel(), BroadcastId(broadcast)).len() < count {
            within(changes.changed()).await.unwrap();
        }
    }

    pub async fn broadcast(&self) -> Arc<Broadcast> {
        self.upstream.until_synced().await;
        within(self.upstream.broadcast(&channel())).await.unwrap()
    }
}

pub fn metric(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let Some(family) = families.iter().find(|family| family.name() == name) else {
        return 0.0;
    };
    let value = |metric: &prometheus::proto::Metric| {
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    };
    family.get_metric().iter().map(value).sum()
}

/// A hang is a failure that names itself.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("within 30 s")
}

pub fn plan() -> Plan {
    Plan {
        target_duration_s: 1,
        part_hold_back_ms: 1_200,
        window_ms: 8_000,
    }
}

pub fn track(name: TrackName) -> Track {
    Track {
        name,
        codec: "avc1.42c01f".to_owned(),
        timescale: Timescale::VIDEO,
        part_target: PART,
        bandwidth_bps: 3_000_000,
        average_bandwidth_bps: 2_000_000,
        size: Some((1280, 720)),
        frame_rate: Some((30, 1)),
        channels: None,
        sample_rate_hz: None,
    }
}

/// A broadcast with two tracks, in the directory and ready.
pub fn publish(directory: &Directory, id: u64) -> Arc<Broadcast> {
    publish_as(directory, id, plan())
}

pub fn publish_as(directory: &Directory, id: u64, plan: Plan) -> Arc<Broadcast> {
    publish_to(directory, channel(), id, plan)
}

pub fn publish_to(
    directory: &Directory,
    channel: ChannelName,
    id: u64,
    plan: Plan,
) -> Arc<Broadcast> {
    let broadcast = Arc::new(Broadcast::new(
        channel.clone(),
        BroadcastId(id),
        plan,
        vec![track(V0), track(A0)],
    ));
    for track in &broadcast.tracks {
        let name = track.track.name;
        track.add_init(InitId(0), Bytes::from(format!("init of {name}, {id}")));
    }
    directory.put(Channel {
        announcement: Announcement {
            channel,
            ..announcement(id)
        },
        stage: Stage::Ready(broadcast.clone()),
    });
    broadcast
}

pub fn announcement(id: u64) -> Announcement {
    Announcement {
        channel: channel(),
        broadcast: BroadcastId(id),
        epoch: Epoch(id),
        phase: Phase::Live,
        hops: Vec::new(),
        cost: 0,
        grace_ms: Announcement::USUAL_GRACE_MS,
    }
}

pub fn head(epoch: u64, msn: u64) -> SegmentHead {
    SegmentHead {
        epoch: Epoch(epoch),
        msn: Msn(msn),
        init: InitId(0),
        dts: Ticks(msn * u64::from(PARTS) * PART.0),
        program_time: UnixMs(1_700_000_000_000 + msn * 1_000),
        discontinuity_sequence: 1,
        flags: SegmentFlags::default(),
    }
}

/// Bytes that no other chunk has.
pub fn chunk(msn: u64, part: u32, chunk: u32, len: usize) -> Chunk {
    let seed = crc32c::crc32c(format!("{msn}.{part}.{chunk}").as_bytes());
    let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(len).collect();
    Chunk {
        duration: Ticks(PART.0 / u64::from(CHUNKS)),
        data: bytes.into(),
    }
}

pub fn part_end(msn: u64, part: u32) -> PartEnd {
    let next = if part + 1 < PARTS {
        Hint {
            msn: Msn(msn),
            part: part + 1,
        }
    } else {
        Hint {
            msn: Msn(msn + 1),
            part: 0,
        }
    };
    PartEnd {
        duration: PART,
        flags: PartFlags {
            independent: part == 0,
            gap: false,
        },
        hint: next,
        siblings: [Position {
            track: A0,
            msn: Msn(msn),
            part,
        }]
        .into(),
    }
}

pub fn open(window: &Window, epoch: u64, msn: u64) {
    window.apply(Record::Open(head(epoch, msn))).unwrap();
}

pub fn part(window: &Window, msn: u64, part: u32, len: usize) {
    for at in 0..CHUNKS {
        window
            .apply(Record::Chunk(chunk(msn, part, at, len)))
            .unwrap();
    }
    window.apply(Record::Part(part_end(msn, part))).unwrap();
}

pub fn segment(window: &Window, epoch: u64, msn: u64, len: usize) {
    open(window, epoch, msn);
    for at in 0..PARTS {
        part(window, msn, at, len);
    }
    window.complete().unwrap();
}

/// Waits until the window's version is this or a later one.
pub async fn reaches(window: &Window, msn: u64, parts: u32) {
    let there = |version: &Option<Version>| {
        version.is_some_and(|version| (version.msn, version.parts) >= (Msn(msn), parts))
    };
    within(window.versions().wait_for(there)).await.unwrap();
}

pub async fn equals(child: &Window, parent: &Window) {
    let wanted = parent.look(|log| log.version());
    within(child.versions().wait_for(|version| *version == wanted))
        .await
        .unwrap();
    assert_eq!(child.listing(), parent.listing());
}

/// Every chunk that the child was sent is the parent's; how many there are. What
/// it let go since was held against its sums before.
pub fn same_bytes(child: &Window, parent: &Window, msns: impl Iterator<Item = u64>) -> usize {
    let looked = |window: &Window, msn| {
        window.look(|log| {
            let segment = log.segment(Msn(msn)).unwrap();
            let held = segment.is_held().then(|| segment.chunks.clone());
            (segment.state, held)
        })
    };
    let mut count = 0;
    for msn in msns {
        let (here, there) = (looked(child, msn), looked(parent, msn));
        assert_eq!(here.0, there.0, "{msn}");
        match (here.1, there.1) {
            (Some(held), theirs) => assert!(Some(held) == theirs, "{msn}"),
            (None, _) => assert!(matches!(here.0, SegmentState::Complete(_)), "{msn}"),
        }
        count += parent.look(|log| log.segment(Msn(msn)).unwrap().chunks.len());
    }
    count
}

/// Waits until the window holds so many chunks of a segment.
pub async fn holds(window: &Window, msn: u64, chunks: usize) {
    let mut appended = window.appended();
    let there = || {
        window.look(|log| {
            log.segment(Msn(msn))
                .is_some_and(|segment| segment.chunks.len() >= chunks)
        })
    };
    while !there() {
        within(appended.changed()).await.unwrap();
    }
}
