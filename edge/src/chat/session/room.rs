//! Rooms: JOIN, PART, NAMES, what is told of a room, and its events.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use common::{
    chat::{Author, Body, Login, Notice, NoticeId, Offset, Posted, Roles, RoomEpoch, irc::Line},
    live::UnixMs,
    names::ChannelName,
};

use super::{Answer, Entry, Identity, Joined, MAX_OUT_BYTES, Replies, Session, Stage, with_tag};
use crate::chat::{
    form::Tagging,
    metrics::Broken,
    rooms::Room,
    show::{self, Channel, is_plain_irc, settings_tags, shown},
    ws,
};

/// Names in one 353.
const NAMES_PER_LINE: usize = 20;

/// A client that was told so much and has not read it is told of itself alone, as in a
/// room of more names than any tells: a JOIN may name a hundred rooms.
const MAX_NAMES_BYTES: usize = 4 * MAX_OUT_BYTES;

/// Events that are taken from one room at a time.
const EVENTS_AT_ONCE: usize = 64;

impl Session {
    /// `#room` as people type it; `None` for what can't be one.
    pub(super) fn room_name(text: &str) -> Option<ChannelName> {
        let name = text.strip_prefix('#')?;
        if name.len() > ChannelName::MAX_LEN {
            return None;
        }
        ChannelName::parse(&name.to_ascii_lowercase()).ok()
    }

    pub(super) fn join(
        &mut self,
        now: UnixMs,
        line: &Line<'_>,
        label: Option<&str>,
        replies: &mut Replies,
    ) -> Answer {
        let Some(list) = line.params.get(0) else {
            self.numeric(replies, "461", &["JOIN"], "Not enough parameters");
            return Answer::Now;
        };
        let before = self.joined.len();
        for name in list.split(',').filter(|name| !name.is_empty()) {
            let Some(room) = Self::room_name(name) else {
                self.numeric(replies, "403", &[name], "No such channel");
                continue;
            };
            if self
                .joined
                .iter()
                .any(|joined| *joined.seat.room.name() == room)
            {
                continue;
            }
            if self.joined.len() >= self.shared.config.max_rooms_per_connection {
                self.numeric(replies, "405", &[name], "You have joined too many channels");
                // The rest of a long list is no better.
                break;
            }
            if !self.shared.limits.join(now, self.user_id(), self.network) {
                self.numeric(replies, "263", &["JOIN"], "Too many joins, try again later");
                break;
            }
            match self.shared.open_room(&room, Some(self.network)) {
                Some(room) => self.enter(&room, replies),
                None => self.numeric(replies, "437", &[name], "Chat is too busy"),
            }
        }
        let mut new = self.joined.iter_mut().skip(before);
        let first = new.find_map(|joined| match &mut joined.entry {
            Entry::Asked(label) => Some(label),
            _ => None,
        });
        match first {
            // A label is of one answer: that of the first room.
            Some(of) if replies.0.is_empty() => {
                *of = label.map(Into::into);
                Answer::Later
            }
            _ => Answer::Now,
        }
    }

    /// Takes a place in a room. It is answered at once, unless its home was not heard.
    fn enter(&mut self, room: &Arc<Room>, replies: &mut Replies) {
        let Stage::In(Identity { claims, .. }) = &self.stage else {
            return;
        };
        let login = claims.as_ref().map(|claims| claims.user.login.clone());
        let (roles, roles_version) = self.roles_in(room);
        let seat = room.enter(self.mailbox.clone(), login);
        let entry = if room.heard().is_some() {
            // Whatever comes now is news.
            Entry::Heard(RoomEpoch(0), Offset(0))
        } else if room.is_overdue() {
            Entry::Unheard
        } else {
            Entry::Asked(None)
        };
        let answered = match entry {
            Entry::Asked(_) => None,
            Entry::Unheard => Some(false),
            Entry::Heard(..) => Some(true),
        };
        self.joined.push(Joined {
            seat,
            cursor: room.feed.end(),
            coming: room.comings_end(),
            entry,
            roles,
            roles_version,
        });
        if let Some(heard) = answered {
            self.answer_join(room, heard, replies);
        }
    }

    /// JOIN, 353, 366 and, for who asked for them, what the user is and, where that is
    /// known, the room.
    fn answer_join(&self, room: &Room, heard: bool, replies: &mut Replies) {
        let Stage::In(Identity { nick, .. }) = &self.stage else {
            return;
        };
        let source = self.source(nick);
        replies.add(|line| {
            let _ = line.command(&source, "JOIN").param(Channel(room.name()));
        });
        self.list_names(room, replies);
        if self.caps.commands {
            self.user_state(room.name(), None, None, replies);
            if heard {
                self.room_state(room, replies);
            }
        }
    }

