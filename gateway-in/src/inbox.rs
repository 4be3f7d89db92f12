//! From an offered envelope to a settled delivery: who may be heard, in which order, and once.
//!
//! Offers of one route are admitted one after another, so that what they need (buffer, stream) is
//! taken in their order and nobody waits for somebody behind him. Their bodies then arrive side by
//! side; a [`Turn`] hands them to the destination in the order of the offers.

mod turns;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use base::{Attempt, DeliveryId, Fingerprint, Name, RouteId, Timestamp};
use envelope::{HeaderError, OpenedHeader, OpenedQuestion, Pinned, ReceiverSessions};
use ledger::{NackReason, Party, Receipt};
use service::Contacts;
use spool::{Answer, Inbound, InboundRow, InboundState, LedgerKey, Outcome};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span, warn};
use transport::{Downlink, IncomingOffer, Lease};

use crate::{
    answered::{Answers, Nacks},
    collect::{self, Collecting},
    config::{CollectTable, Route, Settings},
    destination::{Changes, Destination},
    outcome::{self, Ending},
    room::Room,
    signer::{Signer, UnderWay},
};
pub use turns::Turn;
use turns::Turns;

/// Offers of one route that wait for admission; the windows that we grant keep it far below.
pub const OFFERS_MAX: usize = 4096;

/// What all routes share.
pub struct Inbox {
    // Owned by `route`, `all_routes` and `exchange_routes`; never held across an await.
    routes: RwLock<Arc<HashMap<RouteId, Arc<Route>>>>,
    pub(crate) destinations: HashMap<Name, Arc<Destination>>,
    pub(crate) collect: CollectTable,
    pub(crate) receiver: Party,
    pub(crate) inbound: Inbound,
    pub(crate) signer: Signer,
    /// Where destinations are asked for storage commitment.
    pub(crate) ledger_key: Option<Arc<LedgerKey>>,
    pub(crate) room: Room,
    /// What destinations answered, in this run.
    pub(crate) answers: Answers,
    /// What was turned away, in this run.
    pub(crate) nacks: Nacks,
    /// Senders, by headers that verified.
    pub(crate) heard: Contacts,
    changes: Changes,
    closed_routes: watch::Sender<Vec<RouteId>>,
    // Owned by `with_sessions`; never held across an await.
    sessions: Mutex<ReceiverSessions>,
    // Owned by `join`, `leave`, `cancel` and `Entry::drop`; never held across an await.
    in_flight: Mutex<HashMap<DeliveryId, InFlight>>,
    /// Numbers the entries.
    entered: AtomicU64,
}

/// A delivery that is being worked on.
struct InFlight {
    route: RouteId,
    /// Of its [`Entry`]: the same delivery, entered again, has another.
    number: u64,
    cancel: CancellationToken,
    since: Timestamp,
    /// Repeats that came meanwhile, perhaps through another relay. They are never opened.
    joined: Vec<Asker>,
}

impl Inbox {
    /// Puts the shared parts together.
    pub fn new(
        settings: &Settings,
        destinations: HashMap<Name, Arc<Destination>>,
        receiver: Party,
        changes: Changes,
        inbound: Inbound,
        signer: Signer,
    ) -> Self {
        let mut sessions = ReceiverSessions::new(receiver.fingerprint);
        sessions.are(settings.own.fingerprints());
        let room = Room::new(&settings.collect, &destinations.keys().cloned().collect::<Vec<_>>());
        Self {
            routes: RwLock::new(Arc::new(settings.routes.clone())),
            destinations,
            collect: settings.collect.clone(),
            receiver,
            inbound,
            signer,
            ledger_key: settings.commitment.as_ref().map(|commitment| Arc::clone(&commitment.key)),
            room,
            answers: Answers::default(),
            nacks: Nacks::default(),
            heard: Contacts::default(),
            changes,
            sessions: Mutex::new(sessions),
            in_flight: Mutex::default(),
            closed_routes: watch::Sender::new(Vec::new()),
            entered: AtomicU64::new(0),
        }
    }

    /// Tells the links that routes are other ones, and which are gone.
    pub fn routes_changed(&self, over: &[RouteId]) {
        let gone = over.iter().copied().filter(|route| self.route(*route).is_none());
        self.closed_routes.send_replace(gone.collect());
    }

    /// Ends a wait whenever the routes have changed; says which are gone.
    pub fn closed_routes(&self) -> watch::Receiver<Vec<RouteId>> {
        self.closed_routes.subscribe()
    }

