//! What the far side answers: verified, recorded, and only then acknowledged. Only a verified receipt
//! that says stored ends custody.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use base::{Attempt, Digest, Name, Timestamp};
use envelope::open_record;
use ledger::{
    Class, DeferReason, Deferred, Expectation, Level, Manifest, ManifestCore, NackReason, Outcome, Party,
    Pledge, Receipt, ReceiptFile, RootCache, Settlement,
};
use service::witness::LogWitness;
use spool::{Deferral, Delivery, DeliveryError, Loss, NewReceipt, Progress, Step};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, error, info, warn};
use transport::{Uplink, UplinkEvent};
use wire::NoticeKind;

use crate::{
    app::Shared,
    dispatch::Sealing,
    flights,
    logbook::{self, Logbook},
    relays,
    routes::Leg,
    strays::{self, Worth},
    waiting::Verdict,
};

/// Settlements recorded at one time: they share transactions.
const AT_ONCE_MAX: usize = 256;

/// Handles the events of one relay, which has this place among all of them, until its link has ended.
pub async fn run(
    shared: Arc<Shared>,
    (place, relay): (usize, Name),
    (uplink, witness): (Uplink, Arc<LogWitness>),
    mut events: mpsc::Receiver<UplinkEvent>,
) -> Result<(), std::io::Error> {
    let cache = Arc::new(Mutex::new(RootCache::default()));
    let mut handling = JoinSet::new();
    let (mut boot, mut trusted) = (None, witness.is_trusted());
    let mut logbook = Logbook::new(Arc::clone(&shared), relay.clone(), uplink.clone(), Arc::clone(&witness));
    let mut turns = interval(logbook::TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = turns.tick() => {
                logbook.turn().await;
                // One that is not trusted counts as one that is away: what lies there goes elsewhere, if there is another.
                if std::mem::replace(&mut trusted, witness.is_trusted()) != trusted {
                    match boot.filter(|_| trusted) {
                        Some(boot) => relays::connected(&shared, place, boot).await,
                        None => relays::disconnected(&shared, place),
                    }
                }
                continue;
            }
        };
        let Some(event) = event else { break };
        shared.heard.relays.heard(&relay, Timestamp::now());
        while handling.len() >= AT_ONCE_MAX {
            handling.join_next().await;
        }
        while handling.try_join_next().is_some() {}
        match event {
            UplinkEvent::Connected { boot: run } => {
                info!(%relay, "relay connected");
                boot = Some(run);
                if trusted {
                    relays::connected(&shared, place, run).await;
                }
                logbook.connected().await;
            }
            UplinkEvent::LogHead(head) => logbook.head(head).await,
            UplinkEvent::Logged(logged) => logbook.logged(logged),
            UplinkEvent::Disconnected => {
                boot = None;
                warn!(%relay, "relay disconnected; without another one instances wait in the outbox");
                relays::disconnected(&shared, place);
            }
            event => {
                if matches!(event, UplinkEvent::Collected { .. } | UplinkEvent::Settlement { .. }) {
                    // What was collected was admitted, and that is logged.
                    witness.active();
                }
                let (shared, uplink, cache) = (Arc::clone(&shared), uplink.clone(), Arc::clone(&cache));
                handling.spawn(async move { handle(&shared, &uplink, &cache, event).await });
            }
        }
    }
    while handling.join_next().await.is_some() {}
    Ok(())
}

