//! Playlists as text. In: a track's [`Listing`], the broadcast's [`Plan`] and
//! its tracks. Out: M3U8. Nobody owns anything here: every function is pure,
//! and its text depends on nothing but its arguments, so that two edges at one
//! version answer with the same bytes (draft-pantos-hls-rfc8216bis, section 4).
//!
//! [`Listing`]: common::live::Listing
//! [`Plan`]: common::live::Plan

mod clock;
mod lines;
mod media;
mod multivariant;
mod reload;
#[cfg(test)]
mod tests;

pub(crate) use clock::Iso8601;
pub use lines::{Lines, Sections};
pub use media::{Skip, media};
pub(crate) use multivariant::Quoted;
pub use multivariant::{multivariant, rebased};
pub use reload::{Verdict, Want, is_offered, part_limit, verdict};

/// The lowest EXT-X-VERSION that allows EXT-X-SKIP (H14); always written, so
/// that a delta update and the full playlist agree.
const VERSION: &str = "#EXT-X-VERSION:9\n";
