//! Moderators' commands, as Twitch's chat takes them: a message that begins with
//! `/` or `.` and a letter.
//!
//! In: the text of a PRIVMSG. Out: `None` for a message, a [`Command`], or the
//! NOTICE that says how the command is used. Whether the sender may is the
//! room's actor's business.

use super::{
    name::{Login, MessageId, Text},
    notice::{Notice, NoticeId},
    term::{Term, TermAction},
};
use crate::names::ChannelName;

/// The longest time-out, slow mode and follow time that Twitch takes.
pub const MAX_TIMEOUT_S: u32 = 14 * 24 * 3_600;
pub const MAX_SLOW_S: u32 = 120;
pub const MAX_FOLLOWERS_MIN: u32 = 90 * 24 * 60;

/// What a time-out, slow mode last without a number.
const DEFAULT_TIMEOUT_S: u32 = 600;
const DEFAULT_SLOW_S: u32 = 30;

/// How long one may post links after `/permit`, without a number and at most.
const DEFAULT_PERMIT_S: u32 = 60;
pub const MAX_PERMIT_S: u32 = 3_600;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Ban {
        login: Login,
        /// Everybody behind the user's last address too (`--network`).
        network: bool,
        reason: Option<Text>,
    },
    Timeout {
        login: Login,
        seconds: u32,
        reason: Option<Text>,
    },
    /// Ends a time-out as well as a ban.
    Unban {
        login: Login,
    },
    Untimeout {
        login: Login,
    },
    Delete {
        message: MessageId,
    },
    Clear,
    /// 0 is off.
    Slow {
        seconds: u32,
    },
    Followers {
        minutes: Option<u32>,
    },
    Subscribers {
        on: bool,
    },
    EmoteOnly {
        on: bool,
    },
    Unique {
        on: bool,
    },
    Mod {
        login: Login,
    },
    Unmod {
        login: Login,
    },
    Vip {
        login: Login,
    },
    Unvip {
        login: Login,
    },
    Mods,
    Vips,
    Announce {
        colour: String,
        text: Text,
    },
    /// A word that this room refuses or holds.
    AddTerm {
        term: Term,
        action: TermAction,
    },
    RemoveTerm {
        term: Term,
    },
    Terms,
    /// Links are for moderators, VIPs and who is permitted.
    NoLinks {
        on: bool,
    },
    /// Links of one user for a while.
    Permit {
        login: Login,
        seconds: u32,
    },
    /// Says a message that was held.
    Approve {
        message: MessageId,
    },
    Deny {
        message: MessageId,
    },
    /// Everybody goes on to another room.
    Raid {
        to: ChannelName,
    },
}

/// A command that can't be told: what to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError(pub Notice);

impl Command {
    /// `None`: an ordinary message. `/me` is one, and the caller's business.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, CommandError>> {
        let rest = text.strip_prefix(['/', '.'])?;
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let (word, arguments) = rest.split_once(' ').unwrap_or((rest, ""));
        let word = word.to_ascii_lowercase();
        Some(command(&word, arguments.trim()))
    }
}

fn usage(id: NoticeId, text: &str) -> CommandError {
    CommandError(Notice::new(id, format!("Usage: {text}")))
}

