//! Response bodies: shared bytes in as few frames as the answer allows.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::{
    connection::Active,
    follow::{Follow, Next},
};

type Live = Result<Frame<Bytes>, CutOff>;

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
    /// One frame.
    Whole(Bytes),
    /// A frame for each, all known in advance.
    Frames {
        frames: VecDeque<Bytes>,
        left: u64,
    },
    /// Chunks as they appear.
    Live(Box<Follow>),
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
        if bytes.is_empty() {
            return Self::empty();
        }
        Self::of(Content::Whole(bytes))
    }

    pub(super) fn frames(frames: VecDeque<Bytes>) -> Self {
        let left = frames.iter().map(|frame| frame.len() as u64).sum();
        Self::of(Content::Frames { frames, left })
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

    /// `None` while it is not known.
    pub(super) const fn len(&self) -> Option<u64> {
        match &self.content {
            Content::Empty => Some(0),
            Content::Whole(bytes) => Some(bytes.len() as u64),
            Content::Frames { left, .. } => Some(*left),
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
                    return next.map(|next| next.map(|data| data.map(Frame::data)));
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
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let next = match &mut self.content {
            Content::Empty | Content::Unknown => None,
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Some(Ok(bytes))
            }
            Content::Frames { frames, left } => frames.pop_front().map(|frame| {
                *left = left.saturating_sub(frame.len() as u64);
                Ok(frame)
            }),
            Content::Live(follow) => {
                let next = follow.poll_next(cx);
                let endless = follow.is_endless();
                return self.live_frame(next, endless);
            }
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
