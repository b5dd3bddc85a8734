//! Bodies to messages of CHAT. Names and texts are checked as if a stranger had
//! sent them: what gets into a value can be printed.

use bytes::Bytes;

use super::{Changes, Chat, MAX_ORIGINS, NAMES_AT_ONCE, ROLES_AT_ONCE, encode::ARRIVE};
use crate::{
    chat::{
        Author, Badge, Body, Colour, Command, Counts, Display, EmoteSpans, Event, Login, MessageId,
        Network, Notice, NoticeId, Offset, Post, Reply, Request, Roles, RoomEpoch, Sender,
        Settings, Stamp, Term, TermAction, Text, User, UserId, UserNotice, UserNoticeKind, Verdict,
        request::Ask,
    },
    link::{
        frame::{Frame, MAX_CONTROL_BYTES, kind},
        message::Code,
        wire::{Fields, WireError},
    },
    live::UnixMs,
    names::ChannelName,
};

/// The text of a notice: a sentence, perhaps with a list of names.
const MAX_NOTICE_BYTES: usize = 4_096;

/// A word of a command or of an announcement's colour.
const MAX_WORD_BYTES: usize = 64;

impl Chat {
    /// `None` for a type that is none of CHAT's.
    pub(in crate::link) fn decode(kind: u64, body: Bytes) -> Option<Result<Self, WireError>> {
        Some(match kind {
            kind::CHAT => Ok(Self::Open),
            kind::ENTER => enter(Fields::new("ENTER", body)),
            kind::EXIT => {
                let room = Fields::new("EXIT", body).channel();
                room.map(|room| Self::Exit { room })
            }
            kind::COUNTS => counts(Fields::new("COUNTS", body)),
            kind::MEMBERS => members(Fields::new("MEMBERS", body)),
            kind::PRESENT => present(Fields::new("PRESENT", body)),
            kind::ASK => ask(Fields::new("ASK", body)),
            kind::VERDICT => verdict(Fields::new("VERDICT", body)),
            kind::ROOM => room(Fields::new("ROOM", body)),
            kind::EVENT => event(Fields::new("EVENT", body)),
            kind::ORIGINS => origins(Fields::new("ORIGINS", body)),
            kind::CLOSED => closed(Fields::new("CLOSED", body)),
            kind::ROLES => room_roles(Fields::new("ROLES", body)),
            _ => return None,
        })
    }
}

/// Which wish an ASK is that can't be read as a whole, so that it can be refused.
#[must_use]
pub fn id_of_ask(frame: &Frame) -> Option<MessageId> {
    if frame.kind != kind::ASK {
        return None;
    }
    let mut fields = Fields::new("ASK", frame.body.clone());
    fields.bytes("channel", MAX_CONTROL_BYTES).ok()?;
    id(&mut fields).ok()
}

fn enter(mut fields: Fields) -> Result<Chat, WireError> {
    let room = fields.channel()?;
    let epoch = fields.option("epoch")?.map(RoomEpoch);
    let offset = Offset(fields.int("offset")?);
    Ok(Chat::Enter {
        room,
        after: epoch.map(|epoch| (epoch, offset)),
    })
}

fn counts(mut fields: Fields) -> Result<Chat, WireError> {
    Ok(Chat::Counts {
        room: fields.channel()?,
        counts: numbers(&mut fields)?,
    })
}

fn numbers(fields: &mut Fields) -> Result<Counts, WireError> {
    Ok(Counts {
        readers: fields.int32("readers")?,
        chatters: fields.int32("chatters")?,
        viewers: fields.int32("viewers")?,
    })
}

fn members(mut fields: Fields) -> Result<Chat, WireError> {
    let room = fields.channel()?;
    let (_, changes) = changes(&mut fields)?;
    Ok(Chat::Members { room, changes })
}

fn present(mut fields: Fields) -> Result<Chat, WireError> {
    let room = fields.channel()?;
    let counts = numbers(&mut fields)?;
    let (flags, changes) = changes(&mut fields)?;
    Ok(Chat::Present {
        room,
        counts,
        named: flags & 2 != 0,
        changes,
    })
}

fn changes(fields: &mut Fields) -> Result<(u64, Changes), WireError> {
    let flags = fields.int("flags")?;
    let mut names = || {
        let count = fields.count("names", NAMES_AT_ONCE, 2)?;
        let names = (0..count).map(|_| login(fields));
        names.collect::<Result<Vec<_>, _>>()
    };
    let (came, went) = (names()?, names()?);
    let anew = flags & 1 != 0;
    Ok((flags, Changes { anew, came, went }))
}

