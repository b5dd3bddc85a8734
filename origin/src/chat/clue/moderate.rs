//! What moderators may do, and to whom.

use common::{
    chat::{
        Author, Body, Command, Login, MessageId, Notice, NoticeId, Roles, Sender, Settings, Text,
        UserId, UserNotice, UserNoticeKind, Verdict,
    },
    live::UnixMs,
};

use super::{Ban, COMMANDS, Change, Clue, Decision, done, refused, roles::Grant};

/// Who did it, and when: what every command needs.
pub(super) struct Deed<'a> {
    pub(super) now: UnixMs,
    pub(super) id: MessageId,
    pub(super) sender: &'a Sender,
    pub(super) roles: Roles,
}

/// The words for a ban or a time-out that can't be.
struct Untouchable {
    own: NoticeId,
    broadcaster: NoticeId,
    moderator: NoticeId,
    anonymous: NoticeId,
    verb: &'static str,
}

const BAN: Untouchable = Untouchable {
    own: NoticeId::BadBanSelf,
    broadcaster: NoticeId::BadBanBroadcaster,
    moderator: NoticeId::BadBanMod,
    anonymous: NoticeId::BadBanAnon,
    verb: "ban",
};

const TIMEOUT: Untouchable = Untouchable {
    own: NoticeId::BadTimeoutSelf,
    broadcaster: NoticeId::BadTimeoutBroadcaster,
    moderator: NoticeId::BadTimeoutMod,
    anonymous: NoticeId::BadTimeoutAnon,
    verb: "timeout",
};

impl Clue {
    pub(super) fn moderate(
        &mut self,
        now: UnixMs,
        id: MessageId,
        sender: &Sender,
        roles: Roles,
        command: &Command,
    ) -> Decision {
        use Command as C;
        let owner_only = matches!(
            command,
            C::Mod { .. } | C::Unmod { .. } | C::Vip { .. } | C::Unvip { .. }
        );
        let open = matches!(command, C::Mods | C::Vips);
        let speakers = if sender.is_tool() {
            &mut self.tools
        } else {
            &mut self.speakers
        };
        // A room full of speakers is still to be moderated: no place is no refusal.
        let speaker = speakers.of(now, sender, roles);
        if speaker.is_some_and(|speaker| speaker.commands.take(now.0, COMMANDS).is_err()) {
            let text = "You are sending commands too quickly.";
            return refused(NoticeId::MsgRateLimit, text);
        }
        let may = open || roles.broadcaster || roles.moderator && !owner_only;
        if !may {
            return refused(
                NoticeId::NoPermission,
                "You don't have permission to perform that action.",
            );
        }
        let deed = Deed {
            now,
            id,
            sender,
            roles,
        };
        match command {
            C::Ban {
                login,
                network,
                reason,
            } => self.ban(&deed, login, None, *network, reason.as_ref()),
            C::Timeout {
                login,
                seconds,
                reason,
            } => self.ban(&deed, login, Some(*seconds), false, reason.as_ref()),
            C::Unban { login } | C::Untimeout { login } => self.unban(&deed, login),
            C::Delete { message } => self.delete(&deed, *message),
            C::Clear => {
                self.hide(|_| true);
                let event = self.event(now, id, Body::Cleared);
                Decision {
                    verdict: Verdict::Said(event.stamp),
                    events: vec![event],
                    changes: Vec::new(),
                }
            }
            C::Slow { .. }
            | C::Followers { .. }
            | C::Subscribers { .. }
            | C::EmoteOnly { .. }
            | C::NoLinks { .. }
            | C::Unique { .. } => self.set(&deed, command),
            C::Mod { login } => self.grant(&deed, login, Grant::Moderator, true),
            C::Unmod { login } => self.grant(&deed, login, Grant::Moderator, false),
            C::Vip { login } => self.grant(&deed, login, Grant::Vip, true),
            C::Unvip { login } => self.grant(&deed, login, Grant::Vip, false),
            C::Mods => self.list(Grant::Moderator),
            C::Vips => self.list(Grant::Vip),
            C::AddTerm { term, action } => self.add_term(term, *action),
            C::RemoveTerm { term } => self.remove_term(term),
            C::Terms => self.list_terms(),
            C::Permit { login, seconds } => self.permit(now, login, *seconds),
            C::Approve { message } => self.approve(&deed, *message),
            C::Deny { message } => self.deny(&deed, *message),
            C::Raid { to } => self.raid(&deed, to),
            C::Announce { colour, text } => self.announce(&deed, colour, text),
        }
    }

