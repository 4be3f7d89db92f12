//! DICOM's upper layer and DIMSE messages: our own acceptor and requestor, on dicom-ul's PDU codec.
//!
//! Data sets stream through in both directions, byte for byte: [`Association::data`] hands out fragments as
//! they come, [`Requestor::store_data`] cuts them into PDUs and holds the last one back until
//! [`Requestor::store_finish`]. The protocol itself is in values without a socket: [`framing`] (bytes to
//! PDUs and PDVs), [`message`] (PDVs to messages), [`command`] (command sets).
//!
//! What it does not do: no data set of an instance is parsed, changed or kept; no policy beyond [`StoragePolicy`],
//! [`Mirror`] and [`IdentityPolicy`] (who may associate, and on what [`Terms`], is [`Admission`]'s answer); no listener,
//! no limit on associations, no file, no log of patient data. Query and retrieval come in as [`OtherRequest`] and are
//! the caller's to refuse.
//!
//! # Storage commitment
//!
//! As SCP: accept a context of [`STORAGE_COMMITMENT`]; a request comes as [`Incoming::Other`] of which
//! [`OtherRequest::normalized`] makes an [`ActionRequest`]; read its data set with [`Association::data`], answer with
//! [`Association::respond_action`]. Report later on the same association with [`Association::report_event`] (the answer
//! comes from [`Association::receive`], as [`Normalized::Response`]), or on a new one: a [`RequestorConfig`] with a
//! context of [`STORAGE_COMMITMENT`] and [`commitment_reporter_role`], then [`Requestor::report_event`].
//! As SCU: [`Requestor::action`], then [`Requestor::next_event_report`] on the same association; or, where the peer
//! opens one of its own, an acceptor whose [`Terms::scp_roles`] has [`STORAGE_COMMITMENT`].
//!
//! # TLS
//!
//! [`Credentials::read`] once, at start; then [`TlsAcceptor::new`] and [`accept_tls`] in place of [`accept`], and
//! [`TlsConnector::new`] and [`Requestor::connect_tls`] in place of [`Requestor::connect`]. All else is the same.
//! Certificates are required on both sides. To take new ones, read them again and use the new values from then on.
//! [`PeerTls`] and [`ListenTls`] are the tables in which an operator names the files; a [`Dialer`] calls with TLS or without.
//!
//! [`Dialer::stream`] gives the bare connection, for a DICOM web service.
//!
//! # Probing
//!
//! A requestor proposes each (SOP class, transfer syntax) in a presentation context of its own, and
//! [`Requestor::results`] says what the peer answered to each: only [`ContextAnswer::Rejected`] means that it does not
//! take it. [`Mirror`] decides by such a table about what a PACS proposes.
//!
//! Read first: [`Association`], [`Requestor`], [`message::Assembler`].

mod acceptor;
mod admission;
mod associate;
pub mod command;
mod describe;
mod dialer;
mod failure;
mod fragment;
pub mod framing;
pub mod limits;
mod link;
pub mod message;
mod mirror;
mod normalized;
mod onlooker;
mod refusals;
mod requestor;
mod sop_class;
mod statuses;
mod stream;
#[cfg(test)]
mod timing;
mod tls;
mod tracer;
mod transfer_syntax;
mod user_information;
mod violation;

use base::Uid;

