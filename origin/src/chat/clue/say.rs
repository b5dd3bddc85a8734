//! Whether something may be said. The order of the checks is that of what they
//! cost a user to learn: a ban before a limit, a limit before a rule.

use common::{
    chat::{
        Author, Body, EmoteSpans, Event, MessageId, Notice, NoticeId, Post, Reply, Roles, Sender,
        TermAction, Text, Verdict,
        limit::{MODERATOR_MESSAGES, USER_MESSAGES},
    },
    live::UnixMs,
};

use super::{
    Change, Clue, Decision, RECENT, ROOM_MESSAGES, Said, filter, links::has_link, refused,
    review::Held, told_no,
};

impl Clue {
    #[expect(clippy::too_many_arguments, reason = "a request, taken apart")]
    pub(super) fn say(
        &mut self,
        now: UnixMs,
        id: MessageId,
        sender: &Sender,
        roles: Roles,
        text: &Text,
        action: bool,
        reply_to: Option<MessageId>,
    ) -> Decision {
        let emotes = self.policy.emotes.find(text.as_str());
        let allowed = self
            .not_banned(now, sender, roles)
            .and_then(|()| self.within_limits(now, sender, roles))
            .and_then(|()| self.within_rules(now, sender, roles, text, emotes.only))
            .and_then(|()| self.without_links(now, sender, roles, text));
        if let Err(why) = allowed {
            return told_no(why);
        }
        let wish = Held {
            id,
            at: now,
            sender: sender.clone(),
            text: text.clone(),
            action,
            reply_to,
        };
        let blocked = if roles.moderates() {
            None
        } else {
            filter::check(text.as_str(), &self.terms, &self.policy.terms)
        };
        if blocked == Some(TermAction::Refuse) {
            return rejected();
        }
        if let Some(speaker) = self.speakers.of(now, sender, roles) {
            speaker.said = Some(now);
        }
        if blocked == Some(TermAction::Hold) {
            return self.hold(now, wish, roles);
        }
        let event = self.utter(now, &wish, roles, emotes.spans);
        Decision {
            verdict: Verdict::Said(event.stamp),
            events: vec![event],
            changes: Vec::new(),
        }
    }

    fn hold(&mut self, now: UnixMs, wish: Held, roles: Roles) -> Decision {
        let body = Body::Held {
            author: Author {
                user: wish.sender.user.clone(),
                roles,
            },
            text: wish.text.clone(),
        };
        let id = wish.id;
        if !self.review.push(wish.clone()) {
            return rejected();
        }
        let event = self.event(now, id, body);
        Decision {
            events: vec![event],
            changes: vec![Change::Held(Box::new(wish))],
            ..told_no(held_notice())
        }
    }

    /// Says it, whatever rules there are.
    pub(super) fn utter(
        &mut self,
        now: UnixMs,
        wish: &Held,
        roles: Roles,
        emotes: EmoteSpans,
    ) -> Event {
        let Held {
            id,
            sender,
            text,
            action,
            reply_to,
            ..
        } = wish;
        let answered = reply_to.and_then(|parent| self.shown(parent));
        let reply = answered.map(|said| Reply {
            parent: said.id,
            thread: said.thread,
            user: said.sender.id.clone(),
            login: said.sender.login.clone(),
            display: said.sender.display.clone(),
            text: said.text.clone(),
        });
        let thread = reply.as_ref().map_or(*id, |reply| reply.thread);
        self.recall(Said {
            id: *id,
            thread,
            sender: sender.user.clone(),
            roles,
            text: text.clone(),
            shown: true,
        });
        let stamp = self.stamp(now, *id);
        let body = Body::Post(Post {
            author: Author {
                user: sender.user.clone(),
                roles,
            },
            text: text.clone(),
            action: *action,
            reply,
            emotes,
        });
        Event { stamp, body }
    }

    pub(super) fn not_banned(
        &self,
        now: UnixMs,
        sender: &Sender,
        roles: Roles,
    ) -> Result<(), Notice> {
        if roles.broadcaster {
            return Ok(());
        }
        let room = &self.room;
        let Some(ban) = self.bans.on(now, sender) else {
            return Ok(());
        };
        Err(match ban.until {
            None => Notice::new(
                NoticeId::MsgBanned,
                format!("You are permanently banned from talking in {room}."),
            ),
            Some(until) => Notice::new(
                NoticeId::MsgTimedOut,
                format!(
                    "You are timed out for {} more seconds.",
                    until.0.saturating_sub(now.0).div_ceil(1_000)
                ),
            ),
        })
    }

