//! The log of rooms: a stream with a subject a room. An append names what it
//! follows, and fails where that is not the end any more.

use std::{collections::HashMap, time::Duration};

use async_nats::{
    HeaderMap, HeaderValue,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{
        self,
        consumer::{AckPolicy, DeliverPolicy, pull},
        context::PublishErrorKind,
        message::PublishMessage,
        stream::{self, LastRawMessageErrorKind},
    },
};
use bytes::Bytes;
use common::names::ChannelName;
use futures_util::StreamExt;
use tokio::time::timeout;
use tracing::error;

use super::{ANSWER, BusError, PASSED_ON, record::Record, timely};

const STREAM: &str = "MILLRACE_CHAT";

/// Records of a room that are kept: at least as many events as a feed holds.
pub(super) const MOST_RECORDS: usize = 1_024;

/// And for how long: a room's past, and requests that come again.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Messages that are asked for at once.
const AT_ONCE: usize = 512;

/// A consumer that nobody uses is forgotten by the server after this.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// The last record of a subject: 0 for none.
pub(super) type Seq = u64;

#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    /// Somebody else appended.
    #[error("it is not the end of the log any more")]
    Overtaken,
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What was read of a room's log.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Oldest first, without those that can't be read, as of a later version.
    pub(super) records: Vec<(Seq, Record)>,
    /// Where the log ends, whether that record could be read or not: what the next one
    /// follows.
    pub(super) last: Seq,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Log {
    context: jetstream::Context,
    stream: stream::Stream,
}

impl Log {
    pub(super) async fn open(
        context: &jetstream::Context,
        replicas: usize,
    ) -> Result<Self, BusError> {
        let config = stream::Config {
            name: STREAM.to_owned(),
            description: Some("What chat rooms decided, in order".to_owned()),
            subjects: vec!["millrace.chat.log.*".to_owned()],
            max_messages_per_subject: i64::try_from(MOST_RECORDS).unwrap_or(i64::MAX),
            max_age: KEPT,
            num_replicas: replicas,
            ..stream::Config::default()
        };
        let stream = context.get_or_create_stream(config).await;
        Ok(Self {
            context: context.clone(),
            stream: stream.map_err(BusError::of("opening the log"))?,
        })
    }

    /// Appends what follows `after`, once it is on disk; its number.
    pub(super) async fn append(
        &self,
        room: &ChannelName,
        after: Seq,
        record: Bytes,
    ) -> Result<Seq, AppendError> {
        put(&self.context, subject(room), after, &[], record).await
    }

    pub(super) async fn last(&self, room: &ChannelName) -> Result<Option<(Seq, Bytes)>, BusError> {
        let subject = subject(room);
        let found = self.stream.get_last_raw_message_by_subject(&subject);
        let reading = "reading the log's end";
        let found = timeout(PASSED_ON, found).await;
        match found.map_err(BusError::of(reading))? {
            Ok(message) => Ok(Some((message.sequence, message.payload))),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(BusError::of(reading)(error)),
        }
    }

    /// All records of a room that follow `after`.
    pub(super) async fn read(&self, room: &ChannelName, after: Seq) -> Result<Past, BusError> {
        let from = DeliverPolicy::ByStartSequence {
            start_sequence: after + 1,
        };
        let found = read_all(&self.stream, subject(room), from).await?;
        let last = found.last().map_or(after, |message| message.seq);
        let records = found.into_iter().filter_map(|message| {
            let seq = message.seq;
            Record::decode(message.payload)
                .inspect_err(|why| error!(%room, seq, %why, "a record is passed over"))
                .map(|record| (seq, record))
                .ok()
        });
        Ok(Past {
            records: records.collect(),
            last,
        })
    }
}

fn subject(room: &ChannelName) -> String {
    format!("millrace.chat.log.{room}")
}

/// Publishes into a stream what follows message `after` of the same subject, and
/// waits until it is taken; its number.
pub(super) async fn put(
    context: &jetstream::Context,
    subject: String,
    after: Seq,
    also: &[(&str, &str)],
    payload: Bytes,
) -> Result<Seq, AppendError> {
    let mut headers = HeaderMap::new();
    headers.insert(
        NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
        HeaderValue::from(after),
    );
    for (name, value) in also {
        headers.insert(*name, *value);
    }
    let message = PublishMessage::build().headers(headers).payload(payload);
    let failed = |error: jetstream::context::PublishError| match error.kind() {
        PublishErrorKind::WrongLastSequence => AppendError::Overtaken,
        _ => BusError::of("appending")(error).into(),
    };
    let acked = context
        .send_publish(subject, message)
        .await
        .map_err(failed)?;
    let acked = acked.await.map_err(failed)?;
    Ok(acked.sequence)
}

/// A message as it lies in a stream.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) seq: Seq,
    pub(super) headers: HashMap<String, String>,
    pub(super) payload: Bytes,
}

/// All that a stream holds under `filter` now.
pub(super) async fn read_all(
    stream: &stream::Stream,
    filter: String,
    from: DeliverPolicy,
) -> Result<Vec<Stored>, BusError> {
    let reading = "reading a stream";
    let config = pull::Config {
        filter_subject: filter,
        deliver_policy: from,
        ack_policy: AckPolicy::None,
        inactive_threshold: FORGOTTEN,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer = timely(reading, stream.create_consumer(config)).await?;
    let pending = consumer.cached_info().num_pending;
    let mut left = usize::try_from(pending).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    while left > 0 {
        let batch = consumer.fetch().max_messages(left.min(AT_ONCE)).messages();
        let mut batch = timely(reading, batch).await?;
        let before = found.len();
        // A batch whose end was lost with its connection ends by itself.
        while let Some(message) = timeout(ANSWER, batch.next())
            .await
            .map_err(BusError::of(reading))?
        {
            let message = message.map_err(BusError::of(reading))?;
            let seq = message
                .info()
                .map_err(BusError::of(reading))?
                .stream_sequence;
            let headers = message.headers.iter().flat_map(HeaderMap::iter);
            let headers = headers
                .filter_map(|(name, values)| Some((name.to_string(), values.first()?.to_string())));
            found.push(Stored {
                subject: message.subject.to_string(),
                seq,
                headers: headers.collect(),
                payload: message.message.payload.clone(),
            });
        }
        let got = found.len() - before;
        if got == 0 {
            // What was there is gone: it grew too old meanwhile.
            break;
        }
        left = left.saturating_sub(got);
    }
    // The server forgets it by itself where this fails.
    let name = &consumer.cached_info().name;
    let _ = timely(reading, stream.delete_consumer(name)).await;
    Ok(found)
}
