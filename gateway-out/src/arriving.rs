//! An instance that is arriving, up to its verdict: walked as it came, pseudonymized where its route wants that, and sealed.

use std::sync::Arc;

use base::{Digest, InstanceMeta, ObjectId, Secret, Status, Timestamp, random_bytes};
use dataset::{Findings, Walker};
use envelope::{BodyContext, BodyMeta, BodySealer, BodyTail, SealedBody};
use spool::{InstanceRecord, SealedFacts, StudyDeeds};

use crate::{
    answers::Cause,
    app::Shared,
    dispatch::Sealing,
    pipeline::refused,
    pseudonymize::stage::{self, Begun, Changing},
    routes::Route,
};

/// An instance that is arriving: what both ways of answering share.
pub(crate) struct Arriving<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) route: &'a Arc<Route>,
    /// As it was received.
    pub(crate) meta: &'a InstanceMeta,
    pub(crate) received_at: Timestamp,
    pub(crate) sealing: Sealing,
    sealer: BodySealer,
    walker: Walker,
    /// Where the route pseudonymizes.
    changing: Option<Changing>,
}

impl<'a> Arriving<'a> {
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        route: &'a Arc<Route>,
        meta: &'a InstanceMeta,
        received_at: Timestamp,
    ) -> Self {
        let (sealing, sealer) = sealer(shared, route, Shared::no_profile(), meta.clone());
        let walker = Walker::new(&meta.transfer_syntax);
        Self { shared, route, meta, received_at, sealing, sealer, walker, changing: None }
    }

    /// Its header has passed already.
    pub(crate) fn pseudonymized(
        shared: &'a Arc<Shared>,
        route: &'a Arc<Route>,
        (meta, begun): (&'a InstanceMeta, Begun),
        received_at: Timestamp,
    ) -> Self {
        let Begun { changing, walker, meta: leaving } = begun;
        let (sealing, sealer) = sealer(shared, route, changing.profile, leaving);
        Self { shared, route, meta, received_at, sealing, sealer, walker, changing: Some(changing) }
    }

    /// Walks and seals one fragment; complete chunks are appended to `sealed`.
    pub(crate) fn fragment(&mut self, fragment: &[u8], sealed: &mut Vec<u8>) -> Result<(), Cause> {
        self.walker.feed(fragment).map_err(|error| refused(&error))?;
        let Some(changing) = &mut self.changing else {
            self.sealer.data(fragment, sealed);
            return Ok(());
        };
        let changed = changing.fragment(fragment, |bytes| self.sealer.data(bytes, sealed));
        changed.map_err(|why| stage::refuse(self.shared, self.route, self.meta, None, &why.into()))
    }

    /// Ends the data set: every check that there is; its last chunks are appended to `sealed`. What is left of the sealed body
    /// comes out of the tail, chunk by chunk: padding can be 64 MiB of a very large one.
    pub(crate) fn finish(mut self, sealed: &mut Vec<u8>) -> Result<Checked, Cause> {
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
        let changed = self.changing.map(|changing| changing.finish(|bytes| self.sealer.data(bytes, sealed)));
        let deeds = changed
            .transpose()
            .map_err(|why| stage::refuse(self.shared, self.route, self.meta, Some(&findings), &why.into()))?;
        if deeds.is_some() {
            self.shared.counters.pseudonymized(&self.route.ae, Status::SUCCESS);
        }
        Ok(Checked { findings, tail: self.sealer.tail(), deeds })
    }

    /// Whether it may leave before its end.
    pub(crate) fn cuts_through(&self) -> bool {
        self.changing.is_none()
    }
}

/// Begins a sealed body; it starts with `leaving`.
fn sealer(shared: &Shared, route: &Route, profile: Digest, leaving: InstanceMeta) -> (Sealing, BodySealer) {
    let context = BodyContext { suite: route.legs.first().suite, object: ObjectId(random_bytes()), profile };
    let content_key = Secret::random();
    let body_meta = BodyMeta { instance: leaving, uid_hash_key: Secret::random() };
    let sealer = BodySealer::new(&context, &content_key, shared.settings.outbox.padding, &body_meta);
    (Sealing { context, commitment: sealer.commitment(), content_key }, sealer)
}

/// A data set that has passed every check, and the end of its sealed body.
pub(crate) struct Checked {
    pub(crate) findings: Findings,
    pub(crate) tail: BodyTail,
    /// What was done to it, where its route pseudonymizes.
    pub(crate) deeds: Option<StudyDeeds>,
}

/// A data set that has passed every check.
pub(crate) struct Arrived {
    pub(crate) findings: Findings,
    pub(crate) body: SealedBody,
    /// What was done to it, where its route pseudonymizes.
    pub(crate) deeds: Option<StudyDeeds>,
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

    /// Notes what was done to it, once it is accepted.
    pub(crate) fn note(&self, shared: &Shared) {
        if let Some(deeds) = &self.deeds {
            shared.outbox.pseudonymized(deeds.clone(), Timestamp::now());
        }
    }

    /// What headers and receipts need to know.
    pub(crate) fn facts(&self, sealing: &Sealing) -> SealedFacts {
        SealedFacts {
            suite: sealing.context.suite.code(),
            commitment: sealing.commitment.0,
            profile: sealing.context.profile,
            report: self.deeds.as_ref().map(|deeds| Digest::of(deeds.report.as_bytes())),
            body_digest: self.body.digest,
            sealed_len: self.body.sealed_len,
            data_len: self.body.data_len,
        }
    }
}
