//! The origin: RTMP in, CMAF out over the link.

pub mod cmaf;
pub mod demux;
pub mod packager;
pub mod sample;
