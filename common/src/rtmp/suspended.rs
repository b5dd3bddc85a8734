//! A publisher's session between two processes: what the next one must know to
//! go on reading in the middle of the connection.
//!
//! Comes in: a [`ServerSession`](super::ServerSession) that publishes, just
//! behind a message; goes out: the same session elsewhere. Our own answers need
//! no memory: the first on each chunk stream carries its whole header. What is
//! read back was written by this program, but from a file: it is held to the
//! bounds that hold for a stranger.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::chunk::ChunkStream;
use super::limits::{
    MAX_CHUNK_SIZE, MAX_CHUNK_STREAMS, MAX_MESSAGE_BYTES, MAX_MESSAGE_STREAMS, MAX_NAME_BYTES,
    PARTIAL_BUDGET_BYTES,
};

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    pub(super) app: String,
    pub(super) streams: u32,
    pub(super) fc_publish: bool,
    /// The message stream that is published on.
    pub(super) publishing: u32,
    pub(super) ack_every_bytes: u64,
    pub(super) acked_bytes: u64,
    pub(super) offset: u64,
    pub(super) chunk_size: usize,
    pub(super) chunk_streams: Vec<SuspendedStream>,
}

/// A chunk stream's last header, and its unfinished message in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SuspendedStream {
    id: u32,
    timestamp_ms: u32,
    delta_ms: u32,
    extended: bool,
    length: usize,
    type_id: u8,
    stream_id: u32,
    partial: Option<String>,
}

impl SuspendedStream {
    pub(super) fn of(stream: &ChunkStream) -> Self {
        Self {
            id: stream.id,
            timestamp_ms: stream.timestamp_ms,
            delta_ms: stream.delta_ms,
            extended: stream.extended,
            length: stream.length,
            type_id: stream.type_id,
            stream_id: stream.stream_id,
            partial: stream.partial.as_ref().map(|bytes| BASE64.encode(bytes)),
        }
    }

    fn resumed(&self) -> Option<ChunkStream> {
        let partial = match &self.partial {
            Some(text) => Some(BytesMut::from(BASE64.decode(text).ok()?.as_slice())),
            None => None,
        };
        let gathered = partial.as_ref().map_or(0, BytesMut::len);
        let sound =
            self.length <= MAX_MESSAGE_BYTES && (partial.is_none() || gathered < self.length);
        sound.then_some(ChunkStream {
            id: self.id,
            timestamp_ms: self.timestamp_ms,
            delta_ms: self.delta_ms,
            extended: self.extended,
            length: self.length,
            type_id: self.type_id,
            stream_id: self.stream_id,
            partial,
        })
    }
}

impl Suspended {
    /// The chunk streams as they were; `None` if no session was ever like that.
    pub(super) fn resumed_streams(&self) -> Option<Vec<ChunkStream>> {
        let sound = self.app.len() <= MAX_NAME_BYTES
            && self.streams <= MAX_MESSAGE_STREAMS
            && (1..=MAX_CHUNK_SIZE as usize).contains(&self.chunk_size)
            && self.acked_bytes <= self.offset
            && self.ack_every_bytes > 0
            && self.chunk_streams.len() <= MAX_CHUNK_STREAMS;
        let streams: Vec<_> = self
            .chunk_streams
            .iter()
            .map(SuspendedStream::resumed)
            .collect::<Option<_>>()?;
        let held: usize = streams
            .iter()
            .filter_map(|stream| stream.partial.as_ref())
            .map(BytesMut::len)
            .sum();
        (sound && held <= PARTIAL_BUDGET_BYTES).then_some(streams)
    }
}

#[cfg(test)]
#[path = "suspended_tests.rs"]
mod tests;
