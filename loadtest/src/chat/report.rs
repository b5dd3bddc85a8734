//! What a crowd saw, added up over processes, judged and printed.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use super::{
    ChatArgs,
    ledger::{Ledger, Reader},
    process::Taken,
};
use crate::figures::{Latency, Percentiles};

/// What one process' members saw.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    pub connections: u32,
    pub joined: u32,
    pub gone: BTreeMap<String, u64>,
    pub sign_in: Latency,
    pub sign_in_ms: u64,
    pub join_ms: u64,
    /// By all processes together.
    pub sent: u32,
    pub refused: u64,
    /// Each message once a member.
    pub delivered: u64,
    pub expected: u64,
    pub misplaced: u64,
    pub latency: Latency,
    pub talking_s: f64,
    pub own_cpu_s: f64,
    /// Of each room, the messages as its readers had them.
    pub orders: Vec<Vec<u32>>,
}

/// What `--json` shows.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub processes: usize,
    pub connections: u32,
    /// That were in their rooms.
    pub joined: u32,
    /// Connections that ended, by reason.
    pub gone: BTreeMap<String, u64>,
    /// From when a connection was due to when it was signed in.
    pub sign_in: Option<Percentiles>,
    /// From the first connection until all were signed in.
    pub sign_in_ms: u64,
    /// From the first JOIN until all were in.
    pub join_ms: u64,
    pub sent: u32,
    /// Notices to speakers: most are refusals.
    pub refused: u64,
    /// Messages that were read, each once a member.
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

/// Messages that one process' readers had in another order than the others' did,
/// counted as by one reader of each process.
fn misplaced_between(parts: &[Part]) -> u64 {
    let rooms = parts.iter().map(|part| part.orders.len()).max();
    let mut ledger = Ledger::new(rooms.unwrap_or(0));
    ledger.send(parts.first().map_or(0, |part| part.sent));
    let mut misplaced = 0;
    for room in 0..rooms.unwrap_or(0) {
        let mut orders: Vec<_> = parts
            .iter()
            .filter_map(|part| part.orders.get(room))
            .collect();
        // Who missed nothing says where things stand.
        orders.sort_by_key(|order| Reverse(order.len()));
        for order in orders {
            let mut reader = Reader::default();
            for number in order {
                ledger.read(room, *number, &mut reader);
            }
            misplaced += u64::from(reader.misplaced);
        }
    }
    misplaced
}

impl Outcome {
    pub fn of(parts: Vec<Part>, servers: Vec<Taken>) -> Self {
        let between = misplaced_between(&parts);
        let processes = parts.len();
        let (mut latency, mut sign_in) = (Latency::new(3), Latency::new(3));
        let (mut gone, mut talking_s) = (BTreeMap::new(), 0f64);
        for part in &parts {
            latency.add(&part.latency);
            sign_in.add(&part.sign_in);
            talking_s = talking_s.max(part.talking_s);
            for (why, count) in &part.gone {
                *gone.entry(why.clone()).or_default() += count;
            }
        }
        let sum = |of: fn(&Part) -> u64| parts.iter().map(of).sum::<u64>();
        let most = |of: fn(&Part) -> u64| parts.iter().map(of).max().unwrap_or(0);
        let (delivered, expected) = (sum(|part| part.delivered), sum(|part| part.expected));
        let cpu: f64 = servers.iter().map(|server| server.talking_cpu_s).sum();
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 messages")]
        let float = delivered as f64;
        Self {
            processes,
            connections: parts.iter().map(|part| part.connections).sum(),
            joined: parts.iter().map(|part| part.joined).sum(),
            gone,
            sign_in: sign_in.summary(),
            sign_in_ms: most(|part| part.sign_in_ms),
            join_ms: most(|part| part.join_ms),
            sent: parts.iter().map(|part| part.sent).max().unwrap_or(0),
            refused: sum(|part| part.refused),
            delivered,
            expected,
            lost: expected.saturating_sub(delivered),
            misplaced: sum(|part| part.misplaced) + between,
            latency: latency.summary(),
            talking_s,
            deliveries_per_s: float / talking_s.max(0.001),
            own_cpu_s: parts.iter().map(|part| part.own_cpu_s).sum(),
            deliveries_per_server_cpu_s: (cpu > 0.0).then(|| float / cpu),
            servers,
        }
    }

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
            "sign-in p99 ms",
            self.sign_in.map(|all| all.p99_ms),
            args.max_sign_in_ms,
        );
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

