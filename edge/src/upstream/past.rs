//! Segments that a window does not hold: those that it let go, moved here, and
//! those that it knows by index only, fetched whole, once however many ask
//! ([`super::wanted`]), and checked against their END and the index. Kept within a
//! budget of bytes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use common::{
    link::{Code, Fetch, Fetched, Message, StreamError},
    live::{Broadcast, Place, Segment, SegmentEnd, SegmentState, TrackWindow},
    names::{Msn, TrackName},
};
use moka::{Expiry, future::Cache, policy::EvictionPolicy};
use tokio::time::timeout;

use super::{
    Shared, Unavailable,
    session::Session,
    wanted::{self, Errand, Key, Wanted},
};

/// A segment is seconds of one track; 20 Mbit/s for twelve of them is 30 MB.
const MAX_SEGMENT_BYTES: usize = 128 * 1024 * 1024;

/// For the bytes to come, once it was their turn to be asked for.
const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// A refusal is remembered so that a crowd asking for it costs one request a second.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Refusals remembered.
const MAX_REFUSALS: u64 = 16_384;

/// What an entry costs beside its bytes.
const OVERHEAD_BYTES: u32 = 256;

/// A segment's bytes, and since when they are kept here.
pub type Kept = (Bytes, Instant);

/// A segment of the past: its bytes for viewers, all of it for children.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) fetched: Fetched,
    since: Instant,
    kept_for: Duration,
}

/// How long a segment of a broadcast may be asked for after it has left the window:
/// as long as it can be listed, and what bytes outlive their listing by.
fn kept_for(broadcast: &Broadcast) -> Duration {
    let plan = &broadcast.plan;
    let ms = u64::from(plan.window_ms) + u64::from(plan.parts_listed_ms());
    Duration::from_millis(ms)
}

/// What no playlist lists any more makes room before the budget says so.
struct Unlisted;

impl Expiry<Key, Arc<Stored>> for Unlisted {
    fn expire_after_create(&self, _: &Key, stored: &Arc<Stored>, _: Instant) -> Option<Duration> {
        Some(stored.kept_for)
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Past {
    segments: Cache<Key, Arc<Stored>>,
    refusals: Cache<Key, Unavailable>,
    wanted: Arc<Wanted>,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("refused: {0}")]
    Refused(Code),
    #[error("not the segment that was asked for")]
    Mismatch,
    #[error("no answer in time")]
    Late,
}

impl Past {
    pub(super) fn bytes(&self) -> u64 {
        self.segments.weighted_size()
    }

    pub(super) fn new(budget_bytes: u64) -> Self {
        let weigh = |_: &Key, stored: &Arc<Stored>| {
            u32::try_from(stored.fetched.bytes.len())
                .unwrap_or(u32::MAX)
                .saturating_add(OVERHEAD_BYTES)
        };
        Self {
            segments: Cache::builder()
                .max_capacity(budget_bytes)
                .weigher(weigh)
                .expire_after(Unlisted)
                // The newest is what viewers go back to. To keep what was asked for
                // often would be to turn it away.
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            refusals: Cache::builder()
                .max_capacity(MAX_REFUSALS)
                .time_to_live(REFUSED_FOR)
                .build(),
            wanted: Arc::default(),
        }
    }
}

impl Shared {
    pub(super) async fn past(
        self: &Arc<Self>,
        broadcast: &Arc<Broadcast>,
        track: TrackName,
        msn: Msn,
    ) -> Result<Kept, Unavailable> {
        if let Some(kept) = held(broadcast, track, msn) {
            return Ok(kept);
        }
        let stored = self.stored(broadcast, track, msn).await?;
        Ok((stored.fetched.bytes.clone(), stored.since))
    }

    /// From the cache or a parent, which is asked once however many want it.
    pub(super) async fn stored(
        self: &Arc<Self>,
        broadcast: &Arc<Broadcast>,
        track: TrackName,
        msn: Msn,
    ) -> Result<Arc<Stored>, Unavailable> {
        let key = (broadcast.channel.clone(), broadcast.id, track, msn);
        if let Some(refusal) = self.past.refusals.get(&key).await {
            return Err(refusal);
        }
        if let Some(stored) = self.past.segments.get(&key).await {
            return Ok(stored);
        }
        let mut outcome = match self.past.wanted.place(key) {
            wanted::Place::Joined(outcome) => outcome,
            wanted::Place::First(outcome, errand) => {
                let told = told(broadcast, track, msn);
                let kept_for = kept_for(broadcast);
                tokio::spawn(self.clone().run_errand(errand, told, kept_for));
                outcome
            }
            wanted::Place::None => {
                let crowded = self.metrics.fetches.with_label_values(&["crowded"]);
                crowded.inc();
                return Err(Unavailable::Full);
            }
        };
        let found = outcome.wait_for(Option::is_some).await;
        // Its task ends without a word only where it is cut off.
        let found = found.ok().and_then(|found| found.clone());
        found.unwrap_or(Err(Unavailable::Disconnected))
    }

