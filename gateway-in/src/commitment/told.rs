//! An N-EVENT-REPORT of a destination, on whichever association it comes: written down, and only then answered.

use std::{collections::HashMap, time::Duration};

use base::{Name, Status, Timestamp, Uid};
use dataset::commitment::CommitmentResult;
use dimse::{EventReportRequest, FailureReason, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE};
use spool::{Inbound, LedgerKey, Question, Told};
use tracing::{error, info, warn};

/// Why a report is not taken (PS3.7 §10.1.1.1.9), with a comment that says what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) u16, pub(crate) &'static str);

pub(crate) const NO_SUCH_CLASS: Refusal = Refusal(0x0118, "only storage commitment is reported here");
pub(crate) const NO_SUCH_INSTANCE: Refusal = Refusal(0x0112, "not the well-known SOP instance");
pub(crate) const NO_SUCH_EVENT: Refusal = Refusal(0x0113, "only event types 1 and 2 are known");
pub(crate) const UNREADABLE: Refusal = Refusal(0x0115, "event information is missing or cannot be read");
pub(crate) const UNKNOWN: Refusal = Refusal(0x0115, "no question was asked under this Transaction UID");
pub(crate) const FAILED: Refusal = Refusal(0x0110, "the report cannot be kept; send it again");

/// What a destination can bring about, for the Conformance Statement and tests.
pub(crate) const REFUSALS: &[Refusal] =
    &[NO_SUCH_CLASS, NO_SUCH_INSTANCE, NO_SUCH_EVENT, UNREADABLE, UNKNOWN];

/// Who reports, and where that is kept.
pub(crate) struct Reports<'a> {
    pub(crate) inbound: &'a Inbound,
    pub(crate) key: &'a LedgerKey,
    /// Destinations in whose name the peer may speak, and after which wait each is asked anew for what it has no room for.
    pub(crate) destinations: &'a [(Name, Duration)],
}

impl Reports<'_> {
    /// Takes a report. Its answer is success only after what it says is durable; said again, it is success again.
    pub(crate) async fn take(
        &self,
        request: &EventReportRequest,
        data: &[u8],
        syntax: &Uid,
    ) -> Result<(), Refusal> {
        let taken = self.try_take(request, data, syntax).await;
        if let Err(Refusal(status, comment)) = taken {
            warn!(destinations = ?self.destinations, status = %Status(status), comment, "a commitment report is not taken");
        }
        taken
    }

    async fn try_take(&self, request: &EventReportRequest, data: &[u8], syntax: &Uid) -> Result<(), Refusal> {
        if request.sop_class.as_str() != STORAGE_COMMITMENT {
            return Err(NO_SUCH_CLASS);
        }
        if request.sop_instance.reveal().as_str() != STORAGE_COMMITMENT_INSTANCE {
            return Err(NO_SUCH_INSTANCE);
        }
        if !(1..=2).contains(&request.event_type) {
            return Err(NO_SUCH_EVENT);
        }
        let result = CommitmentResult::parse(data, syntax).map_err(|error| {
            info!(%error, "commitment report cannot be read");
            UNREADABLE
        })?;
        let transaction = transaction(&result.transaction).ok_or(UNKNOWN)?;
        let question = match self.inbound.question(transaction).await {
            Ok(question) => question.and_then(|question| {
                let mut destinations = self.destinations.iter();
                let (_, wait) = destinations.find(|(name, _)| *name == question.destination)?;
                Some((question, *wait))
            }),
            Err(error) => {
                error!(%error, "a commitment report cannot be compared with what was asked");
                return Err(FAILED);
            }
        };
        let (question, wait) = question.ok_or(UNKNOWN)?;
        let now = Timestamp::now();
        let said = said(self.key, &question, &result, now.after(wait));
        let committed = said.iter().filter(|(_, told)| *told == Told::Committed).count();
        let (answered, asked) = (said.len(), question.instances.len());
        self.inbound.question_told(question.id, said, now).await.map_err(|error| {
            error!(%error, "a commitment report cannot be recorded");
            FAILED
        })?;
        info!(destination = %question.destination, asked, answered, committed, "storage commitment reported");
        Ok(())
    }
}

/// What a report says of the instances that a question names. One that it leaves out stays open.
fn said(
    key: &LedgerKey,
    question: &Question,
    result: &CommitmentResult,
    later: Timestamp,
) -> Vec<(i64, Told)> {
    let committed: HashMap<&Uid, &Uid> =
        result.committed.iter().map(|one| (one.sop_instance.reveal(), &one.sop_class)).collect();
    let failed: HashMap<&Uid, u16> =
        result.failed.iter().map(|(one, reason)| (one.sop_instance.reveal(), *reason)).collect();
    let mut said = Vec::with_capacity(question.instances.len());
    for asked in &question.instances {
        let Some(instance) = key.open(asked.object, &asked.sealed) else {
            error!(destination = %question.destination, "what a destination was asked for cannot be read: [commitment] key is another one");
            continue;
        };
        let uid = instance.sop_instance.reveal();
        let told = match (failed.get(uid), committed.get(uid)) {
            (Some(reason), _) => of_reason(*reason, later),
            (None, Some(class)) if **class == instance.sop_class => Told::Committed,
            (None, Some(_)) => Told::Refused(Status(FailureReason::ClassInstanceConflict.code())),
            (None, None) => continue,
        };
        said.push((asked.row, told));
    }
    said
}

