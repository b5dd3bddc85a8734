//! One decision, or several at once, as it lies in the log: what changed, what
//! happened, and what was answered. A head in JSON, a line feed, then messages of
//! the link: ROOM as the room stands after it, EVENTs, VERDICTs. Pure.
//!
//! Invariant: who has all records of a room up to one has all that was told anybody
//! up to it.

use bytes::{BufMut, Bytes, BytesMut};
use common::{
    chat::{Event, MessageId, Offset, RoomEpoch, Settings, Verdict},
    link::{Chat, Decoder, Message, WireError, chat::encode_event},
    names::ChannelName,
};
use serde::{Deserialize, Serialize};

use crate::chat::entries::Entry;

/// Why a record of the log can't be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::chat) enum RecordError {
    #[error("a record without its head")]
    Headless,
    #[error("the head of a record: {0}")]
    Head(#[from] serde_json::Error),
    #[error("a record: {0}")]
    Body(#[from] WireError),
    #[error("a record that does not say where its room stands")]
    Nowhere,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) struct Record {
    /// The owner's: what it was fenced with.
    pub epoch: RoomEpoch,
    /// Which of the owner's records it is: with the epoch, its name.
    pub number: u64,
    pub entries: Vec<Entry>,
    pub events: Vec<Event>,
    pub verdicts: Vec<(MessageId, Verdict)>,
    /// Where the room stands after it.
    pub next: Offset,
    pub settings: Settings,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    epoch: u64,
    number: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entries: Vec<Entry>,
}

impl Record {
    pub fn encode(&self, room: &ChannelName) -> Bytes {
        let head = Head {
            epoch: self.epoch.0,
            number: self.number,
            entries: self.entries.clone(),
        };
        let mut out = BytesMut::new().writer();
        // Strings and numbers always serialise, and memory takes them.
        let _ = serde_json::to_writer(&mut out, &head);
        let mut out = out.into_inner();
        out.put_u8(b'\n');
        let stands = Chat::Room {
            room: room.clone(),
            epoch: self.epoch,
            next: self.next,
            live: self.next,
            settings: self.settings,
        };
        out.extend_from_slice(&Message::Chat(stands).encode());
        for event in &self.events {
            out.extend_from_slice(&encode_event(room, event));
        }
        for (id, verdict) in &self.verdicts {
            let (id, verdict) = (*id, verdict.clone());
            out.extend_from_slice(&Message::Chat(Chat::Verdict { id, verdict }).encode());
        }
        out.freeze()
    }

    /// # Errors
    /// [`RecordError`] for what [`Self::encode`] did not make.
    pub fn decode(mut bytes: Bytes) -> Result<Self, RecordError> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let head = bytes.split_to(end.ok_or(RecordError::Headless)?);
        let head: Head = serde_json::from_slice(&head)?;
        let mut body = bytes.split_off(1);
        let mut stands = None;
        let (mut events, mut verdicts) = (Vec::new(), Vec::new());
        let mut decoder = Decoder::default();
        while let Some(frame) = decoder.next(&mut body)? {
            match Message::decode(frame)? {
                Message::Chat(Chat::Room { next, settings, .. }) => stands = Some((next, settings)),
                Message::Chat(Chat::Event { event, .. }) => events.push(*event),
                Message::Chat(Chat::Verdict { id, verdict }) => verdicts.push((id, verdict)),
                // Of a later version.
                _ => {}
            }
        }
        if !decoder.at_boundary() {
            return Err(WireError::Cut.into());
        }
        let (next, settings) = stands.ok_or(RecordError::Nowhere)?;
        Ok(Self {
            epoch: RoomEpoch(head.epoch),
            number: head.number,
            entries: head.entries,
            events,
            verdicts,
            next,
            settings,
        })
    }
}

#[cfg(test)]
mod tests {
    use common::{
        chat::{Body, Notice, NoticeId, Stamp},
        live::UnixMs,
    };

    use super::*;

    fn record() -> Record {
        let stamp = Stamp {
            epoch: RoomEpoch(9),
            offset: Offset(4),
            id: MessageId(7),
            at: UnixMs(1),
            program: UnixMs(2),
        };
        let notice = Notice::new(NoticeId::BanSuccess, "gone");
        Record {
            epoch: RoomEpoch(9),
            number: 3,
            entries: vec![Entry {
                kind: "ban".to_owned(),
                key: "ann".to_owned(),
                value: Some("{\"by\":\"a\\nb\"}".to_owned()),
            }],
            events: vec![Event {
                stamp,
                body: Body::Cleared,
            }],
            verdicts: vec![
                (MessageId(7), Verdict::Done(notice)),
                (MessageId(8), Verdict::Said(stamp)),
            ],
            next: Offset(5),
            settings: Settings {
                slow_s: 3,
                ..Settings::default()
            },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let room = ChannelName::parse("demo").unwrap();
        let record = record();
        assert_eq!(Record::decode(record.encode(&room)).unwrap(), record);
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let room = ChannelName::parse("demo").unwrap();
        let whole = record().encode(&room);
        let frames = whole.iter().position(|byte| *byte == b'\n').unwrap();
        let cut = |end: usize| Record::decode(whole.slice(..end));
        assert!(matches!(cut(frames), Err(RecordError::Headless)));
        assert!(matches!(cut(frames + 1), Err(RecordError::Nowhere)));
        assert!(matches!(cut(whole.len() - 1), Err(RecordError::Body(_))));
        let strange = Bytes::from_static(b"{}\n");
        assert!(matches!(Record::decode(strange), Err(RecordError::Head(_))));
    }
}
