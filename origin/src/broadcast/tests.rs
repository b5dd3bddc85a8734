//! Channels' tasks in virtual time, fed by hand with real FLV bodies.

mod bounds;
mod dvr;
mod hooks;
mod lifecycle;
mod restart;
mod rig;
mod succession;
