//! Segments that a window knows by index only: fetched whole, once however
//! many ask, checked against their END, kept within a budget of bytes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use common::{
    link::{Code, Fetch, Message, StreamError},
    live::{Broadcast, SegmentEnd},
    names::{BroadcastId, ChannelName, Msn, TrackName},
};
use moka::future::Cache;
use tokio::time::timeout;

use super::{Shared, Unavailable};

/// A segment is seconds of one track; 20 Mbit/s for twelve of them is 30 MB.
const MAX_SEGMENT_BYTES: usize = 128 * 1024 * 1024;

const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// A refusal is remembered so that a crowd asking for it costs one request a second.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Refusals remembered.
const MAX_REFUSALS: u64 = 16_384;

/// What an entry costs beside its bytes.
const OVERHEAD_BYTES: u32 = 256;

type Key = (ChannelName, BroadcastId, TrackName, Msn);

/// A segment, and since when it is kept here.
pub type Kept = (Bytes, Instant);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Past {
    segments: Cache<Key, Kept>,
    refusals: Cache<Key, Unavailable>,
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
    pub(super) fn new(budget_bytes: u64) -> Self {
        let weigh = |_: &Key, (bytes, _): &Kept| {
            u32::try_from(bytes.len())
                .unwrap_or(u32::MAX)
                .saturating_add(OVERHEAD_BYTES)
        };
        Self {
            segments: Cache::builder()
                .max_capacity(budget_bytes)
                .weigher(weigh)
                .build(),
            refusals: Cache::builder()
                .max_capacity(MAX_REFUSALS)
                .time_to_live(REFUSED_FOR)
                .build(),
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
        let key = (broadcast.channel.clone(), broadcast.id, track, msn);
        if let Some(refusal) = self.past.refusals.get(&key).await {
            return Err(refusal);
        }
        let fetch = Fetch {
            channel: broadcast.channel.clone(),
            broadcast: broadcast.id,
            track,
            msn,
            first_chunk: 0,
        };
        // A task of its own: that its first asker went away is no reason for
        // the others to ask again.
        let shared = self.clone();
        let fetched = self.past.segments.try_get_with(key.clone(), async move {
            let task = tokio::spawn(async move { shared.fetch_counted(fetch).await });
            let fetched = task.await.unwrap_or(Err(Unavailable::Disconnected));
            Ok((fetched?, Instant::now()))
        });
        match fetched.await {
            Ok(kept) => Ok(kept),
            Err(refusal) => {
                self.past.refusals.insert(key, *refusal).await;
                Err(*refusal)
            }
        }
    }

    async fn fetch_counted(&self, fetch: Fetch) -> Result<Bytes, Unavailable> {
        let Some(session) = self.session.borrow().clone() else {
            return Err(Unavailable::Disconnected);
        };
        let outcome = timeout(FETCH_DEADLINE, fetched(&session, fetch))
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
                FetchError::Refused(_) | FetchError::Mismatch => Unavailable::Gone,
                FetchError::Late | FetchError::Stream(_) => Unavailable::Disconnected,
            }
        })
    }
}

/// The bytes of a complete segment that the window itself holds.
fn held(broadcast: &Broadcast, track: TrackName, msn: Msn) -> Option<Kept> {
    let window = &broadcast.track(track)?.window;
    let parts = window.look(|log| {
        let segment = log.segment(msn).filter(|segment| segment.is_complete())?;
        let data = segment.parts.iter().map(|part| part.data.clone());
        data.collect::<Option<Vec<Bytes>>>()
    })?;
    let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        all.extend_from_slice(&part);
    }
    let since = window.segment_since(msn).unwrap_or_else(Instant::now);
    Some((all.freeze(), since))
}

async fn fetched(session: &super::session::Session, fetch: Fetch) -> Result<Bytes, FetchError> {
    let msn = fetch.msn;
    let (writer, mut reader) = session.request(&Message::Fetch(fetch)).await?;
    writer.finish();
    match reader.expect().await? {
        Message::Segment(start) if start.head.msn == msn && start.first_chunk == 0 => {}
        Message::Error(refusal) => return Err(FetchError::Refused(refusal.code)),
        _ => return Err(FetchError::Mismatch),
    }
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
                return if end == sum {
                    Ok(all.freeze())
                } else {
                    Err(FetchError::Mismatch)
                };
            }
            Message::Error(refusal) => return Err(FetchError::Refused(refusal.code)),
            _ => return Err(FetchError::Mismatch),
        }
    }
}
