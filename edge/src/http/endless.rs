//! `/live/{channel}/{track}/stream.mp4`: one track from its newest segment on,
//! for as long as the viewer stays. It is the path of least delay: each chunk
//! is sent when it comes, and nothing is asked for twice.
//!
//! It starts with an init segment and a sync sample. A viewer that falls behind
//! by more than a bound of bytes goes on with the newest segment. Decoders take
//! one init segment a file, so where another one begins (a publisher that
//! returned with another picture size) the file ends, and its viewer asks again.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::Bytes;
use common::{
    live::{Cursor, Record, Step, TrackWindow},
    names::{ChannelName, InitId, Kind, Msn, TrackName},
};
use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use tokio::time::{Duration, Instant};

use super::{
    body::Body,
    follow::{Follow, Next},
    metrics::{HttpMetrics, Rejected},
    playlists,
    response::{self, AUDIO, Answer, BRIEF, NO_STORE, VIDEO},
    service::{Asked, Server},
    viewers::ViewerKey,
};
use crate::upstream::{Leased, Unavailable};

/// Viewers are counted by what they asked for in the last ten seconds.
const COUNT_AGAIN: Duration = Duration::from_secs(5);

/// An endless stream's side of its [`Follow`].
pub(super) struct Endless {
    init: InitId,
    bytes: Bytes,
    told: bool,
    max_behind_bytes: u64,
    metrics: HttpMetrics,
    viewer: Counted,
    /// Keeps the subscription and the place among the streams.
    _following: Option<Leased>,
    _place: Place,
}

/// One of the streams that are open.
struct Place(Arc<Server>);

/// Who watches, told again while it lasts.
struct Counted {
    server: Arc<Server>,
    viewer: ViewerKey,
    at: Instant,
}

/// Answers with the stream once the track has media.
pub(super) async fn stream(asked: &Asked<'_>, channel: &ChannelName, name: TrackName) -> Answer {
    // No playlist comes before it: it is one.
    if let Some(answer) = asked.forbidden(channel, asked.token) {
        return answer;
    }
    let broadcast = match playlists::broadcast(asked, channel).await {
        Ok(broadcast) => broadcast,
        Err(answer) => return answer,
    };
    let upstream = &asked.server.upstream;
    let started = asked.patiently(asked.server.config.starting(), async {
        let track = upstream.track(&broadcast, name).await?;
        let begun = begun(&track).await;
        Ok::<_, Unavailable>((track, begun))
    });
    let (track, (msn, init, bytes)) = match started.await {
        Ok(Ok(started)) => started,
        Ok(Err(why)) => return playlists::unavailable(asked, why),
        Err(impatience) => return impatience.answer(BRIEF),
    };
    // Nothing follows what has ended: there is no stream of it.
    if track.window.look(common::live::Log::is_ended) {
        return response::error(StatusCode::NOT_FOUND, BRIEF);
    }
    let content_type = match name.kind {
        Kind::Video => VIDEO,
        Kind::Audio => AUDIO,
    };
    if asked.head {
        return answered(Body::unknown(), content_type);
    }
    let Some(place) = Place::take(asked.server) else {
        asked.server.metrics.rejected(Rejected::Streams);
        return response::error(StatusCode::SERVICE_UNAVAILABLE, NO_STORE);
    };
    let endless = Endless {
        init,
        bytes,
        told: false,
        max_behind_bytes: asked.server.config.max_behind_bytes,
        metrics: asked.server.metrics.clone(),
        viewer: Counted::new(asked, channel),
        _following: upstream.following(&broadcast, name),
        _place: place,
    };
    // A publisher that returns does so within the grace window, which the edge
    // does not know; nothing is lost by waiting as long as for one that starts.
    let longest = asked.server.config.starting();
    let body = Body::live(Follow::endless(track, msn, longest, endless));
    answered(body, content_type)
}

fn answered(body: Body, content_type: HeaderValue) -> Answer {
    let mut answer = response::answer(StatusCode::OK, body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, NO_STORE);
    answer
}

/// The newest segment that has media, and its init segment.
async fn begun(track: &TrackWindow) -> (Msn, InitId, Bytes) {
    let mut appended = track.window.appended();
    loop {
        appended.mark_unchanged();
        if let Some((msn, init)) = newest(track)
            && let Some(bytes) = track.init(init)
        {
            return (msn, init, bytes);
        }
        // A window outlives its waiters: a change is all that can come.
        let _ = appended.changed().await;
    }
}

fn newest(track: &TrackWindow) -> Option<(Msn, InitId)> {
    track.window.look(|log| {
        let newest = log.newest().filter(|newest| !newest.chunks.is_empty());
        newest.map(|newest| (newest.head.msn, newest.head.init))
    })
}

impl Endless {
    /// The init segment, the first time.
    pub(super) fn init(&mut self) -> Option<Bytes> {
        let first = !std::mem::replace(&mut self.told, true);
        first.then(|| self.bytes.clone())
    }

    /// What to send for a step; `None`: nothing, go on.
    pub(super) fn next(
        &mut self,
        step: Step,
        track: &TrackWindow,
        cursor: &mut Cursor,
    ) -> Option<Next> {
        match step {
            Step::Record(Record::Open(head)) => {
                let same =
                    head.init == self.init || track.init(head.init) == Some(self.bytes.clone());
                self.init = head.init;
                (!same).then_some(None)
            }
            Step::Record(Record::Chunk(chunk)) => {
                self.viewer.again();
                if track.window.unread_bytes(cursor) <= self.max_behind_bytes {
                    return Some(Some(Ok(chunk.data)));
                }
                self.skip(track, cursor);
                None
            }
            Step::Aborted | Step::Skipped { .. } => {
                self.skip(track, cursor);
                None
            }
            Step::Ended => Some(None),
            Step::Record(Record::Part(_) | Record::End(_)) | Step::Wait => None,
        }
    }

    /// On to the newest segment, if it lies ahead.
    fn skip(&self, track: &TrackWindow, cursor: &mut Cursor) {
        self.metrics.stream_skips.inc();
        if let Some((msn, _)) = newest(track)
            && msn > cursor.msn
        {
            *cursor = Cursor::at(msn);
        }
    }
}

impl Place {
    fn take(server: &Arc<Server>) -> Option<Self> {
        if server.streams.fetch_add(1, Relaxed) >= server.config.max_endless {
            server.streams.fetch_sub(1, Relaxed);
            return None;
        }
        server.metrics.streams.inc();
        Some(Self(server.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
        self.0.metrics.streams.dec();
    }
}

impl Counted {
    fn new(asked: &Asked<'_>, channel: &ChannelName) -> Self {
        Self {
            server: asked.server.clone(),
            viewer: asked.viewer(channel, playlists::page(asked)),
            at: Instant::now(),
        }
    }

    fn again(&mut self) {
        if self.at.elapsed() >= COUNT_AGAIN {
            self.at = Instant::now();
            self.server.viewers.saw_again(&self.viewer);
        }
    }
}
