//! Requests of DASH players: the manifest, and the time it is measured by.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::Poll,
    time::{SystemTime, UNIX_EPOCH},
};

use common::{
    live::{Broadcast, TrackWindow, UnixMs},
    names::ChannelName,
};
use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};

use tokio::sync::watch;

use super::{
    body::Body,
    cache::{Playlists, Rendered},
    playlists,
    response::{self, Answer, BRIEF, MANIFEST, NO_STORE, REVALIDATED, TEXT},
    service::Asked,
};
use crate::{
    playlist::{Iso8601, is_offered},
    upstream::Unavailable,
};

/// `/live/{channel}/manifest.mpd`
pub(super) async fn manifest(asked: &Asked<'_>, channel: &ChannelName) -> Answer {
    if let Some(answer) = asked.forbidden(channel, asked.token) {
        return answer;
    }
    let broadcast = match playlists::broadcast(asked, channel).await {
        Ok(broadcast) => broadcast,
        Err(answer) => return answer,
    };
    let playlists = asked.server.cache.of(&broadcast);
    let started = asked.patiently(asked.server.config.starting(), async {
        let upstream = &asked.server.upstream;
        let mut tracks = Vec::with_capacity(broadcast.tracks.len());
        for of in &broadcast.tracks {
            tracks.push(upstream.track(&broadcast, of.track.name).await?);
        }
        Ok::<_, Unavailable>(offered(asked, &playlists, &broadcast, &tracks).await)
    });
    let made = match started.await {
        Ok(Ok(made)) => made,
        Ok(Err(why)) => return playlists::unavailable(asked, why),
        Err(impatience) => return impatience.answer(BRIEF),
    };
    asked.counts(channel, playlists::page(asked));
    playlists::found(asked, &made, MANIFEST, &REVALIDATED, false)
}

/// Waits until there is something to show, and enough of it to start with (H2).
async fn offered(
    asked: &Asked<'_>,
    playlists: &Playlists,
    broadcast: &Broadcast,
    tracks: &[Arc<TrackWindow>],
) -> Arc<Rendered> {
    let mut versions: Vec<_> = tracks.iter().map(|of| of.window.versions()).collect();
    loop {
        for version in &mut versions {
            version.mark_unchanged();
        }
        let enough = tracks.iter().all(|of| {
            let listing = of.window.listing();
            listing.is_some_and(|now| is_offered(&now, &broadcast.plan, &of.track))
        });
        if enough && let Some(made) = playlists.manifest(broadcast, &asked.server.metrics) {
            return made;
        }
        any_changed(&mut versions).await;
    }
}

/// Resolves with the first change of any of them.
async fn any_changed<T>(all: &mut [watch::Receiver<T>]) {
    let changes = all.iter_mut().map(|one| Box::pin(one.changed()));
    let mut changes: Vec<_> = changes.collect();
    // A window outlives its waiters: a change is all that can come.
    poll_fn(|cx| {
        if changes
            .iter_mut()
            .any(|one| one.as_mut().poll(cx).is_ready())
        {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// `/api/v1/time`: this machine's clock to the millisecond (D3).
pub(super) fn time() -> Answer {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    let now = Iso8601(UnixMs(u64::try_from(ms).unwrap_or(u64::MAX)));
    let mut answer = response::answer(StatusCode::OK, Body::whole(now.to_string().into()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    headers.insert(CACHE_CONTROL, NO_STORE);
    answer
}