    fn ban(
        &mut self,
        deed: &Deed<'_>,
        login: &Login,
        seconds: Option<u32>,
        network: bool,
        reason: Option<&Text>,
    ) -> Decision {
        let words = if seconds.is_some() { TIMEOUT } else { BAN };
        if let Some(refusal) = self.untouchable(deed, login, &words) {
            return refusal;
        }
        let standing = self.bans.of(deed.now, login);
        if standing.is_some_and(|ban| ban.until.is_none() && (seconds.is_some() || !network)) {
            return refused(
                NoticeId::AlreadyBanned,
                format!("{login} is already banned in this channel."),
            );
        }
        if standing.is_none() && !self.bans.has_room(deed.now) {
            return refused(NoticeId::TooMany, "This room has too many bans.");
        }
        let speaker = self.speakers.find(login);
        let user = speaker.map(|speaker| speaker.user.clone());
        let ban = Ban {
            user: user.clone(),
            until: seconds.map(|s| UnixMs(deed.now.0.saturating_add(u64::from(s) * 1_000))),
            network: speaker
                .and_then(|speaker| speaker.network)
                .filter(|_| network || self.policy.ban_networks && seconds.is_none()),
            by: deed.sender.user.login.clone(),
            reason: reason.cloned(),
            at: deed.now,
        };
        self.bans.insert(login.clone(), ban.clone());
        let mut changes = vec![Change::Ban(login.clone(), ban)];
        // Nobody moderates from behind a ban.
        let demoted = self.roles.remove(login).is_some();
        if demoted {
            changes.push(Change::Roles(login.clone(), Roles::default()));
        }
        self.hide(|said| said.sender.login == *login);
        self.review.forget(login);
        let body = Body::UserCleared {
            user: user.unwrap_or_else(|| UserId::from(login)),
            login: login.clone(),
            seconds,
        };
        let mut events = vec![self.event(deed.now, deed.id, body)];
        if demoted {
            let body = self.role_body(login.clone());
            events.push(self.event(deed.now, deed.id, body));
        }
        Decision {
            events,
            changes,
            ..done(ban_notice(login, seconds))
        }
    }

    fn untouchable(&self, deed: &Deed<'_>, login: &Login, words: &Untouchable) -> Option<Decision> {
        let verb = words.verb;
        if *login == deed.sender.user.login && !deed.sender.is_tool() {
            return Some(refused(words.own, format!("You cannot {verb} yourself.")));
        }
        if login.as_str() == self.room.as_str() {
            return Some(refused(
                words.broadcaster,
                format!("You cannot {verb} the broadcaster."),
            ));
        }
        if login.is_anonymous() {
            return Some(refused(
                words.anonymous,
                format!("You cannot {verb} anonymous users."),
            ));
        }
        let claimed = self.speakers.find(login).map(|speaker| speaker.roles);
        let target = self.own_word(login).union(claimed.unwrap_or_default());
        (target.moderates() && !deed.roles.broadcaster).then(|| {
            refused(
                words.moderator,
                format!(
                    "You cannot {verb} moderator {login} unless you are the owner of this channel."
                ),
            )
        })
    }

    fn unban(&mut self, deed: &Deed<'_>, login: &Login) -> Decision {
        let in_force = self.bans.of(deed.now, login).is_some();
        let held = in_force.then(|| self.bans.remove(login));
        let Some(ban) = held.flatten() else {
            return refused(
                NoticeId::BadUnbanNoBan,
                format!("{login} is not banned from this channel."),
            );
        };
        let notice = match ban.until {
            None => Notice::new(
                NoticeId::UnbanSuccess,
                format!("{login} is no longer banned from this channel."),
            ),
            Some(_) => Notice::new(
                NoticeId::UntimeoutSuccess,
                format!("{login} is no longer timed out in this channel."),
            ),
        };
        Decision {
            changes: vec![Change::Unban(login.clone())],
            ..done(notice)
        }
    }

    fn delete(&mut self, deed: &Deed<'_>, message: MessageId) -> Decision {
        let Some(said) = self.shown(message).cloned() else {
            return refused(
                NoticeId::BadDeleteMessageError,
                "The message to delete was not found.",
            );
        };
        let own = said.sender.login == deed.sender.user.login;
        if said.roles.broadcaster && !deed.roles.broadcaster {
            return refused(
                NoticeId::BadDeleteMessageBroadcaster,
                "You cannot delete the broadcaster's messages.",
            );
        }
        if said.roles.moderator && !deed.roles.broadcaster && !own {
            return refused(
                NoticeId::BadDeleteMessageMod,
                format!(
                    "You cannot delete messages from another moderator {}.",
                    said.sender.login
                ),
            );
        }
        self.hide(|other| other.id == message);
        let login = said.sender.login;
        let body = Body::Deleted {
            message,
            login: login.clone(),
            text: said.text,
        };
        let event = self.event(deed.now, deed.id, body);
        Decision {
            events: vec![event],
            ..done(delete_notice(&login))
        }
    }

