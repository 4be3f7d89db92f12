//! `respond = "delivered"`: the PACS gets the destination's own answer. No body and no key is kept
//! here; what does not come back in time is answered A700, and the PACS still owns the instance.

use std::{sync::Arc, time::Duration};

use base::{Attempt, DeliveryId, InstanceMeta, Timestamp};
use bytes::Bytes;
use dimse::AssociationError;
use spool::{NewUnspooled, Outcome, UnspooledDecision};
use tokio::{
    sync::mpsc,
    task::block_in_place,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, error, info, warn};
use transport::{BodyPiece, BodySource, DepositError};

use crate::{
    answers::{Answer, Cause},
    app::Shared,
    arriving::{Arrived, Arriving, Checked},
    dispatch::{self, NotDeposited, Sealing},
    pipeline::{self, changed_content, new_delivery, not_committed},
    routes::{Leg, Route},
    routing::Fragments,
    tail::{Pipe, Tail},
    waiting::Verdict,
};

/// Nobody was told to expect anything: what follows is decided by the first attempt alone.
const ATTEMPT: Attempt = Attempt(1);

/// Receives one instance and waits for the destination.
pub(crate) async fn store(
    mut arriving: Arriving<'_>,
    fragments: &mut Fragments<'_>,
) -> Result<Answer, AssociationError> {
    if !arriving.cuts_through() {
        return store_whole(arriving, fragments).await;
    }
    let (writer, pipe) = Pipe::new();
    let way = Way::of(&arriving);
    let deposit = way.deposit(arriving.sealing.clone(), pipe);
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
    let answer = Delivering { arriving, way, writer, deposit }.finish(sealed).await;
    Ok(answer)
}

/// Of an instance that is pseudonymized nothing leaves before all of it has passed. Until then it lies in a file that is never
/// committed, and whose key is nowhere but here.
async fn store_whole(
    mut arriving: Arriving<'_>,
    fragments: &mut Fragments<'_>,
) -> Result<Answer, AssociationError> {
    let begun = pipeline::begin_body(arriving.shared, arriving.sealing.context.object);
    let mut file = match begun {
        Ok(file) => file,
        Err(cause) => {
            fragments.drain().await?;
            return Ok(cause.into());
        }
    };
    let mut sealed = Vec::new();
    while let Some(fragment) = fragments.next().await? {
        let step = arriving.fragment(&fragment, &mut sealed);
        if let Err(cause) = step.and_then(|()| pipeline::write_enough(&mut file, &mut sealed)) {
            fragments.drain().await?;
            return Ok(cause.into());
        }
    }
    let (way, sealing) = (Way::of(&arriving), arriving.sealing.clone());
    let (route, meta, received_at) = (arriving.route, arriving.meta, arriving.received_at);
    let arrived = match pipeline::end(arriving, &mut file, sealed, false) {
        Ok(ended) => ended.arrived,
        Err(cause) => return Ok(cause.into()),
    };
    if let Err(answer) = way.begin(route, meta, (&arrived, &sealing), received_at).await {
        return Ok(answer);
    }
    let verdict = way.shared.waiting.enter(way.delivery, sealing.clone(), Timestamp::now());
    let body = Tail::complete(file.reader(), arrived.body.sealed_len, arrived.body.digest);
    let deposit = way.deposit(sealing, body);
    let wait = way.shared.settings.retry.delivered_timeout.0;
    let answered = answered(verdict, deposit, wait).await;
    drop(file);
    Ok(way.answer(answered, &arrived).await)
}

async fn write(writer: &mpsc::Sender<BodyPiece>, sealed: &mut Vec<u8>) -> bool {
    writer.send(BodyPiece::Data(Bytes::from(std::mem::take(sealed)))).await.is_ok()
}

/// How often a link or prekey that is not there yet is looked for.
const LINK_POLL: Duration = Duration::from_millis(50);

type Deposit = tokio::task::JoinHandle<Result<(), NotDeposited>>;

/// The only leg of the route, and the delivery along it.
struct Way {
    shared: Arc<Shared>,
    leg: Arc<Leg>,
    delivery: DeliveryId,
}

