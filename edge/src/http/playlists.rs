//! Requests for playlists: waiting for a channel to start, blocking reload
//! (R1 to R5), and the answer from the shared cache.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    live::{Broadcast, Listing, Window},
    names::{ChannelName, TrackName},
};
use hyper::{
    StatusCode,
    header::{AGE, CONTENT_ENCODING, HeaderValue},
};

use super::{
    body::Body,
    cache::{Lifetimes, Rendered},
    negotiate,
    response::{self, Answer, BRIEF, PLAYLIST},
    route::{BadDirective, Directives},
    service::{Asked, varies},
};
use crate::{
    playlist::{Skip, Verdict, Want, is_offered, verdict},
    upstream::Unavailable,
};

/// `/live/{channel}/index.m3u8`
pub(super) async fn multivariant(asked: &Asked<'_>, channel: &ChannelName) -> Answer {
    let broadcast = match broadcast(asked, channel).await {
        Ok(broadcast) => broadcast,
        Err(answer) => return answer,
    };
    let playlists = asked.server.cache.of(&broadcast);
    let made = playlists.multivariant(&broadcast, &asked.server.metrics);
    asked.counts(channel, page(asked));
    found(asked, &made, PLAYLIST, &playlists.lifetimes.plain)
}

pub(super) fn page<'a>(asked: &'a Asked<'_>) -> Option<&'a str> {
    Directives::parse(asked.query).ok()?.viewer
}

/// `/live/{channel}/{track}.m3u8`
pub(super) async fn media(asked: &Asked<'_>, channel: &ChannelName, name: TrackName) -> Answer {
    // R2: at once, whatever the channel is.
    let directives = match Directives::parse(asked.query) {
        Ok(directives) => directives,
        Err(BadDirective) => return response::error(StatusCode::BAD_REQUEST, BRIEF),
    };
    let broadcast = match broadcast(asked, channel).await {
        Ok(broadcast) => broadcast,
        Err(answer) => return answer,
    };
    let playlists = asked.server.cache.of(&broadcast);
    let Some(track) = playlists.track(name) else {
        let cache = playlists.lifetimes.plain_error.clone();
        return response::error(StatusCode::NOT_FOUND, cache);
    };
    let started = asked.patiently(asked.server.config.starting(), async {
        let track = asked.server.upstream.track(&broadcast, name).await?;
        let offered = |listing: &Listing| is_offered(listing, &broadcast.plan, &track.track);
        listed(&track.window, offered).await;
        Ok::<_, Unavailable>(track)
    });
    let window = match started.await {
        Ok(Ok(window)) => window,
        Ok(Err(why)) => return unavailable(asked, why),
        Err(impatience) => return impatience.answer(BRIEF),
    };
    asked.counts(channel, directives.viewer);
    let want = directives.want;
    let mut early = false;
    if let Some(want) = want {
        let (limit, lifetimes) = (track.part_limit, &playlists.lifetimes);
        let reloaded = reloaded(asked, &broadcast, &window.window, limit, lifetimes, want);
        match reloaded.await {
            Ok(answerable) => early = !answerable,
            Err(answer) => return answer,
        }
    }
    let ended = window.window.listing().is_some_and(|now| now.ended);
    let skip = if ended { Skip::No } else { directives.skip };
    let metrics = &asked.server.metrics;
    let made = track.rendered(&broadcast, &window.track, &window.window, skip, metrics);
    let lifetimes = &playlists.lifetimes;
    let cache = match want {
        Some(_) => &lifetimes.blocking,
        None => &lifetimes.plain,
    };
    match made {
        Some(made) if early => response::not_stored(found(asked, &made, PLAYLIST, cache)),
        Some(made) => found(asked, &made, PLAYLIST, cache),
        None => response::error(StatusCode::SERVICE_UNAVAILABLE, BRIEF),
    }
}

