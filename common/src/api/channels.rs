//! `/api/v1/channels` and `/api/v1/channels/{channel}` as JSON, the same on every
//! node. Pure: what a node knows in, text out.
//!
//! The list is rendered once for all who ask ([`ChannelList`]); a page of it is a piece
//! of that text, which nobody copies. It is in the order of viewers, the most first, then of names. A
//! cursor is the place of the last channel of a page, its count included, so that the
//! next page goes on there though counts have changed meanwhile.

use std::{cmp::Reverse, fmt::Write};

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;

use super::problem::{Problem, problem};
use crate::{
    live::{About, BroadcastState, Channel, Health, Phase, Stage, Track},
    names::{ChannelName, Kind},
};

/// Channels of a page that asked for no number.
pub const USUAL: usize = 100;

/// Channels of a page at most.
pub const MOST: usize = 1_000;

/// A channel as a node sees it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub channel: &'a Channel,
    pub about: Option<&'a About>,
    /// Over all edges; `None` where this node can't know.
    pub viewers: Option<u64>,
    /// Connections that may write in its chat, likewise.
    pub chatters: Option<u64>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    title: &'a str,
    tags: &'a [String],
    /// As its origin says, whether anybody watches here or not.
    state: &'static str,
    /// Unix milliseconds of the broadcast's first publish, which is what its id
    /// counts: the same on every node.
    live_since_ms: u64,
    viewers: Option<u64>,
    chatters: Option<u64>,
    /// An edge knows them once somebody watches there.
    tracks: Vec<ListedTrack<'a>>,
}

#[derive(Serialize)]
struct Detailed<'a> {
    #[serde(flatten)]
    listed: Listed<'a>,
    /// `null` while nobody publishes.
    health: Option<ListedHealth>,
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
    /// Frames a second, where the encoder says.
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_rate_hz: Option<u32>,
    /// Bits a second, at the peak and on average.
    bandwidth: u32,
    average_bandwidth: u32,
}

#[derive(Serialize)]
struct ListedHealth {
    fps: Option<f64>,
    gop_s: Option<f64>,
    dropped_samples: u64,
    jitter_ms: u32,
}

impl<'a> Seen<'a> {
    fn listed(&self) -> Listed<'a> {
        let Channel {
            announcement,
            stage,
        } = self.channel;
        Listed {
            name: announcement.channel.as_str(),
            title: self.about.map_or("", |about| &about.title),
            tags: self.about.map_or(&[], |about| &about.tags),
            state: state(self.channel),
            live_since_ms: announcement.broadcast.0,
            viewers: self.viewers,
            chatters: self.chatters,
            tracks: match stage {
                Stage::Starting => Vec::new(),
                Stage::Ready(broadcast) => {
                    let all = broadcast.tracks.iter();
                    all.map(|of| track(&of.track)).collect()
                }
            },
        }
    }

    /// `/api/v1/channels/{channel}`.
    #[must_use]
    pub fn detailed(&self) -> Bytes {
        let detailed = Detailed {
            listed: self.listed(),
            health: self.about.and_then(|about| about.health).map(health),
        };
        // Strings and finite numbers always have a JSON form.
        serde_json::to_vec(&detailed).unwrap_or_default().into()
    }
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

fn track(track: &Track) -> ListedTrack<'_> {
    let rate = track.frame_rate.filter(|(_, per)| *per > 0);
    ListedTrack {
        name: track.name.to_string(),
        kind: match track.kind() {
            Kind::Video => "video",
            Kind::Audio => "audio",
        },
        codec: &track.codec,
        width: track.size.map(|(width, _)| width),
        height: track.size.map(|(_, height)| height),
        frame_rate: rate.map(|(frames, per)| {
            let rate = f64::from(frames) / f64::from(per);
            (rate * 1_000.0).round() / 1_000.0
        }),
        channels: track.channels,
        sample_rate_hz: track.sample_rate_hz,
        bandwidth: track.bandwidth_bps,
        average_bandwidth: track.average_bandwidth_bps,
    }
}

fn health(health: Health) -> ListedHealth {
    ListedHealth {
        fps: health.fps_tenths.map(|tenths| f64::from(tenths) / 10.0),
        gop_s: health.gop_ms.map(|ms| f64::from(ms) / 1_000.0),
        dropped_samples: health.dropped_samples,
        jitter_ms: health.jitter_ms,
    }
}

/// A channel's place in the list: fewer viewers come later, then later names.
type Place = (Reverse<u64>, ChannelName);

/// Which page is asked for: `?after=CURSOR&limit=NUMBER`. Other parameters are
/// ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    after: Option<Place>,
    limit: usize,
}

