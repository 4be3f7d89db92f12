//! What can go wrong, one enum per direction, sorted by who must act.

use std::{io, path::PathBuf};

use base::{AeTitle, CommitmentId, DeliveryId, ObjectId};
use thiserror::Error;

use crate::{CommitmentState, State};

/// The store as a whole cannot do what was asked.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum StoreError {
    /// The disk took no more; nothing was recorded. Passes when there is room again.
    #[error("no room on the disk for the index; free some space")]
    Full,
    /// Another process holds the write lock for longer than any command of ours does.
    #[error("the index is locked by another process; end it and try again")]
    Busy,
    /// A write or a flush failed before. It is never retried: what the disk holds is not known until the
    /// next start has looked.
    #[error("the store has stopped after a failed write ({0}); check the disk, then start again")]
    Failed(String),
    /// The index holds something that we never wrote.
    #[error("the index is damaged ({0}); restore it from a copy")]
    Damaged(String),
}

/// Why a store does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another daemon owns it.
    #[error("{} is in use by another process; only one may run on it", .0.display())]
    Locked(PathBuf),
    /// No index in the folder.
    #[error("{} holds no index; run init first, or correct the path", .0.display())]
    NotInitialised(PathBuf),
    /// An index is there already.
    #[error("{} holds an index already; init never replaces one", .0.display())]
    AlreadyInitialised(PathBuf),
    /// The outbox key does not fit.
    #[error("the outbox key does not fit this outbox; use the key it was made with or its recovery copy")]
    WrongKey,
    /// The index key does not fit.
    #[error("the index key does not fit this outbox; use the key it was made with")]
    WrongIndexKey,
    /// Written by a newer version.
    #[error("the index has format {found}; this version knows up to {known}: install the newer version")]
    TooNew {
        /// The format of the index.
        found: i64,
        /// The newest format that we know.
        known: i64,
    },
    /// Written by an older version, which the daemon has not converted yet.
    #[error(
        "the index has format {found}, this version needs {known}: start the daemon once, it converts it"
    )]
    TooOld {
        /// The format of the index.
        found: i64,
        /// The format that we know.
        known: i64,
    },
    /// The file system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was opened.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// The index cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a key file cannot be made or read.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// There is one already.
    #[error("{} exists already; a key is never replaced", .0.display())]
    Exists(PathBuf),
    /// Others may read it.
    #[error("{} may be read by others (mode {mode:03o}); set it to 600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something else is in it.
    #[error("{} is no {kind} file; restore the recovery copy", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected.
        kind: &'static str,
    },
    /// The file system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
}

/// Why no new instance can be taken. Answered A700.
#[derive(Debug, Error)]
pub enum BeginError {
    /// `bytes_max` is reached.
    #[error("the outbox holds {used} bytes of bytes_max {bytes_max}; wait, or raise the limit")]
    Full {
        /// Sealed bytes held.
        used: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The reserve of the file system is reached.
    #[error("only {free} bytes are free, the reserve is {reserve}; free some space")]
    Reserve {
        /// Free bytes of the file system.
        free: u64,
        /// What must stay free.
        reserve: u64,
    },
    /// The object id is in use: a mistake of the caller.
    #[error("object {0} exists already")]
    Exists(ObjectId),
    /// The file cannot be made.
    #[error("no body file can be made: {0}")]
    Io(#[source] io::Error),
    /// The store has stopped.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a body cannot grow. Answered A700.
#[derive(Debug, Error)]
pub enum AppendError {
    /// Quota, reserve, or ENOSPC.
    #[error("the outbox is full; wait, or raise bytes_max")]
    Full,
    /// The write failed.
    #[error("the body cannot be written: {0}")]
    Io(#[source] io::Error),
}

/// Why an instance was not taken over. Nothing of it is kept, except after `Store(Failed)`, where the
/// next start finds either all of it or nothing.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommitError {
    /// The route refuses other content under a known SOP Instance UID (a Cxxx status of ours).
    #[error("duplicate UID, content differs from delivery {}", earlier.short())]
    ChangedContent {
        /// The delivery with the earlier content.
        earlier: DeliveryId,
    },
    /// A mistake of the caller: the object or the delivery is known, or no delivery was given.
    #[error("object {0} has no delivery or is known already")]
    Object(ObjectId),
    /// The last bytes of its body could not be written. Answered A700.
    #[error("the body cannot be written: {0}")]
    NotWritten(String),
    /// Answered A700.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a delivery did not change.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeliveryError {
    /// No such row.
    #[error("no delivery {0}")]
    Unknown(DeliveryId),
    /// Its state does not allow it.
    #[error("delivery {} is {state}; {remedy}", delivery.short())]
    NotNow {
        /// The delivery.
        delivery: DeliveryId,
        /// The state it is in.
        state: State,
        /// What can be done instead.
        remedy: &'static str,
    },
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a transaction of Storage Commitment was not taken, or did not change.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommitmentError {
    /// The peer has an open transaction under that Transaction UID, for other instances.
    #[error("the Transaction UID is in use for other instances (transaction {})", .0.short())]
    InUse(CommitmentId),
    /// `open_max` transactions of the peer have not ended.
    #[error(
        "open_max = {open_max} transactions of {peer} are open; report them, drop them or raise the limit"
    )]
    TooManyOpen {
        /// The peer.
        peer: AeTitle,
        /// The limit.
        open_max: u32,
    },
    /// The reserve of the file system is for receipts.
    #[error("less than the reserve of the outbox is free; free some space")]
    NoRoom,
    /// No such row.
    #[error("no commitment transaction {0}")]
    Unknown(CommitmentId),
    /// Its state does not allow it.
    #[error("commitment transaction {} is {state}; {remedy}", commitment.short())]
    NotNow {
        /// Which one.
        commitment: CommitmentId,
        /// The state it is in.
        state: CommitmentState,
        /// What can be done instead.
        remedy: &'static str,
    },
    /// Its record does not open.
    #[error("the record of commitment transaction {} does not open; the index is damaged", .0.short())]
    Sealed(CommitmentId),
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a body or its key cannot be had.
#[derive(Debug, Error)]
pub enum BodyError {
    /// Custody of it has ended; its key is erased.
    #[error("object {0} is not held any more")]
    Ended(ObjectId),
    /// No such object.
    #[error("no object {0}")]
    Unknown(ObjectId),
    /// No such delivery.
    #[error("no delivery {0}")]
    NoDelivery(DeliveryId),
    /// A key or record does not open: the row or the key is not what it was.
    #[error("the sealed part of object {0} does not open; the index is damaged")]
    Sealed(ObjectId),
    /// The file cannot be read.
    #[error("the body of object {object} cannot be read: {error}")]
    Io {
        /// Which object.
        object: ObjectId,
        /// Why.
        error: io::Error,
    },
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the receiving side did not record something.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InboundError {
    /// No such row.
    #[error("no delivery {0}")]
    Unknown(DeliveryId),
    /// The destination has answered for good; answer the sender from the ledger instead.
    #[error("delivery {} is settled", .0.short())]
    Settled(DeliveryId),
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
}
