//! One N-ACTION, from its command to its answer: success only once the request is durable.

use std::{collections::HashMap, sync::Arc};

use base::{AeTitle, CommitmentId, Phi, Status, Timestamp, Uid, random_bytes};
use dataset::commitment::{CommitmentError as DataError, CommitmentRequest};
use dimse::{ActionRequest, Association, AssociationError, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE};
use spool::{Asked, CommitmentError, NewCommitment, SopReference, StoreError};
use tracing::{error, info, warn};

use super::{Desk, Peer, config::On};
use crate::app::Shared;

/// The longest data set of a request: 100,000 instances need less.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Request Storage Commitment (PS3.4 Table J.3-1).
const REQUEST: u16 = 1;

/// Why a request is not taken (PS3.7 §10.1.4.1.10), with a comment that says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) u16, pub(crate) &'static str);

const NO_SUCH_CLASS: Refusal = Refusal(0x0118, "this SOP class has no action here");
const NO_SUCH_INSTANCE: Refusal = Refusal(0x0112, "not the well-known SOP instance");
const NO_SUCH_ACTION: Refusal = Refusal(0x0123, "only action type 1 is known");
const NOT_AUTHORIZED: Refusal = Refusal(0x0124, "this AE title may not ask for commitment");
const NO_DATA: Refusal = Refusal(0x0212, "action information is missing");
const UNREADABLE: Refusal = Refusal(0x0212, "action information cannot be read");
const INVALID: Refusal = Refusal(0x0115, "Transaction UID or a reference is not valid");
const CONFLICT: Refusal = Refusal(0x0119, "an instance is named with two SOP classes");
const IN_USE: Refusal = Refusal(0x0115, "Transaction UID is in use for other instances");
const TOO_MANY: Refusal = Refusal(0x0213, "too many instances; ask in several transactions");
const TOO_MANY_OPEN: Refusal = Refusal(0x0213, "too many open transactions");
const NO_ROOM: Refusal = Refusal(0x0213, "no room on the disk");
const FAILED: Refusal = Refusal(0x0110, "the request cannot be kept; see the log");

/// What a peer can bring about, for the Conformance Statement and tests.
pub(crate) const REFUSALS: &[Refusal] = &[
    NO_SUCH_CLASS,
    NO_SUCH_INSTANCE,
    NO_SUCH_ACTION,
    NOT_AUTHORIZED,
    NO_DATA,
    UNREADABLE,
    INVALID,
    CONFLICT,
    IN_USE,
    TOO_MANY,
    TOO_MANY_OPEN,
];
/// What our own disk can.
pub(crate) const FAULTS: &[Refusal] = &[NO_ROOM, FAILED];

/// Reads, keeps and answers a request. An `Err` means that the association is gone.
pub async fn action(
    shared: &Shared,
    association: &mut Association,
    request: &ActionRequest,
    desk: &mut Desk,
) -> Result<(), AssociationError> {
    let _answering = shared.commitment.answering(association.calling());
    let taken = match peer_of(shared, association, request) {
        Ok(peer) => {
            // Whoever waits here does not read: the peer waits, too.
            let _reading = shared.commitment.reading.acquire().await;
            match read(association, request).await? {
                Ok(data) => take(shared, association.called(), &peer, data).await.map(|asked| (asked, peer)),
                Err(refusal) => Err(refusal),
            }
        }
        Err(refusal) => Err(refusal),
    };
    let (calling, called) = (association.calling().clone(), association.called().clone());
    match taken {
        Ok((asked, peer)) => {
            // Expected before the answer: whoever has it may be told at once.
            if peer.table.on == On::Same {
                desk.expect(asked.id());
            }
            info!(%calling, %called, commitment = %asked.id().short(), ?asked, "storage commitment asked");
            association.respond_action(request, Status::SUCCESS, None).await
        }
        Err(Refusal(status, comment)) => {
            let status = Status(status);
            warn!(%calling, %called, %status, comment, "storage commitment refused");
            association.respond_action(request, status, Some(comment)).await
        }
    }
}

fn peer_of(
    shared: &Shared,
    association: &Association,
    request: &ActionRequest,
) -> Result<Arc<Peer>, Refusal> {
    let context = association.contexts().iter().find(|context| context.id == request.context);
    let is_ours = |uid: &Uid| uid.as_str() == STORAGE_COMMITMENT;
    if !is_ours(&request.sop_class) || !context.is_some_and(|context| is_ours(&context.abstract_syntax)) {
        return Err(NO_SUCH_CLASS);
    }
    if request.sop_instance.reveal().as_str() != STORAGE_COMMITMENT_INSTANCE {
        return Err(NO_SUCH_INSTANCE);
    }
    if request.action_type != REQUEST {
        return Err(NO_SUCH_ACTION);
    }
    if !request.has_data_set {
        return Err(NO_DATA);
    }
    // A reload may have taken it away since the association began.
    shared.settings.commitment.of(association.calling()).ok_or(NOT_AUTHORIZED)
}

