//! One instance, from its C-STORE-RQ to the answer: received, walked, sealed, on disk, answered. When
//! the PACS sees success is decided here and nowhere else.
//!
//! ```text
//! P-DATA ─▶ walker (reads only) ─▶ sealer ─▶ outbox file ─▶ commit (fsync, index) ─▶ 0000H
//!                                                  └─▶ uplink: all but the final chunk before the commit
//! ```
//!
//! With `respond = "delivered"` there is no file: the sealed chunks go to the uplink as it takes them,
//! and the answer is the destination's.

use std::sync::Arc;

use base::{DeliveryId, InstanceMeta, ObjectId, Secret, Timestamp, random_bytes};
use bytes::Bytes;
use dataset::{Findings, InflateError, TokenError, WalkError, Walker};
use dimse::{Association, AssociationError, StoreRequest};
use envelope::{BodyContext, BodyMeta, BodySealer, BodyTail, SealedBody};
use spool::{
    AppendError, BeginError, BodyFile, CommitError, Decision, InstanceRecord, NewDelivery, NewObject,
    SealedFacts,
};
use tokio::{sync::watch, task::block_in_place};
use tracing::{debug, error, info, warn};

use crate::{
    answers::{Answer, Cause},
    app::Shared,
    config::{ChangedContent, Respond},
    delivered,
    dispatch::{Live, LiveNow, Sealing},
    routes::Route,
    tail::{Progress, Tail},
};

/// A body of this sealed length starts to leave before the PACS has finished sending it. Below, the
/// commit comes so soon that nothing is gained, and the receiver verifies it as a whole anyway.
const CUT_THROUGH_BYTES: u64 = 16 << 20;

/// Receives one instance and says what to answer. An `Err` means that the association is gone and with
/// it the instance: nothing of it is kept, nothing complete has left.
pub async fn store(
    shared: &Arc<Shared>,
    route: &Arc<Route>,
    association: &mut Association,
    request: &StoreRequest,
) -> Result<Answer, AssociationError> {
    let received_at = Timestamp::now();
    let arriving = Arriving::new(shared, route, &request.meta, received_at);
    match route.respond {
        Respond::Spooled => spooled(arriving, association).await,
        Respond::Delivered => delivered::store(arriving, association).await,
    }
}

/// Reads the rest of a data set that is refused already: the PACS listens for the answer only then.
pub(crate) async fn drain(association: &mut Association) -> Result<(), AssociationError> {
    while association.data().await?.is_some() {}
    Ok(())
}

/// An instance that is arriving: what both ways of answering share.
pub(crate) struct Arriving<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) route: &'a Arc<Route>,
    pub(crate) meta: &'a InstanceMeta,
    pub(crate) received_at: Timestamp,
    pub(crate) delivery: DeliveryId,
    pub(crate) sealing: Sealing,
    sealer: BodySealer,
    walker: Walker,
}

impl<'a> Arriving<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        route: &'a Arc<Route>,
        meta: &'a InstanceMeta,
        received_at: Timestamp,
    ) -> Self {
        let context = BodyContext {
            suite: route.suite,
            object: ObjectId(random_bytes()),
            profile: Shared::no_profile(),
        };
        let content_key = Secret::random();
        let body_meta = BodyMeta { instance: meta.clone(), uid_hash_key: Secret::random() };
        let sealer = BodySealer::new(&context, &content_key, shared.settings.outbox.padding, &body_meta);
        Self {
            shared,
            route,
            meta,
            received_at,
            delivery: route.delivery(shared.identity().name(), context.object),
            sealing: Sealing { context, commitment: sealer.commitment(), content_key },
            sealer,
            walker: Walker::new(&meta.transfer_syntax),
        }
    }

    /// Walks and seals one fragment; complete chunks are appended to `sealed`.
    pub(crate) fn fragment(&mut self, fragment: &[u8], sealed: &mut Vec<u8>) -> Result<(), Cause> {
        self.walker.feed(fragment).map_err(|error| refused(&error))?;
        self.sealer.data(fragment, sealed);
        Ok(())
    }

    /// Ends the data set: every check that there is. What is left of the sealed body comes out of the
    /// tail, chunk by chunk: padding can be 64 MiB of a very large one.
    pub(crate) fn finish(self) -> Result<(Findings, BodyTail), Cause> {
        let walked = self.walker.is_on();
        let findings = self.walker.finish().map_err(|error| refused(&error))?;
        if walked {
            if findings.sop_class.as_ref() != Some(&self.meta.sop_class) {
                return Err(Cause::ClassMismatch);
            }
            if findings.sop_instance.as_ref() != Some(&self.meta.sop_instance) {
                return Err(Cause::InstanceMismatch);
            }
        }
        Ok((findings, self.sealer.tail()))
    }
}

