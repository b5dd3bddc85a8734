//! One request stream: its first message says what is asked, and every refusal
//! is an ERROR that says why.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::debug;

use super::{
    Peer, REQUEST_DEADLINE, RETRY_MS, past,
    start::is_held,
    track::{Follow, Pieces},
};
use crate::{
    link::{
        chat::Chat,
        message::{
            Accepted, Code, Fetch, Index, List, Message, Refusal, SegmentStart, Start, Subscribe,
            Target,
        },
        priority,
        stream::{Reader, StreamError, Writer},
    },
    live::{Broadcast, BroadcastState, Cursor, Place, Record, Stage, Step, TrackWindow},
    names::{BroadcastId, ChannelName, Epoch, InitId, Msn, NodeId, TrackName},
    telemetry::metrics::Share,
};

const NOT_READY: &str = "the channel is not ready yet";

/// How a request went wrong.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(Refusal),
    Stream(StreamError),
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

pub(super) fn refused(code: Code, reason: impl Into<String>) -> Failure {
    Failure::Refused(Refusal::new(code, reason))
}

impl Peer {
    pub(super) async fn request(self, mut writer: Writer, mut reader: Reader) {
        let Ok(first) = timeout(REQUEST_DEADLINE, reader.next()).await else {
            reader.stop(Code::Expired);
            return;
        };
        let outcome = match first {
            Ok(Some(message)) => self.answer(message, &mut writer, &mut reader).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(()) => writer.finish(),
            Err(Failure::Refused(refusal)) => {
                self.shared.metrics.refuse(refusal.code);
                debug!(
                    node = %self.identity.node,
                    code = %refusal.code,
                    reason = refusal.reason,
                    "request refused"
                );
                if writer.send(&Message::Error(refusal)).await.is_ok() {
                    writer.finish();
                }
            }
            Err(Failure::Stream(StreamError::Wire(error))) => {
                self.protocol_error(&error.to_string());
            }
            // The child went away, or does not care any more.
            Err(Failure::Stream(_)) => {}
        }
    }

    async fn answer(
        &self,
        message: Message,
        writer: &mut Writer,
        reader: &mut Reader,
    ) -> Result<(), Failure> {
        match message {
            Message::Watch { prefix } => {
                let _place = place(&self.watches)?;
                Ok(self.watch(&prefix, writer, reader).await?)
            }
            Message::Hearsay(first) => {
                let _place = place(&self.hearsays)?;
                self.hearsay(first, reader).await
            }
            Message::Subscribe(subscribe) => self.subscribe(subscribe, writer, reader).await,
            Message::Fetch(fetch) => self.fetch(&fetch, writer).await,
            Message::List(list) => self.list(&list, writer).await,
            Message::Chat(Chat::Open) => self.chat(writer, reader).await,
            _ => Err(refused(Code::Protocol, "not a request")),
        }
    }

    async fn subscribe(
        &self,
        subscribe: Subscribe,
        writer: &mut Writer,
        reader: &mut Reader,
    ) -> Result<(), Failure> {
        let _place = place(&self.subscriptions)?;
        let _counted = Share::one(&self.shared.metrics.subscriptions);
        if subscribe.hops.contains(&self.shared.hello.node) {
            return Err(refused(Code::Loop, "this node pulls through you"));
        }
        let hops = &subscribe.hops;
        let ready = self.ready(&subscribe.channel, subscribe.broadcast, hops);
        let Some((broadcast, epoch)) = self.unless_given_up(reader, ready).await? else {
            return Ok(());
        };
        match subscribe.target {
            Target::Manifest => self.manifest(&broadcast, epoch, writer, reader).await,
            Target::Track(name) => {
                let Some(track) = broadcast.track(name).cloned() else {
                    return Err(refused(Code::NotFound, "no such track"));
                };
                let node = &self.shared.node;
                let followed = async {
                    let followed = node.track(&broadcast, name, subscribe.start, hops).await;
                    followed.map_err(|code| refused(code, "this node can't follow it"))
                };
                let Some(_lease) = self.unless_given_up(reader, followed).await? else {
                    return Ok(());
                };
                let follow = Follow::new(self, &subscribe, broadcast, track, epoch);
                Ok(follow.run(writer, reader).await?)
            }
        }
    }

