//! Raids: the viewers of one room go on to another, whose home is told by the edge
//! that asked. A room that is raided knows no more than that edge says, and edges
//! are nodes of ours.

use common::{
    chat::{
        Author, Body, Login, MessageId, Notice, NoticeId, Roles, Sender, User, UserNotice,
        UserNoticeKind, Verdict, limit::Rate,
    },
    live::UnixMs,
    names::ChannelName,
};

use super::{Clue, Decision, done, moderate::Deed, refused, told_no};

/// Raids from one room.
const RAIDS: Rate = Rate {
    most: 2,
    span_ms: 60_000,
};

/// Raids into one room.
const ARRIVALS: Rate = Rate {
    most: 10,
    span_ms: 60_000,
};

impl Clue {
    pub(super) fn raid(&mut self, deed: &Deed<'_>, to: &ChannelName) -> Decision {
        if *to == self.room {
            return refused(NoticeId::RaidErrorSelf, "A channel cannot raid itself.");
        }
        if self.raids.take(deed.now.0, RAIDS).is_err() {
            let text = "This channel has raided just now; wait a minute.";
            return refused(NoticeId::RaidErrorTooMany, text);
        }
        let viewers = self.readers;
        let body = Body::Notice(Notice::new(NoticeId::HostOn, format!("Now hosting {to}.")));
        let event = self.event(deed.now, deed.id, body);
        let plural = if viewers == 1 { "" } else { "s" };
        let text = format!("You are raiding {to} with {viewers} viewer{plural}.");
        Decision {
            verdict: Verdict::Raids {
                notice: Notice::new(NoticeId::RaidSuccess, text),
                to: to.clone(),
                viewers,
            },
            events: vec![event],
            changes: Vec::new(),
        }
    }

    /// Viewers of another room come, led by `sender`.
    pub(super) fn arrive(
        &mut self,
        now: UnixMs,
        id: MessageId,
        sender: &Sender,
        roles: Roles,
        from: &ChannelName,
        viewers: u32,
    ) -> Decision {
        if let Err(why) = self.not_banned(now, sender, roles) {
            return told_no(why);
        }
        if *from == self.room {
            return refused(NoticeId::RaidErrorSelf, "A channel cannot raid itself.");
        }
        if self.arrivals.take(now.0, ARRIVALS).is_err() {
            let text = format!("{} takes no more raids now.", self.room);
            return refused(NoticeId::RaidErrorForbidden, text);
        }
        let user = raider(sender, from);
        let display = &user.display;
        let system = format!("{viewers} raiders from {display} have joined!");
        let body = Body::UserNotice(UserNotice {
            kind: UserNoticeKind::Raid { viewers },
            author: Author { user, roles },
            system,
            text: None,
        });
        let event = self.event(now, id, body);
        let notice = Notice::new(
            NoticeId::RaidSuccess,
            format!("The raid has reached {}.", self.room),
        );
        Decision {
            events: vec![event],
            ..done(notice)
        }
    }
}

/// A raid bears its channel's name, whoever of its moderators began it.
fn raider(sender: &Sender, from: &ChannelName) -> User {
    match Login::parse(from.as_str()) {
        Ok(login) if login != sender.user.login => User::named(login),
        _ => sender.user.clone(),
    }
}
