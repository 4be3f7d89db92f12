//! What a relay's log says: heads are witnessed, proofs stored beside their receipts, and what has no proof is submitted
//! again.

use std::{sync::Arc, time::Duration};

use base::{Name, Timestamp};
use ledger::{Class, Disbelief, Level, Receipt, Settlement};
use service::witness::{LogWitness, NotBelieved, Proof, Proofs};
use spool::NewLogProof;
use tokio::time::Instant;
use tracing::{debug, warn};
use transport::Uplink;

use crate::app::Shared;

/// Proofs are stored, and receipts without one looked for, this often.
pub(crate) const TURN: Duration = Duration::from_secs(1);
/// Settlements submitted again at one look.
const RESUBMITTED_MAX: u32 = 256;

/// The log of one relay.
pub(crate) struct Logbook {
    shared: Arc<Shared>,
    relay: Name,
    uplink: Uplink,
    witness: Arc<LogWitness>,
    proofs: Proofs,
    /// A receipt may wait so long for its proof before its settlement is submitted again.
    patience: Duration,
    looked: Instant,
}

impl Logbook {
    pub(crate) fn new(shared: Arc<Shared>, relay: Name, uplink: Uplink, witness: Arc<LogWitness>) -> Self {
        let patience = shared.settings.transparency.resubmit_after.duration();
        Self { shared, relay, uplink, witness, proofs: Proofs::default(), patience, looked: Instant::now() }
    }

    /// Hands back the latest head that we believe: the relay has to go on from there.
    pub(crate) async fn connected(&mut self) {
        self.witness.connected();
        self.hand_back().await;
    }

    async fn hand_back(&self) {
        if let Some(checkpoint) = self.witness.checkpoint() {
            // Without a connection it is said with the next one.
            let _ = self.uplink.witness(checkpoint).await;
        }
    }

    pub(crate) async fn head(&mut self, shown: wire::LogHead) {
        let known = self.witness.distrust().is_some();
        let witness = Arc::clone(&self.witness);
        let observed = tokio::task::block_in_place(|| witness.observe(&shown, Timestamp::now()));
        match observed {
            Ok(believed) => {
                self.proofs.head(&believed, &shown);
                let _ = self.uplink.witness(believed.to_text()).await;
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

    /// Stores what came since the last turn; now and then asks for what did not come.
    pub(crate) async fn turn(&mut self) {
        let mut good = Vec::new();
        for proof in self.proofs.take() {
            match self.check(&proof).await {
                Ok(Some(new)) => good.push(new),
                Ok(None) => {
                    debug!(delivery = %proof.logged.delivery.short(), "proof of a receipt that is not here");
                    self.proofs.put_back(proof);
                }
                Err(error) => {
                    warn!(relay = %self.relay, delivery = %proof.logged.delivery.short(), %error, "proof refused")
                }
            }
        }
        if !good.is_empty()
            && let Err(error) = self.shared.outbox.logged(good).await
        {
            warn!(%error, "proofs could not be stored; they are asked for again");
        }
        if self.uplink.is_connected() {
            self.witness.warn_of_silence();
        }
        if self.looked.elapsed() >= self.patience {
            self.looked = Instant::now();
            self.resubmit().await;
        }
    }

    async fn check(&self, proof: &Proof) -> anyhow::Result<Option<NewLogProof>> {
        let (delivery, attempt) = (proof.logged.delivery, proof.logged.attempt);
        let receipts = self.shared.outbox.receipts_of(delivery).await?;
        let mut refused = None;
        for stored in receipts.iter().filter(|stored| stored.id.attempt == attempt) {
            let receipt = Receipt::decode(&stored.receipt)?;
            match proof.texts(&receipt) {
                Ok((proof, checkpoint)) => {
                    return Ok(Some(NewLogProof {
                        delivery,
                        attempt,
                        level: stored.level,
                        proof,
                        checkpoint,
                    }));
                }
                // It may be of the second one, which is on its way.
                Err(_) if receipt.level == Level::Awaited && receipts.len() == 1 => {}
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(None), |error| Err(error.into()))
    }

    /// Settlements without a proof, also those of an epoch that ended before it proved them.
    async fn resubmit(&self) {
        if !self.uplink.is_connected() || self.witness.head().is_none() || !self.witness.is_trusted() {
            return;
        }
        let now = Timestamp::now();
        let unlogged = match self.shared.outbox.unlogged(RESUBMITTED_MAX).await {
            Ok(unlogged) => unlogged,
            Err(error) => return warn!(%error, "outbox cannot be read"),
        };
        for receipt in unlogged.into_iter().filter(|receipt| now.since(receipt.stored_at) > self.patience) {
            let is_final =
                Settlement::decode(&receipt.settlement).is_ok_and(|it| matches!(it.class(), Class::Final(_)));
            let said = Receipt::decode(&receipt.receipt);
            let Ok(said) = said.map_err(|_| ()).and_then(|said| if is_final { Ok(said) } else { Err(()) })
            else {
                continue;
            };
            if self
                .uplink
                .resubmit(said.receiver.fingerprint, (said.delivery, said.attempt), receipt.settlement)
                .await
                .is_err()
            {
                return;
            }
        }
    }
}
