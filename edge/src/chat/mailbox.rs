//! What others leave for a connection: verdicts, a word to leave, and that there
//! is something to read. Never waits, and never grows past what the connection
//! asked for itself.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::Waker,
};

use common::chat::{MessageId, Verdict};
use parking_lot::Mutex;

/// See the module's text. One per connection, shared by `Arc`.
#[derive(Debug, Default)]
pub struct Mailbox {
    waker: Mutex<Option<Waker>>,
    /// At most as many as the connection has pending.
    verdicts: Mutex<Vec<(MessageId, Verdict)>>,
    leaving: AtomicBool,
}

impl Mailbox {
    /// The task to wake from now on.
    pub fn register(&self, waker: &Waker) {
        let mut held = self.waker.lock();
        if held.as_ref().is_none_or(|held| !held.will_wake(waker)) {
            *held = Some(waker.clone());
        }
    }

    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    pub fn decided(&self, id: MessageId, verdict: Verdict) {
        self.verdicts.lock().push((id, verdict));
        self.wake();
    }

    #[must_use]
    pub fn take_verdicts(&self) -> Vec<(MessageId, Verdict)> {
        std::mem::take(&mut *self.verdicts.lock())
    }

    /// Tells the connection to say RECONNECT and go.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.wake();
    }

    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }
}
