//! Simulated publishers, every record replayed through the log, every rule
//! asserted on what came out.

mod holes;
mod publisher;
mod replay;
mod republish;
mod rules;
