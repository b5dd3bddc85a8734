//! The keys that tokens (JWT, RFC 7519) are signed and verified with: a file of
//! `kid algorithm key` lines, `#` beginning a comment. `HS256` keys are secrets,
//! `EdDSA` keys are public (Ed25519), both in base64url without padding as in a JWK
//! (RFC 7518, RFC 8037). `seed:` before an EdDSA key makes it the private one, which
//! only who signs needs. Two keys in the file are how one is replaced: add, sign with
//! the new one, remove the old one once its tokens have expired.
//!
//! Invariants: a token is verified with the key and the algorithm that the file gives
//! its `kid`, whatever the token itself says; no key and no token is ever in an error.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Validation, decode, decode_header, errors::ErrorKind,
};
use serde::de::DeserializeOwned;

/// Keys in force at one time: the one in use, those being phased out, and room.
const MAX_KEYS: usize = 64;
/// A name in every token's header.
const MAX_KID_BYTES: usize = 64;
/// HS256 with less is weaker than its hash (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;
const MAX_SECRET_BYTES: usize = 512;
/// Of an Ed25519 key, either half.
pub const SEED_BYTES: usize = 32;

/// Why a file can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct KeyFileError {
    /// From 1.
    pub line: usize,
    pub problem: &'static str,
}

/// Why a token says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    #[error("not a token")]
    Malformed,
    #[error("signed by no key of ours")]
    UnknownKey,
    #[error("not signed by the key that it names")]
    Signature,
    #[error("its claims have no meaning")]
    Claims,
}

/// One line of the file.
pub struct Key {
    pub algorithm: Algorithm,
    pub verifies: DecodingKey,
    /// Where the file has what signing takes.
    pub signs: Option<EncodingKey>,
}

/// The contents of a file, in its order; few enough to look through.
#[derive(Default)]
pub struct KeyFile(Vec<(Box<str>, Key)>);

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} key", self.algorithm)
    }
}

impl KeyFile {
    /// Reads all lines.
    ///
    /// # Errors
    /// The first that is wrong, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut keys = Self::default();
        for (line, text) in (1..).zip(text.lines()) {
            let wrong = |problem| KeyFileError { line, problem };
            let text = text.split('#').next().unwrap_or_default();
            let words: Vec<_> = text.split_whitespace().collect();
            let (kid, key) = match words[..] {
                [] => continue,
                [kid, algorithm, key] => (kid, parse(algorithm, key)),
                _ => {
                    return Err(wrong(
                        "expected `kid algorithm key`, for example `2026-11 HS256 q5Zk...Yw`",
                    ));
                }
            };
            let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if kid.len() > MAX_KID_BYTES || !kid.chars().all(valid) {
                return Err(wrong("a kid is 1 to 64 letters, digits, '.', '_' and '-'"));
            }
            let key = key.map_err(wrong)?;
            if keys.get(kid).is_some() {
                return Err(wrong("this kid stands in an earlier line"));
            }
            if keys.len() == MAX_KEYS {
                return Err(wrong("more than 64 keys"));
            }
            keys.0.push((kid.into(), key));
        }
        Ok(keys)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn get(&self, kid: &str) -> Option<&Key> {
        let mut keys = self.0.iter();
        keys.find_map(|(known, key)| (**known == *kid).then_some(key))
    }

    /// The first key that can sign, and its `kid`.
    #[must_use]
    pub fn signer(&self) -> Option<(&str, Algorithm, &EncodingKey)> {
        let mut keys = self.0.iter();
        keys.find_map(|(kid, key)| Some((&**kid, key.algorithm, key.signs.as_ref()?)))
    }

