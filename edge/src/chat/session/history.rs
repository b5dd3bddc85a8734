//! CHATHISTORY (IRCv3 draft/chathistory): the messages that the room's feed still
//! holds at this edge, without those that moderators hid.

use std::{collections::HashSet, sync::Arc};

use common::chat::{Body, Login, MessageId, Posted, irc::Line};

use super::{Replies, Session};
use crate::chat::show::{self, Channel, Time};

/// Messages of one answer, as ISUPPORT tells.
const MOST: usize = 100;

/// Bytes of one answer, whatever its messages hold.
const MOST_BYTES: usize = 48 * 1024;

/// Where a client says that it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reference {
    Any,
    Id(MessageId),
    /// As [`Time`] prints it, which compares as time does.
    Time(String),
}

impl Reference {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once('=') {
            None if text == "*" => Some(Self::Any),
            Some(("msgid", id)) => MessageId::parse(id).ok().map(Self::Id),
            Some(("timestamp", time)) if time.len() == 24 => Some(Self::Time(time.to_owned())),
            _ => None,
        }
    }

    /// How many of `posts` are before it, and how many are not after it.
    fn split(&self, posts: &[Arc<Posted>]) -> Option<(usize, usize)> {
        match self {
            Self::Any => Some((posts.len(), posts.len())),
            Self::Id(id) => {
                let at = posts
                    .iter()
                    .position(|posted| posted.event.stamp.id == *id)?;
                Some((at, at + 1))
            }
            Self::Time(time) => {
                let text = |posted: &Arc<Posted>| Time(posted.event.stamp.at).to_string();
                let before = posts
                    .iter()
                    .take_while(|posted| text(posted) < *time)
                    .count();
                let not_after = posts
                    .iter()
                    .take_while(|posted| text(posted) <= *time)
                    .count();
                Some((before, not_after))
            }
        }
    }
}

impl Session {
    pub(super) fn history(&mut self, line: &Line<'_>, replies: &mut Replies) {
        let fail = |session: &Self, code: &str, text: &str, replies: &mut Replies| {
            let server = &session.shared.config.chat_server_name;
            let command = line.params.get(0).unwrap_or("*");
            replies.add(|line| {
                line.command(server, "FAIL")
                    .param("CHATHISTORY")
                    .param(code)
                    .param(command)
                    .trailing(text);
            });
        };
        let verb = line.params.get(0).unwrap_or_default().to_ascii_uppercase();
        if verb == "TARGETS" {
            // Rooms alone have a history, and the client knows those it is in.
            self.batch(None, Vec::new(), replies);
            return;
        }
        let room = line.params.get(1).and_then(Self::room_name);
        let joined = room.as_ref().and_then(|room| {
            self.joined
                .iter()
                .find(|joined| joined.seat.room.name() == room)
        });
        let Some(joined) = joined else {
            fail(self, "INVALID_TARGET", "Join the channel first.", replies);
            return;
        };
        let params = line.params.as_slice().get(2..).unwrap_or_default();
        let Some((limit, references)) = params.split_last() else {
            fail(self, "INVALID_PARAMS", "Not enough parameters.", replies);
            return;
        };
        let references: Option<Vec<_>> = references
            .iter()
            .map(|text| Reference::parse(text))
            .collect();
        let (Ok(limit), Some(references)) = (limit.parse::<usize>(), references) else {
            fail(
                self,
                "INVALID_PARAMS",
                "A reference or a limit has no meaning.",
                replies,
            );
            return;
        };
        let room = joined.seat.room.clone();
        let posts = shown(room.feed.held());
        let Some(found) = select(&verb, &references, limit.min(MOST), &posts) else {
            fail(self, "INVALID_PARAMS", "That can't be asked.", replies);
            return;
        };
        let server = &self.shared.config.chat_server_name;
        let tagging = self.form().tagging;
        let mut bytes = 0;
        let lines: Vec<_> = found
            .iter()
            .map(|posted| show::line(server, room.name(), &posted.event, tagging))
            .take_while(|line| {
                bytes += line.len();
                bytes <= MOST_BYTES
            })
            .collect();
        self.batch(Some(Channel(room.name())), lines, replies);
    }

    fn batch(&mut self, target: Option<Channel<'_>>, lines: Vec<String>, replies: &mut Replies) {
        if !self.caps.batch {
            replies.0.extend(lines);
            return;
        }
        self.batches = self.batches.wrapping_add(1);
        let reference = format!("h{}", self.batches);
        let server = self.shared.config.chat_server_name.clone();
        replies.add(|line| {
            let line = line
                .command(&server, "BATCH")
                .param(format_args!("+{reference}"));
            match target {
                Some(target) => line.param("chathistory").trailing(target),
                None => line.trailing("draft/chathistory-targets"),
            }
        });
        let lines = lines
            .iter()
            .map(|line| super::with_tag(line, "batch", &reference));
        replies.0.extend(lines);
        replies.add(|line| {
            let _ = line
                .command(&server, "BATCH")
                .param(format_args!("-{reference}"));
        });
    }
}

