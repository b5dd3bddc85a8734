//! One CHAT stream to one parent: its reader and its writer. It tells the uplink
//! all it hears, in order, and then why it ended.

use bytes::Bytes;
use common::{
    link::{Code, Message, Reader, StreamError, WireError, Writer},
    names::NodeId,
};
use tokio::sync::mpsc;

use super::{MAX_PENDING, paths::Way};
use crate::{chat::rooms::MAX_ROOMS, upstream::ChatParent};

/// Pieces on their way into a stream: every room may be entered and every wish
/// asked again at once, twice. A stream that takes so many without writing them
/// is ended.
const OUTGOING: usize = 2 * (MAX_PENDING + MAX_ROOMS);

/// What is handed to the transport in one go.
const AT_ONCE: usize = 256;

/// Which stream: a parent that comes back is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LineId(pub(super) u64);

/// What a line tells.
#[derive(Debug)]
pub(super) enum Told {
    Up,
    Heard(Message),
    /// A message made no sense; the next one may.
    Unreadable(WireError),
    Ended(Ended),
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("it finished")]
    Finished,
    #[error("refused: {0}")]
    Refused(Code),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl Ended {
    /// Whether the link went with it: it says by itself when it is back.
    pub(super) const fn is_lost(&self) -> bool {
        matches!(self, Self::Stream(StreamError::Lost(_)))
    }
}

/// A line as the uplink holds it; dropping it ends the stream.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: LineId,
    pub(super) parent: ChatParent,
    /// The parent took the stream.
    pub(super) is_up: bool,
    /// What it said of the origins.
    pub(super) origins: Vec<NodeId>,
    out: mpsc::Sender<Bytes>,
}

impl Line {
    pub(super) fn start(
        id: LineId,
        parent: ChatParent,
        told: mpsc::Sender<(LineId, Told)>,
    ) -> Self {
        let (out, outgoing) = mpsc::channel(OUTGOING);
        tokio::spawn(run(id, parent.clone(), told, outgoing));
        Self {
            id,
            parent,
            is_up: false,
            origins: Vec::new(),
            out,
        }
    }

    /// `false`: it takes nothing any more.
    pub(super) fn send(&self, piece: Bytes) -> bool {
        self.out.try_send(piece).is_ok()
    }

    pub(super) fn way(&self) -> Way<'_> {
        Way {
            node: self.parent.node(),
            role: self.parent.role(),
            rank: self.parent.rank(),
        }
    }
}

async fn run(
    id: LineId,
    parent: ChatParent,
    told: mpsc::Sender<(LineId, Told)>,
    outgoing: mpsc::Receiver<Bytes>,
) {
    let why = match parent.open().await {
        Ok((writer, reader)) => {
            if told.send((id, Told::Up)).await.is_err() {
                return;
            }
            talk(id, writer, reader, &told, outgoing).await
        }
        Err(error) => error.into(),
    };
    // Gone where the uplink is.
    let _ = told.send((id, Told::Ended(why))).await;
}

async fn talk(
    id: LineId,
    mut writer: Writer,
    mut reader: Reader,
    told: &mpsc::Sender<(LineId, Told)>,
    outgoing: mpsc::Receiver<Bytes>,
) -> Ended {
    let mut write = std::pin::pin!(write(&mut writer, outgoing));
    loop {
        let frame = tokio::select! {
            frame = reader.frame() => frame,
            ended = write.as_mut() => return ended,
        };
        let heard = match frame {
            Ok(Some(frame)) => match Message::decode(frame) {
                Ok(Message::Error(refusal)) => return Ended::Refused(refusal.code),
                Ok(message) => Told::Heard(message),
                Err(error) => Told::Unreadable(error),
            },
            Ok(None) => return Ended::Finished,
            Err(error) => return error.into(),
        };
        if told.send((id, heard)).await.is_err() {
            return Ended::Finished;
        }
    }
}

/// Writes until the stream fails, or the uplink lets go of the line.
async fn write(writer: &mut Writer, mut outgoing: mpsc::Receiver<Bytes>) -> Ended {
    let mut pieces = Vec::with_capacity(AT_ONCE);
    loop {
        if outgoing.recv_many(&mut pieces, AT_ONCE).await == 0 {
            return Ended::Finished;
        }
        if let Err(error) = writer.send_all(&mut pieces).await {
            return error.into();
        }
        pieces.clear();
    }
}
