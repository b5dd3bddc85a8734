//! Who somebody is: signed tokens (JWT, RFC 7519; HS256 or EdDSA), checked where
//! they come in, against keys of a file.
//!
//! In: the text behind `oauth:` of a PASS, and now. Out: [`Claims`]. tmi.js
//! lowercases PASS, which ruins a JWT; the same JWT in lowercase base32 (RFC
//! 4648 without padding) says as much and survives. Its alphabet has no dot, so
//! one form is never taken for the other. No token and no key ever is in an error.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{
    name::{Display, Login, UserId},
    user::{Badge, Claims, Colour, Roles, RoomClaims, User},
};
use crate::{live::UnixMs, names::ChannelName};

/// A PASS line is at most 4 KiB; base32 takes 8 bytes for 5.
pub const MAX_TOKEN_BYTES: usize = 4_000;

/// Clocks of nodes may differ by this much.
const LEEWAY_MS: u64 = 5_000;

/// Fewer bits could be guessed (RFC 7518, 3.2 asks for as many as the hash has).
const MIN_SECRET_BYTES: usize = 32;

/// Keys of a file: the one in use, those being phased out, and room.
const MAX_KEYS: usize = 64;

/// Why a token is worth nothing. None of it says more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("not a token")]
    Malformed,
    #[error("signed by no key of ours")]
    Signature,
    #[error("expired or not valid yet")]
    Expired,
    #[error("for somebody else")]
    Audience,
    #[error("its claims have no meaning")]
    Claims,
}

/// Why a keys file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct KeyFileError {
    pub line: usize,
    pub problem: &'static str,
}

/// A token's body, as it is signed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TokenBody {
    /// The user's lasting id.
    pub sub: String,
    pub aud: Audience,
    /// Seconds since 1970.
    pub exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    pub login: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub badges: Vec<String>,
    /// By channel: broadcaster, moderator, vip, subscriber.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, Vec<String>>,
    /// By channel: since when the user follows, seconds since 1970.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub follows: BTreeMap<String, u64>,
}

/// One or several (RFC 7519, 4.1.3).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::One(String::new())
    }
}

