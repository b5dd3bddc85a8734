//! Chat at its home: one actor a room decides and numbers everything (Twitch's
//! "Clue"), and what it must not forget lies in an embedded store.
//!
//! In: rooms asked for and wishes, over the link. Out: feeds that the link follows,
//! and verdicts. `clue` is the pure core of an actor, `desk` what an actor does with
//! a wish. Where decisions are kept is the seam of `ledger`: `store`, a file, or
//! `bus`, which origins share; `room` and `bus::room` are the tasks. [`Rooms`] makes
//! actors and lets them go. Invariant: a verdict or an event that somebody saw rests
//! on what was kept before.

mod api;
mod bus;
mod clue;
mod counted;
mod desk;
mod entries;
mod ledger;
mod metrics;
mod policy;
mod record;
mod room;
mod rooms;
mod store;
mod waiting;

use std::path::PathBuf;

use clap::Args;
use common::{
    link::chat::MAX_ORIGINS,
    names::{ChannelName, NodeId},
};

pub use api::{ChatApi, ChatApiConfig};
pub use bus::BusUrl;
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
    /// File that keeps bans, roles, rooms' settings and held messages over a restart (made if it is not there); without it they last as long as the process
    #[arg(long, env = "MILLRACE_CHAT_STORE", value_name = "FILE")]
    pub chat_store: Option<PathBuf>,

    /// Node id of an origin that rooms are spread over, this one's included; repeat it for each, alike on all of them, 64 at most. Without it this origin is the home of all rooms
    #[arg(
        long = "chat-origin",
        env = "MILLRACE_CHAT_ORIGIN",
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

    /// Room whose chatters are counted and not named to anybody (* for all); repeat it for each
    #[arg(
        long = "chat-hide-names",
        env = "MILLRACE_CHAT_HIDE_NAMES",
        value_name = "ROOM",
        value_delimiter = ',',
        value_parser = hidden
    )]
    pub chat_hide_names: Vec<Hidden>,

    /// NATS server with JetStream through which origins share all rooms: any origin serves every room, one at a time decides, and bans and what was said outlive it. Alike on all origins; edges need nothing
    #[arg(
        long,
        env = "MILLRACE_CHAT_BUS",
        value_name = "nats://HOST:PORT",
        hide_env_values = true,
        conflicts_with_all = ["chat_store", "chat_origins"]
    )]
    pub chat_bus: Option<BusUrl>,

    /// NATS servers that keep a copy of rooms, where the bus is a cluster: 1, 3 or 5
    #[arg(
        long,
        env = "MILLRACE_CHAT_BUS_REPLICAS",
        value_name = "COUNT",
        default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=5)
    )]
    pub chat_bus_replicas: u8,
}

/// Whose names are not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hidden {
    All,
    Room(ChannelName),
}

/// Why the flags of [`ChatConfig`] can't be taken together.
#[derive(Debug, thiserror::Error)]
pub enum ChatConfigError {
    /// Edges would drop the link that says so, each time.
    #[error(
        "--chat-origin (MILLRACE_CHAT_ORIGIN) names {0} origins, and rooms are spread over {MAX_ORIGINS} at most"
    )]
    TooManyOrigins(usize),
}

impl ChatConfig {
    /// # Errors
    /// [`ChatConfigError`]: what no flag can find wrong by itself.
    pub fn check(&self) -> Result<(), ChatConfigError> {
        match self.chat_origins.len() {
            0..=MAX_ORIGINS => Ok(()),
            count => Err(ChatConfigError::TooManyOrigins(count)),
        }
    }

    fn names(&self, room: &ChannelName) -> bool {
        let hides = |hidden: &Hidden| match hidden {
            Hidden::All => true,
            Hidden::Room(hidden) => hidden == room,
        };
        !self.chat_hide_names.iter().any(hides)
    }
}

fn hidden(text: &str) -> Result<Hidden, String> {
    if text == "*" {
        return Ok(Hidden::All);
    }
    let room = ChannelName::parse(text).map_err(|error| error.to_string());
    room.map(Hidden::Room)
}

fn node(text: &str) -> Result<NodeId, String> {
    NodeId::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