/// Returns once the window lists what is wanted (R1), or with the error: 400 at
/// once for what is too far away (R3), 503 after three target durations (R4).
/// HEAD waits for nothing: it learns with `false` that GET would.
async fn reloaded(
    asked: &Asked<'_>,
    broadcast: &Broadcast,
    window: &Window,
    limit: u32,
    lifetimes: &Lifetimes,
    want: Want,
) -> Result<bool, Answer> {
    let error = || lifetimes.blocking_error.clone();
    match window
        .listing()
        .map(|listing| verdict(&listing, limit, want))
    {
        Some(Verdict::Answer) => return Ok(true),
        Some(Verdict::TooFar) => return Err(response::error(StatusCode::BAD_REQUEST, error())),
        Some(Verdict::Hold) | None if asked.head => return Ok(false),
        Some(Verdict::Hold) | None => {}
    }
    let longest = Duration::from_millis(broadcast.plan.parts_listed_ms().into());
    // What was near enough when it was asked for stays so.
    let answerable = |listing: &Listing| verdict(listing, limit, want) == Verdict::Answer;
    let wait = asked.patiently(longest, listed(window, answerable));
    wait.await
        .map(|()| true)
        .map_err(|impatience| impatience.answer(error()))
}

/// Waits until the window lists something that `suffices`.
async fn listed(window: &Window, suffices: impl Fn(&Listing) -> bool) {
    let enough = || window.listing().is_some_and(|listing| suffices(&listing));
    if enough() {
        return;
    }
    let mut versions = window.versions();
    // Marked as seen before it is looked at: no change falls between.
    while !enough() {
        if versions.changed().await.is_err() {
            return;
        }
    }
}

/// The broadcast of a channel, waiting while it starts.
pub(super) async fn broadcast(
    asked: &Asked<'_>,
    channel: &ChannelName,
) -> Result<Arc<Broadcast>, Answer> {
    let upstream = &asked.server.upstream;
    let started = asked.patiently(asked.server.config.starting(), async {
        match upstream.broadcast(channel).await {
            Err(Unavailable::Starting) => {}
            other => return other,
        }
        let mut changes = upstream.directory().changes();
        loop {
            match upstream.broadcast(channel).await {
                Err(Unavailable::Starting) => {}
                other => return other,
            }
            if changes.changed().await.is_err() {
                return Err(Unavailable::Starting);
            }
        }
    });
    match started.await {
        Ok(Ok(broadcast)) => Ok(broadcast),
        Ok(Err(why)) => Err(unavailable(asked, why)),
        Err(impatience) => Err(impatience.answer(BRIEF)),
    }
}

/// 404 is only for what a parent's snapshot does not have.
pub(super) fn unavailable(asked: &Asked<'_>, why: Unavailable) -> Answer {
    let status = match why {
        Unavailable::Unknown if !asked.server.upstream.synced() => StatusCode::SERVICE_UNAVAILABLE,
        Unavailable::Unknown | Unavailable::Gone => StatusCode::NOT_FOUND,
        Unavailable::Starting | Unavailable::Disconnected => StatusCode::SERVICE_UNAVAILABLE,
    };
    response::error(status, BRIEF)
}

/// The answer from the cache, gzipped where that is asked for.
pub(super) fn found(
    asked: &Asked<'_>,
    made: &Rendered,
    content_type: HeaderValue,
    cache: &HeaderValue,
) -> Answer {
    let gzip = asked.gzip();
    let (body, etag): (Bytes, _) = if gzip {
        (made.gzip(), &made.gzip_etag)
    } else {
        (made.text.clone(), &made.etag)
    };
    let mut answer = response::found(Body::whole(body), content_type, cache.clone(), etag.clone());
    varies(&mut answer);
    let headers = answer.headers_mut();
    headers.insert(AGE, HeaderValue::from(made.at.elapsed().as_secs()));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if negotiate::not_modified(asked.headers, etag.as_bytes()) {
        return response::unchanged(answer);
    }
    answer
}
