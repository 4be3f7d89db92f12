//! Storage Commitment Push Model (PS3.4 Annex J) as SCP: who may ask, what becomes of a request, and how its answer gets
//! back. The rules of what is committed are the outbox's (`spool::commitment`), which also keeps every request until its
//! report was answered.
//!
//! ```text
//! N-ACTION ─▶ ask ─▶ outbox ─▶ 0000H     receipts ─▶ watch ─▶ decide ─▶ report ─▶ N-EVENT-REPORT ─▶ 0000H ─▶ ended
//! ```

pub mod ask;
pub mod config;
mod desk;
pub(crate) mod report;
pub mod show;
mod watch;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use base::AeTitle;
use tokio::sync::{Notify, Semaphore};

pub use config::{CommitmentTable, Peer, Peers};
pub use desk::{Desk, Here};
pub use watch::run;

/// Requests that are read at one time: each may have 16 MiB. The others wait in their connections.
const READING_MAX: usize = 4;

/// What the parts of a running gateway-out share of it.
#[derive(Debug)]
pub struct Commitments {
    /// Something may have been decided.
    changed: Notify,
    /// Associations on which a report may go back.
    desks: desk::Desks,
    reading: Semaphore,
    /// Requests of each peer that are being answered. The lock guards the map only and is never held across an await.
    answering: Mutex<HashMap<AeTitle, usize>>,
}

impl Default for Commitments {
    fn default() -> Self {
        Self {
            changed: Notify::new(),
            desks: desk::Desks::default(),
            reading: Semaphore::new(READING_MAX),
            answering: Mutex::default(),
        }
    }
}

impl Commitments {
    /// Says that a receipt came, or a request.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// A request of this peer is being answered: until that is done it is told nothing, lest a report overtakes the answer.
    fn answering(&self, peer: &AeTitle) -> Answering<'_> {
        let mut answering = self.answering.lock().unwrap_or_else(PoisonError::into_inner);
        *answering.entry(peer.clone()).or_default() += 1;
        Answering { all: self, peer: peer.clone() }
    }

    fn is_answering(&self, peer: &AeTitle) -> bool {
        self.answering.lock().unwrap_or_else(PoisonError::into_inner).contains_key(peer)
    }

    /// A new association, which may ask.
    pub fn desk(&self) -> Desk {
        self.desks.open()
    }
}

/// See [`Commitments::answering`].
struct Answering<'a> {
    all: &'a Commitments,
    peer: AeTitle,
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let mut answering = self.all.answering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = answering.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                answering.remove(&self.peer);
            }
        }
        drop(answering);
        self.all.changed();
    }
}
