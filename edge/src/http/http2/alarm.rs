//! A waker that leaves a task alone while it is awake. h2 calls the task of its
//! connection with every frame that it is given, which here is that very task: each
//! answer would have its connection scheduled and polled once more, for nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire},
    },
    task::{Wake, Waker},
};

use parking_lot::Mutex;

/// See the module's text. Its task calls [`Self::rise`] when it is polled, then
/// [`Self::listen`] before each look at what there is to do, and returns
/// `Poll::Pending` once [`Self::sleeps`] lets it. Nobody's call is lost: it falls
/// before a look, or keeps the task from sleeping, or wakes it.
#[derive(Debug)]
pub(super) struct Alarm {
    state: AtomicU8,
    task: Mutex<Waker>,
}

const ASLEEP: u8 = 0;
const AWAKE: u8 = 1;
/// Awake, and called since it listened last; or asleep and about to be woken.
const CALLED: u8 = 2;

impl Alarm {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(ASLEEP),
            task: Mutex::new(Waker::noop().clone()),
        })
    }

    /// `task` runs, and is the one to be woken from now on.
    pub(super) fn rise(&self, task: &Waker) {
        let mut known = self.task.lock();
        if !known.will_wake(task) {
            known.clone_from(task);
        }
    }

    /// What was called until now is about to be seen to.
    pub(super) fn listen(&self) {
        self.state.swap(AWAKE, AcqRel);
    }

    /// Whether nobody has called since [`Self::listen`]: from now on the task is
    /// woken again.
    pub(super) fn sleeps(&self) -> bool {
        let slept = self.state.compare_exchange(AWAKE, ASLEEP, AcqRel, Acquire);
        slept.is_ok()
    }

    /// Wakes the task itself, which has more to do and lets others go first.
    pub(super) fn snooze(&self) {
        self.state.swap(ASLEEP, AcqRel);
        self.task.lock().wake_by_ref();
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(CALLED, AcqRel) == ASLEEP {
            self.task.lock().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_call_is_seen_to_or_keeps_the_task_awake_or_wakes_it() {
        let task = Arc::new(Count::default());
        let alarm = Alarm::new();
        let caller = Waker::from(alarm.clone());
        let woken = || task.0.load(Relaxed);
        alarm.rise(&Waker::from(task.clone()));
        alarm.listen();
        caller.wake_by_ref();
        caller.wake_by_ref();
        assert!(!alarm.sleeps());
        // It looked again.
        alarm.listen();
        assert!(alarm.sleeps());
        assert_eq!(woken(), 0);
        caller.wake_by_ref();
        // Once is enough.
        caller.wake_by_ref();
        assert_eq!(woken(), 1);
        alarm.rise(&Waker::from(task.clone()));
        alarm.listen();
        assert!(alarm.sleeps());
        caller.wake();
        assert_eq!(woken(), 2);
    }

    #[test]
    fn who_snoozes_is_woken_and_can_be_called() {
        let task = Arc::new(Count::default());
        let alarm = Alarm::new();
        alarm.rise(&Waker::from(task.clone()));
        alarm.listen();
        alarm.snooze();
        assert_eq!(task.0.load(Relaxed), 1);
        Waker::from(alarm).wake();
        assert_eq!(task.0.load(Relaxed), 2);
    }

    #[test]
    fn the_task_that_was_polled_last_is_woken() {
        let (one, two) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let alarm = Alarm::new();
        for task in [&one, &two] {
            alarm.rise(&Waker::from(task.clone()));
            alarm.listen();
            assert!(alarm.sleeps());
        }
        Waker::from(alarm).wake();
        assert_eq!((one.0.load(Relaxed), two.0.load(Relaxed)), (0, 1));
    }
}
