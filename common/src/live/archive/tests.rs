use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use prometheus::Registry;
use tempfile::TempDir;

use super::*;

/// How many writes fail, and how.
#[derive(Debug, Clone)]
pub(super) struct Fails {
    left: Arc<AtomicU32>,
    kind: io::ErrorKind,
}

impl Fails {
    pub(super) fn check(&self) -> io::Result<()> {
        let take = |left: u32| left.checked_sub(1);
        match self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
        {
            Ok(_) => Err(self.kind.into()),
            Err(_) => Ok(()),
        }
    }
}

struct Rig {
    archive: Archive,
    writer: ArchiveWriter,
    metrics: ArchiveMetrics,
    dir: TempDir,
}

const KIB: u64 = 1024;

/// Ten segments of a KiB are above seven eighths of 11 KiB, nine are not.
fn rig(disk_bytes: u64) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let metrics = ArchiveMetrics::register(&Registry::new());
    let limits = ArchiveLimits {
        memory_bytes: 11 * KIB,
        disk: Some(Disk {
            dir: dir.path().join("past"),
            budget_bytes: disk_bytes,
        }),
    };
    let (archive, writer) = Archive::open(limits, metrics.clone()).unwrap();
    Rig {
        archive,
        writer: writer.unwrap(),
        metrics,
        dir,
    }
}

impl Rig {
    /// Kept, and the writer left to do what it has to.
    fn keep(&mut self, number: u8) -> Archived {
        let kept = self.archive.keep(segment(number));
        while self.writer.turn() {}
        kept
    }

    fn files(&self) -> usize {
        let entries = std::fs::read_dir(self.dir.path().join("past")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != "lock").count()
    }

    fn lost(&self, reason: &str) -> u64 {
        self.metrics.lost_for(reason)
    }

    fn fail(&mut self, left: u32, kind: io::ErrorKind) {
        let left = Arc::new(AtomicU32::new(left));
        self.writer.files.fails = Some(Fails { left, kind });
    }
}

fn segment(number: u8) -> Vec<Bytes> {
    vec![
        Bytes::from(vec![number; 1000]),
        Bytes::from(vec![number; 24]),
    ]
}

async fn bytes(kept: &Archived) -> Option<Vec<u8>> {
    let mut reader = kept.read().await.unwrap()?;
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    Some(all)
}

async fn gone(kept: &[Archived]) -> Vec<usize> {
    let mut gone = Vec::new();
    for (number, kept) in kept.iter().enumerate() {
        match bytes(kept).await {
            Some(bytes) => assert_eq!(bytes, [u8::try_from(number).unwrap(); 1024]),
            None => gone.push(number),
        }
    }
    gone
}

#[tokio::test]
async fn the_newest_are_in_memory_and_the_oldest_in_files() {
    let mut rig = rig(1 << 20);
    let kept: Vec<_> = (0..40).map(|number| rig.keep(number)).collect();
    assert_eq!(rig.metrics.memory(), 9 * 1024);
    assert_eq!(rig.metrics.disk(), 31 * 1024);
    assert_eq!(rig.files(), 31);
    assert_eq!(gone(&kept).await, [0usize; 0]);
}

#[tokio::test]
async fn whoever_holds_a_segment_owns_its_bytes() {
    let mut rig = rig(1 << 20);
    let mut kept: Vec<_> = (0..40).map(|number| rig.keep(number)).collect();
    let clone = kept[3].clone();
    let mut reading = kept[7].read().await.unwrap().unwrap();
    kept.clear();
    assert!(rig.writer.turn());
    assert_eq!((rig.metrics.memory(), rig.metrics.disk()), (0, 1024));
    assert_eq!(rig.files(), 1);
    assert_eq!(bytes(&clone).await.unwrap(), [3; 1024]);
    // A reader that began before goes on.
    assert_eq!(reading.next().await.unwrap().unwrap(), [7; 1024][..]);
    drop(clone);
    assert!(rig.writer.turn());
    assert_eq!((rig.files(), rig.metrics.disk()), (0, 0));
}

#[tokio::test]
async fn the_memory_budget_holds_while_the_disk_is_stuck() {
    let rig = rig(1 << 20);
    let kept: Vec<_> = (0..40)
        .map(|number| rig.archive.keep(segment(number)))
        .collect();
    assert_eq!(rig.metrics.memory(), 11 * 1024);
    assert_eq!(gone(&kept).await, (0..29).collect::<Vec<_>>());
    assert_eq!(rig.lost("memory"), 29);
}

#[tokio::test]
async fn without_a_directory_the_oldest_go() {
    let metrics = ArchiveMetrics::register(&Registry::new());
    let limits = ArchiveLimits {
        memory_bytes: 11 * KIB,
        disk: None,
    };
    let (archive, writer) = Archive::open(limits, metrics.clone()).unwrap();
    assert!(writer.is_none());
    let kept: Vec<_> = (0..14)
        .map(|number| archive.keep(segment(number)))
        .collect();
    assert_eq!(gone(&kept).await, [0, 1, 2]);
    assert_eq!(metrics.memory(), 11 * 1024);
}

