//! The server on a loopback port, asked by raw sockets and by hyper's client.

mod chat;
mod limits;
mod media;
mod playlists;
mod rig;
mod signed;
mod streams;
mod transport;
