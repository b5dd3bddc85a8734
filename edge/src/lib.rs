//! The edge: CMAF in over the link, HTTP out; chat both ways.

pub mod api;
pub mod chat;
pub mod dash;
#[cfg(test)]
mod fixture;
pub mod geo;
pub mod http;
#[cfg(test)]
#[path = "../../common/src/api/openapi_check.rs"]
mod openapi;
pub mod page;
pub mod playlist;
pub mod upstream;
pub mod view;
