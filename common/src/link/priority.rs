//! Which stream goes first when the path is too narrow: control, then init
//! segments (they travel with control), audio, video by ascending bit rate,
//! fetches of the past. Within a class the subscriber's own priority decides.

use crate::{
    live::Broadcast,
    names::{Kind, TrackName},
};

pub const CONTROL: i32 = 1 << 24;
const AUDIO: i32 = 1 << 20;
const VIDEO: i32 = 1 << 16;
pub const PAST: i32 = 0;

/// The priority of a track's segment streams: audio, or the rank of a video
/// track from the lowest bit rate up.
#[must_use]
pub fn of_track(broadcast: &Broadcast, name: TrackName, wish: u8) -> i32 {
    let wish = i32::from(wish);
    if name.kind == Kind::Audio {
        return AUDIO + wish;
    }
    let own = broadcast
        .track(name)
        .map_or(u32::MAX, |track| track.track.bandwidth_bps);
    let cheaper = broadcast
        .tracks
        .iter()
        .filter(|other| other.track.kind() == Kind::Video && other.track.bandwidth_bps < own)
        .count();
    // At most 64 tracks: the ranks stay within the class.
    let rank = i32::try_from(cheaper.min(63)).unwrap_or(63);
    VIDEO + (63 - rank) * 256 + wish
}
