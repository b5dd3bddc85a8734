//! LL-DASH: the manifest of a broadcast as text. In: the listings of all its
//! tracks and the plan. Out: an MPD (ISO 23009-1) of the same segments that the
//! playlists list, streamed while they are made. Nobody owns anything here:
//! every function is pure.
//!
//! Tracks advance one by one, so a manifest shows what *all* of them have: it is
//! a function of the log up to the newest segment that every track has
//! completed, and of nothing that one edge has earlier than another. Edges at
//! one [`Version`] answer with the same bytes.
//!
//! Segments are listed by a SegmentTimeline and never by a nominal duration:
//! whether a publish has strayed from its nominal grid cannot be told from the
//! window that an edge holds, and an edge that joined late would say otherwise.

mod manifest;
mod shown;
#[cfg(test)]
mod tests;

pub use manifest::{TIME_PATH, manifest};
pub use shown::{Period, Run, Shown, Slot, Version, shown};