    /// Answers the JOIN that waits at this place, if one does.
    fn admit(&mut self, now: UnixMs, at: usize) {
        let Some(joined) = self.joined.get_mut(at) else {
            return;
        };
        let Entry::Asked(label) = &mut joined.entry else {
            return;
        };
        let label = label.take();
        let room = joined.seat.room.clone();
        let heard = room.heard();
        match heard {
            Some((epoch, offset)) => joined.heard(epoch, offset),
            None => joined.entry = Entry::Unheard,
        }
        let mut replies = Replies::default();
        self.answer_join(&room, heard.is_some(), &mut replies);
        self.send(now, label.as_deref(), replies);
    }

    /// What the user is in a room, and as of which word of the room.
    pub(super) fn roles_in(&self, room: &Room) -> (Roles, u64) {
        let Stage::In(Identity {
            claims: Some(claims),
            ..
        }) = &self.stage
        else {
            // Who only reads is nobody, whatever the room says.
            return (Roles::default(), u64::MAX);
        };
        let (own, version) = room.feed.roles_of(&claims.user.login);
        (claims.sender(room.name(), None).roles.union(own), version)
    }

    fn source(&self, nick: &Login) -> String {
        let server = &self.shared.config.chat_server_name;
        format!("{nick}!{nick}@{nick}.{server}")
    }

    pub(super) fn part(&mut self, now: UnixMs, line: &Line<'_>, replies: &mut Replies) {
        let Some(list) = line.params.get(0) else {
            self.numeric(replies, "461", &["PART"], "Not enough parameters");
            return;
        };
        let Stage::In(identity) = &self.stage else {
            return;
        };
        let source = self.source(&identity.nick);
        for name in list.split(',').filter(|name| !name.is_empty()) {
            let room = Self::room_name(name);
            let at = self
                .joined
                .iter()
                .position(|joined| Some(joined.seat.room.name()) == room.as_ref());
            let Some(at) = at else {
                self.numeric(replies, "442", &[name], "You're not on that channel");
                continue;
            };
            // Nobody leaves before it came.
            self.admit(now, at);
            let left = self.joined.swap_remove(at);
            let room = left.seat.room.name();
            self.wished
                .retain(|wished| wished.room != *room || !wished.answered);
            replies.add(|line| {
                let _ = line.command(&source, "PART").param(Channel(room));
            });
        }
    }

    pub(super) fn names(&self, line: &Line<'_>, replies: &mut Replies) {
        let name = line.params.get(0).unwrap_or("*");
        let room = Self::room_name(name).and_then(|name| self.shared.rooms.get(&name));
        match room {
            Some(room) => self.list_names(&room, replies),
            None => self.numeric(replies, "366", &[name], "End of /NAMES list"),
        }
    }

    /// 353 and 366. Who else is there is told to those that asked for membership.
    fn list_names(&self, room: &Room, replies: &mut Replies) {
        let Stage::In(identity) = &self.stage else {
            return;
        };
        let nick = &identity.nick;
        let mut names = vec![nick.clone()];
        let answered = self.out_bytes + replies.bytes();
        let asked = self.caps.membership || self.caps.is_modern();
        if asked && answered < MAX_NAMES_BYTES {
            let others = room.present().names.unwrap_or_default();
            names.extend(others.iter().filter(|name| *name != nick).cloned());
        }
        let source = format!("{nick}.{}", self.shared.config.chat_server_name);
        for some in names.chunks(NAMES_PER_LINE) {
            let some: Vec<_> = some.iter().map(Login::as_str).collect();
            replies.add(|line| {
                line.command(&source, "353")
                    .param(nick)
                    .param("=")
                    .param(Channel(room.name()))
                    .trailing(some.join(" "));
            });
        }
        replies.add(|line| {
            line.command(&source, "366")
                .param(nick)
                .param(Channel(room.name()))
                .trailing("End of /NAMES list");
        });
    }

    pub(super) fn mode(&self, line: &Line<'_>, replies: &mut Replies) {
        let server = &self.shared.config.chat_server_name;
        match line.params.get(0) {
            Some(name) if name.starts_with('#') && line.params.get(1).is_none() => {
                replies.add(|line| {
                    let line = line.command(server, "324").param(self.nick());
                    let _ = line.param(name).param("+nt");
                });
            }
            // Lists of bans and modes of users: there are none to see.
            _ => {}
        }
    }

    /// USERSTATE: what the user is in a room, and the id of what was said.
    pub(super) fn user_state(
        &self,
        room: &ChannelName,
        id: Option<common::chat::MessageId>,
        nonce: Option<&str>,
        replies: &mut Replies,
    ) {
        let Stage::In(Identity {
            claims: Some(claims),
            ..
        }) = &self.stage
        else {
            return;
        };
        let here = self
            .joined
            .iter()
            .find(|joined| joined.seat.room.name() == room);
        let roles = here.map_or_else(|| claims.sender(room, None).roles, |joined| joined.roles);
        self.state(room, roles, id, nonce, replies);
    }

