//! `receipt list|show`: what the settled ledger holds of each answer, as files that stand alone.

use anyhow::{Context as _, Result, anyhow};
use base::DeliveryId;
use ledger::{Receipt, ReceiptFile};
use serde_json::{Value, json};
use spool::{Inbound, InboundRow};

/// Rows read at one time.
const PAGE: u32 = 1000;

/// All deliveries that have a signed receipt, oldest first.
pub async fn all(inbound: &Inbound) -> Result<Vec<InboundRow>> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = inbound.receipts(after, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        after = *last;
        all.extend(page.into_iter().map(|(_, row)| row));
    }
}

/// A receipt as `receipt list --json` shows it.
pub fn json(row: &InboundRow) -> Value {
    json!({
        "id": row.arrival.delivery,
        "delivery": row.arrival.delivery,
        "attempt": row.arrival.attempt.0,
        "sender": row.arrival.sender,
        "destination": row.arrival.destination,
        "outcome": row.outcome.map(|outcome| outcome.as_str()),
        "status": row.status.map(|status| format!("{:04X}", status.0)),
        "level": row.level,
        "answered_at": row.answered_at,
        "countersigned": row.manifest.is_some(),
        "logged": row.log.is_some(),
    })
}

/// One line of `receipt list`.
pub fn line(row: &InboundRow) -> String {
    let answered = row.receipt.as_deref().and_then(|bytes| Receipt::decode(bytes).ok());
    let said = |key: &str| {
        let says = answered.iter().flat_map(Receipt::says);
        says.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value).unwrap_or_default()
    };
    let status = row.status.map(|status| format!("{:04X}", status.0)).unwrap_or_default();
    let countersigned = if row.manifest.is_some() { "countersigned" } else { "not countersigned yet" };
    let (delivery, outcome, at) = (row.arrival.delivery, said("outcome"), said("answered_at"));
    format!("{delivery}  {outcome}  {status}  {at}  {}  {countersigned}", row.arrival.sender)
}

/// The receipt of the delivery with this id, or with this beginning of an id; where its destination was asked to commit, the
/// second one as soon as it is there.
pub async fn of(inbound: &Inbound, id: &str) -> Result<ReceiptFile> {
    let row = match DeliveryId::from_hex(id) {
        Ok(id) => inbound.lookup(id).await?.ok_or_else(|| anyhow!("no delivery {id}"))?,
        Err(_) => {
            let mut found = inbound.find(id, 2).await?;
            match (found.pop(), found.pop()) {
                (Some(one), None) => one,
                (None, _) => {
                    return Err(anyhow!("no delivery begins with {id}; `receipt list` lists them"));
                }
                (Some(_), Some(_)) => {
                    return Err(anyhow!("several deliveries begin with {id}; give more digits"));
                }
            }
        }
    };
    let pledge = inbound.pledge(row.arrival.delivery).await?;
    if let Some((Some(receipt), Some(settlement), manifest)) =
        pledge.as_ref().map(|pledge| (&pledge.receipt, &pledge.settlement, &pledge.manifest))
    {
        return ReceiptFile::from_parts(receipt, settlement, manifest.as_deref())
            .context("the stored second receipt cannot be read");
    }
    let (Some(receipt), Some(settlement)) = (&row.receipt, &row.settlement) else {
        return Err(anyhow!("delivery {} has no receipt; it is {}", row.arrival.delivery, row.state));
    };
    ReceiptFile::from_parts(receipt, settlement, row.manifest.as_deref())
        .and_then(|file| match &row.log {
            Some(proof) => file.with_log_text(proof),
            None => Ok(file),
        })
        .context("the stored receipt cannot be read")
}