    /// What a token whose signature is its key's claims. Times and audience are the
    /// caller's to check, at each use.
    ///
    /// # Errors
    /// [`Unverified`].
    pub fn claims<T: DeserializeOwned>(&self, token: &str) -> Result<T, Unverified> {
        let header = decode_header(token).map_err(|_| Unverified::Malformed)?;
        let kid = header.kid.ok_or(Unverified::UnknownKey)?;
        let key = self.get(&kid).ok_or(Unverified::UnknownKey)?;
        let mut validation = Validation::new(key.algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let decoded = decode::<T>(token, &key.verifies, &validation);
        decoded
            .map(|decoded| decoded.claims)
            .map_err(|error| match error.kind() {
                ErrorKind::Json(_) | ErrorKind::InvalidClaimFormat(_) => Unverified::Claims,
                _ => Unverified::Signature,
            })
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
            let pair = ed25519_pair(&decoded(seed)?)?;
            let der = pair.to_pkcs8v1().map_err(|_| "not an Ed25519 seed")?;
            Ok(Key {
                algorithm: Algorithm::EdDSA,
                verifies: public(&ed25519_public(&pair))?,
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

/// The pair that a seed makes.
///
/// # Errors
/// For anything but 32 bytes.
pub fn ed25519_pair(seed: &[u8]) -> Result<Ed25519KeyPair, &'static str> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| "an EdDSA seed has 32 bytes")
}

/// The public key as a line of the file has it.
#[must_use]
pub fn ed25519_public(pair: &Ed25519KeyPair) -> String {
    URL_SAFE_NO_PAD.encode(pair.public_key().as_ref())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Header, encode};
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Said {
        n: u64,
    }

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    /// RFC 8037, appendix A: a private key and its public one.
    const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    #[test]
    fn lines_are_keys() {
        let text =
            format!("# now\n a HS256 {SECRET} # old\n\nb\tEdDSA {PUBLIC}\r\nc EdDSA seed:{SEED}\n");
        let keys = KeyFile::parse(&text).unwrap();
        assert_eq!((keys.len(), format!("{keys:?}")), (3, "3 keys".to_owned()));
        let signs = |kid| keys.get(kid).unwrap().signs.is_some();
        assert!(signs("a") && !signs("b") && signs("c"));
        assert_eq!(keys.get("b").unwrap().algorithm, Algorithm::EdDSA);
        assert!(keys.get("A").is_none());
        assert_eq!(keys.signer().unwrap().0, "a");
        let pair = ed25519_pair(&decoded(SEED).unwrap()).unwrap();
        assert_eq!(ed25519_public(&pair), PUBLIC);
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
            (format!("a HS256 {SECRET}\u{e4}"), 1, "base64url"),
            (format!("a HS512 {SECRET}"), 1, "HS256 or EdDSA"),
            (format!("a none {SECRET}"), 1, "HS256 or EdDSA"),
            (format!("a EdDSA {half}"), 1, "32 bytes"),
            (format!("a EdDSA seed:{half}"), 1, "32 bytes"),
            (format!("a HS256 seed:{SECRET}"), 1, "HS256 or EdDSA"),
            (format!("a HS256 {SECRET}\na EdDSA {PUBLIC}"), 2, "earlier"),
        ] {
            let error = KeyFile::parse(&text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.problem.contains(said), "{text}: {error}");
            assert!(!error.to_string().contains("AAEC"), "{error}");
        }
        let many: String = (0..65).map(|n| format!("k{n} HS256 {SECRET}\n")).collect();
        assert_eq!(KeyFile::parse(&many).unwrap_err().line, 65);
    }

    #[test]
    fn a_token_is_its_keys_own() {
        let text = format!("a HS256 {SECRET}\nb EdDSA seed:{SEED}");
        let keys = KeyFile::parse(&text).unwrap();
        let signed = |kid: &str, by: &str, claims: &Said| {
            let by = keys.get(by).unwrap();
            let mut header = Header::new(by.algorithm);
            header.kid = Some(kid.to_owned());
            encode(&header, claims, by.signs.as_ref().unwrap()).unwrap()
        };
        let claims = Said { n: 7 };
        for kid in ["a", "b"] {
            let read = keys.claims::<Said>(&signed(kid, kid, &claims));
            assert_eq!(read, Ok(claims.clone()));
        }
        for (token, why) in [
            (signed("a", "b", &claims), Unverified::Signature),
            (signed("b", "a", &claims), Unverified::Signature),
            (signed("c", "a", &claims), Unverified::UnknownKey),
            ("a.b.c".to_owned(), Unverified::Malformed),
        ] {
            assert_eq!(keys.claims::<Said>(&token), Err(why), "{token}");
        }
        let wrong = keys.claims::<String>(&signed("a", "a", &claims));
        assert_eq!(wrong, Err(Unverified::Claims));
    }
}
