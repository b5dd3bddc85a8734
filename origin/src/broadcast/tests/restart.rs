//! A killed origin and the one after it, over the same journal.

use std::sync::atomic::{AtomicUsize, Ordering};

use common::live::{BroadcastState, Phase, Stage};
use tracing_subscriber::fmt::MakeWriter;

use super::rig::*;

#[tokio::test(start_paused = true)]
async fn a_restarted_origin_goes_on_where_the_killed_one_stood() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.seconds(7).await;
    let (first, old) = (origin.shown().unwrap().announcement, origin.offered());
    let last = listing(&old, V0).segments.last().unwrap().head;
    origin.kill().await;

    pass(4).await;
    let origin = Origin::with(Some(dir.path()));
    assert!(
        origin.directory.is_empty(),
        "nothing is live without a publisher"
    );
    let mut encoder = origin.publish().await;
    encoder.until_ms(1_000).await;
    let shown = origin.shown().unwrap();
    assert_eq!(shown.announcement.broadcast, first.broadcast);
    assert!(shown.announcement.epoch > first.epoch);
    // Edges that listed media of it have viewers who wait; others hold it back
    // themselves until it can be played (H2).
    assert!(
        matches!(shown.stage, Stage::Ready(_)),
        "offered with its first media"
    );
    encoder.until_ms(4_000).await;
    let new = origin.offered();
    assert_eq!((new.id, new.plan), (old.id, old.plan));
    for track in [V0, A0] {
        // The index begins with the first segment after the restart.
        let first = listing(&new, track).segments[0].head;
        assert_eq!(first.msn, last.msn.next());
        assert!(first.flags.discontinuity);
        assert_eq!(
            first.discontinuity_sequence,
            last.discontinuity_sequence + 1
        );
        assert_eq!(first.epoch, shown.announcement.epoch);
        let before = listing(&old, track).segments.last().unwrap().head;
        assert!(first.dts > before.dts && first.init > before.init);
        let away_ms = first.program_time.0 - before.program_time.0;
        assert!((4_000..9_000).contains(&away_ms), "{away_ms}");
    }
    assert_eq!(origin.metrics.continued.get(), 1);
    // And once more, before every track has opened a segment of its own.
    origin.kill().await;
    let origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.until_ms(4_000).await;
    assert_eq!(origin.offered().id, old.id);
    assert!(listing(&origin.offered(), A0).segments[0].head.init > listing(&new, A0).hint_init);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn after_grace_a_restarted_origin_begins_anew_and_jumps_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.seconds(7).await;
    let (first, old) = (origin.shown().unwrap().announcement, origin.offered());
    let last = listing(&old, V0).segments.last().unwrap().head;
    origin.kill().await;
    pass(14).await;
    // Whatever the clock says by now.
    set_clock_back(3_600_000);
    let origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.seconds(4).await;
    let second = origin.shown().unwrap().announcement;
    assert!(second.epoch > first.epoch && second.broadcast.0 > first.broadcast.0);
    let next = listing(&origin.offered(), V0).segments[0].head;
    assert!(next.msn.0 >= last.msn.0 + 2);
    assert!(next.discontinuity_sequence >= last.discontinuity_sequence + 2);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn an_ended_broadcast_is_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.seconds(7).await;
    let old = origin.offered();
    encoder.vanish().await;
    pass(11).await;
    assert!(is_ended(&old));
    origin.kill().await;
    let origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.seconds(4).await;
    assert_ne!(origin.offered().id, old.id);
    origin.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_broadcast_keeps_its_grace_when_its_publisher_flickers() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.seconds(7).await;
    let old = origin.offered();
    origin.kill().await;
    let origin = Origin::with(Some(dir.path()));
    let mut encoder = origin.publish().await;
    encoder.until_ms(500).await;
    encoder.vanish().await;
    // Edges still show it: lost, not gone.
    assert_eq!(origin.shown().unwrap().announcement.phase, Phase::Lost);
    let mut encoder = origin.publish().await;
    encoder.until_ms(4_000).await;
    assert_eq!(origin.offered().id, old.id);
    assert_eq!(origin.offered().state(), BroadcastState::Live);
    origin.drain().await;
}

static WARNINGS: AtomicUsize = AtomicUsize::new(0);

struct CountWarnings;

impl std::io::Write for CountWarnings {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if String::from_utf8_lossy(line).contains("the journal can't be written") {
            WARNINGS.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for CountWarnings {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_costs_a_warning_and_no_media() {
    let log = tracing_subscriber::fmt().with_writer(CountWarnings);
    let _guard = tracing::subscriber::set_default(log.finish());
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let origin = Origin::with(Some(&journal));
    std::fs::remove_dir(&journal).unwrap();
    let mut encoder = origin.publish().await;
    encoder.seconds(10).await;
    assert!(listing(&origin.offered(), V0).segments.len() >= 3);
    assert!(origin.metrics.journal_errors.get() >= 3);
    assert_eq!(WARNINGS.load(Ordering::Relaxed), 1);
    // It works again, and fails again.
    std::fs::create_dir(&journal).unwrap();
    encoder.seconds(4).await;
    assert!(journal.join("demo.json").exists());
    assert_eq!(WARNINGS.load(Ordering::Relaxed), 1);
    std::fs::remove_dir_all(&journal).unwrap();
    encoder.seconds(4).await;
    assert_eq!(WARNINGS.load(Ordering::Relaxed), 2);
    assert_eq!(origin.metrics.live.get(), 1);
    origin.drain().await;
}
