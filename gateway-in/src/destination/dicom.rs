//! `kind = "dicom"`: C-STORE over pooled associations.
//!
//! A worker is one association at most, and asks nothing while an answer is outstanding.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use base::{AeTitle, Name, Status, Uid};
use dimse::{ConnectError, Requestor, StoreError};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Health, HealthState, Instance, NotAnswered, Outcome,
    dial::dial,
    dispatch::{Dispatch, Job},
    queue,
    slots::{Slot, Slots, TURN},
};
use crate::{body::Cut, change::Refusal, config::DicomTarget};

/// How long an association stays idle once a sibling wants one: some destinations serve one at a time.
const GIVE_WAY_AFTER: Duration = Duration::from_millis(100);
/// Presentation contexts in one association (PS3.8 §9.3.2.2: odd ids of one byte).
const CONTEXTS_MAX: usize = 128;

/// Hands instances to workers.
#[derive(Debug)]
pub struct DicomDestination {
    dispatch: Dispatch,
    wanted: Arc<watch::Sender<u64>>,
}

impl DicomDestination {
    /// Starts the workers and the prober.
    pub fn start(name: &Name, target: &DicomTarget, health: &Health, tasks: &mut service::Tasks) -> Self {
        let wanted = Arc::new(watch::Sender::new(0));
        let slots = Arc::new(Slots::new(target.max_associations));
        let (dispatch, queues) = Dispatch::new(target.max_associations, target.linger);
        for (number, queue) in queues.into_iter().enumerate() {
            let worker = Worker {
                name: name.clone(),
                target: target.clone(),
                health: health.clone(),
                open: None,
                wanted: Arc::clone(&wanted),
                siblings: wanted.subscribe(),
                slots: Arc::clone(&slots),
                seen: Vec::new(),
            };
            tasks.spawn(format!("destination {name} worker {number}"), worker.run(queue));
        }
        tasks.spawn(
            format!("destination {name} prober"),
            probe(name.clone(), target.clone(), health.clone(), tasks.token()),
        );
        Self { dispatch, wanted }
    }

    /// Asks idle associations to give way: some destinations serve one at a time.
    pub fn give_way(&self) {
        self.wanted.send_modify(|count| *count += 1);
    }

    /// Instances that wait or are under way.
    pub fn pending(&self) -> usize {
        self.dispatch.pending()
    }

    /// Queues an instance at once, in the order of the calls, and waits for its outcome.
    pub fn store(&self, instance: Instance) -> impl Future<Output = Outcome> + use<> {
        self.dispatch.store(instance)
    }
}

/// One association at most, and the queue of what goes over it.
struct Worker {
    name: Name,
    target: DicomTarget,
    health: Health,
    open: Option<Open>,
    /// Counts the associations that workers of this destination have wanted.
    wanted: Arc<watch::Sender<u64>>,
    siblings: watch::Receiver<u64>,
    slots: Arc<Slots>,
    /// (SOP class, transfer syntax) pairs that came lately, so that the next association proposes them at once.
    seen: Vec<(Uid, Uid)>,
}

/// Why an association must be aborted within an instance.
enum Broken {
    /// With this outcome.
    With(Outcome),
    /// The rest of the data set cannot be changed as it has to be.
    Refused(Refusal),
}

impl From<Outcome> for Broken {
    fn from(outcome: Outcome) -> Self {
        Self::With(outcome)
    }
}

struct Open {
    association: Requestor,
    sender: Name,
    calling: AeTitle,
    proposed: HashSet<(Uid, Uid)>,
    since: Instant,
    _slot: Slot,
}

impl Worker {
    async fn run(mut self, mut queue: queue::Receiver<Job>) -> Result<(), Infallible> {
        let mut idle_since = Instant::now();
        let mut asked = false;
        loop {
            let patience = if asked { GIVE_WAY_AFTER } else { self.target.linger };
            let job = tokio::select! {
                job = queue.recv() => job,
                _ = self.siblings.changed(), if self.open.is_some() && !asked => {
                    asked = true;
                    continue;
                }
                () = sleep_until(idle_since + patience), if self.open.is_some() => {
                    self.release().await;
                    asked = false;
                    continue;
                }
            };
            let Some(Job { instance, reply }) = job else { break };
            let outcome = self.store(instance).await;
            (idle_since, asked) = (Instant::now(), false);
            // Nobody waits any more only when the daemon is stopping; the ledger has the attempt.
            let _ = reply.send(outcome);
            let has_had_its_turn = |open: &Open| open.since.elapsed() >= TURN;
            if self.slots.is_wanted() && self.open.as_ref().is_some_and(has_had_its_turn) {
                self.release().await;
            }
        }
        self.release().await;
        Ok(())
    }

