use thiserror::Error;

use crate::command::CommandError;

/// What a peer did against PS3.8 or PS3.7. Whoever finds it ends the association with an A-ABORT.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// A PDU type that does not exist: the first bytes of something else, mostly.
    #[error("PDU type 0x{0:02X} does not exist; does the peer speak DICOM, and without TLS?")]
    UnknownPdu(u8),
    /// A PDU type that may not come now.
    #[error("PDU type 0x{0:02X} is out of place")]
    UnexpectedPdu(u8),
    /// A PDU beyond its limit.
    #[error("PDU of type 0x{pdu_type:02X} has {length} bytes; at most {max} are accepted")]
    PduTooLong {
        /// PDU type.
        pdu_type: u8,
        /// Its length field.
        length: u32,
        /// What we announced, or the limit of its type.
        max: u32,
    },
    /// A PDU too short for what it must hold.
    #[error("PDU of type 0x{pdu_type:02X} has only {length} bytes")]
    PduTooShort {
        /// PDU type.
        pdu_type: u8,
        /// Its length field.
        length: u32,
    },
    /// A PDV that does not fit its PDU, or has no room for its own header.
    #[error("PDV length {length} does not fit: {left} bytes are left in the PDU")]
    PdvLength {
        /// The PDV's length field.
        length: u32,
        /// Bytes of the PDU after that field.
        left: u32,
    },
    /// An A-ASSOCIATE-RQ or -AC that cannot be read.
    #[error("association negotiation cannot be read: {0}")]
    Associate(&'static str),
    /// The peer's maximum PDU length is too small to work with.
    #[error("peer announces a maximum PDU length of {0} bytes; at least 128 are needed")]
    PeerMaxPdu(u32),
    /// A PDV for a presentation context that was not accepted.
    #[error("presentation context {0} was not accepted")]
    UnknownContext(u8),
    /// Two presentation contexts within one message.
    #[error("presentation context changes from {from} to {to} within a message")]
    ContextChanged {
        /// The context the message started in.
        from: u8,
        /// The context of the next PDV.
        to: u8,
    },
    /// A command set beyond its limit.
    #[error("command set exceeds {} bytes", crate::limits::COMMAND_BYTES_MAX)]
    CommandTooLong,
    /// A command set that cannot be read.
    #[error("command set cannot be read: {0}")]
    Command(#[from] CommandError),
    /// More, or longer, N-EVENT-REPORTs than a requestor keeps.
    #[error(
        "N-EVENT-REPORTs exceed {} of {} bytes",
        crate::limits::EVENT_REPORTS_MAX,
        crate::limits::EVENT_REPORT_BYTES_MAX
    )]
    EventReports,
    /// A data set fragment without a command that announced it.
    #[error("data set without a command that announces it")]
    DataUnexpected,
    /// A command where the data set of the one before was due.
    #[error("command announces a data set that never came")]
    DataMissing,
    /// A response that does not answer what was asked.
    #[error("response is not the one that was waited for: {0}")]
    Response(&'static str),
}

/// Reason of an A-ABORT by the service provider (PS3.8 §9.3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortReason {
    /// 0
    NotSpecified,
    /// 1
    UnrecognizedPdu,
    /// 2
    UnexpectedPdu,
    /// 6
    InvalidPduParameter,
}

impl Violation {
    /// What the A-ABORT says of it.
    pub fn abort_reason(&self) -> AbortReason {
        match self {
            Self::UnknownPdu(_) => AbortReason::UnrecognizedPdu,
            Self::UnexpectedPdu(_) | Self::DataUnexpected | Self::DataMissing | Self::Response(_) => {
                AbortReason::UnexpectedPdu
            }
            _ => AbortReason::InvalidPduParameter,
        }
    }
}

impl AbortReason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 4] =
        [Self::NotSpecified, Self::UnrecognizedPdu, Self::UnexpectedPdu, Self::InvalidPduParameter];

    /// The standard's words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NotSpecified => "reason-not-specified",
            Self::UnrecognizedPdu => "unrecognized-PDU",
            Self::UnexpectedPdu => "unexpected-PDU",
            Self::InvalidPduParameter => "invalid-PDU-parameter value",
        }
    }

    /// What leads to it: [`Violation::abort_reason`] in words, and time-outs.
    pub fn when(self) -> &'static str {
        match self {
            Self::NotSpecified => "a time-out: handshake, idle association, or progress within a message",
            Self::UnrecognizedPdu => "a PDU type that does not exist, as where the peer does not speak DICOM",
            Self::UnexpectedPdu => {
                "a PDU, command or data set out of its turn; a release in the middle of a message"
            }
            Self::InvalidPduParameter => {
                "a PDU, PDV or command set that is longer than allowed or cannot be read; a PDV for a context that \
                 was not accepted"
            }
        }
    }

    /// The code of the reason field.
    pub fn code(self) -> u8 {
        match self {
            Self::NotSpecified => 0,
            Self::UnrecognizedPdu => 1,
            Self::UnexpectedPdu => 2,
            Self::InvalidPduParameter => 6,
        }
    }
}
