//! Signing in: PASS, NICK, USER and CAP in any order, USER or not.

use common::{
    chat::{Claims, Login, irc::Line, irc::LineWriter},
    live::UnixMs,
};

use super::{Identity, Replies, Session, Stage};
use crate::chat::{metrics::Broken, show::Time, ws};

const TOO_MANY: &str = "Too many sign-ins, try again later";

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Signing {
    pass: Option<String>,
    nick: Option<String>,
    /// CAP LS came: registration waits for CAP END. CAP REQ alone does not hold it,
    /// since clients of Twitch never end it.
    held: bool,
}

impl Signing {
    pub(super) const fn hold(&mut self) {
        self.held = true;
    }

    pub(super) const fn go_on(&mut self) {
        self.held = false;
    }
}

impl Session {
    pub(super) fn sign_in(
        &mut self,
        now: UnixMs,
        command: &str,
        line: &Line<'_>,
        replies: &mut Replies,
    ) {
        let Stage::Signing(signing) = &mut self.stage else {
            // USER and PASS may follow a NICK that was enough.
            let other = line
                .params
                .get(0)
                .filter(|nick| command == "NICK" && !nick.eq_ignore_ascii_case(&self.nick()));
            if let Some(other) = other {
                self.numeric(replies, "437", &[other], "Your name is that of your token");
            }
            return;
        };
        let Some(value) = line.params.get(0) else {
            self.numeric(replies, "461", &[command], "Not enough parameters");
            return;
        };
        match command {
            "PASS" => signing.pass = Some(value.to_owned()),
            "NICK" => signing.nick = Some(value.to_owned()),
            _ => {}
        }
        self.try_to_sign_in(now, replies);
    }

    /// Signs in as soon as enough was said for it.
    pub(super) fn try_to_sign_in(&mut self, now: UnixMs, replies: &mut Replies) {
        let Stage::Signing(signing) = &self.stage else {
            return;
        };
        let (Some(nick), false) = (signing.nick.clone(), signing.held) else {
            return;
        };
        let typed = Login::typed(&nick);
        if let Ok(login) = typed
            && login.is_anonymous()
        {
            let identity = Identity {
                nick: login,
                claims: None,
            };
            self.welcome(identity, replies);
            return;
        }
        let keys = self.shared.keys.load_full();
        let Some(keys) = keys else {
            match Claims::unsigned(&nick) {
                Ok(claims) => self.signed_in(claims, replies),
                Err(_) => {
                    self.numeric(replies, "432", &[&nick], "Erroneous nickname");
                    if let Stage::Signing(signing) = &mut self.stage {
                        signing.nick = None;
                    }
                }
            }
            return;
        };
        let Some(pass) = signing.pass.clone() else {
            // It may be on its way; the deadline ends the wait.
            return;
        };
        // Until the token is verified nobody is who they say: only the address counts.
        if !self.shared.limits.sign_in(now, self.network) {
            self.denied(TOO_MANY);
            return;
        }
        let Some(token) = pass.strip_prefix("oauth:") else {
            self.denied("Improperly formatted auth");
            return;
        };
        match keys.verify(token, now) {
            Ok(claims) if self.shared.limits.signed_in(now, &claims.user.id) => {
                self.signed_in(claims, replies);
            }
            Ok(_) => self.denied(TOO_MANY),
            Err(_) => self.denied("Login authentication failed"),
        }
    }

    /// Without a reason beyond what Twitch gives: what is wrong with a token is
    /// nobody's business but its owner's.
    fn denied(&mut self, why: &str) {
        let mut text = String::new();
        let server = &self.shared.config.chat_server_name;
        let line = LineWriter::new(&mut text).command(server, "NOTICE");
        line.param("*").trailing(why);
        self.emit(&text);
        self.end(why, ws::code::POLICY, Some(Broken::Token));
    }

    fn signed_in(&mut self, claims: Claims, replies: &mut Replies) {
        let identity = Identity {
            nick: claims.user.login.clone(),
            claims: Some(claims),
        };
        self.welcome(identity, replies);
    }

    fn welcome(&mut self, identity: Identity, replies: &mut Replies) {
        self.stage = Stage::In(identity);
        let server = self.shared.config.chat_server_name.clone();
        let host = format!("Your host is {server}");
        self.numeric(replies, "001", &[], "Welcome to chat");
        self.numeric(replies, "002", &[], &host);
        self.numeric(replies, "003", &[], "This server runs Millrace");
        self.numeric(replies, "004", &[&server, "millrace", "o", "n"], "n");
        if self.caps.is_modern() {
            let tokens = [
                "CASEMAPPING=ascii",
                "CHANTYPES=#",
                "CHANNELLEN=33",
                "NICKLEN=25",
                "CHATHISTORY=100",
                "MSGREFTYPES=msgid,timestamp",
                "UTF8ONLY",
            ];
            self.numeric(replies, "005", &tokens, "are supported by this server");
        }
        self.numeric(replies, "375", &[], "-");
        self.numeric(replies, "372", &[], "Be kind to each other.");
        self.numeric(replies, "376", &[], ">");
        if self.caps.commands {
            self.global_user_state(replies);
        }
    }

    fn global_user_state(&self, replies: &mut Replies) {
        let Stage::In(Identity {
            claims: Some(claims),
            ..
        }) = &self.stage
        else {
            return;
        };
        let server = &self.shared.config.chat_server_name;
        let user = &claims.user;
        replies.add(|mut line| {
            if self.caps.twitch_tags || self.caps.message_tags {
                line.tag("badge-info", "");
                let badges: Vec<_> = user.badges.iter().map(|badge| badge.as_str()).collect();
                line.tag("badges", badges.join(","));
                match user.colour {
                    Some(colour) => line.tag("color", colour),
                    None => line.tag("color", ""),
                }
                line.tag("display-name", &user.display);
                line.tag("emote-sets", "0");
                line.tag("user-id", &user.id);
                line.tag("user-type", "");
            }
            let _ = line.command(server, "GLOBALUSERSTATE");
        });
    }

    /// Whether the token that the client signed in with has run out.
    pub(super) fn is_expired(&self, now: UnixMs) -> bool {
        match &self.stage {
            Stage::In(Identity {
                claims: Some(claims),
                ..
            }) => claims.expires.is_some_and(|expires| expires <= now),
            _ => false,
        }
    }

    pub(super) fn expired(&mut self, now: UnixMs) {
        tracing::debug!(nick = self.nick(), at = %Time(now), "token expired");
        self.denied("Login authentication failed");
    }
}
