//! What this crate refuses by itself, without asking a caller, and what leads to it.

use base::Status;

use crate::admission::{ContextRejection, RejectReason};

/// An A-ASSOCIATE-RQ that is rejected before anybody is asked about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadableRequest {
    /// Not version 1.
    ProtocolVersion,
    /// Another application context than DICOM's, or none.
    ApplicationContext,
    /// The called AE title is none.
    CalledTitle,
    /// The calling AE title is none.
    CallingTitle,
}

impl UnreadableRequest {
    /// Every one, for tables and tests.
    pub const ALL: [Self; 4] =
        [Self::ProtocolVersion, Self::ApplicationContext, Self::CalledTitle, Self::CallingTitle];

    /// The answer.
    pub fn reason(self) -> RejectReason {
        match self {
            Self::ProtocolVersion => RejectReason::ProtocolVersionNotSupported,
            Self::ApplicationContext => RejectReason::ApplicationContextNotSupported,
            Self::CalledTitle => RejectReason::CalledAeTitleNotRecognized,
            Self::CallingTitle => RejectReason::CallingAeTitleNotRecognized,
        }
    }

    /// What leads to it.
    pub fn when(self) -> &'static str {
        match self {
            Self::ProtocolVersion => "bit 0 of the protocol version is not set",
            Self::ApplicationContext => "no application context name, or not that of DICOM",
            Self::CalledTitle => {
                "the called AE title is empty or holds a character that no AE title may hold"
            }
            Self::CallingTitle => {
                "the calling AE title is empty or holds a character that no AE title may hold"
            }
        }
    }
}

/// A C-STORE-RQ that names nothing which could be stored. It is answered before its data set is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnusableStore {
    /// No SOP Instance UID, or none that is a UID.
    SopInstance,
    /// No SOP Class UID, or a context that is not for storage.
    SopClass,
}

impl UnusableStore {
    /// Every one, for tables and tests.
    pub const ALL: [Self; 2] = [Self::SopInstance, Self::SopClass];

    /// The answer (PS3.7 §C.4.7 and §C.5).
    pub fn status(self) -> Status {
        match self {
            Self::SopInstance => Status(0x0117),
            Self::SopClass => Status::SOP_CLASS_NOT_SUPPORTED,
        }
    }

    /// Error Comment (0000,0902).
    pub fn comment(self) -> &'static str {
        match self {
            Self::SopInstance => "no valid SOP instance UID",
            Self::SopClass => "SOP class is not of this context",
        }
    }

    /// What leads to it.
    pub fn when(self) -> &'static str {
        match self {
            Self::SopInstance => "the command has no Affected SOP Instance UID, or one that is not a UID",
            Self::SopClass => {
                "the command has no Affected SOP Class UID, or came in a context of Verification"
            }
        }
    }
}

/// Results of presentation contexts that nobody is asked about, or for which a [`StoragePolicy`](crate::StoragePolicy)
/// has one reason only.
pub const CONTEXT_REJECTIONS: &[(ContextRejection, &str)] = &[
    (ContextRejection::NoReason, "presentation context id 0, or one that was proposed twice"),
    (ContextRejection::AbstractSyntaxNotSupported, "a SOP class that is not accepted, or is not a UID"),
    (ContextRejection::TransferSyntaxesNotSupported, "no transfer syntax that is a UID"),
];

impl ContextRejection {
    /// Result/Reason (PS3.8 Table 9-18).
    pub fn code(self) -> u8 {
        match self {
            Self::UserRejection => 1,
            Self::NoReason => 2,
            Self::AbstractSyntaxNotSupported => 3,
            Self::TransferSyntaxesNotSupported => 4,
        }
    }

    /// The standard's words for it.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::UserRejection => "user-rejection",
            Self::NoReason => "no-reason (provider rejection)",
            Self::AbstractSyntaxNotSupported => "abstract-syntax-not-supported (provider rejection)",
            Self::TransferSyntaxesNotSupported => "transfer-syntaxes-not-supported (provider rejection)",
        }
    }
}