#[tokio::test]
async fn the_disk_budget_takes_the_oldest_file() {
    let mut rig = rig(20 * KIB);
    let kept: Vec<_> = (0..40).map(|number| rig.keep(number)).collect();
    assert_eq!(gone(&kept).await, (0..11).collect::<Vec<_>>());
    assert_eq!((rig.files(), rig.metrics.disk()), (20, 20 * 1024));
    assert_eq!(rig.lost("disk"), 11);
    // One that is larger than all of it is not tried.
    let huge = rig.archive.keep(vec![Bytes::from(vec![0; 10_500]); 2]);
    while rig.writer.turn() {}
    assert_eq!(bytes(&huge).await, None);
    assert_eq!(rig.files(), 20);
}

#[tokio::test]
async fn a_full_disk_shrinks_the_past_from_its_far_end() {
    let mut rig = rig(1 << 20);
    let mut kept: Vec<_> = (0..20).map(|number| rig.keep(number)).collect();
    for number in 20..24 {
        rig.fail(1, io::ErrorKind::StorageFull);
        kept.push(rig.keep(number));
    }
    assert_eq!(gone(&kept).await, [0, 1, 2, 3]);
    assert_eq!(rig.files(), 11);
    // Nothing of ours is left to delete: what can't be written is lost.
    rig.fail(1_000, io::ErrorKind::StorageFull);
    kept.push(rig.keep(24));
    assert_eq!(rig.files(), 0);
    assert_eq!(gone(&kept).await, (0..16).collect::<Vec<_>>());
    assert_eq!((rig.lost("disk"), rig.lost("error")), (15, 1));
    rig.fail(0, io::ErrorKind::StorageFull);
    kept.push(rig.keep(25));
    assert_eq!(rig.files(), 1);
    assert_eq!(rig.metrics.memory(), 9 * 1024);
}

#[tokio::test]
async fn a_broken_disk_costs_what_it_was_given_and_no_more() {
    let mut rig = rig(1 << 20);
    let mut kept: Vec<_> = (0..20).map(|number| rig.keep(number)).collect();
    rig.fail(2, io::ErrorKind::PermissionDenied);
    kept.extend((20..24).map(|number| rig.keep(number)));
    assert_eq!(gone(&kept).await, [11, 12]);
    assert_eq!(rig.lost("error"), 2);
    // A file that somebody else deleted is gone, and no error.
    let mut files = std::fs::read_dir(rig.dir.path().join("past")).unwrap();
    let victim = files.find(|file| file.as_ref().unwrap().file_name() != "lock");
    std::fs::remove_file(victim.unwrap().unwrap().path()).unwrap();
    assert_eq!(gone(&kept).await.len(), 3);
}

#[tokio::test]
async fn a_segment_dropped_while_it_is_written_leaves_no_file() {
    let mut rig = rig(1 << 20);
    let kept: Vec<_> = (0..10)
        .map(|number| rig.archive.keep(segment(number)))
        .collect();
    let Some(Job::Write(id, parts)) = rig
        .writer
        .next_job(&mut rig.archive.shared.state.lock(), true)
    else {
        panic!("the oldest is to be written")
    };
    drop(kept);
    rig.writer.write(id, &parts);
    while rig.writer.turn() {}
    assert_eq!((rig.files(), rig.metrics.disk()), (0, 0));
}

#[test]
fn what_a_killed_process_left_is_deleted_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let limits = || ArchiveLimits {
        memory_bytes: KIB,
        disk: Some(Disk {
            dir: dir.path().to_owned(),
            budget_bytes: KIB,
        }),
    };
    let names = [
        "0000000000000007.past",
        "ffffffffffffffff.past",
        "7.past",
        "000000000000000g.past",
        "0000000000000007.json",
        "notes",
    ];
    for name in names {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    let metrics = || ArchiveMetrics::register(&Registry::new());
    let first = Archive::open(limits(), metrics()).unwrap();
    let left = |name: &&str| dir.path().join(name).exists();
    assert_eq!(names.iter().filter(|name| left(name)).count(), 4);
    // Two processes would delete each other's segments.
    let second = Archive::open(limits(), metrics());
    assert!(matches!(second, Err(ArchiveError::Taken(_))));
    drop(first);
    Archive::open(limits(), metrics()).unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let below = Disk {
        dir: dir.path().join("file/below"),
        budget_bytes: 1,
    };
    let below = ArchiveLimits {
        memory_bytes: 1,
        disk: Some(below),
    };
    assert!(matches!(
        Archive::open(below, metrics()),
        Err(ArchiveError::Io { .. })
    ));
}

#[test]
fn the_writer_ends_with_its_archive() {
    let rig = rig(1 << 20);
    let kept: Vec<_> = (0..30)
        .map(|number| rig.archive.keep(segment(number)))
        .collect();
    let writer = rig.writer;
    let thread = std::thread::spawn(move || writer.run());
    drop((rig.archive, kept));
    thread.join().unwrap();
}
