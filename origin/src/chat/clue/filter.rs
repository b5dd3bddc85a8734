//! Blocked words: terms, looked for in a message.
//!
//! Terms that begin with a plain word are found by that word; the others (`*word`)
//! are tried one by one, which is why there may be only [`MAX_LOOSE`] of them: a
//! message has at most 250 words.

use std::collections::{BTreeMap, HashMap};

use common::chat::{Term, TermAction, term::words};

/// Terms whose first word begins or ends with a star.
pub const MAX_LOOSE: usize = 256;

/// A word of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    word: Box<str>,
    any_before: bool,
    any_after: bool,
}

impl Pattern {
    fn of(text: &str) -> Self {
        let word = text.strip_prefix('*').unwrap_or(text);
        let any_before = word.len() < text.len();
        let core = word.strip_suffix('*').unwrap_or(word);
        Self {
            any_before,
            any_after: core.len() < word.len(),
            word: core.into(),
        }
    }

    const fn is_plain(&self) -> bool {
        !self.any_before && !self.any_after
    }

    fn matches(&self, word: &str) -> bool {
        let own = &*self.word;
        match (self.any_before, self.any_after) {
            (false, false) => word == own,
            (false, true) => word.starts_with(own),
            (true, false) => word.ends_with(own),
            (true, true) => word.contains(own),
        }
    }
}

#[derive(Debug, Clone)]
struct Wanted {
    patterns: Vec<Pattern>,
    action: TermAction,
}

impl Wanted {
    fn begins(&self, words: &[String]) -> bool {
        words.len() >= self.patterns.len()
            && self
                .patterns
                .iter()
                .zip(words)
                .all(|(pattern, word)| pattern.matches(word))
    }
}

/// Terms, made ready to look for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    terms: BTreeMap<Term, TermAction>,
    by_first: HashMap<Box<str>, Vec<Wanted>>,
    loose: Vec<Wanted>,
    cut: bool,
}

impl Filter {
    pub fn of(terms: impl IntoIterator<Item = (Term, TermAction)>) -> Self {
        let mut filter = Self {
            terms: terms.into_iter().collect(),
            ..Self::default()
        };
        for (term, action) in &filter.terms {
            let wanted = Wanted {
                patterns: term.patterns().map(Pattern::of).collect(),
                action: *action,
            };
            match wanted.patterns.first() {
                Some(first) if first.is_plain() => {
                    let word = first.word.clone();
                    filter.by_first.entry(word).or_default().push(wanted);
                }
                Some(_) if filter.loose.len() < MAX_LOOSE => filter.loose.push(wanted),
                _ => filter.cut = true,
            }
        }
        filter
    }

    /// Whether there were more loose terms than are tried.
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether one more term would be looked for.
    pub fn has_room_for(&self, term: &Term) -> bool {
        let loose = |term: &Term| {
            term.patterns()
                .next()
                .is_some_and(|first| first.contains('*'))
        };
        self.terms.contains_key(term) || !loose(term) || self.loose.len() < MAX_LOOSE
    }

    pub const fn terms(&self) -> &BTreeMap<Term, TermAction> {
        &self.terms
    }

    /// What becomes of a text, given its words; the stricter of all that match.
    pub fn check(&self, text: &[String]) -> Option<TermAction> {
        let mut found = None;
        for at in 0..text.len() {
            let rest = text.get(at..).unwrap_or_default();
            let first = rest.first().map_or("", String::as_str);
            let plain = self.by_first.get(first).into_iter().flatten();
            let hit = plain
                .chain(&self.loose)
                .filter(|wanted| wanted.begins(rest));
            found = hit
                .map(|wanted| Some(wanted.action))
                .fold(found, Option::max);
            if found == Some(TermAction::Refuse) {
                break;
            }
        }
        found
    }
}

/// What room and operator together make of a text.
pub(super) fn check(text: &str, own: &Filter, operator: &Filter) -> Option<TermAction> {
    if own.terms.is_empty() && operator.terms.is_empty() {
        return None;
    }
    let words = words(text);
    own.check(&words).max(operator.check(&words))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(terms: &[(&str, TermAction)]) -> Filter {
        let parsed = terms
            .iter()
            .map(|(term, action)| (Term::parse(term).unwrap(), *action));
        Filter::of(parsed)
    }

    fn found(terms: &[&str], text: &str) -> bool {
        let terms: Vec<_> = terms
            .iter()
            .map(|term| (*term, TermAction::Refuse))
            .collect();
        filter(&terms).check(&words(text)).is_some()
    }

    #[test]
    fn words_are_found_whole_unless_a_star_says_otherwise() {
        for (term, text, hit) in [
            ("bad", "this is BAD!", true),
            ("bad", "badge", false),
            ("bad*", "badge", true),
            ("bad*", "forbad", false),
            ("*bad", "forbad", true),
            ("*bad*", "forbade", true),
            ("*bad*", "b ad", false),
            ("very bad", "very, very bad", true),
            ("very bad", "very good, bad", false),
            ("very bad*", "that's very bad-tempered", true),
            ("* bad", "x", false),
            ("bad", "b\u{200b}a\u{301}d", true),
            ("bad", "ＢＡＤ", true),
            ("ПЛОХО", "плохо", true),
            ("*坏*", "这很坏吧", true),
        ] {
            let hits = Term::parse(term).is_some() && found(&[term], text);
            assert_eq!(hits, hit, "{term} in {text}");
        }
        assert!(found(&["x", "bad", "y"], "so bad"));
        assert!(!found(&[], "so bad"));
    }

    #[test]
    fn the_stricter_action_wins() {
        let own = filter(&[("hm", TermAction::Hold), ("bad", TermAction::Refuse)]);
        let operator = filter(&[("hm*", TermAction::Refuse)]);
        let none = Filter::default();
        assert_eq!(check("hm", &own, &none), Some(TermAction::Hold));
        assert_eq!(check("hm bad", &own, &none), Some(TermAction::Refuse));
        assert_eq!(check("hm", &own, &operator), Some(TermAction::Refuse));
        assert_eq!(check("fine", &own, &operator), None);
    }

    #[test]
    fn loose_terms_are_bounded() {
        let loose =
            (0..MAX_LOOSE + 5).map(|n| (Term::parse(&format!("*x{n}")).unwrap(), TermAction::Hold));
        let filter = Filter::of(loose);
        assert!(filter.is_cut() && filter.loose.len() == MAX_LOOSE);
        assert!(!filter.has_room_for(&Term::parse("*more").unwrap()));
        assert!(filter.has_room_for(&Term::parse("more").unwrap()));
    }

    proptest! {
        /// A plain word is found exactly where it stands among other words.
        #[test]
        fn a_word_is_found_where_it_is(
            words in prop::collection::vec("[a-z]{1,6}", 0..12), term in "[a-z]{1,6}",
            between in prop::sample::select(vec![" ", ", ", "-", "...", " * "]),
        ) {
            let text = words.join(between);
            prop_assert_eq!(found(&[&term], &text), words.contains(&term));
            prop_assert_eq!(found(&[&format!("*{term}*")], &text), words.iter().any(|word| word.contains(&term)));
        }
    }
}