fn origins(mut fields: Fields) -> Result<Chat, WireError> {
    let count = fields.count("origins", MAX_ORIGINS, 2)?;
    let nodes = (0..count).map(|_| fields.node("origin"));
    Ok(Chat::Origins {
        nodes: nodes.collect::<Result<_, _>>()?,
    })
}

fn closed(mut fields: Fields) -> Result<Chat, WireError> {
    Ok(Chat::Closed {
        room: fields.channel()?,
        code: Code::from_number(fields.int("code")?),
    })
}

fn room_roles(mut fields: Fields) -> Result<Chat, WireError> {
    let room = fields.channel()?;
    let more = fields.int("flags")? & 1 != 0;
    let count = fields.count("roles", ROLES_AT_ONCE, 3)?;
    let entries = (0..count).map(|_| Ok((login(&mut fields)?, roles(&mut fields)?)));
    Ok(Chat::Roles {
        room,
        more,
        roles: entries.collect::<Result<_, WireError>>()?,
    })
}

fn room(mut fields: Fields) -> Result<Chat, WireError> {
    Ok(Chat::Room {
        room: fields.channel()?,
        epoch: RoomEpoch(fields.int("epoch")?),
        next: Offset(fields.int("next")?),
        live: Offset(fields.int("live")?),
        settings: settings(&mut fields)?,
    })
}

fn id(fields: &mut Fields) -> Result<MessageId, WireError> {
    let bytes = fields.fixed::<16>("id")?;
    Ok(MessageId(u128::from_be_bytes(bytes)))
}

fn login(fields: &mut Fields) -> Result<Login, WireError> {
    let text = fields.text("login", Login::MAX_LEN)?;
    Login::parse(&text).map_err(|_| fields.invalid("login"))
}

fn user_id(fields: &mut Fields) -> Result<UserId, WireError> {
    let text = fields.text("user id", UserId::MAX_LEN)?;
    UserId::parse(&text).map_err(|_| fields.invalid("user id"))
}

fn display(fields: &mut Fields) -> Result<Display, WireError> {
    let text = fields.text("display name", Display::MAX_LEN)?;
    Display::parse(&text).map_err(|_| fields.invalid("display name"))
}

/// `None` where it is empty. A node of another version may cut elsewhere: that costs
/// the difference, not the message.
fn optional_text(fields: &mut Fields) -> Result<Option<Text>, WireError> {
    let text = fields.text("text", Text::MAX_BYTES)?;
    Ok(Text::cut(&text))
}

fn text(fields: &mut Fields) -> Result<Text, WireError> {
    optional_text(fields)?.ok_or_else(|| fields.invalid("text"))
}

/// A text of ours, on one line.
fn line(fields: &mut Fields, field: &'static str, most: usize) -> Result<String, WireError> {
    let text = fields.text(field, most)?;
    if text.contains(['\0', '\r', '\n']) {
        return Err(fields.invalid(field));
    }
    Ok(text)
}

fn user(fields: &mut Fields) -> Result<User, WireError> {
    let id = user_id(fields)?;
    let login = login(fields)?;
    let display = display(fields)?;
    let colour = fields
        .option32("colour")?
        .map(|rgb| Colour(rgb & 0xff_ffff));
    let count = fields.count("badges", User::MAX_BADGES, 4)?;
    let badges = (0..count).map(|_| {
        let text = fields.text("badge", Badge::MAX_LEN)?;
        Badge::parse(&text).ok_or_else(|| fields.invalid("badge"))
    });
    Ok(User {
        id,
        login,
        display,
        colour,
        badges: badges.collect::<Result<_, _>>()?,
    })
}

fn roles(fields: &mut Fields) -> Result<Roles, WireError> {
    fields.int("roles").map(Roles::from_bits)
}

fn author(fields: &mut Fields) -> Result<Author, WireError> {
    Ok(Author {
        user: user(fields)?,
        roles: roles(fields)?,
    })
}

fn sender(fields: &mut Fields) -> Result<Sender, WireError> {
    Ok(Sender {
        user: user(fields)?,
        roles: roles(fields)?,
        follows_since: fields.option("follows since")?.map(UnixMs),
        network: match fields.int("network")? {
            0 => None,
            _ => Some(Network(fields.fixed::<16>("network")?)),
        },
    })
}

