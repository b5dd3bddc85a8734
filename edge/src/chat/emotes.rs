//! The emotes of this edge's pages: names and their pictures, from a file.
//!
//! In: lines `NAME ID PICTURE`, the file of an origin's `--chat-emotes` with pictures;
//! `#` and a space begin a comment line. A picture is an `https://` URL, a path on
//! this edge, or a few characters (an emoji). Out: names and pictures, and the
//! origins that a page's policy has to let in. Bounds: [`MAX_EMOTES`],
//! [`MAX_NAME_CHARS`], [`MAX_URL_BYTES`], [`MAX_ORIGINS`].

use std::collections::{BTreeMap, BTreeSet};

/// What a page loads at once; ten kilobytes of names.
pub const MAX_EMOTES: usize = 1_000;
const MAX_NAME_CHARS: usize = 64;
const MAX_URL_BYTES: usize = 512;
/// An emoji of several people is eleven characters.
const MAX_EMOJI_CHARS: usize = 16;
/// Each makes the policy of every page longer.
pub const MAX_ORIGINS: usize = 16;

/// Why a file of emotes can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct EmoteFileError {
    pub line: usize,
    pub problem: &'static str,
}

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Emotes {
    pictures: BTreeMap<String, String>,
    origins: BTreeSet<String>,
}

impl Emotes {
    /// # Errors
    /// [`EmoteFileError`].
    pub fn parse(file: &str) -> Result<Self, EmoteFileError> {
        let mut emotes = Self::default();
        for (line, text) in (1..).zip(file.lines()) {
            let wrong = |problem| EmoteFileError { line, problem };
            let words: Vec<_> = text.split_whitespace().collect();
            let (name, picture) = match words[..] {
                // Without a picture, its name is read.
                [] | ["#", ..] | [_, _] => continue,
                [name, _, picture] => (name, picture),
                _ => return Err(wrong("expected `NAME ID PICTURE`")),
            };
            if name.chars().count() > MAX_NAME_CHARS {
                return Err(wrong("a name has at most 64 characters"));
            }
            if emotes.pictures.len() == MAX_EMOTES {
                return Err(wrong("more than 1,000 emotes"));
            }
            if let Some(origin) = checked(picture).map_err(wrong)? {
                emotes.origins.insert(origin);
            }
            if emotes.origins.len() > MAX_ORIGINS {
                return Err(wrong("pictures of more than 16 origins"));
            }
            let (name, picture) = (name.to_owned(), picture.to_owned());
            if emotes.pictures.insert(name, picture).is_some() {
                return Err(wrong("this name stands in an earlier line"));
            }
        }
        Ok(emotes)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// By name, in its order.
    #[must_use]
    pub const fn pictures(&self) -> &BTreeMap<String, String> {
        &self.pictures
    }

    /// Scheme, host and port of pictures that lie elsewhere.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.origins.iter().map(String::as_str)
    }
}

/// A picture's origin, if it has another than this edge's.
fn checked(picture: &str) -> Result<Option<String>, &'static str> {
    let Some((scheme, rest)) = picture.split_once("://") else {
        let path = picture.starts_with('/') && !picture.starts_with("//");
        let fits = picture.chars().count() <= MAX_EMOJI_CHARS || path;
        return if fits && picture.len() <= MAX_URL_BYTES {
            Ok(None)
        } else {
            Err("a picture is an https:// URL, a path, or a few characters")
        };
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // What may stand in a policy without meaning anything there.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    if scheme == "https"
        && !host.is_empty()
        && host.bytes().all(plain)
        && picture.len() <= MAX_URL_BYTES
        && picture.bytes().all(|b| b.is_ascii_graphic())
    {
        Ok(Some(format!("https://{host}")))
    } else {
        Err("a picture elsewhere is an https:// URL without a user in it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_names_and_pictures() {
        let file = "# ours, and theirs\nKappa 25 https://cdn.example.net/k.png?v=1\n\n wave 7 \u{1f44b} \n\
                    :) 8 /emotes/smile.svg\nfar 9 https://cdn.example.net:8443/f.webp\nplain 10\n";
        let emotes = Emotes::parse(file).unwrap();
        let names: Vec<_> = emotes.pictures().keys().map(String::as_str).collect();
        assert_eq!(names, [":)", "Kappa", "far", "wave"]);
        let origins: Vec<_> = emotes.origins().collect();
        assert_eq!(
            origins,
            ["https://cdn.example.net", "https://cdn.example.net:8443"]
        );
        assert_eq!(Emotes::parse("").unwrap(), Emotes::default());
    }

    #[test]
    fn what_would_widen_a_policy_is_no_picture() {
        for picture in [
            "http://cdn.example.net/a.png",
            "javascript://x/%0aalert(1)",
            "https://",
            "https://user@host/a.png",
            "https://a;script-src/x.png",
            "https://a*/x.png",
            "//cdn.example.net/a.png",
            "seventeen-letters",
            "https://a/\u{e9}.png",
        ] {
            let error = Emotes::parse(&format!("ok 1 :)\nx 2 {picture}")).unwrap_err();
            assert_eq!(error.line, 2, "{picture}");
        }
    }

    #[test]
    fn a_set_is_bounded() {
        let lines = |count: usize| {
            (0..count)
                .map(|n| format!("e{n} {n} :)\n"))
                .collect::<String>()
        };
        assert_eq!(Emotes::parse(&lines(MAX_EMOTES)).unwrap().len(), MAX_EMOTES);
        let many = Emotes::parse(&lines(MAX_EMOTES + 1)).unwrap_err();
        assert_eq!(many.line, MAX_EMOTES + 1);
        let origins: String = (0..=MAX_ORIGINS)
            .map(|n| format!("e{n} {n} https://h{n}/x\n"))
            .collect();
        assert!(Emotes::parse(&origins).is_err());
        assert!(Emotes::parse("a 1 :)\na 2 :(").is_err());
        assert!(Emotes::parse(&format!("{} 1 :)", "x".repeat(65))).is_err());
        assert!(Emotes::parse("a b c d").is_err() && Emotes::parse("a").is_err());
    }
}
