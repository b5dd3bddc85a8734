//! The origin: RTMP in, CMAF out over the link.

pub mod broadcast;
pub mod chat;
pub mod cmaf;
pub mod demux;
pub mod ingest;
pub mod keys;
pub mod packager;
pub mod rtmp;
pub mod sample;
