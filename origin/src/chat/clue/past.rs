//! What a room's new owner knows of what the one before decided: messages that can
//! still be answered or deleted, and requests that may come again. Limits of
//! speakers begin anew: they are of seconds.

use common::chat::{Body, Event, MessageId, Verdict};

use super::{Clue, Said};

impl Clue {
    /// Takes what was decided, oldest first.
    pub fn recollect(&mut self, events: &[Event], verdicts: &[(MessageId, Verdict)]) {
        for event in events {
            self.recollect_event(event);
        }
        for (id, verdict) in verdicts {
            self.remember(*id, verdict);
        }
    }

    fn recollect_event(&mut self, event: &Event) {
        let hide = |recent: &mut dyn Iterator<Item = &mut Said>| {
            recent.for_each(|said| said.shown = false);
        };
        match &event.body {
            Body::Post(post) => {
                let id = event.stamp.id;
                self.recall(Said {
                    id,
                    thread: post.reply.as_ref().map_or(id, |reply| reply.thread),
                    sender: post.author.user.clone(),
                    roles: post.author.roles,
                    text: post.text.clone(),
                    shown: true,
                });
            }
            Body::Cleared => hide(&mut self.recent.iter_mut()),
            Body::UserCleared { login, .. } => {
                let of = |said: &&mut Said| said.sender.login == *login;
                hide(&mut self.recent.iter_mut().filter(of));
            }
            Body::Deleted { message, .. } => {
                let of = |said: &&mut Said| said.id == *message;
                hide(&mut self.recent.iter_mut().filter(of));
            }
            _ => {}
        }
    }
}
