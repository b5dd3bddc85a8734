//! One room's mind, without I/O: what may be said and done there, by whom, and in
//! which order. Fed requests and the time, it gives verdicts, numbered events, and
//! what has to be written to disk before anybody may see either.
//!
//! Invariants: offsets rise by one without gaps; a request that comes twice is
//! decided once; every table is bounded ([`MAX_BANS`], [`MAX_SPEAKERS`],
//! [`RECENT`], [`VERDICTS`], [`MAX_TERMS`], [`MAX_HELD`]).

mod bans;
mod emotes;
mod filter;
mod links;
mod moderate;
mod past;
mod raid;
mod review;
mod roles;
mod say;
mod speakers;
mod terms;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use common::{
    chat::{
        Body, Event, Login, MessageId, Network, Notice, NoticeId, Offset, Request, Roles,
        RoomEpoch, Settings, Stamp, Term, TermAction, Text, UserId, Verdict,
        limit::{Rate, Taken},
        request::{Ask, Insight},
    },
    live::UnixMs,
    names::ChannelName,
};

pub use emotes::EmoteSet;
pub use filter::Filter;
#[cfg(test)]
pub use filter::MAX_LOOSE;

use super::policy::Policy;
use bans::Bans;
#[cfg(test)]
pub use review::HELD_FOR_MS;
use review::Review;
pub use review::{Held, MAX_HELD};
use speakers::Speakers;

/// Bans and time-outs of one room that are in force.
pub const MAX_BANS: usize = 100_000;

/// Users with a role of the room's own.
pub const MAX_ROLES: usize = 4_096;

/// Blocked terms of one room, beside the operator's.
pub const MAX_TERMS: usize = 512;

/// Users whose last words are remembered for their limits.
pub const MAX_SPEAKERS: usize = 16_384;

/// Messages that can be deleted, answered or repeated.
pub const RECENT: usize = 1_024;

/// Requests that are recognised when they come again.
pub const VERDICTS: usize = 4_096;

/// Messages of all users together: beyond it nobody can read along anyway.
const ROOM_MESSAGES: Rate = Rate {
    most: 200,
    span_ms: 1_000,
};

/// Commands of one user: a bot that clears up after an attack, not one that makes
/// the disk write without end.
const COMMANDS: Rate = Rate {
    most: 200,
    span_ms: 30_000,
};

/// Why somebody may not speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Known where the user ever spoke here.
    pub user: Option<UserId>,
    /// `None`: for good.
    pub until: Option<UnixMs>,
    /// Everybody of this network too.
    pub network: Option<Network>,
    pub by: Login,
    pub reason: Option<Text>,
    pub at: UnixMs,
}

impl Ban {
    fn is_over(&self, now: UnixMs) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What must be on disk before the decision is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Ban(Login, Ban),
    Unban(Login),
    /// Without any, the user has no role of the room's own.
    Roles(Login, Roles),
    Settings(Settings),
    /// `None`: blocked no longer.
    Term(Term, Option<TermAction>),
    /// A message waits for a moderator.
    Held(Box<Held>),
    /// It does so no more.
    LookedAt(MessageId),
}

/// What the store knows of a room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    pub bans: HashMap<Login, Ban>,
    pub roles: HashMap<Login, Roles>,
    pub settings: Settings,
    pub terms: BTreeMap<Term, TermAction>,
    /// Messages that wait for a moderator.
    pub held: HashMap<MessageId, Held>,
    /// The last of what earlier lives of the room said, oldest first.
    pub past: Vec<Event>,
}

/// What a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    pub events: Vec<Event>,
    pub changes: Vec<Change>,
}

/// See [`Clue::held`]; all but `waiting` since the room opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldCounts {
    pub waiting: usize,
    pub expired: u64,
    pub turned_away: u64,
}

/// A message that was said lately.
#[derive(Debug, Clone)]
struct Said {
    id: MessageId,
    /// The first message of its thread.
    thread: MessageId,
    sender: common::chat::User,
    roles: Roles,
    text: Text,
    /// Still to be seen.
    shown: bool,
}

/// See the module's text.
#[derive(Debug)]
pub struct Clue {
    room: ChannelName,
    epoch: RoomEpoch,
    next: Offset,
    bans: Bans,
    roles: HashMap<Login, Roles>,
    settings: Settings,
    /// The room's own terms.
    terms: Filter,
    review: Review,
    /// The operator's word.
    policy: Arc<Policy>,
    speakers: Speakers,
    /// In whose names operators' tools ask: of no one who speaks here.
    tools: Speakers,
    recent: VecDeque<Said>,
    all: Taken,
    raids: Taken,
    arrivals: Taken,
    /// Who reads along, as edges last told.
    readers: u32,
    verdicts: HashMap<MessageId, Verdict>,
    decided: VecDeque<MessageId>,
}

impl Clue {
    #[must_use]
    pub fn new(room: ChannelName, epoch: RoomEpoch, known: Known) -> Self {
        let mut clue = Self {
            room,
            epoch,
            next: Offset(0),
            bans: Bans::new(known.bans),
            roles: known.roles,
            settings: known.settings,
            terms: Filter::of(known.terms),
            review: Review::default(),
            policy: Arc::default(),
            speakers: Speakers::default(),
            tools: Speakers::default(),
            recent: VecDeque::new(),
            all: Taken::default(),
            raids: Taken::default(),
            arrivals: Taken::default(),
            readers: 0,
            verdicts: HashMap::new(),
            decided: VecDeque::new(),
        };
        for event in &known.past {
            clue.remember_past(event);
        }
        // Whoever asks again for one of them is told the same.
        for id in known.held.keys() {
            clue.remember(*id, &Verdict::Refused(say::held_notice()));
        }
        clue.review = Review::of(known.held.into_values());
        clue
    }

