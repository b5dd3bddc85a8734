//! DASH manifests of any vendor into what a viewer and the checker need.
//!
//! In: the text of an MPD, and the time that open-ended addressing is written
//! out for. Out: [`Manifest`] with every segment of every representation. Only
//! SegmentTemplate with `$Number$` or `$Time$` is read, by a timeline or by a
//! nominal duration: what live profiles use. Pure.

use roxmltree::{Document, Node};

mod time;

use time::{duration_us, unix_us};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MpdError {
    #[error("not XML: {0}")]
    Xml(String),
    #[error("the document is no MPD")]
    NoMpd,
    #[error("{element}@{name} is `{value}`")]
    Attribute {
        element: String,
        name: String,
        value: String,
    },
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    pub dynamic: bool,
    pub profiles: Vec<String>,
    /// availabilityStartTime, Unix microseconds.
    pub available_us: i64,
    pub update_us: Option<u64>,
    pub service: Option<Service>,
    pub timing: Vec<Timing>,
    pub periods: Vec<Period>,
}

/// ServiceDescription.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    pub scopes: Vec<String>,
    pub target_ms: Option<u64>,
    pub min_ms: Option<u64>,
    pub max_ms: Option<u64>,
    pub slowest: Option<f64>,
    pub fastest: Option<f64>,
}

/// UTCTiming: scheme and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    pub scheme: String,
    pub value: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Period {
    pub id: String,
    pub start_us: i64,
    pub sets: Vec<Set>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Set {
    /// `video`, `audio`
    pub kind: String,
    /// Scheme of each Essential- and SupplementalProperty.
    pub properties: Vec<String>,
    pub references: Vec<Reference>,
    pub representations: Vec<Representation>,
}

/// ProducerReferenceTime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub kind: String,
    pub wall_us: Option<i64>,
    pub presentation_time: Option<u64>,
    pub timing: Option<Timing>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Representation {
    pub id: String,
    pub timescale: u64,
    /// presentationTimeOffset
    pub offset: u64,
    pub init: String,
    /// availabilityTimeOffset, microseconds.
    pub ahead_us: Option<u64>,
    /// availabilityTimeComplete
    pub complete: bool,
    /// dT of each Resync, in the timescale.
    pub resyncs: Vec<u64>,
    pub by_timeline: bool,
    pub segments: Vec<Segment>,
}

/// Times in Unix microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub number: u64,
    /// Media time of its start, in the timescale.
    pub time: u64,
    pub start_us: i64,
    pub duration_us: i64,
    pub uri: String,
}

/// A manifest of a day of segments has fewer.
const MAX_SEGMENTS: usize = 65_536;

/// Of a nominal duration so many segments before now are written out.
const NOMINAL_BACK: u64 = 10;

/// # Errors
/// [`MpdError`] for what is no MPD or holds a number that is none.
pub fn parse(text: &str, now_us: i64) -> Result<Manifest, MpdError> {
    let document = Document::parse(text).map_err(|error| MpdError::Xml(error.to_string()))?;
    let root = document.root_element();
    if root.tag_name().name() != "MPD" {
        return Err(MpdError::NoMpd);
    }
    let available_us = match root.attribute("availabilityStartTime") {
        Some(text) => unix_us(text).ok_or_else(|| fault(root, "availabilityStartTime"))?,
        None => 0,
    };
    let mut out = Manifest {
        dynamic: root.attribute("type") == Some("dynamic"),
        profiles: list(root.attribute("profiles")),
        available_us,
        update_us: length(root, "minimumUpdatePeriod")?,
        service: children(root, "ServiceDescription").next().map(service),
        timing: children(root, "UTCTiming").map(timing).collect(),
        periods: Vec::new(),
    };
    for node in children(root, "Period") {
        let start_us = length(node, "start")?.unwrap_or(0);
        let start_us = i64::try_from(start_us).unwrap_or(i64::MAX);
        let mut period = Period {
            id: node.attribute("id").unwrap_or_default().to_owned(),
            start_us: available_us.saturating_add(start_us),
            sets: Vec::new(),
        };
        for set in children(node, "AdaptationSet") {
            period.sets.push(read_set(set, &period, now_us)?);
        }
        out.periods.push(period);
    }
    Ok(out)
}