    fn set(&mut self, deed: &Deed<'_>, command: &Command) -> Decision {
        let (settings, notice) = changed(self.settings, command);
        if settings == self.settings {
            return done(notice);
        }
        self.settings = settings;
        let event = self.event(deed.now, deed.id, Body::Settings(settings));
        Decision {
            verdict: Verdict::Done(notice),
            events: vec![event],
            changes: vec![Change::Settings(settings)],
        }
    }

    fn announce(&mut self, deed: &Deed<'_>, colour: &str, text: &Text) -> Decision {
        let body = Body::UserNotice(UserNotice {
            kind: UserNoticeKind::Announcement {
                colour: colour.to_owned(),
            },
            author: Author {
                user: deed.sender.user.clone(),
                roles: deed.roles,
            },
            system: String::new(),
            text: Some(text.clone()),
        });
        let event = self.event(deed.now, deed.id, body);
        Decision {
            verdict: Verdict::Said(event.stamp),
            events: vec![event],
            changes: Vec::new(),
        }
    }
}

/// What who banned or timed out is told.
pub(super) fn ban_notice(login: &Login, seconds: Option<u32>) -> Notice {
    match seconds {
        Some(seconds) => Notice::new(
            NoticeId::TimeoutSuccess,
            format!("{login} has been timed out for {seconds} seconds."),
        ),
        None => Notice::new(
            NoticeId::BanSuccess,
            format!("{login} is now banned from this channel."),
        ),
    }
}

pub(super) fn delete_notice(login: &Login) -> Notice {
    let text = format!("The message from {login} is now deleted.");
    Notice::new(NoticeId::DeleteMessageSuccess, text)
}

/// The settings after a command, and what its giver is told.
fn changed(mut settings: Settings, command: &Command) -> (Settings, Notice) {
    use NoticeId as N;
    let pick = |on: bool, was: bool, ids: [NoticeId; 4], mode: &str| {
        let [now_on, already_on, now_off, already_off] = ids;
        let (id, text) = match (on, was) {
            (true, false) => (now_on, format!("This room is now in {mode} mode.")),
            (true, true) => (already_on, format!("This room is already in {mode} mode.")),
            (false, true) => (now_off, format!("This room is no longer in {mode} mode.")),
            (false, false) => (already_off, format!("This room is not in {mode} mode.")),
        };
        Notice::new(id, text)
    };
    let notice = match command {
        Command::Slow { seconds: 0 } => {
            settings.slow_s = 0;
            Notice::new(N::SlowOff, "This room is no longer in slow mode.")
        }
        Command::Slow { seconds } => {
            settings.slow_s = *seconds;
            let text = format!(
                "This room is now in slow mode. You may send messages every {seconds} seconds."
            );
            Notice::new(N::SlowOn, text)
        }
        Command::Followers { minutes } => {
            settings.followers_min = *minutes;
            match minutes {
                None => Notice::new(
                    N::FollowersOff,
                    "This room is no longer in followers-only mode.",
                ),
                Some(0) => Notice::new(
                    N::FollowersOnZero,
                    "This room is now in followers-only mode.",
                ),
                Some(minutes) => {
                    let text =
                        format!("This room is now in {minutes} minutes followers-only mode.");
                    Notice::new(N::FollowersOn, text)
                }
            }
        }
        Command::Subscribers { on } => {
            let was = std::mem::replace(&mut settings.subscribers_only, *on);
            let ids = [N::SubsOn, N::AlreadySubsOn, N::SubsOff, N::AlreadySubsOff];
            pick(*on, was, ids, "subscribers-only")
        }
        Command::EmoteOnly { on } => {
            let was = std::mem::replace(&mut settings.emote_only, *on);
            let ids = [
                N::EmoteOnlyOn,
                N::AlreadyEmoteOnlyOn,
                N::EmoteOnlyOff,
                N::AlreadyEmoteOnlyOff,
            ];
            pick(*on, was, ids, "emote-only")
        }
        Command::Unique { on } => {
            let was = std::mem::replace(&mut settings.unique, *on);
            let ids = [N::R9kOn, N::AlreadyR9kOn, N::R9kOff, N::AlreadyR9kOff];
            pick(*on, was, ids, "unique-chat")
        }
        Command::NoLinks { on } => {
            let was = std::mem::replace(&mut settings.no_links, *on);
            let ids = [
                N::NoLinksOn,
                N::AlreadyNoLinksOn,
                N::NoLinksOff,
                N::AlreadyNoLinksOff,
            ];
            pick(*on, was, ids, "no-links")
        }
        // The caller passes on the commands above alone.
        _ => Notice::new(N::UnrecognizedCmd, "Unrecognized command."),
    };
    (settings, notice)
}
