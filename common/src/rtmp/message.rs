//! Protocol control, commands and aggregates: the bodies of messages.
//!
//! Comes in: a whole message's body; goes out: what it says, or an error; and
//! the bodies of what we say ourselves. Spec: RTMP 1.0, 5.4, 6.2, 7.1 and 7.2.

use bytes::Bytes;

use super::amf0::{self, Decoder, Value};
use super::chunk::Message;
use super::error::ErrorKind;
use super::limits::MAX_COMMAND_BYTES;

pub(super) const SET_CHUNK_SIZE: u8 = 1;
pub(super) const ABORT: u8 = 2;
pub(super) const ACKNOWLEDGEMENT: u8 = 3;
pub(super) const USER_CONTROL: u8 = 4;
pub(super) const WINDOW_ACK_SIZE: u8 = 5;
pub(super) const SET_PEER_BANDWIDTH: u8 = 6;
pub(super) const AUDIO: u8 = 8;
pub(super) const VIDEO: u8 = 9;
pub(super) const DATA_AMF3: u8 = 15;
pub(super) const COMMAND_AMF3: u8 = 17;
pub(super) const DATA_AMF0: u8 = 18;
pub(super) const COMMAND_AMF0: u8 = 20;
pub(super) const AGGREGATE: u8 = 22;

const STREAM_BEGIN: u16 = 0;
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;
/// Peer bandwidth limit type "dynamic".
const DYNAMIC: u8 = 2;

/// A protocol control or user control message that asks something of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    SetChunkSize(u32),
    Abort(u32),
    WindowAckSize(u32),
    Ping(u32),
    /// Acknowledgements, bandwidths and events that a server has no use for.
    Other,
}

/// `None` for a type that is not a control message.
pub(super) fn parse_control(message: &Message) -> Result<Option<Control>, ErrorKind> {
    let body = &message.payload[..];
    let short = ErrorKind::ControlLength(message.type_id);
    let word = |at: usize| -> Option<u32> {
        let bytes = body.get(at..at + 4)?;
        Some(bytes.iter().fold(0, |sum, b| sum << 8 | u32::from(*b)))
    };
    let control = match message.type_id {
        SET_CHUNK_SIZE => word(0).map(Control::SetChunkSize),
        ABORT => word(0).map(Control::Abort),
        WINDOW_ACK_SIZE => word(0).map(Control::WindowAckSize),
        ACKNOWLEDGEMENT | SET_PEER_BANDWIDTH => word(0).map(|_| Control::Other),
        USER_CONTROL => match body {
            [high, low, ..] if u16::from_be_bytes([*high, *low]) == PING_REQUEST => {
                word(2).map(Control::Ping)
            }
            [_, _, ..] => Some(Control::Other),
            _ => None,
        },
        _ => return Ok(None),
    };
    control.map(Some).ok_or(short)
}

fn control(type_id: u8, body: &[u8]) -> Message {
    Message {
        type_id,
        stream_id: 0,
        timestamp_ms: 0,
        payload: Bytes::copy_from_slice(body),
    }
}

pub(super) fn set_chunk_size(size: u32) -> Message {
    control(SET_CHUNK_SIZE, &size.to_be_bytes())
}

/// The sequence number wraps at 2^32 (5.4.3).
pub(super) fn acknowledgement(received: u64) -> Message {
    let [_, _, _, _, word @ ..] = received.to_be_bytes();
    control(ACKNOWLEDGEMENT, &word)
}

pub(super) fn window_ack_size(bytes: u32) -> Message {
    control(WINDOW_ACK_SIZE, &bytes.to_be_bytes())
}

pub(super) fn set_peer_bandwidth(bytes: u32) -> Message {
    let [a, b, c, d] = bytes.to_be_bytes();
    control(SET_PEER_BANDWIDTH, &[a, b, c, d, DYNAMIC])
}

fn user_control(event: u16, word: u32) -> Message {
    let ([a, b], [c, d, e, f]) = (event.to_be_bytes(), word.to_be_bytes());
    control(USER_CONTROL, &[a, b, c, d, e, f])
}

pub(super) fn ping_response(timestamp: u32) -> Message {
    user_control(PING_RESPONSE, timestamp)
}

