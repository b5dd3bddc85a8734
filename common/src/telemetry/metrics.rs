//! Metrics: one registry a process, created by `main` and passed to the modules.
//!
//! A module makes its metrics through the functions below when it is built,
//! and keeps them in a struct of its own. Names read
//! `millrace_<noun>_<unit|total>`; no label's values grow with viewers. Two
//! metrics of one name, or a name against the rule, are bugs of ours, found
//! when the node starts: hence the panics, which no byte from outside can reach.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::process::ProcessCollector;

/// A share of a gauge that goes when its owner goes.
#[derive(Debug)]
pub struct Share {
    gauge: IntGauge,
    held: i64,
}

impl Share {
    #[must_use]
    pub fn new(gauge: &IntGauge, held: i64) -> Self {
        gauge.add(held);
        Self {
            gauge: gauge.clone(),
            held,
        }
    }

    /// One more for as long as it lives.
    #[must_use]
    pub fn one(gauge: &IntGauge) -> Self {
        Self::new(gauge, 1)
    }

    pub fn set(&mut self, held: i64) {
        self.gauge.add(held - self.held);
        self.held = held;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.sub(self.held);
    }
}

/// A registry with the process's own metrics and `millrace_build_info`.
///
/// `role` is the binary's: `origin` or `edge`.
#[must_use]
pub fn registry(role: &str) -> Registry {
    registry_of(role, None)
}

/// The same of a binary that knows its commit.
#[must_use]
pub fn registry_of(role: &str, commit: Option<&str>) -> Registry {
    let registry = Registry::new();
    register(&registry, ProcessCollector::new(), "process");
    let build = int_gauge_vec(
        &registry,
        "millrace_build_info",
        "Always 1; the version, the commit and the role of this node as labels.",
        &["version", "commit", "role"],
    );
    build
        .with_label_values(&[env!("CARGO_PKG_VERSION"), commit.unwrap_or_default(), role])
        .set(1);
    registry
}

/// A counter, registered.
///
/// # Panics
/// If the name is taken or malformed.
#[must_use]
pub fn int_counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(
        registry,
        IntCounter::new(name, help),
        Kind::Counter,
        name,
        help,
    )
}

/// Counters by label, registered.
///
/// # Panics
/// If the name is taken or malformed.
#[must_use]
pub fn int_counter_vec(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(name, help), labels);
    registered(registry, metric, Kind::Counter, name, help)
}

/// A gauge, registered.
///
/// # Panics
/// If the name is taken or malformed.
#[must_use]
pub fn int_gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help), Kind::Gauge, name, help)
}

/// Gauges by label, registered.
///
/// # Panics
/// If the name is taken or malformed.
#[must_use]
pub fn int_gauge_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels);
    registered(registry, metric, Kind::Gauge, name, help)
}

/// A histogram with the given upper bounds, registered.
///
/// # Panics
/// If the name is taken or malformed, or the bounds don't rise.
#[must_use]
pub fn histogram(registry: &Registry, name: &str, help: &str, bounds: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
    registered(
        registry,
        Histogram::with_opts(options),
        Kind::Histogram,
        name,
        help,
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What every name and help text keeps to, so that a reader of /metrics knows a
/// number's unit and whether it only rises without looking it up.
fn rule(kind: Kind, name: &str, help: &str) -> Result<(), &'static str> {
    let words: Vec<_> = name.split('_').collect();
    let total = words.last() == Some(&"total");
    let unit = words.iter().rev().nth(usize::from(total)).copied();
    if words.first() != Some(&"millrace") || words.len() < 2 {
        return Err("names begin with millrace_");
    }
    if total != (kind == Kind::Counter) {
        return Err("counters end in _total, and nothing else does");
    }
    for measure in ["bytes", "seconds"] {
        if words.contains(&measure) && unit != Some(measure) {
            return Err("a unit stands last, before _total");
        }
    }
    if ["ms", "us", "milliseconds", "kib", "mib", "bits", "percent"]
        .iter()
        .any(|other| words.contains(other))
    {
        return Err("units are seconds, bytes, or a count of what the name says");
    }
    if kind == Kind::Histogram && !matches!(unit, Some("bytes" | "seconds")) {
        return Err("a histogram ends in its unit");
    }
    if help.len() < 10 || !help.ends_with('.') {
        return Err("the help text is a sentence");
    }
    Ok(())
}

fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
    kind: Kind,
    name: &str,
    help: &str,
) -> M {
    if let Err(why) = rule(kind, name, help) {
        panic!("metric {name}: {why}");
    }
    match metric {
        Ok(metric) => {
            register(registry, metric.clone(), name);
            metric
        }
        Err(error) => panic!("metric {name}: {error}"),
    }
}

fn register<M: Collector + 'static>(registry: &Registry, metric: M, name: &str) {
    if let Err(error) = registry.register(Box::new(metric)) {
        panic!("metric {name}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_tells_the_build_and_the_process() {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry_of("edge", Some("1234567")).gather())
            .unwrap();
        let build = format!(
            "millrace_build_info{{commit=\"1234567\",role=\"edge\",version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        );
        assert!(text.contains(&build), "{text}");
        for name in [
            "process_open_fds",
            "process_max_fds",
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "process_start_time_seconds",
            "process_threads",
        ] {
            assert!(text.contains(&format!("\n{name} ")), "{name} in {text}");
        }
    }

    #[test]
    fn names_tell_units_and_what_only_rises() {
        let help = "Something that is counted.";
        for (kind, good) in [
            (Kind::Counter, "millrace_parts_total"),
            (Kind::Counter, "millrace_sent_bytes_total"),
            (Kind::Gauge, "millrace_queued_bytes"),
            (Kind::Gauge, "millrace_channels"),
            (Kind::Histogram, "millrace_wait_seconds"),
        ] {
            assert_eq!(rule(kind, good, help), Ok(()), "{good}");
        }
        for (kind, bad) in [
            (Kind::Counter, "parts_total"),
            (Kind::Counter, "millrace_parts"),
            (Kind::Gauge, "millrace_parts_total"),
            (Kind::Gauge, "millrace_bytes_queued"),
            (Kind::Gauge, "millrace_wait_ms"),
            (Kind::Histogram, "millrace_waits"),
        ] {
            assert!(rule(kind, bad, help).is_err(), "{bad}");
        }
        assert!(rule(Kind::Gauge, "millrace_channels", "").is_err());
    }

    #[test]
    #[should_panic(expected = "millrace_twice_total")]
    fn one_name_is_one_metric() {
        let registry = Registry::new();
        let _first = int_counter(&registry, "millrace_twice_total", "The first of them.");
        let _second = int_counter(&registry, "millrace_twice_total", "The second of them.");
    }
}