/// A data set that has passed every check.
pub(crate) struct Arrived {
    pub(crate) findings: Findings,
    pub(crate) body: SealedBody,
}

impl Arrived {
    /// Whose it is, for the index.
    pub(crate) fn record(&self, meta: &InstanceMeta) -> InstanceRecord {
        InstanceRecord {
            meta: meta.clone(),
            study: self.findings.study.clone(),
            series: self.findings.series.clone(),
            accession: self.findings.accession.clone(),
            patient_id: self.findings.patient_id.clone(),
            data_digest: self.body.data_digest,
        }
    }

    /// What headers and receipts need to know.
    pub(crate) fn facts(&self, sealing: &Sealing) -> SealedFacts {
        SealedFacts {
            suite: sealing.context.suite.code(),
            commitment: sealing.commitment.0,
            profile: sealing.context.profile,
            body_digest: self.body.digest,
            sealed_len: self.body.sealed_len,
            data_len: self.body.data_len,
        }
    }
}

fn refused(error: &WalkError) -> Cause {
    warn!(%error, "instance refused: its data set cannot be read");
    match error {
        WalkError::Empty => Cause::Missing,
        WalkError::Structure(TokenError::Truncated { .. })
        | WalkError::Deflate(InflateError::Truncated { .. }) => Cause::Truncated,
        _ => Cause::Unreadable,
    }
}

/// `respond = "spooled"`.
async fn spooled(arriving: Arriving<'_>, association: &mut Association) -> Result<Answer, AssociationError> {
    let mut spooling = match Spooling::begin(arriving) {
        Ok(spooling) => spooling,
        Err(cause) => {
            drain(association).await?;
            return Ok(cause.into());
        }
    };
    loop {
        let fragment = match association.data().await {
            Ok(Some(fragment)) => fragment,
            Ok(None) => break,
            Err(error) => {
                spooling.abandon();
                return Err(error);
            }
        };
        if let Err(cause) = spooling.fragment(&fragment) {
            spooling.abandon();
            drain(association).await?;
            return Ok(cause.into());
        }
    }
    Ok(spooling.finish().await.into())
}

/// An instance that goes to the outbox.
struct Spooling<'a> {
    arriving: Arriving<'a>,
    file: BodyFile,
    sealed: Vec<u8>,
    progress: watch::Sender<Progress>,
    live: Option<LiveNow>,
}

impl<'a> Spooling<'a> {
    fn begin(arriving: Arriving<'a>) -> Result<Self, Cause> {
        let file = arriving.shared.outbox.begin(arriving.sealing.context.object).map_err(|error| {
            warn!(%error, "instance refused: the outbox does not take it");
            match error {
                BeginError::Full { .. } | BeginError::Reserve { .. } => Cause::OutboxFull,
                _ => Cause::OutboxFailed,
            }
        })?;
        let (progress, _) = watch::channel(Progress::Growing(0));
        Ok(Self { arriving, file, sealed: Vec::new(), progress, live: None })
    }

    /// Walks, seals and writes one fragment.
    fn fragment(&mut self, fragment: &Bytes) -> Result<(), Cause> {
        self.arriving.fragment(fragment, &mut self.sealed)?;
        if self.sealed.is_empty() {
            return Ok(());
        }
        // Only a write can block for long, when the disk is slower than the PACS; sealing a chunk takes
        // 0.1 ms, less than handing the thread over would.
        block_in_place(|| write(&mut self.file, &mut self.sealed))?;
        self.progress.send_replace(Progress::Growing(self.file.len()));
        if self.live.is_none() && self.file.len() >= CUT_THROUGH_BYTES {
            self.go_live();
        }
        Ok(())
    }

