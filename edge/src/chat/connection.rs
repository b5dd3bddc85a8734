//! The task of one chat connection: reads what its client sends, writes what it
//! has to read, in one hand-written poll, so that ten thousand of them cost little.
//!
//! A connection at rest holds its session, a timer and a place in its rooms; it
//! reads into the stack and writes shared bytes where they lie, as many as the
//! socket takes in one call. It never waits for anybody: a client that stops reading
//! is dropped after [`ChatConfig::chat_write_deadline`], or when it falls off a room.
//!
//! [`ChatConfig::chat_write_deadline`]: super::config::ChatConfig

use std::{
    collections::VecDeque,
    io::IoSlice,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use common::chat::Network;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Shared, form::Framing, input::Input, mailbox::Mailbox, metrics::Broken, session::Session, ws,
};

/// What is read at once, on the stack.
const READ_BYTES: usize = 4 * 1024;

/// Reads of one turn before others have theirs.
const READS_AT_ONCE: usize = 4;

/// Pieces that one call hands to the socket.
const SLICES: usize = 64;

/// Writes of one turn.
const WRITES_AT_ONCE: usize = 16;

/// Without a word from a client for so long, it is asked for one.
const PING_AFTER: Duration = Duration::from_secs(180);

/// And so long after that it is gone.
const GONE_AFTER: Duration = Duration::from_secs(60);

/// What a closing connection gets to take its goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Between RECONNECT and the end: clients come back by themselves.
const LEAVING: Duration = Duration::from_secs(1);

/// See the module's text.
pub(super) struct Connection<S> {
    shared: Arc<Shared>,
    stream: S,
    session: Session,
    mailbox: Arc<Mailbox>,
    framing: Framing,
    input: Input,
    queue: VecDeque<Bytes>,
    /// TLS may hold what was written.
    unflushed: bool,
    timer: Pin<Box<Sleep>>,
    times: Times,
}

/// When things happened that a deadline hangs on.
#[derive(Debug)]
struct Times {
    began: Instant,
    heard: Instant,
    pinged: bool,
    /// Since when the socket takes nothing.
    stalled: Option<Instant>,
    /// When the connection is to end, whatever happens.
    leaving: Option<Instant>,
    closing: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(
        shared: Arc<Shared>,
        stream: S,
        mailbox: Arc<Mailbox>,
        network: Network,
        framing: Framing,
    ) -> Self {
        let now = Instant::now();
        let session = Session::new(shared.clone(), mailbox.clone(), network, framing);
        let first = now + Duration::from_secs(shared.config.chat_sign_in_deadline);
        Self {
            shared,
            stream,
            session,
            mailbox,
            framing,
            input: Input::new(framing),
            queue: VecDeque::new(),
            unflushed: false,
            timer: Box::pin(sleep_until(first)),
            times: Times {
                began: now,
                heard: now,
                pinged: false,
                stalled: None,
                leaving: None,
                closing: None,
            },
        }
    }

    /// What came behind the handshake. The buffer that it lies in is hyper's and not
    /// to stay for as long as the connection does.
    pub(super) fn heard_early(&mut self, early: Bytes) {
        if !early.is_empty() {
            self.heard(&mut early.to_vec());
        }
    }

