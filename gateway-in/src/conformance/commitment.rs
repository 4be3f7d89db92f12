//! The rows of Storage Commitment: what a destination is asked, what follows from what it says, and who may say it.

use base::Status;
use dimse::{FailureReason, RejectReason, Retry, Service};
use statement::{AnswerRow, ContextRow, Fact, FailureRow, OutcomeRow, RejectionRow, tables};

use super::claim;
use crate::commitment::told::{REFUSALS, Refusal, is_asked_again};

pub(super) fn rejections() -> Vec<RejectionRow> {
    let row = |key: &str, reason: RejectReason, when: &str| {
        let rejection = reason.rejection();
        RejectionRow {
            claim: claim("rejection", key),
            result: rejection.result_code(),
            source: rejection.source_code(),
            reason: rejection.reason_code(),
            meaning: rejection.meaning().to_owned(),
            when: when.to_owned(),
        }
    };
    vec![
        row(
            "report-calling",
            RejectReason::CallingAeTitleNotRecognized,
            "on the port for commitment reports: no destination that is asked has this AE title and this address",
        ),
        row(
            "report-called",
            RejectReason::CalledAeTitleNotRecognized,
            "on the port for commitment reports: the destination is asked under another AE title of ours",
        ),
    ]
}

pub(super) fn contexts() -> Vec<ContextRow> {
    let row = |key: &str, result: u8, meaning: &str, when: &str| ContextRow {
        claim: claim("context", key),
        result,
        meaning: meaning.to_owned(),
        when: when.to_owned(),
    };
    let rejected = |key: &str, rejection: dimse::ContextRejection, when: &str| {
        row(key, rejection.code(), rejection.meaning(), when)
    };
    vec![
        row(
            "report-acceptance",
            0,
            "acceptance",
            "on the port for commitment reports: Storage Commitment Push Model and Verification, in Explicit or Implicit VR \
             Little Endian, the first that is offered",
        ),
        rejected(
            "report-class",
            dimse::ContextRejection::AbstractSyntaxNotSupported,
            "on the port for commitment reports: any other SOP class",
        ),
        rejected(
            "report-syntax",
            dimse::ContextRejection::TransferSyntaxesNotSupported,
            "on the port for commitment reports: none of the two transfer syntaxes is offered",
        ),
    ]
}

pub(super) fn answers() -> Vec<AnswerRow> {
    let row =
        |service: Service, operation: &str, key: &str, status: Status, comment: Option<&str>, when: &str| {
            let known = dimse::status_row(service, status);
            AnswerRow {
                claim: claim("answer", key),
                operation: operation.to_owned(),
                status: tables::status(status),
                comment: comment.map(str::to_owned),
                meaning: known.map_or("", |row| row.meaning).to_owned(),
                when: when.to_owned(),
                again: match known.map(|row| row.retry) {
                    Some(Retry::Done) => "no need",
                    Some(Retry::Later) | None => "yes, later",
                    Some(Retry::AfterChange) => "after a change",
                }
                .to_owned(),
            }
        };
    let mut rows = vec![
        row(
            Service::Echo,
            "C-ECHO",
            "report-echo",
            Status::SUCCESS,
            None,
            "on the port for commitment reports",
        ),
        row(
            Service::EventReport,
            "N-EVENT-REPORT",
            "report-taken",
            Status::SUCCESS,
            None,
            "what it says is on disk; also where it was said before",
        ),
    ];
    rows.extend(REFUSALS.iter().map(|Refusal(status, comment)| {
        let key = format!("report-{}", tables::slug(comment));
        let when = "nothing has changed";
        row(Service::EventReport, "N-EVENT-REPORT", &key, Status(*status), Some(comment), when)
    }));
    rows
}

pub(super) fn outcomes() -> Vec<OutcomeRow> {
    let row = |key: &str, operation: &str, status: &str, meaning: &str, follows: &str| OutcomeRow {
        claim: claim("outcome", key),
        operation: operation.to_owned(),
        status: status.to_owned(),
        meaning: meaning.to_owned(),
        follows: follows.to_owned(),
    };
    vec![
        row(
            "action-0000",
            "N-ACTION",
            "0000, or a warning",
            "the destination has taken the request",
            "its report is waited for",
        ),
        row(
            "action-failure",
            "N-ACTION",
            "any other",
            "the destination has not taken the request",
            "it is sent again under the same Transaction UID, after a wait that grows from 2 s to 10 min",
        ),
        row(
            "report-committed",
            "N-EVENT-REPORT",
            "Referenced SOP Sequence",
            "the destination commits to the instance",
            "signed for the sender, which tells whoever asked it for commitment",
        ),
        row(
            "report-failed",
            "N-EVENT-REPORT",
            "Failed SOP Sequence",
            "the destination does not commit to the instance",
            "by its Failure Reason, see 5.2.6",
        ),
    ]
}

pub(super) fn failures() -> Vec<FailureRow> {
    let row = |key: &str, what: &str, follows: &str| FailureRow {
        claim: claim("failure", key),
        what: what.to_owned(),
        follows: follows.to_owned(),
    };
    vec![
        row(
            "commitment-not-accepted",
            "the destination accepts no presentation context for Storage Commitment, or no association",
            "it is asked again, after a wait that grows from 2 s to 10 min",
        ),
        row(
            "commitment-report",
            "no N-EVENT-REPORT comes within `report_timeout` of the N-ACTION",
            "it is asked anew, under another Transaction UID",
        ),
        row(
            "commitment-timeout",
            "the destination has not said within `timeout` whether it commits",
            "signed for the sender as a failure to commit; nothing is sent to the destination any more",
        ),
    ]
}

/// What follows from a Failure Reason that a destination gives.
pub(super) fn failure_reasons() -> Vec<Fact> {
    let row = |reason: FailureReason| {
        let code = tables::status(Status(reason.code()));
        let follows = if is_asked_again(reason) {
            "as received: asked for anew after 12 times `quiet`, under another Transaction UID"
        } else {
            "as received: signed for the sender, and not asked for again"
        };
        tables::fact(claim("failure-reason", &code), &code, reason.meaning(), follows)
    };
    FailureReason::ALL.into_iter().map(row).collect()
}
