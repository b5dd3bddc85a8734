//! HTTP for viewers. In: requests of strangers. Out: playlists, parts, segments
//! and the watch page, from windows that [`Upstream`] keeps filled.
//!
//! A request over HTTP/1.1 is read by `http1`, one over HTTP/2 by `http2`, any other
//! by hyper. It is parsed by hand into a [`route::Route`], waits on a window when it asks for
//! what comes next, and is answered with `Bytes` that all viewers share. A
//! connection is one task; what a stranger can hold is bounded by
//! [`HttpConfig`], and each bound has a counter in [`HttpMetrics`].
//!
//! [`Upstream`]: crate::upstream::Upstream

pub(crate) mod admission;
mod assets;
mod body;
mod cache;
mod channels;
mod chat;
mod chatters;
mod config;
mod connection;
mod date;
mod elsewhere;
mod endless;
mod follow;
mod http1;
mod http2;
mod ingests;
mod listener;
mod manifest;
mod media;
mod metrics;
mod negotiate;
mod playlists;
mod request;
mod response;
pub mod route;
mod service;
mod slices;
mod socket;
#[cfg(test)]
mod tests;
mod viewers;
mod warm;
mod websocket;

pub(crate) use admission::network;
pub use config::HttpConfig;
pub use listener::{BindError, Listeners, bind, serve};
pub use metrics::HttpMetrics;
pub(crate) use metrics::Rejected;
pub use warm::{Warm, warm};
