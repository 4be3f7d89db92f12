//! What a relay's log says: heads are witnessed, proofs stored beside the receipts that they are of.

use std::{sync::Arc, time::Duration};

use base::{Name, Timestamp};
use ledger::{Disbelief, Receipt};
use service::witness::{LogWitness, NotBelieved, Proof, Proofs};
use spool::{Inbound, NewLogProof};
use tracing::{debug, warn};
use transport::Downlink;

/// Proofs are stored this often.
pub(crate) const TURN: Duration = Duration::from_secs(1);

/// The log of one relay.
pub(crate) struct Logbook {
    inbound: Inbound,
    relay: Name,
    downlink: Downlink,
    witness: Arc<LogWitness>,
    proofs: Proofs,
}

impl Logbook {
    pub(crate) fn new(inbound: Inbound, relay: Name, downlink: Downlink, witness: Arc<LogWitness>) -> Self {
        Self { inbound, relay, downlink, witness, proofs: Proofs::default() }
    }

    /// Hands back the latest head that we believe: the relay has to go on from there.
    pub(crate) async fn connected(&mut self) {
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
            Err(NotBelieved::Disbelief(Disbelief::OtherBase { .. })) => self.connected().await,
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
            && let Err(error) = self.inbound.logged(good).await
        {
            warn!(%error, "proofs could not be stored");
        }
    }

    async fn check(&self, proof: &Proof) -> anyhow::Result<Option<NewLogProof>> {
        let (delivery, attempt) = (proof.logged.delivery, proof.logged.attempt);
        let row = self.inbound.lookup(delivery).await?.filter(|row| row.arrival.attempt == attempt);
        let Some(receipt) = row.and_then(|row| row.receipt) else { return Ok(None) };
        let (head, checkpoint) = proof.texts(&Receipt::decode(&receipt)?)?;
        Ok(Some(NewLogProof { delivery, attempt, proof: head, checkpoint }))
    }
}
