mod abuse;
mod moderation;
mod rig;
mod signing;
mod sockets;
mod talking;
mod tls;
mod wishes;
