//! `receipt list|show`.

use anyhow::{Context as _, Result, anyhow};
use ledger::ReceiptFile;
use serde_json::{Value, json};
use spool::{Queue, Receipt};

use crate::queue;

/// Receipts read at one time.
const PAGE: u32 = 1000;

/// All receipts, oldest first.
pub async fn all(queue: &Queue) -> Result<Vec<Receipt>> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = queue.receipts(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.sequence);
        all.extend(page);
    }
}

/// A receipt as `receipt list --json` shows it.
pub fn receipt_json(receipt: &Receipt) -> Value {
    json!({
        "id": receipt.id.delivery,
        "delivery": receipt.id.delivery,
        "attempt": receipt.id.attempt.0,
        "outcome": receipt.outcome.as_str(),
        "status": format!("{:04X}", receipt.status.0),
        "level": receipt.level,
        "answered_at": receipt.answered_at,
        "stored_at": receipt.stored_at,
        "logged": receipt.log.is_some(),
    })
}

/// One line of `receipt list`.
pub fn receipt_line(receipt: &Receipt) -> String {
    format!(
        "{}  {}  {:04X}  {}{}",
        receipt.id.delivery,
        receipt.outcome,
        receipt.status.0,
        queue::utc(receipt.answered_at),
        if receipt.level > 1 { "  commitment" } else { "" },
    )
}

/// The file that stands alone.
pub fn file(receipt: &Receipt) -> Result<ReceiptFile> {
    ReceiptFile::from_parts(&receipt.receipt, &receipt.settlement, Some(&receipt.manifest))
        .and_then(|file| match &receipt.log {
            Some(proof) => file.with_log_text(proof),
            None => Ok(file),
        })
        .context("the stored receipt cannot be read")
}

/// The last receipt of a delivery.
pub async fn of(queue: &Queue, id: &str) -> Result<ReceiptFile> {
    let row = queue::one(queue, id).await?;
    let receipts = queue.receipts_of(row.delivery).await?;
    let last = receipts
        .last()
        .ok_or_else(|| anyhow!("delivery {} has no receipt; it is {}", row.delivery, row.state))?;
    file(last)
}
