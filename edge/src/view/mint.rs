//! Tokens and keys made by hand: for tests, and as a model for the system that
//! signs for real viewers.

use std::{net::IpAddr, path::PathBuf, time::SystemTime};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, ValueEnum};
use common::{
    key_file::{SEED_BYTES, ed25519_pair, ed25519_public},
    names::ChannelName,
};
use jsonwebtoken::{Header, encode};

use super::{
    keys::{self, KeysError},
    token::{AUDIENCE, Audience, Claims},
};

/// Prints a token for watching one channel.
///
/// It goes into the path, /s/TOKEN/live/CHANNEL/index.m3u8, or after a watch
/// page's address, /watch/CHANNEL?token=TOKEN.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// File of `kid algorithm key` lines; an EdDSA key needs its seed there
    #[arg(long, env = "MILLRACE_VIEW_KEYS", value_name = "FILE")]
    pub view_keys: PathBuf,

    /// The key to sign with
    #[arg(long, env = "MILLRACE_TOKEN_KID", value_name = "KID")]
    pub kid: String,

    /// The channel that may be watched
    #[arg(
        long,
        env = "MILLRACE_TOKEN_CHANNEL",
        value_name = "CHANNEL",
        value_parser = channel
    )]
    pub channel: ChannelName,

    /// How long from now on: a number and s, m, h or d
    #[arg(
        long,
        env = "MILLRACE_TOKEN_TTL",
        value_name = "TIME",
        default_value = "1h",
        value_parser = seconds
    )]
    pub ttl: u64,

    /// The only address that may use it; an IPv6 one stands for its /64
    #[arg(long, env = "MILLRACE_TOKEN_ADDRESS", value_name = "IP")]
    pub address: Option<IpAddr>,

    /// What --view-audience of the edges says
    #[arg(
        long,
        env = "MILLRACE_VIEW_AUDIENCE",
        value_name = "NAME",
        default_value = AUDIENCE
    )]
    pub audience: String,
}

/// Prints a new key as lines of a --view-keys file: the first to sign with, and
/// where that must stay secret another for the edges.
#[derive(Debug, Clone, Args)]
pub struct NewKeyArgs {
    /// Name of the key
    #[arg(long, env = "MILLRACE_VIEW_KEY_KID", value_name = "KID")]
    pub kid: String,

    /// HS256: one secret for all; EdDSA: edges can verify but not sign
    #[arg(
        long,
        env = "MILLRACE_VIEW_KEY_ALGORITHM",
        value_enum,
        default_value = "eddsa",
        value_name = "NAME"
    )]
    pub algorithm: KeyKind,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    Hs256,
    Eddsa,
}

/// Why there is no token or no key.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("--kid {0}: no such key in the file")]
    NoKey(String),
    #[error("--kid {0}: the file has its public half only; signing takes `seed:...`")]
    OnlyPublic(String),
    #[error("not signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
    #[error("no randomness from the system")]
    Random,
}

fn channel(text: &str) -> Result<ChannelName, String> {
    ChannelName::parse(text).map_err(|_| "a channel is 1 to 32 of a-z, 0-9 and _".to_owned())
}

fn seconds(text: &str) -> Result<u64, String> {
    let example = "write a time such as 90s, 30m, 1h or 2d";
    let at = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(at).ok_or(example)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(example.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| example)?;
    number.checked_mul(unit_s).ok_or_else(|| example.to_owned())
}

/// A token as `args` ask for.
///
/// # Errors
/// [`MintError`] names what is missing.
pub fn mint(args: &TokenArgs) -> Result<String, MintError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    minted(args, now.map_or(0, |now| now.as_secs()))
}

pub(super) fn minted(args: &TokenArgs, now_s: u64) -> Result<String, MintError> {
    let keys = keys::read(&args.view_keys)?;
    let key = keys
        .get(&args.kid)
        .ok_or_else(|| MintError::NoKey(args.kid.clone()))?;
    let signs = key
        .signs
        .as_ref()
        .ok_or_else(|| MintError::OnlyPublic(args.kid.clone()))?;
    let mut header = Header::new(key.algorithm);
    header.kid = Some(args.kid.clone());
    let claims = Claims {
        aud: Audience::One(args.audience.clone()),
        exp: now_s.saturating_add(args.ttl),
        nbf: Some(now_s),
        channel: args.channel.as_str().to_owned(),
        addr: args.address,
    };
    Ok(encode(&header, &claims, signs)?)
}

/// Lines of a keys file with a new key.
///
/// # Errors
/// [`MintError::Random`].
pub fn new_key(args: &NewKeyArgs) -> Result<String, MintError> {
    let mut secret = [0; SEED_BYTES];
    rand::fill(&mut secret).map_err(|_| MintError::Random)?;
    let text = URL_SAFE_NO_PAD.encode(secret);
    let kid = &args.kid;
    Ok(match args.algorithm {
        KeyKind::Hs256 => format!("{kid} HS256 {text}\n"),
        KeyKind::Eddsa => {
            let pair = ed25519_pair(&secret).map_err(|_| MintError::Random)?;
            let public = ed25519_public(&pair);
            format!("{kid} EdDSA seed:{text}\n# for the edges: {kid} EdDSA {public}\n")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_a_unit() {
        for (text, expected) in [("90s", 90), ("30m", 1_800), ("1h", 3_600), ("2d", 172_800)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for bad in [
            "",
            "1",
            "h",
            "-1h",
            "1.5h",
            "1w",
            "1\u{e9}",
            "99999999999999999999d",
        ] {
            assert!(seconds(bad).unwrap_err().contains("1h"), "{bad}");
        }
    }
}
