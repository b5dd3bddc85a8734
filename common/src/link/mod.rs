//! The link between nodes (spec to follow).

pub mod decode;
pub mod encode;
pub mod frame;
pub mod message;
pub mod priority;
pub mod server;
pub mod stream;
pub mod wire;

pub use frame::{Decoder, Frame, MAX_CHUNK_BYTES};
pub use message::*;
pub use server::{LinkServer, LinkServerMetrics};
pub use stream::{Reader, StreamError, Writer};
pub use wire::WireError;