/// The whole data set, as far as it is within bounds.
async fn read(
    association: &mut Association,
    request: &ActionRequest,
) -> Result<Result<CommitmentRequest, Refusal>, AssociationError> {
    let mut data = Vec::new();
    while let Some(fragment) = association.data().await? {
        if data.len() + fragment.len() > REQUEST_BYTES_MAX {
            return Ok(Err(TOO_MANY));
        }
        data.extend_from_slice(&fragment);
    }
    let syntax = association.contexts().iter().find(|context| context.id == request.context);
    let Some(syntax) = syntax.map(|context| &context.transfer_syntax) else { return Ok(Err(NO_SUCH_CLASS)) };
    Ok(CommitmentRequest::parse(&data, syntax).map_err(|error| {
        info!(%error, "storage commitment cannot be read");
        match error {
            DataError::TooMany => TOO_MANY,
            DataError::Transaction | DataError::NoInstances | DataError::Reference { .. } => INVALID,
            DataError::Syntax(_) | DataError::Structure(_) | DataError::Contradiction => UNREADABLE,
        }
    }))
}

async fn take(
    shared: &Shared,
    called: &AeTitle,
    peer: &Peer,
    data: CommitmentRequest,
) -> Result<Asked, Refusal> {
    let instances = distinct(data.instances)?;
    if instances.len() > usize::try_from(peer.table.instances_max).unwrap_or(usize::MAX) {
        warn!(ae = %peer.table.ae, instances = instances.len(), instances_max = peer.table.instances_max, "too many instances in one request");
        return Err(TOO_MANY);
    }
    let now = Timestamp::now();
    let new = NewCommitment {
        id: CommitmentId(random_bytes()),
        peer: peer.table.ae.clone(),
        callers: peer.callers(),
        called: called.clone(),
        transaction: Phi::new(data.transaction),
        instances,
        means: peer.table.means.into(),
        arrival_until: now.after(peer.table.arrival.0),
        deadline: now.after(peer.table.timeout.0),
        open_max: peer.table.open_max,
    };
    shared.outbox.commitment_asked(new, now).await.map_err(|error| {
        match &error {
            CommitmentError::Store(StoreError::Failed(_) | StoreError::Damaged(_)) => {
                error!(%error, "storage commitment cannot be kept");
            }
            _ => warn!(%error, "storage commitment cannot be kept"),
        }
        match error {
            CommitmentError::InUse(_) => IN_USE,
            CommitmentError::TooManyOpen { .. } => TOO_MANY_OPEN,
            CommitmentError::NoRoom | CommitmentError::Store(StoreError::Full) => NO_ROOM,
            _ => FAILED,
        }
    })
}

/// Each instance once. Two SOP classes for one instance cannot be answered: it would be committed and failed at once.
fn distinct(references: Vec<dataset::commitment::SopReference>) -> Result<Vec<SopReference>, Refusal> {
    let mut classes: HashMap<Uid, Uid> = HashMap::with_capacity(references.len());
    let mut instances = Vec::with_capacity(references.len());
    for one in references {
        match classes.get(one.sop_instance.reveal()) {
            Some(class) if *class == one.sop_class => continue,
            Some(_) => return Err(CONFLICT),
            None => {}
        }
        classes.insert(one.sop_instance.reveal().clone(), one.sop_class.clone());
        instances.push(SopReference { sop_class: one.sop_class, sop_instance: one.sop_instance });
    }
    Ok(instances)
}

#[cfg(test)]
mod tests {
    use dataset::commitment::SopReference as Reference;

    use super::*;

    fn reference(class: &str, instance: &str) -> Reference {
        Reference {
            sop_class: Uid::parse(class).unwrap(),
            sop_instance: Phi::new(Uid::parse(instance).unwrap()),
        }
    }

    #[test]
    fn an_instance_counts_once_and_has_one_class() {
        let (one, two) = (reference("1.2.3", "1.1"), reference("1.2.3", "1.2"));
        let taken = distinct(vec![one.clone(), two.clone(), one.clone()]).unwrap();
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[1].sop_instance, two.sop_instance);
        assert_eq!(distinct(vec![one, reference("1.2.4", "1.1")]).unwrap_err(), CONFLICT);
    }

    #[test]
    fn every_refusal_has_a_status_of_n_action_and_a_comment_that_fits() {
        for Refusal(status, comment) in REFUSALS.iter().chain(FAULTS).copied() {
            assert!(dimse::status_row(dimse::Service::Action, Status(status)).is_some(), "{status:04X}");
            assert!(comment.len() <= dimse::limits::COMMENT_CHARACTERS_MAX, "{comment}");
        }
    }
}
