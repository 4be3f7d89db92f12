//! `commitments`, and what `status` and `why` say of transactions. No patient data.

use anyhow::{Result, anyhow};
use base::Timestamp;
use serde_json::{Value, json};
use spool::{Commitment, Named, Queue};

use super::{Peer, config::On};
use crate::queue::utc;

/// Transactions listed at most, unless asked otherwise.
pub const LIST_MAX: u32 = 1000;
/// Transactions that `why` shows at most.
const NAMED_MAX: u32 = 20;

/// One line of `check`.
pub fn peer_line(peer: &Peer) -> String {
    let table = &peer.table;
    format!(
        "commitment for {} at {}{}: {:?} within {} s, reported on {} association",
        table.ae,
        peer.address,
        if peer.dialer.is_secure() { " over TLS" } else { "" },
        table.means,
        table.timeout.0.as_secs(),
        match table.on {
            On::New => "a new",
            On::Same => "the same",
        }
    )
}

/// As `commitments ls --json` shows it.
pub fn commitment_json(row: &Commitment, now: Timestamp) -> Value {
    json!({
        "commitment": row.id,
        "peer": row.peer.as_str(),
        "state": row.state.as_str(),
        "means": row.means.as_str(),
        "instances": row.instances,
        "failed": row.failed,
        "asked_at": row.asked_at,
        "deadline": row.deadline,
        "decided_at": row.decided_at,
        "ended_at": row.ended_at,
        "tries": row.tries,
        "next_at": row.next_at,
        "reason": row.reason,
        "age_s": now.since(row.asked_at).as_secs(),
    })
}

/// One line of `commitments ls`.
pub fn commitment_line(row: &Commitment, now: Timestamp) -> String {
    let failed = row.decided_at.map_or_else(String::new, |_| format!(", {} failed", row.failed));
    format!(
        "{}  {:<9} {:<16} {:>7} s  {} instances{failed}  try {}  {}",
        row.id.short(),
        row.state.as_str(),
        row.peer.as_str(),
        now.since(row.asked_at).as_secs(),
        row.instances,
        row.tries,
        row.reason.as_deref().unwrap_or(""),
    )
}

/// One line of `why`.
pub fn named_line(named: &Named) -> String {
    let row = &named.commitment;
    let verdict = named.verdict.map_or_else(|| "not decided".to_owned(), |verdict| verdict.to_string());
    let told = match row.ended_at {
        Some(at) => format!("{} at {}", row.state, utc(at)),
        None => row.state.to_string(),
    };
    format!(
        "commitment {}: asked by {} at {}, {verdict}; the transaction is {told}",
        row.id.short(),
        row.peer,
        utc(row.asked_at)
    )
}

/// The transactions that `why` has to say something of.
pub async fn named(queue: &Queue, text: &str) -> Result<Vec<Named>> {
    Ok(queue.commitments_naming(text, NAMED_MAX).await?)
}

/// The transaction with this beginning of an id.
pub async fn one(queue: &Queue, id: &str) -> Result<Commitment> {
    let mut found = queue.commitments_by_id(id, 2).await?;
    match (found.pop(), found.pop()) {
        (Some(one), None) => Ok(one),
        (None, _) => {
            Err(anyhow!("no commitment transaction begins with {id}; `commitments ls --all` lists them"))
        }
        (Some(_), Some(_)) => {
            Err(anyhow!("several commitment transactions begin with {id}; give more digits"))
        }
    }
}

/// For `/status`.
pub async fn counts(queue: &Queue, now: Timestamp) -> Value {
    match queue.commitment_counts().await {
        Ok(counts) => json!({
            "open": counts.open,
            "reporting": counts.reporting,
            "failing": counts.failing,
            "oldest_age_s": counts.oldest.map(|at| now.since(at).as_secs()),
        }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}
