//! One viewer: choose the tracks, watch them, feed the playout model.
//!
//! In: a URL and a deadline. Out: [`Seen`]. A viewer waits for a channel that
//! isn't live yet, and begins again when a broadcast has ended. Its first frame is
//! waited for since it was due, over everything that failed on the way; only while
//! nothing is live does nobody wait.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::{
    dash,
    media::{self, Event, Job, Watched},
    reload::{Known, load},
    stream,
};
use crate::{
    boxes::Kind,
    client::{Lane, Net},
    clock,
    figures::{Counts, Latency},
    follow::Mode,
    m3u8::{Multivariant, Playlist},
    playout::Playout,
    url::Url,
};

/// Arrivals between a track's task and its viewer: half a minute of 30 frames a
/// second on two tracks, should the viewer's task be starved that long.
const EVENTS: usize = 2048;

/// Between looks at a channel that isn't live.
const OFFLINE_PAUSE: Duration = Duration::from_millis(500);

/// What a playlist's or manifest's request says of a channel that isn't live. A 503
/// is an error: that is how a server refuses those who are too many.
const OFFLINE: [&str; 2] = ["404", "ended"];

/// Picture and sound.
const TRACKS: usize = 2;

#[derive(Debug, Clone)]
pub struct Plan {
    pub url: Url,
    pub net: Arc<Net>,
    pub known: Arc<Known>,
    pub mode: Mode,
    pub digits: u8,
    /// When it was to come, Unix time: its wait begins then, however late its first
    /// request is sent.
    pub due_us: i64,
    pub deadline: Instant,
}

/// What one viewer saw.
#[derive(Debug)]
pub struct Seen {
    pub counts: Counts,
    pub stamped: Latency,
    pub dated_video: Latency,
    pub dated_audio: Latency,
    /// Since it waited for it, microseconds.
    pub first_video_us: Option<i64>,
    pub first_audio_us: Option<i64>,
    /// An init segment of video was read.
    pub has_video: bool,
    pub started: bool,
    pub stalls: u64,
    pub stalled_us: i64,
    /// From when it first played.
    pub watched_us: i64,
    pub hold_back_us: u64,
    pub part_us: u64,
}

pub async fn run(plan: Plan) -> Seen {
    let mut seen = Seen {
        counts: Counts::default(),
        stamped: Latency::new(plan.digits),
        dated_video: Latency::new(plan.digits),
        dated_audio: Latency::new(plan.digits),
        first_video_us: None,
        first_audio_us: None,
        has_video: false,
        started: false,
        stalls: 0,
        stalled_us: 0,
        watched_us: 0,
        hold_back_us: 0,
        part_us: 0,
    };
    let mut wait = Wait::since(plan.due_us);
    while Instant::now() < plan.deadline {
        let since_us = wait.ask(clock::unix_us());
        match tracks(&plan).await {
            Some(Ok(sources)) => {
                if watch_all(&plan, sources, since_us, &mut seen).await {
                    wait.end();
                }
            }
            Some(Err(kind)) => wait.refused(&kind, &mut seen.counts),
            None => break,
        }
        if Instant::now() + OFFLINE_PAUSE >= plan.deadline {
            break;
        }
        sleep(OFFLINE_PAUSE).await;
    }
    seen
}

/// Since when a viewer waits for its first frame.
#[derive(Debug)]
struct Wait {
    /// Unix time; `None` while nothing is live.
    since_us: Option<i64>,
}

impl Wait {
    fn since(due_us: i64) -> Self {
        Self {
            since_us: Some(due_us),
        }
    }

    /// It asks, or asks again: since when it has waited.
    fn ask(&mut self, now_us: i64) -> i64 {
        *self.since_us.get_or_insert(now_us)
    }

    fn refused(&mut self, kind: &str, counts: &mut Counts) {
        if OFFLINE.contains(&kind) {
            counts.offline_answers += 1;
            self.end();
        } else {
            counts.error(format!("playlist {kind}"));
        }
    }

    /// Nothing is live that could be waited for.
    fn end(&mut self) {
        self.since_us = None;
    }
}

