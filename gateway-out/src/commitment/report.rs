//! What is reported, and how it gets to the peer.

use std::{sync::Arc, time::Duration};

use base::{AeTitle, CommitmentId, Status, Uid};
use bytes::Bytes;
use dataset::commitment::{CommitmentError, CommitmentResult, SopReference};
use dimse::{
    ConnectError, EXPLICIT_VR_LITTLE_ENDIAN, FailureReason, IMPLICIT_VR_LITTLE_ENDIAN, NormalizedError,
    Requestor, RequestorConfig, Retry, commitment_reporter_role,
};
use spool::{CommitmentReport, Verdict};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::debug;

use super::{Here, Peer};

/// How long the peer may take to accept an association, and to answer. A report that is not answered is sent again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a report did not come through. No message has patient data in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreported {
    /// The entry was taken away.
    #[error("no [[commitment]] table for this AE title any more")]
    NoPeer,
    /// No association.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It broke.
    #[error(transparent)]
    Failed(#[from] NormalizedError),
    /// The peer did not want it.
    #[error("the peer answered {0}")]
    Answered(Status),
    /// It cannot be written.
    #[error(transparent)]
    Data(#[from] CommitmentError),
    /// It cannot be read.
    #[error(transparent)]
    Outbox(#[from] spool::CommitmentError),
}

/// Tells the peer: on the association that asked, while it is open; else on one of our own.
pub(super) async fn tell(
    peer: &Peer,
    here: Option<mpsc::Sender<Here>>,
    commitment: CommitmentId,
    report: CommitmentReport,
) -> Result<(), Unreported> {
    let report = Arc::new(report);
    let status = match on_the_same(here, &report).await {
        Some(status) => status,
        None => on_a_new_one(peer, commitment, &report).await?,
    };
    match dimse::retry(dimse::Service::EventReport, status) {
        Retry::Done => Ok(()),
        Retry::Later | Retry::AfterChange => Err(Unreported::Answered(status)),
    }
}

/// `None` where that association ended, or did not answer.
async fn on_the_same(here: Option<mpsc::Sender<Here>>, report: &Arc<CommitmentReport>) -> Option<Status> {
    let (answer, answered) = oneshot::channel();
    here?.try_send(Here { report: Arc::clone(report), answer }).ok()?;
    timeout(ANSWER_TIMEOUT, answered).await.ok()?.ok()
}

async fn on_a_new_one(
    peer: &Peer,
    commitment: CommitmentId,
    report: &CommitmentReport,
) -> Result<Status, Unreported> {
    let mut requestor = open(peer, &report.called).await?;
    let (class, instance) = (dimse::storage_commitment(), dimse::storage_commitment_instance());
    // Whether the role was granted does not matter: peers that do not answer it take the report all the same.
    debug!(commitment = %commitment.short(), role = ?requestor.role(&class), "reporting on a new association");
    let syntax = requestor.transfer_syntax(&class).cloned();
    let syntax = syntax.ok_or_else(|| NormalizedError::NotAccepted(class.clone()))?;
    let (event_type, data) = event(report, &syntax)?;
    let answer = requestor.report_event((&class, &instance), event_type, Bytes::from(data)).await?;
    // The answer is here: how the association ends changes nothing.
    requestor.release().await;
    Ok(answer.status)
}

/// The one place where an association to a commitment peer is opened. We present the title that it asked.
async fn open(peer: &Peer, calling: &AeTitle) -> Result<Requestor, ConnectError> {
    let class = dimse::storage_commitment();
    let syntaxes = [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN];
    let contexts = syntaxes.iter().filter_map(|syntax| Some((class.clone(), Uid::parse(syntax).ok()?)));
    let config = RequestorConfig {
        roles: vec![commitment_reporter_role()],
        connect_timeout: CONNECT_TIMEOUT,
        response_timeout: ANSWER_TIMEOUT,
        ..RequestorConfig::new(calling.clone(), peer.table.ae.clone(), contexts.collect())
    };
    peer.dialer.dial(peer.address, config).await
}

/// Event Type ID and data set (PS3.4 Table J.3-2).
pub(super) fn event(report: &CommitmentReport, syntax: &Uid) -> Result<(u16, Vec<u8>), CommitmentError> {
    let reference = |one: &spool::SopReference| SopReference {
        sop_class: one.sop_class.clone(),
        sop_instance: one.sop_instance.clone(),
    };
    let failed = |(one, verdict): &(spool::SopReference, Verdict)| (reference(one), reason(*verdict).code());
    let result = CommitmentResult {
        transaction: report.transaction.reveal().clone(),
        committed: report.committed.iter().map(reference).collect(),
        failed: report.failed.iter().map(failed).collect(),
    };
    Ok((result.event_type(), result.write(syntax)?))
}

/// [`reason`] in words.
pub(crate) const REASONS: &[(FailureReason, &str)] = &[
    (
        FailureReason::ProcessingFailure,
        "refused by a destination, parked, discarded by an operator, or not stored by all destinations in time; or stored by \
         one that was asked to commit and failed or did not answer in time, or that is not asked to",
    ),
    (
        FailureReason::NoSuchObjectInstance,
        "did not come through this gateway from this peer, or a destination that was asked to commit does not have it",
    ),
    (
        FailureReason::ClassInstanceConflict,
        "came with another SOP class, or a destination that was asked to commit says so",
    ),
    (
        FailureReason::SopClassNotSupported,
        "a destination does not take its SOP class, or does not commit to it",
    ),
];

/// Failure Reason (0008,1197).
pub(super) fn reason(verdict: Verdict) -> FailureReason {
    match verdict {
        Verdict::NotReceived | Verdict::DestinationHasNot => FailureReason::NoSuchObjectInstance,
        Verdict::OtherClass | Verdict::DestinationConflict => FailureReason::ClassInstanceConflict,
        Verdict::ClassRefused | Verdict::DestinationClass => FailureReason::SopClassNotSupported,
        Verdict::NotAsked
        | Verdict::DestinationFailed
        | Verdict::Committed
        | Verdict::Pseudonymized
        | Verdict::Refused
        | Verdict::Parked
        | Verdict::Discarded
        | Verdict::Returned
        | Verdict::NotInTime => FailureReason::ProcessingFailure,
    }
}

#[cfg(test)]
mod tests {
    use base::Phi;

    use super::*;

    #[test]
    fn a_report_names_what_is_committed_and_what_failed_with_reasons() {
        let one = |suffix: &str| spool::SopReference {
            sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            sop_instance: Phi::new(Uid::parse(&format!("1.2.826.{suffix}")).unwrap()),
        };
        let mut report = CommitmentReport {
            transaction: Phi::new(Uid::parse("1.2.826.77").unwrap()),
            called: AeTitle::parse("GW").unwrap(),
            committed: vec![one("1")],
            failed: vec![(one("2"), Verdict::NotReceived), (one("3"), Verdict::Refused)],
        };
        let syntax = dimse::implicit_little_endian();
        let (event_type, data) = event(&report, &syntax).unwrap();
        let read = CommitmentResult::parse(&data, &syntax).unwrap();
        assert_eq!(event_type, 2);
        assert_eq!(read.transaction.as_str(), "1.2.826.77");
        assert_eq!(read.committed.len(), 1);
        let reasons: Vec<_> =
            read.failed.iter().map(|(one, code)| (one.sop_instance.reveal().as_str(), *code)).collect();
        assert_eq!(reasons, [("1.2.826.2", 0x0112), ("1.2.826.3", 0x0110)]);
        report.failed.clear();
        assert_eq!(event(&report, &syntax).unwrap().0, 1);
    }
}
