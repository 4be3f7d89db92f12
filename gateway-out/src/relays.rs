//! Which relay processes may still have what was deposited there. What lies at any other one is deposited
//! again: at the first relay that is connected, under a higher attempt, which the receiver takes once.
//!
//! A relay that is away keeps what it has, and the receiver may be collecting it right now. So its deposits
//! are given up only after a while, and only where another relay could take them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::{BootId, Timestamp};
use tracing::{error, info};

use crate::{app::Shared, flights};

/// Asked again after this time, even where nothing has changed.
const AGAIN: Duration = Duration::from_secs(60);

/// One relay, as its link tells of it.
#[derive(Debug, Clone, Copy)]
struct Relay {
    /// The process that was connected last.
    boot: Option<BootId>,
    /// Since when it is away; `None` while it is connected.
    away_since: Option<Timestamp>,
}

/// All relays of this gateway, the preferred one first.
#[derive(Debug)]
pub struct Relays {
    each: Vec<Relay>,
    fail_over: Duration,
    last: Option<(Vec<BootId>, Timestamp)>,
}

impl Relays {
    /// None was heard of yet.
    pub fn new(count: usize, fail_over: Duration, now: Timestamp) -> Self {
        Self { each: vec![Relay { boot: None, away_since: Some(now) }; count], fail_over, last: None }
    }

    /// A relay is connected.
    pub fn connected(&mut self, relay: usize, boot: BootId) {
        if let Some(relay) = self.each.get_mut(relay) {
            *relay = Relay { boot: Some(boot), away_since: None };
        }
    }

    /// A relay is away.
    pub fn disconnected(&mut self, relay: usize, now: Timestamp) {
        if let Some(relay) = self.each.get_mut(relay) {
            relay.away_since.get_or_insert(now);
        }
    }

    /// The relay processes whose deposits count, where that has changed or was not asked for long. Nothing
    /// as long as no relay is connected, or one that was never heard of may still come.
    pub fn alive(&mut self, now: Timestamp) -> Option<Vec<BootId>> {
        if self.each.iter().all(|relay| relay.away_since.is_some()) {
            return None;
        }
        let given_up =
            |relay: &Relay| relay.away_since.is_some_and(|since| now.since(since) >= self.fail_over);
        if self.each.iter().any(|relay| relay.boot.is_none() && !given_up(relay)) {
            return None;
        }
        let alive: Vec<BootId> =
            self.each.iter().filter(|relay| !given_up(relay)).filter_map(|relay| relay.boot).collect();
        let known = |(last, at): &(Vec<BootId>, Timestamp)| *last == alive && now.since(*at) < AGAIN;
        if self.last.as_ref().is_some_and(known) {
            return None;
        }
        self.last = Some((alive.clone(), now));
        Some(alive)
    }
}

/// The relays of a running gateway. The lock guards the value only and is never held across an await.
#[derive(Debug)]
pub struct Watch(Mutex<Relays>);

impl Watch {
    /// Of so many relays, of which one may be away for so long.
    pub fn new(count: usize, fail_over: Duration, now: Timestamp) -> Self {
        Self(Mutex::new(Relays::new(count, fail_over, now)))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Relays) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A relay is connected: what lies at an earlier process of it is due.
pub async fn connected(shared: &Arc<Shared>, relay: usize, boot: BootId) {
    shared.relays.with(|relays| relays.connected(relay, boot));
    give_up_lost(shared).await;
    may_be_due(shared);
}

/// A relay is away.
pub fn disconnected(shared: &Shared, relay: usize) {
    shared.relays.with(|relays| relays.disconnected(relay, Timestamp::now()));
}

/// Makes due what lies where it counts no longer.
pub async fn give_up_lost(shared: &Shared) {
    let now = Timestamp::now();
    let Some(alive) = shared.relays.with(|relays| relays.alive(now)) else { return };
    // What was relayed a moment ago is known to lie there, or is lost with the rest.
    flights::write_all_steps(shared).await;
    match shared.outbox.relay_lost(&alive, now).await {
        Ok(lost) if lost.is_empty() => {}
        Ok(lost) => {
            info!(
                instances = lost.len(),
                "a relay was restarted, or is away for long; its instances are deposited again"
            );
            for delivery in lost {
                shared.flights.land(delivery);
            }
            may_be_due(shared);
        }
        Err(error) => error!(%error, "outbox cannot be written"),
    }
}

fn may_be_due(shared: &Shared) {
    for leg in shared.settings.routes.legs().iter() {
        drop(shared.lanes.fall_behind(leg.id));
    }
    shared.dispatch.wake();
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BootId = BootId([1; 16]);
    const A2: BootId = BootId([2; 16]);
    const B: BootId = BootId([3; 16]);

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    fn relays(count: usize) -> Relays {
        Relays::new(count, Duration::from_secs(15), at(0))
    }

    #[test]
    fn the_only_relay_is_given_up_when_it_comes_back_as_another() {
        let mut one = relays(1);
        assert_eq!(one.alive(at(100)), None, "nobody could take anything");
        one.connected(0, A);
        assert_eq!(one.alive(at(100)), Some(vec![A]));
        assert_eq!(one.alive(at(101)), None, "nothing has changed");
        one.disconnected(0, at(102));
        assert_eq!(one.alive(at(1000)), None, "away for long, and still the only one");
        one.connected(0, A);
        assert_eq!(one.alive(at(1001)), Some(vec![A]), "not asked for long");
        one.disconnected(0, at(1002));
        one.connected(0, A2);
        assert_eq!(one.alive(at(1002)), Some(vec![A2]));
    }

    #[test]
    fn one_of_two_is_given_up_after_a_while_and_counts_again_when_it_is_back() {
        let mut two = relays(2);
        two.connected(1, B);
        assert_eq!(two.alive(at(14)), None, "the first may still come, with what an earlier run left there");
        two.connected(0, A);
        assert_eq!(two.alive(at(14)), Some(vec![A, B]));
        two.disconnected(0, at(20));
        // A link that fails again and again is away since the first time.
        two.disconnected(0, at(30));
        assert_eq!(two.alive(at(34)), None);
        assert_eq!(two.alive(at(35)), Some(vec![B]));
        two.connected(0, A);
        assert_eq!(two.alive(at(36)), Some(vec![A, B]));
        two.disconnected(0, at(40));
        two.connected(0, A2);
        assert_eq!(two.alive(at(41)), Some(vec![A2, B]));
    }

    #[test]
    fn one_that_never_comes_holds_nothing_up_for_long() {
        let mut two = relays(2);
        two.connected(1, B);
        assert_eq!(two.alive(at(15)), Some(vec![B]));
        two.disconnected(1, at(16));
        assert_eq!(two.alive(at(600)), None, "none is left that could take anything");
    }
}
