//! What a running node tells its operators: logs, metrics, health.
//!
//! `main` creates one [`prometheus::Registry`] and one [`Readiness`], hands them
//! to the modules that have something to say, and serves both on the ops port.
//! Nothing here is on the data path.

mod health;
mod logs;
pub mod metrics;
mod ops;
mod process;
mod readiness;

pub use health::health;
pub use logs::{LogConfig, LogError, LogFormat, init};
pub use ops::{Api, ApiAnswer, ApiRequest, MAX_API_BODY_BYTES, OpsConfig, OpsServer};
pub use process::max_descriptors;
pub use readiness::{Condition, Readiness};

/// What `--version` says: the release, and the commit where the build knew it
/// (`MILLRACE_COMMIT`). For binaries alone: what they are linked from is compiled
/// once, whatever the commit.
#[must_use]
pub fn version(commit: Option<&str>) -> String {
    let release = env!("CARGO_PKG_VERSION");
    match commit {
        Some(commit) if !commit.is_empty() => format!("{release} ({commit})"),
        _ => release.to_owned(),
    }
}
