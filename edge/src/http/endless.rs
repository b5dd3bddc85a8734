//! `/live/{channel}/{track}/stream.mp4`: one track from its newest segment on,
//! for as long as the viewer stays. It is the path of least delay: each chunk
//! is sent when it comes, and nothing is asked for twice.
//!
//! It starts with an init segment and a sync sample. A viewer that falls behind
//! by more than a bound of bytes goes on with the newest segment. Decoders take
//! one init segment a file, so where another one begins (a publisher that
//! returned with another picture size) the file ends, and its viewer asks again.
//! Under a token it ends with the token, behind a whole chunk: nothing that was
//! sent is half of something.

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
    /// Its token's end.
    until: Option<Instant>,
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
    let until = match asked.admitted(channel, asked.token) {
        Ok(until) => until,
        Err(status) => return response::error(status, NO_STORE),
    };
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
        until,
        viewer: Counted::new(asked, channel),
        _following: upstream.following(&broadcast, name),
        _place: place,
    };
    // A publisher that returns finds its viewers.
    let longest = upstream.kept_for(channel);
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
    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it is over because its token is; counted once.
    pub(super) fn expires(&mut self) -> bool {
        let expires = self.until.is_some_and(|until| until <= Instant::now());
        if expires {
            self.until = None;
            self.metrics.streams_expired.inc();
        }
        expires
    }

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

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use common::live::Directory;
    use prometheus::Registry;

    use super::*;
    use crate::{
        fixture::{Studio, V, audio, plan, video},
        http::tests::rig,
        upstream::Upstream,
    };

    const LEFT: Duration = Duration::from_secs(600);

    /// A stream of a broadcast with one segment open, under a token that has so long
    /// to live.
    fn stream(studio: &Studio, left: Duration) -> (Follow, HttpMetrics) {
        let directory = Arc::new(Directory::default());
        studio.announce(&directory);
        let metrics = HttpMetrics::register(&Registry::new());
        let upstream = Arc::new(Upstream::local(directory));
        let server = Server::new(
            rig::config(&[]),
            upstream,
            None,
            None,
            None,
            metrics.clone(),
        );
        let track = studio.track(V).clone();
        let channel = &studio.broadcast.channel;
        let endless = Endless {
            init: InitId(0),
            bytes: track.init(InitId(0)).unwrap(),
            told: false,
            max_behind_bytes: 1 << 20,
            metrics: metrics.clone(),
            until: Instant::now().checked_add(left),
            viewer: Counted {
                viewer: server
                    .viewers
                    .saw(channel, [127, 0, 0, 1].into(), b"", None),
                server: server.clone(),
                at: Instant::now(),
            },
            _following: None,
            _place: Place::take(&server).unwrap(),
        };
        let longest = 2 * LEFT;
        let follow = Follow::endless(track, Msn(100), longest, endless);
        (follow, metrics)
    }

    fn read(follow: &mut Follow) -> Poll<Option<Bytes>> {
        let mut cx = Context::from_waker(Waker::noop());
        let next = follow.poll_next(&mut cx);
        next.map(|next| next.map(|bytes| bytes.expect("it is not cut off")))
    }

    /// Reads all that there is; whether the end was among it.
    fn all(follow: &mut Follow) -> (usize, bool) {
        let mut chunks = 0;
        loop {
            match read(follow) {
                Poll::Ready(Some(_)) => chunks += 1,
                Poll::Ready(None) => return (chunks, true),
                Poll::Pending => return (chunks, false),
            }
        }
    }

    fn studio() -> Studio {
        let mut studio = Studio::new(plan(4), vec![audio(), video()]);
        studio.open(V, 100);
        studio.chunk(V, "one");
        studio
    }

    /// Between two chunks: what came before it was sent wholly, what comes then is
    /// not, and the body ends as one that is complete.
    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_token() {
        let studio = studio();
        let (mut follow, metrics) = stream(&studio, LEFT);
        assert_eq!(all(&mut follow), (2, false), "init and chunk");
        tokio::time::advance(LEFT - Duration::from_millis(1)).await;
        studio.chunk(V, "two");
        assert_eq!(all(&mut follow), (1, false));
        assert_eq!(metrics.streams_expired.get(), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        studio.chunk(V, "three");
        assert_eq!(all(&mut follow), (0, true));
        assert_eq!(metrics.streams_expired.get(), 1);
        drop(follow);
        assert_eq!(metrics.streams.get(), 0);
    }

    /// Also while its publisher is away: nobody has to send for it to end.
    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_ends_with_its_token() {
        let studio = studio();
        let (mut follow, metrics) = stream(&studio, LEFT);
        assert_eq!(all(&mut follow), (2, false));
        let began = Instant::now();
        let end = std::future::poll_fn(|cx| follow.poll_next(cx));
        assert!(end.await.is_none());
        assert_eq!(began.elapsed(), LEFT);
        assert_eq!(metrics.streams_expired.get(), 1);
    }

    /// A token may live for longer than a clock can count.
    #[tokio::test(start_paused = true)]
    async fn a_stream_without_an_end_goes_on() {
        let studio = studio();
        let (mut follow, metrics) = stream(&studio, Duration::MAX);
        assert_eq!(all(&mut follow), (2, false));
        tokio::time::advance(LEFT).await;
        studio.chunk(V, "two");
        assert_eq!(all(&mut follow), (1, false));
        assert_eq!(metrics.streams_expired.get(), 0);
    }
}
