//! A client's side of HTTP/1.1 (RFC 9112), for one request at a time.
//!
//! In: a request as bytes. Out: the answer's head and its body, piece by piece as it
//! arrives. Framing is the pure [`Answer`]; [`Connection`] reads and writes for it in
//! the asking task itself: no task of its own, no queue between, which is half of
//! what a request costs a generator of thousands. Bounds: a head of
//! [`MAX_HEAD_BYTES`]; an idle connection holds no buffer.

use std::{cell::RefCell, future::poll_fn, io, pin::Pin, task::Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::{Head, Stream};

const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;

/// A chunk's size line, and what trailers may hold.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// What one read takes, of whatever connection of this thread.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Http1Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("closed before the answer was whole")]
    Closed,
    #[error("no HTTP/1.1 answer: {0}")]
    Syntax(&'static str),
    #[error("a body of more than {0} bytes")]
    TooLarge(usize),
}

/// One kept connection.
pub(super) struct Connection {
    io: Box<dyn Stream>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    pub(super) fn new(io: Box<dyn Stream>) -> Self {
        Self { io }
    }

    /// Whether the server has not closed it meanwhile. Says so without a system call
    /// as long as nothing came.
    pub(super) async fn is_open(&mut self) -> bool {
        let io = &mut self.io;
        poll_fn(|cx| {
            let mut byte = [0];
            let mut into = ReadBuf::new(&mut byte);
            // An answer nobody asked for is as bad as an end.
            Poll::Ready(Pin::new(&mut *io).poll_read(cx, &mut into).is_pending())
        })
        .await
    }

    /// Sends one request and reads its answer; what is read of a success's body goes
    /// to `on_data`. Also whether the connection can be asked again.
    ///
    /// # Errors
    /// [`Http1Error`]; the connection is of no use then.
    pub(super) async fn exchange(
        &mut self,
        request: &[u8],
        max_body_bytes: usize,
        mut on_data: impl FnMut(&[u8]),
    ) -> Result<(Head, bool), Http1Error> {
        self.io.write_all(request).await?;
        self.io.flush().await?;
        let mut answer = Answer::new(max_body_bytes);
        while !answer.is_whole() {
            let io = &mut self.io;
            let (answer, on_data) = (&mut answer, &mut on_data);
            poll_fn(|cx| {
                SCRATCH.with_borrow_mut(|scratch| {
                    let mut into = ReadBuf::new(scratch);
                    match Pin::new(&mut *io).poll_read(cx, &mut into) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                        Poll::Ready(Ok(())) if into.filled().is_empty() => {
                            Poll::Ready(answer.end())
                        }
                        Poll::Ready(Ok(())) => Poll::Ready(answer.feed(into.filled(), on_data)),
                    }
                })
            })
            .await?;
        }
        let keeps = answer.keeps;
        let head = answer.head.ok_or(Http1Error::Syntax("no head"))?;
        Ok((head, keeps))
    }
}

/// How much of the body is still to come.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    /// Of the chunk that is being read.
    Chunk(u64),
    /// The line end behind a chunk, then the next chunk's size.
    ChunkEnd,
    ChunkSize,
    Trailers,
    UntilClosed,
    Whole,
}

/// An answer as its bytes come in.
#[derive(Debug)]
struct Answer {
    head: Option<Head>,
    body: Body,
    keeps: bool,
    /// A head or a line that is not whole yet.
    held: Vec<u8>,
    body_bytes: usize,
    max_body_bytes: usize,
}

impl Answer {
    fn new(max_body_bytes: usize) -> Self {
        Self {
            head: None,
            body: Body::Length(0),
            keeps: true,
            held: Vec::new(),
            body_bytes: 0,
            max_body_bytes,
        }
    }

    fn is_whole(&self) -> bool {
        self.head.is_some() && self.body == Body::Whole
    }

    /// The server closed.
    fn end(&mut self) -> Result<(), Http1Error> {
        if self.head.is_none() || self.body != Body::UntilClosed {
            return Err(Http1Error::Closed);
        }
        self.body = Body::Whole;
        Ok(())
    }

