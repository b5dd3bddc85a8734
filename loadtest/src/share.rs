//! One run in several processes, past the descriptors that one may have.
//!
//! The first starts the others as itself with `--share` behind its own arguments.
//! Each takes every so-manieth of the crowd, at the times at which that one was due
//! in the whole, and leaves one line of JSON on standard output, which the first
//! adds up. Where all must be equally far before they go on they say so there and
//! wait for a line on standard input. Bound: [`MAX_PROCESSES`].

use std::{fmt, process::Stdio, str::FromStr, sync::mpsc, time::Duration};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::clock;

const MAX_PROCESSES: u32 = 64;

/// Until all processes have started and wait for the beginning.
const START_LEAD_US: i64 = 500_000;

/// Files, pipes and the poller's own.
const OWN_DESCRIPTORS: u64 = 64;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct ProcessArgs {
    /// Split the crowd over so many processes [default: as many as the limit of
    /// descriptors (ulimit -n) asks for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PROCESSES)))]
    pub processes: Option<u32>,
    /// What a process that was started by another takes
    #[arg(long, hide = true)]
    pub share: Option<Share>,
}

impl ProcessArgs {
    /// How many processes it takes for that many descriptors.
    ///
    /// # Errors
    /// More than [`MAX_PROCESSES`].
    pub fn count(&self, descriptors: u64) -> Result<u32> {
        match self.processes {
            Some(count) => Ok(count),
            None => needed(descriptors, limit().unwrap_or(u64::MAX)),
        }
    }
}

fn needed(descriptors: u64, limit: u64) -> Result<u32> {
    let each = limit.saturating_sub(OWN_DESCRIPTORS).max(1);
    let count = descriptors.div_ceil(each).max(1);
    match u32::try_from(count) {
        Ok(count) if count <= MAX_PROCESSES => Ok(count),
        _ => bail!(
            "{descriptors} descriptors are needed and a process may have {limit}: raise `ulimit -n`, for example ulimit -n 20000"
        ),
    }
}

