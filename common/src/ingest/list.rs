//! `GET /ingests`: places to publish to as JSON, in the form that OBS reads from
//! Twitch, the best for the asker first. Pure.
//!
//! OBS takes of each entry `name`, `url_template` and `url_template_secure` (where
//! there is one), and cuts `/{stream_key}` off the addresses. Beyond Twitch's form
//! an entry has `region`, `city`, `distance_km`, `load` and `state`.

use serde::Serialize;

use super::{Ingest, IngestState, Place, degrees};

/// Where the key belongs, in the words that clients look for.
const KEY: &str = "/{stream_key}";

/// A query that is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("lat and lon are degrees, both or neither, for example /ingests?lat=52.37&lon=4.90")]
pub struct BadAsker;

/// An ingest and how far it is from the asker, where both are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice<'a> {
    pub ingest: &'a Ingest,
    pub distance_km: Option<u32>,
}

#[derive(Serialize)]
struct List<'a> {
    ingests: Vec<Entry<'a>>,
}

/// The first seven as Twitch has them.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "_id")]
    id: u32,
    availability: f64,
    default: bool,
    name: String,
    url_template: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url_template_secure: Option<String>,
    priority: usize,
    region: &'a str,
    city: &'a str,
    distance_km: Option<u32>,
    load: f64,
    state: &'static str,
}

/// Where the asker says to be: `lat` and `lon` of the query, or nothing of it.
///
/// # Errors
/// [`BadAsker`] for one of them alone, twice, or no degrees.
pub fn asker(query: Option<&str>) -> Result<Option<Place>, BadAsker> {
    let (mut latitude, mut longitude) = (None, None);
    for pair in query.unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match key {
            "lat" => &mut latitude,
            "lon" => &mut longitude,
            _ => continue,
        };
        if place.replace(degrees(value).ok_or(BadAsker)?).is_some() {
            return Err(BadAsker);
        }
    }
    match (latitude, longitude) {
        (None, None) => Ok(None),
        (Some(latitude), Some(longitude)) => {
            Place::new(latitude, longitude).map(Some).ok_or(BadAsker)
        }
        _ => Err(BadAsker),
    }
}

/// The best first: who takes publishers before who does not, then the nearest, at
/// one distance the less loaded. Without a place the order given stays.
#[must_use]
pub fn nearest(all: &[Ingest], asker: Option<Place>) -> Vec<Choice<'_>> {
    let mut choices: Vec<_> = all.iter().map(|it| choice(it, asker)).collect();
    choices.sort_by_key(|choice| {
        let load = asker.map(|_| choice.ingest.load_permille());
        let distance = choice.distance_km;
        (choice.ingest.state, distance.is_none(), distance, load)
    });
    choices
}

fn choice(ingest: &Ingest, asker: Option<Place>) -> Choice<'_> {
    let there = ingest.place.zip(asker);
    let distance_km = there.map(|(place, asker)| whole_km(place.distance_km(asker)));
    Choice {
        ingest,
        distance_km,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a distance on the earth"
)]
fn whole_km(km: f64) -> u32 {
    km.round() as u32
}

/// The answer's body.
#[must_use]
pub fn json(all: &[Ingest], asker: Option<Place>) -> String {
    let choices = nearest(all, asker);
    let ingests = choices.iter().enumerate();
    let ingests = ingests.map(|(at, choice)| entry(at, choice)).collect();
    // Strings and finite numbers always have a JSON form.
    serde_json::to_string(&List { ingests }).unwrap_or_default()
}

fn entry<'a>(at: usize, choice: &Choice<'a>) -> Entry<'a> {
    let Ingest { region, city, .. } = choice.ingest;
    let available = choice.ingest.state == IngestState::Available;
    Entry {
        id: id(choice.ingest),
        availability: f64::from(u8::from(available)),
        default: at == 0 && available,
        name: name(region, city),
        url_template: format!("{}{KEY}", choice.ingest.rtmp),
        url_template_secure: choice
            .ingest
            .rtmps
            .as_ref()
            .map(|url| format!("{url}{KEY}")),
        priority: at,
        region,
        city,
        distance_km: choice.distance_km,
        load: f64::from(choice.ingest.load_permille().div_ceil(10)) / 100.0,
        state: word(choice.ingest.state),
    }
}

