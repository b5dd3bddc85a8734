//! A publisher's connection, seen from the server.
//!
//! Comes in: the publisher's bytes and the time; goes out: [`ServerEvent`]s and
//! our answers. A `publish` waits until the owner accepts or rejects it; media
//! sent before that is dropped. Deadlines are asked for with `deadline` and
//! enforced by `check`. Owned by the connection's task.
//! Spec: RTMP 1.0, 7.2; the FMLE extensions (releaseStream, FCPublish,
//! FCUnpublish) are known from their senders.

use std::time::Instant;

use bytes::Bytes;

use super::MediaKind;
use super::amf0::{self, Properties, Value};
use super::chunk::{Message, ReadLimits};
use super::enhanced::Capabilities;
use super::error::{ErrorKind, RtmpError};
use super::handshake::Role;
use super::limits::{
    HANDSHAKE_DEADLINE, IDLE_DEADLINE, MAX_MESSAGE_BEFORE_PUBLISH_BYTES, MAX_MESSAGE_BYTES,
    MAX_MESSAGE_STREAMS, MAX_NAME_BYTES, PARTIAL_BUDGET_BEFORE_PUBLISH_BYTES, PARTIAL_BUDGET_BYTES,
    PUBLISH_DEADLINE, WINDOW_BYTES,
};
use super::message::{self, Command, clip};
use super::suspended::{Suspended, SuspendedStream};
use super::wire::{Incoming, Wire};

const COMMAND_CSID: u32 = 3;
const STATUS_CSID: u32 = 5;
/// One chunk for every answer of ours.
const CHUNK_SIZE_OUT: u32 = 4096;

const STRANGER: ReadLimits = ReadLimits {
    message_bytes: MAX_MESSAGE_BEFORE_PUBLISH_BYTES,
    partial_budget_bytes: PARTIAL_BUDGET_BEFORE_PUBLISH_BYTES,
};
const PUBLISHER: ReadLimits = ReadLimits {
    message_bytes: MAX_MESSAGE_BYTES,
    partial_budget_bytes: PARTIAL_BUDGET_BYTES,
};

/// What `connect` said. Strings are a stranger's: never log them unescaped, and
/// `tc_url` not at all, for it may hold a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Application name, without query and slashes around it.
    pub app: String,
    /// The URL as the publisher has it.
    pub tc_url: String,
    /// Name and version of the sender.
    pub flash_version: String,
    /// What Enhanced RTMP adds.
    pub capabilities: Capabilities,
}

/// A `publish` that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// The application of `connect`.
    pub app: String,
    /// The stream name without its query: the key. Never logged.
    pub key: String,
    /// What followed `?` in the stream name.
    pub query: Option<String>,
}

/// A message of the publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaMessage {
    /// Audio, video or data.
    pub kind: MediaKind,
    /// As sent: milliseconds that wrap at 2^32 and may go back.
    pub timestamp_ms: u32,
    /// The message stream it came on.
    pub stream_id: u32,
    /// The FLV tag body.
    pub payload: Bytes,
}

