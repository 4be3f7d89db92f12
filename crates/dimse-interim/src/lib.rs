//! DIMSE over TCP.
#![allow(unreachable_pub, dead_code, missing_docs, unused)]

mod acceptor;
mod association;
pub mod command;
mod connection;
mod error;
pub mod framing;
pub mod message;
mod policy;
mod reject;
mod requestor;
mod sop_class;
mod transfer_syntax;

pub use acceptor::{AcceptorConfig, accept};
pub use association::{Association, Context, Incoming, Request, StoreRequest};
pub use connection::Timers;
pub use error::{AcceptError, AssociationError, ConnectError, ProtocolError, StoreError};
pub use policy::{Admission, ContextAnswer, Proposal, ProposedContext, StoragePolicy, Verdict};
pub use reject::{RejectReason, Rejection};
pub use requestor::{Requestor, RequestorConfig, StoreResponse};

/// Ours.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.208372641990713549278165233042869581732";
/// Ours.
pub const IMPLEMENTATION_VERSION_NAME: &str = "SLUIS_0_1";
/// Verification SOP class.
pub fn verification() -> base::Uid { uid(sop_class::VERIFICATION) }
/// Implicit VR Little Endian.
pub fn implicit_little_endian() -> base::Uid { uid(transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN) }
#[expect(clippy::expect_used, reason = "a constant")]
fn uid(text: &str) -> base::Uid { base::Uid::parse(text).expect("a valid UID") }
/// Ours.
pub fn implementation_class_uid() -> base::Uid { uid(IMPLEMENTATION_CLASS_UID) }
