//! The stage of the pipeline: a data set comes in as it was sent, and what goes on is pseudonymized.
//!
//! Nothing is sealed before the whole header has passed, since the sealed body begins with the new UID; and nothing is let go
//! before the whole instance has. The pixels stream past in between.

use std::sync::Arc;

use base::{Digest, InstanceMeta, Phi, Timestamp};
use dataset::{Findings, Walker};
use dimse::AssociationError;
use pseudonym::{HEADER_BYTES_MAX, Pseudonymized, Pseudonymizer, Refusal, Report};
use spool::{Deed, NewRefusal, RefusedIds, StudyDeeds};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::block_in_place,
};
use tracing::warn;

use super::{NotPseudonymized, Pseudonymization, SiteKey, cause};
use crate::{
    answers::{Answer, Cause},
    app::Shared,
    pipeline,
    routes::Route,
    routing::Fragments,
};

/// A header up to this length needs no place.
const SMALL_HEADER_BYTES: usize = 1 << 20;
/// Longer ones that are looked at at one time; the next one makes its PACS wait. Each may take [`HEADER_BYTES_MAX`] twice.
const LARGE_HEADERS_MAX: usize = 4;

const _: () = assert!(SMALL_HEADER_BYTES < HEADER_BYTES_MAX);

/// Bytes of compressed pixels that are decoded at one time: blank frames take a few hundred each.
const DECODED_AT_ONCE: usize = 4096;
/// Memory of a buffer that is kept for the next fragment.
const KEPT_BYTES: usize = 4 << 20;

/// The places of large headers, and of those who decode pixels.
#[derive(Debug)]
pub struct Places {
    headers: Arc<Semaphore>,
    decoders: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        // A frame may need many times its own memory while it is decoded.
        let decoders = Arc::new(Semaphore::new(service::ports::workers()));
        Self { headers: Arc::new(Semaphore::new(LARGE_HEADERS_MAX)), decoders }
    }
}

/// Does what takes long, one of a few at a time.
fn decoding<T>(decoders: &Semaphore, work: impl FnOnce() -> T) -> T {
    block_in_place(|| {
        let _place = Handle::current().block_on(decoders.acquire()).ok();
        work()
    })
}

/// An instance whose header has passed, or whose data set was over before.
pub(crate) struct Changing {
    pseudonymizer: Pseudonymizer,
    /// Names profile and key.
    pub(crate) profile: Digest,
    /// What has not been sealed yet.
    out: Vec<u8>,
    /// Held while a large header is in memory.
    place: Option<OwnedSemaphorePermit>,
    decoders: Arc<Semaphore>,
}

/// An instance that the pipeline may take on.
pub(crate) struct Begun {
    pub(crate) changing: Changing,
    /// Has seen the data set as it came.
    pub(crate) walker: Walker,
    /// The instance as it leaves.
    pub(crate) meta: InstanceMeta,
}

/// Why it may not.
enum Trouble {
    Broken(Cause),
    Refused(NotPseudonymized),
}

impl<T: Into<NotPseudonymized>> From<T> for Trouble {
    fn from(why: T) -> Self {
        Self::Refused(why.into())
    }
}

/// Receives the header of an instance. `Err` inside: it is refused, all of it has been read, and why is kept.
pub(crate) async fn begin(
    shared: &Shared,
    (route, how): (&Route, &Pseudonymization),
    meta: &InstanceMeta,
    fragments: &mut Fragments<'_>,
) -> Result<Result<Begun, Answer>, AssociationError> {
    let mut walker = Walker::new(&meta.transfer_syntax);
    match receive(shared, how, meta, (&mut walker, fragments)).await? {
        Ok(changing) => {
            let meta = leaving(route, meta, &changing);
            Ok(meta.map(|meta| Begun { changing, walker, meta }).ok_or_else(|| Cause::NotRewritable.into()))
        }
        Err(Trouble::Broken(cause)) => {
            fragments.drain().await?;
            Ok(Err(cause.into()))
        }
        Err(Trouble::Refused(why)) => {
            // The rest says whose it is, for `why`.
            let mut walks = true;
            while let Some(fragment) = fragments.next().await? {
                walks = walks && walker.feed(&fragment).is_ok();
            }
            let findings = walker.finish().ok().filter(|_| walks);
            Ok(Err(refuse(shared, route, meta, findings.as_ref(), &why).into()))
        }
    }
}

