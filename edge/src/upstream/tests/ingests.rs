//! Places to publish to, over real links: from an origin through a mid edge to a
//! leaf, as they change and when the origin is lost.

use std::sync::Arc;

use common::{
    ingest::{Ingest, IngestState, Ingests},
    live::Directory,
};

use super::{any, stage::*};

fn ingest(publishers: u32, state: IngestState) -> Ingest {
    Ingest {
        hops: vec![node("origin")],
        region: "eu-ams".to_owned(),
        city: "Amsterdam".to_owned(),
        place: None,
        rtmp: "rtmp://ams.example.net/live".to_owned(),
        rtmps: None,
        publishers,
        capacity: 10,
        state,
    }
}

/// What an edge lists once it lists that.
async fn lists(edge: &Edge, wanted: impl Fn(&[Ingest]) -> bool) -> Arc<[Ingest]> {
    let mut changes = edge.upstream.ingests().changes();
    let found = within(changes.wait_for(|all| wanted(all))).await;
    found.unwrap().clone()
}

fn origin(certs: &Certs, table: &Arc<Ingests>) -> Parent {
    let directory = Arc::new(Directory::default());
    Parent::serve(certs, &directory, any(), "origin", |server| {
        server.telling_of(table.clone())
    })
}

#[tokio::test]
async fn places_to_publish_to_come_down_the_tree() {
    let certs = Certs::new();
    let table = Arc::new(Ingests::default());
    table.set(vec![ingest(3, IngestState::Available)]);
    let origin = origin(&certs, &table);
    let mid = Edge::start(&certs, "edge-1", origin.address);
    let parent = Parent::of(&mid, &certs, any());
    let leaf = Edge::start(&certs, "edge-2", parent.address);
    leaf.upstream.until_synced().await;
    // Known by the time that the edge is ready, not some time later.
    let told = leaf.upstream.ingests().all();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].hops, [node("origin"), node("edge-1")]);
    assert_eq!((told[0].publishers, told[0].capacity), (3, 10));

    table.set(vec![ingest(10, IngestState::Full)]);
    let full = |all: &[Ingest]| all[0].state == IngestState::Full;
    assert_eq!(lists(&leaf, full).await[0].publishers, 10);
    table.set(Vec::new());
    lists(&leaf, <[_]>::is_empty).await;
    table.set(vec![ingest(0, IngestState::Draining)]);
    lists(&leaf, |all| all.len() == 1).await;

    // The way that is left counts, and a short one is better than a long one.
    let both = Edge::under(&certs, "edge-3", &[parent.address, origin.address]);
    lists(&both, |all| all.len() == 1 && all[0].hops.len() == 1).await;

    origin.kill().await;
    let away = |all: &[Ingest]| all[0].state == IngestState::Unavailable;
    lists(&mid, away).await;
    lists(&leaf, away).await;
    drop(parent);
}

#[tokio::test]
async fn what_makes_no_sense_is_counted_and_not_listed() {
    let certs = Certs::new();
    let table = Arc::new(Ingests::default());
    let mut bad = ingest(0, IngestState::Available);
    bad.rtmp = "javascript:alert(1)".to_owned();
    table.set(vec![bad]);
    let origin = origin(&certs, &table);
    let edge = Edge::start(&certs, "edge-1", origin.address);
    edge.upstream.until_synced().await;
    assert!(edge.upstream.ingests().all().is_empty());
    let refused = metric(&edge.registry, "millrace_upstream_ingests_refused_total");
    assert!((refused - 1.0).abs() < f64::EPSILON);
    table.set(vec![ingest(0, IngestState::Available)]);
    lists(&edge, |all| all.len() == 1).await;
    let count = metric(&edge.registry, "millrace_upstream_ingests");
    assert!((count - 1.0).abs() < f64::EPSILON);
}
