use std::sync::{Arc, Mutex, PoisonError};

use base::RouteId;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use wire::Shares;

use crate::limits;

/// What all bodies of one downlink may have outstanding (granted and not yet taken), shared fairly by
/// routes. It stays below the connection's receive window: then a body nobody reads at the moment
/// holds up neither another body nor the control stream.
///
/// The lock guards the counts only and is never held across an await.
#[derive(Clone)]
pub(crate) struct GrantPool {
    shares: Arc<Mutex<Shares<RouteId>>>,
    freed: Arc<Notify>,
}

impl GrantPool {
    pub(crate) fn new() -> Self {
        Self {
            shares: Arc::new(Mutex::new(Shares::new(limits::OUTSTANDING_GRANTS_MAX))),
            freed: Arc::new(Notify::new()),
        }
    }

    /// Takes what can be had now, at most `want`.
    pub(crate) fn take_some(&self, route: RouteId, want: u64) -> u64 {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let amount = shares.room(&route, want);
        shares.charge(&route, amount);
        amount
    }

    pub(crate) fn give(&self, route: RouteId, amount: u64) {
        if amount > 0 {
            self.shares.lock().unwrap_or_else(PoisonError::into_inner).give(&route, amount);
            self.freed.notify_waiters();
        }
    }

    /// Completes at the next [`GrantPool::give`] after this call.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }
}
