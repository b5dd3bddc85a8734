//! RTMP chunk streams: bytes to messages and back.
//!
//! Comes in: the peer's bytes after the handshake, cut anywhere; goes out: whole
//! [`Message`]s, in the order their last chunk arrived. Each chunk stream id has
//! its own unfinished message, so interleaving is free; a message's memory grows
//! with the bytes received, never with the length declared. The session that
//! owns the reader sets its limits and applies Set Chunk Size and Abort.
//! Spec: RTMP 1.0, 5.3.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::{ErrorKind, RtmpError};
use super::limits::{DEFAULT_CHUNK_SIZE, MAX_CHUNK_SIZE, MAX_CHUNK_STREAMS};

/// A timestamp field of this value means that an extended one follows.
const EXTENDED: u32 = 0x00ff_ffff;
/// Basic header, message header and extended timestamp at their longest.
const MAX_HEADER: usize = 3 + 11 + 4;
/// The least that an unfinished message reserves once its first bytes are here.
const FIRST_RESERVE: usize = 512;

/// One message off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// RTMP message type id.
    pub type_id: u8,
    /// Message stream id; 0 for the connection itself.
    pub stream_id: u32,
    /// Milliseconds, wrapping at 2^32, of no particular origin.
    pub timestamp_ms: u32,
    /// The body.
    pub payload: Bytes,
}

#[derive(Debug)]
pub(super) struct ChunkStream {
    pub(super) id: u32,
    pub(super) timestamp_ms: u32,
    pub(super) delta_ms: u32,
    pub(super) extended: bool,
    pub(super) length: usize,
    pub(super) type_id: u8,
    pub(super) stream_id: u32,
    /// The message being gathered.
    pub(super) partial: Option<BytesMut>,
}

/// How much one connection may make us hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadLimits {
    pub(super) message_bytes: usize,
    pub(super) partial_budget_bytes: usize,
}

#[derive(Debug)]
enum State {
    Header,
    /// Index into the table and the bytes of this chunk still to come.
    Payload(usize, usize),
}

/// Gathers a peer's chunks into messages.
#[derive(Debug)]
pub(super) struct ChunkReader {
    limits: ReadLimits,
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    state: State,
    header: [u8; MAX_HEADER],
    header_filled: usize,
    partial_bytes: usize,
    offset: u64,
}

/// The two lowest bits of a basic header's first byte that are not the id.
fn format_of(first: u8) -> u8 {
    first >> 6
}

fn basic_header_bytes(first: u8) -> usize {
    match first & 0x3f {
        0 => 2,
        1 => 3,
        _ => 1,
    }
}

fn message_header_bytes(format: u8) -> usize {
    match format {
        0 => 11,
        1 => 7,
        2 => 3,
        _ => 0,
    }
}

fn be24(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(3)
        .fold(0, |sum, b| sum << 8 | u32::from(*b))
}

impl ChunkReader {
    pub(super) fn new(limits: ReadLimits) -> Self {
        Self {
            limits,
            chunk_size: DEFAULT_CHUNK_SIZE as usize,
            streams: Vec::new(),
            state: State::Header,
            header: [0; MAX_HEADER],
            header_filled: 0,
            partial_bytes: 0,
            offset: 0,
        }
    }

    /// One that goes on where another stood between two chunks.
    pub(super) fn resumed(
        limits: ReadLimits,
        chunk_size: usize,
        streams: Vec<ChunkStream>,
        offset: u64,
    ) -> Self {
        let partial = streams.iter().filter_map(|stream| stream.partial.as_ref());
        let partial_bytes = partial.map(BytesMut::len).sum();
        Self {
            chunk_size,
            streams,
            partial_bytes,
            offset,
            ..Self::new(limits)
        }
    }

    /// What [`Self::resumed`] needs, between two chunks alone.
    pub(super) fn standing(&self) -> Option<(usize, &[ChunkStream])> {
        let between = matches!(self.state, State::Header) && self.header_filled == 0;
        between.then_some((self.chunk_size, &self.streams))
    }

    pub(super) fn set_limits(&mut self, limits: ReadLimits) {
        self.limits = limits;
    }

    /// Counts bytes that were read by the handshake.
    pub(super) fn skip(&mut self, count: usize) {
        self.offset += count as u64;
    }

    /// Bytes of the connection read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes held in unfinished messages.
    pub(super) fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    /// Applies the peer's Set Chunk Size (5.4.1: bit 31 must be zero, and the
    /// size at least 1).
    pub(super) fn set_chunk_size(&mut self, size: u32) -> Result<(), ErrorKind> {
        if size == 0 || size > MAX_CHUNK_SIZE {
            return Err(ErrorKind::ChunkSize(size));
        }
        self.chunk_size = size as usize;
        Ok(())
    }

