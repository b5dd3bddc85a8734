//! `/api/v1/channels`: what is on, as JSON. Pure.

use std::collections::HashMap;

use common::{
    live::{BroadcastState, Channel, Phase, Stage, Track},
    names::{ChannelName, Kind},
};
use serde::Serialize;

#[derive(Serialize)]
struct ChannelList<'a> {
    channels: Vec<ListedChannel<'a>>,
}

#[derive(Serialize)]
struct ListedChannel<'a> {
    name: &'a str,
    /// Unix milliseconds of the broadcast's first publish, which is what its id
    /// counts: the same on every edge.
    live_since_ms: u64,
    viewers: u64,
    /// As its origin says, whether anybody watches here or not.
    state: &'static str,
    /// Known once somebody does.
    tracks: Vec<ListedTrack<'a>>,
}

#[derive(Serialize)]
struct ListedTrack<'a> {
    name: String,
    kind: &'static str,
    codec: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    /// Bits a second.
    bandwidth: u32,
}

/// The list in the order of the channels' names.
#[must_use]
pub fn channels(known: &[Channel], viewers: &HashMap<ChannelName, u64>) -> Vec<u8> {
    let channels = known.iter().map(|channel| {
        let name = &channel.announcement.channel;
        ListedChannel {
            name: name.as_str(),
            live_since_ms: channel.announcement.broadcast.0,
            viewers: viewers.get(name).copied().unwrap_or(0),
            state: state(channel),
            tracks: match &channel.stage {
                Stage::Starting => Vec::new(),
                Stage::Ready(broadcast) => {
                    let all = broadcast.tracks.iter();
                    all.map(|of| listed(&of.track)).collect()
                }
            },
        }
    });
    let list = ChannelList {
        channels: channels.collect(),
    };
    // Strings and numbers always have a JSON form.
    serde_json::to_vec(&list).unwrap_or_default()
}

fn state(channel: &Channel) -> &'static str {
    let said = channel.announcement.phase;
    let held = match &channel.stage {
        Stage::Starting => None,
        Stage::Ready(broadcast) => Some(broadcast.state()),
    };
    match (held, said) {
        (Some(BroadcastState::Ended), _) | (None, Phase::Ended) => "ended",
        (Some(BroadcastState::Lost), _) | (_, Phase::Lost) => "lost",
        (Some(BroadcastState::Live), _) | (None, Phase::Live) => "live",
        (None, Phase::Starting) => "starting",
    }
}

fn listed(track: &Track) -> ListedTrack<'_> {
    ListedTrack {
        name: track.name.to_string(),
        kind: match track.kind() {
            Kind::Video => "video",
            Kind::Audio => "audio",
        },
        codec: &track.codec,
        width: track.size.map(|(width, _)| width),
        height: track.size.map(|(_, height)| height),
        bandwidth: track.bandwidth_bps,
    }
}
