//! What the operator of an origin says of all its rooms: roles, blocked terms and
//! emotes from files, and how far a ban reaches.
//!
//! In: flags and files, read again when they change. Out: a [`Policy`], watched by
//! every room's task. A file with a mistake changes nothing.

use std::{collections::HashMap, io, path::PathBuf, sync::Arc};

use clap::Args;
use common::{
    chat::{Login, Prefix, Roles, Term, TermAction},
    names::ChannelName,
    reload::{self, Files, Reloads},
};
use tokio::sync::watch;
use tracing::info;

use super::clue::{EmoteSet, Filter};

/// Entries of a roles file, and terms of a terms file.
const MAX_ROLES: usize = 262_144;
const MAX_TERMS: usize = 16_384;

/// Entries of a roles file for every room: each room tells its edges of them.
const MAX_EVERYWHERE: usize = 1_024;

/// Flags of what holds in all rooms.
#[derive(Debug, Clone, Default, Args)]
pub struct PolicyConfig {
    /// File of lines ROOM LOGIN ROLE (broadcaster, moderator, vip, subscriber; several with commas; * is every room), beside what tokens and rooms say; read again when it changes and on SIGHUP
    #[arg(long, env = "MILLRACE_CHAT_ROLES", value_name = "FILE")]
    pub chat_roles: Option<PathBuf>,

    /// File of lines refuse TERM or hold TERM that hold in all rooms, a term as /blockedterm takes it; read again when it changes and on SIGHUP
    #[arg(long, env = "MILLRACE_CHAT_TERMS", value_name = "FILE")]
    pub chat_terms: Option<PathBuf>,

    /// File of emotes, lines NAME ID: tagged in messages, and what emote-only rooms take; read again when it changes and on SIGHUP
    #[arg(long, env = "MILLRACE_CHAT_EMOTES", value_name = "FILE")]
    pub chat_emotes: Option<PathBuf>,

    /// Every ban for good covers everybody at the user's last address, as /ban --network does
    #[arg(long, env = "MILLRACE_CHAT_BAN_NETWORKS")]
    pub chat_ban_networks: bool,

    /// Bits of an IPv4 address that such a ban covers [default: 32]
    #[arg(long, env = "MILLRACE_CHAT_BAN_IPV4_BITS", value_name = "BITS", value_parser = clap::value_parser!(u8).range(8..=32))]
    pub chat_ban_ipv4_bits: Option<u8>,

    /// Bits of an IPv6 address that such a ban covers [default: 64]
    #[arg(long, env = "MILLRACE_CHAT_BAN_IPV6_BITS", value_name = "BITS", value_parser = clap::value_parser!(u8).range(16..=64))]
    pub chat_ban_ipv6_bits: Option<u8>,
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("{flag} {path}: {source}")]
    Read {
        flag: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("{flag} {path}:{line}: {problem}")]
    Line {
        flag: &'static str,
        path: String,
        /// From 1.
        line: usize,
        problem: &'static str,
    },
}

/// Who is what by the roles file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleTable {
    by_room: HashMap<ChannelName, HashMap<Login, Roles>>,
    everywhere: HashMap<Login, Roles>,
}

impl RoleTable {
    /// # Errors
    /// The first wrong line, from 1, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut table = Self::default();
        let mut entries = 0;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (room, login, given) =
                match (words.next(), words.next(), words.next(), words.next()) {
                    (None, ..) => continue,
                    (Some(room), Some(login), Some(given), None) => (room, login, given),
                    _ => {
                        return Err((
                            number,
                            "expected `ROOM LOGIN ROLE`, for example `demo ann moderator`",
                        ));
                    }
                };
            let login = Login::typed(login)
                .map_err(|_| (number, "a login is 1 to 25 of a-z, 0-9 and _"))?;
            let mut roles = Roles::default();
            for word in given.split(',') {
                let role = Roles::parse(word);
                roles = roles.union(role.ok_or((
                    number,
                    "a role is broadcaster, moderator, vip or subscriber",
                ))?);
            }
            entries += 1;
            if entries > MAX_ROLES {
                return Err((number, "more than 262,144 lines"));
            }
            let of = match room {
                "*" => &mut table.everywhere,
                room => {
                    let room = ChannelName::parse(room);
                    let room =
                        room.map_err(|_| (number, "a room is 1 to 32 of a-z, 0-9 and _, or *"))?;
                    table.by_room.entry(room).or_default()
                }
            };
            let held = of.entry(login).or_default();
            *held = held.union(roles);
            if table.everywhere.len() > MAX_EVERYWHERE {
                return Err((number, "more than 1,024 logins for every room"));
            }
        }
        Ok(table)
    }

    /// What the file says of a user in a room.
    #[must_use]
    pub fn of(&self, room: &ChannelName, login: &Login) -> Roles {
        let here = self.by_room.get(room).and_then(|roles| roles.get(login));
        let everywhere = self.everywhere.get(login);
        here.copied()
            .unwrap_or_default()
            .union(everywhere.copied().unwrap_or_default())
    }

    /// Everybody of whom it says something in a room, some perhaps twice.
    pub fn logins<'a>(&'a self, room: &ChannelName) -> impl Iterator<Item = &'a Login> + use<'a> {
        let here = self.by_room.get(room).into_iter().flat_map(HashMap::keys);
        here.chain(self.everywhere.keys())
    }

    fn len(&self) -> usize {
        self.everywhere.len() + self.by_room.values().map(HashMap::len).sum::<usize>()
    }
}

