//! The queue of one publish: bounded in events and in bytes.
//!
//! In: what the connection reads; out: the same, in order, at the broadcast
//! side. An event's bytes are held until it is taken, so that a publisher whose
//! packager is busy fills no more than [`QUEUE_BUDGET_BYTES`], whatever the
//! size of its frames; further ones stay in its socket.

use std::sync::Arc;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::PublishEvent;

/// Events of one publish waiting for the packager: about a second of media. The
/// packager drains it at once; a publisher whose packager does not is slowed
/// down by its own socket.
pub const PUBLISH_QUEUE: usize = 64;

/// Bytes of one publish waiting for the packager: two messages of the longest
/// kind, which is a second of 128 Mbit/s. The events alone would allow 64 times
/// the longest message.
pub const QUEUE_BUDGET_BYTES: u32 = 16 << 20;

/// The queue has no reader any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// Why an event can't be queued at once.
#[derive(Debug)]
pub(super) enum Refused {
    /// In events or in bytes: [`EventSender::send`] waits.
    Full(PublishEvent),
    Closed,
}

/// An event and its share of the budget, given back when it is taken.
#[derive(Debug)]
struct Queued {
    event: PublishEvent,
    _share: Share,
}

#[derive(Debug)]
struct Share {
    gauge: IntGauge,
    permit: OwnedSemaphorePermit,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.sub(held(&self.permit));
    }
}

fn held(permit: &OwnedSemaphorePermit) -> i64 {
    i64::try_from(permit.num_permits()).unwrap_or(i64::MAX)
}

/// The connection's end.
#[derive(Debug)]
pub struct EventSender {
    events: mpsc::Sender<Queued>,
    budget: Arc<Semaphore>,
    gauge: IntGauge,
}

/// The broadcast side's end. Dropping it disconnects the publisher.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Queued>);

/// A queue whose waiting bytes `gauge` counts, beside those of others.
#[must_use]
pub fn queue(gauge: &IntGauge) -> (EventSender, Events) {
    let (events, receiver) = mpsc::channel(PUBLISH_QUEUE);
    let sender = EventSender {
        events,
        budget: Arc::new(Semaphore::new(QUEUE_BUDGET_BYTES as usize)),
        gauge: gauge.clone(),
    };
    (sender, Events(receiver))
}

/// What an event takes of the budget. One that is larger than all of it waits
/// until it is alone. Metadata is bounded by its count.
fn weight(event: &PublishEvent) -> u32 {
    match event {
        PublishEvent::Media { payload, .. } => u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .min(QUEUE_BUDGET_BYTES),
        PublishEvent::Metadata(_) | PublishEvent::Ended(_) => 0,
    }
}

impl EventSender {
    pub(super) fn try_send(&self, event: PublishEvent) -> Result<(), Refused> {
        let slot = match self.events.try_reserve() {
            Ok(slot) => slot,
            Err(mpsc::error::TrySendError::Full(())) => return Err(Refused::Full(event)),
            Err(mpsc::error::TrySendError::Closed(())) => return Err(Refused::Closed),
        };
        match self.budget.clone().try_acquire_many_owned(weight(&event)) {
            Ok(permit) => {
                slot.send(self.queued(event, permit));
                Ok(())
            }
            Err(_) => Err(Refused::Full(event)),
        }
    }

    /// Waits for room. An event given up on is lost.
    ///
    /// # Errors
    /// [`Closed`] when nobody reads any more.
    pub async fn send(&self, event: PublishEvent) -> Result<(), Closed> {
        let weight = weight(&event);
        let room = async {
            let slot = self.events.reserve().await.ok()?;
            let permit = self.budget.clone().acquire_many_owned(weight).await.ok()?;
            Some((slot, permit))
        };
        tokio::select! {
            biased;
            // A reader that goes gives its bytes back: that is no room.
            () = self.events.closed() => Err(Closed),
            room = room => match room {
                Some((slot, permit)) => {
                    slot.send(self.queued(event, permit));
                    Ok(())
                }
                None => Err(Closed),
            },
        }
    }

    fn queued(&self, event: PublishEvent, permit: OwnedSemaphorePermit) -> Queued {
        self.gauge.add(held(&permit));
        let gauge = self.gauge.clone();
        Queued {
            event,
            _share: Share { gauge, permit },
        }
    }

    pub(super) async fn closed(&self) {
        self.events.closed().await;
    }
}

impl Events {
    /// The next event; `None` when the connection is gone. Cancel-safe.
    pub async fn recv(&mut self) -> Option<PublishEvent> {
        self.0.recv().await.map(|queued| queued.event)
    }

    /// Events waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use common::rtmp::MediaKind;
    use tokio::time::Instant;

    use super::*;

    fn frame(len: usize) -> PublishEvent {
        PublishEvent::Media {
            kind: MediaKind::Video,
            timestamp_ms: 0,
            payload: Bytes::from(vec![0; len]),
            received: Instant::now(),
        }
    }

    fn gauge() -> IntGauge {
        IntGauge::new("waiting_bytes", "Waiting.").unwrap()
    }

    #[tokio::test]
    async fn bytes_are_bounded_before_events_are() {
        let gauge = gauge();
        let (sender, mut events) = queue(&gauge);
        let mib = 1 << 20;
        let mut queued = 0;
        while sender.try_send(frame(mib)).is_ok() {
            queued += 1;
        }
        assert_eq!(queued, 16);
        assert_eq!(gauge.get(), i64::from(QUEUE_BUDGET_BYTES));
        // Room for events is no room for bytes; small words still pass.
        assert!(matches!(sender.try_send(frame(1)), Err(Refused::Full(_))));
        sender
            .try_send(PublishEvent::Metadata(Vec::new()))
            .map_err(|_| ())
            .unwrap();
        let (sent, taken) = tokio::join!(sender.send(frame(mib)), events.recv());
        assert!(sent.is_ok() && taken.is_some());
        drop(events);
        assert_eq!(gauge.get(), 0, "what nobody took is given back");
        assert!(matches!(sender.try_send(frame(1)), Err(Refused::Closed)));
        assert_eq!(sender.send(frame(1)).await, Err(Closed));
    }

    #[tokio::test]
    async fn one_event_may_be_larger_than_the_budget() {
        let (sender, mut events) = queue(&gauge());
        let huge = QUEUE_BUDGET_BYTES as usize + 1;
        sender.send(frame(huge)).await.unwrap();
        assert!(matches!(sender.try_send(frame(1)), Err(Refused::Full(_))));
        let (sent, _) = tokio::join!(sender.send(frame(huge)), events.recv());
        sent.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_goes_frees_who_waits_for_bytes() {
        let (sender, events) = queue(&gauge());
        sender
            .send(frame(QUEUE_BUDGET_BYTES as usize))
            .await
            .unwrap();
        let wait = sender.send(frame(1));
        let (sent, ()) = tokio::join!(wait, async { drop(events) });
        assert_eq!(sent, Err(Closed));
    }
}
