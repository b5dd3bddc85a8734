//! Response bodies: shared bytes in as few frames as the answer allows.

use std::{
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

use super::{connection::Active, slices::Slices};

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
    /// One frame, known in advance.
    Whole(Slices),
    /// Chunks as they appear.
    Live(mpsc::Receiver<Chunk>),
}

/// A frame's bytes, and with the last ones of a large answer its place in the
/// connection's count.
#[derive(Debug)]
pub(super) struct Data {
    slices: Slices,
    _active: Option<Active>,
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
        Self::slices(Slices::One(bytes))
    }

    pub(super) fn slices(slices: Slices) -> Self {
        if slices.has_remaining() {
            Self::of(Content::Whole(slices))
        } else {
            Self::empty()
        }
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
    pub(super) fn len(&self) -> Option<u64> {
        match &self.content {
            Content::Empty => Some(0),
            Content::Whole(slices) => Some(slices.remaining() as u64),
            Content::Live(_) => None,
        }
    }
}

impl HttpBody for Body {
    type Data = Data;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, CutOff>>> {
        let next = match &mut self.content {
            Content::Empty => None,
            Content::Whole(_) => match std::mem::replace(&mut self.content, Content::Empty) {
                Content::Whole(slices) => Some(Ok(slices)),
                _ => None,
            },
            Content::Live(chunks) => match chunks.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Chunk::Data(data))) => Some(Ok(Slices::One(data))),
                Poll::Ready(Some(Chunk::End)) => {
                    self.content = Content::Empty;
                    None
                }
                Poll::Ready(None) => Some(Err(CutOff)),
            },
        };
        let last = self.is_end_stream();
        let frame = next.map(|slices| {
            let active = if last { self.active.take() } else { None };
            let data = |slices| Data {
                slices,
                _active: active.filter(Active::is_large),
            };
            slices.map(data).map(Frame::data)
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.len() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.len()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        self.slices.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.slices.chunk()
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        self.slices.chunks_vectored(into)
    }

    fn advance(&mut self, count: usize) {
        self.slices.advance(count);
    }
}
