//! Carries the outbox to the relay: which delivery is deposited when, and what follows from it.
//!
//! One task decides; a deposit is a task of its own. The outbox is the truth: what runs is known here
//! only so that nothing runs twice.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::{Attempt, BootId, DeliveryId, Digest, InstanceMeta, RouteId, Secret, Timestamp};
use envelope::{BodyContext, Commitment, HeaderFields, Suite};
use spool::{Delivery, Progress, SealedFacts, State, Step};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use transport::{BodySource, DepositError, Deposited, Offer, Offered, Uplink};

use crate::{
    app::Shared,
    flights::{self, Flight},
    lanes::{Lanes, Slot},
    relays,
    routes::Route,
    sessions::NoSession,
    tail::{Committed, Tail},
};

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
/// Instances that wait for the dispatcher; beyond it they wait in the outbox.
const ORDERS_MAX: usize = 256;
/// The attempt with which a row is born.
const FIRST: Attempt = Attempt(1);

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

/// A committed instance whose row says that attempt 1 is under way.
#[derive(Debug)]
pub struct Ready {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The way it takes.
    pub route: Arc<Route>,
    /// What the header says of the body.
    pub sealing: Sealing,
    /// What the sealer found.
    pub facts: SealedFacts,
    /// The body.
    pub body: Committed,
    /// When its first byte came.
    pub received_at: Timestamp,
}

/// What the dispatcher is given to do.
#[derive(Debug)]
enum Order {
    Live(Live),
    Ready(Box<Flight>, Ready, Slot),
}

/// A place with the dispatcher for an instance that is being committed.
#[derive(Debug)]
pub struct Ticket {
    permit: mpsc::OwnedPermit<Order>,
    slot: Slot,
}

impl Ticket {
    /// Its row is durable: it is deposited now.
    pub fn go(self, ready: Ready, meta: &InstanceMeta, changed_content: bool) {
        let row = born(&ready, meta, changed_content);
        let flight = Box::new(Flight { row, sealing: ready.sealing.clone() });
        self.permit.send(Order::Ready(flight, ready, self.slot));
    }
}

/// The row of an instance that was just committed with attempt 1 under way.
fn born(ready: &Ready, meta: &InstanceMeta, changed_content: bool) -> Delivery {
    Delivery {
        // Its position is the index's to give; nothing of a deposit needs it.
        sequence: 0,
        delivery: ready.delivery,
        object: ready.sealing.context.object,
        route: ready.route.id,
        receiver: ready.route.receiver.name.clone(),
        destination: ready.route.destination.clone(),
        sop_class: meta.sop_class.clone(),
        sealed: ready.facts,
        spooled: true,
        state: State::Sealed,
        attempt: FIRST,
        running: true,
        boot: None,
        next_at: None,
        deferrals: 0,
        nacks: 0,
        joined: 0,
        waits_for: None,
        changed_content,
        alarm: false,
        status: None,
        reason: None,
        received_at: ready.received_at,
        changed_at: ready.received_at,
        ended_at: None,
    }
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
    orders: mpsc::Sender<Order>,
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
    orders: mpsc::Receiver<Order>,
    wake: Arc<Notify>,
}

impl Dispatch {
    /// Both ends.
    pub fn new() -> (Self, Orders) {
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let wake = Arc::new(Notify::new());
        let dispatch = Self { orders: sender, wake: Arc::clone(&wake), live_now: Arc::default() };
        (dispatch, Orders { orders, wake })
    }

    /// Lets a body leave while it is being received; `None` where it has to wait for its commit.
    pub fn live(&self, live: Live) -> Option<LiveNow> {
        let now = LiveNow { delivery: live.delivery, of: Arc::clone(&self.live_now) };
        self.live_now.lock().unwrap_or_else(PoisonError::into_inner).insert(live.delivery);
        self.orders.try_send(Order::Live(live)).ok().map(|()| now)
    }

