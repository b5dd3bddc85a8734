//! What a server's process takes: processor time and memory, from `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub cpu: Duration,
    pub rss_kib: u64,
}

/// Looks at a process. Processor time comes from schedstat, which counts
/// nanoseconds where stat counts ticks.
///
/// # Errors
/// A line naming the process that is not there.
pub fn look(pid: u32) -> Result<Look> {
    let gone = || format!("--server-pid {pid}: no such process");
    let mut cpu_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(gone)? {
        let path = task.with_context(gone)?.path().join("schedstat");
        // A thread may end between being listed and being read.
        let Ok(text) = fs::read_to_string(path) else {
            continue;
        };
        let first = text.split_ascii_whitespace().next();
        cpu_ns += first.and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(gone)?;
    Ok(Look {
        cpu: Duration::from_nanos(cpu_ns),
        rss_kib: rss_kib(&status).with_context(gone)?,
    })
}

fn rss_kib(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What a server's process took, as `--json` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Taken {
    pub pid: u32,
    /// Before anybody came; with all in their rooms; at the end.
    pub rss_before_kib: u64,
    pub rss_joined_kib: u64,
    pub rss_after_kib: u64,
    /// Since before anybody came until all were in their rooms.
    pub arriving_cpu_s: f64,
    /// While messages were sent, until the last was read.
    pub talking_cpu_s: f64,
}

/// Looks at all servers: before anybody came, with all in their rooms, at the end.
#[derive(Debug)]
pub struct Looks {
    pids: Vec<u32>,
    before: Vec<Look>,
    joined: Vec<Look>,
    ended: Vec<Look>,
}

impl Looks {
    /// # Errors
    /// A line naming the process that is not there; so below.
    pub fn new(pids: &[u32]) -> Result<Self> {
        let mut looks = Self {
            pids: pids.to_vec(),
            ..Self::none()
        };
        looks.before = looks.look()?;
        Ok(looks)
    }

    /// Of no server.
    #[must_use]
    pub fn none() -> Self {
        Self {
            pids: Vec::new(),
            before: Vec::new(),
            joined: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// # Errors
    /// As [`Self::new`].
    pub fn joined(&mut self) -> Result<()> {
        self.joined = self.look()?;
        Ok(())
    }

    /// # Errors
    /// As [`Self::new`].
    pub fn ended(&mut self) -> Result<()> {
        self.ended = self.look()?;
        Ok(())
    }

    fn look(&self) -> Result<Vec<Look>> {
        self.pids.iter().map(|pid| look(*pid)).collect()
    }

    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        let looks = self.before.iter().zip(self.joined.iter().zip(&self.ended));
        let all = self.pids.iter().zip(looks);
        all.map(|(pid, (before, (joined, ended)))| Taken {
            pid: *pid,
            rss_before_kib: before.rss_kib,
            rss_joined_kib: joined.rss_kib,
            rss_after_kib: ended.rss_kib,
            arriving_cpu_s: joined.cpu.saturating_sub(before.cpu).as_secs_f64(),
            talking_cpu_s: ended.cpu.saturating_sub(joined.cpu).as_secs_f64(),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_shows_its_time_and_memory() {
        let itself = look(std::process::id()).unwrap();
        assert!(itself.rss_kib > 100);
        assert!(look(u32::MAX).is_err());
        assert_eq!(rss_kib("Name:\tx\nVmRSS:\t  1234 kB\n"), Some(1_234));
        assert_eq!(rss_kib("Name:\tx\n"), None);
    }
}
