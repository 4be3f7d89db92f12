use base::Digest;
use thiserror::Error;

use super::checkpoint::TreeHead;
use super::proof::{ConsistencyError, verify_consistency};

/// What a new head means to somebody who has seen an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The first head of this log.
    First,
    /// The head that is known.
    Same,
    /// It continues the known one, by so many entries.
    Grown(u64),
    /// Another log: the relay started anew. To be told, but no fault in itself.
    OtherEpoch,
}

/// What no honest log shows: its relay is not to be used any more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Fewer entries than before.
    #[error("the log was rolled back from {old} to {new} entries")]
    RolledBack {
        /// Entries before.
        old: u64,
        /// Entries now.
        new: u64,
    },
    /// As many entries, but others.
    #[error("the log shows another root for the same {0} entries")]
    Forked(u64),
    /// More entries, but not after those that were known; or the proof was not given.
    #[error("the log does not prove that it continues: {0}")]
    Inconsistent(ConsistencyError),
}

/// Compares a verified new head with the last one that was accepted. `proof` leads from that one to the new one.
pub fn judge(last: Option<&TreeHead>, new: &TreeHead, proof: &[Digest]) -> Result<Progress, Misbehaviour> {
    let Some(last) = last else { return Ok(Progress::First) };
    if last.origin != new.origin {
        return Ok(Progress::OtherEpoch);
    }
    if new.size < last.size {
        return Err(Misbehaviour::RolledBack { old: last.size, new: new.size });
    }
    if new.size == last.size {
        return if new.root == last.root { Ok(Progress::Same) } else { Err(Misbehaviour::Forked(new.size)) };
    }
    verify_consistency((last.size, &last.root), (new.size, &new.root), proof)
        .map_err(Misbehaviour::Inconsistent)?;
    Ok(Progress::Grown(new.size - last.size))
}