    async fn run_errand(
        self: Arc<Self>,
        errand: Errand,
        told: Option<SegmentEnd>,
        kept_for: Duration,
    ) {
        // It may have come between its asker's look into the cache and its place.
        if let Some(stored) = self.past.segments.get(&errand.key).await {
            return errand.done(Ok(stored));
        }
        let Some(found) = self.fetch_counted(&errand, told).await else {
            return;
        };
        let since = Instant::now();
        let stored = |fetched| {
            Arc::new(Stored {
                fetched,
                since,
                kept_for,
            })
        };
        let (key, found) = (errand.key.clone(), found.map(stored));
        match &found {
            Ok(stored) => {
                self.past.segments.insert(key, stored.clone()).await;
                self.tell_cache().await;
            }
            Err(refusal) => self.past.refusals.insert(key, *refusal).await,
        }
        errand.done(found);
    }

    /// Moves what is older than `age_ms` from the window to the cache. At no moment
    /// is it in neither.
    pub(super) async fn keep_past(&self, broadcast: &Broadcast, track: &TrackWindow, age_ms: u32) {
        let (window, kept_for) = (&track.window, kept_for(broadcast));
        for aged in window.aged(age_ms) {
            let since = window.segment_since(aged.msn).unwrap_or_else(Instant::now);
            let (channel, name) = (broadcast.channel.clone(), track.track.name);
            let key = (channel, broadcast.id, name, aged.msn);
            let found = window.look(|log| {
                let segment = log.segment(aged.msn)?;
                Some((segment.head, segment.sum()))
            });
            let Some((head, sum)) = found else { continue };
            let bytes = joined(&aged.parts);
            let fetched = Fetched { head, bytes, sum };
            let stored = Arc::new(Stored {
                fetched,
                since,
                kept_for,
            });
            self.past.segments.insert(key, stored).await;
            window.let_go(aged.msn, Place::Elsewhere);
        }
        self.tell_cache().await;
    }

    /// Has the cache evict what is too much, and tells what it holds.
    async fn tell_cache(&self) {
        self.past.segments.run_pending_tasks().await;
        self.metrics.tell_cache(self.past.bytes());
    }

    /// Asks one parent after the other: what one does not hold a twin may. It is gone
    /// only where all say so. `None` where nobody waits for it any more.
    async fn fetch_counted(
        &self,
        errand: &Errand,
        told: Option<SegmentEnd>,
    ) -> Option<Result<Fetched, Unavailable>> {
        let (channel, broadcast, track, msn) = errand.key.clone();
        let paths = self.paths(&channel, broadcast);
        let fetch = Fetch {
            channel,
            broadcast,
            track,
            msn,
            first_chunk: 0,
        };
        let mut failed = None;
        for session in paths {
            let _turn = errand.turn(&session).await?;
            match self.fetch_from(&session, fetch.clone(), told).await {
                Ok(stored) => return Some(Ok(stored)),
                Err(why) if failed != Some(Unavailable::Disconnected) => failed = Some(why),
                Err(_) => {}
            }
        }
        Some(Err(failed.unwrap_or(Unavailable::Disconnected)))
    }

