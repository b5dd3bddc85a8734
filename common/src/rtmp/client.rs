//! The publishing side of a connection.
//!
//! Comes in: the server's bytes, and the media to send; goes out: events and
//! our bytes. Speaks what FMLE and librtmp speak: connect, releaseStream,
//! FCPublish, createStream, publish. The owner writes `take_output` whenever it
//! is not empty; the session itself never waits. Used by the load generator and
//! by tests. Spec: RTMP 1.0, 7.2.

use bytes::Bytes;

use super::MediaKind;
use super::amf0::{Properties, Value};
use super::chunk::{Message, ReadLimits};
use super::enhanced::Capabilities;
use super::error::{ErrorKind, RtmpError};
use super::handshake::Role;
use super::limits::WINDOW_BYTES;
use super::message::{self, Command, clip};
use super::wire::{Incoming, Wire};

const COMMAND_CSID: u32 = 3;
const AUDIO_CSID: u32 = 4;
const DATA_CSID: u32 = 5;
const VIDEO_CSID: u32 = 6;

const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const PUBLISH: f64 = 5.0;

/// Servers answer with little; this bounds a hostile one.
const LIMITS: ReadLimits = ReadLimits {
    message_bytes: 256 << 10,
    partial_budget_bytes: 512 << 10,
};

/// Where and what to publish.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Application, `live` for this project's origin.
    pub app: String,
    /// The URL up to and with the application.
    pub tc_url: String,
    /// Stream key, with a query if there is one.
    pub key: String,
    /// Chunk size that we send with, 1 to 65,536.
    pub chunk_size: u32,
    /// Enhanced RTMP properties for `connect`; empty sends none.
    pub capabilities: Capabilities,
    /// Fills the handshake's "random" bytes.
    pub seed: u64,
}

/// What the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// `connect` succeeded; the server's Enhanced RTMP properties.
    Connected(Capabilities),
    /// `NetStream.Publish.Start`: media may be sent.
    Publishing,
    /// An error status or `_error`; the server will close.
    Rejected {
        /// Such as `NetStream.Publish.BadName`.
        code: String,
        /// The server's words.
        description: String,
    },
}

/// The publisher's side of one connection.
#[derive(Debug)]
pub struct ClientSession {
    wire: Wire,
    config: ClientConfig,
    stream_id: Option<u32>,
}

impl ClientSession {
    /// The first bytes are in `take_output` at once.
    pub fn new(config: ClientConfig) -> Self {
        Self {
            wire: Wire::new(Role::Client, config.seed, LIMITS),
            config,
            stream_id: None,
        }
    }

    /// Bytes for the server since the last call.
    pub fn take_output(&mut self) -> Bytes {
        self.wire.take_output()
    }

    /// Whether `take_output` has something.
    pub fn has_output(&self) -> bool {
        self.wire.has_output()
    }

