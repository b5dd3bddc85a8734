//! A window that lists more than it holds: an origin's archive, an edge's cache.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    live::{
        Archive, ArchiveLimits, ArchiveMetrics, Broadcast, Directory, Disk, Log, PartLookup, Place,
        Plan, TrackWindow, Window,
    },
    names::{Epoch, Msn},
};
use prometheus::Registry;
use tempfile::TempDir;

use super::{any, stage::*};
use crate::upstream::Unavailable;

/// Segments of a second; eleven seconds are recent, a minute is listed.
fn long() -> Plan {
    Plan {
        window_ms: 60_000,
        ..plan()
    }
}

/// Bytes of every chunk: a segment is 12 of them.
const LEN: usize = 1_000;

/// An origin's window and archive, as its channel's task keeps them.
struct Origin {
    directory: Arc<Directory>,
    broadcast: Arc<Broadcast>,
    archive: Archive,
    _dir: TempDir,
}

impl Origin {
    /// A hundred kB of memory; all else in files, written at once.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limits = ArchiveLimits {
            memory_bytes: 100_000,
            disk: Some(Disk {
                dir: dir.path().to_owned(),
                budget_bytes: 300_000,
            }),
        };
        let metrics = ArchiveMetrics::register(&Registry::new());
        let (archive, writer) = Archive::open(limits, metrics).unwrap();
        let writer = writer.unwrap();
        std::thread::spawn(move || writer.run());
        let directory = Arc::new(Directory::default());
        let broadcast = publish_as(&directory, 7, long());
        Self {
            directory,
            broadcast,
            archive,
            _dir: dir,
        }
    }

    fn window(&self) -> &Window {
        &self.broadcast.track(V0).unwrap().window
    }

    /// Waits for the disk, so that nothing is lost for want of memory.
    fn segments(&self, msns: std::ops::Range<u64>) {
        for msn in msns {
            segment(self.window(), 7, msn, LEN);
            for aged in self.window().aged(long().recent_ms()) {
                let kept = self.archive.keep(aged.parts);
                self.window().let_go(aged.msn, Place::Archive(kept));
            }
            while self.archive.is_behind() {
                std::thread::yield_now();
            }
        }
    }
}

/// An edge that follows the video track.
struct Viewed {
    edge: Edge,
    copy: Arc<Broadcast>,
    track: Arc<TrackWindow>,
    _parent: Parent,
}

impl Origin {
    async fn viewed(&self) -> Viewed {
        let certs = Certs::new();
        let parent = Parent::start(&certs, &self.directory, any());
        let edge = Edge::start(&certs, "edge-1", parent.address);
        let copy = edge.broadcast().await;
        let track = within(edge.upstream.track(&copy, V0)).await.unwrap();
        Viewed {
            edge,
            copy,
            track,
            _parent: parent,
        }
    }
}

fn whole(msn: u64) -> Bytes {
    let parts = (0..PARTS).flat_map(|part| (0..CHUNKS).map(move |at| (part, at)));
    let bytes = parts.flat_map(|(part, at)| chunk(msn, part, at, LEN).data);
    bytes.collect::<Vec<u8>>().into()
}

#[tokio::test]
async fn the_past_is_fetched_from_memory_and_disk_and_checked() {
    let origin = Origin::new();
    origin.segments(100..145);
    let viewed = origin.viewed().await;
    let (edge, copy, track) = (&viewed.edge, &viewed.copy, &viewed.track);
    // All is listed, and nothing is held.
    assert_eq!(track.window.listing().unwrap().segments.len(), 45);
    equals(&track.window, origin.window()).await;
    assert_eq!(track.window.look(Log::held_bytes), 0);
    let fetched = |msn| within(edge.upstream.past_segment(copy, V0, Msn(msn)));
    // 45 segments: the newest eleven in the window, eight in memory, 25 in
    // files, and the oldest gone with its file.
    for msn in [144, 134, 133, 130, 120, 110] {
        assert_eq!(fetched(msn).await.unwrap().0, whole(msn), "{msn}");
    }
    assert_eq!(fetched(100).await.unwrap_err(), Unavailable::Gone);
    let cached = metric(&edge.registry, "millrace_cache_bytes");
    assert!((72_000.0..80_000.0).contains(&cached), "{cached}");
    // Single parts of the recent ones can be cut out, of the others no more.
    let part = |msn, part| track.window.part(Epoch(7), Msn(msn), part);
    let len_bytes = u64::from(CHUNKS) * LEN as u64;
    let stretch = PartLookup::NotHeld {
        offset_bytes: len_bytes,
        len_bytes,
    };
    assert_eq!(part(136, 1), stretch);
    assert_eq!(part(120, 1), PartLookup::Unknown);
}