impl Way {
    fn of(arriving: &Arriving<'_>) -> Self {
        // A route with several destinations does not answer this way: `check` refuses it.
        let leg = Arc::clone(arriving.route.legs.first());
        let delivery = leg.delivery(arriving.shared.name(), arriving.sealing.context.object);
        Self { shared: Arc::clone(arriving.shared), leg, delivery }
    }

    fn deposit(&self, sealing: Sealing, body: impl BodySource + 'static) -> Deposit {
        let (shared, leg, delivery) = (Arc::clone(&self.shared), Arc::clone(&self.leg), self.delivery);
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

    /// Makes its row; or the answer, where it need not or must not be sent.
    async fn begin(
        &self,
        route: &Route,
        meta: &InstanceMeta,
        (arrived, sealing): (&Arrived, &Sealing),
        received_at: Timestamp,
    ) -> Result<(), Answer> {
        let new = NewUnspooled {
            object: sealing.context.object,
            sealed: arrived.facts(sealing),
            record: arrived.record(meta),
            delivery: new_delivery(&self.leg, self.delivery, true),
            changed_content: changed_content(route),
            received_at,
        };
        match self.shared.outbox.begin_unspooled(new, Timestamp::now()).await {
            Ok(UnspooledDecision::New { .. }) => Ok(()),
            Ok(UnspooledDecision::AnswerFrom { outcome, status, delivery, first }) => {
                info!(ae = %route.ae, delivery = %delivery.short(), %status, ?outcome, "answered from a receipt that came late");
                // The attempt that the receipt is for waited in vain, and nothing was noted of it yet.
                if first && outcome == Outcome::Stored {
                    arrived.note(&self.shared);
                }
                Err(Answer { status, comment: None })
            }
            Ok(UnspooledDecision::Earlier { earlier }) => {
                info!(ae = %route.ae, earlier = %earlier.short(), "an earlier version is on its way; the PACS shall come again");
                Err(Cause::NotDelivered.into())
            }
            Ok(UnspooledDecision::HeldLoop { count }) => {
                warn!(ae = %route.ae, count, "same content again and again: routing loop or endless re-send?");
                Err(Cause::NotDelivered.into())
            }
            Err(error) => Err(not_committed(&error).into()),
        }
    }

    /// What the PACS is told at the end.
    async fn answer(&self, answered: Option<base::Status>, arrived: &Arrived) -> Answer {
        if let Some(status) = answered {
            self.shared.counters.accepted(arrived.body.data_len, Timestamp::now());
            arrived.note(&self.shared);
            return Answer { status, comment: None };
        }
        give_back(&self.shared, &self.leg, self.delivery).await;
        Cause::NotDelivered.into()
    }
}

/// A data set that has been received and waits for its answer.
struct Delivering<'a> {
    arriving: Arriving<'a>,
    way: Way,
    writer: mpsc::Sender<BodyPiece>,
    deposit: Deposit,
}

impl Delivering<'_> {
    async fn finish(self, mut sealed: Vec<u8>) -> Answer {
        let Self { arriving, way, writer, deposit } = self;
        let (route, meta, received_at) = (arriving.route, arriving.meta, arriving.received_at);
        let sealing = arriving.sealing.clone();
        let Checked { findings, mut tail, deeds } = match arriving.finish(&mut sealed) {
            Ok(checked) => checked,
            Err(cause) => return cause.into(),
        };
        while block_in_place(|| tail.padding(&mut sealed)) {
            if !write(&writer, &mut sealed).await {
                return Cause::NotDelivered.into();
            }
        }
        let body = tail.finish(&mut sealed);
        let arrived = Arrived { findings, body, deeds };
        if let Err(answer) = way.begin(route, meta, (&arrived, &sealing), received_at).await {
            return answer;
        }
        let verdict = way.shared.waiting.enter(way.delivery, sealing, Timestamp::now());
        let last = writer.send(BodyPiece::Data(sealed.into())).await.is_ok()
            && writer.send(BodyPiece::End(arrived.body.digest)).await.is_ok();
        drop(writer);
        let wait = way.shared.settings.retry.delivered_timeout.0;
        let answered = if last { answered(verdict, deposit, wait).await } else { None };
        way.answer(answered, &arrived).await
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
