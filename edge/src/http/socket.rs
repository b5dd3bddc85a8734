//! A viewer's socket with a deadline on its progress, so that one that stops
//! reading costs a bounded queue for a bounded time.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use prometheus::IntCounter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use super::{connection::Connection, metrics::HttpMetrics};

/// See the module's text. It lies below TLS and counts what is really sent.
pub(super) struct Socket {
    stream: TcpStream,
    connection: Arc<Connection>,
    sent_bytes: IntCounter,
    slow_viewers: IntCounter,
    deadline: Duration,
    /// What must leave within one deadline while the socket is full.
    least_bytes: u64,
    timer: Pin<Box<Sleep>>,
    /// Bytes that left since the socket filled up; `None` while it is not full.
    moved_bytes: Option<u64>,
}

impl Socket {
    pub(super) fn new(
        stream: TcpStream,
        connection: Arc<Connection>,
        metrics: &HttpMetrics,
        deadline: Duration,
        least_bytes: u64,
    ) -> Self {
        Self {
            stream,
            connection,
            sent_bytes: metrics.sent_bytes.clone(),
            slow_viewers: metrics.slow_viewers.clone(),
            deadline,
            least_bytes,
            timer: Box::pin(tokio::time::sleep(deadline)),
            moved_bytes: None,
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.sent_bytes.inc_by(bytes as u64);
        if let Some(moved) = &mut self.moved_bytes {
            *moved += bytes as u64;
        }
    }

    /// The socket is full: an error once its reader was too slow for too long.
    fn full(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.moved_bytes.is_none() {
            self.restart();
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.moved_bytes < Some(self.least_bytes) {
                self.slow_viewers.inc();
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.restart();
        }
        Poll::Pending
    }

    fn restart(&mut self) {
        self.moved_bytes = Some(0);
        self.timer.as_mut().reset(Instant::now() + self.deadline);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.connection.reads();
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Pending => self.full(cx),
            Poll::Ready(written) => {
                self.wrote(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
            Poll::Pending => self.full(cx),
            Poll::Ready(written) => {
                self.wrote(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Reached only when everything above has been written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.moved_bytes = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
