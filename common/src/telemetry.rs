//! What a running node tells its operators: logs, metrics, health.
//!
//! `main` creates one [`prometheus::Registry`] and one [`Readiness`], hands them
//! to the modules that have something to say, and serves both on the ops port.
//! Nothing here is on the data path.

mod logs;
pub mod metrics;
mod ops;
mod process;
mod readiness;

pub use logs::{LogConfig, LogError, LogFormat, init};
pub use ops::{Api, ApiAnswer, ApiRequest, MAX_API_BODY_BYTES, OpsConfig, OpsServer};
pub use process::max_descriptors;
pub use readiness::{Condition, Readiness};