    /// Applies Abort: forgets the unfinished message of a chunk stream.
    pub(super) fn abort(&mut self, id: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id)
            && let Some(partial) = stream.partial.take()
        {
            self.partial_bytes -= partial.len();
        }
    }

    /// Consumes `input` up to the end of the next message, or all of it.
    pub(super) fn next_message(&mut self, input: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        loop {
            let done = match self.state {
                State::Header => {
                    if !self.fill_header(input) {
                        return Ok(None);
                    }
                    let begun = self.begin_chunk();
                    begun.map_err(|kind| RtmpError::new(self.offset, kind))?
                }
                State::Payload(index, left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    self.gather(index, left, input)
                }
            };
            if let Some(message) = done {
                return Ok(Some(message));
            }
        }
    }

    /// True once `header` holds a whole chunk header.
    fn fill_header(&mut self, input: &mut &[u8]) -> bool {
        loop {
            let missing = self.header_bytes().saturating_sub(self.header_filled);
            if missing == 0 {
                return true;
            }
            if input.is_empty() {
                return false;
            }
            let count = missing.min(input.len());
            let (now, rest) = input.split_at(count);
            self.header[self.header_filled..self.header_filled + count].copy_from_slice(now);
            self.header_filled += count;
            self.offset += count as u64;
            *input = rest;
        }
    }

    /// How long the header is, as far as the bytes so far can tell.
    fn header_bytes(&self) -> usize {
        if self.header_filled == 0 {
            return 1;
        }
        let format = format_of(self.header[0]);
        let basic = basic_header_bytes(self.header[0]);
        let plain = basic + message_header_bytes(format);
        if self.header_filled < plain {
            return plain;
        }
        let extended = if format == 3 {
            self.find(self.chunk_stream_id())
                .is_some_and(|index| self.streams[index].extended)
        } else {
            be24(&self.header[basic..]) == EXTENDED
        };
        plain + if extended { 4 } else { 0 }
    }

    fn chunk_stream_id(&self) -> u32 {
        let [first, second, third] = [self.header[0], self.header[1], self.header[2]];
        match first & 0x3f {
            0 => 64 + u32::from(second),
            1 => 64 + u32::from(second) + 256 * u32::from(third),
            id => u32::from(id),
        }
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.id == id)
    }

    /// Acts on a whole chunk header. An empty message is finished by it.
    fn begin_chunk(&mut self) -> Result<Option<Message>, ErrorKind> {
        let format = format_of(self.header[0]);
        let id = self.chunk_stream_id();
        let basic = basic_header_bytes(self.header[0]);
        let fields = basic..basic + message_header_bytes(format);
        let extended_at = fields.end;
        let header = self.header;
        let fields = &header[fields];
        let extended = u32::from_be_bytes([
            header[extended_at],
            header[extended_at + 1],
            header[extended_at + 2],
            header[extended_at + 3],
        ]);
        self.header_filled = 0;

        let index = match self.find(id) {
            Some(index) => index,
            // librtmp opens chunk streams with type 1, which names the length.
            None if format >= 2 => return Err(ErrorKind::NothingToInherit(id)),
            None if self.streams.len() >= MAX_CHUNK_STREAMS => {
                return Err(ErrorKind::TooManyChunkStreams(MAX_CHUNK_STREAMS));
            }
            None => {
                self.streams.push(ChunkStream::new(id));
                self.streams.len() - 1
            }
        };
        let stream = &mut self.streams[index];
        let continues = stream.partial.is_some();
        if continues && format != 3 {
            return Err(ErrorKind::HeaderInsideMessage(id));
        }
        if !continues {
            stream.apply_header(format, fields, extended);
            if stream.length > self.limits.message_bytes {
                return Err(ErrorKind::MessageTooLong {
                    declared_bytes: stream.length,
                    limit_bytes: self.limits.message_bytes,
                });
            }
            if stream.length == 0 {
                return Ok(Some(stream.message(Bytes::new())));
            }
            stream.partial = Some(BytesMut::new());
        }
        let received = stream.partial.as_ref().map_or(0, BytesMut::len);
        let left = (stream.length - received).min(self.chunk_size);
        self.state = State::Payload(index, left);
        self.check_budget()?;
        Ok(None)
    }

    fn check_budget(&self) -> Result<(), ErrorKind> {
        if self.partial_bytes > self.limits.partial_budget_bytes {
            return Err(ErrorKind::PartialBudget(self.limits.partial_budget_bytes));
        }
        Ok(())
    }

    fn gather(&mut self, index: usize, left: usize, input: &mut &[u8]) -> Option<Message> {
        let count = left.min(input.len());
        let (now, rest) = input.split_at(count);
        *input = rest;
        self.offset += count as u64;
        self.partial_bytes += count;
        let stream = &mut self.streams[index];
        let length = stream.length;
        let partial = stream.partial.get_or_insert_default();
        if partial.capacity() - partial.len() < count {
            // Doubling what is here, but never past the declared end.
            let more = partial.len().max(FIRST_RESERVE).max(count);
            partial.reserve(more.min(length - partial.len()));
        }
        partial.put_slice(now);
        let complete = partial.len() == length;
        self.state = if complete || count == left {
            State::Header
        } else {
            State::Payload(index, left - count)
        };
        if !complete {
            return None;
        }
        let payload = stream.partial.take()?.freeze();
        self.partial_bytes -= payload.len();
        Some(stream.message(payload))
    }
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self {
            id,
            timestamp_ms: 0,
            delta_ms: 0,
            extended: false,
            length: 0,
            type_id: 0,
            stream_id: 0,
            partial: None,
        }
    }

    /// Takes over the header of a new message.
    fn apply_header(&mut self, format: u8, fields: &[u8], extended: u32) {
        if format < 3 {
            let field = be24(fields);
            self.extended = field == EXTENDED;
            self.delta_ms = if self.extended { extended } else { field };
        } else if self.extended {
            self.delta_ms = extended;
        }
        if let [_, _, _, length @ .., type_id] = fields.get(..7).unwrap_or_default() {
            self.length = be24(length) as usize;
            self.type_id = *type_id;
        }
        if let Some(stream_id) = fields.get(7..11) {
            // The one little-endian field of the format (5.3.1.2.1).
            self.stream_id = stream_id
                .iter()
                .rev()
                .fold(0, |sum, b| sum << 8 | u32::from(*b));
        }
        // 5.3.1.2.4: a type 3 chunk that begins a message repeats the delta, which
        // after a type 0 chunk is that chunk's timestamp.
        self.timestamp_ms = match format {
            0 => self.delta_ms,
            _ => self.timestamp_ms.wrapping_add(self.delta_ms),
        };
    }

    fn message(&self, payload: Bytes) -> Message {
        Message {
            type_id: self.type_id,
            stream_id: self.stream_id,
            timestamp_ms: self.timestamp_ms,
            payload,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    id: u32,
    timestamp_ms: u32,
    /// The timestamp field last sent, which a type 3 header repeats.
    field_ms: u32,
    length: usize,
    type_id: u8,
    stream_id: u32,
}

/// Cuts messages into chunks, with the shortest header that fits.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    chunk_size: usize,
    sent: Vec<Sent>,
}

