use thiserror::Error;

/// Why a receiver does not take a header. The codes travel in nacks and never change; whoever gets one
/// addresses the same body again, with back-off.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HeaderError {
    // The sender addresses the body again, in a new session: nothing is wrong.
    /// The header names a session by its opening's digest, and the receiver does not know it.
    #[error("unknown session: the receiver was restarted or has dropped it")]
    UnknownSession = 3,
    /// The session was opened to a prekey that the receiver does not have.
    #[error("unknown prekey: the receiver was restarted or has destroyed it")]
    UnknownPrekey = 4,
    /// Another session has taken the one-time prekey.
    #[error("prekey already used by another session")]
    PrekeyUsed = 5,
    /// The prekey or the session has reached the end of its life.
    #[error("prekey or session expired")]
    Expired = 12,
    /// The session ended before.
    #[error("session has ended")]
    SessionOver = 15,
    /// The receiver keeps as many sessions as it may.
    #[error("too many sessions; try again later")]
    Busy = 17,

    // An operator has to look: the two ends are configured differently.
    /// The sender is not pinned for this route, or no longer.
    #[error("sender is not pinned for this route")]
    NotPinned = 6,
    /// The prekey was made for another route.
    #[error("prekey belongs to another route")]
    WrongRoute = 8,
    /// The session was opened to another receiver.
    #[error("addressed to another receiver")]
    WrongReceiver = 9,
    /// Not the suite that is configured for the route.
    #[error("suite differs from the one configured for the route")]
    SuiteMismatch = 10,
    /// The delivery id does not follow from the names that the receiver has configured.
    #[error(
        "delivery id does not match: sender and receiver use different names for the peer or the destination"
    )]
    WrongDelivery = 14,

    // Somebody forged, altered or replayed it, or the sender does not follow the format.
    /// Not a header, or not in its one form.
    #[error("header is malformed")]
    Malformed = 1,
    /// A format version that this version does not know.
    #[error("header has another format version")]
    Version = 2,
    /// One or both signatures of the opening are wrong.
    #[error("opening is not signed by the pinned sender")]
    BadSignature = 7,
    /// The sequence number was used before, for another object or commitment.
    #[error("sequence number replayed with other content")]
    Replay = 11,
    /// The wrapped key does not open: altered, or sealed for another header.
    #[error("wrapped key does not verify")]
    BadTag = 13,
    /// The opening is of another session, or does not fit the prekey that it names.
    #[error("opening does not match its session or prekey")]
    OpeningMismatch = 16,
}

impl HeaderError {
    /// All reasons.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::Version,
        Self::UnknownSession,
        Self::UnknownPrekey,
        Self::PrekeyUsed,
        Self::NotPinned,
        Self::BadSignature,
        Self::WrongRoute,
        Self::WrongReceiver,
        Self::SuiteMismatch,
        Self::Replay,
        Self::Expired,
        Self::BadTag,
        Self::WrongDelivery,
        Self::SessionOver,
        Self::OpeningMismatch,
        Self::Busy,
    ];

    /// The code in nacks.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason of a code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Whether the sender should drop its session and open another before it tries again.
    pub const fn ends_session(self) -> bool {
        !matches!(self, Self::Busy | Self::WrongDelivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_1_to_17_in_order() {
        for (reason, code) in HeaderError::ALL.into_iter().zip(1u8..) {
            assert_eq!(reason.code(), code);
            assert_eq!(HeaderError::from_code(code), Some(reason));
        }
        assert_eq!(HeaderError::from_code(0), None);
        assert_eq!(HeaderError::from_code(18), None);
    }
}
