//! `respond = "delivered"`: the PACS gets the destination's own answer. No body and no key is stored
//! here; what does not come back in time is answered A700, and the PACS still owns the instance.

use std::{sync::Arc, time::Duration};

use base::{Attempt, DeliveryId, Timestamp};
use bytes::Bytes;
use dimse::AssociationError;
use spool::{NewUnspooled, UnspooledDecision};
use tokio::{
    sync::mpsc,
    task::block_in_place,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, error, info, warn};
use transport::{BodyPiece, DepositError};

use crate::{
    answers::{Answer, Cause},
    app::Shared,
    dispatch::{self, NotDeposited},
    pipeline::{Arrived, Arriving, changed_content, new_delivery, not_committed},
    routes::Leg,
    routing::Fragments,
    tail::Pipe,
    waiting::Verdict,
};

/// Nobody was told to expect anything: what follows is decided by the first attempt alone.
const ATTEMPT: Attempt = Attempt(1);

/// Receives one instance and waits for the destination.
pub(crate) async fn store(
    mut arriving: Arriving<'_>,
    fragments: &mut Fragments<'_>,
) -> Result<Answer, AssociationError> {
    let (writer, pipe) = Pipe::new();
    // A route with several destinations does not answer this way: `check` refuses it.
    let leg = Arc::clone(arriving.route.legs.first());
    let delivery = leg.delivery(arriving.shared.name(), arriving.sealing.context.object);
    let deposit = start_deposit(&arriving, Arc::clone(&leg), delivery, pipe);
    let mut sealed = Vec::new();
    while let Some(fragment) = fragments.next().await? {
        // An error above drops the writer: the deposit is abandoned with it.
        let walked = arriving.fragment(&fragment, &mut sealed);
        if let Err(cause) = walked {
            drop(writer);
            fragments.drain().await?;
            return Ok(cause.into());
        }
        if !sealed.is_empty() && !write(&writer, &mut sealed).await {
            // The relay took it no further; the PACS will send it again.
            fragments.drain().await?;
            return Ok(Cause::NotDelivered.into());
        }
    }
    let answer = Delivering { arriving, leg, delivery, writer, deposit }.finish(sealed).await;
    Ok(answer)
}

async fn write(writer: &mpsc::Sender<BodyPiece>, sealed: &mut Vec<u8>) -> bool {
    writer.send(BodyPiece::Data(Bytes::from(std::mem::take(sealed)))).await.is_ok()
}

/// How often a link or prekey that is not there yet is looked for.
const LINK_POLL: Duration = Duration::from_millis(50);

type Deposit = tokio::task::JoinHandle<Result<(), NotDeposited>>;

fn start_deposit(arriving: &Arriving<'_>, leg: Arc<Leg>, delivery: DeliveryId, body: Pipe) -> Deposit {
    let (shared, sealing) = (Arc::clone(arriving.shared), arriving.sealing.clone());
    // A link or a prekey that comes a moment later is no reason to send the PACS away: the time-out is.
    let until = Instant::now() + shared.settings.retry.delivered_timeout.0;
    tokio::spawn(async move {
        let offered = loop {
            let offered = match shared.uplink() {
                Some(uplink) => {
                    dispatch::offer(&shared, uplink, &leg, delivery, ATTEMPT, &sealing, None).await
                }
                None => Err(DepositError::Disconnected.into()),
            };
            match offered {
                Ok(offered) => break offered,
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => sleep(LINK_POLL).await,
            }
        };
        Ok(offered.send(body).await.map(drop)?)
    })
}

/// A data set that has been received and waits for its answer.
struct Delivering<'a> {
    arriving: Arriving<'a>,
    leg: Arc<Leg>,
    delivery: DeliveryId,
    writer: mpsc::Sender<BodyPiece>,
    deposit: Deposit,
}

