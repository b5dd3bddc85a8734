//! Origins as places to publish to: what each tells of itself to edges, and
//! ([`list`]) the directory that a streamer is given, the nearest first.
//!
//! In: flags of an origin, INGEST of the link. Out: [`Ingests`], the table that one
//! task of a node writes and its link server and HTTP side read. Pure but for that
//! table. Bounds: [`MAX_INGESTS`] and the lengths below, here and on the link.

pub mod list;

use std::sync::Arc;

use tokio::sync::watch;

use crate::names::NodeId;

/// Origins that a node tells of: a list that a person still reads.
pub const MAX_INGESTS: usize = 256;

/// A region's name, bytes.
pub const MAX_REGION_BYTES: usize = 32;

/// A city's name, bytes of UTF-8.
pub const MAX_CITY_BYTES: usize = 64;

/// An address for publishers: the longest host name, a port and the application.
pub const MAX_URL_BYTES: usize = 280;

/// The application that an origin takes publishes for.
const APPLICATION: &str = "/live";

/// Mean radius of the earth (IUGG), kilometres.
const EARTH_KM: f64 = 6_371.008_8;

/// A point on the earth, to about 11 m.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Ten-thousandths of a degree, north positive.
    latitude_e4: i32,
    /// Ten-thousandths of a degree, east positive.
    longitude_e4: i32,
}

/// What a place to publish to does with newcomers, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IngestState {
    Available,
    /// As many publishers as it wants.
    Full,
    /// It is about to go.
    Draining,
    /// Nobody who told of it reaches it now.
    Unavailable,
}

/// One origin as a place to publish to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// From the origin itself on, who tells of it last. Never empty.
    pub hops: Vec<NodeId>,
    pub region: String,
    /// May be empty.
    pub city: String,
    pub place: Option<Place>,
    /// `rtmp://HOST/live`, to which a stream key is added.
    pub rtmp: String,
    /// `rtmps://HOST/live`, where it has that.
    pub rtmps: Option<String>,
    pub publishers: u32,
    /// How many it wants, at least one.
    pub capacity: u32,
    pub state: IngestState,
}

impl Place {
    /// Degrees; `None` for what is nowhere on the earth.
    #[must_use]
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        // NaN is in no range.
        let fits = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        fits.then(|| Self {
            latitude_e4: e4(latitude),
            longitude_e4: e4(longitude),
        })
    }

    /// `LATITUDE,LONGITUDE` in degrees.
    ///
    /// # Errors
    /// A sentence with an example.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pair = text.split_once(',');
        let pair = pair.and_then(|(a, b)| Some((degrees(a.trim())?, degrees(b.trim())?)));
        pair.and_then(|(latitude, longitude)| Self::new(latitude, longitude))
            .ok_or_else(|| "write LATITUDE,LONGITUDE in degrees, for example 52.37,4.90".to_owned())
    }

    /// As the link carries it: both from 0 on.
    #[must_use]
    pub fn to_wire(self) -> (u64, u64) {
        let from = |value: i32, least: i32| u64::from(value.abs_diff(least));
        (
            from(self.latitude_e4, -MAX_LATITUDE_E4),
            from(self.longitude_e4, -MAX_LONGITUDE_E4),
        )
    }

    #[must_use]
    pub fn from_wire(latitude: u64, longitude: u64) -> Option<Self> {
        let back = |value: u64, most: i32| {
            let value = i32::try_from(value).ok()?;
            (value <= 2 * most).then_some(value - most)
        };
        Some(Self {
            latitude_e4: back(latitude, MAX_LATITUDE_E4)?,
            longitude_e4: back(longitude, MAX_LONGITUDE_E4)?,
        })
    }

    /// Along a great circle (haversine), kilometres.
    #[must_use]
    pub fn distance_km(self, other: Self) -> f64 {
        let radians = |e4: i32| (f64::from(e4) / 1e4).to_radians();
        let (a, b) = (radians(self.latitude_e4), radians(other.latitude_e4));
        let across = radians(other.longitude_e4) - radians(self.longitude_e4);
        let square = |angle: f64| (angle / 2.0).sin().powi(2);
        let chord = square(b - a) + a.cos() * b.cos() * square(across);
        2.0 * EARTH_KM * chord.clamp(0.0, 1.0).sqrt().asin()
    }
}