pub(super) fn stream_begin(stream_id: u32) -> Message {
    user_control(STREAM_BEGIN, stream_id)
}

/// A remote call or its answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) name: String,
    pub(super) transaction: f64,
    /// All that follows the transaction id, the command object first.
    pub(super) arguments: Vec<Value>,
}

impl Command {
    /// Type 17 announces AMF3 but holds AMF0 behind a zero byte.
    pub(super) fn decode(message: &Message) -> Result<Self, ErrorKind> {
        let body = amf_body(message)?;
        let mut values = Decoder::new(body);
        let Some(Value::String(name)) = values.next_value()? else {
            return Err(ErrorKind::Command(String::new()));
        };
        let transaction = match values.next_value()? {
            Some(Value::Number(number)) => number,
            None | Some(Value::Null | Value::Undefined) => 0.0,
            Some(_) => return Err(ErrorKind::Command(clip(&name, 32).to_owned())),
        };
        let arguments = values.rest()?;
        Ok(Self {
            name,
            transaction,
            arguments,
        })
    }

    pub(super) fn text(&self, index: usize) -> Option<&str> {
        self.arguments.get(index)?.as_str()
    }

    pub(super) fn number(&self, index: usize) -> Option<f64> {
        self.arguments.get(index)?.as_number()
    }
}

/// The AMF0 of a command or data message, bounded.
pub(super) fn amf_body(message: &Message) -> Result<&[u8], ErrorKind> {
    let body = &message.payload[..];
    if body.len() > MAX_COMMAND_BYTES {
        return Err(ErrorKind::MessageTooLong {
            declared_bytes: body.len(),
            limit_bytes: MAX_COMMAND_BYTES,
        });
    }
    Ok(match (message.type_id, body) {
        (COMMAND_AMF3 | DATA_AMF3, [0, rest @ ..]) => rest,
        _ => body,
    })
}

pub(super) fn command(stream_id: u32, values: &[Value]) -> Message {
    Message {
        type_id: COMMAND_AMF0,
        stream_id,
        timestamp_ms: 0,
        payload: amf0::encode_all(values).freeze(),
    }
}

/// The information object of `onStatus`, `_result` and `_error`.
pub(super) fn status(level: &str, code: &str, description: &str) -> amf0::Properties {
    vec![
        ("level".to_owned(), level.into()),
        ("code".to_owned(), code.into()),
        ("description".to_owned(), description.into()),
    ]
}

/// At most `max` bytes of a stranger's text, cut at a character.
pub(super) fn clip(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Splits the next message off an aggregate (7.1.6). The first one's timestamp
/// stands for the aggregate's own; `base_ms` remembers the difference.
pub(super) fn split_aggregate(
    aggregate: &mut Message,
    base_ms: &mut Option<u32>,
) -> Result<Option<Message>, ErrorKind> {
    const HEADER: usize = 11;
    const TRAILER: usize = 4;
    let body = &mut aggregate.payload;
    if body.is_empty() {
        return Ok(None);
    }
    let &[type_id, l0, l1, l2, t0, t1, t2, t3, _, _, _, ..] = &body[..] else {
        return Err(ErrorKind::Aggregate);
    };
    if type_id == AGGREGATE {
        return Err(ErrorKind::Aggregate);
    }
    let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
    let end = HEADER + length;
    if body.len() < end {
        return Err(ErrorKind::Aggregate);
    }
    let time_ms = u32::from_be_bytes([t3, t0, t1, t2]);
    let base = *base_ms.get_or_insert(time_ms);
    let payload = body.slice(HEADER..end);
    // The back pointer repeats the length; some senders leave the last one out.
    let next = (end + TRAILER).min(body.len());
    *body = body.slice(next..);
    Ok(Some(Message {
        type_id,
        stream_id: aggregate.stream_id,
        timestamp_ms: aggregate
            .timestamp_ms
            .wrapping_add(time_ms.wrapping_sub(base)),
        payload,
    }))
}

/// The body of a data message.
pub(super) fn data(stream_id: u32, timestamp_ms: u32, values: &[Value]) -> Message {
    Message {
        type_id: DATA_AMF0,
        stream_id,
        timestamp_ms,
        payload: amf0::encode_all(values).freeze(),
    }
}
