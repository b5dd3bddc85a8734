//! HTTP/2 for viewers: h2 for the protocol, and nothing between it and the handlers.
//!
//! In: a connection's bytes. Out: answers of [`service`]. An answer that is ready at
//! once, as nearly all are, goes to h2 where its request was taken from it, all of
//! its shared bytes with it: h2 sends them as the peer grants windows. What waits,
//! and what goes on, is a future among the connection's own, polled when it is woken.
//! The task of the connection owns all of it; no stream has one. Invariants: no more
//! goes on than streams may be open, and the watch over the peer; a stream that its
//! peer resets is forgotten, whatever it waited for.

mod alarm;

use std::{
    future::{Future, poll_fn},
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Buf;
use futures_util::{Stream, stream::FuturesUnordered};
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    server::{self, Handshake, SendResponse},
};
use hyper::{
    Method, Request, Response, body::Body as _, header::CONTENT_LENGTH, http::request::Parts,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, timeout},
};

use self::alarm::Alarm;
use super::{
    body::{Body, Data},
    config::HttpConfig,
    connection::Connection,
    date,
    metrics::Rejected,
    request::Head,
    response::Answer,
    service::{self, Server},
};

/// A peer is asked whether it is still there so often, and has as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Requests and answers of one connection that are seen to in one go, before
/// other connections have their turn.
const ROUNDS: usize = 32;

/// The protocol's limits, set once for all connections.
pub(super) fn limits(config: &HttpConfig) -> server::Builder {
    let mut limits = server::Builder::new();
    limits
        .max_concurrent_streams(config.max_streams)
        // Reset by the peer before they were looked at (rapid reset), and by
        // this side for what the peer did on them (made-you-reset).
        .max_pending_accept_reset_streams(config.max_resets)
        .max_local_error_reset_streams(Some(config.max_resets))
        .max_header_list_size(config.max_header_bytes)
        // Requests have no bodies: the smallest windows that HTTP/2 knows.
        .initial_window_size(65_535)
        .initial_connection_window_size(65_535);
    limits
}

/// A connection that is served until its peer or [`Self::finish`] ends it.
///
/// Its error is h2's: the socket's, the peer's, or that the peer went beyond the
/// limits.
pub(super) struct Served<'a, I> {
    alarm: Arc<Alarm>,
    waker: Waker,
    streams: Streams<'a, I>,
}

struct Streams<'a, I> {
    server: &'a Arc<Server>,
    connection: &'a Arc<Connection>,
    stage: Stage<I>,
    going_on: FuturesUnordered<GoingOn<'a>>,
    /// Asked to, before it had begun.
    ends: bool,
}

enum Stage<I> {
    Greeting(Handshake<I, Data>),
    Open(server::Connection<I, Data>),
}

/// A request that waits, an answer that goes on, or [`silence`].
type GoingOn<'a> = Pin<Box<dyn Future<Output = Ended> + Send + 'a>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stream,
    /// The peer is gone.
    Silence,
}

impl<'a, I> Served<'a, I>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(server: &'a Arc<Server>, connection: &'a Arc<Connection>, io: I) -> Self {
        let alarm = Alarm::new();
        Self {
            waker: Waker::from(alarm.clone()),
            alarm,
            streams: Streams {
                server,
                connection,
                stage: Stage::Greeting(server.limits.http2.handshake(io)),
                going_on: FuturesUnordered::new(),
                ends: false,
            },
        }
    }

    /// Takes no new requests, and ends when those that there are have been answered.
    pub(super) fn finish(mut self: Pin<&mut Self>) {
        let streams = &mut self.streams;
        streams.ends = true;
        if let Stage::Open(open) = &mut streams.stage {
            open.graceful_shutdown();
        }
    }
}

impl<I> Future for Served<'_, I>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<(), h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            alarm,
            waker,
            streams,
        } = &mut *self;
        alarm.rise(cx.waker());
        let mut cx = Context::from_waker(waker);
        for _ in 0..ROUNDS {
            alarm.listen();
            match streams.round(&mut cx) {
                Poll::Ready(ControlFlow::Break(ended)) => return Poll::Ready(ended),
                Poll::Ready(ControlFlow::Continue(())) => {}
                Poll::Pending if alarm.sleeps() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        alarm.snooze();
        Poll::Pending
    }
}

