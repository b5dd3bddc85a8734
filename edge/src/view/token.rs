//! What a token says, and whether that is enough. Pure: the time comes in.

use std::net::IpAddr;

use common::{
    key_file::{KeyFile, Unverified},
    names::ChannelName,
};
use serde::{Deserialize, Serialize};

use crate::http::network;

/// The audience unless flags say otherwise.
pub(super) const AUDIENCE: &str = "millrace";

/// Longer than any token that is ours, shorter than a path may be.
const MAX_TOKEN_BYTES: usize = 1_024;

/// Why a viewer may not watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Missing,
    Malformed,
    UnknownKey,
    Signature,
    Audience,
    Expired,
    NotYet,
    /// It would live for longer than tokens may.
    LivesTooLong,
    Channel,
    Address,
}

impl Refusal {
    pub(super) const ALL: [Self; 10] = [
        Self::Missing,
        Self::Malformed,
        Self::UnknownKey,
        Self::Signature,
        Self::Audience,
        Self::Expired,
        Self::NotYet,
        Self::LivesTooLong,
        Self::Channel,
        Self::Address,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::LivesTooLong => "lives_too_long",
            Self::Channel => "channel",
            Self::Address => "address",
        }
    }
}

/// The claims that count; others are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) aud: Audience,
    /// In whole Unix seconds, as is `nbf`.
    pub(super) exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<u64>,
    pub(super) channel: String,
    /// The client's address; an IPv6 one stands for its /64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) addr: Option<IpAddr>,
}

/// One name or several (RFC 7519, 4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Several(Vec<String>),
}

/// What every token has to keep to.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) audience: String,
    pub(super) leeway_s: u64,
    pub(super) max_ttl_s: u64,
}

/// The claims of a token whose signature is its key's.
pub(super) fn verified(token: &str, keys: &KeyFile) -> Result<Claims, Refusal> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Refusal::Malformed);
    }
    keys.claims(token).map_err(|why| match why {
        Unverified::Malformed | Unverified::Claims => Refusal::Malformed,
        Unverified::UnknownKey => Refusal::UnknownKey,
        Unverified::Signature => Refusal::Signature,
    })
}

impl Rules {
    /// Until when it is good, in Unix seconds: nothing is answered and no stream
    /// goes on from then on.
    pub(super) fn check(
        &self,
        claims: &Claims,
        channel: &ChannelName,
        peer: IpAddr,
        now_s: u64,
    ) -> Result<u64, Refusal> {
        let named = match &claims.aud {
            Audience::One(name) => *name == self.audience,
            Audience::Several(names) => names.contains(&self.audience),
        };
        if !named {
            return Err(Refusal::Audience);
        }
        if claims.channel != channel.as_str() {
            return Err(Refusal::Channel);
        }
        let until_s = claims.exp.saturating_add(self.leeway_s);
        if until_s <= now_s {
            return Err(Refusal::Expired);
        }
        if claims
            .nbf
            .is_some_and(|nbf| nbf > now_s.saturating_add(self.leeway_s))
        {
            return Err(Refusal::NotYet);
        }
        let most = now_s.saturating_add(self.max_ttl_s);
        if claims.exp > most.saturating_add(self.leeway_s) {
            return Err(Refusal::LivesTooLong);
        }
        match claims.addr {
            Some(addr) if network(addr) != network(peer) => Err(Refusal::Address),
            _ => Ok(until_s),
        }
    }
}
