//! `/ingests`: who is listed, in which order for whom, and what a cache may keep.

use common::{
    ingest::{Ingest, IngestState, Place},
    names::NodeId,
};

use super::rig::Rig;
use crate::geo::tests::database;

const AMSTERDAM: (f64, f64) = (52.37, 4.90);
const CHICAGO: (f64, f64) = (41.88, -87.63);

fn ingest(node: &str, place: (f64, f64)) -> Ingest {
    Ingest {
        hops: vec![NodeId::parse(node).unwrap()],
        region: node.to_owned(),
        city: String::new(),
        place: Place::new(place.0, place.1),
        rtmp: format!("rtmp://{node}.example.net/live"),
        rtmps: None,
        publishers: 0,
        capacity: 10,
        state: IngestState::Available,
    }
}

pub(super) fn fill(rig: &Rig) {
    let all = vec![ingest("ams", AMSTERDAM), ingest("chi", CHICAGO)];
    rig.ingests.set(all);
}

/// The regions in the order of the answer.
fn order(body: &str) -> Vec<String> {
    let told: serde_json::Value = serde_json::from_str(body).unwrap();
    let all = told["ingests"].as_array().unwrap().iter();
    all.map(|it| it["region"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_nearest_to_who_asks_comes_first() {
    let rig = Rig::live(&[]).await;
    let empty = rig.get("/ingests").await;
    assert_eq!((empty.status, empty.text()), (200, "{\"ingests\":[]}"));
    fill(&rig);
    let plain = rig.get("/ingests").await;
    assert_eq!(order(plain.text()), ["ams", "chi"]);
    assert!(plain.text().contains("\"distance_km\":null"));
    assert_eq!(plain.header("content-type"), "application/json");
    assert_eq!(plain.header("access-control-allow-origin"), "*");
    assert_eq!(plain.header("cache-control"), "max-age=1");
    let west = rig.get("/ingests?lat=40.7&lon=-74.0&x=y").await;
    assert_eq!(order(west.text()), ["chi", "ams"]);
    assert_eq!(west.header("cache-control"), "max-age=1");
}

#[tokio::test]
async fn what_is_no_place_is_refused_with_an_example() {
    let rig = Rig::live(&[]).await;
    for query in ["lat=1", "lat=x&lon=1", "lat=91&lon=1", "lat=1&lon=1&lon=1"] {
        let refused = rig.get(&format!("/ingests?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.text().contains("for example /ingests?lat="));
    }
    for path in ["/ingests/", "/ingests/1", "/Ingests"] {
        assert_eq!(rig.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_address_tells_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("city.mmdb");
    std::fs::write(&path, database(&[("127.0.0.0", 8, 40.7, -74.0)])).unwrap();
    let rig = Rig::live(&["--geoip-db", path.to_str().unwrap()]).await;
    fill(&rig);
    let mine = rig.get("/ingests").await;
    assert_eq!(order(mine.text()), ["chi", "ams"]);
    assert_eq!(mine.header("cache-control"), "private, max-age=1");
    // What the asker says of itself counts for more, and holds for everybody.
    let told = rig.get("/ingests?lat=52&lon=5").await;
    assert_eq!(order(told.text()), ["ams", "chi"]);
    assert_eq!(told.header("cache-control"), "max-age=1");
    let mut client = rig.connect().await;
    let forged = ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"];
    let forged = client.get("/ingests", &forged).await;
    assert_eq!(order(forged.text()), ["chi", "ams"]);
}
