//! Which instances may go to the relay as they come, and which wait in the outbox.
//!
//! An instance that has just been committed is deposited at once, without asking the outbox for it: its row is
//! born with attempt 1 under way. That keeps the order of the outbox only while nothing of its route waits
//! there. A lane knows that: it falls behind with the first instance that has to wait, and has caught up when
//! the outbox was asked and had nothing more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base::RouteId;

/// The lanes of all routes.
#[derive(Debug)]
pub struct Lanes {
    // Owned by `lane`; never held across an await.
    lanes: Mutex<HashMap<RouteId, Lane>>,
    slots: usize,
}

// Never held across an await.
type Lane = Arc<Mutex<State>>;

#[derive(Debug)]
struct State {
    /// Deposits under way.
    running: usize,
    /// Something may be due in the outbox.
    behind: bool,
    /// Instances that will be due, and may not be yet.
    undecided: usize,
    /// Grows whenever it falls behind.
    generation: u64,
}

/// The place of one deposit; free again when dropped.
#[derive(Debug)]
pub struct Slot(Lane);

/// Held until an instance that has to wait is due in the outbox.
#[derive(Debug)]
pub struct Waits(Lane);

/// A look at the outbox, taken before it.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    generation: u64,
    complete: bool,
}

fn lock(lane: &Lane) -> MutexGuard<'_, State> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.running = state.running.saturating_sub(1);
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.undecided = state.undecided.saturating_sub(1);
    }
}

impl Lanes {
    /// One lane a route, each with so many slots. A lane begins behind: an earlier run may have left something.
    pub fn new(slots: usize) -> Self {
        Self { lanes: Mutex::default(), slots }
    }

    fn lane(&self, route: RouteId) -> Lane {
        let begun = || Arc::new(Mutex::new(State { running: 0, behind: true, undecided: 0, generation: 0 }));
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(route).or_insert_with(begun))
    }

    /// A slot for an instance that is about to be committed, if nothing waits before it and one is free.
    pub fn enter(&self, route: RouteId) -> Option<Slot> {
        let lane = self.lane(route);
        {
            let mut state = lock(&lane);
            if state.behind || state.running >= self.slots {
                return None;
            }
            state.running += 1;
        }
        Some(Slot(lane))
    }

    /// The instance will wait in the outbox.
    pub fn fall_behind(&self, route: RouteId) -> Waits {
        let lane = self.lane(route);
        {
            let mut state = lock(&lane);
            state.behind = true;
            state.generation += 1;
            state.undecided += 1;
        }
        Waits(lane)
    }

    /// A slot for what the outbox has, or for what leaves while it is received.
    pub fn take(&self, route: RouteId) -> Slot {
        let lane = self.lane(route);
        lock(&lane).running += 1;
        Slot(lane)
    }

    /// Slots that are free.
    pub fn free(&self, route: RouteId) -> usize {
        self.slots.saturating_sub(lock(&self.lane(route)).running)
    }

    /// Whether the outbox must be asked.
    pub fn is_behind(&self, route: RouteId) -> bool {
        lock(&self.lane(route)).behind
    }

    /// Before the outbox is asked.
    pub fn look(&self, route: RouteId) -> Look {
        let lane = self.lane(route);
        let state = lock(&lane);
        Look { generation: state.generation, complete: state.undecided == 0 }
    }

    /// The outbox had nothing that is due. It has caught up, unless something came meanwhile.
    pub fn had_nothing(&self, route: RouteId, look: Look) {
        let lane = self.lane(route);
        let mut state = lock(&lane);
        if look.complete && state.generation == look.generation {
            state.behind = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: RouteId = RouteId([1; 16]);

    fn caught_up(slots: usize) -> Lanes {
        let lanes = Lanes::new(slots);
        assert!(
            lanes.is_behind(ROUTE) && lanes.enter(ROUTE).is_none(),
            "an earlier run may have left something"
        );
        lanes.had_nothing(ROUTE, lanes.look(ROUTE));
        assert!(!lanes.is_behind(ROUTE));
        lanes
    }

    #[test]
    fn nobody_overtakes_what_waits() {
        let lanes = caught_up(1);
        let first = lanes.enter(ROUTE).unwrap();
        assert!(lanes.enter(ROUTE).is_none(), "no slot");
        let second = lanes.fall_behind(ROUTE);
        drop(first);
        assert_eq!(lanes.free(ROUTE), 1);
        assert!(lanes.enter(ROUTE).is_none(), "the second one waits");
        // Asked while the second one's commit runs: that it was not there means nothing.
        let look = lanes.look(ROUTE);
        drop(second);
        lanes.had_nothing(ROUTE, look);
        assert!(lanes.enter(ROUTE).is_none());
        // Asked after it, and something else came while the answer was on its way.
        let look = lanes.look(ROUTE);
        drop(lanes.fall_behind(ROUTE));
        lanes.had_nothing(ROUTE, look);
        assert!(lanes.enter(ROUTE).is_none());
        lanes.had_nothing(ROUTE, lanes.look(ROUTE));
        assert!(lanes.enter(ROUTE).is_some());
    }

    #[test]
    fn slots_are_counted_whoever_takes_them() {
        let lanes = caught_up(2);
        let held = (lanes.take(ROUTE), lanes.enter(ROUTE).unwrap(), lanes.take(ROUTE));
        assert_eq!(lanes.free(ROUTE), 0);
        assert!(lanes.enter(ROUTE).is_none());
        drop(held);
        assert_eq!(lanes.free(ROUTE), 2);
        assert!(
            lanes.enter(RouteId([9; 16])).is_none() && lanes.is_behind(RouteId([9; 16])),
            "another route"
        );
    }
}
