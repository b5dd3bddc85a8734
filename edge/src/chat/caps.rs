//! IRCv3 capabilities: what a client takes beyond plain IRC.

use super::form::Tagging;

/// All that this server has, as CAP LS lists them.
pub const ALL: &str = "twitch.tv/tags twitch.tv/commands twitch.tv/membership message-tags \
                       server-time batch echo-message labeled-response draft/chathistory";

/// What a client asked for and got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Caps {
    pub twitch_tags: bool,
    pub commands: bool,
    pub membership: bool,
    pub message_tags: bool,
    pub server_time: bool,
    pub batch: bool,
    pub echo: bool,
    pub labels: bool,
    pub history: bool,
}

impl Caps {
    fn named(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "twitch.tv/tags" => &mut self.twitch_tags,
            "twitch.tv/commands" => &mut self.commands,
            "twitch.tv/membership" => &mut self.membership,
            "message-tags" => &mut self.message_tags,
            "server-time" => &mut self.server_time,
            "batch" => &mut self.batch,
            "echo-message" => &mut self.echo,
            "labeled-response" => &mut self.labels,
            "draft/chathistory" => &mut self.history,
            _ => return None,
        })
    }

    /// Grants a whole CAP REQ or nothing of it.
    #[must_use]
    pub fn request(mut self, names: &str) -> Option<Self> {
        for name in names.split_ascii_whitespace() {
            let (on, name) = match name.strip_prefix('-') {
                Some(name) => (false, name),
                None => (true, name),
            };
            *self.named(name)? = on;
        }
        Some(self)
    }

    /// Those that are on, as CAP LIST tells them.
    #[must_use]
    pub fn list(mut self) -> String {
        let on = ALL
            .split(' ')
            .filter(|name| self.named(name).is_some_and(|on| *on));
        on.collect::<Vec<_>>().join(" ")
    }

    #[must_use]
    pub const fn tagging(self) -> Tagging {
        if self.twitch_tags || self.message_tags {
            Tagging::All
        } else if self.server_time {
            Tagging::Time
        } else {
            Tagging::None
        }
    }

    /// Whether the client speaks IRCv3 beyond what Twitch's clients do.
    #[must_use]
    pub const fn is_modern(self) -> bool {
        self.message_tags || self.server_time || self.batch || self.echo || self.history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_granted_whole_or_not_at_all() {
        let none = Caps::default();
        let all = none.request(ALL).unwrap();
        assert_eq!(all.list(), ALL);
        assert_eq!(none.request("server-time sasl"), None);
        let less = all.request("-batch -server-time").unwrap();
        assert!(!less.batch && !less.server_time && less.echo);
        assert_eq!(none.request(""), Some(none));
        assert_eq!(none.list(), "");
    }

    #[test]
    fn tags_follow_the_capabilities() {
        let with = |names| Caps::default().request(names).unwrap().tagging();
        assert_eq!(with(""), Tagging::None);
        assert_eq!(with("server-time"), Tagging::Time);
        assert_eq!(with("twitch.tv/tags"), Tagging::All);
        assert_eq!(with("message-tags server-time"), Tagging::All);
    }
}