const MAX_LATITUDE_E4: i32 = 900_000;
const MAX_LONGITUDE_E4: i32 = 1_800_000;

#[expect(
    clippy::cast_possible_truncation,
    reason = "at most 180 degrees, which the caller has checked"
)]
fn e4(degrees: f64) -> i32 {
    (degrees * 1e4).round() as i32
}

/// A number without an exponent, and nothing that only means one.
fn degrees(text: &str) -> Option<f64> {
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+');
    let fits = text.len() <= 32 && text.bytes().all(plain);
    fits.then(|| text.parse().ok()).flatten()
}

impl Ingest {
    /// The origin that it is.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        self.hops.first()
    }

    /// Whether all texts are what an origin's flags take: another node's word is
    /// shown to strangers only then.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let secure = self.rtmps.as_deref();
        !self.hops.is_empty()
            && self.capacity > 0
            && region(&self.region).is_ok()
            && (self.city.is_empty() || city(&self.city).is_ok())
            && rtmp_url(&self.rtmp).is_ok()
            && secure.is_none_or(|url| rtmps_url(url).is_ok())
    }

    /// 0, nobody publishes, to 1000, as many as it wants or more.
    #[must_use]
    pub fn load_permille(&self) -> u32 {
        let load = u64::from(self.publishers) * 1000 / u64::from(self.capacity.max(1));
        u32::try_from(load.min(1000)).unwrap_or(1000)
    }
}

/// A region's name, as `--region` takes it.
///
/// # Errors
/// A sentence with an example.
pub fn region(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=MAX_REGION_BYTES).contains(&text.len()) && text.bytes().all(plain);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!("write 1 to {MAX_REGION_BYTES} of a-z, 0-9 and -, for example eu-ams")
    })
}

/// A city's name, as `--city` takes it: for people to read.
///
/// # Errors
/// A sentence with an example.
pub fn city(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_alphanumeric() || " -'.,()".contains(c);
    let fits = (1..=MAX_CITY_BYTES).contains(&text.len()) && text.chars().all(plain);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!("write at most {MAX_CITY_BYTES} bytes of letters, for example Amsterdam")
    })
}

/// Where publishers reach an origin, as `--public-rtmp` takes it.
///
/// # Errors
/// A sentence with an example.
pub fn rtmp_url(text: &str) -> Result<String, String> {
    publish_url("rtmp", text)
}

/// The same for `--public-rtmps`.
///
/// # Errors
/// A sentence with an example.
pub fn rtmps_url(text: &str) -> Result<String, String> {
    publish_url("rtmps", text)
}

fn publish_url(scheme: &str, text: &str) -> Result<String, String> {
    let rest = text.strip_prefix(scheme);
    let authority = rest
        .and_then(|rest| rest.strip_prefix("://"))
        .and_then(|rest| rest.strip_suffix(APPLICATION));
    let fits = text.len() <= MAX_URL_BYTES && authority.is_some_and(is_authority);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "write {scheme}://HOST[:PORT]{APPLICATION}, for example {scheme}://ingest-ams.example.net{APPLICATION}"
        )
    })
}

/// A host name, an IPv4 address or one of IPv6 in brackets, and perhaps a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let port_fits =
        port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0));
    let named = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let host_fits = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(named),
    };
    port_fits && host_fits
}

/// The places to publish to that a node knows, in the order of its parents. One
/// task writes it; whoever reads it has a snapshot.
#[derive(Debug)]
pub struct Ingests(watch::Sender<Arc<[Ingest]>>);

impl Default for Ingests {
    fn default() -> Self {
        Self(watch::Sender::new([].into()))
    }
}

