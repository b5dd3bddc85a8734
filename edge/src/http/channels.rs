//! `/api/v1/channels` and `/api/v1/channels/{channel}`: what is on, and one channel as
//! closely as this edge can tell. Titles, health and counts over all edges come from
//! the origins; who watches here is counted here, so that nobody is ever missing from
//! the number that they see.
//!
//! The list is made once a second at most, whoever asks, and so is its compressed form;
//! a page of it is a piece of that text.

use std::{
    io::Write,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use common::{
    api::{ChannelList, Page, Problem, Seen, problem},
    live::{Phase, Stage},
    names::ChannelName,
};
use flate2::{Compression, write::GzEncoder};
use hyper::{
    StatusCode,
    header::{CONTENT_ENCODING, HeaderValue},
};

use super::{
    response::{self, Answer, BRIEF, NO_STORE},
    service::{Asked, Server, api_answer, varies},
};

/// Tracks of a channel that nobody watched here are heard of within this, or are not
/// told.
const PATIENCE: Duration = Duration::from_secs(3);

/// The list as of one moment.
#[derive(Debug)]
pub(super) struct Listed {
    list: ChannelList,
    first_gzip: OnceLock<Bytes>,
}

impl Listed {
    fn of(server: &Server) -> Self {
        let here = server.count_viewers();
        let upstream = &server.upstream;
        let (known, abouts) = (
            upstream.directory().snapshot(),
            upstream.abouts().snapshot(),
        );
        let audience = upstream.audience().snapshot();
        let seen = known.iter().map(|channel| {
            let name = &channel.announcement.channel;
            let here = here.get(name).copied().unwrap_or(0);
            let told = server.told(name);
            let everywhere = told.or_else(|| audience.get(name).copied());
            let everywhere = everywhere.unwrap_or_default();
            Seen {
                channel,
                about: abouts.get(name).map(|about| &**about),
                viewers: Some(here.max(everywhere.viewers.into())),
                chatters: Some(everywhere.chatters.into()),
            }
        });
        Self {
            list: ChannelList::of(seen),
            first_gzip: OnceLock::new(),
        }
    }

    fn first_gzip(&self) -> Bytes {
        let made = self.first_gzip.get_or_init(|| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            // Memory does not fail.
            let _ = gzip.write_all(self.list.first());
            gzip.finish().unwrap_or_default().into()
        });
        made.clone()
    }
}

/// `GET /api/v1/channels`
pub(super) fn list(asked: &Asked<'_>) -> Answer {
    let page = match Page::parse(asked.query) {
        Ok(page) => page,
        Err(bad) => return response::problem(&bad, BRIEF),
    };
    let listed = asked.server.listed(Listed::of);
    let mut answer = if page.is_first() && asked.gzip() {
        let mut answer = api_answer(listed.first_gzip());
        let gzip = HeaderValue::from_static("gzip");
        answer.headers_mut().insert(CONTENT_ENCODING, gzip);
        answer
    } else {
        api_answer(listed.list.page(&page))
    };
    varies(&mut answer);
    answer
}

/// `GET /api/v1/channels/{channel}`
pub(super) async fn channel(asked: &Asked<'_>, name: &ChannelName) -> Answer {
    let server = asked.server;
    let directory = server.upstream.directory();
    let live_unseen = directory.get(name).is_some_and(|known| {
        matches!(known.stage, Stage::Starting) && known.announcement.phase == Phase::Live
    });
    if live_unseen {
        // Told without tracks where that takes too long, or too many wait.
        let _ = asked
            .patiently(PATIENCE, server.upstream.broadcast(name))
            .await;
    }
    let Some(known) = directory.get(name) else {
        return unknown(server);
    };
    let (about, here) = (server.upstream.abouts().get(name), server.viewers_of(name));
    let told = server.told(name);
    let everywhere = told.unwrap_or_else(|| server.upstream.audience().get(name));
    let seen = Seen {
        channel: &known,
        about: about.as_deref(),
        viewers: Some(here.max(everywhere.viewers.into())),
        chatters: Some(everywhere.chatters.into()),
    };
    api_answer(seen.detailed())
}

/// 404, or 503 while no parent has told what there is.
pub(super) fn unknown(server: &Arc<Server>) -> Answer {
    if server.upstream.synced() {
        return response::problem(&Problem::no_channel(), BRIEF);
    }
    let text = "no parent has told yet which channels there are";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    response::problem(&problem(status, "unavailable", text), NO_STORE)
}
