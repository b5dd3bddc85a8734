//! Names and texts of chat, each checked once, where it comes in.

use std::{fmt, sync::Arc};

use crate::names::shown_as_its_content;

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatNameError {
    #[error("a login is 1 to 25 characters of a-z, 0-9 and _, for example `ann`")]
    Login,
    #[error("a user id is 1 to 64 characters of A-Z, a-z, 0-9, _, - and :")]
    UserId,
    #[error("a display name is 1 to 50 bytes without white space or control characters")]
    Display,
    #[error("a message id is a UUID")]
    MessageId,
}

/// A user's name in IRC and in URLs: `[a-z0-9_]{1,25}`, as Twitch has it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Login(Arc<str>);

impl Login {
    pub const MAX_LEN: usize = 25;

    /// # Errors
    /// [`ChatNameError::Login`].
    pub fn parse(text: &str) -> Result<Self, ChatNameError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(ChatNameError::Login)
        }
    }

    /// As people type one: any case, and perhaps an `@` in front.
    ///
    /// # Errors
    /// [`ChatNameError::Login`].
    pub fn typed(text: &str) -> Result<Self, ChatNameError> {
        let text = text.strip_prefix('@').unwrap_or(text);
        if text.len() > Self::MAX_LEN {
            return Err(ChatNameError::Login);
        }
        Self::parse(&text.to_ascii_lowercase())
    }

    /// Who acts for the node's operator.
    #[must_use]
    pub fn operator() -> Self {
        Self("operator".into())
    }

    /// `justinfan` and digits reads without signing in.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.0
            .strip_prefix("justinfan")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A user for good, whatever the login becomes: the token's `sub`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    pub const MAX_LEN: usize = 64;

    /// # Errors
    /// [`ChatNameError::UserId`].
    pub fn parse(text: &str) -> Result<Self, ChatNameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':');
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(ChatNameError::UserId)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Login> for UserId {
    /// Where nobody signs tokens the login is the user.
    fn from(login: &Login) -> Self {
        Self(login.0.clone())
    }
}

/// The name as its owner writes it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Display(Arc<str>);

impl Display {
    pub const MAX_LEN: usize = 50;

