//! The server on a loopback port, asked by raw sockets and by hyper's client.

mod http1;
mod limits;
mod media;
mod playlists;
mod rig;
mod signed;
mod streams;
mod transport;
