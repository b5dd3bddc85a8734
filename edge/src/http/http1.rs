//! HTTP/1.1 for viewers, by hand: the path that nearly every request takes, with
//! as little as possible between a read and a write.
//!
//! In: a connection's bytes. Out: answers of [`service`], head and body in one
//! vectored write. What a connection sends that is not plainly a viewer's request
//! (see `head`) makes it hyper's, with the bytes that were read, for the rest of
//! its life. The task of the connection owns all of it. Invariants: requests are
//! answered one by one in their order; no more is read ahead of its turn than one
//! read brings; a connection that idles has no buffer; whoever goes away while it
//! waits, or is being sent to, is noticed.

mod answer;
mod head;
mod rewound;

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice, Write as _},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use hyper::{StatusCode, body::Body as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, timeout},
};

use self::{
    answer::Terms,
    head::{Read, may_be_whole},
};
pub(super) use self::{answer::write_decimal, rewound::Rewound};
use super::{
    body::{Body, Data},
    connection::Connection,
    metrics::Rejected,
    request::Method,
    response::Answer,
    service::{self, Server},
};

/// Bytes of one read; a viewer's request has some hundred.
const READ_BYTES: usize = 4_096;

/// Heads of answers are seldom longer.
const HEAD_BYTES: usize = 768;

/// Slices of one write: a segment has no more parts than that by far.
const SLICES: usize = 16;

/// What a refused peer has still to send is read and thrown away for so long, and
/// up to so many bytes: closing before would take the answer from it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 65_536;

/// Serves requests until the peer, a request or [`Connection::ends`] ends it, or
/// a request comes that is hyper's: then the connection is returned.
///
/// # Errors
/// The socket's, and those of a body that breaks off. There is no more to say to
/// the peer.
pub(super) async fn serve<I>(
    server: &Arc<Server>,
    connection: &Arc<Connection>,
    mut io: I,
    max_head_bytes: usize,
) -> io::Result<Option<Rewound<I>>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = Vec::new();
    loop {
        let mut seen = 0;
        let read = loop {
            if seen == 0 || may_be_whole(&buffer, seen) {
                match head::read(&buffer) {
                    Read::Partial => {}
                    read => break read,
                }
            }
            if buffer.len() >= max_head_bytes {
                break Read::TooLarge;
            }
            seen = buffer.len();
            if poll_fn(|cx| poll_next(&mut io, cx, &mut buffer, connection)).await? == 0 {
                io.shutdown().await?;
                return Ok(None);
            }
        };
        let (head, len, close) = match read {
            Read::Request { head, len, close } => (head, len, close),
            // What is partial is read on, above.
            Read::Foreign | Read::Partial => {
                return Ok(Some(Rewound::new(io, buffer.into())));
            }
            Read::Malformed => {
                refuse(server, connection, io, Rejected::Malformed).await?;
                return Ok(None);
            }
            Read::TooLarge => {
                refuse(server, connection, io, Rejected::HeaderLength).await?;
                return Ok(None);
            }
        };
        let mut peer = Peer {
            io: &mut io,
            ahead: buffer.get(len..).unwrap_or_default().to_vec(),
            now: Instant::now(),
        };
        let active = connection.begin(false, &server.config);
        let answer = service::answered(server, connection, active, &head, peer.now);
        // On the heap while it lasts: ten thousand connections idle.
        let answer = peer.wait_for(Box::pin(answer)).await?;
        let terms = Terms {
            bodiless: head.method == Method::Head,
            close: close || connection.ends(),
            now: peer.now.into_std(),
        };
        let close = peer.send(answer, terms).await?;
        buffer = peer.ahead;
        if close {
            io.shutdown().await?;
            return Ok(None);
        }
    }
}

