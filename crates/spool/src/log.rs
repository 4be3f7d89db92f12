//! Proofs from relays' logs beside the receipts they are of: a checkpoint is stored once for all that lead to it.

use base::{Attempt, DeliveryId};
use rusqlite::{Connection, OptionalExtension, params};

/// The proof of one receipt. As text it is that of a C2SP tlog-proof up to its empty line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLogProof {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt that its receipt answers.
    pub attempt: Attempt,
    /// The receipt's level: two of one attempt have a place in the log each.
    pub level: u8,
    /// Index, path, and what opens the entry.
    pub proof: String,
    /// The checkpoint that it leads to.
    pub checkpoint: String,
}

/// Which table the receipts are in, and how one of them is found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Receipts {
    Outbox,
    Inbound,
}

impl Receipts {
    const fn insert(self) -> &'static str {
        match self {
            Self::Outbox => {
                "INSERT INTO logged(receipt_id, checkpoint_id, proof)
                SELECT r.id, ?3, ?4 FROM receipt r JOIN delivery d ON d.id = r.delivery_id
                WHERE d.delivery = ?1 AND r.attempt = ?2 AND r.level = ?5 ON CONFLICT DO NOTHING"
            }
            Self::Inbound => {
                "INSERT INTO logged(inbound_id, checkpoint_id, proof)
                SELECT id, ?3, ?4 FROM inbound WHERE delivery = ?1 AND attempt = ?2 AND settlement IS NOT NULL AND level = ?5
                ON CONFLICT DO NOTHING"
            }
        }
    }
}

/// Stores proofs, where their receipts are here and have none yet.
pub(crate) fn store(
    connection: &Connection,
    receipts: Receipts,
    proofs: &[NewLogProof],
) -> rusqlite::Result<()> {
    let find = "SELECT id FROM checkpoint WHERE note = ?1";
    let add = "INSERT INTO checkpoint(note) VALUES(?1) RETURNING id";
    let mut statement = connection.prepare_cached(receipts.insert())?;
    for NewLogProof { delivery, attempt, level, proof, checkpoint } in proofs {
        let known: Option<i64> =
            connection.prepare_cached(find)?.query_row([checkpoint], |row| row.get(0)).optional()?;
        let id = match known {
            Some(id) => id,
            None => connection.prepare_cached(add)?.query_row([checkpoint], |row| row.get(0))?,
        };
        statement.execute(params![delivery.0, attempt.0, id, proof, level])?;
    }
    Ok(())
}