async fn handle(shared: &Shared, uplink: &Uplink, cache: &Mutex<RootCache>, event: UplinkEvent) {
    let (delivery, attempt) = match &event {
        UplinkEvent::Settlement { delivery, attempt, .. }
        | UplinkEvent::Notice { delivery, attempt, .. }
        | UplinkEvent::Collected { delivery, attempt } => (*delivery, *attempt),
        UplinkEvent::Connected { .. }
        | UplinkEvent::Disconnected
        | UplinkEvent::LogHead(_)
        | UplinkEvent::Logged(_) => return,
    };
    // Asked before the row: what is not live any more has its row, or will never have one.
    let live = shared.dispatch.is_live(delivery) || shared.waiting.sealing(delivery).is_some();
    let known = match shared.flights.of(delivery) {
        Some(flight) => Ok(Some(flight.row.clone())),
        None => shared.outbox.delivery(delivery).await,
    };
    let row = match known {
        Ok(Some(row)) => row,
        Ok(None) if live => {
            debug!(delivery = %delivery.short(), "an answer before the commit; it will come again");
            return;
        }
        Ok(None) => return stray(shared, uplink, &event).await,
        Err(error) => {
            error!(%error, "outbox cannot be read; the answer will come again");
            return;
        }
    };
    let Some(leg) = shared.settings.routes.leg(row.route) else {
        warn!(delivery = %delivery.short(), route = %row.route, "an answer for a route that is not configured any more");
        return;
    };
    let answer = Answer { shared, leg: &leg, row: &row, cache };
    let recorded = match event {
        UplinkEvent::Settlement { settlement, record, .. } => answer.settlement(&settlement, &record).await,
        UplinkEvent::Notice { kind, .. } => answer.notice(attempt, kind).await.map(|()| None),
        _ => {
            let at = Timestamp::now();
            shared.flights.note(Progress { delivery, attempt, step: Step::Collected, at });
            return;
        }
    };
    match recorded {
        Ok(manifest) => {
            let recipient = leg.receiver.id();
            // Without a connection the relay says it again, and it is recorded as known already.
            let _ = uplink.ack(recipient, delivery, attempt, manifest).await;
        }
        Err(error) => warn!(delivery = %delivery.short(), attempt = attempt.0, %error, "answer refused"),
    }
}

/// An answer for a delivery without a row: see [`strays`].
async fn stray(shared: &Shared, uplink: &Uplink, event: &UplinkEvent) {
    let (delivery, attempt, worth) = match event {
        UplinkEvent::Settlement { delivery, attempt, settlement, .. } => {
            let class = Settlement::decode(settlement).map(|settlement| settlement.class());
            let worth = match class {
                Ok(Class::Nack(_) | Class::Deferred(_)) => Worth::Nothing,
                Ok(Class::Final(_)) | Err(_) => Worth::Custody,
            };
            (*delivery, *attempt, worth)
        }
        UplinkEvent::Notice { delivery, attempt, .. } => (*delivery, *attempt, Worth::Nothing),
        _ => return,
    };
    let id = delivery.short();
    match shared.strays.judge(delivery, attempt, worth, Timestamp::now()) {
        strays::Verdict::Leave => {}
        strays::Verdict::Tell => error!(
            delivery = %id, attempt = attempt.0,
            "a receipt for a delivery that this outbox does not know: is it the right outbox, or one restored from an \
            older backup? It stays at the relay for an hour"
        ),
        strays::Verdict::Acknowledge => {
            warn!(delivery = %id, attempt = attempt.0, ?worth, "an answer for a delivery that this outbox does not know is given up");
            // Which receiver answered only a row would tell. The relay ignores what nobody waits for.
            let legs = shared.settings.routes.legs();
            let receivers = legs.iter().map(|leg| leg.receiver.id());
            for recipient in receivers.collect::<HashSet<_>>() {
                let _ = uplink.ack(recipient, delivery, attempt, None).await;
            }
        }
    }
}

