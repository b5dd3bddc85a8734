mod abuse;
mod rig;
mod signing;
mod sockets;
mod talking;
mod tls;
