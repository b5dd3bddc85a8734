//! Chat at its home: one actor a room decides and numbers everything (Twitch's
//! "Clue"), and what it must not forget lies in an embedded store.
//!
//! In: rooms asked for and wishes, over the link. Out: feeds that the link follows,
//! and verdicts. `clue` is the pure core of an actor, `room` the task round it,
//! `store` the disk; [`Rooms`] makes actors and lets them go. Invariant: a
//! verdict or an event that somebody saw rests on changes that are on disk.

mod api;
mod clue;
mod metrics;
mod policy;
mod record;
mod room;
mod rooms;
mod store;

use std::path::PathBuf;

use clap::Args;
use common::names::NodeId;

pub use api::{ChatApi, ChatApiConfig, TokenError};
pub use clue::{Change, Clue, Decision, Filter, Known};
pub use metrics::ChatMetrics;
pub use policy::{Policies, Policy, PolicyConfig, PolicyError};
pub use record::{RecordConfig, Recorder};
pub use rooms::Rooms;
pub use store::{Store, StoreError};

/// Flags of the rooms whose home this origin is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Chat")]
pub struct ChatConfig {
    /// File that keeps bans, roles and rooms' settings over a restart (made if it is not there); without it they last as long as the process
    #[arg(long, env = "MILLRACE_CHAT_STORE", value_name = "FILE")]
    pub chat_store: Option<PathBuf>,

    /// Node id of an origin that rooms are spread over, this one's included; repeat it for each, alike on all of them. Without it this origin is the home of all rooms
    #[arg(
        long = "chat-origin",
        env = "MILLRACE_CHAT_ORIGINS",
        value_name = "NODE",
        value_delimiter = ',',
        value_parser = node
    )]
    pub chat_origins: Vec<NodeId>,

    #[command(flatten)]
    pub policy: PolicyConfig,

    #[command(flatten)]
    pub record: RecordConfig,

    #[command(flatten)]
    pub api: ChatApiConfig,
}

fn node(text: &str) -> Result<NodeId, String> {
    NodeId::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