    /// Waits until the channel carries `wanted` and can be played.
    async fn ready(
        &self,
        channel: &ChannelName,
        wanted: Option<BroadcastId>,
        hops: &[NodeId],
    ) -> Result<(Arc<Broadcast>, Epoch), Failure> {
        let mut changes = self.shared.directory.changes();
        let mut demanded = false;
        loop {
            changes.mark_unchanged();
            let Some(known) = self.shared.directory.get(channel) else {
                return Err(refused(Code::NotFound, "no such channel"));
            };
            let fits = |id| wanted.is_none_or(|wanted| wanted == id);
            match known.stage {
                Stage::Ready(broadcast) if fits(broadcast.id) => {
                    return Ok((broadcast, known.announcement.epoch));
                }
                _ if !fits(known.announcement.broadcast) => {
                    return Err(refused(Code::EpochMismatch, "another broadcast is on"));
                }
                // An edge builds it up once somebody asks.
                Stage::Starting if !demanded => {
                    demanded = true;
                    let asked = self.shared.node.channel(channel, hops).await;
                    asked.map_err(|code| refused(code, "the node stops"))?;
                    continue;
                }
                _ => {}
            }
            if changes.changed().await.is_err() {
                return Err(refused(Code::OriginLost, "the node stops"));
            }
        }
    }

    async fn manifest(
        &self,
        broadcast: &Broadcast,
        epoch: Epoch,
        writer: &mut Writer,
        reader: &mut Reader,
    ) -> Result<(), Failure> {
        let mut states = broadcast.states();
        let mut pieces = vec![
            Message::Ok(Accepted {
                broadcast: broadcast.id,
                epoch,
                plan: broadcast.plan,
                first: Msn(0),
                first_chunk: 0,
                live: Msn(0),
                live_chunk: 0,
            })
            .encode(),
        ];
        for track in &broadcast.tracks {
            pieces.push(Message::Track(track.track.clone()).encode());
        }
        let mut inits = Inits::default();
        loop {
            let state = *states.borrow_and_update();
            for track in &broadcast.tracks {
                inits.fresh(track, &mut pieces);
            }
            let epoch = self
                .shared
                .directory
                .get(&broadcast.channel)
                .filter(|known| known.announcement.broadcast == broadcast.id)
                .map_or(epoch, |known| known.announcement.epoch);
            pieces.push(Message::State { state, epoch }.encode());
            writer.send_all(&mut pieces).await?;
            pieces.clear();
            if state == BroadcastState::Ended {
                return Ok(());
            }
            tokio::select! {
                changed = states.changed() => if changed.is_err() {
                    return Ok(());
                },
                message = reader.next() => match message? {
                    Some(Message::Update(_)) => {}
                    _ => return Ok(()),
                },
            }
        }
    }

    /// A track of the channel's current broadcast, waiting for it where this
    /// node has not built it up yet.
    async fn held(
        &self,
        channel: &ChannelName,
        broadcast: BroadcastId,
        name: TrackName,
    ) -> Result<(Arc<Broadcast>, Arc<TrackWindow>), Failure> {
        if self.shared.node.pulls() {
            let ready = self.ready(channel, Some(broadcast), &[]);
            let ready = timeout(self.shared.playable_within, ready).await;
            let (broadcast, _) = ready.unwrap_or_else(|_| Err(busy(NOT_READY)))?;
            return match broadcast.track(name).cloned() {
                Some(track) => Ok((broadcast, track)),
                None => Err(refused(Code::NotFound, "no such track")),
            };
        }
        let Some(known) = self.shared.directory.get(channel) else {
            return Err(refused(Code::NotFound, "no such channel"));
        };
        match known.stage {
            Stage::Ready(held) if held.id == broadcast => match held.track(name).cloned() {
                Some(track) => Ok((held, track)),
                None => Err(refused(Code::NotFound, "no such track")),
            },
            _ => Err(refused(Code::EpochMismatch, "another broadcast is on")),
        }
    }

