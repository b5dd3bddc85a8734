//! Messages of CHAT to bodies.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Changes, Chat};
use crate::{
    chat::{
        Author, Body, Command, Counts, Event, MessageId, Notice, Post, Reply, Request, Sender,
        Settings, Stamp, TermAction, Text, User, UserNotice, UserNoticeKind, Verdict, request::Ask,
    },
    link::{
        frame::{Frame, kind},
        wire::{put_int, put_option, put_str},
    },
    names::ChannelName,
};

/// An EVENT, whole.
#[must_use]
pub fn event(room: &ChannelName, event: &Event) -> Bytes {
    let mut body = BytesMut::with_capacity(256);
    put_event(&mut body, room, event);
    Frame::encode(kind::EVENT, &body)
}

impl Chat {
    pub(in crate::link) fn put(&self, out: &mut BytesMut) -> u64 {
        match self {
            Self::Open => kind::CHAT,
            Self::Enter { room, after } => {
                put_str(out, room.as_str());
                put_option(out, after.map(|(epoch, _)| epoch.0));
                put_int(out, after.map_or(0, |(_, offset)| offset.0));
                kind::ENTER
            }
            Self::Exit { room } => {
                put_str(out, room.as_str());
                kind::EXIT
            }
            Self::Counts { room, counts } => {
                put_str(out, room.as_str());
                put_counts(out, counts);
                kind::COUNTS
            }
            Self::Members { room, changes } => {
                put_str(out, room.as_str());
                put_changes(out, changes, 0);
                kind::MEMBERS
            }
            Self::Present {
                room,
                counts,
                named,
                changes,
            } => {
                put_str(out, room.as_str());
                put_counts(out, counts);
                put_changes(out, changes, u64::from(*named) << 1);
                kind::PRESENT
            }
            Self::Ask { room, request } => {
                put_str(out, room.as_str());
                put_request(out, request);
                kind::ASK
            }
            Self::Verdict { id, verdict } => {
                put_id(out, *id);
                put_verdict(out, verdict);
                kind::VERDICT
            }
            Self::Room {
                room,
                epoch,
                next,
                live,
                settings,
            } => {
                put_str(out, room.as_str());
                put_int(out, epoch.0);
                put_int(out, next.0);
                put_int(out, live.0);
                put_settings(out, settings);
                kind::ROOM
            }
            Self::Event { room, event } => {
                put_event(out, room, event);
                kind::EVENT
            }
            Self::Origins { nodes } => {
                put_int(out, nodes.len() as u64);
                for node in nodes {
                    put_str(out, node.as_str());
                }
                kind::ORIGINS
            }
            Self::Roles { room, more, roles } => {
                put_str(out, room.as_str());
                put_int(out, (*more).into());
                put_int(out, roles.len() as u64);
                for (login, roles) in roles {
                    put_str(out, login.as_str());
                    put_int(out, roles.bits().into());
                }
                kind::ROLES
            }
            Self::Closed { room, code } => {
                put_str(out, room.as_str());
                put_int(out, code.number().into());
                kind::CLOSED
            }
        }
    }
}

fn put_id(out: &mut BytesMut, id: MessageId) {
    out.put_u128(id.0);
}

fn put_counts(out: &mut BytesMut, counts: &Counts) {
    for count in [counts.readers, counts.chatters, counts.viewers] {
        put_int(out, count.into());
    }
}

fn put_changes(out: &mut BytesMut, changes: &Changes, flags: u64) {
    put_int(out, flags | u64::from(changes.anew));
    for names in [&changes.came, &changes.went] {
        put_int(out, names.len() as u64);
        for name in names {
            put_str(out, name.as_str());
        }
    }
}

/// An optional text: no text is empty.
fn put_text(out: &mut BytesMut, text: Option<&Text>) {
    put_str(out, text.map_or("", Text::as_str));
}

fn put_user(out: &mut BytesMut, user: &User) {
    put_str(out, user.id.as_str());
    put_str(out, user.login.as_str());
    put_str(out, user.display.as_str());
    put_option(out, user.colour.map(|colour| colour.0.into()));
    put_int(out, user.badges.len() as u64);
    for badge in &user.badges {
        put_str(out, badge.as_str());
    }
}

