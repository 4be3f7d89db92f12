//! Data sets of Storage Commitment (PS3.4 Annex J): what an N-ACTION asks and an N-EVENT-REPORT answers.
//!
//! Both are read whole: they are lists of UIDs, whose length the DIMSE side bounds.

mod read;

use base::{Phi, Uid};
use thiserror::Error;

use crate::element::{Tag, Vr};
use crate::rewrite::NewElement;
use crate::syntax::{Encoding, Syntax};
use crate::token::TokenError;

pub(crate) const TRANSACTION: Tag = Tag(0x0008, 0x1195);
pub(crate) const FAILURE_REASON: Tag = Tag(0x0008, 0x1197);
pub(crate) const FAILED: Tag = Tag(0x0008, 0x1198);
pub(crate) const REFERENCED: Tag = Tag(0x0008, 0x1199);
pub(crate) const REFERENCED_CLASS: Tag = Tag(0x0008, 0x1150);
pub(crate) const REFERENCED_INSTANCE: Tag = Tag(0x0008, 0x1155);

/// Instances of one transaction that are read.
pub const INSTANCES_MAX: usize = 100_000;
/// What a failed instance without a Failure Reason has: processing failure (PS3.3 C.14.1.1).
pub const PROCESSING_FAILURE: u16 = 0x0110;

/// An item of Referenced SOP Sequence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SopReference {
    /// Referenced SOP Class UID (0008,1150).
    pub sop_class: Uid,
    /// Referenced SOP Instance UID (0008,1155).
    pub sop_instance: Phi<Uid>,
}

/// Action Information of a request (PS3.4 Table J.3-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentRequest {
    /// Transaction UID (0008,1195).
    pub transaction: Uid,
    /// Referenced SOP Sequence (0008,1199): one at least.
    pub instances: Vec<SopReference>,
}

/// Event Information of a report (PS3.4 Table J.3-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentResult {
    /// Transaction UID (0008,1195).
    pub transaction: Uid,
    /// Referenced SOP Sequence (0008,1199): what is committed.
    pub committed: Vec<SopReference>,
    /// Failed SOP Sequence (0008,1198), with Failure Reason (0008,1197).
    pub failed: Vec<(SopReference, u16)>,
}

/// Why a data set is none of Storage Commitment. Whoever wrote it has to act; no message has patient data in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitmentError {
    /// No layout of elements that is known and not deflated.
    #[error("transfer syntax {0} is none for storage commitment")]
    Syntax(Uid),
    /// Its elements.
    #[error(transparent)]
    Structure(#[from] TokenError),
    /// No transaction, or two.
    #[error("storage commitment has no single, valid Transaction UID (0008,1195)")]
    Transaction,
    /// Nothing is asked, or answered.
    #[error("storage commitment names no instance")]
    NoInstances,
    /// More than are read.
    #[error("storage commitment names more than {INSTANCES_MAX} instances; ask in several transactions")]
    TooMany,
    /// An item that names nothing.
    #[error("item {item} of {sequence} has no valid SOP class and SOP instance UID")]
    Reference {
        /// Which sequence.
        sequence: Tag,
        /// Counted from 1.
        item: usize,
    },
    /// Committed and failed at once.
    #[error("storage commitment reports an instance as committed and as failed")]
    Contradiction,
}

impl CommitmentRequest {
    /// Reads a data set in that transfer syntax.
    pub fn parse(bytes: &[u8], transfer_syntax: &Uid) -> Result<Self, CommitmentError> {
        let read::Lists { transaction, referenced, .. } = read::lists(bytes, encoding(transfer_syntax)?)?;
        if referenced.is_empty() {
            return Err(CommitmentError::NoInstances);
        }
        Ok(Self { transaction, instances: referenced })
    }

    /// The data set in that transfer syntax.
    pub fn write(&self, transfer_syntax: &Uid) -> Result<Vec<u8>, CommitmentError> {
        let encoding = encoding(transfer_syntax)?;
        if self.instances.is_empty() {
            return Err(CommitmentError::NoInstances);
        }
        let items = self.instances.iter().map(reference).collect();
        write(&self.transaction, [(REFERENCED, items)], encoding)
    }
}

impl CommitmentResult {
    /// Reads a data set in that transfer syntax. Whether it answers all that was asked is for the caller to see.
    pub fn parse(bytes: &[u8], transfer_syntax: &Uid) -> Result<Self, CommitmentError> {
        let read::Lists { transaction, referenced, failed } = read::lists(bytes, encoding(transfer_syntax)?)?;
        if referenced.is_empty() && failed.is_empty() {
            return Err(CommitmentError::NoInstances);
        }
        let committed: std::collections::HashSet<&Uid> =
            referenced.iter().map(|reference| reference.sop_instance.reveal()).collect();
        if failed.iter().any(|(reference, _)| committed.contains(reference.sop_instance.reveal())) {
            return Err(CommitmentError::Contradiction);
        }
        Ok(Self { transaction, committed: referenced, failed })
    }

    /// The data set in that transfer syntax. A sequence without items is left out (PS3.4 Table J.3-2).
    pub fn write(&self, transfer_syntax: &Uid) -> Result<Vec<u8>, CommitmentError> {
        let encoding = encoding(transfer_syntax)?;
        if self.committed.is_empty() && self.failed.is_empty() {
            return Err(CommitmentError::NoInstances);
        }
        let failed = |(failed, reason): &(SopReference, u16)| {
            let mut item = reference(failed);
            let mut bytes = Vec::new();
            encoding.put_u16(&mut bytes, *reason);
            item.push(NewElement::Value { tag: FAILURE_REASON, vr: Vr::US, bytes });
            item
        };
        let failed = self.failed.iter().map(failed).collect();
        let committed = self.committed.iter().map(reference).collect();
        write(&self.transaction, [(FAILED, failed), (REFERENCED, committed)], encoding)
    }

    /// The Event Type ID that goes with it (PS3.4 J.3.3): 1 where nothing failed, 2 else.
    pub fn event_type(&self) -> u16 {
        if self.failed.is_empty() { 1 } else { 2 }
    }
}

fn encoding(transfer_syntax: &Uid) -> Result<Encoding, CommitmentError> {
    let known = Syntax::of(transfer_syntax).filter(|syntax| !syntax.deflated);
    known.map(|syntax| syntax.encoding).ok_or_else(|| CommitmentError::Syntax(transfer_syntax.clone()))
}

fn uid(tag: Tag, uid: &Uid) -> NewElement {
    NewElement::Value { tag, vr: Vr::UI, bytes: uid.as_str().as_bytes().to_vec() }
}

fn reference(reference: &SopReference) -> Vec<NewElement> {
    vec![
        uid(REFERENCED_CLASS, &reference.sop_class),
        uid(REFERENCED_INSTANCE, reference.sop_instance.reveal()),
    ]
}

fn write<const N: usize>(
    transaction: &Uid,
    sequences: [(Tag, Vec<Vec<NewElement>>); N],
    encoding: Encoding,
) -> Result<Vec<u8>, CommitmentError> {
    let mut out = Vec::new();
    let mut put = |element: NewElement| {
        // Only a list of more than 4 GiB has no room.
        element.write(&mut out, encoding).map_err(|_| CommitmentError::TooMany)
    };
    put(uid(TRANSACTION, transaction))?;
    for (tag, items) in sequences {
        if items.len() > INSTANCES_MAX {
            return Err(CommitmentError::TooMany);
        }
        if !items.is_empty() {
            put(NewElement::Sequence { tag, items })?;
        }
    }
    Ok(out)
}