/// The messages among events that moderators have not hidden since.
fn shown(events: Vec<Arc<Posted>>) -> Vec<Arc<Posted>> {
    let mut deleted: HashSet<MessageId> = HashSet::new();
    let mut silenced: HashSet<Login> = HashSet::new();
    let mut shown = Vec::new();
    for posted in events.into_iter().rev() {
        match &posted.event.body {
            Body::Post(post) => {
                let hidden = deleted.contains(&posted.event.stamp.id)
                    || silenced.contains(&post.author.user.login);
                if !hidden {
                    shown.push(posted);
                }
            }
            Body::Deleted { message, .. } => drop(deleted.insert(*message)),
            Body::UserCleared { login, .. } => drop(silenced.insert(login.clone())),
            // All that is older.
            Body::Cleared => break,
            _ => {}
        }
    }
    shown.reverse();
    shown
}

/// Oldest first, at most `limit`.
fn select<'a>(
    verb: &str,
    references: &[Reference],
    limit: usize,
    posts: &'a [Arc<Posted>],
) -> Option<&'a [Arc<Posted>]> {
    let last = |end: usize, from: usize| posts.get(from.max(end.saturating_sub(limit))..end);
    let first = |from: usize, end: usize| posts.get(from..end.min(from.saturating_add(limit)));
    // What a reference names may be forgotten: then there is nothing beside it.
    let split = |reference: &Reference| reference.split(posts);
    let nothing = posts.get(..0);
    match (verb, references) {
        ("LATEST", [Reference::Any]) => last(posts.len(), 0),
        ("LATEST", [reference]) => match split(reference) {
            Some((_, after)) => last(posts.len(), after),
            None => last(posts.len(), 0),
        },
        ("BEFORE", [reference]) => match split(reference) {
            Some((before, _)) => last(before, 0),
            None => nothing,
        },
        ("AFTER", [reference]) => match split(reference) {
            Some((_, after)) => first(after, posts.len()),
            None => nothing,
        },
        ("AROUND", [reference]) => match split(reference) {
            Some((before, _)) => first(before.saturating_sub(limit / 2), posts.len()),
            None => nothing,
        },
        ("BETWEEN", [one, other]) => match (split(one), split(other)) {
            (Some((_, from)), Some((end, _))) if from <= end => first(from, end),
            (Some((end, _)), Some((_, from))) if from <= end => last(end, from),
            _ => nothing,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use common::{
        chat::{
            Author, EmoteSpans, Event, Feed, Limits, Login, Offset, Post, Roles, RoomEpoch, Stamp,
            Text, User,
        },
        live::UnixMs,
        names::ChannelName,
    };

    use super::*;

    fn posts(count: u64) -> Vec<Arc<Posted>> {
        let room = ChannelName::parse("demo").unwrap();
        let feed = Feed::new(room, RoomEpoch(1), 0, Limits::default());
        for offset in 0..count {
            feed.append(Event {
                stamp: Stamp {
                    epoch: RoomEpoch(1),
                    offset: Offset(offset),
                    id: MessageId(offset.into()),
                    at: UnixMs(offset * 1_000),
                    program: UnixMs(0),
                },
                body: Body::Post(Post {
                    author: Author {
                        user: User::named(Login::parse("ann").unwrap()),
                        roles: Roles::default(),
                    },
                    text: Text::cut("x").unwrap(),
                    action: false,
                    reply: None,
                    emotes: EmoteSpans::default(),
                }),
            });
        }
        feed.held()
    }

    #[test]
    fn each_subcommand_selects_what_it_says() {
        let posts = posts(10);
        let of = |verb, references: &[&str], limit| {
            let references: Vec<_> = references
                .iter()
                .map(|r| Reference::parse(r).unwrap())
                .collect();
            let found = select(verb, &references, limit, &posts)?;
            Some(
                found
                    .iter()
                    .map(|posted| posted.event.stamp.offset.0)
                    .collect::<Vec<_>>(),
            )
        };
        let id = |offset: u128| format!("msgid={}", MessageId(offset));
        let time = |second: u64| format!("timestamp={}", Time(UnixMs(second * 1_000)));
        assert_eq!(of("LATEST", &["*"], 3).unwrap(), [7, 8, 9]);
        assert_eq!(of("LATEST", &[&id(7)], 100).unwrap(), [8, 9]);
        assert_eq!(of("LATEST", &[&id(99)], 2).unwrap(), [8, 9]);
        assert_eq!(of("BEFORE", &[&id(3)], 2).unwrap(), [1, 2]);
        assert_eq!(of("BEFORE", &[&time(3)], 100).unwrap(), [0, 1, 2]);
        assert_eq!(of("AFTER", &[&id(3)], 2).unwrap(), [4, 5]);
        assert_eq!(of("AFTER", &[&time(8)], 100).unwrap(), [9]);
        assert_eq!(of("AFTER", &[&id(99)], 2).unwrap(), [0u64; 0]);
        assert_eq!(of("AROUND", &[&id(5)], 4).unwrap(), [3, 4, 5, 6]);
        assert_eq!(of("BETWEEN", &[&id(2), &id(6)], 2).unwrap(), [3, 4]);
        assert_eq!(of("BETWEEN", &[&id(6), &id(2)], 2).unwrap(), [4, 5]);
        assert_eq!(of("BETWEEN", &[&id(2), &id(2)], 2).unwrap(), [0u64; 0]);
        assert_eq!(of("LATEST", &["*"], 0).unwrap(), [0u64; 0]);
        assert_eq!(of("SOON", &["*"], 1), None);
        assert_eq!(Reference::parse("msgid=x"), None);
        assert_eq!(Reference::parse("timestamp=yesterday"), None);
    }
}