fn put_author(out: &mut BytesMut, author: &Author) {
    put_user(out, &author.user);
    put_int(out, author.roles.bits().into());
}

fn put_sender(out: &mut BytesMut, sender: &Sender) {
    put_user(out, &sender.user);
    put_int(out, sender.roles.bits().into());
    put_option(out, sender.follows_since.map(|since| since.0));
    put_int(out, sender.network.is_some().into());
    if let Some(network) = sender.network {
        out.put_slice(&network.0);
    }
}

fn put_request(out: &mut BytesMut, request: &Request) {
    put_id(out, request.id);
    put_sender(out, &request.sender);
    match &request.ask {
        Ask::Say {
            text,
            action,
            reply_to,
        } => {
            put_int(out, 0);
            put_str(out, text.as_str());
            put_int(out, u64::from(*action) | u64::from(reply_to.is_some()) << 1);
            if let Some(id) = reply_to {
                put_id(out, *id);
            }
        }
        Ask::Do(command) => put_command(out, command),
        Ask::Arrive { from, viewers } => {
            put_int(out, ARRIVE);
            put_str(out, from.as_str());
            put_int(out, (*viewers).into());
        }
    }
}

/// Beyond the commands.
pub(super) const ARRIVE: u64 = 0x40;

/// `op(i) login(s) number(o) flag(i) text(s)`, whatever a command needs of it.
fn put_command(out: &mut BytesMut, command: &Command) {
    use Command as C;
    let mut login = "";
    let mut number = None;
    let mut flag = false;
    let mut text: Option<&Text> = None;
    let mut word = None;
    let words;
    let op = match command {
        C::Ban {
            login: of,
            network,
            reason,
        } => {
            login = of.as_str();
            flag = *network;
            text = reason.as_ref();
            1
        }
        C::Timeout {
            login: of,
            seconds,
            reason,
        } => {
            login = of.as_str();
            number = Some(*seconds);
            text = reason.as_ref();
            2
        }
        C::Unban { login: of } => {
            login = of.as_str();
            3
        }
        C::Untimeout { login: of } => {
            login = of.as_str();
            4
        }
        C::Delete { message } => {
            word = Some(message.to_string());
            5
        }
        C::Clear => 6,
        C::Slow { seconds } => {
            number = Some(*seconds);
            7
        }
        C::Followers { minutes } => {
            number = *minutes;
            8
        }
        C::Subscribers { on } => {
            flag = *on;
            9
        }
        C::EmoteOnly { on } => {
            flag = *on;
            10
        }
        C::Unique { on } => {
            flag = *on;
            11
        }
        C::Mod { login: of } => {
            login = of.as_str();
            12
        }
        C::Unmod { login: of } => {
            login = of.as_str();
            13
        }
        C::Vip { login: of } => {
            login = of.as_str();
            14
        }
        C::Unvip { login: of } => {
            login = of.as_str();
            15
        }
        C::Mods => 16,
        C::Vips => 17,
        C::Announce { colour, text: said } => {
            word = Some(colour.clone());
            text = Some(said);
            18
        }
        C::AddTerm { term, action } => {
            words = Text::cut(term.as_str());
            text = words.as_ref();
            flag = *action == TermAction::Hold;
            19
        }
        C::RemoveTerm { term } => {
            words = Text::cut(term.as_str());
            text = words.as_ref();
            20
        }
        C::Terms => 21,
        C::NoLinks { on } => {
            flag = *on;
            22
        }
        C::Permit { login: of, seconds } => {
            login = of.as_str();
            number = Some(*seconds);
            23
        }
        C::Approve { message } => {
            word = Some(message.to_string());
            24
        }
        C::Deny { message } => {
            word = Some(message.to_string());
            25
        }
        C::Raid { to } => {
            login = to.as_str();
            26
        }
    };
    put_int(out, op);
    put_str(out, word.as_deref().unwrap_or(login));
    put_option(out, number.map(u64::from));
    put_int(out, flag.into());
    put_text(out, text);
}

fn put_notice(out: &mut BytesMut, notice: &Notice) {
    put_str(out, notice.id.as_str());
    put_str(out, &notice.text);
}

