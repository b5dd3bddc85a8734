//! What takes a while to make and is asked for more often than it has to be new, such
//! as the channel list: whoever asks gets the one that was made last, and the next is
//! made by one thread at a time, beside those that answer.
//!
//! Invariants: it is made at most once in so long, whoever asks, and not at all while
//! nobody does; nobody waits but who would get nothing, or what is twice as old.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::watch, task::spawn_blocking, time::Instant};

/// See the module's text. Clones share it.
pub struct Renewed<T> {
    every: Duration,
    state: Arc<watch::Sender<State<T>>>,
}

struct State<T> {
    made: Option<Made<T>>,
    /// Somebody makes the next.
    making: bool,
}

struct Made<T> {
    /// When its making began: what it says held then.
    at: Instant,
    what: Arc<T>,
}

/// The one who makes the next. What it made is told, and its place free, once it is
/// gone.
struct Maker<T> {
    state: Arc<watch::Sender<State<T>>>,
    made: Option<Made<T>>,
}

impl<T> Maker<T> {
    fn run(mut self, make: impl FnOnce() -> T) {
        let at = Instant::now();
        let what = Arc::new(make());
        self.made = Some(Made { at, what });
    }
}

impl<T> Drop for Maker<T> {
    fn drop(&mut self) {
        let made = self.made.take();
        self.state.send_modify(|state| {
            state.making = false;
            if made.is_some() {
                state.made = made;
            }
        });
    }
}

impl<T> Clone for Renewed<T> {
    fn clone(&self) -> Self {
        Self {
            every: self.every,
            state: self.state.clone(),
        }
    }
}

impl<T> fmt::Debug for Renewed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Renewed<T> {
    /// Nothing yet; from the first question on, made anew at most once in `every`.
    #[must_use]
    pub fn every(every: Duration) -> Self {
        let state = State {
            made: None,
            making: false,
        };
        Self {
            every,
            state: Arc::new(watch::Sender::new(state)),
        }
    }

    /// What was made last, at most twice `every` ago. Where it is time for the next,
    /// `make` makes it on a thread that may block, unless somebody's does already.
    /// Needs a tokio runtime; cancel-safe. Where `make` panics, who waits for it is
    /// not answered: bound it by a time-out.
    pub async fn get(&self, make: impl FnOnce() -> T + Send + 'static) -> Arc<T> {
        let known = self.newest();
        let age = known.as_ref().map(|(at, _)| at.elapsed());
        // Before anything is begun, so that its end is not missed.
        let mut changes = self.state.subscribe();
        if age.is_none_or(|age| age >= self.every) {
            self.begin(make);
        }
        let old = match (known, age) {
            (Some((_, what)), Some(age)) if age < self.every * 2 => return what,
            (known, _) => known.map(|(at, _)| at),
        };
        loop {
            if let Some((at, what)) = self.newest()
                && old.is_none_or(|old| old < at)
            {
                return what;
            }
            // `self` has the sender: a change is all that can come.
            let _ = changes.changed().await;
        }
    }

    fn newest(&self) -> Option<(Instant, Arc<T>)> {
        let state = self.state.borrow();
        let made = state.made.as_ref();
        made.map(|made| (made.at, made.what.clone()))
    }

    fn begin(&self, make: impl FnOnce() -> T + Send + 'static) {
        let mut others = true;
        self.state.send_if_modified(|state| {
            others = std::mem::replace(&mut state.making, true);
            false
        });
        if others {
            return;
        }
        let maker = Maker {
            state: self.state.clone(),
            made: None,
        };
        spawn_blocking(move || maker.run(make));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Sender},
    };

    use tokio::{
        task::{JoinHandle, yield_now},
        time::{advance, timeout},
    };

    use super::*;

    const EVERY: Duration = Duration::from_secs(1);

    /// Counts what is made, which lasts for as long as a test wants.
    struct Rig {
        renewed: Renewed<usize>,
        begun: Arc<AtomicUsize>,
    }

    impl Rig {
        fn new() -> Self {
            Self {
                renewed: Renewed::every(EVERY),
                begun: Arc::default(),
            }
        }

        fn make(&self) -> impl FnOnce() -> usize + Send + use<> {
            let begun = self.begun.clone();
            move || begun.fetch_add(1, SeqCst) + 1
        }

        async fn get(&self) -> usize {
            *self.renewed.get(self.make()).await
        }

        /// Asks, and what is made for it, if it is, is not ready before it is told.
        fn slowly(&self) -> (JoinHandle<usize>, Sender<()>) {
            let (ready, told) = mpsc::channel();
            let (renewed, make) = (self.renewed.clone(), self.make());
            let slow = move || {
                let made = make();
                let _ = told.recv();
                made
            };
            let asked = tokio::spawn(async move { *renewed.get(slow).await });
            (asked, ready)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_made_once_in_so_long_and_only_for_who_asks() {
        let rig = Rig::new();
        for _ in 0..3 {
            assert_eq!(rig.get().await, 1);
        }
        advance(EVERY * 9 / 10).await;
        assert_eq!(rig.get().await, 1);
        // Nobody asked for long: old is no answer.
        advance(EVERY * 100).await;
        assert_eq!(rig.begun.load(SeqCst), 1);
        assert_eq!(rig.get().await, 2);
    }

    /// The old one is told while the next is made, once, whoever asks.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_the_next() {
        let rig = Rig::new();
        assert_eq!(rig.get().await, 1);
        advance(EVERY).await;
        let mut next = rig.renewed.state.subscribe();
        let (asked, ready) = rig.slowly();
        assert_eq!(asked.await.unwrap(), 1);
        for _ in 0..100 {
            assert_eq!(rig.get().await, 1);
        }
        ready.send(()).unwrap();
        next.changed().await.unwrap();
        assert_eq!((rig.get().await, rig.begun.load(SeqCst)), (2, 2));
    }

    #[tokio::test]
    async fn all_who_have_nothing_wait_for_one() {
        let rig = Rig::new();
        let (first, ready) = rig.slowly();
        let (second, _) = rig.slowly();
        for _ in 0..10 {
            yield_now().await;
        }
        assert!(!first.is_finished() && !second.is_finished());
        ready.send(()).unwrap();
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_panics_leaves_its_place() {
        let rig = Rig::new();
        let broken = rig.renewed.get(|| panic!("as this test wants"));
        let answered = timeout(EVERY, broken).await;
        assert!(answered.is_err());
        assert_eq!(rig.get().await, 1);
    }
}
