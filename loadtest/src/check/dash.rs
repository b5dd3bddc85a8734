//! The rules of low-latency DASH, D1 to D8: watches a manifest's URL, anybody's,
//! and judges what it saw.
//!
//! In: a URL and a deadline. Out: verdicts. [`collect`] asks; [`judge()`] is a pure
//! function of what was [`Seen`].

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use http::HeaderMap;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::verdicts::Verdicts;
use crate::{
    boxes::{Fragment, FragmentReader, Init, parse_init},
    client::{Ask, Head, Lane, Net, text},
    clock,
    mpd::{Manifest, Representation, Segment, parse},
    url::Url,
};

mod judge;

pub(super) use judge::judge;

const ASK: Ask = Ask {
    gzip: true,
    range: None,
    timeout: Duration::from_secs(30),
    max_bytes: 64 << 20,
};

/// Manifests are not asked for more often, whatever they say.
const LEAST_UPDATE: Duration = Duration::from_millis(200);
const MAX_MANIFESTS: usize = 4_096;

/// Segments that nobody has begun, asked for to see that they are 404.
const FUTURES: usize = 3;
const CLOCKS: usize = 3;

/// All that was seen of a manifest's URL.
#[derive(Debug, Default)]
pub struct Seen {
    pub manifests: Vec<Snapshot>,
    pub clocks: Vec<Clock>,
    pub segments: Vec<Fetched>,
    /// Status of each segment far ahead, and how long its answer took.
    pub futures: Vec<(u16, i64)>,
}

/// A manifest as it was answered.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub manifest: Manifest,
    pub headers: HeaderMap,
}

/// One answer of the manifest's UTCTiming.
#[derive(Debug, Clone)]
pub struct Clock {
    pub asked_us: i64,
    pub done_us: i64,
    pub status: u16,
    pub body: String,
    pub headers: HeaderMap,
}

/// One segment, asked for when the manifest offered it first.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub kind: String,
    pub segment: Segment,
    pub timescale: u64,
    /// The media's own clock, which need not be the manifest's.
    pub media_timescale: u32,
    pub by_timeline: bool,
    /// It was available to us before we knew of it: no latency to judge.
    pub late: bool,
    pub asked_us: i64,
    pub status: u16,
    pub headers: HeaderMap,
    /// When pieces of its body came.
    pub arrivals_us: Vec<i64>,
    pub fragments: Vec<Fragment>,
    pub readable: bool,
}

/// # Errors
/// If the URL doesn't answer with a manifest.
pub async fn collect(net: Arc<Net>, url: &Url, deadline: Instant) -> Result<Seen> {
    let mut lane = Lane::new(net.clone());
    let first = fetch(&mut lane, url).await?;
    let mut seen = Seen::default();
    clocks(&mut lane, url, &first.manifest, &mut seen).await;
    let mut tracks = JoinSet::new();
    let (sender, receiver) = tokio::sync::watch::channel(Arc::new(first.manifest.clone()));
    for kind in ["video", "audio"] {
        let (net, url, manifests) = (net.clone(), url.clone(), receiver.clone());
        tracks.spawn(async move { Watcher::new(net, url, kind).run(manifests, deadline).await });
    }
    drop(receiver);
    seen.manifests.push(first);
    while Instant::now() < deadline {
        let last = sender.borrow().clone();
        if last.is_final() {
            break;
        }
        let pause = Duration::from_micros(last.update_us.unwrap_or_default()).max(LEAST_UPDATE);
        sleep_until((Instant::now() + pause).min(deadline)).await;
        let Ok(Ok(next)) = timeout_at(deadline, fetch(&mut lane, url)).await else {
            continue;
        };
        sender.send_replace(Arc::new(next.manifest.clone()));
        if seen.manifests.len() < MAX_MANIFESTS {
            seen.manifests.push(next);
        }
    }
    drop(sender);
    while let Some(track) = tracks.join_next().await {
        let track = track?;
        seen.segments.extend(track.segments);
        seen.futures.extend(track.futures);
    }
    Ok(seen)
}

async fn fetch(lane: &mut Lane, url: &Url) -> Result<Snapshot> {
    let (head, body) = get(lane, url).await?;
    let at_us = clock::unix_us();
    if head.status != http::StatusCode::OK {
        bail!("{url} answers {}, no manifest", head.status.as_u16());
    }
    let text = text(&head, &body, ASK.max_bytes)?;
    let manifest = parse(&text, at_us).with_context(|| format!("{url} is no manifest"))?;
    Ok(Snapshot {
        manifest,
        headers: head.headers,
    })
}

async fn get(lane: &mut Lane, url: &Url) -> Result<(Head, Vec<u8>)> {
    let mut body = Vec::new();
    let head = lane.get(url, ASK, |data| body.extend_from_slice(data));
    let head = head.await?;
    Ok((head, body))
}

async fn clocks(lane: &mut Lane, base: &Url, manifest: &Manifest, seen: &mut Seen) {
    let xsdate = |scheme: &str| scheme.contains(":utc:http-xsdate:");
    let timing = manifest.timing.iter().find(|one| xsdate(&one.scheme));
    let Some(url) = timing.and_then(|one| base.join(&one.value).ok()) else {
        return;
    };
    for _ in 0..CLOCKS {
        let asked_us = clock::unix_us();
        if let Ok((head, body)) = get(lane, &url).await {
            seen.clocks.push(Clock {
                asked_us,
                done_us: clock::unix_us(),
                status: head.status.as_u16(),
                body: text(&head, &body, 1_024).unwrap_or_default(),
                headers: head.headers,
            });
        }
    }
}

