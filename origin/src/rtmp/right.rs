//! What a publisher publishes by, and that it is taken back: a key that goes ends its
//! publish, whoever changed the file.

use std::sync::Arc;

use tokio::sync::watch;

use crate::keys::{Grant, KeyRing};

/// What a publisher is told whose key went.
pub(super) const REVOKED: &str = "this stream key was revoked";

/// By which it publishes, for as long as the key is in force.
pub(super) struct Right {
    pub(super) grant: Grant,
    keys: Arc<KeyRing>,
    changes: watch::Receiver<u64>,
}

impl Right {
    /// Changes are looked at from before the key is.
    pub(super) fn of(
        keys: &Arc<KeyRing>,
        grant: impl Fn(&KeyRing) -> Option<Grant>,
    ) -> Option<Self> {
        let (keys, changes) = (keys.clone(), keys.changes());
        let grant = grant(&keys)?;
        Some(Self {
            grant,
            keys,
            changes,
        })
    }

    /// Resolves once the key does not open its channel any more. Cancel-safe.
    pub(super) async fn lost(&mut self) {
        loop {
            if self.changes.changed().await.is_err() {
                // The ring lives here: this can't be.
                return std::future::pending().await;
            }
            if !self.keys.holds(&self.grant) {
                return;
            }
        }
    }
}
