//! A-ASSOCIATE-RJ: result, source, reason (PS3.8 Table 9-21).

use std::fmt;

use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult, AssociationRJServiceProviderASCEReason as Acse,
    AssociationRJServiceProviderPresentationReason as Presentation, AssociationRJServiceUserReason as User,
    AssociationRJSource as Source,
};

/// Why we reject an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// 1/1/1
    NoReasonGiven,
    /// 1/1/2
    ApplicationContextNameNotSupported,
    /// 1/1/3
    CallingAeTitleNotRecognized,
    /// 1/1/7
    CalledAeTitleNotRecognized,
    /// 1/2/2
    ProtocolVersionNotSupported,
    /// 2/3/1
    TemporaryCongestion,
    /// 2/3/2
    LocalLimitExceeded,
}

/// An A-ASSOCIATE-RJ as sent or received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// 1 permanent, 2 transient.
    pub result: u8,
    /// 1 service user, 2 service provider (ACSE), 3 service provider (presentation).
    pub source: u8,
    /// By source.
    pub reason: u8,
}

impl RejectReason {
    /// The three codes.
    pub const fn rejection(self) -> Rejection {
        let (result, source, reason) = match self {
            Self::NoReasonGiven => (1, 1, 1),
            Self::ApplicationContextNameNotSupported => (1, 1, 2),
            Self::CallingAeTitleNotRecognized => (1, 1, 3),
            Self::CalledAeTitleNotRecognized => (1, 1, 7),
            Self::ProtocolVersionNotSupported => (1, 2, 2),
            Self::TemporaryCongestion => (2, 3, 1),
            Self::LocalLimitExceeded => (2, 3, 2),
        };
        Rejection { result, source, reason }
    }

    pub(crate) fn pdu(self) -> AssociationRJ {
        let source = match self {
            Self::NoReasonGiven => Source::ServiceUser(User::NoReasonGiven),
            Self::ApplicationContextNameNotSupported => {
                Source::ServiceUser(User::ApplicationContextNameNotSupported)
            }
            Self::CallingAeTitleNotRecognized => Source::ServiceUser(User::CallingAETitleNotRecognized),
            Self::CalledAeTitleNotRecognized => Source::ServiceUser(User::CalledAETitleNotRecognized),
            Self::ProtocolVersionNotSupported => Source::ServiceProviderASCE(Acse::ProtocolVersionNotSupported),
            Self::TemporaryCongestion => Source::ServiceProviderPresentation(Presentation::TemporaryCongestion),
            Self::LocalLimitExceeded => Source::ServiceProviderPresentation(Presentation::LocalLimitExceeded),
        };
        let result = match self.rejection().result {
            2 => AssociationRJResult::Transient,
            _ => AssociationRJResult::Permanent,
        };
        AssociationRJ { result, source }
    }
}

impl Rejection {
    /// From the four bytes after the PDU header: reserved, result, source, reason. Read by hand, so that
    /// no code that a peer makes up is lost.
    pub(crate) fn of_body(body: &[u8]) -> Option<Self> {
        let [_, result, source, reason] = *body.first_chunk::<4>()?;
        Some(Self { result, source, reason })
    }

    /// Somebody has to change a configuration.
    pub fn is_permanent(&self) -> bool {
        self.result != 2
    }

    /// PS3.8 Table 9-21.
    pub fn source_code(&self) -> u8 {
        self.source
    }

    /// PS3.8 Table 9-21.
    pub fn reason_code(&self) -> u8 {
        self.reason
    }

    fn text(&self) -> &'static str {
        match (self.source, self.reason) {
            (1, 1) => "no reason given",
            (1, 2) => "application context name not supported",
            (1, 3) => "calling AE title not recognized",
            (1, 7) => "called AE title not recognized",
            (2, 1) => "no reason given by the service provider",
            (2, 2) => "protocol version not supported",
            (3, 1) => "temporary congestion",
            (3, 2) => "local limit exceeded",
            _ => "a reason that PS3.8 does not list",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.is_permanent() { "permanently" } else { "transiently" };
        write!(f, "{result}, {} ({}/{}/{})", self.text(), self.result, self.source, self.reason)
    }
}
