//! What the windows of an edge hold, read at each scrape: no writer of a window
//! has to count. (An origin counts for itself, as it bounds each broadcast.)

use std::sync::Arc;

use prometheus::{
    IntGauge, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{
    broadcast::Broadcast,
    directory::{Directory, Stage},
    log::Log,
};

/// Shows `millrace_window_bytes` for as long as the registry lives.
///
/// # Panics
/// When it is registered twice: a bug of ours that shows when the node starts.
pub fn register_window_metrics(registry: &Registry, directory: Arc<Directory>) {
    let gauge = |name, help| IntGauge::new(name, help).expect("a well-formed metric name");
    let held = WindowMetrics {
        directory,
        bytes: gauge(
            "millrace_window_bytes",
            "Bytes of segments that the windows of all channels hold.",
        ),
        segments: gauge(
            "millrace_window_segments",
            "Segments that the windows of all channels know, most of them without bytes.",
        ),
    };
    let registered = registry.register(Box::new(held));
    registered.expect("window metrics are registered once");
}

struct WindowMetrics {
    directory: Arc<Directory>,
    bytes: IntGauge,
    segments: IntGauge,
}

impl Collector for WindowMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let mut descs = self.bytes.desc();
        descs.extend(self.segments.desc());
        descs
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut bytes, mut segments) = (0, 0);
        for channel in self.directory.snapshot() {
            if let Stage::Ready(broadcast) = channel.stage {
                bytes += sum(&broadcast, Log::held_bytes);
                segments += sum(&broadcast, |log| log.len() as u64);
            }
        }
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.segments
            .set(i64::try_from(segments).unwrap_or(i64::MAX));
        let mut families = self.bytes.collect();
        families.extend(self.segments.collect());
        families
    }
}

fn sum(broadcast: &Broadcast, of: fn(&Log) -> u64) -> u64 {
    let tracks = broadcast.tracks.iter();
    tracks.map(|track| track.window.look(of)).sum()
}
