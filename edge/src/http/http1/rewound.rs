//! A connection with bytes that were read from it already, for whoever reads on.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module's text.
pub(in super::super) struct Rewound<I> {
    io: I,
    unread: Bytes,
}

impl<I> Rewound<I> {
    pub(in super::super) const fn new(io: I, unread: Bytes) -> Self {
        Self { io, unread }
    }

    pub(in super::super) fn into_parts(self) -> (I, Bytes) {
        (self.io, self.unread)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Rewound<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let count = buffer.remaining().min(self.unread.len());
        buffer.put_slice(&self.unread.copy_to_bytes(count));
        if self.unread.is_empty() {
            // Gives its memory back.
            self.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Rewound<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_was_read_comes_first() {
        let (mut far, near) = tokio::io::duplex(64);
        far.write_all(b"and on").await.unwrap();
        far.shutdown().await.unwrap();
        let mut rewound = Rewound::new(near, Bytes::from("so far, "));
        let mut first = [0; 3];
        rewound.read_exact(&mut first).await.unwrap();
        let mut all = first.to_vec();
        rewound.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"so far, and on");
        assert!(rewound.into_parts().1.is_empty());
    }
}