    async fn fetch_from(
        &self,
        session: &Session,
        fetch: Fetch,
        told: Option<SegmentEnd>,
    ) -> Result<Fetched, Unavailable> {
        let outcome = timeout(FETCH_DEADLINE, fetched(session, fetch, told))
            .await
            .unwrap_or(Err(FetchError::Late));
        let label = match &outcome {
            Ok(_) => "ok",
            Err(FetchError::Refused(_)) => "refused",
            Err(FetchError::Mismatch) => "mismatch",
            Err(FetchError::Late) => "late",
            Err(FetchError::Stream(_)) => "cut",
        };
        self.metrics.fetches.with_label_values(&[label]).inc();
        outcome.map_err(|error| {
            tracing::debug!(%error, "segment of the past not fetched");
            match error {
                // It does not say that there is no such segment.
                FetchError::Refused(Code::Overloaded | Code::OriginLost | Code::Internal)
                | FetchError::Late
                | FetchError::Stream(_) => Unavailable::Disconnected,
                FetchError::Refused(_) | FetchError::Mismatch => Unavailable::Gone,
            }
        })
    }
}

/// The bytes of a complete segment that the window itself holds.
fn held(broadcast: &Broadcast, track: TrackName, msn: Msn) -> Option<Kept> {
    let window = &broadcast.track(track)?.window;
    let parts = window.look(|log| {
        let whole = |segment: &&Segment| segment.is_complete() && segment.is_held();
        let segment = log.segment(msn).filter(whole)?;
        let data = segment.parts.iter().map(|part| part.data.clone());
        data.collect::<Option<Vec<Bytes>>>()
    })?;
    let since = window.segment_since(msn).unwrap_or_else(Instant::now);
    Some((joined(&parts), since))
}

fn joined(parts: &[Bytes]) -> Bytes {
    let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        all.extend_from_slice(part);
    }
    all.freeze()
}

/// What the window was told of a complete segment's bytes.
fn told(broadcast: &Broadcast, track: TrackName, msn: Msn) -> Option<SegmentEnd> {
    let window = &broadcast.track(track)?.window;
    window.look(|log| match log.segment(msn)?.state {
        SegmentState::Complete(end) => Some(end),
        SegmentState::Open | SegmentState::Aborted => None,
    })
}

/// `told` has to agree with what comes, except for the chunks: a parent's
/// archive cuts them anew.
async fn fetched(
    session: &Session,
    fetch: Fetch,
    told: Option<SegmentEnd>,
) -> Result<Fetched, FetchError> {
    let msn = fetch.msn;
    let (writer, mut reader) = session.request(&Message::Fetch(fetch)).await?;
    writer.finish();
    let head = match reader.expect().await? {
        Message::Segment(start) if start.head.msn == msn && start.first_chunk == 0 => start.head,
        Message::Error(refusal) => return Err(FetchError::Refused(refusal.code)),
        _ => return Err(FetchError::Mismatch),
    };
    let mut all = BytesMut::new();
    let mut chunks = 0u32;
    loop {
        match reader.expect().await? {
            Message::Chunk(chunk) if all.len() + chunk.data.len() <= MAX_SEGMENT_BYTES => {
                all.extend_from_slice(&chunk.data);
                chunks = chunks.saturating_add(1);
            }
            Message::Part { .. } => {}
            Message::End(end) => {
                let sum = SegmentEnd {
                    chunks,
                    bytes: all.len() as u64,
                    crc32c: crc32c::crc32c(&all),
                };
                let as_told =
                    |told: SegmentEnd| (told.bytes, told.crc32c) == (sum.bytes, sum.crc32c);
                if end != sum || !told.is_none_or(as_told) {
                    return Err(FetchError::Mismatch);
                }
                let bytes = all.freeze();
                return Ok(Fetched { head, bytes, sum });
            }
            Message::Error(refusal) => return Err(FetchError::Refused(refusal.code)),
            _ => return Err(FetchError::Mismatch),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::{
        live::{SegmentFlags, SegmentHead, UnixMs},
        media::Ticks,
        names::{BroadcastId, ChannelName, Epoch, InitId},
    };

    use super::*;

    #[tokio::test]
    async fn what_no_playlist_lists_any_more_leaves_the_cache() {
        let past = Past::new(1 << 20);
        let bytes = Bytes::from_static(&[7; 1_000]);
        let head = SegmentHead {
            epoch: Epoch(7),
            msn: Msn(1),
            init: InitId(0),
            dts: Ticks(0),
            program_time: UnixMs(0),
            discontinuity_sequence: 0,
            flags: SegmentFlags::default(),
        };
        let sum = SegmentEnd {
            chunks: 1,
            bytes: 1_000,
            crc32c: crc32c::crc32c(&bytes),
        };
        for (msn, kept_for) in [(1, Duration::ZERO), (2, Duration::from_secs(3_600))] {
            let bytes = bytes.clone();
            let stored = Arc::new(Stored {
                fetched: Fetched { head, bytes, sum },
                since: Instant::now(),
                kept_for,
            });
            let channel = ChannelName::parse("demo").unwrap();
            let key = (channel, BroadcastId(7), TrackName::video(0), Msn(msn));
            past.segments.insert(key.clone(), stored).await;
            let kept = past.segments.get(&key).await.is_some();
            assert_eq!(kept, !kept_for.is_zero(), "{msn}");
        }
    }
}
