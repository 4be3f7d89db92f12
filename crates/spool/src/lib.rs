//! Durable state of both gateways: the outbox that owns an instance between 0000H and its receipt
//! ([`Outbox`]), and the settled ledger of the receiving side ([`Inbound`]).
//!
//! What it does: sealed bodies as files, one row per delivery for ever, group commit across callers,
//! the order of durable writes of CUSTODY, and the decisions that must be taken inside a transaction
//! (repeats, back-off, when custody ends).
//!
//! What it does not do: no network, no DICOM, no clock (`now` is an argument), and no cryptography
//! beyond wrapping content keys and hashing identifiers. It never sees a body in clear.
//!
//! Read first: [`Outbox`], [`Delivery`], [`Inbound`]. The order of writes is in `outbox/intake.rs`
//! (receiving) and `outbox/deliver.rs` (receipts); the rules for repeats are in `outbox/place.rs`.

mod body;
mod commitment;
mod db;
mod disk;
mod error;
mod faults;
mod inbound;
mod keys;
mod log;
mod outbox;
mod pseudonyms;
mod record;
mod retry;
mod row;
#[cfg(test)]
mod tests;

pub use body::{BodyFile, BodyReader};
pub use commitment::{
    Asked, Commitment, CommitmentCounts, CommitmentReport, CommitmentState, Cursors, Decided, Means, Named,
    NewCommitment, SopReference, Verdict, Watched,
};
pub use disk::Usage;
pub use error::{
    AppendError, BeginError, BodyError, CommitError, CommitmentError, DeliveryError, InboundError,
    KeyFileError, OpenError, StoreError,
};
pub use inbound::{
    Answer, Arrival, Asked as AskedInstance, DecidedPledge, Gathering, Inbound, InboundCounts, InboundRow,
    InboundState, LedgerKey, NewPledge, Pledge, PledgeState, PledgedInstance, Question, QuestionState, Sent,
    Signature, SignedPledge, Told, UnsignedAnswer,
};
pub use keys::{IndexKey, OutboxKey};
pub use log::NewLogProof;
pub use outbox::{
    Applied, ChangedContent, Committed, Decision, Deferral, Loss, NewDelivery, NewObject, NewReceipt,
    NewUnspooled, Outbox, OutboxConfig, Placed, Progress, Queue, SealedFacts, Settled, Step,
    UnspooledDecision,
};
pub use pseudonyms::{Deed, DeedCount, NewRefusal, Refused, RefusedIds, StudyDeeds};
pub use record::InstanceRecord;
pub use retry::RetryPolicy;
pub use row::{
    Act, Alarmed, Count, Delivery, Event, EventKind, Filter, Found, FoundBy, Oldest, Operator, Outcome,
    Receipt, ReceiptId, State,
};
