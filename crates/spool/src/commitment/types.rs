//! What goes in and out.

use std::{collections::HashMap, fmt};

use base::{AeTitle, CommitmentId, Phi, Timestamp, Uid};

use crate::row::{UnknownWord, codes};

codes! {
    /// Where a transaction stands.
    CommitmentState {
        /// Some instances are not decided.
        Open = 1 "open",
        /// Decided; the peer is to be told.
        Reporting = 2 "reporting",
        /// The peer was told.
        Reported = 3 "reported",
        /// An operator gave it up.
        Dropped = 4 "dropped",
    }
}

codes! {
    /// What "committed" means for a peer.
    Means {
        /// The outbox has it. The far side may still refuse it.
        Outbox = 1 "outbox",
        /// Every destination has answered that it has stored it.
        Delivered = 2 "delivered",
        /// Every destination has committed itself to it.
        Committed = 3 "committed",
    }
}

codes! {
    /// What is decided about one instance.
    Verdict {
        /// It is where it was to go.
        Committed = 1 "committed",
        /// It did not come through this node from this peer.
        NotReceived = 2 "not-received",
        /// It came with another SOP class.
        OtherClass = 3 "other-class",
        /// It was pseudonymized: what arrived is no copy of the original.
        Pseudonymized = 4 "pseudonymized",
        /// A destination refused it.
        Refused = 5 "refused",
        /// A destination refused its SOP class.
        ClassRefused = 6 "class-refused",
        /// It is parked until an operator acts.
        Parked = 7 "parked",
        /// An operator gave it up.
        Discarded = 8 "discarded",
        /// `respond = "delivered"`: the sender was told that it is not taken.
        Returned = 9 "returned",
        /// Not stored, or not committed, in time.
        NotInTime = 10 "not-in-time",
        /// A destination has stored it, and is not asked to commit.
        NotAsked = 11 "not-asked",
        /// A destination was asked to commit, and failed, or did not answer in time.
        DestinationFailed = 12 "destination-failed",
        /// A destination was asked to commit, and does not have it.
        DestinationHasNot = 13 "destination-has-not",
        /// A destination was asked to commit, and has it with another SOP class.
        DestinationConflict = 14 "destination-conflict",
        /// A destination was asked to commit, and does not for this SOP class.
        DestinationClass = 15 "destination-class",
    }
}

impl CommitmentState {
    /// Whether nothing more is owed.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Reported | Self::Dropped)
    }
}

/// An instance as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SopReference {
    /// Referenced SOP Class UID.
    pub sop_class: Uid,
    /// Referenced SOP Instance UID.
    pub sop_instance: Phi<Uid>,
}

/// A request for storage commitment. Whoever calls has checked that no instance is named twice.
#[derive(Debug, Clone)]
pub struct NewCommitment {
    /// A random id.
    pub id: CommitmentId,
    /// Who asks, and is told.
    pub peer: AeTitle,
    /// Calling AE titles whose instances it may ask for.
    pub callers: Vec<AeTitle>,
    /// The AE title of ours that it asked: instances that were sent to this one count as sent to it only.
    pub called: AeTitle,
    /// Transaction UID.
    pub transaction: Phi<Uid>,
    /// What it asks for; at least one.
    pub instances: Vec<SopReference>,
    /// What "committed" means for it.
    pub means: Means,
    /// An instance that has not come by then does not come.
    pub arrival_until: Timestamp,
    /// What is not decided by then has failed.
    pub deadline: Timestamp,
    /// Transactions of this peer that may be open at one time.
    pub open_max: u32,
}

/// What became of a request. All of it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It is a new one.
    New(CommitmentId),
    /// It is open already.
    Known(CommitmentId, CommitmentState),
    /// It had ended, and begins anew.
    Again(CommitmentId),
}

impl Asked {
    /// The id under which it is kept.
    pub fn id(self) -> CommitmentId {
        match self {
            Self::New(id) | Self::Known(id, _) | Self::Again(id) => id,
        }
    }
}

/// For each open transaction, the first of its instances that was not decided when it was looked at last.
pub type Cursors = HashMap<CommitmentId, u32>;

/// An open transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Which one.
    pub id: CommitmentId,
    /// Who is told.
    pub peer: AeTitle,
    /// Where it stands.
    pub state: CommitmentState,
    /// `Open`: it can be decided. `Reporting`: its report is due.
    pub is_ripe: bool,
}

/// What came of an attempt to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// This instance, from 0, is not decided.
    NotYet(u32),
    /// All are decided, and durably so.
    Now {
        /// How many were asked for.
        instances: u32,
        /// How many of them failed.
        failed: u32,
    },
    /// It was decided, or has ended, before.
    Already(CommitmentState),
}

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentReport {
    /// Transaction UID.
    pub transaction: Phi<Uid>,
    /// The AE title of ours that was asked.
    pub called: AeTitle,
    /// What is committed.
    pub committed: Vec<SopReference>,
    /// What is not, and why.
    pub failed: Vec<(SopReference, Verdict)>,
}

/// A transaction as an operator sees it. No patient data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment {
    /// Its id.
    pub id: CommitmentId,
    /// Who asked.
    pub peer: AeTitle,
    /// Where it stands.
    pub state: CommitmentState,
    /// What "committed" meant for it.
    pub means: Means,
    /// Instances asked for.
    pub instances: u32,
    /// Those that failed, once it is decided.
    pub failed: u32,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When what is not decided fails.
    pub deadline: Timestamp,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Reports that did not come through.
    pub tries: u32,
    /// When it is reported next.
    pub next_at: Option<Timestamp>,
    /// Why the last report did not come through, or why it was dropped.
    pub reason: Option<String>,
}

/// A transaction that names an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The transaction.
    pub commitment: Commitment,
    /// What was decided about the instance; `None` for a Transaction UID, or as long as it is open.
    pub verdict: Option<Verdict>,
}

/// How many transactions have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitmentCounts {
    /// Waiting for instances.
    pub open: u64,
    /// Waiting to be reported.
    pub reporting: u64,
    /// Of these, such as could not be reported once.
    pub failing: u64,
    /// When the oldest of all was asked.
    pub oldest: Option<Timestamp>,
}
