//! The server on a loopback port, asked by raw sockets and by hyper's client.

mod api;
mod chat;
mod flow;
mod h2;
mod http1;
mod http2;
mod ingests;
mod limits;
mod media;
mod playlists;
pub(super) mod rig;
mod signed;
mod streams;
mod transport;
