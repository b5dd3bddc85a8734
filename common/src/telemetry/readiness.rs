//! Whether this node should get traffic, in words.
//!
//! In: named conditions, each set by the one module that knows. Out: the answer
//! of `/readyz`. A node is ready while every condition is met and it does not
//! drain. Owned by `main`; handles are clones.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The node's readiness; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    draining: bool,
    /// By name; `None` when met, else why not.
    unmet: BTreeMap<&'static str, Option<String>>,
}

/// One named condition of readiness, held by the module that sets it.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// A readiness without conditions, which is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that is not met yet, `why` until it first is.
    #[must_use]
    pub fn condition(&self, name: &'static str, why: impl Into<String>) -> Condition {
        self.0.lock().unmet.insert(name, Some(why.into()));
        Condition {
            name,
            readiness: self.clone(),
        }
    }

    /// From now on the node is not ready: it finishes what it has.
    pub fn set_draining(&self) {
        self.0.lock().draining = true;
    }

    /// Whether the node should get traffic.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let state = self.0.lock();
        !state.draining && state.unmet.values().all(Option::is_none)
    }

    /// `(ready, text)`: one line a condition, its state in words.
    #[must_use]
    pub fn report(&self) -> (bool, String) {
        let state = self.0.lock();
        let ready = !state.draining && state.unmet.values().all(Option::is_none);
        let mut text = String::from(if ready { "ready\n" } else { "not ready\n" });
        if state.draining {
            text.push_str("draining: this node finishes what it has and takes nothing new\n");
        }
        for (name, why) in &state.unmet {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(why.as_deref().unwrap_or("ok"));
            text.push('\n');
        }
        (ready, text)
    }
}

impl Condition {
    /// The condition is met.
    pub fn met(&self) {
        self.set(None);
    }

    /// The condition is not met, and why.
    pub fn unmet(&self, why: impl Into<String>) {
        self.set(Some(why.into()));
    }

    fn set(&self, why: Option<String>) {
        self.readiness.0.lock().unmet.insert(self.name, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_conditions_are_met_and_not_draining() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let parent = readiness.condition("parent", "no parent has answered yet");
        let http = readiness.condition("http", "not listening yet");
        http.met();
        assert_eq!(
            readiness.report(),
            (
                false,
                "not ready\nhttp: ok\nparent: no parent has answered yet\n".into()
            )
        );
        parent.met();
        assert_eq!(
            readiness.report(),
            (true, "ready\nhttp: ok\nparent: ok\n".into())
        );
        parent.unmet("the link to the parent is down");
        assert!(!readiness.is_ready());
        parent.met();
        readiness.set_draining();
        let (ready, text) = readiness.report();
        assert!(!ready);
        assert!(text.contains("\ndraining: "), "{text}");
    }
}
