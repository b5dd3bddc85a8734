//! A subscription to a track: follows the window and writes each record as it
//! appears, one unidirectional stream a segment, oldest first.
//!
//! Invariants: a stream is finished only behind its END; what is not sent is
//! told by DROPPED, in the order of the numbers; only a complete segment past
//! the subscriber's maximum age is dropped.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    LinkServerMetrics, Peer,
    request::Inits,
    start::{self, First},
};
use crate::{
    link::{
        encode::chunk_header,
        message::{Accepted, Code, Index, Message, SegmentStart, Start, Subscribe, Update},
        priority,
        stream::{Reader, StreamError, Writer},
    },
    live::{Broadcast, Chunk, Cursor, Record, SegmentHead, SegmentState, Step, TrackWindow},
    names::{Epoch, Msn},
    quic::Connection,
};

/// A write is cut here so that a segment in memory becomes several turns of the
/// stream and lag is noticed between them.
const BATCH_BYTES: usize = 256 * 1024;

/// Pieces of one write: headers and payloads of a few dozen chunks.
const BATCH_PIECES: usize = 128;

/// Encoded records waiting for one write.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pieces: Vec<Bytes>,
    len_bytes: usize,
}

impl Pieces {
    pub(super) fn push(&mut self, message: &Message) {
        self.piece(message.encode());
    }

    fn piece(&mut self, bytes: Bytes) {
        self.len_bytes += bytes.len();
        self.pieces.push(bytes);
    }

    /// `cursor` stands behind the record.
    pub(super) fn record(&mut self, record: Record, cursor: Cursor) {
        match record {
            Record::Chunk(chunk) => self.chunk(chunk),
            Record::Part(end) => {
                let index = cursor.part().saturating_sub(1);
                self.push(&Message::Part { index, end });
            }
            Record::End(end) => self.push(&Message::End(end)),
            // Its SEGMENT names the subscription, which a record does not know.
            Record::Open(_) => {}
        }
    }

    pub(super) fn chunk(&mut self, chunk: Chunk) {
        self.piece(chunk_header(&chunk));
        self.piece(chunk.data);
    }

    pub(super) fn is_full(&self) -> bool {
        self.len_bytes >= BATCH_BYTES || self.pieces.len() >= BATCH_PIECES
    }

    pub(super) async fn flush(
        &mut self,
        writer: &mut Writer,
        metrics: &LinkServerMetrics,
    ) -> Result<(), StreamError> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        writer.send_all(&mut self.pieces).await?;
        metrics.sent_bytes.inc_by(self.len_bytes as u64);
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.len_bytes = 0;
    }
}

/// See the module's text.
pub(super) struct Follow {
    connection: Connection,
    metrics: LinkServerMetrics,
    subscription: u64,
    start: Start,
    broadcast: Arc<Broadcast>,
    track: Arc<TrackWindow>,
    epoch: Epoch,
    wishes: Update,
    cursor: Cursor,
    inits: Inits,
    /// The segment being sent.
    stream: Option<(Msn, Writer)>,
    pieces: Pieces,
}

/// What ended a wait that a slow child may prolong.
enum Waited<T> {
    Done(T),
    /// The segment is past its age.
    Late,
    /// The child wants no more.
    Unsubscribed,
}

impl Follow {
    pub(super) fn new(
        peer: &Peer,
        subscribe: &Subscribe,
        broadcast: Arc<Broadcast>,
        track: Arc<TrackWindow>,
        epoch: Epoch,
    ) -> Self {
        Self {
            connection: peer.connection.clone(),
            metrics: peer.shared.metrics.clone(),
            subscription: subscribe.subscription,
            start: subscribe.start,
            broadcast,
            track,
            epoch,
            wishes: Update {
                priority: subscribe.priority,
                max_age_ms: subscribe.max_age_ms,
                end: None,
            },
            cursor: Cursor::at(Msn(0)),
            inits: Inits::default(),
            stream: None,
            pieces: Pieces::default(),
        }
    }

