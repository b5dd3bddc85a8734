//! LL-DASH viewers: one task keeps the manifest fresh, one a track fetches its
//! segments, each streamed while it is made.
//!
//! In: the manifest's URL. Out: as of a playlist's track. Segments are asked for
//! when the manifest says that they are available, by this machine's clock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    media::{Event, Job, MAX_MEDIA_BYTES, MEDIA_TIMEOUT, Watched},
    stream::is_fresh,
};
use crate::{
    boxes::{FragmentReader, parse_init},
    client::{Ask, Lane, Net, text},
    clock,
    follow::Want,
    mpd::{Manifest, Period, Representation, Segment, parse},
    playout::Arrival,
    track::Track,
    url::Url,
};

const MAX_MANIFEST_BYTES: usize = 4 << 20;
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Manifests are not asked for more often, whatever they say.
const LEAST_UPDATE: Duration = Duration::from_millis(100);
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A segment that is 404 for so many tries is left out.
const TRIES: u32 = 20;

/// Starts within a millisecond of each other are one segment's.
const SAME_US: i64 = 1_000;

/// A manifest with no ServiceDescription.
const DEFAULT_LATENCY_MS: u64 = 3_000;

/// What came back to a buffer that ran dry: about what is asked for at a time.
const RESUME_US: u64 = 200_000;

/// The newest manifest, and what became of all requests for it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub manifest: Arc<Manifest>,
    fetched: u64,
    failed: BTreeMap<String, u64>,
}

/// One GET of a manifest.
///
/// # Errors
/// The kind of failure, in a word.
pub async fn load(lane: &mut Lane, url: &Url) -> Result<Manifest, String> {
    let ask = Ask {
        gzip: true,
        range: None,
        timeout: MANIFEST_TIMEOUT,
        max_bytes: MAX_MANIFEST_BYTES,
    };
    let mut body = Vec::new();
    let head = lane
        .get(url, ask, |data| body.extend_from_slice(data))
        .await
        .map_err(|error| error.kind().to_owned())?;
    if head.status != http::StatusCode::OK {
        return Err(head.status.as_u16().to_string());
    }
    let text = text(&head, &body, MAX_MANIFEST_BYTES).map_err(|_| "encoding".to_owned())?;
    parse(&text, clock::unix_us()).map_err(|_| "syntax".to_owned())
}

/// Keeps a manifest fresh for as long as somebody looks at it.
pub fn follow(net: Arc<Net>, url: Url, first: Manifest) -> watch::Receiver<Seen> {
    let (sender, receiver) = watch::channel(Seen {
        manifest: Arc::new(first),
        fetched: 1,
        failed: BTreeMap::new(),
    });
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = keep_fresh(net, url, &sender) => {}
        }
    });
    receiver
}

async fn keep_fresh(net: Arc<Net>, url: Url, seen: &watch::Sender<Seen>) {
    let mut lane = Lane::new(net);
    loop {
        let now = seen.borrow().manifest.clone();
        if now.is_final() {
            return;
        }
        let pause = Duration::from_micros(now.update_us.unwrap_or_default());
        sleep(pause.max(LEAST_UPDATE)).await;
        match load(&mut lane, &url).await {
            Ok(manifest) => seen.send_modify(|seen| {
                seen.fetched += 1;
                seen.manifest = Arc::new(manifest);
            }),
            Err(kind) => seen.send_modify(|seen| {
                *seen.failed.entry(kind).or_default() += 1;
            }),
        }
    }
}

/// Watches the representation of one kind, `video` or `audio`.
pub async fn run(job: Job, kind: &'static str, mut seen: watch::Receiver<Seen>) -> Watched {
    let first = seen.borrow().manifest.clone();
    let latency_ms = first.service.as_ref().and_then(|service| service.target_ms);
    let terms = Event::Terms {
        hold_back_us: latency_ms.unwrap_or(DEFAULT_LATENCY_MS) * 1_000,
        part_us: RESUME_US,
    };
    let _ = job.events.send(terms).await;
    let mut task = DashTrack {
        lane: Lane::new(job.net.clone()),
        track: Track::new(job.digits),
        asked_us: clock::unix_us(),
        map: None,
        last: None,
        tries: 0,
        breaks: false,
        job,
    };
    let mut ended = false;
    while Instant::now() < task.job.deadline {
        let manifest = seen.borrow_and_update().manifest.clone();
        let next = next(&manifest, kind, task.last.as_ref(), clock::unix_us());
        let deadline = task.job.deadline;
        match next {
            Some(next) => tokio::select! {
                () = task.take(next) => {}
                () = sleep_until(deadline) => {}
            },
            None if manifest.is_final() => {
                ended = true;
                break;
            }
            None => tokio::select! {
                changed = seen.changed() => if changed.is_err() {
                    break;
                },
                () = sleep_until(deadline) => {}
            },
        }
    }
    let mut track = task.track;
    // The manifest is one for all tracks.
    if task.job.index == 0 {
        let seen = seen.borrow();
        track.counts.playlists += seen.fetched;
        for (kind, count) in &seen.failed {
            let kind = format!("manifest {kind}");
            *track.counts.errors.entry(kind).or_default() += count;
        }
    }
    Watched { track, ended }
}

