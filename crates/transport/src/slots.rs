use std::sync::{Arc, Mutex, PoisonError};

use base::RouteId;
use tokio::sync::Notify;
use wire::Shares;

/// A fixed number of places, shared fairly by routes: a route whose far end is stuck never has them all.
///
/// The lock guards the counts only and is never held across an await.
#[derive(Clone)]
pub(crate) struct Slots {
    shares: Arc<Mutex<Shares<RouteId>>>,
    freed: Arc<Notify>,
}

/// One place, given back when dropped.
pub(crate) struct Slot {
    slots: Slots,
    route: RouteId,
}

impl Slots {
    pub(crate) fn new(places: u64) -> Self {
        Self { shares: Arc::new(Mutex::new(Shares::new(places))), freed: Arc::new(Notify::new()) }
    }

    /// Waits for a place.
    pub(crate) async fn take(&self, route: RouteId) -> Slot {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Listen before looking, else a place freed in between would be missed.
            freed.as_mut().enable();
            if self.shares.lock().unwrap_or_else(PoisonError::into_inner).take(&route, 1) {
                return Slot { slots: self.clone(), route };
            }
            freed.await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.shares.lock().unwrap_or_else(PoisonError::into_inner).give(&self.route, 1);
        self.slots.freed.notify_waiters();
    }
}
