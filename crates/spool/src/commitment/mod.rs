//! Storage Commitment (CUSTODY): who asked for which instances, what became of them, and what is still to be reported.
//!
//! `judge.rs` has the one rule by which an instance is committed; `store.rs` the rows of transactions; `record.rs` what
//! is sealed of them until they end.

mod judge;
mod record;
mod store;
mod types;

use std::sync::Arc;

use base::{CommitmentId, Timestamp};
use rusqlite::Connection;

use crate::{
    CommitmentError, Operator, Outbox, OutboxKey, Queue, StoreError,
    db::JobError,
    error::BodyError,
    faults::Kind,
    outbox::{IdPrefix, Inner, audit},
    record::{Identifier, identifier},
};

pub use types::{
    Asked, Commitment, CommitmentCounts, CommitmentReport, CommitmentState, Cursors, Decided, Means, Named,
    NewCommitment, SopReference, Verdict, Watched,
};

/// Wraps what is open under another outbox key.
pub(crate) fn rewrap(
    connection: &Connection,
    old: &OutboxKey,
    new: &OutboxKey,
) -> Result<(), JobError<BodyError>> {
    record::rewrap(connection, old, new)
}

/// The daemon's side.
impl Outbox {
    async fn commitment_change<T: Send + 'static>(
        &self,
        kind: Kind,
        run: impl FnOnce(&Connection) -> Result<T, JobError<CommitmentError>> + Send + 'static,
    ) -> Result<T, CommitmentError> {
        self.inner().db.writer.call(kind, run).await
    }

    /// Takes a request over: answer the N-ACTION with success after `Ok`, never before. The same request again, while
    /// it is open, changes nothing but that its report is due at once; after its end it is taken anew.
    pub async fn commitment_asked(
        &self,
        new: NewCommitment,
        now: Timestamp,
    ) -> Result<Asked, CommitmentError> {
        let inner: &Arc<Inner> = self.inner();
        match inner.bodies.disk().usage() {
            Ok(usage) if usage.bytes_free < usage.reserve_bytes => return Err(CommitmentError::NoRoom),
            Ok(_) => {}
            Err(error) => return Err(StoreError::Failed(error.to_string()).into()),
        }
        let context = Arc::clone(&inner.context);
        // Sealed on the index's thread: a rotation of the key cannot come between.
        let run = move |connection: &Connection| store::ask(connection, &context, &new, now);
        self.commitment_change(Kind::Commitment, run).await
    }

    /// All open transactions, with how far each is: what `cursors` says was decided before is not looked at again.
    pub async fn commitments_watch(
        &self,
        mut cursors: Cursors,
        now: Timestamp,
    ) -> Result<(Vec<Watched>, Cursors), StoreError> {
        let look = move |connection: &Connection| {
            let watched = store::watch(connection, &mut cursors, now)?;
            Ok((watched, cursors))
        };
        self.inner().db.reader.call(look).await
    }

    /// Decides a transaction if all of its instances are decided or its deadline has passed. What is decided here is
    /// what every report of it says.
    pub async fn commitment_decide(
        &self,
        commitment: CommitmentId,
        now: Timestamp,
    ) -> Result<Decided, CommitmentError> {
        self.commitment_change(Kind::Commitment, move |connection| store::decide(connection, commitment, now))
            .await
    }

    /// What is to be reported of a decided transaction.
    pub async fn commitment_report(
        &self,
        commitment: CommitmentId,
    ) -> Result<CommitmentReport, CommitmentError> {
        let inner = self.inner();
        let look = move |connection: &Connection| store::parts(connection, commitment);
        let (sealed, verdicts) =
            inner.db.reader.call(look).await?.ok_or(CommitmentError::Unknown(commitment))?;
        let opened = inner.context.keys.each().find_map(|key| record::open(&key, commitment, &sealed));
        let record = opened.ok_or(CommitmentError::Sealed(commitment))?;
        record.report(verdicts).ok_or(CommitmentError::Sealed(commitment))
    }

    /// A report did not come through: due again after a growing wait. `reason` is our own wording; `jitter` a random
    /// number from 0 to 1.
    pub async fn commitment_unreported(
        &self,
        commitment: CommitmentId,
        reason: impl Into<String>,
        jitter: f64,
        now: Timestamp,
    ) -> Result<(), CommitmentError> {
        let (policy, reason) = (self.inner().context.config.retry, reason.into());
        let run = move |connection: &Connection| {
            store::unreported(connection, commitment, &reason, (&policy, jitter), now)
        };
        self.commitment_change(Kind::Commitment, run).await
    }

    /// The peer has answered the report: the transaction ends, its record is erased.
    pub async fn commitment_reported(
        &self,
        commitment: CommitmentId,
        now: Timestamp,
    ) -> Result<(), CommitmentError> {
        let run = move |connection: &Connection| {
            store::end(connection, commitment, CommitmentState::Reported, None, now).map(drop)
        };
        self.commitment_change(Kind::CommitmentEnded, run).await
    }
}

/// The operator's side.
impl Queue {
    /// Transactions, oldest first: those that have not ended, or the latest of all.
    pub async fn commitments(&self, open: bool, limit: u32) -> Result<Vec<Commitment>, StoreError> {
        self.inner().db.reader.call(move |connection| store::list(connection, open, limit)).await
    }

    /// The transactions whose id begins with these digits (eight at least).
    pub async fn commitments_by_id(&self, digits: &str, limit: u32) -> Result<Vec<Commitment>, StoreError> {
        let Some(prefix) = IdPrefix::parse(digits) else { return Ok(Vec::new()) };
        self.inner().db.reader.call(move |connection| store::by_id(connection, &prefix, limit)).await
    }

    /// The transactions that name an instance, or have a Transaction UID: what `why` looks up.
    pub async fn commitments_naming(&self, uid: &str, limit: u32) -> Result<Vec<Named>, StoreError> {
        let key = &self.inner().context.index_key;
        let (instance, transaction) =
            (identifier(key, Identifier::Instance, uid), identifier(key, Identifier::Transaction, uid));
        let look = move |connection: &Connection| store::naming(connection, &instance, &transaction, limit);
        self.inner().db.reader.call(look).await
    }

    /// How many are open, for a status page.
    pub async fn commitment_counts(&self) -> Result<CommitmentCounts, StoreError> {
        self.inner().db.reader.call(store::counts).await
    }

    /// Reports a decided transaction now, with a fresh count of tries.
    pub async fn commitment_retry(
        &self,
        commitment: CommitmentId,
        by: Operator,
        now: Timestamp,
    ) -> Result<(), CommitmentError> {
        let run = move |connection: &Connection| {
            store::retry(connection, commitment, now)?;
            Ok(audit(connection, &by, &format!("retry commitment {commitment}"), None, now)?)
        };
        self.inner().db.writer.call(Kind::Commitment, run).await
    }

    /// Gives a transaction up: the peer is told nothing (more) of it, and its record is erased.
    pub async fn commitment_drop(
        &self,
        commitment: CommitmentId,
        by: Operator,
        now: Timestamp,
    ) -> Result<(), CommitmentError> {
        let run = move |connection: &Connection| {
            store::end(connection, commitment, CommitmentState::Dropped, Some(&by.reason), now)?;
            Ok(audit(connection, &by, &format!("drop commitment {commitment}"), None, now)?)
        };
        self.inner().db.writer.call(Kind::CommitmentEnded, run).await
    }
}
