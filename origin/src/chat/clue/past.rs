//! What a room's new owner knows of what the one before decided: messages that can
//! still be answered or deleted, requests that may come again, and who spoke when, for
//! slow mode. Limits of speakers begin anew: they are of seconds.

use common::{
    chat::{Body, Event, MessageId, Verdict},
    live::UnixMs,
};

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

    /// Takes who spoke when before `now`, oldest first, so that slow mode holds across
    /// lives of the room. Unless these are `all` events that ever were, whoever is not
    /// among them counts as having spoken just before them: who would have to wait may
    /// not be let in, and who waits in vain waits no longer than slow mode has it.
    pub fn spoke<'a>(&mut self, now: UnixMs, past: impl IntoIterator<Item = &'a Event>, all: bool) {
        let mut first = None;
        for Event { stamp, body } in past {
            first.get_or_insert(stamp.at);
            match body {
                Body::Post(post) => self.speakers.recall(now, &post.author, stamp.at),
                Body::Held { author, .. } => self.speakers.recall(now, author, stamp.at),
                _ => {}
            }
        }
        if let Some(first) = first.filter(|_| !all) {
            self.speakers.known_from(now, first);
        }
    }
}