    pub(super) async fn run(
        mut self,
        control: &mut Writer,
        reader: &mut Reader,
    ) -> Result<(), StreamError> {
        self.accept(control).await?;
        let mut appended = self.track.window.appended();
        loop {
            appended.mark_unchanged();
            if self
                .wishes
                .end
                .is_some_and(|end| self.cursor.msn >= end && self.stream.is_none())
            {
                return Ok(());
            }
            let step = self.track.window.step(&mut self.cursor);
            let go_on = match step {
                Step::Record(record) => self.record(record, control, reader).await?,
                Step::Wait => {
                    self.flush(control, reader).await? && {
                        tokio::select! {
                            changed = appended.changed() => changed.is_ok(),
                            message = reader.next() => self.heard(message?),
                        }
                    }
                }
                Step::Aborted => {
                    self.pieces.clear();
                    self.cut(Code::OriginLost);
                    let msn = Msn(self.cursor.msn.0.saturating_sub(1));
                    self.dropped(msn, msn, Code::OriginLost, control).await?;
                    true
                }
                Step::Skipped { from, to } => {
                    self.pieces.clear();
                    self.cut(Code::Expired);
                    let last = Msn(to.0.saturating_sub(1));
                    self.dropped(from, last, Code::Expired, control).await?;
                    true
                }
                Step::Ended => {
                    let newest = |log: &crate::live::Log| log.newest().map(|s| s.head.msn);
                    let last = self.track.window.look(newest);
                    control.send(&Message::Ended { last }).await?;
                    false
                }
            };
            if !go_on {
                return Ok(());
            }
        }
    }

    /// OK, the init segments and the index, all as of one moment.
    async fn accept(&mut self, control: &mut Writer) -> Result<(), StreamError> {
        let max_age = self
            .track
            .track
            .timescale
            .from_ms(self.wishes.max_age_ms.into());
        let (first, index, live, live_chunk) = self.track.window.look(|log| {
            let first = start::choose(log, self.start, max_age);
            let index = Index::of(first.msn, log.index(first.msn));
            let live = start::live(log);
            let chunk = log.segment(live).map_or(0, |open| open.chunks.len());
            (first, index, live, u32::try_from(chunk).unwrap_or(u32::MAX))
        });
        let First { msn, chunk } = first;
        self.cursor = Cursor::within(msn, chunk, 0);
        let mut pieces = vec![
            Message::Ok(Accepted {
                broadcast: self.broadcast.id,
                epoch: self.epoch,
                plan: self.broadcast.plan,
                first: msn,
                first_chunk: chunk,
                live,
                live_chunk,
            })
            .encode(),
        ];
        self.inits.fresh(&self.track, &mut pieces);
        pieces.push(Message::Index(index).encode());
        control.send_all(&mut pieces).await
    }

    async fn record(
        &mut self,
        record: Record,
        control: &mut Writer,
        reader: &mut Reader,
    ) -> Result<bool, StreamError> {
        if let Record::Open(head) = record {
            return self.open(head, control, reader).await;
        }
        let last = matches!(record, Record::End(_));
        self.pieces.record(record, self.cursor);
        if (last || self.pieces.is_full()) && !self.flush(control, reader).await? {
            return Ok(false);
        }
        if last && let Some((_, stream)) = self.stream.take() {
            stream.finish();
        }
        Ok(true)
    }

    async fn open(
        &mut self,
        head: SegmentHead,
        control: &mut Writer,
        reader: &mut Reader,
    ) -> Result<bool, StreamError> {
        let mut inits = Vec::new();
        self.inits.fresh(&self.track, &mut inits);
        if !inits.is_empty() {
            control.send_all(&mut inits).await?;
        }
        let first_chunk = self.cursor.chunk();
        let connection = self.connection.clone();
        let stream = match self.wait(head.msn, reader, connection.open_uni()).await? {
            Waited::Done(stream) => stream?,
            Waited::Late => return self.late(head.msn, control).await,
            Waited::Unsubscribed => return Ok(false),
        };
        let name = self.track.track.name;
        let priority = priority::of_track(&self.broadcast, name, self.wishes.priority);
        self.stream = Some((head.msn, Writer::new(stream, priority)));
        self.pieces.push(&Message::Segment(SegmentStart {
            subscription: self.subscription,
            head,
            first_chunk,
        }));
        Ok(true)
    }

