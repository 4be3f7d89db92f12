//! One deposit: addressed, offered in its turn, sent, and its outcome written down.

use std::sync::Arc;

use base::{Attempt, BootId, DeliveryId, Digest, Timestamp};
use envelope::HeaderFields;
use spool::{Delivery, Progress, SealedFacts, Step};
use tokio::sync::{Notify, oneshot, watch};
use tracing::{debug, error};
use transport::{BodySource, DepositError, Deposited, Offer, Offered, Uplink};

use super::{Ended, FIRST, Live, PAUSE, Ready, Sealing};
use crate::{
    app::Shared,
    flights::{self, Flight},
    lanes::Slot,
    routes::Leg,
    sessions::NoSession,
    tail::Tail,
};

/// Dropped with the last turn of a batch: the next one may begin.
pub(super) struct AllOffered {
    pub(super) done: watch::Sender<bool>,
    pub(super) wake: Arc<Notify>,
}

impl Drop for AllOffered {
    fn drop(&mut self) {
        self.done.send_replace(true);
        self.wake.notify_one();
    }
}

/// A deposit's place among the offers of its route; passed on when dropped.
pub(super) struct Turn {
    pub(super) before: oneshot::Receiver<()>,
    pub(super) _mine: oneshot::Sender<()>,
    pub(super) _batch: Option<Arc<AllOffered>>,
}

impl Turn {
    /// Waits until all before it are offered, or will not be.
    async fn come(&mut self) {
        // Whoever is before only ever drops its end.
        let _ = (&mut self.before).await;
    }
}

/// Deposits what lies in the outbox.
pub(super) async fn spooled(
    shared: Arc<Shared>,
    leg: Arc<Leg>,
    row: Delivery,
    turn: Turn,
    _slot: Slot,
) -> Ended {
    let delivery = row.delivery;
    let pause = match deposit_spooled(&shared, &leg, row, turn).await {
        Ok(pause) => pause.then_some(leg.id),
        Err(error) => {
            error!(delivery = %delivery.short(), %error, "deposit failed on our side");
            Some(leg.id)
        }
    };
    Ended { delivery, pause }
}

/// `Ok(true)` asks for a pause of the route.
async fn deposit_spooled(
    shared: &Arc<Shared>,
    leg: &Arc<Leg>,
    row: Delivery,
    turn: Turn,
) -> anyhow::Result<bool> {
    if shared.uplink().is_none() {
        return Ok(true);
    }
    let content_key = shared.outbox.content_key(row.object).await?;
    let sealing = Sealing::of_row(&row, content_key)?;
    let attempt = shared.outbox.start_attempt(row.delivery, Timestamp::now()).await?;
    let (delivery, facts) = (row.delivery, row.sealed);
    let reader = shared.outbox.body(row.object)?;
    let body = Tail::complete(reader, facts.sealed_len, facts.body_digest);
    shared.flights.enter(Flight { row: Delivery { attempt, ..row }, sealing: sealing.clone() });
    let deposit = Deposit { delivery, attempt, sealing: &sealing, facts: &facts };
    let outcome = deposit.in_turn(shared, leg, body, turn).await;
    record(shared, leg, delivery, attempt, outcome).await
}

/// Deposits what was just committed.
pub(super) async fn committed(shared: Arc<Shared>, ready: Ready, turn: Turn, _slot: Slot) -> Ended {
    let Ready { delivery, leg, sealing, facts, body, .. } = ready;
    let deposit = Deposit { delivery, attempt: FIRST, sealing: &sealing, facts: &facts };
    let outcome = deposit.in_turn(&shared, &leg, body, turn).await;
    let pause = record(&shared, &leg, delivery, FIRST, outcome).await.unwrap_or_else(|error| {
        error!(delivery = %delivery.short(), %error, "deposit could not be recorded");
        true
    });
    Ended { delivery, pause: pause.then_some(leg.id) }
}

/// A deposit of a complete body.
struct Deposit<'a> {
    delivery: DeliveryId,
    attempt: Attempt,
    sealing: &'a Sealing,
    facts: &'a SealedFacts,
}

