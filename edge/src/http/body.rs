//! Response bodies: shared bytes in as few frames as the answer allows.

use std::{
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::{
    connection::Active,
    follow::{Follow, Next},
    slices::Slices,
};

type Live = Result<Frame<Data>, CutOff>;

/// The segment's writer died or its viewer fell behind: the transfer breaks, so
/// that nobody takes what came for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the segment was cut off")]
pub(super) struct CutOff;

/// What is sent, and the request's place in its connection's count.
pub(super) struct Body {
    content: Content,
    active: Option<Active>,
}

enum Content {
    Empty,
    /// As empty, but nobody may say so.
    Unknown,
    /// One frame, known in advance.
    Whole(Slices),
    /// Chunks as they appear.
    Live(Box<Follow>),
}

/// A frame's bytes, and with the last ones of a large answer its place in the
/// connection's count.
#[derive(Debug)]
pub(super) struct Data {
    slices: Slices,
    _active: Option<Active>,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).finish()
    }
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

    pub(super) fn live(follow: Follow) -> Self {
        Self::of(Content::Live(Box::new(follow)))
    }

    /// For HEAD, where nobody knows yet how much GET would send.
    pub(super) const fn unknown() -> Self {
        Self::of(Content::Unknown)
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

    /// All of what is known in advance; `None` where chunks are to come. The body
    /// still holds its connection.
    pub(super) fn take_whole(&mut self) -> Option<Slices> {
        match std::mem::replace(&mut self.content, Content::Empty) {
            Content::Whole(slices) => Some(slices),
            Content::Empty | Content::Unknown => Some(Slices::One(Bytes::new())),
            live @ Content::Live(_) => {
                self.content = live;
                None
            }
        }
    }

    /// The same, as one frame, which counts until its last byte has left if it is
    /// large. A small one counts no more once it is taken.
    pub(super) fn take_frame(&mut self) -> Option<Data> {
        let slices = self.take_whole()?;
        let active = self.active.take();
        Some(Data {
            slices,
            _active: active.filter(Active::is_large),
        })
    }

    /// `None` while it is not known.
    pub(super) fn len(&self) -> Option<u64> {
        match &self.content {
            Content::Empty => Some(0),
            Content::Whole(slices) => Some(slices.remaining() as u64),
            Content::Unknown | Content::Live(_) => None,
        }
    }
}

impl Body {
    /// A frame of a body that has no length. Its connection's drain ends one
    /// that would have no end.
    fn live_frame(&mut self, next: Poll<Next>, endless: bool) -> Poll<Option<Live>> {
        let active = self.active.as_mut();
        match &next {
            Poll::Pending => {
                if let Some(active) = active {
                    active.rests();
                }
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(_))) => {
                let drains = active.is_some_and(|active| {
                    active.sends();
                    active.drains()
                });
                if !(endless && drains) {
                    let data = |bytes| Data {
                        slices: Slices::One(bytes),
                        _active: None,
                    };
                    return next.map(|next| next.map(|bytes| bytes.map(data).map(Frame::data)));
                }
            }
            Poll::Ready(None) => {}
            Poll::Ready(Some(Err(CutOff))) => {
                self.content = Content::Empty;
                return Poll::Ready(Some(Err(CutOff)));
            }
        }
        self.content = Content::Empty;
        Poll::Ready(None)
    }
}

impl HttpBody for Body {
    type Data = Data;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, CutOff>>> {
        if let Content::Live(follow) = &mut self.content {
            let next = follow.poll_next(cx);
            let endless = follow.is_endless();
            return self.live_frame(next, endless);
        }
        let frame = self.take_frame().filter(Buf::has_remaining);
        Poll::Ready(frame.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.len() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.len()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Data {
    /// The end of a body, and no bytes of it.
    pub(super) const fn none() -> Self {
        Self {
            slices: Slices::One(Bytes::new()),
            _active: None,
        }
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