/// Where a track stands: the segment fetched last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Last {
    period: String,
    start_us: i64,
    end_us: i64,
}

/// A segment to fetch.
#[derive(Debug, PartialEq)]
struct Next<'a> {
    period: &'a Period,
    representation: &'a Representation,
    segment: &'a Segment,
    /// Unix time.
    available_us: i64,
    /// It is not where the last one ended, though nothing says why.
    skips: bool,
}

/// The segment after `last`; at first the newest that is available.
fn next<'a>(
    manifest: &'a Manifest,
    kind: &'a str,
    last: Option<&Last>,
    now_us: i64,
) -> Option<Next<'a>> {
    let all = manifest
        .of_kind(kind)
        .flat_map(|(period, _, representation)| {
            let ahead = representation.ahead_us.unwrap_or(0);
            let ahead_us = i64::try_from(ahead).unwrap_or(i64::MAX);
            representation.segments.iter().map(move |segment| Next {
                period,
                representation,
                segment,
                available_us: (segment.start_us + segment.duration_us).saturating_sub(ahead_us),
                skips: false,
            })
        });
    let Some(last) = last else {
        return all.filter(|one| one.available_us <= now_us).last();
    };
    let mut later = all.filter(|one| one.segment.start_us > last.start_us + SAME_US);
    let mut next = later.next()?;
    next.skips =
        next.period.id == last.period && next.segment.start_us > last.end_us + 100 * SAME_US;
    Some(next)
}

struct DashTrack {
    job: Job,
    lane: Lane,
    track: Track,
    asked_us: i64,
    /// The init segment that the track was read with.
    map: Option<String>,
    last: Option<Last>,
    tries: u32,
    /// Media time started anew with what was not read.
    breaks: bool,
}

impl DashTrack {
    async fn take(&mut self, next: Next<'_>) {
        let wait_us = next.available_us.saturating_sub(clock::unix_us());
        if let Ok(wait_us) = u64::try_from(wait_us) {
            sleep(Duration::from_micros(wait_us)).await;
        }
        let segment = next.segment;
        let last = self.last.as_ref();
        self.breaks |= last.is_some_and(|last| last.period != next.period.id);
        let end_us = match self.fetch(&next).await {
            Outcome::Read { end_us } => {
                self.breaks = false;
                end_us
            }
            Outcome::Gone if self.tries < TRIES => {
                self.tries += 1;
                self.track.counts.hints_withdrawn += 1;
                return sleep(RETRY_PAUSE).await;
            }
            Outcome::Gone | Outcome::Failed => {
                self.track.counts.error("segment left out");
                self.track.leave_out();
                segment.start_us + segment.duration_us
            }
        };
        self.tries = 0;
        self.track.counts.skips += u64::from(next.skips);
        self.last = Some(Last {
            period: next.period.id.clone(),
            start_us: segment.start_us,
            end_us,
        });
    }