impl Deposit<'_> {
    /// Offers it when its turn has come, passes the turn on, and sends the body.
    async fn in_turn(
        &self,
        shared: &Shared,
        leg: &Leg,
        body: impl BodySource,
        mut turn: Turn,
    ) -> Result<BootId, NotDeposited> {
        turn.come().await;
        // Where the leg's rate lets one body go at a time, it is offered only when it may go.
        let line = leg.pace.line().await;
        let uplink = shared.uplink().ok_or(DepositError::Disconnected)?;
        let size = Some((self.facts.sealed_len, self.facts.body_digest));
        let offered = offer(shared, uplink, leg, self.delivery, self.attempt, self.sealing, size).await;
        drop(turn);
        sent(offered?.send(line.paced(body)).await)
    }
}

/// Deposits what is still being received. Its row comes with the commit, and says attempt 1.
pub(super) async fn cut_through(shared: Arc<Shared>, live: Live, _slot: Slot) -> Ended {
    let Live { delivery, leg, sealing, body } = live;
    let committed = body.committed();
    let outcome = match shared.uplink() {
        Some(uplink) => deposit(&shared, uplink, &leg, delivery, FIRST, &sealing, body).await,
        None => Err(NotDeposited::Deposit(DepositError::Disconnected)),
    };
    // Without a commit there is no row that could be told, and nothing complete has left.
    if committed.wait().await
        && let Err(error) = record(&shared, &leg, delivery, FIRST, outcome).await
    {
        error!(delivery = %delivery.short(), %error, "deposit could not be recorded");
    }
    Ended { delivery, pause: None }
}

/// Why a deposit did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum NotDeposited {
    /// No header could be made.
    #[error(transparent)]
    Session(#[from] NoSession),
    /// The relay.
    #[error(transparent)]
    Deposit(#[from] DepositError),
}

/// Addresses a body and offers it to the relay.
pub(crate) async fn offer(
    shared: &Shared,
    uplink: &Uplink,
    leg: &Leg,
    delivery: DeliveryId,
    attempt: Attempt,
    sealing: &Sealing,
    size: Option<(u64, Digest)>,
) -> Result<Offered, NotDeposited> {
    let fields = HeaderFields { delivery, attempt, body: sealing.context, commitment: sealing.commitment };
    let header = shared.sessions.header(uplink, leg, &fields, &sealing.content_key).await?;
    shared.sessions.sent(delivery, attempt, header.session);
    let offer = Offer {
        delivery,
        attempt,
        recipient: leg.receiver.id(),
        route: leg.id,
        header: header.bytes,
        size: size.map(|(size, _)| size),
        digest: size.map(|(_, digest)| digest),
        urgency: leg.urgency,
    };
    Ok(uplink.offer(offer).await?)
}

/// Addresses a body whose length is not known yet and hands it to the relay while it grows.
async fn deposit(
    shared: &Shared,
    uplink: &Uplink,
    leg: &Leg,
    delivery: DeliveryId,
    attempt: Attempt,
    sealing: &Sealing,
    body: impl BodySource,
) -> Result<BootId, NotDeposited> {
    let offered = offer(shared, uplink, leg, delivery, attempt, sealing, None).await?;
    sent(offered.send(body).await)
}

fn sent(outcome: Result<Deposited, DepositError>) -> Result<BootId, NotDeposited> {
    match outcome {
        Ok(deposited) => Ok(deposited.boot),
        // The relay has it from an earlier connection, or its recipient has answered: the answer comes again.
        Err(DepositError::Known { boot, .. }) => Ok(boot),
        Err(error) => Err(error.into()),
    }
}

/// Writes down what came of a deposit; `true` asks for a pause of the route.
async fn record(
    shared: &Shared,
    leg: &Leg,
    delivery: DeliveryId,
    attempt: Attempt,
    outcome: Result<BootId, NotDeposited>,
) -> anyhow::Result<bool> {
    let now = Timestamp::now();
    let error = match outcome {
        Ok(boot) => {
            debug!(delivery = %delivery.short(), attempt = attempt.0, "relayed");
            shared.flights.note(Progress { delivery, attempt, step: Step::Relayed(boot), at: now });
            return Ok(false);
        }
        Err(error) => error,
    };
    let pause = !matches!(error, NotDeposited::Deposit(DepositError::Disconnected | DepositError::Abandoned));
    debug!(delivery = %delivery.short(), attempt = attempt.0, %error, "not relayed");
    // It is due in the outbox again: nothing of its route goes before it.
    let waits = shared.lanes.fall_behind(leg.id);
    shared.flights.land(delivery);
    flights::write_steps(shared, delivery).await;
    let again_at = if pause { now.after(PAUSE) } else { now };
    shared.outbox.deposit_failed(delivery, attempt, &error.to_string(), again_at, now).await?;
    drop(waits);
    Ok(pause)
}
