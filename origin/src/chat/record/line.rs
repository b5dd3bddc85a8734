//! A line of a chat log: an event as JSON, for us and for whoever replays it.
//!
//! Every line has `type`, `id`, `epoch` and `offset` (its place in the room's one
//! order), `at_ms` (the origin's clock) and `programme_ms` (where in the picture it
//! belongs, as EXT-X-PROGRAM-DATE-TIME counts), both in Unix milliseconds. Types:
//! `message`, `announcement`, `raid`, and what hides messages again: `cleared`,
//! `user_cleared`, `deleted`. Fields that are empty are left out.

use common::{
    chat::{
        Author, Badge, Body, Colour, Display, EmoteSpans, Event, Login, MessageId, Offset, Post,
        Reply, Roles, RoomEpoch, Stamp, Text, User, UserId, UserNotice, UserNoticeKind,
    },
    live::UnixMs,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    what: What,
    id: String,
    epoch: u64,
    offset: u64,
    at_ms: u64,
    programme_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum What {
    Message {
        user: SavedUser,
        text: String,
        /// `/me`
        #[serde(default, skip_serializing_if = "is_false")]
        action: bool,
        /// As Twitch's tag has them.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        emotes: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply: Option<SavedReply>,
    },
    Announcement {
        user: SavedUser,
        colour: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        system: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    Raid {
        user: SavedUser,
        viewers: u32,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        system: String,
    },
    Cleared,
    UserCleared {
        user_id: String,
        login: String,
        /// Without it, for good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u32>,
    },
    Deleted {
        message: String,
        login: String,
        text: String,
    },
}

/// Who wrote something.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedUser {
    id: String,
    login: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    colour: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    badges: Vec<String>,
    /// The words of roles files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedReply {
    parent: String,
    thread: String,
    user_id: String,
    login: String,
    name: String,
    text: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// The lines of those events that are kept; empty where none is.
#[must_use]
pub fn lines(events: &[Event]) -> String {
    let mut lines = String::new();
    for event in events {
        let Some(what) = what(&event.body) else {
            continue;
        };
        let Stamp {
            epoch,
            offset,
            id,
            at,
            program,
        } = event.stamp;
        let line = Line {
            what,
            id: id.to_string(),
            epoch: epoch.0,
            offset: offset.0,
            at_ms: at.0,
            programme_ms: program.0,
        };
        // Strings and numbers always serialise.
        lines.push_str(&serde_json::to_string(&line).unwrap_or_default());
        lines.push('\n');
    }
    lines
}

/// `None` for what is no line of ours.
#[must_use]
pub fn parse(line: &str) -> Option<Event> {
    let line: Line = serde_json::from_str(line).ok()?;
    Some(Event {
        stamp: Stamp {
            epoch: RoomEpoch(line.epoch),
            offset: Offset(line.offset),
            id: MessageId::parse(&line.id).ok()?,
            at: UnixMs(line.at_ms),
            program: UnixMs(line.programme_ms),
        },
        body: body(line.what)?,
    })
}

fn what(body: &Body) -> Option<What> {
    Some(match body {
        Body::Post(post) => What::Message {
            user: saved(&post.author),
            text: post.text.to_string(),
            action: post.action,
            emotes: post.emotes.to_string(),
            reply: post.reply.as_ref().map(|reply| SavedReply {
                parent: reply.parent.to_string(),
                thread: reply.thread.to_string(),
                user_id: reply.user.to_string(),
                login: reply.login.to_string(),
                name: reply.display.to_string(),
                text: reply.text.to_string(),
            }),
        },
        Body::UserNotice(notice) => {
            let user = saved(&notice.author);
            let system = notice.system.clone();
            match &notice.kind {
                UserNoticeKind::Announcement { colour } => What::Announcement {
                    user,
                    colour: colour.clone(),
                    system,
                    text: notice.text.as_ref().map(Text::to_string),
                },
                UserNoticeKind::Raid { viewers } => What::Raid {
                    user,
                    viewers: *viewers,
                    system,
                },
            }
        }
        Body::Cleared => What::Cleared,
        Body::UserCleared {
            user,
            login,
            seconds,
        } => What::UserCleared {
            user_id: user.to_string(),
            login: login.to_string(),
            seconds: *seconds,
        },
        Body::Deleted {
            message,
            login,
            text,
        } => What::Deleted {
            message: message.to_string(),
            login: login.to_string(),
            text: text.to_string(),
        },
        // What a room's rules were is not what was said.
        Body::Settings(_)
        | Body::Notice(_)
        | Body::Held { .. }
        | Body::Denied { .. }
        | Body::Roles { .. }
        | Body::Gap => return None,
    })
}

fn body(what: What) -> Option<Body> {
    Some(match what {
        What::Message {
            user,
            text,
            action,
            emotes,
            reply,
        } => Body::Post(Post {
            author: author(user)?,
            text: Text::cut(&text)?,
            action,
            emotes: EmoteSpans::parse(&emotes)?,
            reply: match reply {
                Some(saved) => Some(Reply {
                    parent: MessageId::parse(&saved.parent).ok()?,
                    thread: MessageId::parse(&saved.thread).ok()?,
                    user: UserId::parse(&saved.user_id).ok()?,
                    login: Login::parse(&saved.login).ok()?,
                    display: Display::parse(&saved.name).ok()?,
                    text: Text::cut(&saved.text)?,
                }),
                None => None,
            },
        }),
        What::Announcement {
            user,
            colour,
            system,
            text,
        } => Body::UserNotice(UserNotice {
            kind: UserNoticeKind::Announcement { colour },
            author: author(user)?,
            system,
            text: text.as_deref().and_then(Text::cut),
        }),
        What::Raid {
            user,
            viewers,
            system,
        } => Body::UserNotice(UserNotice {
            kind: UserNoticeKind::Raid { viewers },
            author: author(user)?,
            system,
            text: None,
        }),
        What::Cleared => Body::Cleared,
        What::UserCleared {
            user_id,
            login,
            seconds,
        } => Body::UserCleared {
            user: UserId::parse(&user_id).ok()?,
            login: Login::parse(&login).ok()?,
            seconds,
        },
        What::Deleted {
            message,
            login,
            text,
        } => Body::Deleted {
            message: MessageId::parse(&message).ok()?,
            login: Login::parse(&login).ok()?,
            text: Text::cut(&text)?,
        },
    })
}

#[must_use]
pub fn saved(author: &Author) -> SavedUser {
    let User {
        id,
        login,
        display,
        colour,
        badges,
    } = &author.user;
    SavedUser {
        id: id.to_string(),
        login: login.to_string(),
        name: display.to_string(),
        colour: colour.map(|colour| colour.to_string()),
        badges: badges
            .iter()
            .map(|badge| badge.as_str().to_owned())
            .collect(),
        roles: author.roles.words().map(str::to_owned).collect(),
    }
}

/// `None` where it is nobody.
#[must_use]
pub fn author(saved: SavedUser) -> Option<Author> {
    let badges = saved.badges.iter().take(User::MAX_BADGES);
    let roles = saved.roles.iter().filter_map(|word| Roles::parse(word));
    Some(Author {
        user: User {
            id: UserId::parse(&saved.id).ok()?,
            login: Login::parse(&saved.login).ok()?,
            display: Display::parse(&saved.name).ok()?,
            colour: saved.colour.as_deref().and_then(Colour::parse),
            badges: badges.filter_map(|badge| Badge::parse(badge)).collect(),
        },
        roles: roles.fold(Roles::default(), Roles::union),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(offset: u64, body: Body) -> Event {
        Event {
            stamp: Stamp {
                epoch: RoomEpoch(7),
                offset: Offset(offset),
                id: MessageId(1),
                at: UnixMs(70),
                program: UnixMs(71),
            },
            body,
        }
    }

    fn post(text: &str, bits: u64) -> Post {
        let mut user = User::named(Login::parse("ann").unwrap());
        user.colour = Colour::parse("#1E90FF");
        Post {
            author: Author {
                user,
                roles: Roles::from_bits(bits),
            },
            text: Text::cut(text).unwrap(),
            action: false,
            reply: None,
            emotes: EmoteSpans::default(),
        }
    }

    /// The format, which recordings rely on.
    #[test]
    fn golden_lines() {
        let mut said = post("hello Kappa", 2);
        said.emotes = EmoteSpans::parse("25:6-10").unwrap();
        let deleted = Body::Deleted {
            message: MessageId(1),
            login: Login::parse("bob").unwrap(),
            text: Text::cut("bad").unwrap(),
        };
        let settings = Body::Settings(common::chat::Settings::default());
        let events = [
            event(3, Body::Post(said)),
            event(4, settings),
            event(5, deleted),
            event(6, Body::Cleared),
        ];
        let id = MessageId(1).to_string();
        let stamp = |offset| {
            format!(
                "\"id\":\"{id}\",\"epoch\":7,\"offset\":{offset},\"at_ms\":70,\"programme_ms\":71}}\n"
            )
        };
        let golden = [
            "{\"type\":\"message\",\"user\":{\"id\":\"ann\",\"login\":\"ann\",\"name\":\"ann\",\"colour\":\"#1E90FF\",\
             \"roles\":[\"moderator\"]},\"text\":\"hello Kappa\",\"emotes\":\"25:6-10\",",
            &stamp(3),
            &format!(
                "{{\"type\":\"deleted\",\"message\":\"{id}\",\"login\":\"bob\",\"text\":\"bad\","
            ),
            &stamp(5),
            "{\"type\":\"cleared\",",
            &stamp(6),
        ];
        assert_eq!(lines(&events), golden.concat());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            text in "[!-~ä安😀\"\\\\][ -~ä安😀\"\\\\]{0,40}[!-~]", bits in 0u64..16, kind in 0..7, number in any::<u32>(),
        ) {
            let said = post(&text, bits);
            let (login, text) = (said.author.user.login.clone(), said.text.clone());
            let notice = |kind| Body::UserNotice(UserNotice {
                kind,
                author: said.author.clone(),
                system: "so \"it\" is".to_owned(),
                text: None,
            });
            let body = match kind {
                0 => Body::Cleared,
                1 => Body::UserCleared { user: UserId::from(&login), login, seconds: Some(number) },
                2 => Body::Deleted { message: MessageId(number.into()), login, text },
                3 => notice(UserNoticeKind::Raid { viewers: number }),
                4 => notice(UserNoticeKind::Announcement { colour: "BLUE".to_owned() }),
                5 => Body::Post(Post {
                    action: true,
                    reply: Some(Reply {
                        parent: MessageId(1),
                        thread: MessageId(2),
                        user: UserId::from(&login),
                        display: Display::from(&login),
                        login,
                        text,
                    }),
                    ..said
                }),
                _ => Body::Post(said),
            };
            let event = event(number.into(), body);
            let line = lines(std::slice::from_ref(&event));
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(parse(line.trim_end()), Some(event));
        }

        #[test]
        fn no_line_panics(line in "\\PC{0,60}") {
            let _ = parse(&line);
        }
    }
}