    /// A place for an instance that is about to be committed, where it need not wait in the outbox.
    pub fn ticket(&self, lanes: &Lanes, route: RouteId) -> Option<Ticket> {
        let slot = lanes.enter(route)?;
        let permit = self.orders.clone().try_reserve_owned().ok()?;
        Some(Ticket { permit, slot })
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
    let Orders { mut orders, wake } = orders;
    let mut dispatcher = Dispatcher {
        shared,
        wake: Arc::clone(&wake),
        deposits: JoinSet::new(),
        running: HashMap::new(),
        last_turns: HashMap::new(),
        offering: HashMap::new(),
        paused: HashMap::new(),
    };
    let (mut housekeeping, mut next) = (Instant::now(), Instant::now());
    loop {
        let now = Instant::now();
        if now >= housekeeping {
            housekeeping = now + POLL;
            dispatcher.keep_house().await;
        }
        let timed = now >= next;
        if dispatcher.fill(timed).await || timed {
            next = dispatcher.next_wake().await;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = wake.notified() => {}
            () = sleep_until(next.min(housekeeping)) => {}
            Some(order) = orders.recv() => dispatcher.start_order(order),
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
    /// Behind whom the next offer of a route is made.
    last_turns: HashMap<RouteId, oneshot::Receiver<()>>,
    /// Routes whose batch is being offered.
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

/// A deposit's place among the offers of its route; passed on when dropped.
struct Turn {
    before: oneshot::Receiver<()>,
    _mine: oneshot::Sender<()>,
    _batch: Option<Arc<AllOffered>>,
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
        relays::give_up_lost(&self.shared).await;
        self.shared.waiting.expire(Timestamp(now.0.saturating_sub(LATE_RECEIPT_MS)));
    }

    /// Asks the outbox for what waits there and starts it, as far as limits allow: each route has slots of
    /// its own, so that one whose receiver is slow hides nothing of another. Where all went at once there
    /// is nothing to ask for, but now and then (`timed`) for what has become due. Answers whether it asked.
    async fn fill(&mut self, timed: bool) -> bool {
        if self.shared.uplink().is_none() {
            return false;
        }
        let now = Instant::now();
        self.paused.retain(|_, until| *until > now);
        let shared = Arc::clone(&self.shared);
        let slots = shared.settings.retry.deposits_per_route;
        let mut asked = false;
        for route in shared.settings.routes.iter() {
            let offering = self.offering.get(&route.id).is_some_and(|offering| !*offering.borrow());
            let wanted = timed || shared.lanes.is_behind(route.id);
            if !wanted || offering || self.paused.contains_key(&route.id) {
                continue;
            }
            let free = shared.lanes.free(route.id);
            // Not before several can start: each look at the outbox costs as much as a deposit's rows.
            if free * REFILL_PART < slots {
                continue;
            }
            let look = shared.lanes.look(route.id);
            asked = true;
            // Those that have just started may not have told the outbox yet.
            let limit = u32::try_from(slots).unwrap_or(u32::MAX);
            match shared.outbox.due_on(route.id, Timestamp::now(), limit).await {
                Ok(due) => {
                    if !self.start(&route, due, free) {
                        shared.lanes.had_nothing(route.id, look);
                    }
                }
                Err(error) => error!(%error, "outbox cannot be read"),
            }
        }
        asked
    }

    /// Offers are made one after another, in the order of the outbox, so that the instances of an
    /// association reach the destination in theirs; the bodies travel side by side. Answers whether there
    /// was anything to start.
    fn start(&mut self, route: &Arc<Route>, due: Vec<Delivery>, free: usize) -> bool {
        let waiting = due.into_iter().filter(|row| !self.running.contains_key(&row.delivery));
        let rows = waiting.take(free).collect::<Vec<_>>();
        let Some(first) = rows.first().map(|row| row.delivery) else { return false };
        let (all_offered, offering) = watch::channel(false);
        let all_offered = Arc::new(AllOffered { done: all_offered, wake: Arc::clone(&self.wake) });
        debug!(ae = %route.ae, first = %first.short(), deposits = rows.len(), "deposits begin");
        for row in rows {
            self.running.insert(row.delivery, row.route);
            let turn = self.next_turn(route.id, Some(Arc::clone(&all_offered)));
            let slot = self.shared.lanes.take(route.id);
            self.deposits.spawn(spooled(Arc::clone(&self.shared), Arc::clone(route), row, turn, slot));
        }
        self.offering.insert(route.id, offering);
        true
    }

    fn next_turn(&mut self, route: RouteId, batch: Option<Arc<AllOffered>>) -> Turn {
        let (mine, after) = oneshot::channel();
        // Nobody is before the first.
        let before = self.last_turns.insert(route, after).unwrap_or_else(|| oneshot::channel().1);
        Turn { before, _mine: mine, _batch: batch }
    }

    fn start_order(&mut self, order: Order) {
        let shared = Arc::clone(&self.shared);
        match order {
            Order::Live(live) => {
                self.running.insert(live.delivery, live.route.id);
                let slot = shared.lanes.take(live.route.id);
                self.deposits.spawn(cut_through(shared, live, slot));
            }
            Order::Ready(flight, ready, slot) => {
                self.running.insert(ready.delivery, ready.route.id);
                let turn = self.next_turn(ready.route.id, None);
                shared.flights.enter(*flight);
                self.deposits.spawn(committed(shared, ready, turn, slot));
            }
        }
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
async fn spooled(shared: Arc<Shared>, route: Arc<Route>, row: Delivery, turn: Turn, _slot: Slot) -> Ended {
    let delivery = row.delivery;
    let pause = match deposit_spooled(&shared, &route, row, turn).await {
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
    route: &Arc<Route>,
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
    let outcome = deposit.in_turn(shared, route, body, turn).await;
    record(shared, route, delivery, attempt, outcome).await
}

/// Deposits what was just committed.
async fn committed(shared: Arc<Shared>, ready: Ready, turn: Turn, _slot: Slot) -> Ended {
    let Ready { delivery, route, sealing, facts, body, .. } = ready;
    let deposit = Deposit { delivery, attempt: FIRST, sealing: &sealing, facts: &facts };
    let outcome = deposit.in_turn(&shared, &route, body, turn).await;
    let pause = record(&shared, &route, delivery, FIRST, outcome).await.unwrap_or_else(|error| {
        error!(delivery = %delivery.short(), %error, "deposit could not be recorded");
        true
    });
    Ended { delivery, pause: pause.then_some(route.id) }
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
        route: &Route,
        body: impl BodySource,
        mut turn: Turn,
    ) -> Result<BootId, NotDeposited> {
        turn.come().await;
        let uplink = shared.uplink().ok_or(DepositError::Disconnected)?;
        let size = Some((self.facts.sealed_len, self.facts.body_digest));
        let offered = offer(shared, uplink, route, self.delivery, self.attempt, self.sealing, size).await;
        drop(turn);
        sent(offered?.send(body).await)
    }
}

/// Deposits what is still being received. Its row comes with the commit, and says attempt 1.
async fn cut_through(shared: Arc<Shared>, live: Live, _slot: Slot) -> Ended {
    let Live { delivery, route, sealing, body } = live;
    let committed = body.committed();
    let outcome = match shared.uplink() {
        Some(uplink) => deposit(&shared, uplink, &route, delivery, FIRST, &sealing, body).await,
        None => Err(NotDeposited::Deposit(DepositError::Disconnected)),
    };
    // Without a commit there is no row that could be told, and nothing complete has left.
    if committed.wait().await
        && let Err(error) = record(&shared, &route, delivery, FIRST, outcome).await
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
    route: &Route,
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
    let waits = shared.lanes.fall_behind(route.id);
    shared.flights.land(delivery);
    flights::write_steps(shared, delivery).await;
    let again_at = if pause { now.after(PAUSE) } else { now };
    shared.outbox.deposit_failed(delivery, attempt, &error.to_string(), again_at, now).await?;
    drop(waits);
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
