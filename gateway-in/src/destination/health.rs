//! Whether a destination can be reached: while it cannot, nothing is granted for it.

use std::sync::Arc;

use tokio::sync::watch;

/// Up until a connection fails, down until a C-ECHO, or a web service's POST of nothing, is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// Reachable, as far as known.
    Up,
    /// The last connection failed.
    Down,
}

/// Shared by the workers that find out, the prober that mends, and the links that grant.
#[derive(Debug, Clone)]
pub struct Health {
    state: Arc<watch::Sender<HealthState>>,
    changes: Changes,
}

/// Counts the changes of all destinations.
#[derive(Debug, Clone)]
pub struct Changes(Arc<watch::Sender<u64>>);

impl Default for Changes {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Changes {
    /// To wait for the next one.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

impl Health {
    /// Starts as up: the first attempt tells.
    pub fn new(changes: &Changes) -> Self {
        Self { state: Arc::new(watch::Sender::new(HealthState::Up)), changes: changes.clone() }
    }

    /// Records what an attempt or a probe found; answers whether that is news.
    pub fn set(&self, state: HealthState) -> bool {
        let news = self.state.send_if_modified(|current| std::mem::replace(current, state) != state);
        if news {
            self.changes.0.send_modify(|count| *count += 1);
        }
        news
    }

    /// The state as last found.
    pub fn state(&self) -> HealthState {
        *self.state.borrow()
    }

    /// To wait for changes.
    pub fn watch(&self) -> watch::Receiver<HealthState> {
        self.state.subscribe()
    }
}
