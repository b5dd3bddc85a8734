//! Flags of webhooks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;

use super::{
    post::{Poster, RootsError, Target},
    secret::{SecretError, Secrets},
};

/// Whom to tell that a broadcast begins or ends.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookConfig {
    /// URL that is told when a broadcast begins and when it has ended, by a signed POST of JSON; may be given several times. Redirects are not followed
    #[arg(
        long = "webhook",
        env = "MILLRACE_WEBHOOK",
        value_name = "URL",
        value_delimiter = ',',
        value_parser = Target::parse,
        requires = "webhook_secret"
    )]
    pub webhooks: Vec<Target>,

    /// File with the secret that webhooks are signed with (Standard Webhooks: whsec_ and base64), or two while one is replaced; read again when it changes and on SIGHUP
    #[arg(long, env = "MILLRACE_WEBHOOK_SECRET", value_name = "FILE")]
    pub webhook_secret: Option<PathBuf>,

    /// Seconds that a webhook has to answer
    #[arg(
        long,
        env = "MILLRACE_WEBHOOK_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=60)
    )]
    pub webhook_timeout: u64,

    /// Seconds for which an event is told again to a webhook that does not answer 2xx, with pauses from 1 s to 60 s
    #[arg(
        long,
        env = "MILLRACE_WEBHOOK_RETRY",
        value_name = "SECONDS",
        default_value_t = 600,
        value_parser = clap::value_parser!(u64).range(0..=86_400)
    )]
    pub webhook_retry: u64,

    /// PEM file of the CA that https webhooks' certificates come from, in place of the system's
    #[arg(long, env = "MILLRACE_WEBHOOK_CA", value_name = "FILE")]
    pub webhook_ca: Option<PathBuf>,
}

/// Why webhooks can't be had.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("--webhook needs --webhook-secret FILE, to sign what is sent")]
    NoSecret,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Roots(#[from] RootsError),
}

/// What all hooks share.
pub(super) type Shared = (Arc<Secrets>, Arc<Poster>);

impl WebhookConfig {
    /// `None` without any hook.
    pub(super) fn open(&self) -> Result<Option<Shared>, WebhookError> {
        if self.webhooks.is_empty() {
            return Ok(None);
        }
        let secret = self.webhook_secret.clone().ok_or(WebhookError::NoSecret)?;
        let secrets = Secrets::open(secret)?;
        let timeout = Duration::from_secs(self.webhook_timeout);
        let tls = self.webhooks.iter().any(Target::is_https);
        let poster = Poster::new(timeout, tls, self.webhook_ca.as_deref())?;
        Ok(Some((secrets, Arc::new(poster))))
    }
}
