//! PRIVMSG: messages and moderators' commands, and what their rooms say to them.

use common::{
    chat::{
        Command, CommandError, MessageId, Notice, NoticeId, Request, Text, Verdict, irc::Line,
        request::Ask,
    },
    live::UnixMs,
    names::ChannelName,
};

use super::{Answer, Identity, MAX_WISHES, Replies, Session, Stage, Wished};
use crate::chat::uplink::{ReplyTo, Wish, busy};

/// A client's own mark for what it says.
const MAX_NONCE_BYTES: usize = 64;

/// Tags by which clients say what they answer.
const REPLY_TAGS: [&str; 3] = ["reply-parent-msg-id", "+draft/reply", "+reply"];

impl Session {
    pub(super) fn privmsg(
        &mut self,
        now: UnixMs,
        line: &Line<'_>,
        label: Option<&str>,
        replies: &mut Replies,
    ) -> Answer {
        let (Some(target), Some(text)) = (line.params.get(0), line.params.get(1)) else {
            self.numeric(replies, "461", &["PRIVMSG"], "Not enough parameters");
            return Answer::Now;
        };
        let Some(room) = Self::room_name(target) else {
            self.numeric(replies, "401", &[target], "No such nick or channel");
            return Answer::Now;
        };
        if self.is_expired(now) {
            self.expired(now);
            return Answer::Now;
        }
        let refuse = |session: &Self, id, text: &str, replies: &mut Replies| {
            session.notice(Some(&room), &Notice::new(id, text), replies);
            Answer::Now
        };
        let Stage::In(Identity {
            claims: Some(claims),
            ..
        }) = &self.stage
        else {
            let text = "Sign in to talk.";
            return refuse(self, NoticeId::NoPermission, text, replies);
        };
        let sender = claims.sender(&room, Some(self.network));
        let ask = match wish(text, line) {
            Some(Ok(ask)) => ask,
            Some(Err(CommandError(notice))) => {
                self.notice(Some(&room), &notice, replies);
                return Answer::Now;
            }
            None => {
                self.numeric(replies, "412", &[], "No text to send");
                return Answer::Now;
            }
        };
        let here = self.shared.rooms.get(&room);
        let here = here.map_or(sender.roles, |room| self.roles_in(&room).0);
        let moderates = sender.roles.union(here).moderates();
        let user = &claims.user.id;
        if !self
            .shared
            .limits
            .message(now, user, self.network, moderates)
        {
            let text = "Your message was not sent because you are sending messages too quickly.";
            return refuse(self, NoticeId::MsgRateLimit, text, replies);
        }
        let waiting = self.wished.iter().filter(|wished| !wished.answered).count();
        if waiting >= MAX_WISHES {
            self.notice(Some(&room), &busy(), replies);
            return Answer::Now;
        }
        let network = Some(self.network);
        if self.shared.open_room(&room, network).is_none() {
            self.notice(Some(&room), &busy(), replies);
            return Answer::Now;
        }
        let nonce = line.tags.get("client-nonce");
        let nonce = nonce.filter(|nonce| nonce.len() <= MAX_NONCE_BYTES);
        let id = (self.shared.ids)();
        let says = matches!(ask, Ask::Say { .. });
        let wish = Wish::Ask {
            room: room.clone(),
            request: Box::new(Request { id, sender, ask }),
            reply: ReplyTo::Connection(self.mailbox.clone()),
        };
        if self.shared.wishes.try_send(wish).is_err() {
            self.notice(Some(&room), &busy(), replies);
            return Answer::Now;
        }
        let here = self
            .joined
            .iter()
            .any(|joined| *joined.seat.room.name() == room);
        self.wished.push_back(Wished {
            id,
            room,
            unseen: says && here,
            label: label.map(str::to_owned),
            nonce: nonce.map(std::borrow::Cow::into_owned),
            answered: false,
        });
        Answer::Later
    }