    /// Writes what waits; `false` when the child wants no more.
    async fn flush(
        &mut self,
        control: &mut Writer,
        reader: &mut Reader,
    ) -> Result<bool, StreamError> {
        let Some((msn, mut stream)) = self.stream.take() else {
            self.pieces.clear();
            return Ok(true);
        };
        let mut pieces = std::mem::take(&mut self.pieces);
        let metrics = self.metrics.clone();
        let write = pieces.flush(&mut stream, &metrics);
        match self.wait(msn, reader, write).await? {
            Waited::Done(Ok(())) => {
                self.stream = Some((msn, stream));
                Ok(true)
            }
            // The child stopped this segment: the next one may be welcome.
            Waited::Done(Err(StreamError::Ended(_))) => Ok(true),
            Waited::Done(Err(error)) => Err(error),
            Waited::Late => {
                stream.abort(Code::TooFarBehind);
                self.late(msn, control).await
            }
            Waited::Unsubscribed => Ok(false),
        }
    }

    /// Runs `work` to its end, unless segment `msn` gets too old meanwhile or
    /// the child gives up. Whoever cancels a write thereby gives up its stream.
    async fn wait<T>(
        &mut self,
        msn: Msn,
        reader: &mut Reader,
        work: impl Future<Output = T>,
    ) -> Result<Waited<T>, StreamError> {
        tokio::pin!(work);
        let mut appended = self.track.window.appended();
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(Waited::Done(done)),
                () = late(&self.track, &mut appended, msn, self.wishes.max_age_ms) => {
                    return Ok(Waited::Late);
                }
                message = reader.next() => if !self.heard(message?) {
                    return Ok(Waited::Unsubscribed);
                },
            }
        }
    }

    /// Whether the subscription goes on after what the child said.
    fn heard(&mut self, message: Option<Message>) -> bool {
        let Some(Message::Update(update)) = message else {
            return false;
        };
        self.wishes = update;
        if let Some((_, stream)) = &self.stream {
            let name = self.track.track.name;
            stream.set_priority(priority::of_track(&self.broadcast, name, update.priority));
        }
        true
    }

    /// Goes on at the newest segment; all before it from `msn` on is dropped.
    async fn late(&mut self, msn: Msn, control: &mut Writer) -> Result<bool, StreamError> {
        self.pieces.clear();
        let live = self.track.window.look(start::live);
        let live = live.max(msn.next());
        self.cursor = Cursor::at(live);
        let last = Msn(live.0.saturating_sub(1));
        self.dropped(msn, last, Code::TooFarBehind, control).await?;
        Ok(true)
    }

    fn cut(&mut self, code: Code) {
        if let Some((_, stream)) = self.stream.take() {
            stream.abort(code);
        }
    }

    async fn dropped(
        &mut self,
        from: Msn,
        to: Msn,
        code: Code,
        control: &mut Writer,
    ) -> Result<(), StreamError> {
        let count = to.0.saturating_sub(from.0).saturating_add(1);
        self.metrics.dropped_segments.inc_by(count.min(1024));
        control.send(&Message::Dropped { from, to, code }).await
    }
}

/// Resolves once `msn` is complete and older than `max_age_ms`.
async fn late(track: &TrackWindow, appended: &mut watch::Receiver<u64>, msn: Msn, max_age_ms: u32) {
    let max_age = track.track.timescale.from_ms(max_age_ms.into());
    loop {
        let late = track.window.look(|log| match log.segment(msn) {
            Some(segment) => {
                segment.state != SegmentState::Open && start::age(log, segment) > max_age
            }
            None => true,
        });
        if late {
            return;
        }
        if appended.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
