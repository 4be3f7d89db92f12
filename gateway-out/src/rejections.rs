//! Who is turned away at the DICOM port, by which A-ASSOCIATE-RJ, and why. The Conformance Statement has the same rows.

use dimse::RejectReason;

use crate::routes::Refusal;

/// Why an association is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// No route has the called AE title.
    Called,
    /// No route with it lists the calling AE title.
    Calling,
    /// No route with it lists the source address.
    Source,
    /// There are too many associations.
    Crowded,
    /// The outbox takes nothing more.
    OutboxFull,
}

impl TurnedAway {
    /// Every one, for tables and tests.
    pub const ALL: [Self; 5] = [Self::Called, Self::Calling, Self::Source, Self::Crowded, Self::OutboxFull];

    /// The answer.
    pub fn reason(self) -> RejectReason {
        match self {
            Self::Called => RejectReason::CalledAeTitleNotRecognized,
            // PS3.8 Table 9-21 has no closer reason for an address; the log tells them apart.
            Self::Calling | Self::Source => RejectReason::CallingAeTitleNotRecognized,
            Self::Crowded | Self::OutboxFull => RejectReason::LocalLimitExceeded,
        }
    }

    /// What leads to it.
    pub fn when(self) -> &'static str {
        match self {
            Self::Called => "no `[[route]]` has the called AE title; upper and lower case differ",
            Self::Calling => "the route lists calling AE titles, and this one is not among them",
            Self::Source => "the source address is in none of the route's networks",
            Self::Crowded => "as many associations are open as are allowed, in all or from this address",
            Self::OutboxFull => {
                "the outbox is above its watermark: running associations may end, new ones have to wait"
            }
        }
    }
}

impl From<Refusal> for TurnedAway {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Called => Self::Called,
            Refusal::Calling => Self::Calling,
            Refusal::Source => Self::Source,
        }
    }
}