impl Delivering<'_> {
    async fn finish(self, mut sealed: Vec<u8>) -> Answer {
        let Self { arriving, leg, delivery, writer, deposit } = self;
        let (shared, route, meta) = (arriving.shared, arriving.route, arriving.meta);
        let received_at = arriving.received_at;
        let sealing = arriving.sealing.clone();
        let (findings, mut tail) = match arriving.finish() {
            Ok(checked) => checked,
            Err(cause) => return cause.into(),
        };
        while block_in_place(|| tail.padding(&mut sealed)) {
            if !write(&writer, &mut sealed).await {
                return Cause::NotDelivered.into();
            }
        }
        let body = tail.finish(&mut sealed);
        let arrived = Arrived { findings, body };
        let new = NewUnspooled {
            object: sealing.context.object,
            sealed: arrived.facts(&sealing),
            record: arrived.record(meta),
            delivery: new_delivery(&leg, delivery, true),
            changed_content: changed_content(route),
            received_at,
        };
        match shared.outbox.begin_unspooled(new, Timestamp::now()).await {
            Ok(UnspooledDecision::New { .. }) => {}
            Ok(UnspooledDecision::AnswerFrom { outcome, status, delivery }) => {
                info!(ae = %route.ae, delivery = %delivery.short(), %status, ?outcome, "answered from a receipt that came late");
                return Answer { status, comment: None };
            }
            Ok(UnspooledDecision::Earlier { earlier }) => {
                info!(ae = %route.ae, earlier = %earlier.short(), "an earlier version is on its way; the PACS shall come again");
                return Cause::NotDelivered.into();
            }
            Ok(UnspooledDecision::HeldLoop { count }) => {
                warn!(ae = %route.ae, count, "same content again and again: routing loop or endless re-send?");
                return Cause::NotDelivered.into();
            }
            Err(error) => return not_committed(&error).into(),
        }
        let verdict = shared.waiting.enter(delivery, sealing, Timestamp::now());
        let last = writer.send(BodyPiece::Data(sealed.into())).await.is_ok()
            && writer.send(BodyPiece::End(arrived.body.digest)).await.is_ok();
        drop(writer);
        let wait = shared.settings.retry.delivered_timeout.0;
        let answered = if last { answered(verdict, deposit, wait).await } else { None };
        if let Some(status) = answered {
            shared.counters.accepted(arrived.body.data_len);
            return Answer { status, comment: None };
        }
        give_back(shared, &leg, delivery).await;
        Cause::NotDelivered.into()
    }
}

/// The destination's status, if it comes in time.
async fn answered(
    verdict: tokio::sync::oneshot::Receiver<Verdict>,
    mut deposit: Deposit,
    wait: Duration,
) -> Option<base::Status> {
    let both = async {
        tokio::pin!(verdict);
        let mut deposited = false;
        loop {
            tokio::select! {
                verdict = &mut verdict => return verdict.ok(),
                ended = &mut deposit, if !deposited => match ended {
                    Ok(Ok(())) => deposited = true,
                    Ok(Err(error)) => {
                        debug!(%error, "not relayed");
                        return None;
                    }
                    Err(error) => {
                        error!(%error, "a deposit stopped");
                        return None;
                    }
                },
            }
        }
    };
    match timeout(wait, both).await {
        Ok(Some(Verdict::Answered(status))) => Some(status),
        _ => None,
    }
}

/// Calls the delivery off: honoured until its last fragment leaves gateway-in. A receipt that still
/// comes is kept, and answers the same content when the PACS sends it again.
async fn give_back(shared: &Shared, leg: &Leg, delivery: DeliveryId) {
    if let Some(uplink) = shared.uplink() {
        // Without a connection there is nobody to call.
        let _ = uplink.cancel(leg.receiver.id(), delivery, ATTEMPT).await;
    }
    info!(ae = %leg.ae, delivery = %delivery.short(), "not delivered in time; the PACS was told so and owns the instance");
    if let Err(error) = shared.outbox.returned(delivery, "not delivered in time", Timestamp::now()).await {
        warn!(%error, "outbox cannot be written");
    }
}
