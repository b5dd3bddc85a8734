//! Playlists and manifests as they are sent: each version rendered once and
//! compressed once, whatever the number of viewers that wait for it.

use std::{
    collections::HashMap,
    io::Write,
    sync::{Arc, OnceLock, Weak},
    time::Instant,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use common::{
    live::{Broadcast, Listing, Plan, Track, Version, Window},
    names::{ChannelName, TrackName},
};
use flate2::{Compression, write::GzEncoder};
use hyper::header::{CONTENT_ENCODING, HeaderValue, VARY};
use parking_lot::{Mutex, RwLock};

use super::{
    metrics::HttpMetrics,
    response::{self, SharedHead},
};
use crate::{
    dash,
    playlist::{self, Lines, Sections, Skip, part_limit},
};

/// Broadcasts remembered before those that ended are swept out.
const SWEEP_AT: usize = 256;

/// The playlists of every broadcast that was asked for. Its size follows the
/// broadcasts that the edge holds: requests for others never come this far.
#[derive(Debug, Default)]
pub(super) struct Cache {
    channels: RwLock<HashMap<ChannelName, Arc<Playlists>>>,
}

/// The playlists of one broadcast. It does not keep the broadcast alive.
#[derive(Debug)]
pub(super) struct Playlists {
    broadcast: Weak<Broadcast>,
    pub(super) lifetimes: Lifetimes,
    multivariant: OnceLock<Arc<Rendered>>,
    manifest: ManifestSlot,
    tracks: Vec<TrackPlaylists>,
}

#[derive(Debug)]
pub(super) struct TrackPlaylists {
    name: TrackName,
    pub(super) part_limit: u32,
    whole: Slot,
    delta: Slot,
}

/// The newest rendering; `making` is held by the one who makes the next.
#[derive(Debug, Default)]
struct Slot {
    current: ArcSwapOption<Rendered>,
    /// What the last one left for the next one.
    making: Mutex<Lines>,
}

/// As [`Slot`], of the manifest, which depends on several tracks at once.
#[derive(Debug, Default)]
struct ManifestSlot {
    current: ArcSwapOption<(dash::Version, Arc<Rendered>)>,
    making: Mutex<()>,
}

/// Cache-Control by rule T3.
#[derive(Debug)]
pub(super) struct Lifetimes {
    pub(super) blocking: HeaderValue,
    pub(super) blocking_error: HeaderValue,
    pub(super) plain: HeaderValue,
    pub(super) plain_error: HeaderValue,
}

/// What a playlist is compressed from.
#[derive(Debug)]
enum Source {
    Text,
    Lines(Sections),
}

/// A playlist's bytes and tags. `text` and its gzipped form are different
/// representations and differ in their strong tags.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) text: Bytes,
    source: Source,
    gzip: OnceLock<Bytes>,
    pub(super) etag: HeaderValue,
    pub(super) gzip_etag: HeaderValue,
    /// Headers by `gzip` and `blocking`, made once and shared by all answers.
    heads: [OnceLock<Arc<SharedHead>>; 4],
    pub(super) at: Instant,
    listing: Option<Arc<Listing>>,
}

impl Cache {
    /// The playlists of this very broadcast; another one's on the same channel
    /// are forgotten.
    pub(super) fn of(&self, broadcast: &Arc<Broadcast>) -> Arc<Playlists> {
        if let Some(known) = self.channels.read().get(&broadcast.channel)
            && known.is_of(broadcast)
        {
            return known.clone();
        }
        let mut channels = self.channels.write();
        if channels.len() >= SWEEP_AT {
            channels.retain(|_, playlists| playlists.broadcast.strong_count() > 0);
        }
        let place = channels
            .entry(broadcast.channel.clone())
            .or_insert_with(|| Playlists::new(broadcast));
        if !place.is_of(broadcast) {
            *place = Playlists::new(broadcast);
        }
        place.clone()
    }
}