impl Page {
    /// # Errors
    /// 400 for what is no page.
    pub fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut page = Self::first();
        for pair in query.unwrap_or_default().split('&') {
            match pair.split_once('=') {
                Some(("after", cursor)) => page.after = Some(place(cursor)?),
                Some(("limit", count)) => page.limit = limit(count)?,
                _ => {}
            }
        }
        Ok(page)
    }

    /// The one that is asked for without parameters.
    #[must_use]
    pub const fn first() -> Self {
        Self::first_of(USUAL)
    }

    /// The most watched channels, `limit` of them.
    #[must_use]
    pub const fn first_of(limit: usize) -> Self {
        Self { after: None, limit }
    }

    /// Of how many channels it is, where it is the most watched ones.
    #[must_use]
    pub const fn is_first_of(&self) -> Option<usize> {
        match self.after {
            None => Some(self.limit),
            Some(_) => None,
        }
    }
}

fn place(cursor: &str) -> Result<Place, Problem> {
    let parts = cursor.split_once('.').and_then(|(viewers, name)| {
        let name = ChannelName::parse(name).ok()?;
        Some((Reverse(viewers.parse().ok()?), name))
    });
    parts.ok_or_else(|| {
        let text = "after is what the page before said as next";
        problem(StatusCode::BAD_REQUEST, "bad_request", text)
    })
}

fn limit(count: &str) -> Result<usize, Problem> {
    let count = count.parse().ok();
    let count = count.filter(|count| (1..=MOST).contains(count));
    count.ok_or_else(|| Problem::bad(format!("limit is 1 to {MOST}")))
}

/// The whole list, rendered.
#[derive(Debug)]
pub struct ChannelList {
    places: Vec<(Place, usize)>,
    /// The channels' JSON with commas between; each ends where `places` says.
    text: Bytes,
}

