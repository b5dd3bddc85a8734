//! What a room's new owner knows of what the one before decided: messages that can
//! still be answered or deleted, and requests that may come again. Limits of
//! speakers begin anew: they are of seconds.

use common::chat::{Event, MessageId, Verdict};

use super::Clue;

impl Clue {
    /// Takes what was decided, oldest first.
    pub fn recollect(&mut self, events: &[Event], verdicts: &[(MessageId, Verdict)]) {
        // Before the events, which tell less of them.
        for (id, verdict) in verdicts {
            self.remember(*id, verdict);
        }
        for event in events {
            self.remember_past(event);
        }
    }
}
