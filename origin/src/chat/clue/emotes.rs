//! The emotes of this origin, found in texts: words that stand alone between
//! spaces, as Twitch has it.

use std::{collections::HashMap, fmt::Write};

use common::chat::EmoteSpans;

/// Emotes that one file may name.
pub const MAX_EMOTES: usize = 16_384;
const MAX_NAME_BYTES: usize = 64;
const MAX_ID_BYTES: usize = 64;

/// Names and the ids that tags carry for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmoteSet(HashMap<Box<str>, Box<str>>);

/// What is in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) spans: EmoteSpans,
    /// There is nothing but emotes.
    pub(super) only: bool,
}

impl EmoteSet {
    /// Lines `NAME ID`, perhaps with more that is not for an origin; `#` and a space
    /// begin a comment line.
    ///
    /// # Errors
    /// The first wrong line, from 1, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut emotes = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let mut parts = line.split_whitespace();
            let (name, id) = match (parts.next(), parts.next()) {
                (None | Some("#"), _) => continue,
                (Some(name), Some(id)) => (name, id),
                _ => return Err((number, "expected `NAME ID`, for example `Kappa 25`")),
            };
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            if id.len() > MAX_ID_BYTES || !id.bytes().all(plain) {
                return Err((number, "an id is up to 64 of A-Z, a-z, 0-9, _ and -"));
            }
            if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
                return Err((number, "a name is up to 64 bytes"));
            }
            if emotes.len() == MAX_EMOTES {
                return Err((number, "more than 16,384 emotes"));
            }
            if emotes.insert(name.into(), id.into()).is_some() {
                return Err((number, "this name is there already"));
            }
        }
        Ok(Self(emotes))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Emotes in the order they come first, each with all its places.
    pub(super) fn find(&self, text: &str) -> Found {
        let mut only = true;
        let mut places: Vec<(&str, Vec<(usize, usize)>)> = Vec::new();
        let mut from = 0;
        for word in text.split(' ') {
            let chars = word.chars().count();
            match self.0.get(word) {
                Some(id) => {
                    let place = (from, from + chars.saturating_sub(1));
                    match places.iter_mut().find(|(other, _)| *other == &**id) {
                        Some((_, places)) => places.push(place),
                        None => places.push((id, vec![place])),
                    }
                }
                None => only &= chars == 0,
            }
            from += chars + 1;
        }
        Found {
            only: only && !places.is_empty(),
            spans: spans(&places),
        }
    }
}

/// As many as the tag has room for; the others stay text.
fn spans(places: &[(&str, Vec<(usize, usize)>)]) -> EmoteSpans {
    let mut tag = String::new();
    for (id, places) in places {
        let before = tag.len();
        let slash = if tag.is_empty() { "" } else { "/" };
        // Writing to a String can't fail.
        let _ = write!(tag, "{slash}{id}:");
        for (at, (from, to)) in places.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(tag, "{comma}{from}-{to}");
        }
        if tag.len() > EmoteSpans::MAX_BYTES {
            tag.truncate(before);
            break;
        }
    }
    EmoteSpans::parse(&tag).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set() -> EmoteSet {
        EmoteSet::parse("# ours\nKappa 25 https://example.net/25.png\n:) 1\nPog emotesv2_0a\n\n")
            .unwrap()
    }

    #[test]
    fn places_are_twitch_s() {
        for (text, spans, only) in [
            ("Kappa", "25:0-4", true),
            ("Kappa Keepo Kappa", "25:0-4,12-16", false),
            ("ä Pog :)", "emotesv2_0a:2-4/1:6-7", false),
            (":) Kappa  :)", "1:0-1,10-11/25:3-7", true),
            ("kappa Kappa! Kappas", "", false),
            ("hello", "", false),
        ] {
            let found = set().find(text);
            assert_eq!((found.spans.as_str(), found.only), (spans, only), "{text}");
        }
        assert!(!EmoteSet::default().find("x").only);
    }

    #[test]
    fn the_first_wrong_line_is_named() {
        for (text, line) in [
            ("Kappa", 1),
            ("Kappa 25\n\nPog a/b", 3),
            ("Kappa 25\nKappa 26", 2),
            (&format!("Kappa {}", "1".repeat(65)), 1),
            (&format!("{} 1", "K".repeat(65)), 1),
        ] {
            assert_eq!(EmoteSet::parse(text).unwrap_err().0, line, "{text}");
        }
        let many: String = (0..=MAX_EMOTES).map(|n| format!("e{n} {n}\n")).collect();
        assert_eq!(EmoteSet::parse(&many).unwrap_err().0, MAX_EMOTES + 1);
        assert_eq!(set().len(), 3);
    }

    #[test]
    fn what_has_no_room_stays_text() {
        let file: String = (0..400)
            .map(|n| format!("e{n} {n}{}\n", "x".repeat(50)))
            .collect();
        let set = EmoteSet::parse(&file).unwrap();
        let text: Vec<_> = (0..100).map(|n| format!("e{n}")).collect();
        let found = set.find(&text.join(" "));
        assert!(found.only && found.spans.as_str().len() <= EmoteSpans::MAX_BYTES);
        assert!(found.spans.as_str().ends_with(|c: char| c.is_ascii_digit()));
    }

    proptest! {
        /// Each place that the tag names holds an emote of that id.
        #[test]
        fn places_hold_what_they_say(words in prop::collection::vec("Kappa|Pog|:\\)|ä{1,3}|x|", 0..40)) {
            let text = words.join(" ");
            let chars: Vec<char> = text.chars().collect();
            let set = set();
            let found = set.find(&text);
            let mut count = 0;
            for one in found.spans.as_str().split('/').filter(|one| !one.is_empty()) {
                let (id, places) = one.split_once(':').unwrap();
                for place in places.split(',') {
                    let (from, to) = place.split_once('-').unwrap();
                    let word: String = chars[from.parse().unwrap()..=to.parse().unwrap()].iter().collect();
                    prop_assert_eq!(set.0.get(word.as_str()).map(|id| &**id), Some(id));
                    count += 1;
                }
            }
            let emotes = words.iter().filter(|word| set.0.contains_key(word.as_str())).count();
            prop_assert_eq!(count, emotes);
        }
    }
}
