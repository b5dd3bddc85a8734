//! What a crowd saw, judged and printed.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::{ChatArgs, process::Taken};
use crate::figures::Percentiles;

/// What `--json` shows.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub connections: u32,
    /// That were in their rooms.
    pub joined: u32,
    /// Connections that ended, by reason.
    pub gone: BTreeMap<String, u64>,
    /// From the first connection until all were signed in.
    pub sign_in_ms: u64,
    /// From the first JOIN until all were in.
    pub join_ms: u64,
    pub sent: u32,
    /// Notices to speakers: most are refusals.
    pub refused: u64,
    pub delivered: u64,
    pub expected: u64,
    pub lost: u64,
    pub misplaced: u64,
    /// From when a message was due to when it was read.
    pub latency: Option<Percentiles>,
    pub talking_s: f64,
    pub deliveries_per_s: f64,
    pub own_cpu_s: f64,
    /// Of all `--server-pid` together.
    pub deliveries_per_server_cpu_s: Option<f64>,
    pub servers: Vec<Taken>,
}

impl Outcome {
    /// A line for each threshold that was missed.
    pub fn failures(&self, args: &ChatArgs) -> Vec<String> {
        let mut failed = Vec::new();
        if self.joined != self.connections || !self.gone.is_empty() {
            failed.push(format!(
                "{} of {} connections joined, gone: {:?}",
                self.joined, self.connections, self.gone
            ));
        }
        let mut most = |what: &str, found: Option<f64>, most: Option<f64>| {
            if let Some(most) = most
                && found.is_none_or(|found| found > most)
            {
                let found = found.map_or("nothing".to_owned(), |found| found.to_string());
                failed.push(format!("{what}: {found}, at most {most}"));
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52")]
        let float = |count: u64| count as f64;
        let latency = self.latency;
        most("p50 ms", latency.map(|all| all.p50_ms), args.max_p50_ms);
        most("p99 ms", latency.map(|all| all.p99_ms), args.max_p99_ms);
        most(
            "join ms",
            Some(float(self.join_ms)),
            args.max_join_ms.map(float),
        );
        most("lost", Some(float(self.lost)), args.max_lost.map(float));
        most(
            "misplaced",
            Some(float(self.misplaced)),
            args.max_misplaced.map(float),
        );
        failed
    }
}

pub fn print(outcome: &Outcome, failed: &[String], json: bool) -> Result<()> {
    if json {
        let mut shown = serde_json::to_value(outcome)?;
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("failed".to_owned(), failed.into());
        }
        println!("{shown}");
        return Ok(());
    }
    let Outcome {
        connections,
        joined,
        sign_in_ms,
        join_ms,
        sent,
        refused,
        delivered,
        lost,
        misplaced,
        ..
    } = outcome;
    println!(
        "  connections  {joined} of {connections}, signed in after {sign_in_ms} ms, in their rooms {join_ms} ms later"
    );
    for (why, count) in &outcome.gone {
        println!("               {count} gone: {why}");
    }
    println!("  messages     {sent} sent, {refused} refused or noticed");
    println!(
        "  deliveries   {delivered}, {:.0} a second; {lost} lost, {misplaced} misplaced",
        outcome.deliveries_per_s
    );
    if let Some(all) = outcome.latency {
        println!(
            "  latency      p50 {}  p90 {}  p99 {}  max {} ms",
            all.p50_ms, all.p90_ms, all.p99_ms, all.max_ms
        );
    }
    for server in &outcome.servers {
        println!(
            "  process {}  {:.2} s of CPU while talking, {:.2} s before; {} KiB before anybody came, {} joined, {} after",
            server.pid,
            server.talking_cpu_s,
            server.arriving_cpu_s,
            server.rss_before_kib,
            server.rss_joined_kib,
            server.rss_after_kib
        );
    }
    if let Some(per_cpu) = outcome.deliveries_per_server_cpu_s {
        println!("  {per_cpu:.0} deliveries per CPU second of the servers");
    }
    println!(
        "{:.1} s, own CPU {:.2} s",
        outcome.talking_s, outcome.own_cpu_s
    );
    for line in failed {
        println!("FAILED {line}");
    }
    Ok(())
}