/// A number that is the same at every node and for as long as the origin has its
/// name: FNV-1a, 31 bits, since readers take it for a signed one.
fn id(ingest: &Ingest) -> u32 {
    let name = ingest.node().map_or("", |node| node.as_str());
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash & 0x7fff_ffff
}

/// What a person reads: `Europe: Amsterdam`.
fn name(region: &str, city: &str) -> String {
    let first = region.split('-').next().unwrap_or_default();
    let area = match first {
        "af" => "Africa",
        "ap" | "as" => "Asia",
        "au" | "oc" => "Australia",
        "eu" => "Europe",
        "me" => "Middle East",
        "na" => "North America",
        "sa" => "South America",
        "us" => "US",
        _ => region,
    };
    let place = if city.is_empty() { region } else { city };
    if area == place {
        area.to_owned()
    } else {
        format!("{area}: {place}")
    }
}

const fn word(state: IngestState) -> &'static str {
    match state {
        IngestState::Available => "available",
        IngestState::Full => "full",
        IngestState::Draining => "draining",
        IngestState::Unavailable => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{super::tests::ingest, *};

    const AMSTERDAM: (f64, f64) = (52.37, 4.90);
    const CHICAGO: (f64, f64) = (41.88, -87.63);
    const SINGAPORE: (f64, f64) = (1.35, 103.99);

    fn order(all: &[Ingest], asker: Option<(f64, f64)>) -> Vec<String> {
        let asker = asker.and_then(|(latitude, longitude)| Place::new(latitude, longitude));
        let chosen = nearest(all, asker);
        let names = chosen.iter().filter_map(|choice| choice.ingest.node());
        names.map(ToString::to_string).collect()
    }

    fn three() -> [Ingest; 3] {
        [
            ingest("sin", Some(SINGAPORE)),
            ingest("chi", Some(CHICAGO)),
            ingest("ams", Some(AMSTERDAM)),
        ]
    }

    #[test]
    fn the_nearest_comes_first() {
        let london = (51.5, -0.12);
        assert_eq!(order(&three(), Some(london)), ["ams", "chi", "sin"]);
        let tokyo = (35.7, 139.7);
        assert_eq!(order(&three(), Some(tokyo)), ["sin", "ams", "chi"]);
        assert_eq!(order(&three(), None), ["sin", "chi", "ams"]);
    }

    #[test]
    fn who_takes_nobody_comes_last_however_near() {
        let mut all = three();
        all[2].state = IngestState::Draining;
        assert_eq!(order(&all, Some(AMSTERDAM)), ["chi", "sin", "ams"]);
        all[1].state = IngestState::Full;
        assert_eq!(order(&all, Some(AMSTERDAM)), ["sin", "chi", "ams"]);
        all[0].state = IngestState::Unavailable;
        assert_eq!(order(&all, Some(AMSTERDAM)), ["chi", "ams", "sin"]);
        assert_eq!(order(&all, None), ["chi", "ams", "sin"]);
    }

    #[test]
    fn at_one_place_the_less_loaded_comes_first() {
        let mut all = [ingest("a", Some(AMSTERDAM)), ingest("b", Some(AMSTERDAM))];
        all[0].publishers = 60;
        all[1].publishers = 59;
        assert_eq!(order(&all, Some(CHICAGO)), ["b", "a"]);
        // The operator's order is no matter of a few publishers.
        assert_eq!(order(&all, None), ["a", "b"]);
    }

    #[test]
    fn one_without_a_place_comes_behind_those_with_one() {
        let all = [ingest("somewhere", None), ingest("chi", Some(CHICAGO))];
        assert_eq!(order(&all, Some(AMSTERDAM)), ["chi", "somewhere"]);
        assert_eq!(order(&all, None), ["somewhere", "chi"]);
    }

    /// What OBS and others read: names, types and `{stream_key}`.
    #[test]
    fn the_form_is_twitchs_and_more() {
        let mut ams = ingest("ams", Some(AMSTERDAM));
        ams.rtmps = Some("rtmps://ams.example.net/live".to_owned());
        ams.publishers = 25;
        let mut chi = ingest("chi", Some(CHICAGO));
        chi.region = "us".to_owned();
        chi.city = "Chicago".to_owned();
        chi.state = IngestState::Full;
        chi.publishers = 120;
        let told: Value = serde_json::from_str(&super::json(
            &[chi, ams],
            Place::new(AMSTERDAM.0, AMSTERDAM.1),
        ))
        .unwrap();
        let id = |at: usize| told["ingests"][at]["_id"].as_u64().unwrap();
        assert_eq!(
            told,
            json!({"ingests": [
                {
                    "_id": id(0), "availability": 1.0, "default": true, "name": "Europe: Amsterdam",
                    "url_template": "rtmp://ams.example.net/live/{stream_key}",
                    "url_template_secure": "rtmps://ams.example.net/live/{stream_key}", "priority": 0,
                    "region": "eu-ams", "city": "Amsterdam", "distance_km": 0, "load": 0.25,
                    "state": "available"
                },
                {
                    "_id": id(1), "availability": 0.0, "default": false, "name": "US: Chicago",
                    "url_template": "rtmp://chi.example.net/live/{stream_key}", "priority": 1,
                    "region": "us", "city": "Chicago", "distance_km": 6608, "load": 1.0, "state": "full"
                },
            ]})
        );
        assert!(id(0) != id(1) && id(0) <= 0x7fff_ffff);
    }

    #[test]
    fn an_empty_directory_is_an_empty_list() {
        assert_eq!(super::json(&[], None), r#"{"ingests":[]}"#);
    }

    #[test]
    fn names_are_for_people() {
        for (region, city, told) in [
            ("eu-ams", "Amsterdam", "Europe: Amsterdam"),
            ("eu-ams", "", "Europe: eu-ams"),
            ("ams1", "Amsterdam", "ams1: Amsterdam"),
            ("ams1", "", "ams1"),
            ("us", "", "US: us"),
        ] {
            assert_eq!(name(region, city), told);
        }
    }

    #[test]
    fn an_asker_tells_both_or_nothing() {
        assert_eq!(asker(None), Ok(None));
        assert_eq!(asker(Some("x=y&lat2=5")), Ok(None));
        assert_eq!(asker(Some("lon=4.9&lat=52.37")), Ok(Place::new(52.37, 4.9)));
        for bad in [
            "lat=52.37",
            "lon=4.9",
            "lat=52.37&lon=",
            "lat&lon",
            "lat=91&lon=0",
            "lat=0&lon=-180.1",
            "lat=NaN&lon=0",
            "lat=1e1&lon=0",
            "lat=1&lat=1&lon=0",
            "lat=1&lon=0&lon=x",
        ] {
            assert_eq!(asker(Some(bad)), Err(BadAsker), "{bad}");
        }
        assert!(BadAsker.to_string().contains("/ingests?lat=52.37&lon=4.90"));
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_no_query_panics(
            places in proptest::collection::vec(
                proptest::option::of((-90.0f64..=90.0, -180.0f64..=180.0)), 0..20),
            query in "\\PC{0,40}",
        ) {
            let all: Vec<_> = places.iter().map(|place| ingest("a", *place)).collect();
            let asker = asker(Some(&query)).unwrap_or(Place::new(0.0, 0.0));
            let told: Value = serde_json::from_str(&super::json(&all, asker)).unwrap();
            prop_assert_eq!(told["ingests"].as_array().unwrap().len(), all.len());
        }
    }
}