fn read_set(node: Node<'_, '_>, period: &Period, now_us: i64) -> Result<Set, MpdError> {
    let mut set = Set::default();
    for name in ["EssentialProperty", "SupplementalProperty"] {
        let schemes = children(node, name).filter_map(|one| one.attribute("schemeIdUri"));
        set.properties.extend(schemes.map(str::to_owned));
    }
    // 5.12: of a set, or of a representation, as ffmpeg has it.
    let within = children(node, "Representation");
    let places = std::iter::once(node).chain(within);
    for one in places.flat_map(|place| children(place, "ProducerReferenceTime")) {
        let wall = one.attribute("wallClockTime");
        set.references.push(Reference {
            kind: one.attribute("type").unwrap_or("encoder").to_owned(),
            wall_us: wall.and_then(unix_us),
            presentation_time: whole(one, "presentationTime")?,
            timing: children(one, "UTCTiming").next().map(timing),
        });
    }
    let mut mime = node.attribute("contentType").or(node.attribute("mimeType"));
    for one in children(node, "Representation") {
        mime = mime.or(one.attribute("mimeType"));
        if let Some(read) = read_representation(node, one, period, now_us)? {
            set.representations.push(read);
        }
    }
    let kind = mime.unwrap_or_default().split('/').next();
    set.kind = kind.unwrap_or_default().to_owned();
    Ok(set)
}

/// `None` where it is addressed in another way than by a template.
fn read_representation(
    set: Node<'_, '_>,
    node: Node<'_, '_>,
    period: &Period,
    now_us: i64,
) -> Result<Option<Representation>, MpdError> {
    let parent = set.parent_element().unwrap_or(set);
    // The nearest template that says it: representation, set, period.
    let templates: Vec<_> = [node, set, parent]
        .into_iter()
        .filter_map(|of| children(of, "SegmentTemplate").next())
        .collect();
    let Some(nearest) = templates.first().copied() else {
        return Ok(None);
    };
    let says = |name: &str| {
        templates
            .iter()
            .find(|one| one.has_attribute(name))
            .copied()
    };
    let number = |name: &str| says(name).map_or(Ok(None), |one| whole(one, name));
    let text = |name: &str| says(name).and_then(|one| one.attribute(name));
    let id = node.attribute("id").unwrap_or_default();
    let timescale = number("timescale")?.unwrap_or(1).max(1);
    let offset = number("presentationTimeOffset")?.unwrap_or(0);
    let first = number("startNumber")?.unwrap_or(1);
    let media = text("media").unwrap_or_default();
    let ahead_us = match text("availabilityTimeOffset") {
        Some("INF") => None,
        Some(text) => time::seconds_us(text),
        None => None,
    };
    let resyncs = children(node, "Resync").chain(children(set, "Resync"));
    let mut read = Representation {
        id: id.to_owned(),
        timescale,
        offset,
        init: fill(text("initialization").unwrap_or_default(), id, 0, 0),
        ahead_us,
        complete: text("availabilityTimeComplete") != Some("false"),
        resyncs: resyncs
            .filter_map(|one| whole(one, "dT").ok().flatten())
            .collect(),
        by_timeline: false,
        segments: Vec::new(),
    };
    let to_us = |ticks: u64| {
        let us = u128::from(ticks) * 1_000_000 / u128::from(timescale);
        i64::try_from(us).unwrap_or(i64::MAX)
    };
    let mut add = |number: u64, time: u64, ticks: u64| {
        let start_us = period.start_us.saturating_add(to_us(time)) - to_us(offset);
        read.segments.push(Segment {
            number,
            time,
            start_us,
            duration_us: to_us(time.saturating_add(ticks)) - to_us(time),
            uri: fill(media, id, number, time),
        });
        read.segments.len() < MAX_SEGMENTS
    };
    let timeline = templates
        .iter()
        .find_map(|one| children(*one, "SegmentTimeline").next());
    if let Some(timeline) = timeline {
        let (mut at, mut next) = (0, first);
        'all: for s in children(timeline, "S") {
            at = whole(s, "t")?.unwrap_or(at);
            let ticks = whole(s, "d")?.ok_or_else(|| fault(s, "d"))?;
            let repeats = whole(s, "r").ok().flatten().unwrap_or(0);
            for _ in 0..=repeats {
                if !add(next, at, ticks) {
                    break 'all;
                }
                (at, next) = (at.saturating_add(ticks), next.saturating_add(1));
            }
        }
        read.by_timeline = true;
    } else if let Some(ticks) = whole(nearest, "duration")?.filter(|ticks| *ticks > 0) {
        let since_us = now_us.saturating_sub(period.start_us).max(0).unsigned_abs();
        let gone = u128::from(since_us) * u128::from(timescale) / 1_000_000 / u128::from(ticks);
        let gone = u64::try_from(gone).unwrap_or(0);
        for at in gone.saturating_sub(NOMINAL_BACK)..=gone {
            add(
                first.saturating_add(at),
                offset.saturating_add(at * ticks),
                ticks,
            );
        }
    }
    Ok(Some(read))
}