impl Audience {
    fn holds(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

/// The keys in force.
pub struct TokenKeys {
    audience: String,
    keys: HashMap<String, (Algorithm, DecodingKey)>,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl TokenKeys {
    /// Reads a keys file: lines `KID HS256 SECRET` and `KID EdDSA PUBLIC-KEY` or
    /// `KID EdDSA seed:SEED`, in base64url; `#` begins a comment. Tokens name their
    /// key by `kid`.
    ///
    /// # Errors
    /// [`KeyFileError`], which holds no key.
    pub fn parse(file: &str, audience: &str) -> Result<Self, KeyFileError> {
        let mut keys = HashMap::new();
        for (line, text) in (1..).zip(file.lines()) {
            let wrong = |problem| KeyFileError { line, problem };
            let text = text.split('#').next().unwrap_or_default();
            let words: Vec<_> = text.split_whitespace().collect();
            let (kid, algorithm, key) = match words[..] {
                [] => continue,
                [kid, algorithm, key] => (kid, algorithm, key),
                _ => return Err(wrong("expected `KID HS256 SECRET` or `KID EdDSA KEY`")),
            };
            if keys.len() == MAX_KEYS {
                return Err(wrong("more than 64 keys"));
            }
            // What only who signs needs does no harm here.
            let (private, key) = match key.strip_prefix("seed:") {
                Some(seed) => (true, seed),
                None => (false, key),
            };
            let mut bytes = base64url(key).ok_or(wrong("the key is not base64url"))?;
            if private && algorithm == "EdDSA" {
                let pair = Ed25519KeyPair::from_seed_unchecked(&bytes);
                let pair = pair.map_err(|_| wrong("an EdDSA seed has 32 bytes"))?;
                bytes = pair.public_key().as_ref().to_vec();
            }
            let key = match algorithm {
                "HS256" if bytes.len() < MIN_SECRET_BYTES => {
                    return Err(wrong("a secret of fewer than 32 bytes can be guessed"));
                }
                "HS256" => (Algorithm::HS256, DecodingKey::from_secret(&bytes)),
                "EdDSA" if bytes.len() == 32 => {
                    (Algorithm::EdDSA, DecodingKey::from_ed_der(&bytes))
                }
                "EdDSA" => return Err(wrong("an Ed25519 public key is 32 bytes")),
                _ => return Err(wrong("the algorithm is HS256 or EdDSA")),
            };
            if keys.insert(kid.to_owned(), key).is_some() {
                return Err(wrong("this kid stands in an earlier line"));
            }
        }
        let audience = audience.to_owned();
        Ok(Self { audience, keys })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What a token says, if it is ours and of now.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str, now: UnixMs) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let unwrapped;
        let jwt = if token.contains('.') {
            token
        } else {
            let bytes = base32_decode(token).ok_or(TokenError::Malformed)?;
            unwrapped = String::from_utf8(bytes).map_err(|_| TokenError::Malformed)?;
            &unwrapped
        };
        let header = jsonwebtoken::decode_header(jwt).map_err(|_| TokenError::Malformed)?;
        let kid = header.kid.ok_or(TokenError::Signature)?;
        // The algorithm is the key's: a token does not choose it.
        let (algorithm, key) = self.keys.get(&kid).ok_or(TokenError::Signature)?;
        let mut validation = Validation::new(*algorithm);
        // The clock is the caller's, and so are the checks against it.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let body =
            jsonwebtoken::decode::<TokenBody>(jwt, key, &validation).map_err(
                |error| match error.kind() {
                    jsonwebtoken::errors::ErrorKind::Json(_) => TokenError::Claims,
                    _ => TokenError::Signature,
                },
            )?;
        self.check(body.claims, now)
    }

    fn check(&self, body: TokenBody, now: UnixMs) -> Result<Claims, TokenError> {
        if !body.aud.holds(&self.audience) {
            return Err(TokenError::Audience);
        }
        let expires = UnixMs(body.exp.saturating_mul(1_000));
        let begins = body.nbf.unwrap_or(0).saturating_mul(1_000);
        if now.0 > expires.0.saturating_add(LEEWAY_MS) || begins > now.0.saturating_add(LEEWAY_MS) {
            return Err(TokenError::Expired);
        }
        let rooms = rooms(&body)?;
        let wrong = |_| TokenError::Claims;
        let login = Login::parse(&body.login).map_err(wrong)?;
        if login.is_anonymous() || body.badges.len() > User::MAX_BADGES {
            return Err(TokenError::Claims);
        }
        let display = match &body.name {
            Some(name) => Display::parse(name).map_err(wrong)?,
            None => Display::from(&login),
        };
        let colour = match &body.color {
            Some(colour) => Some(Colour::parse(colour).ok_or(TokenError::Claims)?),
            None => None,
        };
        let badges = body.badges.iter().map(|badge| Badge::parse(badge));
        Ok(Claims {
            user: User {
                id: UserId::parse(&body.sub).map_err(wrong)?,
                login,
                display,
                colour,
                badges: badges.collect::<Option<_>>().ok_or(TokenError::Claims)?,
            },
            rooms,
            expires: Some(expires),
        })
    }
}

fn rooms(body: &TokenBody) -> Result<Vec<RoomClaims>, TokenError> {
    if body.roles.len() + body.follows.len() > Claims::MAX_ROOMS {
        return Err(TokenError::Claims);
    }
    let mut rooms: BTreeMap<ChannelName, RoomClaims> = BTreeMap::new();
    let mut at = |name: &str| -> Result<ChannelName, TokenError> {
        let room = ChannelName::parse(name).map_err(|_| TokenError::Claims)?;
        rooms.entry(room.clone()).or_insert_with(|| RoomClaims {
            room: room.clone(),
            roles: Roles::default(),
            follows_since: None,
        });
        Ok(room)
    };
    let mut named = Vec::new();
    for (name, words) in &body.roles {
        named.push((at(name)?, words));
    }
    let mut followed = Vec::new();
    for (name, since) in &body.follows {
        followed.push((at(name)?, *since));
    }
    for (room, words) in named {
        for word in words {
            // A role of a later version grants nothing here.
            let role = Roles::parse(word).unwrap_or_default();
            if let Some(claims) = rooms.get_mut(&room) {
                claims.roles = claims.roles.union(role);
            }
        }
    }
    for (room, since) in followed {
        if let Some(claims) = rooms.get_mut(&room) {
            claims.follows_since = Some(UnixMs(since.saturating_mul(1_000)));
        }
    }
    Ok(rooms.into_values().collect())
}

/// Signs tokens with one HS256 secret: for development, tests and load.
pub struct Signer {
    kid: String,
    key: EncodingKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    /// The first HS256 key of a keys file that [`TokenKeys::parse`] takes.
    #[must_use]
    pub fn of_file(file: &str) -> Option<Self> {
        file.lines().find_map(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [kid, "HS256", key] => Some(Self {
                    kid: kid.to_owned(),
                    key: EncodingKey::from_secret(&base64url(key)?),
                }),
                _ => None,
            }
        })
    }

    /// The JWT.
    ///
    /// # Errors
    /// [`TokenError::Claims`] where the body can't be written.
    pub fn sign(&self, body: &TokenBody) -> Result<String, TokenError> {
        let header = Header {
            kid: Some(self.kid.clone()),
            ..Header::new(Algorithm::HS256)
        };
        jsonwebtoken::encode(&header, body, &self.key).map_err(|_| TokenError::Claims)
    }
}

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The form of a token that survives being lowercased.
#[must_use]
pub fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0u32, 0);
    let mut push = |value: u32| {
        let at = usize::try_from(value & 31).unwrap_or(0);
        out.push(char::from(BASE32.get(at).copied().unwrap_or(b'a')));
    };
    for byte in bytes {
        held = held << 8 & 0xffff | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(held >> bits);
        }
    }
    if bits > 0 {
        push(held << (5 - bits));
    }
    out
}

fn base32_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'a'..=b'z' => byte - b'a',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        held = held << 5 & 0xffff | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).unwrap_or(0));
        }
    }
    Some(out)
}

/// base64url without padding (RFC 4648, 5), as in a JWK.
fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests;
