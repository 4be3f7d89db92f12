use std::fmt;

use minicbor::{Decode, Encode};

/// What a gateway wants of the relay on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Role {
    /// Deposits.
    #[n(0)]
    Sender,
    /// Collects.
    #[n(1)]
    Recipient,
}

/// Why the relay does not take an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum DeclineCode {
    /// The sender may not deposit for that recipient. An operator of the relay must act.
    #[n(0)]
    NotAdmitted,
    /// The relay knows no such recipient. An operator of the relay must act.
    #[n(1)]
    UnknownRecipient,
    /// A higher attempt of the same delivery is here: this one is out of date.
    #[n(2)]
    LowerAttempt,
    /// The same attempt is being deposited at this moment.
    #[n(3)]
    Running,
    /// The same attempt is here with another body digest.
    #[n(4)]
    OtherBody,
    /// Too many offers wait already; offer again later.
    #[n(5)]
    Busy,
    /// The offer itself breaks a limit of the protocol (header too long, transfer id in use).
    #[n(6)]
    Malformed,
    /// Taken at first, then given up: cancelled, expired, gone or replaced. A notice says which.
    #[n(7)]
    Ended,
}

impl fmt::Display for DeclineCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAdmitted => "not admitted for that recipient",
            Self::UnknownRecipient => "unknown recipient",
            Self::LowerAttempt => "a higher attempt is here",
            Self::Running => "the same attempt is being deposited",
            Self::OtherBody => "the same attempt is here with another body",
            Self::Busy => "too many offers wait",
            Self::Malformed => "malformed offer",
            Self::Ended => "given up by the relay",
        })
    }
}

/// Why a question has no answer, as far as the relay knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum UnansweredCode {
    /// The sender may not deposit for that recipient, and so it may not ask it.
    #[n(0)]
    NotAdmitted,
    /// The recipient is not connected to this relay.
    #[n(1)]
    Away,
    /// Questions come too fast, or one of the same route is open.
    #[n(2)]
    Busy,
    /// The recipient gave no answer in time.
    #[n(3)]
    Expired,
    /// The question itself breaks a limit of the protocol (too long, id in use).
    #[n(4)]
    Malformed,
}

impl fmt::Display for UnansweredCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAdmitted => "the relay does not admit us for that receiver",
            Self::Away => "the receiving gateway is not connected to the relay",
            Self::Busy => "questions come too fast for the relay",
            Self::Expired => "the receiving gateway gave no answer in time",
            Self::Malformed => "the relay refuses the question as malformed",
        })
    }
}

/// Where a delivery stands at the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum RelayState {
    /// Held, not yet taken by its recipient.
    #[n(0)]
    Relayed,
    /// The recipient has all bytes of it.
    #[n(1)]
    Collected,
    /// The recipient has settled it; the settlement is on its way.
    #[n(2)]
    Settled,
}

/// Why the relay no longer has what was deposited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum NoticeKind {
    /// Nobody collected it within its time to live.
    #[n(0)]
    Expired,
    /// It ran in pass-through and its recipient went away in the middle.
    #[n(1)]
    Gone,
    /// The relay does not let its sender deposit for its recipient any more.
    #[n(2)]
    NotAdmitted,
}

/// Why a connection is closed (the code of a QUIC CONNECTION_CLOSE, or a `Bye` greeting).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum CloseCode {
    /// The process stops; try again.
    #[n(0)]
    Stopping,
    /// The same peer opened a newer connection.
    #[n(1)]
    Replaced,
    /// The peer broke the protocol.
    #[n(2)]
    Violation,
    /// The peer does not read its control stream.
    #[n(3)]
    TooSlow,
    /// Another protocol version.
    #[n(4)]
    Version,
    /// The peer may not have that role here.
    #[n(5)]
    NotAdmitted,
    /// An operator of the relay has revoked the peer.
    #[n(6)]
    Revoked,
    /// The relay has another card of the peer than the one that this connection was opened with.
    #[n(7)]
    Changed,
}

impl CloseCode {
    /// The code with this QUIC application error code.
    pub fn from_code(code: u64) -> Option<Self> {
        let all = [
            Self::Stopping,
            Self::Replaced,
            Self::Violation,
            Self::TooSlow,
            Self::Version,
            Self::NotAdmitted,
            Self::Revoked,
            Self::Changed,
        ];
        all.into_iter().find(|known| u64::from(known.code()) == code)
    }

    /// The QUIC application error code.
    pub fn code(self) -> u32 {
        match self {
            Self::Stopping => 0,
            Self::Replaced => 1,
            Self::Violation => 2,
            Self::TooSlow => 3,
            Self::Version => 4,
            Self::NotAdmitted => 5,
            Self::Revoked => 6,
            Self::Changed => 7,
        }
    }

    /// A short text for the peer's log.
    pub fn text(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Replaced => "replaced by a newer connection of the same peer",
            Self::Violation => "protocol violation",
            Self::TooSlow => "control stream not read",
            Self::Version => "protocol version not supported",
            Self::NotAdmitted => "role not admitted",
            Self::Revoked => "revoked: the relay does not admit this gateway any more",
            Self::Changed => "the relay has another card of this gateway",
        }
    }
}

/// The application error code of RESET_STREAM and STOP_SENDING on a body stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamCode {
    /// The body ends before its end, and is worth nothing.
    Abandoned,
    /// Nobody wants the rest.
    Unwanted,
    /// The peer broke the protocol on this stream.
    Violation,
}

impl StreamCode {
    /// The QUIC application error code.
    pub fn code(self) -> u32 {
        match self {
            Self::Abandoned => 16,
            Self::Unwanted => 17,
            Self::Violation => 18,
        }
    }
}
