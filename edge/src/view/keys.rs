//! The keys that tokens are verified with: a file of `kid algorithm key` lines,
//! `#` beginning a comment. `HS256` keys are secrets, `EdDSA` keys are public
//! (Ed25519), both in base64url without padding as in a JWK (RFC 7518, RFC 8037).
//! `seed:` before an EdDSA key makes it the private one, which only who signs
//! needs. Two keys in the file are how one is replaced: add, sign with the new
//! one, remove the old one once its tokens have expired.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use common::reload::{self, Files};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use tracing::info;

/// Keys in force at one time; more is a mistake.
const MAX_KEYS: usize = 64;
/// A name in every token's header.
const MAX_KID_BYTES: usize = 64;
/// HS256 with less is weaker than its hash (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;
const MAX_SECRET_BYTES: usize = 512;
pub(super) const SEED_BYTES: usize = 32;

/// Why there are no keys. Never holds one.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("view keys {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("view keys {}:{line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        /// From 1.
        line: usize,
        problem: &'static str,
    },
    #[error("view keys {}: no key in it, and nobody could watch", .0.display())]
    Empty(PathBuf),
}

/// One line of the file.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) verifies: DecodingKey,
    /// Where the file has what signing takes.
    pub(super) signs: Option<EncodingKey>,
}

/// The contents of a file.
#[derive(Default)]
pub(super) struct Keys(HashMap<Box<str>, Key>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    /// Every line, or the first wrong one and what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut keys = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<_> = line.split_whitespace().collect();
            let (kid, key) = match words[..] {
                [] => continue,
                [kid, algorithm, key] => (kid, parse(algorithm, key)),
                _ => Err((
                    number,
                    "expected `kid algorithm key`, for example `2026-11 HS256 q5Zk...Yw`",
                ))?,
            };
            let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if kid.len() > MAX_KID_BYTES || !kid.chars().all(valid) {
                return Err((number, "a kid is 1 to 64 letters, digits, '.', '_' and '-'"));
            }
            let key = key.map_err(|problem| (number, problem))?;
            if keys.0.insert(kid.into(), key).is_some() {
                return Err((number, "this kid stands in an earlier line"));
            }
            if keys.0.len() > MAX_KEYS {
                return Err((number, "more than 64 keys"));
            }
        }
        Ok(keys)
    }

    pub(super) fn read(path: &Path) -> Result<Self, KeysError> {
        let text = reload::read(path).map_err(|error| KeysError::Read {
            path: path.to_owned(),
            error,
        })?;
        let keys = Self::parse(&text).map_err(|(line, problem)| KeysError::Line {
            path: path.to_owned(),
            line,
            problem,
        })?;
        if keys.0.is_empty() {
            return Err(KeysError::Empty(path.to_owned()));
        }
        Ok(keys)
    }

    pub(super) fn get(&self, kid: &str) -> Option<&Key> {
        self.0.get(kid)
    }
}

fn parse(algorithm: &str, key: &str) -> Result<Key, &'static str> {
    match (algorithm, key.strip_prefix("seed:")) {
        ("HS256", None) => {
            let secret = decoded(key)?;
            if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&secret.len()) {
                return Err("an HS256 key has 32 to 512 bytes");
            }
            Ok(Key {
                algorithm: Algorithm::HS256,
                verifies: DecodingKey::from_secret(&secret),
                signs: Some(EncodingKey::from_secret(&secret)),
            })
        }
        ("EdDSA", None) => {
            if decoded(key)?.len() != SEED_BYTES {
                return Err("an EdDSA key has 32 bytes");
            }
            Ok(Key {
                algorithm: Algorithm::EdDSA,
                verifies: public(key)?,
                signs: None,
            })
        }
        ("EdDSA", Some(seed)) => {
            let pair = pair(&decoded(seed)?)?;
            let der = pair.to_pkcs8v1().map_err(|_| "not an Ed25519 seed")?;
            Ok(Key {
                algorithm: Algorithm::EdDSA,
                verifies: public(&public_text(&pair))?,
                signs: Some(EncodingKey::from_ed_der(der.as_ref())),
            })
        }
        _ => Err("the algorithm is HS256 or EdDSA"),
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| "the key is not base64url without padding")
}