    /// Runs `act` on the sessions.
    pub fn with_sessions<T>(&self, act: impl FnOnce(&mut ReceiverSessions) -> T) -> T {
        act(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sender takes a delivery back; honoured until its last fragment leaves.
    pub fn cancel(&self, delivery: DeliveryId) {
        if let Some(entry) = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).get(&delivery) {
            entry.cancel.cancel();
        }
    }

    /// The route with this id.
    pub fn route(&self, id: RouteId) -> Option<Arc<Route>> {
        self.routes_now().get(&id).cloned()
    }

    fn routes_now(&self) -> Arc<HashMap<RouteId, Arc<Route>>> {
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exchanges all routes. Of those that are gone or have another sender, suite or destination, sessions and prekeys
    /// are destroyed at once and running deliveries are called off; they are the first of the answer. The second are
    /// those that are to be opened.
    pub fn exchange_routes(&self, routes: HashMap<RouteId, Arc<Route>>) -> (Vec<RouteId>, Vec<Arc<Route>>) {
        let routes = Arc::new(routes);
        let earlier = std::mem::replace(
            &mut *self.routes.write().unwrap_or_else(PoisonError::into_inner),
            Arc::clone(&routes),
        );
        let same = |a: &Route, b: Option<&Arc<Route>>| b.is_some_and(|b| a.is_like(b));
        let over: Vec<_> = earlier
            .values()
            .filter(|route| !same(route, routes.get(&route.id)))
            .map(|route| route.id)
            .collect();
        let new = routes.values().filter(|route| !same(route, earlier.get(&route.id))).cloned().collect();
        self.with_sessions(|sessions| over.iter().for_each(|route| sessions.forget_route(*route)));
        let table = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        table
            .values()
            .filter(|running| over.contains(&running.route))
            .for_each(|running| running.cancel.cancel());
        (over, new)
    }

    /// All routes.
    pub fn all_routes(&self) -> impl Iterator<Item = Arc<Route>> {
        self.routes_now().values().cloned().collect::<Vec<_>>().into_iter()
    }

    /// Where a route leads.
    pub fn destination(&self, route: &Route) -> Option<&Arc<Destination>> {
        self.destinations.get(&route.destination)
    }

    /// All destinations.
    pub fn all_destinations(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.destinations.values()
    }

    /// Ends a wait whenever a destination goes down or comes back.
    pub fn health_changes(&self) -> watch::Receiver<u64> {
        self.changes.watch()
    }

    /// How many deliveries are being worked on.
    pub fn in_flight(&self) -> usize {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many of a route are being worked on, and since when the oldest of them is.
    pub fn in_flight_on(&self, route: RouteId) -> (u64, Option<Timestamp>) {
        let table = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        table.values().filter(|running| running.route == route).fold((0, None), |(count, oldest), running| {
            (count + 1, Some(oldest.map_or(running.since, |oldest: Timestamp| oldest.min(running.since))))
        })
    }

    /// Enters a delivery into the in-flight table, or joins the attempt that runs already.
    fn join(
        self: &Arc<Self>,
        downlink: &Downlink,
        offer: IncomingOffer,
    ) -> Option<(IncomingOffer, Entry, CancellationToken)> {
        let mut table = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = table.get_mut(&offer.delivery) {
            running.joined.push(Asker::of(downlink, &offer));
            return None;
        }
        let (cancel, delivery) = (CancellationToken::new(), offer.delivery);
        let number = self.entered.fetch_add(1, Ordering::Relaxed);
        table.insert(
            delivery,
            InFlight {
                route: offer.route,
                number,
                cancel: cancel.clone(),
                since: Timestamp::now(),
                joined: Vec::new(),
            },
        );
        let entry = Entry { inbox: Arc::clone(self), delivery, number, _under_way: self.signer.begin() };
        Some((offer, entry, cancel))
    }

    /// Takes a delivery out of the in-flight table, with all who joined it.
    pub(crate) fn leave(&self, delivery: DeliveryId) -> Vec<Asker> {
        let mut table = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        table.remove(&delivery).map(|entry| entry.joined).unwrap_or_default()
    }

    /// Opens a header and checks that it speaks of this offer.
    fn open_header(
        &self,
        offer: &IncomingOffer,
        now: Timestamp,
    ) -> Result<(Arc<Route>, OpenedHeader), NackReason> {
        let routes = self.routes_now();
        let route = routes.get(&offer.route).ok_or(NackReason::WrongDestination)?;
        let pin = |id: RouteId| routes.get(&id).map(|route| pinned(route, now));
        let opened = self
            .with_sessions(|sessions| sessions.open_header(&offer.header, pin, now))
            .map_err(|error| outcome::nack_reason(&error))?;
        if opened.route != offer.route || route.sender.id() != offer.sender {
            return Err(NackReason::NotPinned);
        }
        if opened.delivery != offer.delivery || opened.attempt != offer.attempt {
            return Err(NackReason::BadHeader);
        }
        self.heard.heard(&route.from, now);
        Ok((Arc::clone(route), opened))
    }
}

impl Inbox {
    /// Opens a question of whoever may send.
    pub fn open_question(&self, question: &[u8], now: Timestamp) -> Result<OpenedQuestion, HeaderError> {
        let routes = self.routes_now();
        let pin = |id: RouteId| routes.get(&id).map(|route| pinned(route, now));
        self.with_sessions(|sessions| sessions.open_question(question, pin, now))
    }
}

fn pinned(route: &Route, now: Timestamp) -> Pinned {
    Pinned {
        identities: route.sender.identities(now).cloned().collect(),
        suite: route.suite,
        name: route.from.clone(),
        destination: route.destination.clone(),
    }
}

/// A delivery's entry in the in-flight table. It goes with this value at the latest, so that a task that
/// panics leaves no delivery behind which every repeat would join for nothing: their leases go back, and the
/// relay offers them again.
pub(crate) struct Entry {
    inbox: Arc<Inbox>,
    delivery: DeliveryId,
    number: u64,
    _under_way: UnderWay,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut table = self.inbox.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if table.get(&self.delivery).is_some_and(|running| running.number == self.number) {
            table.remove(&self.delivery);
        }
    }
}

/// Whoever waits for the end of a delivery. Its lease lives until then.
pub struct Asker {
    downlink: Downlink,
    sender: Fingerprint,
    delivery: DeliveryId,
    attempt: Attempt,
    _lease: Lease,
}

impl Asker {
    /// The one who offered.
    pub fn of(downlink: &Downlink, offer: &IncomingOffer) -> Self {
        Self {
            downlink: downlink.clone(),
            sender: offer.sender,
            delivery: offer.delivery,
            attempt: offer.attempt,
            _lease: offer.lease(),
        }
    }

    /// The deposit that it asks for.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Passes a signed settlement on.
    pub async fn settle(self, settlement: Vec<u8>, record: Vec<u8>) {
        // Without a connection the lease has ended; the ledger answers the next offer.
        let _ = self.downlink.settle(self.sender, self.delivery, self.attempt, settlement, record).await;
    }
}

/// Admits the offers of one route, one after another, until the queue closes.
pub async fn admit(
    inbox: Arc<Inbox>,
    mut offers: mpsc::Receiver<(Downlink, IncomingOffer)>,
) -> Result<(), Infallible> {
    let mut turns = Turns::new();
    let mut running = tokio::task::JoinSet::new();
    loop {
        let (downlink, offer) = tokio::select! {
            offer = offers.recv() => match offer {
                Some(offer) => offer,
                None => break,
            },
            Some(ended) = running.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a delivery ended without an outcome");
                }
                continue;
            }
        };
        let span = info_span!("delivery", id = %offer.delivery.short(), attempt = offer.attempt.0);
        if let Some(collecting) =
            admit_one(&inbox, downlink, offer, &mut turns).instrument(span.clone()).await
        {
            running.spawn(collect::run(Arc::clone(&inbox), collecting).instrument(span));
        }
    }
    while running.join_next().await.is_some() {}
    Ok(())
}

