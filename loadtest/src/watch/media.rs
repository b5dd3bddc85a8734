//! The task of one track: follow its playlist, fetch its parts, read its frames.
//!
//! In: the media playlist's URL. Out: [`Arrival`]s for the viewer's playout
//! model while it runs, its [`Track`] at the end. Owns the track's media
//! connection and its [`Follow`].

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, sleep_until},
};

use super::reload::{self, Known, Reload};
use crate::{
    boxes::{FragmentReader, parse_init},
    client::{Ask, Lane, Net},
    clock,
    follow::{Follow, Mode, Want},
    m3u8::MediaPlaylist,
    playout::Arrival,
    track::Track,
    url::Url,
};

/// Larger than any segment that a viewer would wait for.
pub(super) const MAX_MEDIA_BYTES: usize = 64 << 20;

/// A hinted part may be held for three target durations.
pub(super) const MEDIA_TIMEOUT: Duration = Duration::from_secs(60);

const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What is tried this often and fails is left out, as a player would.
const TRIES: u32 = 5;

/// What the viewer learns while it runs.
#[derive(Debug)]
pub enum Event {
    /// From the first playlist.
    Terms { hold_back_us: u64, part_us: u64 },
    /// What came in one piece, in its order.
    Media(Vec<Arrival>),
}

/// What a track's task is started with.
pub struct Job {
    pub index: usize,
    pub url: Url,
    pub net: Arc<Net>,
    pub known: Arc<Known>,
    pub mode: Mode,
    pub digits: u8,
    pub deadline: Instant,
    pub events: mpsc::Sender<Event>,
    /// The first of what did not fit into `events`.
    pub untold: Option<Arrival>,
}

impl Job {
    /// Tells the viewer what came. Full only if the viewer's task is starved; the
    /// model then sees this media with the next.
    pub(super) fn tell(&mut self, mut came: Vec<Arrival>) {
        let Some(first) = came.first_mut() else {
            return;
        };
        if let Some(untold) = self.untold.take()
            && !first.discontinuity
        {
            first.start_us = untold.start_us;
            first.discontinuity = untold.discontinuity;
        }
        if let Err(TrySendError::Full(Event::Media(came))) =
            self.events.try_send(Event::Media(came))
        {
            self.untold = came.first().copied();
        }
    }
}

/// How a track's watching ended.
pub struct Watched {
    pub track: Track,
    pub ended: bool,
}

pub async fn run(job: Job) -> Watched {
    let mut versions = reload::follow(job.net.clone(), job.url.clone(), job.known.clone());
    let mut task = MediaTask {
        lane: Lane::new(job.net.clone()),
        track: Track::new(job.digits),
        map: None,
        tries: 0,
        breaks: false,
        job,
    };
    let mut follow = Follow::new(task.job.mode);
    let mut latest: Option<Arc<MediaPlaylist>> = None;
    loop {
        let want = latest.as_ref().and_then(|list| follow.next(list));
        let flow = match want {
            Some(want) => {
                task.take(want, &mut follow, &mut latest, &mut versions)
                    .await
            }
            // An ended list gets no more versions.
            None if latest.as_ref().is_some_and(|list| list.ended) => ControlFlow::Break(()),
            None => tokio::select! {
                version = versions.recv() => task.heard(version, &mut latest).await,
                () = sleep_until(task.job.deadline) => ControlFlow::Break(()),
            },
        };
        if flow.is_break() || Instant::now() >= task.job.deadline {
            break;
        }
    }
    let mut track = task.track;
    track.counts.skips = follow.skipped;
    track.counts.hints_unlisted = follow.unlisted;
    Watched {
        track,
        ended: latest.is_some_and(|list| list.ended),
    }
}

struct MediaTask {
    job: Job,
    lane: Lane,
    track: Track,
    /// The init segment that the track was read with.
    map: Option<String>,
    tries: u32,
    /// Media time started anew with what was not read.
    breaks: bool,
}

