//! What both roles share: handshake, chunk streams, protocol control.
//!
//! Comes in: the peer's bytes; goes out: messages for the session above, and
//! bytes for the peer. Control messages are acted on here: chunk size, abort,
//! acknowledgements, pings. Owned by one session.
//! Spec: RTMP 1.0, 5.4 and 7.1.7.

use bytes::{Bytes, BytesMut};

use super::chunk::{ChunkReader, ChunkStream, ChunkWriter, Message, ReadLimits};
use super::error::{ErrorKind, RtmpError};
use super::handshake::{Handshake, Role};
use super::limits::{MAX_OUTPUT_BYTES, MIN_ACK_EVERY_BYTES, WINDOW_BYTES};
use super::message::{self, Control};
use super::suspended::Suspended;

/// Chunk stream of protocol control messages (5.4).
const CONTROL_CSID: u32 = 2;

#[derive(Debug)]
pub(super) enum Incoming {
    HandshakeDone,
    Message(Message),
}

#[derive(Debug)]
pub(super) struct Wire {
    role: Role,
    handshake: Option<Handshake>,
    reader: ChunkReader,
    writer: ChunkWriter,
    out: BytesMut,
    ack_every_bytes: u64,
    acked_bytes: u64,
    aggregate: Option<(Message, Option<u32>)>,
}

impl Wire {
    pub(super) fn new(role: Role, seed: u64, limits: ReadLimits) -> Self {
        let mut out = BytesMut::new();
        Self {
            role,
            handshake: Some(Handshake::new(role, seed, &mut out)),
            reader: ChunkReader::new(limits),
            writer: ChunkWriter::new(),
            out,
            ack_every_bytes: u64::from(WINDOW_BYTES / 2),
            acked_bytes: 0,
            aggregate: None,
        }
    }

    /// One that goes on where another was suspended. Its peer has our chunk size
    /// already, `chunk_size_out`.
    pub(super) fn resumed(
        suspended: &Suspended,
        limits: ReadLimits,
        chunk_size_out: u32,
    ) -> Option<Self> {
        let streams = suspended.resumed_streams()?;
        let mut writer = ChunkWriter::new();
        writer.set_chunk_size(chunk_size_out);
        Some(Self {
            role: Role::Server,
            handshake: None,
            reader: ChunkReader::resumed(limits, suspended.chunk_size, streams, suspended.offset),
            writer,
            out: BytesMut::new(),
            ack_every_bytes: suspended.ack_every_bytes,
            acked_bytes: suspended.acked_bytes,
            aggregate: None,
        })
    }

    /// The reader's place and the acknowledgements' (how often, and up to where),
    /// where nothing is half done.
    pub(super) fn standing(&self) -> Option<(usize, &[ChunkStream], u64, u64)> {
        if self.handshake.is_some() || self.aggregate.is_some() {
            return None;
        }
        let (chunk_size, streams) = self.reader.standing()?;
        Some((chunk_size, streams, self.ack_every_bytes, self.acked_bytes))
    }

    pub(super) fn in_handshake(&self) -> bool {
        self.handshake.is_some()
    }

    pub(super) fn offset(&self) -> u64 {
        self.reader.offset()
    }

    pub(super) fn partial_bytes(&self) -> usize {
        self.reader.partial_bytes()
    }

    pub(super) fn set_limits(&mut self, limits: ReadLimits) {
        self.reader.set_limits(limits);
    }

    pub(super) fn error(&self, kind: ErrorKind) -> RtmpError {
        RtmpError::new(self.offset(), kind)
    }

    pub(super) fn take_output(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    pub(super) fn send(&mut self, csid: u32, message: &Message) {
        self.writer.write(csid, message, &mut self.out);
    }

    pub(super) fn send_control(&mut self, message: &Message) {
        self.send(CONTROL_CSID, message);
    }

    pub(super) fn set_chunk_size(&mut self, size: u32) {
        self.send_control(&message::set_chunk_size(size));
        self.writer.set_chunk_size(size);
    }

    /// Consumes `input` up to the next thing the session must act on.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, RtmpError> {
        if let Some(handshake) = &mut self.handshake {
            let before = input.len();
            let result = handshake.advance(input, &mut self.out);
            self.reader.skip(before - input.len());
            return match result {
                Err(kind) => Err(self.error(kind)),
                Ok(false) => Ok(None),
                Ok(true) => {
                    self.handshake = None;
                    Ok(Some(Incoming::HandshakeDone))
                }
            };
        }
        loop {
            // A client's output is its own media, which its owner drains as it likes.
            if self.role == Role::Server && self.out.len() > MAX_OUTPUT_BYTES {
                return Err(self.error(ErrorKind::OutputOverflow(self.out.len())));
            }
            let next = match self.next_of_aggregate()? {
                Some(message) => Some(message),
                None => self.reader.next_message(input)?,
            };
            self.acknowledge();
            let Some(message) = next else {
                return Ok(None);
            };
            if message.type_id == message::AGGREGATE {
                self.aggregate = Some((message, None));
                continue;
            }
            let control = message::parse_control(&message).map_err(|kind| self.error(kind))?;
            match control {
                None => return Ok(Some(Incoming::Message(message))),
                Some(control) => self.act(control).map_err(|kind| self.error(kind))?,
            }
        }
    }

    fn next_of_aggregate(&mut self) -> Result<Option<Message>, RtmpError> {
        let Some((aggregate, base_ms)) = &mut self.aggregate else {
            return Ok(None);
        };
        let split = message::split_aggregate(aggregate, base_ms);
        let split = split.map_err(|kind| RtmpError::new(self.reader.offset(), kind))?;
        if split.is_none() {
            self.aggregate = None;
        }
        Ok(split)
    }

    fn act(&mut self, control: Control) -> Result<(), ErrorKind> {
        match control {
            Control::SetChunkSize(size) => self.reader.set_chunk_size(size)?,
            Control::Abort(csid) => self.reader.abort(csid),
            // Zero is sent by peers that want no acknowledgements; those that
            // follow do no harm.
            Control::WindowAckSize(0) | Control::Other => {}
            Control::WindowAckSize(window) => {
                self.ack_every_bytes = u64::from((window / 2).max(MIN_ACK_EVERY_BYTES));
            }
            Control::Ping(timestamp) => {
                self.send_control(&message::ping_response(timestamp));
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        let received = self.reader.offset();
        if received - self.acked_bytes >= self.ack_every_bytes {
            self.acked_bytes = received;
            self.send_control(&message::acknowledgement(received));
        }
    }
}
