//! Watches a channel for the checker: follows its playlists, fetches its media
//! once, and asks the questions that only an answer settles.
//!
//! In: a URL and a deadline. Out: [`Observed`]. A task per rendition owns what
//! it saw. Bound: [`MAX_MEDIA_BYTES`] of media and [`MAX_LISTS`] playlists a
//! rendition, after which it only watches on.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::observed::{Asked, Exchange, Media, Observed, Snapshot, TrackSeen};
use crate::{
    boxes::parse_init,
    client::{Ask, FetchError, Lane, Net, text},
    clock,
    m3u8::{MediaPlaylist, Playlist, parse},
    url::Url,
};

mod probes;

const MAX_MEDIA_BYTES: usize = 256 << 20;
const MAX_LISTS: usize = 4096;
const ASK: Ask = Ask {
    gzip: false,
    range: None,
    timeout: Duration::from_secs(60),
    max_bytes: 64 << 20,
};
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Playlists that wait while media is fetched.
const QUEUE: usize = 64;

/// # Errors
/// One line, if the URL doesn't answer with a playlist.
pub async fn collect(net: Arc<Net>, url: &Url, deadline: Instant) -> Result<Observed> {
    let mut lane = Lane::new(net.clone());
    let mut question = Question::new(&mut lane, 0);
    let answer = question
        .ask(url, Asked::Playlist)
        .await
        .context("no playlist")?;
    if answer.status != 200 {
        bail!("{url} answers {}, no playlist", answer.status);
    }
    let body = std::str::from_utf8(&answer.body).unwrap_or_default();
    let list = parse(body).with_context(|| format!("{url} isn't a playlist"))?;
    let mut out = Observed::default();
    let uris = match list {
        Playlist::Media(_) => vec![url.to_string()],
        Playlist::Multivariant(list) => {
            let renditions = list
                .renditions
                .iter()
                .filter_map(|rendition| rendition.uri.clone());
            let variants = list.variants.iter().map(|variant| variant.uri.clone());
            let mut uris: Vec<_> = variants.chain(renditions).collect();
            uris.sort();
            uris.dedup();
            out.multivariant = Some(list);
            uris
        }
    };
    out.exchanges.push(answer);
    let mut tracks = JoinSet::new();
    for (index, uri) in uris.iter().enumerate() {
        let watcher = Watcher {
            index,
            url: url.join(uri)?,
            lane: Lane::new(net.clone()),
            net: net.clone(),
            deadline,
            seen: TrackSeen {
                uri: uri.clone(),
                ..TrackSeen::default()
            },
            exchanges: Vec::new(),
            media_bytes: 0,
        };
        tracks.spawn(watcher.run());
    }
    let mut done: Vec<Watcher> = Vec::new();
    while let Some(watcher) = tracks.join_next().await {
        done.push(watcher??);
    }
    done.sort_by_key(|watcher| watcher.index);
    for watcher in done {
        out.tracks.push(watcher.seen);
        out.exchanges.extend(watcher.exchanges);
    }
    Ok(out)
}

/// One request of the checker's.
pub(super) struct Question<'a> {
    lane: &'a mut Lane,
    track: usize,
    ask: Ask,
}

impl<'a> Question<'a> {
    pub(super) fn new(lane: &'a mut Lane, track: usize) -> Self {
        Self {
            lane,
            track,
            ask: ASK,
        }
    }

    pub(super) async fn ask(&mut self, url: &Url, asked: Asked) -> Result<Exchange, FetchError> {
        let ask = Ask {
            gzip: asked == Asked::Gzip,
            range: (asked == Asked::Range).then_some("bytes=0-9"),
            ..self.ask
        };
        let asked_us = clock::unix_us();
        let mut body = Vec::new();
        let mut first_byte_us = None;
        let answer = self.lane.get(url, ask, |data| {
            first_byte_us.get_or_insert_with(clock::unix_us);
            body.extend_from_slice(data);
        });
        let head = answer.await?;
        Ok(Exchange {
            asked,
            track: self.track,
            path: url.path.clone(),
            status: head.status.as_u16(),
            headers: head.headers,
            asked_us,
            first_byte_us,
            done_us: clock::unix_us(),
            body: body.into(),
        })
    }
}

struct Watcher {
    index: usize,
    url: Url,
    lane: Lane,
    net: Arc<Net>,
    deadline: Instant,
    seen: TrackSeen,
    exchanges: Vec<Exchange>,
    media_bytes: usize,
}

