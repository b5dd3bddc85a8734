//! Events as clients see them: Twitch's IRC, with tags or without.

use bytes::Bytes;
use common::chat::{
    Author, Body, Event, MessageId, Notice, NoticeId, Post, Reply, Settings, Stamp, UserNotice,
    UserNoticeKind, irc::LineWriter,
};
use common::live::UnixMs;
use common::names::ChannelName;

use super::form::{Form, Tagging};

/// Whether a client without `twitch.tv/commands` is told: IRC's own commands.
#[must_use]
pub const fn is_plain_irc(body: &Body) -> bool {
    matches!(
        body,
        Body::Post(_) | Body::Notice(_) | Body::Held { .. } | Body::Denied { .. }
    )
}

/// An event in a form, to be shared by all who take it.
#[must_use]
pub fn shown(server: &str, room: &ChannelName, event: &Event, form: Form) -> Bytes {
    form.framing.frame(&line(server, room, event, form.tagging))
}

/// An event as a line without its end. A gap has none.
#[must_use]
pub fn line(server: &str, room: &ChannelName, event: &Event, tagging: Tagging) -> String {
    let mut out = String::with_capacity(384);
    let mut line = LineWriter::new(&mut out);
    let stamp = &event.stamp;
    match tagging {
        Tagging::None => {}
        Tagging::Time => line.tag("time", Time(stamp.at)),
        Tagging::All => tags(&mut line, stamp, &event.body),
    }
    let room = Channel(room);
    match &event.body {
        Body::Post(post) => {
            let line = line
                .command(Source(&post.author, server), "PRIVMSG")
                .param(room);
            if post.action {
                line.trailing(format_args!("\u{1}ACTION {}\u{1}", post.text));
            } else {
                line.trailing(&post.text);
            }
        }
        Body::Cleared => {
            let _ = line.command(server, "CLEARCHAT").param(room);
        }
        Body::UserCleared { login, .. } => {
            line.command(server, "CLEARCHAT")
                .param(room)
                .trailing(login);
        }
        Body::Deleted { text, .. } => {
            line.command(server, "CLEARMSG").param(room).trailing(text);
        }
        Body::Settings(_) => {
            let _ = line.command(server, "ROOMSTATE").param(room);
        }
        Body::Notice(notice) => line
            .command(server, "NOTICE")
            .param(room)
            .trailing(&notice.text),
        Body::UserNotice(notice) => {
            let line = line.command(server, "USERNOTICE").param(room);
            if let Some(text) = &notice.text {
                line.trailing(text);
            }
        }
        Body::Held { author, text } => {
            let id = stamp.id;
            let login = &author.user.login;
            line.command(server, "NOTICE")
                .param(room)
                .trailing(format_args!(
                    "Held for review: {login}: {text} (/approve {id} or /deny {id})"
                ));
        }
        Body::Denied { login, by, .. } => line
            .command(server, "NOTICE")
            .param(room)
            .trailing(format_args!("{by} denied the held message of {login}.")),
        // Whom it concerns is told by its session, with all that is in a USERSTATE.
        Body::Roles { .. } => {
            let _ = line.command(server, "USERSTATE").param(room);
        }
        Body::Gap => line
            .command(server, "NOTICE")
            .param(room)
            .trailing("Some messages were lost on the way here."),
    }
    out
}