/// What holds in all rooms of an origin.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub roles: Arc<RoleTable>,
    pub terms: Arc<Filter>,
    pub emotes: Arc<EmoteSet>,
    pub ban_networks: bool,
    pub ban_prefix: Prefix,
}

/// The policy in force and what it is read from.
#[derive(Debug)]
pub struct Policies {
    config: PolicyConfig,
    now: watch::Sender<Arc<Policy>>,
}

impl Policies {
    /// Reads all files.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn from_config(config: &PolicyConfig) -> Result<Arc<Self>, PolicyError> {
        let standard = Prefix::default();
        let policies = Self {
            config: config.clone(),
            now: watch::Sender::new(Arc::new(Policy {
                ban_networks: config.chat_ban_networks,
                ban_prefix: Prefix {
                    ipv4_bits: config.chat_ban_ipv4_bits.unwrap_or(standard.ipv4_bits),
                    ipv6_bits: config.chat_ban_ipv6_bits.unwrap_or(standard.ipv6_bits),
                },
                ..Policy::default()
            })),
        };
        policies.reload_roles()?;
        policies.reload_terms()?;
        policies.reload_emotes()?;
        Ok(Arc::new(policies))
    }

    /// What every room's task follows.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Arc<Policy>> {
        self.now.subscribe()
    }

    /// Has the files read again when they change.
    pub fn watched_by(self: &Arc<Self>, reloads: &mut Reloads) {
        let config = &self.config;
        let mut add =
            |what, file: &Option<PathBuf>, again: fn(&Self) -> Result<(), PolicyError>| {
                if let Some(file) = file {
                    let policies = self.clone();
                    reloads.add(what, Files::seen([file.clone()]), move || again(&policies));
                }
            };
        add("chat roles", &config.chat_roles, Self::reload_roles);
        add("chat terms", &config.chat_terms, Self::reload_terms);
        add("chat emotes", &config.chat_emotes, Self::reload_emotes);
    }

    pub(super) fn reload_roles(&self) -> Result<(), PolicyError> {
        let read = parsed(
            "--chat-roles",
            self.config.chat_roles.as_ref(),
            RoleTable::parse,
        )?;
        if let Some(roles) = read {
            info!(entries = roles.len(), "chat roles read");
            self.change(|policy| policy.roles = Arc::new(roles));
        }
        Ok(())
    }

    fn reload_terms(&self) -> Result<(), PolicyError> {
        let read = parsed("--chat-terms", self.config.chat_terms.as_ref(), terms)?;
        if let Some(terms) = read {
            info!(terms = terms.terms().len(), "chat terms read");
            self.change(|policy| policy.terms = Arc::new(terms));
        }
        Ok(())
    }

    fn reload_emotes(&self) -> Result<(), PolicyError> {
        let read = parsed(
            "--chat-emotes",
            self.config.chat_emotes.as_ref(),
            EmoteSet::parse,
        )?;
        if let Some(emotes) = read {
            info!(emotes = emotes.len(), "chat emotes read");
            self.change(|policy| policy.emotes = Arc::new(emotes));
        }
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Policy)) {
        self.now.send_modify(|policy| change(Arc::make_mut(policy)));
    }
}