fn command(word: &str, arguments: &str) -> Result<Command, CommandError> {
    use Command as C;
    use NoticeId as N;
    let login = |id, text| {
        let name = arguments.split(' ').next().unwrap_or_default();
        Login::typed(name).map_err(|_| usage(id, text))
    };
    Ok(match word {
        "ban" => ban(arguments)?,
        "timeout" => timeout(arguments)?,
        "unban" => C::Unban {
            login: login(N::UsageUnban, "/unban <login>")?,
        },
        "untimeout" => C::Untimeout {
            login: login(N::UsageUntimeout, "/untimeout <login>")?,
        },
        "delete" => C::Delete {
            message: MessageId::parse(arguments)
                .map_err(|_| usage(N::UsageDelete, "/delete <msg id>"))?,
        },
        "clear" if arguments.is_empty() => C::Clear,
        "clear" => return Err(usage(N::UsageClear, "/clear")),
        "slow" => slow(arguments)?,
        "slowoff" => C::Slow { seconds: 0 },
        "followers" => followers(arguments)?,
        "followersoff" => C::Followers { minutes: None },
        "subscribers" | "subscribersoff" => C::Subscribers {
            on: word == "subscribers",
        },
        "emoteonly" | "emoteonlyoff" => C::EmoteOnly {
            on: word == "emoteonly",
        },
        "uniquechat" | "r9kbeta" => C::Unique { on: true },
        "uniquechatoff" | "r9kbetaoff" => C::Unique { on: false },
        "nolinks" | "nolinksoff" => C::NoLinks {
            on: word == "nolinks",
        },
        "permit" => permit(arguments)?,
        "blockedterm" => blocked_term(arguments)?,
        "blockedterms" => C::Terms,
        "approve" => C::Approve {
            message: MessageId::parse(arguments)
                .map_err(|_| usage(N::UsageApprove, "/approve <msg id>"))?,
        },
        "deny" => C::Deny {
            message: MessageId::parse(arguments)
                .map_err(|_| usage(N::UsageDeny, "/deny <msg id>"))?,
        },
        "raid" => C::Raid {
            to: room(arguments).ok_or_else(|| usage(N::UsageRaid, "/raid <channel>"))?,
        },
        "unraid" => {
            let text = "You do not have an active raid.";
            return Err(CommandError(Notice::new(N::UnraidNoActiveRaid, text)));
        }
        "help" => return Err(CommandError(Notice::new(N::CmdsAvailable, HELP))),
        "mod" => C::Mod {
            login: login(N::UsageMod, "/mod <login>")?,
        },
        "unmod" => C::Unmod {
            login: login(N::UsageUnmod, "/unmod <login>")?,
        },
        "vip" => C::Vip {
            login: login(N::UsageVip, "/vip <login>")?,
        },
        "unvip" => C::Unvip {
            login: login(N::UsageUnvip, "/unvip <login>")?,
        },
        "mods" => C::Mods,
        "vips" => C::Vips,
        "announce" | "announceblue" | "announcegreen" | "announceorange" | "announcepurple" => {
            let colour = word.strip_prefix("announce").unwrap_or_default();
            C::Announce {
                colour: if colour.is_empty() { "primary" } else { colour }.to_ascii_uppercase(),
                text: Text::cut(arguments)
                    .ok_or_else(|| usage(N::UsageAnnounce, "/announce <message>"))?,
            }
        }
        _ => {
            return Err(CommandError(Notice::new(
                N::UnrecognizedCmd,
                format!("Unrecognized command: /{}", word.escape_default()),
            )));
        }
    })
}

/// What `/help` says, on one line.
const HELP: &str = "Commands available to you in this room: /me /mods /vips; to moderators: \
    /announce /approve /ban /blockedterm /clear /delete /deny /emoteonly /followers /nolinks /permit /raid \
    /slow /subscribers /timeout /unban /uniquechat, and each mode with `off`; to the broadcaster: \
    /mod /unmod /vip /unvip";

/// A channel as people type it.
fn room(text: &str) -> Option<ChannelName> {
    let name = text.strip_prefix(['#', '@']).unwrap_or(text);
    if name.len() > ChannelName::MAX_LEN {
        return None;
    }
    ChannelName::parse(&name.to_ascii_lowercase()).ok()
}

fn permit(arguments: &str) -> Result<Command, CommandError> {
    let wrong = || usage(NoticeId::UsagePermit, "/permit <login> [duration up to 1h]");
    let (login, time) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let login = Login::typed(login).map_err(|_| wrong())?;
    let seconds = match time.trim() {
        "" => DEFAULT_PERMIT_S,
        time => duration_s(time, 1).ok_or_else(wrong)?,
    };
    if !(1..=MAX_PERMIT_S).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Command::Permit { login, seconds })
}

