//! What an archive tells its operator.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use crate::telemetry::metrics::{int_counter, int_counter_vec, int_gauge};

/// Why a listed segment can't be had any more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lost {
    /// No room in memory, and the disk did not take it in time.
    Memory,
    /// No room on disk.
    Disk,
    /// The disk failed.
    Error,
}

#[derive(Debug, Clone)]
pub struct ArchiveMetrics {
    memory_bytes: IntGauge,
    disk_bytes: IntGauge,
    files: IntGauge,
    lost: IntCounterVec,
    pub(super) errors: IntCounter,
}

impl ArchiveMetrics {
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        Self {
            memory_bytes: int_gauge(
                registry,
                "millrace_past_memory_bytes",
                "Bytes of past segments kept in memory.",
            ),
            disk_bytes: int_gauge(
                registry,
                "millrace_past_disk_bytes",
                "Bytes of past segments kept in files.",
            ),
            files: int_gauge(
                registry,
                "millrace_past_files",
                "Past segments kept in files.",
            ),
            lost: int_counter_vec(
                registry,
                "millrace_past_lost_total",
                "Segments given up while they may still be listed, by what had no room for them.",
                &["reason"],
            ),
            errors: int_counter(
                registry,
                "millrace_past_disk_errors_total",
                "Files of past segments that could not be written or deleted.",
            ),
        }
    }

    pub(super) fn tell(&self, memory_bytes: u64, disk_bytes: u64, files: usize) {
        let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.memory_bytes.set(int(memory_bytes));
        self.disk_bytes.set(int(disk_bytes));
        self.files.set(int(files as u64));
    }

    pub(super) fn lose(&self, why: Lost) {
        let reason = match why {
            Lost::Memory => "memory",
            Lost::Disk => "disk",
            Lost::Error => "error",
        };
        self.lost.with_label_values(&[reason]).inc();
    }
}

#[cfg(test)]
impl ArchiveMetrics {
    pub(super) fn memory(&self) -> i64 {
        self.memory_bytes.get()
    }

    pub(super) fn disk(&self) -> i64 {
        self.disk_bytes.get()
    }

    pub(super) fn lost_for(&self, reason: &str) -> u64 {
        self.lost.with_label_values(&[reason]).get()
    }
}
