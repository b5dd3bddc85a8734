//! Segments that a window knows by index only: fetched whole, once however
//! many ask, checked against their END, kept within a budget of bytes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use common::{
    link::{Code, Fetch, Message, StreamError},
    live::{Broadcast, Chunk, PartEnd, Record, SegmentEnd, SegmentHead},
    media::Ticks,
    names::{BroadcastId, ChannelName, Msn, TrackName},
};
use moka::future::Cache;
use tokio::time::timeout;

use super::{Shared, Unavailable, session::Session};

/// A segment is seconds of one track; 20 Mbit/s for twelve of them is 30 MB.
const MAX_SEGMENT_BYTES: usize = 128 * 1024 * 1024;

/// Chunks and parts of a segment, as many as a window takes.
const MAX_PIECES: usize = 1 << 17;

const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// A refusal is remembered so that a crowd asking for it costs one request a second.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Refusals remembered.
const MAX_REFUSALS: u64 = 16_384;

/// What an entry costs beside its bytes.
const OVERHEAD_BYTES: u32 = 256;

type Key = (ChannelName, BroadcastId, TrackName, Msn);

/// What each chunk and part of an entry costs beside that.
const OVERHEAD_BYTES_EACH: usize = 96;

/// A segment's bytes, and since when they are kept here.
pub type Kept = (Bytes, Instant);

/// A segment as it was fetched: for viewers its bytes, for children its records.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) head: SegmentHead,
    bytes: Bytes,
    pieces: Vec<Piece>,
    end: SegmentEnd,
    since: Instant,
}

#[derive(Debug)]
enum Piece {
    Chunk { duration: Ticks, len: usize },
    Part(PartEnd),
}

impl Stored {
    /// Chunks and parts in their order, then the end.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let mut at = 0;
        let pieces = self.pieces.iter().map(move |piece| match piece {
            Piece::Chunk { duration, len } => {
                // The lengths are those that the bytes were gathered from.
                let data = self.bytes.slice(at..at + len);
                at += len;
                Record::Chunk(Chunk {
                    duration: *duration,
                    data,
                })
            }
            Piece::Part(end) => Record::Part(end.clone()),
        });
        pieces.chain([Record::End(self.end)])
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Past {
    segments: Cache<Key, Arc<Stored>>,
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
        let weigh = |_: &Key, stored: &Arc<Stored>| {
            let pieces = stored.pieces.len().saturating_mul(OVERHEAD_BYTES_EACH);
            u32::try_from(stored.bytes.len().saturating_add(pieces))
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
        let stored = self.stored(broadcast, track, msn).await?;
        Ok((stored.bytes.clone(), stored.since))
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
            task.await
                .unwrap_or(Err(Unavailable::Disconnected))
                .map(Arc::new)
        });
        match fetched.await {
            Ok(stored) => Ok(stored),
            Err(refusal) => {
                self.past.refusals.insert(key, *refusal).await;
                Err(*refusal)
            }
        }
    }

    /// Asks one parent after the other: what one does not hold a twin may.
    async fn fetch_counted(&self, fetch: Fetch) -> Result<Stored, Unavailable> {
        let mut failed = Unavailable::Disconnected;
        for session in self.paths(&fetch.channel, fetch.broadcast) {
            match self.fetch_from(&session, fetch.clone()).await {
                Ok(stored) => return Ok(stored),
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    async fn fetch_from(&self, session: &Session, fetch: Fetch) -> Result<Stored, Unavailable> {
        let outcome = timeout(FETCH_DEADLINE, fetched(session, fetch))
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

async fn fetched(session: &Session, fetch: Fetch) -> Result<Stored, FetchError> {
    let msn = fetch.msn;
    let (writer, mut reader) = session.request(&Message::Fetch(fetch)).await?;
    writer.finish();
    let head = match reader.expect().await? {
        Message::Segment(start) if start.head.msn == msn && start.first_chunk == 0 => start.head,
        Message::Error(refusal) => return Err(FetchError::Refused(refusal.code)),
        _ => return Err(FetchError::Mismatch),
    };
    let mut all = BytesMut::new();
    let mut pieces = Vec::new();
    let mut chunks = 0u32;
    loop {
        match reader.expect().await? {
            Message::Chunk(chunk)
                if pieces.len() < MAX_PIECES
                    && all.len() + chunk.data.len() <= MAX_SEGMENT_BYTES =>
            {
                all.extend_from_slice(&chunk.data);
                pieces.push(Piece::Chunk {
                    duration: chunk.duration,
                    len: chunk.data.len(),
                });
                chunks = chunks.saturating_add(1);
            }
            Message::Part { end, .. } if pieces.len() < MAX_PIECES => pieces.push(Piece::Part(end)),
            Message::End(end) => {
                let sum = SegmentEnd {
                    chunks,
                    bytes: all.len() as u64,
                    crc32c: crc32c::crc32c(&all),
                };
                return if end == sum {
                    Ok(Stored {
                        head,
                        bytes: all.freeze(),
                        pieces,
                        end,
                        since: Instant::now(),
                    })
                } else {
                    Err(FetchError::Mismatch)
                };
            }
            Message::Error(refusal) => return Err(FetchError::Refused(refusal.code)),
            _ => return Err(FetchError::Mismatch),
        }
    }
}