/// Follows one kind's first representation.
struct Watcher {
    lane: Lane,
    url: Url,
    kind: &'static str,
    init: Option<(String, Init)>,
    last_us: i64,
    segments: Vec<Fetched>,
    futures: Vec<(u16, i64)>,
}

impl Watcher {
    fn new(net: Arc<Net>, url: Url, kind: &'static str) -> Self {
        Self {
            lane: Lane::new(net),
            url,
            kind,
            init: None,
            last_us: i64::MIN,
            segments: Vec::new(),
            futures: Vec::new(),
        }
    }

    async fn run(
        mut self,
        mut manifests: tokio::sync::watch::Receiver<Arc<Manifest>>,
        deadline: Instant,
    ) -> Self {
        while Instant::now() < deadline {
            let manifest = manifests.borrow_and_update().clone();
            let next = after(&manifest, self.kind, self.last_us);
            let Some((of, segment)) = next else {
                if timeout_at(deadline, manifests.changed())
                    .await
                    .is_ok_and(|ok| ok.is_ok())
                {
                    continue;
                }
                break;
            };
            self.last_us = segment.start_us;
            if self.init.as_ref().is_none_or(|(uri, _)| *uri != of.init) {
                self.init = self.fetch_init(&of.init).await;
            }
            let ahead_us = i64::try_from(of.ahead_us.unwrap_or(0)).unwrap_or(i64::MAX);
            let available_us = (segment.start_us + segment.duration_us).saturating_sub(ahead_us);
            let wait_us = available_us.saturating_sub(clock::unix_us());
            sleep(Duration::from_micros(u64::try_from(wait_us).unwrap_or(0))).await;
            let fetching = self.fetch(segment.clone(), of.timescale, of.by_timeline, wait_us < 0);
            let Ok(fetched) = timeout_at(deadline, fetching).await else {
                break;
            };
            self.segments.extend(fetched);
            if self.futures.len() < FUTURES {
                self.far_ahead(segment, of.by_timeline).await;
            }
        }
        self
    }

    async fn fetch_init(&mut self, uri: &str) -> Option<(String, Init)> {
        let url = self.url.join(uri).ok()?;
        let (_, body) = get(&mut self.lane, &url).await.ok()?;
        Some((uri.to_owned(), parse_init(&body).ok()?))
    }

    async fn fetch(
        &mut self,
        segment: Segment,
        timescale: u64,
        by_timeline: bool,
        late: bool,
    ) -> Option<Fetched> {
        let url = self.url.join(&segment.uri).ok()?;
        let (_, init) = self.init.as_ref()?;
        let mut reader = FragmentReader::default();
        let mut out = Fetched {
            kind: self.kind.to_owned(),
            segment,
            timescale,
            media_timescale: init.timescale,
            by_timeline,
            late,
            asked_us: clock::unix_us(),
            status: 0,
            headers: HeaderMap::new(),
            arrivals_us: Vec::new(),
            fragments: Vec::new(),
            readable: true,
        };
        let head = self.lane.get(&url, ASK, |data| {
            out.arrivals_us.push(clock::unix_us());
            match reader.push(data, init) {
                Ok(fragments) => out.fragments.extend(fragments),
                Err(_) => out.readable = false,
            }
        });
        let head = head.await.ok()?;
        (out.status, out.headers) = (head.status.as_u16(), head.headers);
        Some(out)
    }

    /// The URL of a segment some numbers on, where URLs are by number.
    async fn far_ahead(&mut self, segment: &Segment, by_timeline: bool) {
        let (number, far) = (segment.number.to_string(), segment.number.saturating_add(5));
        let found = segment.uri.rfind(&number).filter(|_| by_timeline);
        let Some(at) = found else { return };
        let mut uri = segment.uri.clone();
        uri.replace_range(at..at + number.len(), &far.to_string());
        let Ok(url) = self.url.join(&uri) else { return };
        let asked_us = clock::unix_us();
        if let Ok((head, _)) = get(&mut self.lane, &url).await {
            self.futures
                .push((head.status.as_u16(), clock::unix_us() - asked_us));
        }
    }
}

/// The first segment after the one that starts at `last_us`. At first the newest:
/// what is older says nothing of when it was offered.
fn after<'a>(
    manifest: &'a Manifest,
    kind: &'a str,
    last_us: i64,
) -> Option<(&'a Representation, &'a Segment)> {
    let all = manifest.of_kind(kind);
    let mut all = all.flat_map(|(_, _, of)| of.segments.iter().map(move |segment| (of, segment)));
    match last_us {
        i64::MIN => all.last(),
        last_us => all.find(|(_, one)| one.start_us > last_us + 1_000),
    }
}

/// The verdicts on a manifest's URL.
///
/// # Errors
/// As [`collect`].
pub async fn check(net: Arc<Net>, url: &Url, deadline: Instant, slack_us: i64) -> Result<Verdicts> {
    let seen = collect(net, url, deadline).await?;
    Ok(judge(&seen, slack_us))
}