/// Until the header has passed, or the data set is over.
async fn receive(
    shared: &Shared,
    how: &Pseudonymization,
    meta: &InstanceMeta,
    (walker, fragments): (&mut Walker, &mut Fragments<'_>),
) -> Result<Result<Changing, Trouble>, AssociationError> {
    let plan = Arc::clone(&how.plan);
    let mut pseudonymizer = match Pseudonymizer::undecided(plan, &meta.transfer_syntax) {
        Ok(pseudonymizer) => pseudonymizer,
        Err(refusal) => return Ok(Err(refusal.into())),
    };
    let (mut out, mut place, mut read, mut profile) = (Vec::new(), None, 0_usize, None);
    loop {
        let fragment = fragments.next().await?;
        read = read.saturating_add(fragment.as_ref().map_or(0, |fragment| fragment.len()));
        if read > SMALL_HEADER_BYTES && place.is_none() {
            place = Arc::clone(&shared.headers.headers).acquire_owned().await.ok();
        }
        let step = match &fragment {
            Some(fragment) => {
                if let Err(error) = walker.feed(fragment) {
                    return Ok(Err(Trouble::Broken(pipeline::refused(&error))));
                }
                pseudonymizer.feed(fragment, &mut out)
            }
            None => pseudonymizer.end(),
        };
        let step = match step {
            Ok(()) => keyed(shared, how, &mut pseudonymizer, &mut out).await,
            Err(refusal) => Err(refusal.into()),
        };
        match step {
            Ok(key) => profile = profile.or_else(|| key.map(|key| how.plan.digest_under(&key.pseudonyms))),
            Err(why) => return Ok(Err(Trouble::Refused(why))),
        }
        if let Some(profile) = profile
            && (fragment.is_none() || pseudonymizer.header_has_passed())
        {
            let decoders = Arc::clone(&shared.headers.decoders);
            return Ok(Ok(Changing { pseudonymizer, profile, out, place, decoders }));
        }
        if fragment.is_none() {
            return Ok(Err(Trouble::Broken(Cause::Missing)));
        }
    }
}

/// Once the study is known: its key.
async fn keyed<'a>(
    shared: &Shared,
    how: &'a Pseudonymization,
    pseudonymizer: &mut Pseudonymizer,
    out: &mut Vec<u8>,
) -> Result<Option<&'a SiteKey>, NotPseudonymized> {
    let Some(study) = pseudonymizer.study() else { return Ok(None) };
    let current = how.ring.current();
    let id = match study.reveal().is_empty() {
        // It belongs to nothing that could be split.
        true => current.id(),
        false => shared.outbox.study_key(how.ring.id(), study, current.id(), Timestamp::now()).await?,
    };
    let key = how.ring.key(id).ok_or(Refusal::NoKey)?;
    let pseudonyms = Arc::clone(&key.pseudonyms);
    match pseudonymizer.decodes() {
        true => decoding(&shared.headers.decoders, || pseudonymizer.use_key(pseudonyms, out))?,
        false => pseudonymizer.use_key(pseudonyms, out)?,
    }
    Ok(Some(key))
}

/// The instance as it leaves. The AE title of a modality names a room and a hospital: the route's stands in its place.
fn leaving(route: &Route, meta: &InstanceMeta, changing: &Changing) -> Option<InstanceMeta> {
    let sop_instance = changing.pseudonymizer.sop_instance()?.clone();
    Some(InstanceMeta {
        sop_instance: Phi::new(sop_instance),
        // Compressed pixels that are masked become native ones.
        transfer_syntax: changing.pseudonymizer.transfer_syntax()?,
        calling: route.ae.clone(),
        move_originator: None,
        ..meta.clone()
    })
}

impl Changing {
    /// Takes the next fragment and gives what goes on.
    pub(crate) fn fragment(&mut self, fragment: &[u8], mut seal: impl FnMut(&[u8])) -> Result<(), Refusal> {
        if self.pseudonymizer.decodes() {
            let Self { pseudonymizer, out, decoders, .. } = self;
            decoding(decoders, || {
                fragment.chunks(DECODED_AT_ONCE).try_for_each(|piece| {
                    pseudonymizer.feed(piece, out)?;
                    seal(out);
                    out.clear();
                    Ok::<_, Refusal>(())
                })
            })?;
        } else {
            self.pseudonymizer.feed(fragment, &mut self.out)?;
            seal(&self.out);
        }
        if self.place.take().is_some() || self.out.capacity() > KEPT_BYTES {
            self.out = Vec::new();
        }
        self.out.clear();
        Ok(())
    }

    /// The end, and what was done.
    pub(crate) fn finish(self, seal: impl FnOnce(&[u8])) -> Result<StudyDeeds, Refusal> {
        let Self { pseudonymizer, profile, mut out, .. } = self;
        let done = pseudonymizer.finish(&mut out)?;
        seal(&out);
        Ok(deeds(done, profile))
    }
}

fn deeds(done: Pseudonymized, profile: Digest) -> StudyDeeds {
    let report = done.report.to_text();
    let Report { done: counts, .. } = done.report;
    let deed = |((tag, what), count): ((dataset::Tag, pseudonym::Done), u64)| Deed {
        attribute: u32::from(tag.0) << 16 | u32::from(tag.1),
        what: what.as_str().to_owned(),
        count,
    };
    StudyDeeds { study: done.study_before, profile, deeds: counts.into_iter().map(deed).collect(), report }
}

/// Keeps why an instance was refused, and says what to answer.
pub(crate) fn refuse(
    shared: &Shared,
    route: &Route,
    meta: &InstanceMeta,
    findings: Option<&Findings>,
    why: &NotPseudonymized,
) -> Cause {
    let cause = cause(why);
    let status = Answer::from(cause).status;
    shared.counters.pseudonymized(&route.ae, status);
    warn!(ae = %route.ae, %why, "instance refused: it is not pseudonymized, and nothing of it leaves");
    let refusal = NewRefusal {
        called: route.ae.clone(),
        status,
        reason: why.to_string(),
        sop_class: meta.sop_class.clone(),
        ids: RefusedIds {
            instance: meta.sop_instance.clone(),
            study: findings.and_then(|found| found.study.clone()),
            series: findings.and_then(|found| found.series.clone()),
            accession: findings.and_then(|found| found.accession.clone()),
            patient_id: findings.and_then(|found| found.patient_id.clone()),
        },
    };
    shared.outbox.pseudonymization_refused(refusal, Timestamp::now());
    cause
}
