//! Second receipts: signed once the sender has acknowledged the first one, and sent until it has acknowledged this.

use std::{convert::Infallible, sync::Arc, time::Duration};

use base::{Fingerprint, Name};
use ledger::{BATCH_LEAVES_MAX, Pledge, Receipt, SettlementCore};
use service::own::LiveOwn;
use spool::{DecidedPledge, Outcome, PledgeState};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use transport::Downlink;

use crate::{inbox::Inbox, links, signer};

/// How often it is looked what is decided.
const TURN: Duration = Duration::from_millis(500);

/// What is not acknowledged is sent again this often: a relay may have dropped it.
const AGAIN: Duration = Duration::from_secs(60);
/// So many are looked at in one step.
const PAGE: u32 = 1000;

/// Signs and sends until `stop` ends.
pub(super) async fn run(
    inbox: Arc<Inbox>,
    own: LiveOwn,
    downlinks: Vec<Downlink>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut sent = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(TURN) => {}
        }
        if sent.elapsed() >= AGAIN {
            sent = Instant::now();
            for downlink in downlinks.iter().filter(|downlink| downlink.is_connected()) {
                again(&inbox, &own, downlink).await;
            }
        }
        if let Err(error) = turn(&inbox, &own, &downlinks).await {
            error!(%error, "second receipts cannot be signed; tried again");
        }
    }
}

/// Receipts that hold a second one up, and second ones.
async fn again(inbox: &Inbox, own: &LiveOwn, downlink: &Downlink) {
    let first = match inbox.inbound.unacknowledged_before_pledges(PAGE).await {
        Ok(rows) => rows,
        Err(error) => return warn!(%error, "settled ledger cannot be read"),
    };
    if links::settle(inbox, own, downlink, first).await {
        settle_again(inbox, own, downlink).await;
    }
}

/// Second receipts that the sender may not have. They have no record: the sender rebuilds them.
pub(crate) async fn settle_again(inbox: &Inbox, own: &LiveOwn, downlink: &Downlink) {
    let mut after = 0;
    loop {
        let pledges = match inbox.inbound.pledges_unacknowledged(after, PAGE).await {
            Ok(pledges) => pledges,
            Err(error) => return warn!(%error, "settled ledger cannot be read"),
        };
        let Some(last) = pledges.last() else { return };
        after = last.sequence;
        let pledges = match signer::present(own, &inbox.inbound, pledges).await {
            Ok(pledges) => pledges,
            Err(error) => return warn!(%error, "second receipts could not be signed with the new keys"),
        };
        for pledge in pledges {
            let named = pledge.receipt.as_deref().and_then(|receipt| Receipt::decode(receipt).ok());
            let sender = named.and_then(|receipt| sender(inbox, &receipt.sender.name));
            let (Some(settlement), Some(sender)) = (pledge.settlement, sender) else { continue };
            if downlink.settle(sender, pledge.delivery, pledge.attempt, settlement, Vec::new()).await.is_err()
            {
                return;
            }
        }
    }
}

/// A sender, by any route that it still has: that of the instance may be gone.
fn sender(inbox: &Inbox, name: &Name) -> Option<Fingerprint> {
    inbox.all_routes().find(|route| route.from == *name).map(|route| route.sender.id())
}

async fn turn(inbox: &Inbox, own: &LiveOwn, downlinks: &[Downlink]) -> anyhow::Result<()> {
    let open = inbox.inbound.pledge_counts().await?;
    if !open.iter().any(|(state, _)| *state == PledgeState::Decided) {
        return Ok(());
    }
    let decided = inbox.inbound.pledges_to_sign(u32::try_from(BATCH_LEAVES_MAX).unwrap_or(u32::MAX)).await?;
    if decided.is_empty() {
        return Ok(());
    }
    let receipts = decided.iter().map(second).collect::<Result<Vec<_>, _>>()?;
    let cores = receipts.iter().map(SettlementCore::for_receipt).collect();
    let signed = signer::sign(&own.identity(), cores, Vec::new())
        .await
        .ok_or_else(|| anyhow::anyhow!("the batch was not signed"))?;
    let signed: Vec<_> = receipts.into_iter().zip(signed).collect();
    inbox.inbound.pledges_signed(signed.iter().map(signer::second).collect()).await?;
    for (receipt, settlement) in signed {
        let Some(sender) = sender(inbox, &receipt.sender.name) else {
            warn!(sender = %receipt.sender.name, "a second receipt for a sender that has no route any more");
            continue;
        };
        for downlink in downlinks.iter().filter(|downlink| downlink.is_connected()) {
            // Without a connection it is sent with the next one.
            let _ = downlink
                .settle(sender, receipt.delivery, receipt.attempt, settlement.encode(), Vec::new())
                .await;
        }
    }
    Ok(())
}

fn second(decided: &DecidedPledge) -> Result<Receipt, ledger::DecodeError> {
    let pledge = match (decided.said, decided.status) {
        (Some(Outcome::Stored), _) => Pledge::Committed,
        (Some(Outcome::Refused), Some(status)) => Pledge::Refused(status),
        (Some(Outcome::Refused), None) | (None, _) => Pledge::Unanswered,
    };
    Ok(Receipt::decode(&decided.first)?.second(pledge))
}