impl Ingests {
    /// Replaces all of them; who waits is woken where that is a change.
    pub fn set(&self, mut all: Vec<Ingest>) {
        all.truncate(MAX_INGESTS);
        self.0.send_if_modified(|known| {
            let differs = known[..] != all[..];
            if differs {
                *known = all.into();
            }
            differs
        });
    }

    #[must_use]
    pub fn all(&self) -> Arc<[Ingest]> {
        self.0.borrow().clone()
    }

    /// Ticks with every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<[Ingest]>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn ingest(node: &str, place: Option<(f64, f64)>) -> Ingest {
        Ingest {
            hops: vec![NodeId::parse(node).unwrap()],
            region: "eu-ams".to_owned(),
            city: "Amsterdam".to_owned(),
            place: place.and_then(|(latitude, longitude)| Place::new(latitude, longitude)),
            rtmp: format!("rtmp://{node}.example.net/live"),
            rtmps: None,
            publishers: 0,
            capacity: 100,
            state: IngestState::Available,
        }
    }

    fn place(text: &str) -> Place {
        Place::parse(text).unwrap()
    }

    /// Distances between airports on the ellipsoid (Vincenty, WGS 84), within 0.5 %,
    /// by which the earth is no sphere.
    #[test]
    fn distances_are_those_of_maps() {
        for (from, to, km) in [
            ("52.3081,4.7642", "40.6398,-73.7789", 5_863.4),
            ("51.4706,-0.4619", "1.3502,103.9944", 10_887.9),
            ("-33.9461,151.1772", "-33.3930,-70.7858", 11_362.6),
            ("35.7647,140.3864", "37.6188,-122.3750", 8_246.3),
        ] {
            let told = place(from).distance_km(place(to));
            assert!((told / km - 1.0).abs() < 0.005, "{from} {to}: {told}");
        }
        let pole = place("90,0").distance_km(place("90,120"));
        assert!(pole < 0.001, "{pole}");
        let half = place("0,-180").distance_km(place("0,0"));
        assert!(
            (half - EARTH_KM * std::f64::consts::PI).abs() < 0.1,
            "{half}"
        );
    }

    #[test]
    fn a_place_is_two_numbers_of_degrees() {
        for good in ["52.37,4.90", "-90,180", "0,0", "52.37, 4.90", "+1.5,-0.25"] {
            assert!(Place::parse(good).is_ok(), "{good}");
        }
        let long = format!("{},1", "0".repeat(40));
        for bad in [
            "", ",", "52.37", "91,0", "0,181", "NaN,1", "inf,1", "1e1,2", "1,2,3", "a,b", &long,
        ] {
            let error = Place::parse(bad).unwrap_err();
            assert!(error.contains("for example 52.37,4.90"), "{bad}");
        }
    }

    #[test]
    fn what_flags_take_is_checked_and_a_wrong_one_shows_a_right_one() {
        assert_eq!(region("eu-ams").as_deref(), Ok("eu-ams"));
        for bad in ["", "EU", "a b", "a\n", &"x".repeat(33)] {
            assert!(region(bad).unwrap_err().contains("for example"), "{bad}");
        }
        for good in [
            "Amsterdam",
            "S\u{e3}o Paulo",
            "St. John's (2)",
            "\u{6771}\u{4eac}",
        ] {
            assert_eq!(city(good).as_deref(), Ok(good));
        }
        for bad in ["", "a\u{7}", "<b>", "a/b", &"x".repeat(65)] {
            assert!(city(bad).unwrap_err().contains("for example"), "{bad}");
        }
        for good in [
            "rtmp://ingest-ams.example.net/live",
            "rtmp://127.0.0.1:1935/live",
            "rtmp://[::1]:1935/live",
            "rtmp://[2001:db8::1]/live",
        ] {
            assert_eq!(rtmp_url(good).as_deref(), Ok(good));
        }
        let long = format!("rtmp://{}/live", "a".repeat(300));
        for bad in [
            "",
            "rtmp://",
            "rtmp:///live",
            "rtmp://a/app",
            "rtmp://a/live/",
            "rtmp://a/live/key",
            "rtmp://user@a/live",
            "rtmp://a:0/live",
            "rtmp://a:65536/live",
            "rtmp://a:+1/live",
            "rtmp://a b/live",
            "rtmp://[::1/live",
            "rtmp://a{stream_key}/live",
            "rtmps://a/live",
            "http://a/live",
            &long,
        ] {
            let error = rtmp_url(bad).unwrap_err();
            assert!(error.contains("for example rtmp://"), "{bad}");
        }
        assert!(rtmps_url("rtmps://a:443/live").is_ok());
        assert!(rtmps_url("rtmp://a/live").is_err());
    }

    #[test]
    fn another_nodes_word_is_held_to_the_same() {
        let good = ingest("ams", Some((52.37, 4.9)));
        assert!(good.is_sound());
        let spoilt: [fn(&mut Ingest); 6] = [
            |it| it.hops.clear(),
            |it| it.region = "<".to_owned(),
            |it| it.city = "\u{1b}[31m".to_owned(),
            |it| it.rtmp = "javascript:alert(1)".to_owned(),
            |it| it.rtmps = Some("rtmp://a/live".to_owned()),
            |it| it.capacity = 0,
        ];
        for spoil in spoilt {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(!bad.is_sound(), "{bad:?}");
        }
    }

    #[test]
    fn load_is_what_of_the_capacity_is_taken() {
        let mut it = ingest("ams", None);
        for (publishers, capacity, load) in [
            (0, 100, 0),
            (50, 100, 500),
            (100, 100, 1000),
            (300, 100, 1000),
            (u32::MAX, 1, 1000),
            (1, 3, 333),
        ] {
            (it.publishers, it.capacity) = (publishers, capacity);
            assert_eq!(it.load_permille(), load);
        }
    }

    #[test]
    fn the_table_is_bounded_and_ticks_with_changes_alone() {
        let table = Ingests::default();
        let mut changes = table.changes();
        table.set(Vec::new());
        assert!(!changes.has_changed().unwrap());
        let many: Vec<_> = (0..=MAX_INGESTS)
            .map(|n| ingest(&format!("o-{n}"), None))
            .collect();
        table.set(many.clone());
        assert!(changes.has_changed().unwrap());
        assert_eq!(changes.borrow_and_update().len(), MAX_INGESTS);
        table.set(many[..MAX_INGESTS].to_vec());
        assert!(!changes.has_changed().unwrap());
        assert_eq!(table.all()[..], many[..MAX_INGESTS]);
    }

    proptest! {
        #[test]
        fn a_place_crosses_the_wire(latitude in -90.0f64..=90.0, longitude in -180.0f64..=180.0) {
            let here = Place::new(latitude, longitude).unwrap();
            let (a, b) = here.to_wire();
            prop_assert_eq!(Place::from_wire(a, b), Some(here));
        }

        #[test]
        fn distances_are_symmetric_and_at_most_half_round(
            a in (-90.0f64..=90.0, -180.0f64..=180.0), b in (-90.0f64..=90.0, -180.0f64..=180.0),
        ) {
            let (a, b) = (Place::new(a.0, a.1).unwrap(), Place::new(b.0, b.1).unwrap());
            let there = a.distance_km(b);
            prop_assert!((0.0..=20_016.0).contains(&there), "{}", there);
            prop_assert!((there - b.distance_km(a)).abs() < 1e-6);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (Place::parse(&text), region(&text), city(&text), rtmp_url(&text));
        }
    }

    #[test]
    fn what_is_nowhere_does_not_come_off_the_wire() {
        assert_eq!(Place::from_wire(1_800_001, 0), None);
        assert_eq!(Place::from_wire(0, 3_600_001), None);
        assert_eq!(Place::from_wire(u64::MAX, 0), None);
    }
}
