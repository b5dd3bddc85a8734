//! WATCH: what is live here, first all of it, then each change. The difference
//! is taken when the stream has room, so a slow child costs two tables and no queue.
//! The places to publish to ([`super::ingests`]) go the same way. Beside it, at a pace
//! of its own: what is said of channels, and who watches them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep_until},
};

use super::{Peer, Synced, ingests};
use crate::{
    link::{
        decode::{MAX_AUDIENCE, MAX_HOPS},
        message::{GoneReason, Message},
        stream::{Reader, StreamError, Writer},
    },
    live::{About, Announcement, Broadcast, BroadcastState, Channel, Crowd, Phase, Stage},
    names::ChannelName,
};

/// Titles, health and counts are told again no more often, unless something that
/// cannot wait is told anyway.
const NEWS_PACE: Duration = Duration::from_secs(2);

/// What the child was told last, and the broadcast that it was told of.
struct Told {
    live: Announcement,
    broadcast: Option<Arc<Broadcast>>,
    about: Option<Arc<About>>,
}

/// Ticks when there may be something to tell that can wait.
struct News {
    abouts: Receiver<u64>,
    audience: Receiver<u64>,
    told_at: Instant,
}

impl News {
    /// What changes from now on is news.
    fn told(&mut self) {
        self.abouts.mark_unchanged();
        self.audience.mark_unchanged();
        self.told_at = Instant::now();
    }

    /// Resolves when it is time to look again. Cancel-safe.
    async fn due(&mut self) {
        sleep_until(self.told_at + NEWS_PACE).await;
        // Their senders live as long as the server.
        let changed = tokio::select! {
            changed = self.abouts.changed() => changed,
            changed = self.audience.changed() => changed,
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
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
        let mut news = News {
            abouts: self.shared.abouts.changes(),
            audience: self.shared.audience.changes(),
            told_at: Instant::now(),
        };
        let mut told = BTreeMap::new();
        let mut told_ingests = Vec::new();
        let mut crowds = HashMap::new();
        let mut snapshot_due = true;
        loop {
            changes.mark_unchanged();
            news.told();
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
            let mut crowds_now = self.shared.audience.snapshot();
            crowds_now.retain(|channel, _| channel.as_str().starts_with(prefix));
            let moved = moved(&crowds, &crowds_now);
            let told_at_once = moved.chunks(MAX_AUDIENCE);
            pieces.extend(told_at_once.map(|some| Message::Audience(some.to_vec()).encode()));
            crowds = crowds_now;
            writer.send_all(&mut pieces).await?;
            tokio::select! {
                () = holds(synced), if snapshot_due => {}
                changed = changes.changed() => if changed.is_err() {
                    return Ok(());
                },
                changed = ingests_change.changed() => if changed.is_err() {
                    return Ok(());
                },
                () = news.due() => {}
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
            about: self.shared.abouts.get(&announcement.channel),
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
        let old = told.get(channel);
        if old.is_none_or(|old| old.live != new.live) {
            messages.push(Message::Live(new.live.clone()));
        }
        let known = old
            .filter(|old| old.live.broadcast == new.live.broadcast)
            .and_then(|old| old.about.as_ref());
        if known != new.about.as_ref() {
            messages.push(Message::About {
                channel: channel.clone(),
                broadcast: new.live.broadcast,
                about: new.about.clone().unwrap_or_default(),
            });
        }
    }
    messages
}

/// Channels whose crowd is another one.
fn moved(
    told: &HashMap<ChannelName, Crowd>,
    now: &HashMap<ChannelName, Crowd>,
) -> Vec<(ChannelName, Crowd)> {
    let gone = told.keys().filter(|channel| !now.contains_key(channel));
    let gone = gone.map(|channel| (channel.clone(), Crowd::default()));
    let others = now
        .iter()
        .filter(|(channel, crowd)| told.get(channel) != Some(crowd))
        .map(|(channel, crowd)| (channel.clone(), *crowd));
    gone.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{BroadcastId, Epoch, NodeId};

    fn told(broadcast: u64, title: &str) -> BTreeMap<ChannelName, Told> {
        let channel = ChannelName::parse("demo").unwrap();
        let live = Announcement {
            channel: channel.clone(),
            broadcast: BroadcastId(broadcast),
            epoch: Epoch(broadcast),
            phase: Phase::Live,
            hops: vec![NodeId::parse("o").unwrap()],
            cost: 1,
            grace_ms: 0,
        };
        let about = About {
            title: title.to_owned(),
            ..About::default()
        };
        let told = Told {
            live,
            broadcast: None,
            about: (!title.is_empty()).then(|| Arc::new(about)),
        };
        BTreeMap::from([(channel, told)])
    }

    fn kinds(messages: &[Message]) -> Vec<String> {
        let kind = |message: &Message| match message {
            Message::Live(live) => format!("live {}", live.broadcast.0),
            Message::About {
                broadcast, about, ..
            } => format!("about {} {:?}", broadcast.0, about.title),
            other => format!("{other:?}"),
        };
        messages.iter().map(kind).collect()
    }

    /// A child that hears of another broadcast forgets what was said of the old one.
    #[test]
    fn what_is_said_follows_its_broadcast() {
        let said = |old, new| kinds(&differences(&old, &new));
        assert_eq!(
            said(BTreeMap::new(), told(1, "a")),
            ["live 1", "about 1 \"a\""]
        );
        assert_eq!(said(BTreeMap::new(), told(1, "")), ["live 1"]);
        assert_eq!(said(told(1, "a"), told(1, "a")), [""; 0]);
        assert_eq!(said(told(1, "a"), told(1, "b")), ["about 1 \"b\""]);
        assert_eq!(said(told(1, "a"), told(1, "")), ["about 1 \"\""]);
        assert_eq!(
            said(told(1, "a"), told(2, "a")),
            ["live 2", "about 2 \"a\""]
        );
    }

    #[test]
    fn crowds_are_told_as_they_change() {
        let name = |name: &str| ChannelName::parse(name).unwrap();
        let crowd = |viewers| Crowd {
            viewers,
            chatters: 0,
        };
        let before = HashMap::from([(name("a"), crowd(1)), (name("b"), crowd(2))]);
        let after = HashMap::from([(name("b"), crowd(2)), (name("c"), crowd(3))]);
        let mut told = moved(&before, &after);
        told.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(told, [(name("a"), crowd(0)), (name("c"), crowd(3))]);
        assert!(moved(&after, &after).is_empty());
    }
}