fn blocked_term(arguments: &str) -> Result<Command, CommandError> {
    let wrong = || {
        let text = "/blockedterm add|hold|remove <word or phrase, * for any letters at an end of a word>, or /blockedterm list";
        usage(NoticeId::UsageBlockedTerm, text)
    };
    let (verb, term) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let term = || Term::parse(term).ok_or_else(wrong);
    Ok(match verb.to_ascii_lowercase().as_str() {
        "add" => Command::AddTerm {
            term: term()?,
            action: TermAction::Refuse,
        },
        "hold" => Command::AddTerm {
            term: term()?,
            action: TermAction::Hold,
        },
        "remove" => Command::RemoveTerm { term: term()? },
        "list" => Command::Terms,
        _ => return Err(wrong()),
    })
}

fn ban(arguments: &str) -> Result<Command, CommandError> {
    let (network, arguments) = match arguments.strip_prefix("--network ") {
        Some(rest) => (true, rest.trim_start()),
        None => (false, arguments),
    };
    let (login, reason) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let login = Login::typed(login).map_err(|_| {
        let text = "/ban [--network] <login> [reason]";
        usage(NoticeId::UsageBan, text)
    })?;
    Ok(Command::Ban {
        login,
        network,
        reason: Text::cut(reason),
    })
}

