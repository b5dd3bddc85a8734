//! The edge: CMAF in over the link, HTTP out.

pub mod upstream;
pub mod page;