    fn state(
        &self,
        room: &ChannelName,
        roles: Roles,
        id: Option<common::chat::MessageId>,
        nonce: Option<&str>,
        replies: &mut Replies,
    ) {
        let Stage::In(Identity {
            claims: Some(claims),
            ..
        }) = &self.stage
        else {
            return;
        };
        let author = Author {
            user: claims.user.clone(),
            roles,
        };
        let server = &self.shared.config.chat_server_name;
        replies.add(|mut line| {
            if self.form().tagging == Tagging::All {
                line.tag("badge-info", "");
                line.tag("badges", author.badges().collect::<Vec<_>>().join(","));
                if let Some(nonce) = nonce {
                    line.tag("client-nonce", nonce);
                }
                match author.user.colour {
                    Some(colour) => line.tag("color", colour),
                    None => line.tag("color", ""),
                }
                line.tag("display-name", &author.user.display);
                line.tag("emote-sets", "0");
                if let Some(id) = id {
                    line.tag("id", id);
                }
                line.tag("mod", u8::from(roles.moderator));
                line.tag("subscriber", u8::from(roles.subscriber));
                line.tag("user-type", if roles.moderator { "mod" } else { "" });
            }
            let _ = line.command(server, "USERSTATE").param(Channel(room));
        });
    }

    fn room_state(&self, room: &Room, replies: &mut Replies) {
        let server = &self.shared.config.chat_server_name;
        let settings = room.feed.settings();
        replies.add(|mut line| {
            if self.form().tagging == Tagging::All {
                settings_tags(&mut line, &settings);
                line.tag("room-id", room.name());
            }
            let _ = line
                .command(server, "ROOMSTATE")
                .param(Channel(room.name()));
        });
    }

    /// NOTICE to this client, about a room or about nothing in particular.
    pub(super) fn notice(
        &self,
        room: Option<&ChannelName>,
        notice: &Notice,
        replies: &mut Replies,
    ) {
        let server = &self.shared.config.chat_server_name;
        replies.add(|mut line| {
            if self.form().tagging == Tagging::All {
                line.tag("msg-id", notice.id.as_str());
            }
            let line = line.command(server, "NOTICE");
            let line = match room {
                Some(room) => line.param(Channel(room)),
                None => line.param("*"),
            };
            line.trailing(&notice.text);
        });
    }

    /// The room's word on who is what is another: whom it concerns learns it at once,
    /// as Twitch's users do.
    fn roles_changed(&mut self, now: UnixMs, joined: &mut Joined) {
        let (roles, version) = self.roles_in(&joined.seat.room);
        joined.roles_version = version;
        if roles == joined.roles {
            return;
        }
        joined.roles = roles;
        if self.caps.commands {
            let mut replies = Replies::default();
            self.state(joined.seat.room.name(), roles, None, None, &mut replies);
            self.send(now, None, replies);
        }
    }

    /// Hands over what the client has not read of its rooms, in forms that it
    /// shares with others, at most a batch of each room, behind its own lines. Whether
    /// there was any.
    pub fn pump(&mut self, now: UnixMs, into: &mut VecDeque<Bytes>) -> bool {
        let before = into.len();
        self.go_on(now);
        self.enter_heard(now);
        self.take_out(into);
        let mut joined = std::mem::take(&mut self.joined);
        for joined in &mut joined {
            self.read(now, joined, into);
        }
        self.take_out(into);
        if self.ending.is_none() {
            self.joined = joined;
        }
        into.len() > before
    }

    fn read(&mut self, now: UnixMs, joined: &mut Joined, into: &mut VecDeque<Bytes>) {
        let Entry::Heard(epoch, offset) = joined.entry else {
            return;
        };
        let after = (epoch, offset);
        let room = &joined.seat.room;
        let roles = joined.roles;
        let before = into.len();
        let (fell_at, read) = loop {
            let at = joined.cursor;
            let take = |posted: &Arc<Posted>| {
                let stamp = posted.event.stamp;
                if (stamp.epoch, stamp.offset) >= after {
                    into.extend(self.deliver(room, posted, roles));
                }
            };
            let read = room.feed.read(&mut joined.cursor, EVENTS_AT_ONCE, take);
            // Behind what this client is not shown, history for one, there may be more,
            // and nothing else would wake it for that.
            if into.len() > before || read.missed > 0 || read.at_end {
                break (at, read);
            }
        };
        if read.missed > 0 {
            if !self.caps.history {
                let reason = "Too slow to follow the chat";
                self.end(reason, ws::code::TRY_LATER, Some(Broken::Behind));
                return;
            }
            // It fetches what it missed; what was moderated it must know in any case.
            into.push_back(self.framing.frame(&self.gap_line(room)));
            for posted in room.feed.lasting(fell_at) {
                into.extend(self.deliver(room, &posted, roles));
            }
        }
        if let Stage::In(identity) = &self.stage
            && joined.coming < room.comings_end()
        {
            let (batches, end) = room.comings(joined.coming);
            if self.caps.membership {
                let server = &self.shared.config.chat_server_name;
                let shown = batches
                    .iter()
                    .map(|batch| batch.shown(server, room.name(), self.framing, &identity.nick));
                into.extend(shown.filter(|bytes| !bytes.is_empty()));
            }
            joined.coming = end;
        }
        let delivered = into.len() - before;
        if delivered > 0 {
            self.shared.metrics.deliveries.inc_by(delivered as u64);
        }
        if read.roles_version != joined.roles_version && joined.roles_version != u64::MAX {
            self.roles_changed(now, joined);
        }
    }