    /// One segment, from any chunk on; followed to its end if it is open.
    async fn fetch(&self, fetch: &Fetch, writer: &mut Writer) -> Result<(), Failure> {
        let _place = place(&self.fetches)?;
        self.shared.metrics.fetches.inc();
        writer.set_priority(priority::PAST);
        let (broadcast, track) = self
            .held(&fetch.channel, fetch.broadcast, fetch.track)
            .await?;
        let held = track.window.look(|log| {
            let segment = log.segment(fetch.msn)?;
            let place = segment.place().clone();
            Some((is_held(segment), place, segment.head, segment.sum()))
        });
        match held {
            Some((true, ..)) => {}
            Some((false, Place::Archive(kept), head, sum)) => {
                return past::send(&kept, head, sum, writer, &self.shared.metrics).await;
            }
            _ if self.shared.node.pulls() => return self.fetched(fetch, &broadcast, writer).await,
            Some((false, ..)) => return Err(refused(Code::NotHere, "known by its index only")),
            None => return Err(refused(Code::Expired, "not held any more")),
        }
        let mut appended = track.window.appended();
        let mut cursor = Cursor::within(fetch.msn, fetch.first_chunk, 0);
        let mut pieces = Pieces::default();
        loop {
            appended.mark_unchanged();
            let step = track.window.step(&mut cursor);
            match step {
                Step::Record(Record::Open(head)) => pieces.push(&Message::Segment(SegmentStart {
                    subscription: 0,
                    head,
                    first_chunk: fetch.first_chunk,
                })),
                Step::Record(record) => {
                    let last = matches!(record, Record::End(_));
                    pieces.record(record, cursor);
                    if last || pieces.is_full() {
                        pieces.flush(writer, &self.shared.metrics).await?;
                    }
                    if last {
                        return Ok(());
                    }
                }
                Step::Wait => {
                    pieces.flush(writer, &self.shared.metrics).await?;
                    tokio::select! {
                        changed = appended.changed() => if changed.is_err() {
                            return Err(refused(Code::OriginLost, "cut off"));
                        },
                        () = writer.stopped() => return Ok(()),
                    }
                }
                Step::Aborted | Step::Skipped { .. } | Step::Ended => {
                    return Err(refused(Code::Expired, "not held any more"));
                }
            }
        }
    }

    /// Passes on what this node's own parent has.
    async fn fetched(
        &self,
        fetch: &Fetch,
        broadcast: &Arc<Broadcast>,
        writer: &mut Writer,
    ) -> Result<(), Failure> {
        let node = &self.shared.node;
        let segment = node.segment(broadcast, fetch.track, fetch.msn);
        let found = timeout(self.shared.playable_within, segment)
            .await
            .map_err(|_| busy("this node's parent does not answer"))?;
        let found = found.map_err(|code| refused(code, "this node's parents don't have it"))?;
        past::pass_on(found, writer, &self.shared.metrics).await
    }

    async fn list(&self, list: &List, writer: &mut Writer) -> Result<(), Failure> {
        let (broadcast, track) = self.held(&list.channel, list.broadcast, list.track).await?;
        // Only what is followed is listed as of now.
        let node = &self.shared.node;
        let followed = node.track(&broadcast, list.track, Start::Live, &[]);
        let followed = timeout(self.shared.playable_within, followed).await;
        let followed = followed.map_err(|_| busy("this node's parent does not answer"))?;
        let _lease = followed.map_err(|code| refused(code, "this node can't follow it"))?;
        let index = track.window.look(|log| {
            let listed = log.index(list.to);
            Index::of(
                list.to,
                listed.filter(|segment| segment.head.msn >= list.from),
            )
        });
        Ok(writer.send(&Message::Index(index)).await?)
    }

    /// What `work` comes to for as long as a channel may take to start; `None` when
    /// the child ends its request first.
    async fn unless_given_up<T>(
        &self,
        reader: &mut Reader,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Option<T>, Failure> {
        tokio::select! {
            done = timeout(self.shared.playable_within, work) => match done {
                Ok(done) => Ok(Some(done?)),
                Err(_) => Err(busy(NOT_READY)),
            },
            message = reader.next() => {
                message?;
                Ok(None)
            }
        }
    }
}

/// Which init segments a stream has told of already.
#[derive(Debug, Default)]
pub(super) struct Inits(Vec<(TrackName, InitId)>);

impl Inits {
    pub(super) fn fresh(&mut self, track: &TrackWindow, pieces: &mut Vec<bytes::Bytes>) {
        let held = track.inits();
        let name = track.track.name;
        // What the track forgot is forgotten here, so that the list stays bounded.
        self.0
            .retain(|(of, id)| *of != name || held.iter().any(|(held, _)| held == id));
        for (id, bytes) in held {
            if !self.0.contains(&(name, id)) {
                self.0.push((name, id));
                let track = name;
                pieces.push(Message::Init { track, id, bytes }.encode());
            }
        }
    }
}

fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Failure> {
    let full = |_| busy("too many requests on this link");
    places.clone().try_acquire_owned().map_err(full)
}

fn busy(reason: &str) -> Failure {
    Failure::Refused(Refusal {
        retry_ms: RETRY_MS,
        ..Refusal::new(Code::Overloaded, reason)
    })
}