fn ask(mut fields: Fields) -> Result<Chat, WireError> {
    let room = fields.channel()?;
    let id = id(&mut fields)?;
    let sender = sender(&mut fields)?;
    let ask = match fields.int("ask")? {
        0 => {
            let text = text(&mut fields)?;
            let flags = fields.int("flags")?;
            let reply_to = if flags & 2 == 0 {
                None
            } else {
                Some(self::id(&mut fields)?)
            };
            Ask::Say {
                text,
                action: flags & 1 != 0,
                reply_to,
            }
        }
        ARRIVE => Ask::Arrive {
            from: fields.channel()?,
            viewers: fields.int32("viewers")?,
        },
        op => Ask::Do(command(op, &mut fields)?),
    };
    let request = Box::new(Request { id, sender, ask });
    Ok(Chat::Ask { room, request })
}

fn command(op: u64, fields: &mut Fields) -> Result<Command, WireError> {
    use Command as C;
    let word = line(fields, "word", MAX_WORD_BYTES)?;
    let number = fields.option32("number")?;
    let on = fields.int("flag")? != 0;
    let text = optional_text(fields)?;
    let login = || Login::parse(&word).map_err(|_| fields.invalid("login"));
    let message = || MessageId::parse(&word).map_err(|_| fields.invalid("message"));
    Ok(match op {
        1 => C::Ban {
            login: login()?,
            network: on,
            reason: text,
        },
        2 => C::Timeout {
            login: login()?,
            seconds: number.ok_or_else(|| fields.invalid("number"))?,
            reason: text,
        },
        3 => C::Unban { login: login()? },
        4 => C::Untimeout { login: login()? },
        5 => C::Delete {
            message: message()?,
        },
        6 => C::Clear,
        7 => C::Slow {
            seconds: number.ok_or_else(|| fields.invalid("number"))?,
        },
        8 => C::Followers { minutes: number },
        9 => C::Subscribers { on },
        10 => C::EmoteOnly { on },
        11 => C::Unique { on },
        12 => C::Mod { login: login()? },
        13 => C::Unmod { login: login()? },
        14 => C::Vip { login: login()? },
        15 => C::Unvip { login: login()? },
        16 => C::Mods,
        17 => C::Vips,
        18 => C::Announce {
            colour: word,
            text: text.ok_or_else(|| fields.invalid("text"))?,
        },
        19 => C::AddTerm {
            term: term(fields, text.as_ref())?,
            action: if on {
                TermAction::Hold
            } else {
                TermAction::Refuse
            },
        },
        20 => C::RemoveTerm {
            term: term(fields, text.as_ref())?,
        },
        21 => C::Terms,
        22 => C::NoLinks { on },
        23 => C::Permit {
            login: login()?,
            seconds: number.ok_or_else(|| fields.invalid("number"))?,
        },
        24 => C::Approve {
            message: message()?,
        },
        25 => C::Deny {
            message: message()?,
        },
        26 => C::Raid {
            to: ChannelName::parse(&word).map_err(|_| fields.invalid("channel"))?,
        },
        _ => return Err(fields.invalid("command")),
    })
}

fn term(fields: &Fields, text: Option<&Text>) -> Result<Term, WireError> {
    let term = text.and_then(|text| Term::parse(text.as_str()));
    term.ok_or_else(|| fields.invalid("term"))
}

fn notice(fields: &mut Fields) -> Result<Notice, WireError> {
    let word = fields.text("msg-id", MAX_WORD_BYTES)?;
    let text = line(fields, "notice", MAX_NOTICE_BYTES)?;
    Ok(Notice::new(NoticeId::from_word(&word), text))
}

fn verdict(mut fields: Fields) -> Result<Chat, WireError> {
    let id = id(&mut fields)?;
    let verdict = match fields.int("verdict")? {
        0 => Verdict::Said(stamp(&mut fields)?),
        1 => Verdict::Done(notice(&mut fields)?),
        2 => Verdict::Refused(notice(&mut fields)?),
        3 => Verdict::Raids {
            notice: notice(&mut fields)?,
            to: fields.channel()?,
            viewers: fields.int32("viewers")?,
        },
        _ => return Err(fields.invalid("verdict")),
    };
    Ok(Chat::Verdict { id, verdict })
}

fn settings(fields: &mut Fields) -> Result<Settings, WireError> {
    let slow_s = fields.int32("slow")?;
    let followers_min = fields.option32("followers")?;
    let flags = fields.int("flags")?;
    Ok(Settings {
        slow_s,
        followers_min,
        subscribers_only: flags & 1 != 0,
        emote_only: flags & 2 != 0,
        unique: flags & 4 != 0,
        no_links: flags & 8 != 0,
    })
}

fn stamp(fields: &mut Fields) -> Result<Stamp, WireError> {
    Ok(Stamp {
        epoch: RoomEpoch(fields.int("epoch")?),
        offset: Offset(fields.int("offset")?),
        id: id(fields)?,
        at: UnixMs(fields.int("time")?),
        program: UnixMs(fields.int("programme time")?),
    })
}

