//! Writes the pages of one channel to the journal's directory, one at a time.
//!
//! In: pages, newest last. Out: files, or a metric and one warning. A disk that
//! is full, gone or stuck costs the continuation after a kill, never the
//! broadcast: the channel waits for a write no longer than [`PATIENCE`], and
//! while one is stuck the pages that follow are given up. The next one that is
//! written holds all that they did.

use std::{io, time::Duration};

use tokio::{task::JoinHandle, time::timeout};
use tracing::{info, warn};

use super::{BroadcastMetrics, journal::Page};

/// Far above what a page takes; below what a viewer would notice.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Scribe {
    /// The write under way: one, so that no older page overtakes a newer.
    writing: Option<JoinHandle<io::Result<()>>>,
    failing: bool,
}

impl Scribe {
    /// Returns when the page is on disk or has failed to get there in time.
    pub(super) async fn write(&mut self, page: Page, metrics: &BroadcastMetrics) {
        if !self.settle(metrics).await {
            metrics.journal_errors.inc();
            return;
        }
        self.writing = Some(tokio::task::spawn_blocking(move || page.write()));
        self.settle(metrics).await;
    }

    /// Waits for the write under way; `false` when it is stuck.
    pub(super) async fn settle(&mut self, metrics: &BroadcastMetrics) -> bool {
        let Some(writing) = &mut self.writing else {
            return true;
        };
        let Ok(written) = timeout(PATIENCE, writing).await else {
            self.report(Err("the disk does not answer".to_owned()));
            return false;
        };
        self.writing = None;
        let outcome = match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if outcome.is_err() {
            metrics.journal_errors.inc();
        }
        self.report(outcome);
        true
    }

    /// One line when it begins to fail and one when it works again.
    fn report(&mut self, outcome: Result<(), String>) {
        match outcome {
            Err(error) if !self.failing => {
                warn!(
                    error,
                    "the journal can't be written; a restart now would begin a new broadcast"
                );
                self.failing = true;
            }
            Ok(()) if self.failing => {
                info!("the journal is written again");
                self.failing = false;
            }
            _ => {}
        }
    }
}
