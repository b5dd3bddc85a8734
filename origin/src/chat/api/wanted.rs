//! Requests to the chat interface, read without I/O: which room, and what to see or
//! to do there. Unknown fields are mistakes: a misspelt `reason` is better refused
//! than left out.

use common::{
    api::{Problem, decoded, parsed},
    chat::{
        Command, Login, MessageId, Term, TermAction, Text,
        command::{MAX_FOLLOWERS_MIN, MAX_SLOW_S, MAX_TIMEOUT_S},
    },
    names::ChannelName,
};
use http::Method;
use serde::{Deserialize, Deserializer};

use super::shown::{self, Show};

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Wanted {
    Look {
        /// Bans of logins after this one.
        after: Option<Login>,
        show: Show,
    },
    Do {
        /// One by one; the first that is refused ends it.
        commands: Vec<Command>,
        by: Login,
    },
}

/// The path below which all of it is.
const ROOT: &str = "/api/v1/chat/";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BanBody {
    login: String,
    reason: Option<String>,
    #[serde(default)]
    network: bool,
    by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeoutBody {
    login: String,
    seconds: u32,
    reason: Option<String>,
    by: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SettingsBody {
    slow_s: Option<u32>,
    /// `null` is off.
    #[serde(deserialize_with = "said")]
    followers_min: Option<Option<u32>>,
    subscribers_only: Option<bool>,
    emote_only: Option<bool>,
    unique: Option<bool>,
    no_links: Option<bool>,
    by: Option<String>,
}

/// A field that is there, be it `null`.
fn said<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TermBody {
    term: String,
    action: String,
    by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleBody {
    login: String,
    role: String,
    by: Option<String>,
}

pub(super) fn wanted(
    method: &Method,
    path: &str,
    query: Option<&str>,
    body: &[u8],
) -> Result<(ChannelName, Wanted), Problem> {
    let nothing = Problem::nothing;
    let rest = path.strip_prefix(ROOT).ok_or_else(nothing)?;
    let segments: Option<Vec<_>> = rest.split('/').map(decoded).collect();
    let segments =
        segments.ok_or_else(|| Problem::bad("the path is not UTF-8, percent-encoded"))?;
    let mut segments = segments.iter().map(String::as_str);
    let room = segments.next().unwrap_or_default();
    let room = ChannelName::parse(room).map_err(|error| Problem::bad(error.to_string()))?;
    let at = [segments.next(), segments.next(), segments.next()];
    if segments.next().is_some() {
        return Err(nothing());
    }
    let after = query.and_then(|query| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("after="))
    });
    let after = after.map(login).transpose()?;
    let wanted = match (method.as_str(), at) {
        ("GET", [None, None, None]) => Wanted::Look {
            after,
            show: shown::all,
        },
        ("GET", [Some(part), None, None]) => Wanted::Look {
            after,
            show: shown::part(part).ok_or_else(nothing)?,
        },
        ("POST", [Some(part), None, None]) => post(part, body)?.ok_or_else(nothing)?,
        ("POST", [Some("held"), Some(id), None]) => does(Command::Approve {
            message: message(id)?,
        }),
        ("DELETE", [Some("messages"), None, None]) => does(Command::Clear),
        ("DELETE", [Some(part), Some(item), None]) => {
            does(delete(part, item)?.ok_or_else(nothing)?)
        }
        ("DELETE", [Some("roles"), Some(who), Some(role)]) => {
            let login = login(who)?;
            does(match role {
                "moderator" => Command::Unmod { login },
                "vip" => Command::Unvip { login },
                _ => return Err(Problem::bad("a role is moderator or vip")),
            })
        }
        ("GET" | "POST" | "DELETE", _) => return Err(nothing()),
        _ => return Err(Problem::method("GET, POST and DELETE")),
    };
    Ok((room, wanted))
}

fn post(part: &str, body: &[u8]) -> Result<Option<Wanted>, Problem> {
    let (command, by) = match part {
        "bans" => {
            let BanBody {
                login: who,
                reason,
                network,
                by,
            } = parsed(body)?;
            let command = Command::Ban {
                login: login(&who)?,
                network,
                reason: reason.as_deref().and_then(Text::cut),
            };
            (command, by)
        }
        "timeouts" => {
            let TimeoutBody {
                login: who,
                seconds,
                reason,
                by,
            } = parsed(body)?;
            if !(1..=MAX_TIMEOUT_S).contains(&seconds) {
                return Err(Problem::bad(format!("seconds is 1 to {MAX_TIMEOUT_S}")));
            }
            let command = Command::Timeout {
                login: login(&who)?,
                seconds,
                reason: reason.as_deref().and_then(Text::cut),
            };
            (command, by)
        }
        "terms" => {
            let TermBody {
                term: text,
                action,
                by,
            } = parsed(body)?;
            let action = TermAction::parse(&action);
            let command = Command::AddTerm {
                term: term(&text)?,
                action: action.ok_or_else(|| Problem::bad("action is refuse or hold"))?,
            };
            (command, by)
        }
        "roles" => {
            let RoleBody {
                login: who,
                role,
                by,
            } = parsed(body)?;
            let login = login(&who)?;
            let command = match role.as_str() {
                "moderator" => Command::Mod { login },
                "vip" => Command::Vip { login },
                _ => return Err(Problem::bad("role is moderator or vip")),
            };
            (command, by)
        }
        "settings" => return settings_wanted(parsed(body)?).map(Some),
        _ => return Ok(None),
    };
    Ok(Some(Wanted::Do {
        commands: vec![command],
        by: named(by)?,
    }))
}

fn settings_wanted(body: SettingsBody) -> Result<Wanted, Problem> {
    let mut commands = Vec::new();
    if let Some(seconds) = body.slow_s {
        if seconds > MAX_SLOW_S {
            return Err(Problem::bad(format!("slow_s is 0 to {MAX_SLOW_S}")));
        }
        commands.push(Command::Slow { seconds });
    }
    if let Some(minutes) = body.followers_min {
        if minutes.is_some_and(|minutes| minutes > MAX_FOLLOWERS_MIN) {
            return Err(Problem::bad(format!(
                "followers_min is 0 to {MAX_FOLLOWERS_MIN}, or null"
            )));
        }
        commands.push(Command::Followers { minutes });
    }
    commands.extend(body.subscribers_only.map(|on| Command::Subscribers { on }));
    commands.extend(body.emote_only.map(|on| Command::EmoteOnly { on }));
    commands.extend(body.unique.map(|on| Command::Unique { on }));
    commands.extend(body.no_links.map(|on| Command::NoLinks { on }));
    if commands.is_empty() {
        let text =
            "name a setting: slow_s, followers_min, subscribers_only, emote_only, unique, no_links";
        return Err(Problem::bad(text));
    }
    Ok(Wanted::Do {
        commands,
        by: named(body.by)?,
    })
}

fn delete(part: &str, item: &str) -> Result<Option<Command>, Problem> {
    Ok(Some(match part {
        "bans" => Command::Unban {
            login: login(item)?,
        },
        "timeouts" => Command::Untimeout {
            login: login(item)?,
        },
        "terms" => Command::RemoveTerm { term: term(item)? },
        "held" => Command::Deny {
            message: message(item)?,
        },
        "messages" => Command::Delete {
            message: message(item)?,
        },
        _ => return Ok(None),
    }))
}

fn does(command: Command) -> Wanted {
    Wanted::Do {
        commands: vec![command],
        by: Login::operator(),
    }
}

fn named(by: Option<String>) -> Result<Login, Problem> {
    by.map_or_else(|| Ok(Login::operator()), |by| login(&by))
}

fn login(text: &str) -> Result<Login, Problem> {
    Login::typed(text).map_err(|error| Problem::bad(error.to_string()))
}

fn message(text: &str) -> Result<MessageId, Problem> {
    MessageId::parse(text).map_err(|error| Problem::bad(error.to_string()))
}

fn term(text: &str) -> Result<Term, Problem> {
    Term::parse(text).ok_or_else(|| Problem::bad("a term is up to 8 words and 64 characters of letters and digits, with * at an end of a word"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asks(method: &str, path: &str, body: &str) -> Result<Vec<Command>, Problem> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let (room, wanted) = wanted(&method, path, None, body.as_bytes())?;
        assert_eq!(room.as_str(), "demo");
        match wanted {
            Wanted::Do { commands, .. } => Ok(commands),
            Wanted::Look { .. } => Ok(Vec::new()),
        }
    }

    fn typed(text: &str) -> Command {
        Command::parse(text).unwrap().unwrap()
    }

    #[test]
    fn each_request_is_a_command() {
        let id = MessageId(1);
        for (method, path, body, command) in [
            ("POST", "bans", r#"{"login":"ann"}"#, "/ban ann"),
            (
                "POST",
                "bans",
                r#"{"login":"@Ann","network":true,"reason":"so","by":"max"}"#,
                "/ban --network ann so",
            ),
            ("DELETE", "bans/ann", "", "/unban ann"),
            (
                "POST",
                "timeouts",
                r#"{"login":"ann","seconds":9}"#,
                "/timeout ann 9",
            ),
            ("DELETE", "timeouts/ann", "", "/untimeout ann"),
            (
                "POST",
                "terms",
                r#"{"term":"very bad*","action":"hold"}"#,
                "/blockedterm hold very bad*",
            ),
            (
                "DELETE",
                "terms/very%20bad*",
                "",
                "/blockedterm remove very bad*",
            ),
            (
                "POST",
                "roles",
                r#"{"login":"ann","role":"vip"}"#,
                "/vip ann",
            ),
            ("DELETE", "roles/ann/moderator", "", "/unmod ann"),
            ("POST", &format!("held/{id}"), "", &format!("/approve {id}")),
            ("DELETE", &format!("held/{id}"), "", &format!("/deny {id}")),
            (
                "DELETE",
                &format!("messages/{id}"),
                "",
                &format!("/delete {id}"),
            ),
            ("DELETE", "messages", "", "/clear"),
            ("POST", "settings", r#"{"slow_s":5}"#, "/slow 5"),
            (
                "POST",
                "settings",
                r#"{"followers_min":null}"#,
                "/followersoff",
            ),
            ("POST", "settings", r#"{"no_links":true}"#, "/nolinks"),
        ] {
            let commands = asks(method, &format!("/api/v1/chat/demo/{path}"), body);
            assert_eq!(commands, Ok(vec![typed(command)]), "{method} {path} {body}");
        }
        let both = asks(
            "POST",
            "/api/v1/chat/demo/settings",
            r#"{"unique":false,"slow_s":0}"#,
        );
        assert_eq!(both, Ok(vec![typed("/slowoff"), typed("/uniquechatoff")]));
        for part in [
            "",
            "/bans",
            "/timeouts",
            "/settings",
            "/terms",
            "/held",
            "/roles",
        ] {
            assert_eq!(
                asks("GET", &format!("/api/v1/chat/demo{part}"), ""),
                Ok(Vec::new())
            );
        }
    }

    #[test]
    fn what_makes_no_sense_says_why() {
        for (method, path, body, status, word) in [
            ("GET", "/api/v1/other", "", 404, "path"),
            ("GET", "/api/v1/chat/demo/pets", "", 404, "path"),
            ("GET", "/api/v1/chat/demo/bans/ann/x/y", "", 404, "path"),
            ("PUT", "/api/v1/chat/demo/bans", "", 405, "POST"),
            ("GET", "/api/v1/chat/De%20mo", "", 400, "channel name"),
            ("GET", "/api/v1/chat/%ff", "", 400, "UTF-8"),
            ("GET", "/api/v1/chat/%f", "", 400, "UTF-8"),
            ("POST", "/api/v1/chat/demo/bans", "", 400, "JSON"),
            ("POST", "/api/v1/chat/demo/bans", "{}", 400, "login"),
            (
                "POST",
                "/api/v1/chat/demo/bans",
                r#"{"login":"a n"}"#,
                400,
                "login",
            ),
            (
                "POST",
                "/api/v1/chat/demo/bans",
                r#"{"login":"ann","reson":"x"}"#,
                400,
                "reson",
            ),
            (
                "POST",
                "/api/v1/chat/demo/timeouts",
                r#"{"login":"ann","seconds":0}"#,
                400,
                "seconds",
            ),
            ("POST", "/api/v1/chat/demo/settings", "{}", 400, "slow_s"),
            (
                "POST",
                "/api/v1/chat/demo/settings",
                r#"{"slow_s":9999}"#,
                400,
                "slow_s",
            ),
            (
                "POST",
                "/api/v1/chat/demo/settings",
                r#"{"followers_min":999999}"#,
                400,
                "followers_min",
            ),
            (
                "POST",
                "/api/v1/chat/demo/terms",
                r#"{"term":"...","action":"hold"}"#,
                400,
                "term",
            ),
            (
                "POST",
                "/api/v1/chat/demo/terms",
                r#"{"term":"a","action":"burn"}"#,
                400,
                "action",
            ),
            ("POST", "/api/v1/chat/demo/held/7", "", 400, "UUID"),
            (
                "DELETE",
                "/api/v1/chat/demo/roles/ann/king",
                "",
                400,
                "role",
            ),
            ("DELETE", "/api/v1/chat/demo", "", 404, "path"),
        ] {
            let problem = asks(method, path, body).unwrap_err();
            assert_eq!(problem.status.as_u16(), status, "{method} {path} {body}");
            assert!(problem.message.contains(word), "{}", problem.message);
        }
    }

    proptest! {
        #[test]
        fn no_request_panics(path in "/api/v1/chat/[a-z%0-9/*]{0,30}", body in "\\PC{0,40}") {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let _ = wanted(&method, &path, Some(&body), body.as_bytes());
            }
        }
    }
}