    async fn store(&mut self, mut instance: Instance) -> Outcome {
        if instance.cancel.is_cancelled() {
            return Outcome::Cancelled;
        }
        if !self.health.may_be_asked() {
            return Outcome::NotAnswered(NotAnswered::Unreachable);
        }
        let alone = instance.body.is_streamed();
        let syntaxes = syntaxes(&self.target, &instance.meta.transfer_syntax);
        if let Err(why) = self.ensure(&instance, &syntaxes, alone).await {
            return Outcome::NotAnswered(why);
        }
        let Some(mut open) = self.open.take() else { return Outcome::NotAnswered(NotAnswered::Interrupted) };
        let accepted =
            syntaxes.into_iter().find(|syntax| open.association.accepts(&instance.meta.sop_class, syntax));
        let Some(accepted) = accepted else {
            self.open = Some(open);
            // Only draining tells whether the body is good; a refusal of a bad one would be a lie.
            return match instance.body.drain().await {
                Ok(verified) => Outcome::Answered {
                    answer: Status::SOP_CLASS_NOT_SUPPORTED.into(),
                    verified,
                    maybe_stored: false,
                    changed: None,
                },
                Err(_) => Outcome::Incomplete,
            };
        };
        match instance.wanted.change_into(&accepted) {
            Ok(change) => instance.body.change(change),
            Err(refusal) => {
                self.open = Some(open);
                return super::refuse(&mut instance.body, refusal).await;
            }
        }
        instance.meta.transfer_syntax = accepted;
        match self.transfer(&mut open.association, &mut instance).await {
            Ok(outcome) => {
                self.open = Some(open);
                if alone {
                    self.release().await;
                }
                outcome
            }
            Err(Broken::With(outcome)) => {
                open.association.abort().await;
                outcome
            }
            Err(Broken::Refused(refusal)) => {
                open.association.abort().await;
                super::refuse(&mut instance.body, refusal).await
            }
        }
    }

    /// Sends one instance. After an `Err` the association must be aborted.
    async fn transfer(
        &self,
        association: &mut Requestor,
        instance: &mut Instance,
    ) -> Result<Outcome, Broken> {
        let before = |_: StoreError| Outcome::NotAnswered(NotAnswered::Interrupted);
        association.store_begin(&instance.meta).await.map_err(before)?;
        loop {
            let piece = tokio::select! {
                () = instance.cancel.cancelled() => return Err(Outcome::Cancelled.into()),
                piece = instance.body.next() => piece,
            };
            match piece {
                // One that takes nothing must not keep its sender from taking the instance back. What
                // is cut here is aborted by the caller.
                Ok(Some(bytes)) => tokio::select! {
                    () = instance.cancel.cancelled() => return Err(Outcome::Cancelled.into()),
                    sent = association.store_data(bytes) => sent.map_err(before)?,
                },
                Ok(None) => break,
                Err(Cut::Incomplete(_)) => return Err(Outcome::Incomplete.into()),
                Err(Cut::Refused(refusal)) => return Err(Broken::Refused(refusal)),
            }
        }
        let verified = instance.body.verified().map_err(|_| Outcome::Incomplete)?;
        let Ok(sent) = instance.recorded.durable().await else {
            return Err(Outcome::NotAnswered(NotAnswered::Interrupted).into());
        };
        if instance.cancel.is_cancelled() {
            return Err(Outcome::Cancelled.into());
        }
        match association.store_finish().await {
            Ok(response) => {
                let maybe_stored = sent.maybe_stored;
                let changed = instance.body.changed().cloned().map(Box::new);
                Ok(Outcome::Answered { answer: response.status.into(), verified, maybe_stored, changed })
            }
            Err(error) if error.is_before_last() => {
                Err(Outcome::NotAnswered(NotAnswered::Interrupted).into())
            }
            Err(error) => {
                warn!(destination = %self.name, delivery = %instance.delivery.short(), %error, "no answer; the instance may be stored");
                Err(Outcome::NotAnswered(NotAnswered::Unknown).into())
            }
        }
    }
}

impl Worker {
    /// Makes sure that an association is open which proposed what this instance needs, and only for
    /// its sender; a streamed instance gets one of its own.
    async fn ensure(
        &mut self,
        instance: &Instance,
        syntaxes: &[Uid],
        alone: bool,
    ) -> Result<(), NotAnswered> {
        let calling = self.target.calling.clone().unwrap_or_else(|| instance.meta.calling.clone());
        let pair = |syntax: &Uid| (instance.meta.sop_class.clone(), syntax.clone());
        let wanted: Vec<_> = syntaxes.iter().map(pair).collect();
        // Many close an idle association long before we do: then another is opened at once.
        let fits = self.open.as_mut().is_some_and(|open| {
            !alone
                && open.sender == instance.sender
                && open.calling == calling
                && wanted.iter().all(|pair| open.proposed.contains(pair))
                && open.association.is_open()
        });
        if fits {
            return Ok(());
        }
        self.release().await;
        // All of them, even where some are known and would be cut off behind others.
        if !wanted.iter().all(|pair| self.seen.contains(pair)) {
            self.seen.retain(|pair| !wanted.contains(pair));
            self.seen.splice(0..0, wanted.iter().cloned());
            self.seen.truncate(CONTEXTS_MAX);
        }
        let contexts = if alone { wanted } else { self.seen.clone() };
        loop {
            // Idle siblings give way; what we have asked for ourselves is no news to us.
            self.wanted.send_modify(|count| *count += 1);
            self.siblings.mark_unchanged();
            let slot = tokio::select! {
                () = instance.cancel.cancelled() => None,
                slot = self.slots.take() => slot,
            };
            let Some(slot) = slot else { return Err(NotAnswered::Interrupted) };
            match dial(&self.target, calling.clone(), contexts.clone(), Duration::MAX).await {
                Ok(association) => {
                    self.set_health(HealthState::Up);
                    debug!(destination = %self.name, contexts = contexts.len(), "association opened");
                    let (proposed, since) = (contexts.into_iter().collect(), Instant::now());
                    let sender = instance.sender.clone();
                    let slot = slot.stands();
                    self.open = Some(Open { association, sender, calling, proposed, since, _slot: slot });
                    return Ok(());
                }
                Err(error @ ConnectError::TimedOut(_)) => {
                    let Some(left) = self.slots.narrow(slot) else { return Err(self.connect_failed(&error)) };
                    info!(destination = %self.name, associations = left, "destination serves no more at one time; the others take turns");
                }
                Err(error) => return Err(self.connect_failed(&error)),
            }
        }
    }

