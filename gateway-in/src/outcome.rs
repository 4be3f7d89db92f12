//! From what came of an instance to what is signed about it.

use base::{Attempt, DeliveryId, Name, Timestamp, random_bytes};
use dataset::Extent;
use envelope::{HeaderError, OpenedHeader, seal_record};
use identity::PeerCard;
use ledger::{
    Class, DeferReason, Deferred, Destination as ReceiptKind, Level, NackReason, Outcome as Answered, Party,
    Receipt, Remark, SettlementCore,
};

use crate::{
    body::Verified,
    change::Changed,
    config::{DestinationSettings, Route, Target},
    destination::{Answer, NotAnswered, Outcome},
    forward::{self, Verdict},
};

/// What is to be signed, with its record in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The destination answered for good.
    Final(Box<Receipt>),
    /// Later.
    Deferred(Deferred),
    /// A fault on the way.
    Nack {
        /// The delivery.
        delivery: DeliveryId,
        /// The deposit.
        attempt: Attempt,
        /// What happened.
        reason: NackReason,
    },
}

impl Ending {
    /// The same for another deposit of the delivery.
    pub fn for_attempt(&self, attempt: Attempt) -> Self {
        match self {
            Self::Final(receipt) => Self::Final(Box::new(Receipt { attempt, ..receipt.as_ref().clone() })),
            Self::Deferred(deferred) => Self::Deferred(Deferred { attempt, ..deferred.clone() }),
            Self::Nack { delivery, reason, .. } => {
                Self::Nack { delivery: *delivery, attempt, reason: *reason }
            }
        }
    }

    /// The deposit that it ends.
    pub fn attempt(&self) -> Attempt {
        match self {
            Self::Final(receipt) => receipt.attempt,
            Self::Deferred(deferred) => deferred.attempt,
            Self::Nack { attempt, .. } => *attempt,
        }
    }

    /// The record for the sender, sealed under the body's content key; empty for a nack.
    pub fn sealed(&self, header: &OpenedHeader) -> Vec<u8> {
        let (plain, attempt) = match self {
            Self::Final(receipt) => (receipt.encode(), receipt.attempt),
            Self::Deferred(deferred) => (deferred.encode(), deferred.attempt),
            Self::Nack { .. } => return Vec::new(),
        };
        let random = random_bytes();
        seal_record(&header.body, &header.content_key, header.delivery, attempt, &random, &plain)
    }
}

/// What is known of a delivery before the destination answers.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The route it came along.
    pub route: &'a Route,
    /// Its destination's settings.
    pub destination: &'a DestinationSettings,
    /// We.
    pub receiver: &'a Party,
    /// The opened header.
    pub header: &'a OpenedHeader,
    /// The sealed meta record.
    pub meta: &'a envelope::BodyMeta,
    /// When the offer came.
    pub offered_at: Timestamp,
}

/// Decides what is signed. `salt` is random; `now` is when the answer came.
pub fn ending(outcome: Outcome, facts: &Facts<'_>, now: Timestamp, salt: [u8; 16]) -> Ending {
    let deferred = |reason, status| {
        Ending::Deferred(Deferred {
            delivery: facts.header.delivery,
            attempt: facts.header.attempt,
            reason,
            status,
            // The sender's own back-off decides; a destination that is down gets nothing granted anyway.
            not_before: now,
            salt,
        })
    };
    match outcome {
        Outcome::Answered { mut answer, verified, maybe_stored, changed } => {
            answer.remark = answer.remark.or_else(|| maybe_stored.then_some(Remark::Repeated));
            let outcome = match forward::verdict(answer.status, &facts.destination.status, maybe_stored) {
                Verdict::Stored => Answered::Stored,
                Verdict::Refused => Answered::Refused,
                Verdict::Deferred => return deferred(DeferReason::Status, Some(answer.status)),
            };
            Ending::Final(Box::new(receipt(&answer, outcome, (&verified, changed.as_deref()), facts, now)))
        }
        // Ours to say: `[destination.status]` is about what the destination says.
        Outcome::Refused { refusal, verified } => {
            let answer = Answer { status: refusal.status(), remark: Some(refusal.remark()) };
            Ending::Final(Box::new(receipt(&answer, Answered::Refused, (&verified, None), facts, now)))
        }
        Outcome::NotAnswered(why) => deferred(defer_reason(why), None),
        Outcome::Incomplete => nack(facts.header, NackReason::Interrupted),
        Outcome::Cancelled => nack(facts.header, NackReason::Cancelled),
    }
}