    fn within_limits(&mut self, now: UnixMs, sender: &Sender, roles: Roles) -> Result<(), Notice> {
        let busy = || {
            Notice::new(
                NoticeId::MsgRateLimit,
                "Your message was not sent because the room is too busy.",
            )
        };
        if self.all.take(now.0, ROOM_MESSAGES).is_err() && !roles.moderates() {
            return Err(busy());
        }
        let speaker = self.speakers.of(now, sender, roles).ok_or_else(busy)?;
        let rate = if roles.moderates() {
            MODERATOR_MESSAGES
        } else {
            USER_MESSAGES
        };
        speaker.taken.take(now.0, rate).map_err(|_| {
            Notice::new(
                NoticeId::MsgRateLimit,
                "Your message was not sent because you are sending messages too quickly.",
            )
        })
    }

    fn within_rules(
        &self,
        now: UnixMs,
        sender: &Sender,
        roles: Roles,
        text: &Text,
        only_emotes: bool,
    ) -> Result<(), Notice> {
        if roles.moderates() || roles.vip {
            return Ok(());
        }
        let settings = &self.settings;
        if let Some(said) = self.speakers.said(&sender.user.login) {
            let again = said.0.saturating_add(u64::from(settings.slow_s) * 1_000);
            if again > now.0 {
                let wait_s = (again - now.0).div_ceil(1_000);
                return Err(Notice::new(
                    NoticeId::MsgSlowMode,
                    format!(
                        "This room is in slow mode and you are sending messages too quickly. You will be able to talk again in {wait_s} seconds."
                    ),
                ));
            }
        }
        if settings.subscribers_only && !roles.subscriber {
            return Err(Notice::new(
                NoticeId::MsgSubsOnly,
                "This room is in subscribers only mode.",
            ));
        }
        if let Some(minutes) = settings.followers_min
            && !roles.subscriber
        {
            followed(now, sender.follows_since, minutes)?;
        }
        if settings.emote_only && !only_emotes {
            return Err(Notice::new(
                NoticeId::MsgEmoteOnly,
                "This room is in emote-only mode.",
            ));
        }
        if settings.unique {
            let same = |said: &Said| same_but_for_case(said.text.as_str(), text.as_str());
            if self.recent.iter().any(same) {
                return Err(Notice::new(
                    NoticeId::MsgR9k,
                    "This room is in unique-chat mode and the message you attempted to send is not unique.",
                ));
            }
        }
        Ok(())
    }

    fn without_links(
        &self,
        now: UnixMs,
        sender: &Sender,
        roles: Roles,
        text: &Text,
    ) -> Result<(), Notice> {
        let may = !self.settings.no_links
            || roles.moderates()
            || roles.vip
            || self.review.is_permitted(now, &sender.user.login);
        if may || !has_link(text.as_str()) {
            return Ok(());
        }
        let text = "Links are not allowed in this room; a moderator may permit you to post one.";
        Err(Notice::new(NoticeId::MsgRejectedMandatory, text))
    }

    /// A message that is still to be seen.
    pub(super) fn shown(&self, id: MessageId) -> Option<&Said> {
        let newest_first = self.recent.iter().rev();
        newest_first
            .filter(|said| said.shown)
            .find(|said| said.id == id)
    }

    pub(super) fn recall(&mut self, said: Said) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(said);
    }
}

/// What the author of a held message is told.
pub(super) fn held_notice() -> Notice {
    let text = "Your message is being looked at by moderators and was not sent yet.";
    Notice::new(NoticeId::MsgRejected, text)
}

/// Which word it was is not told, or the list would be learnt by trying.
fn rejected() -> Decision {
    let text = "Your message was not sent because of this room's moderation settings.";
    refused(NoticeId::MsgRejectedMandatory, text)
}

fn same_but_for_case(one: &str, other: &str) -> bool {
    fn lower(text: &str) -> impl Iterator<Item = char> {
        text.chars().flat_map(char::to_lowercase)
    }
    lower(one).eq(lower(other))
}

fn followed(now: UnixMs, since: Option<UnixMs>, minutes: u32) -> Result<(), Notice> {
    let Some(since) = since else {
        let id = if minutes == 0 {
            NoticeId::MsgFollowersOnlyZero
        } else {
            NoticeId::MsgFollowersOnly
        };
        return Err(Notice::new(id, "This room is in followers-only mode."));
    };
    let needed = u64::from(minutes) * 60_000;
    if now.0.saturating_sub(since.0) < needed {
        return Err(Notice::new(
            NoticeId::MsgFollowersOnlyFollowed,
            format!("This room is in {minutes} minutes followers-only mode."),
        ));
    }
    Ok(())
}
