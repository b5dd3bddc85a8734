//! Response bodies: shared bytes in as few frames as the answer allows.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

use super::connection::Active;

/// The segment's writer died or its viewer fell behind: the transfer breaks, so
/// that nobody takes what came for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the segment was cut off")]
pub(super) struct CutOff;

/// What is sent, and the request's place in its connection's count.
#[derive(Debug)]
pub(super) struct Body {
    content: Content,
    active: Option<Active>,
}

#[derive(Debug)]
enum Content {
    Empty,
    /// One frame.
    Whole(Bytes),
    /// A frame for each, all known in advance.
    Frames {
        frames: VecDeque<Bytes>,
        left: u64,
    },
    /// Chunks as they appear.
    Live(mpsc::Receiver<Chunk>),
}

/// A piece of a body whose end is not known yet. A sender that goes away
/// without [`Chunk::End`] leaves a broken transfer.
#[derive(Debug)]
pub(super) enum Chunk {
    Data(Bytes),
    End,
}

impl Body {
    pub(super) const fn empty() -> Self {
        Self::of(Content::Empty)
    }

    pub(super) fn whole(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self::empty();
        }
        Self::of(Content::Whole(bytes))
    }

    pub(super) fn frames(frames: VecDeque<Bytes>) -> Self {
        let left = frames.iter().map(|frame| frame.len() as u64).sum();
        Self::of(Content::Frames { frames, left })
    }

    pub(super) const fn live(chunks: mpsc::Receiver<Chunk>) -> Self {
        Self::of(Content::Live(chunks))
    }

    /// For HEAD, where nobody knows yet how much GET would send.
    pub(super) fn unknown() -> Self {
        Self::live(mpsc::channel(1).1)
    }

    const fn of(content: Content) -> Self {
        Self {
            content,
            active: None,
        }
    }

    /// Keeps its connection from counting as idle until it is sent or dropped.
    pub(super) fn hold(&mut self, active: Active) {
        self.active = Some(active);
    }

    /// `None` while it is not known.
    pub(super) const fn len(&self) -> Option<u64> {
        match &self.content {
            Content::Empty => Some(0),
            Content::Whole(bytes) => Some(bytes.len() as u64),
            Content::Frames { left, .. } => Some(*left),
            Content::Live(_) => None,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let next = match &mut self.content {
            Content::Empty => None,
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Some(Ok(bytes))
            }
            Content::Frames { frames, left } => frames.pop_front().map(|frame| {
                *left = left.saturating_sub(frame.len() as u64);
                Ok(frame)
            }),
            Content::Live(chunks) => match chunks.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Chunk::Data(data))) => Some(Ok(data)),
                Poll::Ready(Some(Chunk::End)) => {
                    self.content = Content::Empty;
                    None
                }
                Poll::Ready(None) => Some(Err(CutOff)),
            },
        };
        if self.is_end_stream()
            && let Some(Ok(last)) = next
        {
            let last = match self.active.take() {
                Some(active) => active.until_sent(last),
                None => last,
            };
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.len() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.len()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
