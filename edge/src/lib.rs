//! The edge: CMAF in over the link, HTTP out.

pub mod page;
pub mod upstream;
