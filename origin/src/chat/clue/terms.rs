//! Commands about what is looked at before it is said: blocked terms, permits for
//! links, messages held for review.

use common::{
    chat::{Body, Login, MessageId, Notice, NoticeId, Term, TermAction},
    live::UnixMs,
};

use super::{Change, Clue, Decision, Filter, MAX_TERMS, done, moderate::Deed, refused};

/// Bytes of terms that one answer lists.
const LISTED_BYTES: usize = 3_000;

impl Clue {
    pub(super) fn add_term(&mut self, term: &Term, action: TermAction) -> Decision {
        let terms = self.terms.terms();
        if terms.len() >= MAX_TERMS && !terms.contains_key(term) || !self.terms.has_room_for(term) {
            return refused(NoticeId::TooMany, "This room has too many blocked terms.");
        }
        let mut terms = terms.clone();
        terms.insert(term.clone(), action);
        self.terms = Filter::of(terms);
        let text = match action {
            TermAction::Refuse => {
                format!("Messages with \u{201c}{term}\u{201d} are refused from now on.")
            }
            TermAction::Hold => {
                format!("Messages with \u{201c}{term}\u{201d} are held for review from now on.")
            }
        };
        Decision {
            changes: vec![Change::Term(term.clone(), Some(action))],
            ..done(Notice::new(NoticeId::BlockedTermAdded, text))
        }
    }

    pub(super) fn remove_term(&mut self, term: &Term) -> Decision {
        let mut terms = self.terms.terms().clone();
        if terms.remove(term).is_none() {
            let text = format!("\u{201c}{term}\u{201d} is not blocked in this room.");
            return refused(NoticeId::BlockedTermNotFound, text);
        }
        self.terms = Filter::of(terms);
        let text = format!("\u{201c}{term}\u{201d} is no longer blocked.");
        Decision {
            changes: vec![Change::Term(term.clone(), None)],
            ..done(Notice::new(NoticeId::BlockedTermRemoved, text))
        }
    }

    /// For who moderates alone: a list of insults is no reading for everybody.
    pub(super) fn list_terms(&self) -> Decision {
        let terms = self.terms.terms();
        if terms.is_empty() {
            return done(Notice::new(
                NoticeId::BlockedTerms,
                "No terms are blocked in this room.",
            ));
        }
        let mut listed = String::new();
        let mut left = terms.len();
        for (term, action) in terms {
            if listed.len() > LISTED_BYTES {
                break;
            }
            let held = match action {
                TermAction::Hold => " (held)",
                TermAction::Refuse => "",
            };
            let comma = if listed.is_empty() { "" } else { ", " };
            listed.push_str(&format!("{comma}{term}{held}"));
            left -= 1;
        }
        if left > 0 {
            listed.push_str(&format!(", and {left} more"));
        }
        done(Notice::new(
            NoticeId::BlockedTerms,
            format!("Blocked terms: {listed}"),
        ))
    }

    pub(super) fn permit(&mut self, now: UnixMs, login: &Login, seconds: u32) -> Decision {
        if !self.review.permit(now, login, seconds) {
            return refused(NoticeId::TooMany, "Too many users may post links just now.");
        }
        let text = format!("{login} may post links for {seconds} seconds.");
        done(Notice::new(NoticeId::PermitSuccess, text))
    }

    pub(super) fn approve(&mut self, deed: &Deed<'_>, message: MessageId) -> Decision {
        let Some(held) = self.review.take(message) else {
            return not_held();
        };
        let roles = self.roles_of(&held.sender);
        if self.not_banned(deed.now, &held.sender, roles).is_err() {
            // A ban of the same user under another name, or of the network.
            return not_held();
        }
        let emotes = self.policy.emotes.find(held.text.as_str()).spans;
        let event = self.utter(deed.now, &held, roles, emotes);
        let text = format!("The message of {} was approved.", held.sender.user.login);
        Decision {
            events: vec![event],
            ..done(Notice::new(NoticeId::HeldApproved, text))
        }
    }

    pub(super) fn deny(&mut self, deed: &Deed<'_>, message: MessageId) -> Decision {
        let Some(held) = self.review.take(message) else {
            return not_held();
        };
        let login = held.sender.user.login;
        let text = format!("The message of {login} was denied.");
        let body = Body::Denied {
            message,
            login,
            by: deed.sender.user.login.clone(),
        };
        let event = self.event(deed.now, deed.id, body);
        Decision {
            events: vec![event],
            ..done(Notice::new(NoticeId::HeldDenied, text))
        }
    }
}

fn not_held() -> Decision {
    let text = "No such message waits for review; it may have been looked at or have expired.";
    refused(NoticeId::BadHeldMessage, text)
}
