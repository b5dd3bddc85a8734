//! What stays in the bucket and the log, what goes, and what an owner of before can
//! still do to it.

use common::chat::Settings;

use super::*;
use crate::chat::bus::{
    log::Seq,
    record::Record,
    tenure::{Claim, Claimed},
};

async fn claimed(bus: &Arc<Bus>, now: u64) -> Claimed {
    match bus.claim(&room(), UnixMs(now), true).await.unwrap() {
        Claim::Mine(claimed) => *claimed,
        other => panic!("{other:?}"),
    }
}

fn entry(kind: &str, key: &str, value: Option<&str>) -> Entry {
    Entry {
        kind: kind.to_owned(),
        key: key.to_owned(),
        value: value.map(ToOwned::to_owned),
    }
}

fn written(entries: Vec<Entry>) -> Written {
    Written {
        entries,
        ..Written::default()
    }
}

fn ban(number: usize, until_ms: u64) -> Entry {
    let value = format!(r#"{{"until_ms":{until_ms},"by":"demo","at_ms":1}}"#);
    entry("ban", &format!("user{number}"), Some(&value))
}

fn ann(bits: Option<&str>) -> Entry {
    entry("role", "ann", bits)
}

fn bits_of_ann(claimed: &Claimed) -> Option<u8> {
    let ann = Login::parse("ann").unwrap();
    claimed.known.roles.get(&ann).map(|roles| roles.bits())
}

/// How often the bucket was ever written to.
async fn writes(bus: &Bus) -> u64 {
    let info = bus.facts.stream.get_info().await.unwrap();
    info.state.last_sequence
}

/// Messages under the room's facts, markers of deleted ones among them.
async fn facts_left(bus: &Bus) -> u64 {
    let info = bus.facts.stream.get_info().await.unwrap();
    let owner = bus.facts.entry("owner.demo").await.unwrap();
    info.state.messages - u64::from(owner.is_some())
}

/// A second, again and again, until nothing is left to do.
async fn settle(tenure: &mut Tenure) {
    for _ in 0..8 {
        tenure.tick().await;
    }
}

/// The log as it is after very many records: the last one is left.
async fn forget_the_log(bus: &Bus) {
    let stream = bus.context.get_stream("MILLRACE_CHAT").await.unwrap();
    stream.purge().keep(1).await.unwrap();
}

/// A record that its owner appended, and of which the facts were not written.
async fn append_alone(bus: &Bus, epoch: RoomEpoch, entries: Vec<Entry>) -> Seq {
    let record = Record {
        epoch,
        number: 7,
        entries,
        events: Vec::new(),
        verdicts: Vec::new(),
        next: Default::default(),
        settings: Settings::default(),
    };
    let last = bus.log.last(&room()).await.unwrap();
    let after = last.map_or(0, |(seq, _)| seq);
    let (room, bytes) = (room(), record.encode(&room()));
    bus.log.append(&room, after, bytes).await.unwrap()
}

#[tokio::test]
async fn time_outs_that_are_over_hold_no_claim_up() {
    let nats = Nats::start();
    let (old, new) = (nats.bus("origin-1").await, nats.bus("origin-2").await);
    let mut tenure = claimed(&old, 1).await.tenure;
    let mut bans: Vec<_> = (0..50).map(|number| ban(number, 10)).collect();
    bans.push(ban(50, 1_000));
    tenure.write(written(bans)).await.unwrap();
    let late = vec![ban(51, 10), ban(52, 1_000)];
    append_alone(&old, tenure.epoch, late).await;
    // Later they are over: a claim writes its own name, whatever there is to tidy up.
    let before = writes(&new).await;
    let mut now = claimed(&new, 20).await;
    assert_eq!(now.known.bans.len(), 2);
    assert_eq!(writes(&new).await, before + 1);
    settle(&mut now.tenure).await;
    assert_eq!(facts_left(&new).await, 2);
    // The log still has them, and they are not written again.
    let before = writes(&new).await;
    let mut again = claimed(&old, 21).await;
    assert_eq!(again.known.bans.len(), 2);
    settle(&mut again.tenure).await;
    assert_eq!(writes(&new).await, before + 1);
    assert_eq!(facts_left(&new).await, 2);
}

#[tokio::test]
async fn a_record_that_nobody_can_read_holds_no_room_up() {
    let nats = Nats::start();
    let (old, new) = (nats.bus("origin-1").await, nats.bus("origin-2").await);
    let mut tenure = claimed(&old, 1).await.tenure;
    tenure.write(written(vec![ann(Some("2"))])).await.unwrap();
    let subject = format!("millrace.chat.log.{}", room());
    let sent = old.context.publish(subject, "of a later version".into());
    sent.await.unwrap().await.unwrap();
    let mut after = claimed(&new, 2).await;
    assert_eq!(bits_of_ann(&after), Some(2));
    let role = written(vec![ann(Some("4"))]);
    after.tenure.write(role).await.unwrap();
    assert_eq!(bits_of_ann(&claimed(&old, 3).await), Some(4));
}

#[tokio::test]
async fn what_was_lifted_leaves_nothing_in_the_bucket() {
    let nats = Nats::start();
    let (old, new) = (nats.bus("origin-1").await, nats.bus("origin-2").await);
    let mut tenure = claimed(&old, 1).await.tenure;
    let bans = (0..40).map(|number| ban(number, 1_000));
    let lifted = (0..40).map(|number| entry("ban", &format!("user{number}"), None));
    tenure.write(written(bans.collect())).await.unwrap();
    tenure.write(written(lifted.collect())).await.unwrap();
    settle(&mut tenure).await;
    assert_eq!(facts_left(&old).await, 0);
    // What is said again of the same is a fact like any.
    tenure.write(written(vec![ann(Some("2"))])).await.unwrap();
    tenure.write(written(vec![ann(None)])).await.unwrap();
    settle(&mut tenure).await;
    tenure.write(written(vec![ann(Some("8"))])).await.unwrap();
    tenure.write(written(Vec::new())).await.unwrap();
    forget_the_log(&old).await;
    let mut after = claimed(&new, 2).await;
    assert_eq!(bits_of_ann(&after), Some(8));
    // Markers that an owner of before left.
    let role = written(vec![ann(None)]);
    after.tenure.write(role).await.unwrap();
    assert_eq!(facts_left(&new).await, 1);
    let mut last = claimed(&old, 3).await;
    settle(&mut last.tenure).await;
    assert_eq!(facts_left(&new).await, 0);
}

/// A stranger can name rooms: what waited there for a moderator is gone with it.
#[tokio::test]
async fn a_room_that_is_given_up_leaves_no_marker() {
    let nats = Nats::start();
    let bus = nats.bus("origin-1").await;
    let mut tenure = claimed(&bus, 1).await.tenure;
    let many = || (0..100).map(|number| ban(number, 1_000));
    let lifted = many().map(|entry| Entry {
        value: None,
        ..entry
    });
    tenure.write(written(many().collect())).await.unwrap();
    tenure.write(written(lifted.collect())).await.unwrap();
    tenure.release().await;
    tenure.bury_all().await;
    let info = bus.facts.stream.get_info().await.unwrap();
    assert_eq!(info.state.messages, 0);
}

/// Nothing in the bucket tells it from a fact of the owner's but who wrote it when.
#[tokio::test]
async fn who_was_held_up_since_before_a_purge_brings_nothing_back() {
    let nats = Nats::start();
    let (old, new) = (nats.bus("origin-1").await, nats.bus("origin-2").await);
    let mut before = claimed(&old, 1).await.tenure;
    before.write(written(Vec::new())).await.unwrap();
    let mut after = claimed(&new, 2).await.tenure;
    after.write(written(vec![ann(Some("2"))])).await.unwrap();
    after.write(written(vec![ann(None)])).await.unwrap();
    settle(&mut after).await;
    assert_eq!(facts_left(&new).await, 0);
    after.write(written(Vec::new())).await.unwrap();
    before.write_late(vec![ann(Some("4"))]).await;
    assert_eq!(facts_left(&new).await, 1, "nothing keeps it from there");
    forget_the_log(&new).await;
    assert_eq!(
        new.known_of(&room(), after.epoch)
            .await
            .unwrap()
            .roles
            .len(),
        0
    );
    let mut third = claimed(&old, 3).await;
    assert_eq!(bits_of_ann(&third), None);
    third.tenure.write(written(Vec::new())).await.unwrap();
    // By now nothing tells that it was late.
    forget_the_log(&new).await;
    assert_eq!(bits_of_ann(&claimed(&new, 4).await), None);
    settle(&mut third.tenure).await;
    assert_eq!(facts_left(&new).await, 0);
}

/// It was decided in time and written late: the log has it, and so has its next owner.
#[tokio::test]
async fn what_the_log_has_is_no_late_owner_s() {
    let nats = Nats::start();
    let (old, new) = (nats.bus("origin-1").await, nats.bus("origin-2").await);
    let mut before = claimed(&old, 1).await.tenure;
    before.write(written(Vec::new())).await.unwrap();
    let role = vec![ann(Some("4"))];
    append_alone(&old, before.epoch, role.clone()).await;
    let mut after = claimed(&new, 2).await;
    assert_eq!(bits_of_ann(&after), Some(4));
    before.write_late(role).await;
    settle(&mut after.tenure).await;
    after.tenure.write(written(Vec::new())).await.unwrap();
    forget_the_log(&new).await;
    let last = claimed(&old, 3).await;
    assert_eq!(bits_of_ann(&last), Some(4));
    assert_eq!(facts_left(&new).await, 1);
}