impl Playlists {
    fn new(broadcast: &Arc<Broadcast>) -> Arc<Self> {
        let tracks = broadcast.tracks.iter().map(|of| TrackPlaylists {
            name: of.track.name,
            part_limit: part_limit(&of.track),
            whole: Slot::default(),
            delta: Slot::default(),
        });
        Arc::new(Self {
            broadcast: Arc::downgrade(broadcast),
            lifetimes: Lifetimes::new(&broadcast.plan),
            multivariant: OnceLock::new(),
            manifest: ManifestSlot::default(),
            tracks: tracks.collect(),
        })
    }

    /// A weak reference keeps its address from being used again.
    fn is_of(&self, broadcast: &Arc<Broadcast>) -> bool {
        std::ptr::eq(self.broadcast.as_ptr(), Arc::as_ptr(broadcast))
    }

    pub(super) fn track(&self, name: TrackName) -> Option<&TrackPlaylists> {
        self.tracks.iter().find(|track| track.name == name)
    }

    pub(super) fn multivariant(
        &self,
        broadcast: &Broadcast,
        metrics: &HttpMetrics,
    ) -> Arc<Rendered> {
        let made = self.multivariant.get_or_init(|| {
            metrics.playlist_renders.inc();
            let text = playlist::multivariant(&broadcast.plan, &tracks(broadcast));
            Arc::new(Rendered::new(text, &format!("m{}", broadcast.id), None))
        });
        made.clone()
    }
}

impl ManifestSlot {
    fn current_of(&self, version: dash::Version) -> Option<Arc<Rendered>> {
        let current = self.current.load();
        let made = current.as_ref().filter(|made| made.0 == version);
        made.map(|made| made.1.clone())
    }
}

impl Playlists {
    /// The manifest of what all tracks have now; `None` while they have nothing.
    pub(super) fn manifest(
        &self,
        broadcast: &Broadcast,
        metrics: &HttpMetrics,
    ) -> Option<Arc<Rendered>> {
        let slot = &self.manifest;
        let tracks = tracks(broadcast);
        let now = || dash_shown(broadcast, &tracks);
        if let Some(current) = slot.current_of(now()?.version) {
            return Some(current);
        }
        // As for a playlist: one renders, the others wait for it.
        let _making = slot.making.lock();
        let shown = now()?;
        if let Some(current) = slot.current_of(shown.version) {
            return Some(current);
        }
        metrics.playlist_renders.inc();
        let text = dash::manifest(&shown, &broadcast.plan, &tracks);
        let made = Arc::new(Rendered::new(text, &shown.version.to_string(), None));
        slot.current
            .store(Some(Arc::new((shown.version, made.clone()))));
        Some(made)
    }
}

/// What a manifest of this broadcast shows now.
fn dash_shown(broadcast: &Broadcast, tracks: &[&Track]) -> Option<dash::Shown> {
    let listings = broadcast.tracks.iter().map(|of| of.window.listing());
    let listings: Vec<_> = listings.collect::<Option<_>>()?;
    let (id, plan) = (broadcast.id, &broadcast.plan);
    dash::shown(id, plan, tracks, &listings)
}

impl TrackPlaylists {
    /// The playlist of what the window lists now, or of something newer than
    /// when this was called. `None` while it lists nothing.
    pub(super) fn rendered(
        &self,
        broadcast: &Broadcast,
        track: &Track,
        window: &Window,
        skip: Skip,
        metrics: &HttpMetrics,
    ) -> Option<Arc<Rendered>> {
        let slot = match skip {
            Skip::No => &self.whole,
            Skip::Yes => &self.delta,
        };
        if let Some(current) = slot.current_of(&window.listing()?) {
            return Some(current);
        }
        // Thousands wake at once; one renders while the others wait here for
        // the tenth of a millisecond that it takes.
        let mut lines = slot.making.lock();
        let listing = window.listing()?;
        if let Some(current) = slot.current_of(&listing) {
            return Some(current);
        }
        metrics.playlist_renders.inc();
        let plan = &broadcast.plan;
        let all = tracks(broadcast);
        let tag = tag(&listing.version, skip);
        let made = match skip {
            Skip::No => {
                let (text, sections) = lines.media(&listing, plan, track, &all);
                Rendered::of_lines(text, sections, &tag, listing)
            }
            Skip::Yes => {
                let text = playlist::media(&listing, plan, track, &all, skip);
                Rendered::new(text, &tag, Some(listing))
            }
        };
        let made = Arc::new(made);
        slot.current.store(Some(made.clone()));
        Some(made)
    }
}

