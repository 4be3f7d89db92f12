//! Statuses and failure reasons: what they are called, where they stand, and whether trying again can help.

use base::Status;

/// Whose status it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// C-ECHO (PS3.7 §9.1.5).
    Echo,
    /// C-STORE (PS3.4 §B.2.3).
    Store,
    /// N-ACTION of Storage Commitment Push Model (PS3.4 §J.3.2).
    Action,
    /// N-EVENT-REPORT of Storage Commitment Push Model (PS3.4 §J.3.3).
    EventReport,
}

/// What to do after a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Nothing: it was done, perhaps with a warning.
    Done,
    /// The same again, later: the peer had no room or no strength.
    Later,
    /// Only after somebody has changed the data, the configuration or the peer.
    AfterChange,
}

/// One row: the statuses with these digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRow {
    /// The fixed digits.
    pub code: u16,
    /// Which digits are fixed.
    pub mask: u16,
    /// For which services.
    pub services: &'static [Service],
    /// Its meaning.
    pub meaning: &'static str,
    /// What to do after it.
    pub retry: Retry,
    /// Where it stands.
    pub section: &'static str,
}

use Retry::{AfterChange, Done, Later};
use Service::{Action, Echo, EventReport, Store};

const ANY: &[Service] = &[Echo, Store, Action, EventReport];
const NORMALIZED: &[Service] = &[Action, EventReport];
const STORE: &[Service] = &[Store];

const fn row(
    (code, mask): (u16, u16),
    services: &'static [Service],
    meaning: &'static str,
    retry: Retry,
    section: &'static str,
) -> StatusRow {
    StatusRow { code, mask, services, meaning, retry, section }
}

const ONE: u16 = 0xFFFF;

/// First match first. What is in no row says nothing and is worth another try.
#[rustfmt::skip]
pub const STATUSES: &[StatusRow] = &[
    row((0x0000, ONE), ANY, "success", Done, "PS3.7 C.1"),
    row((0x0001, ONE), STORE, "warning: requested optional attributes are not supported", Done, "PS3.7 C.4"),
    row((0x0107, ONE), &[Store, Action, EventReport], "warning: attribute list error", Done, "PS3.7 C.4"),
    row((0x0116, ONE), &[Store, Action, EventReport], "warning: attribute value out of range", Done, "PS3.7 C.4"),
    row((0xB000, ONE), STORE, "warning: coercion of data elements", Done, "PS3.4 Table B.2-1"),
    row((0xB006, ONE), STORE, "warning: elements discarded", Done, "PS3.4 Table B.2-1"),
    row((0xB007, ONE), STORE, "warning: data set does not match SOP class", Done, "PS3.4 Table B.2-1"),
    row((0xB000, 0xF000), STORE, "warning", Done, "PS3.7 C.4"),
    row((0xA700, 0xFF00), STORE, "refused: out of resources", Later, "PS3.4 Table B.2-1"),
    row((0xA900, 0xFF00), STORE, "error: data set does not match SOP class", AfterChange, "PS3.4 Table B.2-1"),
    row((0xC000, 0xF000), STORE, "error: cannot understand", AfterChange, "PS3.4 Table B.2-1"),
    row((0x0105, ONE), NORMALIZED, "no such attribute", AfterChange, "PS3.7 C.5"),
    row((0x0106, ONE), NORMALIZED, "invalid attribute value", AfterChange, "PS3.7 C.5"),
    row((0x0110, ONE), &[Store, Action, EventReport], "processing failure", Later, "PS3.7 C.5"),
    row((0x0111, ONE), &[Store, Action, EventReport], "duplicate SOP instance", AfterChange, "PS3.7 C.5"),
    row((0x0112, ONE), &[Store, Action, EventReport], "no such SOP instance", AfterChange, "PS3.7 C.5"),
    row((0x0113, ONE), &[EventReport], "no such event type", AfterChange, "PS3.7 C.5"),
    row((0x0114, ONE), NORMALIZED, "no such argument", AfterChange, "PS3.7 C.5"),
    row((0x0115, ONE), NORMALIZED, "invalid argument value", AfterChange, "PS3.7 C.5"),
    row((0x0117, ONE), &[Store, Action, EventReport], "invalid SOP instance", AfterChange, "PS3.7 C.5"),
    row((0x0118, ONE), NORMALIZED, "no such SOP class", AfterChange, "PS3.7 C.5"),
    row((0x0119, ONE), NORMALIZED, "class-instance conflict", AfterChange, "PS3.7 C.5"),
    row((0x0122, ONE), ANY, "refused: SOP class not supported", AfterChange, "PS3.7 C.5"),
    row((0x0123, ONE), &[Action], "no such action type", AfterChange, "PS3.7 C.5"),
    row((0x0124, ONE), &[Store, Action, EventReport], "refused: not authorized", AfterChange, "PS3.7 C.5"),
    row((0x0210, ONE), ANY, "duplicate invocation", AfterChange, "PS3.7 C.5"),
    row((0x0211, ONE), ANY, "unrecognized operation", AfterChange, "PS3.7 C.5"),
    row((0x0212, ONE), ANY, "mistyped argument", AfterChange, "PS3.7 C.5"),
    row((0x0213, ONE), &[Store, Action, EventReport], "resource limitation", Later, "PS3.7 C.5"),
];

