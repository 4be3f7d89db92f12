//! What the dispatcher is given to do by whoever receives.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use base::{DeliveryId, InstanceMeta, RouteId, Secret, Timestamp};
use envelope::{BodyContext, Commitment, Suite};
use spool::{Delivery, SealedFacts, State};
use tokio::sync::{Notify, mpsc};

use super::FIRST;
use crate::{
    flights::Flight,
    lanes::{Lanes, Slot},
    routes::Leg,
    tail::{Committed, Tail},
};

/// Instances that wait for the dispatcher; beyond it they wait in the outbox.
const ORDERS_MAX: usize = 256;

/// A body that leaves while it is being received.
#[derive(Debug)]
pub struct Live {
    /// The delivery it will be.
    pub delivery: DeliveryId,
    /// The way it takes.
    pub leg: Arc<Leg>,
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
    pub leg: Arc<Leg>,
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
pub(super) enum Order {
    Live(Live),
    Ready(Box<Flight>, Box<Ready>, Slot),
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
        self.permit.send(Order::Ready(flight, Box::new(ready), self.slot));
    }
}

/// The row of an instance that was just committed with attempt 1 under way.
fn born(ready: &Ready, meta: &InstanceMeta, changed_content: bool) -> Delivery {
    Delivery {
        // Its position is the index's to give; nothing of a deposit needs it.
        sequence: 0,
        delivery: ready.delivery,
        object: ready.sealing.context.object,
        route: ready.leg.id,
        receiver: ready.leg.receiver.name.clone(),
        destination: ready.leg.destination.clone(),
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
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) wake: Arc<Notify>,
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