fn parsed<T>(
    flag: &'static str,
    file: Option<&PathBuf>,
    parse: impl FnOnce(&str) -> Result<T, (usize, &'static str)>,
) -> Result<Option<T>, PolicyError> {
    let Some(file) = file else {
        return Ok(None);
    };
    let path = || file.display().to_string();
    let text = reload::read(file).map_err(|source| PolicyError::Read {
        flag,
        path: path(),
        source,
    })?;
    let read = parse(&text).map_err(|(line, problem)| PolicyError::Line {
        flag,
        path: path(),
        line,
        problem,
    })?;
    Ok(Some(read))
}

/// A terms file. `#` begins a comment line.
fn terms(text: &str) -> Result<Filter, (usize, &'static str)> {
    let mut terms: Vec<(Term, TermAction)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = "expected `refuse TERM` or `hold TERM`, for example `refuse bad*`";
        let (action, term) = line
            .split_once(char::is_whitespace)
            .ok_or((number, wrong))?;
        let action = TermAction::parse(action).ok_or((number, wrong))?;
        let unfit = "a term is up to 8 words and 64 characters of letters and digits";
        let term = Term::parse(term).ok_or((number, unfit))?;
        if terms.len() == MAX_TERMS {
            return Err((number, "more than 16,384 terms"));
        }
        terms.push((term, action));
    }
    let filter = Filter::of(terms);
    if filter.is_cut() {
        return Err((1, "more than 256 terms begin with a word that has a *"));
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn login(name: &str) -> Login {
        Login::parse(name).unwrap()
    }

    fn room(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    #[test]
    fn roles_are_by_room_and_everywhere() {
        let text = "# staff\n* root moderator\ndemo Ann vip,subscriber # a friend\ndemo root broadcaster\n";
        let table = RoleTable::parse(text).unwrap();
        let of = |at: &str, who: &str| table.of(&room(at), &login(who)).bits();
        assert_eq!(of("demo", "ann"), 0b1100);
        assert_eq!(of("other", "ann"), 0);
        assert_eq!(of("demo", "root"), 0b0011);
        assert_eq!(of("other", "root"), 0b0010);
        let mut logins: Vec<_> = table.logins(&room("demo")).map(Login::as_str).collect();
        logins.sort_unstable();
        assert_eq!(logins, ["ann", "root", "root"]);
    }

    #[test]
    fn the_first_wrong_line_is_named() {
        for (text, line) in [
            ("demo ann", 1),
            ("demo ann vip extra", 1),
            ("demo ann vip\ndemo ann king", 2),
            ("demo an-n vip", 1),
            ("#demo\nDemo ann vip", 2),
        ] {
            assert_eq!(RoleTable::parse(text).unwrap_err().0, line, "{text}");
        }
        let many: String = (0..=MAX_EVERYWHERE)
            .map(|n| format!("* u{n} vip\n"))
            .collect();
        assert_eq!(RoleTable::parse(&many).unwrap_err().0, MAX_EVERYWHERE + 1);
        for (text, line) in [("bad", 1), ("refuse ...", 1), ("# x\n\nhold a\nban b", 4)] {
            assert_eq!(terms(text).unwrap_err().0, line, "{text}");
        }
        let loose: String = (0..=super::super::clue::MAX_LOOSE)
            .map(|n| format!("hold *x{n}\n"))
            .collect();
        assert!(terms(&loose).is_err());
    }

    #[test]
    fn a_mistake_keeps_what_was_in_force_and_a_change_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("roles");
        fs::write(&file, "demo ann moderator").unwrap();
        let config = PolicyConfig {
            chat_roles: Some(file.clone()),
            ..PolicyConfig::default()
        };
        let policies = Policies::from_config(&config).unwrap();
        let mut follow = policies.follow();
        let of = |follow: &mut watch::Receiver<Arc<Policy>>| {
            follow
                .borrow_and_update()
                .roles
                .of(&room("demo"), &login("ann"))
                .moderator
        };
        assert!(of(&mut follow));
        fs::write(&file, "demo ann moderator\ndemo").unwrap();
        let error = policies.reload_roles().unwrap_err().to_string();
        assert!(
            error.starts_with("--chat-roles ") && error.contains("roles:2: "),
            "{error}"
        );
        assert!(!follow.has_changed().unwrap() && of(&mut follow));
        fs::write(&file, "").unwrap();
        policies.reload_roles().unwrap();
        assert!(follow.has_changed().unwrap() && !of(&mut follow));
        fs::remove_file(&file).unwrap();
        assert!(policies.reload_roles().is_err());
        assert!(Policies::from_config(&config).is_err());
    }
}