    fn gap_line(&self, room: &Room) -> String {
        let text = "You were too slow and missed some messages.";
        let mut replies = Replies::default();
        self.notice(
            Some(room.name()),
            &Notice::new(NoticeId::MsgRejected, text),
            &mut replies,
        );
        let line = replies.0.pop().unwrap_or_default();
        line.replacen(NoticeId::MsgRejected.as_str(), "gap", 1)
    }

    fn deliver(&mut self, room: &Room, posted: &Posted, roles: Roles) -> Option<Bytes> {
        let event = &posted.event;
        match &event.body {
            Body::Gap if !self.caps.history => return None,
            Body::Gap => {}
            Body::Post(_) => {
                let own = |wished: &super::Wished| wished.unseen && wished.id == event.stamp.id;
                if let Some(at) = self.wished.iter().position(own) {
                    return self.echo(room, posted, at);
                }
            }
            // Told as USERSTATE, to whom it concerns.
            Body::Roles { .. } => return None,
            Body::Denied { login, .. } if self.is_me(login) => {
                return Some(self.not_said(room));
            }
            Body::Held { .. } | Body::Denied { .. } if !roles.moderates() => return None,
            body if !self.caps.commands && !is_plain_irc(body) => return None,
            _ => {}
        }
        let form = self.form();
        let server = &self.shared.config.chat_server_name;
        Some(posted.form(form.slot(), |event| shown(server, room.name(), event, form)))
    }

    fn is_me(&self, login: &Login) -> bool {
        let claims = match &self.stage {
            Stage::In(identity) => identity.claims.as_ref(),
            Stage::Signing(_) => None,
        };
        claims.is_some_and(|claims| claims.user.login == *login)
    }

    /// What the author of a held message is told when it won't be said.
    fn not_said(&self, room: &Room) -> Bytes {
        let text = "Your message was looked at by moderators and was not sent.";
        let notice = Notice::new(NoticeId::MsgRejectedMandatory, text);
        let mut replies = Replies::default();
        self.notice(Some(room.name()), &notice, &mut replies);
        self.framing.frame(&replies.0.pop().unwrap_or_default())
    }

    /// A client's own message: told back to who asked for echoes, with the label.
    fn echo(&mut self, room: &Room, posted: &Posted, at: usize) -> Option<Bytes> {
        let wished = self.wished.get_mut(at)?;
        wished.unseen = false;
        let answered = wished.answered;
        let label = if self.caps.echo {
            wished.label.take()
        } else {
            None
        };
        if answered {
            self.wished.remove(at);
        }
        if !self.caps.echo {
            return None;
        }
        let form = self.form();
        let server = &self.shared.config.chat_server_name;
        let mut line = show::line(server, room.name(), &posted.event, form.tagging);
        if let Some(label) = label {
            line = with_tag(&line, "label", &label);
        }
        Some(self.framing.frame(&line))
    }

    /// Rooms that were heard since they were joined, or whose home takes too long.
    fn enter_heard(&mut self, now: UnixMs) {
        for at in 0..self.joined.len() {
            let Some(joined) = self.joined.get_mut(at) else {
                return;
            };
            let room = &joined.seat.room;
            match joined.entry {
                Entry::Heard(..) => {}
                Entry::Asked(_) if room.heard().is_some() || room.is_overdue() => {
                    self.admit(now, at);
                }
                Entry::Asked(_) => {}
                Entry::Unheard => {
                    let Some((epoch, offset)) = room.heard() else {
                        continue;
                    };
                    let room = room.clone();
                    joined.heard(epoch, offset);
                    if self.caps.commands {
                        let mut replies = Replies::default();
                        self.room_state(&room, &mut replies);
                        self.send(now, None, replies);
                    }
                }
            }
        }
    }
}
