//! What names an open transaction: sealed under the outbox key, erased at its end.

use base::{AeTitle, CommitmentId, ObjectId, Phi, Uid};
use minicbor::{Decode, Encode};
use rusqlite::Connection;
use zeroize::Zeroizing;

use crate::{BodyError, CommitmentReport, NewCommitment, OutboxKey, SopReference, Verdict, db::JobError};

#[derive(Debug, Encode, Decode)]
pub(crate) struct Record {
    #[n(0)]
    transaction: String,
    #[n(1)]
    called: String,
    #[n(2)]
    instances: Vec<Reference>,
}

#[derive(Debug, Encode, Decode)]
struct Reference {
    #[n(0)]
    sop_class: String,
    #[n(1)]
    sop_instance: String,
}

impl Record {
    /// With what was decided about each, in their order; `None` where that does not fit.
    pub(crate) fn report(&self, verdicts: Vec<Verdict>) -> Option<CommitmentReport> {
        if verdicts.len() != self.instances.len() {
            return None;
        }
        let mut report = CommitmentReport {
            transaction: Phi::new(Uid::parse(&self.transaction).ok()?),
            called: AeTitle::parse(&self.called).ok()?,
            committed: Vec::new(),
            failed: Vec::new(),
        };
        for (instance, verdict) in self.instances.iter().zip(verdicts) {
            let reference = SopReference {
                sop_class: Uid::parse(&instance.sop_class).ok()?,
                sop_instance: Phi::new(Uid::parse(&instance.sop_instance).ok()?),
            };
            match verdict {
                Verdict::Committed => report.committed.push(reference),
                other => report.failed.push((reference, other)),
            }
        }
        Some(report)
    }
}

/// `None` where the key does not take it.
pub(crate) fn seal(key: &OutboxKey, new: &NewCommitment, id: CommitmentId) -> Option<Vec<u8>> {
    let reference = |one: &SopReference| Reference {
        sop_class: one.sop_class.as_str().to_owned(),
        sop_instance: one.sop_instance.reveal().as_str().to_owned(),
    };
    let record = Record {
        transaction: new.transaction.reveal().as_str().to_owned(),
        called: new.called.as_str().to_owned(),
        instances: new.instances.iter().map(reference).collect(),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(128 * (new.instances.len() + 1)));
    minicbor::encode(&record, &mut *bytes).ok()?;
    key.seal_record(name(id), &bytes).ok()
}

pub(crate) fn open(key: &OutboxKey, id: CommitmentId, sealed: &[u8]) -> Option<Record> {
    let opened = key.open_record(name(id), sealed).ok()?;
    minicbor::decode(&opened).ok()
}

pub(crate) fn rewrap(
    connection: &Connection,
    old: &OutboxKey,
    new: &OutboxKey,
) -> Result<(), JobError<BodyError>> {
    let sql = "SELECT id, commitment, record FROM commitment WHERE ended_at IS NULL AND record IS NOT NULL";
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, i64>(0)?, CommitmentId(row.get(1)?), row.get::<_, Vec<u8>>(2)?))
    };
    let open: Vec<_> = connection.prepare_cached(sql)?.query_map((), read)?.collect::<Result<_, _>>()?;
    let mut update = connection.prepare_cached("UPDATE commitment SET record = ?2 WHERE id = ?1")?;
    for (id, commitment, sealed) in open {
        let damaged = |_| JobError::Own(BodyError::Sealed(name(commitment)));
        let opened = old.open_record(name(commitment), &sealed).map_err(damaged)?;
        update.execute((id, new.seal_record(name(commitment), &opened).map_err(damaged)?))?;
    }
    Ok(())
}

/// Records are bound to the id of their row; both kinds of ids are random and never meet.
fn name(id: CommitmentId) -> ObjectId {
    ObjectId(id.0)
}