impl MediaTask {
    async fn heard(
        &mut self,
        version: Option<Reload>,
        latest: &mut Option<Arc<MediaPlaylist>>,
    ) -> ControlFlow<()> {
        match version {
            Some(Reload::List(list)) => {
                self.track.counts.playlists += 1;
                if latest.is_none() {
                    let terms = Event::Terms {
                        hold_back_us: list.hold_back_us(),
                        part_us: list.part_target_us.unwrap_or(list.target_us()),
                    };
                    let _ = self.job.events.send(terms).await;
                }
                *latest = Some(list);
                ControlFlow::Continue(())
            }
            Some(Reload::Failed(kind)) => {
                self.track.counts.error(format!("playlist {kind}"));
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    }

    /// Fetches `want` while playlists keep coming in.
    async fn take(
        &mut self,
        mut want: Want,
        follow: &mut Follow,
        latest: &mut Option<Arc<MediaPlaylist>>,
        versions: &mut mpsc::Receiver<Reload>,
    ) -> ControlFlow<()> {
        want.discontinuity |= self.breaks;
        if want.gap {
            self.breaks = want.discontinuity;
            self.track.hole(want.duration_us);
            follow.took(&want);
            return ControlFlow::Continue(());
        }
        let mut heard = Vec::new();
        let deadline = self.job.deadline;
        let outcome = {
            let fetching = self.fetch(&want);
            tokio::pin!(fetching);
            loop {
                tokio::select! {
                    outcome = &mut fetching => break Some(outcome),
                    version = versions.recv(), if !is_over(&heard) => {
                        let stale = matches!(&version,
                            Some(Reload::List(list)) if follow.is_stale(&want, list));
                        heard.push(version);
                        if stale {
                            break None;
                        }
                    }
                    () = sleep_until(deadline) => return ControlFlow::Break(()),
                }
            }
        };
        match outcome {
            Some(Outcome::Read) => {
                self.tries = 0;
                self.breaks = false;
                follow.took(&want);
            }
            Some(Outcome::Gone) if self.job.mode == Mode::Parts => {
                self.track.counts.hints_withdrawn += 1;
                follow.hint_gone(&want);
            }
            Some(Outcome::Gone) => tokio::time::sleep(RETRY_PAUSE).await,
            Some(Outcome::Failed) => {
                self.tries += 1;
                if self.tries >= TRIES {
                    self.tries = 0;
                    self.breaks = want.discontinuity;
                    self.track.leave_out();
                    follow.took(&want);
                }
                tokio::time::sleep(RETRY_PAUSE * self.tries.max(1)).await;
            }
            None => follow.hint_gone(&want),
        }
        for version in heard {
            // The end of the versions is met again once this one is read.
            if version.is_some() {
                let _ = self.heard(version, latest).await;
            }
        }
        ControlFlow::Continue(())
    }

    async fn fetch(&mut self, want: &Want) -> Outcome {
        if self.map != want.map
            && let Err(kind) = self.fetch_init(want).await
        {
            self.track.counts.error(format!("init {kind}"));
            return Outcome::Failed;
        }
        let Ok(url) = self.job.url.join(&want.uri) else {
            self.track.counts.error("bad uri");
            return Outcome::Failed;
        };
        let mut reader = FragmentReader::default();
        let mut unreadable = false;
        let mut begun = false;
        let (track, job) = (&mut self.track, &mut self.job);
        let head = self.lane.get(&url, ASK, |data| {
            let at_us = clock::unix_us();
            track.counts.bytes += data.len() as u64;
            let Some(init) = &track.init else { return };
            let Ok(fragments) = reader.push(data, init) else {
                unreadable = true;
                return;
            };
            let mut arrivals = Vec::new();
            for fragment in fragments {
                if !begun {
                    track.begin(want);
                }
                let first = !std::mem::replace(&mut begun, true);
                if let Some(gained) = track.fragment(&fragment, want, first, at_us) {
                    arrivals.push(Arrival {
                        track: job.index,
                        at_us,
                        start_us: gained.start_us,
                        end_us: gained.end_us,
                        discontinuity: first && want.discontinuity,
                    });
                }
            }
            job.tell(arrivals);
        });
        let head = match head.await {
            Ok(head) => head,
            Err(error) => {
                self.track.counts.error(format!("media {}", error.kind()));
                return self.failed(begun);
            }
        };
        match head.status.as_u16() {
            200 => {}
            404 if want.hinted => return Outcome::Gone,
            status => {
                self.track.counts.error(format!("media {status}"));
                return Outcome::Failed;
            }
        }
        if unreadable || reader.pending() > 0 || !begun {
            self.track.counts.error("media unreadable");
        }
        self.track.counts.parts += 1;
        Outcome::Read
    }

    /// What was read in part can't be read again without counting twice.
    fn failed(&mut self, begun: bool) -> Outcome {
        if begun {
            Outcome::Read
        } else {
            Outcome::Failed
        }
    }

    async fn fetch_init(&mut self, want: &Want) -> Result<(), String> {
        let Some(map) = &want.map else {
            return Err("absent".to_owned());
        };
        let url = self.job.url.join(map).map_err(|_| "uri".to_owned())?;
        let mut body = Vec::new();
        let head = self
            .lane
            .get(&url, ASK, |data| body.extend_from_slice(data))
            .await;
        let head = head.map_err(|error| error.kind().to_owned())?;
        if head.status != http::StatusCode::OK {
            return Err(head.status.as_u16().to_string());
        }
        let init = parse_init(&body).map_err(|_| "unreadable".to_owned())?;
        self.track.init = Some(init);
        self.map = want.map.clone();
        Ok(())
    }
}

const ASK: Ask = Ask {
    gzip: false,
    range: None,
    timeout: MEDIA_TIMEOUT,
    max_bytes: MAX_MEDIA_BYTES,
};

enum Outcome {
    Read,
    /// 404 to a hint.
    Gone,
    Failed,
}

fn is_over(heard: &[Option<Reload>]) -> bool {
    heard.last().is_some_and(Option::is_none)
}

#[cfg(test)]
mod tests;
