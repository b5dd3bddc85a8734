//! What moderators may do, and to whom.

use common::{
    chat::{
        Author, Body, Command, Login, MessageId, Notice, NoticeId, Roles, Sender, Settings, Text,
        UserId, UserNotice, UserNoticeKind, Verdict,
    },
    live::UnixMs,
};

use super::{Ban, Change, Clue, Decision, MAX_ROLES, refused};

/// Names that one answer lists.
const LISTED: usize = 100;

/// Who did it, and when: what every command needs.
struct Deed<'a> {
    now: UnixMs,
    id: MessageId,
    sender: &'a Sender,
    roles: Roles,
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
                for said in &mut self.recent {
                    said.shown = false;
                }
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
            | C::Unique { .. } => self.set(&deed, command),
            C::Mod { login } => self.grant(&deed, login, moderator(true), true),
            C::Unmod { login } => self.grant(&deed, login, moderator(true), false),
            C::Vip { login } => self.grant(&deed, login, vip(), true),
            C::Unvip { login } => self.grant(&deed, login, vip(), false),
            C::Mods => self.list(
                |roles| roles.moderator,
                NoticeId::RoomMods,
                NoticeId::NoMods,
            ),
            C::Vips => self.list(|roles| roles.vip, NoticeId::VipsSuccess, NoticeId::NoVips),
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
            return refused(NoticeId::MsgRejected, "This room has too many bans.");
        }
        let speaker = self.speakers.find(login);
        let user = speaker.map(|speaker| speaker.user.clone());
        let ban = Ban {
            user: user.clone(),
            until: seconds.map(|s| UnixMs(deed.now.0.saturating_add(u64::from(s) * 1_000))),
            network: speaker
                .and_then(|speaker| speaker.network)
                .filter(|_| network),
            by: deed.sender.user.login.clone(),
            reason: reason.cloned(),
            at: deed.now,
        };
        self.bans.insert(login.clone(), ban.clone());
        let mut changes = vec![Change::Ban(login.clone(), ban)];
        // Nobody moderates from behind a ban.
        if self.roles.remove(login).is_some() {
            changes.push(Change::Roles(login.clone(), Roles::default()));
        }
        for said in &mut self.recent {
            said.shown &= said.sender.login != *login;
        }
        let body = Body::UserCleared {
            user: user.unwrap_or_else(|| UserId::from(login)),
            login: login.clone(),
            seconds,
        };
        let event = self.event(deed.now, deed.id, body);
        let notice = match seconds {
            Some(seconds) => Notice::new(
                NoticeId::TimeoutSuccess,
                format!("{login} has been timed out for {seconds} seconds."),
            ),
            None => Notice::new(
                NoticeId::BanSuccess,
                format!("{login} is now banned from this channel."),
            ),
        };
        Decision {
            verdict: Verdict::Done(notice),
            events: vec![event],
            changes,
        }
    }

    fn untouchable(&self, deed: &Deed<'_>, login: &Login, words: &Untouchable) -> Option<Decision> {
        let verb = words.verb;
        if *login == deed.sender.user.login {
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
        let own = self.roles.get(login).copied().unwrap_or_default();
        let claimed = self.speakers.find(login).map(|speaker| speaker.roles);
        let target = own.union(claimed.unwrap_or_default());
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
        let held = self.bans.remove(login);
        let Some(ban) = held.filter(|ban| !ban.is_over(deed.now)) else {
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
            verdict: Verdict::Done(notice),
            events: Vec::new(),
            changes: vec![Change::Unban(login.clone())],
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
        for other in self.recent.iter_mut().filter(|other| other.id == message) {
            other.shown = false;
        }
        let login = said.sender.login;
        let body = Body::Deleted {
            message,
            login: login.clone(),
            text: said.text,
        };
        let event = self.event(deed.now, deed.id, body);
        Decision {
            verdict: Verdict::Done(Notice::new(
                NoticeId::DeleteMessageSuccess,
                format!("The message from {login} is now deleted."),
            )),
            events: vec![event],
            changes: Vec::new(),
        }
    }

    fn set(&mut self, deed: &Deed<'_>, command: &Command) -> Decision {
        let (settings, notice) = changed(self.settings, command);
        if settings == self.settings {
            return Decision {
                verdict: Verdict::Done(notice),
                events: Vec::new(),
                changes: Vec::new(),
            };
        }
        self.settings = settings;
        let event = self.event(deed.now, deed.id, Body::Settings(settings));
        Decision {
            verdict: Verdict::Done(notice),
            events: vec![event],
            changes: vec![Change::Settings(settings)],
        }
    }

    fn grant(&mut self, deed: &Deed<'_>, login: &Login, role: Roles, give: bool) -> Decision {
        let is_mod = role.moderator;
        let had = self.roles.get(login).copied().unwrap_or_default();
        let has = if is_mod { had.moderator } else { had.vip };
        if has == give {
            let id = match (is_mod, give) {
                (true, true) => NoticeId::BadModMod,
                (true, false) => NoticeId::BadUnmodMod,
                (false, true) => NoticeId::BadVipGranteeAlreadyVip,
                (false, false) => NoticeId::BadUnvipGranteeNotVip,
            };
            let already = if give { "already" } else { "not" };
            let what = if is_mod { "a moderator" } else { "a VIP" };
            return refused(id, format!("{login} is {already} {what} of this channel."));
        }
        let banned = self.bans.of(deed.now, login).is_some();
        if give && banned {
            let id = if is_mod {
                NoticeId::BadModBanned
            } else {
                NoticeId::BadVipGranteeBanned
            };
            return refused(id, format!("{login} is banned in this channel."));
        }
        if give && self.roles.len() >= MAX_ROLES && had == Roles::default() {
            return refused(NoticeId::MsgRejected, "This room has too many roles.");
        }
        let mut roles = had;
        if is_mod {
            roles.moderator = give;
        } else {
            roles.vip = give;
        }
        if roles == Roles::default() {
            self.roles.remove(login);
        } else {
            self.roles.insert(login.clone(), roles);
        }
        let (id, text) = match (is_mod, give) {
            (true, true) => (NoticeId::ModSuccess, "You have added {} as a moderator."),
            (true, false) => (
                NoticeId::UnmodSuccess,
                "You have removed {} as a moderator.",
            ),
            (false, true) => (NoticeId::VipSuccess, "You have added {} as a VIP."),
            (false, false) => (NoticeId::UnvipSuccess, "You have removed {} as a VIP."),
        };
        Decision {
            verdict: Verdict::Done(Notice::new(id, text.replace("{}", login.as_str()))),
            events: Vec::new(),
            changes: vec![Change::Roles(login.clone(), roles)],
        }
    }

    fn list(&self, has: impl Fn(&Roles) -> bool, some: NoticeId, none: NoticeId) -> Decision {
        let holders = self.roles.iter().filter(|(_, roles)| has(roles));
        let mut names: Vec<_> = holders.map(|(login, _)| login.as_str()).collect();
        names.sort_unstable();
        names.truncate(LISTED);
        let what = if some == NoticeId::RoomMods {
            "moderators"
        } else {
            "VIPs"
        };
        let notice = if names.is_empty() {
            Notice::new(none, format!("There are no {what} of this channel."))
        } else {
            let names = names.join(", ");
            Notice::new(some, format!("The {what} of this channel are: {names}"))
        };
        Decision {
            verdict: Verdict::Done(notice),
            events: Vec::new(),
            changes: Vec::new(),
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

const fn moderator(moderator: bool) -> Roles {
    Roles {
        broadcaster: false,
        moderator,
        vip: false,
        subscriber: false,
    }
}

const fn vip() -> Roles {
    Roles {
        vip: true,
        ..moderator(false)
    }
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
        // The caller passes on the commands above alone.
        _ => Notice::new(N::UnrecognizedCmd, "Unrecognized command."),
    };
    (settings, notice)
}
