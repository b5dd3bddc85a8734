//! Words that a room does not want, and how texts are read when such words are
//! looked for.
//!
//! In: what moderators and operators type, and messages. Out: a [`Term`] in its one
//! spelling, and the words of a text as [`words`] reads them: lower case, wide
//! letters made plain, what nobody sees left out. A term and a text are folded
//! alike, or nothing would ever match.

use std::{fmt, sync::Arc};

/// One word or phrase: words of letters and digits with single spaces between,
/// each perhaps with a `*` at an end that stands for any letters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term(Arc<str>);

impl Term {
    /// Characters, stars and spaces included.
    pub const MAX_CHARS: usize = 64;
    pub const MAX_WORDS: usize = 8;

    /// `None` where there is no letter or digit, or more than fits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Four times as many: what folds away may be typed, a book may not.
        if text.len() > 4 * 4 * Self::MAX_CHARS {
            return None;
        }
        let mut folded: Vec<String> = Vec::new();
        for pattern in text.split_whitespace() {
            let mut parts = words(pattern);
            if parts.is_empty() {
                return None;
            }
            if pattern.starts_with('*')
                && let Some(first) = parts.first_mut()
            {
                first.insert(0, '*');
            }
            if pattern.ends_with('*')
                && let Some(last) = parts.last_mut()
            {
                last.push('*');
            }
            folded.append(&mut parts);
        }
        let term = folded.join(" ");
        let fits = term.chars().count() <= Self::MAX_CHARS;
        ((1..=Self::MAX_WORDS).contains(&folded.len()) && fits).then(|| Self(term.into()))
    }

    /// Its words, stars and all.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ')
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What becomes of a message with a term in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TermAction {
    /// Moderators look at it first.
    Hold,
    Refuse,
}

impl TermAction {
    /// In files, commands and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Refuse => "refuse",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "hold" => Some(Self::Hold),
            "refuse" => Some(Self::Refuse),
            _ => None,
        }
    }
}

/// A text as people read it: lower case, without what is not seen.
#[must_use]
pub fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !is_unseen(*c)) {
        folded.extend(narrow(c).to_lowercase().filter(|c| !is_unseen(*c)));
    }
    folded
}

/// The words of a text: letters and digits that stand together.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    let folded = folded(text);
    let words = folded.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// Marks over letters, joiners, directions, tags: put between letters to hide a
/// word from a machine.
const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Full-width letters and digits are the ASCII ones 0xfee0 below.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spelt(text: &str) -> Option<String> {
        Term::parse(text).map(|term| term.to_string())
    }

    #[test]
    fn a_term_has_one_spelling() {
        for (typed, term) in [
            ("Bad", "bad"),
            ("  very   BAD  ", "very bad"),
            ("bad*", "bad*"),
            ("*Bad*", "*bad*"),
            ("*a.b*", "*a b*"),
            ("b*d", "b d"),
            ("ＢＡＤ", "bad"),
            ("b\u{200b}a\u{301}d", "bad"),
            ("плохо", "плохо"),
        ] {
            assert_eq!(spelt(typed).as_deref(), Some(term), "{typed}");
        }
        for bad in [
            "",
            " ",
            "*",
            "a *",
            "...",
            &"x".repeat(65),
            "a b c d e f g h i",
            &"\u{301}".repeat(999),
        ] {
            assert_eq!(spelt(bad), None, "{bad}");
        }
    }

    proptest! {
        /// What was parsed parses to itself, whatever was typed.
        #[test]
        fn spelling_is_final(text in "[a-zA-Z*. \u{301}\u{ff21}ßİé-]{0,40}") {
            if let Some(term) = Term::parse(&text) {
                prop_assert_eq!(Term::parse(term.as_str()), Some(term));
            }
        }

        #[test]
        fn no_text_panics(text in "(?s).{0,80}") {
            let _ = (Term::parse(&text), words(&text));
        }
    }
}