    /// Tells what rooms said to this client's wishes.
    pub fn verdicts(&mut self, now: UnixMs) {
        for (id, verdict) in self.mailbox.take_verdicts() {
            let Some(at) = self.wished.iter().position(|wished| wished.id == id) else {
                continue;
            };
            self.verdict(now, at, &verdict);
        }
        // Of those whose event never came (a gap, say) the oldest are forgotten.
        while self.wished.len() > 2 * MAX_WISHES {
            self.wished.pop_front();
        }
    }

    fn verdict(&mut self, now: UnixMs, at: usize, verdict: &Verdict) {
        let Some(wished) = self.wished.get_mut(at) else {
            return;
        };
        wished.answered = true;
        let said = matches!(verdict, Verdict::Said(_));
        wished.unseen &= said;
        // With echo-message the echo is the answer, and bears the label.
        let echoed = said && self.caps.echo && wished.unseen;
        let label = if echoed { None } else { wished.label.take() };
        let nonce = wished.nonce.take();
        let room: ChannelName = wished.room.clone();
        let id: MessageId = wished.id;
        let had_echo = said && self.caps.echo && !wished.unseen;
        if !wished.unseen {
            self.wished.remove(at);
        }
        let mut replies = Replies::default();
        match verdict {
            Verdict::Said(_) if self.caps.commands => {
                self.user_state(&room, Some(id), nonce.as_deref(), &mut replies);
            }
            Verdict::Said(_) => {}
            Verdict::Done(notice) | Verdict::Refused(notice) => {
                self.notice(Some(&room), notice, &mut replies);
            }
            Verdict::Raids {
                notice,
                to,
                viewers,
            } => {
                self.notice(Some(&room), notice, &mut replies);
                self.raid(room, to, *viewers, &mut replies);
            }
        }
        if echoed || had_echo && label.is_none() {
            self.send(now, None, replies);
        } else {
            self.send(now, label.as_deref(), replies);
        }
    }
}

impl Session {
    /// One room agreed to go on to another: that one's home is told.
    fn raid(&mut self, from: ChannelName, to: &ChannelName, viewers: u32, replies: &mut Replies) {
        let Stage::In(Identity {
            claims: Some(claims),
            ..
        }) = &self.stage
        else {
            return;
        };
        let id = (self.shared.ids)();
        let wish = Wish::Ask {
            room: to.clone(),
            request: Box::new(Request {
                id,
                sender: claims.sender(to, Some(self.network)),
                ask: Ask::Arrive {
                    from: from.clone(),
                    viewers,
                },
            }),
            reply: ReplyTo::Connection(self.mailbox.clone()),
        };
        let opened = self.shared.open_room(to, Some(self.network)).is_some();
        if !opened || self.shared.wishes.try_send(wish).is_err() {
            self.notice(Some(&from), &busy(), replies);
            return;
        }
        self.wished.push_back(Wished {
            id,
            room: from,
            unseen: false,
            label: None,
            nonce: None,
            answered: false,
        });
    }
}

/// What a PRIVMSG's text wishes for; `None` where it says nothing.
fn wish(text: &str, line: &Line<'_>) -> Option<Result<Ask, CommandError>> {
    let action = text
        .strip_prefix("\u{1}ACTION ")
        .map(|rest| rest.strip_suffix('\u{1}').unwrap_or(rest))
        .or_else(|| text.strip_prefix("/me "))
        .or_else(|| text.strip_prefix(".me "));
    if action.is_none()
        && let Some(command) = Command::parse(text)
    {
        return Some(command.map(Ask::Do));
    }
    let said = Text::cut(action.unwrap_or(text))?;
    let reply_to = REPLY_TAGS
        .iter()
        .find_map(|tag| line.tags.get(tag))
        .and_then(|id| MessageId::parse(&id).ok());
    Some(Ok(Ask::Say {
        text: said,
        action: action.is_some(),
        reply_to,
    }))
}
