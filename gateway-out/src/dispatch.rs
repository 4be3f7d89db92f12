//! Carries the outbox to the relay: which delivery is deposited when, and what follows from it.
//!
//! One task decides; a deposit is a task of its own. The outbox is the truth: what runs is known here
//! only so that nothing runs twice.

mod deposit;
mod orders;

use std::{collections::HashMap, sync::Arc, time::Duration};

use base::{Attempt, DeliveryId, RouteId, Timestamp};
use spool::Delivery;
use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

pub use deposit::NotDeposited;
pub(crate) use deposit::offer;
pub use orders::{Dispatch, Live, LiveNow, Orders, Ready, Sealing, Ticket};

use crate::{app::Shared, relays, routes::Leg};
use deposit::{AllOffered, Turn, committed, cut_through, spooled};
use orders::Order;

/// A route is given work when this part of its slots is free.
const REFILL_PART: usize = 4;
/// How often the outbox is asked without being told: commands of other processes show up by then.
const POLL: Duration = Duration::from_secs(1);
/// It is not woken more often by the clock.
const WAKE_MIN: Duration = Duration::from_millis(50);
/// A route without a prekey, or a deposit that the relay declined, waits this long.
const PAUSE: Duration = Duration::from_secs(1);
/// Deliveries that one look parks for their age.
const PARKED_AT_ONCE: u32 = 1000;
/// How long the key of a `respond = "delivered"` instance is kept for a receipt that comes late.
const LATE_RECEIPT_MS: u64 = 3_600_000;
/// The attempt with which a row is born.
const FIRST: Attempt = Attempt(1);

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
        held_back: None,
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
    /// Legs that have no session, or whose relay declines, until when.
    paused: HashMap<RouteId, Instant>,
    /// When the first of the legs that wait for their window or their rate may go on. What is due on them wakes
    /// nobody before.
    held_back: Option<Instant>,
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
        self.held_back = None;
        self.paused.retain(|_, until| *until > now);
        let shared = Arc::clone(&self.shared);
        let slots = shared.settings.retry.deposits_per_route;
        let mut asked = false;
        for leg in shared.settings.routes.legs().iter() {
            let offering = self.offering.get(&leg.id).is_some_and(|offering| !*offering.borrow());
            let wanted = timed || shared.lanes.is_behind(leg.id);
            if !wanted || offering || self.paused.contains_key(&leg.id) {
                continue;
            }
            if let Some(opens) = leg.closed_until(Timestamp::now()) {
                self.hold_back(now + opens.since(Timestamp::now()));
                continue;
            }
            let free = shared.lanes.free(leg.id);
            // Not before several can start: each look at the outbox costs as much as a deposit's rows.
            if free * REFILL_PART < slots {
                continue;
            }
            let look = shared.lanes.look(leg.id);
            asked = true;
            // Those that have just started may not have told the outbox yet.
            let limit = u32::try_from(slots).unwrap_or(u32::MAX);
            match shared.outbox.due_on(leg.id, Timestamp::now(), limit).await {
                Ok(due) => {
                    if !self.start(leg, due, free) {
                        shared.lanes.had_nothing(leg.id, look);
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
    fn start(&mut self, leg: &Arc<Leg>, due: Vec<Delivery>, free: usize) -> bool {
        let waiting = due.into_iter().filter(|row| !self.running.contains_key(&row.delivery));
        let mut rows: Vec<_> = waiting.take(free).collect();
        let there_was = !rows.is_empty();
        for place in 0..rows.len() {
            if let Err(again) = leg.pace.begin(Instant::now()) {
                self.hold_back(again);
                rows.truncate(place);
                break;
            }
        }
        let Some(first) = rows.first().map(|row| row.delivery) else { return there_was };
        let (all_offered, offering) = watch::channel(false);
        let all_offered = Arc::new(AllOffered { done: all_offered, wake: Arc::clone(&self.wake) });
        debug!(ae = %leg.ae, first = %first.short(), deposits = rows.len(), "deposits begin");
        for row in rows {
            self.running.insert(row.delivery, row.route);
            let turn = self.next_turn(leg.id, Some(Arc::clone(&all_offered)));
            let slot = self.shared.lanes.take(leg.id);
            self.deposits.spawn(spooled(Arc::clone(&self.shared), Arc::clone(leg), row, turn, slot));
        }
        self.offering.insert(leg.id, offering);
        true
    }

    fn hold_back(&mut self, until: Instant) {
        self.held_back = Some(self.held_back.map_or(until, |first| first.min(until)));
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
                self.running.insert(live.delivery, live.leg.id);
                let slot = shared.lanes.take(live.leg.id);
                self.deposits.spawn(cut_through(shared, live, slot));
            }
            Order::Ready(flight, ready, slot) => {
                self.running.insert(ready.delivery, ready.leg.id);
                let turn = self.next_turn(ready.leg.id, None);
                shared.flights.enter(*flight);
                self.deposits.spawn(committed(shared, *ready, turn, slot));
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
        let now = Instant::now();
        let poll = now + POLL;
        let due = match (self.shared.outbox.next_due().await, self.held_back) {
            // What is due may be of a leg that is held back: it is not looked at all the time.
            (Ok(Some(at)), Some(again)) if at <= Timestamp::now() => again.max(now + WAKE_MIN),
            (Ok(Some(at)), _) => now + at.since(Timestamp::now()).max(WAKE_MIN),
            _ => poll,
        };
        due.min(poll)
    }
}
