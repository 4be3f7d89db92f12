//! Carries the outbox to the relay: which delivery is deposited when, and what follows from it.
//!
//! One task decides; a deposit is a task of its own. The outbox is the truth: what runs is known here
//! only so that nothing runs twice.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::{Attempt, BootId, DeliveryId, Digest, RouteId, Secret, Timestamp};
use envelope::{BodyContext, Commitment, HeaderFields, Suite};
use spool::Delivery;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use transport::{BodySource, DepositError, Deposited, Offer, Offered, Uplink};

use crate::{app::Shared, routes::Route, sessions::NoSession, tail::Tail};

/// A route is given work when this part of its slots is free.
const REFILL_PART: usize = 4;
/// How often the outbox is asked without being told: commands of other processes show up by then.
const POLL: Duration = Duration::from_secs(1);
/// A route without a prekey, or a deposit that the relay declined, waits this long.
const PAUSE: Duration = Duration::from_secs(1);
/// Deliveries that one look parks for their age.
const PARKED_AT_ONCE: u32 = 1000;
/// How long the key of a `respond = "delivered"` instance is kept for a receipt that comes late.
const LATE_RECEIPT_MS: u64 = 3_600_000;
/// Cut-through bodies that wait for the dispatcher; beyond it they go after their commit.
const LIVE_MAX: usize = 64;

/// A body that leaves while it is being received.
#[derive(Debug)]
pub struct Live {
    /// The delivery it will be.
    pub delivery: DeliveryId,
    /// The way it takes.
    pub route: Arc<Route>,
    /// What the header says of the body.
    pub sealing: Sealing,
    /// The growing body.
    pub body: Tail,
}

/// What a header needs to know of a sealed body.
#[derive(Debug, Clone)]
pub struct Sealing {
    /// Suite, object and profile.
    pub context: BodyContext,
    /// Commits the body to its key.
    pub commitment: Commitment,
    /// Seals the body.
    pub content_key: Secret<[u8; 32]>,
}

/// Told what there is to do.
#[derive(Debug, Clone)]
pub struct Dispatch {
    live: mpsc::Sender<Live>,
    wake: Arc<Notify>,
    // Owned by `live`, `is_live` and `LiveNow::drop`; never held across an await.
    live_now: Arc<Mutex<HashSet<DeliveryId>>>,
}

/// Held while a body leaves before its commit: until it is dropped, answers may come for a delivery that has
/// no row yet.
#[derive(Debug)]
pub struct LiveNow {
    delivery: DeliveryId,
    of: Arc<Mutex<HashSet<DeliveryId>>>,
}

impl Drop for LiveNow {
    fn drop(&mut self) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.delivery);
    }
}

/// The dispatcher's own end of [`Dispatch`].
#[derive(Debug)]
pub struct Orders {
    live: mpsc::Receiver<Live>,
    wake: Arc<Notify>,
}

impl Dispatch {
    /// Both ends.
    pub fn new() -> (Self, Orders) {
        let (live, orders) = mpsc::channel(LIVE_MAX);
        let wake = Arc::new(Notify::new());
        (Self { live, wake: Arc::clone(&wake), live_now: Arc::default() }, Orders { live: orders, wake })
    }

    /// Lets a body leave while it is being received; `None` where it has to wait for its commit.
    pub fn live(&self, live: Live) -> Option<LiveNow> {
        let now = LiveNow { delivery: live.delivery, of: Arc::clone(&self.live_now) };
        self.live_now.lock().unwrap_or_else(PoisonError::into_inner).insert(live.delivery);
        self.live.try_send(live).ok().map(|()| now)
    }

    /// Whether a body is leaving before its commit.
    pub fn is_live(&self, delivery: DeliveryId) -> bool {
        self.live_now.lock().unwrap_or_else(PoisonError::into_inner).contains(&delivery)
    }