fn event(mut fields: Fields) -> Result<Chat, WireError> {
    let room = fields.channel()?;
    let stamp = stamp(&mut fields)?;
    let fields = &mut fields;
    let body = match fields.int("event")? {
        0 => Body::Post(post(fields)?),
        1 => Body::Cleared,
        2 => Body::UserCleared {
            user: user_id(fields)?,
            login: login(fields)?,
            seconds: fields.option32("seconds")?,
        },
        3 => Body::Deleted {
            message: id(fields)?,
            login: login(fields)?,
            text: text(fields)?,
        },
        4 => Body::Settings(settings(fields)?),
        5 => Body::Notice(notice(fields)?),
        6 => Body::UserNotice(user_notice(fields)?),
        7 => Body::Gap,
        8 => Body::Held {
            author: author(fields)?,
            text: text(fields)?,
        },
        9 => Body::Denied {
            message: id(fields)?,
            login: login(fields)?,
            by: login(fields)?,
        },
        10 => Body::Roles {
            login: login(fields)?,
            roles: roles(fields)?,
        },
        _ => return Err(fields.invalid("event")),
    };
    let event = Box::new(Event { stamp, body });
    Ok(Chat::Event { room, event })
}

fn post(fields: &mut Fields) -> Result<Post, WireError> {
    let author = author(fields)?;
    let text = text(fields)?;
    let flags = fields.int("flags")?;
    let reply = if flags & 2 == 0 {
        None
    } else {
        Some(Reply {
            parent: id(fields)?,
            thread: id(fields)?,
            user: user_id(fields)?,
            login: login(fields)?,
            display: display(fields)?,
            text: self::text(fields)?,
        })
    };
    let emotes = if flags & 4 == 0 {
        EmoteSpans::default()
    } else {
        let spans = fields.text("emotes", EmoteSpans::MAX_BYTES)?;
        EmoteSpans::parse(&spans).ok_or_else(|| fields.invalid("emotes"))?
    };
    Ok(Post {
        author,
        text,
        action: flags & 1 != 0,
        reply,
        emotes,
    })
}

fn user_notice(fields: &mut Fields) -> Result<UserNotice, WireError> {
    let kind = match fields.int("kind")? {
        0 => UserNoticeKind::Announcement {
            colour: line(fields, "colour", MAX_WORD_BYTES)?,
        },
        1 => UserNoticeKind::Raid {
            viewers: fields.int32("viewers")?,
        },
        _ => return Err(fields.invalid("kind")),
    };
    Ok(UserNotice {
        kind,
        author: author(fields)?,
        system: line(fields, "system text", MAX_NOTICE_BYTES)?,
        text: optional_text(fields)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::encode_event, *};
    use crate::link::{Decoder, Message};

    /// What an older node cut to end in a blank.
    #[test]
    fn a_text_that_was_cut_elsewhere_is_cut_here() {
        let stamp = Stamp {
            epoch: RoomEpoch(5),
            offset: Offset(9),
            id: MessageId(1),
            at: UnixMs(70),
            program: UnixMs(71),
        };
        let body = Body::Deleted {
            message: MessageId(1),
            login: Login::parse("ann").unwrap(),
            text: Text::cut("hi?").unwrap(),
        };
        let room = ChannelName::parse("demo").unwrap();
        let mut bytes = encode_event(&room, &Event { stamp, body }).to_vec();
        assert_eq!(bytes.pop(), Some(b'?'));
        bytes.push(b' ');
        let frame = Decoder::default().next(&mut bytes.into()).unwrap();
        let Message::Chat(Chat::Event { event, .. }) = Message::decode(frame.unwrap()).unwrap()
        else {
            panic!("no event");
        };
        let Body::Deleted { text, .. } = event.body else {
            panic!("{event:?}");
        };
        assert_eq!(text.as_str(), "hi");
    }

    /// Whoever wished for something must be told, whatever it was.
    #[test]
    fn an_ask_tells_its_id_whatever_follows() {
        let mut body = b"\x04demo".to_vec();
        body.extend(7u128.to_be_bytes());
        let frame = |kind, body: &[u8]| Frame {
            kind,
            body: Bytes::copy_from_slice(body),
        };
        assert!(Message::decode(frame(kind::ASK, &body)).is_err());
        assert_eq!(id_of_ask(&frame(kind::ASK, &body)), Some(MessageId(7)));
        let cut = &body[..body.len() - 1];
        assert_eq!(id_of_ask(&frame(kind::ASK, cut)), None);
        assert_eq!(id_of_ask(&frame(kind::VERDICT, &body)), None);
    }
}
