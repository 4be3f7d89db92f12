//! Second receipts: signed once the sender has acknowledged the first one, and sent until it has acknowledged this.

use std::{convert::Infallible, sync::Arc, time::Duration};

use identity::IdentityKey;
use ledger::{BATCH_LEAVES_MAX, Pledge, Receipt, SettlementCore};
use service::Live;
use spool::{DecidedPledge, Outcome, PledgeState, SignedPledge};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use transport::Downlink;

use crate::{inbox::Inbox, signer};

/// How often it is looked what is decided.
const TURN: Duration = Duration::from_millis(500);

/// What is not acknowledged is sent again this often: a relay may have dropped it.
const AGAIN: Duration = Duration::from_secs(60);
/// So many of them.
const AGAIN_MAX: u32 = 1000;

/// Signs and sends until `stop` ends.
pub(super) async fn run(
    inbox: Arc<Inbox>,
    identity: Live<IdentityKey>,
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
                settle_again(&inbox, downlink, AGAIN_MAX).await;
            }
        }
        if let Err(error) = turn(&inbox, &identity.now(), &downlinks).await {
            error!(%error, "second receipts cannot be signed; tried again");
        }
    }
}

/// Second receipts that the sender may not have. They have no record: the sender rebuilds them.
pub(crate) async fn settle_again(inbox: &Inbox, downlink: &Downlink, limit: u32) {
    let pledges = match inbox.inbound.pledges_unacknowledged(limit).await {
        Ok(pledges) => pledges,
        Err(error) => return warn!(%error, "settled ledger cannot be read"),
    };
    for pledge in pledges {
        let (Some(settlement), Some(route)) = (pledge.settlement, inbox.route(pledge.route)) else {
            continue;
        };
        let sender = route.sender.id();
        if downlink.settle(sender, pledge.delivery, pledge.attempt, settlement, Vec::new()).await.is_err() {
            return;
        }
    }
}

async fn turn(inbox: &Inbox, identity: &Arc<IdentityKey>, downlinks: &[Downlink]) -> anyhow::Result<()> {
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
    let signed = signer::sign(identity, cores, Vec::new())
        .await
        .ok_or_else(|| anyhow::anyhow!("the batch was not signed"))?;
    let rows = receipts.iter().zip(&signed).map(|(receipt, settlement)| SignedPledge {
        delivery: receipt.delivery,
        receipt: receipt.encode(),
        settlement: settlement.encode(),
    });
    let rows: Vec<_> = rows.collect();
    inbox.inbound.pledges_signed(rows.clone()).await?;
    for (receipt, row) in receipts.iter().zip(rows) {
        let route = inbox
            .all_routes()
            .find(|route| route.from == receipt.sender.name && route.destination == receipt.destination);
        let Some(route) = route else {
            warn!(sender = %receipt.sender.name, "a second receipt for a sender that has no route any more");
            continue;
        };
        let sender = route.sender.id();
        for downlink in downlinks.iter().filter(|downlink| downlink.is_connected()) {
            // Without a connection it is sent with the next one.
            let _ = downlink
                .settle(sender, receipt.delivery, receipt.attempt, row.settlement.clone(), Vec::new())
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
