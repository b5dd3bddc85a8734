//! `/api/v1/channels`: what is on, as JSON. Pure.

use std::collections::HashMap;

use common::{
    chat::{Counts, Login, Present},
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
    /// Over all edges, where their counts are known here; else of this one.
    viewers: u64,
    /// Connections that may write in its chat, over all edges.
    chatters: u64,
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
pub fn channels(
    known: &[Channel],
    viewers: &HashMap<ChannelName, u64>,
    chatting: impl Fn(&ChannelName) -> Option<Counts>,
) -> Vec<u8> {
    let channels = known.iter().map(|channel| {
        let name = &channel.announcement.channel;
        let here = viewers.get(name).copied().unwrap_or(0);
        let everywhere = chatting(name).unwrap_or_default();
        ListedChannel {
            name: name.as_str(),
            live_since_ms: channel.announcement.broadcast.0,
            viewers: here.max(everywhere.viewers.into()),
            chatters: everywhere.chatters.into(),
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

#[derive(Serialize)]
struct Chatters<'a> {
    channel: &'a str,
    viewers: u32,
    readers: u32,
    chatters: u32,
    /// Missing where the room does not tell names, or has too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<Vec<&'a str>>,
    /// Where the next page begins; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

/// A page of `/api/v1/channels/{name}/chatters`: the names after `after`.
#[must_use]
pub fn chatters(
    channel: &ChannelName,
    present: &Present,
    after: Option<&str>,
    most: usize,
) -> Vec<u8> {
    let names = present.names.as_deref().map(|names| {
        let from = |after: &str| names.partition_point(|name| name.as_str() <= after);
        let rest = names.get(after.map_or(0, from)..).unwrap_or_default();
        (rest.len() > most, rest.iter().take(most))
    });
    let more = names.as_ref().is_some_and(|(more, _)| *more);
    let names: Option<Vec<_>> = names.map(|(_, names)| names.map(Login::as_str).collect());
    let last = names.as_ref().and_then(|names| names.last().copied());
    let Counts {
        readers,
        chatters,
        viewers,
    } = present.counts;
    let page = Chatters {
        channel: channel.as_str(),
        viewers,
        readers,
        chatters,
        names,
        next: last.filter(|_| more),
    };
    serde_json::to_vec(&page).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatters_come_in_pages() {
        let channel = ChannelName::parse("demo").unwrap();
        let names = ["ann", "bob", "cat"].map(|name| Login::parse(name).unwrap());
        let present = Present {
            counts: Counts {
                readers: 5,
                chatters: 3,
                viewers: 9,
            },
            names: Some(names.into()),
        };
        let page = |present: &Present, after, most| {
            String::from_utf8(chatters(&channel, present, after, most)).unwrap()
        };
        let counts = r#"{"channel":"demo","viewers":9,"readers":5,"chatters":3"#;
        for (after, most, expected) in [
            (None, 2, r#","names":["ann","bob"],"next":"bob"}"#),
            (Some("bob"), 2, r#","names":["cat"]}"#),
            (Some("azure"), 1, r#","names":["bob"],"next":"bob"}"#),
            (Some("dog"), 2, r#","names":[]}"#),
        ] {
            let expected = format!("{counts}{expected}");
            assert_eq!(page(&present, after, most), expected, "{after:?}");
        }
        let hidden = Present {
            names: None,
            ..present
        };
        assert_eq!(page(&hidden, None, 2), format!("{counts}}}"));
    }
}
