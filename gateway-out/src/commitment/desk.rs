//! Reports on the association that asked: the watcher hands them to whoever serves it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use base::{CommitmentId, Status};
use bytes::Bytes;
use dimse::{Association, AssociationError, NormalizedError, NormalizedResponse};
use spool::CommitmentReport;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::report;

/// Reports that wait for one association; beyond it they go to a new one.
const WAITING_MAX: usize = 8;

/// A report for this association, and whom to tell how the peer answered.
#[derive(Debug)]
pub struct Here {
    pub(super) report: Arc<CommitmentReport>,
    pub(super) answer: oneshot::Sender<Status>,
}

/// Which association asked for which transaction.
///
/// The lock guards the map only and is never held across an await.
#[derive(Debug, Default, Clone)]
pub(super) struct Desks(Arc<Mutex<HashMap<CommitmentId, mpsc::Sender<Here>>>>);

impl Desks {
    pub(super) fn open(&self) -> Desk {
        let (to, reports) = mpsc::channel(WAITING_MAX);
        Desk { desks: self.clone(), to, reports, expected: Vec::new(), sent: Vec::new() }
    }

    /// Where a report of this transaction can go, if its association is still open.
    pub(super) fn of(&self, commitment: CommitmentId) -> Option<mpsc::Sender<Here>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&commitment).cloned()
    }
}

/// The end of it at an association.
#[derive(Debug)]
pub struct Desk {
    desks: Desks,
    to: mpsc::Sender<Here>,
    reports: mpsc::Receiver<Here>,
    expected: Vec<CommitmentId>,
    /// Reports that the peer has not answered, by their message id.
    sent: Vec<(u16, oneshot::Sender<Status>)>,
}

impl Desk {
    /// This association waits for the report of a transaction.
    pub(super) fn expect(&mut self, commitment: CommitmentId) {
        self.expected.push(commitment);
        let mut desks = self.desks.0.lock().unwrap_or_else(PoisonError::into_inner);
        desks.insert(commitment, self.to.clone());
    }

    /// The next report. Waits for ever where there is none. Cancel-safe.
    pub async fn next(&mut self) -> Here {
        match self.reports.recv().await {
            Some(here) => here,
            // It never closes: `self` holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Sends it. The answer comes among the messages of the peer. Not cancel-safe.
    pub async fn send(
        &mut self,
        association: &mut Association,
        Here { report, answer }: Here,
    ) -> Result<(), AssociationError> {
        // Whoever waited has gone to another association meanwhile.
        if answer.is_closed() {
            return Ok(());
        }
        let class = dimse::storage_commitment();
        let Some(syntax) = association.transfer_syntax(&class).cloned() else { return Ok(()) };
        let (event_type, data) = match report::event(&report, &syntax) {
            Ok(event) => event,
            Err(error) => {
                warn!(%error, "a commitment report cannot be written");
                return Ok(());
            }
        };
        let instance = dimse::storage_commitment_instance();
        match association.report_event((&class, &instance), event_type, Bytes::from(data)).await {
            Ok(message_id) => {
                self.sent.retain(|(_, answer)| !answer.is_closed());
                self.sent.push((message_id, answer));
                Ok(())
            }
            Err(NormalizedError::Failed(error)) => Err(error),
            // Not sent, and the association goes on: whoever waits for the answer hears that none comes.
            Err(error) => {
                warn!(%error, "a commitment report cannot go on the association that asked");
                Ok(())
            }
        }
    }

    /// The peer has answered one of them.
    pub fn answered(&mut self, response: &NormalizedResponse) {
        if let Some(at) = self.sent.iter().position(|(message_id, _)| *message_id == response.message_id) {
            let _ = self.sent.swap_remove(at).1.send(response.status);
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let mut desks = self.desks.0.lock().unwrap_or_else(PoisonError::into_inner);
        for commitment in &self.expected {
            // Unless another association has asked for the same since.
            if desks.get(commitment).is_some_and(|to| to.same_channel(&self.to)) {
                desks.remove(commitment);
            }
        }
    }
}