    /// Consumes `input` up to the next event; `None` once it is all consumed.
    pub fn next_event(&mut self, input: &mut &[u8]) -> Result<Option<ClientEvent>, RtmpError> {
        while let Some(incoming) = self.wire.next(input)? {
            let event = match incoming {
                Incoming::HandshakeDone => {
                    self.connect();
                    None
                }
                Incoming::Message(message) => {
                    let event = self.on_message(&message);
                    event.map_err(|kind| self.wire.error(kind))?
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Queues an audio, video or data message of the publish. `payload` is an
    /// FLV tag body of less than 16 MiB.
    pub fn send_media(&mut self, kind: MediaKind, timestamp_ms: u32, payload: Bytes) {
        let (csid, type_id) = match kind {
            MediaKind::Audio => (AUDIO_CSID, message::AUDIO),
            MediaKind::Video => (VIDEO_CSID, message::VIDEO),
            MediaKind::Data => (DATA_CSID, message::DATA_AMF0),
        };
        let message = Message {
            type_id,
            stream_id: self.stream_id.unwrap_or(1),
            timestamp_ms,
            payload,
        };
        self.wire.send(csid, &message);
    }

    /// Queues `@setDataFrame onMetaData`.
    pub fn send_metadata(&mut self, properties: Properties) {
        let values = [
            "@setDataFrame".into(),
            "onMetaData".into(),
            Value::EcmaArray(properties),
        ];
        let message = message::data(self.stream_id.unwrap_or(1), 0, &values);
        self.wire.send(DATA_CSID, &message);
    }

    /// Queues FCUnpublish and deleteStream.
    pub fn unpublish(&mut self) {
        let key = Value::from(self.config.key.as_str());
        self.call("FCUnpublish", 6.0, &[Value::Null, key]);
        let stream_id = f64::from(self.stream_id.unwrap_or(1));
        self.call("deleteStream", 7.0, &[Value::Null, stream_id.into()]);
    }

    fn call(&mut self, name: &str, transaction: f64, arguments: &[Value]) {
        self.call_on(0, name, transaction, arguments);
    }

    fn call_on(&mut self, stream_id: u32, name: &str, transaction: f64, arguments: &[Value]) {
        let mut values = vec![name.into(), transaction.into()];
        values.extend_from_slice(arguments);
        let message = message::command(stream_id, &values);
        self.wire.send(COMMAND_CSID, &message);
    }

    fn connect(&mut self) {
        self.wire.set_chunk_size(self.config.chunk_size);
        let mut object = vec![
            ("app".to_owned(), self.config.app.as_str().into()),
            ("type".to_owned(), "nonprivate".into()),
            (
                "flashVer".to_owned(),
                "FMLE/3.0 (compatible; millrace)".into(),
            ),
            ("tcUrl".to_owned(), self.config.tc_url.as_str().into()),
        ];
        if !self.config.capabilities.is_empty() {
            object.extend(self.config.capabilities.properties());
        }
        self.call("connect", CONNECT, &[Value::Object(object)]);
    }

    fn on_message(&mut self, message: &Message) -> Result<Option<ClientEvent>, ErrorKind> {
        if !matches!(
            message.type_id,
            message::COMMAND_AMF0 | message::COMMAND_AMF3
        ) {
            return Ok(None);
        }
        let command = Command::decode(message)?;
        let info = command.arguments.get(1).unwrap_or(&Value::Null);
        let text = |name: &str| {
            let text = info.get(name).and_then(Value::as_str).unwrap_or_default();
            clip(text, 1024).to_owned()
        };
        match command.name.as_str() {
            "_result" if command.transaction == CONNECT => {
                let capabilities = Capabilities::parse(info);
                self.create_stream();
                Ok(Some(ClientEvent::Connected(capabilities)))
            }
            "_result" if command.transaction == CREATE_STREAM => {
                let stream_id = stream_id(info).ok_or_else(|| malformed(&command))?;
                self.stream_id = Some(stream_id);
                let key = self.config.key.as_str().into();
                self.call_on(
                    stream_id,
                    "publish",
                    PUBLISH,
                    &[Value::Null, key, "live".into()],
                );
                Ok(None)
            }
            // Servers may not know FMLE's two calls; the publish decides.
            "_error" if [RELEASE_STREAM, FC_PUBLISH].contains(&command.transaction) => Ok(None),
            "_error" => Ok(Some(ClientEvent::Rejected {
                code: text("code"),
                description: text("description"),
            })),
            "onStatus" if text("level") == "error" => Ok(Some(ClientEvent::Rejected {
                code: text("code"),
                description: text("description"),
            })),
            "onStatus" if text("code") == "NetStream.Publish.Start" => {
                Ok(Some(ClientEvent::Publishing))
            }
            _ => Ok(None),
        }
    }

    fn create_stream(&mut self) {
        self.wire
            .send_control(&message::window_ack_size(WINDOW_BYTES));
        let key = Value::from(self.config.key.as_str());
        self.call("releaseStream", RELEASE_STREAM, &[Value::Null, key.clone()]);
        self.call("FCPublish", FC_PUBLISH, &[Value::Null, key]);
        self.call("createStream", CREATE_STREAM, &[Value::Null]);
    }
}

fn malformed(command: &Command) -> ErrorKind {
    ErrorKind::Command(clip(&command.name, 32).to_owned())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn stream_id(value: &Value) -> Option<u32> {
    let number = value.as_number()?;
    (1.0..=f64::from(u32::MAX))
        .contains(&number)
        .then_some(number as u32)
}
