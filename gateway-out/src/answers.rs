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
    /// `respond = "delivered"`: no answer from the far side in time, or it asked us to wait.
    NotDelivered,
    /// Something of ours failed; the log has the line.
    Internal,
}

/// One row: cause, status, comment.
#[derive(Debug, Clone, Copy)]
pub struct AnswerRow {
    /// What happened.
    pub cause: Cause,
    /// Status (0000,0900).
    pub status: Status,
    /// Error Comment (0000,0902).
    pub comment: Option<&'static str>,
}

const fn row(cause: Cause, status: u16, comment: &'static str) -> AnswerRow {
    AnswerRow { cause, status: Status(status), comment: Some(comment) }
}

/// Our own statuses (PS3.4 Table B.2-1; C001 and above are ours in the "cannot understand" range).
pub const ANSWER_TABLE: &[AnswerRow] = &[
    AnswerRow { cause: Cause::Accepted, status: Status::SUCCESS, comment: None },
    row(Cause::OutboxFull, 0xA700, "outbox full"),
    row(Cause::OutboxFailed, 0xA700, "outbox failed"),
    row(Cause::NotDelivered, 0xA700, "not delivered in time"),
    row(Cause::ClassMismatch, 0xA900, "SOP class of data set and command differ"),
    row(Cause::InstanceMismatch, 0xA900, "SOP instance of data set and command differ"),
    row(Cause::Unreadable, 0xC000, "data set cannot be read"),
    row(Cause::Truncated, 0xC001, "data set is truncated"),
    row(Cause::Missing, 0xC002, "no data set"),
    row(Cause::ChangedContent, 0xC003, "known SOP instance with other content"),
    row(Cause::Internal, 0x0110, "internal error"),
];

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