/// A repeat is answered or joined without a body byte; a header that does not open is nacked.
async fn admit_one(
    inbox: &Arc<Inbox>,
    downlink: Downlink,
    offer: IncomingOffer,
    turns: &mut Turns,
) -> Option<Collecting> {
    let (offer, entry, cancel) = inbox.join(&downlink, offer)?;
    let asker = Asker::of(&downlink, &offer);
    let earlier = match inbox.inbound.lookup(offer.delivery).await {
        Ok(Some(row)) if answers(&row, offer.attempt) => {
            answer_from_ledger(inbox, asker, &offer, row).await;
            return None;
        }
        Ok(Some(row)) if is_over(&row, offer.attempt) => {
            warn!(sender = %offer.sender, "a delivery that its sender has the receipt of came again; refused");
            refuse(inbox, asker, NackReason::Replay).await;
            return None;
        }
        Ok(row) => row,
        Err(error) => {
            warn!(%error, "settled ledger cannot be read; the delivery waits at its sender");
            refuse(inbox, asker, NackReason::Internal).await;
            return None;
        }
    };
    let now = Timestamp::now();
    match inbox.open_header(&offer, now) {
        Ok((route, header)) => {
            let share = inbox.room.take(&route.destination, offer.size).await?;
            Some(Collecting {
                entry,
                asker,
                offer,
                route,
                header,
                share,
                turn: turns.next(),
                cancel,
                offered_at: now,
                first_offered_at: earlier.map_or(now, |row| row.first_at),
            })
        }
        Err(reason) => {
            warn!(%reason, route = %offer.route, sender = %offer.sender, "envelope refused");
            refuse(inbox, asker, reason).await;
            None
        }
    }
}