impl ChannelList {
    #[must_use]
    pub fn of<'a>(seen: impl IntoIterator<Item = Seen<'a>>) -> Self {
        let place = |seen: &Seen<'_>| -> Place {
            let name = seen.channel.announcement.channel.clone();
            (Reverse(seen.viewers.unwrap_or(0)), name)
        };
        let mut seen: Vec<_> = seen.into_iter().map(|seen| (place(&seen), seen)).collect();
        seen.sort_by(|one, other| one.0.cmp(&other.0));
        let mut text = Vec::with_capacity(seen.len() * 512);
        let mut places = Vec::with_capacity(seen.len());
        for (place, seen) in seen {
            if !text.is_empty() {
                text.push(b',');
            }
            // Strings and finite numbers always have a JSON form.
            let _ = serde_json::to_writer(&mut text, &seen.listed());
            places.push((place, text.len()));
        }
        Self {
            places,
            text: text.into(),
        }
    }

    /// `{"channels": [...], "total", "next"}` in three pieces, of which the middle one
    /// is shared; `next` is missing on the last page.
    #[must_use]
    pub fn page(&self, page: &Page) -> [Bytes; 3] {
        let from = page.after.as_ref().map_or(0, |after| {
            self.places.partition_point(|(place, _)| place <= after)
        });
        let end = from.saturating_add(page.limit).min(self.places.len());
        let ends_at = |count: usize| {
            let last = count.checked_sub(1).and_then(|at| self.places.get(at));
            last.map_or(0, |(_, ends_at)| *ends_at)
        };
        // Behind the comma, where one stands.
        let begins_at = match ends_at(from) {
            0 => 0,
            at => at + 1,
        };
        let ends_at = ends_at(end);
        let channels = match begins_at < ends_at {
            true => self.text.slice(begins_at..ends_at),
            false => Bytes::new(),
        };
        let last = self.places.get(end.saturating_sub(1));
        let next = last.filter(|_| end < self.places.len());
        let mut tail = format!("],\"total\":{}", self.places.len());
        if let Some((Reverse(viewers), name)) = next.map(|(place, _)| place) {
            // Writing to a string does not fail.
            let _ = write!(tail, ",\"next\":\"{viewers}.{name}\"");
        }
        tail.push('}');
        [
            Bytes::from_static(b"{\"channels\":["),
            channels,
            tail.into(),
        ]
    }

    /// The same in one piece.
    #[must_use]
    pub fn joined(&self, page: &Page) -> Bytes {
        self.page(page).concat().into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::{
        live::{Announcement, Broadcast, Plan},
        media::{Ticks, Timescale},
        names::{BroadcastId, Epoch, TrackName},
    };

    fn channel(name: &str) -> Channel {
        Channel {
            announcement: Announcement {
                channel: ChannelName::parse(name).unwrap(),
                broadcast: BroadcastId(7),
                epoch: Epoch(7),
                phase: Phase::Live,
                hops: Vec::new(),
                cost: 0,
                grace_ms: 0,
            },
            stage: Stage::Starting,
        }
    }

    fn seen(channel: &Channel, viewers: u64) -> Seen<'_> {
        Seen {
            channel,
            about: None,
            viewers: Some(viewers),
            chatters: Some(0),
        }
    }

    fn names(list: &ChannelList, query: &str) -> (Vec<String>, Option<String>) {
        let page = list.joined(&Page::parse(Some(query)).unwrap());
        let page: Value = serde_json::from_slice(&page).unwrap();
        let named = |channel: &Value| channel["name"].as_str().unwrap().to_owned();
        let names = page["channels"].as_array().unwrap().iter().map(named);
        (names.collect(), page["next"].as_str().map(str::to_owned))
    }

    #[test]
    fn the_most_watched_come_first_and_pages_go_on() {
        let channels = ["a", "b", "c", "d", "e"].map(channel);
        let viewers = [3, 9, 3, 0, 3];
        let list = ChannelList::of(channels.iter().zip(viewers).map(|(of, n)| seen(of, n)));
        let all = ["b", "a", "c", "e", "d"];
        assert_eq!(names(&list, ""), (all.map(str::to_owned).into(), None));
        let (first, next) = names(&list, "limit=2");
        assert_eq!(
            (first, next.as_deref()),
            (vec!["b".to_owned(), "a".to_owned()], Some("3.a"))
        );
        assert_eq!(names(&list, "limit=2&after=3.a").0, ["c", "e"]);
        assert_eq!(
            names(&list, "limit=2&after=3.e"),
            (vec!["d".to_owned()], None)
        );
        // Its channel is gone, or has other viewers now.
        assert_eq!(names(&list, "after=4.zzz").0, ["a", "c", "e", "d"]);
        assert_eq!(names(&list, "after=0.zzz"), (Vec::new(), None));
        let none = ChannelList::of([]);
        assert_eq!(
            &none.joined(&Page::first())[..],
            br#"{"channels":[],"total":0}"#
        );
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for bad in [
            "limit=0",
            "limit=1001",
            "limit=",
            "limit=-1",
            "after=",
            "after=5",
            "after=x.demo",
            "after=5.De mo",
            "after=-5.demo",
        ] {
            assert_eq!(Page::parse(Some(bad)).unwrap_err().status, 400, "{bad}");
        }
        for first in [None, Some(""), Some("x=1&y"), Some("limit=100")] {
            assert_eq!(Page::parse(first), Ok(Page::first()), "{first:?}");
        }
        let first_of = |query| Page::parse(Some(query)).unwrap().is_first_of();
        assert_eq!(first_of("limit=7"), Some(7));
        assert_eq!(first_of("limit=7&after=0.a"), None);
    }

    #[test]
    fn a_channel_is_told_with_tracks_and_health() {
        let mut demo = channel("demo");
        let plan = Plan {
            target_duration_s: 3,
            part_hold_back_ms: 1_200,
            window_ms: 24_000,
        };
        let track = Track {
            name: TrackName::video(0),
            codec: "avc1.64001f".into(),
            timescale: Timescale::VIDEO,
            part_target: Ticks(44_000),
            bandwidth_bps: 3_300_000,
            average_bandwidth_bps: 3_000_000,
            size: Some((1280, 720)),
            frame_rate: Some((30_000, 1_001)),
            channels: None,
            sample_rate_hz: None,
        };
        let name = demo.announcement.channel.clone();
        let broadcast = Broadcast::new(name, BroadcastId(7), plan, vec![track]);
        demo.stage = Stage::Ready(Arc::new(broadcast));
        let about = About {
            title: "A \"title\"".into(),
            tags: vec!["chess".into()],
            health: Some(Health {
                fps_tenths: Some(299),
                gop_ms: Some(2_000),
                dropped_samples: 1,
                jitter_ms: 4,
            }),
        };
        let seen = Seen {
            channel: &demo,
            about: Some(&about),
            viewers: Some(3),
            chatters: None,
        };
        let expected = concat!(
            r#"{"name":"demo","title":"A \"title\"","tags":["chess"],"state":"live","live_since_ms":7,"#,
            r#""viewers":3,"chatters":null,"tracks":[{"name":"v0","kind":"video","codec":"avc1.64001f","#,
            r#""width":1280,"height":720,"frame_rate":29.97,"bandwidth":3300000,"average_bandwidth":3000000}],"#,
            r#""health":{"fps":29.9,"gop_s":2.0,"dropped_samples":1,"jitter_ms":4}}"#,
        );
        assert_eq!(
            String::from_utf8(seen.detailed().to_vec()).unwrap(),
            expected
        );
    }

    #[test]
    fn a_channels_state_is_what_its_origin_says() {
        for (phase, expected) in [
            (Phase::Starting, "starting"),
            (Phase::Live, "live"),
            (Phase::Lost, "lost"),
            (Phase::Ended, "ended"),
        ] {
            let mut channel = channel("demo");
            channel.announcement.phase = phase;
            assert_eq!(state(&channel), expected);
        }
    }
}
