//! What is known of deposits under way, so that the outbox need not be asked for it, nor told of each step
//! by itself. Nothing here is owed: what is forgotten is read from the outbox again.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base::{DeliveryId, Timestamp};
use spool::{Delivery, Progress};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{app::Shared, dispatch::Sealing};

/// Deliveries remembered; the oldest goes first. Each is some hundred bytes.
const FLIGHTS_MAX: usize = 4096;
/// How long a step may wait for the receipt that takes it along.
const STEP_WAIT: Duration = Duration::from_millis(300);

/// A delivery that was deposited and is not answered yet.
#[derive(Debug, Clone)]
pub struct Flight {
    /// Its row, as it was at the deposit.
    pub row: Delivery,
    /// Opens its records.
    pub sealing: Sealing,
}

/// See the module. The locks guard the maps only and are never held across an await.
#[derive(Debug, Default)]
pub struct Flights {
    known: Mutex<Known>,
    steps: Mutex<HashMap<DeliveryId, Vec<Progress>>>,
}

#[derive(Debug, Default)]
struct Known {
    flights: HashMap<DeliveryId, Arc<Flight>>,
    /// In the order in which they came; those that have landed stay until it is their turn.
    order: VecDeque<DeliveryId>,
}

impl Flights {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn steps(&self) -> MutexGuard<'_, HashMap<DeliveryId, Vec<Progress>>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A deposit begins.
    pub fn enter(&self, flight: Flight) {
        let delivery = flight.row.delivery;
        let mut known = self.known();
        if known.flights.insert(delivery, Arc::new(flight)).is_none() {
            known.order.push_back(delivery);
        }
        while known.order.len() > FLIGHTS_MAX {
            if let Some(oldest) = known.order.pop_front() {
                known.flights.remove(&oldest);
            }
        }
    }

    /// What is known of a delivery.
    pub fn of(&self, delivery: DeliveryId) -> Option<Arc<Flight>> {
        self.known().flights.get(&delivery).cloned()
    }

    /// It is answered, or goes back to the outbox: what is known of it holds no longer.
    pub fn land(&self, delivery: DeliveryId) {
        self.known().flights.remove(&delivery);
    }

    /// A step of a deposit, to be written with the next change of its row.
    pub fn note(&self, step: Progress) {
        self.steps().entry(step.delivery).or_default().push(step);
    }

    /// The steps that the next change of this row takes along.
    pub fn take(&self, delivery: DeliveryId) -> Vec<Progress> {
        self.steps().remove(&delivery).unwrap_or_default()
    }

    /// All steps that have waited since then, in their order.
    fn take_until(&self, until: Timestamp) -> Vec<Progress> {
        let mut steps = self.steps();
        let old =
            |_: &DeliveryId, noted: &mut Vec<Progress>| noted.first().is_none_or(|step| step.at <= until);
        let mut taken: Vec<Progress> = steps.extract_if(old).flat_map(|(_, noted)| noted).collect();
        taken.sort_by_key(|step| step.at);
        taken
    }
}

/// Writes a delivery's steps down, before a change that is not a receipt.
pub async fn write_steps(shared: &Shared, delivery: DeliveryId) {
    write(shared, shared.flights.take(delivery)).await;
}

/// Writes all steps down.
pub async fn write_all_steps(shared: &Shared) {
    write(shared, shared.flights.take_until(Timestamp(u64::MAX))).await;
}

async fn write(shared: &Shared, steps: Vec<Progress>) {
    if steps.is_empty() {
        return;
    }
    // What is not written is found at the next start, which deposits it again under its number.
    if let Err(error) = shared.outbox.progress_all(steps).await {
        error!(%error, "outbox cannot be written");
    }
}

/// Writes down what no receipt has taken along, until `stop` ends.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), Infallible> {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(STEP_WAIT) => {}
        }
        let wait = u64::try_from(STEP_WAIT.as_millis()).unwrap_or(u64::MAX);
        let until = Timestamp(Timestamp::now().0.saturating_sub(wait));
        write(&shared, shared.flights.take_until(until)).await;
    }
    write_all_steps(&shared).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use base::Attempt;
    use spool::Step;

    use super::*;

    #[test]
    fn a_receipt_takes_its_steps_and_the_clock_takes_the_old_ones() {
        let flights = Flights::default();
        let id = |n: u8| DeliveryId([n; 32]);
        let step = |n, at| Progress {
            delivery: id(n),
            attempt: Attempt(1),
            step: Step::Collected,
            at: Timestamp(at),
        };
        for one in [step(1, 10), step(2, 20), step(1, 30), step(3, 40)] {
            flights.note(one);
        }
        assert_eq!(flights.take(id(1)), [step(1, 10), step(1, 30)]);
        assert_eq!(flights.take(id(1)), []);
        assert_eq!(flights.take_until(Timestamp(19)), []);
        assert_eq!(flights.take_until(Timestamp(20)), [step(2, 20)]);
        assert_eq!(flights.take_until(Timestamp(u64::MAX)), [step(3, 40)]);
    }
}