impl Watcher {
    async fn run(mut self) -> Result<Self> {
        let (versions, mut inbox) = mpsc::channel(QUEUE);
        let reloads = reload(
            self.index,
            self.url.clone(),
            Lane::new(self.net.clone()),
            versions,
        );
        let reloads = tokio::spawn(reloads);
        let (hinted, mut hints) = mpsc::channel(QUEUE);
        let mut probes = probes::Probes::new(self.index, self.net.clone(), hinted);
        while let Ok(Some(exchange)) = timeout_at(self.deadline, inbox.recv()).await {
            let Some(list) = media_list(&exchange)? else {
                self.exchanges.push(exchange);
                continue;
            };
            if self.seen.lists.len() >= MAX_LISTS {
                continue;
            }
            let at_us = exchange.done_us;
            self.exchanges.push(exchange);
            let before = self.seen.lists.last().map(|last| last.list.clone());
            self.seen.lists.push(Snapshot {
                at_us,
                list: list.clone(),
            });
            // Of a list that is not the newest any more the hint is no hint.
            if inbox.is_empty() {
                probes.hint(&self.url, &list);
            }
            self.fetch_media(&list).await;
            let asked = probes
                .ask(&self.url, &mut self.lane, before.as_ref(), &list)
                .await;
            self.exchanges.extend(asked);
        }
        reloads.abort();
        drop(probes);
        while let Ok(Some(exchange)) = timeout_at(self.deadline, hints.recv()).await {
            self.exchanges.push(exchange);
        }
        Ok(self)
    }

    /// What is new among the last three segments: their init, parts, and bytes
    /// as a whole.
    async fn fetch_media(&mut self, list: &MediaPlaylist) {
        let newest = list.segments.len().saturating_sub(3);
        for segment in list.segments.iter().skip(newest) {
            let Some(map) = &segment.map else { continue };
            if !self.seen.inits.contains_key(map) {
                if let Some(exchange) = self.get(map, Asked::Init).await
                    && let Ok(init) = parse_init(&exchange.body)
                {
                    self.seen.inits.insert(map.clone(), init);
                    self.exchanges.push(exchange);
                } else {
                    continue;
                }
            }
            let parts = segment
                .parts
                .iter()
                .filter(|part| !part.gap && part.byte_range.is_none());
            let whole = segment
                .uri
                .as_ref()
                .filter(|_| !segment.gap && segment.byte_range.is_none());
            let uris: Vec<String> = parts.map(|part| &part.uri).chain(whole).cloned().collect();
            for uri in uris {
                self.fetch_one(&uri, map).await;
            }
        }
    }

    async fn fetch_one(&mut self, uri: &str, map: &str) {
        if self.seen.media.contains_key(uri) || self.media_bytes > MAX_MEDIA_BYTES {
            return;
        }
        let Some(mut exchange) = self.get(uri, Asked::Media).await else {
            return;
        };
        if let (200, Some(init)) = (exchange.status, self.seen.inits.get(map)) {
            // Kept once, as media.
            let bytes = std::mem::take(&mut exchange.body);
            self.media_bytes += bytes.len();
            self.seen
                .media
                .insert(uri.to_owned(), Media::read(bytes, init));
        }
        self.exchanges.push(exchange);
    }

    async fn get(&mut self, uri: &str, asked: Asked) -> Option<Exchange> {
        let url = self.url.join(uri).ok()?;
        let mut question = Question::new(&mut self.lane, self.index);
        timeout_at(self.deadline, question.ask(&url, asked))
            .await
            .ok()?
            .ok()
    }
}

/// The playlist in a 200; `None` for another status.
fn media_list(exchange: &Exchange) -> Result<Option<MediaPlaylist>> {
    if exchange.status != 200 {
        return Ok(None);
    }
    let head = crate::client::Head {
        status: http::StatusCode::OK,
        headers: exchange.headers.clone(),
    };
    let body = text(&head, &exchange.body, ASK.max_bytes)?;
    match parse(&body).with_context(|| exchange.path.clone())? {
        Playlist::Media(list) => Ok(Some(*list)),
        Playlist::Multivariant(_) => bail!("{} isn't a media playlist", exchange.path),
    }
}

/// Follows one playlist, on time whatever the media's fetching takes.
async fn reload(track: usize, url: Url, mut lane: Lane, versions: mpsc::Sender<Exchange>) {
    let mut next: Option<(u64, u64)> = None;
    loop {
        let (asked, query) = match next {
            Some((msn, part)) => (
                Asked::Blocking { msn, part },
                format!("_HLS_msn={msn}&_HLS_part={part}"),
            ),
            None => (Asked::Playlist, String::new()),
        };
        let mut question = Question::new(&mut lane, track);
        let answer = question.ask(&url.with_query(&query), asked).await;
        let mut pause = RETRY_PAUSE;
        if let Ok(exchange) = answer {
            if let Ok(Some(list)) = media_list(&exchange) {
                let control = list.control.clone().unwrap_or_default();
                let blocks = control.can_block_reload && list.part_target_us.is_some();
                next = list.position().filter(|_| blocks).map(|end| end.next());
                pause = match next {
                    Some(_) => Duration::ZERO,
                    None => Duration::from_micros(list.target_us() / 2),
                };
                if list.ended {
                    let _ = versions.send(exchange).await;
                    return;
                }
            }
            if versions.send(exchange).await.is_err() {
                return;
            }
        }
        sleep(pause).await;
    }
}
