//! The web API as far as origins and edges have it in common: the channel list and a
//! channel's page, what is made anew once a second at most, an operator's token, links, the drain, the form of errors, and the
//! document that describes all of it ([`OPENAPI`]).
//!
//! In: what a node knows, requests to its ops port. Out: JSON. Nothing here does I/O
//! but for reading the token's file; what is the same question is the same answer on
//! every node.

pub mod channels;
mod links;
mod node;
mod problem;
mod renewed;
mod token;

pub use channels::{ChannelList, Page, Seen};
pub use links::Links;
pub use node::{NodeApi, only};
pub use problem::{Problem, decoded, parsed, problem};
pub use renewed::Renewed;
pub use token::{ApiConfig, TokenError, TokenFile};

/// `/api/v1/openapi.json`, on every node.
pub const OPENAPI: &str = include_str!("api/openapi.json");

/// Where it is.
pub const OPENAPI_PATH: &str = "/api/v1/openapi.json";
