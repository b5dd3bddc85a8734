//! Requests for media: parts, segments and init segments, each behind a path
//! that never names other bytes, and where viewing is signed behind a token.

use std::{
    collections::VecDeque,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use common::{
    live::{Broadcast, PartLookup, SegmentState, TrackWindow},
    names::{ChannelName, Epoch, InitId, Kind, Msn, TrackName},
};
use hyper::{
    StatusCode,
    header::{ACCEPT_RANGES, HeaderValue},
};

use super::{
    body::Body,
    follow::Follow,
    negotiate::{self, Wanted},
    playlists,
    request::Field,
    response::{self, AUDIO, Answer, BRIEF, IMMUTABLE, SharedHead, VIDEO},
    route::Resource,
    service::Asked,
    slices::{Slices, slice},
};
use crate::upstream::{Kept, Unavailable};

/// A path's bytes never change, so one strong tag does for all of them.
const TAG: &[u8] = b"\"0\"";

/// Where the media that a path names is kept.
struct Place {
    broadcast: Arc<Broadcast>,
    track: Arc<TrackWindow>,
    epoch: Epoch,
}

/// `/live/{channel}/{epoch}/{track}/...`
pub(super) async fn resource(
    asked: &Asked<'_>,
    channel: &ChannelName,
    epoch: Epoch,
    name: TrackName,
    resource: Resource,
) -> Answer {
    // A path is no secret: it is made of the moment at which the channel went live,
    // which everybody is told, and of numbers that count on from it.
    if let Some(answer) = asked.forbidden(channel, asked.token) {
        return answer;
    }
    let place = match place(asked, channel, epoch, name).await {
        Ok(place) => place,
        Err(answer) => return answer,
    };
    match resource {
        Resource::Part { msn, part } => place.part(asked, msn, part).await,
        Resource::Segment { msn } => place.segment(asked, msn).await,
        Resource::Init { id } => place.init(asked, id),
    }
}

/// Where this edge keeps the track. A viewer that got its playlist from another
/// edge may be the first to ask this one: then the subscription is made now.
async fn place(
    asked: &Asked<'_>,
    channel: &ChannelName,
    epoch: Epoch,
    name: TrackName,
) -> Result<Place, Answer> {
    let upstream = &asked.server.upstream;
    if let Some((broadcast, track)) = upstream.held(channel, epoch, name)
        && track.window.listing().is_some()
    {
        return Ok(Place {
            broadcast,
            track,
            epoch,
        });
    }
    Box::pin(followed(asked, channel, epoch, name)).await
}

async fn followed(
    asked: &Asked<'_>,
    channel: &ChannelName,
    epoch: Epoch,
    name: TrackName,
) -> Result<Place, Answer> {
    let broadcast = playlists::broadcast(asked, channel).await?;
    let upstream = &asked.server.upstream;
    let track = asked.patiently(
        asked.server.config.starting(),
        upstream.track(&broadcast, name),
    );
    match track.await {
        Ok(Ok(track)) => Ok(Place {
            broadcast,
            track,
            epoch,
        }),
        Ok(Err(why)) => Err(playlists::unavailable(asked, why)),
        Err(impatience) => Err(impatience.answer(BRIEF)),
    }
}

/// Where the bytes of a whole segment are.
enum Whole {
    Here(VecDeque<Bytes>),
    /// Known by index only.
    Upstream,
    /// Being made.
    Open,
    Missing,
}

impl Place {
    /// R6: the hinted part is waited for and then sent whole.
    async fn part(&self, asked: &Asked<'_>, msn: Msn, part: u32) -> Answer {
        let window = &self.track.window;
        let mut found = window.part(self.epoch, msn, part);
        let hinted = found == PartLookup::Hinted;
        if hinted && asked.head {
            let answer = self.found(Body::unknown());
            return response::not_stored(answer);
        }
        if hinted {
            // Boxed, as all that waits is: most requests need not, and a future
            // is moved several times before it is first polled.
            let waited = asked.patiently(self.longest_hold(), self.closed(msn, part));
            found = match Box::pin(waited).await {
                Ok(found) => found,
                Err(impatience) => return impatience.answer(self.hinted_error()),
            };
        }
        match found {
            PartLookup::Ready(bytes) => {
                let since = window.part_since(msn, part);
                self.bytes(asked, Slices::One(bytes), since)
            }
            PartLookup::NotHeld {
                offset_bytes,
                len_bytes,
            } => match Box::pin(self.past(asked, msn)).await {
                Ok((all, since)) => match slice(&all, offset_bytes, len_bytes) {
                    Some(bytes) => self.bytes(asked, Slices::One(bytes), Some(since)),
                    None => response::error(StatusCode::NOT_FOUND, BRIEF),
                },
                Err(answer) => answer,
            },
            // Hinted, waited for, and not coming: the wait was no mistake.
            _ if hinted => response::error(StatusCode::NOT_FOUND, self.hinted_error()),
            PartLookup::Hinted | PartLookup::Unknown => {
                response::error(StatusCode::NOT_FOUND, BRIEF)
            }
        }
    }

    /// What a hinted part comes to.
    async fn closed(&self, msn: Msn, part: u32) -> PartLookup {
        let window = &self.track.window;
        let mut versions = window.versions();
        loop {
            let found = window.part(self.epoch, msn, part);
            if found != PartLookup::Hinted {
                return found;
            }
            tokio::select! {
                changed = versions.changed() => if changed.is_err() {
                    return found;
                },
                () = self.broadcast.superseded() => return PartLookup::Unknown,
            }
        }
    }

    async fn segment(&self, asked: &Asked<'_>, msn: Msn) -> Answer {
        match self.whole(msn) {
            Whole::Here(slices) => {
                let since = self.track.window.segment_since(msn);
                self.bytes(asked, Slices::from(slices), since)
            }
            Whole::Upstream => match Box::pin(self.past(asked, msn)).await {
                Ok((all, since)) => self.bytes(asked, Slices::One(all), Some(since)),
                Err(answer) => answer,
            },
            Whole::Open if asked.head => self.found(Body::unknown()),
            Whole::Open => {
                let follow = Follow::segment(self.track.clone(), msn, self.longest_hold());
                self.found(Body::live(follow))
            }
            Whole::Missing => response::error(StatusCode::NOT_FOUND, BRIEF),
        }
    }

    fn whole(&self, msn: Msn) -> Whole {
        self.track.window.look(|log| {
            let segment = log
                .segment(msn)
                .filter(|segment| segment.head.epoch == self.epoch && !segment.head.flags.gap);
            let Some(segment) = segment else {
                return Whole::Missing;
            };
            match segment.state {
                SegmentState::Aborted => Whole::Missing,
                SegmentState::Open if segment.chunks.is_empty() => Whole::Missing,
                SegmentState::Open => Whole::Open,
                SegmentState::Complete(_) if !segment.is_held() => Whole::Upstream,
                SegmentState::Complete(_) => {
                    let parts = segment.parts.iter().filter_map(|part| part.data.clone());
                    let slices: VecDeque<_> = parts.filter(|data| !data.is_empty()).collect();
                    if slices.is_empty() {
                        Whole::Missing
                    } else {
                        Whole::Here(slices)
                    }
                }
            }
        })
    }

    /// Each broadcast counts its init segments from 0, and the one that is kept here
    /// may be another than the epoch's: an edge that has yet to hear of the next one
    /// offers the last. So the epoch has to be known as this broadcast's.
    fn init(&self, asked: &Asked<'_>, id: InitId) -> Answer {
        let window = &self.track.window;
        let its = window.look(|log| log.begins_with(self.epoch, id)) || self.is_announced(asked);
        match self.track.init(id).filter(|_| its) {
            Some(bytes) => self.bytes(asked, Slices::One(bytes), None),
            None => response::error(StatusCode::NOT_FOUND, BRIEF),
        }
    }

    /// Whether the origin says that the broadcast is in this epoch now, of which the
    /// first segment may be on its way here and in another edge's playlist.
    fn is_announced(&self, asked: &Asked<'_>) -> bool {
        let known = asked.server.upstream.directory();
        known.get(&self.broadcast.channel).is_some_and(|known| {
            let said = &known.announcement;
            (said.broadcast, said.epoch) == (self.broadcast.id, self.epoch)
        })
    }

    async fn past(&self, asked: &Asked<'_>, msn: Msn) -> Result<Kept, Answer> {
        let upstream = &asked.server.upstream;
        let fetch = upstream.past_segment(&self.broadcast, self.track.track.name, msn);
        match asked.patiently(self.longest_hold(), fetch).await {
            Ok(Ok(kept)) => Ok(kept),
            Ok(Err(Unavailable::Unknown | Unavailable::Gone)) => {
                Err(response::error(StatusCode::NOT_FOUND, BRIEF))
            }
            Ok(Err(why)) => Err(playlists::unavailable(asked, why)),
            Err(impatience) => Err(impatience.answer(BRIEF)),
        }
    }

    fn longest_hold(&self) -> Duration {
        Duration::from_millis(self.broadcast.plan.parts_listed_ms().into())
    }

    fn hinted_error(&self) -> HeaderValue {
        response::max_age(self.broadcast.plan.target_duration_s)
    }

    fn found(&self, body: Body) -> Answer {
        let content_type = match self.track.track.kind() {
            Kind::Video => VIDEO,
            Kind::Audio => AUDIO,
        };
        response::found(
            body,
            content_type,
            IMMUTABLE,
            HeaderValue::from_static("\"0\""),
        )
    }

    /// All of `slices`, or the range of them that is asked for, held here since
    /// then.
    fn bytes(&self, asked: &Asked<'_>, slices: Slices, since: Option<Instant>) -> Answer {
        let whole = |body| {
            let head = match self.track.track.kind() {
                Kind::Video => &*VIDEO_HEAD,
                Kind::Audio => &*AUDIO_HEAD,
            };
            response::with_head(head.clone(), since.map(|since| asked.age(since)), body)
        };
        if negotiate::not_modified(asked.fields, TAG) {
            return response::unchanged(whole(Body::empty()));
        }
        // Ranges are defined for GET alone.
        if asked.head || asked.fields.first(Field::Range).is_none() {
            return whole(Body::slices(slices));
        }
        let len = slices.remaining() as u64;
        match negotiate::range(asked.fields, len, TAG) {
            Wanted::Whole => whole(Body::slices(slices)),
            Wanted::Unsatisfiable => response::unsatisfiable(len),
            Wanted::Range(first, end) => {
                let mut answer = whole(Body::slices(slices.cut(first, end)));
                response::partial(&mut answer, first, end, len);
                answer
            }
        }
    }
}

static VIDEO_HEAD: LazyLock<Arc<SharedHead>> = LazyLock::new(|| media_head(VIDEO));
static AUDIO_HEAD: LazyLock<Arc<SharedHead>> = LazyLock::new(|| media_head(AUDIO));

fn media_head(content_type: HeaderValue) -> Arc<SharedHead> {
    let mut head = response::head(content_type, IMMUTABLE, HeaderValue::from_static("\"0\""));
    head.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    SharedHead::new(head)
}