/// What the owner must know of.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerEvent {
    /// `connect` was accepted.
    Connect(ConnectRequest),
    /// Answer with [`ServerSession::accept_publish`] or
    /// [`ServerSession::reject_publish`].
    Publish(PublishRequest),
    /// `onMetaData`.
    Metadata(Properties),
    /// Audio, video, or data other than `onMetaData`.
    Media(MediaMessage),
    /// The publish has ended in good order.
    Unpublish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Publishing {
    /// Since when nothing is published.
    No(Instant),
    Asked(u32),
    Yes(u32),
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct ServerSession {
    wire: Wire,
    started: Instant,
    last_message: Instant,
    offered: Capabilities,
    app: Option<String>,
    streams: u32,
    fc_publish: bool,
    publishing: Publishing,
}

impl ServerSession {
    /// `seed` fills the handshake's "random" bytes; `offered` answers an
    /// Enhanced RTMP `connect`.
    pub fn new(seed: u64, offered: Capabilities, now: Instant) -> Self {
        Self {
            wire: Wire::new(Role::Server, seed, STRANGER),
            started: now,
            last_message: now,
            offered,
            app: None,
            streams: 0,
            fc_publish: false,
            publishing: Publishing::No(now),
        }
    }

    /// Goes on where another process suspended its session; `None` if no session
    /// was ever like that.
    pub fn resumed(suspended: Suspended, offered: Capabilities, now: Instant) -> Option<Self> {
        let wire = Wire::resumed(&suspended, PUBLISHER, CHUNK_SIZE_OUT)?;
        Some(Self {
            wire,
            started: now,
            last_message: now,
            offered,
            app: Some(suspended.app),
            streams: suspended.streams,
            fc_publish: suspended.fc_publish,
            publishing: Publishing::Yes(suspended.publishing),
        })
    }

    /// Where this session stands, just behind an event and with all output taken:
    /// what is left of the input then is the next process's to read. `None`
    /// where nothing is published, or a message holds further ones.
    pub fn suspended(&self) -> Option<Suspended> {
        let (Publishing::Yes(publishing), false) = (self.publishing, self.has_output()) else {
            return None;
        };
        let (chunk_size, streams, ack_every_bytes, acked_bytes) = self.wire.standing()?;
        Some(Suspended {
            app: self.app.clone()?,
            streams: self.streams,
            fc_publish: self.fc_publish,
            publishing,
            ack_every_bytes,
            acked_bytes,
            offset: self.offset(),
            chunk_size,
            chunk_streams: streams.iter().map(SuspendedStream::of).collect(),
        })
    }

    /// Consumes `input` up to the next event; `None` once it is all consumed.
    /// After an error the connection is to be closed; calling again is safe but
    /// means nothing.
    pub fn next_event(
        &mut self,
        input: &mut &[u8],
        now: Instant,
    ) -> Result<Option<ServerEvent>, RtmpError> {
        while let Some(incoming) = self.wire.next(input)? {
            self.last_message = now;
            let event = match incoming {
                Incoming::HandshakeDone => {
                    self.publishing = Publishing::No(now);
                    None
                }
                Incoming::Message(message) => {
                    let event = self.on_message(message, now);
                    event.map_err(|kind| self.wire.error(kind))?
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Bytes for the peer since the last call.
    pub fn take_output(&mut self) -> Bytes {
        self.wire.take_output()
    }

    /// Whether `take_output` has something.
    pub fn has_output(&self) -> bool {
        self.wire.has_output()
    }

    /// Bytes of the connection consumed so far.
    pub fn offset(&self) -> u64 {
        self.wire.offset()
    }

    /// Bytes held in unfinished messages, for a metric.
    pub fn partial_bytes(&self) -> usize {
        self.wire.partial_bytes()
    }

    /// True between `accept_publish` and the end of the publish.
    pub fn is_publishing(&self) -> bool {
        matches!(self.publishing, Publishing::Yes(_))
    }

    /// When `check` must be called next; it moves with what arrives. `None`
    /// while the owner has a publish to answer.
    pub fn deadline(&self) -> Option<Instant> {
        if self.wire.in_handshake() {
            return Some(self.started + HANDSHAKE_DEADLINE);
        }
        match self.publishing {
            Publishing::No(since) => Some(since + PUBLISH_DEADLINE),
            Publishing::Asked(_) => None,
            Publishing::Yes(_) => Some(self.last_message + IDLE_DEADLINE),
        }
    }

    /// The error of a deadline that has passed.
    pub fn check(&self, now: Instant) -> Result<(), RtmpError> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let kind = match self.publishing {
            _ if self.wire.in_handshake() => ErrorKind::HandshakeDeadline,
            Publishing::No(_) => ErrorKind::PublishDeadline,
            Publishing::Asked(_) | Publishing::Yes(_) => ErrorKind::IdleDeadline,
        };
        Err(self.wire.error(kind))
    }

    /// Reading goes on after a pause that was the owner's doing: the idle
    /// deadline counts from now.
    pub fn resume(&mut self, now: Instant) {
        self.last_message = now;
    }

    /// Answers the waiting publish with `NetStream.Publish.Start`; does nothing
    /// if none waits.
    pub fn accept_publish(&mut self, now: Instant) {
        let Publishing::Asked(stream_id) = self.publishing else {
            return;
        };
        self.wire.set_limits(PUBLISHER);
        self.publishing = Publishing::Yes(stream_id);
        self.last_message = now;
        self.wire.send_control(&message::stream_begin(stream_id));
        let code = "NetStream.Publish.Start";
        if self.fc_publish {
            let info = message::status("status", code, "publishing");
            self.call("onFCPublish", 0.0, &[Value::Null, Value::Object(info)]);
        }
        self.status(stream_id, "status", code, "publishing");
    }

    /// Answers the waiting publish, or ends the accepted one, with an error
    /// status such as `NetStream.Publish.BadName`. The owner then closes.
    pub fn reject_publish(&mut self, code: &str, description: &str, now: Instant) {
        let (Publishing::Asked(stream_id) | Publishing::Yes(stream_id)) = self.publishing else {
            return;
        };
        self.publishing = Publishing::No(now);
        self.status(stream_id, "error", code, description);
    }

    fn call(&mut self, name: &str, transaction: f64, arguments: &[Value]) {
        let mut values = vec![name.into(), transaction.into()];
        values.extend_from_slice(arguments);
        self.wire.send(COMMAND_CSID, &message::command(0, &values));
    }

    fn status(&mut self, stream_id: u32, level: &str, code: &str, description: &str) {
        let info = message::status(level, code, description);
        let values = [
            "onStatus".into(),
            0.0.into(),
            Value::Null,
            Value::Object(info),
        ];
        let message = message::command(stream_id, &values);
        self.wire.send(STATUS_CSID, &message);
    }

    fn on_message(
        &mut self,
        message: Message,
        now: Instant,
    ) -> Result<Option<ServerEvent>, ErrorKind> {
        match message.type_id {
            message::COMMAND_AMF0 | message::COMMAND_AMF3 => self.on_command(&message, now),
            message::AUDIO => Ok(self.media(MediaKind::Audio, message)),
            message::VIDEO => Ok(self.media(MediaKind::Video, message)),
            message::DATA_AMF0 | message::DATA_AMF3 => self.on_data(message),
            // Shared objects and types that nobody defined.
            _ => Ok(None),
        }
    }

    fn media(&self, kind: MediaKind, message: Message) -> Option<ServerEvent> {
        self.is_publishing()
            .then_some(ServerEvent::Media(MediaMessage {
                kind,
                timestamp_ms: message.timestamp_ms,
                stream_id: message.stream_id,
                payload: message.payload,
            }))
    }

    fn on_data(&mut self, message: Message) -> Result<Option<ServerEvent>, ErrorKind> {
        if !self.is_publishing() {
            return Ok(None);
        }
        let mut values = amf0::decode_all(message::amf_body(&message)?)?;
        let handler = match values.first().and_then(Value::as_str) {
            Some("@setDataFrame") => 1,
            _ => 0,
        };
        if values.get(handler).and_then(Value::as_str) != Some("onMetaData") {
            return Ok(self.media(MediaKind::Data, message));
        }
        let properties = values.drain(..).nth(handler + 1);
        Ok(match properties {
            Some(Value::Object(properties) | Value::EcmaArray(properties)) => {
                Some(ServerEvent::Metadata(properties))
            }
            _ => None,
        })
    }

    fn on_command(
        &mut self,
        message: &Message,
        now: Instant,
    ) -> Result<Option<ServerEvent>, ErrorKind> {
        let command = Command::decode(message)?;
        let name = command.name.as_str();
        if name == "connect" {
            return self.on_connect(&command).map(Some);
        }
        let Some(app) = self.app.clone() else {
            return Err(ErrorKind::Command(clip(name, 32).to_owned()));
        };
        match name {
            "createStream" => self.on_create_stream(&command),
            "publish" => return self.on_publish(app, &command, message.stream_id),
            "FCPublish" => {
                self.fc_publish = true;
                self.result(&command);
            }
            "releaseStream" | "_checkbw" | "FCSubscribe" | "getStreamLength" => {
                self.result(&command);
            }
            "FCUnpublish" => {
                self.result(&command);
                return Ok(self.unpublish(now));
            }
            "deleteStream" | "closeStream" => {
                return Ok(self.on_close_stream(message, &command, now));
            }
            "play" | "play2" => {
                let description = "this server takes publishers only; watch over HTTP";
                let stream_id = message.stream_id;
                self.status(stream_id, "error", "NetStream.Play.Failed", description);
            }
            // Answers to calls that we never make, and notifications.
            "_result" | "_error" | "onStatus" => {}
            _ if command.transaction > 0.0 => {
                let info = message::status("error", "NetConnection.Call.Failed", "unknown method");
                let arguments = [Value::Null, Value::Object(info)];
                self.call("_error", command.transaction, &arguments);
            }
            _ => {}
        }
        Ok(None)
    }

    fn result(&mut self, command: &Command) {
        if command.transaction > 0.0 {
            self.call(
                "_result",
                command.transaction,
                &[Value::Null, Value::Undefined],
            );
        }
    }

    fn on_connect(&mut self, command: &Command) -> Result<ServerEvent, ErrorKind> {
        if self.app.is_some() {
            return Err(ErrorKind::Command("connect".to_owned()));
        }
        let null = Value::Null;
        let object = command.arguments.first().unwrap_or(&null);
        let text = |name: &str| {
            let text = object.get(name).and_then(Value::as_str).unwrap_or_default();
            clip(text, MAX_NAME_BYTES).to_owned()
        };
        let app = text("app");
        let app = app.split_once('?').map_or(app.as_str(), |(app, _)| app);
        let app = app.trim_matches('/').to_owned();
        let request = ConnectRequest {
            app: app.clone(),
            tc_url: text("tcUrl"),
            flash_version: text("flashVer"),
            capabilities: Capabilities::parse(object),
        };
        self.app = Some(app);

        self.wire
            .send_control(&message::window_ack_size(WINDOW_BYTES));
        self.wire
            .send_control(&message::set_peer_bandwidth(WINDOW_BYTES));
        self.wire.set_chunk_size(CHUNK_SIZE_OUT);
        let mut properties = vec![
            ("fmsVer".to_owned(), "FMS/3,5,7,7009".into()),
            ("capabilities".to_owned(), 31.0.into()),
            ("mode".to_owned(), 1.0.into()),
        ];
        let code = "NetConnection.Connect.Success";
        let mut info = message::status("status", code, "connected");
        let encoding = object.get("objectEncoding").and_then(Value::as_number);
        info.push(("objectEncoding".to_owned(), encoding.unwrap_or(0.0).into()));
        if !request.capabilities.is_empty() {
            // The text names the one object, servers in the field use the other.
            properties.extend(self.offered.properties());
            info.extend(self.offered.properties());
        }
        let arguments = [Value::Object(properties), Value::Object(info)];
        self.call("_result", command.transaction, &arguments);
        Ok(ServerEvent::Connect(request))
    }

    fn on_create_stream(&mut self, command: &Command) {
        if self.streams >= MAX_MESSAGE_STREAMS {
            let info = message::status("error", "NetConnection.Call.Failed", "too many streams");
            let arguments = [Value::Null, Value::Object(info)];
            self.call("_error", command.transaction, &arguments);
            return;
        }
        self.streams += 1;
        let arguments = [Value::Null, f64::from(self.streams).into()];
        self.call("_result", command.transaction, &arguments);
    }

    fn on_publish(
        &mut self,
        app: String,
        command: &Command,
        stream_id: u32,
    ) -> Result<Option<ServerEvent>, ErrorKind> {
        let Some(name) = command.text(1) else {
            return Err(ErrorKind::Command("publish".to_owned()));
        };
        let code = "NetStream.Publish.BadName";
        if !matches!(self.publishing, Publishing::No(_)) {
            let description = "this connection publishes already";
            self.status(stream_id, "error", code, description);
            return Ok(None);
        }
        if name.len() > MAX_NAME_BYTES {
            self.status(stream_id, "error", code, "the stream key is too long");
            return Ok(None);
        }
        let (key, query) = match name.split_once('?') {
            Some((key, query)) => (key, Some(query.to_owned())),
            None => (name, None),
        };
        self.publishing = Publishing::Asked(stream_id);
        Ok(Some(ServerEvent::Publish(PublishRequest {
            app,
            key: key.to_owned(),
            query,
        })))
    }

    fn on_close_stream(
        &mut self,
        message: &Message,
        command: &Command,
        now: Instant,
    ) -> Option<ServerEvent> {
        let named = match command.name.as_str() {
            "deleteStream" => command.number(1),
            _ => Some(f64::from(message.stream_id)),
        };
        match (self.publishing, named) {
            // Another stream of the connection.
            (Publishing::Yes(id) | Publishing::Asked(id), Some(named))
                if named > 0.0 && named != f64::from(id) =>
            {
                None
            }
            _ => self.unpublish(now),
        }
    }

    fn unpublish(&mut self, now: Instant) -> Option<ServerEvent> {
        let (Publishing::Asked(stream_id) | Publishing::Yes(stream_id)) = self.publishing else {
            return None;
        };
        self.publishing = Publishing::No(now);
        let code = "NetStream.Unpublish.Success";
        self.status(stream_id, "status", code, "unpublished");
        Some(ServerEvent::Unpublish)
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
