//! `/api/v1/channels`: what is on, as JSON. Pure but for [`Tracker`], which
//! remembers since when this edge has known a broadcast.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use common::{
    live::{BroadcastState, Channel, Stage, Track},
    names::{BroadcastId, ChannelName, Kind},
};
use parking_lot::Mutex;
use serde::Serialize;

/// Unix milliseconds at which a broadcast was first known here, by channel.
pub type Since = HashMap<ChannelName, u64>;

/// Remembers when each broadcast was first seen; holds no more than the
/// directory does.
#[derive(Debug, Default)]
pub struct Tracker(Mutex<HashMap<ChannelName, (BroadcastId, u64)>>);

impl Tracker {
    /// Looks at the directory as it is now.
    #[must_use]
    pub fn since(&self, known: &[Channel]) -> Since {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        let mut seen = self.0.lock();
        let mut next = HashMap::with_capacity(known.len());
        for channel in known {
            let (name, id) = (
                &channel.announcement.channel,
                channel.announcement.broadcast,
            );
            let since = match seen.get(name) {
                Some((same, since)) if *same == id => *since,
                _ => now,
            };
            next.insert(name.clone(), (id, since));
        }
        let out = next.iter().map(|(name, (_, at))| (name.clone(), *at));
        let out = out.collect();
        *seen = next;
        out
    }
}

#[derive(Serialize)]
struct ChannelList<'a> {
    channels: Vec<ListedChannel<'a>>,
}

#[derive(Serialize)]
struct ListedChannel<'a> {
    name: &'a str,
    live_since_ms: u64,
    viewers: u64,
    state: &'static str,
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
pub fn channels(known: &[Channel], viewers: &HashMap<ChannelName, u64>, since: &Since) -> Vec<u8> {
    let channels = known.iter().map(|channel| {
        let name = &channel.announcement.channel;
        ListedChannel {
            name: name.as_str(),
            live_since_ms: since.get(name).copied().unwrap_or(0),
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
    let Stage::Ready(broadcast) = &channel.stage else {
        return "starting";
    };
    match broadcast.state() {
        BroadcastState::Ended => "ended",
        BroadcastState::Lost => "lost",
        BroadcastState::Live if channel.announcement.lost => "lost",
        BroadcastState::Live => "live",
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
