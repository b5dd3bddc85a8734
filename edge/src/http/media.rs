//! Requests for media: parts, segments and init segments, each behind a path
//! that never names other bytes.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{
    live::{Broadcast, PartLookup, SegmentState, TrackWindow},
    names::{ChannelName, Epoch, InitId, Kind, Msn, TrackName},
};
use hyper::{
    StatusCode,
    header::{AGE, HeaderValue, RANGE},
};

use super::{
    body::Body,
    follow::Follow,
    negotiate::{self, Wanted},
    playlists,
    response::{self, AUDIO, Answer, BRIEF, IMMUTABLE, VIDEO},
    route::Resource,
    service::Asked,
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
    let broadcast = playlists::broadcast(asked, channel).await?;
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
            let waited = asked.patiently(self.longest_hold(), async {
                let mut versions = window.versions();
                loop {
                    let found = window.part(self.epoch, msn, part);
                    if found != PartLookup::Hinted || versions.changed().await.is_err() {
                        return found;
                    }
                }
            });
            found = match waited.await {
                Ok(found) => found,
                Err(impatience) => return impatience.answer(self.hinted_error()),
            };
        }
        match found {
            PartLookup::Ready(bytes) => {
                let answer = self.bytes(asked, VecDeque::from([bytes]));
                aged(answer, window.part_since(msn, part))
            }
            PartLookup::NotHeld {
                offset_bytes,
                len_bytes,
            } => match self.past(asked, msn).await {
                Ok((all, since)) => match slice(&all, offset_bytes, len_bytes) {
                    Some(bytes) => {
                        let answer = self.bytes(asked, VecDeque::from([bytes]));
                        aged(answer, Some(since))
                    }
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

    async fn segment(&self, asked: &Asked<'_>, msn: Msn) -> Answer {
        match self.whole(msn) {
            Whole::Here(frames) => {
                let since = self.track.window.segment_since(msn);
                aged(self.bytes(asked, frames), since)
            }
            Whole::Upstream => match self.past(asked, msn).await {
                Ok((all, since)) => aged(self.bytes(asked, VecDeque::from([all])), Some(since)),
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
                    let frames: VecDeque<_> = parts.filter(|data| !data.is_empty()).collect();
                    if frames.is_empty() {
                        Whole::Missing
                    } else {
                        Whole::Here(frames)
                    }
                }
            }
        })
    }

    fn init(&self, asked: &Asked<'_>, id: InitId) -> Answer {
        match self.track.init(id) {
            Some(bytes) => self.bytes(asked, VecDeque::from([bytes])),
            None => response::error(StatusCode::NOT_FOUND, BRIEF),
        }
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

    /// All of `frames`, or the range of them that is asked for.
    fn bytes(&self, asked: &Asked<'_>, frames: VecDeque<Bytes>) -> Answer {
        if negotiate::not_modified(asked.headers, TAG) {
            return response::unchanged(self.found(Body::empty()));
        }
        let body = |frames: VecDeque<Bytes>| match frames.len() {
            1 => Body::whole(frames.into_iter().next().unwrap_or_default()),
            _ => Body::frames(frames),
        };
        // Ranges are defined for GET alone.
        if asked.head || !asked.headers.contains_key(RANGE) {
            let mut answer = self.found(body(frames));
            response::ranged(&mut answer);
            return answer;
        }
        let len = frames.iter().map(|frame| frame.len() as u64).sum();
        let mut answer = match negotiate::range(asked.headers, len, TAG) {
            Wanted::Whole => self.found(body(frames)),
            Wanted::Unsatisfiable => return response::unsatisfiable(len),
            Wanted::Range(first, end) => {
                let mut answer = self.found(body(cut(frames, first, end)));
                response::partial(&mut answer, first, end, len);
                answer
            }
        };
        response::ranged(&mut answer);
        answer
    }
}

/// T2: how long this edge has had what it sends.
fn aged(mut answer: Answer, since: Option<Instant>) -> Answer {
    // An error says nothing of the resource's age.
    let status = answer.status();
    if let Some(since) = since
        && (status.is_success() || status == StatusCode::NOT_MODIFIED)
    {
        let age = HeaderValue::from(since.elapsed().as_secs());
        answer.headers_mut().insert(AGE, age);
    }
    answer
}

/// The bytes from `first` to before `end`.
fn cut(frames: VecDeque<Bytes>, first: u64, end: u64) -> VecDeque<Bytes> {
    let mut at = 0;
    let within = frames.into_iter().filter_map(|frame| {
        let len = frame.len() as u64;
        let (from, to) = (first.clamp(at, at + len) - at, end.clamp(at, at + len) - at);
        at += len;
        slice(&frame, from, to - from).filter(|bytes| !bytes.is_empty())
    });
    within.collect()
}

/// `None` where the bytes do not reach: their lengths came from somebody else.
fn slice(bytes: &Bytes, offset: u64, len: u64) -> Option<Bytes> {
    let from = usize::try_from(offset).ok()?;
    let to = from.checked_add(usize::try_from(len).ok()?)?;
    (to <= bytes.len()).then(|| bytes.slice(from..to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t5_ranges_cross_parts() {
        let frames: VecDeque<_> = ["abc", "", "defg", "h"].map(Bytes::from).into();
        let text = "abcdefgh";
        for first in 0..text.len() {
            for end in first + 1..=text.len() {
                let got = cut(frames.clone(), first as u64, end as u64);
                let got: Vec<u8> = got.iter().flatten().copied().collect();
                assert_eq!(got, text.as_bytes()[first..end]);
            }
        }
    }

    #[test]
    fn lengths_of_others_are_not_trusted() {
        let bytes = Bytes::from("abc");
        assert_eq!(slice(&bytes, 1, 2).unwrap(), "bc");
        for (offset, len) in [(1, 3), (4, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(slice(&bytes, offset, len), None);
        }
    }

    #[test]
    fn t2_age_is_in_whole_seconds_and_not_for_errors() {
        let since = Instant::now().checked_sub(Duration::from_millis(61_500));
        let age = |status, since| {
            let answer = aged(response::answer(status, Body::empty()), since);
            let age = answer.headers().get(AGE).cloned();
            age.map(|age| age.to_str().unwrap().to_owned())
        };
        for status in [
            StatusCode::OK,
            StatusCode::PARTIAL_CONTENT,
            StatusCode::NOT_MODIFIED,
        ] {
            assert_eq!(age(status, since).as_deref(), Some("61"));
        }
        assert_eq!(age(StatusCode::NOT_FOUND, since), None);
        assert_eq!(age(StatusCode::OK, None), None);
    }
}
