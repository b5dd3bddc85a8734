//! What origin, edge and loadtest share: names, media time, the live windows,
//! the link between nodes, and the ground under all of them.
//!
//! Imports point one way: `names` and `media` know nothing else, `live` stands
//! on them, `chat` on the names and `live`'s clock, `ingest` on the names, `link` on
//! `live`, `chat` and `ingest`, `api` on all of these.
//! Nothing here knows of HTTP for viewers or RTMP publishers' policies.

pub mod api;
pub mod certs;
pub mod chat;
pub mod ingest;
pub mod key_file;
pub mod link;
pub mod live;
pub mod media;
pub mod names;
pub mod quic;
pub mod reload;
pub mod rtmp;
pub mod service;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
