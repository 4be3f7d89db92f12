//! What can go wrong, sorted by who must act.

use std::{io, time::Duration};

use thiserror::Error;

use crate::{
    framing::FramingError,
    message::MessageError,
    reject::Rejection,
};

/// Why no association came about on the accepting side. In each case the peer has been told, where the
/// protocol has a way to tell it.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// Our decision.
    #[error("rejected: {0}")]
    Rejected(Rejection),
    /// The peer did not finish the handshake in time.
    #[error("no association within {0:?}")]
    TimedOut(Duration),
    /// What came is no A-ASSOCIATE-RQ.
    #[error("not an association request: {0}")]
    Protocol(#[from] ProtocolError),
    /// The connection broke.
    #[error("connection lost during the handshake: {0}")]
    Io(#[from] io::Error),
}

/// Why a running association ended without a release.
#[derive(Debug, Error)]
pub enum AssociationError {
    /// A-ABORT from the peer.
    #[error("the peer aborted (source {source_code}, reason {reason})")]
    Aborted {
        /// PS3.8 Table 9-26.
        source_code: u8,
        /// PS3.8 Table 9-26.
        reason: u8,
    },
    /// The peer closed the connection, or asked for release, in the middle of a message.
    #[error("the peer went away in the middle of a message")]
    Unfinished,
    /// The peer closed the connection without a release.
    #[error("the peer closed the connection without a release")]
    Closed,
    /// No message for this long.
    #[error("idle for {0:?}")]
    Idle(Duration),
    /// A PDU did not come to its end in time.
    #[error("no progress within {0:?}")]
    Stalled(Duration),
    /// The peer does not follow the protocol; we have aborted.
    #[error("protocol violation: {0}")]
    Protocol(#[from] ProtocolError),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
}

/// How a peer broke PS3.7 or PS3.8.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// The PDU stream.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The messages in it.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A PDU that cannot come now.
    #[error("a PDU of type {0:02X}H cannot come now")]
    UnexpectedPdu(u8),
    /// A PDU whose fields cannot be read.
    #[error("a PDU of type {pdu_type:02X}H cannot be read: {reason}")]
    Unreadable {
        /// PS3.8 §9.3.
        pdu_type: u8,
        /// The codec's words.
        reason: String,
    },
}

/// Why a requestor has no association.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// Nothing within the time allowed.
    #[error("no association within {0:?}")]
    TimedOut(Duration),
    /// A-ASSOCIATE-RJ.
    #[error("the peer rejected the association: {0}")]
    Rejected(Rejection),
    /// A-ABORT instead of an answer.
    #[error("the peer aborted during the handshake")]
    Aborted,
    /// Too many contexts were asked for, or none.
    #[error("{0} presentation contexts; an association has 1 to 128")]
    Contexts(usize),
    /// The answer is not one.
    #[error("the peer's answer breaks the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The connection broke.
    #[error("connection lost during the handshake: {0}")]
    Io(#[from] io::Error),
}

/// Why an operation of a requestor has no answer. After any of these the association is of no use.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It happened before the last fragment had been given to the connection: the peer cannot have the
    /// whole data set.
    #[error("ended before the instance was sent: {0}")]
    BeforeLast(#[source] AssociationError),
    /// It happened after that: the peer may have stored the instance.
    #[error("no answer after the instance was sent: {0}")]
    Unknown(#[source] AssociationError),
    /// No accepted presentation context for this class and syntax; nothing was sent.
    #[error("no accepted presentation context for SOP class {sop_class} with transfer syntax {transfer_syntax}")]
    NoContext {
        /// Affected SOP Class UID.
        sop_class: base::Uid,
        /// Transfer syntax.
        transfer_syntax: base::Uid,
    },
    /// The calls came in another order than begin, data, finish.
    #[error("no store has begun")]
    NotBegun,
}

impl StoreError {
    /// Whether the peer certainly does not have the instance.
    pub fn is_before_last(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}
