//! `/api/v1/channels` and `/api/v1/channels/{channel}`: what is on, and one channel as
//! closely as this edge can tell. Titles, health and counts over all edges come from
//! the origins; who watches here is counted here, so that nobody is ever missing from
//! the number that they see.
//!
//! The list is made once a second at most, while somebody asks, and beside those that
//! ask: they get the one before. A page of it is a piece of its text. Compressed forms
//! are made with it, of the first pages that were asked for in that form, a few of
//! them; any other page goes as it is.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    api::{ChannelList, Page, Problem, Renewed, Seen, channels::USUAL, problem},
    live::{Phase, Stage},
    names::ChannelName,
};
use hyper::{
    StatusCode,
    header::{CONTENT_ENCODING, HeaderValue},
};
use parking_lot::Mutex;

use super::{
    body::Body,
    cache::compress,
    response::{self, Answer, BRIEF, NO_STORE},
    service::{Asked, Server, api_answer, varies},
    slices::Slices,
};

/// Tracks of a channel that nobody watched here are heard of within this, or are not
/// told. The first list is there sooner.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a list is told before the next is made.
const LISTED_FOR: Duration = Duration::from_secs(1);

/// Sizes of first pages that are compressed beside the usual one: a page of a thousand
/// channels takes some milliseconds a second of one thread, and anybody may ask.
const GZIPPED: usize = 4;

/// The channel list of this edge, and what of it is to be compressed next.
#[derive(Debug)]
pub(super) struct Lists {
    newest: Renewed<Listed>,
    /// Of how many channels the first pages are that were asked for compressed since
    /// the newest list was begun; [`GZIPPED`] at most.
    gzip_wanted: Mutex<Vec<usize>>,
}

/// The list as of one moment.
#[derive(Debug)]
struct Listed {
    list: ChannelList,
    /// First pages, by the number of channels.
    gzipped: Vec<(usize, Bytes)>,
}

impl Default for Lists {
    fn default() -> Self {
        Self {
            newest: Renewed::every(LISTED_FOR),
            gzip_wanted: Mutex::default(),
        }
    }
}

impl Lists {
    fn gzip_wanted(&self, limit: usize) {
        let mut wanted = self.gzip_wanted.lock();
        if limit != USUAL && wanted.len() < GZIPPED && !wanted.contains(&limit) {
            wanted.push(limit);
        }
    }

    /// Once told, they have to be wanted again.
    fn to_gzip(&self) -> Vec<usize> {
        let mut limits = std::mem::take(&mut *self.gzip_wanted.lock());
        limits.push(USUAL);
        limits
    }
}

impl Listed {
    fn of(server: &Server) -> Self {
        server.metrics.channel_lists.inc();
        Self::new(list_of(server), server.lists.to_gzip())
    }

    fn new(list: ChannelList, limits: Vec<usize>) -> Self {
        let gzipped = limits.into_iter().map(|limit| {
            let page = list.joined(&Page::first_of(limit));
            (limit, compress(&page))
        });
        let gzipped = gzipped.collect();
        Self { list, gzipped }
    }

    fn gzipped(&self, limit: usize) -> Option<Bytes> {
        let mut gzipped = self.gzipped.iter();
        gzipped.find_map(|(of, bytes)| (*of == limit).then(|| bytes.clone()))
    }
}

fn list_of(server: &Server) -> ChannelList {
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
    ChannelList::of(seen)
}

/// `GET /api/v1/channels`
pub(super) async fn list(asked: &Asked<'_>) -> Answer {
    let page = match Page::parse(asked.query) {
        Ok(page) => page,
        Err(bad) => return response::problem(&bad, BRIEF),
    };
    let (lists, server) = (&asked.server.lists, asked.server.clone());
    let newest = lists.newest.get(move || Listed::of(&server));
    let listed = match asked.patiently(PATIENCE, newest).await {
        Ok(listed) => listed,
        Err(impatience) => return impatience.problem(),
    };
    let gzipped = page
        .is_first_of()
        .filter(|_| asked.gzip())
        .and_then(|limit| {
            lists.gzip_wanted(limit);
            listed.gzipped(limit)
        });
    let mut answer = if let Some(gzipped) = gzipped {
        let mut answer = api_answer(gzipped);
        let gzip = HeaderValue::from_static("gzip");
        answer.headers_mut().insert(CONTENT_ENCODING, gzip);
        answer
    } else {
        let mut answer = api_answer(Bytes::new());
        let pieces = VecDeque::from(listed.list.page(&page));
        *answer.body_mut() = Body::slices(Slices::from(pieces));
        answer
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_have_a_few_pages_compressed_and_no_more() {
        let lists = Lists::default();
        for limit in [USUAL, 7, 7, 1_000, 1, 2, 3, 4] {
            lists.gzip_wanted(limit);
        }
        let limits = lists.to_gzip();
        assert_eq!(limits, [7, 1_000, 1, 2, USUAL]);
        let listed = Listed::new(ChannelList::of([]), limits);
        for (limit, gzipped) in [(USUAL, true), (7, true), (2, true), (3, false), (8, false)] {
            assert_eq!(listed.gzipped(limit).is_some(), gzipped, "{limit}");
        }
        assert_eq!(lists.to_gzip(), [USUAL]);
    }
}
