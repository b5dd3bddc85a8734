//! The seam between a room's decisions and where they are kept: a file of this
//! origin, or the bus that origins share. Nobody is told a decision before it is
//! written here.

use std::sync::Arc;

use common::{
    chat::{Event, MessageId, Offset, Settings, Verdict},
    names::ChannelName,
};
use tracing::error;

use super::{bus::Tenure, entries::Entry, rooms::Shared, store::Store};

/// What is written of a decision, or of several at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    pub(super) entries: Vec<Entry>,
    pub(super) events: Vec<Event>,
    /// Of requests that did something.
    pub(super) verdicts: Vec<(MessageId, Verdict)>,
    /// Where the room stands after it.
    pub(super) next: Offset,
    pub(super) settings: Settings,
}

/// The room is another node's by now; who asked has to ask there.
#[derive(Debug)]
pub(super) struct Deposed;

/// See the module's text.
pub(super) enum Ledger {
    /// Facts alone: what was said is told by this process or never.
    File(Arc<Store>),
    Bus(Tenure),
}

impl Ledger {
    /// # Errors
    /// [`Deposed`], which a file never is.
    pub(super) async fn write(
        &mut self,
        shared: &Shared,
        room: &ChannelName,
        written: Written,
    ) -> Result<(), Deposed> {
        match self {
            Self::Bus(tenure) => tenure.write(written).await,
            Self::File(_) if written.entries.is_empty() => Ok(()),
            Self::File(store) => {
                let (store, name) = (store.clone(), room.clone());
                let write = move || store.write(&name, &written.entries);
                let failed = match tokio::task::spawn_blocking(write).await {
                    Ok(Ok(())) => None,
                    Ok(Err(why)) => Some(why.to_string()),
                    Err(why) => Some(why.to_string()),
                };
                // What can't be written holds until the restart, which beats a room
                // that nobody can moderate; the log and a metric tell.
                if let Some(why) = failed {
                    shared.metrics.store_errors.inc();
                    error!(%room, why, "a decision was not written to the chat store");
                }
                Ok(())
            }
        }
    }
}