    /// What an earlier life said can be answered and deleted, is no news where
    /// only news may be said, and is not said again for who asks again.
    fn remember_past(&mut self, event: &Event) {
        let Event { stamp, body } = event;
        let mut verdict = Verdict::Said(*stamp);
        match body {
            Body::Post(post) => {
                let thread = post.reply.as_ref().map_or(stamp.id, |reply| reply.thread);
                self.recall(Said {
                    id: stamp.id,
                    thread,
                    sender: post.author.user.clone(),
                    roles: post.author.roles,
                    text: post.text.clone(),
                    shown: true,
                });
            }
            Body::Cleared => self.hide(|_| true),
            Body::UserCleared { login, seconds, .. } => {
                self.hide(|said| said.sender.login == *login);
                verdict = Verdict::Done(moderate::ban_notice(login, *seconds));
            }
            Body::Deleted { message, login, .. } => {
                self.hide(|said| said.id == *message);
                verdict = Verdict::Done(moderate::delete_notice(login));
            }
            Body::UserNotice(_) => {}
            _ => return,
        }
        if !self.verdicts.contains_key(&stamp.id) {
            self.remember(stamp.id, &verdict);
        }
    }

    fn hide(&mut self, which: impl Fn(&Said) -> bool) {
        for said in &mut self.recent {
            said.shown &= !which(said);
        }
    }

    /// The number of the next event.
    #[must_use]
    pub const fn next(&self) -> Offset {
        self.next
    }

    /// Decides and numbers. What it returns has happened as far as this room's
    /// mind goes: the caller writes the changes, then tells events and verdict.
    pub fn decide(&mut self, now: UnixMs, request: &Request) -> Decision {
        if let Some(verdict) = self.verdicts.get(&request.id) {
            return Decision {
                verdict: verdict.clone(),
                events: Vec::new(),
                changes: Vec::new(),
            };
        }
        self.review.expire(now);
        self.bans.expire(now);
        let sender = &request.sender;
        let roles = self.roles_of(sender);
        let mut decision = match &request.ask {
            Ask::Say {
                text,
                action,
                reply_to,
            } => self.say(now, request.id, sender, roles, text, *action, *reply_to),
            Ask::Do(command) => self.moderate(now, request.id, sender, roles, command),
            Ask::Arrive { from, viewers } => {
                self.arrive(now, request.id, sender, roles, from, *viewers)
            }
        };
        // Alone it is no reason to write anything. First of all, so that who reads it
        // again has the place that there was for what is new.
        if !(decision.events.is_empty() && decision.changes.is_empty()) {
            let mut changes = self.gone();
            changes.append(&mut decision.changes);
            decision.changes = changes;
        }
        self.remember(request.id, &decision.verdict);
        decision
    }

    /// Time passes, and so does what waits for it: what need not be kept any more.
    pub fn tick(&mut self, now: UnixMs) -> Vec<Change> {
        self.review.expire(now);
        self.bans.expire(now);
        self.gone()
    }

    /// Nobody reads the room any more, anywhere: what need not be kept then.
    pub fn abandon(&mut self) -> Vec<Change> {
        self.review.give_up();
        self.gone()
    }

    /// What time has ended.
    fn gone(&mut self) -> Vec<Change> {
        let held = self.review.take_gone();
        let held = held.into_iter().map(Change::LookedAt);
        let bans = self.bans.take_gone();
        held.chain(bans.into_iter().map(Change::Unban)).collect()
    }

    /// How many read along: what a raid brings.
    pub const fn watched_by(&mut self, readers: u32) {
        self.readers = readers;
    }

    /// What waits for a moderator, and what did so in vain: expired, or turned
    /// away because too much waited.
    #[must_use]
    pub fn held(&self) -> HeldCounts {
        HeldCounts {
            waiting: self.review.len(),
            expired: self.review.expired(),
            turned_away: self.review.turned_away(),
        }
    }

    /// The room as its moderators may see it; of its bans at most `most`, those of
    /// logins after `after`.
    #[must_use]
    pub fn insight(&self, now: UnixMs, after: Option<&Login>, most: usize) -> Insight {
        let (bans, bans_in_all) = self.bans.seen(now, after, most);
        let mut roles = self.roles();
        roles.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let terms = self.terms.terms().iter();
        Insight {
            settings: self.settings,
            bans,
            bans_in_all,
            roles,
            terms: terms
                .map(|(term, action)| (term.clone(), *action))
                .collect(),
            held: self.review.seen(),
        }
    }

    fn remember(&mut self, id: MessageId, verdict: &Verdict) {
        if self.decided.len() == VERDICTS
            && let Some(oldest) = self.decided.pop_front()
        {
            self.verdicts.remove(&oldest);
        }
        self.decided.push_back(id);
        self.verdicts.insert(id, verdict.clone());
    }

    fn stamp(&mut self, now: UnixMs, id: MessageId) -> Stamp {
        let offset = self.next;
        self.next = offset.next();
        Stamp {
            epoch: self.epoch,
            offset,
            id,
            at: now,
            program: now,
        }
    }

    /// An event of a request that is no message.
    fn event(&mut self, now: UnixMs, id: MessageId, body: Body) -> Event {
        let stamp = self.stamp(now, id);
        Event { stamp, body }
    }
}

fn done(notice: Notice) -> Decision {
    Decision {
        verdict: Verdict::Done(notice),
        events: Vec::new(),
        changes: Vec::new(),
    }
}

fn refused(id: NoticeId, text: impl Into<String>) -> Decision {
    told_no(Notice::new(id, text))
}

fn told_no(why: Notice) -> Decision {
    Decision {
        verdict: Verdict::Refused(why),
        events: Vec::new(),
        changes: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