/// A fault on the way of this delivery.
pub fn nack(header: &OpenedHeader, reason: NackReason) -> Ending {
    Ending::Nack { delivery: header.delivery, attempt: header.attempt, reason }
}

fn defer_reason(why: NotAnswered) -> DeferReason {
    match why {
        NotAnswered::Unreachable => DeferReason::Unreachable,
        NotAnswered::RejectedPermanent { .. } | NotAnswered::Fault { .. } => DeferReason::RejectedPermanent,
        NotAnswered::RejectedTransient { .. } | NotAnswered::Busy { .. } => DeferReason::RejectedTransient,
        NotAnswered::Interrupted => DeferReason::Aborted,
        NotAnswered::Unknown => DeferReason::TimeOut,
        NotAnswered::Folder => DeferReason::FolderFailed,
    }
}

fn receipt(
    answer: &Answer,
    outcome: Answered,
    (verified, changed): (&Verified, Option<&Changed>),
    facts: &Facts<'_>,
    now: Timestamp,
) -> Receipt {
    let came = Extent { bytes: verified.data_len, digest: verified.data_digest };
    let handed_over = changed.map_or(came, |changed| changed.after);
    let kind = match &facts.destination.target {
        Target::Dicom(target) => ReceiptKind::Dicom(target.ae.clone()),
        Target::Folder(_) => ReceiptKind::Folder,
        Target::Stow(target) => ReceiptKind::Stow(target.url.clone()),
    };
    Receipt {
        delivery: facts.header.delivery,
        attempt: facts.header.attempt,
        object: facts.header.body.object,
        body_digest: verified.body_digest,
        data_digest: handed_over.digest,
        data_bytes: handed_over.bytes,
        sender: party(&facts.route.from, &facts.route.sender),
        receiver: facts.receiver.clone(),
        destination: facts.destination.name.clone(),
        kind,
        sop_class: facts.meta.instance.sop_class.clone(),
        uid_hash: facts.meta.uid_hash(),
        status: answer.status,
        outcome,
        level: match (outcome, &facts.destination.commitment) {
            (Answered::Stored, Some(_)) => Level::Awaited,
            _ => Level::Answered,
        },
        remark: answer.remark,
        received_at: facts.offered_at,
        answered_at: now,
        changed: changed.map(|changed| ledger::Changed {
            received_syntax: changed.from.clone(),
            stored_syntax: changed.to.clone(),
            received_digest: came.digest,
            received_bytes: came.bytes,
            rules: changed.rules,
        }),
    }
}

/// A peer as pinned.
pub fn party(name: &Name, card: &PeerCard) -> Party {
    Party { name: name.clone(), fingerprint: card.id() }
}

/// The nack that tells a sender why its header was not taken.
pub fn nack_reason(error: &HeaderError) -> NackReason {
    match error {
        HeaderError::UnknownSession | HeaderError::SessionOver => NackReason::UnknownSession,
        HeaderError::UnknownPrekey => NackReason::UnknownPrekey,
        HeaderError::PrekeyUsed => NackReason::PrekeyUsed,
        HeaderError::Expired => NackReason::Expired,
        HeaderError::Busy => NackReason::LimitExceeded,
        HeaderError::NotPinned => NackReason::NotPinned,
        HeaderError::WrongRoute | HeaderError::WrongReceiver | HeaderError::WrongDelivery => {
            NackReason::WrongDestination
        }
        HeaderError::SuiteMismatch => NackReason::WrongSuite,
        HeaderError::Malformed | HeaderError::Version => NackReason::Malformed,
        HeaderError::BadSignature | HeaderError::OpeningMismatch => NackReason::BadSignature,
        HeaderError::Replay => NackReason::Replay,
        HeaderError::BadTag => NackReason::BadHeader,
    }
}

/// What is signed about an ending.
pub fn core(ending: &Ending) -> SettlementCore {
    match ending {
        Ending::Final(receipt) => SettlementCore::for_receipt(receipt),
        Ending::Deferred(deferred) => SettlementCore::for_deferred(deferred),
        Ending::Nack { delivery, attempt, reason } => {
            SettlementCore { delivery: *delivery, attempt: *attempt, class: Class::Nack(*reason) }
        }
    }
}