    /// Serves until one side ends it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.mailbox.register(cx.waker());
        if self.read(cx) == Flow::Ended {
            return Poll::Ready(());
        }
        let now = (self.shared.clock)();
        self.session.verdicts(now);
        if self.mailbox.is_leaving() && self.times.leaving.is_none() {
            self.session.reconnect();
            let until = Instant::now() + LEAVING;
            self.times.leaving = Some(until);
            self.timer.as_mut().reset(until);
        }
        let held_back = !self.session.takes_more();
        if self.write(cx) == Flow::Ended {
            return Poll::Ready(());
        }
        if held_back && self.session.takes_more() {
            cx.waker().wake_by_ref();
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            match self.late() {
                Some(next) => self.timer.as_mut().reset(next),
                None => return Poll::Ready(()),
            }
            if self.write(cx) == Flow::Ended {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.times.closing.is_some() {
            return Flow::Goes;
        }
        for turn in 0..=READS_AT_ONCE {
            // What a client says waits in its own socket while it does not listen.
            if !self.session.takes_more() {
                return Flow::Goes;
            }
            if turn == READS_AT_ONCE {
                cx.waker().wake_by_ref();
                return Flow::Goes;
            }
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Flow::Goes,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.heard(buffer.filled_mut());
                }
                Poll::Ready(_) => return Flow::Ended,
            }
        }
        Flow::Goes
    }

    fn heard(&mut self, bytes: &mut [u8]) {
        self.times.heard = Instant::now();
        self.times.pinged = false;
        let now = (self.shared.clock)();
        if let Err(broken) = self.input.feed(now, bytes, &mut self.session) {
            self.session
                .end("That was no WebSocket", broken.code, Some(broken.why));
        }
    }

    /// Writes what there is until the socket is full or nothing is left.
    fn write(&mut self, cx: &mut Context<'_>) -> Flow {
        for turn in 0..=WRITES_AT_ONCE {
            if self.queue.is_empty() && !self.fill() {
                break;
            }
            if turn == WRITES_AT_ONCE {
                cx.waker().wake_by_ref();
                return Flow::Goes;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (slice, piece) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(piece);
            }
            let count = self.queue.len().min(SLICES);
            let slices = slices.get(..count).unwrap_or_default();
            match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    self.unflushed = true;
                    self.times.stalled = None;
                    self.shared.metrics.sent_bytes.inc_by(bytes as u64);
                    self.written(bytes);
                }
                Poll::Ready(_) => return Flow::Ended,
                Poll::Pending => {
                    self.stall();
                    return Flow::Goes;
                }
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    self.times.stalled = None;
                }
                Poll::Ready(Err(_)) => return Flow::Ended,
                Poll::Pending => {
                    self.stall();
                    return Flow::Goes;
                }
            }
        }
        self.finish(cx)
    }

    /// The socket is full: its reader has a deadline from now on.
    fn stall(&mut self) {
        if self.times.stalled.is_none() {
            let now = Instant::now();
            self.times.stalled = Some(now);
            let until = now + self.write_deadline();
            if self.timer.deadline() > until {
                self.timer.as_mut().reset(until);
            }
        }
    }

    /// Own lines first, then rooms. The last thing that a closing connection says is
    /// the close frame.
    fn fill(&mut self) -> bool {
        let now = (self.shared.clock)();
        self.session.pump(now, &mut self.queue);
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
        !self.queue.is_empty()
    }

    fn written(&mut self, mut bytes: usize) {
        while let Some(first) = self.queue.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.queue.pop_front();
        }
    }

    /// Says goodbye once all is written, then closes.
    fn finish(&mut self, cx: &mut Context<'_>) -> Flow {
        let Some(ending) = self.session.ending() else {
            return Flow::Goes;
        };
        if self.times.closing.is_none() {
            let until = Instant::now() + GOODBYE;
            self.times.closing = Some(until);
            self.timer.as_mut().reset(until);
            if let Some(why) = ending.why {
                self.shared.metrics.closed(why);
            }
            if self.framing.is_websocket() {
                let frame = ws::close_frame(ending.code, &ending.reason);
                self.queue.push_back(frame.into());
                return self.write(cx);
            }
        }
        match Pin::new(&mut self.stream).poll_shutdown(cx) {
            Poll::Pending => Flow::Goes,
            Poll::Ready(_) => Flow::Ended,
        }
    }

    fn write_deadline(&self) -> Duration {
        Duration::from_secs(self.shared.config.chat_write_deadline)
    }

    /// A deadline passed, or seemed to: when to look again, or `None` at the end.
    fn late(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.times.closing.is_some_and(|until| until <= now) {
            return None;
        }
        if let Some(stalled) = self.times.stalled
            && stalled + self.write_deadline() <= now
        {
            self.shared.metrics.closed(Broken::SlowReader);
            return None;
        }
        if self.times.leaving.is_some_and(|until| until <= now) {
            self.session
                .end("This server restarts", ws::code::RESTART, None);
        }
        let deadline = Duration::from_secs(self.shared.config.chat_sign_in_deadline);
        if !self.session.is_signed_in() && self.times.began + deadline <= now {
            self.session.end(
                "Not signed in, in time",
                ws::code::POLICY,
                Some(Broken::Deadline),
            );
        }
        if self.times.heard + PING_AFTER + GONE_AFTER <= now {
            self.session
                .end("No sign of life", ws::code::POLICY, Some(Broken::Silent));
        } else if self.times.heard + PING_AFTER <= now && !self.times.pinged {
            self.times.pinged = true;
            self.session.ping();
        }
        Some(self.next_look(deadline))
    }

    fn next_look(&self, sign_in: Duration) -> Instant {
        let times = &self.times;
        if self.session.ending().is_some() {
            return times.closing.unwrap_or_else(|| Instant::now() + GOODBYE);
        }
        let silence = if times.pinged {
            PING_AFTER + GONE_AFTER
        } else {
            PING_AFTER
        };
        let signing = (!self.session.is_signed_in()).then_some(times.began + sign_in);
        let stalled = times.stalled.map(|since| since + self.write_deadline());
        [signing, stalled, times.leaving]
            .into_iter()
            .flatten()
            .fold(times.heard + silence, Instant::min)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Goes,
    Ended,
}