impl<'a, I> Streams<'a, I>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    /// One thing that there is to do, or all that can be done for now.
    fn round(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<Result<(), h2::Error>>> {
        let open = match &mut self.stage {
            Stage::Open(open) => open,
            Stage::Greeting(greeting) => {
                let mut open = match ready!(Pin::new(greeting).poll(cx)) {
                    Ok(open) => open,
                    Err(error) => return Poll::Ready(ControlFlow::Break(Err(error))),
                };
                if let Some(pings) = open.ping_pong() {
                    self.going_on.push(Box::pin(silence(pings)));
                }
                if self.ends {
                    open.graceful_shutdown();
                }
                self.stage = Stage::Open(open);
                return Poll::Ready(ControlFlow::Continue(()));
            }
        };
        // Before the next request is taken: what the peer has reset makes way for it.
        if let Poll::Ready(Some(ended)) = Pin::new(&mut self.going_on).poll_next(cx) {
            if ended == Ended::Silence {
                open.abrupt_shutdown(Reason::NO_ERROR);
            }
            return Poll::Ready(ControlFlow::Continue(()));
        }
        // Reads what there is to read and writes what there is to write, too.
        let accepted = pin!(open.accept()).poll(cx);
        Poll::Ready(match ready!(accepted) {
            Some(Ok((request, respond))) => {
                self.answer(cx, request, respond);
                ControlFlow::Continue(())
            }
            Some(Err(error)) => ControlFlow::Break(Err(error)),
            None => ControlFlow::Break(Ok(())),
        })
    }

    fn answer(
        &mut self,
        cx: &mut Context<'_>,
        request: Request<RecvStream>,
        respond: SendResponse<Data>,
    ) {
        let (server, connection) = (self.server, self.connection);
        let (request, body) = request.into_parts();
        let has_body = has_body(&request, &body);
        drop(body);
        let now = Instant::now();
        let active = connection.begin(true, &server.config);
        // On the heap at once: it stays there if it has to wait.
        let mut wanted = Box::pin(async move {
            let head = Head::new(&request.method, &request.uri, &request.headers);
            if has_body {
                // No resource takes one.
                return service::unserved(server, active, &head, Rejected::RequestBody);
            }
            service::answered(server, connection, active, &head, now).await
        });
        match wanted.as_mut().poll(cx) {
            Poll::Ready(answer) => {
                if let Some((body, stream)) = send(answer, respond, now) {
                    self.going_on.push(Box::pin(follow(body, stream)));
                }
            }
            Poll::Pending => self.going_on.push(Box::pin(later(wanted, respond))),
        }
    }
}

/// CONNECT has no body of its own, and one that is said to be empty is none.
fn has_body(request: &Parts, body: &RecvStream) -> bool {
    let empty = || {
        request
            .headers
            .get(CONTENT_LENGTH)
            .is_some_and(|len| len == "0")
    };
    !body.is_end_stream() && request.method != Method::CONNECT && !empty()
}

/// Gives h2 the answer, or the beginning of it: what comes then is returned.
fn send(
    mut answer: Answer,
    mut respond: SendResponse<Data>,
    now: Instant,
) -> Option<(Body, SendStream<Data>)> {
    let whole = answer.body_mut().take_frame();
    let len = whole.as_ref().map(Buf::remaining);
    let told = len.filter(|len| *len > 0).map(|len| len as u64);
    let mut head = Response::new(());
    *head.status_mut() = answer.status();
    *head.headers_mut() = answer.take_fields(told, date::value(now.into_std()));
    // An error is that of a peer that has gone, or reset it: nobody is to be told.
    let mut stream = respond.send_response(head, len == Some(0)).ok()?;
    match whole {
        None => Some((answer.into_body(), stream)),
        Some(data) => {
            if data.has_remaining() {
                let _ = stream.send_data(data, true);
            }
            None
        }
    }
}

/// A request that has to wait, for as long as its peer does.
async fn later(
    mut wanted: Pin<Box<impl Future<Output = Answer>>>,
    mut respond: SendResponse<Data>,
) -> Ended {
    let answer = poll_fn(|cx| match wanted.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    });
    if let Some(answer) = answer.await
        && let Some((body, stream)) = send(answer, respond, Instant::now())
    {
        follow(body, stream).await;
    }
    Ended::Stream
}

/// Sends a body without a length, chunk by chunk as it comes. A chunk is taken from
/// it first, and goes once the peer has granted something of a window: what this
/// side holds for a peer that does not read is one chunk.
async fn follow(mut body: Body, mut stream: SendStream<Data>) -> Ended {
    loop {
        let frame = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => Pin::new(&mut body).poll_frame(cx).map(Some),
        });
        let data = match frame.await {
            // Reset, or its connection is gone.
            None => return Ended::Stream,
            Some(None) => {
                let _ = stream.send_data(Data::none(), true);
                return Ended::Stream;
            }
            // It shall not look complete.
            Some(Some(Err(_))) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ended::Stream;
            }
            Some(Some(Ok(frame))) => frame.into_data().ok(),
        };
        let Some(data) = data.filter(Buf::has_remaining) else {
            continue;
        };
        // As much of the chunk as there is a window for goes at once.
        stream.reserve_capacity(1);
        let granted = poll_fn(|cx| {
            while stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(false),
                }
            }
            Poll::Ready(true)
        });
        if !granted.await || stream.send_data(data, false).is_err() {
            return Ended::Stream;
        }
    }
}

/// Ends when the peer has left a PING without an answer: a request may be held, or a
/// stream have nothing to send, for longer than a peer should be missing unnoticed.
async fn silence(mut pings: PingPong) -> Ended {
    loop {
        sleep(KEEP_ALIVE).await;
        match timeout(KEEP_ALIVE, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection is at its end already.
            Ok(Err(_)) => return Ended::Stream,
            Err(_) => return Ended::Silence,
        }
    }
}
