//! Signed viewing: whether a viewer's token lets it watch a channel.
//!
//! In: a token (a JWT, RFC 7519), the channel and the address that asks for it,
//! and the time. Out: nothing, or why not. Off unless there are keys. Playlists,
//! endless streams and media are checked alike, each request anew; what they are
//! answered with is shared by all viewers. A stream ends when its token does.
//!
//! Invariants: a token counts for one audience, one channel, a bounded time and,
//! where it says so, one client's network; it is verified with the key and the
//! algorithm that the keys file gives its `kid`, whatever the token itself says;
//! neither a token nor a key is ever in a log, an error or a metric.

mod keys;
mod mint;
mod token;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::Args;
use common::{
    key_file::KeyFile,
    names::ChannelName,
    reload::Files,
    telemetry::metrics::{int_counter, int_counter_vec},
};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, Registry};

pub use keys::KeysError;
use keys::ViewKeys;
pub use mint::{MintError, NewKeyArgs, TokenArgs, mint, new_key};
pub use token::Refusal;
use token::{Claims, Rules};

/// Flags of signed viewing.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Signed viewing")]
pub struct ViewConfig {
    /// File of `kid algorithm key` lines, read again whenever it changes; with it, playlists, streams and media need a token
    #[arg(long, env = "MILLRACE_VIEW_KEYS", value_name = "FILE")]
    pub view_keys: Option<PathBuf>,

    /// What a token's `aud` has to name
    #[arg(
        long,
        env = "MILLRACE_VIEW_AUDIENCE",
        value_name = "NAME",
        default_value = token::AUDIENCE
    )]
    pub view_audience: String,

    /// Seconds that the clocks of this node and of who signs may differ by
    #[arg(
        long,
        env = "MILLRACE_VIEW_LEEWAY",
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(0..=86_400)
    )]
    pub view_leeway: u64,

    /// Seconds that a token may have left to live; one that lives longer is refused
    #[arg(
        long,
        env = "MILLRACE_VIEW_MAX_TTL",
        value_name = "SECONDS",
        default_value_t = 86_400
    )]
    pub view_max_ttl: u64,
}

/// Handles on the registered metrics; clones share them.
#[derive(Clone, Debug)]
pub struct ViewMetrics {
    refused: IntCounterVec,
    verified: IntCounter,
}

impl ViewMetrics {
    /// Registers all of it.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let refused = int_counter_vec(
            registry,
            "millrace_view_refused_total",
            "Requests for playlists, streams and media that were answered 403, by what was wrong with their token.",
            &["reason"],
        );
        for reason in Refusal::ALL {
            refused.with_label_values(&[reason.as_str()]);
        }
        Self {
            refused,
            verified: int_counter(
                registry,
                "millrace_view_verified_total",
                "Signatures of tokens that were verified; each serves its connection until another is used.",
            ),
        }
    }
}

/// What a connection's viewer has shown: verified once, checked at each request.
#[derive(Default)]
pub(crate) struct Shown(Mutex<Option<Verified>>);

struct Verified {
    token: Box<str>,
    /// The keys that verified it: others have to do so anew.
    by: Arc<KeyFile>,
    claims: Claims,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Viewing {
    keys: ViewKeys,
    rules: Rules,
    metrics: ViewMetrics,
}

impl Viewing {
    /// `None` without a keys file.
    ///
    /// # Errors
    /// [`KeysError`] for a file that cannot be used.
    pub fn from_config(
        config: &ViewConfig,
        metrics: ViewMetrics,
    ) -> Result<Option<Arc<Self>>, KeysError> {
        let Some(path) = &config.view_keys else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Self {
            keys: ViewKeys::load(path)?,
            rules: Rules {
                audience: config.view_audience.clone(),
                leeway_s: config.view_leeway,
                max_ttl_s: config.view_max_ttl,
            },
            metrics,
        })))
    }

    /// The keys file, as it was before it was read.
    #[must_use]
    pub fn files(&self) -> Files {
        self.keys.files()
    }

    /// Reads the keys file again. Blocks on it.
    ///
    /// # Errors
    /// The old keys stay in force.
    pub fn reload(&self) -> Result<(), KeysError> {
        self.keys.reload()
    }

    /// Whether who shows `token` may watch `channel` now, and for how long: a stream
    /// that begins now ends then.
    pub(crate) fn admit(
        &self,
        shown: &Shown,
        token: Option<&str>,
        channel: &ChannelName,
        peer: IpAddr,
    ) -> Result<Duration, Refusal> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let admitted = self.check(shown, token, channel, peer, now.as_secs());
        if let Err(refusal) = admitted {
            self.metrics
                .refused
                .with_label_values(&[refusal.as_str()])
                .inc();
        }
        admitted.map(|until_s| Duration::from_secs(until_s).saturating_sub(now))
    }

    /// Until which Unix second it may.
    fn check(
        &self,
        shown: &Shown,
        token: Option<&str>,
        channel: &ChannelName,
        peer: IpAddr,
        now_s: u64,
    ) -> Result<u64, Refusal> {
        let token = token.ok_or(Refusal::Missing)?;
        let keys = self.keys.current();
        let mut shown = shown.0.lock();
        let known = shown
            .as_ref()
            .filter(|known| &*known.token == token && Arc::ptr_eq(&known.by, &keys));
        if let Some(known) = known {
            return self.rules.check(&known.claims, channel, peer, now_s);
        }
        let claims = token::verified(token, &keys)?;
        self.metrics.verified.inc();
        let admitted = self.rules.check(&claims, channel, peer, now_s);
        *shown = Some(Verified {
            token: token.into(),
            by: Arc::clone(&keys),
            claims,
        });
        admitted
    }
}

#[cfg(test)]
mod tests;