fn tags(line: &mut LineWriter<'_>, stamp: &Stamp, body: &Body) {
    match body {
        Body::Post(post) => post_tags(line, stamp.id, post),
        Body::Cleared => {}
        Body::UserCleared { user, seconds, .. } => {
            if let Some(seconds) = seconds {
                line.tag("ban-duration", seconds);
            }
            line.tag("target-user-id", user);
        }
        Body::Deleted { message, login, .. } => {
            line.tag("login", login);
            line.tag("target-msg-id", message);
        }
        Body::Settings(settings) => settings_tags(line, settings),
        Body::Notice(Notice { id, .. }) => line.tag("msg-id", id.as_str()),
        Body::UserNotice(notice) => user_notice_tags(line, stamp.id, notice),
        Body::Held { author, .. } => {
            line.tag("msg-id", NoticeId::HeldForReview.as_str());
            line.tag("target-msg-id", stamp.id);
            line.tag("login", &author.user.login);
            line.tag("display-name", &author.user.display);
            line.tag("target-user-id", &author.user.id);
        }
        Body::Denied { message, login, .. } => {
            line.tag("msg-id", NoticeId::HeldDenied.as_str());
            line.tag("target-msg-id", message);
            line.tag("login", login);
        }
        Body::Roles { .. } => {}
        Body::Gap => line.tag("msg-id", "gap"),
    }
    line.tag("time", Time(stamp.at));
    line.tag("tmi-sent-ts", stamp.at.0);
    line.tag(
        "millrace/offset",
        format_args!("{}.{}", stamp.epoch, stamp.offset),
    );
    line.tag("millrace/programme-time", Time(stamp.program));
}

/// Tags that a message and a USERNOTICE share.
fn author_tags(line: &mut LineWriter<'_>, id: MessageId, author: &Author, emotes: &str) {
    let Author { user, roles } = author;
    line.tag("badge-info", "");
    line.tag("badges", Joined(author));
    match user.colour {
        Some(colour) => line.tag("color", colour),
        None => line.tag("color", ""),
    }
    line.tag("display-name", &user.display);
    line.tag("emotes", emotes);
    line.tag("id", id);
    line.tag("msgid", id);
    line.tag("mod", u8::from(roles.moderator));
    line.tag("subscriber", u8::from(roles.subscriber));
    if roles.vip {
        line.tag("vip", 1);
    }
    line.tag("user-id", &user.id);
    line.tag("user-type", if roles.moderator { "mod" } else { "" });
}

fn post_tags(line: &mut LineWriter<'_>, id: MessageId, post: &Post) {
    author_tags(line, id, &post.author, post.emotes.as_str());
    if let Some(Reply {
        parent,
        thread,
        user,
        login,
        display,
        text,
    }) = &post.reply
    {
        line.tag("+draft/reply", parent);
        line.tag("reply-parent-msg-id", parent);
        line.tag("reply-parent-user-id", user);
        line.tag("reply-parent-user-login", login);
        line.tag("reply-parent-display-name", display);
        line.tag("reply-parent-msg-body", text);
        line.tag("reply-thread-parent-msg-id", thread);
    }
}

fn user_notice_tags(line: &mut LineWriter<'_>, id: MessageId, notice: &UserNotice) {
    author_tags(line, id, &notice.author, "");
    let user = &notice.author.user;
    line.tag("login", &user.login);
    line.tag("system-msg", &notice.system);
    match &notice.kind {
        UserNoticeKind::Announcement { colour } => {
            line.tag("msg-id", "announcement");
            line.tag("msg-param-color", colour);
        }
        UserNoticeKind::Raid { viewers } => {
            line.tag("msg-id", "raid");
            line.tag("msg-param-displayName", &user.display);
            line.tag("msg-param-login", &user.login);
            line.tag("msg-param-viewerCount", viewers);
        }
    }
}

/// ROOMSTATE's tags.
pub fn settings_tags(line: &mut LineWriter<'_>, settings: &Settings) {
    line.tag("emote-only", u8::from(settings.emote_only));
    match settings.followers_min {
        Some(minutes) => line.tag("followers-only", minutes),
        None => line.tag("followers-only", -1),
    }
    line.tag("r9k", u8::from(settings.unique));
    line.tag("slow", settings.slow_s);
    line.tag("subs-only", u8::from(settings.subscribers_only));
    // Twitch has no word for it.
    line.tag("millrace/no-links", u8::from(settings.no_links));
}

