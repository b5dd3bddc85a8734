//! WATCH: what is live here, first all of it, then each change. The difference
//! is taken when the stream has room, so a slow child costs two tables and no queue.
//! The places to publish to ([`super::ingests`]) go the same way.

use std::{collections::BTreeMap, sync::Arc};

use super::{Peer, Synced, ingests};
use crate::{
    link::{
        decode::MAX_HOPS,
        message::{GoneReason, Message},
        stream::{Reader, StreamError, Writer},
    },
    live::{Announcement, Broadcast, BroadcastState, Channel, Phase, Stage},
    names::ChannelName,
};

/// What the child was told last, and the broadcast that it was told of.
struct Told {
    live: Announcement,
    broadcast: Option<Arc<Broadcast>>,
}

impl Peer {
    pub(super) async fn watch(
        &self,
        prefix: &str,
        writer: &mut Writer,
        reader: &mut Reader,
    ) -> Result<(), StreamError> {
        let mut changes = self.shared.directory.changes();
        let mut ingests_change = self.shared.ingests.changes();
        let mut told = BTreeMap::new();
        let mut told_ingests = Vec::new();
        let mut snapshot_due = true;
        loop {
            changes.mark_unchanged();
            // Asked first, so that a SNAPSHOT comes behind all that made it true.
            let synced = self.shared.synced.clone();
            let knows = synced.as_ref().is_none_or(|synced| *synced.borrow());
            let now = self.visible(prefix);
            let known = ingests_change.borrow_and_update().clone();
            let ingests = self.visible_ingests(&known);
            let mut messages = differences(&told, &now);
            messages.extend(ingests::changes(&told_ingests, &ingests));
            let mut pieces: Vec<_> = messages.iter().map(Message::encode).collect();
            if snapshot_due && knows {
                snapshot_due = false;
                let channels = now.len() as u64;
                pieces.push(Message::Snapshot { channels }.encode());
            }
            told = now;
            told_ingests = ingests;
            writer.send_all(&mut pieces).await?;
            tokio::select! {
                () = holds(synced), if snapshot_due => {}
                changed = changes.changed() => if changed.is_err() {
                    return Ok(());
                },
                changed = ingests_change.changed() => if changed.is_err() {
                    return Ok(());
                },
                // Nothing follows a WATCH but its end.
                message = reader.next() => {
                    message?;
                    return Ok(());
                }
            }
        }
    }

    fn visible(&self, prefix: &str) -> BTreeMap<ChannelName, Told> {
        let all = self.shared.directory.snapshot().into_iter();
        all.filter(|channel| channel.announcement.channel.as_str().starts_with(prefix))
            // A path that leads through the child is none for it.
            .filter(|channel| !channel.announcement.hops.contains(&self.identity.node))
            // One hop more would not fit into a LIVE.
            .filter(|channel| channel.announcement.hops.len() < MAX_HOPS)
            .map(|channel| (channel.announcement.channel.clone(), self.told(channel)))
            .collect()
    }

    fn told(&self, channel: Channel) -> Told {
        let mut announcement = channel.announcement;
        // An origin's path begins with itself already.
        if announcement.hops.last() != Some(&self.shared.hello.node) {
            announcement.hops.push(self.shared.hello.node.clone());
        }
        announcement.cost = announcement.cost.saturating_add(self.shared.hello.cost);
        let broadcast = match channel.stage {
            Stage::Ready(broadcast) => Some(broadcast),
            Stage::Starting => None,
        };
        if broadcast.as_ref().is_some_and(|broadcast| {
            broadcast.id == announcement.broadcast && broadcast.state() == BroadcastState::Ended
        }) {
            announcement.phase = Phase::Ended;
        }
        Told {
            live: announcement,
            broadcast,
        }
    }
}

/// Resolves once this node knows what there is.
async fn holds(synced: Option<Synced>) {
    if let Some(mut synced) = synced
        && synced.wait_for(|synced| *synced).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn differences(
    told: &BTreeMap<ChannelName, Told>,
    now: &BTreeMap<ChannelName, Told>,
) -> Vec<Message> {
    let mut messages = Vec::new();
    for (channel, old) in told {
        if !now.contains_key(channel) {
            let ended = old.live.phase == Phase::Ended
                || old
                    .broadcast
                    .as_ref()
                    .is_some_and(|broadcast| broadcast.state() == BroadcastState::Ended);
            messages.push(Message::Gone {
                channel: channel.clone(),
                broadcast: old.live.broadcast,
                reason: if ended {
                    GoneReason::Ended
                } else {
                    GoneReason::Lost
                },
            });
        }
    }
    for (channel, new) in now {
        if told.get(channel).is_none_or(|old| old.live != new.live) {
            messages.push(Message::Live(new.live.clone()));
        }
    }
    messages
}