/// Says what is wrong, and goes.
async fn refuse<I>(
    server: &Arc<Server>,
    connection: &Arc<Connection>,
    mut io: I,
    why: Rejected,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let status = match why {
        Rejected::HeaderLength => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    let active = connection.begin(false, &server.config);
    let answer = service::refused(server, active, why, status);
    let mut peer = Peer {
        io: &mut io,
        ahead: Vec::new(),
        now: Instant::now(),
    };
    let terms = Terms {
        bodiless: false,
        close: true,
        now: peer.now.into_std(),
    };
    peer.send(answer, terms).await?;
    io.shutdown().await?;
    let rest = async {
        let mut left = LINGER_BYTES;
        let mut rest = Vec::new();
        while let Ok(count @ 1..) = poll_fn(|cx| poll_more(&mut io, cx, &mut rest)).await {
            rest.clear();
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    };
    let _ = Box::pin(timeout(LINGER, rest)).await;
    Ok(())
}

/// The next bytes of requests; none where they end, or where the connection does
/// before the next request begins.
fn poll_next<I>(
    io: &mut I,
    cx: &mut Context<'_>,
    buffer: &mut Vec<u8>,
    connection: &Connection,
) -> Poll<io::Result<usize>>
where
    I: AsyncRead + Unpin,
{
    let read = poll_more(io, cx, buffer);
    match read {
        Poll::Pending if !buffer.is_empty() => connection.reads(),
        Poll::Pending if connection.hangs_up() => return Poll::Ready(Ok(0)),
        _ => {}
    }
    read
}

/// Reads over the stack: a buffer is made when there is something to keep in it.
fn poll_more<I>(io: &mut I, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>>
where
    I: AsyncRead + Unpin,
{
    let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
    let mut space = ReadBuf::uninit(&mut space);
    ready!(Pin::new(io).poll_read(cx, &mut space))?;
    into.extend_from_slice(space.filled());
    Poll::Ready(Ok(space.filled().len()))
}

/// The one who gets an answer.
struct Peer<'a, I> {
    io: &'a mut I,
    /// What it has sent meanwhile, to be read as requests when it is their turn.
    ahead: Vec<u8>,
    /// Of its request, or of the end of a wait.
    now: Instant,
}

impl<I> Peer<'_, I>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    /// # Errors
    /// The peer has gone; what was waited for is of no use to anybody.
    async fn wait_for<T>(&mut self, wanted: Pin<Box<impl Future<Output = T>>>) -> io::Result<T> {
        let (mut wanted, mut waited) = (wanted, false);
        let out = poll_fn(|cx| match wanted.as_mut().poll(cx) {
            Poll::Ready(out) => Poll::Ready(Ok(out)),
            Poll::Pending => {
                waited = true;
                self.poll_gone(cx).map(Err)
            }
        });
        let out = out.await?;
        if waited {
            self.now = Instant::now();
        }
        Ok(out)
    }

    /// Whether the peer has gone, told while something else is waited for. Once it
    /// has sent ahead nobody looks any more: what it sends is bounded by that.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.ahead.is_empty() {
            return Poll::Pending;
        }
        match poll_more(self.io, cx, &mut self.ahead) {
            Poll::Ready(Ok(0)) => Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Sends all of an answer, which counts as in progress until then, and says
    /// whether the connection ends with it.
    async fn send(&mut self, mut answer: Answer, terms: Terms) -> io::Result<bool> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let close = answer::write_head(&answer, terms, &mut head);
        match answer.body_mut().take_whole() {
            Some(body) => self.write((&head[..]).chain(body)).await?,
            None => self.stream(&head, answer.body_mut()).await?,
        }
        Ok(close)
    }

    /// A body without a length, chunk by chunk as it comes (RFC 9112, 7.1).
    async fn stream(&mut self, head: &[u8], body: &mut Body) -> io::Result<()> {
        self.write(head).await?;
        loop {
            let frame = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(frame.transpose().map_err(io::Error::other)),
                Poll::Pending => self.poll_gone(cx).map(Err),
            });
            let Some(frame) = frame.await? else {
                return self.write(&b"0\r\n\r\n"[..]).await;
            };
            // One without bytes would say that this was all.
            if let Ok(data) = frame.into_data()
                && data.has_remaining()
            {
                self.write(chunk(data)?).await?;
            }
        }
    }

    /// Writes all of it, as much at a time as the socket takes.
    async fn write(&mut self, mut bytes: impl Buf) -> io::Result<()> {
        poll_fn(|cx| match self.poll_write(cx, &mut bytes) {
            Poll::Pending => self.poll_gone(cx).map(Err),
            written => written,
        })
        .await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &mut impl Buf) -> Poll<io::Result<()>> {
        while bytes.has_remaining() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = bytes.chunks_vectored(&mut slices);
            let slices = slices.get(..count).unwrap_or_default();
            match ready!(Pin::new(&mut *self.io).poll_write_vectored(cx, slices))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => bytes.advance(written),
            }
        }
        Pin::new(&mut *self.io).poll_flush(cx)
    }
}

/// One chunk with its size before it.
fn chunk(data: Data) -> io::Result<impl Buf> {
    let mut size = Vec::new();
    write!(size, "{:x}\r\n", data.remaining())?;
    Ok(io::Cursor::new(size).chain(data).chain(&b"\r\n"[..]))
}
