//! Requests for playlists: waiting for a channel to start, blocking reload
//! (R1 to R5), and the answer from the shared cache.

use std::{sync::Arc, time::Duration};

use common::{
    live::{Broadcast, Listing, TrackWindow, Window},
    names::{ChannelName, TrackName},
};
use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};

use super::{
    body::Body,
    cache::{Lifetimes, Rendered},
    negotiate,
    response::{self, Answer, BRIEF, NO_STORE, PLAYLIST, PRIVATE},
    route::{BadDirective, Directives, query_token},
    service::Asked,
};
use crate::{
    playlist::{Skip, Verdict, Want, is_offered, rebased, verdict},
    upstream::Unavailable,
};

/// `/live/{channel}/index.m3u8`
pub(super) async fn multivariant(asked: &Asked<'_>, channel: &ChannelName) -> Answer {
    let signed = asked.server.viewing.is_some() && asked.token.is_none();
    let in_query = query_token(asked.query).filter(|_| signed);
    if let Some(answer) = asked.forbidden(channel, asked.token.or(in_query)) {
        return answer;
    }
    let broadcast = match broadcast(asked, channel).await {
        Ok(broadcast) => broadcast,
        Err(answer) => return answer,
    };
    let playlists = asked.server.cache.of(&broadcast);
    let made = playlists.multivariant(&broadcast, &asked.server.metrics);
    asked.counts(channel, page(asked));
    match in_query {
        Some(token) => personal(&made, channel, token),
        None => found(asked, &made, PLAYLIST, &playlists.lifetimes.plain, false),
    }
}