    async fn fetch(&mut self, next: &Next<'_>) -> Outcome {
        let map = &next.representation.init;
        if self.map.as_ref() != Some(map)
            && let Err(kind) = self.fetch_init(map).await
        {
            self.track.counts.error(format!("init {kind}"));
            return Outcome::Failed;
        }
        let segment = next.segment;
        let Ok(url) = self.job.url.join(&segment.uri) else {
            self.track.counts.error("bad uri");
            return Outcome::Failed;
        };
        let mut want = Want {
            uri: String::new(),
            map: None,
            hinted: false,
            gap: false,
            duration_us: 0,
            discontinuity: self.breaks,
            date_time_us: Some(segment.start_us),
            fresh: false,
        };
        let (mut reader, mut begun, mut unreadable) = (FragmentReader::default(), false, false);
        let mut end_us = segment.start_us;
        let (track, job, asked_us) = (&mut self.track, &mut self.job, self.asked_us);
        let head = self.lane.get(&url, ASK, |data| {
            let at_us = clock::unix_us();
            track.counts.bytes += data.len() as u64;
            let Some(init) = track.init.clone() else {
                return;
            };
            let Ok(fragments) = reader.push(data, &init) else {
                unreadable = true;
                return;
            };
            for fragment in fragments {
                let first = !std::mem::replace(&mut begun, true);
                if first {
                    track.begin(&want);
                }
                want.fresh = is_fresh(&fragment, init.kind, init.nal_length, asked_us, at_us);
                let Some(gained) = track.fragment(&fragment, &want, first, at_us) else {
                    continue;
                };
                end_us += gained.end_us - gained.start_us;
                job.tell(vec![Arrival {
                    track: job.index,
                    at_us,
                    start_us: gained.start_us,
                    end_us: gained.end_us,
                    discontinuity: first && want.discontinuity,
                }]);
            }
        });
        match head.await {
            Ok(head) if head.status == http::StatusCode::OK => {}
            Ok(head) if head.status == http::StatusCode::NOT_FOUND => return Outcome::Gone,
            Ok(head) => {
                let kind = format!("media {}", head.status.as_u16());
                self.track.counts.error(kind);
                return Outcome::Failed;
            }
            Err(error) => {
                self.track.counts.error(format!("media {}", error.kind()));
                // What was read in part can't be read again without counting twice.
                return if begun {
                    Outcome::Read { end_us }
                } else {
                    Outcome::Failed
                };
            }
        }
        if unreadable || reader.pending() > 0 || !begun {
            self.track.counts.error("media unreadable");
        }
        self.track.counts.parts += 1;
        Outcome::Read { end_us }
    }

    async fn fetch_init(&mut self, map: &str) -> Result<(), String> {
        let url = self.job.url.join(map).map_err(|_| "uri".to_owned())?;
        let mut body = Vec::new();
        let got = self
            .lane
            .get(&url, ASK, |data| body.extend_from_slice(data));
        let head = got.await.map_err(|error| error.kind().to_owned())?;
        if head.status != http::StatusCode::OK {
            return Err(head.status.as_u16().to_string());
        }
        let init = parse_init(&body).map_err(|_| "unreadable".to_owned())?;
        self.track.init = Some(init);
        self.map = Some(map.to_owned());
        Ok(())
    }
}

const ASK: Ask = Ask {
    gzip: false,
    range: None,
    timeout: MEDIA_TIMEOUT,
    max_bytes: MAX_MEDIA_BYTES,
};

enum Outcome {
    Read {
        /// By its media, which may be longer than was expected.
        end_us: i64,
    },
    /// 404: not yet, or no longer.
    Gone,
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let text = r#"<MPD type="dynamic" availabilityStartTime="1970-01-01T00:00:00Z" minimumUpdatePeriod="PT1S">
          <Period id="a" start="PT0S"><AdaptationSet contentType="video"><Representation id="v">
            <SegmentTemplate startNumber="5" media="$Number$" availabilityTimeOffset="1.5"><SegmentTimeline><S t="10" d="2" r="2"/></SegmentTimeline></SegmentTemplate>
          </Representation></AdaptationSet></Period>
          <Period id="b" start="PT20S"><AdaptationSet contentType="video"><Representation id="v">
            <SegmentTemplate startNumber="8" media="$Number$"><SegmentTimeline><S t="0" d="2"/><S t="5" d="2"/></SegmentTimeline></SegmentTemplate>
          </Representation></AdaptationSet></Period></MPD>"#;
        parse(text, 0).unwrap()
    }

    fn at(period: &str, start_s: i64, end_s: i64) -> Last {
        Last {
            period: period.to_owned(),
            start_us: start_s * 1_000_000,
            end_us: end_s * 1_000_000,
        }
    }

    #[test]
    fn a_viewer_begins_with_the_newest_available_segment() {
        let manifest = manifest();
        let number = |now_ms: i64| {
            let next = next(&manifest, "video", None, now_ms * 1_000);
            next.map(|next| next.segment.number)
        };
        assert_eq!(number(10_499), None);
        assert_eq!(number(10_500), Some(5));
        assert_eq!(number(14_600), Some(7));
        assert_eq!(number(22_000), Some(8));
    }

    #[test]
    fn a_viewer_goes_on_segment_by_segment_and_over_periods() {
        let manifest = manifest();
        let after = |last: Last| {
            let next = next(&manifest, "video", Some(&last), 0);
            next.map(|next| (next.segment.number, next.skips, next.available_us))
        };
        assert_eq!(after(at("a", 10, 12)), Some((6, false, 12_500_000)));
        // A new period is no skip; a hole within one is.
        assert_eq!(after(at("a", 14, 16)), Some((8, false, 22_000_000)));
        assert_eq!(after(at("b", 20, 22)), Some((9, true, 27_000_000)));
        assert_eq!(after(at("b", 25, 27)), None);
    }
}