impl Slot {
    fn current_of(&self, listing: &Arc<Listing>) -> Option<Arc<Rendered>> {
        let current = self.current.load();
        let fits = current.as_ref().is_some_and(|made| {
            made.listing
                .as_ref()
                .is_some_and(|of| Arc::ptr_eq(of, listing))
        });
        fits.then(|| current.clone()).flatten()
    }
}

impl Lifetimes {
    fn new(plan: &Plan) -> Self {
        let seconds = plan.target_duration_s;
        Self {
            blocking: response::max_age(seconds.saturating_mul(6)),
            blocking_error: response::max_age(seconds.saturating_mul(4)),
            plain: response::max_age((seconds / 2).max(1)),
            plain_error: response::max_age(seconds),
        }
    }
}

impl Rendered {
    fn new(text: String, tag: &str, listing: Option<Arc<Listing>>) -> Self {
        let quoted =
            |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""));
        Self {
            text: Bytes::from(text),
            source: Source::Text,
            gzip: OnceLock::new(),
            etag: quoted(format!("\"{tag}\"")),
            gzip_etag: quoted(format!("\"{tag}-gzip\"")),
            heads: Default::default(),
            at: Instant::now(),
            listing,
        }
    }

    fn of_lines(text: String, sections: Sections, tag: &str, listing: Arc<Listing>) -> Self {
        Self {
            source: Source::Lines(sections),
            ..Self::new(text, tag, Some(listing))
        }
    }

    /// All headers of an answer with this; its age is still to be told. The
    /// same `content_type` each time, and the same `cache` for each `blocking`.
    pub(super) fn head(
        &self,
        content_type: HeaderValue,
        cache: &HeaderValue,
        gzip: bool,
        blocking: bool,
    ) -> &Arc<SharedHead> {
        let [plain, zipped, plain_blocking, zipped_blocking] = &self.heads;
        let (place, etag) = match (gzip, blocking) {
            (false, false) => (plain, &self.etag),
            (true, false) => (zipped, &self.gzip_etag),
            (false, true) => (plain_blocking, &self.etag),
            (true, true) => (zipped_blocking, &self.gzip_etag),
        };
        place.get_or_init(|| {
            let mut head = response::head(content_type, cache.clone(), etag.clone());
            head.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
            if gzip {
                head.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            SharedHead::new(head)
        })
    }

    pub(super) fn gzip(&self) -> Bytes {
        let compressed = self.gzip.get_or_init(|| match &self.source {
            Source::Text => compress(&self.text),
            Source::Lines(sections) => sections.gzip(&self.text).into(),
        });
        compressed.clone()
    }
}

/// Neither time nor name goes into the gzip header: equal texts compress to
/// equal bytes on every edge.
pub(super) fn compress(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::default());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(text);
    encoder.finish().unwrap_or_default().into()
}

fn tracks(broadcast: &Broadcast) -> Vec<&Track> {
    broadcast.tracks.iter().map(|of| &of.track).collect()
}

fn tag(version: &Version, skip: Skip) -> String {
    format!(
        "{}-{}-{}-{}{}{}",
        version.epoch,
        version.msn,
        version.parts,
        u8::from(version.complete),
        u8::from(version.ended),
        match skip {
            Skip::No => "",
            Skip::Yes => "-delta",
        }
    )
}
