//! From publishes to broadcasts.

pub mod journal;
