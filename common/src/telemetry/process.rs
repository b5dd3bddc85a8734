//! The process's own metrics, read from `/proc` at each scrape.
//!
//! They bear the names that every Prometheus client gives them, without our
//! prefix, so that ready-made dashboards find them. What can't be read (no
//! `/proc` in a jail) is left out of that scrape.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge};

/// Linux reports times to user space in units of 1/100 s on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) struct ProcessCollector {
    open_fds: IntGauge,
    max_fds: IntGauge,
    resident_bytes: IntGauge,
    threads: IntGauge,
    /// Set once, by the clock: what the kernel knows, ticks since a boot whose time
    /// stands in /proc/stat, is hidden from a sandboxed service (ProcSubset=pid).
    start_time_seconds: Gauge,
    /// Only names the counter: a counter can't be set, so that each scrape
    /// fills a fresh one from the kernel's own total.
    cpu_seconds: Counter,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        let int = |name, help| IntGauge::new(name, help).expect("a well-formed metric name");
        let start_time_seconds = Gauge::new(
            "process_start_time_seconds",
            "When the process started, in Unix seconds.",
        )
        .expect("a well-formed metric name");
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        start_time_seconds.set(since_epoch.unwrap_or_default().as_secs_f64());
        Self {
            open_fds: int("process_open_fds", "Open file descriptors."),
            max_fds: int("process_max_fds", "Most file descriptors allowed."),
            resident_bytes: int("process_resident_memory_bytes", "Resident memory."),
            threads: int("process_threads", "Threads of the process."),
            start_time_seconds,
            cpu_seconds: cpu_counter(),
        }
    }
}

fn cpu_counter() -> Counter {
    Counter::new(
        "process_cpu_seconds_total",
        "Processor time spent, user and system.",
    )
    .expect("a well-formed metric name")
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let mut descs = self.open_fds.desc();
        descs.extend(self.max_fds.desc());
        descs.extend(self.resident_bytes.desc());
        descs.extend(self.threads.desc());
        descs.extend(self.start_time_seconds.desc());
        descs.extend(self.cpu_seconds.desc());
        descs
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::with_capacity(6);
        families.extend(self.start_time_seconds.collect());
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // Reading the directory opened one more.
            let open = entries.count().saturating_sub(1);
            self.open_fds.set(i64::try_from(open).unwrap_or(i64::MAX));
            families.extend(self.open_fds.collect());
        }
        if let Some(limit) = read("/proc/self/limits")
            .as_deref()
            .and_then(max_open_files)
        {
            self.max_fds.set(limit);
            families.extend(self.max_fds.collect());
        }
        let status = read("/proc/self/status");
        if let Some(kib) = status.as_deref().and_then(|text| field(text, "VmRSS:")) {
            self.resident_bytes.set(kib.saturating_mul(1024));
            families.extend(self.resident_bytes.collect());
        }
        if let Some(threads) = status.as_deref().and_then(|text| field(text, "Threads:")) {
            self.threads.set(threads);
            families.extend(self.threads.collect());
        }
        if let Some(ticks) = read("/proc/self/stat").as_deref().and_then(cpu_ticks) {
            let cpu = cpu_counter();
            cpu.inc_by(ticks / TICKS_PER_SECOND);
            families.extend(cpu.collect());
        }
        families
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The most descriptors that this process may have open; `None` where nothing says.
#[must_use]
pub fn max_descriptors() -> Option<usize> {
    let limit = max_open_files(&read("/proc/self/limits")?)?;
    usize::try_from(limit).ok()
}

fn max_open_files(text: &str) -> Option<i64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => None,
        limit => limit.parse().ok(),
    }
}

/// proc(5): utime and stime are fields 14 and 15. The command name, field 2, may
/// hold spaces and parentheses; the last `)` ends it.
fn cpu_ticks(text: &str) -> Option<f64> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(number(14)? + number(15)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_an_odd_command_name() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 120 30 0 0 20 0 4 0 9000 1 2 3";
        assert_eq!(cpu_ticks(text), Some(150.0));
        assert_eq!(cpu_ticks("7 (short) S 1"), None);
    }

    #[test]
    fn the_start_is_told_wherever_there_is_a_clock() {
        let now = || {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
            since_epoch.unwrap().as_secs_f64()
        };
        let before = now();
        let collector = ProcessCollector::new();
        let after = now();
        let told = || {
            let families = collector.collect();
            let mut families = families.iter();
            let start = families.find(|family| family.name() == "process_start_time_seconds");
            start.unwrap().get_metric()[0].get_gauge().get_value()
        };
        let first = told();
        assert!((before..=after).contains(&first), "{first}");
        // Whoever counts restarts counts its changes.
        assert_eq!(told().to_bits(), first.to_bits());
    }

    #[test]
    fn limits_and_fields() {
        let limits = "Limit  Soft  Hard\nMax open files            1024    4096    files\n";
        assert_eq!(max_open_files(limits), Some(1024));
        assert_eq!(max_open_files("Max open files unlimited x"), None);
        assert_eq!(field("VmRSS:\t  512 kB\n", "VmRSS:"), Some(512));
        assert_eq!(field("VmRSS:\n", "VmRSS:"), None);
    }
}