    fn feed(
        &mut self,
        mut bytes: &[u8],
        on_data: &mut impl FnMut(&[u8]),
    ) -> Result<(), Http1Error> {
        while self.head.is_none() {
            if bytes.is_empty() {
                return Ok(());
            }
            bytes = self.feed_head(bytes)?;
        }
        while !bytes.is_empty() {
            bytes = match self.body {
                Body::Whole => return Err(Http1Error::Syntax("more than was asked for")),
                Body::Length(left) => self.pass(bytes, left, Body::Length, Body::Whole, on_data)?,
                Body::Chunk(left) => {
                    self.pass(bytes, left, Body::Chunk, Body::ChunkEnd, on_data)?
                }
                Body::UntilClosed => {
                    self.pass(bytes, u64::MAX, |_| Body::UntilClosed, Body::Whole, on_data)?
                }
                Body::ChunkEnd | Body::ChunkSize | Body::Trailers => self.feed_line(bytes)?,
            };
        }
        Ok(())
    }

    /// Bytes of the body, of which `left` are to come; what is behind them.
    fn pass<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        more: impl FnOnce(u64) -> Body,
        then: Body,
        on_data: &mut impl FnMut(&[u8]),
    ) -> Result<&'a [u8], Http1Error> {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (data, rest) = bytes.split_at(len);
        self.body_bytes = self.body_bytes.saturating_add(len);
        if self.body_bytes > self.max_body_bytes {
            return Err(Http1Error::TooLarge(self.max_body_bytes));
        }
        if self
            .head
            .as_ref()
            .is_some_and(|head| head.status.is_success())
        {
            on_data(data);
        }
        let left = left.saturating_sub(len as u64);
        self.body = if left == 0 { then } else { more(left) };
        Ok(rest)
    }

    /// Up to the end of the head, if it is there; what is behind it.
    fn feed_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Http1Error> {
        let held = self.held.len();
        // Most heads come whole: then nothing is copied but what is kept.
        let head = if held == 0 {
            bytes
        } else {
            self.held.extend_from_slice(bytes);
            &self.held[..]
        };
        let Some(len) = parsed_len(head)? else {
            if head.len() > MAX_HEAD_BYTES {
                return Err(Http1Error::Syntax("a head without end"));
            }
            if held == 0 {
                self.held.extend_from_slice(bytes);
            }
            return Ok(&[]);
        };
        let head = head.get(..len).unwrap_or_default();
        let (head, minor) = read_head(head)?;
        self.held = Vec::new();
        let rest = bytes.get(len - held..).unwrap_or_default();
        // RFC 9110 15.2: answers before the answer.
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(rest);
        }
        self.keeps = keeps(&head.headers, minor);
        self.body = body_of(&head)?;
        self.keeps &= self.body != Body::UntilClosed;
        self.head = Some(head);
        Ok(rest)
    }

    /// A line between chunks; what is behind it.
    fn feed_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Http1Error> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
        self.held.extend_from_slice(line);
        if self.held.len() > MAX_LINE_BYTES {
            return Err(Http1Error::Syntax("a chunk's line without end"));
        }
        if end.is_none() {
            return Ok(rest);
        }
        let line = std::mem::take(&mut self.held);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.body = match self.body {
            Body::ChunkEnd if line.is_empty() => Body::ChunkSize,
            Body::ChunkSize => match chunk_size(line) {
                Some(0) => Body::Trailers,
                Some(size) => Body::Chunk(size),
                None => return Err(Http1Error::Syntax("a chunk without size")),
            },
            Body::Trailers if line.is_empty() => Body::Whole,
            Body::Trailers => Body::Trailers,
            _ => return Err(Http1Error::Syntax("a chunk longer than its size")),
        };
        Ok(rest)
    }
}

/// RFC 9112 7.1: hexadecimal, extensions behind a semicolon.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    let digits = std::str::from_utf8(digits).ok()?.trim();
    (!digits.starts_with('+')).then_some(())?;
    u64::from_str_radix(digits, 16).ok()
}

fn fault(error: httparse::Error) -> Http1Error {
    Http1Error::Syntax(match error {
        httparse::Error::TooManyHeaders => "too many headers",
        httparse::Error::Version => "another version",
        httparse::Error::Status => "no status",
        _ => "no head",
    })
}

/// How long the head is, once it is whole.
fn parsed_len(bytes: &[u8]) -> Result<Option<usize>, Http1Error> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes).map_err(fault)? {
        httparse::Status::Complete(len) => Ok(Some(len)),
        httparse::Status::Partial => Ok(None),
    }
}