pub use acceptor::{
    AcceptorConfig, Association, EchoRequest, Incoming, OtherRequest, StoreRequest, Timers, accept,
    accept_tls,
};
pub use admission::{
    AcceptedContext, Admission, ContextAnswer, ContextChoice, ContextDecision, ContextRejection,
    ContextResult, Implementation, Proposal, ProposedContext, RejectReason, Rejection, RoleSelection,
    StoragePolicy, Terms, Verdict,
};
pub use associate::APPLICATION_CONTEXT;
pub use dialer::{Dialer, Doorkeeper, ListenTls, PeerTls, TlsRefused};
pub use failure::{
    AcceptError, AssociationError, ConnectError, EchoError, NormalizedError, StoreError, TimedOut,
};
pub use mirror::Mirror;
pub use normalized::{
    ActionRequest, EventReport, EventReportRequest, Normalized, NormalizedResponse, STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE, commitment_reporter_role,
};
pub use onlooker::{Onlooker, Seen, Way};
pub use refusals::{CONTEXT_REJECTIONS, UnreadableRequest, UnusableStore};
pub use requestor::{Requestor, RequestorConfig, StoreResponse, Watching};
pub use sop_class::{NOT_STORAGE_SOP_CLASSES, STORAGE_SOP_CLASSES, SopClass, SopClassKind, VERIFICATION};
pub use statuses::{FailureReason, Retry, STATUSES, Service, StatusRow, retry, status_row};
pub use stream::Stream;
pub use tls::{
    Credentials, PeerName, TLS_PORT, TlsAcceptor, TlsConnector, TlsError, TlsFailure, TlsFiles, cipher_suites,
};
pub use tracer::{Passed, Tracer};
pub use transfer_syntax::{
    EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, PLAIN_TRANSFER_SYNTAXES, TRANSFER_SYNTAXES,
    TransferSyntax, TransferSyntaxKind, choose_transfer_syntax, transfer_syntax,
};
pub use user_information::{
    AsyncWindow, CommonExtendedNegotiation, ExtendedNegotiation, IdentityPolicy, STORAGE_SERVICE_CLASS,
    StorageLevel, StorageSupport, UserIdentity, UserIdentityKind,
};
pub use violation::{AbortReason, Violation};

/// Our Implementation Class UID (PS3.7 §D.3.3.2): 2.25 and a UUID of our own, drawn once (PS3.5 §B.2).
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.32085776957104245953969386488247599661";
/// Our Implementation Version Name: at most 16 characters.
pub const IMPLEMENTATION_VERSION_NAME: &str = "SLUIS_0_1";

/// [`IMPLEMENTATION_CLASS_UID`] as a [`Uid`].
pub fn implementation_class_uid() -> Uid {
    constant(IMPLEMENTATION_CLASS_UID)
}

/// [`VERIFICATION`] as a [`Uid`].
pub fn verification() -> Uid {
    constant(VERIFICATION)
}

/// [`IMPLICIT_VR_LITTLE_ENDIAN`] as a [`Uid`].
pub fn implicit_little_endian() -> Uid {
    constant(IMPLICIT_VR_LITTLE_ENDIAN)
}

/// [`STORAGE_COMMITMENT`] as a [`Uid`].
pub fn storage_commitment() -> Uid {
    constant(STORAGE_COMMITMENT)
}

/// [`STORAGE_COMMITMENT_INSTANCE`] as a [`Uid`].
pub fn storage_commitment_instance() -> Uid {
    constant(STORAGE_COMMITMENT_INSTANCE)
}

fn constant(uid: &str) -> Uid {
    #[expect(clippy::expect_used, reason = "constants of this crate, each parsed by a test")]
    Uid::parse(uid).expect("a UID of our own is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_constants_are_valid() {
        assert_eq!(implementation_class_uid().as_str(), IMPLEMENTATION_CLASS_UID);
        assert_eq!(verification().as_str(), VERIFICATION);
        assert_eq!(storage_commitment().as_str(), STORAGE_COMMITMENT);
        assert_eq!(storage_commitment_instance().as_str(), STORAGE_COMMITMENT_INSTANCE);
        assert_eq!(implicit_little_endian().as_str(), IMPLICIT_VR_LITTLE_ENDIAN);
        assert!(IMPLEMENTATION_VERSION_NAME.len() <= 16);
        let uuid: u128 = IMPLEMENTATION_CLASS_UID.strip_prefix("2.25.").unwrap().parse().unwrap();
        assert_eq!((uuid >> 76) & 0xf, 4, "a UUID of version 4");
    }
}