fn public(text: &str) -> Result<DecodingKey, &'static str> {
    DecodingKey::from_ed_components(text).map_err(|_| "not an Ed25519 key")
}

pub(super) fn pair(seed: &[u8]) -> Result<Ed25519KeyPair, &'static str> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| "an EdDSA seed has 32 bytes")
}

/// The public key as a line of the file has it.
pub(super) fn public_text(pair: &Ed25519KeyPair) -> String {
    URL_SAFE_NO_PAD.encode(pair.public_key().as_ref())
}

/// The keys in force.
#[derive(Debug)]
pub(super) struct ViewKeys {
    path: PathBuf,
    files: Files,
    current: ArcSwap<Keys>,
}

impl ViewKeys {
    pub(super) fn load(path: &Path) -> Result<Self, KeysError> {
        let files = Files::seen([path.to_owned()]);
        let keys = Keys::read(path)?;
        info!(?keys, "viewing needs tokens");
        Ok(Self {
            path: path.to_owned(),
            files,
            current: ArcSwap::from_pointee(keys),
        })
    }

    pub(super) fn files(&self) -> Files {
        self.files.clone()
    }

    pub(super) fn reload(&self) -> Result<(), KeysError> {
        self.current.store(Arc::new(Keys::read(&self.path)?));
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<Keys> {
        self.current.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    /// RFC 8037, appendix A: a private key and its public one.
    const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    #[test]
    fn lines_are_keys() {
        let text =
            format!("# now\n a HS256 {SECRET} # old\n\nb\tEdDSA {PUBLIC}\r\nc EdDSA seed:{SEED}\n");
        let keys = Keys::parse(&text).unwrap();
        let signs = |kid| keys.get(kid).unwrap().signs.is_some();
        assert!(signs("a") && !signs("b") && signs("c"));
        assert_eq!(keys.get("b").unwrap().algorithm, Algorithm::EdDSA);
        assert!(keys.get("A").is_none());
        let pair = pair(&decoded(SEED).unwrap()).unwrap();
        assert_eq!(public_text(&pair), PUBLIC);
    }

    #[test]
    fn the_first_wrong_line_is_named() {
        let half = "AAECAwQFBgcICQoLDA0ODw";
        for (text, line, said) in [
            (format!("a HS256 {SECRET}\nb"), 2, "kid algorithm key"),
            (format!("a HS256 {SECRET} more"), 1, "kid algorithm key"),
            (format!("a/b HS256 {SECRET}"), 1, "a kid is"),
            (format!("{} HS256 {SECRET}", "k".repeat(65)), 1, "a kid is"),
            (format!("a HS256 {half}"), 1, "32 to 512 bytes"),
            (format!("a HS256 {SECRET}="), 1, "base64url"),
            (format!("a HS512 {SECRET}"), 1, "HS256 or EdDSA"),
            (format!("a none {SECRET}"), 1, "HS256 or EdDSA"),
            (format!("a EdDSA {half}"), 1, "32 bytes"),
            (format!("a EdDSA seed:{half}"), 1, "32 bytes"),
            (format!("a HS256 seed:{SECRET}"), 1, "HS256 or EdDSA"),
            (format!("a HS256 {SECRET}\na EdDSA {PUBLIC}"), 2, "earlier"),
        ] {
            let (at, problem) = Keys::parse(&text).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(problem.contains(said), "{text}: {problem}");
        }
        let many: String = (0..65).map(|n| format!("k{n} HS256 {SECRET}\n")).collect();
        assert_eq!(Keys::parse(&many).unwrap_err().0, 65);
    }

    #[test]
    fn a_mistake_keeps_the_old_keys_and_never_shows_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("view");
        std::fs::write(&path, format!("a HS256 {SECRET}")).unwrap();
        let keys = ViewKeys::load(&path).unwrap();
        assert!(!format!("{keys:?}").contains(SECRET));
        for bad in [
            format!("b HS256 {SECRET}x{SECRET}="),
            String::new(),
            "# none".into(),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = keys.reload().unwrap_err().to_string();
            assert!(!error.contains(SECRET) && error.contains("view"), "{error}");
            assert!(keys.current().get("a").is_some());
        }
        std::fs::write(&path, format!("b HS256 {SECRET}")).unwrap();
        keys.reload().unwrap();
        assert!(keys.current().get("a").is_none() && keys.current().get("b").is_some());
    }
}