/// Only want of room, and a transaction that somebody else has, are worth another question.
fn of_reason(code: u16, later: Timestamp) -> Told {
    let reason = FailureReason::from_code(code);
    if is_asked_again(reason) { Told::Later(later) } else { Told::Refused(Status(reason.code())) }
}

/// Whether an instance is asked for anew after this reason, instead of being reported to its sender.
pub(crate) fn is_asked_again(reason: FailureReason) -> bool {
    matches!(reason, FailureReason::ResourceLimitation | FailureReason::DuplicateTransaction)
}

/// The Transaction UID of a question: 128 random bits (PS3.5 B.2).
pub(crate) fn transaction_uid(transaction: [u8; 16]) -> Option<Uid> {
    Uid::parse(&format!("2.25.{}", u128::from_be_bytes(transaction))).ok()
}

fn transaction(uid: &Uid) -> Option<[u8; 16]> {
    uid.as_str().strip_prefix("2.25.")?.parse::<u128>().ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use base::{AeTitle, ObjectId, Phi, Secret};
    use dataset::commitment::SopReference;
    use spool::{AskedInstance, PledgedInstance, QuestionState};

    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    fn uid(text: &str) -> Uid {
        Uid::parse(text).unwrap()
    }

    fn reference(class: &str, instance: &str) -> SopReference {
        SopReference { sop_class: uid(class), sop_instance: Phi::new(uid(instance)) }
    }

    #[test]
    fn each_instance_is_told_as_the_report_says_and_what_it_leaves_out_stays_open() {
        let key = LedgerKey::new(&Secret::new([1; 32]));
        let asked = |number: u8| {
            let instance = PledgedInstance {
                sop_class: uid(CT),
                sop_instance: Phi::new(uid(&format!("1.2.{number}"))),
                calling: AeTitle::parse("GW").unwrap(),
            };
            let object = ObjectId([number; 16]);
            AskedInstance { row: i64::from(number), object, sealed: key.seal(object, &instance).unwrap() }
        };
        let question = Question {
            id: 1,
            transaction: [9; 16],
            destination: Name::parse("pacs").unwrap(),
            state: QuestionState::Sent,
            tries: 0,
            instances: (1..=7).map(asked).collect(),
        };
        let failed =
            [("1.2.2", 0x0112), ("1.2.3", 0x0213), ("1.2.4", 0x4711), ("1.2.99", 0x0110), ("1.2.7", 0x0131)];
        let result = CommitmentResult {
            transaction: uid("1.2"),
            committed: vec![reference(CT, "1.2.1"), reference("1.2.3", "1.2.5"), reference(CT, "1.2.98")],
            failed: failed.map(|(instance, reason)| (reference(CT, instance), reason)).to_vec(),
        };
        let now = Timestamp(1_800_000_000_000);
        let later = Told::Later(now);
        let refused = |code| Told::Refused(Status(code));
        let want = [
            (1, Told::Committed),
            (2, refused(0x0112)),
            (3, later),
            (4, refused(0x0110)),
            (5, refused(0x0119)),
            (7, later),
        ];
        assert_eq!(said(&key, &question, &result, now), want);
        let other = LedgerKey::new(&Secret::new([2; 32]));
        assert_eq!(said(&other, &question, &result, now), []);
    }

    #[test]
    fn a_transaction_uid_leads_back_to_its_question_and_no_other_does() {
        for bytes in [[0; 16], [255; 16], *b"0123456789abcdef"] {
            assert_eq!(transaction(&transaction_uid(bytes).unwrap()), Some(bytes));
        }
        for other in ["1.2.3", "2.25", "2.25.340282366920938463463374607431768211456", "2.25.1.1"] {
            assert_eq!(transaction(&uid(other)), None, "{other}");
        }
    }

    #[test]
    fn every_refusal_has_a_status_of_n_event_report_and_a_comment_that_fits() {
        for Refusal(status, comment) in REFUSALS.iter().chain([&FAILED]).copied() {
            assert!(dimse::status_row(dimse::Service::EventReport, Status(status)).is_some(), "{status:04X}");
            assert!(comment.len() <= dimse::limits::COMMENT_CHARACTERS_MAX, "{comment}");
        }
    }
}
