//! Why an association did not come about or cannot go on, sorted by what the caller has to know.

use std::{io, time::Duration};

use base::Uid;
use thiserror::Error;

use crate::{
    Violation,
    admission::{RejectReason, Rejection},
    tls::TlsFailure,
};

/// Why a running association cannot go on.
#[derive(Debug, Error)]
pub enum AssociationError {
    /// The peer broke the protocol; it was sent an A-ABORT.
    #[error("peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The peer sent an A-ABORT.
    #[error("peer aborted the association (source {origin}, reason {reason})")]
    Aborted {
        /// 0 service user, 2 service provider.
        origin: u8,
        /// Meaningful for the service provider only.
        reason: u8,
    },
    /// The peer sent an A-RELEASE-RQ while a message was not complete; it was sent an A-ABORT.
    #[error("peer released the association in the middle of a message")]
    ReleasedInMessage,
    /// The peer closed the connection without a release.
    #[error("peer closed the connection without a release")]
    Closed,
    /// The peer was too slow; it was sent an A-ABORT.
    #[error("{0}")]
    TimedOut(#[from] TimedOut),
    /// The connection failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// The association has ended before, by an error, an abort or a call that was cancelled half-way.
    #[error("association has ended already")]
    Ended,
}

/// Which timer ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TimedOut {
    /// No message came.
    #[error("no message within {0:?} (idle time-out)")]
    Idle(Duration),
    /// A PDU, or a command set, did not become complete.
    #[error("message did not progress within {0:?} (progress time-out)")]
    Progress(Duration),
    /// The peer took nothing of what we write.
    #[error("peer took no bytes within {0:?} (write time-out)")]
    Write(Duration),
    /// No answer came.
    #[error("no answer within {0:?} (response time-out)")]
    Response(Duration),
}

/// Why no association came about.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// It was rejected, by the caller's decision or for a fault of the request.
    #[error("association rejected: {}", .0.rejection())]
    Rejected(RejectReason),
    /// The handshake took too long.
    #[error("no association within {0:?} (handshake time-out)")]
    TimedOut(Duration),
    /// No TLS: there is no DICOM in what it was answered.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The peer broke the protocol, aborted or went away.
    #[error(transparent)]
    Failed(#[from] AssociationError),
}

/// Why there is no association.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The peer rejected it.
    #[error("association rejected: {0}")]
    Rejected(Rejection),
    /// No TCP connection.
    #[error("no connection: {0}")]
    Unreachable(io::Error),
    /// No TLS: a certificate on either side, or a peer without TLS.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// Neither connection nor answer came in time.
    #[error("no association within {0:?} (connect time-out)")]
    TimedOut(Duration),
    /// The peer aborted, closed or broke the protocol instead of answering.
    #[error("association negotiation failed: {0}")]
    Failed(#[from] AssociationError),
    /// Nothing, or too much, was to be proposed.
    #[error("{0} presentation contexts to propose; give 1 to 128")]
    Contexts(usize),
}

/// Why an instance was not stored, or perhaps was.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The peer did not accept a presentation context for this SOP class and transfer syntax. Nothing was
    /// sent; the association is good for others.
    #[error(
        "no accepted presentation context for SOP class {sop_class} in transfer syntax {transfer_syntax}"
    )]
    NotAccepted {
        /// SOP class.
        sop_class: Uid,
        /// Transfer syntax.
        transfer_syntax: Uid,
    },
    /// The data set has no bytes. Nothing was sent; the association is good for others.
    #[error("data set is empty; nothing was sent")]
    Empty,
    /// No store is running, or another one is: a fault of the caller.
    #[error("{0} was called out of order")]
    OutOfOrder(&'static str),
    /// It failed before the last byte of the data set had left, so that the peer cannot have stored it. The
    /// association is over.
    #[error("failed before the data set was complete: {0}")]
    BeforeLast(#[source] AssociationError),
    /// It failed after the last byte had left: the peer may have stored the instance, or not. The
    /// association is over.
    #[error("outcome unknown, the data set was sent whole: {0}")]
    OutcomeUnknown(#[source] AssociationError),
}

impl StoreError {
    /// The peer cannot have stored the instance.
    pub fn is_before_last(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown(_))
    }
}

/// Why a C-ECHO has no answer.
#[derive(Debug, Error)]
pub enum EchoError {
    /// The peer did not accept a presentation context for verification.
    #[error("no accepted presentation context for verification")]
    NotAccepted,
    /// A C-STORE is under way: a fault of the caller.
    #[error("echo was called while a store is running")]
    OutOfOrder,
    /// The association failed and is over.
    #[error(transparent)]
    Failed(#[from] AssociationError),
}

/// Why an N-ACTION or N-EVENT-REPORT has no answer.
#[derive(Debug, Error)]
pub enum NormalizedError {
    /// The peer did not accept a presentation context for this SOP class. Nothing was sent.
    #[error("no accepted presentation context for SOP class {0}")]
    NotAccepted(Uid),
    /// A C-STORE is under way: a fault of the caller.
    #[error("a request was made while a store is running")]
    OutOfOrder,
    /// The association failed and is over. Whether the peer has acted on the request is unknown.
    #[error(transparent)]
    Failed(#[from] AssociationError),
}