#[tokio::test]
async fn a_file_that_changed_does_not_pass_for_the_segment() {
    let origin = Origin::new();
    origin.segments(100..135);
    for file in std::fs::read_dir(origin._dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|of| of == "past") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[5_000] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let viewed = origin.viewed().await;
    let (edge, copy) = (&viewed.edge, &viewed.copy);
    let fetched = |msn| within(edge.upstream.past_segment(copy, V0, Msn(msn)));
    assert_eq!(fetched(105).await.unwrap_err(), Unavailable::Gone);
    assert_eq!(fetched(130).await.unwrap().0, whole(130));
    assert_eq!(
        metric(&edge.registry, "millrace_upstream_fetches_total"),
        2.0
    );
}

/// Design: an edge's window owns the segments that still list parts; older
/// bytes are in the cache, and are not asked for again.
#[tokio::test]
async fn h9_an_edges_window_owns_what_lists_parts_and_its_cache_the_rest() {
    let origin = Origin::new();
    origin.segments(100..101);
    let viewed = origin.viewed().await;
    let (edge, copy, track) = (&viewed.edge, &viewed.copy, &viewed.track);
    for msn in 101..141 {
        origin.segments(msn..msn + 1);
        reaches(&track.window, msn, PARTS).await;
        equals(&track.window, origin.window()).await;
    }
    // The last segment's completion and its settling are one step of the task.
    open(origin.window(), 7, 141);
    part(origin.window(), 141, 0, LEN);
    reaches(&track.window, 141, 1).await;
    let listing = track.window.listing().unwrap();
    for segment in listing.segments.iter().filter(|one| one.complete) {
        let held = track
            .window
            .look(|log| log.segment(segment.head.msn).unwrap().is_held());
        // With the first part of the open segment three seconds end earlier.
        let oldest_of_parts = segment.head.msn == Msn(138);
        assert_eq!(
            held,
            !segment.parts.is_empty() || oldest_of_parts,
            "{}",
            segment.head.msn
        );
    }
    assert!(listing.segments.len() > 40);
    assert_eq!(track.window.look(Log::held_bytes), 3 * 12_000 + 4_000);
    for msn in [140, 136, 120, 101] {
        let past = edge.upstream.past_segment(copy, V0, Msn(msn));
        assert_eq!(within(past).await.unwrap().0, whole(msn), "{msn}");
    }
    assert_eq!(
        metric(&edge.registry, "millrace_upstream_fetches_total"),
        0.0
    );
    let cached = metric(&edge.registry, "millrace_cache_bytes");
    assert!(cached > 300_000.0, "{cached}");
    // Before it came there was one, which it fetches.
    let past = edge.upstream.past_segment(copy, V0, Msn(100));
    assert!(within(past).await.is_ok());
    assert_eq!(
        metric(&edge.registry, "millrace_upstream_fetches_total"),
        1.0
    );
}

/// A budget of 1 MiB holds 85 segments of 12 kB: the newest, since they are what
/// viewers go back to.
#[tokio::test]
async fn the_cache_keeps_its_budget_and_the_newest() {
    let origin = Origin::new();
    origin.segments(100..101);
    let viewed = origin.viewed().await;
    let (edge, copy, track) = (&viewed.edge, &viewed.copy, &viewed.track);
    for msn in 101..301 {
        origin.segments(msn..msn + 1);
        reaches(&track.window, msn, PARTS).await;
    }
    let cached = || metric(&edge.registry, "millrace_cache_bytes");
    let within_budget = |bytes: f64| bytes > 900_000.0 && bytes <= f64::from(1 << 20);
    assert!(within_budget(cached()), "{}", cached());
    assert!(track.window.look(Log::held_bytes) <= 4 * 12_000);
    let fetches = || metric(&edge.registry, "millrace_upstream_fetches_total");
    let past = |msn| within(edge.upstream.past_segment(copy, V0, Msn(msn)));
    for msn in 220..296 {
        assert_eq!(past(msn).await.unwrap().0, whole(msn), "{msn}");
    }
    assert_eq!(fetches(), 0.0);
    // What it had to let go is asked for, and by now nobody has it.
    assert_eq!(past(150).await.unwrap_err(), Unavailable::Gone);
    assert_eq!(fetches(), 1.0);
}
