//! What a relay's log says: heads are witnessed, proofs stored beside the receipts that they are of, and what has no proof is
//! submitted again.

use std::{sync::Arc, time::Duration};

use base::{Name, Timestamp};
use ledger::{Class, Disbelief, Level, Receipt, Settlement};
use service::witness::{LogWitness, NotBelieved, Proof, Proofs};
use spool::NewLogProof;
use tokio::time::Instant;
use tracing::{debug, warn};
use transport::Downlink;

use crate::inbox::Inbox;

/// Proofs are stored, and receipts without one looked for, this often.
pub(crate) const TURN: Duration = Duration::from_secs(1);
/// Settlements submitted again at one look.
const RESUBMITTED_MAX: u32 = 256;
/// The sender asks, too, and one answer is for both: it has this much more time.
const SENDER_FIRST: u32 = 2;

/// The log of one relay.
pub(crate) struct Logbook {
    inbox: Arc<Inbox>,
    relay: Name,
    downlink: Downlink,
    witness: Arc<LogWitness>,
    proofs: Proofs,
    patience: Duration,
    looked: Instant,
}

impl Logbook {
    pub(crate) fn new(
        inbox: Arc<Inbox>,
        relay: Name,
        downlink: Downlink,
        witness: Arc<LogWitness>,
        resubmit_after: Duration,
    ) -> Self {
        let patience = resubmit_after * SENDER_FIRST;
        Self { inbox, relay, downlink, witness, proofs: Proofs::default(), patience, looked: Instant::now() }
    }

    /// Hands back the latest head that we believe: the relay has to go on from there.
    pub(crate) async fn connected(&mut self) {
        self.witness.connected();
        self.hand_back().await;
    }

    async fn hand_back(&self) {
        if let Some(checkpoint) = self.witness.checkpoint() {
            // Without a connection it is said with the next one.
            let _ = self.downlink.witness(checkpoint).await;
        }
    }

    pub(crate) async fn head(&mut self, shown: wire::LogHead) {
        let known = self.witness.distrust().is_some();
        let witness = Arc::clone(&self.witness);
        let observed = tokio::task::block_in_place(|| witness.observe(&shown, Timestamp::now()));
        match observed {
            Ok(believed) => {
                self.proofs.head(&believed, &shown);
                let _ = self.downlink.witness(believed.to_text()).await;
            }
            Err(NotBelieved::Disbelief(Disbelief::OtherBase { .. })) => self.hand_back().await,
            // That it is not used was said when it began.
            Err(NotBelieved::Disbelief(Disbelief::Distrusted(_))) if known => {}
            Err(error) => warn!(relay = %self.relay, %error, "a head of the relay's log is not believed"),
        }
    }

    pub(crate) fn logged(&mut self, logged: wire::Logged) {
        self.proofs.push(logged);
    }

    /// Stores what came since the last turn.
    pub(crate) async fn turn(&mut self) {
        let mut good = Vec::new();
        for proof in self.proofs.take() {
            match self.check(&proof).await {
                Ok(Some(new)) => good.push(new),
                Ok(None) => {
                    debug!(delivery = %proof.logged.delivery.short(), "proof of a receipt that is not here")
                }
                Err(error) => {
                    warn!(relay = %self.relay, delivery = %proof.logged.delivery.short(), %error, "proof refused");
                }
            }
        }
        if !good.is_empty()
            && let Err(error) = self.inbox.inbound.logged(good).await
        {
            warn!(%error, "proofs could not be stored; they are asked for again");
        }
        if self.downlink.is_connected() {
            self.witness.warn_of_silence();
        }
        if self.looked.elapsed() >= self.patience {
            self.looked = Instant::now();
            self.resubmit().await;
        }
    }

    async fn check(&self, proof: &Proof) -> anyhow::Result<Option<NewLogProof>> {
        let (delivery, attempt) = (proof.logged.delivery, proof.logged.attempt);
        let row = self.inbox.inbound.lookup(delivery).await?.filter(|row| row.arrival.attempt == attempt);
        let Some(receipt) = row.and_then(|row| row.receipt) else { return Ok(None) };
        let receipt = Receipt::decode(&receipt)?;
        match proof.texts(&receipt) {
            Ok((proof, checkpoint)) => {
                let level = receipt.level.number();
                Ok(Some(NewLogProof { delivery, attempt, level, proof, checkpoint }))
            }
            // It is of the second one, whose proof its sender keeps.
            Err(_) if receipt.level == Level::Awaited => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Settlements without a proof, also those of an epoch that ended before it proved them: the relay was killed, or we
    /// were away for too long.
    async fn resubmit(&self) {
        if !self.downlink.is_connected() || self.witness.head().is_none() || !self.witness.is_trusted() {
            return;
        }
        let now = Timestamp::now();
        let unlogged = match self.inbox.inbound.unlogged(RESUBMITTED_MAX).await {
            Ok(unlogged) => unlogged,
            Err(error) => return warn!(%error, "settled ledger cannot be read"),
        };
        for row in unlogged {
            let waited = row.answered_at.is_some_and(|at| now.since(at) > self.patience);
            let (Some(settlement), Some(route), true) =
                (row.settlement, self.inbox.route(row.arrival.route), waited)
            else {
                continue;
            };
            let is_final =
                Settlement::decode(&settlement).is_ok_and(|it| matches!(it.class(), Class::Final(_)));
            let (sender, what) = (route.sender.id(), (row.arrival.delivery, row.arrival.attempt));
            if is_final && self.downlink.resubmit(sender, what, settlement).await.is_err() {
                return;
            }
        }
    }
}
