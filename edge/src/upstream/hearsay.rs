//! What this edge says to an origin of who watches the origin's channels, where
//! another origin that it is linked to counts them ([`common::live::Hearsay`]).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use common::{
    link::{Heard, Message, StreamError, Writer, decode::MAX_AUDIENCE},
    live::Crowd,
    names::{ChannelName, NodeId},
    tls::Role,
};
use tokio::time::sleep;

use super::{Shared, session::Session};

/// As often as origins tell.
const PACE: Duration = Duration::from_secs(2);

/// By the origin that counts.
type Crowds = BTreeMap<NodeId, HashMap<ChannelName, Crowd>>;

/// Says it for as long as the link lasts. What goes wrong with the stream is the
/// link's to tell; an origin that does not listen says so once.
pub(super) async fn tell(shared: Arc<Shared>, session: Arc<Session>) {
    let _ = tells(&shared, &session).await;
}

async fn tells(shared: &Shared, session: &Session) -> Result<(), StreamError> {
    let to = &session.parent.node;
    let (mut links, mut counts) = (shared.changes(), shared.audience.changes());
    let mut channels = shared.directory.changes();
    // Nothing to say, and no stream, while no other origin is linked.
    let (mut told, mut said) = loop {
        links.mark_unchanged();
        if !session.is_open() {
            return Ok(());
        }
        let now = heard(shared, to);
        let said = differences(&Crowds::new(), &now);
        if !said.is_empty() {
            break (now, said.into_iter());
        }
        // Ticks with the link's end, too. Its sender is `shared`'s: a change is all
        // that can come, here and below.
        let _ = links.changed().await;
    };
    let Some(first) = said.next() else {
        return Ok(());
    };
    let (mut writer, mut reader) = session.request(&Message::Hearsay(first)).await?;
    say(&mut writer, said).await?;
    loop {
        tokio::select! {
            // Nothing is answered but that nobody listens.
            _ = reader.next() => return Ok(()),
            () = sleep(PACE) => {}
        }
        tokio::select! {
            _ = reader.next() => return Ok(()),
            _ = links.changed() => {}
            _ = counts.changed() => {}
            _ = channels.changed() => {}
        }
        links.mark_unchanged();
        counts.mark_unchanged();
        channels.mark_unchanged();
        let now = heard(shared, to);
        say(&mut writer, differences(&told, &now)).await?;
        told = now;
    }
}

async fn say(
    writer: &mut Writer,
    heard: impl IntoIterator<Item = Heard>,
) -> Result<(), StreamError> {
    let mut pieces: Vec<_> = heard
        .into_iter()
        .map(|heard| Message::Hearsay(heard).encode())
        .collect();
    writer.send_all(&mut pieces).await
}

/// What other origins that are linked now count of the channels that `to` has.
fn heard(shared: &Shared, to: &NodeId) -> Crowds {
    let routes = shared.routes.lock();
    let open = routes.links().filter(|(_, session)| session.is_open());
    let origins = open.filter(|(_, session)| session.parent.role == Role::Origin);
    let others: Vec<_> = origins
        .map(|(_, session)| session.parent.node.clone())
        .filter(|node| node != to)
        .collect();
    drop(routes);
    if others.is_empty() {
        return Crowds::new();
    }
    let mut all = shared.directory.snapshot();
    all.retain(|channel| channel.announcement.hops.first() == Some(to));
    let of = |origin: NodeId| {
        let names = all.iter().map(|channel| &channel.announcement.channel);
        let crowds = shared.audience.told_by(&origin, names);
        (origin, crowds)
    };
    others.into_iter().map(of).collect()
}

/// What makes `told` to `now`.
fn differences(told: &Crowds, now: &Crowds) -> Vec<Heard> {
    let mut said = Vec::new();
    for origin in told.keys().filter(|origin| !now.contains_key(origin)) {
        said.push(Heard {
            origin: origin.clone(),
            linked: false,
            crowds: Vec::new(),
        });
    }
    for (origin, crowds) in now {
        let before = told.get(origin);
        let old = |channel| before.and_then(|before| before.get(channel)).copied();
        let gone = before.into_iter().flatten();
        let gone = gone.filter(|(channel, _)| !crowds.contains_key(channel));
        let gone = gone.map(|(channel, _)| (channel.clone(), Crowd::default()));
        let others = crowds.iter();
        let others = others.filter(|(channel, crowd)| old(channel) != Some(**crowd));
        let others = others.map(|(channel, crowd)| (channel.clone(), *crowd));
        let moved: Vec<_> = gone.chain(others).collect();
        let mut pieces: Vec<_> = moved.chunks(MAX_AUDIENCE).map(<[_]>::to_vec).collect();
        if before.is_none() && pieces.is_empty() {
            // That it is heard, though nobody is there.
            pieces.push(Vec::new());
        }
        said.extend(pieces.into_iter().map(|crowds| Heard {
            origin: origin.clone(),
            linked: true,
            crowds,
        }));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowds(of: &[(&str, u32)]) -> HashMap<ChannelName, Crowd> {
        let crowd = |(name, viewers): &(&str, u32)| {
            let (viewers, chatters) = (*viewers, 0);
            (
                ChannelName::parse(name).unwrap(),
                Crowd { viewers, chatters },
            )
        };
        of.iter().map(crowd).collect()
    }

    #[test]
    fn changes_alone_are_said() {
        let origin = NodeId::parse("o-2").unwrap();
        let with = |of: &[(&str, u32)]| Crowds::from([(origin.clone(), crowds(of))]);
        let said = |told: &Crowds, now: &Crowds| {
            let said = differences(told, now).into_iter();
            let said = said.map(|heard| {
                let mut crowds: Vec<_> = heard.crowds.iter().collect();
                crowds.sort_by(|one, other| one.0.cmp(&other.0));
                let crowds = crowds
                    .iter()
                    .map(|(of, crowd)| format!("{of}={}", crowd.viewers));
                (heard.linked, crowds.collect::<Vec<_>>().join(" "))
            });
            said.collect::<Vec<_>>()
        };
        let none = Crowds::new();
        let (empty, some) = (with(&[]), with(&[("a", 1), ("b", 2)]));
        let is = |linked: bool, text: &str| vec![(linked, text.to_owned())];
        assert_eq!(said(&none, &empty), is(true, ""));
        assert_eq!(said(&none, &some), is(true, "a=1 b=2"));
        assert_eq!(said(&some, &some), []);
        assert_eq!(said(&some, &with(&[("b", 3)])), is(true, "a=0 b=3"));
        assert_eq!(said(&some, &none), is(false, ""));
        let many: Vec<_> = (0..600).map(|n| format!("c{n}")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!(differences(&none, &with(&many)).len(), 3);
    }
}
