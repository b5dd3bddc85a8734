//! One publisher's connection: a thin loop round a [`ServerSession`].
//!
//! Comes in: a byte stream, the keys, the drain; goes out: a [`Publish`] and its
//! events, and answers to the peer. The task owns its socket and session; the
//! only things shared are the keys, the metrics and the door.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use common::names::ChannelName;
use common::rtmp::enhanced::Capabilities;
use common::rtmp::{MediaMessage, PublishRequest, RtmpError, ServerEvent, ServerSession};
use common::shutdown::Shutdown;
use common::telemetry::metrics::Share;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::admission::Admission;
use super::hand_over::{HandOver, Kept, Leaver, Opening, Place};
use super::metrics::RtmpMetrics;
use super::queue::{EventSender, Refused, queue};
use super::right::{REVOKED, Right};
use super::{CloseHandle, EndReason, Publish, PublishEvent};
use crate::keys::KeyRing;

/// The application that publishers name: `rtmp://host/live/{key}`.
const APP: &str = "live";
/// What a stranger may have us hold unread.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// What a publisher may: fewer system calls for a fast one.
const PUBLISHER_READ_BUFFER_BYTES: usize = 64 << 10;
/// A peer that takes none of our answers for this long is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// An owner that takes no publish for this long is overloaded.
const HAND_ON_DEADLINE: Duration = Duration::from_secs(5);
/// How long we read on after our last words, so that a reset does not overtake
/// them on their way.
const LINGER: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) keys: Arc<KeyRing>,
    pub(super) metrics: RtmpMetrics,
    pub(super) publishes: mpsc::Sender<Publish>,
    pub(super) admission: Arc<Admission>,
    pub(super) offered: Capabilities,
    /// Where publishers go at the end, if they may.
    pub(super) hand_over: Option<Arc<HandOver>>,
}