fn put_verdict(out: &mut BytesMut, verdict: &Verdict) {
    match verdict {
        Verdict::Said(stamp) => {
            put_int(out, 0);
            put_stamp(out, stamp);
        }
        Verdict::Done(notice) => {
            put_int(out, 1);
            put_notice(out, notice);
        }
        Verdict::Refused(notice) => {
            put_int(out, 2);
            put_notice(out, notice);
        }
        Verdict::Raids {
            notice,
            to,
            viewers,
        } => {
            put_int(out, 3);
            put_notice(out, notice);
            put_str(out, to.as_str());
            put_int(out, (*viewers).into());
        }
    }
}

fn put_settings(out: &mut BytesMut, settings: &Settings) {
    put_int(out, settings.slow_s.into());
    put_option(out, settings.followers_min.map(u64::from));
    put_int(
        out,
        u64::from(settings.subscribers_only)
            | u64::from(settings.emote_only) << 1
            | u64::from(settings.unique) << 2
            | u64::from(settings.no_links) << 3,
    );
}

fn put_stamp(out: &mut BytesMut, stamp: &Stamp) {
    put_int(out, stamp.epoch.0);
    put_int(out, stamp.offset.0);
    put_id(out, stamp.id);
    put_int(out, stamp.at.0);
    put_int(out, stamp.program.0);
}

fn put_event(out: &mut BytesMut, room: &ChannelName, event: &Event) {
    put_str(out, room.as_str());
    put_stamp(out, &event.stamp);
    match &event.body {
        Body::Post(post) => put_post(out, post),
        Body::Cleared => put_int(out, 1),
        Body::UserCleared {
            user,
            login,
            seconds,
        } => {
            put_int(out, 2);
            put_str(out, user.as_str());
            put_str(out, login.as_str());
            put_option(out, seconds.map(u64::from));
        }
        Body::Deleted {
            message,
            login,
            text,
        } => {
            put_int(out, 3);
            put_id(out, *message);
            put_str(out, login.as_str());
            put_str(out, text.as_str());
        }
        Body::Settings(settings) => {
            put_int(out, 4);
            put_settings(out, settings);
        }
        Body::Notice(notice) => {
            put_int(out, 5);
            put_notice(out, notice);
        }
        Body::UserNotice(notice) => put_user_notice(out, notice),
        // ROOM tells it: see `super::super::server`.
        Body::Gap => put_int(out, 7),
        Body::Held { author, text } => {
            put_int(out, 8);
            put_author(out, author);
            put_str(out, text.as_str());
        }
        Body::Denied { message, login, by } => {
            put_int(out, 9);
            put_id(out, *message);
            put_str(out, login.as_str());
            put_str(out, by.as_str());
        }
        Body::Roles { login, roles } => {
            put_int(out, 10);
            put_str(out, login.as_str());
            put_int(out, roles.bits().into());
        }
    }
}

fn put_post(out: &mut BytesMut, post: &Post) {
    put_int(out, 0);
    put_author(out, &post.author);
    put_str(out, post.text.as_str());
    put_int(
        out,
        u64::from(post.action)
            | u64::from(post.reply.is_some()) << 1
            | u64::from(!post.emotes.as_str().is_empty()) << 2,
    );
    if let Some(reply) = &post.reply {
        put_reply(out, reply);
    }
    if !post.emotes.as_str().is_empty() {
        put_str(out, post.emotes.as_str());
    }
}

fn put_reply(out: &mut BytesMut, reply: &Reply) {
    put_id(out, reply.parent);
    put_id(out, reply.thread);
    put_str(out, reply.user.as_str());
    put_str(out, reply.login.as_str());
    put_str(out, reply.display.as_str());
    put_str(out, reply.text.as_str());
}

fn put_user_notice(out: &mut BytesMut, notice: &UserNotice) {
    put_int(out, 6);
    match &notice.kind {
        UserNoticeKind::Announcement { colour } => {
            put_int(out, 0);
            put_str(out, colour);
        }
        UserNoticeKind::Raid { viewers } => {
            put_int(out, 1);
            put_int(out, (*viewers).into());
        }
    }
    put_author(out, &notice.author);
    put_str(out, &notice.system);
    put_text(out, notice.text.as_ref());
}
