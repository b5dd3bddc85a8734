//! Draining on SIGTERM or SIGINT.
//!
//! In: signals, seen by `main` alone, or an operator's word over the API. Out: a
//! [`Shutdown`] token that every listener and connection holds a clone of. On the
//! first signal listeners stop taking new work and tasks finish what they have, each holding a [`Guard`];
//! the process ends when the last guard is gone or `--drain-timeout` has passed.
//! A second signal ends it at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

/// Exit status after a second signal: the drain was cut short.
const CUT_SHORT: i32 = 1;

/// Flags of the drain.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Operations")]
pub struct ShutdownConfig {
    /// Seconds that connections get to finish after SIGTERM or SIGINT (a second signal ends at once)
    #[arg(
        long,
        env = "MILLRACE_DRAIN_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(0..=3600)
    )]
    pub drain_timeout: u64,
}

/// Tells tasks to drain and counts those that still do. Clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Looked at far more often than it changes: no lock.
    begun: Arc<AtomicBool>,
    returning: Arc<AtomicBool>,
    draining: watch::Sender<bool>,
    guards: watch::Sender<usize>,
}

/// While it lives the process waits, up to the deadline.
#[derive(Debug)]
pub struct Guard(watch::Sender<usize>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A token that drains when [`Shutdown::drain`] is called.
    #[must_use]
    pub fn new() -> Self {
        Self {
            begun: Arc::default(),
            returning: Arc::default(),
            draining: watch::Sender::new(false),
            guards: watch::Sender::new(0),
        }
    }

    /// Starts the drain; again is harmless.
    pub fn drain(&self) {
        self.begun.store(true, Ordering::Release);
        self.draining.send_replace(true);
    }

    /// Says, before the drain, that the node is back at once, at the same
    /// addresses: nobody need go elsewhere.
    pub fn returns(&self) {
        self.returning.store(true, Ordering::Release);
    }

    /// Whether [`Self::returns`] was said.
    #[must_use]
    pub fn is_returning(&self) -> bool {
        self.returning.load(Ordering::Acquire)
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Resolves when the drain begins, at once if it has. Cancel-safe.
    pub async fn draining(&self) {
        // The sender lives in self: the wait can't fail.
        let _ = self.draining.subscribe().wait_for(|begun| *begun).await;
    }

    /// Makes the process wait for the holder, up to the deadline.
    #[must_use]
    pub fn guard(&self) -> Guard {
        self.guards.send_modify(|count| *count += 1);
        Guard(self.guards.clone())
    }

    /// Resolves when no guard is left: `Ok`, or `Err(still held)` at the deadline.
    pub async fn drained(&self, deadline: Duration) -> Result<(), usize> {
        let mut guards = self.guards.subscribe();
        let none_left = guards.wait_for(|count| *count == 0);
        match tokio::time::timeout(deadline, none_left).await {
            Ok(_) => Ok(()),
            Err(_) => Err(*self.guards.borrow()),
        }
    }

    /// Drains once `first` is done, both within the deadline.
    async fn drained_behind(&self, first: impl Future, deadline: Duration) -> Result<(), usize> {
        let end = Instant::now() + deadline;
        // What is not done by then is left.
        let _ = timeout_at(end, first).await;
        self.drain();
        self.drained(end - Instant::now()).await
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// SIGTERM and SIGINT, listened to from [`Signals::install`] on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the kernel's default of ending the process.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for the first signal, or for who starts the drain otherwise, starts the
    /// drain and returns when it is over: the last thing `main` awaits. A second signal
    /// ends the process at once; the first one after another's start does not, since a
    /// service manager sends it whoever began.
    pub async fn drain_on_signal(self, shutdown: &Shutdown, config: &ShutdownConfig) {
        self.drain_after(shutdown, config, std::future::ready(()))
            .await;
    }

    /// The same, with something to be done between the signal and the drain, of whose
    /// time it is a part; not where the drain began without a signal.
    pub async fn drain_after(
        mut self,
        shutdown: &Shutdown,
        config: &ShutdownConfig,
        first: impl Future<Output = ()>,
    ) {
        let mut name = tokio::select! {
            name = self.next() => Some(name),
            () = shutdown.draining() => None,
        };
        let deadline = Duration::from_secs(config.drain_timeout);
        info!(
            signal = name.unwrap_or("none"),
            deadline_s = config.drain_timeout,
            "draining"
        );
        let signalled = name.is_some();
        let first = async {
            if signalled {
                first.await;
            }
        };
        let mut drained = std::pin::pin!(shutdown.drained_behind(first, deadline));
        loop {
            tokio::select! {
                outcome = drained.as_mut() => {
                    match outcome {
                        Ok(()) => info!("drained"),
                        Err(held) => warn!(held, "drain deadline passed; ending what is left"),
                    }
                    return;
                }
                again = self.next() => {
                    if name.replace(again).is_some() {
                        warn!(signal = again, "second signal; ending at once");
                        std::process::exit(CUT_SHORT);
                    }
                    info!(signal = again, "draining already");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drained_when_the_last_guard_goes() {
        let shutdown = Shutdown::new();
        let (first, second) = (shutdown.guard(), shutdown.guard());
        let token = shutdown.clone();
        let task = tokio::spawn(async move {
            token.draining().await;
            assert!(token.is_draining());
            drop(first);
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(second);
        });
        assert!(!shutdown.is_draining());
        shutdown.drain();
        shutdown.drain();
        assert_eq!(shutdown.drained(Duration::from_secs(10)).await, Ok(()));
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_ends_meets_the_deadline() {
        let shutdown = Shutdown::new();
        let _held = shutdown.guard();
        shutdown.drain();
        shutdown.draining().await;
        assert_eq!(shutdown.drained(Duration::from_secs(10)).await, Err(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_before_the_drain_takes_of_its_time() {
        let shutdown = Shutdown::new();
        let _held = shutdown.guard();
        let (began, deadline) = (Instant::now(), Duration::from_secs(10));
        let first = tokio::time::sleep(deadline / 2);
        assert_eq!(shutdown.drained_behind(first, deadline).await, Err(1));
        assert_eq!(began.elapsed(), deadline);
        let shutdown = Shutdown::new();
        let never = std::future::pending::<()>();
        assert_eq!(shutdown.drained_behind(never, deadline).await, Ok(()));
        assert_eq!(began.elapsed(), 2 * deadline);
    }

    #[test]
    fn a_signal_after_another_start_of_the_drain_cuts_nothing_short() {
        let (mut child, mut wait_for) = child("told 3600");
        wait_for("draining");
        send("-TERM", &child);
        assert_eq!(child.wait().unwrap().code(), Some(42));
    }

    const CHILD: &str = "MILLRACE_TEST_SHUTDOWN_CHILD";

    /// Not a test by itself: the process that the two below send signals to.
    #[tokio::test]
    async fn child_that_drains() {
        let Ok(drain_timeout) = std::env::var(CHILD) else {
            return;
        };
        let (told, seconds) = match drain_timeout.strip_prefix("told ") {
            Some(seconds) => (true, seconds),
            None => (false, &*drain_timeout),
        };
        let config = ShutdownConfig {
            drain_timeout: seconds.parse().unwrap(),
        };
        let signals = Signals::install().unwrap();
        let shutdown = Shutdown::new();
        let mut held = (config.drain_timeout > 0).then(|| shutdown.guard());
        if told {
            // What is held until the signal comes ends in peace then.
            let (mut terminated, held) = (signal(SignalKind::terminate()).unwrap(), held.take());
            tokio::spawn(async move {
                terminated.recv().await;
                drop(held);
            });
            shutdown.drain();
        }
        let token = shutdown.clone();
        let teller = tokio::spawn(async move {
            say("listening");
            token.draining().await;
            say("draining");
        });
        signals.drain_on_signal(&shutdown, &config).await;
        teller.await.unwrap();
        std::process::exit(42);
    }

    fn say(word: &str) {
        let mut out = std::io::stdout();
        writeln!(out, "child: {word}").unwrap();
        out.flush().unwrap();
    }

    fn child(drain_timeout: &str) -> (Child, impl FnMut(&str)) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "shutdown::tests::child_that_drains",
                "--nocapture",
            ])
            .env(CHILD, drain_timeout)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wait_for = move |word: &str| {
            let found = lines.any(|line| line.unwrap().ends_with(&format!("child: {word}")));
            assert!(found, "the child never said {word}");
        };
        (child, wait_for)
    }

    fn send(signal: &str, child: &Child) {
        let status = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    #[test]
    fn sigterm_drains_and_ends() {
        let (mut child, mut wait_for) = child("0");
        wait_for("listening");
        send("-TERM", &child);
        wait_for("draining");
        assert_eq!(child.wait().unwrap().code(), Some(42));
    }

    #[test]
    fn a_second_signal_ends_at_once() {
        let (mut child, mut wait_for) = child("3600");
        wait_for("listening");
        send("-TERM", &child);
        wait_for("draining");
        send("-INT", &child);
        assert_eq!(child.wait().unwrap().code(), Some(CUT_SHORT));
    }
}