/// A whole head, and HTTP/1's minor version.
fn read_head(bytes: &[u8]) -> Result<(Head, u8), Http1Error> {
    // One copy, which all values share.
    let shared = Bytes::copy_from_slice(bytes);
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(&shared).map_err(fault)?;
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Http1Error::Syntax("no status"))?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(shared.slice_ref(field.value));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let minor = response.version.unwrap_or(0);
    Ok((Head { status, headers }, minor))
}

/// RFC 9112 9.3: whether the server leaves the connection open.
fn keeps(headers: &HeaderMap, minor: u8) -> bool {
    let says = |word: &str| {
        let all = headers.get_all(header::CONNECTION);
        all.iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    if minor == 0 {
        says("keep-alive")
    } else {
        !says("close")
    }
}

/// RFC 9112 6.3, of an answer to GET.
fn body_of(head: &Head) -> Result<Body, Http1Error> {
    if matches!(
        head.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    ) {
        return Ok(Body::Whole);
    }
    if let Some(coding) = head.headers.get(header::TRANSFER_ENCODING) {
        let coding = coding.to_str().unwrap_or_default();
        let last = coding.rsplit(',').next().unwrap_or_default().trim();
        return Ok(match last.eq_ignore_ascii_case("chunked") {
            true => Body::ChunkSize,
            false => Body::UntilClosed,
        });
    }
    let Some(length) = head.headers.get(header::CONTENT_LENGTH) else {
        return Ok(Body::UntilClosed);
    };
    let digits = length.to_str().unwrap_or_default();
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(0) if all_digits => Ok(Body::Whole),
        Ok(length) if all_digits => Ok(Body::Length(length)),
        _ => Err(Http1Error::Syntax("a length that is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fed in pieces of `size`, then closed if it isn't whole.
    fn read_by(size: usize, text: &str) -> Result<(u16, Vec<u8>, bool), Http1Error> {
        let mut answer = Answer::new(1_000);
        let mut body = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            answer.feed(piece, &mut |data| body.extend_from_slice(data))?;
        }
        if !answer.is_whole() {
            answer.end()?;
        }
        let head = answer.head.unwrap();
        Ok((head.status.as_u16(), body, answer.keeps))
    }

    /// The same in any split.
    #[track_caller]
    fn reads(text: &str, status: u16, body: &str, keeps: bool) {
        for size in [1, 2, 7, text.len()] {
            let (found, bytes, kept) = read_by(size, text).unwrap();
            let shown = String::from_utf8(bytes).unwrap();
            assert_eq!(
                (found, shown.as_str(), kept),
                (status, body, keeps),
                "{size}"
            );
        }
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        reads(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            200,
            "hello",
            true,
        );
        reads(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            200,
            "",
            true,
        );
        reads(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n",
            200,
            "hello!",
            true,
        );
        reads("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true);
        reads(
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            304,
            "",
            true,
        );
        // Until the server closes.
        reads("HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello", false);
        reads(
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            200,
            "hello",
            false,
        );
        reads(
            "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\nh",
            200,
            "h",
            false,
        );
        // A body of an error is read and dropped; what comes before the answer, too.
        reads(
            "HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhello",
            404,
            "",
            true,
        );
        reads(
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            200,
            "hi",
            true,
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nhi\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            for size in [1, 1_000] {
                assert!(read_by(size, text).is_err(), "{text:?}");
            }
        }
        let large = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1_001));
        assert!(matches!(
            read_by(64, &large),
            Err(Http1Error::TooLarge(1_000))
        ));
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD_BYTES));
        assert!(matches!(
            read_by(4_096, &endless),
            Err(Http1Error::Syntax(_))
        ));
    }

    #[tokio::test]
    async fn a_kept_connection_shows_that_it_was_closed() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut connection = Connection::new(Box::new(ours));
        assert!(connection.is_open().await);
        theirs
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
            .await
            .unwrap();
        let mut body = Vec::new();
        let exchange = connection.exchange(b"GET", 9, |data| body.extend_from_slice(data));
        let (head, keeps) = exchange.await.unwrap();
        assert_eq!(
            (head.status.as_u16(), body.as_slice(), keeps),
            (200, &b"x"[..], true)
        );
        assert!(connection.is_open().await);
        drop(theirs);
        assert!(!connection.is_open().await);
    }
}