/// One viewer's own: what it names lies behind the token, and nobody shares it.
fn personal(made: &Rendered, channel: &ChannelName, token: &str) -> Answer {
    let text = String::from_utf8_lossy(&made.text);
    let text = rebased(&text, &format!("../../s/{token}/live/{channel}/"));
    let mut answer = response::answer(StatusCode::OK, Body::whole(text.into()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, PLAYLIST);
    headers.insert(CACHE_CONTROL, PRIVATE);
    answer
}

pub(super) fn page<'a>(asked: &'a Asked<'_>) -> Option<&'a str> {
    Directives::parse(asked.query).ok()?.viewer
}

/// `/live/{channel}/{track}.m3u8`
pub(super) async fn media(asked: &Asked<'_>, channel: &ChannelName, name: TrackName) -> Answer {
    if let Some(answer) = asked.forbidden(channel, asked.token) {
        return answer;
    }
    // R2: at once, whatever the channel is.
    let directives = match Directives::parse(asked.query) {
        Ok(directives) => directives,
        Err(BadDirective) => return response::error(StatusCode::BAD_REQUEST, BRIEF),
    };
    loop {
        let broadcast = match broadcast(asked, channel).await {
            Ok(broadcast) => broadcast,
            Err(answer) => return answer,
        };
        // Another origin's broadcast takes the channel without the end of the
        // one before it. Its numbers are higher: it answers what waits.
        tokio::select! {
            biased;
            answer = current(asked, channel, name, directives, &broadcast) => return answer,
            () = broadcast.superseded() => {}
        }
    }
}

/// The media playlist of the broadcast that the channel carries.
async fn current(
    asked: &Asked<'_>,
    channel: &ChannelName,
    name: TrackName,
    directives: Directives<'_>,
    broadcast: &Arc<Broadcast>,
) -> Answer {
    let playlists = asked.server.cache.of(broadcast);
    let Some(track) = playlists.track(name) else {
        let cache = playlists.lifetimes.plain_error.clone();
        return response::error(StatusCode::NOT_FOUND, cache);
    };
    let window = match offered(asked, broadcast, name) {
        Some(window) => window,
        // Boxed, as all that waits is: a future is moved several times before
        // it is first polled, and most requests need not wait.
        None => match Box::pin(started(asked, broadcast, name)).await {
            Ok(window) => window,
            Err(answer) => return answer,
        },
    };
    asked.counts(channel, directives.viewer);
    let want = directives.want;
    let mut early = false;
    if let Some(want) = want {
        let (limit, lifetimes) = (track.part_limit, &playlists.lifetimes);
        let reloaded = reloaded(asked, broadcast, &window.window, limit, lifetimes, want);
        match reloaded.await {
            Ok(answerable) => early = !answerable,
            Err(answer) => return answer,
        }
    }
    let ended = window.window.listing().is_some_and(|now| now.ended);
    let skip = if ended { Skip::No } else { directives.skip };
    let metrics = &asked.server.metrics;
    let made = track.rendered(broadcast, &window.track, &window.window, skip, metrics);
    let lifetimes = &playlists.lifetimes;
    match made {
        Some(made) => {
            let cache = match want {
                Some(_) => &lifetimes.blocking,
                None => &lifetimes.plain,
            };
            let answer = found(asked, &made, PLAYLIST, cache, want.is_some());
            if early {
                response::not_stored(answer)
            } else {
                answer
            }
        }
        None => response::error(StatusCode::SERVICE_UNAVAILABLE, BRIEF),
    }
}

/// The track's window, if it is followed and may be listed now.
fn offered(asked: &Asked<'_>, broadcast: &Broadcast, name: TrackName) -> Option<Arc<TrackWindow>> {
    let track = asked.server.upstream.followed(broadcast, name)?;
    let listing = track.window.listing()?;
    is_offered(&listing, &broadcast.plan, &track.track).then_some(track)
}

/// The same, waiting while it starts.
async fn started(
    asked: &Asked<'_>,
    broadcast: &Arc<Broadcast>,
    name: TrackName,
) -> Result<Arc<TrackWindow>, Answer> {
    let started = asked.patiently(asked.server.config.starting(), async {
        let track = asked.server.upstream.track(broadcast, name).await?;
        let offered = |listing: &Listing| is_offered(listing, &broadcast.plan, &track.track);
        listed(&track.window, offered).await;
        Ok::<_, Unavailable>(track)
    });
    match started.await {
        Ok(Ok(window)) => Ok(window),
        Ok(Err(why)) => Err(unavailable(asked, why)),
        Err(impatience) => Err(impatience.answer(BRIEF)),
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
    match window
        .listing()
        .map(|listing| verdict(&listing, limit, want))
    {
        Some(Verdict::Answer) => return Ok(true),
        // What is too far now is what everybody asks for in a moment.
        Some(Verdict::TooFar) => return Err(response::error(StatusCode::BAD_REQUEST, NO_STORE)),
        Some(Verdict::Hold) | None if asked.head => return Ok(false),
        Some(Verdict::Hold) | None => {}
    }
    let longest = Duration::from_millis(broadcast.plan.parts_listed_ms().into());
    // What was near enough when it was asked for stays so.
    let answerable = |listing: &Listing| verdict(listing, limit, want) == Verdict::Answer;
    let wait = Box::pin(asked.patiently(longest, listed(window, answerable)));
    wait.await
        .map(|()| true)
        .map_err(|impatience| impatience.answer(lifetimes.blocking_error.clone()))
}

/// Waits until the window lists something that `suffices`.
pub(super) async fn listed(window: &Window, suffices: impl Fn(&Listing) -> bool) {
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
    match asked.server.upstream.ready(channel) {
        Some(broadcast) => Ok(broadcast),
        None => Box::pin(starting(asked, channel)).await,
    }
}

async fn starting(asked: &Asked<'_>, channel: &ChannelName) -> Result<Arc<Broadcast>, Answer> {
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
        // This edge's load says nothing of the channel.
        Unavailable::Full => {
            return response::error(StatusCode::SERVICE_UNAVAILABLE, NO_STORE);
        }
        Unavailable::Unknown if !asked.server.upstream.synced() => StatusCode::SERVICE_UNAVAILABLE,
        Unavailable::Unknown | Unavailable::Gone => StatusCode::NOT_FOUND,
        Unavailable::Starting | Unavailable::Disconnected => StatusCode::SERVICE_UNAVAILABLE,
    };
    response::error(status, BRIEF)
}

/// The answer from the cache, gzipped where that is asked for. Each rendering is
/// sent with one type, and with one `cache` for each `blocking`.
pub(super) fn found(
    asked: &Asked<'_>,
    made: &Rendered,
    content_type: HeaderValue,
    cache: &HeaderValue,
    blocking: bool,
) -> Answer {
    let gzip = asked.gzip();
    let (body, etag) = if gzip {
        (made.gzip(), &made.gzip_etag)
    } else {
        (made.text.clone(), &made.etag)
    };
    let head = made.head(content_type, cache, gzip, blocking);
    let age = Some(asked.age(made.at));
    let answer = response::with_head(head.clone(), age, Body::whole(body));
    if negotiate::not_modified(asked.fields, etag.as_bytes()) {
        return response::unchanged(answer);
    }
    answer
}
