//! A body that reads a window as it grows: an open segment to its end, or a
//! track for as long as its viewer stays.
//!
//! It is polled by the connection that sends it and has no task and no queue of
//! its own: what a viewer has not read yet stays in the window, which everybody
//! shares and which bounds it. Invariants: the end of a segment is told only
//! where the window tells it; a viewer that is behind keeps nothing alive.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use common::{
    live::{Cursor, Record, Step, TrackWindow},
    names::Msn,
};
use tokio::{
    sync::watch,
    time::{Instant, Sleep},
};
use tokio_util::sync::ReusableBoxFuture;

use super::{body::CutOff, endless::Endless};

/// What comes next, or that it cannot.
pub(super) type Next = Option<Result<Bytes, CutOff>>;

type Changed = (bool, watch::Receiver<u64>);

/// See the module's text.
pub(super) struct Follow {
    track: Arc<TrackWindow>,
    cursor: Cursor,
    changed: ReusableBoxFuture<'static, Changed>,
    /// Nothing comes for so long: the transfer breaks.
    longest: Duration,
    since: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    endless: Option<Endless>,
}

async fn wait(mut appended: watch::Receiver<u64>) -> Changed {
    let alive = appended.changed().await.is_ok();
    (alive, appended)
}

impl Follow {
    /// The chunks of `msn` from its first to its end.
    pub(super) fn segment(track: Arc<TrackWindow>, msn: Msn, longest: Duration) -> Self {
        Self::new(track, Cursor::at(msn), longest, None)
    }

    /// Everything from `msn` on.
    pub(super) fn endless(
        track: Arc<TrackWindow>,
        msn: Msn,
        longest: Duration,
        endless: Endless,
    ) -> Self {
        Self::new(track, Cursor::at(msn), longest, Some(endless))
    }

    fn new(
        track: Arc<TrackWindow>,
        cursor: Cursor,
        longest: Duration,
        endless: Option<Endless>,
    ) -> Self {
        let appended = track.window.appended();
        Self {
            track,
            cursor,
            changed: ReusableBoxFuture::new(wait(appended)),
            longest,
            since: Instant::now(),
            timer: None,
            endless,
        }
    }

    pub(super) const fn is_endless(&self) -> bool {
        self.endless.is_some()
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(endless) = &mut self.endless {
            if endless.expires() {
                return Poll::Ready(None);
            }
            if let Some(init) = endless.init() {
                return Poll::Ready(Some(Ok(init)));
            }
        }
        loop {
            let step = self.track.window.step(&mut self.cursor);
            if let Step::Wait = step {
                if !self.poll_changed(cx) {
                    return self.poll_patience(cx);
                }
                continue;
            }
            let next = match &mut self.endless {
                None => of_segment(step),
                Some(endless) => endless.next(step, &self.track, &mut self.cursor),
            };
            if let Some(next) = next {
                self.since = Instant::now();
                return Poll::Ready(next);
            }
        }
    }

    /// Whether there is something new since it was last looked for.
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> bool {
        match self.changed.poll(cx) {
            Poll::Pending => false,
            Poll::Ready((alive, appended)) => {
                self.changed.set(wait(appended));
                // Never otherwise: `self` holds the window.
                alive
            }
        }
    }

    /// When it is over unless something comes.
    fn over_at(&self) -> Instant {
        let silent = self.since + self.longest;
        let until = self.endless.as_ref().and_then(Endless::until);
        until.map_or(silent, |until| until.min(silent))
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let over_at = self.over_at();
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(over_at)));
        // Not set anew with every chunk: looked at when it goes off.
        while timer.as_mut().poll(cx).is_ready() {
            if over_at <= Instant::now() {
                let expires = self.endless.as_mut().is_some_and(Endless::expires);
                return Poll::Ready((!expires).then_some(Err(CutOff)));
            }
            timer.as_mut().reset(over_at);
        }
        Poll::Pending
    }
}

/// What was cut off must not look complete. `None`: nothing to send for it.
fn of_segment(step: Step) -> Option<Next> {
    match step {
        Step::Record(Record::Chunk(chunk)) => Some(Some(Ok(chunk.data))),
        Step::Record(Record::End(_)) => Some(None),
        Step::Record(Record::Open(_) | Record::Part(_)) | Step::Wait => None,
        Step::Aborted | Step::Skipped { .. } | Step::Ended => Some(Some(Err(CutOff))),
    }
}