/// A repeat of what is settled is never opened: on its header alone it gets the receipt again. Whoever
/// joined it meanwhile gives his lease back, is offered again, and is answered then.
async fn answer_from_ledger(inbox: &Arc<Inbox>, asker: Asker, offer: &IncomingOffer, row: InboundRow) {
    let InboundRow { arrival, receipt, record, settlement, .. } = row;
    if asker.attempt == arrival.attempt {
        drop(inbox.leave(offer.delivery));
        asker.settle(settlement.unwrap_or_default(), record.unwrap_or_default()).await;
        return;
    }
    // A later deposit of it: the relay burns that one only on a settlement that names it.
    let receipt = receipt.as_deref().and_then(|bytes| Receipt::decode(bytes).ok());
    let header = inbox.open_header(offer, Timestamp::now());
    let (ending, header) = match (receipt, &header) {
        (Some(receipt), Ok((_, header))) => (Ending::Final(Box::new(receipt)), Some(header)),
        (_, Err(reason)) => (nack(offer, *reason), None),
        (None, Ok(_)) => (nack(offer, NackReason::Internal), None),
    };
    settle(inbox, &ending, header, None, asker).await;
}

fn nack(offer: &IncomingOffer, reason: NackReason) -> Ending {
    Ending::Nack { delivery: offer.delivery, attempt: offer.attempt, reason }
}

/// Whether the ledger's receipt is the answer to this attempt: stored is stored, and a refusal holds
/// until an operator has the sender try again.
fn answers(row: &InboundRow, attempt: Attempt) -> bool {
    row.state == InboundState::Signed
        && row.settlement.is_some()
        && (row.outcome == Some(Outcome::Stored) || row.arrival.attempt >= attempt)
}

/// Whether the sender has the receipt of this attempt, so that nothing is left to answer it with. No
/// sender deposits it again then: somebody else has kept the envelope.
fn is_over(row: &InboundRow, attempt: Attempt) -> bool {
    row.state == InboundState::Acknowledged
        && (row.outcome == Some(Outcome::Stored) || row.arrival.attempt >= attempt)
}

async fn refuse(inbox: &Inbox, asker: Asker, reason: NackReason) {
    let (delivery, attempt) = (asker.delivery, asker.attempt);
    settle(inbox, &Ending::Nack { delivery, attempt, reason }, None, None, asker).await;
}

/// Signs how a delivery ended and tells everybody who waits for it. It stays in the in-flight table
/// until a final answer is durable, so that a repeat finds either the one or the other.
pub(crate) async fn settle(
    inbox: &Inbox,
    ending: &Ending,
    sealing: Option<&OpenedHeader>,
    answer: Option<Answer>,
    asker: Asker,
) {
    let (delivery, attempt) = (asker.delivery, ending.attempt());
    if let Ending::Nack { reason, .. } = ending {
        inbox.nacks.count(*reason);
    }
    // The attempt itself first: what the ledger keeps is its settlement.
    let mut own = None;
    if answer.is_some() || asker.attempt == attempt {
        let record = match (&answer, sealing) {
            (Some(answer), _) => answer.record.clone(),
            (None, Some(header)) => ending.sealed(header),
            (None, None) => Vec::new(),
        };
        own = inbox.signer.sign(outcome::core(ending), answer).await.map(|signed| (signed, record));
        if own.is_none() {
            drop(inbox.leave(delivery));
            return;
        }
    }
    for asker in std::iter::once(asker).chain(inbox.leave(delivery)) {
        if let Some((settlement, record)) = own.as_ref().filter(|_| asker.attempt == attempt) {
            asker.settle(settlement.clone(), record.clone()).await;
            continue;
        }
        // Another deposit of the same delivery: the relay burns it on a settlement that names it.
        let ending = ending.for_attempt(asker.attempt());
        let record = sealing.map(|header| ending.sealed(header)).unwrap_or_default();
        if let Some(settlement) = inbox.signer.sign(outcome::core(&ending), None).await {
            asker.settle(settlement, record).await;
        }
    }
}