impl ChunkWriter {
    pub(super) fn new() -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE as usize,
            sent: Vec::new(),
        }
    }

    /// For messages after the Set Chunk Size that the caller has sent.
    pub(super) fn set_chunk_size(&mut self, size: u32) {
        self.chunk_size = size.clamp(1, MAX_CHUNK_SIZE) as usize;
    }

    /// Appends a message. A payload past 2^24 - 1 bytes is our own bug.
    pub(super) fn write(&mut self, id: u32, message: &Message, out: &mut BytesMut) {
        debug_assert!((2..=65_599).contains(&id));
        let length = message.payload.len();
        debug_assert!(length <= EXTENDED as usize);
        let chunks = length.div_ceil(self.chunk_size);
        out.reserve(length + MAX_HEADER + chunks.saturating_sub(1) * 7);

        let previous = self.sent.iter().position(|sent| sent.id == id);
        let (format, field_ms) = match previous.map(|index| self.sent[index]) {
            Some(last)
                if last.stream_id == message.stream_id
                    && last.timestamp_ms <= message.timestamp_ms =>
            {
                let delta_ms = message.timestamp_ms - last.timestamp_ms;
                let same_body = last.length == length && last.type_id == message.type_id;
                match (same_body, last.field_ms == delta_ms) {
                    (true, true) => (3, delta_ms),
                    (true, false) => (2, delta_ms),
                    (false, _) => (1, delta_ms),
                }
            }
            _ => (0, message.timestamp_ms),
        };
        put_basic_header(format, id, out);
        if format < 3 {
            put_be24(field_ms.min(EXTENDED), out);
        }
        if format < 2 {
            put_be24(u32::try_from(length).unwrap_or(EXTENDED), out);
            out.put_u8(message.type_id);
        }
        if format == 0 {
            out.put_u32_le(message.stream_id);
        }
        for (index, chunk) in message.payload.chunks(self.chunk_size).enumerate() {
            if index > 0 {
                put_basic_header(3, id, out);
            }
            if field_ms >= EXTENDED {
                out.put_u32(field_ms);
            }
            out.put_slice(chunk);
        }
        if length == 0 && field_ms >= EXTENDED {
            out.put_u32(field_ms);
        }
        let now = Sent {
            id,
            timestamp_ms: message.timestamp_ms,
            field_ms,
            length,
            type_id: message.type_id,
            stream_id: message.stream_id,
        };
        match previous {
            Some(index) => self.sent[index] = now,
            None => self.sent.push(now),
        }
    }
}

fn put_basic_header(format: u8, id: u32, out: &mut BytesMut) {
    let bits = format << 6;
    let [_, _, high, low] = id.saturating_sub(64).to_be_bytes();
    match id {
        ..64 => out.put_u8(bits | u8::try_from(id).unwrap_or(2)),
        64..320 => out.put_slice(&[bits, low]),
        _ => out.put_slice(&[bits | 1, low, high]),
    }
}

fn put_be24(value: u32, out: &mut BytesMut) {
    let [_, a, b, c] = value.to_be_bytes();
    out.put_slice(&[a, b, c]);
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