fn service(node: Node<'_, '_>) -> Service {
    let scopes = children(node, "Scope").filter_map(|one| one.attribute("schemeIdUri"));
    let mut out = Service {
        scopes: scopes.map(str::to_owned).collect(),
        ..Service::default()
    };
    for one in children(node, "Latency") {
        let ms = |name| whole(one, name).ok().flatten();
        (out.target_ms, out.min_ms, out.max_ms) = (ms("target"), ms("min"), ms("max"));
    }
    for one in children(node, "PlaybackRate") {
        let rate = |name| one.attribute(name).and_then(|text| text.parse().ok());
        (out.slowest, out.fastest) = (rate("min"), rate("max"));
    }
    out
}

fn timing(node: Node<'_, '_>) -> Timing {
    let text = |name| node.attribute(name).unwrap_or_default().to_owned();
    Timing {
        scheme: text("schemeIdUri"),
        value: text("value"),
    }
}

fn children<'a, 'input>(
    of: Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    of.children()
        .filter(move |node| node.tag_name().name() == name)
}

fn list(text: Option<&str>) -> Vec<String> {
    let all = text.unwrap_or_default().split(',').map(str::trim);
    all.filter(|one| !one.is_empty())
        .map(str::to_owned)
        .collect()
}

fn whole(node: Node<'_, '_>, name: &str) -> Result<Option<u64>, MpdError> {
    match node.attribute(name) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| fault(node, name)),
    }
}

fn length(node: Node<'_, '_>, name: &str) -> Result<Option<u64>, MpdError> {
    match node.attribute(name) {
        None => Ok(None),
        Some(text) => duration_us(text).map(Some).ok_or_else(|| fault(node, name)),
    }
}

fn fault(node: Node<'_, '_>, name: &str) -> MpdError {
    MpdError::Attribute {
        element: node.tag_name().name().to_owned(),
        name: name.to_owned(),
        value: node.attribute(name).unwrap_or_default().to_owned(),
    }
}

/// `$Number%05d$` and its kin; `$$` is a dollar.
fn fill(template: &str, id: &str, number: u64, time: u64) -> String {
    let mut out = String::with_capacity(template.len() + 16);
    for (at, piece) in template.split('$').enumerate() {
        if at % 2 == 0 {
            out.push_str(piece);
            continue;
        }
        let (name, width) = match piece.split_once('%') {
            Some((name, width)) => (name, width.trim_end_matches('d').parse().unwrap_or(1)),
            None => (piece, 1),
        };
        match name {
            "" => out.push('$'),
            "RepresentationID" => out.push_str(id),
            "Number" => out.push_str(&format!("{number:0width$}")),
            "Time" => out.push_str(&format!("{time:0width$}")),
            _ => {}
        }
    }
    out
}

impl Manifest {
    /// Whether no update will come.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !self.dynamic || self.update_us.is_none()
    }

    /// The first representation of each kind that has one, over all periods,
    /// oldest first: what a viewer plays.
    pub fn of_kind<'a>(
        &'a self,
        kind: &'a str,
    ) -> impl Iterator<Item = (&'a Period, &'a Set, &'a Representation)> {
        self.periods.iter().filter_map(move |period| {
            let set = period.sets.iter().find(|set| set.kind == kind)?;
            Some((period, set, set.representations.first()?))
        })
    }
}

#[cfg(test)]
mod tests;