/// The row of a status.
pub fn status_row(service: Service, status: Status) -> Option<&'static StatusRow> {
    STATUSES.iter().find(|row| row.services.contains(&service) && status.0 & row.mask == row.code)
}

/// What to do after a status; what is in no row is worth another try.
pub fn retry(service: Service, status: Status) -> Retry {
    status_row(service, status).map_or(Later, |row| row.retry)
}

/// Failure Reason (0008,1197) of Storage Commitment (PS3.3 §C.14.1.1): why an instance is not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureReason {
    /// 0110: anything that went wrong on the way.
    ProcessingFailure,
    /// 0112: it is not here, or did not come through this node from this peer.
    NoSuchObjectInstance,
    /// 0119: its SOP class is another one.
    ClassInstanceConflict,
    /// 0122: nothing of this class can be committed.
    SopClassNotSupported,
    /// 0131: the Transaction UID is in use.
    DuplicateTransaction,
    /// 0213: no room.
    ResourceLimitation,
}

impl FailureReason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 6] = [
        Self::ProcessingFailure,
        Self::NoSuchObjectInstance,
        Self::ClassInstanceConflict,
        Self::SopClassNotSupported,
        Self::DuplicateTransaction,
        Self::ResourceLimitation,
    ];

    /// The value.
    pub fn code(self) -> u16 {
        match self {
            Self::ProcessingFailure => 0x0110,
            Self::NoSuchObjectInstance => 0x0112,
            Self::ClassInstanceConflict => 0x0119,
            Self::SopClassNotSupported => 0x0122,
            Self::DuplicateTransaction => 0x0131,
            Self::ResourceLimitation => 0x0213,
        }
    }

    /// The standard's words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::ProcessingFailure => "processing failure",
            Self::NoSuchObjectInstance => "no such object instance",
            Self::ClassInstanceConflict => "class / instance conflict",
            Self::SopClassNotSupported => "referenced SOP class not supported",
            Self::DuplicateTransaction => "duplicate transaction UID",
            Self::ResourceLimitation => "resource limitation",
        }
    }

    /// From a value; what is not of the standard is a processing failure, which says as little.
    pub fn from_code(code: u16) -> Self {
        Self::ALL.into_iter().find(|reason| reason.code() == code).unwrap_or(Self::ProcessingFailure)
    }

    /// Asking again later may bring another answer.
    pub fn retry(self) -> Retry {
        match self {
            Self::ProcessingFailure | Self::ResourceLimitation => Later,
            Self::NoSuchObjectInstance
            | Self::ClassInstanceConflict
            | Self::SopClassNotSupported
            | Self::DuplicateTransaction => AfterChange,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_found_by_service() {
        let cases = [
            (Store, 0x0000, Some("success"), Done),
            (Store, 0xB007, Some("warning: data set does not match SOP class"), Done),
            (Store, 0xB123, Some("warning"), Done),
            (Store, 0xA7FF, Some("refused: out of resources"), Later),
            (Store, 0xC123, Some("error: cannot understand"), AfterChange),
            (Store, 0x0123, None, Later),
            (Action, 0x0123, Some("no such action type"), AfterChange),
            (Action, 0xA700, None, Later),
            (EventReport, 0x0113, Some("no such event type"), AfterChange),
            (EventReport, 0x0213, Some("resource limitation"), Later),
            (Echo, 0x0122, Some("refused: SOP class not supported"), AfterChange),
            (Echo, 0xFF00, None, Later),
        ];
        for (service, code, meaning, want) in cases {
            let found = status_row(service, Status(code)).map(|row| row.meaning);
            assert_eq!((found, retry(service, Status(code))), (meaning, want), "{service:?} {code:04X}");
        }
    }

    #[test]
    fn no_row_hides_another_one() {
        for (at, row) in STATUSES.iter().enumerate() {
            for service in row.services {
                let found = status_row(*service, Status(row.code)).unwrap();
                // B000 is the first of its range, and has a row of its own.
                assert!(found == row || (row.mask != ONE && found.mask == ONE), "row {at}, {service:?}");
            }
            assert_eq!(row.code & !row.mask, 0, "row {at}");
        }
    }

    #[test]
    fn failure_reasons_are_codes() {
        for reason in FailureReason::ALL {
            assert_eq!(FailureReason::from_code(reason.code()), reason);
        }
        assert_eq!(FailureReason::from_code(0x4711), FailureReason::ProcessingFailure);
    }
}