/// Why an answer is not acknowledged.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("settlement is not readable: {0}")]
    Decode(#[from] ledger::DecodeError),
    #[error(
        "settlement is not the receiver's: {0}; if its keys were rotated, take its new card by `peer update CARD`"
    )]
    Verify(#[from] ledger::VerifyError),
    #[error("settlement is for another delivery")]
    OtherDelivery,
    #[error("sealed record does not open: {0}")]
    Record(#[from] envelope::RecordError),
    #[error("record is not the one that the settlement commits to")]
    OtherRecord,
    #[error(transparent)]
    Receipt(#[from] ledger::ReceiptFileError),
    #[error("a second receipt that follows from no first one")]
    NoFirst,
    #[error("what was sent could not be signed; the receipt will come again")]
    NotSigned,
    #[error(transparent)]
    Store(#[from] spool::StoreError),
    #[error(transparent)]
    Key(#[from] spool::BodyError),
    #[error(transparent)]
    Outbox(#[from] DeliveryError),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// One answer, and what it is about.
struct Answer<'a> {
    shared: &'a Shared,
    leg: &'a Leg,
    row: &'a Delivery,
    cache: &'a Mutex<RootCache>,
}

impl Answer<'_> {
    /// Records it. For a receipt, answers the manifest that acknowledges it.
    async fn settlement(&self, bytes: &[u8], record: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
        let settlement = Settlement::decode(bytes)?;
        if settlement.delivery() != self.row.delivery {
            return Err(Refused::OtherDelivery);
        }
        {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            settlement.verify_any(self.leg.receiver.identities(Timestamp::now()), &mut cache)?;
        }
        self.shared.heard.receivers.heard(&self.leg.receiver.name, Timestamp::now());
        // Where the receiver was shown another log than we, the settlement is good all the same: the relay is not.
        for witness in &self.shared.witnesses {
            if let Err(error) = witness.compare(&settlement.proof.heads) {
                debug!(%error, "the receiver's view of a relay's log");
            }
        }
        let attempt = settlement.attempt();
        let unknown = matches!(settlement.class(), Class::Nack(reason) if asks_for_new_session(reason));
        self.shared.sessions.answered(self.leg.id, self.row.delivery, attempt, unknown);
        match settlement.class() {
            Class::Nack(reason) => self.nack(attempt, reason).await.map(|()| None),
            Class::Deferred(_) => {
                let deferred = Deferred::decode(&self.open(attempt, record).await?)?;
                if settlement.class() != Class::Deferred(deferred.digest()) {
                    return Err(Refused::OtherRecord);
                }
                self.deferred(&deferred).await.map(|()| None)
            }
            // The content key is gone by the time of a second receipt: its digest has to do.
            Class::Final(digest) if record.is_empty() => self.second(attempt, digest, bytes).await.map(Some),
            Class::Final(digest) => {
                if self.row.state.is_ended() && self.row.state != spool::State::Returned {
                    return self.countersigned_again(attempt, digest).await.map(Some);
                }
                let receipt = self.open(attempt, record).await?;
                let file = ReceiptFile::from_parts(&receipt, bytes, None)?;
                self.receipt(&file, receipt, bytes).await.map(Some)
            }
        }
    }

    /// Opens a record under the content key, which the outbox or whoever waits still has.
    async fn open(&self, attempt: Attempt, record: &[u8]) -> Result<Vec<u8>, Refused> {
        let flight = self.shared.flights.of(self.row.delivery);
        let known = flight.map(|flight| flight.sealing.clone());
        let sealing = match known.or_else(|| self.shared.waiting.sealing(self.row.delivery)) {
            Some(sealing) => sealing,
            None => {
                let key = self.shared.outbox.content_key(self.row.object).await?;
                Sealing::of_row(self.row, key)?
            }
        };
        Ok(open_record(&sealing.context, &sealing.content_key, self.row.delivery, attempt, record)?)
    }

    /// Signs that we sent what the receipt with this digest is about.
    async fn countersigned(&self, attempt: Attempt, receipt: Digest) -> Result<Vec<u8>, Refused> {
        let core = ManifestCore {
            delivery: self.row.delivery,
            attempt,
            object: self.row.object,
            body_digest: self.row.sealed.body_digest,
            sender: self.shared.identity().fingerprint(),
            receiver: self.leg.receiver.id(),
            receipt,
            report: self.row.sealed.report,
        };
        // A PACS that waits for the destination's answer shall not wait for others.
        let urgent = self.shared.waiting.sealing(self.row.delivery).is_some();
        self.shared.countersign.sign(core, urgent).await.ok_or(Refused::NotSigned)
    }

    /// A receipt that was recorded before, or that an operator's act was faster than: the receiver waits for
    /// our word all the same.
    async fn countersigned_again(&self, attempt: Attempt, receipt: Digest) -> Result<Vec<u8>, Refused> {
        let stored = self.shared.outbox.receipts_of(self.row.delivery).await?;
        // One that earlier keys of ours have signed may not count any more: the receiver gets another.
        let own = self.shared.identity().fingerprint();
        let same = stored.into_iter().find(|stored| {
            Manifest::decode(&stored.manifest).is_ok_and(|Manifest { core, .. }| {
                core.attempt == attempt && core.receipt == receipt && core.sender == own
            })
        });
        match same {
            Some(stored) => Ok(stored.manifest),
            None => self.countersigned(attempt, receipt).await,
        }
    }

    async fn receipt(
        &self,
        file: &ReceiptFile,
        receipt: Vec<u8>,
        settlement: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        let said = self.verified(file)?;
        let manifest = self.countersigned(said.attempt, said.digest()).await?;
        let now = Timestamp::now();
        // The destination answers after the last chunk, which left after it was in our custody. What was taken by an earlier run has
        // the time of a clock that may have been another; a row of this one that was not read from the outbox has no place yet.
        if self.row.sequence == 0 || self.row.sequence > self.shared.newest_at_start {
            self.shared.heard.clocks.said(&said.receiver.name, said.answered_at, (self.row.received_at, now));
        }
        let new = NewReceipt {
            delivery: said.delivery,
            attempt: said.attempt,
            status: said.status,
            level: said.level.number(),
            pledge_follows: said.level == Level::Awaited,
            answered_at: said.answered_at,
            receipt,
            settlement: settlement.to_vec(),
            manifest: manifest.clone(),
            progress: self.shared.flights.take(said.delivery),
        };
        match said.outcome {
            Outcome::Stored => {
                let settled = self.shared.outbox.settled_stored(new, now).await?;
                if settled.released {
                    self.may_be_due();
                }
                let took = now.since(self.row.received_at);
                self.shared.counters.receipted(self.row.sealed.data_len, took, now);
                debug!(delivery = %self.row.delivery.short(), status = %said.status, "receipted");
            }
            Outcome::Refused => {
                let settled = self.shared.outbox.refused(new, now).await?;
                warn!(
                    delivery = %self.row.delivery.short(), ae = %self.leg.ae, destination = %self.row.destination,
                    status = %said.status, state = %settled.state,
                    "the destination refused an instance; `queue show` tells, `queue retry` or `queue discard` ends it"
                );
            }
        }
        self.shared.commitment.changed();
        self.shared.flights.land(self.row.delivery);
        self.shared.waiting.answer(self.row.delivery, Verdict::Answered(said.status));
        Ok(manifest)
    }

    /// What a receipt says, if it is the receiver's and about this delivery.
    fn verified(&self, file: &ReceiptFile) -> Result<Receipt, Refused> {
        let receiver = Party { name: self.leg.receiver.name.clone(), fingerprint: self.leg.receiver.id() };
        let want = Expectation {
            delivery: self.row.delivery,
            object: self.row.object,
            body_digest: self.row.sealed.body_digest,
            sender: self.shared.name(),
            receiver: &receiver,
            destination: &self.row.destination,
        };
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.verify_for(&want, self.leg.receiver.identities(Timestamp::now()), &mut cache)?.clone())
    }

    /// Whether the destination commits. The receipt that says so is the first one but for that, and is rebuilt from it.
    async fn second(&self, attempt: Attempt, digest: Digest, settlement: &[u8]) -> Result<Vec<u8>, Refused> {
        let stored = self.shared.outbox.receipts_of(self.row.delivery).await?;
        let is_known = stored.iter().any(|stored| {
            Manifest::decode(&stored.manifest).is_ok_and(|manifest| manifest.core.receipt == digest)
        });
        if is_known {
            return self.countersigned_again(attempt, digest).await;
        }
        let firsts = stored.iter().filter_map(|stored| Receipt::decode(&stored.receipt).ok());
        let Some((pledge, second)) = firsts.filter_map(|first| first.second_of(attempt, digest)).next()
        else {
            // An operator was faster than the first one, which was acknowledged and not kept.
            let nothing_kept = stored.is_empty() && self.row.state == spool::State::Discarded;
            return if nothing_kept {
                self.countersigned(attempt, digest).await
            } else {
                Err(Refused::NoFirst)
            };
        };
        let receipt = second.encode();
        let said = self.verified(&ReceiptFile::from_parts(&receipt, settlement, None)?)?;
        let manifest = self.countersigned(attempt, digest).await?;
        let outcome = match said.outcome {
            Outcome::Stored => spool::Outcome::Stored,
            Outcome::Refused => spool::Outcome::Refused,
        };
        let new = NewReceipt {
            delivery: said.delivery,
            attempt,
            status: said.status,
            level: said.level.number(),
            pledge_follows: false,
            answered_at: said.answered_at,
            receipt,
            settlement: settlement.to_vec(),
            manifest: manifest.clone(),
            progress: Vec::new(),
        };
        self.shared.outbox.pledged(new, outcome, Timestamp::now()).await?;
        let delivery = self.row.delivery.short();
        match pledge {
            Pledge::Committed => debug!(%delivery, "committed by its destination"),
            Pledge::Refused(_) | Pledge::Unanswered => {
                warn!(%delivery, ae = %self.leg.ae, destination = %self.row.destination, ?pledge, "the destination has an instance and does not commit to it; whoever asks for commitment hears that it failed");
            }
        }
        self.shared.commitment.changed();
        Ok(manifest)
    }

    /// The outbox has it again, as far as it had ever left: what is known of its deposit goes there first.
    async fn back_to_outbox(&self) {
        self.shared.flights.land(self.row.delivery);
        flights::write_steps(self.shared, self.row.delivery).await;
    }

    /// The dispatcher asks the outbox.
    fn may_be_due(&self) {
        drop(self.shared.lanes.fall_behind(self.leg.id));
        self.shared.dispatch.wake();
    }

    async fn deferred(&self, deferred: &Deferred) -> Result<(), Refused> {
        let permanent = deferred.reason == DeferReason::RejectedPermanent;
        let reason = defer_text(deferred.reason);
        if permanent {
            warn!(ae = %self.leg.ae, destination = %self.row.destination, "the destination refuses its gateway for good: is our AE title entered there, or are a web service's URL and credentials right?");
        }
        let deferral = Deferral {
            status: deferred.status,
            reason: reason.to_owned(),
            not_before: Some(deferred.not_before),
            permanent,
        };
        debug!(delivery = %self.row.delivery.short(), status = ?deferred.status, reason, "deferred");
        let (delivery, attempt) = (self.row.delivery, deferred.attempt);
        self.back_to_outbox().await;
        self.shared.outbox.deferred(delivery, attempt, deferral, crate::jitter(), Timestamp::now()).await?;
        self.may_be_due();
        self.shared.waiting.answer(delivery, Verdict::NotDelivered);
        Ok(())
    }

    async fn nack(&self, attempt: Attempt, reason: NackReason) -> Result<(), Refused> {
        let text = reason.as_str();
        let delivery = self.row.delivery;
        let remedy = match reason {
            NackReason::NotPinned => {
                "the receiving gateway has to pin our card; if our keys were rotated, it takes the new one by `gateway-in peer update CARD`"
            }
            _ => "",
        };
        warn!(delivery = %delivery.short(), attempt = attempt.0, reason = text, remedy, "the receiver could not use an envelope");
        self.back_to_outbox().await;
        self.shared.outbox.nacked(delivery, attempt, text, crate::jitter(), Timestamp::now()).await?;
        self.may_be_due();
        self.shared.waiting.answer(delivery, Verdict::NotDelivered);
        Ok(())
    }

    async fn notice(&self, attempt: Attempt, kind: NoticeKind) -> Result<(), Refused> {
        let loss = match kind {
            NoticeKind::Expired => Loss::Expired,
            NoticeKind::Gone => Loss::Gone,
            NoticeKind::NotAdmitted => Loss::NotAdmitted,
        };
        let delivery = self.row.delivery;
        info!(delivery = %delivery.short(), attempt = attempt.0, ?kind, "the relay has it no longer; it is deposited again");
        self.back_to_outbox().await;
        self.shared.outbox.lost(delivery, attempt, loss, crate::jitter(), Timestamp::now()).await?;
        self.may_be_due();
        self.shared.waiting.answer(delivery, Verdict::NotDelivered);
        Ok(())
    }
}

/// The receiver was restarted, or the session's life is over: nothing is wrong with the body.
fn asks_for_new_session(reason: NackReason) -> bool {
    matches!(
        reason,
        NackReason::UnknownPrekey | NackReason::PrekeyUsed | NackReason::UnknownSession | NackReason::Expired
    )
}

fn defer_text(reason: DeferReason) -> &'static str {
    match reason {
        DeferReason::Status => "the destination asks to try again",
        DeferReason::TimeOut => "the destination did not answer; the instance may be stored",
        DeferReason::Aborted => "the association or connection broke before the instance was sent",
        DeferReason::Unreachable => "the destination cannot be reached",
        DeferReason::RejectedTransient => "the destination takes no associations or requests for now",
        DeferReason::RejectedPermanent => "the destination refuses its gateway for good",
        DeferReason::FolderFailed => "the destination's folder cannot be written",
        DeferReason::DestinationDown => "the destination is down",
    }
}
