//! The origin: RTMP in, CMAF out over the link.

pub mod api;
pub mod broadcast;
pub mod chat;
pub mod cmaf;
pub mod demux;
pub mod ingest;
pub mod keys;
#[cfg(test)]
#[path = "../../common/src/api/openapi_check.rs"]
mod openapi;
pub mod packager;
pub mod rtmp;
pub mod sample;
pub mod webhook;