    /// Lets the uplink follow the file while it grows.
    fn go_live(&mut self) {
        let Arriving { shared, route, delivery, sealing, .. } = &self.arriving;
        let body = Tail::growing(self.file.reader(), self.progress.subscribe());
        let live = Live { delivery: *delivery, route: Arc::clone(route), sealing: sealing.clone(), body };
        self.live = shared.uplink().and_then(|_| shared.dispatch.live(live));
    }

    fn abandon(self) {
        self.progress.send_replace(Progress::Abandoned);
    }

    /// Every check, then the commit; only after it may the final chunk leave.
    async fn finish(mut self) -> Cause {
        let Arriving { shared, route, meta, received_at, delivery, .. } = self.arriving;
        let sealing = self.arriving.sealing.clone();
        let arriving = self.arriving;
        let (file, sealed) = (&mut self.file, &mut self.sealed);
        let arrived = match block_in_place(|| {
            let (findings, mut tail) = arriving.finish()?;
            while tail.padding(sealed) {
                write(file, sealed)?;
            }
            let body = tail.finish(sealed);
            write(file, sealed)?;
            Ok(Arrived { findings, body })
        }) {
            Ok(arrived) => arrived,
            Err(cause) => {
                self.progress.send_replace(Progress::Abandoned);
                return cause;
            }
        };
        let new = NewObject {
            content_key: sealing.content_key.clone(),
            sealed: arrived.facts(&sealing),
            record: arrived.record(meta),
            deliveries: vec![new_delivery(route, delivery, self.live.is_some())],
            changed_content: changed_content(route),
            received_at,
        };
        match shared.outbox.commit(self.file, new, Timestamp::now()).await {
            Ok(committed) => {
                let decision = committed.placed.first().map(|placed| placed.decision);
                let progress = match decision {
                    Some(Decision::New { .. }) => {
                        Progress::Complete(arrived.body.sealed_len, arrived.body.digest)
                    }
                    _ => Progress::Abandoned,
                };
                self.progress.send_replace(progress);
                tell(route, delivery, decision);
                shared.counters.accepted(arrived.body.data_len);
                shared.dispatch.wake();
                Cause::Accepted
            }
            Err(error) => {
                self.progress.send_replace(Progress::Abandoned);
                not_committed(&error)
            }
        }
    }
}

fn write(file: &mut BodyFile, sealed: &mut Vec<u8>) -> Result<(), Cause> {
    let written = file.append(sealed);
    sealed.clear();
    written.map_err(|error: AppendError| {
        warn!(%error, "instance refused: the outbox cannot be written");
        Cause::OutboxFull
    })
}

pub(crate) fn new_delivery(route: &Route, delivery: DeliveryId, cut_through: bool) -> NewDelivery {
    NewDelivery {
        delivery,
        route: route.id,
        receiver: route.receiver.name.clone(),
        destination: route.destination.clone(),
        cut_through,
    }
}

pub(crate) fn changed_content(route: &Route) -> spool::ChangedContent {
    match route.changed_content {
        ChangedContent::Accept => spool::ChangedContent::AfterEarlier,
        ChangedContent::Refuse => spool::ChangedContent::Refuse,
    }
}

pub(crate) fn not_committed(error: &CommitError) -> Cause {
    if let CommitError::ChangedContent { .. } = error {
        info!("instance refused: known SOP instance with other content");
        return Cause::ChangedContent;
    }
    error!(%error, "instance refused: the outbox does not take it");
    Cause::OutboxFailed
}

/// What an operator should know of a repeat.
fn tell(route: &Route, delivery: DeliveryId, decision: Option<Decision>) {
    let (ae, id) = (&route.ae, delivery.short());
    match decision {
        Some(Decision::Joined { delivery, state }) => {
            info!(%ae, delivery = %delivery.short(), %state, "same content again while it is unsettled; joined");
        }
        Some(Decision::After { earlier }) => {
            warn!(%ae, delivery = %id, earlier = %earlier.short(), "known SOP instance with other content; it waits for the earlier one");
        }
        Some(Decision::HeldLoop { count }) => {
            warn!(%ae, delivery = %id, count, "same content again and again: routing loop or endless re-send? held until an operator releases it");
        }
        Some(Decision::New { changed_content: true }) => {
            info!(%ae, delivery = %id, "known SOP instance with other content");
        }
        Some(Decision::New { .. }) | None => debug!(%ae, delivery = %id, "accepted"),
    }
}
