//! The answer to a FETCH from a node's archive or cache: the segment's bytes as
//! they lie there, in as many CHUNKs as they are read in.

use super::{
    LinkServerMetrics,
    demand::Fetched,
    request::{Failure, refused},
    track::Pieces,
};
use crate::{
    link::{
        message::{Code, Message, SegmentStart},
        stream::Writer,
    },
    live::{ArchiveReader, Archived, Chunk, SegmentEnd, SegmentHead},
    media::Ticks,
};

/// `sum` is what the segment's writer said of its bytes: what a disk made of
/// them does not pass for the segment.
pub(super) async fn send(
    kept: &Archived,
    head: SegmentHead,
    sum: SegmentEnd,
    writer: &mut Writer,
    metrics: &LinkServerMetrics,
) -> Result<(), Failure> {
    let Some(reader) = kept.read().await.map_err(unreadable)? else {
        return Err(refused(Code::Expired, "not held any more"));
    };
    write(reader, head, sum, writer, metrics).await
}

/// What this node's own parent had.
pub(super) async fn pass_on(
    found: Fetched,
    writer: &mut Writer,
    metrics: &LinkServerMetrics,
) -> Result<(), Failure> {
    let reader = ArchiveReader::of(found.bytes);
    write(reader, found.head, found.sum, writer, metrics).await
}

async fn write(
    mut reader: ArchiveReader,
    head: SegmentHead,
    sum: SegmentEnd,
    writer: &mut Writer,
    metrics: &LinkServerMetrics,
) -> Result<(), Failure> {
    let mut pieces = Pieces::default();
    pieces.push(&Message::Segment(SegmentStart {
        subscription: 0,
        head,
        first_chunk: 0,
    }));
    let mut chunks = 0u32;
    while let Some(data) = reader.next().await.map_err(unreadable)? {
        chunks = chunks.saturating_add(1);
        pieces.chunk(Chunk {
            duration: Ticks(0),
            data,
        });
        if pieces.is_full() {
            pieces.flush(writer, metrics).await?;
        }
    }
    pieces.push(&Message::End(SegmentEnd { chunks, ..sum }));
    Ok(pieces.flush(writer, metrics).await?)
}

fn unreadable(error: std::io::Error) -> Failure {
    tracing::warn!(%error, "a segment of the past can't be read");
    refused(Code::Expired, "not readable any more")
}