    /// Something may be due.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// Runs until `stop` ends; deposits under way are abandoned then and go on after the next start.
pub async fn run(shared: Arc<Shared>, orders: Orders, stop: CancellationToken) -> Result<(), std::io::Error> {
    let Orders { mut live, wake } = orders;
    let mut dispatcher = Dispatcher {
        shared,
        wake: Arc::clone(&wake),
        deposits: JoinSet::new(),
        running: HashMap::new(),
        offering: HashMap::new(),
        paused: HashMap::new(),
    };
    let mut housekeeping = Instant::now();
    loop {
        if Instant::now() >= housekeeping {
            housekeeping = Instant::now() + POLL;
            dispatcher.keep_house().await;
        }
        dispatcher.fill().await;
        let next = dispatcher.next_wake().await;
        tokio::select! {
            () = stop.cancelled() => break,
            () = wake.notified() => {}
            () = sleep_until(next) => {}
            Some(body) = live.recv() => dispatcher.start_live(body),
            Some(ended) = dispatcher.deposits.join_next(), if !dispatcher.deposits.is_empty() => dispatcher.ended(ended),
        }
    }
    dispatcher.deposits.shutdown().await;
    Ok(())
}

struct Dispatcher {
    shared: Arc<Shared>,
    wake: Arc<Notify>,
    deposits: JoinSet<Ended>,
    running: HashMap<DeliveryId, RouteId>,
    /// Routes whose offers are being made, one after another.
    offering: HashMap<RouteId, watch::Receiver<bool>>,
    /// Routes that have no session, or whose relay declines, until when.
    paused: HashMap<RouteId, Instant>,
}

/// Dropped with the last turn of a batch: the next one may begin.
struct AllOffered {
    done: watch::Sender<bool>,
    wake: Arc<Notify>,
}

impl Drop for AllOffered {
    fn drop(&mut self) {
        self.done.send_replace(true);
        self.wake.notify_one();
    }
}

/// A deposit's place among the offers of its batch; passed on when dropped.
struct Turn {
    before: oneshot::Receiver<()>,
    _mine: oneshot::Sender<()>,
    _batch: Arc<AllOffered>,
}

impl Turn {
    /// Waits until all before it are offered, or will not be.
    async fn come(&mut self) {
        // Whoever is before only ever drops its end.
        let _ = (&mut self.before).await;
    }
}

/// A deposit that came to an end, however.
struct Ended {
    delivery: DeliveryId,
    pause: Option<RouteId>,
}

impl Dispatcher {
    /// What nobody asks for: changes by other processes are taken over, what is too old is parked, keys
    /// of deliveries that the PACS owns again are forgotten.
    async fn keep_house(&self) {
        let now = Timestamp::now();
        let outbox = &self.shared.outbox;
        if let Err(error) = outbox.changed(now).await {
            error!(%error, "outbox cannot be read");
        }
        match outbox.park_overdue(PARKED_AT_ONCE, now).await {
            Ok(parked) if parked.is_empty() => {}
            Ok(parked) => warn!(
                instances = parked.len(),
                "older than age_max and parked; `queue ls --state parked` lists them"
            ),
            Err(error) => error!(%error, "outbox cannot be written"),
        }
        self.shared.waiting.expire(Timestamp(now.0.saturating_sub(LATE_RECEIPT_MS)));
    }

    /// Starts deposits as far as limits allow: each route has slots of its own, so that one whose
    /// receiver is slow hides nothing of another.
    async fn fill(&mut self) {
        if self.shared.uplink().is_none() {
            return;
        }
        let now = Instant::now();
        self.paused.retain(|_, until| *until > now);
        let shared = Arc::clone(&self.shared);
        let slots = shared.settings.retry.deposits_per_route;
        for route in shared.settings.routes.iter() {
            let offering = self.offering.get(&route.id).is_some_and(|offering| !*offering.borrow());
            if offering || self.paused.contains_key(&route.id) {
                continue;
            }
            let busy = self.running.values().filter(|id| **id == route.id).count();
            let free = slots.saturating_sub(busy);
            // Not before several can start: each look at the outbox costs as much as a deposit's rows.
            if free * REFILL_PART < slots {
                continue;
            }
            // Those that have just started may not have told the outbox yet.
            let limit = u32::try_from(slots).unwrap_or(u32::MAX);
            match shared.outbox.due_on(route.id, Timestamp::now(), limit).await {
                Ok(due) => self.start(&route, due, free),
                Err(error) => error!(%error, "outbox cannot be read"),
            }
        }
    }

    /// Offers are made one after another, in the order of the outbox, so that the instances of an
    /// association reach the destination in theirs; the bodies travel side by side.
    fn start(&mut self, route: &Arc<Route>, due: Vec<Delivery>, free: usize) {
        let waiting = due.into_iter().filter(|row| !self.running.contains_key(&row.delivery));
        let rows = waiting.take(free).collect::<Vec<_>>();
        let Some(first) = rows.first().map(|row| row.delivery) else { return };
        // Nobody is before the first.
        let mut before = oneshot::channel().1;
        let (all_offered, offering) = watch::channel(false);
        let all_offered = Arc::new(AllOffered { done: all_offered, wake: Arc::clone(&self.wake) });
        debug!(ae = %route.ae, first = %first.short(), deposits = rows.len(), "deposits begin");
        for row in rows {
            self.running.insert(row.delivery, row.route);
            let (mine, after) = oneshot::channel();
            let turn = Turn {
                before: std::mem::replace(&mut before, after),
                _mine: mine,
                _batch: Arc::clone(&all_offered),
            };
            self.deposits.spawn(spooled(Arc::clone(&self.shared), Arc::clone(route), row, turn));
        }
        self.offering.insert(route.id, offering);
    }

    fn start_live(&mut self, live: Live) {
        self.running.insert(live.delivery, live.route.id);
        self.deposits.spawn(cut_through(Arc::clone(&self.shared), live));
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        match ended {
            Ok(Ended { delivery, pause }) => {
                self.running.remove(&delivery);
                if let Some(route) = pause {
                    self.paused.insert(route, Instant::now() + PAUSE);
                }
            }
            Err(error) => {
                // Which one it was is not known any more; what runs is asked of the outbox again.
                error!(%error, "a deposit stopped");
                self.running.clear();
            }
        }
    }