/// Open files that this process may have.
fn limit() -> Option<u64> {
    soft_limit(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// One process' part of the crowd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    index: u32,
    count: u32,
    /// When the run begins, Unix time.
    pub start_us: i64,
}

impl Share {
    /// All of it, from now on.
    #[must_use]
    pub fn whole() -> Self {
        Self {
            index: 0,
            count: 1,
            start_us: clock::unix_us(),
        }
    }

    /// Whether the `member`th of the crowd is this process'.
    #[must_use]
    pub fn has(self, member: u32) -> bool {
        member % self.count == self.index
    }

    /// Until the beginning.
    #[must_use]
    pub fn lead(self) -> Duration {
        let us = self.start_us.saturating_sub(clock::unix_us());
        Duration::from_micros(u64::try_from(us).unwrap_or(0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.index, self.count, self.start_us)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (place, start) = text.split_once('@')?;
            let (index, count) = place.split_once('/')?;
            Some(Self {
                index: index.parse().ok()?,
                count: count.parse().ok()?,
                start_us: start.parse().ok()?,
            })
        };
        read()
            .filter(|share| share.index < share.count)
            .ok_or_else(|| "not a share, such as 0/4@1795639813250000".to_owned())
    }
}

/// What a process says when it waits for the others, and what it is told then.
const READY: &str = "ready";
const GO: &str = "go ";

/// How far ahead all are told to go on.
const GO_LEAD_US: i64 = 50_000;

impl Share {
    /// Says that this process is as far as the others should be; what comes in is
    /// when all go on, Unix time. `None` where there are no others.
    #[must_use]
    pub fn gate(self) -> Option<mpsc::Receiver<i64>> {
        if self.count == 1 {
            return None;
        }
        println!("{READY}");
        let (sender, receiver) = mpsc::channel();
        // Reading blocks, and the crowd has to be served meanwhile.
        std::thread::spawn(move || {
            let mut line = String::new();
            let told = std::io::stdin().read_line(&mut line);
            let start_us = line.strip_prefix(GO).map(str::trim);
            if let (Ok(_), Some(Ok(start_us))) = (told, start_us.map(str::parse)) {
                let _ = sender.send(start_us);
            }
        });
        Some(receiver)
    }
}

/// This program as several processes; those that are left are ended with it.
pub struct Processes(Vec<Process>);

struct Process {
    name: String,
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Processes {
    /// # Errors
    /// If one can't be started.
    pub fn start(count: u32) -> Result<Self> {
        let program = std::env::current_exe().context("the path of this program")?;
        let start_us = clock::unix_us().saturating_add(START_LEAD_US);
        let start = |index: u32| -> Result<Process> {
            let name = format!("process {index} of {count}");
            let share = Share {
                index,
                count,
                start_us,
            };
            let mut child = Command::new(&program)
                .args(std::env::args_os().skip(1))
                .arg("--share")
                .arg(share.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .with_context(|| name.clone())?;
            let said = child.stdout.take().with_context(|| name.clone())?;
            let said = BufReader::new(said).lines();
            Ok(Process { name, child, said })
        };
        (0..count).map(start).collect::<Result<_>>().map(Self)
    }

    /// Waits until all are at their next [`Share::gate`].
    ///
    /// # Errors
    /// If one ended.
    pub async fn ready(&mut self) -> Result<()> {
        for process in &mut self.0 {
            let line = process.line().await?;
            if line != READY {
                bail!("{} said `{line}`", process.name);
            }
        }
        Ok(())
    }

    /// Lets all go on at one time.
    ///
    /// # Errors
    /// If one ended.
    pub async fn go(&mut self) -> Result<()> {
        let start_us = clock::unix_us().saturating_add(GO_LEAD_US);
        for process in &mut self.0 {
            let gone = || process.name.clone();
            let stdin = process.child.stdin.as_mut().with_context(gone)?;
            let line = format!("{GO}{start_us}\n");
            let told = stdin.write_all(line.as_bytes());
            told.await.with_context(gone)?;
        }
        Ok(())
    }

    /// What each leaves.
    ///
    /// # Errors
    /// If one fails, or leaves something else; the others are ended.
    pub async fn results<T: DeserializeOwned>(mut self) -> Result<Vec<T>> {
        let mut parts = Vec::new();
        for process in &mut self.0 {
            let line = process.line().await?;
            parts.push(serde_json::from_str(&line).with_context(|| process.name.clone())?);
        }
        Ok(parts)
    }
}

impl Process {
    async fn line(&mut self) -> Result<String> {
        match self.said.next_line().await? {
            Some(line) => Ok(line),
            // Its own line is on standard error already.
            None => bail!("{}: {}", self.name, self.child.wait().await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_passed_on_as_text() {
        let share = Share {
            index: 2,
            count: 3,
            start_us: 5,
        };
        assert_eq!(share.to_string().parse(), Ok(share));
        for text in ["", "1", "3/3@0", "1/2", "a/2@1", "0/0@1"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_member_is_in_one_share() {
        let of = |index| Share {
            index,
            count: 3,
            start_us: 0,
        };
        for member in 0..10 {
            assert_eq!((0..3).filter(|index| of(*index).has(member)).count(), 1);
        }
        assert!(Share::whole().has(7));
    }

    #[test]
    fn descriptors_say_how_many_processes() {
        assert_eq!(needed(100, 1_024).unwrap(), 1);
        assert_eq!(needed(20_000, 20_000).unwrap(), 2);
        let line = needed(1_000_000, 1_024).unwrap_err().to_string();
        assert!(line.contains("for example ulimit -n"), "{line}");
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024      524288     files\n";
        assert_eq!(soft_limit(limits), Some(1_024));
        assert_eq!(soft_limit(""), None);
        assert!(limit().is_some());
    }
}
