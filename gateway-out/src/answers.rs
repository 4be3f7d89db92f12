//! What gateway-out answers to a C-STORE-RQ, and why. One row each; the Conformance Statement is
//! rendered from the same rows.

use base::Status;

/// A C-STORE response: status and error comment (0000,0902), which never holds patient data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status (0000,0900).
    pub status: Status,
    /// Error Comment (0000,0902), at most 64 characters.
    pub comment: Option<String>,
}

/// Causes of our own answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The instance is in our custody.
    Accepted,
    /// The outbox is full, or its disk.
    OutboxFull,
    /// The outbox failed; nothing is accepted until an operator has looked.
    OutboxFailed,
    /// SOP Class UID of the data set is not that of the command.
    ClassMismatch,
    /// SOP Instance UID of the data set is not that of the command.
    InstanceMismatch,
    /// The data set ends too early.
    Truncated,
    /// The data set is not what its transfer syntax says.
    Unreadable,
    /// No data set came with the command.
    Missing,
    /// Same SOP Instance UID, other content, and the route refuses that.
    ChangedContent,
    /// No route's rule holds for the instance.
    NoRoute,
    /// Pseudonymization: no identifier, or one that is nobody's.
    NoPatient,
    /// Pseudonymization: a SOP class or transfer syntax that is not covered.
    NotCovered,
    /// Pseudonymization: its pixels may show a name.
    PixelsMayShow,
    /// Pseudonymization: something of the patient is left where it is not expected.
    StillNames,
    /// Pseudonymization: the site key that its study is under is gone.
    NoSiteKey,
    /// Pseudonymization: its header cannot be rewritten.
    NotRewritable,
    /// `respond = "delivered"`: no answer from the far side in time, or it asked us to wait.
    NotDelivered,
}

/// One row: cause, status, comment, and the cause in words.
#[derive(Debug, Clone, Copy)]
pub struct AnswerRow {
    /// What happened.
    pub cause: Cause,
    /// Status (0000,0900).
    pub status: Status,
    /// Error Comment (0000,0902).
    pub comment: Option<&'static str>,
    /// What leads to it, for the Conformance Statement.
    pub when: &'static str,
}

const fn row(cause: Cause, status: u16, comment: &'static str, when: &'static str) -> AnswerRow {
    AnswerRow { cause, status: Status(status), comment: Some(comment), when }
}

/// Our own statuses (PS3.4 Table B.2-1; C001 and above are ours in the "cannot understand" range).
#[rustfmt::skip]
pub const ANSWER_TABLE: &[AnswerRow] = &[
    AnswerRow { cause: Cause::Accepted, status: Status::SUCCESS, comment: None, when: "the sealed instance is on disk, or (`respond = \"delivered\"`) the destination has answered so" },
    row(Cause::OutboxFull, 0xA700, "outbox full", "the outbox or its disk has reached its limit"),
    row(Cause::OutboxFailed, 0xA700, "outbox failed", "the disk of the outbox fails; an operator has to look"),
    row(Cause::NotDelivered, 0xA700, "not delivered in time", "`respond = \"delivered\"`: the destination did not answer in time, or asked to wait"),
    row(Cause::NoRoute, 0x0124, "no route takes this instance", "no route with the called AE title has a rule that holds for the instance"),
    row(Cause::ClassMismatch, 0xA900, "SOP class of data set and command differ", "SOP Class UID (0008,0016) is absent or not that of the command"),
    row(Cause::InstanceMismatch, 0xA900, "SOP instance of data set and command differ", "SOP Instance UID (0008,0018) is absent or not that of the command"),
    row(Cause::Unreadable, 0xC000, "data set cannot be read", "the data set is not encoded as its transfer syntax says"),
    row(Cause::Truncated, 0xC001, "data set is truncated", "the data set ends within an element"),
    row(Cause::Missing, 0xC002, "no data set", "the command announces no data set, or an empty one came"),
    row(Cause::ChangedContent, 0xC003, "known SOP instance with other content", "`changed_content = \"refuse\"`: an instance with this UID was accepted before, with another data set"),
    row(Cause::NoPatient, 0xC020, "no patient id that could have a pseudonym", "pseudonymization: Patient ID (0010,0020) is empty, or one that the route lists as nobody's"),
    row(Cause::NotCovered, 0xC021, "class or syntax cannot be pseudonymized", "pseudonymization: the SOP class is not covered and no rule of the route lets it pass, or nobody can read the transfer syntax"),
    row(Cause::PixelsMayShow, 0xC022, "pixels may show who the patient is", "pseudonymization: Burned In Annotation is not NO, Image Type or Conversion Type name a screen or a scan, a rule of the route refuses them, or they cannot be masked as a rule says"),
    row(Cause::StillNames, 0xC023, "something of the patient is left in the header", "pseudonymization: a name, an identifier or the birth date of the patient stands in a value that would go on"),
    row(Cause::NoSiteKey, 0xC024, "site key of this study is gone", "pseudonymization: the study was seen under a site key that is not in the route's file any more"),
    row(Cause::NotRewritable, 0xC025, "header cannot be rewritten", "pseudonymization: more than 32 MiB stand before the pixel data, a name or identifier is longer than 4096 bytes, or an element cannot be rewritten"),
];

/// The answer to an operation that is not offered (PS3.7 §C.5).
pub const NOT_OFFERED: Status = Status::UNRECOGNISED_OPERATION;

impl From<Cause> for Answer {
    fn from(cause: Cause) -> Self {
        let found = ANSWER_TABLE.iter().find(|row| row.cause == cause);
        Self {
            status: found.map_or(Status::PROCESSING_FAILURE, |row| row.status),
            comment: found.and_then(|row| row.comment).map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comment_fits_its_element() {
        for row in ANSWER_TABLE {
            assert!(row.comment.is_none_or(|text| text.len() <= 64), "{row:?}");
        }
    }
}
