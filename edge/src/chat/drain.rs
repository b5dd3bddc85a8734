//! All open connections, and how they are asked to leave: one after another over
//! a window, since all that leave at once come back at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::{Shared, mailbox::Mailbox};

/// Connections of this process, each once.
#[derive(Debug, Default)]
pub(super) struct Open {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    mailboxes: HashMap<u64, Arc<Mailbox>>,
}

/// A connection's entry, removed when dropped.
#[derive(Debug)]
pub(super) struct Entry {
    inner: Arc<Mutex<Inner>>,
    number: u64,
}

impl Open {
    pub(super) fn enter(&self) -> (Entry, Arc<Mailbox>) {
        let mailbox = Arc::new(Mailbox::default());
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        inner.mailboxes.insert(number, mailbox.clone());
        drop(inner);
        let entry = Entry {
            inner: self.inner.clone(),
            number,
        };
        (entry, mailbox)
    }

    fn all(&self) -> Vec<Arc<Mailbox>> {
        self.inner.lock().mailboxes.values().cloned().collect()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.inner.lock().mailboxes.remove(&self.number);
    }
}

/// Waits for the drain, then asks connection by connection to leave, in the order
/// that a hash map gives, which is none. Who comes meanwhile is asked at the end.
pub(super) async fn spread(shared: Arc<Shared>) {
    shared.shutdown.draining().await;
    let began = Instant::now();
    let window = Duration::from_secs(shared.config.chat_drain_window);
    let all = shared.open.all();
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX).max(1);
    for (at, mailbox) in (0u32..).zip(all) {
        sleep_until(began + window * at / count).await;
        mailbox.leave();
    }
    for mailbox in shared.open.all() {
        mailbox.leave();
    }
}
