//! What origin, edge and loadtest share.
pub mod rtmp;