/// `#room`.
#[derive(Debug, Clone, Copy)]
pub struct Channel<'a>(pub &'a ChannelName);

impl std::fmt::Display for Channel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// `ann!ann@ann.tmi.twitch.tv`.
struct Source<'a>(&'a Author, &'a str);

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let login = &self.0.user.login;
        write!(f, "{login}!{login}@{login}.{}", self.1)
    }
}

struct Joined<'a>(&'a Author);

impl std::fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, badge) in self.0.badges().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{badge}")?;
        }
        Ok(())
    }
}

/// `2026-11-25T20:50:13.000Z` (IRCv3 server-time).
#[derive(Debug, Clone, Copy)]
pub struct Time(pub UnixMs);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, ms) = (self.0.0 / 1_000, self.0.0 % 1_000);
        let (days, of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
        )
    }
}

/// The Gregorian date of a day since 1970-01-01: years begin in March, so that the
/// leap day is the last, and 400 of them have 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use common::chat::{
        Colour, EmoteSpans, Login, Offset, Roles, RoomEpoch, Text, User, UserId, irc::Line,
    };
    use proptest::prelude::*;

    use super::*;

    fn event(body: Body) -> Event {
        Event {
            stamp: Stamp {
                epoch: RoomEpoch(7),
                offset: Offset(3),
                id: MessageId(1),
                at: UnixMs(1_795_639_813_250),
                program: UnixMs(1_795_639_813_250),
            },
            body,
        }
    }

    fn post(text: &str) -> Post {
        let mut user = User::named(Login::parse("ann").unwrap());
        user.colour = Some(Colour(0x1e_90ff));
        Post {
            author: Author {
                user,
                roles: Roles {
                    moderator: true,
                    ..Roles::default()
                },
            },
            text: Text::cut(text).unwrap(),
            action: false,
            reply: None,
            emotes: EmoteSpans::default(),
        }
    }

    fn demo() -> ChannelName {
        ChannelName::parse("demo").unwrap()
    }

    fn shown_line(body: Body, tagging: Tagging) -> String {
        line("tmi.twitch.tv", &demo(), &event(body), tagging)
    }

    /// What clients of Twitch read, word for word.
    #[test]
    fn golden_lines() {
        let plain = |body| shown_line(body, Tagging::None);
        assert_eq!(
            plain(Body::Post(post("hello you"))),
            ":ann!ann@ann.tmi.twitch.tv PRIVMSG #demo :hello you"
        );
        assert_eq!(
            shown_line(Body::Post(post("hi")), Tagging::Time),
            "@time=2026-11-25T20:50:13.250Z :ann!ann@ann.tmi.twitch.tv PRIVMSG #demo :hi"
        );
        assert_eq!(
            shown_line(Body::Post(post("hi")), Tagging::All),
            "@badge-info=;badges=moderator/1;color=#1E90FF;display-name=ann;emotes=;\
             id=00000000-0000-0000-0000-000000000001;msgid=00000000-0000-0000-0000-000000000001;\
             mod=1;subscriber=0;user-id=ann;user-type=mod;time=2026-11-25T20:50:13.250Z;\
             tmi-sent-ts=1795639813250;millrace/offset=7.3;\
             millrace/programme-time=2026-11-25T20:50:13.250Z \
             :ann!ann@ann.tmi.twitch.tv PRIVMSG #demo :hi"
        );
        let mut action = post("waves");
        action.action = true;
        assert_eq!(
            plain(Body::Post(action)),
            ":ann!ann@ann.tmi.twitch.tv PRIVMSG #demo :\u{1}ACTION waves\u{1}"
        );
        assert_eq!(plain(Body::Cleared), ":tmi.twitch.tv CLEARCHAT #demo");
        let cleared = |seconds| Body::UserCleared {
            user: UserId::parse("42").unwrap(),
            login: Login::parse("bob").unwrap(),
            seconds,
        };
        let line = shown_line(cleared(Some(60)), Tagging::All);
        assert!(
            line.starts_with("@ban-duration=60;target-user-id=42;"),
            "{line}"
        );
        assert!(
            line.ends_with(":tmi.twitch.tv CLEARCHAT #demo :bob"),
            "{line}"
        );
        assert!(!shown_line(cleared(None), Tagging::All).contains("ban-duration"));
        let deleted = shown_line(
            Body::Deleted {
                message: MessageId(1),
                login: Login::parse("bob").unwrap(),
                text: Text::cut("bad").unwrap(),
            },
            Tagging::All,
        );
        assert!(deleted.contains("login=bob;target-msg-id=00000000-0000-0000-0000-000000000001;"));
        assert!(deleted.ends_with(":tmi.twitch.tv CLEARMSG #demo :bad"));
        let settings = Settings {
            slow_s: 5,
            ..Settings::default()
        };
        let line = shown_line(Body::Settings(settings), Tagging::All);
        let tags = "@emote-only=0;followers-only=-1;r9k=0;slow=5;subs-only=0;";
        assert!(line.starts_with(tags), "{line}");
        let notice = Notice::new(NoticeId::SlowOn, "slow");
        let line = shown_line(Body::Notice(notice), Tagging::All);
        assert!(line.starts_with("@msg-id=slow_on;"), "{line}");
        let mut said = post("hi Kappa");
        said.emotes = EmoteSpans::parse("25:3-7").unwrap();
        let line = shown_line(Body::Post(said), Tagging::All);
        assert!(line.contains(";emotes=25:3-7;"), "{line}");
        let author = post("x").author;
        let text = Text::cut("hm").unwrap();
        let held = Body::Held { author, text };
        let id = MessageId(1);
        assert_eq!(
            plain(held.clone()),
            format!(
                ":tmi.twitch.tv NOTICE #demo :Held for review: ann: hm (/approve {id} or /deny {id})"
            )
        );
        let line = shown_line(held, Tagging::All);
        let tags = format!("@msg-id=held_for_review;target-msg-id={id};login=ann;");
        assert!(line.starts_with(&tags), "{line}");
        let raid = UserNotice {
            kind: UserNoticeKind::Raid { viewers: 15 },
            author: post("x").author,
            system: "15 raiders".to_owned(),
            text: None,
        };
        let line = shown_line(Body::UserNotice(raid), Tagging::All);
        assert!(
            line.contains(";system-msg=15\\sraiders;msg-id=raid;"),
            "{line}"
        );
        assert!(line.ends_with(":tmi.twitch.tv USERNOTICE #demo"), "{line}");
    }

    #[test]
    fn dates_are_the_calendar_s() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Time(UnixMs(ms)).to_string(), text);
        }
        let _ = Time(UnixMs(u64::MAX)).to_string();
    }

    proptest! {
        /// Whatever somebody writes is the last parameter of one line and no more.
        #[test]
        fn what_is_written_stays_in_its_place(text in "(?s).{1,60}", reply in "(?s).{1,60}") {
            let (Some(text), Some(reply)) = (Text::cut(&text), Text::cut(&reply)) else {
                return Ok(());
            };
            let mut said = post("x");
            said.text = text.clone();
            said.reply = Some(Reply {
                parent: MessageId(1),
                thread: MessageId(1),
                user: UserId::parse("1").unwrap(),
                login: Login::parse("bob").unwrap(),
                display: common::chat::Display::parse("Bob").unwrap(),
                text: reply.clone(),
            });
            let line = shown_line(Body::Post(said), Tagging::All);
            let parsed = Line::parse(&line).unwrap();
            prop_assert_eq!(parsed.command, "PRIVMSG");
            prop_assert_eq!(parsed.params.as_slice(), &["#demo", text.as_str()][..]);
            prop_assert_eq!(parsed.tags.get("reply-parent-msg-body").unwrap(), reply.as_str());
        }
    }
}
