//! Whether a destination can be reached: while it cannot, nothing is granted for it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

/// Up until a connection fails, down until a C-ECHO, or a web service's POST of nothing, is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// Nobody has tried since the start: taken for reachable.
    Untried,
    /// The last connection was made.
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
    /// The first attempt tells.
    pub fn new(changes: &Changes) -> Self {
        Self { state: Arc::new(watch::Sender::new(HealthState::Untried)), changes: changes.clone() }
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

    /// False only where the last connection failed.
    pub fn may_be_asked(&self) -> bool {
        self.state() != HealthState::Down
    }

    /// For a prober: waits until it is down, and for `pause` after that. False: it is time to end.
    pub(super) async fn wait_down(&self, pause: impl FnOnce() -> Duration, stop: &CancellationToken) -> bool {
        let mut states = self.state.subscribe();
        let waited = async {
            let is_down = states.wait_for(|state| *state == HealthState::Down).await.is_ok();
            sleep(pause()).await;
            is_down
        };
        stop.run_until_cancelled(waited).await.unwrap_or(false)
    }
}
