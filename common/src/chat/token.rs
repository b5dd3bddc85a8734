//! Who somebody is: signed tokens (JWT, RFC 7519; HS256 or EdDSA), checked where
//! they come in, against keys of a file.
//!
//! In: the text behind `oauth:` of a PASS, and now. Out: [`Claims`]. tmi.js
//! lowercases PASS, which ruins a JWT; the same JWT in lowercase base32 (RFC
//! 4648 without padding) says as much and survives. Its alphabet has no dot, so
//! one form is never taken for the other. No token and no key ever is in an error.

use std::collections::BTreeMap;

use jsonwebtoken::{EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::{
    name::{Display, Login, UserId},
    user::{Badge, Claims, Colour, Roles, RoomClaims, User},
};
use crate::{
    key_file::{KeyFile, KeyFileError, Unverified},
    live::UnixMs,
    names::ChannelName,
};

/// A PASS line is at most 4 KiB; base32 takes 8 bytes for 5.
pub const MAX_TOKEN_BYTES: usize = 4_000;

/// Clocks of nodes may differ by this much.
const LEEWAY_MS: u64 = 5_000;

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
    keys: KeyFile,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl TokenKeys {
    /// The keys of a [`KeyFile`], for tokens that `audience` is named in.
    ///
    /// # Errors
    /// [`KeyFileError`], which holds no key.
    pub fn parse(file: &str, audience: &str) -> Result<Self, KeyFileError> {
        let keys = KeyFile::parse(file)?;
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
        let body = self.keys.claims(jwt).map_err(|why| match why {
            Unverified::Malformed => TokenError::Malformed,
            Unverified::UnknownKey | Unverified::Signature => TokenError::Signature,
            Unverified::Claims => TokenError::Claims,
        })?;
        self.check(body, now)
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

/// Signs tokens with one key: for development, tests and load.
pub struct Signer {
    header: Header,
    key: EncodingKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    /// The first key of a [`KeyFile`] that can sign.
    #[must_use]
    pub fn of_file(file: &str) -> Option<Self> {
        let keys = KeyFile::parse(file).ok()?;
        let (kid, algorithm, key) = keys.signer()?;
        let mut header = Header::new(algorithm);
        header.kid = Some(kid.to_owned());
        let key = key.clone();
        Some(Self { header, key })
    }

    /// The JWT.
    ///
    /// # Errors
    /// [`TokenError::Claims`] where the body can't be written.
    pub fn sign(&self, body: &TokenBody) -> Result<String, TokenError> {
        jsonwebtoken::encode(&self.header, body, &self.key).map_err(|_| TokenError::Claims)
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

#[cfg(test)]
mod tests;
