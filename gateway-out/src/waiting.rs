//! `respond = "delivered"`: who waits for a destination's answer, and the content keys of deliveries
//! that no outbox holds. In memory only: after a restart the PACS has long had its A700.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use base::{DeliveryId, Status, Timestamp};
use tokio::sync::oneshot;

use crate::dispatch::Sealing;

/// What came back for a delivery that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The destination answered for good.
    Answered(Status),
    /// Not now.
    NotDelivered,
}

/// Deliveries kept at one time; the oldest goes first. Each is some hundred bytes.
const KEPT_MAX: usize = 100_000;

/// See the module. The lock guards the map only and is never held across an await.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<HashMap<DeliveryId, Entry>>);

#[derive(Debug)]
struct Entry {
    sealing: Sealing,
    since: Timestamp,
    reply: Option<oneshot::Sender<Verdict>>,
}

impl Waiting {
    /// Enters a delivery; the receiver gets its verdict.
    pub fn enter(
        &self,
        delivery: DeliveryId,
        sealing: Sealing,
        now: Timestamp,
    ) -> oneshot::Receiver<Verdict> {
        let (reply, verdict) = oneshot::channel();
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= KEPT_MAX
            && let Some(oldest) = map.iter().min_by_key(|(_, entry)| entry.since).map(|(id, _)| *id)
        {
            map.remove(&oldest);
        }
        map.insert(delivery, Entry { sealing, since: now, reply: Some(reply) });
        verdict
    }

    /// What opens the record of a delivery that has no row with a key, even after its PACS was answered.
    pub fn sealing(&self, delivery: DeliveryId) -> Option<Sealing> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&delivery)
            .map(|entry| entry.sealing.clone())
    }

    /// Passes a verdict on, once.
    pub fn answer(&self, delivery: DeliveryId, verdict: Verdict) {
        let reply = {
            let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            map.get_mut(&delivery).and_then(|entry| entry.reply.take())
        };
        if let Some(reply) = reply {
            // The PACS may have been answered by the time-out a moment ago.
            let _ = reply.send(verdict);
        }
    }

    /// Nothing more is expected.
    pub fn leave(&self, delivery: DeliveryId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&delivery);
    }

    /// Forgets what entered before `before`: a receipt that comes later still is only recorded as unreadable.
    pub fn expire(&self, before: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, entry| entry.since >= before);
    }
}