    async fn next_wake(&self) -> Instant {
        let poll = Instant::now() + POLL;
        let due = match self.shared.outbox.next_due().await {
            Ok(Some(at)) => Instant::now() + at.since(Timestamp::now()).max(Duration::from_millis(50)),
            _ => poll,
        };
        due.min(poll)
    }
}

/// Deposits what lies in the outbox.
async fn spooled(shared: Arc<Shared>, route: Arc<Route>, row: Delivery, turn: Turn) -> Ended {
    let delivery = row.delivery;
    let pause = match deposit_spooled(&shared, &route, &row, turn).await {
        Ok(pause) => pause.then_some(route.id),
        Err(error) => {
            error!(delivery = %delivery.short(), %error, "deposit failed on our side");
            Some(route.id)
        }
    };
    Ended { delivery, pause }
}

/// `Ok(true)` asks for a pause of the route.
async fn deposit_spooled(
    shared: &Arc<Shared>,
    route: &Route,
    row: &Delivery,
    mut turn: Turn,
) -> anyhow::Result<bool> {
    let Some(uplink) = shared.uplink() else { return Ok(true) };
    let content_key = shared.outbox.content_key(row.object).await?;
    let sealing = Sealing::of_row(row, content_key)?;
    let attempt = shared.outbox.start_attempt(row.delivery, Timestamp::now()).await?;
    let reader = shared.outbox.body(row.object)?;
    let body = Tail::complete(reader, row.sealed.sealed_len, row.sealed.body_digest);
    let size = Some((row.sealed.sealed_len, row.sealed.body_digest));
    turn.come().await;
    let offered = offer(shared, uplink, route, row.delivery, attempt, &sealing, size).await;
    drop(turn);
    let outcome = match offered {
        Ok(offered) => sent(offered.send(body).await),
        Err(error) => Err(error),
    };
    record(shared, row.delivery, attempt, outcome).await
}

/// Deposits what is still being received. Its row comes with the commit, and says attempt 1.
async fn cut_through(shared: Arc<Shared>, live: Live) -> Ended {
    let Live { delivery, route, sealing, body } = live;
    let committed = body.committed();
    let outcome = match shared.uplink() {
        Some(uplink) => deposit(&shared, uplink, &route, delivery, Attempt(1), &sealing, body).await,
        None => Err(NotDeposited::Deposit(DepositError::Disconnected)),
    };
    // Without a commit there is no row that could be told, and nothing complete has left.
    if committed.wait().await
        && let Err(error) = record(&shared, delivery, Attempt(1), outcome).await
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
    route: &Route,
    delivery: DeliveryId,
    attempt: Attempt,
    sealing: &Sealing,
    size: Option<(u64, Digest)>,
) -> Result<Offered, NotDeposited> {
    let fields = HeaderFields { delivery, attempt, body: sealing.context, commitment: sealing.commitment };
    let header = shared.sessions.header(uplink, route, &fields, &sealing.content_key).await?;
    shared.sessions.sent(delivery, attempt, header.session);
    let offer = Offer {
        delivery,
        attempt,
        recipient: route.receiver.identity.fingerprint(),
        route: route.id,
        header: header.bytes,
        size: size.map(|(size, _)| size),
        digest: size.map(|(_, digest)| digest),
    };
    Ok(uplink.offer(offer).await?)
}

/// Addresses a body whose length is not known yet and hands it to the relay while it grows.
async fn deposit(
    shared: &Shared,
    uplink: &Uplink,
    route: &Route,
    delivery: DeliveryId,
    attempt: Attempt,
    sealing: &Sealing,
    body: impl BodySource,
) -> Result<BootId, NotDeposited> {
    let offered = offer(shared, uplink, route, delivery, attempt, sealing, None).await?;
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
    delivery: DeliveryId,
    attempt: Attempt,
    outcome: Result<BootId, NotDeposited>,
) -> anyhow::Result<bool> {
    let now = Timestamp::now();
    let error = match outcome {
        Ok(boot) => {
            debug!(delivery = %delivery.short(), attempt = attempt.0, "relayed");
            shared.outbox.relayed(delivery, attempt, boot, now).await?;
            return Ok(false);
        }
        Err(error) => error,
    };
    let pause = !matches!(error, NotDeposited::Deposit(DepositError::Disconnected | DepositError::Abandoned));
    debug!(delivery = %delivery.short(), attempt = attempt.0, %error, "not relayed");
    let again_at = if pause { now.after(PAUSE) } else { now };
    shared.outbox.deposit_failed(delivery, attempt, &error.to_string(), again_at, now).await?;
    Ok(pause)
}

impl Sealing {
    /// From the outbox's row.
    pub fn of_row(row: &Delivery, content_key: Secret<[u8; 32]>) -> anyhow::Result<Self> {
        let suite = Suite::from_code(row.sealed.suite).ok_or_else(|| {
            anyhow::anyhow!(
                "the outbox names suite code {}, which this version does not know",
                row.sealed.suite
            )
        })?;
        let context = BodyContext { suite, object: row.object, profile: row.sealed.profile };
        Ok(Self { context, commitment: Commitment(row.sealed.commitment), content_key })
    }
}