fn timeout(arguments: &str) -> Result<Command, CommandError> {
    let wrong = || {
        let text = "/timeout <login> [duration, such as 600, 10m or 1d2h] [reason]";
        usage(NoticeId::UsageTimeout, text)
    };
    let (login, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let login = Login::typed(login).map_err(|_| wrong())?;
    let (time, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let seconds = match time {
        "" => DEFAULT_TIMEOUT_S,
        time => duration_s(time, 1).ok_or_else(wrong)?,
    };
    if !(1..=MAX_TIMEOUT_S).contains(&seconds) {
        return Err(CommandError(Notice::new(
            NoticeId::BadTimeoutDuration,
            "You cannot time a user out for more than 14 days or less than a second.",
        )));
    }
    Ok(Command::Timeout {
        login,
        seconds,
        reason: Text::cut(reason),
    })
}

fn slow(arguments: &str) -> Result<Command, CommandError> {
    let wrong = || usage(NoticeId::UsageSlowOn, "/slow [seconds]");
    let seconds = match arguments {
        "" => DEFAULT_SLOW_S,
        time => duration_s(time, 1).ok_or_else(wrong)?,
    };
    if !(1..=MAX_SLOW_S).contains(&seconds) {
        return Err(CommandError(Notice::new(
            NoticeId::BadSlowDuration,
            format!("You cannot set slow delay to more than {MAX_SLOW_S} seconds."),
        )));
    }
    Ok(Command::Slow { seconds })
}

fn followers(arguments: &str) -> Result<Command, CommandError> {
    let wrong = || usage(NoticeId::UsageFollowersOn, "/followers [duration]");
    let minutes = match arguments {
        "" => 0,
        time => duration_s(time, 60).ok_or_else(wrong)? / 60,
    };
    if minutes > MAX_FOLLOWERS_MIN {
        return Err(wrong());
    }
    Ok(Command::Followers {
        minutes: Some(minutes),
    })
}

/// `600`, `90s`, `10m`, `1d2h`; a bare number counts in `unit_s`.
fn duration_s(text: &str, unit_s: u32) -> Option<u32> {
    let mut total = 0u32;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters)?;
        let unit_s = match unit {
            "" => unit_s,
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3_600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 604_800,
            "mo" | "month" | "months" => 2_592_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u32>().ok()?.checked_mul(unit_s)?)?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Command {
        Command::parse(text).unwrap().unwrap()
    }

    fn refused(text: &str) -> NoticeId {
        Command::parse(text).unwrap().unwrap_err().0.id
    }

    fn login(name: &str) -> Login {
        Login::parse(name).unwrap()
    }

    fn term(text: &str) -> Term {
        Term::parse(text).unwrap()
    }

    #[test]
    fn messages_are_not_commands() {
        for text in ["hello", "", "/", ".", "...", "/ ban ann", "./x", "1/2"] {
            assert_eq!(Command::parse(text), None, "{text}");
        }
    }

    #[test]
    fn commands_are_twitch_s() {
        let timeout = |seconds, reason: &str| Command::Timeout {
            login: login("ann"),
            seconds,
            reason: Text::cut(reason),
        };
        for (text, expected) in [
            ("/timeout ann", timeout(600, "")),
            (".timeout @Ann 1 out with you", timeout(1, "out with you")),
            ("/TIMEOUT ann 1d2h", timeout(93_600, "")),
            ("/slow", Command::Slow { seconds: 30 }),
            ("/slow 5", Command::Slow { seconds: 5 }),
            ("/slowoff", Command::Slow { seconds: 0 }),
            ("/followers 10m", Command::Followers { minutes: Some(10) }),
            ("/followers 7", Command::Followers { minutes: Some(7) }),
            ("/followersoff", Command::Followers { minutes: None }),
            ("/clear", Command::Clear),
            ("/uniquechat", Command::Unique { on: true }),
            ("/nolinks", Command::NoLinks { on: true }),
            ("/nolinksoff", Command::NoLinks { on: false }),
            (
                "/permit @Ann",
                Command::Permit {
                    login: login("ann"),
                    seconds: 60,
                },
            ),
            (
                "/permit ann 5m",
                Command::Permit {
                    login: login("ann"),
                    seconds: 300,
                },
            ),
            ("/blockedterm list", Command::Terms),
            (
                "/blockedterm remove Bad",
                Command::RemoveTerm { term: term("bad") },
            ),
            (
                "/blockedterm add very bad*",
                Command::AddTerm {
                    term: term("very bad*"),
                    action: TermAction::Refuse,
                },
            ),
            (
                "/blockedterm hold hm",
                Command::AddTerm {
                    term: term("hm"),
                    action: TermAction::Hold,
                },
            ),
            (
                "/approve 00000000-0000-0000-0000-000000000001",
                Command::Approve {
                    message: MessageId(1),
                },
            ),
            (
                "/deny 00000000-0000-0000-0000-000000000001",
                Command::Deny {
                    message: MessageId(1),
                },
            ),
            (
                "/raid #Other",
                Command::Raid {
                    to: ChannelName::parse("other").unwrap(),
                },
            ),
            (
                "/ban --network ann",
                Command::Ban {
                    login: login("ann"),
                    network: true,
                    reason: None,
                },
            ),
            (
                "/announceblue hear",
                Command::Announce {
                    colour: "BLUE".to_owned(),
                    text: Text::cut("hear").unwrap(),
                },
            ),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_how_to() {
        for (text, id) in [
            ("/ban", NoticeId::UsageBan),
            ("/ban a-b", NoticeId::UsageBan),
            ("/timeout ann soon", NoticeId::UsageTimeout),
            ("/timeout ann 5x", NoticeId::UsageTimeout),
            ("/timeout ann 0", NoticeId::BadTimeoutDuration),
            ("/timeout ann 15d", NoticeId::BadTimeoutDuration),
            ("/timeout ann 99999999999", NoticeId::UsageTimeout),
            ("/timeout ann 9999999w", NoticeId::UsageTimeout),
            ("/slow 121", NoticeId::BadSlowDuration),
            ("/delete x", NoticeId::UsageDelete),
            ("/dance", NoticeId::UnrecognizedCmd),
            ("/permit", NoticeId::UsagePermit),
            ("/permit ann 2h", NoticeId::UsagePermit),
            ("/blockedterm", NoticeId::UsageBlockedTerm),
            ("/blockedterm add ...", NoticeId::UsageBlockedTerm),
            ("/approve 7", NoticeId::UsageApprove),
            ("/deny", NoticeId::UsageDeny),
            ("/raid", NoticeId::UsageRaid),
            ("/raid no way", NoticeId::UsageRaid),
            ("/unraid", NoticeId::UnraidNoActiveRaid),
            ("/help", NoticeId::CmdsAvailable),
        ] {
            assert_eq!(refused(text), id, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[/.](ban|timeout|slow|followers|delete|permit|blockedterm add|raid|x)? ?.{0,40}") {
            let _ = Command::parse(&text);
        }
    }
}