    fn connect_failed(&self, error: &ConnectError) -> NotAnswered {
        let why = not_answered(error);
        match why {
            NotAnswered::RejectedPermanent { .. } => {
                warn!(destination = %self.name, ae = %self.target.ae, %error, "association rejected for good: is our AE title entered there?");
            }
            NotAnswered::RejectedTransient { .. } => {
                warn!(destination = %self.name, ae = %self.target.ae, %error, "association rejected for now");
            }
            _ => {
                // Somebody has to mend a certificate; a destination that is off comes back by itself.
                if matches!(error, ConnectError::Tls(_)) {
                    warn!(destination = %self.name, address = %self.target.address, %error, "no TLS with the destination");
                }
                debug!(destination = %self.name, %error, "no association");
                self.set_health(HealthState::Down);
            }
        }
        why
    }

    fn set_health(&self, state: HealthState) {
        announce(&self.name, &self.target, &self.health, state);
    }

    async fn release(&mut self) {
        if let Some(open) = self.open.take() {
            open.association.release().await;
        }
    }
}

fn announce(name: &Name, target: &DicomTarget, health: &Health, state: HealthState) {
    if health.set(state) {
        match state {
            HealthState::Down => {
                warn!(destination = %name, address = %target.address, "destination is down; its instances wait at their senders")
            }
            _ => info!(destination = %name, address = %target.address, "destination is up"),
        }
    }
}

fn not_answered(error: &ConnectError) -> NotAnswered {
    match error {
        ConnectError::Rejected(rejection) if rejection.is_permanent() => NotAnswered::RejectedPermanent {
            source_code: rejection.source_code(),
            reason: rejection.reason_code(),
        },
        ConnectError::Rejected(rejection) => NotAnswered::RejectedTransient {
            source_code: rejection.source_code(),
            reason: rejection.reason_code(),
        },
        _ => NotAnswered::Unreachable,
    }
}

/// The transfer syntaxes in which an instance may go, in the order of preference: as it came, and where the destination's
/// instances are re-encoded in those that it can become, that which keeps most before the other.
fn syntaxes(target: &DicomTarget, own: &Uid) -> Vec<Uid> {
    const IMPLICIT: &str = dimse::IMPLICIT_VR_LITTLE_ENDIAN;
    const EXPLICIT: &str = dimse::EXPLICIT_VR_LITTLE_ENDIAN;
    const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
    let others: &[&str] = match own.as_str() {
        IMPLICIT => &[EXPLICIT, DEFLATED],
        EXPLICIT => &[DEFLATED, IMPLICIT],
        DEFLATED => &[EXPLICIT, IMPLICIT],
        _ => &[],
    };
    let others = others.iter().filter(|_| target.reencode).filter_map(|uid| Uid::parse(uid).ok());
    std::iter::once(own.clone()).chain(others).collect()
}

/// Asks a destination that is down by C-ECHO until it answers.
async fn probe(
    name: Name,
    target: DicomTarget,
    health: Health,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    // A configured title where there is one; else the destination is asked under its own name.
    let calling = target.calling.clone().unwrap_or_else(|| target.ae.clone());
    while health.wait_down(|| target.probe_every, &stop).await {
        match stop.run_until_cancelled(echo(&target, &calling)).await {
            None => break,
            Some(Ok(true)) => announce(&name, &target, &health, HealthState::Up),
            Some(Ok(false)) => {}
            // It is there and says so: whether it takes instances is for the next attempt to learn.
            Some(Err(ConnectError::Rejected(_))) => announce(&name, &target, &health, HealthState::Up),
            Some(Err(error)) => debug!(destination = %name, %error, "still down"),
        }
    }
    Ok(())
}

/// Whether it answers a C-ECHO.
async fn echo(target: &DicomTarget, calling: &AeTitle) -> Result<bool, ConnectError> {
    let verification = (dimse::verification(), dimse::implicit_little_endian());
    let mut association = dial(target, calling.clone(), vec![verification], Duration::MAX).await?;
    let answered = association.echo().await.is_ok();
    association.release().await;
    Ok(answered)
}
