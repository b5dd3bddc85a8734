//! This edge as a parent: the rooms that it reads, for edges behind it.
//!
//! In: a link's children that enter rooms, ask and count. Out: the same feeds that
//! connections here read, and wishes towards the rooms' home. One task gives out
//! handles, one a room passes on; a room stays for as long as a child holds it.

use std::{collections::HashMap, sync::Arc};

use common::{
    chat::{Asked, RoomHandle},
    link::{ChatPort, Code, OpenRoom},
    names::{ChannelName, NodeId},
};
use tokio::sync::{mpsc, watch};

use super::{
    Shared,
    rooms::Room,
    uplink::{ReplyTo, Wish, busy},
};

/// Rooms asked for that were not looked at yet; more wait in their streams.
const OPENS: usize = 64;

/// Wishes of children in one room that were not passed on yet; more are refused at
/// the link.
const MAILBOX: usize = 256;

/// Handles are forgotten when their number has doubled.
const SWEEP_ABOVE: usize = 64;

/// What the link's server of this edge carries rooms with.
pub(super) fn port(shared: &Arc<Shared>, origins: watch::Receiver<Vec<NodeId>>) -> ChatPort {
    let (opener, opens) = mpsc::channel(OPENS);
    tokio::spawn(give_out(shared.clone(), opens));
    ChatPort {
        origins,
        opens: opener,
    }
}

async fn give_out(shared: Arc<Shared>, mut opens: mpsc::Receiver<OpenRoom>) {
    let mut given: HashMap<ChannelName, mpsc::WeakSender<Asked>> = HashMap::new();
    let mut sweep_at = SWEEP_ABOVE;
    while let Some(OpenRoom { room, reply }) = opens.recv().await {
        if given.len() >= sweep_at {
            given.retain(|_, asks| asks.strong_count() > 0);
            sweep_at = SWEEP_ABOVE.max(2 * given.len());
        }
        // Gone where the asker's link is.
        let _ = reply.send(open(&shared, &room, &mut given));
    }
}

fn open(
    shared: &Arc<Shared>,
    name: &ChannelName,
    given: &mut HashMap<ChannelName, mpsc::WeakSender<Asked>>,
) -> Result<RoomHandle, Code> {
    let room = shared.open_room(name, None).ok_or(Code::Overloaded)?;
    let (feed, presence) = (room.feed.clone(), room.presence.clone());
    if let Some(asks) = given.get(name).and_then(mpsc::WeakSender::upgrade) {
        return Ok(RoomHandle {
            feed,
            asks,
            presence,
        });
    }
    let (asks, asked) = mpsc::channel(MAILBOX);
    given.insert(name.clone(), asks.downgrade());
    tokio::spawn(pass_on(shared.clone(), room, asked));
    Ok(RoomHandle {
        feed,
        asks,
        presence,
    })
}

async fn pass_on(shared: Arc<Shared>, room: Arc<Room>, mut asked: mpsc::Receiver<Asked>) {
    while let Some(asked) = asked.recv().await {
        // What moderators may know its home alone can tell.
        let Asked::Request { request, reply, .. } = asked else {
            continue;
        };
        let wish = Wish::Ask {
            room: room.name().clone(),
            request,
            reply: ReplyTo::Child(reply),
        };
        if let Err(error) = shared.wishes.try_send(wish)
            && let Wish::Ask { request, reply, .. } = error.into_inner()
        {
            reply.tell(request.id, common::chat::Verdict::Refused(busy()));
        }
    }
}