    /// # Errors
    /// [`ChatNameError::Display`].
    pub fn parse(text: &str) -> Result<Self, ChatNameError> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        if fits && !text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Ok(Self(text.into()))
        } else {
            Err(ChatNameError::Display)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Login> for Display {
    fn from(login: &Login) -> Self {
        Self(login.0.clone())
    }
}

/// What somebody wrote: 1 to 500 characters, one line, no NUL, not only spaces.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text(Arc<str>);

impl Text {
    pub const MAX_CHARS: usize = 500;
    /// Four bytes are the longest character of UTF-8.
    pub const MAX_BYTES: usize = 4 * Self::MAX_CHARS;

    /// Cuts after [`Self::MAX_CHARS`]; characters that end a line of IRC or frame
    /// a CTCP become spaces, and none of these stands at an end: what was cut is not
    /// another when it is cut again. `None` where nothing is left to read.
    #[must_use]
    pub fn cut(text: &str) -> Option<Self> {
        let ends = |c: char| matches!(c, '\r' | '\n' | '\0' | '\u{1}');
        let blank = |c: char| c == ' ' || ends(c);
        let text = text.trim_matches(blank);
        let end = text.char_indices().nth(Self::MAX_CHARS);
        let text = end.map_or(text, |(at, _)| text.split_at(at).0.trim_end_matches(blank));
        if text.is_empty() {
            None
        } else if text.contains(ends) {
            Some(Self(text.replace(ends, " ").into()))
        } else {
            Some(Self(text.into()))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which emotes a text has and where, as Twitch's tag says it:
/// `25:0-4,12-16/1902:6-10`, in characters from 0, both ends included.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmoteSpans(Arc<str>);

impl EmoteSpans {
    /// What a line has room for beside the rest.
    pub const MAX_BYTES: usize = 1_024;

    /// `None` for what could end its place in a line, or is too long.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':' | b',' | b'/');
        (text.len() <= Self::MAX_BYTES && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for EmoteSpans {
    fn default() -> Self {
        Self("".into())
    }
}

/// A UUID: of a message, of any other event, of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u128);

impl MessageId {
    /// A version 4 UUID of sixteen random bytes.
    #[must_use]
    pub fn random(bytes: [u8; 16]) -> Self {
        let id = u128::from_be_bytes(bytes);
        let id = id & !(0xf << 76) | (4 << 76);
        Self(id & !(0b11 << 62) | (0b10 << 62))
    }

    /// # Errors
    /// [`ChatNameError::MessageId`] unless it is what [`fmt::Display`] prints, in
    /// either case.
    pub fn parse(text: &str) -> Result<Self, ChatNameError> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return Err(ChatNameError::MessageId);
        }
        let mut id = 0u128;
        for (at, byte) in bytes.iter().enumerate() {
            let dash = matches!(at, 8 | 13 | 18 | 23);
            match (dash, char::from(*byte).to_digit(16)) {
                (true, None) if *byte == b'-' => {}
                (false, Some(digit)) => id = id << 4 | u128::from(digit),
                _ => return Err(ChatNameError::MessageId),
            }
        }
        Ok(Self(id))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            id >> 96,
            id >> 80 & 0xffff,
            id >> 64 & 0xffff,
            id >> 48 & 0xffff,
            id & 0xffff_ffff_ffff
        )
    }
}

shown_as_its_content!(Login UserId Display Text EmoteSpans);

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn logins_are_twitch_s() {
        for good in ["a", "ann_2", "justinfan12", &"x".repeat(25)] {
            assert!(Login::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "Ann", "a-b", "a b", "#a", "ä", &"x".repeat(26)] {
            assert_eq!(Login::parse(bad), Err(ChatNameError::Login), "{bad}");
        }
        assert_eq!(Login::typed("@Ann").unwrap().as_str(), "ann");
        assert!(Login::parse("justinfan1").unwrap().is_anonymous());
        assert!(!Login::parse("justinfan").unwrap().is_anonymous());
        assert!(!Login::parse("justinfanx1").unwrap().is_anonymous());
    }

    #[test]
    fn a_text_is_cut_at_a_character_and_stays_one_line() {
        let long = "ä".repeat(600);
        let cut = Text::cut(&long).unwrap();
        assert_eq!(cut.as_str().chars().count(), 500);
        assert_eq!(Text::cut("a\r\nb\0c\u{1}").unwrap().as_str(), "a  b c");
        assert_eq!(Text::cut(" \r\n\u{1} "), None);
        assert_eq!(Text::cut(""), None);
    }

    proptest! {
        /// Nodes check texts by cutting them: one that changed would be no text there.
        #[test]
        fn a_cut_is_final(text in "(?s)[a \r\n\u{0}\u{1}ä😀]{0,3}[a \u{1}ä]{490,510}.{0,3}") {
            if let Some(cut) = Text::cut(&text) {
                prop_assert!(cut.as_str().chars().count() <= Text::MAX_CHARS);
                prop_assert_eq!(Text::cut(cut.as_str()), Some(cut));
            }
        }
    }

    #[test]
    fn what_is_cut_off_takes_the_blank_before_it_along() {
        for blank in [" ", "\u{1}", "\r\n \0"] {
            let kept = "a".repeat(Text::MAX_CHARS - blank.len());
            let cut = Text::cut(&format!("{kept}{blank}bbb")).unwrap();
            assert_eq!(cut.as_str(), kept, "{blank:?}");
        }
    }

    #[test]
    fn a_message_id_is_a_uuid() {
        let id = MessageId::random([0xff; 16]);
        let text = "ffffffff-ffff-4fff-bfff-ffffffffffff";
        assert_eq!(id.to_string(), text);
        assert_eq!(MessageId::parse(text), Ok(id));
        assert_eq!(MessageId::parse(&text.to_uppercase()), Ok(id));
        for bad in ["", "ffffffff", &text.replace('-', "f"), &format!("{text}0")] {
            assert_eq!(MessageId::parse(bad), Err(ChatNameError::MessageId));
        }
    }

    #[test]
    fn display_names_stay_in_their_place() {
        assert!(Display::parse("Ann").is_ok() && Display::parse("安").is_ok());
        for bad in ["", "a b", "a\nb", &"x".repeat(51)] {
            assert_eq!(Display::parse(bad), Err(ChatNameError::Display));
        }
    }
}
