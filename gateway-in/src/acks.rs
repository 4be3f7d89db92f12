//! What senders answer to receipts: each countersigns that it sent what the receipt is about. Only that
//! signature ends what we owe a sender, whatever a relay says.

use std::{convert::Infallible, sync::Arc};

use base::{Attempt, DeliveryId, Fingerprint, Timestamp};
use futures_util::future::join_all;
use ledger::{Head, Level, Manifest, Receipt, RootCache};
use service::witness::LogWitness;
use spool::{Arrival, InboundState, PledgeState, StoreError};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::inbox::Inbox;

/// Acknowledgements that wait; beyond it the link waits.
const QUEUE_MAX: usize = 1024;
/// Acknowledgements recorded at one time: they share transactions.
const AT_ONCE_MAX: usize = 256;

/// A sender's acknowledgement, as a relay passes it on.
#[derive(Debug)]
pub struct Ack {
    /// Who, as the relay says.
    pub sender: Fingerprint,
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt.
    pub attempt: Attempt,
    /// A `ledger::Manifest`, for a receipt.
    pub manifest: Option<Vec<u8>>,
}

/// Hands acknowledgements to the task that records them.
pub type Acks = mpsc::Sender<Ack>;

/// The two ends.
pub fn queue() -> (Acks, mpsc::Receiver<Ack>) {
    mpsc::channel(QUEUE_MAX)
}

/// Records acknowledgements until the last handle is dropped.
pub async fn run(
    inbox: Arc<Inbox>,
    witnesses: Vec<Arc<LogWitness>>,
    mut acks: mpsc::Receiver<Ack>,
) -> Result<(), Infallible> {
    let mut cache = RootCache::default();
    let mut batch = Vec::with_capacity(AT_ONCE_MAX);
    while acks.recv_many(&mut batch, AT_ONCE_MAX).await > 0 {
        let rows = join_all(batch.iter().map(|ack| owed(&inbox, ack))).await;
        let mut good = Vec::new();
        for (ack, row) in batch.drain(..).zip(rows) {
            match row.and_then(|row| check(&inbox, &ack, row, &mut cache)) {
                Ok(Some((level, manifest, heads))) => {
                    // Where the sender was shown another log than we, its word is good all the same: the relay is not.
                    for witness in &witnesses {
                        if let Err(error) = witness.compare(&heads) {
                            debug!(%error, "the sender's view of a relay's log");
                        }
                    }
                    good.push((ack, level, manifest));
                }
                Ok(None) => debug!(delivery = %ack.delivery.short(), "acknowledgement of what is not owed"),
                Err(refused) => {
                    warn!(delivery = %ack.delivery.short(), sender = %ack.sender, %refused, "acknowledgement not believed; the receipt is kept and sent again");
                }
            }
        }
        let now = Timestamp::now();
        let recorded = good.into_iter().map(|(ack, level, manifest)| {
            let inbound = &inbox.inbound;
            async move {
                let recorded = match level {
                    Level::Committed => inbound.pledge_acked(ack.delivery, manifest).await,
                    _ => inbound.acked(ack.delivery, ack.attempt, manifest, now).await,
                };
                if let Err(error) = recorded {
                    debug!(delivery = %ack.delivery.short(), %error, "acknowledgement not recorded");
                }
            }
        });
        join_all(recorded).await;
    }
    Ok(())
}

/// The level of the receipt that is acknowledged, a manifest, and the heads of logs that its signer had seen.
type Countersigned = (Level, Vec<u8>, Vec<Head>);

/// A receipt that is owed to a sender.
struct Owed {
    arrival: Arrival,
    receipt: Receipt,
}

/// What this acknowledges; `None` if nothing is owed.
async fn owed(inbox: &Inbox, ack: &Ack) -> Result<Option<Owed>, Refused> {
    let row = inbox.inbound.lookup(ack.delivery).await?;
    let Some(row) = row.filter(|row| row.arrival.attempt == ack.attempt) else { return Ok(None) };
    let receipt = match row.state {
        InboundState::Signed => row.receipt,
        InboundState::Acknowledged => {
            let pledge = inbox.inbound.pledge(ack.delivery).await?;
            pledge.filter(|pledge| pledge.state == PledgeState::Signed).and_then(|pledge| pledge.receipt)
        }
        _ => None,
    };
    let Some(receipt) = receipt else { return Ok(None) };
    Ok(Some(Owed { arrival: row.arrival, receipt: Receipt::decode(&receipt)? }))
}

/// Why an acknowledgement counts for nothing.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the sender has not signed it")]
    Unsigned,
    #[error(
        "the sender is not pinned, or signs with other keys than those on its pinned card: if they were rotated, take its new card by `peer update CARD`"
    )]
    NotPinned,
    #[error("manifest: {0}")]
    Decode(#[from] ledger::DecodeError),
    #[error("manifest: {0}")]
    Verify(#[from] ledger::VerifyError),
    #[error("the manifest is about another receipt")]
    OtherReceipt,
}

/// The manifest and the heads of logs in it, if this acknowledges a receipt that is owed; `None` if nothing is owed.
fn check(
    inbox: &Inbox,
    ack: &Ack,
    owed: Option<Owed>,
    cache: &mut RootCache,
) -> Result<Option<Countersigned>, Refused> {
    let Some(Owed { arrival, receipt }) = owed else { return Ok(None) };
    let bytes = ack.manifest.as_ref().ok_or(Refused::Unsigned)?;
    let manifest = Manifest::decode(bytes)?;
    let now = Timestamp::now();
    let named = |route: &Arc<crate::config::Route>| {
        route.from == arrival.sender && route.sender.identity_of(&manifest.core.sender, now).is_some()
    };
    let route = inbox.all_routes().find(named).ok_or(Refused::NotPinned)?;
    let signer = route.sender.identity_of(&manifest.core.sender, now).ok_or(Refused::NotPinned)?;
    manifest.verify_cached(signer, cache)?;
    if manifest.is_about(&receipt) {
        return Ok(Some((receipt.level, bytes.clone(), manifest.proof.heads)));
    }
    // The first one, acknowledged again while the second is owed.
    let is_first = receipt.level == Level::Committed && is_like(&manifest, &receipt);
    if is_first { Ok(None) } else { Err(Refused::OtherReceipt) }
}

/// Whether a manifest speaks of the delivery that a receipt is of, whatever that says.
fn is_like(manifest: &Manifest, receipt: &Receipt) -> bool {
    let core = &manifest.core;
    core.delivery == receipt.delivery && core.attempt == receipt.attempt && core.object == receipt.object
}