/// What a publisher's bytes come through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// The socket, where another process could read on from it: the state of a TLS
    /// session stays here.
    fn movable(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Stream for TcpStream {
    fn movable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

impl Stream for tokio_rustls::server::TlsStream<TcpStream> {}

/// Why the loop is over.
#[derive(Debug)]
enum Stop {
    PeerClosed,
    Io(io::Error),
    Protocol(RtmpError),
    /// The owner of the publish closed it.
    Closed(String),
    /// The key or the application; the peer has its status already.
    Refused(&'static str),
    Shutdown,
    /// The next process goes on from here.
    HandedOver(Box<Place>),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<RtmpError> for Stop {
    fn from(error: RtmpError) -> Self {
        Self::Protocol(error)
    }
}

/// The running publish of a connection.
struct Live {
    channel: ChannelName,
    right: Right,
    events: EventSender,
    close: mpsc::Receiver<String>,
    since: Instant,
    from_byte: u64,
    opening: Opening,
}

struct Connection<S> {
    stream: S,
    peer: SocketAddr,
    session: ServerSession,
    context: Arc<Context>,
    shutdown: Shutdown,
    live: Option<Live>,
    /// From a publish that may be handed over to the end.
    leaver: Option<Leaver>,
    sender: String,
    /// Whether it ever had a publish, of whose end there is a line.
    published: bool,
    partial: Share,
    publishing: Share,
}

/// Serves one connection to its end. The stream has no publisher's bytes read
/// yet; a TLS handshake is over.
pub(super) async fn run<S: Stream>(
    stream: S,
    peer: SocketAddr,
    context: Arc<Context>,
    shutdown: Shutdown,
) {
    let now = Instant::now().into_std();
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), peer);
    let session = ServerSession::new(seed, context.offered.clone(), now);
    let mut connection = Connection::new(stream, peer, session, context, shutdown);
    // Boxed: the loop's state is much larger than what a slot of the set needs.
    let stop = Box::pin(connection.drive()).await;
    connection.finish(stop).await;
}

/// Goes on with a publisher of the process before this one.
pub(super) async fn go_on(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    context: Arc<Context>,
    shutdown: Shutdown,
) {
    let now = Instant::now();
    let session = place.session.clone();
    let session = ServerSession::resumed(session, context.offered.clone(), now.into_std());
    let (Some(session), Some(channel)) = (session, place.channel()) else {
        warn!(%peer, "a publisher's place can't be read; it has to come again");
        return;
    };
    let mut connection = Connection::new(stream, peer, session, context, shutdown);
    connection.sender.clone_from(&place.sender);
    let resumed = async {
        connection.resume(channel, &place, now).await?;
        Ok::<Stop, Stop>(connection.drive().await)
    };
    let stop = Box::pin(resumed).await.unwrap_or_else(|stop| stop);
    connection.finish(stop).await;
}

impl<S: Stream> Connection<S> {
    fn new(
        stream: S,
        peer: SocketAddr,
        session: ServerSession,
        context: Arc<Context>,
        shutdown: Shutdown,
    ) -> Self {
        let metrics = context.metrics.clone();
        Self {
            stream,
            peer,
            session,
            context,
            shutdown,
            live: None,
            leaver: None,
            sender: String::new(),
            published: false,
            partial: Share::new(&metrics.partial_message_bytes, 0),
            publishing: Share::new(&metrics.publishing, 0),
        }
    }

    /// Begins where the process before this one ended.
    async fn resume(
        &mut self,
        channel: ChannelName,
        place: &Place,
        now: Instant,
    ) -> Result<(), Stop> {
        let handed_on = match self.right_of(&channel, &place.grant) {
            Some(right) => self.hand_on(right, now).await,
            None => Err((REVOKED, "NetStream.Publish.BadName")),
        };
        match handed_on {
            Ok(live) => self.goes_live(live),
            Err((description, code)) => {
                self.session
                    .reject_publish(code, description, now.into_std());
                return Err(Stop::Refused(description));
            }
        }
        for event in place.events(now) {
            self.forward(event).await?;
        }
        self.take(&mut &place.unread()[..], now).await
    }

    fn goes_live(&mut self, live: Live) {
        self.context.metrics.publishes.inc();
        self.publishing.set(1);
        self.live = Some(live);
        self.published = true;
        let movable = self.stream.movable().is_some();
        let hand_over = self.context.hand_over.as_ref().filter(|_| movable);
        self.leaver = hand_over.map(HandOver::enter);
    }

    /// Where the next process goes on, if this message is where.
    async fn leaves(&mut self, media: &MediaMessage, unread: &[u8]) -> Result<Option<Place>, Stop> {
        let (Some(hand_over), Some(_)) = (&self.context.hand_over, &self.leaver) else {
            return Ok(None);
        };
        let Some(live) = self.live.as_ref().filter(|_| hand_over.has_begun()) else {
            return Ok(None);
        };
        if !live.opening.may_begin(media.kind, &media.payload) {
            return Ok(None);
        }
        self.flush().await?;
        let (Some(session), Some(live)) = (self.session.suspended(), &self.live) else {
            return Ok(None);
        };
        Ok(Some(Place {
            channel: live.channel.to_string(),
            grant: live.right.grant.place(),
            sender: self.sender.clone(),
            session,
            opening: live.opening.kept(),
            metadata: live.opening.metadata(),
            next: Kept::of(media.kind, media.timestamp_ms, &media.payload),
            unread: BASE64.encode(unread),
        }))
    }

    /// The last of a connection that the next process has.
    async fn hand_over(mut self, place: &Place) {
        self.end_publish(EndReason::HandedOver).await;
        let (Some(hand_over), Some(socket)) = (&self.context.hand_over, self.stream.movable())
        else {
            return;
        };
        match hand_over.store(place, socket).await {
            Ok(()) => info!(channel = place.channel, "publisher handed over"),
            // Its socket closes, and it comes again.
            Err(error) => warn!(channel = place.channel, %error, "publisher not handed over"),
        }
    }

    async fn drive(&mut self) -> Stop {
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            let count = match self.read(&mut buffer).await {
                Ok(0) => return Stop::PeerClosed,
                Ok(count) => count,
                Err(stop) => return stop,
            };
            self.context.metrics.received_bytes.inc_by(count as u64);
            let received = Instant::now();
            let mut input = buffer.get(..count).unwrap_or_default();
            if let Err(stop) = self.take(&mut input, received).await {
                return stop;
            }
            let held = i64::try_from(self.session.partial_bytes());
            self.partial.set(held.unwrap_or(i64::MAX));
            if self.live.is_some() && buffer.len() < PUBLISHER_READ_BUFFER_BYTES {
                buffer.resize(PUBLISHER_READ_BUFFER_BYTES, 0);
            }
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Stop> {
        let deadline = self.session.deadline();
        tokio::select! {
            biased;
            () = self.shutdown.draining() => Err(Stop::Shutdown),
            reason = closed(&mut self.live) => Err(Stop::Closed(reason)),
            read = self.stream.read(buffer) => Ok(read?),
            () = at(deadline) => {
                let now = Instant::now().into_std();
                self.session.check(deadline.map_or(now, |deadline| deadline.max(now)))?;
                Err(Stop::Io(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Acts on all of `input`.
    async fn take(&mut self, input: &mut &[u8], received: Instant) -> Result<(), Stop> {
        while let Some(event) = self.session.next_event(input, received.into_std())? {
            match event {
                ServerEvent::Connect(request) => {
                    self.sender = request.flash_version;
                    let capabilities = request.capabilities;
                    debug!(sender = ?self.sender, ?capabilities, "connected");
                }
                ServerEvent::Publish(request) => self.on_publish(&request, received).await?,
                ServerEvent::Metadata(properties) => {
                    self.forward(PublishEvent::Metadata(properties)).await?;
                }
                ServerEvent::Media(media) => {
                    if let Some(place) = self.leaves(&media, input).await? {
                        return Err(Stop::HandedOver(Box::new(place)));
                    }
                    let event = PublishEvent::Media {
                        kind: media.kind,
                        timestamp_ms: media.timestamp_ms,
                        payload: media.payload,
                        received,
                    };
                    self.forward(event).await?;
                }
                ServerEvent::Unpublish => self.end_publish(EndReason::Unpublished).await,
            }
        }
        self.flush().await
    }

    async fn on_publish(&mut self, request: &PublishRequest, now: Instant) -> Result<(), Stop> {
        let std_now = now.into_std();
        let address = self.peer.ip();
        let admission = &self.context.admission;
        let refused = |description| Err((description, "NetStream.Publish.BadName"));
        let authorised = if request.app != APP {
            refused("publish to rtmp://HOST/live/KEY: there is no other application")
        } else if admission.keys_blocked(address, std_now) {
            refused("too many wrong stream keys; wait a minute")
        } else if let Some(right) = self.right(&request.key) {
            Ok(right)
        } else {
            let addresses = admission.wrong_key(address, std_now);
            let addresses = i64::try_from(addresses).unwrap_or(i64::MAX);
            self.context.metrics.wrong_key_addresses.set(addresses);
            refused("wrong stream key")
        };
        let handed_on = match authorised {
            Ok(right) => self.hand_on(right, now).await,
            Err(refusal) => {
                self.context.metrics.auth_failures.inc();
                Err(refusal)
            }
        };
        match handed_on {
            Ok(live) => {
                info!(channel = %live.channel, sender = ?self.sender, "publish accepted");
                self.goes_live(live);
                self.session.accept_publish(std_now);
                self.flush().await
            }
            Err((description, code)) => {
                self.session.reject_publish(code, description, std_now);
                Err(Stop::Refused(description))
            }
        }
    }

    fn right(&self, key: &str) -> Option<Right> {
        Right::of(&self.context.keys, |keys| keys.authorise(key))
    }

    /// The right that a publisher had in the process before.
    fn right_of(&self, channel: &ChannelName, place: &str) -> Option<Right> {
        Right::of(&self.context.keys, |keys| keys.granted(channel, place))
    }

    /// Gives the publish to its owner, before the publisher hears of it.
    async fn hand_on(
        &self,
        right: Right,
        now: Instant,
    ) -> Result<Live, (&'static str, &'static str)> {
        let channel = right.grant.channel.clone();
        let (events, receiver) = queue(&self.context.metrics.queued_bytes);
        let (handle, close) = CloseHandle::channel();
        let publish = Publish {
            channel: channel.clone(),
            peer: self.peer,
            events: receiver,
            close: handle,
        };
        let code = "NetStream.Publish.Failed";
        let sending = timeout(HAND_ON_DEADLINE, self.context.publishes.send(publish));
        tokio::select! {
            () = self.shutdown.draining() => Err(("the server is shutting down", code)),
            sent = sending => match sent {
                Ok(Ok(())) => Ok(Live {
                    channel,
                    right,
                    events,
                    close,
                    since: now,
                    from_byte: self.session.offset(),
                    opening: Opening::default(),
                }),
                Ok(Err(_)) => Err(("the server is shutting down", code)),
                Err(_) => Err(("the server is overloaded", code)),
            }
        }
    }

    /// Queues an event for the owner. While the queue is full this connection
    /// reads nothing; what it has to say is said first.
    async fn forward(&mut self, event: PublishEvent) -> Result<(), Stop> {
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        if self.context.hand_over.is_some() {
            live.opening.note(&event);
        }
        let event = match live.events.try_send(event) {
            Ok(()) => return Ok(()),
            Err(Refused::Full(event)) => Some(event),
            Err(Refused::Closed) => None,
        };
        self.flush().await?;
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        let Some(event) = event else {
            return Err(Stop::Closed(last_words(live)));
        };
        tokio::select! {
            biased;
            () = self.shutdown.draining() => Err(Stop::Shutdown),
            Some(reason) = live.close.recv() => Err(Stop::Closed(reason)),
            sent = live.events.send(event) => match sent {
                Ok(()) => {
                    self.session.resume(Instant::now().into_std());
                    Ok(())
                }
                Err(_) => Err(Stop::Closed(last_words(live))),
            },
        }
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        if !self.session.has_output() {
            return Ok(());
        }
        let output = self.session.take_output();
        let writing = async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        };
        match timeout(WRITE_DEADLINE, writing).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Stop::Io(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn end_publish(&mut self, reason: EndReason) {
        let Some(live) = self.live.take() else {
            return;
        };
        let seconds = live.since.elapsed().as_secs();
        let bytes = self.session.offset() - live.from_byte;
        info!(channel = %live.channel, %reason, seconds, bytes, "publish ended");
        self.publishing.set(0);
        if reason != EndReason::HandedOver {
            self.leaver = None;
        }
        // An owner that takes no more events learns of the end by the queue's own.
        let _ = timeout(
            HAND_ON_DEADLINE,
            live.events.send(PublishEvent::Ended(reason)),
        )
        .await;
    }

    async fn finish(mut self, stop: Stop) {
        let stop = match stop {
            Stop::HandedOver(place) => return self.hand_over(&place).await,
            stop => stop,
        };
        let now = Instant::now().into_std();
        let failed = "NetStream.Publish.Failed";
        let reason = match stop {
            Stop::PeerClosed => EndReason::Disconnected,
            Stop::Io(error) => {
                debug!(%error, "connection lost");
                EndReason::Disconnected
            }
            Stop::Protocol(error) => {
                let kind = error.kind.label();
                self.context
                    .metrics
                    .protocol_errors
                    .with_label_values(&[kind])
                    .inc();
                let (peer, offset) = (self.peer, error.offset);
                warn!(%peer, offset, "RTMP connection closed: {}", error.kind);
                self.session
                    .reject_publish(failed, &error.kind.to_string(), now);
                EndReason::Protocol(error.to_string())
            }
            Stop::Closed(reason) => {
                self.session.reject_publish(failed, &reason, now);
                EndReason::Closed(reason)
            }
            Stop::Refused(why) => {
                info!(sender = ?self.sender, "publish refused: {why}");
                EndReason::Closed(why.to_owned())
            }
            Stop::Shutdown | Stop::HandedOver(_) => {
                self.session
                    .reject_publish(failed, "the server is shutting down", now);
                EndReason::Shutdown
            }
        };
        let gone = reason == EndReason::Disconnected;
        let offset = self.session.offset();
        // Cut off on the way to a publish. Nothing at all is a port scan or a
        // balancer's look, not worth a line.
        if gone && !self.published && offset > 0 {
            let peer = self.peer;
            info!(%peer, offset, "RTMP connection cut off before a publish");
        }
        self.end_publish(reason).await;
        if !gone && self.flush().await.is_ok() {
            let _ = timeout(LINGER, linger(&mut self.stream)).await;
        }
    }
}

/// Ends our side and reads until the peer ends its own.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.shutdown().await?;
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

async fn at(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(Instant::from_std(deadline)).await,
        None => std::future::pending().await,
    }
}

/// Resolves with the reason once the owner has closed the publish or let go of
/// its events, or its key was revoked; never without a publish.
async fn closed(live: &mut Option<Live>) -> String {
    let Some(live) = live else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        Some(reason) = live.close.recv() => reason,
        () = live.events.closed() => last_words(live),
        () = live.right.lost() => REVOKED.to_owned(),
    }
}

/// The owner may close and let go in either order.
fn last_words(live: &mut Live) -> String {
    let reason = live.close.try_recv();
    reason.unwrap_or_else(|_| "the server ended this publish".to_owned())
}
