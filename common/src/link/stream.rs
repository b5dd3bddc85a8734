//! Messages over one QUIC stream: a [`Reader`] that may be cancelled at any
//! await, and a [`Writer`] that never leaves half a message behind unnoticed.
//!
//! Invariant: a stream is finished only by [`Writer::finish`]. A writer that is
//! dropped, or whose write was cancelled half-way, resets its stream, since a
//! library that finishes a dropped stream makes a cut-off segment look whole.

use bytes::Bytes;

use super::{
    frame::{Decoder, Frame},
    message::{Code, Message},
    wire::WireError,
};
use crate::quic::{Connection, ConnectionError, ReadError, RecvStream, SendStream, WriteError};

/// What is taken out of QUIC's reassembly at a time; a slice, not a copy.
const READ_BYTES: usize = 64 * 1024;

/// Why a stream yields no more messages.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the peer ended the stream: {0}")]
    Ended(Code),
    #[error(transparent)]
    Lost(#[from] ConnectionError),
    #[error("the stream was closed here")]
    Closed,
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Ended(Code::from_number(code.into_inner())),
            ReadError::ConnectionLost(error) => Self::Lost(error),
            _ => Self::Closed,
        }
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Ended(Code::from_number(code.into_inner())),
            WriteError::ConnectionLost(error) => Self::Lost(error),
            _ => Self::Closed,
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Reader {
    stream: RecvStream,
    decoder: Decoder,
    held: Bytes,
}

impl Reader {
    #[must_use]
    pub fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            decoder: Decoder::default(),
            held: Bytes::new(),
        }
    }

    /// The next message; `None` when the peer finished between two. Cancel-safe.
    ///
    /// # Errors
    /// [`StreamError`]; nothing can be read after it.
    pub async fn next(&mut self) -> Result<Option<Message>, StreamError> {
        match self.frame().await? {
            Some(frame) => Ok(Some(Message::decode(frame)?)),
            None => Ok(None),
        }
    }

    /// The next message as it lies on the wire, for who goes on behind one that makes no
    /// sense; `None` when the peer finished between two. Cancel-safe.
    ///
    /// # Errors
    /// [`StreamError`]; nothing can be read after it.
    pub async fn frame(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            if let Some(frame) = self.decoder.next(&mut self.held)? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(READ_BYTES, true).await? {
                Some(chunk) => self.held = chunk.bytes,
                None if self.decoder.at_boundary() => return Ok(None),
                None => return Err(WireError::Cut.into()),
            }
        }
    }

    /// The next message where there must be one.
    ///
    /// # Errors
    /// As [`Self::next`], and when the peer finished.
    pub async fn expect(&mut self) -> Result<Message, StreamError> {
        self.next().await?.ok_or(StreamError::Wire(WireError::Cut))
    }

    /// Tells the peer why nothing more is read.
    pub fn stop(&mut self, code: Code) {
        // An error means that the stream is over, which is as good.
        let _ = self.stream.stop(u32::from(code.number()).into());
    }
}

/// The sending half. See the module's text.
#[derive(Debug)]
pub struct Writer {
    stream: SendStream,
    open: bool,
    /// A write is under way; found set by the next one, it was cancelled.
    writing: bool,
}

impl Writer {
    #[must_use]
    pub fn new(stream: SendStream, priority: i32) -> Self {
        // Fails only where the stream is over already; the write tells.
        let _ = stream.set_priority(priority);
        Self {
            stream,
            open: true,
            writing: false,
        }
    }

    pub fn set_priority(&self, priority: i32) {
        let _ = self.stream.set_priority(priority);
    }

    /// # Errors
    /// [`StreamError`] when the peer or the link ended the stream.
    pub async fn send(&mut self, message: &Message) -> Result<(), StreamError> {
        self.send_all(&mut [message.encode()]).await
    }

    /// Writes all pieces; QUIC keeps references, no copies. A cancelled call
    /// leaves the stream good for nothing but [`Self::abort`].
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_all(&mut self, pieces: &mut [Bytes]) -> Result<(), StreamError> {
        if std::mem::replace(&mut self.writing, true) {
            return Err(StreamError::Closed);
        }
        self.stream.write_all_chunks(pieces).await?;
        self.writing = false;
        Ok(())
    }

    /// Ends the stream with all that was written.
    pub fn finish(mut self) {
        if !self.writing {
            self.open = false;
            // Fails only where the stream is over already.
            let _ = self.stream.finish();
        }
    }

    /// Ends the stream at once; what was not delivered never will be.
    pub fn abort(mut self, code: Code) {
        self.reset(code);
    }

    /// Resolves when the peer wants no more, or has everything.
    pub async fn stopped(&mut self) {
        let _ = self.stream.stopped().await;
    }

    fn reset(&mut self, code: Code) {
        if std::mem::replace(&mut self.open, false) {
            let _ = self.stream.reset(u32::from(code.number()).into());
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.reset(Code::Cancelled);
    }
}

/// Opens a request stream with its first message.
///
/// # Errors
/// [`StreamError`] when the link is lost.
pub async fn request(
    connection: &Connection,
    message: &Message,
    priority: i32,
) -> Result<(Writer, Reader), StreamError> {
    let (send, receive) = connection.open_bi().await?;
    let mut writer = Writer::new(send, priority);
    writer.send(message).await?;
    Ok((writer, Reader::new(receive)))
}

/// Says HELLO on a stream of its own.
///
/// # Errors
/// [`StreamError`] when the link is lost.
pub async fn say_hello(connection: &Connection, hello: Message) -> Result<(), StreamError> {
    let mut writer = Writer::new(connection.open_uni().await?, super::priority::CONTROL);
    writer.send(&hello).await?;
    writer.finish();
    Ok(())
}

/// Closes the link with a code of the table.
pub fn close(connection: &Connection, code: Code, reason: &str) {
    connection.close(u32::from(code.number()).into(), reason.as_bytes());
}