/// What a track is read from.
enum Source {
    Playlist(Url),
    Stream(Url),
    /// The representations of a kind.
    Dash(&'static str, watch::Receiver<dash::Seen>),
}

/// What the viewer plays together; `None` at the deadline.
async fn tracks(plan: &Plan) -> Option<Result<Vec<Source>, String>> {
    let path = plan.url.path.split('?').next().unwrap_or_default();
    if path.ends_with("/stream.mp4") {
        return Some(Ok(vec![Source::Stream(plan.url.clone())]));
    }
    if path.ends_with(".mpd") {
        return manifest(plan).await;
    }
    let urls = playlists(plan).await?;
    Some(urls.map(|urls| urls.into_iter().map(Source::Playlist).collect()))
}

async fn manifest(plan: &Plan) -> Option<Result<Vec<Source>, String>> {
    let mut lane = Lane::new(plan.net.clone());
    let loading = dash::load(&mut lane, &plan.url);
    let manifest = match timeout_at(plan.deadline, loading).await.ok()? {
        Ok(manifest) if manifest.is_final() => return Some(Err("ended".to_owned())),
        Ok(manifest) => manifest,
        Err(kind) => return Some(Err(kind)),
    };
    let kinds = ["video", "audio"].map(|kind| (kind, manifest.of_kind(kind).next().is_some()));
    let seen = dash::follow(plan.net.clone(), plan.url.clone(), manifest);
    let kinds = kinds.into_iter().filter(|(_, has)| *has);
    Some(Ok(kinds
        .map(|(kind, _)| Source::Dash(kind, seen.clone()))
        .collect()))
}

/// The media playlists of the first variant; `None` at the deadline.
async fn playlists(plan: &Plan) -> Option<Result<Vec<Url>, String>> {
    let mut lane = Lane::new(plan.net.clone());
    let loading = load(&mut lane, &plan.url);
    let list = match timeout_at(plan.deadline, loading).await.ok()? {
        Ok(list) => list,
        Err(kind) => return Some(Err(kind)),
    };
    Some(match list {
        Playlist::Media(list) if list.ended => Err("ended".to_owned()),
        Playlist::Media(_) => Ok(vec![plan.url.clone()]),
        Playlist::Multivariant(list) => {
            choose(&list, &plan.url).ok_or_else(|| "without a variant".to_owned())
        }
    })
}

fn choose(list: &Multivariant, base: &Url) -> Option<Vec<Url>> {
    let variant = list.variants.first()?;
    let mut urls = vec![base.join(&variant.uri).ok()?];
    let group = variant.attributes.get("AUDIO");
    let mut audio = list
        .renditions
        .iter()
        .filter(|rendition| rendition.kind == "AUDIO" && Some(&rendition.group) == group);
    let chosen = audio
        .clone()
        .find(|rendition| rendition.is_default)
        .or_else(|| audio.next());
    if let Some(uri) = chosen.and_then(|rendition| rendition.uri.as_ref()) {
        let url = base.join(uri).ok()?;
        // An audio-only variant may name its own playlist as its rendition.
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls.truncate(TRACKS);
    Some(urls)
}

/// Watches until the deadline, or until the channel is not live: whether it is not.
async fn watch_all(plan: &Plan, sources: Vec<Source>, since_us: i64, seen: &mut Seen) -> bool {
    let (events, mut arrivals) = mpsc::channel(EVENTS);
    let mut tasks = JoinSet::new();
    let count = sources.len();
    for (index, source) in sources.into_iter().enumerate() {
        let job = |url: Url| Job {
            index,
            url,
            net: plan.net.clone(),
            known: plan.known.clone(),
            mode: plan.mode,
            digits: plan.digits,
            deadline: plan.deadline,
            events: events.clone(),
            untold: None,
        };
        match source {
            Source::Playlist(url) => tasks.spawn(media::run(job(url))),
            Source::Stream(url) => tasks.spawn(stream::run(job(url))),
            Source::Dash(kind, manifests) => {
                tasks.spawn(dash::run(job(plan.url.clone()), kind, manifests))
            }
        };
    }
    drop(events);
    let mut terms: Option<(u64, u64)> = None;
    let mut model: Option<Playout> = None;
    while let Some(event) = arrivals.recv().await {
        match event {
            Event::Terms {
                hold_back_us,
                part_us,
            } => {
                let (hold_back, part) = terms.unwrap_or_default();
                terms = Some((hold_back.max(hold_back_us), part.max(part_us)));
            }
            Event::Media(media) => {
                let (hold_back, part) = terms.unwrap_or_default();
                let signed = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
                let model = model
                    .get_or_insert_with(|| Playout::new(count, signed(hold_back), signed(part)));
                for arrival in media {
                    model.arrive(arrival);
                }
            }
        }
    }
    let stopped_us = clock::unix_us();
    let mut ended = false;
    while let Some(Ok(watched)) = tasks.join_next().await {
        ended |= watched.ended;
        add(seen, &watched, since_us);
    }
    if let Some((hold_back, part)) = terms {
        (seen.hold_back_us, seen.part_us) = (hold_back, part);
    }
    if let Some(mut model) = model {
        // What is buffered at the end of a broadcast is played out, not stalled on.
        if ended {
            model.end();
        }
        let outcome = model.finish(stopped_us);
        seen.started |= outcome.started;
        seen.stalls += outcome.stalls;
        seen.stalled_us += outcome.stalled_us;
        seen.watched_us += outcome.watched_us;
    }
    ended
}

fn add(seen: &mut Seen, watched: &Watched, since_us: i64) {
    let track = &watched.track;
    seen.counts.add(&track.counts);
    let kind = track.init.as_ref().map(|init| init.kind);
    seen.has_video |= kind == Some(Kind::Video);
    seen.stamped.add(&track.stamped);
    let took = track
        .first_frame_us
        .map(|at_us| at_us.saturating_sub(since_us));
    let (dated, first) = match kind {
        Some(Kind::Video) => (&mut seen.dated_video, &mut seen.first_video_us),
        _ => (&mut seen.dated_audio, &mut seen.first_audio_us),
    };
    dated.add(&track.dated);
    *first = first.or(took);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_frame_is_waited_for_over_what_fails() {
        let mut wait = Wait::since(100);
        let mut counts = Counts::default();
        assert_eq!(wait.ask(103), 100);
        for kind in ["503", "connect", "500", "429"] {
            wait.refused(kind, &mut counts);
            assert_eq!(wait.ask(600), 100, "{kind}");
        }
        assert_eq!((counts.errors_total(), counts.offline_answers), (4, 0));
        assert_eq!(counts.errors["playlist 503"], 1);
    }

    #[test]
    fn nobody_waits_while_nothing_is_live() {
        let mut wait = Wait::since(100);
        let mut counts = Counts::default();
        for (kind, now) in [("404", 600), ("ended", 1_100)] {
            wait.refused(kind, &mut counts);
            assert_eq!(wait.ask(now), now, "{kind}");
        }
        assert_eq!((counts.errors_total(), counts.offline_answers), (0, 2));
        wait.refused("503", &mut counts);
        assert_eq!(wait.ask(1_600), 1_100);
        wait.end();
        assert_eq!(wait.ask(2_100), 2_100);
    }
}