impl Outcome {
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string succeeds.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self {
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
        } = self;
        writeln!(
            out,
            "  connections  {joined} of {connections}, signed in after {sign_in_ms} ms, in their rooms {join_ms} ms later"
        )?;
        for (why, count) in &self.gone {
            writeln!(out, "               {count} gone: {why}")?;
        }
        distribution(out, "sign-in", self.sign_in)?;
        writeln!(
            out,
            "  messages     {sent} sent, {refused} refused or noticed"
        )?;
        writeln!(
            out,
            "  deliveries   {delivered}, {:.0} a second; {lost} lost, {misplaced} misplaced",
            self.deliveries_per_s
        )?;
        distribution(out, "latency", self.latency)?;
        for server in &self.servers {
            writeln!(
                out,
                "  process {}  {:.2} s of CPU while talking, {:.2} s before; {} KiB before anybody came, {} joined, {} after",
                server.pid,
                server.talking_cpu_s,
                server.arriving_cpu_s,
                server.rss_before_kib,
                server.rss_joined_kib,
                server.rss_after_kib
            )?;
        }
        if let Some(per_cpu) = self.deliveries_per_server_cpu_s {
            writeln!(
                out,
                "  {per_cpu:.0} deliveries per CPU second of the servers"
            )?;
        }
        writeln!(
            out,
            "{:.1} s, own CPU {:.2} s in {} processes",
            self.talking_s, self.own_cpu_s, self.processes
        )
    }
}

fn distribution(out: &mut String, name: &str, of: Option<Percentiles>) -> std::fmt::Result {
    let Some(all) = of else { return Ok(()) };
    writeln!(
        out,
        "  {name:<12} p50 {}  p90 {}  p99 {}  max {} ms",
        all.p50_ms, all.p90_ms, all.p99_ms, all.max_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(orders: Vec<Vec<u32>>, delivered: u64) -> Part {
        let mut latency = Latency::new(3);
        latency.record(5_000);
        Part {
            connections: 2,
            joined: 2,
            gone: BTreeMap::from([("bye".to_owned(), 1)]),
            sign_in: latency.clone(),
            sign_in_ms: delivered,
            join_ms: 7,
            sent: 3,
            refused: 0,
            delivered,
            expected: 6,
            misplaced: 0,
            latency,
            talking_s: 2.0,
            own_cpu_s: 0.5,
            orders,
        }
    }

    #[test]
    fn processes_add_up() {
        let all = vec![vec![0, 2, 1]];
        let parts = vec![part(all.clone(), 6), part(all, 5)];
        // As they come through a pipe.
        let text = serde_json::to_string(&parts).unwrap();
        let outcome = Outcome::of(serde_json::from_str(&text).unwrap(), Vec::new());
        let Outcome {
            processes: 2,
            connections: 4,
            joined: 4,
            sent: 3,
            delivered: 11,
            lost: 1,
            misplaced: 0,
            sign_in_ms: 6,
            ..
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!((outcome.gone["bye"], outcome.own_cpu_s), (2, 1.0));
        assert_eq!(outcome.latency.unwrap().count, 2);
    }

    #[test]
    fn another_order_in_another_process_is_misplaced() {
        let of = |one: &[u32], other: &[u32]| {
            let parts = vec![part(vec![one.to_vec()], 6), part(vec![other.to_vec()], 6)];
            Outcome::of(parts, Vec::new()).misplaced
        };
        assert_eq!(of(&[0, 1, 2], &[0, 1, 2]), 0);
        // What one process has not read is lost, not misplaced.
        assert_eq!(of(&[0, 1, 2], &[0, 2]), 0);
        assert_eq!(of(&[0, 2], &[0, 1, 2]), 0);
        assert_eq!(of(&[0, 1, 2], &[1, 0, 2]), 1);
    }
}
